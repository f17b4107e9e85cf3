package signaling

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

const (
	testKey    = "APItest"
	testSecret = "a secret that is long enough to sign with"
)

func testKeys(key string) (string, bool) { return testSecret, key == testKey }

// world is a server under test.
type world struct {
	t     *testing.T
	srv   *Server
	media *fakeMedia
	http  *httptest.Server
}

// newWorld serves with the fake media. At the end it checks that nothing runs any more.
func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	before := runtime.NumGoroutine()
	w := &world{t: t, media: newFakeMedia()}
	cfg := Config{Media: w.media, Keys: testKeys, Log: slog.New(slog.DiscardHandler)}
	cfg.Limits.Room.EmptyTimeout = -1
	if change != nil {
		change(&cfg)
	}
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.srv = srv
	w.http = httptest.NewUnstartedServer(srv.Handler())
	// Small socket buffers: the kernel must not hide a peer that doesn't read.
	w.http.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
			_ = tcp.SetWriteBuffer(16 << 10)
		}
	}
	w.http.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		w.http.Close()
		http.DefaultClient.CloseIdleConnections()
		w.media.mu.Lock()
		if w.media.open != 0 {
			t.Errorf("%d peers were not closed", w.media.open)
		}
		w.media.mu.Unlock()
		eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
	})
	return w
}

// eventually waits for a condition that other goroutines bring about and that gives no event.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			buf := make([]byte, 1<<20)
			t.Fatalf("timed out: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		case <-tick.C:
		}
	}
}

// token mints a join token.
func token(t *testing.T, room, identity string, change func(*wire.Claims)) string {
	t.Helper()
	c := wire.Claims{Identity: identity, Name: "Name of " + identity, Video: wire.Grant{RoomJoin: true, Room: room}}
	if change != nil {
		change(&c)
	}
	s, err := wire.Mint(testKey, testSecret, c, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// peer is a client of the test: a WebSocket and what came over it.
type peer struct {
	t  *testing.T
	w  *world
	ws *websocket.Conn
	id string // PA_…
	// joined is the join response, nil after a resume.
	joined *wire.JoinResponse
	tok    string
}

func (w *world) dial(tok string, query url.Values) (*websocket.Conn, *http.Response, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("access_token", tok)
	if !query.Has("protocol") {
		query.Set("protocol", "16")
	}
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second, NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(16 << 10)
		}
		return c, err
	}}
	return d.Dial("ws"+strings.TrimPrefix(w.http.URL, "http")+"/rtc?"+query.Encode(), nil)
}

// join joins and expects the join response first.
func (w *world) join(room, identity string, change func(*wire.Claims), query url.Values) *peer {
	w.t.Helper()
	tok := token(w.t, room, identity, change)
	ws, _, err := w.dial(tok, query)
	if err != nil {
		w.t.Fatalf("join as %s: %v", identity, err)
	}
	p := &peer{t: w.t, w: w, ws: ws, tok: tok}
	w.t.Cleanup(func() { _ = ws.Close() })
	first := p.read()
	if first.GetJoin() == nil {
		w.t.Fatalf("first message to %s is %s: want join", identity, wire.ResponseKind(first))
	}
	p.joined = first.GetJoin()
	p.id = p.joined.GetParticipant().GetSid()
	return p
}

func (p *peer) send(m *wire.SignalRequest) {
	p.t.Helper()
	frame, err := wire.EncodeRequest(m)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		p.t.Fatalf("send %s: %v", wire.RequestKind(m), err)
	}
}

func (p *peer) receive() (*wire.SignalResponse, error) {
	_ = p.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, frame, err := p.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	return wire.DecodeResponse(frame)
}

func (p *peer) read() *wire.SignalResponse {
	p.t.Helper()
	m, err := p.receive()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return m
}

// until reads until a message satisfies want, and returns it.
func (p *peer) until(what string, want func(*wire.SignalResponse) bool) *wire.SignalResponse {
	p.t.Helper()
	var seen []string
	for {
		m, err := p.receive()
		if err != nil {
			p.t.Fatalf("waiting for %s: %v; saw %v", what, err, seen)
		}
		if want(m) {
			return m
		}
		seen = append(seen, wire.ResponseKind(m))
	}
}

// closed reads until the connection ends and returns the close code, the reason and the last leave.
func (p *peer) closed() (code int, reason string, leave *wire.LeaveRequest) {
	p.t.Helper()
	for {
		m, err := p.receive()
		var ce *websocket.CloseError
		switch {
		case errors.As(err, &ce):
			return ce.Code, ce.Text, leave
		case err != nil:
			p.t.Fatalf("waiting for the close: %v", err)
		}
		if m.GetLeave() != nil {
			leave = m.GetLeave()
		}
	}
}

// sync returns when everything sent so far has been handled by the room.
func (p *peer) sync() {
	p.t.Helper()
	p.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: "TR_sync"}}})
	p.until("the answer to the marker", func(m *wire.SignalResponse) bool {
		return m.GetRequestResponse().GetMute().GetSid() == "TR_sync"
	})
}

// update waits for an update of an identity that satisfies want.
func (p *peer) update(identity string, want func(*wire.ParticipantInfo) bool) *wire.ParticipantInfo {
	p.t.Helper()
	var found *wire.ParticipantInfo
	p.until("an update of "+identity, func(m *wire.SignalResponse) bool {
		for _, i := range m.GetUpdate().GetParticipants() {
			if i.Identity == identity && want(i) {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

// publish announces a track, offers it and returns its info.
func (p *peer) publish(cid string, kind wire.TrackType, source wire.TrackSource) *wire.TrackInfo {
	p.t.Helper()
	p.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: cid, Type: kind, Source: source,
	}}})
	m := p.until("track_published", func(m *wire.SignalResponse) bool { return m.GetTrackPublished().GetCid() == cid })
	p.offer(cid)
	return m.GetTrackPublished().GetTrack()
}

// offer sends an offer that holds the given cids and waits for its answer.
func (p *peer) offer(cids ...string) {
	p.t.Helper()
	id := uint32(time.Now().UnixNano())
	p.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{
		Type: "offer", Sdp: "v=0\r\n" + strings.Join(cids, "\r\n"), Id: id,
	}}})
	p.until("the answer", func(m *wire.SignalResponse) bool { return m.GetAnswer().GetId() == id })
}

func (w *world) get(path string, header http.Header) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, w.http.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if origin := resp.Header.Get("Access-Control-Allow-Origin"); origin != "*" {
		w.t.Errorf("GET %s: Access-Control-Allow-Origin is %q", path, origin)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func ptr[T any](v T) *T { return &v }

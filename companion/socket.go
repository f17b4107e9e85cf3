package companion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"anytime/companion/sqlstore"
)

const (
	pingEvery    = 20 * time.Second
	pongWait     = 45 * time.Second // a client that says nothing for so long is gone
	writeWait    = 10 * time.Second // a frame that isn't taken for so long is not read
	closeWait    = time.Second      // for a client to answer the closing frame
	checkEvery   = 3                // pings between two looks at whether the session still holds
	maxClientMsg = 1 << 10          // bytes of one client message
)

// clientRate is how often a client may send a message.
var clientRate = Rate{Burst: 20, Every: time.Second}

// frame is what the server sends: one JSON text frame for each event. The cursor
// names the event's place in the stream; ?cursor= of a socket may hand the last one
// seen back. This server answers every cursor with a snapshot.
type frame struct {
	Type   string `json:"type"`
	Cursor string `json:"cursor"`
	Data   any    `json:"data"`
}

// snapshot is the data of the first frame.
type snapshot struct {
	Session  Session `json:"session"`
	Contacts any     `json:"contacts"`
	Calls    any     `json:"calls"`
}

var upgrader = websocket.Upgrader{
	HandshakeTimeout: 10 * time.Second,
	ReadBufferSize:   1 << 10,
	WriteBufferSize:  4 << 10,
	WriteBufferPool:  &sync.Pool{},
	CheckOrigin:      sameOrigin,
	Error: func(w http.ResponseWriter, r *http.Request, status int, reason error) {
		code, text := "invalid_request", "This address is a WebSocket of events: connect to it with a WebSocket client."
		if status == http.StatusForbidden {
			code, text = "cross_origin", "This page belongs to another site, which may not connect here."
		}
		writeProblem(w, problem(status, code, text))
	},
}

// sameOrigin reports whether the page that opens a WebSocket came from this
// server. Browsers always send Origin (RFC 6455, section 4.1); a client that isn't
// one has no cookie of someone else to misuse.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return r.Header.Get("Sec-Fetch-Site") == "" || r.Header.Get("Sec-Fetch-Site") == "same-origin"
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// serveEvents is GET /v1/events.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		upgrader.Error(w, r, http.StatusForbidden, nil)
		return
	}
	sess, err := s.admitted(r, w)
	if err != nil {
		writeProblem(w, s.answer(r.Context(), "events", err).(*Problem))
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		upgrader.Error(w, r, http.StatusUpgradeRequired, nil)
		return
	}
	q, ok := s.hub.join(sess.Account.ID, sess.Device.ID, s.cfg.Limits.Sockets)
	if !ok {
		writeProblem(w, tooMany(pingEvery, "You have too many windows or apps open. Please close one and try again."))
		return
	}
	conn, err := upgrader.Upgrade(w, r, w.Header())
	if err != nil {
		s.hub.leave(sess.Account.ID, q)
		return // Upgrade has answered
	}
	sock := &socket{s: s, sess: sess, q: q, conn: conn}
	// Not on the handler's goroutine, which keeps the request and its buffers.
	go func() {
		defer s.hub.leave(sess.Account.ID, q)
		sock.run()
	}()
}

// socket is one event socket: one goroutine reads, one writes.
type socket struct {
	s    *Server
	sess Session
	q    *queue
	conn *websocket.Conn

	sent map[string]int64 // the version last sent of each subject (versioned)
}

func (k *socket) run() {
	ctx, cancel := context.WithCancel(k.s.ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer cancel()
		k.read()
	}()
	if end := k.write(ctx); end != nil && end != errGone {
		frame := websocket.FormatCloseMessage(end.Code, end.Text)
		if k.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(closeWait)) == nil {
			// The client answers with a closing frame of its own (RFC 6455, section
			// 5.5.1); hanging up before could cost it ours.
			wait := time.NewTimer(closeWait)
			defer wait.Stop()
			select {
			case <-read:
			case <-wait.C:
			}
		}
	}
	k.conn.Close()
	<-read
}

// write sends the snapshot, then events as they come, until the socket must end;
// it returns why, or nil if the client is gone.
func (k *socket) write(ctx context.Context) *websocket.CloseError {
	if end := k.send(ctx, queued{Event{Type: "snapshot", Load: k.s.snapshot}, k.s.hub.cursor()}); end != nil {
		return end
	}
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for pings := 1; ; {
		ev, end := k.q.take()
		switch {
		case end != nil:
			return end
		case ev != nil:
			if end := k.send(ctx, *ev); end != nil {
				return end
			}
			continue
		}
		select {
		case <-ctx.Done():
			if _, end := k.q.take(); end != nil {
				return end
			}
			return nil
		case <-k.q.wake:
		case <-ping.C:
			if pings++; pings%checkEvery == 0 && !k.holds(ctx) {
				continue // the queue now says why
			}
			if end := k.send(ctx, queued{Event{Type: "ping"}, k.s.hub.cursor()}); end != nil {
				return end
			}
		}
	}
}

// errGone is the end of a socket that takes nothing any more, not even a reason.
var errGone = &websocket.CloseError{Code: websocket.CloseNoStatusReceived}

// send writes one event; it returns why the socket must end, if it must.
func (k *socket) send(ctx context.Context, ev queued) *websocket.CloseError {
	data := ev.Data
	if ev.Load != nil {
		var err error
		if data, err = ev.Load(ctx, k.sess); err != nil {
			if ctx.Err() == nil {
				k.s.log.ErrorContext(ctx, "load an event", "type", ev.Type, "account", k.sess.Account.ID, "err", err)
			}
			return &websocket.CloseError{Code: websocket.CloseInternalServerErr, Text: "something went wrong; come back"}
		}
		if data == nil || !k.fresh(data) {
			return nil
		}
	}
	k.conn.SetWriteDeadline(time.Now().Add(writeWait))
	if err := k.conn.WriteJSON(frame{ev.Type, ev.cursor, data}); err != nil {
		return errGone
	}
	return nil
}

// versioned is data of which a client needs each version once. Effects are carried
// out at least once, and an event that waited may load what a later one would.
type versioned interface {
	eventVersion() (key string, version int64)
}

// maxSent is how many subjects a socket keeps in mind; then it forgets them, and a
// client may see a version twice.
const maxSent = 10_000

// fresh reports whether the client has not seen data's version or a later one, and
// keeps it in mind. Data without a version is always fresh.
func (k *socket) fresh(data any) bool {
	if first, ok := data.(snapshot); ok {
		if list, ok := first.Calls.([]*Call); ok {
			for _, c := range list {
				k.fresh(c)
			}
		}
		return true
	}
	v, ok := data.(versioned)
	if !ok {
		return true
	}
	key, version := v.eventVersion()
	if k.sent[key] >= version {
		return false
	}
	if k.sent == nil || len(k.sent) >= maxSent {
		k.sent = make(map[string]int64)
	}
	k.sent[key] = version
	return true
}

// holds looks whether the device is still signed in, which another process may
// have changed, and keeps its session alive.
func (k *socket) holds(ctx context.Context) bool {
	account, device, now := k.sess.Account.ID, k.sess.Device.ID, k.s.now()
	seen, err := k.s.store.SeenAt(ctx, account, device, now)
	if errors.Is(err, sqlstore.ErrNotFound) {
		k.s.hub.drop(account, device, "signed out")
		return false
	}
	if err == nil && now.Sub(seen) >= seenEvery {
		err = k.s.store.ExtendSession(ctx, device, now, now.Add(sessionLife))
	}
	if err != nil && ctx.Err() == nil {
		k.s.log.WarnContext(ctx, "look after an event socket's session", "account", account, "device", device, "err", err)
	}
	return true
}

// read takes the client's messages until the socket ends or must end.
func (k *socket) read() {
	k.conn.SetReadLimit(maxClientMsg)
	limit := newLimiter(clientRate)
	for {
		k.conn.SetReadDeadline(time.Now().Add(pongWait))
		kind, b, err := k.conn.ReadMessage()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				k.q.close(websocket.ClosePolicyViolation, "no pong came; come back", nil)
			}
			return
		}
		if err := readClientMessage(kind, b); err != nil {
			k.q.close(closeBadMessage, err.Error(), nil)
			return
		}
		if _, ok := limit.take("", time.Now()); !ok {
			k.q.close(closeBadMessage, "too many messages", nil)
			return
		}
	}
}

// readClientMessage checks a message from a client, of which there is one:
// {"type":"pong"}. The error is a reason for the closing frame.
func readClientMessage(kind int, b []byte) error {
	if kind != websocket.TextMessage {
		return errors.New("messages are JSON text")
	}
	var m struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return errors.New(`a message is a JSON object such as {"type":"pong"}`)
	}
	if m.Type != "pong" {
		return errors.New(`unknown message type; the one known is "pong"`)
	}
	return nil
}

// snapshot loads everything that a client shows.
func (s *Server) snapshot(ctx context.Context, sess Session) (any, error) {
	contacts, err := s.store.Contacts(ctx, sess.Account.ID)
	if err != nil {
		return nil, fmt.Errorf("contacts: %w", err)
	}
	calls, err := s.callSnapshot(ctx, sess)
	if err != nil {
		return nil, fmt.Errorf("calls: %w", err)
	}
	return snapshot{sess, contacts, calls}, nil
}

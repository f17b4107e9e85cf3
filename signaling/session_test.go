package signaling

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

func TestBothPingsAreAnswered(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	before := time.Now().UnixMilli()
	ann.send(&wire.SignalRequest{Message: &wire.RequestPing{Ping: before}})
	ann.send(&wire.SignalRequest{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: before, Rtt: 3}}})
	pong := ann.until("pong", func(m *wire.SignalResponse) bool { return m.GetPong() != 0 })
	if pong.GetPong() < before || pong.GetPong() > time.Now().UnixMilli() {
		t.Errorf("pong %d is not the time in milliseconds", pong.GetPong())
	}
	resp := ann.until("pong_resp", func(m *wire.SignalResponse) bool { return m.GetPongResp() != nil }).GetPongResp()
	if resp.LastPingTimestamp != before || resp.Timestamp < before {
		t.Errorf("pong_resp is %v", resp)
	}
}

// TestBadFrames: each closes its own socket with a reason; the participant may resume, and the room
// does not notice.
func TestBadFrames(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   int
		frame  []byte
		code   int
		reason string
	}{
		{"text", websocket.TextMessage, []byte(`{"ping":"1"}`), 1003, "binary protobuf"},
		{"malformed", websocket.BinaryMessage, []byte{0xff, 0xff, 0xff}, 1007, "malformed"},
		{"oversized", websocket.BinaryMessage, make([]byte, wire.MaxFrameBytes+1), 1009, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			watcher := w.join("r", "watcher", nil, nil)
			ann := w.join("r", "ann", nil, nil)
			if err := ann.ws.WriteMessage(c.kind, c.frame); err != nil {
				t.Fatal(err)
			}
			code, reason, leave := ann.closed()
			if code != c.code || !strings.Contains(reason, c.reason) || leave != nil {
				t.Errorf("closed with %d %q, leave %v; want %d with %q", code, reason, leave, c.code, c.reason)
			}
			watcher.sync()
			if n := len(w.srv.Participants("r")); n != 2 {
				t.Errorf("%d participants are left", n)
			}
			w.resume(ann)
		})
	}
}

func TestUnknownMessagesAreIgnored(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	// Field 99 of the envelope, as a newer SDK may send: tag 99<<3|2, two bytes.
	if err := ann.ws.WriteMessage(websocket.BinaryMessage, []byte{0x9a, 0x06, 0x02, 'h', 'i'}); err != nil {
		t.Fatal(err)
	}
	if err := ann.ws.WriteMessage(websocket.BinaryMessage, nil); err != nil {
		t.Fatal(err)
	}
	ann.send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: "null", Final: true}}})
	ann.sync()
}

func TestTooManyMessages(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MessagesPerSecond, c.Limits.MessageBurst = 0.001, 20 })
	ann := w.join("r", "ann", nil, nil)
	frame, err := wire.EncodeRequest(&wire.SignalRequest{Message: &wire.RequestPing{Ping: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for range 21 {
		if err := ann.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
			t.Fatal(err)
		}
	}
	if code, reason, _ := ann.closed(); code != 1008 || !strings.Contains(reason, "too many messages") {
		t.Errorf("closed with %d %q", code, reason)
	}
}

// TestSilentConnectionEnds: a peer that neither pings nor answers pings is gone.
func TestSilentConnectionEnds(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits.PingInterval, c.Limits.PingTimeout = 200*time.Millisecond, 3*time.Second
		c.Limits.Room.DepartureGrace = 50 * time.Millisecond
	})
	live := w.join("r", "live", nil, nil) // read by update below, which answers pings
	dead := w.join("r", "dead", nil, nil)
	_ = dead // never read: its pongs are never sent
	gone := live.update("dead", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
	if gone.DisconnectReason != wire.ReasonSignalClose {
		t.Errorf("gone because of %v", gone.DisconnectReason)
	}
}

// resume connects p again and reads the reconnect response.
func (w *world) resume(p *peer) *peer {
	w.t.Helper()
	ws, _, err := w.dial(p.tok, url.Values{"reconnect": {"1"}, "sid": {p.id}, "reconnect_reason": {"1"}})
	if err != nil {
		w.t.Fatalf("resume: %v", err)
	}
	w.t.Cleanup(func() { _ = ws.Close() })
	q := &peer{t: w.t, w: w, ws: ws, id: p.id, tok: p.tok}
	if first := q.read(); first.GetReconnect() == nil {
		w.t.Fatalf("first message is %v: want reconnect", first)
	} else if first.GetReconnect().GetServerInfo().GetVersion() == "" {
		w.t.Errorf("reconnect response has no server version: %v", first)
	}
	return q
}

func TestResume(t *testing.T) {
	occasions := make(chan Occasion, 16)
	events := make(chan RoomEvent, 32)
	w := newWorld(t, func(c *Config) {
		c.Observe = func(e RoomEvent) {
			if e.Kind == ParticipantLost || e.Kind == ParticipantBack {
				events <- e
			}
		}
		c.Authorize = func(_ context.Context, _ wire.Claims, o Occasion) (Admission, error) {
			if o != Joined {
				occasions <- o
			}
			return Admission{}, nil
		}
	})
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	track := ann.publish("cid-1", wire.TrackVideo, wire.SourceCamera)
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })

	bob.ws.UnderlyingConn().Close() // no goodbye
	lost := ann.until("bob's connection to be told as lost", func(m *wire.SignalResponse) bool {
		for _, q := range m.GetConnectionQuality().GetUpdates() {
			if q.ParticipantSid == bob.id && q.Quality == wire.ConnectionLost {
				return true
			}
		}
		return false
	})
	_ = lost
	if e := <-events; e.Kind != ParticipantLost || e.Identity != "bob" {
		t.Errorf("observed %+v, want bob lost", e)
	}
	if got := w.srv.Connected("r"); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("connected are %v", got)
	}
	back := w.resume(bob)
	if e := <-events; e.Kind != ParticipantBack || e.Identity != "bob" {
		t.Errorf("observed %+v, want bob back", e)
	}
	// A full update, the room, and an ICE restart follow.
	me := back.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
	if me.Tracks[0].Sid != track.Sid {
		t.Errorf("the update says %v", me)
	}
	back.until("the room", func(m *wire.SignalResponse) bool { return m.GetRoomUpdate().GetRoom().GetName() == "r" })
	back.until("the offer of the ICE restart", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	if !w.media.peer(bob.id).did("restart") {
		t.Error("ICE was not restarted")
	}
	if got := []Occasion{<-occasions, <-occasions, <-occasions}; got[0] != Join || got[1] != Join || got[2] != Resume {
		t.Errorf("asked on %v", got)
	}

	// A second connection of the session replaces the first, even while that is alive.
	again := w.resume(back)
	if _, reason, leave := back.closed(); leave != nil || !strings.Contains(reason, "replaced") {
		t.Errorf("the replaced connection got %v, %q", leave, reason)
	}
	again.sync()

	// Nobody left meanwhile.
	if infos := w.srv.Participants("r"); len(infos) != 2 || infos[1].Sid != bob.id {
		t.Errorf("in the room: %v", infos)
	}
}

func TestResumeOfUnknownSession(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	for name, query := range map[string]url.Values{
		"unknown sid":       {"reconnect": {"1"}, "sid": {"PA_unknown"}},
		"somebody else's":   {"reconnect": {"1"}, "sid": {ann.id}},
		"no sid":            {"reconnect": {"1"}},
		"room that is over": {"reconnect": {"1"}, "sid": {ann.id}, "over": {"1"}},
	} {
		t.Run(name, func(t *testing.T) {
			room := "r"
			if query.Has("over") {
				room = "another"
			}
			ws, _, err := w.dial(token(t, room, "eve", nil), query)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			eve := &peer{t: t, w: w, ws: ws}
			leave := eve.read().GetLeave()
			if leave.GetAction() != wire.LeaveReconnect || leave.GetReason() != wire.ReasonStateMismatch {
				t.Errorf("first message: %v", leave)
			}
			eve.closed()
		})
	}
	ann.sync()
}

func TestDepartureGraceEnds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.DepartureGrace = 30 * time.Millisecond })
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	bob.ws.UnderlyingConn().Close()
	gone := ann.update("bob", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
	if gone.DisconnectReason != wire.ReasonSignalClose {
		t.Errorf("gone because of %v", gone.DisconnectReason)
	}
	w.media.peer(bob.id).isClosed(t)
}

func TestSyncState(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	track := ann.publish("cid-1", wire.TrackVideo, wire.SourceCamera)
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
	fake := w.media.peer(bob.id)
	eventually(t, "the subscription", func() bool { return fake.did("subscribe " + track.Sid) })

	bob.ws.UnderlyingConn().Close()
	bob = w.resume(bob)
	bob.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
		Subscription:      &wire.UpdateSubscription{TrackSids: []string{track.Sid}, Subscribe: false},
		TrackSidsDisabled: []string{track.Sid},
	}}})
	eventually(t, "unsubscribed as the client believes", func() bool { return fake.did("unsubscribe " + track.Sid) })

	// What it believes published and isn't can't be healed.
	bob.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
		PublishTracks: []*wire.TrackPublishedResponse{{Cid: "x", Track: &wire.TrackInfo{Sid: "TR_lost"}}},
	}}})
	_, _, leave := bob.closed()
	if leave.GetAction() != wire.LeaveReconnect || leave.GetReason() != wire.ReasonStateMismatch {
		t.Errorf("got %v", leave)
	}
}

// TestTokenIsRefreshedAfterAChange: at once, for the next one due comes in a minute.
func TestTokenIsRefreshedAfterAChange(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Authorize = func(context.Context, wire.Claims, Occasion) (Admission, error) {
			return Admission{Name: "Ann"}, nil
		}
	})
	ann := w.join("r", "ann", func(c *wire.Claims) {
		c.Video.CanUpdateOwnMetadata = ptr(true)
		c.Video.CanPublishSources = []string{"microphone", "screen_share"}
	}, nil)
	ann.send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
		Attributes: map[string]string{"hand": "up"}, RequestId: 7,
	}}})
	ann.until("the answer", func(m *wire.SignalResponse) bool {
		return m.GetRequestResponse().GetRequestId() == 7 && m.GetRequestResponse().GetReason() == wire.RequestOK
	})
	m := ann.until("a token", func(m *wire.SignalResponse) bool { return m.GetRefreshToken() != "" })
	c, err := wire.Verify(m.GetRefreshToken(), testKeys)
	if err != nil {
		t.Fatal(err)
	}
	if c.Identity != "ann" || c.Name != "Ann" || c.Attributes["hand"] != "up" || !c.Video.RoomJoin || c.Video.Room != "r" ||
		!c.Video.MayUpdateOwnMetadata() || strings.Join(c.Video.CanPublishSources, " ") != "microphone screen_share" {
		t.Errorf("claims are %+v", c)
	}
}

func TestTokensAreRefreshedAndRechecked(t *testing.T) {
	refuse := make(chan struct{})
	w := newWorld(t, func(c *Config) {
		c.TokenLifetime = 2 * time.Second
		c.Authorize = func(_ context.Context, _ wire.Claims, o Occasion) (Admission, error) {
			select {
			case <-refuse:
				if o == Refresh {
					return Admission{}, &Refusal{Text: "not any more"}
				}
			default:
			}
			return Admission{}, nil
		}
	})
	start := time.Now()
	ann := w.join("r", "ann", nil, nil)
	m := ann.until("a token after half of its life", func(m *wire.SignalResponse) bool { return m.GetRefreshToken() != "" })
	if took := time.Since(start); took < 800*time.Millisecond {
		t.Errorf("it came after %v", took)
	}
	c, err := wire.Verify(m.GetRefreshToken(), testKeys)
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Until(c.ExpiresAt); life > 2*time.Minute || life < 90*time.Second {
		t.Errorf("it lives %v: want what the client's own token has left", life)
	}
	close(refuse)
	_, _, leave := ann.closed()
	if leave.GetReason() != wire.ReasonParticipantRemoved || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("got %v", leave)
	}
}

// TestSlowReaderIsCutAndMayResume: what waits for a connection is bounded.
func TestSlowReaderIsCutAndMayResume(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits.QueuedMessages = 16
		c.Limits.MessageBurst = 1_000_000
		c.Limits.QueuedBytes = 16 << 20
		c.Limits.ToldBurst = 16 << 20
	})
	ann := w.join("r", "ann", func(c *wire.Claims) { c.Video.CanUpdateOwnMetadata = ptr(true) }, nil)
	bob := w.join("r", "bob", nil, nil) // does not read
	big := strings.Repeat("x", wire.MaxMetadataBytes)
	for i := range 40 {
		ann.send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
			Metadata: big[i:], RequestId: uint32(i + 1),
		}}})
		ann.until("the answer", func(m *wire.SignalResponse) bool {
			return m.GetRequestResponse().GetRequestId() == uint32(i+1)
		})
	}
	code, reason, _ := bob.closed()
	if code != 1013 || !strings.Contains(reason, "too slowly") {
		t.Errorf("closed with %d %q", code, reason)
	}
	bob = w.resume(bob)
	bob.sync()
}

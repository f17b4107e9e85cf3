package signaling

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

func TestJoinResponseIsComplete(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.ICEServers = func(identity string) []*wire.ICEServer {
			return []*wire.ICEServer{{Urls: []string{"turn:t.example:3478"}, Username: "1:" + identity, Credential: "c"}}
		}
	})
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", func(c *wire.Claims) {
		c.Metadata, c.Attributes = "m", map[string]string{"k": "v"}
	}, nil)
	j := bob.joined
	switch {
	case !strings.HasPrefix(j.Room.Sid, "RM_") || j.Room.Name != "r":
		t.Errorf("room is %v", j.Room)
	case !strings.HasPrefix(j.Participant.Sid, "PA_") || j.Participant.Identity != "bob" || j.Participant.Name != "Name of bob":
		t.Errorf("participant is %v", j.Participant)
	case j.Participant.Metadata != "m" || j.Participant.Attributes["k"] != "v":
		t.Errorf("metadata is %q, attributes are %v", j.Participant.Metadata, j.Participant.Attributes)
	case len(j.OtherParticipants) != 1 || j.OtherParticipants[0].Sid != ann.id:
		t.Errorf("others are %v", j.OtherParticipants)
	case len(j.IceServers) != 1 || j.IceServers[0].Username != "1:bob":
		t.Errorf("ICE servers are %v", j.IceServers)
	case !j.SubscriberPrimary || !j.FastPublish:
		t.Errorf("subscriber primary %v, fast publish %v", j.SubscriberPrimary, j.FastPublish)
	case j.ServerInfo.GetVersion() == "" || j.ServerInfo.GetNodeId() == "" || j.ClientConfiguration == nil:
		t.Errorf("server info is %v, client configuration %v", j.ServerInfo, j.ClientConfiguration)
	case j.PingInterval != 5 || j.PingTimeout != 15:
		t.Errorf("ping interval %d, timeout %d", j.PingInterval, j.PingTimeout)
	case len(j.EnabledPublishCodecs) == 0 || j.AlternativeUrl != "":
		t.Errorf("codecs %v, alternative url %q", j.EnabledPublishCodecs, j.AlternativeUrl)
	}
	// Dual mode: the server offers right after the join.
	if m := bob.until("the first offer", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil }); m.GetOffer().Type != "offer" {
		t.Errorf("offer is %v", m)
	}
	ann.update("bob", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateJoined && p.Sid == bob.id })
}

func TestSubscriberPrimaryFollowsProtocolAndPermission(t *testing.T) {
	w := newWorld(t, nil)
	old := w.join("r", "old", nil, url.Values{"protocol": {"2"}})
	if old.joined.SubscriberPrimary {
		t.Error("protocol 2 got subscriber_primary")
	}
	deaf := w.join("r", "deaf", func(c *wire.Claims) { c.Video.CanSubscribe = ptr(false) }, nil)
	if deaf.joined.SubscriberPrimary {
		t.Error("a participant who may not subscribe got subscriber_primary")
	}
	mute := w.join("r", "mute", func(c *wire.Claims) { c.Video.CanPublish = ptr(false) }, nil)
	if mute.joined.FastPublish {
		t.Error("a participant who may not publish got fast_publish")
	}
}

func TestRefusalsBeforeTheUpgrade(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Authorize = func(_ context.Context, c wire.Claims, _ Occasion) (Admission, error) {
			switch c.Identity {
			case "blocked":
				return Admission{}, &Refusal{Text: "you are not in this call"}
			case "late":
				return Admission{}, &Refusal{Status: 404, Text: "the call is over"}
			case "unlucky":
				return Admission{}, errors.New("database is away")
			}
			return Admission{}, nil
		}
	})
	expired, err := wire.MintAt(testKey, testSecret, wire.Claims{Identity: "a", Video: wire.Grant{RoomJoin: true, Room: "r"}},
		time.Minute, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	good := token(t, "r", "a", nil)
	for _, c := range []struct {
		name, query string
		status      int
		text        string
	}{
		{"no token", "", 401, "no access token"},
		{"expired", "access_token=" + expired, 401, "expired"},
		{"garbage", "access_token=abc", 401, "malformed"},
		{"changed", "access_token=" + good + "x", 401, "signature"},
		{"another key", "access_token=" + mintWith(t, "APIother"), 401, "API key"},
		{"not a join token", "access_token=" + token(t, "r", "a", func(c *wire.Claims) { c.Video.RoomJoin = false }), 403, "joining"},
		{"no room", "access_token=" + token(t, "", "a", nil), 403, "room"},
		{"no identity", "access_token=" + token(t, "r", "", nil), 401, "identity"},
		{"odd query", "protocol=x&access_token=" + good, 400, "protocol"},
		{"blocked", "access_token=" + token(t, "r", "blocked", nil), 403, "not in this call"},
		{"over", "access_token=" + token(t, "r", "late", nil), 404, "requested room does not exist"},
		{"our fault", "access_token=" + token(t, "r", "unlucky", nil), 503, "try again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := w.get("/rtc/validate?"+c.query, nil)
			if status != c.status || !strings.Contains(text, c.text) {
				t.Errorf("validate answers %d %q, want %d with %q", status, text, c.status, c.text)
			}
			d := websocket.Dialer{}
			ws, resp, err := d.Dial("ws"+strings.TrimPrefix(w.http.URL, "http")+"/rtc?"+c.query, nil)
			if err == nil {
				ws.Close()
				t.Fatal("the upgrade succeeded")
			}
			if resp == nil || resp.StatusCode != c.status {
				t.Errorf("/rtc answers %v, want %d", resp, c.status)
			}
		})
	}
	if status, text := w.get("/rtc/validate?access_token="+good, nil); status != 200 || text != "success" {
		t.Errorf("a good token: %d %q", status, text)
	}
	if status, _ := w.get("/rtc/validate", http.Header{"Authorization": {"Bearer " + good}}); status != 200 {
		t.Errorf("a bearer token: %d", status)
	}
	if status, _ := w.get("/rtc/validate", http.Header{"Cookie": {"access_token=" + good}}); status != 401 {
		t.Errorf("a cookie: %d, want 401", status)
	}
	for _, path := range []string{"/rtc/v1/validate"} {
		if status, text := w.get(path+"?access_token="+good, nil); status != 400 || !strings.Contains(text, "join_request") {
			t.Errorf("%s without join_request: %d %q, want 400", path, status, text)
		}
	}
	if status, _ := w.get("/rtc?access_token="+good, nil); status != http.StatusUpgradeRequired {
		t.Errorf("/rtc without upgrade: %d", status)
	}
}

func mintWith(t *testing.T, key string) string {
	t.Helper()
	s, err := wire.Mint(key, testSecret, wire.Claims{Identity: "a", Video: wire.Grant{RoomJoin: true, Room: "r"}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestJoinsPerAddressAreLimited(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::1")
	w := newWorld(t, func(c *Config) {
		c.Limits.JoinsPerSecond, c.Limits.JoinBurst = 0.001, 3
		c.ClientAddr = func(r *http.Request) netip.Addr {
			if a, err := netip.ParseAddr(r.Header.Get("X-Test-Addr")); err == nil {
				return a
			}
			return addr
		}
	})
	path := "/rtc/validate?access_token=" + token(t, "r", "a", nil)
	for range 3 {
		if status, _ := w.get(path, nil); status != 200 {
			t.Fatalf("within the limit: %d", status)
		}
	}
	if status, text := w.get(path, nil); status != 429 || !strings.Contains(text, "wait") {
		t.Errorf("over the limit: %d %q", status, text)
	}
	if status, _ := w.get(path, http.Header{"X-Test-Addr": {"2001:db8::ffff"}}); status != 429 {
		t.Errorf("the same /64: %d, want 429", status)
	}
	if status, _ := w.get(path, http.Header{"X-Test-Addr": {"2001:db8:0:1::1"}}); status != 200 {
		t.Errorf("another /64: %d, want 200", status)
	}
}

func TestSameIdentityEvicts(t *testing.T) {
	w := newWorld(t, nil)
	watcher := w.join("r", "watcher", nil, nil)
	first := w.join("r", "ann", nil, nil)
	second := w.join("r", "ann", nil, nil)
	_, _, leave := first.closed()
	if leave.GetReason() != wire.ReasonDuplicateIdentity || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("the older one got %v", leave)
	}
	gone := watcher.update("ann", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
	if gone.Sid != first.id || gone.DisconnectReason != wire.ReasonDuplicateIdentity {
		t.Errorf("others saw %v", gone)
	}
	infos := w.srv.Participants("r")
	if len(infos) != 2 || infos[1].Sid != second.id {
		t.Errorf("in the room: %v", infos)
	}
	if !w.media.peer(first.id).isClosed(t) {
		t.Error("the evicted one's media is open")
	}
}

func (p *fakePeer) isClosed(t *testing.T) bool {
	eventually(t, "the peer is closed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed
	})
	return true
}

func TestAdmissionNamesTheParticipant(t *testing.T) {
	occasions := make(chan Occasion, 8)
	w := newWorld(t, func(c *Config) {
		c.Authorize = func(_ context.Context, _ wire.Claims, o Occasion) (Admission, error) {
			occasions <- o
			return Admission{Name: "Ann of the book", Attributes: map[string]string{"guest": "1"}}, nil
		}
	})
	ann := w.join("r", "ann", func(c *wire.Claims) { c.Name = "Chosen by myself" }, nil)
	if p := ann.joined.Participant; p.Name != "Ann of the book" || p.Attributes["guest"] != "1" {
		t.Errorf("participant is %v", p)
	}
	if o := <-occasions; o != Join {
		t.Errorf("asked on %v", o)
	}
}

func TestRoomIsObserved(t *testing.T) {
	events := make(chan RoomEvent, 32)
	w := newWorld(t, func(c *Config) { c.Observe = func(e RoomEvent) { events <- e } })
	ann := w.join("r", "ann", nil, nil)
	track := ann.publish("cid-1", wire.TrackAudio, wire.SourceMicrophone)
	ann.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	want := []RoomEventKind{RoomStarted, ParticipantJoined, TrackPublished, TrackUnpublished, ParticipantLeft, RoomFinished}
	for i, kind := range want {
		e := <-events
		if e.Kind != kind || e.Room != "r" || e.RoomID != ann.joined.Room.Sid {
			t.Fatalf("event %d is %+v, want kind %d", i, e, kind)
		}
		if (kind == TrackPublished || kind == TrackUnpublished) && (e.TrackID != track.Sid || e.Identity != "ann") {
			t.Errorf("event %d is %+v", i, e)
		}
		if kind == ParticipantLeft && e.Reason != wire.ReasonClientInitiated {
			t.Errorf("left because of %v", e.Reason)
		}
	}
	// The name is free for another room.
	again := w.join("r", "ann", nil, nil)
	if again.joined.Room.Sid == ann.joined.Room.Sid {
		t.Error("the finished room came back")
	}
}

func TestFullRoomTurnsAway(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.Participants = 1 })
	w.join("r", "ann", nil, nil)
	ws, _, err := w.dial(token(t, "r", "bob", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	bob := &peer{t: t, w: w, ws: ws}
	defer ws.Close()
	_, reason, leave := bob.closed()
	if leave.GetReason() != wire.ReasonJoinFailure || leave.GetAction() != wire.LeaveDisconnect || !strings.Contains(reason, "full") {
		t.Errorf("got %v, close reason %q", leave, reason)
	}
}

func TestMediaThatCannotBeSetUp(t *testing.T) {
	w := newWorld(t, nil)
	w.media.fail = errors.New("no ports")
	ann := w.join("r", "ann", nil, nil)
	_, _, leave := ann.closed()
	if leave.GetReason() != wire.ReasonJoinFailure || leave.GetAction() != wire.LeaveReconnect {
		t.Errorf("got %v", leave)
	}
}

func TestShutdownTellsClientsToReconnect(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	done := make(chan error, 1)
	go func() { done <- w.srv.Shutdown(context.Background()) }()
	_, _, leave := ann.closed()
	if leave.GetReason() != wire.ReasonServerShutdown || leave.GetAction() != wire.LeaveReconnect || !leave.GetCanReconnect() {
		t.Errorf("got %v", leave)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, resp, err := w.dial(token(t, "r", "bob", nil), nil); err == nil || resp.StatusCode != 503 {
		t.Errorf("a join after shutdown: %v, %v", resp, err)
	}
}

// TestSinglePeerConnection: the join request's first offer is answered right after the join, with the offer's id and the
// tracks by mid; the session resumes in its own mode alone.
func TestSinglePeerConnection(t *testing.T) {
	w := newWorld(t, nil)
	query := func(m *wire.JoinRequest) url.Values {
		text, err := wire.EncodeJoinRequest(m, true)
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{"join_request": {text}}
	}
	ann := w.join("r", "ann", nil, query(&wire.JoinRequest{
		AddTrackRequests: []*wire.AddTrackRequest{{Cid: "mic", Type: wire.TrackAudio}},
		PublisherOffer:   &wire.SessionDescription{Type: "offer", Sdp: "v=0\r\na=msid:- mic\r\n", Id: 7},
	}))
	if ann.joined.SubscriberPrimary {
		t.Error("a single peer connection got subscriber_primary")
	}
	ann.until("the bundled track", func(m *wire.SignalResponse) bool { return m.GetTrackPublished().GetCid() == "mic" })
	ann.until("the answer", func(m *wire.SignalResponse) bool {
		if m.GetOffer() != nil {
			t.Error("the server offers")
		}
		return m.GetAnswer().GetId() == 7 && len(m.GetAnswer().GetMidToTrackId()) == 1
	})
	w.media.peer(ann.id).cfg.Notify(SectionsNeeded{Audio: 2, Video: 1})
	ann.until("the requirement", func(m *wire.SignalResponse) bool {
		return m.GetMediaSectionsRequirement().GetNumAudios() == 2 && m.GetMediaSectionsRequirement().GetNumVideos() == 1
	})
	ann.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: "v=0\r\ns=crowded\r\na=msid:- mic\r\n", Id: 8}}})
	answered := false
	ann.until("the requirement after the answer", func(m *wire.SignalResponse) bool {
		answered = answered || m.GetAnswer().GetId() == 8
		if m.GetMediaSectionsRequirement() != nil && !answered {
			t.Error("sections were asked for before the offer was answered")
		}
		return m.GetMediaSectionsRequirement() != nil
	})
	ann.send(&wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "answer", Sdp: "v=0"}}})
	ann.until("the refusal of an answer", func(m *wire.SignalResponse) bool { return m.GetRequestResponse().GetReason() == wire.RequestInvalid })

	for want, q := range map[string]url.Values{
		"leave":     {"reconnect": {"1"}, "sid": {ann.id}},
		"reconnect": query(&wire.JoinRequest{Reconnect: true, ParticipantSid: ann.id}),
	} {
		ws, _, err := w.dial(ann.tok, q)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		again := &peer{t: t, w: w, ws: ws}
		if kind := wire.ResponseKind(again.read()); kind != want {
			t.Errorf("resumed with %s, want %s", kind, want)
		}
	}
}

package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	pion "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"anytime/sfu"
	"anytime/sfu/sfutest"
	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These tests are of rooms whose participants lose their connections: signaling over real sockets, media over a virtual
// network where addresses change.

// roomsOver is signaling over an SFU that somebody else closes.
func roomsOver(t *testing.T, media *sfu.Server, change func(*signaling.Config)) *testRooms {
	t.Helper()
	lines := &testLog{}
	lines.tell(t, "")
	log := slog.New(slog.NewTextHandler(lines, nil))
	r := &testRooms{t: t, room: "room"}
	cfg := signaling.Config{Media: mediaServer{media}, Log: log, Keys: func(k string) (string, bool) { return roomSecret, k == roomKey }}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.sig, err = signaling.New(cfg); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r.sig.Handler())
	r.url = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.sig.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		server.Close()
	})
	return r
}

// over lets a client's media go over a network.
func over(network pion.Net, change func(*client.Config, *wire.Claims)) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, claims *wire.Claims) {
		if change != nil {
			change(c, claims)
		}
		c.Engine = func(e *webrtc.SettingEngine) {
			e.SetNet(network)
			e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
		}
	}
}

// modes are the two ways to connect.
var modes = []struct {
	name   string
	change func(*client.Config, *wire.Claims)
}{{"dual", nil}, {"single", bundled}}

// tooLong is the pause that a single restart may not take on a machine that has other things to do; by itself it takes
// a tenth of that.
const tooLong = 2 * time.Second

// watch follows the packets of a track: how long the longest pause between two was.
type watch struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	count   int
	news    chan struct{}
}

func watchTrack(ctx context.Context, t *testing.T, track *client.Track) *watch {
	t.Helper()
	w := &watch{news: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			p, err := track.ReadRTP(ctx)
			if err != nil {
				return
			}
			if len(p.Payload) == 0 {
				continue
			}
			now := time.Now()
			w.mu.Lock()
			if !w.last.IsZero() {
				w.longest = max(w.longest, now.Sub(w.last))
			}
			w.last = now
			w.count++
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() { stop(); reader.Wait() })
	return w
}

// more waits for n more packets, of which the first comes after now.
func (w *watch) more(ctx context.Context, t *testing.T, what string, n int) {
	t.Helper()
	w.mu.Lock()
	want := w.count + n
	w.mu.Unlock()
	for {
		w.mu.Lock()
		have := w.count
		w.mu.Unlock()
		if have >= want {
			return
		}
		select {
		case <-w.news:
		case <-ctx.Done():
			t.Fatalf("%s: %d of %d packets", what, have-want+n, n)
		}
	}
}

// pause returns the longest pause since the last call.
func (w *watch) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.longest
	w.longest = 0
	return d
}

// talk has two clients hear each other.
func talkBothWays(ctx context.Context, t *testing.T, ann, bob *client.Client) (atAnn, atBob *watch) {
	t.Helper()
	annAudio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	bobAudio := publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	atAnn = watchTrack(ctx, t, byID(ctx, t, ann, bobAudio.ID())[bobAudio.ID()])
	atBob = watchTrack(ctx, t, byID(ctx, t, bob, annAudio.ID())[annAudio.ID()])
	atAnn.more(ctx, t, "ann hears bob", 10)
	atBob.more(ctx, t, "bob hears ann", 10)
	atAnn.pause()
	atBob.pause()
	return atAnn, atBob
}

// TestNetworkChange: a client moves to another network in the middle of a call, and connects anew from there.
func TestNetworkChange(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			n := sfutest.New(t, nil)
			r := roomsOver(t, n.Server, nil)
			still, _ := n.Host()
			roaming := n.Roaming()
			ann := r.join(ctx, "ann", over(still, mode.change))
			bob := r.join(ctx, "bob", over(roaming, mode.change))
			atAnn, atBob := talkBothWays(ctx, t, ann, bob)
			var pauses []time.Duration
			for round := range 3 {
				roaming.Move()
				bob.Cut()
				if err := bob.Resume(ctx); err != nil {
					t.Fatal(err)
				}
				atBob.more(ctx, t, "bob hears ann again", 25)
				atAnn.more(ctx, t, "ann hears bob again", 25)
				up, down := atAnn.pause(), atBob.pause()
				t.Logf("round %d: without bob's voice for %v, without ann's for %v", round, up.Round(time.Millisecond), down.Round(time.Millisecond))
				pauses = append(pauses, max(up, down))
			}
			if slices.Sort(pauses); pauses[1] > time.Second { // one may be the machine's
				t.Errorf("pauses of %v: a second is too long", pauses)
			}
			if ann.State().Qualities[bob.ID()] == wire.ConnectionLost {
				t.Error("ann was told that bob is lost")
			}
			if p := ann.State().Participants["bob"]; p.GetSid() != bob.ID() || p.GetState() != wire.StateActive {
				t.Errorf("ann sees %v", p)
			}
		})
	}
}

// TestAddressChangeUnnoticed: a NAT gives a client another address, of which it doesn't know. Media comes back by itself.
func TestAddressChangeUnnoticed(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			n := sfutest.New(t, nil)
			r := roomsOver(t, n.Server, nil)
			still, _ := n.Host()
			roaming := n.Roaming()
			ann := r.join(ctx, "ann", over(still, mode.change))
			bob := r.join(ctx, "bob", over(roaming, mode.change))
			atAnn, atBob := talkBothWays(ctx, t, ann, bob)
			if err := roaming.Rebind(); err != nil {
				t.Fatal(err)
			}
			atBob.more(ctx, t, "bob hears ann again", 25)
			atAnn.more(ctx, t, "ann hears bob again", 25)
			up, down := atAnn.pause(), atBob.pause()
			t.Logf("without bob's voice for %v, without ann's for %v", up.Round(time.Millisecond), down.Round(time.Millisecond))
			// Pion checks its path every 2 s, and the first check from the new address tells us.
			if up > 3*time.Second || down > 5*time.Second {
				t.Error("that is too long")
			}
		})
	}
}

// TestUDPIsBlockedInACall: the client restarts ICE, and only TCP gets through.
func TestUDPIsBlockedInACall(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			host, err := stdnet.NewNet()
			if err != nil {
				t.Fatal(err)
			}
			wall := &sfutest.Firewall{Net: host}
			ann := r.join(ctx, "ann", mode.change)
			bob := r.join(ctx, "bob", func(c *client.Config, claims *wire.Claims) {
				over(wall, mode.change)(c, claims)
				udp := c.Engine
				c.Engine = func(e *webrtc.SettingEngine) {
					udp(e)
					e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4})
					e.SetIncludeLoopbackCandidate(true)
					// Pion stays with the first pair that answers, which on a busy machine may be TCP.
					e.SetHostAcceptanceMinWait(200 * time.Millisecond)
				}
			})
			atAnn, atBob := talkBothWays(ctx, t, ann, bob)
			for _, p := range bob.Paths() {
				if p != "udp" {
					t.Errorf("begun over %s", p)
				}
			}
			wall.Block()
			bob.Cut()
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			atBob.more(ctx, t, "bob hears ann again", 25)
			atAnn.more(ctx, t, "ann hears bob again", 25)
			up, down := atAnn.pause(), atBob.pause()
			t.Logf("without bob's voice for %v, without ann's for %v", up.Round(time.Millisecond), down.Round(time.Millisecond))
			if up > tooLong || down > tooLong {
				t.Error("that is too long")
			}
			for _, p := range bob.Paths() {
				if p != "tcp" {
					t.Errorf("it goes on over %s", p)
				}
			}
		})
	}
}

// record notes the kinds of a server's messages, and what they say about identities.
type record struct {
	mu       sync.Mutex
	messages []*wire.SignalResponse
}

func (r *record) add(m *wire.SignalResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
}

func (r *record) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = nil
}

// from returns the messages since the first of a kind.
func (r *record) from(kind string) []*wire.SignalResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range r.messages {
		if wire.ResponseKind(m) == kind {
			return slices.Clone(r.messages[i:])
		}
	}
	return nil
}

// recorded has a client's messages recorded.
func recorded(r *record, change func(*client.Config, *wire.Claims)) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, claims *wire.Claims) {
		if change != nil {
			change(c, claims)
		}
		c.OnMessage = r.add
	}
}

// TestResumeKeepsEverything: the WebSocket breaks and comes back; nothing else does.
func TestResumeKeepsEverything(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			var atBobs, atAnns record
			ann := r.join(ctx, "ann", recorded(&atAnns, mode.change))
			bob := r.join(ctx, "bob", recorded(&atBobs, mode.change))
			atAnn, atBob := talkBothWays(ctx, t, ann, bob)
			// A track whose media has not come yet when the connection breaks.
			err := bob.Send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
				Cid: "pending", Type: wire.TrackVideo, Source: wire.SourceScreenShare,
			}}})
			if err != nil {
				t.Fatal(err)
			}
			pending := ""
			eventually(t, "track_published", func() bool {
				for _, m := range atBobs.from("track_published") {
					if p := m.GetTrackPublished(); p.GetCid() == "pending" {
						pending = p.GetTrack().GetSid()
					}
				}
				return pending != ""
			})
			atAnns.clear()
			bob.Cut()
			wait(ctx, t, bob, "the loss", func(s client.State) bool { return s.SignalLost })
			atBobs.clear()
			// Media doesn't notice, both ways.
			atAnn.more(ctx, t, "ann hears bob", 50)
			atBob.more(ctx, t, "bob hears ann", 50)
			if up, down := atAnn.pause(), atBob.pause(); up > time.Second || down > time.Second {
				t.Errorf("pauses of %v and %v while the WebSocket was away", up, down)
			}
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			atAnn.more(ctx, t, "ann hears bob", 50)
			atBob.more(ctx, t, "bob hears ann", 50)
			up, down := atAnn.pause(), atBob.pause()
			t.Logf("the ICE restarts of the resume: without bob's voice for %v, without ann's for %v", up.Round(time.Millisecond), down.Round(time.Millisecond))
			if up > tooLong || down > tooLong {
				t.Error("that is too long")
			}
			// The order of what came.
			var kinds []string
			for _, m := range atBobs.from("reconnect") {
				if m.GetAnswer() == nil { // to the client's own restart, which may come at any time
					kinds = append(kinds, wire.ResponseKind(m))
				}
				if p := m.GetTrackPublished(); p != nil && (p.GetCid() != "pending" || p.GetTrack().GetSid() != pending) {
					t.Errorf("told of %v, expected %s again", p, pending)
				}
				if u := m.GetUpdate(); u != nil && len(u.GetParticipants()) != 2 {
					t.Errorf("the update is of %d participants, expected all", len(u.GetParticipants()))
				}
			}
			want := []string{"reconnect", "update", "room_update", "track_published"}
			if mode.name == "dual" {
				want = append(want, "offer")
			}
			if len(kinds) < len(want) || !slices.Equal(kinds[:len(want)], want) {
				t.Errorf("after the resume came %v, expected %v first", kinds, want)
			}
			for _, m := range atBobs.from("reconnect") {
				if mode.name == "single" && m.GetOffer() != nil {
					t.Error("an offer of the server's on a single peer connection")
				}
			}
			// Nobody else was told of anything but how well the connection does.
			for _, kind := range []string{"update", "track_unpublished"} {
				if m := atAnns.from(kind); m != nil {
					t.Errorf("ann was told %v", m[0])
				}
			}
			if ann.State().Qualities[bob.ID()] == wire.ConnectionLost {
				t.Error("ann was told that bob is lost")
			}
		})
	}
}

// TestSyncStateAfterAResume: the client says what it has; what can't be made good needs a fresh join.
func TestSyncStateAfterAResume(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann := r.join(ctx, "ann", mode.change)
			bob := r.join(ctx, "bob", mode.change)
			_, atBob := talkBothWays(ctx, t, ann, bob)
			mine := ann.State().Participants["bob"].GetTracks()
			video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			seen := watchTrack(ctx, t, byID(ctx, t, bob, video.ID())[video.ID()])
			seen.more(ctx, t, "bob sees ann", 10)

			bob.Cut()
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			state := &wire.SyncState{
				Subscription:      &wire.UpdateSubscription{Subscribe: true, TrackSids: []string{video.ID()}},
				TrackSidsDisabled: []string{video.ID()},
				PublishTracks:     []*wire.TrackPublishedResponse{{Cid: "own", Track: mine[0]}},
				// SDKs with one peer connection send their last exchange along.
				Offer:  &wire.SessionDescription{Type: "offer", Sdp: "v=0\r\n"},
				Answer: &wire.SessionDescription{Type: "answer", Sdp: "v=0\r\n"},
			}
			if err := bob.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: state}}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the disabled video to pause", func() bool {
				seen.mu.Lock()
				defer seen.mu.Unlock()
				return time.Since(seen.last) > 500*time.Millisecond
			})
			atBob.more(ctx, t, "bob hears ann", 20)
			if err := bob.Configure(&wire.UpdateTrackSettings{TrackSids: []string{video.ID()}, Quality: wire.QualityHigh}); err != nil {
				t.Fatal(err)
			}
			seen.more(ctx, t, "bob sees ann again", 10)

			// Tracks that it believes published and that are unknown here.
			state.PublishTracks[0] = &wire.TrackPublishedResponse{Cid: "lost", Track: &wire.TrackInfo{Sid: "TR_lost"}}
			if err := bob.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: state}}); err != nil {
				t.Fatal(err)
			}
			wait(ctx, t, bob, "the leave", func(s client.State) bool {
				return s.Left.GetAction() == wire.LeaveReconnect && s.Left.GetReason() == wire.ReasonStateMismatch
			})
		})
	}
}

// TestFullReconnect: a client that joins anew under its identity, while the old session is still there, replaces it.
func TestFullReconnect(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			n := sfutest.New(t, nil)
			r := roomsOver(t, n.Server, nil)
			var atAnns record
			still, _ := n.Host()
			ann := r.join(ctx, "ann", recorded(&atAnns, over(still, mode.change)))
			var old *client.Client // the session before, while it has its connection
			for round, cut := range []bool{false, true, false} {
				roaming := n.Roaming()
				bob := r.join(ctx, "bob", over(roaming, mode.change))
				if old != nil {
					wait(ctx, t, old, "the eviction", func(s client.State) bool { return s.Left.GetReason() == wire.ReasonDuplicateIdentity })
				}
				voice := publishSource(ctx, t, bob, byte('0'+round), client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
				atAnn := watchTrack(ctx, t, byID(ctx, t, ann, voice.ID())[voice.ID()])
				atAnn.more(ctx, t, "ann hears bob", 10)
				wait(ctx, t, ann, "one bob with one track", func(s client.State) bool {
					p := s.Participants["bob"]
					return p.GetSid() == bob.ID() && len(p.GetTracks()) == 1 && p.GetTracks()[0].GetSid() == voice.ID()
				})
				old = bob
				if cut { // the next one comes while this one is lost
					bob.Cut()
					roaming.Move()
					old = nil
				}
			}
			// One was there at a time: each session ends before the next begins, and none comes back.
			present, over := "", map[string]bool{}
			for _, m := range atAnns.from("join") {
				for _, p := range m.GetUpdate().GetParticipants() {
					switch {
					case p.GetIdentity() != "bob":
					case p.GetState() == wire.StateDisconnected:
						if p.GetSid() != present {
							t.Errorf("%s left while %q was there", p.GetSid(), present)
						}
						present, over[p.GetSid()] = "", true
					case over[p.GetSid()]:
						t.Errorf("%s came back", p.GetSid())
					case present != "" && present != p.GetSid():
						t.Errorf("%s came while %s was there", p.GetSid(), present)
					default:
						present = p.GetSid()
					}
				}
			}
			if len(over) != 2 {
				t.Errorf("%d sessions ended, expected 2", len(over))
			}
			// The SFU has no trace of them.
			eventually(t, "the old sessions to end in the SFU", func() bool {
				s := n.Server.Stats()
				return len(s.Participants) == 2
			})
			for _, p := range n.Server.Stats().Participants {
				if p.ID == ann.ID() && len(p.Subscriptions) != 1 {
					t.Errorf("ann has %d subscriptions", len(p.Subscriptions))
				}
			}
		})
	}
}

// eventually waits for what gives no event.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("timed out: %s", what)
		case <-tick.C:
		}
	}
}

// TestLossIsToldWhenMediaIsAwayToo, and no sooner: see TestResumeKeepsEverything. The client comes back within the grace.
func TestLossIsToldWhenMediaIsAwayToo(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			ctx := roomContext(t)
			events := make(chan signaling.RoomEventKind, 100)
			n := sfutest.New(t, nil)
			r := roomsOver(t, n.Server, func(c *signaling.Config) {
				c.Observe = func(e signaling.RoomEvent) {
					if e.Identity == "bob" && (e.Kind == signaling.ParticipantLost || e.Kind == signaling.ParticipantBack) {
						events <- e.Kind
					}
				}
			})
			still, _ := n.Host()
			roaming := n.Roaming()
			ann := r.join(ctx, "ann", over(still, mode.change))
			bob := r.join(ctx, "bob", over(roaming, mode.change))
			atAnn, atBob := talkBothWays(ctx, t, ann, bob)
			roaming.Move() // nothing gets through any more
			bob.Cut()
			wait(ctx, t, ann, "bob's loss", func(s client.State) bool { return s.Qualities[bob.ID()] == wire.ConnectionLost })
			if got := r.sig.Connected("room"); len(got) != 1 || got[0] != "ann" {
				t.Errorf("connected are %v", got)
			}
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			atBob.more(ctx, t, "bob hears ann again", 10)
			atAnn.more(ctx, t, "ann hears bob again", 10)
			wait(ctx, t, ann, "bob to be well again", func(s client.State) bool { return s.Qualities[bob.ID()] != wire.ConnectionLost })
			for _, want := range []signaling.RoomEventKind{signaling.ParticipantLost, signaling.ParticipantBack} {
				if got := <-events; got != want {
					t.Errorf("observers were told %v, want %v", got, want)
				}
			}
			if len(events) > 0 {
				t.Errorf("and then %v", <-events)
			}
		})
	}
}

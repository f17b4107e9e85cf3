package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
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
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	r := &testRooms{t: t}
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
func talk(ctx context.Context, t *testing.T, ann, bob *client.Client) (atAnn, atBob *watch) {
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
			atAnn, atBob := talk(ctx, t, ann, bob)
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
				if up > time.Second || down > time.Second {
					t.Errorf("round %d: a pause of a second or more", round)
				}
			}
			if q := ann.State().Qualities[bob.ID()]; q != 0 && q != wire.ConnectionExcellent {
				t.Errorf("ann was told %v of bob", q)
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
			atAnn, atBob := talk(ctx, t, ann, bob)
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
				}
			})
			atAnn, atBob := talk(ctx, t, ann, bob)
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
			if up > time.Second || down > time.Second {
				t.Error("a pause of a second or more")
			}
			for _, p := range bob.Paths() {
				if p != "tcp" {
					t.Errorf("it goes on over %s", p)
				}
			}
		})
	}
}

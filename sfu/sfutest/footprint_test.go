package sfutest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

// Goroutines of a participant, signaling not included: over IPv4, with ICE-TCP, its data channels open.
const (
	mostGoroutinesDual   = 28
	mostGoroutinesSingle = 15
)

// serverSide runs a call of the server's. Goroutines that it leads to carry its label, which [serverGoroutines] counts: the
// clients of a test run in the same process.
func serverSide(call func()) {
	pprof.Do(context.Background(), pprof.Labels("side", "server"), func(context.Context) { call() })
}

// serverGoroutines returns how many there are, and their profile.
func serverGoroutines() (n int, profile string) {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	for group := range strings.SplitSeq(b.String(), "\n\n") {
		var same int
		if !strings.Contains(group, `{"side":"server"}`) {
			continue
		}
		if at := strings.Index(group, " @ "); at >= 0 {
			_, _ = fmt.Sscan(group[strings.LastIndexByte(group[:at], '\n')+1:], &same)
		}
		n += same
		profile += group + "\n\n"
	}
	return n, profile
}

// TestGoroutinesOfAParticipant: what costs most memory, apart from descriptions, is bounded, however many addresses the server
// announces.
func TestGoroutinesOfAParticipant(t *testing.T) {
	one := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, x := range []struct {
		name   string
		single bool
		addrs  []netip.Addr
		most   int
	}{
		{"two peer connections", false, one, mostGoroutinesDual},
		{"a single one", true, one, mostGoroutinesSingle},
		{"several addresses", true, append(one, netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")), mostGoroutinesSingle},
	} {
		t.Run(x.name, func(t *testing.T) {
			defer CheckGoroutines(t)()
			var s *sfu.Server
			serverSide(func() {
				var err error
				s, err = sfu.New(sfu.Config{UDPAddr: "0.0.0.0:0", TCPAddr: "0.0.0.0:0", NodeIPs: x.addrs, Log: slog.New(slog.DiscardHandler)})
				must(t, err)
			})
			defer s.Close()
			idle, _ := serverGoroutines()
			v := joinLocal(t, s, x.single)
			defer v.close()
			if err := eventually(func() error {
				n, profile := serverGoroutines()
				if n -= idle; n > x.most || n < x.most/2 {
					return fmt.Errorf("%d goroutines, want %d at most:\n%s", n, x.most, profile)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// eventually repeats a check until it succeeds.
func eventually(check func() error) error {
	deadline := time.Now().Add(Timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

// local is a participant over the host's own network, that publishes a track.
type local struct {
	t   *testing.T
	p   *sfu.Participant
	pcs []*webrtc.PeerConnection
}

// joinLocal returns when its peer connections and their data channels are open.
func joinLocal(t *testing.T, s *sfu.Server, single bool) *local {
	t.Helper()
	v := &local{t: t}
	events := make(chan sfu.Event, 100)
	serverSide(func() {
		var err error
		v.p, err = s.Join(sfu.ParticipantConfig{Room: "room", ID: "PA_x", Single: single, Notify: func(e sfu.Event) { events <- e }})
		must(t, err)
	})
	up := map[sfu.Target]bool{}
	opened := make(chan struct{}, 4)
	pub, open := v.peer(), 2
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "mic", "x")
	must(t, err)
	_, err = pub.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	must(t, err)
	for _, label := range []string{"_lossy", "_reliable"} {
		dc, err := pub.CreateDataChannel(label, nil)
		must(t, err)
		dc.OnOpen(func() { opened <- struct{}{} })
	}
	offer := v.describe(pub, webrtc.SDPTypeOffer)
	var answer string
	serverSide(func() { answer, _, err = v.p.Offer(offer) })
	must(t, err)
	must(t, pub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	wants := []sfu.Target{sfu.Publisher}
	var sub *webrtc.PeerConnection
	if !single {
		sub, open = v.peer(), 4
		wants = append(wants, sfu.Subscriber)
		sub.OnDataChannel(func(dc *webrtc.DataChannel) { dc.OnOpen(func() { opened <- struct{}{} }) })
	}
	for late := time.After(Timeout); open > 0 || len(up) < len(wants); {
		select {
		case e := <-events:
			switch e := e.(type) {
			case sfu.TransportState:
				if e.State == sfu.Connected {
					up[e.Target] = true
				}
			case sfu.OfferReady:
				must(t, sub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: e.SDP}))
				text := v.describe(sub, webrtc.SDPTypeAnswer)
				serverSide(func() { err = v.p.Answer(e.ID, text) })
				must(t, err)
			}
		case <-opened:
			open--
		case <-late:
			t.Fatalf("connected: %v; data channels to come: %d", up, open)
		}
	}
	return v
}

func (v *local) peer() *webrtc.PeerConnection {
	v.t.Helper()
	host, err := stdnet.NewNet()
	must(v.t, err)
	pc, err := newPeer(Options{Net: host, Settings: func(e *webrtc.SettingEngine) {
		e.SetIncludeLoopbackCandidate(true)
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	}}, false)
	must(v.t, err)
	v.pcs = append(v.pcs, pc)
	return pc
}

// describe makes a local description and returns it with its candidates.
func (v *local) describe(pc *webrtc.PeerConnection, kind webrtc.SDPType) string {
	v.t.Helper()
	var d webrtc.SessionDescription
	var err error
	if kind == webrtc.SDPTypeOffer {
		d, err = pc.CreateOffer(nil)
	} else {
		d, err = pc.CreateAnswer(nil)
	}
	must(v.t, err)
	gathered := webrtc.GatheringCompletePromise(pc)
	must(v.t, pc.SetLocalDescription(d))
	<-gathered
	return pc.LocalDescription().SDP
}

func (v *local) close() {
	v.p.Close()
	for _, pc := range v.pcs {
		_ = pc.GracefulClose()
	}
}

package sfutest

import (
	"strings"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/webrtc/v4"
)

// bare is a participant whose descriptions the test carries by hand, so that it can lose them.
type bare struct {
	t      *testing.T
	p      *sfu.Participant
	pc     *webrtc.PeerConnection
	offers chan sfu.OfferReady
	events chan sfu.Event
}

func joinBare(t *testing.T, n *Network, id string, single bool) *bare {
	t.Helper()
	host, _ := n.host()
	pc, err := newPeer(Options{Net: host}, false)
	must(t, err)
	b := &bare{t: t, pc: pc, offers: make(chan sfu.OfferReady, 10), events: make(chan sfu.Event, 1000)}
	b.p, err = n.Server.Join(sfu.ParticipantConfig{Room: "room", ID: id, Single: single, Notify: func(e sfu.Event) {
		if o, ok := e.(sfu.OfferReady); ok {
			b.offers <- o
			return
		}
		b.events <- e
	}})
	must(t, err)
	t.Cleanup(func() {
		b.p.Close()
		_ = pc.GracefulClose()
	})
	return b
}

func (b *bare) nextOffer() sfu.OfferReady {
	b.t.Helper()
	select {
	case o := <-b.offers:
		return o
	case <-time.After(Timeout):
		b.t.Fatal("no offer")
		return sfu.OfferReady{}
	}
}

// local sets a description of ours and waits for its candidates.
func (b *bare) local(d webrtc.SessionDescription, err error) string {
	b.t.Helper()
	must(b.t, err)
	gathered := webrtc.GatheringCompletePromise(b.pc)
	must(b.t, b.pc.SetLocalDescription(d))
	<-gathered
	return b.pc.LocalDescription().SDP
}

func (b *bare) answer(o sfu.OfferReady) {
	b.t.Helper()
	must(b.t, b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}))
	must(b.t, b.p.Answer(o.ID, b.local(b.pc.CreateAnswer(nil))))
}

func (b *bare) await(target sfu.Target, s sfu.State) {
	b.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case e := <-b.events:
			if ts, ok := e.(sfu.TransportState); ok && ts.Target == target && ts.State == s {
				return
			}
		case <-late:
			b.t.Fatalf("the %v is not %v", target, s)
		}
	}
}

// TestOfferLostWithTheConnection: a resume tells an offer again that may have been lost, and restarts ICE after its answer.
func TestOfferLostWithTheConnection(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	b := joinBare(t, n, "PA_b", false)
	data := make(chan string, 1)
	b.pc.OnDataChannel(func(d *webrtc.DataChannel) {
		d.OnMessage(func(m webrtc.DataChannelMessage) { data <- string(m.Data) })
	})
	lost := b.nextOffer()
	b.p.RestartICE(sfu.Subscriber)
	again := b.nextOffer()
	if again.ID != lost.ID || again.SDP != lost.SDP {
		t.Errorf("offer %d after offer %d: expected the same", again.ID, lost.ID)
	}
	b.answer(again) // nothing was connected before, so there is nothing to restart
	b.await(sfu.Subscriber, sfu.Connected)
	// A restart that is lost with the next connection too.
	b.p.RestartICE(sfu.Subscriber)
	lost = b.nextOffer()
	b.p.RestartICE(sfu.Subscriber)
	if again = b.nextOffer(); again.ID != lost.ID || again.SDP != lost.SDP {
		t.Errorf("offer %d after offer %d: expected the same", again.ID, lost.ID)
	}
	b.answer(again)
	restart := b.nextOffer()
	if restart.ID != lost.ID+1 || ufrag(restart.SDP) == ufrag(lost.SDP) {
		t.Errorf("offer %d with ufrag %s: expected a restart", restart.ID, ufrag(restart.SDP))
	}
	b.answer(restart)
	must(t, b.p.SendData(true, []byte("after the restart")))
	select {
	case text := <-data:
		if text != "after the restart" {
			t.Errorf("received %q", text)
		}
	case <-time.After(Timeout):
		t.Error("nothing gets through after the restart")
	}
	select {
	case o := <-b.offers:
		t.Errorf("one offer too many: %d", o.ID)
	case <-time.After(200 * time.Millisecond):
	}
}

// TestAnswerLostWithTheConnection: the client of a single peer connection never hears of the answer, and offers anew.
func TestAnswerLostWithTheConnection(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	_, err := a.Audio("TR_a")
	must(t, err)
	b := joinBare(t, n, "PA_b", true)
	must(t, b.p.Subscribe("TR_a"))
	_, err = b.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	must(t, err)
	_, err = b.pc.CreateDataChannel("_reliable", nil)
	must(t, err)
	tracks := make(chan string, 1)
	b.pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { tracks <- r.ID() })

	lost, named, err := b.p.Offer(b.local(b.pc.CreateOffer(nil)))
	must(t, err)
	if len(named) != 1 {
		t.Errorf("the first answer names %v", named)
	}
	// Browsers would make a new offer; Pion, which can't take one back, tells it again.
	answer, named, err := b.p.Offer(b.pc.LocalDescription().SDP)
	must(t, err)
	if len(named) != 1 || ufrag(answer) != ufrag(lost) {
		t.Errorf("the second answer names %v, its ufrag is %s after %s", named, ufrag(answer), ufrag(lost))
	}
	must(t, b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	b.await(sfu.Publisher, sfu.Connected)
	select {
	case id := <-tracks:
		if id != "TR_a" {
			t.Errorf("track %s", id)
		}
	case <-time.After(Timeout):
		t.Error("no track")
	}
}

// TestRestartAfterFailure: nothing came for so long that ICE has given up on both sides; a restart revives the very same
// peer connections.
func TestRestartAfterFailure(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute: that is how long ICE waits")
	}
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_a")
	_, err = b.AwaitPackets("TR_a", 10)
	must(t, err)
	restore := b.Cut()
	failed := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.events {
			if ts, ok := e.(sfu.TransportState); ok && ts.Target == sfu.Subscriber && ts.State == sfu.Failed {
				return true
			}
		}
		return false
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !failed(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("ICE has not failed")
		}
	}
	restore()
	b.Participant.RestartICE(sfu.Subscriber)
	must(t, b.AwaitState(sfu.Subscriber, sfu.Connected))
	r, err := b.AwaitPackets("TR_a", 50)
	must(t, err)
	s, err := r.Check("TR_a", 0)
	must(t, err)
	t.Logf("without a packet for %v", s.Longest.Round(time.Millisecond))
	for _, text := range b.offers()[1:] {
		if !strings.Contains(text, "a=ice-lite") {
			t.Error("an offer without ice-lite")
		}
	}
}

package sfutest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pion/sdp/v3"

	"anytime/sfu"
)

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, c *Client, id string) {
	t.Helper()
	must(t, c.Participant.Subscribe(id))
}

func TestSimulcastSwitching(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Video("TR_v", "q", "h", "f")
	must(t, err)
	subscribe(t, b, "TR_v")
	_, err = b.AwaitLayer("TR_v", 2, 30)
	must(t, err)
	var r *Received
	for i, quality := range []uint8{0, 1, 2, 0, 2, 1} {
		b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: quality})
		if r, err = b.AwaitLayer("TR_v", int(quality), 20); err != nil {
			t.Fatalf("switch %d to %d: %v", i, quality, err)
		}
	}
	// By size: the smallest layer that is at least as large, also for a picture on its side.
	for _, x := range []struct {
		w, h  uint32
		layer int
	}{{320, 180, 0}, {180, 320, 0}, {360, 200, 1}, {4000, 3000, 2}, {640, 360, 1}} {
		b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Width: x.w, Height: x.h})
		if r, err = b.AwaitLayer("TR_v", x.layer, 20); err != nil {
			t.Fatalf("%dx%d: %v", x.w, x.h, err)
		}
	}
	s, err := r.Check("TR_v", 0)
	if err != nil || s.Missing != 0 || s.Switches < 8 {
		t.Fatalf("%+v, %v", s, err)
	}
	t.Logf("%+v", s)
}

func TestLayerThatStops(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	src, err := a.Video("TR_v", "q", "h", "f")
	must(t, err)
	subscribe(t, b, "TR_v")
	_, err = b.AwaitLayer("TR_v", 2, 30)
	must(t, err)
	src.Layer(2, false)
	_, err = b.AwaitLayer("TR_v", 1, 20)
	must(t, err)
	src.Layer(2, true)
	r, err := b.AwaitLayer("TR_v", 2, 20)
	must(t, err)
	if s, err := r.Check("TR_v", 0); err != nil || s.Missing != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	// Counted in the source's pictures, because a busy machine has its own idea of time: the next layer is shown a good
	// third of a second after the one that stopped, not when that one has been silent for long.
	packets := r.Packets()
	var longest, last uint32
	for _, p := range packets {
		if p.Padding {
			continue
		}
		if last != 0 && p.Frame > last {
			longest = max(longest, p.Frame-last)
		}
		last = p.Frame
	}
	if longest > 15 {
		t.Errorf("the picture stood still for %d frames when its layer stopped", longest)
	}
	t.Logf("the longest jump was %d frames", longest)
}

func TestLateJoinerGetsAKeyframeWithinASecond(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	src, err := a.Video("TR_v", "q", "h", "f")
	must(t, err)
	for i := range 3 {
		c := n.Join(t, "room", fmt.Sprintf("PA_%d", i))
		begin := src.Frames.Load()
		subscribe(t, c, "TR_v")
		r, err := c.Await("TR_v", "keyframe", func(p []Packet) bool { return len(first(p)) > 0 && first(p)[0].Keyframe })
		must(t, err)
		// The source's own frames are the clock, which a busy machine slows down with everything else: 30 are a second.
		if d := int64(first(r.Packets())[0].Frame) - begin; d > 30 {
			t.Errorf("joiner %d: the first keyframe came %d frames late", i, d)
		}
	}
}

// first leaves out the padding that may go ahead of a track.
func first(p []Packet) []Packet {
	for len(p) > 0 && p[0].Padding {
		p = p[1:]
	}
	return p
}

func TestLossIsRepairedBothWays(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Video("TR_v")
	must(t, err)
	_, err = a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_v")
	subscribe(t, b, "TR_a")
	_, err = b.AwaitPackets("TR_v", 20)
	must(t, err)
	n.Lose(0.05, 0.05)
	_, err = b.AwaitPackets("TR_v", 400)
	must(t, err)
	n.Lose(0, 0)
	r, err := b.AwaitPackets("TR_v", 60)
	must(t, err)
	s, err := r.Check("TR_v", 30)
	if err != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.Missing != 0 {
		t.Errorf("%d of %d packets missing after repair", s.Missing, s.Packets)
	}
	st := n.Server.Stats()
	var repaired, resent, nacks uint64
	for _, p := range st.Participants {
		for _, pub := range p.Publications {
			for _, l := range pub.Layers {
				repaired += l.Repaired
				nacks += l.NACKs
			}
		}
		for _, s := range p.Subscriptions {
			resent += s.Resent
		}
	}
	if repaired == 0 || nacks == 0 || resent == 0 {
		t.Errorf("repaired %d with %d NACKs, resent %d: the links lost nothing?", repaired, nacks, resent)
	}
	t.Logf("%+v, repaired %d with %d NACKs, resent %d", s, repaired, nacks, resent)
}

func TestKeyframeRequestsAreCoalesced(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	src, err := a.Video("TR_v")
	must(t, err)
	var all []*Client
	for i := range 5 {
		all = append(all, n.Join(t, "room", fmt.Sprintf("PA_%d", i)))
	}
	before := src.PLIs.Load()
	begin := time.Now()
	for _, c := range all {
		subscribe(t, c, "TR_v")
	}
	for _, c := range all {
		_, err := c.AwaitPackets("TR_v", 10)
		must(t, err)
	}
	plis, most := src.PLIs.Load()-before, int64(time.Since(begin)/(500*time.Millisecond))+1
	if plis < 1 || plis > most {
		t.Errorf("%d keyframe requests reached the publisher in %v, at most %d are due", plis, time.Since(begin), most)
	}
}

func TestMute(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Video("TR_v")
	must(t, err)
	subscribe(t, b, "TR_v")
	_, err = b.AwaitPackets("TR_v", 10)
	must(t, err)
	a.Participant.SetMuted("TR_v", true)
	sent := func() uint64 { return b.Participant.Stats().Subscriptions[0].Packets }
	at := sent()
	// The publisher goes on sending: thirty frames more reach the server, none the subscriber.
	received := func() uint64 { return a.Participant.Stats().Publications[0].Layers[0].Packets }
	awaitCount(t, received, received()+30)
	if now := sent(); now != at {
		t.Errorf("%d packets were forwarded of a muted track", now-at)
	}
	a.Participant.SetMuted("TR_v", false)
	r, err := b.AwaitPackets("TR_v", 20)
	must(t, err)
	if s, err := r.Check("TR_v", 0); err != nil || s.Missing != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// awaitCount polls a counter that nobody tells the changes of.
func awaitCount(t testing.TB, count func() uint64, want uint64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Timeout)
	for count() < want {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("counter at %d, waiting for %d", count(), want)
		}
	}
}

func TestUnpublishGivesTheMLineBack(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	for i := range 4 {
		id := fmt.Sprintf("TR_%d", i)
		src, err := a.Video(id)
		must(t, err)
		subscribe(t, b, id)
		_, err = b.AwaitPackets(id, 10)
		must(t, err)
		if i%2 == 0 {
			must(t, src.Remove())
			must(t, a.AwaitEvent("end of publication", func(e sfu.Event) bool {
				ended, ok := e.(sfu.PublicationEnded)
				return ok && ended.TrackID == id
			}))
		} else {
			src.Stop()
			a.Participant.Unpublish(id)
		}
		if err := b.Participant.Subscribe(id); !errors.Is(err, sfu.ErrUnknownTrack) {
			t.Errorf("subscribing to an ended track: %v", err)
		}
		want := fmt.Sprintf("inactive %d", i)
		must(t, b.await(want, func() bool { return b.mediaSections() == (counts{1, 0}) }))
	}
}

type counts struct{ video, sending int }

// TestIdleMLineIsUsedAgain: an m-line that was idle through several offers, restarts of ICE among them, carries a track
// again, and the client is told of it.
func TestIdleMLineIsUsedAgain(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	for _, id := range []string{"TR_1", "TR_2"} {
		_, err := b.Video(id)
		must(t, err)
	}
	_, err := b.Audio("TR_audio")
	must(t, err)
	receive := func(id string) *Received {
		t.Helper()
		subscribe(t, a, id)
		r, err := a.AwaitPackets(id, 5)
		must(t, err)
		return r
	}
	first := receive("TR_1")
	a.Participant.Unsubscribe("TR_1")
	receive("TR_2")
	receive("TR_audio")
	restarts := len(a.offers())
	a.Participant.RestartICE(sfu.Subscriber)
	must(t, a.AwaitEvent("the restart", func(e sfu.Event) bool { o, ok := e.(sfu.OfferReady); return ok && int(o.ID) > restarts }))
	a.Participant.Unsubscribe("TR_2")
	subscribe(t, a, "TR_1")
	must(t, a.await("the track again", func() bool { return a.received["TR_1"] != first && len(a.received["TR_1"].packets) >= 5 }))
	if got := a.mediaSections(); got.video != 2 {
		t.Errorf("%d video sections for two tracks", got.video)
	}
	for _, text := range a.offers() {
		for _, section := range strings.Split(text, "\r\nm=")[1:] {
			if strings.Contains(section, "a=sendonly") && !strings.Contains(section, sdp.SDESMidURI) {
				t.Errorf("an m-line doesn't declare its id (RFC 8829 section 5.2.1): %s", section)
			}
		}
	}
}

// mediaSections counts the video m-lines of the latest offer and those that send.
func (c *Client) mediaSections() (n counts) {
	for i := len(c.events) - 1; i >= 0; i-- {
		if o, ok := c.events[i].(sfu.OfferReady); ok {
			n.video, n.sending = countSections(o.SDP)
			return n
		}
	}
	return n
}

func TestSpeakers(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	sa, err := a.Audio("TR_a")
	must(t, err)
	sb, err := b.Audio("TR_b")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	sa.Level(20)
	sb.Level(90)
	must(t, n.AwaitSpeaker(ctx, "room", "PA_a"))
	sa.Level(90)
	sb.Level(20)
	must(t, n.AwaitSpeaker(ctx, "room", "PA_b"))
	sb.Level(127)
	must(t, n.AwaitSpeaker(ctx, "room", ""))
}

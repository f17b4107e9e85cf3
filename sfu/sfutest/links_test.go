package sfutest

import (
	"testing"
	"time"

	"anytime/sfu"
)

// awaitLinks waits until a participant's links are so.
func awaitLinks(t *testing.T, c *Client, what string, so func(sfu.Links) bool) sfu.Links {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(Timeout)
	defer timeout.Stop()
	for {
		l := c.Participant.Links()
		if so(l) {
			return l
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("%s: no %s; links are %+v", c.ID, what, l)
		}
	}
}

func measured(l sfu.Links) bool { return l.Up.Measured && l.Down.Measured }

// TestLinks: each direction's loss is told of whom it concerns, and of nobody else; and nothing of it is left once it is
// over.
func TestLinks(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	for _, p := range []struct{ from, to *Client }{{a, b}, {b, a}} {
		audio, video := "TR_audio_"+p.from.ID, "TR_video_"+p.from.ID
		_, err := p.from.Audio(audio)
		must(t, err)
		_, err = p.from.Video(video)
		must(t, err)
		subscribe(t, p.to, audio)
		subscribe(t, p.to, video)
	}
	for _, c := range []*Client{a, b} {
		l := awaitLinks(t, c, "good links", func(l sfu.Links) bool { return measured(l) && l.Up.Bitrate > 0 && l.Down.Bitrate > 0 })
		if l.Up.Loss > 0.01 || l.Down.Loss > 0.01 {
			t.Errorf("%s: nothing is lost, and it says %+v", c.ID, l)
		}
	}
	about := func(loss, want float64) bool { return loss > want*0.7 && loss < want*1.3 }
	n.Lose(0.2, 0)
	for _, c := range []*Client{a, b} {
		l := awaitLinks(t, c, "loss on the way up", func(l sfu.Links) bool { return about(l.Up.Loss, 0.2) })
		if l.Down.Loss > 0.02 {
			t.Errorf("%s: the way down loses nothing, and it says %.3f", c.ID, l.Down.Loss)
		}
	}
	n.Lose(0, 0.2)
	for _, c := range []*Client{a, b} {
		awaitLinks(t, c, "loss on the way down alone", func(l sfu.Links) bool { return l.Up.Loss < 0.02 && about(l.Down.Loss, 0.2) })
	}
	n.Lose(0, 0)
	for _, c := range []*Client{a, b} {
		awaitLinks(t, c, "an end of it", func(l sfu.Links) bool { return measured(l) && l.Up.Loss < 0.01 && l.Down.Loss < 0.01 })
	}
}

// deliveryOf returns how a track fares on its way to c.
func deliveryOf(c *Client, id string) (sfu.Delivery, bool) {
	for _, s := range c.Participant.Stats().Subscriptions {
		if s.TrackID == id {
			return s.Delivery, true
		}
	}
	return sfu.Delivery{}, false
}

func awaitDelivery(t *testing.T, c *Client, id, what string, so func(sfu.Delivery) bool) sfu.Delivery {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(Timeout)
	defer timeout.Stop()
	for {
		d, _ := deliveryOf(c, id)
		if so(d) {
			return d
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("%s of %s: no %s: %+v", c.ID, id, what, d)
		}
	}
}

// TestFreezes: a video that stops is a freeze; one that is muted or disabled isn't, however long it is.
func TestFreezes(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	src, err := a.Video("TR_v", "q", "h", "f")
	must(t, err)
	subscribe(t, b, "TR_v")
	b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: 2})
	plays := func(what string) sfu.Delivery {
		t.Helper()
		before, _ := deliveryOf(b, "TR_v")
		return awaitDelivery(t, b, "TR_v", what, func(d sfu.Delivery) bool { return d.Sent == 2 && d.Recent.Packets > before.Recent.Packets })
	}
	d := awaitDelivery(t, b, "TR_v", "a picture", func(d sfu.Delivery) bool { return d.Sent == 2 && d.Recent.FPS() > 5 && d.Recent.Bitrate() > 0 })
	if d.Wish != 2 || d.Best != 2 || d.Muted || d.Disabled || d.Paused {
		t.Errorf("a video that plays is %+v", d)
	}
	before := d.Freezes // a busy machine may have had one
	src.Pause()
	d = awaitDelivery(t, b, "TR_v", "freeze", func(d sfu.Delivery) bool { return d.Freezes == before+1 && d.FrozenFor > time.Second })
	src.Resume()
	over := plays("picture after the freeze")
	if over.FrozenFor < d.FrozenFor || over.Freezes < before+1 {
		t.Errorf("after it %+v, while it lasted %+v", over, d)
	}

	quiet := func(what string, begin, end func()) {
		t.Helper()
		begin()
		was, _ := deliveryOf(b, "TR_v")
		src.Pause()
		silence := func(d sfu.Delivery) bool { return d.Recent.Span > 0 && d.Recent.Packets == 0 }
		if d := awaitDelivery(t, b, "TR_v", "silence", silence); d.Freezes != was.Freezes {
			t.Errorf("%s: counted as a freeze: %+v", what, d)
		}
		end()
		src.Resume()
		if d := plays(what + " is over"); d.Freezes > was.Freezes {
			t.Errorf("%s: counted as a freeze afterwards: %+v", what, d)
		}
	}
	quiet("a mute", func() { a.Participant.SetMuted("TR_v", true) }, func() { a.Participant.SetMuted("TR_v", false) })
	quiet("a pause", func() { b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: 2, Disabled: true}) },
		func() { b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: 2}) })

	b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: 0})
	awaitDelivery(t, b, "TR_v", "small picture", func(d sfu.Delivery) bool { return d.Sent == 0 && d.Wish == 0 && d.Best == 2 })
}

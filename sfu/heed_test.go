package sfu

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
)

// simulcast is a camera in three layers on a stage.
type simulcast struct {
	*stage
	pub   *publication
	subs  []*subscription
	sinks []*recorder
	feeds []*feed
	now   time.Duration
}

// newSimulcast has as many watch it, a third of them each layer.
func newSimulcast(t testing.TB, viewers int) *simulcast {
	c := &simulcast{stage: newStage(t)}
	c.now = c.server.now()
	c.pub = c.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
	for i, rid := range []string{"q", "h", "f"} {
		c.feeds = append(c.feeds, &feed{ssrc: uint32(7 + i), pt: 96, mid: "0", rid: rid})
	}
	for i := range viewers {
		s, r := c.subscribe(c.pub, fmt.Sprintf("PA_%d", i), videoSection("0"))
		s.configure(SubscriptionSettings{Quality: uint8(i % 3)}, c.now)
		c.subs, c.sinks = append(c.subs, s), append(c.sinks, r)
	}
	c.picture(true, 1)
	c.picture(true, 1)
	return c
}

// picture sends one of every layer, in so many packets.
func (c *simulcast) picture(key bool, packets int) {
	c.now += 33 * time.Millisecond
	for i := range c.feeds {
		c.layer(i, key, packets)
	}
}

// layer sends one layer's part of it.
func (c *simulcast) layer(i int, key bool, packets int) {
	v := c.feeds[i]
	v.timestamp += 3000
	v.picture++
	for n := range packets {
		c.in.one(v.packet(v.vp8(n == 0, key), n == packets-1), c.now)
	}
}

// expect checks what a subscription heeds.
func (c *simulcast) expect(what string, i int, want uint32) {
	c.t.Helper()
	if got := c.subs[i].heeded.Load(); got != want {
		c.t.Errorf("%s: %08b is heeded, want %08b", what, got, want)
	}
}

// TestALayerReachesThoseWhoHeedIt: who follows one layer is handed no other, but hears of the one that it waits for.
func TestALayerReachesThoseWhoHeedIt(t *testing.T) {
	c := newSimulcast(t, 3)
	for i := range c.subs {
		c.expect("at first", i, 1<<i)
	}
	s, sink := c.subs[0], c.sinks[0]
	set := func(set SubscriptionSettings) { s.configure(set, c.now) }
	layer := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.out.forwarder.Current() }

	set(SubscriptionSettings{Quality: 2})
	c.expect("on the way up", 0, 0b101)
	before := sink.n
	c.picture(false, 3)
	if sink.n != before+3 || layer() != 0 {
		t.Errorf("%d packets before the keyframe, of layer %d", sink.n-before, layer())
	}
	c.layer(2, true, 1)
	if c.expect("above", 0, 0b100); layer() != 2 {
		t.Errorf("layer %d after the keyframe", layer())
	}

	set(SubscriptionSettings{Quality: 2, Disabled: true})
	c.expect("disabled", 0, 0)
	before = sink.n
	c.picture(true, 1)
	if sink.n != before {
		t.Error("packets while it is disabled")
	}
	set(SubscriptionSettings{Quality: 2})
	c.expect("enabled", 0, forward.EveryLayer)
	c.layer(2, false, 1) // no place to begin
	c.layer(1, true, 1)
	c.expect("enabled, and below", 0, 0b110)
	c.layer(2, true, 1)
	c.expect("enabled, and there", 0, 0b100)

	c.pub.setMuted(true)
	c.expect("muted", 0, 0)
	c.pub.setMuted(false)
	c.expect("unmuted", 0, forward.EveryLayer)
	c.picture(true, 1)
	c.picture(true, 1)
	c.expect("unmuted, and there", 0, 0b100)

	// The source begins anew: whoever followed it waits.
	c.feeds[2].ssrc += 100
	c.layer(2, false, 1)
	c.expect("a new source", 0, forward.EveryLayer)
	c.layer(2, true, 1)
	c.expect("a new source's keyframe", 0, 0b100)

	s.out.shed.Store(true)
	c.layer(1, false, 1)
	c.expect("shed", 0, 0b100) // nobody has told it yet
	c.layer(2, false, 1)
	c.expect("shed, and told", 0, forward.EveryLayer)

	s.end()
	c.expect("ended", 0, 0)
}

// TestWhatWasShedIsNotSentAgain, to one who is paused as little as to others.
func TestWhatWasShedIsNotSentAgain(t *testing.T) {
	c := newSimulcast(t, 1)
	c.picture(false, 1)
	s := c.subs[0]
	newest := s.out.newest
	s.nacked([]uint16{newest}, c.now)
	s.out.shed.Store(true)
	s.configure(SubscriptionSettings{Disabled: true}, c.now)
	c.picture(false, 1)
	s.nacked([]uint16{newest - 1}, c.now)
	if out := s.snapshot(); out.Resent != 1 || out.Unknown != 1 {
		t.Errorf("%d were sent again, %d unknown", out.Resent, out.Unknown)
	}
}

// TestTheNextCodecIsHeeded: until it takes over, the layers of two codecs are handed to a subscription.
func TestTheNextCodecIsHeeded(t *testing.T) {
	st := newStage(t)
	cfg := PublicationConfig{ID: "TR_v", CID: "cid-0", Kind: Video, MimeType: "video/VP9", Policy: EveryCodec,
		Backups: []CodecConfig{{MimeType: "video/VP8", CID: "cid-1"}}}
	if err := st.pub.Publish(cfg); err != nil {
		t.Fatal(err)
	}
	vp8, vp9 := videoSection("1", "q", "h", "f"), videoSection("0", "q", "h", "f")
	vp9.payloads = []payload{{pt: 98, kind: codec.VP9, clock: 90000, nack: true}}
	bind := func(s section) {
		st.pub.tracks.sections = append(st.pub.tracks.sections, s)
		st.in.describe(st.pub.tracks.sections)
		st.pub.follow(st.pub.bind())
	}
	bind(vp8)
	both := videoSection("0")
	both.payloads = slices.Concat(vp9.payloads, both.payloads)
	s, sink := st.subscribe(st.pub.tracks.byID["TR_v"], "PA_a", both)
	now := st.server.now()
	send := func(f *feed, payload []byte) (sent int) {
		before := sink.n
		now += 33 * time.Millisecond
		f.timestamp += 3000
		f.picture++
		st.in.one(f.packet(payload, true), now)
		return sink.n - before
	}
	check := func(what string, want uint32) {
		t.Helper()
		if got := s.heeded.Load(); got != want {
			t.Errorf("%s: %08b is heeded, want %08b", what, got, want)
		}
	}
	old, next := feed{ssrc: 7, pt: 96, mid: "1", rid: "f"}, feed{ssrc: 8, pt: 98, mid: "0", rid: "h"}
	send(&old, old.vp8(true, true)) // the layer is there
	send(&old, old.vp8(true, true))
	check("the backup", 0b0100<<forward.MaxLayers)
	bind(vp9)
	// RFC 9628 section 4.2: B begins a frame, P says that it depends on others.
	const b, p = 0x08, 0x40
	send(&next, []byte{b | p, 1, 2})
	check("both", 0b0100<<forward.MaxLayers|forward.EveryLayer)
	if send(&old, old.vp8(true, false)) != 1 || send(&next, []byte{b | p, 1, 2}) != 0 {
		t.Error("the next codec began without a keyframe")
	}
	if send(&next, []byte{b, 1, 2}) != 1 {
		t.Error("the next codec's keyframe")
	}
	check("the first", 0b0010)
	if send(&old, old.vp8(true, true)) != 0 || send(&next, []byte{b | p, 1, 2}) != 1 {
		t.Error("the codec before goes on")
	}
}

// BenchmarkSimulcast is three layers of a video to subscriptions of which each follows one.
func BenchmarkSimulcast(b *testing.B) {
	for _, viewers := range []int{3, 30, 100, 150} {
		b.Run(fmt.Sprint(viewers), func(b *testing.B) {
			c := newSimulcast(b, viewers)
			before := 0
			for _, r := range c.sinks {
				before += r.n
			}
			const packets = 4
			received := 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				c.picture(false, packets)
				received += len(c.feeds) * packets
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(received), "ns/packet-received")
			sent := -before
			for _, r := range c.sinks {
				sent += r.n
			}
			if sent != received/3*viewers {
				b.Fatalf("%d packets were sent of %d, to %d", sent, received, viewers)
			}
		})
	}
}

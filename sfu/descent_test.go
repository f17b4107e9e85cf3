package sfu

import (
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/rtcp"
)

// link is a sink with a link of 20 Mbit/s behind it, which falls to bits per second at from, 30 ms one way, with a
// drop-tail queue. Its receiver asks again for what it misses, until a later keyframe is complete.
type link struct {
	now   *time.Duration
	from  time.Duration
	bits  float64
	queue time.Duration
	free  time.Duration // when all has been sent
	sent  []*carried
}

// carried is one packet of the stream.
type carried struct {
	at, out    time.Duration // out 0: not arrived
	asked      time.Duration
	sequence   uint16
	layer      byte
	first, key bool
	marker     bool
}

func (l *link) sendRun(run []segment) int {
	for _, g := range run {
		b := slices.Concat(g.header, g.prefix, g.payload)
		h, err := codec.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		v := h.Payload(b)
		var c *carried
		if h.SSRC >= 2000 { // RTX
			for _, o := range l.sent {
				if o.sequence == uint16(v[0])<<8|uint16(v[1]) {
					c = o
				}
			}
		} else {
			first := v[0]&0x10 != 0
			c = &carried{at: *l.now, sequence: h.Sequence, layer: v[7], first: first, key: first && v[6]&1 == 0, marker: h.Marker}
			l.sent = append(l.sent, c)
		}
		if l.free-*l.now > l.queue {
			continue
		}
		rate := 20e6
		if *l.now >= l.from {
			rate = l.bits
		}
		l.free = max(l.free, *l.now) + time.Duration(float64(len(b)+28)*8/rate*float64(time.Second))
		if c.out == 0 {
			c.out = l.free + 30*time.Millisecond
		}
	}
	return len(run)
}

// ask returns what the receiver asks for now.
func (l *link) ask() (list []uint16) {
	now := *l.now - 30*time.Millisecond // when the request left
	later, complete := false, false
	for i := len(l.sent) - 1; i >= 0 && *l.now-l.sent[i].at < 3*time.Second; i-- {
		c := l.sent[i]
		if c.out != 0 {
			later = later || c.out <= now
			complete = (complete || c.marker) && c.out <= now
			if c.key && complete {
				break
			}
			continue
		}
		complete = false
		if later && (c.asked == 0 || now-c.asked >= 100*time.Millisecond) {
			c.asked = now
			list = append(list, c.sequence)
		}
	}
	return list
}

// freeze returns the longest time for which the picture stands still after from. A frame is shown when all of it has come,
// and all since the keyframe, unless a later one has been.
func (l *link) freeze() (longest time.Duration) {
	var shown []time.Duration
	ready, whole := time.Duration(0), true
	for _, c := range l.sent {
		if c.key {
			ready, whole = 0, true
		}
		whole = whole && c.out != 0
		if ready = max(ready, c.out); c.marker && whole {
			shown = append(shown, ready)
		}
	}
	last := *l.now
	for i := len(shown) - 1; i >= 0 && last > l.from; i-- {
		if shown[i] < last {
			longest = max(longest, last-max(shown[i], l.from))
			last = shown[i]
		}
	}
	return longest
}

// A link falls to 500 kbit/s, with a queue of 300 ms. The estimate follows a little later.
func TestTheWayDownIsShort(t *testing.T) {
	for _, answer := range []time.Duration{60 * time.Millisecond, 160 * time.Millisecond} {
		for _, late := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
			worst, most, lost := time.Duration(0), time.Duration(0), 0
			for offset := range 4 {
				h := newHall(t)
				c := h.camera("c", false, 150, 500, 1700)
				c.answer = answer
				v := h.viewer("v")
				l := &link{now: &h.now, from: time.Hour, bits: 500_000, queue: 300 * time.Millisecond}
				v.out.sink = l
				s := v.watch(c.pub, large)
				h.pass(4*time.Second + time.Duration(offset)*time.Second/30)
				v.expect("before", 2)
				l.from = h.now
				h.each = func() {
					if list := l.ask(); len(list) > 0 {
						s.nacked(list, h.now)
					}
				}
				h.pass(late)
				v.p.budget(h.now, 420_000)
				h.pass(3 * time.Second)
				if got := v.layers(); got[0] == 2 || got[0] < 0 {
					t.Errorf("layer %d is forwarded afterwards", got[0])
				}
				worst, most = max(worst, l.freeze()), max(most, l.free-h.now)
				for _, c := range l.sent {
					if c.out == 0 {
						lost++
					}
				}
			}
			t.Logf("keyframe after %v, estimate after %v: no picture for %v at most, queue of %v in the end, %d lost", answer, late, worst, most, lost)
			if worst > 700*time.Millisecond || most > 100*time.Millisecond {
				t.Errorf("no picture for %v, queue of %v in the end", worst, most)
			}
		}
	}
}

// A stream of several layers goes down at its next picture where it can, and else as simulcast does.
func TestStreamsOfLayersGoDownToo(t *testing.T) {
	for _, mode := range []string{"L3T3", "L3T3_KEY"} {
		h := newHall(t)
		p, in, _ := h.newcomer("PA_s")
		keyframe := time.Duration(1)
		keyframes := 0
		in.write = func(list []rtcp.Packet) {
			for _, p := range list {
				if _, ok := p.(*rtcp.PictureLossIndication); ok && keyframe == 0 {
					keyframe = h.now + 60*time.Millisecond
				}
			}
		}
		pub := h.announce(p, in, PublicationConfig{ID: "TR_s", CID: "cid-0", Kind: Video}, av1Section("0", 6))
		f := newAV1Feed(mode, 6)
		f.pad = 400
		h.each = func() {
			key := keyframe != 0 && h.now >= keyframe
			if key {
				keyframe = 0
				keyframes++
			}
			for _, b := range f.picture(key) {
				in.one(b, h.now)
			}
		}
		v := h.viewer("v")
		s := v.watch(pub, large)
		check := func(what string, spatial, temporal int) {
			t.Helper()
			if got := s.snapshot(); got.Spatial != spatial || got.Temporal != temporal {
				t.Fatalf("%s, %s: S%d T%d, want S%d T%d: %+v", mode, what, got.Spatial, got.Temporal, spatial, temporal, pub.offers.offer.layers)
			}
		}
		h.pass(4 * time.Second)
		check("all", 2, 2)
		o := pub.offer(h.now)
		if o.spatials != 3 || o.layers[1].Width != 640 || o.cost(2, 2) <= o.cost(1, 2) || o.cost(2, 2) <= o.cost(2, 1) || o.layers[2].Temporal[1].FPS != 15 {
			t.Errorf("%s: offers %+v", mode, o)
		}
		before := keyframes
		v.p.budget(h.now, o.cost(2, 1)+1000) // frame rates go down at once
		h.pass(100 * time.Millisecond)
		check("fewer frames", 2, 1)
		if keyframes != before {
			t.Errorf("%s: a keyframe for less frames", mode)
		}
		v.p.budget(h.now, o.cost(0, 1)+1000)
		h.now += descentCheck
		v.p.sharing.tick(h.now)
		h.pass(200 * time.Millisecond)
		check("lowest", 0, 1)
		if mode == "L3T3" && keyframes != before {
			t.Errorf("%s: %d keyframes on the way down", mode, keyframes-before)
		}
		v.p.budget(h.now, 10*o.cost(2, 2))
		h.pass(6 * time.Second)
		check("all again", 2, 2)
		s.configure(SubscriptionSettings{Width: 640, Height: 360, FPS: 15}, h.now)
		h.pass(200 * time.Millisecond)
		check("by settings", 1, 1)
		if len(v.told) != 0 {
			t.Errorf("%s: told %+v", mode, v.told)
		}
	}
}

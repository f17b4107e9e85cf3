package forward

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"
)

// sentPacket is one packet as the receiver gets it.
type sentPacket struct {
	content  content
	out      int64 // outgoing sequence number, extended
	decision Decision
	capture  time.Duration
}

// receiver checks what leaves the forwarder.
type receiver struct {
	t         *testing.T
	source    []*layerSource
	sent      []sentPacket
	bySeq     map[int64]content
	byContent map[content]bool
	highest   int64
	fills     map[int64]bool
}

func newReceiver(t *testing.T, source []*layerSource) *receiver {
	return &receiver{t: t, source: source, bySeq: map[int64]content{}, byContent: map[content]bool{}, fills: map[int64]bool{}}
}

func (c *receiver) take(e *event, d Decision) {
	c.t.Helper()
	if d.Action == Drop {
		return
	}
	out := int64(d.Sequence) + 1<<20
	if len(c.sent)+len(c.fills) > 0 {
		out = c.highest + int64(int16(d.Sequence-uint16(c.highest)))
	}
	c.highest = max(c.highest, out)
	if other, used := c.bySeq[out]; used {
		c.t.Fatalf("sequence number %d stands for %+v and for %+v", d.Sequence, other, e.content)
	}
	c.bySeq[out] = e.content
	if c.byContent[e.content] {
		c.t.Fatalf("%+v sent twice", e.content)
	}
	c.byContent[e.content] = true
	if d.Action == Fill {
		c.fills[out] = true
		return
	}
	if e.packet.PaddingOnly {
		c.t.Fatalf("padding %+v sent as a packet", e.content)
	}
	if d.Marker != e.packet.Marker {
		c.t.Fatalf("marker of %+v changed", e.content)
	}
	c.sent = append(c.sent, sentPacket{e.content, out, d, c.source[e.layer].frames[e.content.frame].capture})
}

type frameKey struct {
	layer int
	epoch uint32
	frame int
}

// outFrame is what the receiver sees of one frame.
type outFrame struct {
	frameKey
	first, last int64 // sequence numbers
	packets     int
	timestamp   uint32
	picture     uint16
	tl0         uint8
	temporal    uint8
	capture     time.Duration
	started     bool
	keyframe    bool
}

// frames groups by frame, in outgoing order, checking that a frame's packets agree.
func (c *receiver) frames() []outFrame {
	c.t.Helper()
	slices.SortFunc(c.sent, func(a, b sentPacket) int { return cmp.Compare(a.out, b.out) })
	index := map[frameKey]int{}
	var list []outFrame
	for _, s := range c.sent {
		k := frameKey{s.content.layer, s.content.epoch, s.content.frame}
		i, ok := index[k]
		if !ok {
			i = len(list)
			index[k] = i
			f := &c.source[k.layer].frames[k.frame]
			list = append(list, outFrame{frameKey: k, first: s.out, timestamp: s.decision.Timestamp, picture: s.decision.PictureID,
				tl0: s.decision.TL0, temporal: f.temporal, capture: s.capture, keyframe: f.key})
		}
		f := &list[i]
		if f.timestamp != s.decision.Timestamp || f.picture != s.decision.PictureID || f.tl0 != s.decision.TL0 {
			c.t.Fatalf("packets of frame %+v disagree: %+v and %+v", k, *f, s.decision)
		}
		if i != len(list)-1 {
			c.t.Fatalf("packets of frame %+v are mixed with those of %+v", k, list[len(list)-1].frameKey)
		}
		f.last = s.out
		f.packets++
		f.started = f.started || s.decision.Started
	}
	return list
}

// checkOrder checks what must hold whatever was lost: timestamps and picture ids move forward from frame to frame.
func (c *receiver) checkOrder(list []outFrame) {
	c.t.Helper()
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if int32(b.timestamp-a.timestamp) <= 0 {
			c.t.Fatalf("timestamp %d after %d: %+v after %+v", b.timestamp, a.timestamp, b, a)
		}
		if d := (b.picture - a.picture) & 0x7fff; d == 0 || d > 0x4000 {
			c.t.Fatalf("picture id %d after %d: %+v after %+v", b.picture, a.picture, b, a)
		}
		if d := b.tl0 - a.tl0; d > 128 || b.temporal == 0 && d == 0 {
			c.t.Fatalf("TL0PICIDX %d after %d: %+v after %+v", b.tl0, a.tl0, b, a)
		}
		if a.layer != b.layer && !b.started {
			c.t.Fatalf("layer changed without a start: %+v after %+v", b, a)
		}
		if b.started && !b.keyframe {
			c.t.Fatalf("started at %+v, not a keyframe", b)
		}
	}
	if len(list) > 0 && (!list[0].started || !list[0].keyframe) {
		c.t.Fatalf("the first frame is %+v", list[0])
	}
}

// checkComplete checks what must hold when nothing stays lost: no hole in the numbers, picture ids one by one, no frame
// in part (but for the one that a switch cut off), and every frame's references sent.
func (c *receiver) checkComplete(list []outFrame) {
	c.t.Helper()
	numbers := make([]int64, 0, len(c.bySeq))
	for n := range c.bySeq {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			c.t.Fatalf("hole between %d (%+v) and %d (%+v)", numbers[i-1], c.bySeq[numbers[i-1]], numbers[i], c.bySeq[numbers[i]])
		}
	}
	seen := map[frameKey]bool{}
	for i, f := range list {
		cut := i == len(list)-1 || list[i+1].started
		source := &c.source[f.layer].frames[f.frame]
		if f.packets != source.packets && !cut {
			c.t.Fatalf("%d of %d packets of %+v", f.packets, source.packets, f)
		}
		for _, r := range source.references {
			if !seen[frameKey{f.layer, f.epoch, r}] {
				c.t.Fatalf("frame %+v refers to frame %d, which wasn't sent", f, r)
			}
		}
		seen[f.frameKey] = true
	}
}

// scenario is one random call.
type scenario struct {
	net      network
	layers   int
	paddings bool
	switches bool // of layer
	temporal bool
	pauses   bool
	restarts bool
	reports  bool // sender reports are there from the beginning
	length   time.Duration
}

func (s scenario) run(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	sources := make([]*layerSource, s.layers)
	for i := range sources {
		sources[i] = newLayerSource(r, i)
	}
	in := &ingest{}
	if s.reports {
		in.timelines = NewTimeline(90000)
	}
	f := newFed(Config{Kind: codec.VP8, Sequence: uint16(r.Uint32()), Timestamp: r.Uint32()})
	if r.IntN(2) == 0 {
		f = newFed(Config{Kind: codec.VP8, Sequence: 0xffff - uint16(r.IntN(40)), Timestamp: ^uint32(r.IntN(90000))})
	}
	f.SetTarget(r.IntN(s.layers), r.IntN(3))
	check := newReceiver(t, sources)
	var pending []event
	keyAt := make([]time.Duration, s.layers)
	paused, muted := false, false
	deliver := func(until time.Duration) {
		n := 0
		for ; n < len(pending) && pending[n].at <= until; n++ {
			e := &pending[n]
			p, ok := in.packet(e)
			if !ok {
				continue
			}
			before := f.Current()
			d := f.Forward(p)
			if (paused || muted) && d.Action != Drop {
				t.Fatalf("sent %+v while stopped", e.content)
			}
			if d.Action != Drop && before != f.Current() && !d.Started {
				t.Fatalf("began to follow layer %d without saying so", f.Current())
			}
			if d.NeedKeyframe && keyAt[d.KeyframeLayer] == 0 {
				keyAt[d.KeyframeLayer] = e.at + 60*time.Millisecond
			}
			check.take(e, d)
		}
		pending = slices.Delete(pending, 0, n)
	}
	for now := time.Second; now < time.Second+s.length; now += 33333 * time.Microsecond {
		var events []event
		for i, src := range sources {
			if s.restarts && r.IntN(120) == 0 {
				src.epoch++
				src.restart(r)
				if in.timelines != nil && src.epoch > 0 {
					in.timelines.Reset(uint8(i))
				}
			}
			if keyAt[i] != 0 && now >= keyAt[i] {
				src.wantKey, keyAt[i] = true, 0
			}
			if in.timelines != nil {
				in.timelines.Report(uint8(i), src.offset+uint32(now*90/time.Millisecond), now)
			}
			events = src.frame(r, now, s.paddings, events)
		}
		pending = append(pending, s.net.carry(r, events)...)
		slices.SortStableFunc(pending, func(a, b event) int { return cmp.Compare(a.at, b.at) })
		if s.switches && r.IntN(30) == 0 {
			f.SetTarget(r.IntN(s.layers), int(f.temporal.target))
		}
		if s.temporal && r.IntN(20) == 0 {
			f.SetTarget(f.Target(), r.IntN(3))
		}
		if s.pauses && r.IntN(60) == 0 {
			paused = !paused
			f.SetPaused(paused)
		}
		if s.pauses && r.IntN(60) == 0 {
			muted = !muted
			f.SetMuted(muted)
		}
		deliver(now)
	}
	deliver(time.Hour)
	list := check.frames()
	check.checkOrder(list)
	if !s.pauses && len(list) < 10 {
		t.Fatalf("only %d frames were sent", len(list))
	}
	quiet := s.net.loss == 0 && s.net.reorder == 0
	if quiet || s.net.recover && !s.switches && !s.pauses && !s.restarts {
		check.checkComplete(list)
	}
	if quiet {
		if len(check.fills) > 0 {
			t.Fatalf("%d fills on a perfect network", len(check.fills))
		}
		for i := 1; i < len(list); i++ {
			if list[i].picture != (list[i-1].picture+1)&0x7fff {
				t.Fatalf("picture id %d after %d", list[i].picture, list[i-1].picture)
			}
		}
	}
	if s.reports && !s.restarts && len(list) > 0 {
		// The output is the capture time, whatever the layer: at most one tick off for each start, where two frames of one
		// instant had to differ, and one for rounding.
		starts := 0
		for _, o := range list {
			if o.started {
				starts++
			}
			want := list[0].timestamp + uint32((o.capture-list[0].capture)*90/time.Millisecond)
			if d := int32(o.timestamp - want); d < int32(-1-2*starts) || d > int32(1+2*starts) {
				t.Fatalf("timestamp of %+v is %d ticks off after %d starts", o, d, starts)
			}
		}
	}
}

func TestForwardProperties(t *testing.T) {
	perfect := network{}
	lossy := network{loss: 0.1, reorder: 0.2, duplicate: 0.05, recover: true}
	dead := network{loss: 0.15, reorder: 0.1, duplicate: 0.05}
	for _, test := range []struct {
		name string
		s    scenario
	}{
		{"perfect", scenario{net: perfect, layers: 1}},
		{"perfect with padding", scenario{net: perfect, layers: 1, paddings: true}},
		{"perfect with temporal layers", scenario{net: perfect, layers: 1, paddings: true, temporal: true}},
		{"perfect with switches", scenario{net: perfect, layers: 3, paddings: true, switches: true}},
		{"perfect with switches and reports", scenario{net: perfect, layers: 3, switches: true, temporal: true, reports: true}},
		{"perfect with everything", scenario{net: perfect, layers: 3, paddings: true, switches: true, temporal: true, pauses: true, restarts: true, reports: true}},
		{"recovered loss", scenario{net: lossy, layers: 1}},
		{"recovered loss with padding and temporal layers", scenario{net: lossy, layers: 1, paddings: true, temporal: true}},
		{"recovered loss with everything", scenario{net: lossy, layers: 3, paddings: true, switches: true, temporal: true, pauses: true, restarts: true}},
		{"loss for good", scenario{net: dead, layers: 1, paddings: true, temporal: true}},
		{"loss for good with everything", scenario{net: dead, layers: 3, paddings: true, switches: true, temporal: true, pauses: true, restarts: true, reports: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.s.length = 12 * time.Second
			seeds := uint64(40)
			if testing.Short() {
				seeds = 5
			}
			for seed := range seeds {
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { test.s.run(t, seed) }) {
					return
				}
			}
		})
	}
}

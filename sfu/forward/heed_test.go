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

// fed is a forwarder with the sources of its layers: what it is given is noted before, as the owner does.
type fed struct {
	*Forwarder
	sources [MaxLayers]Source
}

func newFed(cfg Config) *fed { return &fed{Forwarder: New(cfg)} }

func (f *fed) Forward(p *Packet) Decision {
	if p.Layer < MaxLayers {
		f.sources[p.Layer].Note(p)
	}
	return f.Forwarder.Forward(p)
}

func TestNote(t *testing.T) {
	var s Source
	for i, x := range []struct {
		sequence       uint64
		epoch          uint32
		sets, padding  bool
		newest, inBand bool
	}{
		{sequence: 10, newest: true},
		{sequence: 10},
		{sequence: 9},
		{sequence: 12, newest: true, padding: true, sets: true}, // a descriptor that isn't looked at
		{sequence: 11, sets: true, inBand: true},
		{sequence: 13, newest: true, inBand: true},
		{sequence: 14, epoch: 2, newest: true},
		{sequence: 99, epoch: 1}, // of the numbering before
		{sequence: 15, epoch: 2, newest: true},
	} {
		p := Packet{Sequence: x.sequence, Epoch: x.epoch, PaddingOnly: x.padding, Newest: !x.newest, InBand: !x.inBand,
			Descriptor: codec.Descriptor{ParameterSets: x.sets}}
		if s.Note(&p); p.Newest != x.newest || p.InBand != x.inBand {
			t.Errorf("packet %d: newest %v, in band %v", i, p.Newest, p.InBand)
		}
	}
}

func TestHeeds(t *testing.T) {
	key := func(layer uint8) func(*fed) {
		return func(f *fed) { f.Forward(video(layer, 10, 9000, true)) }
	}
	target := func(layer int) func(*fed) { return func(f *fed) { f.SetTarget(layer, AllTemporal) } }
	for _, x := range []struct {
		name  string
		steps []func(*fed)
		want  uint8
	}{
		{"nothing is wanted", nil, 0},
		{"nothing is sent", []func(*fed){target(1)}, EveryLayer},
		{"a layer below the target", []func(*fed){target(1), key(0)}, 0b0011},
		{"the target", []func(*fed){target(1), key(1)}, 0b0010},
		{"up", []func(*fed){target(0), key(0), target(2)}, 0b0101},
		{"up, and there", []func(*fed){target(0), key(0), target(2), key(2)}, 0b0100},
		{"down", []func(*fed){target(2), key(2), target(0)}, 0b0101},
		{"up and back", []func(*fed){target(0), key(0), target(2), target(0)}, 0b0001},
		{"no longer wanted", []func(*fed){target(1), key(1), target(-1)}, 0},
		{"wanted again", []func(*fed){target(1), key(1), target(-1), target(1)}, EveryLayer},
		{"paused", []func(*fed){target(1), key(1), func(f *fed) { f.SetPaused(true) }}, 0},
		{"muted", []func(*fed){target(1), key(1), func(f *fed) { f.SetMuted(true) }}, 0},
		{"paused and muted, and muted", []func(*fed){target(1), func(f *fed) { f.SetPaused(true); f.SetMuted(true); f.SetPaused(false) }}, 0},
		{"resumed", []func(*fed){target(1), key(1), func(f *fed) { f.SetPaused(true); f.SetPaused(false) }}, EveryLayer},
		{"begun anew", []func(*fed){target(1), key(1), func(f *fed) { f.Restart() }}, EveryLayer},
		{"the source began anew", []func(*fed){target(1), key(1), func(f *fed) {
			p := video(1, 1<<18, 9000, false)
			p.Epoch = 1
			f.Forward(p)
		}}, EveryLayer},
		{"too much lost", []func(*fed){target(1), key(1), func(f *fed) { f.Forward(video(1, 11+videoWindow, 9000, false)) }}, EveryLayer},
		{"the highest layer", []func(*fed){target(MaxLayers), key(MaxLayers - 1)}, 1 << (MaxLayers - 1)},
	} {
		f := newVideo()
		for _, step := range x.steps {
			step(f)
		}
		if got := f.Heeds(); got != x.want {
			t.Errorf("%s: %04b, want %04b", x.name, got, x.want)
		}
	}
	a := newFed(Config{Kind: codec.Opus})
	if a.Heeds()&1 == 0 {
		t.Error("audio that nothing was sent of")
	}
	if a.Forward(audio(1, 960, 0)); a.Heeds() != 1 {
		t.Error("audio")
	}
	if a.SetMuted(true); a.Heeds() != 0 {
		t.Error("audio that is muted")
	}
}

// TestHeededPacketsSuffice: a forwarder that is given only the packets that it heeds sends what one sends that is given all.
// Where its wishes take effect a packet late, it sends something else, but no less in order.
func TestHeededPacketsSuffice(t *testing.T) {
	for _, x := range []struct {
		name string
		net  network
	}{
		{"perfect", network{}},
		{"recovered loss", network{loss: 0.1, reorder: 0.2, duplicate: 0.05, recover: true}},
		{"loss for good", network{loss: 0.15, reorder: 0.1, duplicate: 0.05}},
	} {
		t.Run(x.name, func(t *testing.T) {
			seeds := 60
			if testing.Short() {
				seeds = 10
			}
			passed, skipped, sent := 0, 0, 0
			for seed := range seeds {
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
					p, s, n := heedfully(t, x.net, uint64(seed))
					passed, skipped, sent = passed+p, skipped+s, sent+n
				}) {
					return
				}
			}
			if n := 150 * seeds; passed < n || skipped < n || sent < n {
				t.Errorf("%d packets were passed, %d skipped, %d sent a packet late", passed, skipped, sent)
			}
		})
	}
}

func heedfully(t *testing.T, net network, seed uint64) (passed, skipped, sent int) {
	r := rand.New(rand.NewPCG(seed, 7))
	cfg := Config{Kind: codec.VP8, Sequence: uint16(r.Uint32()), Timestamp: r.Uint32()}
	all, some, late := New(cfg), New(cfg), New(cfg)
	layers := make([]*layerSource, 3)
	for i := range layers {
		layers[i] = newLayerSource(r, i)
	}
	in, sources, check := &ingest{}, [MaxLayers]Source{}, newReceiver(t, layers)
	var pending []event
	var keyAt [3]time.Duration
	heeded := uint8(0) // by late
	deliver := func(e *event) {
		p, ok := in.packet(e)
		if !ok {
			return
		}
		sources[p.Layer].Note(p)
		d, bit := all.Forward(p), uint8(1)<<p.Layer
		if some.Heeds()&bit != 0 {
			if got := some.Forward(p); got != d {
				t.Fatalf("%+v: %+v, want %+v", e.content, got, d)
			}
			passed++
		} else if skipped++; d.Action != Drop || d.Started {
			t.Fatalf("%+v isn't heeded: %+v", e.content, d)
		}
		if all.Current() != some.Current() {
			t.Fatalf("layer %d, want %d", some.Current(), all.Current())
		}
		if d.NeedKeyframe && some.Heeds()&bit != 0 && keyAt[d.KeyframeLayer] == 0 {
			keyAt[d.KeyframeLayer] = e.at + 60*time.Millisecond
		}
		if heeded&bit != 0 {
			check.take(e, late.Forward(p))
		}
		heeded = late.Heeds()
	}
	for now := time.Second; now < 13*time.Second; now += 33333 * time.Microsecond {
		var events []event
		for i, src := range layers {
			if r.IntN(150) == 0 {
				src.epoch++
				src.restart(r)
			}
			if keyAt[i] != 0 && now >= keyAt[i] {
				src.wantKey, keyAt[i] = true, 0
			}
			events = src.frame(r, now, true, events)
		}
		pending = append(pending, net.carry(r, events)...)
		slices.SortStableFunc(pending, func(a, b event) int { return cmp.Compare(a.at, b.at) })
		if wish := wishes(r); wish != nil {
			for _, f := range []*Forwarder{all, some, late} {
				wish(f)
			}
		}
		n := 0
		for ; n < len(pending) && pending[n].at <= now; n++ {
			deliver(&pending[n])
		}
		pending = slices.Delete(pending, 0, n)
	}
	check.checkOrder(check.frames())
	return passed, skipped, len(check.sent)
}

// wishes returns what a subscriber or its allocation does now and then, nil for nothing.
func wishes(r *rand.Rand) func(*Forwarder) {
	layer, temporal, on := r.IntN(3), r.IntN(3), r.IntN(4) == 0
	switch r.IntN(120) {
	case 0, 1, 2, 3:
		return func(f *Forwarder) { f.SetTarget(layer, temporal) }
	case 4:
		return func(f *Forwarder) { f.SetTarget(none, 0) }
	case 5, 6:
		return func(f *Forwarder) { f.SetPaused(on) }
	case 7, 8:
		return func(f *Forwarder) { f.SetMuted(on) }
	case 9:
		return (*Forwarder).Restart
	}
	return nil
}

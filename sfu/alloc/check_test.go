package alloc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// vp8 are the layers of simulcast as a browser sends them: three sizes, three temporal layers each, bitrates in kbit/s.
func vp8(kbits ...uint32) (l Layers) {
	for i, k := range kbits {
		l[i].Width, l[i].Height = 320<<i, 180<<i
		for t, share := range []uint32{50, 70, 100} {
			l[i].Temporal[t] = Cell{Bitrate: k * 10 * share, FPS: 30 >> (2 - t), Live: k > 0}
		}
	}
	return l
}

// plain are the layers without temporal ones.
func plain(kbits ...uint32) (l Layers) {
	for i, k := range kbits {
		l[i].Width, l[i].Height = 320<<i, 180<<i
		l[i].Temporal[0] = Cell{Bitrate: k * 1000, FPS: 30, Live: k > 0}
	}
	return l
}

func camera(l Layers) Input { return Input{Kind: Video, Width: 1280, Height: 720, Layers: l} }

func microphone() Input {
	in := Input{Kind: Audio}
	in.Layers[0].Temporal[0] = Cell{Bitrate: 32000, Live: true}
	return in
}

// randomRoom returns subscriptions of every shape, liars among them.
func randomRoom(rnd *rand.Rand, n int) []Input {
	list := make([]Input, n)
	for i := range list {
		list[i] = randomInput(rnd)
	}
	return list
}

func randomInput(rnd *rand.Rand) Input {
	if rnd.IntN(4) == 0 {
		in := microphone()
		in.Layers[0].Temporal[0].Bitrate = uint32(6000 + rnd.IntN(60000))
		in.Layers[0].Temporal[0].Live = rnd.IntN(5) > 0
		in.Muted, in.Disabled = rnd.IntN(5) == 0, rnd.IntN(8) == 0
		return in
	}
	scale := uint32(50 + rnd.IntN(150))
	shapes := []Layers{vp8(150*scale/100, 500*scale/100, 1700*scale/100), vp8(150*scale/100, 500*scale/100),
		plain(150*scale/100, 500*scale/100, 1700*scale/100), plain(1700 * scale / 100), vp8(0, 0, 2500), vp8(0, 500), plain(0), {}}
	in := camera(shapes[rnd.IntN(len(shapes))])
	in.Source = Source(rnd.IntN(4))
	if rnd.IntN(6) == 0 {
		in.Priority = uint32(1 + rnd.IntN(6))
	}
	sizes := []uint32{0, 160, 320, 640, 1280, 1920}
	in.Width = sizes[rnd.IntN(len(sizes))]
	in.Height = in.Width * 9 / 16
	if rnd.IntN(4) == 0 {
		in.Width, in.Height = in.Height, in.Width
	}
	in.Quality = uint8(rnd.IntN(4))
	in.FPS = []uint32{0, 0, 0, 7, 15}[rnd.IntN(5)]
	in.Disabled, in.Muted = rnd.IntN(12) == 0, rnd.IntN(12) == 0
	if rnd.IntN(8) == 0 { // no sizes
		for i := range in.Layers {
			in.Layers[i].Width = 0
		}
	}
	if rnd.IntN(10) == 0 { // a liar
		for i := range in.Layers {
			in.Layers[i].Width, in.Layers[i].Height = rnd.Uint32(), rnd.Uint32()
			for t := range in.Layers[i].Temporal {
				in.Layers[i].Temporal[t] = Cell{Bitrate: rnd.Uint32() >> rnd.IntN(32), FPS: rnd.Uint32() >> rnd.IntN(32), Live: rnd.IntN(2) == 0}
			}
		}
	}
	return in
}

// fixture is an allocator whose every update is checked.
type fixture struct {
	t        testing.TB
	a        *Allocator
	subs     []*Subscription
	now      time.Duration
	results  []Result // as last told
	switches int      // of targets
}

func newFixture(t testing.TB, cfg Config, room []Input) *fixture {
	f := &fixture{t: t, a: New(cfg)}
	for _, in := range room {
		f.add(in)
	}
	return f
}

func (f *fixture) add(in Input) *Subscription {
	f.t.Helper()
	s, err := f.a.Add(in)
	if err != nil {
		f.t.Fatal(err)
	}
	f.subs = append(f.subs, s)
	f.results = append(f.results, s.Result())
	return s
}

// update lets time pass, updates, and checks everything that must hold at any time.
func (f *fixture) update(after time.Duration, estimate int64) {
	f.t.Helper()
	f.now += after
	changed := f.a.Update(f.now, estimate, nil)
	sum := f.a.Summary()
	used, audio, wanted := int64(0), int64(0), int64(0)
	paused := 0
	for i, s := range f.subs {
		r, in := s.Result(), &s.input
		was := f.results[i]
		if told := slices.Contains(changed, s); told != (was.Target != r.Target || was.Wanted != r.Wanted || was.Why != r.Why) {
			f.t.Fatalf("subscription %d: %+v after %+v, told %v", i, r, was, told)
		}
		if was.Target != r.Target {
			f.switches++
		}
		f.results[i] = r
		used += r.Bitrate
		off := in.Disabled || in.Muted
		if off != (r.Why == Disabled || r.Why == Muted) || off && (r.Target != None || r.Wanted != None) ||
			r.Target == None && r.Bitrate != 0 || r.Bitrate < 0 || r.Need < 0 {
			f.t.Fatalf("subscription %d: %+v of %+v", i, r, in)
		}
		if off {
			continue
		}
		if in.Kind == Audio {
			if r.Target != (Target{}) {
				f.t.Fatalf("audio %d is not forwarded: %+v", i, r)
			}
			audio += r.Bitrate
			wanted += r.Bitrate
			continue
		}
		live := 0
		best := int64(0)
		for l := range in.Layers {
			for t := range in.Layers[l].Temporal {
				if c := in.Layers[l].Temporal[t]; c.Live && c.Bitrate > 0 {
					live++
					if r.Why != Bandwidth && r.Target == (Target{int8(l), int8(t)}) {
						best = int64(c.Bitrate)
					}
				}
			}
		}
		if r.Why == Bandwidth {
			best = s.ladder[s.rungs-1].cost
		}
		wanted += best
		switch {
		case live == 0:
			if r.Target != None || r.Why != Unsent {
				f.t.Fatalf("subscription %d: %+v though nobody sends", i, r)
			}
		case r.Target == None:
			if !r.Paused() || r.Why.String() != "bandwidth" {
				f.t.Fatalf("subscription %d is paused and not told so: %+v", i, r)
			}
			paused++
		default:
			c := in.Layers[r.Target.Spatial].Temporal[r.Target.Temporal]
			if !c.Live || int64(c.Bitrate) != r.Bitrate {
				f.t.Fatalf("subscription %d: target %+v at %d, cell %+v", i, r.Target, r.Bitrate, c)
			}
			if r.Target.Spatial > r.Wanted.Spatial {
				for l := range r.Target.Spatial {
					if in.Layers[l].live() {
						f.t.Fatalf("subscription %d: layer %d though %d is wanted and %d is sent", i, r.Target.Spatial, r.Wanted.Spatial, l)
					}
				}
			}
			if r.Why == Full && r.Target != r.Wanted || r.Why == Full && s.better() {
				f.t.Fatalf("subscription %d: full with %+v of %+v", i, r, in)
			}
		}
	}
	if used != sum.Used || audio != sum.Audio || paused != sum.Paused || wanted != sum.Wanted {
		f.t.Fatalf("summary %+v, but used %d, audio %d, paused %d, wanted %d", sum, used, audio, paused, wanted)
	}
	if used > max(estimate, audio) {
		f.t.Fatalf("used %d of %d, audio %d", used, estimate, audio)
	}
	f.starvation(min(f.a.recent.low, f.a.recent.before))
	// The same again: nothing changes.
	if again := f.a.Update(f.now, estimate, nil); len(again) != 0 || f.a.Summary().Used != used {
		f.t.Fatalf("unchanged inputs changed %d targets, %d to %d bit/s", len(again), used, f.a.Summary().Used)
	}
	f.a.summary = sum
}

// starvation checks that who is kept at a rung couldn't have the next even if every equal were kept as low. The estimate
// is the lowest of late.
func (f *fixture) starvation(estimate int64) {
	f.t.Helper()
	var higher [257]int64 // by class: what those before it cost
	for _, s := range f.subs {
		if s.rungs > 0 {
			higher[int(s.input.class())+1] += s.cost(s.rung)
		}
	}
	for c := 1; c < len(higher); c++ {
		higher[c] += higher[c-1]
	}
	for i, s := range f.subs {
		if s.rungs == 0 || s.rung+1 == s.rungs || s.waits(f.now, f.a.hold, estimate) {
			continue
		}
		quality := int32(0)
		if s.rung >= 0 {
			quality = s.ladder[s.rung].quality
		}
		total := f.a.summary.Audio + higher[s.input.class()]
		for _, e := range f.subs {
			if e.rungs == 0 || e.input.class() != s.input.class() {
				continue
			}
			// As far as e climbs before s's next turn.
			at := int8(-1)
			for at < e.rung && (at < 0 || e.ladder[at].quality <= quality) {
				at++
			}
			total += e.cost(at)
		}
		if total += s.price(); total <= f.a.cfg.spacious(estimate) {
			f.t.Fatalf("subscription %d of class %d starves at rung %d of %d: its next would make %d of %d", i, s.input.class(),
				s.rung, s.rungs, total, estimate)
		}
	}
}

// steps returns which rungs are taken, in the order in which they were tried: the class, the quality without it, held
// ones first, then the power of two of the price, then the order of adding. held is what each held before.
func (f *fixture) steps(held []int8) (taken []bool, names []string) {
	type step struct {
		class, fresh, bucket, index int
		quality                     int32
		taken                       bool
	}
	var list []step
	for i, s := range f.subs {
		for r := range s.rungs {
			st := step{class: int(s.input.class()), index: i, taken: r <= s.rung}
			below := int64(0)
			if r > 0 {
				st.quality, below = s.ladder[r-1].quality, s.ladder[r-1].cost
			}
			if r > held[i] {
				st.fresh = 1
			}
			for price := s.ladder[r].cost - below; price > 0; price /= 2 {
				st.bucket++
			}
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b step) int {
		return slices.Compare([]int{a.class, int(a.quality), a.fresh, a.bucket, a.index},
			[]int{b.class, int(b.quality), b.fresh, b.bucket, b.index})
	})
	for _, st := range list {
		taken = append(taken, st.taken)
		names = append(names, fmt.Sprintf("%+v", st))
	}
	return taken, names
}

// worse returns the first step in which b is worse than a, "" if none is before one in which it is better.
func worse(a, b []bool, names []string) string {
	for i := range a {
		if a[i] != b[i] {
			if a[i] {
				return names[i]
			}
			return ""
		}
	}
	return ""
}

func (f *fixture) held() []int8 {
	var list []int8
	for _, s := range f.subs {
		list = append(list, s.rung)
	}
	return list
}

package alloc

import (
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

// settle is longer than any wait.
const settle = time.Minute

// TestSweep lets the bandwidth rise from 0 to 20 Mbit/s and fall back, in many rooms.
func TestSweep(t *testing.T) {
	rooms := 40
	if testing.Short() {
		rooms = 10
	}
	for seed := range uint64(rooms) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		f := newFixture(t, Config{}, randomRoom(rnd, 1+rnd.IntN(60)))
		var estimates []int64
		for e := int64(0); e < 20e6; e += 1 + rnd.Int64N(600e3) {
			estimates = append(estimates, e)
		}
		for i, e := range estimates {
			var before []int8
			if i > 0 {
				before = f.held()
			}
			f.update(settle, e)
			if i == 0 {
				continue
			}
			// Risen slowly, bandwidth takes nothing away that isn't spent on something that goes before.
			now, names := f.steps(before)
			was := f.taken(before, before)
			if s := worse(was, now, names); s != "" {
				t.Fatalf("seed %d: %d bit/s is worse than %d by %s", seed, e, estimates[i-1], s)
			}
		}
		for i := len(estimates) - 1; i >= 0; i-- {
			before := f.held()
			f.update(settle, estimates[i])
			// Fallen, nobody gets more in the moment of falling.
			for k, s := range f.subs {
				if s.rungs > 0 && f.now < f.a.hold && s.rung > before[k] {
					t.Fatalf("seed %d: subscription %d climbs while the bandwidth falls to %d", seed, k, estimates[i])
				}
			}
		}
		for i, s := range f.subs {
			if s.rungs > 0 && s.Result().Target != None {
				t.Fatalf("seed %d: subscription %d has %+v of no bandwidth", seed, i, s.Result())
			}
		}
	}
}

// taken is steps with every subscription at the rung given.
func (f *fixture) taken(held, at []int8) []bool {
	now := f.held()
	for i, s := range f.subs {
		s.rung = at[i]
	}
	list, _ := f.steps(held)
	for i, s := range f.subs {
		s.rung = now[i]
	}
	return list
}

// TestMonotone compares first allocations: of two estimates the higher gives the better set, and what Summary.Need names
// is the very bit at which the next improvement comes.
func TestMonotone(t *testing.T) {
	for seed := range uint64(80) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		room := randomRoom(rnd, 1+rnd.IntN(30))
		none := make([]int8, len(room))
		for i := range none {
			none[i] = -1
		}
		var before []bool
		for e := int64(0); e <= 20e6; {
			f := newFixture(t, Config{}, room)
			f.update(0, e)
			now, names := f.steps(none)
			if s := worse(before, now, names); before != nil && s != "" {
				t.Fatalf("seed %d: at %d worse by %s", seed, e, s)
			}
			before = now
			need := f.a.Summary().Need
			if need == 0 {
				if f.a.Summary().Used != f.a.Summary().Wanted {
					t.Fatalf("seed %d at %d: nothing is needed for %+v", seed, e, f.a.Summary())
				}
				break
			}
			for _, more := range []int64{need - 1, need} {
				g := newFixture(t, Config{}, room)
				g.update(0, e+more)
				next, _ := g.steps(none)
				better := worse(next, now, names) != ""
				if better != (more == need) {
					t.Fatalf("seed %d: %d more than %d improves: %v, needed %d", seed, more, e, better, need)
				}
			}
			if e += need; rnd.IntN(3) == 0 {
				e += rnd.Int64N(1e6)
			}
		}
	}
}

// TestClasses has the order of suffering: thumbnails, cameras, the speaker, the shared screen, and audio never.
func TestClasses(t *testing.T) {
	var room []Input
	for i := range 12 {
		in := camera(vp8(150, 500, 1700))
		in.Source = []Source{Thumbnail, Camera, Speaker, ScreenShare}[i%4]
		room = append(room, in, microphone())
	}
	f := newFixture(t, Config{}, room)
	f.update(0, 40e6)
	if s := f.a.Summary(); s.Used != s.Wanted || s.Need != 0 {
		t.Fatalf("%+v with bandwidth for all", s)
	}
	for e := int64(40e6); e >= 0; e -= 20e3 {
		f.update(settle, e)
		worst, best := [256]int64{}, [256]int64{}
		for c := range worst {
			worst[c] = 1 << 40
		}
		for _, s := range f.subs {
			if s.input.Kind == Video {
				c := s.input.class()
				worst[c] = min(worst[c], s.Result().Bitrate)
				best[c] = max(best[c], s.Result().Bitrate)
			}
		}
		for c := 2; c < 5; c++ {
			if worst[c] < best[c+1] {
				t.Fatalf("at %d: class %d has %d, class %d has %d", e, c, worst[c], c+1, best[c+1])
			}
		}
	}
}

// TestEquals: in a class of equal publications nobody is a layer above while another is paused for it.
func TestEquals(t *testing.T) {
	var room []Input
	for range 9 {
		room = append(room, camera(plain(150, 500, 1700)))
	}
	f := newFixture(t, Config{}, room)
	shown := 0
	for e := int64(0); e < 20e6; e += 10e3 {
		f.update(settle, e)
		low, high, n := int8(3), int8(-1), 0
		for _, s := range f.subs {
			r := s.Result()
			low, high = min(low, r.Target.Spatial), max(high, r.Target.Spatial)
			if r.Target != None {
				n++
			}
		}
		if high-low > 1 {
			t.Fatalf("at %d: layers from %d to %d", e, low, high)
		}
		if n < shown {
			t.Fatalf("at %d: %d are shown, %d were with less", e, n, shown)
		}
		shown = n
	}
	if shown != 9 || f.a.Summary().Need != 0 {
		t.Fatalf("%d shown, %+v", shown, f.a.Summary())
	}
}

package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// targets returns what every video has, like "1.2 0.0 –".
func (f *fixture) targets() string {
	out := ""
	for _, s := range f.subs {
		if s.input.Kind == Audio {
			continue
		}
		if out != "" {
			out += " "
		}
		if r := s.Result(); r.Target == None {
			out += "–"
		} else {
			out += fmt.Sprintf("%d.%d", r.Target.Spatial, r.Target.Temporal)
		}
	}
	return out
}

func (f *fixture) want(targets string) {
	f.t.Helper()
	if got := f.targets(); got != targets {
		f.t.Fatalf("at %v: %s, want %s; %+v", f.now, got, targets, f.a.Summary())
	}
}

func TestLadder(t *testing.T) {
	screen := func(in Input) Input { in.Source = ScreenShare; return in }
	sized := func(w, h uint32, in Input) Input { in.Width, in.Height = w, h; return in }
	fpsOf := func(n uint32, in Input) Input { in.FPS = n; return in }
	quality := func(q uint8, in Input) Input { in.Width, in.Quality = 0, q; return in }
	simulcast := camera(vp8(150, 500, 1700))
	unsized := quality(1, simulcast)
	for i := range unsized.Layers {
		unsized.Layers[i].Width = 0
	}
	bareRates := simulcast
	for i := range bareRates.Layers {
		for k := range bareRates.Layers[i].Temporal {
			bareRates.Layers[i].Temporal[k].FPS = 0
		}
	}
	cheapTop := simulcast
	cheapTop.Layers[2] = plain(0, 0, 200)[2]
	dead := simulcast
	dead.Layers[2].Temporal = [MaxTemporal]Cell{}
	for _, test := range []struct {
		name   string
		in     Input
		want   string
		why    Reason
		wanted Target
	}{
		{"a camera's resolution waits for motion", simulcast, "0.0 0.1 0.2 1.1 1.2 2.1 2.2", Full, Target{2, 2}},
		{"frame rates assumed", bareRates, "0.0 0.1 0.2 1.1 1.2 2.1 2.2", Full, Target{2, 2}},
		{"a shared screen's doesn't", screen(simulcast), "0.0 0.1 0.2 1.0 1.1 1.2 2.0 2.1 2.2", Full, Target{2, 2}},
		{"a thumbnail", sized(200, 113, simulcast), "0.0 0.1 0.2", Size, Target{0, 2}},
		{"a bit larger than a layer", sized(700, 390, simulcast), "0.0 0.1 0.2 1.1 1.2", Size, Target{1, 2}},
		{"much larger", sized(720, 405, simulcast), "0.0 0.1 0.2 1.1 1.2 2.1 2.2", Full, Target{2, 2}},
		{"turned", sized(360, 640, simulcast), "0.0 0.1 0.2 1.1 1.2", Size, Target{1, 2}},
		{"larger than all", sized(3840, 2160, simulcast), "0.0 0.1 0.2 1.1 1.2 2.1 2.2", Full, Target{2, 2}},
		{"a frame rate", fpsOf(15, simulcast), "0.0 0.1 1.1 2.1", Size, Target{2, 1}},
		{"a low frame rate", fpsOf(5, simulcast), "0.0 1.0 2.0", Size, Target{2, 0}},
		{"a frame rate nobody has", fpsOf(60, simulcast), "0.0 0.1 0.2 1.1 1.2 2.1 2.2", Full, Target{2, 2}},
		{"by quality", quality(1, simulcast), "0.0 0.1 0.2 1.1 1.2", Size, Target{1, 2}},
		{"no sizes known", unsized, "0.0 0.1 0.2 1.1 1.2", Size, Target{1, 2}},
		{"more quality than there is", quality(3, camera(plain(150, 500))), "0.0 1.0", Full, Target{1, 0}},
		{"one layer only", sized(200, 113, camera(plain(0, 0, 1700))), "2.0", Unsent, Target{0, 0}},
		{"the wanted one isn't sent", dead, "0.0 0.1 0.2 1.1 1.2", Unsent, Target{2, 3}},
		{"dearer and worse", cheapTop, "0.0 0.1 0.2 2.0", Full, Target{2, 0}},
		{"nobody sends", camera(plain(0, 0)), "", Unsent, Target{1, 0}},
		{"nothing known", quality(2, camera(Layers{})), "", Unsent, Target{2, 3}},
	} {
		f := newFixture(t, Config{}, []Input{test.in})
		f.update(0, 100e6)
		got := ""
		s := f.subs[0]
		for i := range s.rungs {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%d.%d", s.ladder[i].target.Spatial, s.ladder[i].target.Temporal)
		}
		if r := s.Result(); got != test.want || r.Why != test.why || r.Wanted != test.wanted {
			t.Errorf("%s: ladder %q, why %v, wanted %v; want %q, %v, %v", test.name, got, r.Why, r.Wanted, test.want, test.why, test.wanted)
		}
	}
}

func TestReasons(t *testing.T) {
	in := camera(plain(150, 500, 1700))
	f := newFixture(t, Config{}, []Input{in, microphone()})
	s, voice := f.subs[0], f.subs[1]
	f.update(0, 3e6)
	if r := s.Result(); r.Why != Full || r.Need != 0 || r.Bitrate != 1700e3 {
		t.Errorf("%+v", r)
	}
	f.update(time.Second, 1e6)
	// 1700 + 32 kbit/s of audio are 85 % of 2037646 bit/s.
	if r := s.Result(); r.Why != Bandwidth || r.Paused() || r.Need != 1037646 {
		t.Errorf("%+v", r)
	}
	f.update(time.Second, 20e3)
	if r := s.Result(); !r.Paused() || f.a.Summary().Paused != 1 {
		t.Errorf("%+v", r)
	}
	if r := voice.Result(); r.Target != (Target{}) || f.a.Summary().Used != 32e3 {
		t.Errorf("audio above the estimate: %+v", r)
	}
	f.update(time.Second, 3e6)
	if f.a.Summary().Waiting != 1 || f.a.Summary().Need != 0 {
		t.Errorf("waiting for time: %+v", f.a.Summary())
	}
	in.Muted = true
	s.Set(in)
	f.update(time.Second, 3e6)
	if r := s.Result(); r.Why != Muted || r.Paused() || f.a.Summary().Used != 32e3 {
		t.Errorf("%+v", r)
	}
	in.Disabled = true
	s.Set(in)
	off := microphone()
	off.Muted = true
	voice.Set(off)
	f.update(time.Second, 3e6)
	if r := s.Result(); r.Why != Disabled || f.a.Summary().Used != 0 || voice.Result().Target != None {
		t.Errorf("%+v %+v", r, voice.Result())
	}
	// Back at once: who has just asked for it needn't wait.
	in.Disabled, in.Muted = false, false
	s.Set(in)
	f.update(time.Second, 3e6)
	f.want("2.0")
	for r, want := range map[Reason]string{Full: "full", Muted: "muted", 99: "unknown"} {
		if r.String() != want {
			t.Errorf("reason %d is %q", r, r)
		}
	}
}

func TestPriorities(t *testing.T) {
	in := camera(plain(150, 500, 1700))
	share, first, last := in, in, in
	share.Source = ScreenShare
	first.Priority, last.Priority = 1, 4000
	f := newFixture(t, Config{}, []Input{last, in, share, first})
	f.update(0, 2.1e6)
	f.want("– – – 2.0")
	f.update(settle, 4.1e6)
	f.want("– – 2.0 2.0")
	f.update(settle, 6.1e6)
	f.want("– 2.0 2.0 2.0")
	// Who becomes the speaker is served at once, at the cost of another.
	speaker := in
	speaker.Source = Speaker
	f.subs[1].Set(speaker)
	share.Source = Thumbnail
	f.subs[2].Set(share)
	f.update(settle, 4.1e6)
	f.want("– 2.0 1.0 2.0")
	for _, test := range []struct {
		screen, speaking bool
		w, h             uint32
		want             Source
	}{{true, true, 100, 100, ScreenShare}, {false, true, 100, 100, Speaker}, {false, false, 180, 320, Thumbnail},
		{false, false, 640, 360, Camera}, {false, false, 0, 0, Camera}} {
		if got := SourceOf(test.screen, test.speaking, test.w, test.h); got != test.want {
			t.Errorf("%+v is %v", test, got)
		}
	}
}

// TestDearEqual: one that costs too much doesn't keep its equals from being shown, and is itself shown when all of them
// can be kept low for it.
func TestDearEqual(t *testing.T) {
	f := newFixture(t, Config{}, []Input{camera(plain(0, 0, 1700)), camera(plain(150, 500)), camera(plain(150, 500))})
	f.update(0, 400e3)
	f.want("– 0.0 0.0")
	f.update(settle, 2e6)
	f.want("– 1.0 1.0")
	f.update(settle, 2.4e6) // 85 % are 2040: 1700 + 2 × 150 fit
	f.want("2.0 1.0 0.0")   // what is held goes on as far as all of the 2.4 Mbit/s reach
}

func TestHysteresis(t *testing.T) {
	f := newFixture(t, Config{}, []Input{camera(plain(150, 500, 1700))})
	f.update(0, 2.1e6)
	f.want("2.0")
	// Kept as long as it fits.
	f.update(time.Minute, 1.7e6)
	f.want("2.0")
	// Down at once, and not up again at once.
	f.update(100*ms, 1.699e6)
	f.want("1.0")
	for range 19 {
		f.update(100*ms, 10e6)
		f.want("1.0")
	}
	f.update(100*ms, 10e6)
	f.want("2.0")
	// Failed soon after: twice the time, again and again, up to half a minute.
	for _, wait := range []time.Duration{4, 8, 16, 30, 30} {
		f.update(5*time.Second, 1e6)
		f.want("1.0")
		f.update(wait*time.Second-ms, 10e6)
		f.want("1.0")
		f.update(ms, 10e6)
		f.want("2.0")
	}
	// It lasts: forgiven.
	f.update(11*time.Second, 1e6)
	f.update(2*time.Second, 10e6)
	f.want("2.0")
	// Just enough isn't enough to climb.
	f.update(11*time.Second, 1e6)
	f.update(time.Hour, 1.9e6)
	f.want("1.0")
	f.update(time.Hour, 2e6)
	f.want("2.0")
	// When the layer goes, and when the bitrate jumps, the target follows at once.
	l := plain(150, 500, 0)
	f.subs[0].SetLayers(&l)
	f.update(100*ms, 2e6)
	f.want("1.0")
	l = plain(150, 2500, 2600)
	f.subs[0].SetLayers(&l)
	f.update(100*ms, 2e6)
	f.want("0.0")
	// The lowest layer stops and a higher one goes on: so does the video.
	l = plain(0, 500)
	f.subs[0].SetLayers(&l)
	f.update(100*ms, 520e3)
	f.want("1.0")
}

// TestSmallNoise: noise of ±3 % in the estimate and in every bitrate changes nothing once it is settled.
func TestSmallNoise(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		room := randomRoom(rnd, 1+rnd.IntN(20))
		estimate := rnd.Int64N(12e6)
		f := newFixture(t, Config{}, room)
		f.update(0, estimate)
		noisy := func() {
			for i, s := range f.subs {
				l := room[i].Layers
				all := 970 + rnd.Uint64N(61)
				for k := range l {
					for j := range l[k].Temporal {
						c := &l[k].Temporal[j]
						if c.Bitrate >= 1000 {
							c.Bitrate = uint32(min(uint64(c.Bitrate)*all/1000, 1<<32-1))
						}
					}
				}
				s.SetLayers(&l)
			}
			f.update(100*ms, estimate*(970+rnd.Int64N(61))/1000)
		}
		for range 400 {
			noisy()
		}
		if n := f.switches; n > 8*len(room) {
			t.Errorf("seed %d: %d switches of %d subscriptions to settle", seed, n, len(room))
		}
		f.switches = 0
		for range 600 {
			noisy()
		}
		if f.switches > 0 {
			t.Errorf("seed %d: %d switches in a minute of small noise, %s", seed, f.switches, f.targets())
		}
	}
}

// TestLargeNoise: an estimate that jumps by ±40 % five times per second is followed down, but not up again and again.
func TestLargeNoise(t *testing.T) {
	const minutes = 5
	most := 0.0
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		n := 1 + rnd.IntN(12)
		var room []Input
		for range n {
			room = append(room, camera(vp8(150, 500, 1700)))
		}
		estimate := 200e3 + rnd.Int64N(10e6)
		f := newFixture(t, Config{}, room)
		climbs := make([]int, n)
		before := f.held()
		for range minutes * 60 * 5 {
			f.update(200*ms, estimate*(600+rnd.Int64N(801))/1000)
			for i, s := range f.subs {
				if s.rung > before[i] {
					climbs[i]++
				}
			}
			before = f.held()
		}
		for i, c := range climbs {
			// A climb that failed within 10 s doubles the wait: 2+4+8+16 s, then 30 s at a time; one that lasted took 10 s.
			if limit := 6 + minutes*60/10; c > limit {
				t.Errorf("seed %d: subscription %d climbed %d times in %d minutes, at most %d are allowed", seed, i, c, minutes, limit)
			}
			most = max(most, float64(c)/minutes)
		}
	}
	t.Logf("at most %.1f climbs per minute and subscription under ±40 %% of noise", most)
}

// TestChanges lets people come, go, mute and resize while the estimate wanders, with every update checked.
func TestChanges(t *testing.T) {
	for seed := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		f := newFixture(t, Config{}, randomRoom(rnd, 10))
		estimate := rnd.Int64N(10e6)
		for range 300 {
			switch i := rnd.IntN(max(len(f.subs), 1)); rnd.IntN(6) {
			case 0:
				f.add(randomInput(rnd))
			case 1:
				if len(f.subs) > 0 {
					f.a.Remove(f.subs[i])
					f.a.Remove(f.subs[i])
					f.subs, f.results = slices.Delete(f.subs, i, i+1), slices.Delete(f.results, i, i+1)
				}
			case 2:
				if len(f.subs) > 0 {
					f.subs[i].Set(randomInput(rnd))
				}
			case 3:
				if len(f.subs) > 0 {
					l := randomInput(rnd).Layers
					f.subs[i].SetLayers(&l)
				}
			case 4:
				estimate = rnd.Int64N(20e6)
			}
			f.update(time.Duration(rnd.IntN(3000))*ms, estimate)
		}
	}
}

func TestLimits(t *testing.T) {
	a := New(Config{Headroom: 200})
	var changed []*Subscription
	for range MaxSubscriptions {
		in := camera(plain(1<<22-1, 1<<22-1))
		in.Layers[0].Temporal[0].Bitrate = 1<<32 - 1
		if _, err := a.Add(in); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Add(Input{}); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for i, e := range []int64{-1 << 63, -1, 0, 1<<63 - 1} {
		changed = a.Update(time.Duration(i)*time.Minute, e, changed[:0])
		if s := a.Summary(); s.Used > max(e, 0) {
			t.Errorf("%+v of %d", s, e)
		}
	}
	if len(changed) != MaxSubscriptions {
		t.Errorf("%d of %d are served by an estimate without limit", len(changed), MaxSubscriptions)
	}
}

// TestReproducible: the same events give the same results, bit for bit.
func TestReproducible(t *testing.T) {
	run := func() (out []Result) {
		rnd := rand.New(rand.NewPCG(9, 9))
		f := newFixture(t, Config{}, randomRoom(rnd, 50))
		for range 200 {
			f.update(time.Duration(rnd.IntN(1000))*ms, rnd.Int64N(20e6))
			for _, s := range f.subs {
				out = append(out, s.Result())
			}
		}
		return out
	}
	if !slices.Equal(run(), run()) {
		t.Error("two runs differ")
	}
}

// load is a room of n subscriptions and an estimate that changes with every update.
func load(tb testing.TB, n int) (round func()) {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	a := New(Config{})
	var subs []*Subscription
	for i := range n {
		in := camera(vp8(150, 500, 1700))
		in.Source = Source(rnd.IntN(4))
		if i%2 == 1 {
			in = microphone()
		}
		s, err := a.Add(in)
		if err != nil {
			tb.Fatal(err)
		}
		subs = append(subs, s)
	}
	changed := make([]*Subscription, 0, n)
	layers := [2]Layers{vp8(150, 500, 1700), vp8(160, 520, 1650)}
	i, now := 0, time.Duration(0)
	estimates := [4]int64{int64(n) * 300e3, int64(n) * 320e3, int64(n) * 200e3, int64(n) * 340e3}
	return func() {
		i++
		now += time.Second
		for k, s := range subs {
			if k%2 == 0 {
				s.SetLayers(&layers[(i/4+k)&1])
			}
		}
		changed = a.Update(now, estimates[i&3], changed[:0])
	}
}

func TestNoAllocation(t *testing.T) {
	round := load(t, MaxSubscriptions)
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per update", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 100, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			round := load(b, n)
			b.ReportAllocs()
			for b.Loop() {
				round()
			}
		})
	}
}

// FuzzUpdate reads events from bytes, and checks every update.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08"))
	f.Add([]byte{0, 9, 1, 0, 200, 3, 255, 2, 1, 1, 80, 5, 0, 0, 4, 100, 3, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		fx := newFixture(t, Config{}, nil)
		next := func() (b byte) {
			if len(data) > 0 {
				b, data = data[0], data[1:]
			}
			return b
		}
		number := func() uint32 { // of any size
			return uint32(next()) << (next() & 31)
		}
		input := func() (in Input) {
			in.Kind, in.Source = Kind(next()&1), Source(next())
			in.Priority, in.Width, in.Height, in.Quality, in.FPS = number(), number(), number(), next(), number()
			flags := next()
			in.Disabled, in.Muted = flags&1 != 0, flags&2 != 0
			for i := range flags >> 2 & 7 {
				l := &in.Layers[i%MaxSpatial]
				l.Width, l.Height = number(), number()
				for t := range l.Temporal {
					l.Temporal[t] = Cell{Bitrate: number(), FPS: number(), Live: next()&3 != 0}
				}
			}
			return in
		}
		for range 100 {
			switch op := next(); {
			case op < 80 && len(fx.subs) < 40:
				fx.add(input())
			case op < 120 && len(fx.subs) > 0:
				fx.subs[int(next())%len(fx.subs)].Set(input())
			case op < 140 && len(fx.subs) > 0:
				i := int(next()) % len(fx.subs)
				fx.a.Remove(fx.subs[i])
				fx.subs, fx.results = slices.Delete(fx.subs, i, i+1), slices.Delete(fx.results, i, i+1)
			default:
				fx.update(time.Duration(number())*time.Microsecond, int64(number()))
			}
		}
		fx.update(time.Second, 1e6)
	})
}

// TestEager: who is new takes what a growing estimate brings at once, until a first descent or the time is over.
func TestEager(t *testing.T) {
	in := camera(vp8(150, 500, 1700))
	f := newFixture(t, Config{Eager: 5 * time.Second}, []Input{in})
	f.update(0, 80_000)
	f.want("–")
	f.update(100*time.Millisecond, 500_000)
	f.want("1.1")
	f.update(100*time.Millisecond, 2_500_000)
	f.want("2.2")
	// Not after a descent.
	f.update(100*time.Millisecond, 1_000_000)
	f.want("1.2")
	f.update(100*time.Millisecond, 3_000_000)
	f.want("1.2")
	for range 10 {
		f.update(time.Second, 3_000_000)
	}
	f.want("2.2")
	// Nor when it has been there for long.
	f = newFixture(t, Config{Eager: 5 * time.Second}, []Input{in})
	for range 7 {
		f.update(time.Second, 200_000)
	}
	f.want("0.2")
	f.update(100*time.Millisecond, 3_000_000)
	f.want("0.2")
	f.update(900*time.Millisecond, 3_000_000)
	f.update(time.Second, 3_000_000)
	f.want("2.2")
}

// TestMuchMoreIsTriedAtOnce: a climb that failed is no reason to wait when the estimate is a third higher than it was then.
func TestMuchMoreIsTriedAtOnce(t *testing.T) {
	f := newFixture(t, Config{}, []Input{camera(plain(150, 500, 1700))})
	f.update(0, 450_000)
	f.want("0.0")
	for range 3 { // fails three times: the next would wait for 16 s
		f.update(time.Minute, 900_000)
		f.want("1.0")
		f.update(time.Second, 400_000)
		f.want("0.0")
	}
	f.update(time.Second, 1_190_000)
	f.update(2*time.Second, 1_190_000)
	f.update(time.Second, 1_190_000)
	f.want("0.0")
	f.update(100*ms, 2_100_000)
	f.want("0.0")
	f.update(time.Second, 2_100_000)
	f.update(time.Second, 2_100_000)
	f.want("2.0")
}

// TestPausedGoesOnSoon: what was paused doesn't wait as a climb does, if the estimate covers it twice.
func TestPausedGoesOnSoon(t *testing.T) {
	f := newFixture(t, Config{}, []Input{camera(plain(150, 500, 1700))})
	f.update(0, 3e6)
	f.want("2.0")
	f.update(time.Second, 100_000)
	f.want("–")
	f.update(500*ms-1, 400_000)
	f.want("–")
	// Less than twice: it waits until that has lasted.
	f.update(1, 340_000)
	f.want("–")
	f.update(100*ms, 400_000)
	f.want("0.0")
	// A higher layer waits as ever.
	f.update(time.Second, 10e6)
	f.want("0.0")
	// It pauses again, and again: it waits longer each time, then as long as any.
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		f.update(100*ms, 100_000)
		f.want("–")
		f.update(wait*time.Second-1, 400_000)
		f.want("–")
		f.update(1, 400_000)
		f.want("0.0")
	}
	// It lasts: forgiven.
	f.update(11*time.Second, 100_000)
	f.want("–")
	f.update(500*ms, 400_000)
	f.want("0.0")
}

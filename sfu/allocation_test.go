package sfu

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestABudgetThatFallsTakesFromThumbnailsFirst(t *testing.T) {
	h := newHall(t)
	screen, speaker := h.camera("screen", true, 150, 500, 1700), h.camera("speaker", false, 150, 500, 1700)
	one, two := h.camera("one", false, 150, 500, 1700), h.camera("two", false, 150, 500, 1700)
	talk := h.microphone("talk")
	h.room.attend([]Speaker{{ID: "PA_speaker", Active: true, Level: 1}}, h.now)
	v := h.viewer("v")
	for _, c := range []*camera{screen, speaker} {
		v.watch(c.pub, large)
	}
	for _, c := range []*camera{one, two} {
		v.watch(c.pub, small)
	}
	audio := v.watch(talk.pub, SubscriptionSettings{})
	h.pass(3 * time.Second)
	v.expect("no limit", 2, 2, 0, 0, 0)
	for _, x := range []struct {
		budget int64
		want   []int
	}{
		{4_200_000, []int{2, 2, 0, 0, 0}},
		{3_600_000, []int{2, 2, -1, -1, 0}},
		{2_400_000, []int{2, 1, -1, -1, 0}},
		{2_000_000, []int{2, 0, -1, -1, 0}},
		{600_000, []int{1, -1, -1, -1, 0}},
		{200_000, []int{0, -1, -1, -1, 0}},
		{0, []int{0, -1, -1, -1, 0}}, // for badTime
		{0, []int{-1, -1, -1, -1, 0}},
	} {
		v.p.budget(h.now, x.budget)
		h.pass(2 * time.Second)
		v.expect(fmt.Sprint(x.budget), x.want...)
	}
	for _, c := range []*camera{one, two, speaker, screen} {
		if got := v.pauses(c.pub.id); !slices.Equal(got, []bool{true}) {
			t.Errorf("of %s was told %v, want one pause", c.pub.id, got)
		}
		if got := wantedOf(c.told); len(got) != 1 || c == screen && got[0] != 2 || c == one && got[0] != 0 {
			t.Errorf("the publisher of %s was told that %v is wanted", c.pub.id, got)
		}
	}
	if s := audio.snapshot(); s.Why != "full" || s.Packets < 500 {
		t.Errorf("audio: %+v", s)
	}
	if s := v.subs[2].snapshot(); s.Why != "bandwidth" || s.WantedSpatial != 0 || s.Need == 0 {
		t.Errorf("a thumbnail: %+v", s)
	}
	if s := v.p.sharing.snapshot(); s.Paused != 4 || s.Wanted <= s.Used || s.Need == 0 {
		t.Errorf("%+v", s)
	}
	// And up again, in the other order.
	began := h.now
	v.p.budget(h.now, 8_000_000)
	h.pass(time.Second)
	if got := v.layers(); slices.Max(got[:4]) > 1 {
		t.Errorf("layers %v %v after the budget has come back: it may go again", got, h.now-began)
	}
	h.pass(12 * time.Second)
	v.expect("all is back", 2, 2, 0, 0, 0)
	for _, c := range []*camera{one, two, speaker, screen} {
		if got := v.pauses(c.pub.id); !slices.Equal(got, []bool{true, false}) {
			t.Errorf("of %s was told %v, want a pause and its end", c.pub.id, got)
		}
	}
}

func TestConfigureActsAtOnceWhateverIsKnown(t *testing.T) {
	for _, known := range []bool{true, false} {
		h := newHall(t)
		c := h.camera("c", false, 150, 500, 1700)
		v := h.viewer("v")
		if !known {
			v.unknown()
		}
		h.pass(2 * time.Second)
		s := v.watch(c.pub, large)
		h.pass(startTime + time.Second)
		v.expect("at first", 2)
		s.configure(SubscriptionSettings{Disabled: true}, h.now)
		v.expect("disabled", -1)
		h.pass(time.Second)
		s.configure(small, h.now)
		h.pass(200 * time.Millisecond)
		v.expect("small", 0)
		s.configure(large, h.now)
		h.pass(200 * time.Millisecond)
		v.expect("large", 2)
		s.configure(SubscriptionSettings{Width: 640, Height: 360, FPS: 7}, h.now)
		h.pass(600 * time.Millisecond)
		v.expect("medium", 1)
		before := v.sink.n
		h.pass(2 * time.Second)
		if n := float64(v.sink.n-before) / 2; n > 40 {
			t.Errorf("%v packets a second of 7 frames of four packets", n)
		}
		if n := len(v.pauses(c.pub.id)); n != 0 {
			t.Errorf("%d pauses were told", n)
		}
	}
}

// The first picture comes with the first keyframe, which is asked for at once; of an unknown path it is the lowest layer.
func TestALateJoinerGetsTheFirstPictureAtOnce(t *testing.T) {
	for _, kbits := range [][]int{{150, 500, 1700}, {1700}} {
		h := newHall(t)
		var pubs []*camera
		for i := range 9 {
			pubs = append(pubs, h.camera(fmt.Sprint(i), false, kbits...))
		}
		h.pass(3 * time.Second)
		v := h.viewer("v").unknown()
		for _, c := range pubs {
			v.watch(c.pub, large)
		}
		h.pass(pubs[0].answer + 70*time.Millisecond)
		v.expect("a keyframe later", make([]int, 9)...)
		if more := v.p.sharing.more(h.now); more < 9*1_700_000 {
			t.Errorf("%d bit/s are looked for, want as much as everybody's best", more)
		}
		// Where the estimate begins says nothing yet; nor does it while it doesn't cover what is being sent.
		for _, bits := range []int64{500_000, 510_000, 1_000_000} {
			v.p.budget(h.now, bits)
			h.pass(50 * time.Millisecond)
			v.expect("the path is being tried", make([]int, 9)...)
		}
		v.p.budget(h.now, 20_000_000)
		h.pass(500 * time.Millisecond)
		best := slices.Repeat([]int{len(kbits) - 1}, 9)
		v.expect("the path is known", best...)
		if n := len(v.told); n != 0 {
			t.Errorf("told %+v", v.told)
		}
		// One whose path stays unknown has no limit in the end.
		w := h.viewer("w").unknown()
		for _, c := range pubs {
			w.watch(c.pub, large)
		}
		h.pass(startTime + time.Second)
		w.expect("nothing is ever known", best...)
	}
}

// An estimate that falls counts at once, and one that doesn't grow after a while.
func TestAPathThatIsTooNarrowFromTheStart(t *testing.T) {
	for _, falls := range []bool{true, false} {
		h := newHall(t)
		var pubs []*camera
		for i := range 4 {
			pubs = append(pubs, h.camera(fmt.Sprint(i), false, 150, 500))
		}
		h.pass(2 * time.Second)
		v := h.viewer("v").unknown()
		v.p.budget(h.now, 300_000)
		for _, c := range pubs {
			v.watch(c.pub, large)
		}
		h.pass(300 * time.Millisecond)
		v.expect("at first", 0, 0, 0, 0)
		if falls {
			v.p.budget(h.now, 200_000)
		} else {
			h.pass(startTime)
		}
		h.pass(100 * time.Millisecond)
		if s := v.p.sharing.snapshot(); s.Paused == 0 || s.Used > s.Estimate || len(v.told) != s.Paused {
			t.Errorf("falls %v: %+v, told %+v", falls, s, v.told)
		}
	}
}

// Bitrates that vary by a third and an estimate that varies by a twentieth are no reason to change layers.
func TestNoisyBitratesDontFlap(t *testing.T) {
	h := newHall(t)
	random := uint32(1)
	noise := func(share float64) float64 {
		random = random*1664525 + 1013904223
		return 1 + share*(float64(random>>8)/float64(1<<23)-1)
	}
	var subs []*subscription
	v := h.viewer("v")
	for i := range 4 {
		c := h.camera(fmt.Sprint(i), false, 150, 500, 1700)
		c.noise = func() float64 { return noise(0.35) }
		subs = append(subs, v.watch(c.pub, large))
	}
	tick := 0
	h.each = func() {
		if tick++; tick%3 == 0 {
			v.p.budget(h.now, int64(3_000_000*noise(0.05)))
		}
	}
	h.pass(20 * time.Second)
	before := uint64(0)
	for _, s := range subs {
		before += s.snapshot().Switches
	}
	h.pass(60 * time.Second)
	after := uint64(0)
	for _, s := range subs {
		after += s.snapshot().Switches
	}
	t.Logf("%d switches in a minute, %v", after-before, v.layers())
	if after-before > 4 {
		t.Errorf("%d switches in a minute", after-before)
	}
	if len(v.told) > 0 {
		t.Errorf("told %+v", v.told)
	}
}

func TestTheSpeakerGoesFirst(t *testing.T) {
	h := newHall(t)
	a, b := h.camera("a", false, 150, 500, 1700), h.camera("b", false, 150, 500, 1700)
	v := h.viewer("v")
	v.watch(a.pub, large)
	v.watch(b.pub, large)
	v.p.budget(h.now, 2_300_000)
	speak := func(c *camera) {
		h.room.attend([]Speaker{{ID: c.p.cfg.ID, Active: true, Level: 1}}, h.now)
		h.pass(8 * time.Second)
	}
	speak(a)
	v.expect("one speaks", 2, 0)
	h.room.attend([]Speaker{{ID: "PA_a"}}, h.now) // and stops
	h.pass(5 * time.Second)
	v.expect("nobody speaks", 2, 0)
	speak(b)
	if got := v.layers(); got[1] != 2 || got[0] == 2 {
		t.Errorf("layers %v when the other speaks", got)
	}
	h.room.remove(b.p)
	if h.room.speaker != nil || b.p.speaking.Load() {
		t.Error("who has left is still the speaker")
	}
}

// While two talk at once the speaker doesn't change with every word.
func TestTwoSpeakers(t *testing.T) {
	h := newHall(t)
	a, b := h.camera("a", false, 150), h.camera("b", false, 150)
	x, y := Speaker{ID: a.p.cfg.ID, Active: true, Level: 1}, Speaker{ID: b.p.cfg.ID, Active: true, Level: 1}
	for _, s := range []struct {
		after time.Duration
		list  []Speaker
		want  *Participant
	}{
		{0, []Speaker{{ID: "PA_gone", Active: true}}, nil},
		{0, []Speaker{x}, a.p},
		{300 * time.Millisecond, []Speaker{y, x}, a.p},
		{speakerTime, []Speaker{y, x}, b.p},
		{300 * time.Millisecond, []Speaker{x, y}, b.p},
		{300 * time.Millisecond, []Speaker{x, {ID: b.p.cfg.ID}}, a.p},
		{300 * time.Millisecond, []Speaker{{ID: a.p.cfg.ID}}, a.p},
	} {
		h.now += s.after
		if h.room.attend(s.list, h.now); h.room.speaker != s.want {
			t.Errorf("%+v: the speaker is %v", s.list, h.room.speaker)
		}
		for _, p := range []*Participant{a.p, b.p} {
			if p.speaking.Load() != (p == s.want) {
				t.Errorf("%+v: %s speaks: %v", s.list, p.cfg.ID, p.speaking.Load())
			}
		}
	}
}

// What is announced counts until it is known better: a still screen is cheap soon, a liar is dear after a few seconds.
func TestOffers(t *testing.T) {
	for _, x := range []struct {
		name                 string
		announced, sent      int // kbit/s
		first, second, tenth int64
	}{
		{name: "honest", announced: 1700, sent: 1700, first: 1700, second: 1730, tenth: 1740},
		{name: "not announced", announced: 0, sent: 600, first: 150, second: 800, tenth: 640},
		{name: "less than announced", announced: 4000, sent: 300, first: 4000, second: 400, tenth: 310},
		{name: "more than announced", announced: 10, sent: 1700, first: 10, second: 190, tenth: 1500},
	} {
		h := newHall(t)
		c := h.camera("c", false, x.sent)
		c.pub.cfg.Layers[0].Bitrate = uint32(x.announced) * 1000
		v := h.viewer("v")
		v.watch(c.pub, large)
		check := func(when string, want int64) {
			t.Helper()
			o := c.pub.offer(h.now)
			if got := o.cost(0, 3) / 1000; got < want*3/4 || got > want*5/4 {
				t.Errorf("%s, %s: %d kbit/s, want about %d", x.name, when, got, want)
			}
		}
		h.pass(100 * time.Millisecond)
		check("at first", x.first)
		h.pass(1100 * time.Millisecond)
		check("after a second", x.second)
		h.pass(9 * time.Second)
		check("after ten", x.tenth)
		// It pauses, and is back: it costs what it did.
		c.off[0] = true
		h.pass(4 * time.Second)
		if o := c.pub.offer(h.now); o.layers[0].Temporal[0].Live {
			t.Errorf("%s: live after 4 s of silence", x.name)
		}
		c.pub.layers[0].Load().silent.Store(true) // as the alarm of its publisher does
		c.off[0] = false
		h.pass(100 * time.Millisecond)
		check("back", x.tenth)
		v.expect(x.name, 0)
	}
}

func TestSharingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h := newHall(t)
	v := h.viewer("v")
	for i := range 20 {
		v.watch(h.camera(fmt.Sprint(i), false, 150, 500, 1700).pub, SubscriptionSettings{Width: 640, Height: 360})
	}
	h.pass(3 * time.Second)
	n := 0
	if allocs := testing.AllocsPerRun(200, func() {
		h.now += shareInterval / 10
		n++
		v.p.budget(h.now, int64(2_000_000+n%3*1_000_000))
		v.p.sharing.tick(h.now)
	}); allocs > 1 { // keyframes are asked for by RTCP
		t.Errorf("%v allocations", allocs)
	}
}

// Where a track comes in two codecs, the one that takes over is no dearer than the one before.
func TestACodecTakesOverWithinTheBudget(t *testing.T) {
	for _, x := range []struct{ budget, layer int }{{10_000_000, 2}, {700_000, 1}, {250_000, 0}} {
		h := newHall(t)
		c := h.camera("c", false, 150, 500, 1700)
		v := h.viewer("v")
		s := v.watch(c.pub, large)
		h.pass(2 * time.Second)
		v.p.budget(h.now, int64(x.budget))
		h.pass(2 * time.Second)
		v.expect("before", x.layer)
		other := h.camera("o", false, 150, 500, 1700)
		h.pass(2 * time.Second)
		s.mu.Lock()
		st := s.out
		s.wait(other.pub)
		st.aimNext(s.settings, s.allotted, h.now)
		target := st.nextForwarder.Target()
		s.mu.Unlock()
		if target != x.layer {
			t.Errorf("%d bit/s: layer %d of the next codec, want %d", x.budget, target, x.layer)
		}
	}
}

func BenchmarkShare(b *testing.B) {
	for _, x := range []struct{ viewers, cameras int }{{1, 25}, {1, 500}, {1000, 25}} {
		b.Run(fmt.Sprintf("%dx%d", x.viewers, x.cameras), func(b *testing.B) {
			h := newHall(b)
			for i := range x.cameras {
				h.camera(fmt.Sprint(i), false, 150, 500, 1700)
			}
			h.pass(2 * time.Second)
			for i := range x.viewers {
				v := h.viewer(fmt.Sprint(i))
				v.p.budget(h.now, int64(x.cameras)*300_000)
				for _, c := range h.cameras {
					v.watch(c.pub, SubscriptionSettings{Width: 640, Height: 360})
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				h.now += shareInterval
				for _, v := range h.viewers {
					v.p.sharing.share(h.now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*x.viewers*x.cameras), "ns/subscription")
		})
	}
}

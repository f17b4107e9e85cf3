package bwe

import (
	"slices"
	"testing"
	"time"
)

// runs are the lengths of what left at one instant each.
func (e *egress) runs() (lengths []int) {
	for i, d := range e.left {
		if i == 0 || d.at != e.left[i-1].at {
			lengths = append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return lengths
}

// TestPacerWholeFrames: which frames of packets of 1200 bytes leave in one piece at 3 Mbit/s, of which 10 ms are 3750 bytes.
func TestPacerWholeFrames(t *testing.T) {
	type frame struct {
		after   time.Duration // the one before
		packets int
	}
	const interval = 33 * milli
	for name, c := range map[string]struct {
		burst  int // bytes
		frames []frame
		runs   []int // longest run of each frame
	}{
		"frames within the burst":              {10_000, []frame{{0, 7}, {interval, 8}, {interval, 1}}, []int{7, 8, 1}},
		"none is allowed":                      {0, []frame{{0, 7}}, []int{4}},
		"less than 10 ms are allowed":          {1000, []frame{{0, 7}}, []int{4}},
		"a keyframe is paced to its end":       {10_000, []frame{{0, 30}, {200 * milli, 8}}, []int{4, 8}},
		"so is what comes behind it":           {10_000, []frame{{0, 30}, {70 * milli, 6}, {200 * milli, 8}}, []int{4, 2, 8}},
		"a frame soon after another":           {10_000, []frame{{0, 7}, {2 * milli, 7}, {2 * interval, 7}}, []int{7, 2, 7}},
		"two that fit together":                {10_000, []frame{{0, 4}, {2 * milli, 4}}, []int{4, 4}},
		"what a run takes":                     {1_000_000, []frame{{0, 16}}, []int{16}},
		"more than a run takes":                {1_000_000, []frame{{0, 17}}, []int{4}},
		"a burst of less than nothing is none": {-1, []frame{{0, 7}}, []int{4}},
	} {
		e := &egress{t: t, now: time.Second}
		e.pacer.Set(3_000_000, 0, c.burst)
		var longest []int
		for i, f := range c.frames {
			e.run(e.now + f.after)
			if i > 0 {
				longest = append(longest, slices.Max(e.runs()))
			}
			e.left = nil
			e.put(f.packets)
		}
		e.run(e.now + time.Second)
		longest = append(longest, slices.Max(e.runs()))
		if !slices.Equal(longest, c.runs) {
			t.Errorf("%s: runs of %v, want %v", name, longest, c.runs)
		}
		if len(e.queue) > 0 {
			t.Errorf("%s: %d packets are left", name, len(e.queue))
		}
	}
}

// TestCalm: when the path counts as calm after it was full at the times given.
func TestCalm(t *testing.T) {
	s := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for name, c := range map[string]struct {
		full []time.Duration
		from time.Duration
	}{
		"nothing known before":          {nil, s(1) + burstAfter},
		"full once":                     {[]time.Duration{s(3)}, s(3) + burstAfter},
		"full again before it was calm": {[]time.Duration{s(3), s(6)}, s(6) + burstAfter},
		"full after a short calm":       {[]time.Duration{s(3), s(8)}, s(8) + 2*burstAfter},
		"and again":                     {[]time.Duration{s(3), s(8), s(20)}, s(20) + 4*burstAfter},
		"time after time":               {[]time.Duration{s(10), s(30), s(60), s(100), s(200), s(300), s(400)}, s(400) + burstLatest},
		"full after a long calm":        {[]time.Duration{s(3), s(8), s(100)}, s(100) + burstAfter},
	} {
		var k calm
		k.update(s(1), false)
		for _, at := range c.full {
			k.update(at-milli, false)
			k.update(at, true)
		}
		if k.update(c.from-milli, false); k.holds(c.from - milli) {
			t.Errorf("%s: calm before %v", name, c.from)
		}
		if !k.holds(c.from) {
			t.Errorf("%s: not calm at %v", name, c.from)
		}
	}
	if (&calm{}).holds(time.Hour) {
		t.Error("calm where nothing is known")
	}
}

// TestGroups: how many groups packets form that are sent and arrive at these times, in ms.
func TestGroups(t *testing.T) {
	for name, c := range map[string]struct {
		sent, arrived []int
		swings        int
		groups        int
	}{
		"a frame that left at once over a fast link": {[]int{0, 0, 0, 0, 33}, []int{0, 2, 4, 6, 33}, 0, 2},
		"over a slow one":                             {[]int{0, 0, 0, 0, 0, 0, 33}, []int{0, 10, 20, 30, 40, 50, 60}, 0, 3},
		"over a very slow one":                        {[]int{0, 0, 0, 0, 100}, []int{0, 40, 80, 120, 160}, 0, 3},
		"where the delay swings":                      {[]int{0, 0, 0, 0, 0, 0, 33}, []int{0, 10, 20, 30, 40, 50, 60}, 60, 2},
		"packets 10 ms apart":                         {[]int{0, 10, 20, 30}, []int{0, 10, 20, 30}, 0, 4},
		"and what waited for the link comes together": {[]int{0, 10, 20, 30, 50}, []int{30, 31, 32, 33, 60}, 0, 2},
	} {
		var g grouping
		groups := 1
		for i, sent := range c.sent {
			before := g.current
			g.add(time.Duration(sent)*milli, time.Hour+time.Duration(c.arrived[i])*milli, time.Duration(c.swings)*milli)
			if before.packets > 0 && g.current.packets == 1 {
				groups++
			}
		}
		if groups != c.groups {
			t.Errorf("%s: %d groups, want %d", name, groups, c.groups)
		}
	}
}

// TestNetworkBursts: where the path has room a frame leaves in one piece, audio isn't held up by it, and a router's short
// buffer takes it; where it doesn't, that is noticed.
func TestNetworkBursts(t *testing.T) {
	layers, fills := sources[0].source, sources[1].source
	for _, c := range []struct {
		name   string
		rate   float64
		buffer time.Duration
		source func() source
		runs   float64 // per frame, at most; 0 for any
		voice  float64 // ms
		lost   float64 // %
	}{
		{"layers over 10 Mbit/s", 10e6, 300 * milli, layers, 1.1, 10, 0.1},
		{"layers over 3 Mbit/s, queue of 50 ms", 3e6, 50 * milli, layers, 1.1, 25, 0.2},
		{"greedy up to 2.5 over 3 Mbit/s, queue of 50 ms", 3e6, 50 * milli, fills, 1.1, 30, 0.2},
		{"greedy up to 2.5 over 3 Mbit/s, queue of 30 ms", 3e6, 30 * milli, fills, 0, 30, 0.5},
		{"greedy up to 2.5 over 2.2 Mbit/s", 2.2e6, 300 * milli, fills, 0, 40, 0.2},
	} {
		var runs, voice, lost []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, back := testLink(s, c.rate)
			out.limit = c.buffer
			f := newFlow(s, out, back, c.source(), Config{})
			f.start(sec(0), sec(61))
			s.run(10 * time.Second)
			f.runs, f.frames = 0, 0
			s.run(50 * time.Second)
			runs = append(runs, float64(f.runs)/float64(f.frames))
			voice = append(voice, f.voice.quantile(0.95, sec(10), sec(59)))
			lost = append(lost, lostShare(sec(10), sec(59), f))
		}
		if c.runs > 0 {
			figure{c.name, "runs per frame, worst seed", slices.Max(runs), "", 0, c.runs}.check(t)
		}
		figure{c.name, "audio waits, 95th percentile", slices.Max(voice), "ms", 0, c.voice}.check(t)
		figure{c.name, "lost, worst seed", slices.Max(lost), "%", 0, c.lost}.check(t)
	}
}

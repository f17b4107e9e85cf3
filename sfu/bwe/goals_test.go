package bwe

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// figure is one line of the table.
type figure struct {
	scenario, what string
	value          float64
	unit           string
	low, high      float64 // the target
}

// table gathers figures; each outside its target fails the test.
func (f figure) check(t *testing.T) {
	t.Helper()
	target := fmt.Sprintf("%g–%g", f.low, f.high)
	switch {
	case f.low == 0:
		target = fmt.Sprintf("≤ %g", f.high)
	case f.high >= 1e8:
		target = fmt.Sprintf("≥ %g", f.low)
	}
	mark := ""
	if f.value < f.low || f.value > f.high {
		mark = "  MISSED"
		t.Fail()
	}
	fmt.Printf("%-44s %-38s %9.3g %-7s %s%s\n", f.scenario, f.what, f.value, f.unit, target, mark)
}

const never = 1e9

// seconds of simulated time since the beginning.
func sec(s float64) time.Duration { return time.Second + time.Duration(s*float64(time.Second)) }

// testLink is the link of the targets.
func testLink(s *sim, rate float64) (out, back *link) {
	return &link{sim: s, rate: rate, limit: 300 * milli, delay: 30 * milli}, &link{sim: s, rate: 1e9, limit: time.Second, delay: 30 * milli}
}

// fits returns how long after from the sent rate first is at most the limit, in windows of 500 ms, and for how long it is
// above in the span after that.
func fits(f *flow, from time.Duration, limit float64, span time.Duration) (first, above float64) {
	const window = 500 * milli
	at := from
	for at < from+span && f.sentBins.rate(at, at+window) > limit {
		at += binWidth
	}
	first = (at - from).Seconds()
	for t := at; t < at+span; t += window {
		if f.sentBins.rate(t, t+window) > limit {
			above += window.Seconds()
		}
	}
	return first, above
}

// reaches returns how long after from the sent rate is above the limit for two seconds.
func reaches(f *flow, from time.Duration, limit float64, span time.Duration) float64 {
	for at := from; at < from+span; at += binWidth {
		if f.sentBins.rate(at, at+2*time.Second) > limit {
			return (at - from).Seconds()
		}
	}
	return never
}

// settles returns how long after from the queueing delay is below the limit and stays there for two seconds.
func settles(l *link, from time.Duration, limit float64, span time.Duration) float64 {
	last := from
	for i, t := range l.waits.t {
		if t >= from && t < from+span && l.waits.v[i] > limit {
			if t-last > 2*time.Second {
				break
			}
			last = t
		}
	}
	return (last - from).Seconds()
}

// seeds are 1, 2, 3 …; fewer under the race detector, which finds nothing more in more of them.
const (
	seeds       = 5 - 4*slower
	randomLinks = 60 - 50*slower
)

// sources are simulcast layers, as an SFU has them, and an encoder that follows the target.
var sources = []struct {
	name      string
	source    func() source
	tolerance float64
	share     float64 // least of two, in per cent
}{
	{"layers", func() source { return &layered{} }, 1, 40},
	{"greedy", func() source { return greedy{100_000, 2_500_000} }, 1.05, 33},
}

// TestNetworkCapacityDrop: the link falls from 3 Mbit/s to 500 kbit/s and returns.
func TestNetworkCapacityDrop(t *testing.T) {
	for _, c := range sources {
		name, src := c.name, c.source
		// An encoder that fills the target sends a little more while a probe is under way: 5 % are allowed to it.
		limit := 500_000 * c.tolerance
		var fit, above, settle, back, queue []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, ret := testLink(s, 3e6)
			f := newFlow(s, out, ret, src(), Config{})
			f.start(sec(0), sec(100))
			out.change(sec(20), 500_000)
			out.change(sec(45), 3e6)
			s.run(75 * time.Second)
			a, b := fits(f, sec(20), limit, 20*time.Second)
			fit, above = append(fit, a), append(above, b)
			settle = append(settle, settles(out, sec(20), 100, 20*time.Second))
			queue = append(queue, out.waits.quantile(0.95, sec(25), sec(45)))
			back = append(back, reaches(f, sec(45), 1_850_000, 25*time.Second))
		}
		name = "3 → 0.5 → 3 Mbit/s, " + name
		figure{name, "rate fits after, worst seed", slices.Max(fit), "s", 0, 1.5}.check(t)
		figure{name, "above the limit in the next 20 s", slices.Max(above), "s", 0, 2}.check(t)
		figure{name, "queue under 100 ms after", slices.Max(settle), "s", 0, 4}.check(t)
		figure{name, "queue then, 95th percentile", slices.Max(queue), "ms", 0, 100}.check(t)
		figure{name, "full quality again after", slices.Max(back), "s", 0, 8}.check(t)
	}
}

package bwe

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// TestNetworkLoss: loss that has nothing to do with the rate must not cost the top layer.
func TestNetworkLoss(t *testing.T) {
	for _, p := range []float64{0.02, 0.05, 0.1} {
		var sent, queue []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, ret := testLink(s, 3e6)
			out.loss = p
			f := newFlow(s, out, ret, &layered{}, Config{})
			f.start(sec(0), sec(100))
			s.run(60 * time.Second)
			sent = append(sent, f.sentBins.rate(sec(10), sec(59))/1e6)
			queue = append(queue, out.waits.quantile(0.95, sec(10), sec(59)))
		}
		name := fmt.Sprintf("random loss %g %%, 3 Mbit/s, layers", p*100)
		figure{name, "sent, worst seed", slices.Min(sent), "Mbit/s", 1.8, never}.check(t)
		figure{name, "queue, 95th percentile", slices.Max(queue), "ms", 0, 60}.check(t)
	}
	for _, p := range []float64{0.02, 0.1} {
		var sent, queue []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, ret := testLink(s, 3e6)
			out.loss = p
			f := newFlow(s, out, ret, greedy{100_000, 6e6}, Config{})
			f.start(sec(0), sec(100))
			s.run(60 * time.Second)
			sent = append(sent, out.rateUsed(sec(10), sec(59), f))
			queue = append(queue, out.waits.quantile(0.95, sec(10), sec(59)))
		}
		name := fmt.Sprintf("random loss %g %%, 3 Mbit/s, greedy", p*100)
		figure{name, "share of what the link delivers, worst seed", slices.Min(sent), "", 0.6, never}.check(t)
		figure{name, "queue, 95th percentile", slices.Max(queue), "ms", 0, 100}.check(t)
	}
}

func (l *link) rateUsed(from, to time.Duration, flows ...*flow) float64 {
	sum := 0.0
	for _, f := range flows {
		sum += f.received.rate(from, to)
	}
	return sum / l.rate / (1 - l.loss)
}

// TestNetworkPolicer: a link that drops what exceeds its rate instead of queueing it tells by loss alone.
func TestNetworkPolicer(t *testing.T) {
	var sent, lost []float64
	for seed := range uint64(seeds) {
		s := newSim(seed + 1)
		out, ret := testLink(s, 1e6)
		out.police = true
		f := newFlow(s, out, ret, greedy{100_000, 3e6}, Config{})
		f.start(sec(0), sec(100))
		s.run(60 * time.Second)
		sent = append(sent, f.received.rate(sec(10), sec(59))/1e6)
		lost = append(lost, 100*(1-f.received.rate(sec(10), sec(59))/f.sentBins.rate(sec(10), sec(59))))
	}
	name := "policer of 1 Mbit/s without a queue, greedy"
	figure{name, "received, worst seed", slices.Min(sent), "Mbit/s", 0.6, 1.01}.check(t)
	figure{name, "loss, worst seed", slices.Max(lost), "%", 0, 20}.check(t)
}

// TestNetworkShaper: a bucket that lets a short burst through at any rate, as cable modems and Linux's tbf have it, shows a probe
// more than there is. What an allocator would climb to twice as much for is to be rare.
func TestNetworkShaper(t *testing.T) {
	var high, queue, back []float64
	for seed := range uint64(seeds) {
		s := newSim(seed + 1)
		out, ret := testLink(s, 3e6)
		out.bucket = 3000
		f := newFlow(s, out, ret, &layered{}, Config{})
		f.start(sec(0), sec(100))
		out.change(sec(20), 500_000)
		out.change(sec(45), 3e6)
		s.run(75 * time.Second)
		high = append(high, f.targets.spent(600_000, math.Inf(1), sec(22), sec(45)))
		queue = append(queue, out.waits.quantile(0.95, sec(25), sec(45)))
		back = append(back, reaches(f, sec(45), 1_850_000, 25*time.Second))
	}
	name := "shaper with a bucket of 3 kB, 3 → 0.5 → 3"
	figure{name, "target above 0.6 Mbit/s, worst seed", slices.Max(high), "s", 0, 3}.check(t)
	figure{name, "queue then, 95th percentile", slices.Max(queue), "ms", 0, 100}.check(t)
	figure{name, "full quality again after", slices.Max(back), "s", 0, 8}.check(t)
}

// TestNetworkShare: two flows of the same kind behind one bottleneck.
func TestNetworkShare(t *testing.T) {
	for _, c := range sources {
		name, src := c.name, c.source
		var share, queue, used, low []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, ret := testLink(s, 1.5e6)
			a := newFlow(s, out, ret, src(), Config{})
			b := newFlow(s, out, ret, src(), Config{})
			a.start(sec(0), sec(100))
			b.start(sec(5.011), sec(100))
			s.run(75 * time.Second)
			low = append(low, max(a.targets.spent(0, 200_000, sec(15), sec(70)), b.targets.spent(0, 200_000, sec(15), sec(70))))
			x, y := a.received.rate(sec(10), sec(70)), b.received.rate(sec(10), sec(70))
			share = append(share, 100*min(x, y)/(x+y))
			used = append(used, 100*(x+y)/1.5e6)
			queue = append(queue, out.waits.quantile(0.95, sec(10), sec(70)))
		}
		name = "two flows over 1.5 Mbit/s, " + name
		figure{name, "smaller share of 60 s, worst seed", slices.Min(share), "%", c.share, 50}.check(t)
		figure{name, "link used", slices.Min(used), "%", 60, 100}.check(t)
		figure{name, "queue, 95th percentile", slices.Max(queue), "ms", 0, 150}.check(t)
		figure{name, "target under 200 kbit/s, worst seed", slices.Max(low), "s", 0, 2}.check(t)
	}
}

package bwe

import (
	"math"
	"slices"
	"testing"
	"time"
)

// rembReceiver is what a receiver-side estimator does, roughly: up by 8 % a second and no further than half above what
// arrives, down to 85 % of it when the delay of its packets has grown.
func rembReceiver(f *flow) func(now time.Duration, received float64) int64 {
	estimate := 500_000.0
	return func(now time.Duration, received float64) int64 {
		queue := f.delays.mean(now-500*milli, now)
		if queue > 60 {
			estimate = min(estimate, 0.85*received)
		} else {
			estimate = max(estimate, min(estimate*1.08, 1.5*received+10_000))
		}
		return int64(estimate)
	}
}

func TestNetworkReports(t *testing.T) {
	for _, remb := range []bool{false, true} {
		name := "receiver reports only"
		if remb {
			name = "REMB and receiver reports"
		}
		start := func(f *flow) *flow {
			if remb {
				f.remb = rembReceiver(f)
			}
			f.start(sec(0), sec(200))
			return f
		}
		var fit, above, settle, again, top, random, queue, share []float64
		for seed := range uint64(seeds) {
			s := newSim(seed + 1)
			out, ret := testLink(s, 3e6)
			f := start(newReportsFlow(s, out, ret, &layered{}, Config{}))
			out.change(sec(40), 500_000)
			out.change(sec(65), 3e6)
			s.run(125 * time.Second)
			top = append(top, f.sentBins.rate(sec(30), sec(40))/1e6)
			a, b := fits(f, sec(40), 500_000, 20*time.Second)
			fit, above = append(fit, a), append(above, b)
			settle = append(settle, settles(out, sec(40), 100, 20*time.Second))
			again = append(again, reaches(f, sec(65), 1_850_000, 60*time.Second))
			queue = append(queue, out.waits.quantile(0.95, sec(45), sec(65)))

			s = newSim(seed + 1)
			out, ret = testLink(s, 3e6)
			out.loss = 0.1
			f = start(newReportsFlow(s, out, ret, &layered{}, Config{}))
			s.run(90 * time.Second)
			random = append(random, f.sentBins.rate(sec(40), sec(89))/1e6)

			s = newSim(seed + 1)
			out, ret = testLink(s, 1.5e6)
			x := start(newReportsFlow(s, out, ret, &layered{}, Config{}))
			y := start(newReportsFlow(s, out, ret, &layered{}, Config{}))
			s.run(75 * time.Second)
			least, _, _ := shares(sec(10), sec(70), x, y)
			share = append(share, least)
		}
		figure{name, "sent at 3 Mbit/s", slices.Min(top), "Mbit/s", 1.5, never}.check(t)
		figure{name, "3 → 0.5: rate fits after", slices.Max(fit), "s", 0, 3}.check(t)
		figure{name, "above the limit in the next 20 s", slices.Max(above), "s", 0, 4}.check(t)
		figure{name, "queue under 100 ms after", slices.Max(settle), "s", 0, 6}.check(t)
		figure{name, "queue then, 95th percentile", slices.Max(queue), "ms", 0, 250}.check(t)
		figure{name, "0.5 → 3: full quality after", slices.Max(again), "s", 0, 45}.check(t)
		figure{name, "10 % random loss, sent", slices.Min(random), "Mbit/s", 1, never}.check(t)
		figure{name, "two over 1.5 Mbit/s, smaller share", slices.Min(share), "%", 20, 50}.check(t)
	}
}

func TestReportsSilence(t *testing.T) {
	r := NewReports(Config{Start: 1_000_000}, 0)
	for now := time.Duration(0); now < 20*time.Second; now += 20 * milli {
		r.Sent(Packet{Size: 1200, At: now})
		r.Update(now)
	}
	if got := r.Estimate().Target; got > 150_000 {
		t.Errorf("the target is %d after 20 s of silence", got)
	}
	idle := NewReports(Config{Start: 1_000_000}, 0)
	idle.Update(time.Minute)
	if got := idle.Estimate().Target; got != 1_000_000 {
		t.Errorf("the target is %d when nothing was sent", got)
	}
}

func TestReportsREMBLeads(t *testing.T) {
	r := NewReports(Config{Start: 500_000, Max: 5_000_000}, 0)
	now := time.Duration(0)
	step := func(fraction uint8, remb int64, seconds int) {
		for range seconds * 50 {
			now += 20 * milli
			r.Sent(Packet{Size: 1200, At: now})
			if now%time.Second == 0 {
				r.Report(now, fraction, 60*milli)
				if remb != 0 {
					r.REMB(now, remb)
				}
			}
		}
	}
	step(0, 2_000_000, 5)
	if got := r.Estimate().Target; got != 2_000_000 {
		t.Errorf("the target is %d, REMB says 2,000,000", got)
	}
	step(0, 300_000, 1)
	if got := r.Estimate().Target; got != 300_000 {
		t.Errorf("the target is %d, REMB says 300,000", got)
	}
	r.REMB(now, math.MaxInt64)
	r.REMB(now, -5)
	if got := r.Estimate().Target; got != 50_000 {
		t.Errorf("the target is %d after an absurd REMB", got)
	}
	step(0, 0, 30)
	if got := r.Estimate().Target; got < 300_000 {
		t.Errorf("the target is still %d half a minute after the last REMB", got)
	}
}

func TestTCPRate(t *testing.T) {
	// RFC 5348 section 3.1 at 1 % loss and 100 ms: s/(R·(√(2p/3) + 12·√(3p/8)·p·(1+32p²))), by hand.
	if got := tcpRate(0.01, 100*milli); math.Abs(got-1_077_700) > 1000 {
		t.Errorf("%.0f bit/s", got)
	}
	if tcpRate(0, time.Second) != 0 || tcpRate(0.1, 0) != 0 {
		t.Error("a rate from nothing")
	}
}

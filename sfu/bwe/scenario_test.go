package bwe

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// TestNetworkScenarios: what the targets and RFC 8867 leave out.
func TestNetworkScenarios(t *testing.T) {
	each := func(run func(s *sim) float64) (values []float64) {
		for seed := range uint64(seeds) {
			values = append(values, run(newSim(seed+1)))
		}
		return values
	}
	start := func(s *sim, rate float64, src source, change func(out, back *link, f *flow)) *flow {
		out, back := testLink(s, rate)
		f := newFlow(s, out, back, src, Config{})
		if change != nil {
			change(out, back, f)
		}
		f.start(sec(0), sec(300))
		return f
	}

	figure{"start over 3 Mbit/s, layers", "full quality after", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, nil)
		s.run(20 * time.Second)
		return reaches(f, sec(0), 1_800_000, 15*time.Second)
	})), "s", 0, 2}.check(t)
	figure{"start over 0.25 Mbit/s, layers", "queue of 2–20 s, 95th percentile", slices.Max(each(func(s *sim) float64 {
		f := start(s, 250_000, &layered{}, nil)
		s.run(20 * time.Second)
		return f.out.waits.quantile(0.95, sec(2), sec(20))
	})), "ms", 0, 100}.check(t)

	// A first picture of 64 kB leaves before anything is known of the path.
	burst := func(f *flow) {
		f.at(sec(0.01), func() {
			for range 54 {
				f.send(payload+overhead, 0, false)
			}
		})
	}
	figure{"first 64 kB at once over 0.5 Mbit/s, layers", "queue of 4–20 s, 95th percentile", slices.Max(each(func(s *sim) float64 {
		f := start(s, 500_000, &layered{}, func(_, _ *link, f *flow) { burst(f) })
		s.run(21 * time.Second)
		return f.out.waits.quantile(0.95, sec(4), sec(20))
	})), "ms", 0, 100}.check(t)
	figure{"first 64 kB at once over 3 Mbit/s, layers", "full quality after", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(_, _ *link, f *flow) { burst(f) })
		s.run(21 * time.Second)
		return reaches(f, sec(0.5), 1_800_000, 15*time.Second)
	})), "s", 0, 4}.check(t)
	var calm, after []float64
	for seed := range uint64(seeds) {
		s := newSim(seed + 1)
		f := start(s, 3e6, &layered{}, func(out, _ *link, _ *flow) {
			out.limit = 5 * time.Second
			out.change(sec(20), 8000)
			out.change(sec(23), 500_000)
		})
		s.run(50 * time.Second)
		calm = append(calm, settles(f.out, sec(23), 100, 20*time.Second))
		after = append(after, f.out.waits.quantile(0.95, sec(30), sec(45)))
	}
	figure{"link stops for 3 s, then 0.5 Mbit/s", "queue under 100 ms after", slices.Max(calm), "s", 0, 8}.check(t)
	figure{"link stops for 3 s, then 0.5 Mbit/s", "queue then, 95th percentile", slices.Max(after), "ms", 0, 100}.check(t)

	figure{"jitter up to 30 ms, 3 Mbit/s, layers", "sent, worst seed", slices.Min(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, back *link, _ *flow) { out.jitter, back.jitter = 30*milli, 30*milli })
		s.run(60 * time.Second)
		return f.sentBins.rate(sec(10), sec(59)) / 1e6
	})), "Mbit/s", 1.7, never}.check(t)
	figure{"the same, 3 → 0.5 Mbit/s", "rate fits after, worst seed", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, back *link, _ *flow) {
			out.jitter, back.jitter = 30*milli, 30*milli
			out.change(sec(20), 500_000)
		})
		s.run(45 * time.Second)
		first, above := fits(f, sec(20), 500_000, 20*time.Second)
		return first + above
	})), "s", 0, 1.5}.check(t)
	for i, spread := range []time.Duration{30 * milli, 60 * milli, 120 * milli} {
		var sent, fit []float64
		for seed := range uint64(4 * seeds) {
			s := newSim(seed + 1)
			f := start(s, 3e6, &layered{}, func(out, back *link, _ *flow) {
				out.spread = spread
				out.change(sec(60), 500_000)
			})
			s.run(85 * time.Second)
			sent = append(sent, f.sentBins.rate(sec(10), sec(59))/1e6)
			first, above := fits(f, sec(60), 500_000, 20*time.Second)
			fit = append(fit, first+above)
		}
		name := fmt.Sprintf("delay swings by %v, 3 → 0.5 Mbit/s", spread)
		figure{name, "sent before, worst seed", slices.Min(sent), "Mbit/s", []float64{1.8, 1.8, 1.2}[i], never}.check(t)
		figure{name, "rate fits after, worst seed", slices.Max(fit), "s", 0, 2}.check(t)
	}
	figure{"10 % loss, 3 → 0.5 Mbit/s, layers", "rate fits after, worst seed", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, _ *link, _ *flow) {
			out.loss = 0.1
			out.change(sec(20), 500_000)
		})
		s.run(45 * time.Second)
		first, above := fits(f, sec(20), 500_000, 20*time.Second)
		return first + above
	})), "s", 0, 1.5}.check(t)

	wireless := func(out, _ *link, _ *flow) { out.enter, out.leave, out.bad = 0.002, 0.05, 0.6 }
	figure{"bursts of loss (20 packets, 60 %), layers", "sent, worst seed", slices.Min(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, wireless)
		s.run(60 * time.Second)
		return f.sentBins.rate(sec(10), sec(59)) / 1e6
	})), "Mbit/s", 1.6, never}.check(t)
	figure{"link that stops for 60 ms each second", "sent, worst seed", slices.Min(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, _ *link, _ *flow) {
			for at := 5.0; at < 60; at++ {
				out.change(sec(at), 40_000)
				out.change(sec(at+0.06), 3e6)
			}
		})
		s.run(60 * time.Second)
		return f.sentBins.rate(sec(10), sec(59)) / 1e6
	})), "Mbit/s", 0.5, never}.check(t)

	figure{"half the feedback lost, 3 → 0.5, layers", "rate fits after, worst seed", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, _ *link, f *flow) {
			f.feedbackLoss = 0.5
			out.change(sec(20), 500_000)
		})
		s.run(45 * time.Second)
		first, above := fits(f, sec(20), 500_000, 20*time.Second)
		return first + above
	})), "s", 0, 2}.check(t)
	figure{"feedback 250 ms late, 3 → 0.5, layers", "rate fits after, worst seed", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, func(out, back *link, _ *flow) {
			back.delay = 280 * milli
			out.change(sec(20), 500_000)
		})
		s.run(45 * time.Second)
		first, above := fits(f, sec(20), 500_000, 20*time.Second)
		return first + above
	})), "s", 0, 2}.check(t)
	figure{"receiver gone", "target after 10 s, worst seed", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, nil)
		s.at(sec(10), func() { f.feedbackLoss = 1 })
		s.run(20 * time.Second)
		return float64(f.transport.Estimate().Target) / 1e6
	})), "Mbit/s", 0, 0.2}.check(t)
	figure{"receiver gone for 10 s", "full quality again after", slices.Max(each(func(s *sim) float64 {
		f := start(s, 3e6, &layered{}, nil)
		s.at(sec(10), func() { f.feedbackLoss = 1 })
		s.at(sec(20), func() { f.feedbackLoss = 0 })
		s.run(40 * time.Second)
		return reaches(f, sec(20), 1_800_000, 15*time.Second)
	})), "s", 0, 4}.check(t)
	figure{"source on for 4 s and off for 6 s", "sent while on, worst seed", slices.Min(each(func(s *sim) float64 {
		f := start(s, 3e6, onOff{&layered{}, 4 * time.Second, 6 * time.Second}, nil)
		s.run(61 * time.Second)
		sum := 0.0
		for at := 19.5; at < 59; at += 10 { // on from 9 s, 19 s … as the clock begins at 1 s
			sum += f.sentBins.rate(sec(at), sec(at+3)) / 4
		}
		return sum / 1e6
	})), "Mbit/s", 1.7, never}.check(t)
}

// TestRandomLinks checks on links of all kinds what must hold always: the estimate within its limits and a number, no
// growth that wasn't proven, nothing that runs backwards; and that the link is used and its queue isn't kept full.
func TestRandomLinks(t *testing.T) {
	var used, queues []float64
	for seed := range uint64(randomLinks) {
		s := newSim(seed + 1000)
		rate := 250_000 * math.Pow(40, s.random.Float64()) // 0.25–10 Mbit/s
		out := &link{
			sim: s, rate: rate, limit: time.Duration(30+s.random.IntN(700)) * milli,
			delay: time.Duration(2+s.random.IntN(150)) * milli,
		}
		back := &link{sim: s, rate: 1e9, limit: time.Second, delay: out.delay}
		if s.random.IntN(2) == 0 {
			out.jitter = time.Duration(s.random.IntN(40)) * milli
			back.jitter = out.jitter
		}
		if s.random.IntN(2) == 0 {
			out.loss = s.random.Float64() * 0.1
		}
		var src source = greedy{50_000, 4_000_000}
		isLayered := s.random.IntN(2) == 0
		if isLayered {
			src = &layered{}
		}
		cfg := Config{Min: 60_000, Max: 6_000_000}
		f := newFlow(s, out, back, src, cfg)
		if s.random.IntN(2) == 0 {
			f.feedbackLoss = s.random.Float64() * 0.2
		}
		if s.random.IntN(3) == 0 {
			for range 5 {
				out.change(sec(30+30*s.random.Float64()), rate*(0.2+s.random.Float64()))
			}
		}
		var before Estimate
		probes, now := uint64(0), time.Duration(0)
		f.check = func(f *flow) {
			e := f.transport.Estimate()
			bits := f.transport.rate.bits
			if math.IsNaN(bits) || e.Target < cfg.Min || e.Target > cfg.Max || e.Pacing < e.Target {
				t.Fatalf("seed %d: %+v", seed, e)
			}
			if e.Loss < 0 || e.Loss > 1 || e.Inherent < 0 || e.Inherent > maxInherent || e.Queue < 0 || e.RTT < 0 {
				t.Fatalf("seed %d: %+v", seed, e)
			}
			if got := f.transport.Counts().Probes; got == probes && e.Limited && before.Limited && e.Target > before.Target {
				t.Fatalf("seed %d: %d grew to %d although the application sends less and no probe came back", seed, before.Target, e.Target)
			} else {
				probes = got
			}
			if f.transport.now < now {
				t.Fatalf("seed %d: time runs backwards", seed)
			}
			before, now = e, f.transport.now
		}
		f.start(sec(0), sec(60))
		s.run(30 * time.Second)
		possible := min(rate*(1-out.loss), 4e6)
		if isLayered {
			possible = layerRates[0] + audioRate
			for _, r := range layerRates {
				if r+audioRate < rate*0.8 {
					possible = r + audioRate
				}
			}
			possible *= 1 - out.loss
		}
		used = append(used, 100*f.received.rate(sec(10), sec(30))/possible)
		queues = append(queues, out.waits.quantile(0.95, sec(10), sec(30)))
		s.run(32 * time.Second)
	}
	figure{"random links of 0.25–10 Mbit/s", "used of what is possible, mean", mean(used), "%", 75, 120}.check(t)
	figure{"random links of 0.25–10 Mbit/s", "used, 5th percentile", quantile(used, 0.05), "%", 45, 120}.check(t)
	figure{"random links of 0.25–10 Mbit/s", "95 % of queues, median", quantile(queues, 0.5), "ms", 0, 50}.check(t)
	figure{"random links of 0.25–10 Mbit/s", "95 % of queues, 95th percentile", quantile(queues, 0.95), "ms", 0, 120}.check(t)
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// TestReproducible: two runs of one seed agree bit for bit.
func TestReproducible(t *testing.T) {
	run := func() (Estimate, Counts, float64) {
		s := newSim(7)
		out, back := caseLinks(s, 1.2e6)
		out.loss = 0.03
		f := newFlow(s, out, back, &layered{}, Config{})
		g := newFlow(s, out, back, caseMedia, Config{})
		f.start(sec(0), sec(30))
		g.start(sec(3), sec(30))
		s.run(20 * time.Second)
		return f.transport.Estimate(), g.transport.Counts(), g.transport.rate.bits
	}
	a, b, c := run()
	x, y, z := run()
	if a != x || b != y || c != z {
		t.Errorf("%+v %+v %v\n%+v %+v %v", a, b, c, x, y, z)
	}
}

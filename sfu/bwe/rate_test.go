package bwe

import (
	"testing"
	"time"
)

// TestDecrease: how far overuse lowers the rate, by what arrives and whether it was sent like that.
func TestDecrease(t *testing.T) {
	const rate = 1_000_000
	full := input{now: time.Second, state: Overuse, rtt: 60 * time.Millisecond, queue: 100 * time.Millisecond, measured: 500_000, busy: 400_000}
	with := func(change func(in *input)) input {
		in := full
		change(&in)
		return in
	}
	for name, c := range map[string]struct {
		in   input
		want float64
	}{
		"to less than what a full link lets through":     {full, decreaseFactor * 400_000},
		"further where the queue is long":                {with(func(in *input) { in.queue = 200 * time.Millisecond }), (decreaseFactor - drainFactor) * 400_000},
		"the long window where there is hardly a queue":  {with(func(in *input) { in.queue = 30 * time.Millisecond }), decreaseFactor * 500_000},
		"not for a burst that hardly queues":             {with(func(in *input) { in.limited, in.queue = true, 30*time.Millisecond }), rate},
		"by half before anything is measured":            {with(func(in *input) { in.measured, in.busy = 0, 0 }), decreaseFactor * rate / 2},
		"a step where little was sent, and came as sent": {with(func(in *input) { in.limited, in.passes = true, true }), decreaseFactor * rate},
		"in full where little was sent, and came slower": {with(func(in *input) { in.limited = true }), decreaseFactor * 400_000},
		"in full where the rate was sent":                {with(func(in *input) { in.passes = true }), decreaseFactor * 400_000},
	} {
		a := aimd{bits: rate}
		if a.update(c.in); a.bits != c.want {
			t.Errorf("%s: %.0f bit/s, want %.0f", name, a.bits, c.want)
		}
	}
	// One step per response time, and none right after what was measured.
	a := aimd{bits: rate}
	eased := with(func(in *input) { in.limited, in.passes = true, true })
	for _, c := range []struct {
		at   time.Duration
		want float64
	}{{time.Second, 0.85}, {1059 * milli, 0.85}, {1060 * milli, 0.85 * 0.85}} {
		eased.now = c.at
		if a.update(eased); a.bits != c.want*rate {
			t.Errorf("at %v: %.0f bit/s, want %.0f", c.at, a.bits, c.want*rate)
		}
	}
	a = aimd{bits: rate}
	eased.now = time.Second
	a.update(eased)
	soon := full
	soon.now = 1050 * milli
	if before := a.bits; a.update(soon) || a.bits != before {
		t.Errorf("%.0f bit/s 50 ms after a step", a.bits)
	}
	a = aimd{bits: rate}
	eased.now = 1050 * milli
	a.update(full)
	if before := a.bits; a.update(eased) || a.bits != before {
		t.Errorf("%.0f bit/s after %.0f", a.bits, before)
	}
}

// TestPasses: packets that come as they were sent show nothing of what the path takes; those that come slower do.
func TestPasses(t *testing.T) {
	for name, c := range map[string]struct {
		gap, arrives time.Duration // between packets, sent and arrived
		silent       int           // bytes before each of which feedback doesn't tell
		want         bool
	}{
		"as sent":           {20 * milli, 20 * milli, 0, true},
		"faster":            {20 * milli, 10 * milli, 0, true},
		"a little slower":   {20 * milli, 21 * milli, 0, true},
		"slower":            {20 * milli, 30 * milli, 0, false},
		"feedback was lost": {20 * milli, 20 * milli, 1000, false},
	} {
		a := newAcknowledged()
		for i := range 50 {
			a.add(time.Duration(i)*c.gap, time.Hour+time.Duration(i)*c.arrives, 1000, c.silent)
		}
		if got := a.passes(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	a := newAcknowledged()
	if a.passes() {
		t.Error("nothing has come")
	}
}

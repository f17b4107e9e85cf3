package sfu

import (
	"testing"
	"time"
)

// TestRoundTrip: what reports, repairs and feedback show of the round trip, and what is believed.
func TestRoundTrip(t *testing.T) {
	p := &Participant{}
	if p.knownRTT() != 0 || p.rtt() != defaultRTT {
		t.Errorf("%v and %v before anything is known", p.knownRTT(), p.rtt())
	}
	p.repairedRTT(2 * ms)
	if want := (7*defaultRTT + 2*ms) / 8; p.knownRTT() != want {
		t.Errorf("%v after a repair, want %v", p.knownRTT(), want)
	}
	p.roundTrip.Store(0)
	for _, c := range []struct {
		name     string
		observe  func(time.Duration)
		rtt      time.Duration
		estimate time.Duration // of feedback, 0 = none
		want     time.Duration
	}{
		{"the first report counts in full", p.observeRTT, 427 * ms, 0, 427 * ms},
		{"down it is followed at once", p.observeRTT, 39 * ms, 0, 136 * ms},
		{"again", p.observeRTT, 40 * ms, 0, 64 * ms},
		{"up it is followed slowly", p.observeRTT, 144 * ms, 0, 74 * ms},
		{"a repair may be too short: slowly", p.repairedRTT, 2 * ms, 0, 65 * ms},
		{"feedback waits: the shorter of the two", p.observeRTT, 65 * ms, 120 * ms, 65 * ms},
		{"the shorter of the two", p.observeRTT, 65 * ms, 41 * ms, 41 * ms},
	} {
		c.observe(c.rtt)
		p.estimatedRTT.Store(int64(c.estimate))
		if got := p.knownRTT(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

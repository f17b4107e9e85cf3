package bwe

import (
	"testing"
	"time"
)

// TestSwing: which queues are queues, and which are the path's own swings. A message comes every 50 ms.
func TestSwing(t *testing.T) {
	const every = 50 * milli
	constant := func(queue int) func(int) int { return func(int) int { return queue } }
	// Packets are held back and come together: the delay climbs to most, and falls at once.
	saw := func(most int) func(int) int { return func(i int) int { return most * (i % 8) / 7 } }
	for name, c := range map[string]struct {
		before func(i int) int // queue in ms, of message i, for 10 s
		then   func(i int) int // for three
		own    bool            // then the queue is of our own making
		real   bool
		fall   [2]int // least and most, ms
	}{
		"a queue on a still path":               {constant(0), func(i int) int { return 5 * i }, false, true, [2]int{0, 0}},
		"swings":                                {saw(60), saw(60), false, false, [2]int{50, 60}},
		"a queue beyond the swings":             {saw(60), func(i int) int { return 60 + 4*i }, false, true, [2]int{45, 60}},
		"a queue that stands above them":        {saw(20), constant(80), false, true, [2]int{15, 20}},
		"a queue that long is one in any case":  {saw(140), constant(151), false, true, [2]int{100, 150}},
		"what a reduction empties isn't learnt": {constant(0), func(i int) int { return 100 - 5*i }, true, false, [2]int{0, 0}},
		"what falls of itself is":               {constant(0), func(i int) int { return 100 - 5*i }, false, false, [2]int{80, 100}},
	} {
		var s swing
		now := time.Hour
		for i := range 200 {
			now += every
			s.add(now, time.Duration(c.before(i))*milli, false)
		}
		for i := range 60 {
			now += every
			s.add(now, time.Duration(c.then(min(i, 20)))*milli, c.own)
		}
		if got := s.real(); got != c.real {
			t.Errorf("%s: real %v (queue %v, swings by %v)", name, got, s.queue, s.fall)
		}
		if got := int(s.fall / milli); got < c.fall[0] || got > c.fall[1] {
			t.Errorf("%s: it swings by %d ms, want %d to %d", name, got, c.fall[0], c.fall[1])
		}
	}
	// Half is forgotten in a while, and a pause says nothing.
	var s swing
	s.add(time.Second, 80*milli, false)
	s.add(1100*milli, 0, false)
	if s.fall != 80*milli {
		t.Errorf("it swings by %v", s.fall)
	}
	s.add(1100*milli+swingHalf, 0, false)
	if s.fall < 39*milli || s.fall > 41*milli {
		t.Errorf("it swings by %v after %v", s.fall, swingHalf)
	}
	// A queue stood, and isn't gone: its falling isn't the path's. After a while it is a longer path.
	s = swing{}
	now := time.Second
	for _, c := range []struct {
		queue int
		fall  int
	}{{160, 0}, {90, 0}, {9, 0}, {60, 0}, {0, 60}} {
		now += 50 * milli
		if s.add(now, time.Duration(c.queue)*milli, false); s.fall.Round(milli) != time.Duration(c.fall)*milli {
			t.Errorf("it swings by %v at %d ms, want %d ms", s.fall, c.queue, c.fall)
		}
	}
	s.add(now+50*milli, 160*milli, false)
	for range 2 * int(longestDrain/(50*milli)) {
		now += 50 * milli
		s.add(now, 20*milli, false)
	}
	s.add(now, 40*milli, false)
	if s.add(now, 20*milli, false); s.fall < 20*milli {
		t.Errorf("on a path that has become longer it swings by %v", s.fall)
	}
	// After a pause what was known of its swings still counts.
	s.add(now+time.Second, 22*milli, false)
	if s.begun = now - swingKnown; s.real() {
		t.Errorf("after a pause %v is a queue where it swings by %v", s.queue, s.fall)
	}
}

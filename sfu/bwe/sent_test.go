package bwe

import (
	"testing"
	"time"
)

// TestRingGrows: the history is as large as the rate and the feedback need, and no larger.
func TestRingGrows(t *testing.T) {
	for _, x := range []struct {
		name           string
		rate, history  int           // packets a second
		delay          time.Duration // of feedback; 0: none comes
		slots, atLeast int
	}{
		{"slow", 50, 2048, 100 * milli, 64, 50},
		{"usual", 200, 2048, 100 * milli, 256, 200},
		{"behind a long queue", 200, 2048, 3 * time.Second, 1024, 600},
		{"nothing heard", 100, 2048, 0, 1024, 1000},
		{"fast", 5000, 2048, 100 * milli, 2048, 2048},
		{"as little as may be", 5000, 100, 100 * milli, 128, 128},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRing(x.history)
			now, n := time.Second, uint16(65000)
			waits := int(x.delay * time.Duration(x.rate) / time.Second)
			for range 15 * x.rate {
				now += time.Second / time.Duration(x.rate)
				n++
				r.put(Packet{Sequence: n, Size: 1000, At: now})
				if s := r.find(n - uint16(waits)); s != nil && x.delay > 0 {
					s.fate = received
				}
			}
			if len(r.slots) != x.slots {
				t.Errorf("%d slots, want %d", len(r.slots), x.slots)
			}
			for i := range uint16(x.atLeast) {
				if s := r.find(n - i); s == nil || s.size != 1000 {
					t.Fatalf("the packet %d before the last is gone", i)
				}
			}
		})
	}
}

// TestIndexGrows: the index grows with the history, and where two streams want one place, and what it knew stays known.
func TestIndexGrows(t *testing.T) {
	e, x := New(Config{}, 0), NewIndex(2048)
	now := time.Second
	for i := range uint16(1000) {
		now += milli
		e.Sent(Packet{Sequence: i, Size: 1000, At: now})
		x.Put(7, i+500, i)
	}
	if len(x.slots) != leastIndex {
		t.Errorf("%d entries for one stream", len(x.slots))
	}
	if err := e.CongestionFeedback(now, []byte{0, 0, 0, 0}, x); err != nil {
		t.Fatal(err)
	}
	if len(x.slots) != 2048 {
		t.Errorf("%d entries for a history of %d", len(x.slots), len(e.sent.slots))
	}
	for i := range uint16(leastIndex) {
		if n, ok := x.find(7, 1499-i); !ok || n != 999-i {
			t.Fatalf("%d before the last: %d, %v", i, n, ok)
		}
	}
	if _, ok := NewIndex(1).find(0, 0); ok {
		t.Error("found in an empty index")
	}
	x = NewIndex(1 << 14)
	for i := range uint16(1000) { // 40 streams, in turns
		x.Put(uint32(i%40)*0x1234567, i/40+i%40*997, i)
		for back := range min(i, indexReach) {
			k := i - back
			if n, ok := x.find(uint32(k%40)*0x1234567, k/40+k%40*997); !ok || n != k {
				t.Fatalf("%d, %d after it left: %d, %v", k, back, n, ok)
			}
		}
	}
}

package forward

import (
	"math/rand/v2"
	"testing"
)

// TestSequencerGrows compares a sequencer that grows with one that has all its slots from the beginning on.
func TestSequencerGrows(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		small, full := newSequencer(256, 65000), newSequencer(256, 65000)
		full.slots = make([]slot, 256)
		source := 1<<17 + uint64(r.IntN(1000))
		small.begin(source)
		full.begin(source)
		lossy := r.IntN(2) == 0
		for range 2000 {
			if lossy && r.IntN(20) == 0 {
				source += uint64(r.IntN(r.IntN(200) + 1))
			}
			picture := uint16(r.Uint32())
			for _, q := range []*sequencer{&small, &full} {
				q.advance(source, source%7 == 0, picture, operating(source%5))
				if source%11 == 0 {
					q.skip(source)
				} else {
					q.take(source)
				}
			}
			if back := uint64(r.IntN(300)); lossy {
				a, b := small.late(source-back), full.late(source-back)
				if (a == nil) != (b == nil) || a != nil && *a != *b {
					t.Fatalf("seed %d: %d, %d before the latest: %v of %d slots, want %v", seed, source-back, back, a, len(small.slots), b)
				}
				if a != nil && r.IntN(2) == 0 {
					a.state, b.state = slotSent, slotSent
				}
			}
			source++
		}
		if small.next != full.next {
			t.Fatalf("seed %d: %d is next, want %d", seed, small.next, full.next)
		}
		if !lossy && len(small.slots) != leastWindow {
			t.Errorf("seed %d: %d slots though nothing was missing", seed, len(small.slots))
		}
	}
}

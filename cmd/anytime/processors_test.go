package main

import "testing"

// TestProcessorsFollowTheLoad: as few as do, more at once, fewer after a while, and no others than there are.
func TestProcessorsFollowTheLoad(t *testing.T) {
	for _, test := range []struct {
		name      string
		all, used int
		loads     map[int]float64 // from this tick on
		ticks     int
		want      int
	}{
		{"an idle one", 8, 8, nil, 10 * processorCalm, 1},
		{"not too soon", 2, 2, nil, processorCalm - 1, 2},
		{"then", 2, 2, nil, processorCalm, 1},
		{"one step at a time", 8, 8, nil, processorCalm, 4},
		{"an odd number", 3, 3, nil, processorCalm, 2},
		{"a burst brings them back", 8, 1, map[int]float64{5: 1, 6: 0}, 10, 8},
		{"more of them", 8, 1, map[int]float64{5: 0.6, 6: 0.9}, 10, 2},
		{"no more than there are", 6, 4, map[int]float64{0: 4}, 3, 6},
		{"what one does", 2, 1, map[int]float64{0: 0.45}, 10 * processorCalm, 1},
		{"neither calm nor crowded", 2, 2, map[int]float64{0: 0.45}, 10 * processorCalm, 2},
		{"a busy tick begins the calm anew", 2, 2, map[int]float64{processorCalm / 2: 0.5, processorCalm/2 + 1: 0}, processorCalm + 10, 2},
		{"half of them", 16, 16, map[int]float64{0: 1.2}, 100 * processorCalm, 4},
	} {
		p := processors{all: test.all, used: test.used}
		load := 0.0
		for i := range test.ticks {
			if l, ok := test.loads[i]; ok {
				load = l
			}
			p.tick(load)
		}
		if p.used != test.want {
			t.Errorf("%s: %d of %d, want %d", test.name, p.used, test.all, test.want)
		}
	}
}

package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are 3 % wide at most, from 1 µs to over an hour. What is negative counts as 0.
type histogram struct {
	counts [32 << 5]uint64
	total  uint64
}

// bucket of a duration: 32 in every octave of microseconds.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0) / time.Microsecond)
	if v < 32 {
		return int(v)
	}
	octave := bits.Len64(v) - 6 // v >> octave is 32 to 63
	return min((octave+1)<<5|int(v>>octave)&31, len(histogram{}.counts)-1)
}

// floor is the least duration of a bucket.
func floor(i int) time.Duration {
	if i < 32 {
		return time.Duration(i) * time.Microsecond
	}
	octave := i>>5 - 1
	return time.Duration(32|i&31) << octave * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// less returns what came in since an earlier state.
func (h *histogram) less(earlier *histogram) histogram {
	out := *h
	for i, n := range earlier.counts {
		out.counts[i] -= n
	}
	out.total -= earlier.total
	return out
}

// percentile is the duration, to the bucket's middle, that the share p (0 to 1) of all lie at or below; 0 of nothing.
func (h *histogram) percentile(p float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(uint64(p*float64(h.total)+0.999999), 1)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			if i < 32 {
				return floor(i)
			}
			return (floor(i) + floor(i+1)) / 2
		}
	}
	return 0
}

package turn

import (
	"sync/atomic"
	"time"
)

// bucket bounds a rate: a token bucket, kept as the time at which it will be full again (the generic cell rate algorithm).
// Times are of one clock that begins at zero. Safe for concurrent use, without a lock.
type bucket struct {
	each  float64      // nanoseconds per unit at the allowed rate
	burst int64        // how far ahead of now the bucket may run, in nanoseconds
	full  atomic.Int64 // nanoseconds
}

// newBucket allows so many units per second, and burst at once.
func newBucket(rate, burst int) *bucket {
	each := float64(time.Second) / float64(rate)
	return &bucket{each: each, burst: int64(each * float64(burst))}
}

// take reports whether n units may pass at a time, and counts them if so.
func (b *bucket) take(at time.Duration, n int) bool {
	cost := int64(b.each * float64(n))
	for {
		was := b.full.Load()
		is := max(was, int64(at)) + cost
		if is-int64(at) > b.burst {
			return false
		}
		if b.full.CompareAndSwap(was, is) {
			return true
		}
	}
}

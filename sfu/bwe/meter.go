package bwe

import "time"

const buckets = 32

// meter measures a rate over a sliding window of equal buckets. Adding costs O(1), amortised over the time that passes.
type meter struct {
	width time.Duration // of a bucket
	span  int           // buckets in the window, at most 32
	bytes [buckets]int32
	sum   int64
	index int64 // number of the newest bucket since time zero
	first int64 // the bucket it began with
	any   bool
}

func newMeter(width time.Duration, span int) meter {
	return meter{width: width, span: min(max(span, 1), buckets)}
}

// add counts bytes at a time. What is older than the window, or lies before what was told, counts in the newest bucket.
func (m *meter) add(at time.Duration, bytes int) {
	m.advance(at)
	if !m.any {
		m.any, m.first, m.index = true, m.bucket(at), m.bucket(at)
	}
	m.bytes[m.index%buckets] += int32(bytes)
	m.sum += int64(bytes)
}

func (m *meter) bucket(at time.Duration) int64 { return int64(max(at, 0) / m.width) }

func (m *meter) advance(at time.Duration) {
	if !m.any {
		return
	}
	now := m.bucket(at)
	if now-m.index >= int64(m.span) {
		m.bytes, m.sum = [buckets]int32{}, 0
		m.index = now
		return
	}
	for m.index < now {
		m.index++
		old := (m.index - int64(m.span)) % buckets
		if old < 0 {
			continue
		}
		m.sum -= int64(m.bytes[old])
		m.bytes[old] = 0
	}
}

// rate returns bit/s over the window, or over what has passed since the first packet where that is shorter; ok is false
// until half the window has passed.
func (m *meter) rate(now time.Duration) (bits float64, ok bool) {
	if !m.any {
		return 0, false
	}
	m.advance(now)
	n := min(m.index-m.first+1, int64(m.span))
	return float64(m.sum*8) / (float64(n) * m.width.Seconds()), n*2 >= int64(m.span)
}

func (m *meter) reset() { *m = newMeter(m.width, m.span) }

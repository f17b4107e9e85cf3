package bwe

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"
)

// The simulator: events in simulated time, a bottleneck with a drop-tail queue, and flows over it. Nothing but the seed
// decides what happens.

const (
	milli = time.Millisecond
	// overhead of IP, UDP, SRTP and RTP header with extensions.
	overhead = 66
	payload  = 1134
)

type event struct {
	at    time.Duration
	order uint64
	run   func()
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

type sim struct {
	now    time.Duration
	order  uint64
	queue  events
	random *rand.Rand
}

func newSim(seed uint64) *sim {
	return &sim{now: time.Second, random: rand.New(rand.NewPCG(seed, 4))}
}

func (s *sim) at(t time.Duration, run func()) {
	s.order++
	heap.Push(&s.queue, event{max(t, s.now), s.order, run})
}

func (s *sim) after(d time.Duration, run func()) { s.at(s.now+d, run) }

// run goes on for d of simulated time.
func (s *sim) run(d time.Duration) {
	end := s.now + d
	for len(s.queue) > 0 && s.queue[0].at <= end {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.run()
	}
	s.now = end
}

// link is a bottleneck.
type link struct {
	*sim
	rate   float64       // bit/s
	limit  time.Duration // of the queue, at the current rate
	delay  time.Duration
	jitter time.Duration // added to each packet without reordering: half-normal, a third of this is its standard deviation, and this its most
	spread time.Duration // the same, evenly distributed up to this
	loss   float64       // random
	// Gilbert-Elliott: chance per packet to enter and to leave the bad state, and its loss.
	enter, leave, bad float64
	police            bool // no queue: what exceeds a bucket of 50 ms is dropped
	bucket            int  // bytes that pass at once after a pause, as a shaper lets them
	inBad             bool

	fifo    []waiting
	bytes   int
	serving bool
	latest  time.Duration // arrival
	waits   series        // queueing delay in ms
	dropped int
	carried int64
	tokens  float64       // bytes in the bucket …
	filled  time.Duration // … then
}

type waiting struct {
	size    int
	at      time.Duration
	deliver func()
}

func (l *link) send(size int, deliver func()) {
	if l.inBad {
		l.inBad = l.random.Float64() >= l.leave
	} else {
		l.inBad = l.enter > 0 && l.random.Float64() < l.enter
	}
	if l.loss > 0 && l.random.Float64() < l.loss || l.inBad && l.random.Float64() < l.bad {
		return
	}
	limit := l.limit
	if l.police {
		limit = 50 * milli
	}
	if float64((l.bytes+size)*8) > l.rate*limit.Seconds() && l.bytes > 0 {
		l.dropped++
		return
	}
	l.fifo = append(l.fifo, waiting{size, l.now, deliver})
	l.bytes += size
	if !l.serving {
		l.serve()
	}
}

func (l *link) serve() {
	if len(l.fifo) == 0 {
		l.serving = false
		return
	}
	l.serving = true
	w := l.fifo[0]
	l.tokens = min(float64(l.bucket), l.tokens+l.rate/8*(l.now-l.filled).Seconds())
	takes := max(0, float64(w.size)-l.tokens) * 8 / l.rate
	l.tokens = max(0, l.tokens-float64(w.size))
	l.filled = l.now + time.Duration(takes*float64(time.Second))
	l.after(l.filled-l.now, func() {
		l.fifo = l.fifo[1:]
		l.bytes -= w.size
		l.carried += int64(w.size)
		wait := l.now - w.at
		if l.police {
			wait = 0
		}
		l.waits.add(l.now, ms(wait))
		arrive := w.at + wait + l.delay
		if l.jitter > 0 {
			arrive += time.Duration(min(math.Abs(l.random.NormFloat64())/3, 1) * float64(l.jitter))
		}
		if l.spread > 0 {
			arrive += time.Duration(l.random.Int64N(int64(l.spread)))
		}
		l.latest = max(l.latest, arrive)
		l.at(max(l.latest, l.now), w.deliver)
		l.serve()
	})
}

// change sets the rate at a time.
func (l *link) change(at time.Duration, rate float64) { l.at(at, func() { l.rate = rate }) }

// series is samples over time.
type series struct {
	t []time.Duration
	v []float64
}

func (s *series) add(t time.Duration, v float64) { s.t, s.v = append(s.t, t), append(s.v, v) }

func (s *series) mean(from, to time.Duration) float64 {
	sum, n := 0.0, 0
	for i, t := range s.t {
		if t >= from && t < to {
			sum += s.v[i]
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// quantile of the values in a span.
func (s *series) quantile(q float64, from, to time.Duration) float64 {
	var in []float64
	for i, t := range s.t {
		if t >= from && t < to {
			in = append(in, s.v[i])
		}
	}
	return quantile(in, q)
}

// spent returns the seconds of a span in which the value was from low to high.
func (s *series) spent(low, high float64, from, to time.Duration) float64 {
	var sum time.Duration
	for i, t := range s.t {
		if t >= from && t < to && s.v[i] >= low && s.v[i] < high && i+1 < len(s.t) {
			sum += s.t[i+1] - t
		}
	}
	return sum.Seconds()
}

// bins counts bytes in bins of 50 ms.
type bins struct{ v []float64 }

const binWidth = 50 * milli

func (b *bins) add(t time.Duration, bytes int) {
	i := int(t / binWidth)
	for len(b.v) <= i {
		b.v = append(b.v, 0)
	}
	b.v[i] += float64(bytes)
}

// rate in bit/s over a span.
func (b *bins) rate(from, to time.Duration) float64 {
	sum := 0.0
	for i := int(from / binWidth); i < int(to/binWidth) && i < len(b.v); i++ {
		sum += b.v[i]
	}
	return sum * 8 / (to - from).Seconds()
}

// tcp is a greedy loss-based flow: slow start, additive increase, half on loss (RFC 5681), losses known by later
// acknowledgements, a timeout of a second.
type tcp struct {
	*sim
	out, back         *link
	window, threshold float64 // packets
	next              int
	flight            map[int]time.Duration
	recover           int
	left              int // packets still to send; negative: endless
	received          bins
	lastAck           time.Duration
	stopped           bool
	done              func()
	extra             time.Duration
}

const segmentSize = 1500

func newTCP(s *sim, out, back *link, packets int) *tcp {
	return &tcp{sim: s, out: out, back: back, window: 10, threshold: 1e9, flight: map[int]time.Duration{}, left: packets}
}

func (c *tcp) start(at, until time.Duration) {
	c.at(at, func() {
		c.lastAck = c.now
		c.push()
		c.timer()
	})
	c.at(until, func() { c.stopped = true })
}

func (c *tcp) push() {
	for !c.stopped && c.left != 0 && float64(len(c.flight)) < c.window {
		n := c.next
		c.next++
		if c.left > 0 {
			c.left--
		}
		c.flight[n] = c.now
		c.out.send(segmentSize, func() {
			c.after(c.extra, func() {
				c.received.add(c.now, segmentSize)
				c.back.send(60, func() { c.after(c.extra, func() { c.ack(n) }) })
			})
		})
	}
}

func (c *tcp) ack(n int) {
	c.lastAck = c.now
	if _, ok := c.flight[n]; ok {
		delete(c.flight, n)
		if c.window < c.threshold {
			c.window++
		} else {
			c.window += 1 / c.window
		}
	}
	lost := false
	for k := range c.flight {
		if k < n-2 {
			delete(c.flight, k)
			if c.left >= 0 {
				c.left++
			}
			lost = lost || k >= c.recover
		}
	}
	if lost {
		c.recover = c.next
		c.window = max(c.window/2, 2)
		c.threshold = c.window
	}
	if c.left == 0 && len(c.flight) == 0 && c.done != nil {
		done := c.done
		c.done = nil
		done()
	}
	c.push()
}

func (c *tcp) timer() {
	if c.stopped {
		return
	}
	if len(c.flight) > 0 && c.now-c.lastAck > time.Second {
		if c.left >= 0 {
			c.left += len(c.flight)
		}
		clear(c.flight)
		c.threshold = max(c.window/2, 2)
		c.window = 1
		c.lastAck = c.now
		c.push()
	}
	c.after(200*milli, c.timer)
}

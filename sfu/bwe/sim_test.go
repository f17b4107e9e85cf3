package bwe

import (
	"container/heap"
	"encoding/binary"
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

// sender is an estimator of either kind.
type sender interface {
	Sent(Packet)
	Want(int64)
	Update(time.Duration)
	Probe() (Probe, bool)
	Estimate() Estimate
}

// source is what a flow sends.
type source interface {
	// frame returns the bytes of the next video frame for this target, and what the source would send if it could.
	frame(now time.Duration, target float64, random *rand.Rand) (bytes int, want float64)
}

// greedy is an encoder that follows the target.
type greedy struct{ min, max float64 }

const framesPerSecond = 30

func (g greedy) frame(_ time.Duration, target float64, random *rand.Rand) (int, float64) {
	rate := min(max(target-audioRate, g.min), g.max)
	return int(rate / framesPerSecond / 8 * (0.8 + 0.4*random.Float64())), g.max + audioRate
}

// layered is simulcast of 150, 500 and 1700 kbit/s, with headers.
type layered struct {
	layer int
	since time.Duration
}

var layerRates = [...]float64{150_000 * 1.066, 500_000 * 1.066, 1_700_000 * 1.066}

const audioRate = 50 * 126 * 8 // 50 packets of 60 bytes and headers

func (s *layered) frame(now time.Duration, target float64, random *rand.Rand) (int, float64) {
	best := 0
	for i, r := range layerRates {
		room := 1.0
		if i > s.layer {
			room = 1.05
		}
		if (r+audioRate)*room <= target {
			best = i
		}
	}
	if best > s.layer && now-s.since < 500*milli {
		best = s.layer
	}
	factor := 0.8 + 0.4*random.Float64()
	if best != s.layer {
		s.layer, s.since = best, now
		factor = 4 // keyframe
	}
	return int(layerRates[s.layer] / framesPerSecond / 8 * factor), (layerRates[2] + audioRate) * 1.1
}

// onOff sends from time to time.
type onOff struct {
	source
	on, off time.Duration
}

func (s onOff) frame(now time.Duration, target float64, random *rand.Rand) (int, float64) {
	n, want := s.source.frame(now, target, random)
	if now%(s.on+s.off) >= s.on {
		n = 0
	}
	return n, want
}

// flow is a subscriber: source, estimator and pacer at the server, feedback from the other end.
type flow struct {
	*sim
	out, back    *link
	estimator    sender
	transport    *Estimator // nil when the receiver has no transport-wide feedback
	reports      *Reports
	pacer        Pacer
	source       source
	paused       bool
	stopped      bool
	extra        time.Duration // one-way delay besides the link's
	feedbackLoss float64
	offset       time.Duration // of the receiver's clock
	remb         func(now time.Duration, received float64) int64

	sequence uint16
	video    []int // sizes queued
	videoAt  []time.Duration
	bytes    int
	wake     uint64

	// receiver
	seen       map[uint16]time.Duration
	base, high uint16
	anySeen    bool
	fbCount    uint8
	received   bins
	sentBins   bins
	targets    series
	queues     series
	delays     series // one-way, queueing in ms at the flow's own packets
	rrGot      int
	rrHigh     uint16
	recentGot  int
	feedbacks  int
	probes     int
	check      func(f *flow)
}

func newFlow(s *sim, out, back *link, src source, cfg Config) *flow {
	f := &flow{sim: s, out: out, back: back, source: src, seen: map[uint16]time.Duration{}, offset: 5 * time.Hour}
	f.transport = New(cfg, s.now)
	f.estimator = f.transport
	return f
}

func newReportsFlow(s *sim, out, back *link, src source, cfg Config) *flow {
	f := &flow{sim: s, out: out, back: back, source: src, seen: map[uint16]time.Duration{}}
	f.reports = NewReports(cfg, s.now)
	f.estimator = f.reports
	return f
}

// start begins at a time and stops at another.
func (f *flow) start(at, until time.Duration) {
	f.at(at, func() {
		f.media()
		f.audio()
		f.tick()
		if f.transport != nil {
			f.feedback()
		} else {
			f.report()
		}
	})
	f.at(until, func() { f.stopped = true })
}

func (f *flow) media() {
	if f.stopped {
		return
	}
	target := float64(f.estimator.Estimate().Target)
	n, want := f.source.frame(f.now, target, f.random)
	f.estimator.Want(int64(want))
	if !f.paused {
		for n > 0 {
			size := min(n, payload+overhead)
			f.video, f.videoAt = append(f.video, max(size, overhead+10)), append(f.videoAt, f.now)
			f.bytes += max(size, overhead+10)
			n -= size
		}
		f.pump()
	}
	// Cameras aren't in step: a millisecond of jitter lets the frames of two flows drift past each other.
	f.after(time.Second/framesPerSecond+time.Duration(f.random.Int64N(int64(2*milli)))-milli, f.media)
}

func (f *flow) audio() {
	if f.stopped {
		return
	}
	if !f.paused {
		f.send(126, f.pacer.Probing(), false)
	}
	f.after(20*milli, f.audio)
}

func (f *flow) tick() {
	if f.stopped {
		return
	}
	f.estimator.Update(f.now)
	est := f.estimator.Estimate()
	f.pacer.Set(est.Pacing, est.Padding, est.Burst)
	if p, ok := f.estimator.Probe(); ok {
		f.pacer.Start(p)
		f.probes++
		f.pump()
	} else if est.Padding > 0 {
		f.pump()
	}
	f.targets.add(f.now, float64(est.Target))
	f.queues.add(f.now, ms(est.Queue))
	if f.check != nil {
		f.check(f)
	}
	f.after(25*milli, f.tick)
}

// pump does what an egress does with a pacer.
func (f *flow) pump() {
	q := Queue{Packets: len(f.video), Bytes: f.bytes}
	if len(f.video) > 0 {
		q.Oldest = f.now - f.videoAt[0]
	}
	g := f.pacer.Next(f.now, q)
	sent := 0
	for i := 0; i < g.Packets && len(f.video) > 0 && sent < g.Bytes; i++ {
		size := f.video[0]
		f.video, f.videoAt, f.bytes = f.video[1:], f.videoAt[1:], f.bytes-size
		f.send(size, g.Probe, false)
		sent += size
	}
	for g.Padding > 0 && len(f.video) == 0 && sent < g.Bytes {
		size := min(max(g.Bytes-sent, 80), 300)
		f.send(size, g.Probe, true)
		sent += size
	}
	f.wake++
	if g.Next > 0 {
		wake := f.wake
		f.at(max(g.Next, f.now+time.Microsecond), func() {
			if wake == f.wake && !f.stopped {
				f.pump()
			}
		})
	}
}

func (f *flow) send(size int, probe uint16, padding bool) {
	sequence := f.sequence
	f.sequence++
	f.pacer.Sent(f.now, size, padding)
	f.estimator.Sent(Packet{Sequence: sequence, Size: size, At: f.now, Probe: probe})
	f.sentBins.add(f.now, size)
	at := f.now
	f.out.send(size, func() {
		f.after(f.extra, func() {
			f.rrGot++
			f.recentGot += size
			f.received.add(f.now, size)
			f.delays.add(f.now, ms(f.now-at-f.out.delay-f.extra))
			if !f.anySeen {
				f.anySeen, f.base, f.high = true, sequence, sequence
			}
			if newer(sequence, f.high) {
				f.high = sequence
			}
			f.seen[sequence] = f.now
		})
	})
}

// feedback is what a browser sends: 544 bit take 5 % of what arrives, every 50–250 ms.
func (f *flow) feedback() {
	if f.stopped {
		return
	}
	rate := f.received.rate(max(f.now-500*milli, 0), f.now)
	interval := min(max(time.Duration(544/(0.05*max(rate, 1))*float64(time.Second)), 50*milli), 250*milli)
	if f.anySeen && len(f.seen) > 0 {
		b := f.encode()
		f.feedbacks++
		if f.random.Float64() >= f.feedbackLoss {
			f.back.send(len(b)+60, func() {
				f.after(f.extra, func() {
					if err := f.transport.TransportFeedback(f.now, b); err != nil {
						panic(err)
					}
				})
			})
		}
	}
	f.after(interval, f.feedback)
}

// encode writes the wire format, with status vectors of two-bit symbols.
func (f *flow) encode() []byte {
	count := int(f.high-f.base) + 1
	b := binary.BigEndian.AppendUint16(nil, f.base)
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	var first time.Duration
	for i := range count {
		if at, ok := f.seen[f.base+uint16(i)]; ok {
			first = at + f.offset
			break
		}
	}
	reference := first / (64 * milli)
	b = append(b, byte(reference>>16), byte(reference>>8), byte(reference), f.fbCount)
	f.fbCount++
	last := reference * 64 * milli
	var deltas []byte
	for i := 0; i < count; i += 7 {
		chunk := uint16(0xc000)
		for k := range min(7, count-i) {
			at, ok := f.seen[f.base+uint16(i+k)]
			if !ok {
				continue
			}
			d := (at + f.offset - last) / (250 * time.Microsecond)
			last += d * 250 * time.Microsecond
			if d >= 0 && d < 256 {
				chunk |= 1 << (12 - 2*k)
				deltas = append(deltas, byte(d))
			} else {
				chunk |= 2 << (12 - 2*k)
				deltas = binary.BigEndian.AppendUint16(deltas, uint16(int16(d)))
			}
		}
		b = binary.BigEndian.AppendUint16(b, chunk)
	}
	clear(f.seen)
	f.base = f.high + 1
	return append(b, deltas...)
}

// report is a receiver report every second, and a REMB where the receiver has one.
func (f *flow) report() {
	if f.stopped {
		return
	}
	if f.rrGot > 0 {
		// RFC 3550 section 6.4.1: of the packets expected by the highest sequence number.
		expected := int(f.high - f.rrHigh)
		fraction := uint8(min(max(expected-f.rrGot, 0)*256/max(expected, 1), 255))
		f.rrHigh, f.rrGot = f.high, 0
		received, remb := f.now, int64(0)
		if f.remb != nil {
			remb = f.remb(f.now, float64(f.recentGot*8))
		}
		f.recentGot = 0
		// The round trip that a report shows: a sender report's way there, with the queue, and the report's back.
		there := time.Duration(f.delays.v[len(f.delays.v)-1]*float64(milli)) + f.out.delay + f.extra
		if f.random.Float64() >= f.feedbackLoss {
			f.back.send(100, func() {
				f.after(f.extra, func() {
					f.reports.Report(f.now, fraction, there+f.now-received)
					if remb > 0 {
						f.reports.REMB(f.now, remb)
					}
				})
			})
		}
	}
	f.after(time.Second, f.report)
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

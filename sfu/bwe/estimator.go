package bwe

import (
	"math"
	"time"
)

const (
	pacingFactor  = 1.5
	pacingDrain   = 1.2 // after overuse
	drainTime     = 2 * time.Second
	limitedBelow  = 0.65 // of the target: application limited …
	limitedUntil  = 0.85 // … until it sends this much
	streamTimeout = 2 * time.Second
	silence       = time.Second // without feedback, beyond the round trip
	silenceFactor = 0.8
	silenceEvery  = 500 * time.Millisecond
	absurd        = 30 * time.Second // between what the receiver's clock and ours say about the time passed
	noQueue       = 5 * time.Millisecond
	sentPeriod    = 2 * time.Second
	maxSilent     = 300 * time.Millisecond
	farAway       = time.Duration(1) << 60
	sendWidth     = 25 * time.Millisecond
)

// Estimator is the send-side estimate of one subscriber from transport-wide feedback. The owner serialises calls.
type Estimator struct {
	cfg     Config
	now     time.Duration
	sent    ring
	sending meter

	groups  grouping
	trend   trendline
	base    baseline
	swing   swing
	acked   acknowledged
	rate    aimd
	loss    lossControl
	probes  prober
	others  competition
	calm    calm
	want    float64
	best    float64 // highest target before the latest drop
	limited bool

	sentMost, sentBefore float64 // highest rate sent in this period, and in the one before
	sentSince            time.Duration

	overuse  time.Duration // latest
	drains   time.Duration // since when a queue falls because the rate was lowered, 0 = none does
	overused bool

	rtt   time.Duration
	queue time.Duration
	state State

	reported    uint16 // highest sequence number that feedback told of
	anyReported bool
	heard       time.Duration // latest feedback
	lowered     time.Duration // for silence
	newestSent  time.Duration // send time of the newest packet known to have arrived
	lastArrival time.Duration
	anyArrival  bool
	epoch       time.Duration
	offset      time.Duration // arrival minus sending, of the latest packet

	batch  batch
	times  unwrapper
	counts Counts
}

// batch is what one feedback message brings.
type batch struct {
	received, lost int
	newest         time.Duration // send time of the newest received
	silent         int           // bytes that feedback passed over, sent between these times
	silentFrom     time.Duration
	silentTo       time.Duration
	delay          time.Duration // least one-way delay, clocks' offset included
	overuse        bool
}

// New returns an estimator that knows nothing yet; now is server time.
func New(cfg Config, now time.Duration) *Estimator {
	cfg = cfg.complete()
	e := &Estimator{cfg: cfg, now: now, sent: newRing(cfg.History), sending: newMeter(sendWidth, slowSpan)}
	e.trend = newTrendline()
	e.acked = newAcknowledged()
	e.rate.bits = float64(cfg.Start)
	e.probes.interval, e.probes.span, e.probes.factor = probeSoonest, probeSpan, probeFactor
	return e
}

// Sent notes a packet that left. O(1), no allocation but for growth.
func (e *Estimator) Sent(p Packet) {
	e.tick(p.At)
	p.At, p.Size = e.now, min(max(p.Size, 0), maxSize)
	if e.heard == 0 {
		e.heard = e.now
	}
	if !e.flying() {
		e.heard = max(e.heard, e.now) // silence counts from the first packet that waits for an answer
	}
	e.sent.put(p)
	e.sending.add(e.now, p.Size)
	e.probes.sent(p.Probe, p.Size)
}

// Again notes that the very packet of that number left once more, bit for bit. It has no number of its own then, so that
// what feedback says of the number from now on tells neither which of the two it means nor how long that took: it counts as
// [Counts].Duplicate. The first one counts as lost, or else nobody would have asked for it.
func (e *Estimator) Again(sequence uint16) {
	s := e.sent.find(sequence)
	if s == nil {
		return
	}
	if s.fate == flying {
		e.counts.Lost++
		e.loss.packet(s.at, int(s.size), true)
		e.probes.result(s, 0, true)
	}
	s.fate = again
}

// flying reports whether the latest packet still waits for feedback.
func (e *Estimator) flying() bool {
	if !e.sent.any {
		return false
	}
	return !e.anyReported || newer(e.sent.last, e.reported)
}

// Want tells what the allocator would send if it could, in bit/s; 0 means that it wants no more than it has. Probes go
// no further than a quarter above it.
func (e *Estimator) Want(bits int64) { e.want = float64(max(bits, 0)) }

// RTT tells a round trip measured otherwise (RFC 3550 section 6.4.1); feedback alone shows it nearly as well.
func (e *Estimator) RTT(d time.Duration) {
	if d <= 0 || d > 10*time.Second {
		return
	}
	if e.rtt == 0 {
		e.rtt = d
	}
	e.rtt += (d - e.rtt) / 8
}

func (e *Estimator) tick(now time.Duration) { e.now = max(e.now, now) }

// Result is what feedback says of one packet.
type Result struct {
	Sequence uint16
	// Received: it arrived At, in the receiver's time, which may begin anywhere. Otherwise it hasn't arrived.
	Received bool
	At       time.Duration
}

// Feedback takes one message's results, in the order of their sequence numbers. O(1) for each, no allocation.
func (e *Estimator) Feedback(now time.Duration, results []Result) {
	e.begin(now)
	for i := range results {
		e.result(results[i])
	}
	e.end()
}

func (e *Estimator) begin(now time.Duration) {
	e.tick(now)
	e.batch = batch{}
}

func (e *Estimator) result(r Result) {
	s := e.sent.find(r.Sequence)
	if s == nil {
		e.counts.Unknown++
		return
	}
	e.passOver(r.Sequence)
	switch {
	case !r.Received:
		if s.fate == flying {
			s.fate = lost
			e.batch.lost++
			e.counts.Lost++
			e.loss.packet(s.at, int(s.size), true)
			e.probes.result(s, 0, true)
		}
	case s.fate == received || s.fate == again:
		e.counts.Duplicate++
	default:
		e.arrived(s, r.At)
	}
}

// passOver accounts for packets between the feedback before and this one, of which nobody will speak any more: the
// message with them was lost. They are taken for arrived in the rate, and for nothing else.
func (e *Estimator) passOver(sequence uint16) {
	if !e.anyReported {
		e.anyReported, e.reported = true, sequence
		return
	}
	if !newer(sequence, e.reported) {
		return
	}
	from := e.reported + 1
	if gap := sequence - from; int(gap) >= len(e.sent.slots) {
		from = sequence - uint16(len(e.sent.slots)) + 1
	}
	for q := from; q != sequence; q++ {
		if s := e.sent.find(q); s != nil && s.fate == flying {
			e.counts.Silent++
			if b := &e.batch; b.silent == 0 {
				b.silentFrom = s.at
			}
			e.batch.silent += int(s.size)
			e.batch.silentTo = s.at
		}
	}
	e.reported = sequence
}

func (e *Estimator) arrived(s *record, at time.Duration) {
	at = min(max(at, -farAway), farAway)
	if !e.anyArrival {
		e.epoch = at - time.Hour // the receiver's clock may begin anywhere; ours for it begins above zero
	}
	at -= e.epoch
	offset := at - s.at
	if e.anyArrival && (offset-e.offset > absurd || e.offset-offset > absurd) {
		e.counts.Absurd++
		e.forget()
		e.epoch += at - time.Hour
		at = time.Hour
		offset = at - s.at
	}
	e.offset = offset
	late := s.fate == lost
	s.fate = received
	e.counts.Received++
	if late {
		e.counts.Lost--
		e.loss.late()
	} else {
		e.loss.packet(s.at, int(s.size), false)
		e.probes.result(s, at, false)
	}
	b := &e.batch
	if b.received == 0 {
		b.delay = offset
	}
	b.received++
	b.delay = min(b.delay, offset)
	b.newest = max(b.newest, s.at)
	if e.anyArrival && at-e.lastArrival > streamTimeout {
		// The stream paused: neither the trend nor the rate means anything across it.
		e.groups, e.trend = grouping{}, trendline{threshold: e.trend.threshold}
		e.acked.reset()
	}
	e.anyArrival, e.lastArrival = true, max(e.lastArrival, at)
	if b.silent > 0 && b.silentTo-b.silentFrom > maxSilent {
		b.silent = 0
		e.acked.reset()
	}
	e.acked.add(s.at, at, int(s.size), b.silent)
	b.silent = 0
	v, ok, reset := e.groups.add(s.at, at, e.swing.fall)
	if reset {
		e.counts.Absurd++
		e.trend = trendline{threshold: e.trend.threshold}
	}
	if ok {
		e.trend.add(v)
		b.overuse = b.overuse || e.trend.state == Overuse
	}
}

// forget drops what was learnt in the receiver's time.
func (e *Estimator) forget() {
	e.groups, e.trend, e.base, e.swing, e.calm = grouping{}, newTrendline(), baseline{}, swing{}, calm{}
	e.acked.reset()
	e.anyArrival, e.lastArrival, e.queue = false, 0, 0
}

func (e *Estimator) end() {
	b := &e.batch
	if b.received == 0 && b.lost == 0 {
		return
	}
	e.heard = e.now
	if b.received > 0 {
		e.queue = e.base.add(e.now, b.delay)
		e.swing.add(e.now, e.queue, e.draining())
		e.probes.swing = e.swing.fall
		if b.newest > e.newestSent {
			e.newestSent = b.newest
			e.RTT(e.now - b.newest)
		}
	}
	e.state = e.trend.state
	if b.overuse {
		e.state = Overuse
	}
	if e.state == Overuse && (e.queue < noQueue || e.loss.fraction < lossNegligible && !e.swing.real()) {
		e.state = Normal // jitter: the quickest packet of the message didn't wait, or no longer than it does now and then
	}
	e.usage()
	in := input{now: e.now, state: e.state, rtt: e.rtt, queue: e.queue, loss: e.loss.fraction, limited: e.limited}
	in.steady, in.tried = e.swing.steady(), e.probes.last
	in.measured, in.busy = e.measured()
	in.passes = e.acked.passes()
	in.sent, _ = e.sending.rate(e.now)
	before := e.rate.bits
	if e.state == Overuse {
		e.overuse, e.overused = e.now, true
	}
	competing := e.others.update(e.now, max(0, e.queue-e.swing.fall), e.rate.bits)
	if competing {
		in.state, in.queue, in.steady = Normal, 0, 0 // loss decides
		in.limited = in.limited || e.rate.bits > e.fair()
	}
	dropped := e.rate.update(in)
	limit, congested, closed := e.loss.close(e.queue, e.state == Overuse)
	if fair := e.fair(); competing && closed && e.loss.fraction > e.loss.inherent && e.rate.bits > fair {
		limit, congested = max(competeFactor*e.rate.bits, fair), true
	}
	if lower, ok := e.loss.doubt(e.rate.bits); ok && closed && (!congested || lower < limit) {
		limit, congested = lower, true
	}
	if congested && limit < e.rate.bits {
		e.rate.capacity.overuse(limit)
		e.rate.bits = limit
		e.rate.lowered, e.rate.dropped = e.now, true
		e.rate.phase = hold
		e.overuse, e.overused = e.now, true
		dropped = true
	}
	e.probes.judge(e.now, in.measured, e.rate.bits, e.state == Overuse, dropped)
	if dropped {
		e.best = max(e.best, before)
		e.drains = e.now
		e.probes.interval = probeSoonest
	}
	e.probed()
	e.bound()
	e.probe()
	e.calm.update(e.now, e.state == Overuse || dropped || competing || e.loss.fraction > lossNegligible || e.swing.steady() > fullQueue)
}

// draining reports whether the queue falls because the rate was lowered, or rises because more is sent than the rate.
func (e *Estimator) draining() bool {
	if sent, _ := e.sending.rate(e.now); sent > 1.2*e.rate.bits {
		return true
	}
	since := e.now - e.drains
	if e.drains > 0 && since >= ownDrain && (e.queue < realQueue || since >= longestDrain) {
		e.drains = 0
	}
	return e.drains > 0
}

// measured returns the rate that arrives, over half a second and over a shorter while: raised by the loss that the link
// has anyhow, and never more than was sent, whatever the receiver says.
func (e *Estimator) measured() (slow, fast float64) {
	if e.now-e.sentSince > sentPeriod {
		e.sentBefore, e.sentMost, e.sentSince = e.sentMost, 0, e.now
	}
	sent, _ := e.sending.rate(e.now)
	e.sentMost = max(e.sentMost, sent)
	most := max(e.sentMost, e.sentBefore)
	slow, _ = e.acked.rate()
	fast, _ = e.acked.busy()
	return min(slow/(1-e.loss.inherent), 1.1*most), min(fast/(1-e.loss.inherent), 2*most)
}

// fair is what a TCP flow would have of a path with this loss and round trip, with half as much again for one that reacts
// more gently.
func (e *Estimator) fair() float64 {
	p := e.loss.long()
	if p == 0 {
		return math.Inf(1)
	}
	return competeFriendly * tcpRate(p, e.rtt)
}

// usage tells whether the application sends less than it may.
func (e *Estimator) usage() {
	sent, ok := e.sending.rate(e.now)
	switch {
	case !ok:
	case sent < limitedBelow*e.rate.bits:
		e.limited = true
	case sent > limitedUntil*e.rate.bits:
		e.limited = false
	}
}

func (e *Estimator) bound() {
	e.rate.bits = min(max(e.rate.bits, float64(e.cfg.Min)), float64(e.cfg.Max))
	if math.IsNaN(e.rate.bits) {
		e.rate.bits = float64(e.cfg.Min)
	}
	if e.rate.bits > e.best {
		e.best = e.rate.bits
	}
}

// Update does what is due without feedback: it lowers the target when none comes, and asks for probes. Call it every
// 25–100 ms while packets leave.
func (e *Estimator) Update(now time.Duration) {
	e.tick(now)
	if e.flying() && e.heard > 0 {
		since := max(e.heard, e.lowered)
		wait := silenceEvery
		if e.heard >= e.lowered {
			wait = silence + e.rtt
		}
		if e.now-since >= wait {
			e.lowered = e.now
			e.best = max(e.best, e.rate.bits)
			e.rate.bits *= silenceFactor
			e.drains = e.now
			e.calm.update(e.now, true)
			e.bound()
		}
	}
	e.usage()
	if e.sent.any {
		e.probed()
		e.bound()
		if e.heard+silence > e.now {
			e.probe()
		}
	} else if !e.probes.any {
		e.probe()
	}
}

// Probe returns the cluster that is to be sent, once.
func (e *Estimator) Probe() (Probe, bool) {
	p := &e.probes
	if !p.pending {
		return Probe{}, false
	}
	p.pending = false
	return p.asked, true
}

// Estimate returns what is known now.
func (e *Estimator) Estimate() Estimate {
	factor := pacingFactor
	if e.overused && e.now-e.overuse < drainTime {
		factor = pacingDrain
	}
	burst := 0
	if sent, ok := e.sending.rate(e.now); ok && sent <= burstRoom*e.rate.bits && e.calm.holds(e.now) {
		burst = int(e.rate.bits / 8 * frameBurst.Seconds())
	}
	return Estimate{
		Target: int64(e.rate.bits), Burst: burst, Pacing: int64(factor * e.rate.bits), State: e.state, Loss: e.loss.fraction,
		Inherent: e.loss.inherent, Queue: e.queue, RTT: e.rtt, Limited: e.limited,
	}
}

// Counts returns what was wrong with feedback so far.
func (e *Estimator) Counts() Counts { return e.counts }

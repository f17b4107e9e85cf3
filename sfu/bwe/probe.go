package bwe

import "time"

// Probe is a cluster of packets to send at a steady rate, faster than the target, so that the feedback shows whether
// the link takes it. Media goes first; padding, or packets sent once more, fill what is missing.
type Probe struct {
	// ID is what the packets carry in [Packet.Probe]; never 0.
	ID uint16
	// Rate in bit/s.
	Rate int64
	// Packets and Bytes are the least that the cluster has: at least 5 packets and 20 ms.
	Packets, Bytes int
}

const (
	probePackets  = 5
	probeSpan     = 20 * time.Millisecond
	probeLongest  = 60 * time.Millisecond
	probeSwing    = 100 * time.Millisecond // where the delay swings
	probeTimeout  = time.Second            // for all its feedback
	probeFirst    = 3                      // times the start rate
	probeFactor   = 2                      // times the estimate, or the result before; less after each that brings nothing …
	probeLess     = 0.8                    // … by this …
	probeLeast    = 1.3                    // … to this
	probeEnough   = 0.7                    // of its rate as the result: the next may try more
	probeClean    = 0.93                   // received at this much of the rate sent: the queue didn't grow
	probeHeadroom = 1.25                   // above what is wanted
	probeSoonest  = time.Second            // after the one before, growing with each that brings nothing …
	probeBackoff  = 1.5
	probeLatest   = 4 * time.Second        // … to this
	probeAfter    = 800 * time.Millisecond // after overuse …
	probeQuiet    = 8 * time.Second        // … and where the application tries the link by itself
	clusters      = 4
	probeDoubt    = 200 * time.Millisecond // the span, and probeLeast the factor, for …
	doubtFor      = 30 * time.Second       // … this long after a result proved wrong
	probeKept     = 0.6                    // of a result that was used, without overuse, proves it; a rate below disproves it
)

// cluster is a probe under way.
type cluster struct {
	probe                     Probe
	at                        time.Duration // asked for
	sent, sentBytes           int
	known, lost               int
	firstSent, lastSent       time.Duration // of those received
	firstArrived, lastArrived time.Duration
	bytes                     int // received
	lastSize, firstSize       int // of the last one sent, of the first one arrived
	received                  int
	waiting                   bool // for feedback
	swing                     time.Duration
}

// prober says when to probe, and what came of it.
type prober struct {
	clusters [clusters]cluster
	id       uint16
	asked    Probe // not yet taken
	pending  bool
	last     time.Duration // the latest was asked for
	any      bool
	interval time.Duration
	span     time.Duration
	factor   float64
	swing    time.Duration // by which the path's delay swings: a cluster is to outlast it
	promised float64       // the latest result, until it has proved right or wrong
	doubted  time.Duration // when one last proved wrong, 0 = never
}

// ask begins a cluster.
func (p *prober) ask(now time.Duration, rate float64) {
	if p.id++; p.id == 0 {
		p.id = 1
	}
	span := max(p.span, min(p.swing, probeSwing))
	if p.doubts(now) {
		span = max(span, probeDoubt)
	}
	p.asked = Probe{ID: p.id, Rate: int64(rate), Packets: probePackets, Bytes: int(rate * span.Seconds() / 8)}
	p.pending, p.any, p.last = true, true, now
	p.clusters[p.id%clusters] = cluster{probe: p.asked, at: now, waiting: true, swing: min(p.swing, span)}
}

// busy reports whether a cluster is asked for or under way.
func (p *prober) busy(now time.Duration) bool {
	for i := range p.clusters {
		if c := &p.clusters[i]; c.waiting && now-c.at < probeTimeout {
			return true
		}
	}
	return p.pending
}

func (p *prober) cluster(id uint16) *cluster {
	if c := &p.clusters[id%clusters]; id != 0 && c.waiting && c.probe.ID == id {
		return c
	}
	return nil
}

func (p *prober) sent(id uint16, size int) {
	if c := p.cluster(id); c != nil {
		c.sent++
		c.sentBytes += size
	}
}

func (p *prober) result(r *record, arrived time.Duration, gone bool) {
	c := p.cluster(r.probe)
	if c == nil {
		return
	}
	c.known++
	if gone {
		c.lost++
		return
	}
	size := int(r.size)
	if c.received == 0 || r.at < c.firstSent {
		c.firstSent = r.at
	}
	if c.received == 0 || r.at >= c.lastSent {
		c.lastSent, c.lastSize = r.at, size
	}
	if c.received == 0 || arrived < c.firstArrived {
		c.firstArrived, c.firstSize = arrived, size
	}
	c.lastArrived = max(c.lastArrived, arrived)
	if c.received == 0 {
		c.lastArrived = arrived
	}
	c.received++
	c.bytes += size
}

// outcome is what a cluster showed.
type outcome struct {
	rate  float64 // bit/s that the link took
	asked float64
	clean bool // no queue grew and nothing more than usual was lost: the link may take still more
}

// evaluate returns the outcome of a cluster whose feedback is complete; failed when one brought nothing.
func (p *prober) evaluate(now time.Duration, inherent float64) (o outcome, ok, failed bool) {
	for i := range p.clusters {
		c := &p.clusters[i]
		if !c.waiting {
			continue
		}
		if now-c.at >= probeTimeout {
			c.waiting, failed = false, true
			continue
		}
		if c.sent < c.probe.Packets || c.sentBytes < c.probe.Bytes || c.known < c.sent {
			continue
		}
		c.waiting = false
		if o, ok = c.outcome(inherent); ok {
			return o, true, false
		}
		failed = true
	}
	return outcome{}, false, failed
}

// outcome compares the rates at which the packets that arrived were sent and received. The first received, and the last
// sent, mark the ends of the intervals, so that they don't count themselves.
func (c *cluster) outcome(inherent float64) (outcome, bool) {
	sending, receiving := c.lastSent-c.firstSent, c.lastArrived-c.firstArrived
	if c.received < 3 || sending <= 0 || sending > time.Second || receiving > time.Second {
		return outcome{}, false
	}
	sent := float64((c.bytes-c.lastSize)*8) / sending.Seconds()
	got := 2 * sent
	if receiving > 0 {
		got = float64((c.bytes-c.firstSize)*8) / receiving.Seconds()
	}
	o := outcome{rate: min(sent, got), asked: float64(c.probe.Rate)}
	lost := float64(c.lost) / float64(c.known)
	// The times tell whether a queue grew, whatever the packets' sizes.
	o.clean = float64(receiving-c.swing/4) <= float64(sending)/probeClean+float64(time.Millisecond/2) && lost <= 0.2+inherent
	if o.clean {
		o.rate = sent
	} else {
		o.rate = min(o.rate, got*(1-lost))
	}
	return o, true
}

// desync adds up to a tenth of a second, another one each time, so that probes don't keep meeting the frames of another.
func (p *prober) desync() time.Duration { return time.Duration(p.id*37%100) * time.Millisecond }

// doubts reports whether a result has lately proved wrong: a shaper lets a short burst through at any rate, and others may take
// what was free. Then clusters are longer, and try less.
func (p *prober) doubts(now time.Duration) bool { return p.doubted > 0 && now-p.doubted < doubtFor }

// succeed takes a result that raises the rate.
func (p *prober) succeed(now time.Duration, rate float64) {
	p.interval, p.span, p.factor, p.promised = probeSoonest, probeSpan, probeFactor, rate
	if p.doubts(now) {
		p.factor = probeLeast
	}
}

// judge compares the latest result with what came of it: the rate that arrives, and whether the rate had to be lowered to bits.
func (p *prober) judge(now time.Duration, arrives, bits float64, overuse, lowered bool) {
	switch {
	case p.promised == 0:
	case lowered && bits < probeKept*p.promised:
		p.promised, p.doubted = 0, now
		p.factor = probeLeast
	case !overuse && arrives >= probeKept*p.promised:
		p.promised = 0
	}
}

// fail backs off: later, longer, and less far.
func (p *prober) fail() {
	p.interval = min(time.Duration(float64(p.interval)*probeBackoff), probeLatest)
	p.span = min(p.span*3/2, probeLongest)
	p.factor = max(p.factor*probeLess, probeLeast)
}

// probed takes what clusters showed.
func (e *Estimator) probed() {
	o, ok, failed := e.probes.evaluate(e.now, e.loss.inherent)
	if failed {
		e.counts.ProbesFailed++
		e.probes.fail()
	}
	if !ok {
		return
	}
	e.counts.Probes++
	rate := o.rate
	if !o.clean || !e.limited {
		// The link is full now, or what others send shrank in the probe's favour.
		rate *= decreaseFactor
	}
	if rate <= e.rate.bits*1.02 || e.state == Overuse {
		// One that was clean but slow was sent late, by a busy machine: it says nothing of the link.
		if !o.clean || o.rate >= probeEnough*o.asked {
			e.probes.fail()
		}
		return
	}
	e.rate.bits = rate
	e.rate.capacity = capacity{}
	e.probes.succeed(e.now, rate)
	if o.clean && o.rate >= probeEnough*o.asked {
		if next := min(e.probes.factor*o.rate, probeHeadroom*e.want); next > 1.1*e.rate.bits {
			e.probes.ask(e.now, min(next, float64(e.cfg.Max)))
		}
	}
}

// probe asks for a cluster when it is time for one.
func (e *Estimator) probe() {
	p := &e.probes
	if e.want <= e.rate.bits || p.busy(e.now) {
		return
	}
	if !p.any {
		p.ask(e.now, min(probeFirst*e.rate.bits, probeHeadroom*e.want, float64(e.cfg.Max)))
		return
	}
	drains := e.state == Underuse && e.queue > noQueue
	if e.state == Overuse || drains || e.queue > lossQueue || e.loss.fraction > noGrowth || e.overused && e.now-e.overuse < probeAfter || e.now-p.last < p.interval+p.desync() {
		return
	}
	// An application that uses the target in full shows by itself what the link takes, but slowly: once it has been quiet
	// for long, or after a deep drop, a probe is worth its while.
	if !e.limited && e.rate.bits > e.best/2 && e.overused && e.now-e.overuse < probeQuiet {
		if sent, ok := e.sending.rate(e.now); ok && sent > limitedUntil*e.rate.bits {
			return
		}
	}
	p.ask(e.now, min(p.factor*e.rate.bits, probeHeadroom*e.want, float64(e.cfg.Max)))
}

package bwe

import (
	"math"
	"time"
)

const (
	// fastWidth × fastSpan is the window in which the rate is measured while a queue grows: the bottleneck is busy all the
	// time then, so that a short window measures exactly what it lets through.
	fastWidth, fastSpan = 10 * time.Millisecond, 16
	// slowWidth × slowSpan smooths over video frames and keyframes.
	slowWidth, slowSpan = 25 * time.Millisecond, 20
)

// acknowledged measures what arrives, in the receiver's time (draft-ietf-rmcat-gcc-02 section 5.5, R_hat).
type acknowledged struct {
	fast, slow meter
	newest     time.Duration
	any        bool
	left       meter         // what arrived, in the time in which it was sent
	newestLeft time.Duration // of that
	guessed    time.Duration // when packets were last taken for arrived that feedback doesn't tell of
}

func newAcknowledged() acknowledged {
	return acknowledged{fast: newMeter(fastWidth, fastSpan), slow: newMeter(slowWidth, slowSpan), left: newMeter(fastWidth, fastSpan)}
}

// add takes a packet that arrived, and the bytes of those before it of which feedback doesn't tell.
func (a *acknowledged) add(sent, arrived time.Duration, bytes, silent int) {
	if !a.any || arrived > a.newest {
		a.newest = arrived
	}
	if !a.any || sent > a.newestLeft {
		a.newestLeft = sent
	}
	a.any = true
	if silent > 0 {
		a.guessed = a.newest
		bytes += silent
	}
	a.fast.add(a.newest, bytes)
	a.slow.add(a.newest, bytes)
	a.left.add(a.newestLeft, bytes)
}

// rate returns the smoothed rate in bit/s.
func (a *acknowledged) rate() (float64, bool) { return a.slow.rate(a.newest) }

// busy returns the rate of the last 160 ms.
func (a *acknowledged) busy() (float64, bool) { return a.fast.rate(a.newest) }

// passes reports whether what arrived of late came as fast as it was sent: then a queue is others', or is already going.
func (a *acknowledged) passes() bool {
	came, ok := a.busy()
	left, known := a.left.rate(a.newestLeft)
	return ok && known && came >= passesAll*left && (a.guessed == 0 || a.newest-a.guessed > fastWidth*fastSpan)
}

func (a *acknowledged) reset() {
	a.fast.reset()
	a.slow.reset()
	a.left.reset()
	a.any, a.guessed = false, 0
}

// capacity remembers at which rate the link was last found full: mean and variance of the rate received in overuse
// (draft-ietf-rmcat-gcc-02 section 5.5, "R_hat_max").
type capacity struct {
	mean, variance float64 // kbit/s; variance divided by the mean
	any            bool
}

const capacityWeight = 0.05

// overuse takes the rate, in bit/s, that arrived when the link was full.
func (c *capacity) overuse(bits float64) {
	const weight = capacityWeight
	sample := bits / 1000
	if !c.any {
		c.any, c.mean, c.variance = true, sample, 0.4
		return
	}
	c.mean = (1-weight)*c.mean + weight*sample
	off := sample - c.mean
	c.variance = min(max((1-weight)*c.variance+weight*off*off/max(c.mean, 1), 0.4), 2.5)
}

// bounds are three standard deviations about the mean, in bit/s.
func (c *capacity) bounds() (low, high float64) {
	d := 3 * math.Sqrt(c.variance*c.mean)
	return max(0, c.mean-d) * 1000, (c.mean + d) * 1000
}

type phase uint8

const (
	hold phase = iota
	increase
)

const (
	decreaseFactor = 0.85 // beta of draft-ietf-rmcat-gcc-02 section 5.5
	growth         = 1.08 // eta, per second
	aboveMeasured  = 1.5  // the estimate never grows beyond this much of what arrives
	slack          = 10_000
	noGrowth       = 0.12 // loss, whatever its cause: draft-ietf-rmcat-gcc-02 section 6 has 10 %
	packetBits     = 1200 * 8
	drainFactor    = 0.15                   // less, for a queue of twice …
	drainFrom      = 100 * time.Millisecond // … this
	fullQueue      = 25 * time.Millisecond
	realQueue      = 50 * time.Millisecond
	passesAll      = 0.9
	provenAbove    = 1.1         // times the rate: so much more arrives …
	provenAfter    = time.Second // … so long after the rate was lowered or a probe sent, that …
	provenFactor   = 0.97        // … it counts nearly in full
)

// aimd is the rate control of draft-ietf-rmcat-gcc-02 section 5.5: up by 8 % a second far from the capacity, by about
// half a packet per response time near it, down to 85 % of what arrives when the queue grows.
type aimd struct {
	bits     float64
	phase    phase
	capacity capacity
	updated  time.Duration
	lowered  time.Duration // when last
	eased    time.Duration // when last without evidence of what the path takes
	any      bool
	dropped  bool // has ever been lowered
}

// input is what the rate control knows when feedback has been read.
type input struct {
	now      time.Duration
	state    State
	rtt      time.Duration
	measured float64 // received bit/s, raised by the loss that isn't congestion; 0 = unknown
	busy     float64 // the same over a short window
	passes   bool    // of late what was sent came as fast as it was sent
	queue    time.Duration
	steady   time.Duration // the least queue lately
	loss     float64
	limited  bool          // the application sends less than it may
	sent     float64       // bit/s of the last half second
	tried    time.Duration // when the latest probe was asked for
}

// update returns whether the rate was lowered.
func (a *aimd) update(in input) (lowered bool) {
	passed := min(in.now-a.updated, time.Second)
	if !a.any {
		passed = 0
	}
	a.any, a.updated = true, in.now
	switch in.state {
	case Overuse:
		a.phase = hold
		return a.decrease(in)
	case Underuse:
		a.phase = hold // the queue drains
		return false
	}
	if a.phase == hold {
		a.phase = increase
		return false
	}
	a.increase(in, passed)
	return false
}

// Response time, and so the least distance of two reductions.
func (a *aimd) patience(rtt time.Duration) time.Duration {
	return min(max(rtt, 10*time.Millisecond), 200*time.Millisecond)
}

// soon reports whether the reduction before was so short ago that its effect can't be seen yet.
func (a *aimd) soon(in input) bool {
	return (a.dropped || a.eased > 0) && in.now-max(a.lowered, a.eased) < a.patience(in.rtt)
}

func (a *aimd) decrease(in input) bool {
	if a.soon(in) && !(in.measured > 0 && in.measured < a.bits/2) {
		return false
	}
	if in.limited && in.queue < realQueue {
		return false // a probe or a keyframe passing: what arrives isn't the capacity
	}
	// The link is busy while its queue grows: the short window is the capacity, where the queue is really there, or
	// where the long one still remembers that less was sent.
	measured := in.measured
	if in.busy > 0 && (in.queue >= realQueue || in.busy > 1.25*in.measured) {
		measured = in.busy
	}
	if measured <= 0 {
		measured = a.bits / 2 // overuse before anything could be measured
	}
	if in.limited && in.passes && measured < a.bits {
		// What arrives is what was sent, not what the path takes. Others fill the queue, or a burst of ours that is over.
		return a.ease(in)
	}
	// A long queue is emptied sooner.
	factor := decreaseFactor - drainFactor*min(max(float64(in.queue-drainFrom)/float64(drainFrom), 0), 1)
	to := factor * measured
	if to > a.bits && a.capacity.any {
		to = factor * a.capacity.mean * 1000
	}
	if low, _ := a.capacity.bounds(); a.capacity.any && measured < low {
		a.capacity = capacity{}
	}
	a.capacity.overuse(measured)
	before := a.bits
	a.bits = min(a.bits, to)
	a.lowered, a.dropped = in.now, true
	return a.bits < before
}

// ease makes room step by step, without a look at what arrives.
func (a *aimd) ease(in input) bool {
	if a.soon(in) {
		return false
	}
	a.eased = in.now
	a.bits *= decreaseFactor
	return true
}

func (a *aimd) increase(in input, passed time.Duration) {
	if in.limited || in.loss > noGrowth || in.steady > fullQueue {
		return // what isn't tried isn't known: probes raise it; and nobody adds to much loss, or to a queue
	}
	if _, high := a.capacity.bounds(); a.capacity.any && in.measured > max(high, 1.2*1000*a.capacity.mean) {
		a.capacity = capacity{} // the link has become better
	}
	// More is sent than was allowed, as the least that the application can, and arrives without waiting.
	proven := decreaseFactor * in.measured
	if in.now-max(a.lowered, in.tried+in.rtt) > provenAfter && in.measured > provenAbove*a.bits {
		proven = provenFactor * min(in.measured, in.sent)
	}
	if in.steady < realQueue && a.bits < proven {
		a.bits = proven
	}
	to := a.bits
	if a.capacity.any {
		// Draft: response_time_ms = 100 + rtt_ms; here a third more, as the detector needs its time too.
		response := 4 * (in.rtt + 100*time.Millisecond) / 3
		to += max(packetBits/response.Seconds(), 4000) * passed.Seconds()
	} else {
		to += max(a.bits*(math.Pow(growth, passed.Seconds())-1), 1000*passed.Seconds())
	}
	if in.measured > 0 {
		to = min(to, aboveMeasured*in.measured+slack)
	}
	a.bits = max(a.bits, to)
}

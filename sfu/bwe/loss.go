package bwe

import (
	"math"
	"time"
)

const (
	lossWindows    = 20
	lossSpan       = 250 * time.Millisecond // least length of a window …
	lossLongest    = time.Second            // … and most, where packets are few
	lossPackets    = 20                     // least packets, before lossLongest
	lossAge        = 0.9                    // weight of a window relative to the one after it
	lossNegligible = 0.02                   // draft-ietf-rmcat-gcc-02 section 6: below 2 % nothing is wrong
	lossQueue      = 40 * time.Millisecond  // a window with this much queueing delay is a full link's
	maxInherent    = 0.25                   // no more loss than this is believed to be the link's own
	lossHigh       = 0.15                   // so much isn't taken on trust: the rate falls by half at most, to see whether it helps
	lossSeldom     = 4                      // windows without suspicion for each of which one is looked into
	lossSteps      = 12                     // candidate capacities: the highest rate tried, times lossStep^k
	lossStep       = 0.9
	lossEvidence   = 6.0 // nats by which a lower candidate must explain the windows better, and …
	lossBias       = 1.0 // … by which each further step must
	lossUnlikely   = 40  // nats per unit of inherent loss above 10 %: links with so much are rare
)

// lossLevels are the candidates for the loss that the link has at any rate.
var lossLevels = [...]float64{0.002, 0.01, 0.02, 0.04, 0.07, 0.1, 0.13, 0.17, 0.21, maxInherent}

// lossLogs are the logarithms of each level and of what remains of 1.
var lossLogs = func() (t [len(lossLevels)][2]float64) {
	for i, q := range lossLevels {
		t[i] = [2]float64{math.Log(q), math.Log1p(-q)}
	}
	return t
}()

// lossWindow is what was sent, and what of it was lost, in one window.
type lossWindow struct {
	rate          float64 // sent, bit/s
	packets, lost float64
	queued        bool
}

// lossControl infers from the loss at different rates how much of it the link has anyhow, and beyond which rate it
// grows: the maximum-likelihood idea of later practice ("loss-based v2"), over a grid instead of by Newton's method, so
// that its work is bounded, and with one more source of knowledge: loss while the queue is long is the queue's overflow,
// and can't be taken for the link's own beyond what that is known to be.
//
// A packet sent at rate r over a link of capacity c, which loses q of all packets anyhow, is lost with probability
// q + (1-q)·max(0, 1-c/r).
type lossControl struct {
	windows [lossWindows]lossWindow
	n, next int

	open          lossWindow
	bytes         int
	first, last   time.Duration // when the packets of the open window were sent
	any           bool
	queueSum      time.Duration
	queueSamples  int
	inherent      float64 // the link's own loss, 0–maxInherent
	fraction      float64 // smoothed loss of whatever cause, 0–1
	fractionKnown bool
	idle          int     // windows since the latest inference
	doubted       float64 // rate at which the loss became high
}

func (l *lossControl) packet(sent time.Duration, size int, gone bool) {
	if !l.any {
		l.any, l.first, l.last = true, sent, sent
	}
	l.first, l.last = min(l.first, sent), max(l.last, sent)
	l.bytes += size
	l.open.packets++
	if gone {
		l.open.lost++
	}
}

// late takes back that a packet is lost: it was only slow.
func (l *lossControl) late() {
	if l.open.lost > 0 {
		l.open.lost--
		return
	}
	if l.n > 0 {
		if w := &l.windows[(l.next+lossWindows-1)%lossWindows]; w.lost > 0 {
			w.lost--
		}
	}
}

// close ends the open window when it is long enough. It returns the rate beyond which the link loses more than its
// share, when there is one; closed is set when a window ended.
func (l *lossControl) close(queue time.Duration, overuse bool) (limit float64, congested, closed bool) {
	if !l.any {
		return 0, false, false
	}
	l.queueSum += queue
	l.queueSamples++
	l.open.queued = l.open.queued || overuse
	span := l.last - l.first
	if span < lossSpan || l.open.packets < lossPackets && span < lossLongest {
		return 0, false, false
	}
	w := l.open
	w.rate = float64(l.bytes*8) / span.Seconds()
	w.queued = w.queued || l.queueSum/time.Duration(l.queueSamples) >= lossQueue
	l.open, l.bytes, l.any, l.queueSum, l.queueSamples = lossWindow{}, 0, false, 0, 0
	l.windows[l.next] = w
	l.next = (l.next + 1) % lossWindows
	l.n = min(l.n+1, lossWindows)
	f := w.lost / w.packets
	if !l.fractionKnown {
		l.fraction, l.fractionKnown = f, true
	}
	l.fraction += 0.3 * (f - l.fraction)
	limit, congested = l.infer(f)
	return limit, congested, true
}

// doubt returns the rate to try when loss is high although nothing but the link itself explains it: down to half, to see
// whether less is lost of less.
func (l *lossControl) doubt(rate float64) (lower float64, ok bool) {
	switch {
	case l.fraction < noGrowth:
		l.doubted = 0
	case l.fraction > lossHigh:
		l.doubted = max(l.doubted, rate)
		return max(rate*(1-l.fraction/4), l.doubted/2), true
	}
	return 0, false
}

// long returns the loss over all windows beyond the link's own, 0–1.
func (l *lossControl) long() float64 {
	var lost, packets float64
	for i := range l.n {
		lost += l.windows[i].lost
		packets += l.windows[i].packets
	}
	if packets == 0 {
		return 0
	}
	return max(0, lost/packets-l.inherent)
}

// infer looks for the capacity and the inherent loss that explain the windows best.
func (l *lossControl) infer(latest float64) (limit float64, congested bool) {
	top, worst := 0.0, 0.0
	for i := range l.n {
		w := &l.windows[i]
		top = max(top, w.rate)
		worst = max(worst, w.lost/w.packets)
	}
	if worst <= lossNegligible || top == 0 {
		l.inherent *= 0.9
		return 0, false
	}
	suspect := latest > max(lossNegligible, 1.5*l.inherent)
	if l.idle++; !suspect && l.idle < lossSeldom {
		return 0, false // the past may have been congested, the present isn't
	}
	l.idle = 0
	best, bestStep, bestLevel := math.Inf(-1), 0, 0
	capacity := top
	for step := range lossSteps {
		for level := range lossLevels {
			v := l.likelihood(capacity, level) - lossUnlikely*max(0, lossLevels[level]-0.1)
			if step > 0 {
				v -= lossEvidence + lossBias*float64(step-1)
			}
			if v > best {
				best, bestStep, bestLevel = v, step, level
			}
		}
		capacity *= lossStep
	}
	if !l.windows[(l.next+lossWindows-1)%lossWindows].queued {
		l.inherent += 0.3 * (lossLevels[bestLevel] - l.inherent)
	}
	if bestStep == 0 || !suspect {
		return 0, false
	}
	return top * math.Pow(lossStep, float64(bestStep)), true
}

// likelihood is the logarithm of the probability of the windows, the older the less they weigh.
func (l *lossControl) likelihood(capacity float64, level int) float64 {
	sum, weight := 0.0, 1.0
	known := max(l.inherent, 0.001)
	for k := range l.n {
		w := &l.windows[(l.next-1-k+2*lossWindows)%lossWindows]
		q, logs := lossLevels[level], lossLogs[level]
		capped := w.queued && q > known
		if capped {
			q = known
		}
		if w.rate > capacity || capped {
			p := q
			if w.rate > capacity {
				p += (1 - q) * (1 - capacity/w.rate)
			}
			p = min(p, 0.999)
			logs = [2]float64{math.Log(p), math.Log1p(-p)}
		}
		sum += weight * (w.lost*logs[0] + (w.packets-w.lost)*logs[1])
		weight *= lossAge
	}
	return sum
}

package bwe

import (
	"math"
	"slices"
	"time"
)

const (
	// draft-ietf-rmcat-gcc-02 section 5.2: packets sent within burst_time belong to one group …
	groupLength = 5 * time.Millisecond
	// … and so do those that arrive in a burst after having waited for the link, up to this long.
	burstGap, burstLength = 5 * time.Millisecond, 100 * time.Millisecond
	// groupSpread is how long the packets of one group may take to arrive, or as long as the path's delay swings. A frame that
	// left at once would be one group otherwise, however slow the link: the fuller it is, the fewer samples the trend would have,
	// and the later it would tell. The draft has no such limit.
	groupSpread = 20 * time.Millisecond
	// jump is how far arrival and sending may drift apart from one group to the next before the clock counts as changed.
	jump = 3 * time.Second
)

// group is a run of packets that left together.
type group struct {
	firstSent, lastSent       time.Duration
	firstArrived, lastArrived time.Duration
	packets                   int
}

// grouping forms groups and gives the inter-group delay variation (draft-ietf-rmcat-gcc-02 section 5.2).
type grouping struct {
	previous, current group
}

// variation is what lies between two groups.
type variation struct {
	sent, arrived time.Duration // between their last packets
	at            time.Duration // arrival of the later group
}

// add takes a packet that arrived. ok is set when it begins a new group and there are two complete ones to compare;
// reset when the receiver's clock jumped and everything begins anew. swings is by how much the path's delay swings of itself.
func (g *grouping) add(sent, arrived, swings time.Duration) (v variation, ok, reset bool) {
	c := &g.current
	if c.packets == 0 {
		*c = group{sent, sent, arrived, arrived, 1}
		return v, false, false
	}
	if sent < c.firstSent {
		return v, false, false // out of order
	}
	if d := (arrived - c.lastArrived) - (sent - c.lastSent); d > jump || d < -jump {
		*g = grouping{current: group{sent, sent, arrived, arrived, 1}}
		return v, false, true
	}
	if g.joins(sent, arrived, max(groupSpread, swings)) {
		c.lastSent = max(c.lastSent, sent)
		c.lastArrived = max(c.lastArrived, arrived)
		c.packets++
		return v, false, false
	}
	if p := &g.previous; p.packets > 0 {
		v = variation{c.lastSent - p.lastSent, c.lastArrived - p.lastArrived, c.lastArrived}
		ok = v.arrived >= 0 // a group that overtook another says nothing
	}
	g.previous = *c
	*c = group{sent, sent, arrived, arrived, 1}
	return v, ok, false
}

func (g *grouping) joins(sent, arrived, spread time.Duration) bool {
	c := &g.current
	if sent-c.firstSent <= groupLength && (c.packets < 2 || arrived-c.firstArrived <= spread) {
		return true
	}
	between := arrived - c.lastArrived
	return between-(sent-c.lastSent) < 0 && between <= burstGap && arrived-c.firstArrived < burstLength
}

const (
	trendWindow = 20  // groups in the regression
	smoothing   = 0.9 // of the accumulated delay
	trendGain   = 4
	maxDeltas   = 60

	// Carlucci et al. 2016, section 4.2: the threshold follows the trend, quickly down and slowly up, so that neither
	// jitter raises alarm nor a greedy loss-based flow starves this one.
	firstThreshold     = 12.5
	minThreshold       = 6
	maxThreshold       = 600
	thresholdUp        = 0.0087
	thresholdDown      = 0.039
	thresholdOutlier   = 15
	overuseTime        = 10 * time.Millisecond
	maxThresholdPeriod = 100 * time.Millisecond
)

// trendline tells whether queues grow: a linear regression over the smoothed accumulated delay of the latest groups
// against their arrival, compared with an adaptive threshold. The filter is the one that replaced the draft's Kalman
// filter in later practice; the threshold and the detector are draft-ietf-rmcat-gcc-02 sections 5.4 and 5.5.
type trendline struct {
	x, y                  [trendWindow]float64 // ms since the first arrival; smoothed delay in ms
	n, next               int
	start                 time.Duration
	deltas                int
	accumulated, smoothed float64

	threshold   float64
	thresholdAt time.Duration
	over        time.Duration // for how long the trend has been above
	overs       int
	previous    float64
	state       State
}

func newTrendline() trendline { return trendline{threshold: firstThreshold} }

func (t *trendline) add(v variation) {
	t.deltas = min(t.deltas+1, 1000)
	if t.deltas == 1 {
		t.start = v.at
		t.thresholdAt = v.at
	}
	t.accumulated += ms(v.arrived - v.sent)
	t.smoothed = smoothing*t.smoothed + (1-smoothing)*t.accumulated
	t.x[t.next], t.y[t.next] = ms(v.at-t.start), t.smoothed
	t.next = (t.next + 1) % trendWindow
	t.n = min(t.n+1, trendWindow)
	trend := t.previous
	if t.n == trendWindow {
		trend = t.slope()
	}
	t.detect(trend, v)
}

// slope is the least-squares slope: ms of delay per ms. The queue grows above 0; capacity is (1-slope) of the rate.
func (t *trendline) slope() float64 {
	var sx, sy float64
	for i := range t.n {
		sx += t.x[i]
		sy += t.y[i]
	}
	mx, my := sx/float64(t.n), sy/float64(t.n)
	var num, den float64
	for i := range t.n {
		dx := t.x[i] - mx
		num += dx * (t.y[i] - my)
		den += dx * dx
	}
	if den == 0 {
		return t.previous
	}
	return num / den
}

func (t *trendline) detect(trend float64, v variation) {
	if t.deltas < 2 {
		return
	}
	modified := trend * float64(min(t.deltas, maxDeltas)) * trendGain
	switch {
	case modified > t.threshold:
		if t.overs == 0 {
			t.over = v.sent / 2 // it began somewhere between the two
		} else {
			t.over += v.sent
		}
		t.overs++
		if t.over > overuseTime && t.overs > 1 && trend >= t.previous {
			t.over, t.overs = 0, 0
			t.state = Overuse
		}
	case modified < -t.threshold:
		t.over, t.overs = 0, 0
		t.state = Underuse
	default:
		t.over, t.overs = 0, 0
		t.state = Normal
	}
	t.previous = trend
	t.adapt(modified, v.at)
}

func (t *trendline) adapt(modified float64, now time.Duration) {
	size := math.Abs(modified)
	passed := min(max(now-t.thresholdAt, 0), maxThresholdPeriod)
	t.thresholdAt = now
	if size > t.threshold+thresholdOutlier {
		return // a sudden change of the path is not the noise to get used to
	}
	k := thresholdUp
	if size < t.threshold {
		k = thresholdDown
	}
	t.threshold = min(max(t.threshold+k*(size-t.threshold)*ms(passed), minThreshold), maxThreshold)
}

// baseline gives the queueing delay: the one-way delay above the least seen in the last two minutes. It must remember so
// long because a queue that others keep full would become the base otherwise, and its overflow look like the link's own
// loss. The clocks' offset cancels out; a drift of 50 parts in a million makes an error of 6 ms.
type baseline struct {
	least [basePeriods]time.Duration // of each period
	n     int
	at    int
	began time.Duration
}

const (
	basePeriods = 12
	basePeriod  = 10 * time.Second
)

func (b *baseline) add(now, delay time.Duration) (queue time.Duration) {
	switch {
	case b.n == 0:
		b.n, b.least[0], b.began = 1, delay, now
	case now-b.began >= basePeriod:
		b.at = (b.at + 1) % basePeriods
		b.n = min(b.n+1, basePeriods)
		b.least[b.at], b.began = delay, now
	}
	b.least[b.at] = min(b.least[b.at], delay)
	base := delay
	for i := range b.n {
		base = min(base, b.least[i])
	}
	return delay - base
}

const (
	swingPeriod = 250 * time.Millisecond
	swingSpan   = 8 // periods: two seconds
	swingKnown  = 2 * time.Second
	swingHalf   = 10 * time.Second       // in which what is known of falls counts half
	swingMost   = 150 * time.Millisecond // a queue this long is one, whatever the path does otherwise
	// After a reduction a queue falls because of it: for ownDrain, and on until it is short, up to longestDrain.
	ownDrain     = time.Second
	longestDrain = 5 * time.Second
)

// swing tells a queue that grows from a path whose delay swings: one on which packets come late in bunches, as over Wi-Fi or
// mobile, where the least delay of a message is now more, now less. By how much it falls of itself is what it swings by; a
// queue must have risen by more than that.
type swing struct {
	least, most [swingSpan]time.Duration // queue in each period, the newest first
	began       time.Duration            // of the newest
	n           int                      // periods with a message
	queue       time.Duration
	fall        time.Duration // at most swingMost
	full        time.Duration // when a queue last stood that isn't gone yet, 0 = none
	begun, at   time.Duration // first and latest message
}

// add takes the queueing delay of a message; own: what it does now is our own doing, and nothing to learn from.
func (s *swing) add(now, queue time.Duration, own bool) {
	switch passed := now - s.began; {
	case s.n == 0, passed >= 2*swingPeriod: // it begins, or goes on after a pause: what was before says nothing of now
		s.n, s.began = 1, now
		s.least[0], s.most = queue, [swingSpan]time.Duration{queue}
	case passed >= swingPeriod:
		copy(s.least[1:], s.least[:])
		copy(s.most[1:], s.most[:])
		s.least[0], s.most[0], s.began = queue, queue, now
		s.n = min(s.n+1, swingSpan)
	}
	if s.begun == 0 {
		s.begun = now
	}
	s.least[0], s.most[0] = min(s.least[0], queue), max(s.most[0], queue)
	s.fall = time.Duration(float64(s.fall) * math.Exp2(-float64(now-s.at)/float64(swingHalf)))
	s.queue, s.at = queue, now
	stood := s.full != 0
	switch {
	case queue > swingMost:
		s.full = now
	case queue <= 2*noQueue, now-s.full >= longestDrain: // gone, or the path has become longer
		s.full = 0
	}
	if own || stood || s.full != 0 {
		s.most = [swingSpan]time.Duration{queue}
		return
	}
	s.fall = min(max(s.fall, slices.Max(s.most[:swingSpan/2])-queue), swingMost)
}

// real reports whether the queue is one: it is longer than it was by a quarter more than the path's swings, or stands above
// them. As long as they aren't known, it must be twice a real queue.
func (s *swing) real() bool {
	switch {
	case s.queue > swingMost:
		return true
	case s.at-s.begun < swingKnown:
		return s.queue > 2*realQueue
	case s.n < 2:
		return s.queue > s.fall*5/4+noQueue
	}
	least := slices.Min(s.least[:s.n])
	return s.queue-least > s.fall*5/4+noQueue || least > max(s.fall, fullQueue)
}

// steady is the least queue of the latest quarter to half a second.
func (s *swing) steady() time.Duration { return slices.Min(s.least[:max(1, min(s.n, 2))]) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

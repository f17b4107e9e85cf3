package sfu

import (
	"encoding/binary"
	"time"

	"anytime/sfu/bwe"
	"anytime/sfu/codec"
)

// What the path to a subscriber takes is followed per peer connection, from its first m-line of video on:
//
//  1. Every packet that leaves is told to the estimator and to the pacer, by egress.flush (left).
//  2. Feedback comes from the plane (transport.go) in its raw form, reports from subscription.received.
//  3. The alarm does what is due without either, every 50 or 250 ms while packets leave (update), and tells the allocation what may
//     be sent ([Participant.budget]). The allocation tells what it would like to send ([Participant.want]).
//  4. Probes fill up what media leaves of their rate with padding (padding.go).

// EstimateSource says what an estimate comes from.
type EstimateSource uint8

const (
	// NoEstimate: nothing is paced, there is no video.
	NoEstimate EstimateSource = iota
	// ByTransportFeedback is draft-holmer-rmcat-transport-wide-cc-extensions-01.
	ByTransportFeedback
	// ByCongestionFeedback is RFC 8888.
	ByCongestionFeedback
	// ByREMB is draft-alvestrand-rmcat-remb-03, beside receiver reports.
	ByREMB
	// ByReports is receiver reports alone (RFC 3550 section 6.4).
	ByReports
)

func (s EstimateSource) String() string {
	return [...]string{"none", "transport-cc", "ccfb", "remb", "reports"}[min(s, ByReports)]
}

// CongestionStats is what is known of the path to a subscriber.
type CongestionStats struct {
	Source EstimateSource
	bwe.Estimate
	// Wanted is what the allocation would send if it could, in bit/s; 0 is no more than it does.
	Wanted int64
	// Counts is about the feedback so far.
	Counts bwe.Counts
	// Refused are feedback messages that came faster than any receiver sends them.
	Refused uint64
}

const (
	// updateInterval is from one look at a connection to the next, calmUpdateInterval where it has all that it wants and nothing waits:
	// bad news comes with feedback, which is read at once.
	updateInterval     = 50 * time.Millisecond
	calmUpdateInterval = 250 * time.Millisecond
	// updateGrid and calmGrid, which sender reports share, let many connections be looked at in one go: to wake up costs as much as
	// to look at ten.
	updateGrid = 5 * time.Millisecond
	calmGrid   = 25 * time.Millisecond
	// budgetInterval and budgetChange say when the allocation hears of the target: a change of 1 %, or time.
	budgetInterval = 250 * time.Millisecond
	budgetChange   = 0.01
	// quietAfter is when a transport on which nothing leaves is left alone.
	quietAfter = time.Second
	// starvedAfter is when a packet of padding leaves where nothing else does though something is wanted: without a packet
	// there is no feedback, and without feedback no probe.
	starvedAfter = 200 * time.Millisecond
	// Until something is known of the path, firstBurst bytes leave at firstRate, in bit/s: the first picture of who joins.
	firstBurst = 64 << 10
	firstRate  = 20_000_000
	// feedbackPatience is how long feedback that was negotiated may be missing before reports are believed instead.
	feedbackPatience = 3 * time.Second
	rembLife         = 6 * time.Second
	// So many messages of feedback are read at once, and one more every feedbackRefill. Most receivers send 10 to 100 in a
	// second, some one for each frame; reading one takes microseconds, for which those wait who send media to its sender.
	allowedFeedback = 200
	feedbackRefill  = time.Millisecond
)

// lead is an estimator, of whichever feedback.
type lead interface {
	Want(bits int64)
	Update(now time.Duration)
	Probe() (bwe.Probe, bool)
	Estimate() bwe.Estimate
}

// congestion is the estimate and the pacing of one transport.
type congestion struct {
	p     *Participant
	out   *egress
	alarm *alarm

	// What follows is guarded by the egress.
	cfg    bwe.Config
	pacer  bwe.Pacer
	source EstimateSource // as negotiated: the first of the sources that there is
	also   bool           // RFC 8888 may come where transport-wide feedback was expected

	// estimator is nil where no feedback on single packets was negotiated. reports is there where it leads, and until the
	// first feedback has come.
	estimator *bwe.Estimator
	reports   *bwe.Reports
	reporting bool // reports leads
	index     *bwe.Index
	messages  allowance // of feedback
	refused   uint64

	estimate bwe.Estimate
	burst    int // bytes left of the first burst
	counts   bwe.Counts
	wanted   int64
	told     int64 // the allocation, of the target
	toldAt   time.Duration
	ticking  bool // the alarm is set
	padding  bool // some is being made

	last     time.Duration // the latest packet left
	awaited  time.Duration // since when feedback can be expected
	heard    time.Duration // the latest feedback on single packets
	reported time.Duration // the latest report or REMB
	remb     time.Duration
	blocks   reportBlocks
	padder   *subscription   // who made the latest padding
	scratch  []*subscription // of pad
}

// reportBlocks gathers what the report blocks of one message say.
type reportBlocks struct {
	packets int     // sent between these reports and those before
	lost    float64 // of these
	rtt     time.Duration
}

// carries tells of an m-line on which the egress sends. With the first one of video the transport is paced.
func (e *egress) carries(s *section) {
	if e.owner == nil || s.kind != Video.String() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	now := e.clock()
	c := e.control
	if c == nil {
		cfg := e.owner.server.cfg
		c = &congestion{p: e.owner, out: e, source: ByReports, burst: firstBurst, cfg: bwe.Config{Start: cfg.StartBitrate, Min: cfg.MinBitrate, Max: cfg.MaxBitrate}}
		c.alarm = newAlarm(&e.owner.server.works, e.clock, c.update)
		c.wanted = e.owner.wanted.Load()
		c.begin(bwe.NewReports(c.cfg, now))
		e.control = c
	}
	source := c.source
	if s.transportCC() {
		source = ByTransportFeedback
		c.also = c.also || s.ccfb
	} else if s.ccfb {
		source = ByCongestionFeedback
	}
	if source < c.source {
		c.source, c.awaited = source, now
		c.renew(now)
		if source == ByCongestionFeedback {
			c.index = bwe.NewIndex(indexSize)
		}
		c.apply(now)
	}
	if e.open {
		c.tick(now)
	}
}

// indexSize is how many packets RFC 8888 can speak of: as many as the estimator remembers.
const indexSize = 2048

// transportCC reports whether transport-wide feedback was negotiated, with the header extension that it needs.
func (s *section) transportCC() bool {
	if s.extensions[codec.URITransportSequence] == 0 {
		return false
	}
	for _, p := range s.payloads {
		if p.transportCC && !p.rtx {
			return true
		}
	}
	return false
}

// onward is the configuration of an estimator that begins where the one before has got.
func (c *congestion) onward() bwe.Config {
	cfg := c.cfg
	cfg.Start = c.estimate.Target
	return cfg
}

// renew makes a new estimator lead.
func (c *congestion) renew(now time.Duration) {
	c.estimator, c.reporting = bwe.New(c.onward(), now), false
	c.estimator.Want(c.wanted)
}

// begin makes reports lead.
func (c *congestion) begin(r *bwe.Reports) {
	c.reports, c.reporting = r, true
	r.Want(c.wanted)
	c.estimate = r.Estimate()
	c.pace()
}

// pace tells the pacer its rate.
func (c *congestion) pace() {
	rate := c.estimate.Pacing
	if c.burst > 0 && c.heard+c.reported == 0 {
		rate = max(rate, firstRate)
	}
	c.pacer.Set(rate, c.estimate.Padding, c.estimate.Burst)
}

func (c *congestion) lead() lead {
	if c.reporting {
		return c.reports
	}
	return c.estimator
}

// left notes packets that left.
func (c *congestion) left(run []*slot, now time.Duration) {
	for _, s := range run {
		p := bwe.Packet{Sequence: s.number, Size: s.size, At: now, Probe: c.pacer.Probing()}
		if s.numbered && !s.again {
			c.pacer.Sent(now, s.size, s.class == padding)
		} else {
			c.pacer.Unseen(now, s.size, s.class == padding)
		}
		if c.burst > 0 {
			if c.burst -= s.size; c.burst <= 0 {
				c.pace()
			}
		}
		if c.reports != nil {
			c.reports.Sent(p)
		}
		switch {
		case c.estimator == nil:
		case s.again:
			// It went out under its old number, see [subscription.resend]: for the very same bytes there is no new one.
			if s.transportAt != 0 || c.index != nil {
				c.estimator.Again(s.number)
			}
		case s.numbered: // audio without the header extension isn't: nobody will tell of it
			if c.index != nil {
				c.index.Put(binary.BigEndian.Uint32(s.header[8:]), binary.BigEndian.Uint16(s.header[2:]), s.number)
			}
			c.estimator.Sent(p)
		}
	}
	if now-c.last > quietAfter {
		c.awaited = now
	}
	c.last = now
	c.tick(now + updateInterval)
}

// tick sets the alarm, unless it is.
func (c *congestion) tick(at time.Duration) {
	if !c.ticking {
		c.ticking = true
		c.alarm.at(at)
	}
}

// pads reports whether the pacer may want padding.
func (c *congestion) pads() bool { return c.estimate.Padding > 0 || c.pacer.Probing() != 0 }

// transportFeedback takes transport-wide feedback, from its base sequence number on.
func (e *egress) transportFeedback(b []byte, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.control; c != nil && c.estimator != nil && c.source == ByTransportFeedback && !e.closed && c.reads(now) {
		c.fed(c.estimator.TransportFeedback(now, b), now)
	}
}

// congestionFeedback takes RFC 8888 feedback, from its first report block on.
func (e *egress) congestionFeedback(b []byte, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.control
	if c == nil || c.estimator == nil || e.closed || c.source != ByCongestionFeedback && !c.also || !c.reads(now) {
		return
	}
	if c.index == nil {
		// Both were negotiated, and the receiver has chosen this one. What left until now can't be found.
		c.index = bwe.NewIndex(indexSize)
		c.source = ByCongestionFeedback
	}
	c.fed(c.estimator.CongestionFeedback(now, b, c.index), now)
}

// reads reports whether one more message of feedback is read.
func (c *congestion) reads(now time.Duration) bool {
	if c.messages.take(now, allowedFeedback, feedbackRefill) {
		return true
	}
	c.refused++
	return false
}

// fed notes that there is feedback on single packets.
func (c *congestion) fed(err error, now time.Duration) {
	if err != nil {
		return // counted
	}
	c.heard = now
	if c.reporting {
		// It comes after all. In the silence the estimator has fallen to nothing: it begins anew where reports have got.
		c.renew(now)
	}
	c.reports = nil
	c.applied(now)
}

// report takes what a report block says of the packets sent since the one before, and the round trip, 0 if unknown.
func (e *egress) report(packets int, fraction uint8, rtt, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.control
	if c == nil || e.closed {
		return
	}
	c.reported = now
	c.blocks.packets += packets
	c.blocks.lost += float64(packets) * float64(fraction) / 256
	if rtt > 0 {
		c.blocks.rtt = rtt
	}
	c.tick(now)
}

// receiverEstimate takes a REMB.
func (e *egress) receiverEstimate(bits float64, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.control
	if c == nil || e.closed {
		return
	}
	c.reported, c.remb = now, now
	if c.reports != nil {
		c.reports.REMB(now, int64(min(bits, 1e12)))
		c.applied(now)
	}
}

// believe hands over the blocks of a message: loss over all streams together.
func (c *congestion) believe(now time.Duration) {
	b := c.blocks
	c.blocks = reportBlocks{}
	if b.packets > 0 && c.reports != nil {
		c.reports.Report(now, uint8(min(b.lost/float64(b.packets)*256, 255)), b.rtt)
	}
	if b.rtt > 0 && c.estimator != nil {
		c.estimator.RTT(b.rtt)
	}
}

// fallBack lets reports lead where the feedback that was negotiated doesn't come: not at all, or no longer though reports
// do. Without either, the path is silent, which the estimator takes for what it is.
func (c *congestion) fallBack(now time.Duration) {
	if c.reporting || now-c.last > quietAfter || now-max(c.heard, c.awaited) < feedbackPatience || c.heard != 0 && c.reported < c.heard+feedbackPatience/2 {
		return
	}
	r := c.reports
	if r == nil {
		r = bwe.NewReports(c.onward(), now)
	}
	c.begin(r)
}

// apply brings what is known to the pacer.
func (c *congestion) apply(now time.Duration) {
	c.estimate = c.lead().Estimate()
	c.pace()
	if probe, ok := c.lead().Probe(); ok {
		c.pacer.Start(probe)
	}
	if c.pads() {
		c.out.wake(now, now)
	}
}

// applied is apply, for all but the alarm, which the allocation hears it from.
func (c *congestion) applied(now time.Duration) {
	c.apply(now)
	if c.news(now) {
		c.alarm.at(now)
	}
}

// count brings the estimator's counts up to date.
func (c *congestion) count() {
	if c.estimator == nil {
		return
	}
	now, t := c.estimator.Counts(), &c.p.server.totals
	if now.Probes < c.counts.Probes || now.ProbesFailed < c.counts.ProbesFailed {
		c.counts = bwe.Counts{} // another estimator
	}
	t.probes.Add(now.Probes - c.counts.Probes)
	t.failed.Add(now.ProbesFailed - c.counts.ProbesFailed)
	c.counts = now
}

// news reports whether the allocation should hear of the target.
func (c *congestion) news(now time.Duration) bool {
	d := float64(c.estimate.Target - c.told)
	most := budgetChange * float64(c.told)
	return d > most || -d > most || now-c.toldAt >= budgetInterval
}

// update is the alarm. It alone tells the allocation, so that what it is told is in order.
func (c *congestion) update(now time.Duration) (next time.Duration) {
	e := c.out
	e.mu.Lock()
	if !e.open {
		c.ticking = false
		e.mu.Unlock()
		return 0
	}
	c.believe(now)
	c.fallBack(now)
	if c.reports != nil && !c.reporting {
		c.reports.Update(now)
	}
	c.lead().Update(now)
	c.apply(now)
	c.count()
	estimate := c.estimate
	tell := c.heard+c.reported > 0 && c.news(now) // before there was feedback, the path isn't known
	if tell {
		c.told, c.toldAt = estimate.Target, now
	}
	quiet, hungry := now-c.last > quietAfter, c.wanted > estimate.Target
	starved := hungry && now-c.last > starvedAfter
	c.ticking = hungry || !quiet
	next = (now + updateInterval).Truncate(updateGrid) + updateGrid
	if !hungry && !c.pads() && e.media.n+e.again.n == 0 && estimate.State != bwe.Overuse {
		next = (now + calmUpdateInterval).Truncate(calmGrid)
	}
	rtt := estimate.RTT
	if !c.ticking {
		next, rtt = 0, 0 // nothing tells whether it changes
	}
	e.mu.Unlock()
	c.p.estimatedRTT.Store(int64(rtt))
	if tell {
		c.p.budget(now, estimate.Target)
	}
	if starved {
		c.pad(bwe.Grant{Padding: 1})
	}
	return next
}

// want is told by the allocation what it would send if it could, in bit/s; 0 means no more than it does. It may be called
// with any lock held but the egress's.
func (p *Participant) want(bits int64) {
	p.wanted.Store(bits)
	t := p.downlink()
	if t == nil || t.out == nil {
		return
	}
	e := t.out
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.control
	if c == nil || e.closed || c.wanted == bits {
		return
	}
	c.wanted = bits
	if c.estimator != nil {
		c.estimator.Want(bits)
	}
	if c.reports != nil {
		c.reports.Want(bits)
	}
	if e.open && bits > c.estimate.Target {
		c.tick(e.clock())
	}
}

// congestion returns what is known of the path.
func (e *egress) congestion(now time.Duration) (out CongestionStats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.control
	if c == nil {
		return out
	}
	out = CongestionStats{Source: c.source, Estimate: c.estimate, Wanted: c.wanted, Refused: c.refused}
	if c.reporting {
		out.Source = ByReports
		if c.remb != 0 && now-c.remb < rembLife {
			out.Source = ByREMB
		}
	}
	if c.estimator != nil {
		out.Counts = c.estimator.Counts()
	}
	return out
}

package sfu

import (
	"time"
)

// Constants of the E-model (ITU-T G.107) and of its simplification for delay by Cole and Rosenbluth ("Voice over IP
// performance monitoring", 2001), which sets everything that is no matter of the network to its default.
const (
	ratingBest  = 93.2   // R without any impairment
	delayKnee   = 177.3  // ms one way, from which on conversation suffers
	lossRobust  = 25.1   // Bpl of ITU-T G.113 appendix I: packet loss concealment, random loss
	codecDelay  = 30.0   // ms: one packet of 20 ms, its encoding and playing
	jitterDepth = 2.0    // a jitter buffer holds about twice the jitter
	mosBest     = 4.5    // what a connection gets at best
	mosFactor   = 7.0e-6 // ITU-T G.107 annex B
)

// path is what was measured of one direction of a connection.
type path struct {
	// loss is the share of packets lost, 0 to 1, before repair.
	loss float64
	// jitter is that of RFC 3550 section 6.4.1, rtt the round trip. 0 where unknown.
	jitter, rtt time.Duration
}

// rating returns the transmission rating R of ITU-T G.107, 0 to 93.2: above 80 users are satisfied, below 60 many are not
// (table B.1).
func rating(p path) float64 {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	delay := ms(p.rtt)/2 + jitterDepth*ms(p.jitter) + codecDelay
	r := ratingBest - 0.024*delay
	if delay > delayKnee {
		r -= 0.11 * (delay - delayKnee)
	}
	percent := 100 * min(max(p.loss, 0), 1)
	r -= 95 * percent / (percent + lossRobust) // ITU-T G.107 equation 7-29 with Ie = 0 and BurstR = 1
	return max(r, 0)
}

// score returns the mean opinion score of a rating, 1 to 4.5: ITU-T G.107 equation B-4.
func score(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return mosBest
	}
	return min(max(1+0.035*r+mosFactor*r*(r-60)*(100-r), 1), mosBest)
}

// Smoothing: what gets worse is believed sooner than what gets better.
const (
	worseWeight  = 0.7
	betterWeight = 0.4
	scoreChange  = 0.1 // a smaller change isn't told
)

// connectionMeter follows the rating of one connection. It is pure.
type connectionMeter struct {
	rated bool
	r     float64
	told  float64
}

// add takes the rating of one interval. It returns the score and whether it is worth telling.
func (m *connectionMeter) add(r float64) (mos float64, changed bool) {
	weight := betterWeight
	if r < m.r {
		weight = worseWeight
	}
	if !m.rated {
		m.rated, weight = true, 1
	}
	m.r += weight * (r - m.r)
	mos = score(m.r)
	if d := mos - m.told; d < scoreChange && d > -scoreChange {
		return mos, false
	}
	m.told = mos
	return mos, true
}

// measuredPackets is how many packets an interval needs for its loss to mean something.
const measuredPackets = 10

// tally counts the packets of one direction in one interval.
type tally struct {
	packets, lost int64
	jitter        time.Duration
}

func (t *tally) path(rtt time.Duration) path {
	p := path{jitter: t.jitter, rtt: rtt}
	if t.packets >= measuredPackets {
		p.loss = float64(max(t.lost, 0)) / float64(t.packets)
	}
	return p
}

// What had been counted when the connection was last measured.
type (
	measuredLayer     struct{ packets, lost int64 }
	measuredStream    struct{ packets, lost int64 }
	measuredTransport struct{ received, lost int64 }
)

// measure scores the connection by what was counted since the last time and tells a change. The worse direction counts.
func (p *Participant) measure(pubs []*publication, subs []*subscription) {
	var up, down tally
	for _, pub := range pubs {
		for i := range pub.layers {
			if l := pub.layers[i].Load(); l != nil {
				l.tally(&up)
			}
		}
	}
	for _, s := range subs {
		s.tally(&down)
	}
	// Transport-wide feedback knows what was lost on this very path. Reports of single streams count what their publishers'
	// packets lost before they came here, too.
	if t := p.downlink(); t != nil {
		t.tally(&down)
	}
	if up.packets < measuredPackets && down.packets < measuredPackets && (p.quality.rated || !p.isUp()) {
		return // nothing is known but, the first time, that it is connected
	}
	rtt := p.knownRTT()
	r := min(rating(up.path(rtt)), rating(down.path(rtt)))
	if mos, changed := p.quality.add(r); changed {
		p.notify(ConnectionScored{Score: mos})
	}
}

// isUp reports whether one of the participant's peer connections has been connected.
func (p *Participant) isUp() bool {
	for i := range p.transports {
		if t := p.transports[i].Load(); t != nil && t.up.Load() {
			return true
		}
	}
	return false
}

// tally adds what came on the layer. The jitter of audio alone counts: the packets of a picture share a timestamp and leave
// one after the other, so that theirs says more of the sender's pacing than of the network.
func (l *layer) tally(t *tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := measuredLayer{int64(l.stats.Packets), l.stats.TotalLost}
	packets, lost := now.packets-l.measured.packets, now.lost-l.measured.lost
	l.measured = now
	if packets <= 0 {
		return
	}
	t.packets += packets + max(lost, 0)
	t.lost += max(lost, 0)
	if l.pub.cfg.Kind == Audio {
		t.jitter = max(t.jitter, l.stats.Jitter)
	}
}

// tally adds what left on the subscription, as its receiver reports it.
func (s *subscription) tally(t *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := measuredStream{int64(s.stats.Packets), s.stats.Lost}
	packets, lost := now.packets-s.measured.packets, now.lost-s.measured.lost
	s.measured = now
	if packets <= 0 {
		return
	}
	t.packets += packets
	t.lost += max(lost, 0)
	if s.pub.cfg.Kind == Audio && s.out != nil && s.out.source != nil {
		// Its publisher's jitter is in it, and is told of the publisher.
		t.jitter = max(t.jitter, s.stats.Jitter-s.out.source.jitter())
	}
}

// tally puts transport-wide feedback in the place of the streams' own reports, where there is any.
func (t *transport) tally(sum *tally) {
	told := t.told()
	now := measuredTransport{int64(told.Received), int64(told.Lost)}
	t.mu.Lock()
	received, lost := now.received-t.measured.received, now.lost-t.measured.lost
	t.measured = now
	t.mu.Unlock()
	if n := received + lost; n >= measuredPackets {
		sum.packets, sum.lost = n, max(lost, 0)
	}
}

// jitter is the worst of the layers.
func (pub *publication) jitter() (worst time.Duration) {
	for i := range pub.layers {
		if l := pub.layers[i].Load(); l != nil {
			l.mu.Lock()
			worst = max(worst, l.stats.Jitter)
			l.mu.Unlock()
		}
	}
	return worst
}

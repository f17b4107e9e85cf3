package sfu

import (
	"fmt"
	"time"

	"github.com/pion/rtcp"
)

// Subscribe begins to receive a track that is published in the room. Its media follows when it, and the subscriber's
// m-line for it, are ready; failure later on is told by [SubscriptionFailed].
func (p *Participant) Subscribe(trackID string) error {
	in := p.whereabouts()
	pub := in.publication(trackID)
	if pub == nil {
		return fmt.Errorf("track %s: %w", trackID, ErrUnknownTrack)
	}
	s := &subscription{p: p, pub: pub, room: in, settings: SubscriptionSettings{Quality: 2}}
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return ErrClosed
	case p.subs[trackID] != nil:
		p.mu.Unlock()
		return nil
	case len(p.subs) >= p.server.cfg.Limits.Subscriptions:
		p.mu.Unlock()
		return fmt.Errorf("%w: %d tracks subscribed", ErrLimit, p.server.cfg.Limits.Subscriptions)
	}
	p.subs[trackID] = s
	p.subscribed++
	s.order = p.subscribed
	p.mu.Unlock()
	if !pub.want(s) {
		p.drop(s)
		return fmt.Errorf("track %s: %w", trackID, ErrUnknownTrack)
	}
	if pub.isReady() {
		p.nego.kick()
	}
	pub.codecs.settleFor(s, p.server.now()) // its publisher hears of the wish while the m-line is negotiated
	return nil
}

// Unsubscribe ends the receiving of a track.
func (p *Participant) Unsubscribe(trackID string) {
	p.mu.Lock()
	s := p.subs[trackID]
	p.mu.Unlock()
	if s != nil {
		p.drop(s)
	}
}

// drop ends a subscription of p's; its m-line is given back by the next offer.
func (p *Participant) drop(s *subscription) {
	s.end()
	p.mu.Lock()
	if p.subs[s.pub.id] == s {
		delete(p.subs, s.pub.id)
	}
	for ssrc, o := range p.bySSRC {
		if o == s {
			delete(p.bySSRC, ssrc)
		}
	}
	p.mu.Unlock()
	p.nego.kick()
}

// Configure sets the subscriber's wishes for one of its tracks.
func (p *Participant) Configure(trackID string, settings SubscriptionSettings) {
	if s := p.subscription(trackID); s != nil {
		s.configure(settings, p.server.now())
	}
}

func (p *Participant) subscription(trackID string) *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subs[trackID]
}

// enlist makes feedback on an SSRC find its subscription.
func (p *Participant) enlist(ssrc uint32, s *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bySSRC[ssrc] = s
}

func (p *Participant) subscriptionOf(ssrc uint32) *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bySSRC[ssrc]
}

// transportUp feeds the subscriptions that waited for the transport.
func (p *Participant) transportUp(t *transport) {
	if t.out == nil {
		return
	}
	for _, s := range p.subscriptions() {
		s.mu.Lock()
		ready := s.out != nil && !s.ended
		s.mu.Unlock()
		if ready {
			p.feed(s)
		}
	}
}

func (p *Participant) feed(s *subscription) {
	s.pub.feed(s)
	p.reportsSoon.Store(soonReports)
	p.reports.at(p.server.now() + senderReportInterval/4)
}

// sendReports is the alarm of sender reports.
func (p *Participant) sendReports(now time.Duration) time.Duration {
	t := p.downlink()
	if t == nil {
		return 0
	}
	subs := p.subscriptions()
	if len(subs) == 0 {
		return 0
	}
	var out []rtcp.Packet
	wall := time.Now()
	for _, s := range subs {
		if r, ok := s.report(now, wall); ok {
			out = append(out, r...)
		}
		if len(out) >= 16 {
			t.writeRTCP(out) // stay below the MTU
			out = out[:0]
		}
	}
	if len(out) > 0 {
		t.writeRTCP(out)
	}
	interval := senderReportInterval
	if n := p.reportsSoon.Load(); n == 0 {
		interval = settledReportInterval
	} else {
		p.reportsSoon.CompareAndSwap(n, n-1) // or a stream has just begun
	}
	return (now + interval).Truncate(calmGrid)
}

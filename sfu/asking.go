package sfu

import "time"

// A client with a single peer connection is asked for m-lines, and may not answer: its connection may have broken, or it
// may know nothing of the question.
const (
	// askInterval is how long it is given for an offer.
	askInterval = 5 * time.Second
	// maxAsks is how often it is asked. Whoever waits for an m-line is then told that none comes; the next change of
	// subscriptions, offer of the client's or resume asks again.
	maxAsks = 3
)

// question asks the client for what is needed. Called with n.mu held.
func (n *negotiation) question() {
	n.single.asks++
	n.single.due = n.p.server.now() + askInterval
	n.p.notify(n.single.needed)
	n.p.asking.at(n.single.due)
}

// unanswered is the alarm of a question: it asks again, or gives up.
func (n *negotiation) unanswered(now time.Duration) (next time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wish.Lock()
	outstanding := n.outstanding
	early := now < n.single.due // the alarm was of an earlier question
	giveUp := outstanding && !early && n.single.asks >= maxAsks
	if giveUp {
		n.outstanding, n.dirty = false, false
	}
	n.wish.Unlock()
	switch {
	case !outstanding:
		return 0
	case early:
		return n.single.due
	case !giveUp:
		n.question()
		return n.single.due
	}
	waiting := n.waiting()
	n.stall(waiting)
	if needed, _ := n.shortage(waiting); needed != n.single.needed {
		n.kick() // it changed meanwhile: that is worth another question
	}
	return 0
}

// stall tells, once for each, that there is no m-line for the subscriptions. They take those that become free. Called
// with n.mu held.
func (n *negotiation) stall(waiting []*subscription) {
	for _, s := range waiting {
		if !s.stalled {
			s.stalled = true
			n.p.notify(SubscriptionStalled{TrackID: s.pub.id})
		}
	}
}

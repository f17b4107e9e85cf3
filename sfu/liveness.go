package sfu

import "time"

// Media passes Pion by, so its ICE agent would take a path for dead on which nothing but media comes. Where the agent is a lite
// one, which sends no checks of its own, liveness is ours to tell: by the latest authentic packet and the latest check that was
// answered, once per sweep. A full agent checks by itself, and knows.

const (
	// liteDisconnected is how long nothing may come: longer than from one check of an idle client's to the next (Firefox: every
	// 4 to 6 s, by RFC 7675 section 5.1).
	liteDisconnected = 7 * time.Second
	// iceDisconnected and iceFailed are a full agent's; iceFailed is a lite one's, too. A call survives 30 s without a network:
	// the client restarts ICE before that.
	iceDisconnected = 5 * time.Second
	iceFailed       = 20 * time.Second
	iceKeepalive    = 2 * time.Second
)

// alive notes a sign of life at server time now.
func (p *plane) alive(now time.Duration) {
	p.seen.Store(int64(max(now, 1)))
	if p.stale.Load() && p.stale.Swap(false) {
		p.up.revived()
	}
}

// checkAlive looks whether the peer is there still.
func (t *transport) checkAlive(now time.Duration) {
	if t.p.cfg.FullICE || !t.up.Load() || t.closed.Load() {
		return
	}
	if now-time.Duration(t.plane.seen.Load()) > liteDisconnected {
		t.plane.stale.Store(true)
		t.changed()
	}
}

// revived implements ascending.
func (t *transport) revived() { t.changed() }

// liveness is the state of a connection of a lite agent. Called with mu held.
func (t *transport) liveness(now time.Duration) State {
	switch silence := now - time.Duration(t.plane.seen.Load()); {
	case t.p.cfg.FullICE || silence <= liteDisconnected:
		return Connected
	case silence <= iceFailed:
		return Disconnected
	}
	return Failed
}

// hold stops what is sent, or lets it go on where it led. RFC 7675 section 5.1: without consent for 30 s nothing may be sent.
func (p *plane) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held {
		if w := p.way.Swap(nil); w != nil {
			p.held = w
		}
	} else if p.held != nil {
		p.way.CompareAndSwap(nil, p.held)
		p.held = nil
	}
}

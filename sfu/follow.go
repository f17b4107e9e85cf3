package sfu

import (
	"time"

	"anytime/sfu/forward"
)

// start makes pub the codec that is forwarded, the first one. Called with s.mu held.
func (s *subscription) start(pub *publication) {
	st := s.out
	pub.mu.Lock()
	main := pub.format
	pub.mu.Unlock()
	st.first.Kind, st.first.ClockRate = main.kind, main.clock
	st.source, st.main, st.clock = pub, main.pt, main.clock
	st.forwarder, st.temporal = s.newForwarder(st.first), forward.AllTemporal
}

// newForwarder makes a forwarder that is stopped where the subscription is. Called with s.mu held.
func (s *subscription) newForwarder(cfg forward.Config) *forward.Forwarder {
	f := forward.New(cfg)
	f.SetPaused(s.settings.Disabled || s.starved)
	f.SetMuted(s.pub.muted.Load())
	return f
}

// wait makes pub the codec that takes over at its next keyframe. Called with s.mu held.
func (s *subscription) wait(pub *publication) {
	st := s.out
	pub.mu.Lock()
	main := pub.format
	pub.mu.Unlock()
	cfg := st.first
	cfg.Kind, cfg.ClockRate = main.kind, main.clock
	st.next, st.nextForwarder = pub, s.newForwarder(cfg)
}

// switched makes the next codec the one that is forwarded: its keyframe has come. Called with s.mu held.
func (s *subscription) switched() {
	st := s.out
	st.source, st.forwarder = st.next, st.nextForwarder
	st.next, st.nextForwarder, st.temporal = nil, nil, forward.AllTemporal
	st.source.mu.Lock()
	st.main, st.clock = st.source.format.pt, st.source.format.clock
	st.source.mu.Unlock()
	st.moved = true // the one before is told so by the next sweep: this is no place to wait for locks
}

// each does something with the forwarders there are.
func (st *stream) each(do func(*forward.Forwarder)) {
	for _, f := range []*forward.Forwarder{st.forwarder, st.nextForwarder} {
		if f != nil {
			do(f)
		}
	}
}

// codecs returns the codecs that the subscription can have; ok is false while its m-line isn't answered.
func (s *subscription) codecs(bound codecBits) (b codecBits, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended {
		return 0, false
	}
	st.can = st.takes(s.pub.codecs, bound)
	if s.p.cfg.FixedCodec && st.packets > 0 && st.source != nil && bound.has(st.source.index) {
		st.can = 1 << st.source.index // it has got used to that
	}
	return st.can, true
}

// follow brings the subscription to the codec that it should have. It reports whether it needs a new m-line for that.
func (s *subscription) follow(bound codecBits, common int, now time.Duration) (renew bool) {
	s.mu.Lock()
	st := s.out
	if st == nil || s.ended {
		s.mu.Unlock()
		return false
	}
	st.moved = false
	codecs := s.pub.codecs.all()
	_, have := choose(s.pub.codecs.policy, st.can, bound, common)
	var pub *publication
	if have >= 0 {
		pub = codecs[have]
	}
	if st.source != nil && (pub == nil || !bound.has(st.source.index)) {
		st.source = nil // its forwarder is kept: the next codec goes on with its numbers
		s.pause.expect(now)
	}
	switch {
	case pub == st.source:
		st.next, st.nextForwarder = nil, nil
	case st.forwarder == nil:
		s.start(pub)
	case s.p.cfg.FixedCodec && st.packets > 0:
		renew = true
	case pub != st.next:
		s.wait(pub)
	}
	s.heed()
	source, next, fed := st.source, st.next, s.fed
	s.mu.Unlock()
	joined := false
	for _, c := range codecs {
		if c.fan(s, fed && (c == source || c == next)) && c == source {
			joined = true
		}
	}
	if s.isEnded() {
		s.pub.forget(s) // it ended meanwhile
		return false
	}
	if joined {
		s.mu.Lock()
		s.pause.expect(now)
		s.mu.Unlock()
		if s.pub.muted.Load() || !source.live(now) || s.pub.heldBack(s) {
			s.announce()
		}
	}
	if fed {
		s.retarget(now)
	}
	return renew
}

// demand raises wanted, the highest layers wanted of each codec, to what the subscription wants.
func (s *subscription) demand(bound codecBits, common int, wanted []int8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.settings.Disabled {
		return
	}
	raise := func(i int) {
		if i >= 0 {
			q := s.pub.codecs.all()[i].wish(s.settings)
			wanted[i] = max(wanted[i], int8(min(q, 2)))
		}
	}
	st := s.out
	if st == nil { // it takes the first, for all we know
		raise(max(common, 0))
		return
	}
	want, _ := choose(s.pub.codecs.policy, st.can, bound, common)
	raise(want)
	if st.source != nil {
		raise(st.source.index) // until the other has come
	}
}

// renew gives the subscription up for one with a new m-line.
func (s *subscription) renew() {
	p := s.p
	s.mu.Lock()
	n := &subscription{p: p, pub: s.pub, room: s.room, settings: s.settings, pause: s.pause}
	s.mu.Unlock()
	p.mu.Lock()
	if p.closed || p.subs[s.pub.id] != s {
		p.mu.Unlock()
		return
	}
	p.subs[s.pub.id] = n
	for ssrc, o := range p.bySSRC {
		if o == s {
			delete(p.bySSRC, ssrc)
		}
	}
	p.mu.Unlock()
	wanted := s.pub.want(n)
	s.end()
	if !wanted {
		p.drop(n)
		return
	}
	p.nego.kick()
}

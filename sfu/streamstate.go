package sfu

import "time"

// streamSilence is how long nothing may come of a stream that is wanted before its subscriber is told.
const streamSilence = layerSilence

// sweepInterval is how often streams and connections are looked at; each scoreSweeps-th time connections are scored.
const (
	sweepInterval = time.Second
	scoreSweeps   = 3
)

// pauseState is what the subscriber was told of a stream. Guarded by the subscription.
type pauseState struct {
	since time.Duration // the latest packet sent, or from when on packets are expected
	told  bool          // that it is paused
}

// expect notes that packets are expected from now on.
func (p *pauseState) expect(now time.Duration) { p.since = now }

// checkPaused tells the subscriber when nothing has come for long though it should.
func (s *subscription) checkPaused(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended || !s.fed || s.pause.told || s.pub.cfg.Kind != Video || s.settings.Disabled || s.pub.muted.Load() {
		return
	}
	if st.source != nil && s.pub.cfg.Still {
		return
	}
	if now-s.pause.since >= streamSilence {
		s.tellPaused(true)
	}
}

// tellPaused tells it. Called with s.mu held, so that what is told is told in order.
func (s *subscription) tellPaused(paused bool) {
	s.pause.told = paused
	s.p.notify(StreamPaused{TrackID: s.pub.id, Paused: paused})
}

// watchStreams looks after the streams, connections and quiet data channels of all participants, each sweepInterval.
func (s *Server) watchStreams() {
	defer s.done.Done()
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		s.mu.Lock()
		rooms := make([]*room, 0, len(s.rooms))
		for _, r := range s.rooms {
			rooms = append(rooms, r)
		}
		s.mu.Unlock()
		for _, r := range rooms {
			for _, p := range r.list() {
				p.sweep(s.now(), n%scoreSweeps == 0)
			}
		}
	}
}

// sweep looks after the participant's subscriptions and transports and, if score is set, scores its connection.
func (p *Participant) sweep(now time.Duration, score bool) {
	subs := p.subscriptions()
	p.mu.Lock()
	pubs := append([]*publication(nil), p.tracks.order...)
	p.mu.Unlock()
	for _, s := range subs {
		s.checkPaused(now)
		s.mu.Lock()
		moved := s.out != nil && s.out.moved
		announcing := s.out != nil && s.out.padding > 0 && !s.out.announced
		s.mu.Unlock()
		if announcing {
			s.announce()
		}
		if moved {
			s.pub.codecs.settle(now)
		}
	}
	for i := range p.transports {
		if t := p.transports[i].Load(); t != nil {
			t.checkAlive(now)
			t.poll()
		}
	}
	p.watchLinks(now, pubs, subs)
	if score {
		p.measure(pubs, subs)
	}
}

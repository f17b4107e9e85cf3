package alloc

import "time"

// commit turns the rung that improve found into the result, and notes when the subscription may climb again. It reports
// whether target, wish or reason have changed.
func (s *Subscription) commit(now time.Duration, cfg *Config, estimate int64, sum *Summary) (changed bool) {
	before := s.told
	r := &s.result
	r.Bitrate = 0
	switch {
	case s.input.Disabled:
		r.Target, r.Why = None, Disabled
	case s.input.Muted:
		r.Target, r.Why = None, Muted
	case s.input.Kind == Audio:
		r.Target, r.Why, r.Bitrate = Target{}, Full, s.audio()
	default:
		s.note(now, cfg, estimate)
		s.settle()
	}
	if r.Paused() {
		sum.Paused++
	}
	s.wishes = false
	s.told = told{r.Target, r.Wanted, r.Why}
	return s.told != before
}

// note keeps the time of climbs and descents.
func (s *Subscription) note(now time.Duration, cfg *Config, estimate int64) {
	if s.wishes {
		s.climbed, s.wait, s.hold = false, 0, 0
	}
	switch {
	case s.rung > s.held:
		s.climbed, s.lastClimb, s.tried = true, now, estimate
		if s.held < 0 && s.result.Paused() {
			s.resumed = now
		}
	case s.rung < s.held && !s.wishes:
		if s.climbed && now-s.lastClimb < cfg.Proof {
			s.wait = min(max(2*s.wait, 2*cfg.Wait), cfg.MaxWait)
			s.failed = s.tried
		} else {
			s.wait, s.failed = cfg.Wait, 0
		}
		s.climbed, s.eager = false, false
		s.hold = now + s.wait
		if s.rung < 0 {
			s.stand(now, cfg)
		}
	case s.rung < s.held && s.rung < 0 && s.rungs > 0:
		s.pause(now, cfg.Wait/4) // for the sake of another
	}
}

// stand notes a pause. A picture that stands still is worse than one that flaps: for the first time it may go on soon.
func (s *Subscription) stand(now time.Duration, cfg *Config) {
	if s.rest > 0 && now-s.resumed < cfg.Proof {
		s.pause(now, min(2*s.rest, cfg.MaxWait))
	} else {
		s.pause(now, cfg.Wait/4)
	}
}

// pause keeps what isn't shown any more from being shown again for that long.
func (s *Subscription) pause(now, rest time.Duration) { s.rest, s.still = rest, now+rest }

// settle fills in the result of a video.
func (s *Subscription) settle() {
	r := &s.result
	switch {
	case s.rungs == 0:
		r.Target, r.Why = None, Unsent
		return
	case s.rung < 0:
		r.Target, r.Why = None, Bandwidth
		return
	}
	r.Target, r.Bitrate = s.ladder[s.rung].target, s.ladder[s.rung].cost
	switch {
	case s.rung+1 < s.rungs:
		r.Why = Bandwidth
	case r.Target != r.Wanted:
		r.Why = Unsent
	case s.better():
		r.Why = Size
	default:
		r.Why = Full
	}
}

// better reports whether something better than the target is being sent.
func (s *Subscription) better() bool {
	for i := range s.input.Layers {
		for t := range s.input.Layers[i].Temporal {
			if s.input.Layers[i].Temporal[t].live() && (Target{int8(i), int8(t)}).above(s.result.Target) {
				return true
			}
		}
	}
	return false
}

package sfu

import "time"

// freezeGap is how long a video may bring nothing new before a person calls it frozen. libwebrtc's receivers count from
// three times the usual distance of frames on, and at least 150 ms more than it; what is meant here is sure to be seen.
const freezeGap = 500 * time.Millisecond

// freezeMeter counts the gaps in one video as it leaves here. It is pure.
type freezeMeter struct {
	last   time.Duration // of the latest packet; 0 when there is nothing that the next one could be late for
	count  uint64
	frozen time.Duration
}

// packet notes that a packet of the video left at now.
func (m *freezeMeter) packet(now time.Duration) {
	if gap := now - m.last; m.last != 0 && gap > freezeGap {
		m.count++
		m.frozen += gap
	}
	m.last = now
}

// interrupt says that the video stops or begins on purpose: the gap that follows is no freeze.
func (m *freezeMeter) interrupt() { m.last = 0 }

// total returns how many freezes there were and how long they lasted together: while the video runs, one that still goes on
// included.
func (m *freezeMeter) total(now time.Duration, runs bool) (count uint64, frozen time.Duration) {
	if gap := now - m.last; runs && m.last != 0 && gap > freezeGap {
		return m.count + 1, m.frozen + gap
	}
	return m.count, m.frozen
}

// shown notes that a packet of a video left for the subscriber; marker is set on the last one of a frame. Called with s.mu
// held.
func (s *subscription) shown(marker bool, now time.Duration) {
	if marker {
		s.frames++
	}
	if !s.pub.cfg.Still {
		s.freeze.packet(now)
	}
}

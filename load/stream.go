package load

import (
	"cmp"
	"slices"
	"time"
)

// stream counts what arrives of one RTP stream: loss, duplicates, order, frames and freezes. It is pure; times are of the
// generator's clock.
type stream struct {
	ssrc      uint32
	codec     string
	clockRate uint32
	// interval is the time from frame to frame, by which a freeze is told; 0: frames aren't looked at.
	interval time.Duration

	begun         bool
	first, newest int64 // extended sequence numbers
	ring          [ringSize]uint8
	missing       []gap
	counts        Counts

	// Frames are put together in order: next is the first number not looked at yet.
	next      int64
	broken    bool // something of the frame being read is gone
	keyed     bool // a keyframe came, and nothing was missing since
	lastFrame time.Duration
	began     time.Duration // when the first packet came
	keyframe  time.Duration // when the first keyframe was complete; 0: not yet
	openKey   bool          // the frame being read began as a keyframe
	jitter    float64       // RFC 3550 §6.4.1, in clock units
	transit   int64
}

// Counts are sums over streams since they began.
type Counts struct {
	Expected   uint64 `json:"expected"`   // by sequence number
	Received   uint64 `json:"received"`   // different ones of these, retransmitted ones included
	Repaired   uint64 `json:"repaired"`   // of these, those that only a retransmission brought
	Duplicates uint64 `json:"duplicates"` // came more than once
	Reordered  uint64 `json:"reordered"`  // came after a later one
	Bytes      uint64 `json:"bytes"`      // of RTP packets with header and payload, all that came
	Frames     uint64 `json:"frames"`     // complete pictures, in order
	Freezes    uint64 `json:"freezes"`    // of the picture: see freezeAfter
	FrozenMS   uint64 `json:"frozen_ms"`  // how long these lasted
}

func (c *Counts) add(o Counts) {
	c.Expected += o.Expected
	c.Received += o.Received
	c.Repaired += o.Repaired
	c.Duplicates += o.Duplicates
	c.Reordered += o.Reordered
	c.Bytes += o.Bytes
	c.Frames += o.Frames
	c.Freezes += o.Freezes
	c.FrozenMS += o.FrozenMS
}

// less returns what came since an earlier state.
func (c Counts) less(o Counts) Counts {
	c.Expected -= min(c.Expected, o.Expected)
	c.Received -= o.Received
	c.Repaired -= o.Repaired
	c.Duplicates -= o.Duplicates
	c.Reordered -= o.Reordered
	c.Bytes -= o.Bytes
	c.Frames -= o.Frames
	c.Freezes -= o.Freezes
	c.FrozenMS -= o.FrozenMS
	return c
}

// Lost is how many never came, not even retransmitted.
func (c Counts) Lost() uint64 { return c.Expected - min(c.Expected, c.Received) }

// gap is a sequence number that was passed over.
type gap struct {
	number  int64
	noticed time.Duration
	asked   time.Duration // when it was asked for last
	tries   int
}

const (
	ringSize = 1 << 11
	// maxMissing bounds what is waited for; a hole that is longer is a break, after which a keyframe is needed.
	maxMissing = 512
	// givenUp is how long a missing packet holds up the frames after it.
	givenUp = time.Second
	// maxTries is how often one packet is asked for.
	maxTries = 10
)

// Flags of the ring.
const (
	arrived = 1 << iota
	marked
	keyStart // a keyframe begins here
	empty    // padding
)

// freezeAfter is how long after a frame the picture counts as frozen: three intervals, or one and 150 ms (the freezeCount of
// W3C's webrtc-stats).
func freezeAfter(interval time.Duration) time.Duration {
	return max(3*interval, interval+150*time.Millisecond)
}

// extend returns the sequence number without wrap: the one nearest to the newest.
func (s *stream) extend(seq uint16) int64 {
	return s.newest + int64(int16(seq-uint16(s.newest)))
}

// packet counts one. It returns whether it is new. flags are those of the ring but arrived; repaired means that a
// retransmission brought it.
func (s *stream) packet(seq uint16, timestamp uint32, flags uint8, repaired bool, now time.Duration) bool {
	if !s.begun {
		if repaired {
			return false
		}
		s.begun, s.began = true, now
		s.newest = int64(seq) + 1<<16
		s.first, s.next = s.newest, s.newest
		s.set(s.newest, flags)
		s.counts.Expected, s.counts.Received = 1, 1
		s.advance(now)
		return true
	}
	n := s.extend(seq)
	switch {
	case n > s.newest:
		if n-s.newest > maxMissing {
			s.skip(n)
		}
		for m := s.newest + 1; m < n; m++ {
			s.ring[m%ringSize] = 0
			s.missing = append(s.missing, gap{number: m, noticed: now})
		}
		if len(s.missing) > maxMissing { // who loses that much needs a keyframe, not repair
			s.missing = append(s.missing[:0], s.missing[len(s.missing)-maxMissing:]...)
		}
		s.counts.Expected += uint64(n - s.newest)
		s.newest = n
	case n < s.first || s.newest-n >= ringSize || s.ring[n%ringSize]&arrived != 0:
		s.counts.Duplicates++
		return false
	default:
		s.forget(n)
		if !repaired {
			s.counts.Reordered++
		}
	}
	s.set(n, flags)
	s.counts.Received++
	if repaired {
		s.counts.Repaired++
	} else {
		s.spread(timestamp, now)
	}
	s.advance(now)
	return true
}

func (s *stream) set(n int64, flags uint8) { s.ring[n%ringSize] = flags | arrived }

// skip gives up all that is missing: the stream goes on at n.
func (s *stream) skip(n int64) {
	s.missing = s.missing[:0]
	s.counts.Expected += uint64(n - 1 - s.newest)
	s.newest = n - 1
	s.next = n
	s.broken, s.keyed = true, false
}

func (s *stream) forget(n int64) {
	if i, found := s.find(n); found {
		s.missing = slices.Delete(s.missing, i, i+1)
	}
}

// find looks in missing, which is in order.
func (s *stream) find(n int64) (int, bool) {
	return slices.BinarySearchFunc(s.missing, n, func(g gap, n int64) int { return cmp.Compare(g.number, n) })
}

// advance reads frames as far as there is no hole, or only one that is given up.
func (s *stream) advance(now time.Duration) {
	if s.newest-s.next >= ringSize { // a second's packets are more than the ring holds
		s.next = s.newest
		s.broken, s.keyed, s.openKey = true, false, false
	}
	for s.next <= s.newest {
		flags := s.ring[s.next%ringSize]
		if flags&arrived == 0 {
			if !s.lost(s.next, now) {
				return
			}
			s.broken, s.keyed, s.openKey = true, false, false
			s.next++
			continue
		}
		s.next++
		if flags&empty != 0 || s.interval == 0 {
			continue
		}
		if flags&keyStart != 0 {
			s.openKey, s.broken = true, false
		}
		if flags&marked == 0 {
			continue
		}
		s.complete(now)
	}
}

// lost reports whether a missing packet is waited for no longer.
func (s *stream) lost(n int64, now time.Duration) bool {
	i, found := s.find(n)
	if !found {
		return true
	}
	if now-s.missing[i].noticed < givenUp {
		return false
	}
	s.missing = slices.Delete(s.missing, i, i+1)
	return true
}

// complete ends a frame.
func (s *stream) complete(now time.Duration) {
	whole, key := !s.broken, s.openKey
	s.broken, s.openKey = false, false
	if !whole || !key && !s.keyed {
		return
	}
	s.keyed = true
	if s.keyframe == 0 {
		s.keyframe = max(now, 1)
	} else if pause := now - s.lastFrame; pause > freezeAfter(s.interval) {
		s.counts.Freezes++
		s.counts.FrozenMS += uint64(pause / time.Millisecond)
	}
	s.lastFrame = now
	s.counts.Frames++
}

// spread notes how evenly packets come (RFC 3550 §6.4.1).
func (s *stream) spread(timestamp uint32, now time.Duration) {
	transit := int64(now.Seconds()*float64(s.clockRate)) - int64(timestamp)
	if s.transit != 0 {
		d := int64(int32(transit - s.transit))
		s.jitter += (float64(max(d, -d)) - s.jitter) / 16
	}
	s.transit = transit
}

// sum returns the counts at a time. What was missed only just may still come and isn't expected yet; a picture that
// stands still now is frozen.
func (s *stream) sum(now time.Duration) Counts {
	c := s.counts
	for _, g := range s.missing {
		if now-g.noticed < givenUp/2 {
			c.Expected--
		}
	}
	if pause := now - s.lastFrame; s.interval > 0 && s.keyframe > 0 && pause > freezeAfter(s.interval) {
		c.Freezes++
		c.FrozenMS += uint64(pause / time.Millisecond)
	}
	return c
}

// wanted appends the sequence numbers to ask for now: at once, and again every retry.
func (s *stream) wanted(out []uint16, now, retry time.Duration) []uint16 {
	kept := s.missing[:0]
	for _, g := range s.missing {
		if now-g.noticed >= givenUp {
			if g.number < s.next { // passed over by advance already
				continue
			}
		} else if g.tries == 0 || g.tries < maxTries && now-g.asked >= retry {
			out = append(out, uint16(g.number))
			g.tries++
			g.asked = now
		}
		kept = append(kept, g)
	}
	s.missing = kept
	return out
}

// wantsKeyframe: nothing can be shown without one.
func (s *stream) wantsKeyframe() bool { return s.interval > 0 && !s.keyed }

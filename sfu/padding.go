package sfu

import (
	"time"

	"anytime/sfu/bwe"
	"anytime/sfu/history"
)

// padWay is how a subscription makes padding, the best first.
type padWay uint8

const (
	// padRepeat sends recent packets again over RTX: it may repair something, and receivers know it.
	padRepeat padWay = iota
	// padRepair sends padding-only packets over RTX.
	padRepair
	// padMedia sends padding-only packets on the stream itself, between two frames.
	padMedia
	padWays
)

const (
	// padRecent is how many of the latest packets are sent again in turn.
	padRecent = 16
	// padRetry is when to ask again where nobody could make any padding.
	padRetry = 20 * time.Millisecond
)

// pad makes the padding that a grant asks for. It takes the locks of the participant and of subscriptions.
func (c *congestion) pad(g bwe.Grant) {
	e := c.out
	e.mu.Lock()
	if c.padding || !e.open {
		e.mu.Unlock()
		return
	}
	c.padding = true
	padder := c.padder
	e.mu.Unlock()

	left := 0
	if padder != nil {
		left = padder.pad(padRepeat, g.Padding)
	}
	if left == 0 {
		c.p.mu.Lock()
		for _, s := range c.p.subs {
			if s.pub.cfg.Kind == Video {
				c.scratch = append(c.scratch, s)
			}
		}
		c.p.mu.Unlock()
		padder = nil
		for way := padRepeat; way < padWays && left == 0; way++ {
			for _, s := range c.scratch {
				if left = s.pad(way, g.Padding); left > 0 {
					padder = s
					break
				}
			}
		}
		clear(c.scratch)
		c.scratch = c.scratch[:0]
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	c.padding, c.padder = false, padder
	if now := e.clock(); c.pads() && left > 0 {
		e.wake(now, max(g.Next, now))
	} else if c.pads() {
		e.wake(now, now+padRetry)
	}
}

// pad sends padding of n bytes, rounded up to whole packets, and returns how much left on the wire.
func (s *subscription) pad(way padWay, n int) (left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended || !s.fed || st.source == nil {
		return 0
	}
	for tries := 0; tries < padRecent && left < n; tries++ {
		size := s.padOnce(way)
		if size == 0 && way != padRepeat {
			break
		}
		left += size
	}
	return left
}

// padOnce sends one packet of padding and returns its size, 0 if there is none to send. Called with s.mu held.
func (s *subscription) padOnce(way padWay) int {
	st := s.out
	o := &st.packet
	f := st.formats.of(st.main)
	switch way {
	case padRepeat:
		if st.repair == 0 || st.sent == nil || st.packets == 0 {
			return 0
		}
		st.repeat++
		sent, ok := st.sent.Get(st.newest - st.repeat%padRecent)
		if !ok || sent.Fill || st.forsaken.has(sent.Sequence, st.packets) {
			return 0
		}
		p := s.storedOf(&sent)
		if p == nil {
			return 0
		}
		defer p.release()
		if f = st.formats.of(p.pt); f.rtx == 0 || !st.render(&sent, p, f) || o.fill {
			return 0
		}
		st.wrap(&sent, f)
	case padRepair:
		if st.repair == 0 || f.rtx == 0 {
			return 0
		}
		*o = outgoing{ssrc: st.repair, timestamp: st.stamped, sequence: st.repairNext, pt: f.rtx, ids: &st.ids, fill: true, full: true}
		st.repairNext++
	case padMedia:
		// RFC 3550 section 5.1. A receiver that misses a number asks for it, so it can be had again.
		if st.repair != 0 || !st.boundary || f.pt == 0 || st.forwarder == nil {
			return 0
		}
		sent := history.SentPacket{Timestamp: st.stamped, Sequence: st.forwarder.Pad(), Fill: true, Full: true}
		st.render(&sent, nil, f)
		st.newest = sent.Sequence
		st.egress.mu.Lock()
		st.remember(&sent, s.p.server.now())
		st.egress.mu.Unlock()
		o.keep = true
	}
	o.class = padding
	size := 12 + len(o.prefix) + len(o.payload) + packetOverhead
	if o.fill {
		size += len(fullPadding)
	}
	if !st.egress.send(o) {
		return 0
	}
	if way == padMedia {
		st.packets++
	}
	return size
}

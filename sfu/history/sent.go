package history

import "time"

// SentPacket is one packet as it left on one subscription: enough to build the very same packet again.
type SentPacket struct {
	// Source is the extended sequence number in the history of Layer; it is meaningless when Fill is set.
	Source    uint64
	Timestamp uint32
	// Sequence is the number it left under, Extended the same with the cycles before it (RFC 3550 section 6.4.1), and PT the
	// payload type.
	Sequence  uint16
	Extended  uint32
	PT        uint8
	PictureID uint16
	// FrameOffset was added to the frame number of the dependency descriptor.
	FrameOffset uint16
	TL0         uint8
	Layer       uint8
	Marker      bool
	// Rewrite: PictureID and TL0 were put into the payload.
	Rewrite bool
	// Fill: a padding-only packet; Full: with as much padding as it can have.
	Fill, Full bool
	// Hush: in place of the payload, a frame of audio with nothing in it.
	Hush bool
}

// Sent is a ring of the latest packets of one subscription by outgoing sequence number. It begins small and grows as the
// rate needs, so that it holds [sentAge] of them where it may.
type Sent struct {
	slots []sentSlot
	mask  uint16
	most  int
}

type sentSlot struct {
	SentPacket
	used   bool
	resent uint8         // how often it was sent again
	at     time.Duration // when it was sent last
}

const (
	// sentAge is how long a packet should stay repairable: ten round trips of 200 ms.
	sentAge = 2 * time.Second
	// maxResent bounds how often one packet is sent again: libwebrtc asks ten times, and some receivers go on asking for
	// what they have got over RTX.
	maxResent = 10
	// minResend is the least time between two copies of a packet, blindResend the same while the round trip isn't known.
	minResend   = 10 * time.Millisecond
	blindResend = 40 * time.Millisecond
)

// NewSent returns an empty ring for at most size packets, rounded up to a power of two (16–32768).
func NewSent(size int) *Sent {
	most := powerOfTwo(max(size, 16), 1<<15)
	n := min(most, leastSlots)
	return &Sent{slots: make([]sentSlot, n), mask: uint16(n - 1), most: most}
}

// Put notes that p has been sent at now.
func (s *Sent) Put(p SentPacket, now time.Duration) {
	e := &s.slots[p.Sequence&s.mask]
	for e.used && e.Sequence != p.Sequence && now-e.at < sentAge && len(s.slots) < s.most {
		s.grow()
		e = &s.slots[p.Sequence&s.mask]
	}
	*e = sentSlot{SentPacket: p, used: true, at: now}
}

func (s *Sent) grow() {
	old := s.slots
	s.slots = make([]sentSlot, 2*len(old))
	s.mask = uint16(len(s.slots) - 1)
	for i := range old {
		if old[i].used {
			s.slots[old[i].Sequence&s.mask] = old[i]
		}
	}
}

// Get returns the packet that left under sequence, if it is still remembered.
func (s *Sent) Get(sequence uint16) (SentPacket, bool) {
	e := &s.slots[sequence&s.mask]
	if !e.used || e.Sequence != sequence {
		return SentPacket{}, false
	}
	return e.SentPacket, true
}

// Answer is what [Sent.Resend] says to a NACK.
type Answer uint8

const (
	// Resend: send it again. ResendTwice: in two copies, as the one before was lost on the way, and what is lost again comes
	// too late.
	Resend Answer = iota
	ResendTwice
	// Unknown: it was never sent, or is forgotten.
	Unknown
	// Underway: a copy that was sent since the NACK left may still arrive.
	Underway
	// Exhausted: it was sent again as often as anything is.
	Exhausted
)

// Resend answers a NACK of sequence that came at now; rtt 0 is not known. A copy sent less than a round trip ago hadn't arrived when the NACK
// left. A quarter is taken off the round trip, as its measurement lags and varies: to wait for the NACK after next costs
// the receiver more than a copy too many. Nor had the packet itself arrived, if it left only half a round trip ago: then
// what is asked for is the gap that it came too late to prevent.
func (s *Sent) Resend(sequence uint16, now, rtt time.Duration) (p SentPacket, a Answer) {
	e := &s.slots[sequence&s.mask]
	spacing := max(rtt-rtt/4, minResend)
	if rtt <= 0 {
		spacing = blindResend
	}
	switch {
	case !e.used || e.Sequence != sequence:
		return SentPacket{}, Unknown
	case e.resent > 0 && now-e.at < spacing, e.resent == 0 && now-e.at < rtt/2:
		return SentPacket{}, Underway
	case e.resent >= maxResent:
		return SentPacket{}, Exhausted
	}
	e.resent++
	e.at = now
	if e.resent > 1 {
		return e.SentPacket, ResendTwice
	}
	return e.SentPacket, Resend
}

// Clear forgets everything.
func (s *Sent) Clear() { clear(s.slots) }

package history

import "time"

// SentPacket is one packet as it left on one subscription: enough to build the very same packet again.
type SentPacket struct {
	// Source is the extended sequence number in the history of Layer, of which 48 bits are kept; it is meaningless when Fill is
	// set.
	Source    uint64
	Timestamp uint32
	// Sequence is the number it left under, Extended the same with the cycles before it (RFC 3550 section 6.4.1), and PT the
	// payload type, of 7 bits.
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
// rate needs.
type Sent struct {
	slots []sentSlot
	mask  uint16
	most  int
	age   time.Duration
}

// sentSlot is a sent packet in 28 bytes: a subscriber has thousands of them.
type sentSlot struct {
	timestamp   uint32
	at          uint32 // when it was sent last, in microseconds modulo 2^32: see age
	source      uint32 // the low 32 bits of Source, and
	sourceHigh  uint16 // 16 more: no source sends so many packets
	cycles      uint16 // the high half of Extended
	sequence    uint16
	picture     uint16
	frameOffset uint16
	tl0, layer  uint8
	pt          uint8 // and the marker
	flags       uint8 // and, in the low bits, 0 for an empty slot, otherwise one more than how often it was sent again
}

const (
	sentMarker  = 1 << 7 // in pt
	sentRewrite = 1 << 7 // in flags
	sentFill    = 1 << 6
	sentFull    = 1 << 5
	sentHush    = 1 << 4
	sentCount   = 1<<4 - 1
)

func newSentSlot(p *SentPacket, now time.Duration) sentSlot {
	return sentSlot{
		timestamp: p.Timestamp, at: microseconds(now), source: uint32(p.Source), sourceHigh: uint16(p.Source >> 32), cycles: uint16(p.Extended >> 16),
		sequence: p.Sequence, picture: p.PictureID, frameOffset: p.FrameOffset, tl0: p.TL0, layer: p.Layer,
		pt:    p.PT&^sentMarker | flag(p.Marker, sentMarker),
		flags: 1 | flag(p.Rewrite, sentRewrite) | flag(p.Fill, sentFill) | flag(p.Full, sentFull) | flag(p.Hush, sentHush),
	}
}

func flag(set bool, bit uint8) uint8 {
	if set {
		return bit
	}
	return 0
}

func microseconds(now time.Duration) uint32 { return uint32(now / time.Microsecond) }

func (e *sentSlot) packet() SentPacket {
	return SentPacket{
		Source: uint64(e.sourceHigh)<<32 | uint64(e.source), Timestamp: e.timestamp, Sequence: e.sequence,
		Extended: uint32(e.cycles)<<16 | uint32(e.sequence), PT: e.pt &^ sentMarker, PictureID: e.picture, FrameOffset: e.frameOffset,
		TL0: e.tl0, Layer: e.layer, Marker: e.pt&sentMarker != 0, Rewrite: e.flags&sentRewrite != 0,
		Fill: e.flags&sentFill != 0, Full: e.flags&sentFull != 0, Hush: e.flags&sentHush != 0,
	}
}

// holds reports whether it is the packet that left under sequence.
func (e *sentSlot) holds(sequence uint16) bool { return e.used() && e.sequence == sequence }

func (e *sentSlot) used() bool { return e.flags&sentCount != 0 }

// resent is how often it was sent again.
func (e *sentSlot) resent() int { return int(e.flags&sentCount) - 1 }

// age is how long ago it was sent last, modulo 71 minutes: what is so old is in no history, whatever is thought of its age.
// Times that run backwards by up to a second count as none.
func (e *sentSlot) age(now time.Duration) time.Duration {
	age := time.Duration(microseconds(now)-e.at) * time.Microsecond
	if age > sentWrap-time.Second {
		return 0
	}
	return age
}

const sentWrap = 1 << 32 * time.Microsecond

const (
	// maxResent bounds how often one packet is sent again: libwebrtc asks ten times, and some receivers go on asking for
	// what they have got over RTX.
	maxResent = 10
	// minResend is the least time between two copies of a packet, blindResend the same while the round trip isn't known.
	minResend   = 10 * time.Millisecond
	blindResend = 40 * time.Millisecond
)

// NewSent returns an empty ring that keeps packets for age, but at most size of them, rounded up to a power of two (16–32768).
func NewSent(size int, age time.Duration) *Sent {
	most := powerOfTwo(max(size, 16), 1<<15)
	n := min(most, leastSlots)
	return &Sent{slots: make([]sentSlot, n), mask: uint16(n - 1), most: most, age: age}
}

// Put notes that p has been sent at now.
func (s *Sent) Put(p SentPacket, now time.Duration) {
	e := &s.slots[p.Sequence&s.mask]
	for e.used() && e.sequence != p.Sequence && e.age(now) < s.age && len(s.slots) < s.most {
		s.grow()
		e = &s.slots[p.Sequence&s.mask]
	}
	*e = newSentSlot(&p, now)
}

func (s *Sent) grow() {
	old := s.slots
	s.slots = make([]sentSlot, 2*len(old))
	s.mask = uint16(len(s.slots) - 1)
	for i := range old {
		if old[i].used() {
			s.slots[old[i].sequence&s.mask] = old[i]
		}
	}
}

// Size is how many packets there is room for now.
func (s *Sent) Size() int { return len(s.slots) }

// Get returns the packet that left under sequence, if it is still remembered.
func (s *Sent) Get(sequence uint16) (SentPacket, bool) {
	e := &s.slots[sequence&s.mask]
	if !e.holds(sequence) {
		return SentPacket{}, false
	}
	return e.packet(), true
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
	if !e.holds(sequence) {
		return SentPacket{}, Unknown
	}
	switch age, resent := e.age(now), e.resent(); {
	case resent > 0 && age < spacing, resent == 0 && age < rtt/2:
		return SentPacket{}, Underway
	case resent >= maxResent:
		return SentPacket{}, Exhausted
	}
	e.flags++ // resent stays below what sentCount has room for
	e.at = microseconds(now)
	if e.resent() > 1 {
		return e.packet(), ResendTwice
	}
	return e.packet(), Resend
}

// Clear forgets everything.
func (s *Sent) Clear() { clear(s.slots) }

package history

import "time"

// SentPacket is one packet as it left on one subscription: enough to build the very same packet again.
type SentPacket struct {
	// Source is the extended sequence number in the history of Layer; it is meaningless when Fill is set.
	Source    uint64
	Timestamp uint32
	// Sequence is the number it left under.
	Sequence  uint16
	PictureID uint16
	// FrameOffset was added to the frame number of the dependency descriptor.
	FrameOffset uint16
	TL0         uint8
	Layer       uint8
	Marker      bool
	// Rewrite: PictureID and TL0 were put into the payload.
	Rewrite bool
	// Fill: a padding-only packet.
	Fill bool
	// Hush: in place of the payload, a frame of audio with nothing in it.
	Hush bool
}

// Sent is a ring of the latest packets of one subscription by outgoing sequence number.
type Sent struct {
	slots []sentSlot
	mask  uint16
}

type sentSlot struct {
	SentPacket
	used   bool
	resent uint8         // how often it was sent again
	at     time.Duration // when last
}

// maxResent bounds how often one packet is sent again: some receivers go on asking for what they have got over RTX.
const maxResent = 6

// NewSent returns a ring of size packets, rounded up to a power of two (16–32768).
func NewSent(size int) *Sent {
	n := 16
	for n < min(size, 1<<15) {
		n <<= 1
	}
	return &Sent{slots: make([]sentSlot, n), mask: uint16(n - 1)}
}

// Put notes that p has been sent.
func (s *Sent) Put(p SentPacket) { s.slots[p.Sequence&s.mask] = sentSlot{SentPacket: p, used: true} }

// Get returns the packet that left under sequence, if it is still remembered.
func (s *Sent) Get(sequence uint16) (SentPacket, bool) {
	e := &s.slots[sequence&s.mask]
	if !e.used || e.Sequence != sequence {
		return SentPacket{}, false
	}
	return e.SentPacket, true
}

// minResend is the least time between two copies of a packet, for when the round trip isn't known yet.
const minResend = 10 * time.Millisecond

// Resend is Get for a NACK that came at now: ok is false too when the same packet was sent again less than rtt (at least
// 10 ms) ago, as that copy can't have arrived when the NACK left, or when it was sent again six times already.
func (s *Sent) Resend(sequence uint16, now, rtt time.Duration) (p SentPacket, ok bool) {
	e := &s.slots[sequence&s.mask]
	if !e.used || e.Sequence != sequence || e.resent >= maxResent || e.resent > 0 && now-e.at < max(rtt, minResend) {
		return SentPacket{}, false
	}
	e.resent++
	e.at = now
	return e.SentPacket, true
}

// Clear forgets everything.
func (s *Sent) Clear() { clear(s.slots) }

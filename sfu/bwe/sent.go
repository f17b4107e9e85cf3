package bwe

import "time"

// Packet is one packet as it left for the subscriber.
type Packet struct {
	// Sequence is the transport-wide sequence number. It rises by one from packet to packet, also where it isn't written
	// into the packet because the receiver speaks RFC 8888.
	Sequence uint16
	// Size in bytes on the wire, with what the RTP, UDP and IP headers take.
	Size int
	// At is when it left, in server time. Times never run backwards; one that does counts as the latest one told.
	At time.Duration
	// Probe is the ID of the cluster that it belongs to, 0 for none.
	Probe uint16
}

const maxSize = 1<<16 - 1

// fate is what is known of a packet that left.
type fate uint8

const (
	unused fate = iota
	flying
	lost
	received
	again
)

// record is a sent packet in 16 bytes.
type record struct {
	at       time.Duration
	sequence uint16
	size     uint16
	probe    uint16
	fate     fate
}

// ring remembers the latest packets sent. A sequence number finds its slot directly, and the slot holds it or not:
// there is nothing to unwrap, and feedback of unsent or forgotten packets costs one look. It begins small and grows as the
// rate and the round trip need.
type ring struct {
	slots []record
	mask  uint16
	most  int
	last  uint16 // the latest sequence number put
	any   bool
}

const (
	leastSlots = 64
	mostSlots  = 1 << 14
	// A packet is remembered for ringKnown at least, and for ringFlying if its fate isn't known, as far as there is room.
	ringKnown  = time.Second
	ringFlying = 10 * time.Second
)

// powerOfTwo rounds up, to 64–16384.
func powerOfTwo(size int) int {
	n := leastSlots
	for n < min(size, mostSlots) {
		n <<= 1
	}
	return n
}

// newRing returns one for at most size packets, rounded up to a power of two, 64–16384.
func newRing(size int) ring {
	return ring{slots: make([]record, leastSlots), mask: leastSlots - 1, most: powerOfTwo(size)}
}

func (r *ring) put(p Packet) {
	s := &r.slots[p.Sequence&r.mask]
	for len(r.slots) < r.most && s.sequence != p.Sequence && s.wanted(p.At) {
		r.grow()
		s = &r.slots[p.Sequence&r.mask]
	}
	*s = record{at: p.At, sequence: p.Sequence, size: uint16(p.Size), probe: p.Probe, fate: flying}
	r.last, r.any = p.Sequence, true
}

// wanted reports whether the record may still be asked for.
func (s *record) wanted(now time.Duration) bool {
	age := now - s.at
	return s.fate == flying && age < ringFlying || s.fate != unused && age < ringKnown
}

func (r *ring) grow() {
	old := r.slots
	r.slots = make([]record, 2*len(old))
	r.mask = uint16(len(r.slots) - 1)
	for i := range old {
		if old[i].fate != unused {
			r.slots[old[i].sequence&r.mask] = old[i]
		}
	}
}

// find returns the packet's record, or nil when it was never sent or is forgotten.
func (r *ring) find(sequence uint16) *record {
	s := &r.slots[sequence&r.mask]
	if s.fate == unused || s.sequence != sequence {
		return nil
	}
	return s
}

// newer reports whether sequence number a comes after b, in the order of RFC 1982.
func newer(a, b uint16) bool { return a != b && a-b < 1<<15 }

package history

import "time"

// PacketsConfig bounds [Packets].
type PacketsConfig struct {
	// MaxPackets is rounded up to a power of two, 1–65536.
	MaxPackets int
	// MaxBytes bounds the sum of the sizes; 0 is no limit.
	MaxBytes int
	// MaxAge is how long a packet is kept; 0 is as long as there is room.
	MaxAge time.Duration
}

// Packets is a store of the latest packets of one published layer by extended sequence number, bounded in packets, bytes
// and time. It begins small and grows as the stream's rate needs. V is what the owner stores, such as a
// reference-counted buffer; the store never drops one without telling.
type Packets[V any] struct {
	slots    []packetSlot[V]
	mask     uint64
	next     uint64 // one above the highest stored sequence number
	oldest   uint64 // nothing below is stored
	bytes    int
	maxBytes int
	maxSlots int
	maxAge   time.Duration
	count    int
}

type packetSlot[V any] struct {
	sequence uint64
	at       time.Duration
	size     int32
	used     bool
	value    V
}

// leastSlots is how small a store or ring begins: what a second of audio needs.
const leastSlots = 64

// NewPackets returns an empty store.
func NewPackets[V any](cfg PacketsConfig) *Packets[V] {
	most := powerOfTwo(max(cfg.MaxPackets, 1), 1<<16)
	n := min(most, leastSlots)
	return &Packets[V]{slots: make([]packetSlot[V], n), mask: uint64(n - 1), maxSlots: most, maxBytes: cfg.MaxBytes, maxAge: cfg.MaxAge}
}

// powerOfTwo returns the least power of two that is not below n, at most limit.
func powerOfTwo(n, limit int) int {
	p := 1
	for p < min(n, limit) {
		p <<= 1
	}
	return p
}

// Put stores value, of size bytes, which came at now, under sequence. The values that had to go are appended to evicted
// (pass a reused slice) and returned: they are the caller's again. stored is false when sequence is too old or stored
// already, or when there is room for it only at the cost of newer ones: then value remains the caller's.
func (p *Packets[V]) Put(sequence uint64, size int, now time.Duration, value V, evicted []V) (_ []V, stored bool) {
	if p.maxBytes > 0 && size > p.maxBytes {
		return evicted, false
	}
	if p.maxAge > 0 {
		evicted = p.expire(now-p.maxAge, evicted)
	}
	n := uint64(len(p.slots))
	if p.count == 0 && (sequence >= p.next || p.next-sequence > n) {
		p.oldest, p.next = sequence, sequence
	}
	switch {
	case sequence >= p.next:
		if sequence-p.oldest >= n {
			p.grow(sequence - p.oldest + 1)
			n = uint64(len(p.slots))
		}
		if sequence+1 > n {
			evicted = p.dropBelow(sequence+1-n, evicted)
		}
		p.next = sequence + 1
	case p.next-sequence > n:
		return evicted, false
	case sequence < p.oldest:
		if p.maxBytes > 0 && p.bytes+size > p.maxBytes {
			return evicted, false
		}
		p.oldest = sequence
	case p.slots[sequence&p.mask].used:
		return evicted, false
	}
	for p.maxBytes > 0 && p.bytes+size > p.maxBytes && p.count > 0 {
		if p.oldest > sequence {
			return evicted, false // nothing newer gives way to a late packet
		}
		evicted = p.dropBelow(p.oldest+1, evicted)
	}
	p.slots[sequence&p.mask] = packetSlot[V]{sequence: sequence, at: now, size: int32(size), used: true, value: value}
	p.bytes += size
	p.count++
	return evicted, true
}

// expire evicts the oldest packets that came before limit, up to the first that didn't.
func (p *Packets[V]) expire(limit time.Duration, evicted []V) []V {
	for p.count > 0 {
		s := &p.slots[p.oldest&p.mask]
		if s.used && s.sequence == p.oldest && s.at >= limit {
			break
		}
		evicted = p.dropBelow(p.oldest+1, evicted)
	}
	return evicted
}

// grow makes room for a span of sequence numbers, as far as it may.
func (p *Packets[V]) grow(span uint64) {
	n := powerOfTwo(int(min(span, uint64(p.maxSlots))), p.maxSlots)
	if n <= len(p.slots) {
		return
	}
	old := p.slots
	p.slots, p.mask = make([]packetSlot[V], n), uint64(n-1)
	for i := range old {
		if old[i].used {
			p.slots[old[i].sequence&p.mask] = old[i]
		}
	}
}

// dropBelow evicts everything below limit.
func (p *Packets[V]) dropBelow(limit uint64, evicted []V) []V {
	for ; p.oldest < limit && p.count > 0; p.oldest++ {
		s := &p.slots[p.oldest&p.mask]
		if !s.used || s.sequence != p.oldest {
			continue
		}
		evicted = append(evicted, s.value)
		p.bytes -= int(s.size)
		p.count--
		*s = packetSlot[V]{}
	}
	p.oldest = max(p.oldest, limit)
	return evicted
}

// Get returns the value stored under sequence. It stays the store's: take a reference before the next Put.
func (p *Packets[V]) Get(sequence uint64) (value V, ok bool) {
	s := &p.slots[sequence&p.mask]
	if !s.used || s.sequence != sequence {
		return value, false
	}
	return s.value, true
}

// Clear empties the store, appending everything in it to evicted.
func (p *Packets[V]) Clear(evicted []V) []V {
	return p.dropBelow(p.next, evicted)
}

// Len returns the number of packets stored.
func (p *Packets[V]) Len() int { return p.count }

// Bytes returns the summed size of the packets stored.
func (p *Packets[V]) Bytes() int { return p.bytes }

package history

// Packets is a store of the latest packets of one published layer by extended sequence number, bounded in packets and
// bytes. V is what the owner stores, such as a reference-counted buffer; the store never drops one without telling.
type Packets[V any] struct {
	slots    []packetSlot[V]
	mask     uint64
	next     uint64 // one above the highest stored sequence number
	oldest   uint64 // nothing below is stored
	bytes    int
	maxBytes int
	count    int
}

type packetSlot[V any] struct {
	sequence uint64
	size     int32
	used     bool
	value    V
}

// NewPackets returns a store of at most maxPackets (rounded up to a power of two, 1–65536) and maxBytes (0: no limit).
func NewPackets[V any](maxPackets, maxBytes int) *Packets[V] {
	n := 1
	for n < min(maxPackets, 1<<16) {
		n <<= 1
	}
	return &Packets[V]{slots: make([]packetSlot[V], n), mask: uint64(n - 1), maxBytes: maxBytes}
}

// Put stores value, of size bytes, under sequence. The values that had to go are appended to evicted (pass a reused
// slice) and returned: they are the caller's again. stored is false when sequence is too old or stored already, or when
// there is room for it only at the cost of newer ones: then value remains the caller's.
func (p *Packets[V]) Put(sequence uint64, size int, value V, evicted []V) (_ []V, stored bool) {
	n := uint64(len(p.slots))
	if p.maxBytes > 0 && size > p.maxBytes {
		return evicted, false
	}
	if p.count == 0 && (sequence >= p.next || p.next-sequence > n) {
		p.oldest, p.next = sequence, sequence
	}
	switch {
	case sequence >= p.next:
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
	p.slots[sequence&p.mask] = packetSlot[V]{sequence: sequence, size: int32(size), used: true, value: value}
	p.bytes += size
	p.count++
	return evicted, true
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

// Len returns the number of packets stored, Bytes their size.
func (p *Packets[V]) Len() int { return p.count }

// Bytes returns the summed size of the packets stored.
func (p *Packets[V]) Bytes() int { return p.bytes }

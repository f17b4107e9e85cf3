package bwe

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// ErrMalformed is feedback that doesn't parse. What was read before the fault counts.
var ErrMalformed = errors.New("malformed feedback")

// unwrapper extends a receiver's clock that wraps.
type unwrapper struct {
	last int64
	any  bool
}

// extend returns v, of the given number of bits, as the nearest value to the one before.
func (u *unwrapper) extend(v uint32, bits uint) int64 {
	if !u.any {
		u.any, u.last = true, int64(v)+1<<bits // room below for what comes out of order
		return u.last
	}
	shift := 32 - bits
	u.last += int64(int32((v-uint32(u.last))<<shift) >> shift)
	return u.last
}

// TransportFeedback takes a transport-wide feedback message, from its base sequence number on: what follows the two
// SSRCs of the RTCP packet (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1). It reads no more packets
// than the history holds. No allocation.
func (e *Estimator) TransportFeedback(now time.Duration, b []byte) error {
	e.begin(now)
	err := e.transport(b)
	if err != nil {
		e.counts.Malformed++
	}
	e.end()
	return err
}

func (e *Estimator) transport(b []byte) error {
	if len(b) < 8 {
		return ErrMalformed
	}
	sequence := binary.BigEndian.Uint16(b)
	count := int(binary.BigEndian.Uint16(b[2:]))
	reference := uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
	if count == 0 || count > e.sent.most {
		return ErrMalformed
	}
	chunks := b[8:]
	n := 0
	for seen := 0; seen < count; n++ {
		if len(chunks) < 2*n+2 {
			return ErrMalformed
		}
		run := chunkLength(binary.BigEndian.Uint16(chunks[2*n:]))
		if run == 0 {
			return ErrMalformed
		}
		seen += run
	}
	deltas := chunks[2*n:]
	at := time.Duration(e.times.extend(reference, 24)) * 64 * time.Millisecond
	for i := range n {
		chunk := binary.BigEndian.Uint16(chunks[2*i:])
		for k := range min(chunkLength(chunk), count) {
			switch symbol(chunk, k) {
			case 0:
				e.result(Result{Sequence: sequence})
			case 1:
				if len(deltas) < 1 {
					return ErrMalformed
				}
				at += time.Duration(deltas[0]) * 250 * time.Microsecond
				deltas = deltas[1:]
				e.result(Result{Sequence: sequence, Received: true, At: at})
			case 2:
				if len(deltas) < 2 {
					return ErrMalformed
				}
				at += time.Duration(int16(binary.BigEndian.Uint16(deltas))) * 250 * time.Microsecond
				deltas = deltas[2:]
				e.result(Result{Sequence: sequence, Received: true, At: at})
			default:
				return ErrMalformed
			}
			sequence++
		}
		count -= min(chunkLength(chunk), count)
	}
	return nil
}

// chunkLength is how many packets a chunk speaks of: run lengths (section 3.1.3), or status vectors of 14 or 7 symbols
// (section 3.1.4).
func chunkLength(chunk uint16) int {
	switch {
	case chunk&0x8000 == 0:
		return int(chunk & 0x1fff)
	case chunk&0x4000 == 0:
		return 14
	}
	return 7
}

// symbol is the status of the chunk's packet k: 0 not received, 1 with a small delta, 2 with a large or negative one.
func symbol(chunk uint16, k int) uint16 {
	switch {
	case chunk&0x8000 == 0:
		return chunk >> 13 & 3
	case chunk&0x4000 == 0:
		return chunk >> (13 - k) & 1
	}
	return chunk >> (12 - 2*k) & 3
}

// Index finds the transport-wide sequence number of a packet by its SSRC and RTP sequence number, which is how RFC 8888
// names it. It grows with the history and forgets the oldest.
type Index struct {
	slots   []indexed
	mask    uint32
	most    int
	results []Result // of one message, to be put in the order of sending
}

type indexed struct {
	ssrc                uint32
	sequence, transport uint16
	used                bool
}

const (
	// leastIndex is how small an index begins.
	leastIndex = 512
	// indexReach: two of so many packets that leave one after the other don't have to share a place, as long as there can be
	// more of them.
	indexReach = 256
)

// NewIndex returns an index of at most size entries, rounded up to a power of two, 64–16384.
func NewIndex(size int) *Index {
	most := powerOfTwo(size)
	n := min(leastIndex, most)
	return &Index{slots: make([]indexed, n), mask: uint32(n - 1), most: most}
}

// follow makes room for a history of n packets, for twice as many: two may want one place.
func (x *Index) follow(n int) {
	for len(x.slots) < min(2*n, x.most) {
		x.grow()
	}
}

func (x *Index) grow() {
	old := x.slots
	x.slots = make([]indexed, 2*len(old))
	x.mask = uint32(len(x.slots) - 1)
	for i := range old {
		if old[i].used {
			*x.slot(old[i].ssrc, old[i].sequence) = old[i]
		}
	}
}

func (x *Index) slot(ssrc uint32, sequence uint16) *indexed {
	return &x.slots[(ssrc*0x9e3779b1>>7+uint32(sequence))&x.mask]
}

// Put notes under which transport-wide number a packet left.
func (x *Index) Put(ssrc uint32, sequence, transport uint16) {
	s := x.slot(ssrc, sequence)
	for len(x.slots) < x.most && s.used && transport-s.transport < indexReach && (s.ssrc != ssrc || s.sequence != sequence) {
		x.grow()
		s = x.slot(ssrc, sequence)
	}
	*s = indexed{ssrc, sequence, transport, true}
}

func (x *Index) find(ssrc uint32, sequence uint16) (uint16, bool) {
	s := x.slot(ssrc, sequence)
	return s.transport, s.used && s.ssrc == ssrc && s.sequence == sequence
}

const (
	// RFC 8888 section 3.1: no more than 16384 packets in a block, and arrival offsets in 1/1024 s, of which the two
	// highest mean "earlier than can be said" and "unknown".
	maxBlock      = 16384
	offsetUnknown = 0x1ffe
)

// CongestionFeedback takes an RFC 8888 message, from its first report block's SSRC on, the report timestamp included:
// what follows the SSRC of the packet sender (section 3.1). It reads no more packets than the index holds.
// No allocation.
func (e *Estimator) CongestionFeedback(now time.Duration, b []byte, index *Index) error {
	e.begin(now)
	index.follow(len(e.sent.slots))
	index.results = index.results[:0]
	err := e.congestion(b, index)
	if err != nil {
		e.counts.Malformed++
	}
	// A message has one block after the other for each stream: bring their packets into the order of sending.
	newest := e.sent.last
	slices.SortFunc(index.results, func(a, b Result) int { return int(newest-b.Sequence) - int(newest-a.Sequence) })
	for i := range index.results {
		e.result(index.results[i])
	}
	e.end()
	return err
}

func (e *Estimator) congestion(b []byte, index *Index) error {
	if len(b) < 4 {
		return ErrMalformed
	}
	// RFC 8888 section 3.1: the report timestamp is the middle 32 bits of an NTP timestamp; wraps after 18 hours.
	stamp := e.times.extend(binary.BigEndian.Uint32(b[len(b)-4:]), 32)
	at := time.Duration(stamp>>16)*time.Second + time.Duration(stamp&0xffff)*time.Second>>16
	b = b[:len(b)-4]
	budget := index.most
	for len(b) > 0 {
		if len(b) < 8 {
			return ErrMalformed
		}
		ssrc, begin := binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:])
		count := int(binary.BigEndian.Uint16(b[6:]))
		b = b[8:]
		length := (2*count + 3) &^ 3
		if count > maxBlock || len(b) < length {
			return ErrMalformed
		}
		if budget -= count; budget < 0 {
			return ErrMalformed
		}
		for i := range count {
			metric := binary.BigEndian.Uint16(b[2*i:])
			transport, ok := index.find(ssrc, begin+uint16(i))
			if !ok {
				e.counts.Unknown++
				continue
			}
			r := Result{Sequence: transport, Received: metric&0x8000 != 0}
			if r.Received {
				offset := metric & 0x1fff
				if offset >= offsetUnknown {
					continue // it arrived, nobody knows when
				}
				r.At = at - time.Duration(offset)*time.Second/1024
			}
			index.results = append(index.results, r)
		}
		b = b[length:]
	}
	return nil
}

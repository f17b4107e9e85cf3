package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/codec"
)

// slot is one packet at the egress, waiting or in the run that leaves. Slots are pooled, so that a queue takes memory only
// while it holds something.
type slot struct {
	next                       *slot
	packet                     *packet
	payload                    []byte
	headerLength, prefixLength int
	transportAt, absAt         int // offsets of the values in header, 0 = absent
	size                       int // on the wire
	at                         time.Duration
	shed                       *atomic.Bool
	stamp                      *stamp
	sequence                   uint16
	class                      class
	again                      bool // with the number and the time of before
	numbered                   bool // number is its transport-wide sequence number
	number                     uint16
	abs                        [3]byte
	prefix                     [maxPrefix]byte
	header                     [maxHeader]byte
}

var slots = sync.Pool{New: func() any { return new(slot) }}

// packetOverhead is what a packet has on the wire besides RTP header and payload, in bytes: 16 of SRTP's tag (AES-GCM,
// RFC 7714; it is 10 with HMAC-SHA1), 8 of UDP and 20 of IPv4. IPv6 takes 20 more, a relay 4 or 36: one to three percent
// of a video packet, missing in what is measured as in what is allowed.
const packetOverhead = 16 + 8 + 20

// newSlot makes what o says into a packet. Called with the egress locked: stamps are its own.
func newSlot(o *outgoing) *slot {
	s := slots.Get().(*slot)
	w := codec.NewWriter(s.header[:], o.marker, o.pt, o.sequence, o.timestamp, o.ssrc)
	s.transportAt, s.absAt = 0, 0
	if o.ids.wide || o.packet != nil && o.ids.dependency != 0 && len(o.packet.dependency) > maxOneByteValue {
		w.TwoByte()
	}
	if o.ids.transport != 0 {
		s.transportAt, _ = w.Extension(o.ids.transport, zeros[:2])
	}
	if o.ids.abs != 0 {
		s.absAt, _ = w.Extension(o.ids.abs, zeros[:3])
	}
	if p := o.packet; p != nil {
		if p.hasLevel && o.ids.level != 0 {
			w.Extension(o.ids.level, levelBytes[p.level][:])
		}
		if p.hasOrientation && o.ids.orientation != 0 {
			w.Extension(o.ids.orientation, levelBytes[p.orientation][:])
		}
		if p.dependency != nil && o.ids.dependency != 0 {
			if at, ok := w.Extension(o.ids.dependency, p.dependency); ok {
				codec.AddFrameNumber(s.header[at:], o.frameOffset)
			}
		}
		p.retain()
	}
	s.packet, s.payload, s.stamp, s.again, s.sequence = o.packet, o.payload, o.stamp, o.again, o.sequence
	s.class, s.at, s.shed, s.numbered = o.class, o.at, o.shed, false
	s.headerLength = w.Finish()
	s.prefixLength = copy(s.prefix[:], o.prefix)
	if o.fill {
		// RFC 3550 section 5.1: the padding bit, and the count as the last octet.
		s.header[0] |= 0x20
		s.payload = fillPadding[:]
		if o.full {
			s.payload = fullPadding[:]
		}
	}
	if m := o.stamp; m != nil {
		if o.again {
			s.number, s.abs = m.transport, m.abs
		} else {
			*m = stamp{sequence: o.sequence}
		}
	}
	s.size = s.length() + packetOverhead
	return s
}

func (s *slot) length() int { return s.headerLength + s.prefixLength + len(s.payload) }

// release gives the slot and its packet back.
func (s *slot) release() {
	if s.packet != nil {
		s.packet.release()
	}
	s.next, s.packet, s.payload, s.stamp, s.shed = nil, nil, nil, nil, nil
	slots.Put(s)
}

// What the one-byte form of header extensions has room for (RFC 8285 section 4.2).
const (
	maxOneByteID    = 14
	maxOneByteValue = 16
)

// zeros and levelBytes spare the hot path a slice of a local.
var (
	zeros       [4]byte
	fillPadding = [4]byte{3: 4}
	fullPadding = [255]byte{254: 255}
	levelBytes  = func() (t [256][1]byte) {
		for i := range t {
			t[i][0] = byte(i)
		}
		return t
	}()
)

func (s *slot) write(transport uint16, abs [3]byte) {
	if s.transportAt != 0 {
		codec.PutTransportSequence(s.header[s.transportAt:], transport)
	}
	if s.absAt != 0 {
		copy(s.header[s.absAt:], abs[:])
	}
}

// fifo is a queue of packets without storage of its own.
type fifo struct {
	head, tail *slot
	n, bytes   int
}

func (f *fifo) push(s *slot) {
	if s.next = nil; f.head == nil {
		f.head = s
	} else {
		f.tail.next = s
	}
	f.tail = s
	f.n++
	f.bytes += s.size
}

// pop returns the first packet; there must be one.
func (f *fifo) pop() *slot {
	s := f.head
	if f.head = s.next; f.head == nil {
		f.tail = nil
	}
	s.next = nil
	f.n--
	f.bytes -= s.size
	return s
}

// heaviest returns the stream that takes the most room, of the first 32 streams in the queue: nil if none of them can be shed.
// A small packet counts as what the queue has room for: it is bounded in packets, too.
func (f *fifo) heaviest() (stream *atomic.Bool) {
	var streams [32]struct {
		shed  *atomic.Bool
		bytes int
	}
	most, n := 0, 0
	for s := f.head; s != nil; s = s.next {
		if s.shed == nil {
			continue
		}
		i := 0
		for i < n && streams[i].shed != s.shed {
			i++
		}
		if i == len(streams) {
			continue
		}
		n = max(n, i+1)
		streams[i].shed = s.shed
		if streams[i].bytes += max(s.size, maxWaitingBytes/maxWaiting); streams[i].bytes > most {
			most, stream = streams[i].bytes, s.shed
		}
	}
	return stream
}

// remove drops the packets of one stream and returns how many there were.
func (f *fifo) remove(stream *atomic.Bool) (removed int) {
	old := *f
	*f = fifo{}
	for old.n > 0 {
		if s := old.pop(); s.shed == stream {
			s.release()
			removed++
		} else {
			f.push(s)
		}
	}
	return removed
}

func (f *fifo) clear() {
	for f.n > 0 {
		f.pop().release()
	}
}

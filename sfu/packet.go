package sfu

import (
	"sync"
	"sync/atomic"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
)

const (
	smallPacket = 320           // bytes: most audio
	largePacket = 1600          // bytes: an Ethernet frame's payload, rounded up
	headroom    = largePacket   // nothing larger is taken
	rtxHeader   = 2             // RFC 4588 section 4: the original sequence number
	maxPrefix   = rtxHeader + 8 // and the largest payload descriptor that is rewritten
)

// packet is one received RTP packet in a pooled buffer that the history and any number of runs share. It is written by
// ingest alone, before it is shared; from then on it is read-only. Whoever holds it longer than a call retains it.
type packet struct {
	refs   atomic.Int32
	small  bool
	buf    []byte // the whole plaintext packet, RTX unwrapped
	header codec.Header
	// forward is what the subscriptions decide on.
	forward forward.Packet
	// pt and kind are of the original stream, also when it came over RTX.
	pt   uint8
	kind codec.Kind
	// Values of header extensions that are passed on.
	level, orientation       byte
	hasLevel, hasOrientation bool
	dependency               []byte // in buf, nil without one
	// waiting: dependency can't be read before its structure has come. Guarded by the layer.
	waiting bool
	// Of audio: fresh tells a new packet from one that is late or has no payload, heard counts the fresh ones of the track, up
	// to this one.
	fresh bool
	heard uint64
	size  int
}

var packetPools = [2]sync.Pool{
	{New: func() any { return &packet{buf: make([]byte, largePacket)} }},
	{New: func() any { return &packet{buf: make([]byte, smallPacket), small: true} }},
}

// newPacket copies b, which must not exceed largePacket, into a pooled packet with one reference.
func newPacket(b []byte) *packet {
	pool := &packetPools[0]
	if len(b) <= smallPacket {
		pool = &packetPools[1]
	}
	p := pool.Get().(*packet)
	p.refs.Store(1)
	p.size = copy(p.buf, b)
	p.hasLevel, p.hasOrientation, p.dependency, p.waiting = false, false, nil, false
	p.fresh, p.heard = false, 0
	return p
}

func (p *packet) retain() { p.refs.Add(1) }

func (p *packet) release() {
	switch n := p.refs.Add(-1); {
	case n > 0:
	case n < 0:
		panic("sfu: packet released twice")
	case p.small:
		packetPools[1].Put(p)
	default:
		packetPools[0].Put(p)
	}
}

func (p *packet) payload() []byte { return p.header.Payload(p.buf) }

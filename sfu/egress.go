package sfu

import (
	"sync"
	"time"

	"anytime/sfu/codec"
)

const (
	// maxRun is the most segments in a run: what a paced burst of one subscriber may have.
	maxRun = 16
	// maxHeader is the largest RTP header that we build: fixed part, four short extension elements and a dependency
	// descriptor of up to 255 bytes.
	maxHeader = 304

	defaultBatchDelay = time.Millisecond
)

// segment is one plaintext RTP packet of a run: header, prefix and payload follow each other on the wire. The slices are
// valid during the call and must not be written to; payload is shared with other subscribers.
type segment struct {
	header  []byte // a complete RTP header
	prefix  []byte // what this subscriber gets in place of the payload's own first bytes, often empty
	payload []byte
}

// sink protects runs and sends them: Pion's SRTP session for now, a socket with segmentation offload later.
type sink interface {
	// sendRun sends the segments in order and returns how many left. It must not block on the receiver's slowness.
	sendRun(run []segment) int
}

// stamp is what is written into a packet at the moment of sending. Who may have to send the very same packet again, bit
// for bit, keeps it.
type stamp struct {
	transport uint16
	abs       [3]byte
	sequence  uint16
	used      bool
}

// outgoing is one packet that a subscription wants sent.
type outgoing struct {
	ssrc, timestamp uint32
	sequence        uint16
	pt              uint8
	marker          bool
	// closes ends the run: the last packet of a frame, or one that is a frame by itself.
	closes  bool
	ids     *extensionIDs
	packet  *packet // owner of payload, nil without one; egress takes a reference of its own
	prefix  []byte  // copied
	payload []byte
	// frameOffset is added to the frame number of the dependency descriptor.
	frameOffset uint16
	fill        bool // padding only, no payload
	// stamp, if not nil, receives what was written at sending; or gives it, when again is set.
	stamp *stamp
	again bool
}

// extensionIDs are an m-line's negotiated header extension ids, 0 = not negotiated.
type extensionIDs struct {
	mid, rid, repairedRid, transport, abs, level, orientation, dependency uint8
	// wide: one of those that we send needs the two-byte form.
	wide bool
}

func extensionIDsOf(s *section) extensionIDs {
	ids := extensionIDs{
		mid: s.extensions[codec.URIMid], rid: s.extensions[codec.URIRid], repairedRid: s.extensions[codec.URIRepairedRid],
		transport: s.extensions[codec.URITransportSequence], abs: s.extensions[codec.URIAbsSendTime],
		level: s.extensions[codec.URIAudioLevel], orientation: s.extensions[codec.URIVideoOrientation],
	}
	// A dependency descriptor with its structure is longer than the 16 bytes of a one-byte element. Where both forms can't be
	// mixed (RFC 8285 section 4.1.2) a receiver would miss the structures, and be worse off than without any descriptor.
	if s.mixed {
		ids.dependency = s.extensions[codec.URIDependency]
	}
	ids.wide = max(ids.transport, ids.abs, ids.level, ids.orientation, ids.dependency) > maxOneByteID
	return ids
}

// egress gathers the packets for one peer connection into runs. A run closes at the frame's marker, at maxRun segments
// or after the batch delay. There is one open run, so order is kept. Safe for concurrent use: several publishers feed
// one subscriber.
type egress struct {
	sink  sink
	delay time.Duration
	clock func() time.Duration

	mu        sync.Mutex
	open      bool // packets before are dropped
	closed    bool
	slots     [maxRun]slot
	segments  [maxRun]segment
	n         int
	timer     *time.Timer
	armed     bool
	transport uint16 // next transport-wide sequence number
	stats     EgressStats
}

// slot is the storage behind one segment of the open run.
type slot struct {
	packet      *packet
	header      [maxHeader]byte
	prefix      [maxPrefix]byte
	transportAt int // offset of the value in header, 0 = absent
	absAt       int
	stamp       *stamp
	again       bool
}

// EgressStats counts what left for one peer connection.
type EgressStats struct {
	Packets, Bytes, Runs uint64
	// Dropped are packets that couldn't be sent.
	Dropped uint64
	// Again counts packets that left a second time under the same transport-wide number.
	Again uint64
	// RunLengths[n] counts runs of n+1 segments.
	RunLengths [maxRun]uint64
}

func newEgress(s sink, delay time.Duration, clock func() time.Duration) *egress {
	if delay == 0 {
		delay = defaultBatchDelay
	}
	e := &egress{sink: s, delay: delay, clock: clock}
	e.timer = time.AfterFunc(time.Hour, e.expire)
	e.timer.Stop()
	return e
}

// start lets packets through: the transport is connected.
func (e *egress) start() {
	e.mu.Lock()
	e.open = !e.closed
	e.mu.Unlock()
}

func (e *egress) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open, e.closed = false, true
	e.timer.Stop()
	e.discard()
}

// send queues one packet and flushes when it closes the run. It reports whether the transport takes packets.
func (e *egress) send(o *outgoing) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.open {
		return false
	}
	e.slots[e.n].fill(o, &e.segments[e.n])
	e.n++
	switch {
	case e.n == maxRun || o.closes || e.delay < 0:
		e.flush()
	case !e.armed:
		e.armed = true
		e.timer.Reset(e.delay)
	}
	return true
}

func (s *slot) fill(o *outgoing, out *segment) {
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
	s.packet, s.stamp, s.again = o.packet, o.stamp, o.again
	out.header = s.header[:w.Finish()]
	out.prefix = s.prefix[:copy(s.prefix[:], o.prefix)]
	out.payload = o.payload
	if o.fill {
		// RFC 3550 section 5.1: the padding bit, and the count as the last octet.
		s.header[0] |= 0x20
		out.payload = fillPadding[:]
	}
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
	levelBytes  = func() (t [256][1]byte) {
		for i := range t {
			t[i][0] = byte(i)
		}
		return t
	}()
)

func (e *egress) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed && !e.closed {
		e.flush()
	}
}

// flush sends the open run. Called with mu held, so that runs leave in order.
func (e *egress) flush() {
	n := e.n
	if e.armed {
		e.armed = false
		e.timer.Stop()
	}
	if n == 0 {
		return
	}
	abs := [3]byte{}
	codec.PutAbsSendTime(abs[:], e.clock())
	bytes := 0
	for i := range n {
		s := &e.slots[i]
		if s.again && s.stamp != nil {
			abs := s.stamp.abs
			s.write(s.stamp.transport, abs)
			e.stats.Again++
		} else {
			// draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2: one counter for all packets of the transport.
			s.write(e.transport, abs)
			if s.stamp != nil {
				s.stamp.transport, s.stamp.abs = e.transport, abs
			}
			if s.transportAt != 0 {
				e.transport++
			}
		}
		g := &e.segments[i]
		bytes += len(g.header) + len(g.prefix) + len(g.payload)
	}
	sent := e.sink.sendRun(e.segments[:n])
	e.stats.Runs++
	e.stats.RunLengths[n-1]++
	e.stats.Packets += uint64(sent)
	e.stats.Dropped += uint64(n - sent)
	e.stats.Bytes += uint64(bytes)
	e.discard()
}

// discard gives the run's buffers back.
func (e *egress) discard() {
	for i := range e.n {
		if p := e.slots[i].packet; p != nil {
			p.release()
			e.slots[i].packet = nil
		}
		e.slots[i].stamp = nil
		e.segments[i].payload = nil
	}
	e.n = 0
}

func (s *slot) write(transport uint16, abs [3]byte) {
	if s.transportAt != 0 {
		codec.PutTransportSequence(s.header[s.transportAt:], transport)
	}
	if s.absAt != 0 {
		copy(s.header[s.absAt:], abs[:])
	}
}

func (e *egress) snapshot() EgressStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats
}

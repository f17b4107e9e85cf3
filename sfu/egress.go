package sfu

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/bwe"
	"anytime/sfu/codec"
)

const (
	// maxRun is the most segments in a run: what a paced burst of one subscriber may have.
	maxRun = 16
	// maxHeader is the largest RTP header that we build: fixed part, four short extension elements and a dependency
	// descriptor of up to 255 bytes.
	maxHeader = 304
)

// segment is one plaintext RTP packet of a run: header, prefix and payload follow each other on the wire. The slices are
// valid during the call and must not be written to; payload is shared with other subscribers.
type segment struct {
	header  []byte // a complete RTP header
	prefix  []byte // what this subscriber gets in place of the payload's own first bytes, often empty
	payload []byte
	// pads: padding may be added, so that it is as long as others of its run. What may have to be sent again bit for bit has none.
	pads bool
}

// sink protects runs and sends them: [planeSink], or a recorder in tests.
type sink interface {
	// sendRun sends the segments in order and returns how many left. It must not block on the receiver's slowness.
	sendRun(run []segment) int
}

// stamp is what was written into a packet at the moment of sending. Who may have to send the very same packet again, bit
// for bit, keeps it. Guarded by the egress.
type stamp struct {
	transport uint16
	abs       [3]byte
	sequence  uint16
	sent      bool
}

// class says how a packet waits where the transport is paced.
type class uint8

const (
	media   class = iota // video: in order, as the pacer grants
	sound                // audio never waits
	repair               // sent again: goes ahead of media
	padding              // of the pacer's wish: leaves at once, but only while nothing waits
)

// outgoing is one packet that a subscription wants sent.
type outgoing struct {
	ssrc, timestamp uint32
	sequence        uint16
	pt              uint8
	marker          bool
	ids             *extensionIDs
	packet          *packet // owner of payload, nil without one; egress takes a reference of its own
	prefix          []byte  // copied
	payload         []byte
	// frameOffset is added to the frame number of the dependency descriptor.
	frameOffset uint16
	// fill: padding only, no payload; full: as much of it as there can be.
	fill, full bool
	// keep: padding that has a number of its stream's own, so that it has to leave.
	keep bool
	// stamp, if not nil, receives what was written at sending; or gives it, when again is set.
	stamp *stamp
	again bool
	class class
	at    time.Duration // since when it waits, in server time; 0 = now
	// shed is set when it was dropped from the queue, with all that waited of its stream.
	shed *atomic.Bool
}

// extensionIDs are an m-line's negotiated header extension ids, 0 = not negotiated.
type extensionIDs struct {
	mid, rid, repairedRid, transport, abs, level, orientation, dependency uint8
	// wide: one of those that we send needs the two-byte form.
	wide bool
	// noVoice: the V bit beside the audio level means nothing.
	noVoice bool
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
	ids.noVoice = s.noVoice
	ids.wide = max(ids.transport, ids.abs, ids.level, ids.orientation, ids.dependency) > maxOneByteID
	return ids
}

// egress sends the packets of one peer connection in runs: what is queued until dispatch, at most maxRun packets at a time.
// Where the transport is paced (congestion.go), it then waits for the pacer's grants. There is one queue for media, so order is
// kept. Safe for concurrent use: several publishers feed one subscriber.
type egress struct {
	sink  sink
	clock func() time.Duration
	owner *Participant // nil for an egress that is never paced
	// socket is the number of the one that it sends on: the fan-out is in this order.
	socket uint32

	mu        sync.Mutex
	open      bool // packets before are dropped
	closed    bool
	media     fifo
	again     fifo // what goes ahead of it; empty where nothing is paced
	fresh     int  // packets queued since it was last tried to send some
	control   *congestion
	run       [maxRun]*slot // what leaves
	segments  [maxRun]segment
	n         int
	moment    *moment // nil before anything was to wait
	armed     bool
	due       time.Duration // of the moment
	transport uint16        // next transport-wide sequence number
	stats     EgressStats
}

// EgressStats counts what left for one peer connection.
type EgressStats struct {
	Packets, Bytes, Runs uint64
	// Dropped are packets that couldn't be sent.
	Dropped uint64
	// Shed are video packets that were dropped because too much waited.
	Shed uint64
	// Padding and PaddingBytes count what left to probe the link, of the above.
	Padding, PaddingBytes uint64
	// Waiting and WaitingBytes are in the queue now, in packets and bytes on the wire.
	Waiting, WaitingBytes int
	// RunLengths[n] counts runs of n+1 segments.
	RunLengths [maxRun]uint64
}

func newEgress(s sink, clock func() time.Duration) *egress {
	return &egress{sink: s, clock: clock}
}

// start lets packets through: the transport is connected.
func (e *egress) start() {
	e.mu.Lock()
	e.open = !e.closed
	c := e.control
	e.mu.Unlock()
	if c != nil {
		c.alarm.at(e.clock())
	}
}

func (e *egress) close() {
	e.mu.Lock()
	e.open, e.closed, e.armed = false, true, false
	if e.moment != nil {
		e.moment.end()
	}
	e.discard()
	e.media.clear()
	e.again.clear()
	c := e.control
	e.mu.Unlock()
	if c != nil {
		c.alarm.stop()
	}
}

// send queues one packet and sends what is granted. It reports whether the transport takes it.
func (e *egress) send(o *outgoing) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := e.queue(o)
	e.dispatch()
	return taken
}

// queue queues one packet, which leaves with the next dispatch. It reports whether the transport takes it. Called with mu held.
func (e *egress) queue(o *outgoing) bool {
	if !e.open || o.again && !(o.stamp.sent && o.stamp.sequence == o.sequence) {
		return false
	}
	queue := &e.media
	if e.control != nil {
		switch o.class {
		case padding:
			if e.media.n+e.again.n > 0 {
				if !o.keep {
					return false
				}
				break // it waits for its turn
			}
			fallthrough
		case sound:
			e.run[0], e.n = newSlot(o), 1
			e.flush(e.clock())
			return true
		case repair:
			if queue = &e.again; queue.n >= maxRepairs {
				e.stats.Dropped++
				return false
			}
		case media:
			if e.media.n > 0 && e.crowded(o.at) && e.makeRoom(o) {
				return false
			}
		}
	}
	s := newSlot(o)
	if s.at == 0 && e.control != nil {
		s.at = e.clock()
	}
	queue.push(s)
	if e.fresh++; e.fresh == maxRun {
		e.dispatch()
	}
	return true
}

// dispatch sends what is granted of what was queued. Called with mu held.
func (e *egress) dispatch() {
	if e.fresh == 0 {
		return
	}
	now := e.clock()
	if g := e.pump(now); g.Padding > 0 {
		e.wake(now, now) // to make some takes the locks of subscriptions, one of which our caller has
	}
}

// What may wait for the pacer: more than this is no burst of a keyframe but more than any link takes, and a picture that is
// older is of no use in a conversation.
const (
	maxWaiting      = 2048
	maxWaitingBytes = 2 << 20
	maxWaitingTime  = 2 * time.Second
	maxRepairs      = 512
)

// crowded reports whether more waits at now, 0 for the clock's, than may.
func (e *egress) crowded(now time.Duration) bool {
	if now == 0 {
		now = e.clock()
	}
	return e.media.n >= maxWaiting || e.media.bytes >= maxWaitingBytes || now-e.media.head.at > maxWaitingTime
}

// makeRoom drops what waits of the stream of which most waits: with a part of it missing the rest is of no use, and who floods
// the path is not to harm the others. Its subscription is told, and goes on with a keyframe. It reports whether o is of that
// stream.
func (e *egress) makeRoom(o *outgoing) bool {
	shed, dropped := e.media.heaviest(), 1
	if shed == nil {
		e.media.pop().release()
	} else {
		shed.Store(true)
		dropped = e.media.remove(shed)
	}
	e.stats.Shed += uint64(dropped)
	e.owner.server.totals.shed.Add(uint64(dropped))
	return shed != nil && o.shed == shed
}

// forget drops what waits of a stream that has ended: its m-line may soon be another's.
func (e *egress) forget(stream *atomic.Bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.media.remove(stream)
	e.again.remove(stream)
}

// pump sends what may leave now, and sets the timer for what may not. Called with mu held. The padding that it returns is
// up to the caller, who asks again when the grant says so.
func (e *egress) pump(now time.Duration) bwe.Grant {
	e.fresh = 0
	c := e.control
	if c == nil {
		for e.media.n > 0 {
			e.take(&e.media, maxRun, math.MaxInt)
			e.flush(now)
		}
		e.disarm()
		return bwe.Grant{}
	}
	g := c.pacer.Next(now, e.waiting(now))
	packets := min(g.Packets, maxRun)
	bytes := e.take(&e.again, packets, g.Bytes)
	bytes += e.take(&e.media, packets-e.n, g.Bytes-bytes)
	e.flush(now)
	if e.media.n+e.again.n > 0 {
		e.wake(now, g.Next)
		return bwe.Grant{}
	}
	if g.Padding -= bytes; g.Padding > 0 {
		return g
	}
	if c.pads() && g.Next != 0 {
		e.wake(now, g.Next)
	} else {
		e.disarm()
	}
	return bwe.Grant{}
}

// waiting says what waits, as the pacer wants to know it.
func (e *egress) waiting(now time.Duration) bwe.Queue {
	q := bwe.Queue{Packets: e.media.n + e.again.n, Bytes: e.media.bytes + e.again.bytes}
	if e.media.n > 0 {
		q.Oldest = now - e.media.head.at
	}
	if e.again.n > 0 {
		q.Oldest = max(q.Oldest, now-e.again.head.at)
	}
	return q
}

// take moves packets into the run: the one that reaches bytes is the last.
func (e *egress) take(f *fifo, packets, bytes int) (taken int) {
	for ; packets > 0 && f.n > 0 && taken < bytes; packets-- {
		s := f.pop()
		taken += s.size
		e.run[e.n] = s
		e.n++
	}
	return taken
}

// wake sets the timer, unless it is set for an earlier time.
func (e *egress) wake(now, at time.Duration) {
	if e.closed || e.armed && e.due <= at {
		return
	}
	if e.moment == nil {
		e.moment = e.owner.server.works.moment(e.expire)
	}
	e.armed, e.due = true, at
	e.moment.in(at - now)
}

func (e *egress) disarm() {
	if e.armed {
		e.armed = false
		e.moment.clear()
	}
}

func (e *egress) expire() {
	e.mu.Lock()
	if !e.armed || e.closed {
		e.mu.Unlock()
		return
	}
	e.armed = false
	g := e.pump(e.clock())
	c := e.control
	e.mu.Unlock()
	if g.Padding > 0 {
		c.pad(g)
	}
}

// flush sends the run. Called with mu held, so that runs leave in order.
func (e *egress) flush(now time.Duration) {
	n := e.n
	if n == 0 {
		return
	}
	c := e.control
	var abs [3]byte
	codec.PutAbsSendTime(abs[:], now)
	bytes := 0
	for i := range n {
		s := e.run[i]
		if s.again {
			s.write(s.number, s.abs)
		} else {
			// draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2: one counter for all packets of the transport. Where
			// RFC 8888 reports on them it goes on too, though nobody reads it.
			s.number = e.transport
			if s.numbered = s.transportAt != 0 || c != nil && c.index != nil; s.numbered {
				e.transport++
			}
			s.write(s.number, abs)
			if m := s.stamp; m != nil && m.sequence == s.sequence {
				m.transport, m.abs, m.sent = s.number, abs, true
			}
		}
		e.segments[i] = segment{header: s.header[:s.headerLength], prefix: s.prefix[:s.prefixLength], payload: s.payload,
			pads: s.class == media && s.stamp == nil && s.packet != nil}
		bytes += s.length()
		if s.class == padding {
			e.stats.Padding++
			e.stats.PaddingBytes += uint64(s.size)
			e.owner.server.totals.padding.Add(uint64(s.size))
		}
	}
	sent := e.sink.sendRun(e.segments[:n])
	e.stats.Runs++
	e.stats.RunLengths[n-1]++
	e.stats.Packets += uint64(sent)
	e.stats.Dropped += uint64(n - sent)
	e.stats.Bytes += uint64(bytes)
	if c != nil && sent > 0 {
		c.left(e.run[:n], now)
	}
	e.discard()
}

// discard gives the run's buffers back.
func (e *egress) discard() {
	for i := range e.n {
		e.run[i].release()
		e.run[i] = nil
		e.segments[i] = segment{}
	}
	e.n = 0
}

func (e *egress) snapshot() EgressStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.stats
	out.Waiting, out.WaitingBytes = e.media.n+e.again.n, e.media.bytes+e.again.bytes
	return out
}

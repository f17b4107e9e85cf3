package sfu

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/alloc"
	"anytime/sfu/codec"
	"anytime/sfu/forward"
	"anytime/sfu/history"

	"github.com/pion/rtcp"
)

// SubscriptionSettings are a subscriber's wishes for one track.
type SubscriptionSettings struct {
	// Disabled pauses the track.
	Disabled bool
	// Quality is 0 (low), 1 (medium) or 2 (high). It counts when Width or Height is 0 or the sizes of the layers are unknown.
	Quality uint8
	// Width and Height are the size at which the track is shown, in pixels.
	Width, Height uint32
	// FPS is how many pictures a second are wanted, 0 for all there are: temporal layers that bring more are left out.
	FPS uint32
	// Priority says who goes first when there is too little bandwidth: 1 before all others, 0 for what the track shows.
	Priority uint32
}

const (
	sentVideoPackets = 4096
	sentAudioPackets = 256
	// plainVideoPackets is how much can be sent again without RTX.
	plainVideoPackets = 1024
	// sentVideoAge and sentAudioAge are for how long: ten round trips of 200 ms; audio isn't waited for so long.
	sentVideoAge = 2 * time.Second
	sentAudioAge = time.Second
)

// subscription is one participant's receiving of one track. From Subscribe it waits for a codec of the publication, for an
// m-line, for the answer to it and for the transport; then it is fed.
//
// What every packet touches comes first in the structures, within a few cache lines.
type subscription struct {
	heeded atomic.Uint32 // the layers whose packets are handed to it, see heed
	socket atomic.Uint32 // of its egress
	mu     sync.Mutex
	// Guarded by it.
	ended  bool
	fed    bool    // the transport is up
	barred bool    // the latest settings have exceeded asks
	out    *stream // nil before the answer
	pause  pauseState
	p      *Participant
	pub    *publication // the track: its first codec
	// Guarded by mu, too.
	frames   uint64 // of a video
	freeze   freezeMeter
	stats    SubscriptionStats
	settings SubscriptionSettings
	starved  bool         // paused for want of bandwidth
	allotted alloc.Result // by the latest allocation
	measured measuredStream
	asks     allowance // for keyframes: by PLI, and by changes of the settings
	recent   recent

	room *room // in which it was found
	// line is the m-line, nil before the first offer. Guarded by the participant's negotiation.
	line *line
	// order counts the participant's subscriptions. stalled: the client was told that there is no m-line for it; guarded
	// by the negotiation.
	order   int
	stalled bool
	share   *share // guarded by the participant's allocation
}

// stream is the sending side of a subscription, from the answer on. Guarded by the subscription.
type stream struct {
	egress *egress
	// source is the codec that is forwarded, nil while there is none that the subscriber takes.
	source    *publication
	forwarder *forward.Forwarder // nil before the first source
	// next is the codec that takes over at its next keyframe, nil for none.
	next          *publication
	nextForwarder *forward.Forwarder
	// shed is set by the egress when it has dropped packets.
	shed     atomic.Bool
	class    class // of what isn't sent again
	nack     bool
	boundary bool   // newest ended a frame
	newest   uint16 // the highest sequence number sent …
	stamped  uint32 // … and its timestamp
	packets  uint32 // as sender reports count
	octets   uint32

	ssrc, repair uint32 // repair: RTX SSRC, 0 = none
	keyframe     uint32 // the timestamp of the latest keyframe sent
	extended     uint32 // the highest sequence number remembered, with its cycles
	sent         *history.Sent
	// stamps let a packet be sent again bit for bit where there is no RTX, as many as sent has; see [subscription.resend].
	stamps  []stamp
	repairs int // bytes that may be sent again
	// heard is that of the latest fresh packet of audio that was passed, 0 after a hush; see [stream.hears].
	heard   uint64
	ids     extensionIDs
	prefix  [maxPrefix]byte
	packet  outgoing // scratch
	formats formats

	line       payloads  // as negotiated
	moved      bool      // the codec before is still in the fan-out
	can        codecBits // the codecs that it can have
	repairNext uint16
	repeat     uint16 // which packet is sent again for padding
	reported   uint32 // highest sequence number in the latest receiver report, extended
	told       uint32 // packets, as in the latest sender report
	history    int    // the most that sent may have, and
	age        time.Duration
	cname      string
	clock      uint32
	first      forward.Config
	// announced: padding has gone ahead of the first packet, in so many packets.
	announced bool
	padding   uint8
	main      uint8 // the publisher's payload type of the codec being forwarded
	temporal  int   // the highest temporal layer that the forwarder has been told
	forsaken  forsaken
	drained   time.Duration // until then the lowest layer is sent: another was stopped
}

// firstSequence is a stream's first sequence number, from the lower half: who misses all packets before the first wrap-around
// would take the rollover counter for 0 ever after (RFC 3711 section 3.3.1).
func firstSequence() uint16 { return uint16(rand.Uint32()) >> 1 }

// establish makes the sending side from the negotiated m-line. It fails when the subscriber takes none of the track's
// codecs.
func (s *subscription) establish(e *egress, n *section, ssrc, repair uint32) error {
	st := &stream{egress: e, line: n.payloads, ids: extensionIDsOf(n), ssrc: ssrc, cname: s.pub.streamID(), repairNext: firstSequence()}
	bound := s.pub.codecs.bound()
	takes := st.takes(s.pub.codecs, bound)
	if takes == 0 {
		return ErrCodec
	}
	rtx := false
	for _, f := range st.formats {
		rtx = rtx || f.rtx != 0
		if p, found := n.payload(f.pt); found && f.pt != 0 {
			st.nack = st.nack || p.nack
		}
	}
	if takes&bound == 0 { // the codecs that it takes come later
		for _, p := range n.payloads {
			rtx = rtx || p.rtx
			st.nack = st.nack || p.nack
		}
	}
	if s.pub.cfg.Kind == Audio {
		st.class = sound
	}
	if rtx && repair != 0 {
		st.repair = repair
	}
	st.repairs, st.age = firstResend, sentVideoAge
	switch {
	case s.pub.cfg.Kind == Audio:
		st.history, st.age = sentAudioPackets, sentAudioAge
	case st.repair == 0:
		st.history = plainVideoPackets
	default:
		st.history = sentVideoPackets
	}
	st.first = forward.Config{Sequence: firstSequence(), Timestamp: rand.Uint32()}
	st.stamped = st.first.Timestamp - 1
	st.extended = 1<<16 + uint32(st.first.Sequence) - 1
	e.carries(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrClosed
	}
	if s.out != nil {
		s.out.egress.forget(&s.out.shed) // it had another m-line
	}
	s.out = st
	s.socket.Store(e.socket)
	if _, have := choose(s.pub.codecs.policy, takes, bound, -1); have >= 0 {
		s.start(s.pub.codecs.all()[have])
	}
	s.heed()
	return nil
}

// forward decides on received packets of one layer of a codec, or on one of audio, and sends them. It is called for the layers that
// it heeds, by the goroutine that received them or by another while that one waits; of audio, for those that aren't held back and
// the first that is, with hush set.
func (s *subscription) forward(pub *publication, list []*packet, hush bool) {
	s.mu.Lock()
	st := s.out
	if st == nil || s.ended || pub != st.source && pub != st.next {
		s.mu.Unlock()
		return
	}
	e := st.egress
	e.mu.Lock()
	keyframe := uint8(noLayer)
	for _, p := range list {
		if st.shed.Load() {
			s.restart()
		}
		if d, ok := s.pass(pub, p, hush); ok && d.NeedKeyframe {
			keyframe = d.KeyframeLayer
		}
	}
	now := list[len(list)-1].forward.Arrival
	e.dispatch()
	e.mu.Unlock()
	s.heed()
	asks := keyframe != noLayer && s.mayAsk(now)
	s.mu.Unlock()
	if asks {
		if l := pub.layers[keyframe].Load(); l != nil {
			l.requestKeyframe(now)
		}
	}
}

const noLayer = 0xff

// pass decides on one packet, and queues it if it is to be sent. ok is false if it was none of the subscription's. Called with
// s.mu and the egress's held.
func (s *subscription) pass(pub *publication, p *packet, hush bool) (d forward.Decision, ok bool) {
	st := s.out
	f := st.formats.of(p.pt)
	if f.pt == 0 || hush && pub != st.source || pub == st.source && pub.cfg.Kind == Audio && !st.hears(p, hush) {
		return d, false
	}
	switch pub {
	case st.source:
		d = st.forwarder.Forward(&p.forward)
	case st.next:
		if d = st.await(p); d.Started {
			st.egress.mu.Unlock() // the codecs' locks come before it
			s.switched()
			st.egress.mu.Lock()
		}
	default:
		return d, false
	}
	if d.Action == forward.Drop || pub != st.source {
		return d, true
	}
	now := p.forward.Arrival
	sent := d.Sent(&p.forward)
	sent.Layer |= uint8(pub.index) << layerBits
	sent.Hush = hush
	if !st.render(&sent, p, f) {
		return d, true
	}
	st.remember(&sent, now)
	st.packet.at = now
	if st.packets == 0 || int16(sent.Sequence-st.newest) > 0 {
		st.newest, st.stamped, st.boundary = sent.Sequence, sent.Timestamp, sent.Marker
	}
	if p.forward.Descriptor.Keyframe {
		st.keyframe = sent.Timestamp
	}
	if st.egress.queue(&st.packet) {
		n := len(st.packet.prefix) + len(st.packet.payload)
		st.packets++
		st.octets += uint32(n)
		st.repairs = min(st.repairs+n, stockResend)
		s.stats.Packets++
		s.stats.Bytes += uint64(n)
		s.pause.expect(now)
		if s.pub.cfg.Kind == Video {
			s.shown(sent.Marker, now)
		}
	}
	if d.Started {
		s.stats.Switches++
		st.forsaken.until(d.Sequence, st.packets)
		if s.pub.cfg.Kind == Video {
			s.p.sharing.alarm.at(now) // what was held back meanwhile may go
		}
	}
	if s.pause.told {
		s.tellPaused(false)
	}
	return d, true
}

// remember keeps what it takes to send st.packet again. Called with the subscription and the egress locked.
func (st *stream) remember(sent *history.SentPacket, now time.Duration) {
	if !st.nack {
		return
	}
	if st.sent == nil { // many microphones never say a word
		st.sent = history.NewSent(st.history, st.age)
	}
	if ahead := int16(sent.Sequence - uint16(st.extended)); ahead > 0 {
		st.extended += uint32(ahead)
	}
	sent.Extended, sent.PT = st.extended-uint32(uint16(st.extended)-sent.Sequence), st.packet.pt
	st.sent.Put(*sent, now)
	if st.repair != 0 {
		return
	}
	if n := st.sent.Size(); n > len(st.stamps) {
		st.stamps = st.egress.moreStamps(&st.shed, st.stamps, n)
	}
	st.packet.stamp = &st.stamps[int(sent.Sequence)%len(st.stamps)]
}

// restart goes on with a keyframe, because packets were dropped that had numbers already. They aren't sent again: the
// keyframe does without them. Called with s.mu held.
func (s *subscription) restart() {
	st := s.out
	st.shed.Store(false)
	st.each((*forward.Forwarder).Restart)
	if st.sent != nil {
		st.sent.Clear()
	}
}

// layerBits is how much of [history.SentPacket.Layer] is the layer; the rest is the codec.
const layerBits = 4

// await decides on a packet of the next codec. Called with s.mu held.
func (st *stream) await(p *packet) forward.Decision {
	if p.forward.Descriptor.Keyframe && st.forwarder != nil {
		st.nextForwarder.Succeed(st.forwarder)
	}
	return st.nextForwarder.Forward(&p.forward)
}

// silentPackets is how many padding packets announce a track that sends nothing yet.
const silentPackets = 3

// announce sends a padding-only packet in front of the first packet, for receivers that tell their user of a track only when
// a packet of it has come. The sweep repeats it. All at once they would be too much for a receiver's socket that subscribes to
// a hundred tracks.
func (s *subscription) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended || st.packets > 0 || st.announced || st.source == nil {
		return
	}
	sequence, timestamp := st.forwarder.Announce()
	st.packet = outgoing{ssrc: st.ssrc, timestamp: timestamp, sequence: sequence,
		pt: st.formats.of(st.main).pt, ids: &st.ids, fill: true, class: st.class}
	st.egress.send(&st.packet)
	st.padding++
	st.announced = st.padding == silentPackets
}

// render fills st.packet with p as it is, or was, sent.
func (st *stream) render(sent *history.SentPacket, p *packet, f format) bool {
	o := &st.packet
	*o = outgoing{ssrc: st.ssrc, timestamp: sent.Timestamp, sequence: sent.Sequence, pt: f.pt, marker: sent.Marker,
		ids: &st.ids, class: st.class, shed: &st.shed}
	if sent.Fill || p == nil {
		o.fill, o.full = true, sent.Full
		return true
	}
	o.packet, o.frameOffset = p, sent.FrameOffset
	o.payload = p.payload()
	if len(o.payload) == 0 {
		o.packet, o.payload, o.fill = nil, nil, true
		return true
	}
	switch {
	case sent.Hush:
		return st.hush(p, f)
	case f.unwrap:
		_, at, err := codec.REDPrimary(o.payload)
		if err != nil || at == len(o.payload) {
			return false
		}
		o.payload = o.payload[at:]
	case sent.Rewrite:
		d := &p.forward.Descriptor
		n := int(d.HeaderLength)
		if n > len(st.prefix)-rtxHeader || n > len(o.payload) {
			return false
		}
		// The rewritten descriptor stands in front; the shared payload stays as it is.
		o.prefix = st.prefix[rtxHeader : rtxHeader+copy(st.prefix[rtxHeader:], o.payload[:n])]
		codec.Rewrite(o.prefix, *d, sent.PictureID, sent.TL0)
		o.payload = o.payload[n:]
	}
	return true
}

// keyframeRequested passes the subscriber's PLI or FIR on.
func (s *subscription) keyframeRequested(now time.Duration) {
	s.mu.Lock()
	s.stats.PLIs++
	st := s.out
	current := -1
	var source *publication
	if st != nil && !s.ended && st.source != nil {
		source = st.source
		if current = st.forwarder.Current(); current < 0 {
			current = st.forwarder.Target()
		}
	}
	var l *layer
	if current >= 0 {
		l = source.layers[current].Load()
	}
	// A keyframe costs everybody who watches. One that is awaited anyway costs no more.
	allowed := l != nil && (l.keyframes.awaited() || s.asks.take(now, allowedKeyframes, allowedRefill))
	if l != nil && !allowed {
		s.stats.PLIsRefused++
	}
	s.mu.Unlock()
	if allowed {
		l.requestKeyframe(now)
	}
}

// retarget has the participant's bandwidth shared out anew: something about the subscription has changed.
func (s *subscription) retarget(now time.Duration) {
	s.p.sharing.add(s, now)
	s.p.sharing.share(now)
}

// needed is a keyframe that a subscription waits for; layer is nil for none.
type needed struct {
	layer *layer
	// newcomer: nothing is shown until it has come.
	newcomer bool
}

func (n needed) request(now time.Duration) {
	if n.layer != nil {
		n.layer.wantKeyframe(now, n.newcomer)
	}
}

func (s *subscription) configure(set SubscriptionSettings, now time.Duration) {
	s.mu.Lock()
	if set.Disabled != s.settings.Disabled {
		s.freeze.interrupt()
	}
	if set != s.settings && s.out != nil {
		s.barred = !s.asks.take(now, allowedKeyframes, allowedRefill)
	}
	s.settings = set
	s.pause.expect(now)
	if s.out != nil {
		s.out.each(func(f *forward.Forwarder) { f.SetPaused(set.Disabled || s.starved) })
	}
	s.heed()
	s.mu.Unlock()
	s.retarget(now)
	s.pub.codecs.settleFor(s, now)
}

// mayAsk reports whether a keyframe may be asked for at now: who changes the settings again and again waits for it. Called
// with s.mu held.
func (s *subscription) mayAsk(now time.Duration) bool {
	if s.barred {
		s.barred = !s.asks.take(now, allowedKeyframes, allowedRefill)
	}
	return !s.barred
}

func (s *subscription) setMuted(muted bool) {
	now := s.p.server.now()
	s.mu.Lock()
	s.pause.expect(now)
	s.freeze.interrupt()
	if s.out != nil {
		s.out.each(func(f *forward.Forwarder) { f.SetMuted(muted) })
	}
	s.heed()
	s.mu.Unlock()
	s.retarget(now)
}

// end stops it for good. It reports whether it hadn't ended before.
func (s *subscription) end() bool {
	s.mu.Lock()
	was := s.ended
	s.ended = true
	if s.out != nil && !was {
		s.out.egress.forget(&s.out.shed)
	}
	s.heed()
	s.mu.Unlock()
	s.p.sharing.remove(s)
	s.pub.forget(s)
	if !was {
		s.pub.codecs.settleFor(s, s.p.server.now())
	}
	return !was
}

func (s *subscription) isEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// report returns the subscription's own sender report, with the source description that RFC 3550 section 6.1 wants
// beside it. ok is false while nothing is being sent or the publisher hasn't reported yet.
func (s *subscription) report(now time.Duration, wall time.Time) (out []rtcp.Packet, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended || st.packets == 0 || st.source == nil {
		return nil, false
	}
	// RFC 3550 section 6.4: those report as senders that have sent since their last reports. In a room of many microphones
	// that are subscribed to, few do.
	if s.pub.cfg.Kind == Audio && st.packets == st.told {
		return nil, false
	}
	current := st.forwarder.Current()
	if current < 0 {
		return nil, false
	}
	rtp, ok := st.forwarder.SenderReport(st.source.line(uint8(current)), now)
	if !ok {
		return nil, false
	}
	st.told = st.packets
	return []rtcp.Packet{
		&rtcp.SenderReport{SSRC: st.ssrc, NTPTime: forward.NTP(wall), RTPTime: rtp, PacketCount: st.packets, OctetCount: st.octets},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: st.ssrc,
			Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: st.cname}}}}},
	}, true
}

// received notes a receiver report block on the subscription's stream.
func (s *subscription) received(b *rtcp.ReceptionReport, now time.Duration, wall time.Time) {
	// RFC 3550 section 6.4.1: round trip A - LSR - DLSR in the middle 32 bits of NTP time.
	rtt := time.Duration(0)
	if b.LastSenderReport != 0 {
		d := uint32(forward.NTP(wall)>>16) - b.LastSenderReport - b.Delay
		if v := time.Duration(d) * time.Second >> 16; d < 1<<31 && v < maxRTT {
			rtt = max(v, time.Microsecond)
			s.p.observeRTT(rtt)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.out; st != nil {
		packets := b.LastSequenceNumber - st.reported
		if st.reported == 0 {
			packets = st.packets
		}
		st.reported = b.LastSequenceNumber
		if packets < 1<<16 { // more is a receiver that began anew
			st.egress.report(int(packets), b.FractionLost, rtt, now)
		}
	}
	s.stats.Lost = int64(int32(b.TotalLost<<8) >> 8) // 24 bits, signed
	s.stats.FractionLost = float64(b.FractionLost) / 256
	if s.out != nil && s.out.clock != 0 {
		s.stats.Jitter = time.Duration(b.Jitter) * time.Second / time.Duration(s.out.clock)
	}
}

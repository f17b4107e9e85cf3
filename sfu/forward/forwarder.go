package forward

import (
	"time"

	"anytime/sfu/codec"
)

// Windows of source sequence numbers in which a late packet finds its place; a larger gap breaks the stream.
const (
	videoWindow = 1024
	audioWindow = 256
)

// Timestamp jumps of one source that are taken for a restart of its clock.
const (
	maxTimestampBack  = time.Second
	maxTimestampAhead = 10 * time.Second
)

// maxCaptureError is how far the capture times of two layers may contradict their arrival before they are disbelieved.
const maxCaptureError = 2 * time.Second

// Config describes a subscription. Sequence and Timestamp should be random (RFC 3550 section 5.1).
type Config struct {
	Kind      codec.Kind
	ClockRate uint32 // Hz; 0 means 90000 for video, 48000 for audio
	Sequence  uint16 // of the first packet sent
	Timestamp uint32 // of the first packet sent
}

// none stands for no layer.
const none = -1

// Forwarder is the state of one subscription. What every packet needs comes first.
type Forwarder struct {
	current  int8 // layer being forwarded, or none
	target   int8 // layer wanted, or none
	paused   bool
	muted    bool
	withheld bool // see Withheld
	begun    bool // something has been sent: last is set
	temporal temporalFilter
	epoch    uint32
	// Source minus ours, for the layer being forwarded.
	timestampOffset uint32
	pictureOffset   uint16
	frameOffset     uint16
	tl0Offset       uint8
	newest          newestPacket
	seq             sequencer
	last            sentFrame
	cfg             Config
	svc             selector
}

// sentFrame is the latest frame that was sent.
type sentFrame struct {
	timestamp        uint32 // ours
	picture          uint16
	frame            uint16 // of dependency descriptors
	tl0              uint8
	arrival, capture time.Duration // of its first packet
	captureKnown     bool
}

// newestPacket is the newest packet of the current layer in source order, sent or not.
type newestPacket struct {
	timestamp    uint32 // the source's; of the newest packet with a payload
	arrival      time.Duration
	dropped      bool   // the newest of all was …
	spatial      uint8  // … a frame of this spatial layer
	droppedFrame bool   // a frame has been dropped since the start …
	droppedStamp uint32 // … the latest with this source timestamp
}

// temporalFilter says which temporal layers pass.
type temporalFilter struct {
	limit, target uint8
}

// New returns a forwarder that follows no layer yet (video) or layer 0 (audio).
func New(cfg Config) *Forwarder {
	window := videoWindow
	rate := uint32(90000)
	f := &Forwarder{current: none, target: none}
	if cfg.Kind.IsAudio() {
		window, rate, f.target = audioWindow, 48000, 0
	}
	if cfg.ClockRate == 0 {
		cfg.ClockRate = rate
	}
	f.cfg = cfg
	f.temporal = temporalFilter{limit: AllTemporal, target: AllTemporal}
	f.svc = selector{spatial: AllSpatial, temporal: AllTemporal}
	f.seq = newSequencer(window, cfg.Sequence)
	return f
}

// SetTarget sets the simulcast layer to forward, negative for none, and the highest temporal layer ([AllTemporal]: all).
// The layer before is forwarded until the target's next keyframe; target none stops at once. The target must be a layer
// that is being sent: until a start the forwarder takes a keyframe of any layer up to it.
func (f *Forwarder) SetTarget(layer, temporal int) {
	f.target = int8(max(none, min(layer, MaxLayers-1)))
	f.temporal.target = uint8(max(0, min(temporal, AllTemporal)))
	f.svc.temporal = f.temporal.target
	if f.target == none {
		f.current = none
	}
}

// SetSpatial sets the highest spatial layer to forward of streams that hold several, from 0; [AllSpatial], the default, is
// all of them. Going down, the change is made at the next picture; up, at the next keyframe, as a rule. In the _KEY modes,
// where upper layers do without the lower ones between keyframes and those are left out, both ways need one.
func (f *Forwarder) SetSpatial(spatial int) { f.svc.spatial = uint8(max(0, min(spatial, AllSpatial))) }

// Layers returns the highest spatial and temporal layer being forwarded of a stream that tells its layers; ok is false for
// one that doesn't, and while none is forwarded.
func (f *Forwarder) Layers() (spatial, temporal uint8, ok bool) {
	if f.current == none || f.svc.by == flat {
		return 0, 0, false
	}
	spatial, temporal = f.svc.layers(f.svc.now)
	return spatial, temporal, true
}

// Target returns the layer wanted, Current the one being forwarded; -1 is none.
func (f *Forwarder) Target() int { return int(f.target) }

// Current returns the layer being forwarded, -1 for none.
func (f *Forwarder) Current() int { return int(f.current) }

// SetPaused stops or resumes the subscription (the subscriber's or the allocation's wish). Video resumes at a keyframe.
func (f *Forwarder) SetPaused(paused bool) { f.paused = paused; f.stop() }

// SetMuted stops or resumes it for the publisher's mute. Either of pause and mute is enough to stop.
func (f *Forwarder) SetMuted(muted bool) { f.muted = muted; f.stop() }

// Restart stops video until the next keyframe: of what was to be sent a part is missing.
func (f *Forwarder) Restart() {
	if !f.cfg.Kind.IsAudio() {
		f.current = none
	}
}

// Pad gives a padding-only packet the next sequence number. It leaves at the end of a frame only: a receiver takes it for
// one of the packets of the frame that it comes in.
func (f *Forwarder) Pad() uint16 {
	out := f.seq.next
	f.seq.next++
	return out
}

func (f *Forwarder) stop() {
	if f.paused || f.muted {
		f.current = none
	}
}

// Withheld says that packets of the current layer were not passed, on purpose, and won't be: where of many microphones
// only the loudest are forwarded. To the receiver it is a pause in a talk, as a sender with discontinuous transmission makes
// it (RFC 7587 section 3.1.3): the next newer packet gets the next number, keeps its distance in time, and the marker.
func (f *Forwarder) Withheld() { f.withheld = true }

// NeedsKeyframe reports whether the subscription waits for a keyframe, and of which layer.
func (f *Forwarder) NeedsKeyframe() (layer uint8, needed bool) {
	if f.stopped() || f.cfg.Kind.IsAudio() {
		return 0, false
	}
	return uint8(f.target), f.current != f.target || f.svc.stuck
}

// Heeds returns the layers whose packets count now, a bit for each, layer 0's the lowest: those that are sent, or may begin to
// be. While nothing is sent, those of every layer have the wish for a keyframe repeated. It changes with any call of a method
// that changes something, [Forwarder.Forward] included.
func (f *Forwarder) Heeds() (layers uint8) {
	switch {
	case f.stopped():
		return 0
	case f.current == none:
		return EveryLayer
	}
	return 1<<f.current | 1<<f.target
}

// stopped reports whether nothing is wanted.
func (f *Forwarder) stopped() bool { return f.paused || f.muted || f.target == none }

// Forward decides on p. The packets of the layers that it heeds must be passed, in the order in which they came; for those of
// the others there is nothing to do, if they are.
func (f *Forwarder) Forward(p *Packet) Decision {
	if p.Layer >= MaxLayers || f.stopped() {
		return Decision{}
	}
	if int8(p.Layer) == f.current {
		switch {
		case p.Epoch == f.epoch:
			return f.follow(p)
		case int32(p.Epoch-f.epoch) > 0:
			f.current = none // the source restarted: nothing of what was known holds
		}
	}
	if p.Newest && f.canStart(p) {
		return f.start(p)
	}
	return f.drop()
}

func (f *Forwarder) drop() (d Decision) {
	d.KeyframeLayer, d.NeedKeyframe = f.NeedsKeyframe()
	return d
}

// canStart reports whether the subscription can begin to follow p's layer with p, the newest packet of its layer.
func (f *Forwarder) canStart(p *Packet) bool {
	layer := int8(p.Layer)
	if p.PaddingOnly || layer != f.target && (f.current != none || layer > f.target) ||
		f.temporal.drops(&p.Descriptor, f.temporal.target) {
		return false
	}
	if f.cfg.Kind.IsAudio() {
		return true
	}
	if !f.svc.canStart(p) {
		return false
	}
	// Where the sender repeats its parameter sets in band, a slice whose own were lost is no place to start.
	return p.Descriptor.Keyframe && (p.Descriptor.ParameterSets || !p.InBand)
}

// start begins to follow p's layer with p.
func (f *Forwarder) start(p *Packet) Decision {
	f.current, f.epoch = int8(p.Layer), p.Epoch
	f.withheld = false
	f.anchor(p)
	f.seq.begin(p.Sequence)
	f.newest = newestPacket{timestamp: p.Timestamp - 1, arrival: p.Arrival}
	f.temporal.limit = f.temporal.target
	f.svc.start(p)
	f.pictureOffset, f.tl0Offset, f.frameOffset = 0, 0, 0
	if f.begun {
		// RFC 7741 section 4.2: the picture id "is a running index of the frames", TL0PICIDX one "for the temporal base layer
		// frames": both go on where the layer before left off.
		f.pictureOffset = p.Descriptor.PictureID - (f.last.picture + 1)
		f.tl0Offset = p.Descriptor.TL0 - (f.last.tl0 + 1)
		// So do frame numbers: receivers take a keyframe with a lower number for one that is late.
		if p.Dependency.Structure != nil {
			f.frameOffset = p.Dependency.Frame - (f.last.frame + 1)
		}
	}
	d := f.follow(p)
	d.Started = true
	if f.cfg.Kind.IsAudio() {
		d.Marker = true // RFC 3551 section 4.1: "the first packet of a talkspurt … SHOULD be distinguished by setting the marker bit"
	}
	return d
}

// anchor sets the timestamp offset so that p follows what was sent last by as much time as lies between them.
func (f *Forwarder) anchor(p *Packet) {
	if !f.begun {
		f.timestampOffset = p.Timestamp - f.cfg.Timestamp
		return
	}
	elapsed := p.Arrival - f.last.arrival
	if p.CaptureKnown && f.last.captureKnown {
		if c := p.Capture - f.last.capture; c-elapsed < maxCaptureError && elapsed-c < maxCaptureError {
			elapsed = c
		}
	}
	// Two frames never share a timestamp, and time doesn't run back: at least one tick for video, and for audio one frame
	// of 20 ms (RFC 7587 section 6.1's default). The upper bound keeps the difference meaningful in 32 bits.
	least := int64(1)
	if f.cfg.Kind.IsAudio() {
		least = int64(f.cfg.ClockRate / 50)
	}
	ticks := min(max(durationToTicks(elapsed, f.cfg.ClockRate), least), 1<<30)
	f.timestampOffset = p.Timestamp - (f.last.timestamp + uint32(ticks))
}

// follow decides on a packet of the current layer and epoch.
func (f *Forwarder) follow(p *Packet) Decision {
	if p.Sequence <= f.seq.highest {
		return f.late(p)
	}
	resumed := f.withheld
	if resumed {
		f.withheld = false
		f.seq.begin(p.Sequence) // what is missing before p is no loss
	}
	gap := p.Sequence - f.seq.highest - 1
	if gap >= uint64(f.seq.window) {
		// Too much is lost to be repaired: start again, video at a keyframe.
		f.current = none
		if f.canStart(p) {
			return f.start(p)
		}
		return f.drop()
	}
	if !p.PaddingOnly && layeringOf(p) != f.svc.by {
		// Its layers are told in another way than those before: nothing of what was known holds.
		f.current = none
		if f.canStart(p) {
			return f.start(p)
		}
		return f.drop()
	}
	if !p.PaddingOnly && f.jumped(p) {
		f.anchor(p)
		f.seq.begin(p.Sequence)
	}
	before := f.inForce() // it holds for what is missing before p, too
	pass, marker := f.admits(p)
	// Between two packets of one frame that isn't wanted nothing was lost that is.
	within := !pass && f.newest.dropped && p.Timestamp == f.newest.timestamp &&
		(f.svc.by == flat || p.PaddingOnly || f.svc.between(f.newest.spatial, f.svc.spatialOf(p)))
	f.seq.advance(p.Sequence, within, f.pictureOffset, before)
	f.newest.dropped = !pass
	if !p.PaddingOnly {
		f.newest.timestamp, f.newest.arrival, f.newest.spatial = p.Timestamp, p.Arrival, f.svc.spatialOf(p)
	}
	if !pass {
		f.seq.skip(p.Sequence)
		if !p.PaddingOnly && p.Descriptor.Kind == codec.VP8 && p.Descriptor.HasPictureID && (!f.newest.droppedFrame || f.newest.droppedStamp != p.Timestamp) {
			f.newest.droppedFrame, f.newest.droppedStamp = true, p.Timestamp
			f.pictureOffset++
		}
		return f.drop()
	}
	d := f.number(p, f.seq.take(p.Sequence), f.pictureOffset)
	d.Marker = marker || resumed
	f.sent(p, &d)
	return d
}

// inForce returns what says which layers pass now.
func (f *Forwarder) inForce() operating {
	if f.svc.by == flat {
		return operating(f.temporal.limit)
	}
	return f.svc.now
}

// admits decides whether p, newer than all before it, is among the layers to forward, and whether it ends a picture then.
func (f *Forwarder) admits(p *Packet) (pass, marker bool) {
	switch {
	case p.PaddingOnly:
		return false, false
	case f.svc.by != flat:
		return f.svc.next(p)
	}
	if f.temporal.target != f.temporal.limit {
		f.temporal.adjust(&p.Descriptor)
	}
	return !f.temporal.drops(&p.Descriptor, f.temporal.limit), p.Marker
}

// sent notes the furthest that the receiver has been brought, for the next start to go on from there.
func (f *Forwarder) sent(p *Packet, d *Decision) {
	if !f.begun || int32(d.Timestamp-f.last.timestamp) > 0 {
		f.last.timestamp, f.last.arrival = d.Timestamp, p.Arrival
		f.last.capture, f.last.captureKnown = p.Capture, p.CaptureKnown
	}
	if v := &p.Descriptor; v.HasPictureID {
		// Ahead in the circle of picture ids, 7 or 15 bits wide.
		width := uint16(0x7f)
		if v.LongPictureID {
			width = 0x7fff
		}
		if ahead := (d.PictureID - f.last.picture) & width; !f.begun || ahead > 0 && ahead <= width/2 {
			f.last.picture = d.PictureID
		}
	}
	if p.Dependency.Structure != nil {
		if n := p.Dependency.Frame + d.FrameOffset; !f.begun || int16(n-f.last.frame) > 0 {
			f.last.frame = n
		}
	}
	if p.Descriptor.HasTL0 && (!f.begun || int8(d.TL0-f.last.tl0) > 0) {
		f.last.tl0 = d.TL0
	}
	f.begun = true
}

// late decides on a packet below the highest: it gets the number kept for it, if one was.
func (f *Forwarder) late(p *Packet) Decision {
	s := f.seq.late(p.Sequence)
	if s == nil {
		return f.drop()
	}
	s.state = slotSent
	d := f.number(p, s.out, s.picture)
	pass := false
	switch {
	case p.PaddingOnly:
	case f.svc.by == flat:
		pass = !f.temporal.drops(&p.Descriptor, uint8(s.layers))
	case f.svc.by == layeringOf(p):
		pass, d.Marker = f.svc.late(p, s.layers)
	}
	if !pass {
		d.Action, d.Marker, d.Rewrite, d.FrameOffset = Fill, false, false, 0
		return d
	}
	f.sent(p, &d)
	return d
}

// number fills in the outgoing numbers.
func (f *Forwarder) number(p *Packet, sequence, pictureOffset uint16) (d Decision) {
	d = f.drop()
	d.Action = Send
	d.Marker = p.Marker
	d.Sequence = sequence
	d.Timestamp = p.Timestamp - f.timestampOffset
	if p.PaddingOnly {
		return d
	}
	if v := &p.Descriptor; v.Kind == codec.VP8 || v.Kind == codec.VP9 {
		width := uint16(0x7fff)
		if v.HasPictureID && !v.LongPictureID {
			width = 0x7f
		}
		d.PictureID = (v.PictureID - pictureOffset) & width
		d.TL0 = v.TL0 - f.tl0Offset
		d.Rewrite = v.HasPictureID || v.HasTL0
		if v.Kind == codec.VP9 { // often the numbers stay as they are
			d.Rewrite = v.HasPictureID && d.PictureID != v.PictureID || v.HasTL0 && d.TL0 != v.TL0
		}
	}
	if p.Dependency.Structure != nil {
		d.FrameOffset = -f.frameOffset
	}
	return d
}

// jumped reports whether the source's timestamps stopped making sense: back by much, or ahead of the time that passed.
func (f *Forwarder) jumped(p *Packet) bool {
	ticks := int32(p.Timestamp - f.newest.timestamp)
	rate := int64(f.cfg.ClockRate)
	if ticks < 0 {
		return int64(-int64(ticks)) > int64(maxTimestampBack/time.Second)*rate
	}
	return ticksToDuration(int64(ticks), f.cfg.ClockRate)-(p.Arrival-f.newest.arrival) > maxTimestampAhead
}

// drops reports whether a packet's temporal layer is above limit, for the formats that say it in each packet.
func (t *temporalFilter) drops(d *codec.Descriptor, limit uint8) bool {
	return (d.Kind == codec.VP8 || d.Kind == codec.H265) && d.HasTemporal && d.Temporal > limit
}

// adjust moves the limit towards the target at the start of a frame, so that no frame is ever sent in part.
func (t *temporalFilter) adjust(d *codec.Descriptor) {
	if d.Kind != codec.VP8 && d.Kind != codec.H265 || !d.FrameStart {
		return
	}
	switch {
	case d.Keyframe, t.target < t.limit:
		t.limit = t.target
	case d.HasTemporal && d.LayerSync && d.Temporal == t.limit+1:
		// RFC 7741 section 4.2: with Y set the frame depends on the base layer only, so its layer can join here. H.265's
		// sub-layer access pictures say the same.
		t.limit++
	}
}

// SenderReport returns the RTP timestamp of server time now for the subscription's own sender report, given the line of
// the current layer. ok is false when there is no line or nothing is being sent.
func (f *Forwarder) SenderReport(line Line, now time.Duration) (timestamp uint32, ok bool) {
	if f.current == none || !line.Known() {
		return 0, false
	}
	return line.Timestamp(now) - f.timestampOffset, true
}

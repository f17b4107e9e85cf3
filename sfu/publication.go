package sfu

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/alloc"
	"anytime/sfu/codec"
	"anytime/sfu/forward"
	"anytime/sfu/history"
)

// Kind is the kind of a track.
type Kind uint8

// The kinds.
const (
	Audio Kind = iota
	Video
)

func (k Kind) String() string {
	if k == Video {
		return "video"
	}
	return "audio"
}

// Layer is the size of one simulcast layer, as the publisher announced it.
type Layer struct {
	// Quality is 0 for the lowest.
	Quality       uint8
	Width, Height uint32
	// Bitrate is in bits per second.
	Bitrate uint32
}

// PublicationConfig announces a track.
type PublicationConfig struct {
	// ID is the track's id, unique in the room.
	ID string
	// CID is the track id that the publisher's SDP will carry in its msid. When none matches, the track takes the first
	// m-line of its kind that nobody announced.
	CID  string
	Kind Kind
	// Stream is the id of the stream that the track is shown to subscribers in; empty means ID.
	Stream string
	Muted  bool
	// MimeType is the codec that the publisher announces, such as "video/VP9", of those that it offers; empty leaves it to the
	// order of the offer. The session description has the last word.
	MimeType string
	// Stereo, DTX and RED ask the publisher of an audio track to send two channels, to send next to nothing during silence
	// (RFC 7587 section 3.1.3), and to repeat earlier packets in later ones (RFC 2198), each where its offer can.
	Stereo, DTX, RED bool
	// Layers, if known, let a subscriber's wish for a size find its layer.
	Layers []Layer
	// Backups are further codecs of a video track, each with an m-line of its own, in the publisher's order.
	Backups []CodecConfig
	// Policy says how the codecs are shared out.
	Policy BackupPolicy
	// Encrypted: the payloads are encrypted end to end. Nothing in them is looked at but what that leaves clear.
	Encrypted bool
	// Still: what is shown may not move for a while, as on a shared screen, so that silence isn't a fault.
	Still bool
	// Exempt: an audio track that isn't one microphone among others, such as an agent's or the sound of a shared screen. It is
	// forwarded in large rooms too, whatever its level: see [Config.Voices].
	Exempt bool
}

// layerSilence is how long a simulcast layer may send nothing before its subscribers are moved to another.
const layerSilence = 3 * time.Second

// A simulcast encoder sends each picture in every layer. One that sends nothing while another sends so many pictures, and
// for so long, was stopped by its publisher, for want of bandwidth or of processor time: a browser does that at any moment,
// and whoever watches that layer must not wait for [layerSilence].
const (
	layerMissed = 3 // pictures
	layerPause  = 200 * time.Millisecond
)

// publication is one announced track of a participant or, where the track has several codecs, one of them: with an m-line
// and layers of its own. The first codec stands for the track: the room knows it, and subscriptions belong to it.
type publication struct {
	cfg    PublicationConfig
	id     string
	owner  *Participant
	codecs *codecSet
	index  int // among the codecs
	// places are the rooms in which it is found, see rooms. The list is copied on write, with the owner's lock held.
	places atomic.Pointer[[]place]

	// started holds the subscriptions that are fed. It is copied on write, so that fan-out takes no lock.
	started atomic.Pointer[[]*subscription]
	layers  [forward.MaxLayers]atomic.Pointer[layer]
	muted   atomic.Bool
	offers  offers
	voice   voice // of audio

	mu       sync.Mutex
	ready    bool // the codec is known: format is set
	ended    bool
	format   payload
	formats  []payload       // all that may come
	wanted   []*subscription // of the track; the first codec has them
	timeline *forward.Timeline
}

func newPublication(p *Participant, cfg PublicationConfig) *publication {
	pub := newCodec(p, cfg)
	pub.codecs = newCodecSet(pub, cfg.Policy)
	return pub
}

func newCodec(p *Participant, cfg PublicationConfig) *publication {
	pub := &publication{cfg: cfg, id: cfg.ID, owner: p, timeline: forward.NewTimeline(90000)}
	pub.cfg.Layers = sortedLayers(cfg.Layers)
	pub.muted.Store(cfg.Muted)
	pub.started.Store(new([]*subscription))
	return pub
}

func sortedLayers(layers []Layer) []Layer {
	layers = slices.Clone(layers)
	slices.SortFunc(layers, func(a, b Layer) int { return int(a.Quality) - int(b.Quality) })
	return layers
}

// streamID is the msid stream that subscribers see: the publisher's id leads it.
func (pub *publication) streamID() string {
	if pub.cfg.Stream != "" {
		return pub.owner.cfg.ID + "|" + msidToken(pub.cfg.Stream)
	}
	return pub.owner.cfg.ID + "|" + pub.id
}

// bind tells the publication what its m-line was negotiated to. It reports whether its codec wasn't known before.
func (pub *publication) bind(s *section) (first bool) {
	var formats []payload
	for _, p := range s.payloads {
		if !p.rtx && p.kind != codec.Unknown {
			formats = append(formats, p)
		}
	}
	if len(formats) == 0 {
		return false
	}
	announced := codec.KindOf(pub.cfg.MimeType)
	slices.SortStableFunc(formats, func(a, b payload) int { return before(a.kind == announced, b.kind == announced) })
	pub.mu.Lock()
	defer pub.mu.Unlock()
	if pub.ended {
		return false
	}
	pub.formats = formats
	if pub.ready {
		return false
	}
	pub.ready, pub.format = true, formats[0]
	pub.timeline = forward.NewTimeline(formats[0].clock)
	return true
}

// unbind takes the m-line from a codec whose track has others.
func (pub *publication) unbind() {
	pub.mu.Lock()
	pub.ready = false
	pub.started.Store(new([]*subscription))
	pub.mu.Unlock()
	pub.clearLayers()
}

func (pub *publication) clearLayers() {
	for i := range pub.layers {
		if l := pub.layers[i].Load(); l != nil {
			l.silent.Store(true)
			l.clear()
		}
	}
}

// isReady reports whether one of the track's codecs is known, so that subscribers can be offered it.
func (pub *publication) isReady() bool {
	return slices.ContainsFunc(pub.codecs.all(), (*publication).isBound)
}

func (pub *publication) isBound() bool {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.ready && !pub.ended
}

func (pub *publication) isEnded() bool {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.ended
}

// kind is the codec, as the description has it, or else as it was announced.
func (pub *publication) kind() codec.Kind {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	if pub.format.clock != 0 {
		return pub.format.kind
	}
	return codec.KindOf(pub.cfg.MimeType)
}

// announcedKind is the codec as it was announced, which stays its name even where another one came; or else as it came.
func (pub *publication) announcedKind() codec.Kind {
	if kind := codec.KindOf(pub.cfg.MimeType); kind != codec.Unknown {
		return kind
	}
	return pub.kind()
}

// want adds a subscription that isn't fed yet. It reports false when the publication has ended.
func (pub *publication) want(s *subscription) bool {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	if pub.ended {
		return false
	}
	pub.wanted = append(pub.wanted, s)
	return true
}

func (pub *publication) subscriptions() []*subscription {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return slices.Clone(pub.wanted)
}

// feed begins to forward the track to s.
func (pub *publication) feed(s *subscription) {
	s.mu.Lock()
	s.fed = true
	s.mu.Unlock()
	pub.codecs.settleFor(s, pub.owner.server.now())
}

// fan brings s into the fan-out of this codec, or out of it.
func (pub *publication) fan(s *subscription, in bool) (changed bool) {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	old := *pub.started.Load()
	switch known := slices.Contains(old, s); {
	case known == in || in && (pub.ended || !pub.ready):
		return false
	case in:
		// Those that send on one socket are neighbours: then few of the crew's cores use the same one (see crew).
		after := slices.IndexFunc(old, func(o *subscription) bool { return o.socket.Load() > s.socket.Load() })
		if after < 0 {
			after = len(old)
		}
		list := slices.Insert(slices.Clone(old), after, s)
		pub.started.Store(&list)
	default:
		list := slices.DeleteFunc(slices.Clone(old), func(o *subscription) bool { return o == s })
		pub.started.Store(&list)
	}
	return true
}

// live reports whether anything is being received.
func (pub *publication) live(now time.Duration) bool {
	for i := range pub.layers {
		if l := pub.layers[i].Load(); l != nil && l.live(now) {
			return true
		}
	}
	return false
}

// forget ends the forwarding of the track to s.
func (pub *publication) forget(s *subscription) {
	pub.mu.Lock()
	pub.wanted = slices.DeleteFunc(pub.wanted, func(o *subscription) bool { return o == s })
	pub.mu.Unlock()
	for _, c := range pub.codecs.all() {
		c.fan(s, false)
	}
}

// end stops the track and returns the subscriptions it had. Only the first call returns any.
func (pub *publication) end() []*subscription {
	subs, first := pub.stop()
	if !first {
		return nil
	}
	for _, c := range pub.codecs.all()[1:] {
		c.stop()
	}
	for _, at := range pub.rooms() {
		at.leave(pub)
	}
	return subs
}

// stop ends one codec.
func (pub *publication) stop() (subs []*subscription, first bool) {
	pub.mu.Lock()
	if pub.ended {
		pub.mu.Unlock()
		return nil, false
	}
	pub.ended = true
	subs = pub.wanted
	pub.wanted = nil
	pub.started.Store(new([]*subscription))
	pub.mu.Unlock()
	pub.clearLayers()
	return subs, true
}

// setMuted stops or resumes the track.
func (pub *publication) setMuted(muted bool) {
	if pub.muted.Swap(muted) == muted {
		return
	}
	if pub.cfg.Kind == Audio {
		for _, at := range pub.rooms() {
			at.room.heed(at.ear, pub)
		}
	}
	for _, c := range pub.codecs.all()[1:] {
		c.muted.Store(muted)
	}
	for _, s := range pub.subscriptions() {
		s.setMuted(muted)
	}
}

// layer returns the layer of that index, which it makes on first use.
func (pub *publication) layer(index uint8) *layer {
	if l := pub.layers[index].Load(); l != nil {
		return l
	}
	pub.mu.Lock()
	defer pub.mu.Unlock()
	if l := pub.layers[index].Load(); l != nil {
		return l
	}
	l := newLayer(pub, index)
	pub.layers[index].Store(l)
	return l
}

// deliver hands received packets of one layer of a video to every subscription that is fed and heeds the layer.
func (pub *publication) deliver(l *layer, list []*packet) {
	round := fanOut{pub: pub, to: *pub.started.Load(), packets: list, layer: pub.bit(l.index)}
	l.gather.audience = pub.owner.server.crew.deliver(round, l.gather.audience)
}

// retarget has every subscriber's bandwidth shared out anew: a layer came or went.
func (pub *publication) retarget(now time.Duration) {
	pub.offers.stale.Store(true)
	for _, s := range *pub.started.Load() {
		s.retarget(now)
	}
}

// wish returns the layer that settings ask for.
func (pub *publication) wish(set SubscriptionSettings) int {
	in := alloc.Input{Width: set.Width, Height: set.Height, Quality: min(set.Quality, 2)}
	for _, l := range pub.sizes() {
		if int(l.Quality) < len(in.Layers) {
			in.Layers[l.Quality].Width, in.Layers[l.Quality].Height = l.Width, l.Height
		}
	}
	return int(in.Wish().Spatial)
}

// sizes are the layers with their sizes. livekit-client doesn't say those of a backup codec: its encoder scales as the first
// one's does.
func (pub *publication) sizes() []Layer {
	pub.mu.Lock()
	own := pub.cfg.Layers
	pub.mu.Unlock()
	if pub.index > 0 && !slices.ContainsFunc(own, func(l Layer) bool { return l.Width > 0 && l.Height > 0 }) {
		return pub.codecs.first().sizes()
	}
	return own
}

// report notes a sender report of a layer.
func (pub *publication) report(index uint8, rtp uint32, capture time.Duration) {
	pub.mu.Lock()
	pub.timeline.Report(index, rtp, capture)
	line := pub.timeline.Line(index)
	pub.mu.Unlock()
	if l := pub.layers[index].Load(); l != nil {
		l.setLine(line)
	}
}

func (pub *publication) resetLine(index uint8) {
	pub.mu.Lock()
	pub.timeline.Reset(index)
	pub.mu.Unlock()
}

func (pub *publication) line(index uint8) forward.Line {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.timeline.Line(index)
}

// What is kept of one layer for NACKs, in the memory that its buffers take: two seconds, of up to 10 Mbit/s of video.
const (
	historyAge        = 2 * time.Second
	videoHistory      = 2048 // packets
	videoHistoryBytes = 3 << 20
	audioHistory      = 256
	audioHistoryBytes = 128 << 10
)

// layer is one received stream of a publication: the whole of an audio track, one of a video track's simulcast layers.
type layer struct {
	pub       *publication
	index     uint8
	keyframes keyframeRequests
	seen      atomic.Int64 // server time of the latest packet, 0 = none yet
	silent    atomic.Bool  // subscribers have been moved away
	resumed   atomic.Int64 // server time of the first packet, or of the first after a silence
	missed    atomic.Int32 // pictures that other layers sent since seen
	spatial   atomic.Int32 // how many spatial layers the stream holds, 0 while it doesn't say
	structure atomic.Pointer[codec.Structure]
	gather    gather

	mu        sync.Mutex
	ssrc      uint32 // as the publisher sends it, 0 before the first packet
	repair    uint32 // its RTX SSRC
	nack      bool
	reception *history.Reception
	missing   *history.Missing
	packets   *history.Packets[*packet]
	line      forward.Line
	evicted   []*packet
	// See describe.
	dependencies codec.Dependencies
	source       forward.Source
	rates        forward.Rates
	waiting      int // packets that wait for the structure of their dependency descriptors
	ready        []*packet
	due          []uint64
	sr           senderReport
	stats        LayerStats
	pictures     frameRates
	measured     measuredLayer
	recent       recent
}

// senderReport is what a receiver report must echo of the latest sender report (RFC 3550 section 6.4.1).
type senderReport struct {
	ntp     uint64
	arrival time.Duration
}

func newLayer(pub *publication, index uint8) *layer {
	l := &layer{pub: pub, index: index, missing: history.NewMissing(history.MissingConfig{}), evicted: make([]*packet, 0, 64),
		due: make([]uint64, 0, 64)}
	clock := pub.format.clock
	if clock == 0 {
		clock = 90000
	}
	l.reception = history.NewReception(clock)
	if pub.cfg.Kind == Audio {
		l.packets = history.NewPackets[*packet](history.PacketsConfig{MaxPackets: audioHistory, MaxBytes: audioHistoryBytes, MaxAge: historyAge})
	} else {
		l.packets = history.NewPackets[*packet](history.PacketsConfig{MaxPackets: videoHistory, MaxBytes: videoHistoryBytes, MaxAge: historyAge})
	}
	return l
}

func (l *layer) live(now time.Duration) bool {
	seen := time.Duration(l.seen.Load())
	return seen != 0 && !l.silent.Load() && now-seen < layerSilence
}

// outrun tells the other layers that this one has sent a picture. It reports whether one of them was found to have
// stopped.
func (l *layer) outrun(now time.Duration) (stopped bool) {
	for i := range l.pub.layers {
		o := l.pub.layers[i].Load()
		if o == nil || o == l || o.seen.Load() == 0 {
			continue
		}
		if o.missed.Add(1) >= layerMissed && now-time.Duration(o.seen.Load()) >= layerPause && !o.silent.Swap(true) {
			stopped = true
		}
	}
	return stopped
}

func (l *layer) setLine(line forward.Line) {
	l.mu.Lock()
	l.line = line
	l.mu.Unlock()
}

// attach notes which SSRC feeds the layer. Another one than before begins a new numbering.
func (l *layer) attach(ssrc uint32, nack bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ssrc != 0 && l.ssrc != ssrc {
		l.reception.Restart()
		l.missing.Reset()
		l.evictAll()
		l.forgetLayers()
		l.line = forward.Line{}
		l.sr = senderReport{}
	}
	l.ssrc, l.nack = ssrc, nack
}

// stored returns the packet of that extended sequence number with a reference for the caller, nil if it is gone.
func (l *layer) stored(sequence uint64) *packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.packets.Get(sequence)
	if !ok {
		return nil
	}
	p.retain()
	return p
}

func (l *layer) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missing.Reset()
	l.evictAll()
}

func (l *layer) evictAll() {
	l.evicted = l.packets.Clear(l.evicted[:0])
	l.releaseEvicted()
}

func (l *layer) releaseEvicted() {
	for i, p := range l.evicted {
		p.release()
		l.evicted[i] = nil
	}
	l.evicted = l.evicted[:0]
}

// requestKeyframe asks the publisher for a keyframe, unless one is on its way.
func (l *layer) requestKeyframe(now time.Duration) { l.wantKeyframe(now, false) }

// wantKeyframe is requestKeyframe, for a newcomer or for one who sees something already.
func (l *layer) wantKeyframe(now time.Duration, newcomer bool) {
	if l.pub.cfg.Kind != Video || l.pub.muted.Load() {
		return
	}
	send, due := l.keyframes.want(now, l.pub.owner.rtt(), newcomer)
	l.askKeyframe(send, due)
}

func (l *layer) askKeyframe(send bool, due time.Duration) {
	in := l.pub.owner.ingest()
	if in == nil {
		return
	}
	if send {
		l.mu.Lock()
		ssrc := l.ssrc
		l.stats.PLIs++
		l.mu.Unlock()
		in.sendPLI(ssrc)
	}
	if due != 0 {
		in.alarm.at(due)
	}
}

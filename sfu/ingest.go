package sfu

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
	"anytime/sfu/history"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
)

// maxSources bounds the SSRCs that one peer connection may send, those of RTX included.
const maxSources = 256

// feedbackSSRC is the sender of our feedback to publishers, to whom we send no media. libwebrtc uses 1 likewise.
const feedbackSSRC = 1

// ingest takes the plaintext RTP and RTCP of one peer connection. It knows what a packet belongs to from the session
// description alone. RTP and RTCP come one packet at a time, with the plane's receiving held.
type ingest struct {
	p     *Participant
	write func([]rtcp.Packet) // sends RTCP; may be called from any goroutine
	alarm *alarm

	active atomic.Bool // the alarm is set for routine feedback

	gathering gathering

	mu       sync.Mutex
	sections []*inSection
	sources  map[uint32]*source
	closed   bool
	recorder *twcc.Recorder
	twccID   uint8
	pending  bool // packets were recorded since the last transport-wide feedback
	last     time.Duration
	nextRR   time.Duration
	nextTWCC time.Duration
	stats    IngestStats
}

// inSection is one m-line on which the peer sends. Guarded by ingest.mu.
type inSection struct {
	section
	ids    extensionIDs
	places [128]uint8 // in payloads, by payload type, from 1; 0 = not negotiated
	pub    *publication
}

// format returns a payload type as negotiated; clock 0 = it isn't.
func (s *inSection) format(pt uint8) payload {
	if i := s.places[pt&127]; i > 0 {
		return s.payloads[i-1]
	}
	return payload{}
}

// source is what one SSRC turned out to be.
type source struct {
	in    *inSection
	pub   *publication
	layer *layer
	rtx   bool
}

func newIngest(p *Participant, write func([]rtcp.Packet)) *ingest {
	in := &ingest{p: p, write: write, sources: map[uint32]*source{}, recorder: twcc.NewRecorder(feedbackSSRC)}
	in.alarm = newAlarm(&p.server.works, p.server.now, in.feedback)
	in.gathering.delay = cmp.Or(p.server.cfg.BatchDelay, defaultBatchDelay)
	return in
}

// describe takes the newly negotiated m-lines.
func (in *ingest) describe(sections []section) {
	in.mu.Lock()
	defer in.mu.Unlock()
	known := make(map[string]*inSection, len(in.sections))
	for _, s := range in.sections {
		known[s.mid] = s
	}
	in.sections = in.sections[:0]
	in.twccID = 0
	for _, n := range sections {
		if n.kind != "audio" && n.kind != "video" {
			continue
		}
		s := known[n.mid]
		if s == nil {
			s = &inSection{}
		}
		s.section, s.ids = n, extensionIDsOf(&n)
		s.places = [128]uint8{}
		for i, p := range n.payloads { // 128 at most
			s.places[p.pt&127] = uint8(i + 1)
		}
		if s.ids.transport != 0 {
			in.twccID = s.ids.transport
		}
		in.sections = append(in.sections, s)
	}
	for ssrc, src := range in.sources {
		if !src.in.sending || known[src.in.mid] == nil {
			delete(in.sources, ssrc)
		}
	}
}

// bind ties the publication to the m-line. Packets of an m-line without one are dropped.
func (in *ingest) bind(mid string, pub *publication) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range in.sections {
		// Every offer binds anew. Browsers stop sending mid and rid once they are acknowledged, so what a source turned
		// out to be must outlive that: it couldn't be found again.
		if s.mid == mid && s.pub != pub {
			s.pub = pub
			for ssrc, src := range in.sources {
				if src.in == s {
					delete(in.sources, ssrc) // they belonged to another publication
				}
			}
		}
	}
}

func (in *ingest) close() {
	in.mu.Lock()
	in.closed = true
	in.sources = map[uint32]*source{}
	in.mu.Unlock()
	in.gathering.stop()
	in.alarm.stop()
}

// rtp takes one plaintext RTP packet that arrived at the server time at. b is the caller's again afterwards.
func (in *ingest) rtp(b []byte, at time.Duration) {
	h, err := codec.ParseHeader(b)
	in.mu.Lock()
	in.stats.Packets++
	in.stats.Bytes += uint64(len(b))
	switch {
	case err != nil:
		in.stats.Malformed++
		in.mu.Unlock()
		return
	case len(b) > headroom:
		in.stats.Oversized++
		in.mu.Unlock()
		return
	case in.closed:
		in.mu.Unlock()
		return
	}
	in.last = at
	if in.twccID != 0 {
		// Every packet counts, also the probes that belong to no stream (libwebrtc sends some on SSRC 0).
		if v := h.Extension(b, in.twccID); len(v) >= 2 {
			in.recorder.Record(h.SSRC, uint16(v[0])<<8|uint16(v[1]), at.Microseconds())
			in.pending = true
		}
	}
	src := in.sources[h.SSRC]
	if src == nil {
		if src = in.route(&h, b); src == nil {
			in.stats.Unrouted++
			in.mu.Unlock()
			in.wake(at)
			return
		}
	}
	format, ids := src.in.format(h.PayloadType), src.in.ids
	pt, rtx := h.PayloadType, format.rtx
	if rtx {
		pt = format.apt
		format = src.in.format(pt)
	}
	if format.clock == 0 || rtx != src.rtx {
		in.stats.Unrouted++
		in.mu.Unlock()
		return
	}
	if rtx && h.PayloadEnd-h.PayloadStart < rtxHeader {
		in.mu.Unlock() // RTX without a payload is padding: libwebrtc's probes
		in.wake(at)
		return
	}
	if rtx {
		in.stats.Repaired++
	}
	in.mu.Unlock()
	in.wake(at)
	in.accept(src, &h, b, pt, format.kind, ids, rtx, at)
}

// accept copies the packet into a shared buffer, numbers it, stores it and has it forwarded.
func (in *ingest) accept(src *source, h *codec.Header, b []byte, pt uint8, kind codec.Kind, ids extensionIDs, rtx bool, at time.Duration) {
	l := src.layer
	p := newPacket(b)
	defer p.release()
	p.header, p.pt, p.kind = *h, pt, kind
	sequence := h.Sequence
	if rtx {
		// RFC 4588 section 4: the payload header is the original sequence number; what follows is the original payload.
		v := p.payload()
		sequence = uint16(v[0])<<8 | uint16(v[1])
		p.header.PayloadStart += rtxHeader
		p.header.Sequence = sequence
	}
	f := forward.Packet{Timestamp: h.Timestamp, Arrival: at, Marker: h.Marker, PaddingOnly: p.header.PaddingOnly(), Layer: l.index}
	if !f.PaddingOnly {
		d, err := src.pub.parse(kind, p.payload())
		if err != nil {
			in.mu.Lock()
			in.stats.Malformed++
			in.mu.Unlock()
			// It keeps its place in the numbering, so that it isn't asked for again; it is not forwarded.
			l.number(sequence, h.Timestamp, at, rtx)
			return
		}
		f.Descriptor = d
	}
	if ids.level != 0 || ids.orientation != 0 || ids.dependency != 0 {
		for e := p.header.Extensions(p.buf[:p.size]); ; {
			id, v, ok := e.Next()
			if !ok {
				break
			}
			switch {
			case id == ids.level && len(v) > 0:
				p.level, p.hasLevel = v[0], true
			case id == ids.orientation && len(v) > 0:
				p.orientation, p.hasOrientation = v[0], true
			case id == ids.dependency:
				p.dependency = v
			}
		}
	}
	p.forward = f
	structure, layers := l.structure.Load(), l.spatial.Load()
	a, due, rates := l.store(p, sequence, at, rtx)
	switch a.Verdict {
	case history.Duplicate:
		in.mu.Lock()
		in.stats.Duplicates++
		in.mu.Unlock()
		return
	case history.Stray:
		in.mu.Lock()
		in.stats.Strays++
		in.mu.Unlock()
		return
	case history.Restarted:
		src.pub.resetLine(l.index)
	}
	in.alarm.at(due)
	pub := src.pub
	if p.forward.Descriptor.Keyframe && pub.cfg.Kind == Video {
		l.keyframes.came()
	}
	if pub.cfg.Kind == Audio {
		pub.hear(p, a.Verdict == history.Late || rtx, !ids.noVoice, at)
	}
	first := l.seen.Swap(int64(max(at, 1))) == 0
	l.missed.Store(0)
	began := l.silent.Swap(false) || first
	if began {
		l.resumed.Store(int64(at))
	}
	changed := began || rates || l.structure.Load() != structure || l.spatial.Load() != layers
	if f.Marker && !rtx {
		changed = l.outrun(at) || changed
	}
	if changed && pub.cfg.Kind == Video {
		pub.retarget(at)
	}
	if p.waiting {
		if l.overdue() && len(*pub.started.Load()) > 0 {
			l.requestKeyframe(at)
		}
		return
	}
	in.deliver(l, p)
	for _, w := range l.released(p) {
		in.deliver(l, w)
		w.release()
	}
}

// number places a sequence number without storing a packet.
func (l *layer) number(sequence uint16, timestamp uint32, at time.Duration, repaired bool) (a history.Arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if repaired {
		a = l.reception.Recovered(sequence)
	} else {
		a = l.reception.Packet(sequence, timestamp, at)
	}
	if a.Verdict == history.Newest || a.Verdict == history.Late {
		l.missing.Packet(a.Sequence, at)
	}
	return a
}

// store numbers, describes and stores p. due is when to ask for packets that have been found missing, 0 for none; rates
// reports that the layer's picture rates have changed.
func (l *layer) store(p *packet, sequence uint16, at time.Duration, repaired bool) (a history.Arrival, due time.Duration, rates bool) {
	l.mu.Lock()
	if repaired {
		a = l.reception.Recovered(sequence)
		l.stats.Repaired++
	} else {
		a = l.reception.Packet(sequence, p.header.Timestamp, at)
		l.stats.Packets++
		l.stats.Bytes += uint64(p.size)
	}
	overflow := false
	switch a.Verdict {
	case history.Duplicate, history.Stray:
		l.mu.Unlock()
		return a, 0, false
	case history.Restarted:
		l.missing.Reset()
		l.evictAll()
		l.forgetLayers()
		l.line = forward.Line{}
	}
	p.forward.Sequence, p.forward.Epoch = a.Sequence, a.Epoch
	if l.line.Known() {
		p.forward.Capture, p.forward.CaptureKnown = l.line.Capture(p.forward.Timestamp), true
	}
	l.describe(p)
	before := l.missing.Len()
	if repaired && a.Verdict == history.Late {
		if rtt, ok := l.missing.Recovered(a.Sequence, at); ok {
			l.pub.owner.repairedRTT(rtt)
		}
	} else {
		overflow = l.missing.Packet(a.Sequence, at)
	}
	if l.nack && l.missing.Len() > before {
		due, _ = l.missing.Next(l.pub.owner.rtt())
	}
	if !p.forward.PaddingOnly {
		p.retain()
		var stored bool
		if l.evicted, stored = l.packets.Put(a.Sequence, len(p.buf), at, p, l.evicted); !stored {
			p.release()
		}
		l.releaseEvicted()
		rates = l.pictures.packet(&p.forward, at)
	}
	l.mu.Unlock()
	if overflow {
		l.requestKeyframe(at)
	}
	return a, due, rates
}

// route finds out what an SSRC that wasn't seen before is, from what the session description declares or from the
// packet's mid and rid. Called with in.mu held.
func (in *ingest) route(h *codec.Header, b []byte) *source {
	if len(in.sources) >= maxSources || h.SSRC == 0 {
		return nil
	}
	s, declared := in.sectionOf(h, b)
	if s == nil || !s.sending || s.pub == nil {
		return nil
	}
	format := s.format(h.PayloadType)
	if format.clock == 0 {
		return nil
	}
	src := &source{in: s, pub: s.pub, rtx: format.rtx}
	index, ok := in.layerOf(s, h, b, src.rtx, declared)
	if !ok {
		return nil
	}
	src.layer = s.pub.layer(index)
	if src.rtx {
		src.layer.mu.Lock()
		src.layer.repair = h.SSRC
		src.layer.mu.Unlock()
	} else {
		src.layer.attach(h.SSRC, format.nack)
		// One SSRC feeds a layer; packets of the one before are of the past.
		for ssrc, old := range in.sources {
			if old.layer == src.layer && !old.rtx {
				delete(in.sources, ssrc)
			}
		}
	}
	in.sources[h.SSRC] = src
	return src
}

// sectionOf finds the m-line of a packet: RFC 9143 section 9.2, by mid, by declared SSRC, by payload type.
func (in *ingest) sectionOf(h *codec.Header, b []byte) (found *inSection, declared bool) {
	for _, s := range in.sections {
		if s.ids.mid != 0 {
			if mid := h.Extension(b, s.ids.mid); len(mid) > 0 && string(mid) == s.mid {
				return s, false
			}
		}
	}
	for _, s := range in.sections {
		for _, ssrc := range s.ssrcs {
			if ssrc == h.SSRC {
				return s, true
			}
		}
	}
	for _, s := range in.sections {
		if s.sending && s.format(h.PayloadType).clock != 0 {
			if found != nil {
				return nil, false // two m-lines could be meant
			}
			found = s
		}
	}
	return found, false
}

// layerOf finds the simulcast layer of a packet on s: by rid or repaired rid (RFC 8852), by the SSRC groups, or the
// only one there is.
func (in *ingest) layerOf(s *inSection, h *codec.Header, b []byte, rtx, declared bool) (uint8, bool) {
	id := s.ids.rid
	if rtx {
		id = s.ids.repairedRid
	}
	if id != 0 && len(s.rids) > 0 {
		if rid := h.Extension(b, id); len(rid) > 0 {
			for i, r := range s.rids {
				if r == string(rid) {
					return ridLayer(s.rids, i), true
				}
			}
			return 0, false
		}
	}
	ssrc := h.SSRC
	if rtx {
		// RFC 4588 section 8.6: a FID group names the original first, then its RTX.
		for _, g := range s.groups {
			if g.semantics == "FID" && len(g.ssrcs) == 2 && g.ssrcs[1] == ssrc {
				ssrc = g.ssrcs[0]
				if src := in.sources[ssrc]; src != nil {
					return src.layer.index, true
				}
				break
			}
		}
	}
	for _, g := range s.groups {
		if g.semantics != "SIM" {
			continue
		}
		for i, v := range g.ssrcs {
			if v == ssrc && i < forward.MaxLayers {
				return uint8(i), true
			}
		}
	}
	if len(s.rids) > 1 {
		return 0, false // wait for a packet that says its layer
	}
	return 0, true
}

// ridLayer returns the layer of the i-th rid: q, h and f have fixed places, others the place in which they stand.
func ridLayer(rids []string, i int) uint8 {
	switch rids[i] {
	case "q":
		return 0
	case "h":
		return 1
	case "f":
		return 2
	}
	return uint8(min(i, forward.MaxLayers-1))
}

// wake sets the alarm for routine feedback after a pause.
func (in *ingest) wake(at time.Duration) {
	if in.active.Load() || in.active.Swap(true) {
		return
	}
	in.mu.Lock()
	in.nextTWCC, in.nextRR = at+transportFeedbackInterval, at+time.Second
	in.mu.Unlock()
	in.alarm.at(at + transportFeedbackInterval)
}

package forward

import (
	"math/rand/v2"
	"slices"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/history"
)

// content names what a packet carries: the check of everything that comes out.
type content struct {
	layer  int
	epoch  uint32
	frame  int
	packet int
}

// sourceFrame is one frame of one layer as the encoder made it.
type sourceFrame struct {
	capture    time.Duration
	packets    int // with a payload
	temporal   uint8
	key        bool
	references []int // frames of the same layer
}

// event is the arrival of one packet.
type event struct {
	at       time.Duration
	order    int
	layer    int
	epoch    uint32 // of the encoder: a new SSRC
	sequence uint16
	content  content
	late     bool // it was lost and comes again
	packet   Packet
}

// layerSource is an encoder of one simulcast layer, with temporal layers and a numbering of its own.
type layerSource struct {
	layer    int
	epoch    uint32
	sequence uint16
	offset   uint32 // RTP timestamp of capture time 0
	picture  uint16
	tl0      uint8
	frames   []sourceFrame
	sinceKey int
	lastTL   [3]int // frame numbers of the last frame of each temporal layer
	wantKey  bool
}

func newLayerSource(r *rand.Rand, layer int) *layerSource {
	s := &layerSource{layer: layer}
	s.restart(r)
	return s
}

// restart begins again with new random numbers, near their ends every other time.
func (s *layerSource) restart(r *rand.Rand) {
	s.sequence, s.offset, s.picture, s.tl0 = uint16(r.Uint32()), r.Uint32(), uint16(r.Uint32())&0x7fff, uint8(r.Uint32())
	if r.IntN(2) == 0 {
		s.sequence, s.offset, s.picture, s.tl0 = 0xffff-uint16(r.IntN(50)), ^uint32(r.IntN(900000)), 0x7fff-uint16(r.IntN(20)), 255
	}
	s.wantKey = true
}

// temporalPattern is libwebrtc's for three layers: 0, 2 with sync, 1 with sync, 2.
var temporalPattern = [4]struct {
	layer uint8
	sync  bool
}{{0, false}, {2, true}, {1, true}, {2, false}}

// frame encodes a frame and appends its packets, paced over some milliseconds.
func (s *layerSource) frame(r *rand.Rand, capture time.Duration, paddings bool, events []event) []event {
	number := len(s.frames)
	f := sourceFrame{capture: capture, packets: 1 + r.IntN(4), key: s.wantKey}
	sync := false
	if f.key {
		s.sinceKey, s.wantKey = 0, false
		f.packets += 3
		s.lastTL = [3]int{number, -1, -1}
	} else {
		s.sinceKey++
		t := temporalPattern[s.sinceKey%4]
		f.temporal, sync = t.layer, t.sync
		f.references = append(f.references, s.lastTL[0])
		if !sync && f.temporal > 0 {
			for l := uint8(1); l <= f.temporal; l++ {
				if s.lastTL[l] >= 0 {
					f.references = append(f.references, s.lastTL[l])
				}
			}
		}
		s.lastTL[f.temporal] = number
	}
	s.frames = append(s.frames, f)
	s.picture = (s.picture + 1) & 0x7fff
	if f.temporal == 0 {
		s.tl0++
	}
	timestamp := s.offset + uint32(capture*90/time.Millisecond)
	at := capture + 20*time.Millisecond // encoding and the shortest way
	emit := func(n int, p Packet) {
		at += time.Duration(r.IntN(1500)) * time.Microsecond
		p.Timestamp, p.Layer = timestamp, uint8(s.layer)
		events = append(events, event{at: at, layer: s.layer, epoch: s.epoch, sequence: s.sequence, packet: p,
			content: content{s.layer, s.epoch, number, n}})
		s.sequence++
	}
	for i := range f.packets {
		emit(i, Packet{Marker: i == f.packets-1, Descriptor: codec.Descriptor{Kind: codec.VP8, FrameStart: i == 0, Keyframe: i == 0 && f.key,
			HasTemporal: true, Temporal: f.temporal, LayerSync: sync, HasPictureID: true, LongPictureID: true, PictureID: s.picture,
			HasTL0: true, TL0: s.tl0, HeaderLength: 6}})
	}
	if paddings && r.IntN(6) == 0 {
		for range 1 + r.IntN(3) {
			emit(-1-int(s.sequence), Packet{PaddingOnly: true})
		}
	}
	return events
}

// network loses, delays and repeats packets of events, then sorts them by arrival.
type network struct {
	loss, reorder, duplicate float64
	recover                  bool // what is lost comes again within 150 ms
}

func (n network) carry(r *rand.Rand, events []event) []event {
	var out []event
	for _, e := range events {
		if r.Float64() < n.reorder {
			e.at += time.Duration(r.IntN(40)) * time.Millisecond
		}
		if r.Float64() < n.loss {
			if !n.recover {
				continue
			}
			e.at += 30*time.Millisecond + time.Duration(r.IntN(120))*time.Millisecond
			e.late = true
		}
		out = append(out, e)
		if r.Float64() < n.duplicate {
			e.at += time.Duration(r.IntN(30)) * time.Millisecond
			out = append(out, e)
		}
	}
	for i := range out {
		out[i].order = i
	}
	slices.SortFunc(out, func(a, b event) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.order - b.order
	})
	return out
}

// ingest numbers arrivals as the server's ingest does.
type ingest struct {
	receptions [MaxLayers]*history.Reception
	epochs     [MaxLayers]uint32
	timelines  *Timeline // nil: no sender reports
}

func (in *ingest) packet(e *event) (*Packet, bool) {
	r := in.receptions[e.layer]
	if r == nil {
		r = history.NewReception(90000)
		in.receptions[e.layer] = r
	}
	switch {
	case e.epoch < in.epochs[e.layer]:
		return nil, false // an SSRC that is gone
	case e.epoch > in.epochs[e.layer]:
		in.epochs[e.layer] = e.epoch
		r.Restart()
	}
	var a history.Arrival
	if e.late {
		a = r.Recovered(e.sequence)
	} else {
		a = r.Packet(e.sequence, e.packet.Timestamp, e.at)
	}
	if a.Verdict == history.Duplicate || a.Verdict == history.Stray {
		return nil, false
	}
	p := e.packet
	p.Sequence, p.Epoch, p.Arrival = a.Sequence, a.Epoch, e.at
	if in.timelines != nil {
		if line := in.timelines.Line(uint8(e.layer)); line.Known() {
			p.Capture, p.CaptureKnown = line.Capture(p.Timestamp), true
		}
	}
	return &p, true
}

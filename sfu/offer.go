package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/alloc"
	"anytime/sfu/codec"
	"anytime/sfu/forward"
)

const (
	// offerInterval is how often the layers of a publication are measured anew, for all its subscribers at once.
	offerInterval = 200 * time.Millisecond
	// What the publisher announced counts until a stream has been measured for offerProof; less counts after offerHint. It
	// begins with a keyframe, so that it seems more than it is.
	offerHint  = 300 * time.Millisecond
	offerProof = time.Second
	// offerWeight is the time over which a bitrate is smoothed. A keyframe is as large as a second of other frames may be, and
	// comes with every switch: it must not lead to the next one.
	offerWeight = 5 * time.Second
	// believedBitrate bounds what is believed of an announcement, in bits per second: probes look for it.
	believedBitrate = 20_000_000
)

// usualBitrates stand for layers that the publisher says nothing of, in bits per second.
var usualBitrates = [alloc.MaxSpatial]uint32{150_000, 500_000, 1_700_000, 4_000_000}

// offer is what can be forwarded of one codec of a track, and what it costs.
type offer struct {
	layers alloc.Layers
	// spatials is how many spatial layers the stream of simulcast layer stream holds, where the publication has only that
	// stream and the layers above are these. Otherwise it is 0, and they are the simulcast layers.
	stream, spatials int8
	// bits are the layers' bitrates with all temporal layers, smoothed.
	bits   [alloc.MaxSpatial]int64
	proven [alloc.MaxSpatial]bool
	// watched is for how long they have been smoothed.
	watched [alloc.MaxSpatial]time.Duration
}

// offers keeps a publication's latest offer.
type offers struct {
	stale atomic.Bool // a layer came or went
	mu    sync.Mutex
	known bool
	at    time.Duration
	offer offer
}

// offer returns what of the publication can be forwarded.
func (pub *publication) offer(now time.Duration) offer {
	o := &pub.offers
	o.mu.Lock()
	defer o.mu.Unlock()
	if stale := o.stale.Swap(false); stale || !o.known || now-o.at >= offerInterval {
		o.offer.measure(pub, now, max(now-o.at, 0))
		o.at, o.known = max(now, o.at), true
	}
	return o.offer
}

// measure brings the offer up to date; elapsed is the time since it was.
func (o *offer) measure(pub *publication, now, elapsed time.Duration) {
	before := *o
	*o = offer{}
	streams, only := 0, 0
	for i := range pub.layers {
		if pub.layers[i].Load() != nil {
			streams, only = streams+1, i
		}
	}
	if streams == 1 {
		if n := pub.layers[only].Load().spatial.Load(); n > 1 {
			o.stream, o.spatials = int8(only), int8(min(n, alloc.MaxSpatial))
		}
	}
	if before.stream != o.stream || before.spatials != o.spatials {
		before = offer{}
	}
	announced := pub.sizes()
	var known [alloc.MaxSpatial]bool
	for i, bits := range usualBitrates {
		o.bits[i] = int64(bits)
	}
	for _, a := range announced {
		i := int(a.Quality)
		switch {
		case o.spatials > 0:
			i += int(o.spatials) - 3 // the highest layer is high quality, the one below medium, and so on
		case streams == 1 && len(announced) == 1:
			i = only
		}
		if i < 0 || i >= alloc.MaxSpatial {
			continue
		}
		o.layers[i].Width, o.layers[i].Height = a.Width, a.Height
		if a.Bitrate > 0 {
			o.bits[i], known[i] = int64(min(a.Bitrate, believedBitrate)), true
		}
	}
	for i := range o.layers {
		l, spatial := o.find(pub, i)
		if l == nil {
			continue
		}
		if s := l.structure.Load(); o.spatials > 0 && s != nil {
			if size, ok := s.Size(spatial); ok {
				o.layers[i].Width, o.layers[i].Height = uint32(size.Width), uint32(size.Height)
			}
		}
		cells, bits, age := l.cells(spatial, now)
		o.proven[i] = before.proven[i] || age >= offerProof
		o.watched[i] = before.watched[i]
		switch {
		case before.proven[i] && (age < offerProof || bits == 0): // it costs what it did
			o.bits[i] = before.bits[i]
		case age < offerHint:
		case age < offerProof:
			o.bits[i] = min(o.bits[i], bits)
		case before.bits[i] == 0, !before.proven[i] && !known[i]:
			o.bits[i] = bits
		default:
			over := elapsed + offerWeight
			if !known[i] {
				// Nothing was announced, and the first measurement has the first keyframe in it: as yet it weighs less.
				o.watched[i] = before.watched[i] + elapsed
				over = elapsed + min(offerProof+o.watched[i], offerWeight)
			}
			o.bits[i] = before.bits[i] + (bits-before.bits[i])*int64(elapsed/time.Millisecond)/int64(over/time.Millisecond)
		}
		o.layers[i].Temporal = cells
		o.scale(i, bits)
	}
}

// scale brings the temporal layers of layer i, which were measured as part of bits, to the layer's smoothed bitrate.
func (o *offer) scale(i int, bits int64) {
	for t := range o.layers[i].Temporal {
		if c := &o.layers[i].Temporal[t]; c.Bitrate > 0 {
			c.Bitrate = uint32(min(max(int64(c.Bitrate)*o.bits[i]/max(bits, 1), 1), 1<<31))
		}
	}
}

// find returns the stream, and the spatial layer of it, behind layer i of the offer.
func (o *offer) find(pub *publication, i int) (*layer, uint8) {
	if o.spatials > 0 {
		if i >= int(o.spatials) {
			return nil, 0
		}
		return pub.layers[o.stream].Load(), uint8(i)
	}
	l := pub.layers[i].Load()
	if l == nil {
		return nil, 0
	}
	return l, uint8(max(l.spatial.Load()-1, 0))
}

// cells returns the temporal layers of a spatial layer of the stream, and what all of them cost in the last second. age is
// since when the stream has come without a break, 0 if it doesn't; below offerProof the temporal layers count as one.
func (l *layer) cells(spatial uint8, now time.Duration) (out [alloc.MaxTemporal]alloc.Cell, bits int64, age time.Duration) {
	live := l.live(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	all, base := uint64(0), uint64(0)
	for t := range uint8(codec.MaxTemporal + 1) {
		all = max(all, l.rates.Bitrate(spatial, t, now))
		base = max(base, l.rates.Bitrate(0, t, now))
	}
	bits = int64(min(all, 1<<31))
	since, any := l.rates.Begun()
	if any && live {
		age = max(now-max(since, time.Duration(l.resumed.Load())), 0)
	}
	if age < offerProof {
		out[0] = alloc.Cell{Bitrate: uint32(max(bits, 1)), Live: live}
		return out, bits, age
	}
	// A spatial layer that brings nothing while the ones below do was stopped by its publisher.
	live = all > 0 || base == 0
	top := 0
	if l.pictures.measured {
		top = min(int(l.pictures.highest), alloc.MaxTemporal-1)
	}
	for t := range top + 1 {
		rate, fps := all, 0.0
		if t < top {
			rate = l.rates.Bitrate(spatial, uint8(t), now)
		}
		if l.pictures.measured {
			fps = l.pictures.rates[t]
			if t == top {
				fps = l.pictures.rates[l.pictures.highest]
			}
		}
		out[t] = alloc.Cell{Bitrate: uint32(min(max(rate, 1), 1<<31)), FPS: uint32(fps + 0.5), Live: live}
	}
	return out, bits, age
}

// least returns what the least of it costs, 0 if nothing is being sent.
func (o *offer) least() (cost int64) {
	for i := range o.layers {
		for t := range o.layers[i].Temporal {
			if c := &o.layers[i].Temporal[t]; c.Live && c.Bitrate != 0 && (cost == 0 || int64(c.Bitrate) < cost) {
				cost = int64(c.Bitrate)
			}
		}
	}
	return cost
}

// best returns what the best of the layers up to spatial costs, lowest which is the lowest that is being sent, -1 for
// none.
func (o *offer) best(spatial int8) (cost int64, lowest int8) {
	lowest = -1
	for i := range o.layers {
		for t := range o.layers[i].Temporal {
			c := &o.layers[i].Temporal[t]
			if !c.Live || c.Bitrate == 0 || lowest >= 0 && int8(i) > max(spatial, lowest) {
				continue
			}
			if lowest < 0 {
				lowest = int8(i)
			}
			cost = max(cost, int64(c.Bitrate))
		}
	}
	return cost, lowest
}

// only keeps layer i alone among those that are being sent.
func (o *offer) only(i int8) {
	for j := range o.layers {
		if j == int(i) {
			continue
		}
		for t := range o.layers[j].Temporal {
			o.layers[j].Temporal[t].Live = false
		}
	}
}

// cost returns what layer i costs with the temporal layers up to temporal.
func (o *offer) cost(i, temporal int) (bits int64) {
	if i < 0 || i >= len(o.layers) {
		return 0
	}
	for t := range o.layers[i].Temporal {
		if c := &o.layers[i].Temporal[t]; t == 0 || t <= temporal && c.Bitrate > 0 {
			bits = int64(c.Bitrate)
		}
	}
	return bits
}

// temporal returns what a forwarder is told for temporal layer t of layer i: of the highest, that all are to be forwarded.
func (o *offer) temporal(i, t int8) int {
	if i < 0 || int(i) >= len(o.layers) || t < 0 || t+1 >= alloc.MaxTemporal || o.layers[i].Temporal[t+1].Bitrate == 0 {
		return forward.AllTemporal
	}
	return int(t)
}

// forwarded returns the layer of the offer that f forwards, -1 for none, and its highest temporal layer; told is the
// one that f has been told.
func (o *offer) forwarded(f *forward.Forwarder, told int) (layer, temporal int) {
	layer, temporal = f.Current(), told
	if layer < 0 {
		return -1, 0
	}
	if s, t, ok := f.Layers(); ok {
		temporal = int(t)
		if o.spatials > 0 {
			layer = min(int(s), int(o.spatials)-1)
		}
	}
	return layer, temporal
}

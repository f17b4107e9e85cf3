package alloc

import (
	"math/bits"
	"time"
)

// entry is a video that waits for its next rung.
type entry struct {
	key   uint64
	index int // of Allocator.subs
}

// The parts of a key, in bits: which rung goes first. Quality takes the rest above them, class what is above that.
const (
	indexBits   = 9 // MaxSubscriptions
	bucketBits  = 6
	qualityBits = 13 // maxQuality
)

// key orders the next rungs of all videos, the least first: the class; the quality that the video has without it, the
// worst first; rungs held before new ones; cheap before dear, by the power of two, so that as many as possible are shown
// and noise changes little; who was added first. Along one ladder keys rise.
func (s *Subscription) key(index int) uint64 {
	quality := int32(0)
	if s.rung >= 0 {
		quality = s.ladder[s.rung].quality
	}
	fresh := 0
	if s.rung >= s.held {
		fresh = 1
	}
	k := uint64(s.input.class())
	k = k<<qualityBits | uint64(quality)
	k = k<<1 | uint64(fresh)
	k = k<<bucketBits | uint64(bits.Len64(uint64(s.price())))
	return k<<indexBits | uint64(index)
}

// price returns what the next rung costs more than the present one.
func (s *Subscription) price() int64 { return s.cost(s.rung+1) - s.cost(s.rung) }

// improve lets all videos climb while the estimate lasts; low is the lowest that it has been of late. On return,
// Subscription.rung is where each stands.
func (a *Allocator) improve(now time.Duration, estimate, low int64) {
	a.heap = a.heap[:0]
	for i, s := range a.subs {
		s.result.Need = 0
		if s.rungs > 0 {
			a.heap = append(a.heap, entry{s.key(i), i})
		}
	}
	for i := len(a.heap)/2 - 1; i >= 0; i-- {
		a.down(i)
	}
	spacious, steadily := a.cfg.spacious(estimate), a.cfg.spacious(low)
	for len(a.heap) > 0 {
		index := a.heap[0].index
		s := a.subs[index]
		total := a.summary.Used + s.price()
		fresh := s.rung >= s.held
		switch {
		case !fresh && total <= estimate,
			fresh && total <= spacious && (s.wishes || (s.eager || total <= steadily) && !s.waits(now, a.hold, low)),
			s.rung < 0 && s.goesOn(now, a.hold-a.cfg.Wait+a.cfg.Wait/4) && s.price() <= (spacious-a.summary.Used)/2:
			a.summary.Used = total
			s.rung++
			if s.rung+1 < s.rungs {
				a.heap[0].key = s.key(index)
				a.down(0)
				continue
			}
		case total <= spacious:
			a.summary.Waiting++
		default:
			s.result.Need = a.cfg.needed(total) - estimate
			if a.summary.Need == 0 || s.result.Need < a.summary.Need {
				a.summary.Need = s.result.Need
			}
		}
		last := len(a.heap) - 1
		a.heap[0] = a.heap[last]
		a.heap = a.heap[:last]
		a.down(0)
	}
}

// waits reports whether the subscription may not climb yet. What failed at one estimate says little of a third more.
func (s *Subscription) waits(now, all time.Duration, low int64) bool {
	return now < s.hold && (s.failed == 0 || low < s.failed+s.failed/3) || now < all
}

// goesOn reports whether what is paused may be shown again; all is the time before which nothing is.
func (s *Subscription) goesOn(now, all time.Duration) bool {
	return s.rest > 0 && now >= s.still && now >= all
}

// spacious returns what of the estimate climbs may use.
func (c *Config) spacious(estimate int64) int64 { return estimate - estimate*int64(c.Headroom)/100 }

// needed returns the least estimate whose spacious part is total.
func (c *Config) needed(total int64) int64 {
	e := total * 100 / int64(100-c.Headroom)
	for c.spacious(e) < total {
		e++
	}
	for e > 0 && c.spacious(e-1) >= total {
		e--
	}
	return e
}

// down restores the heap's order below i.
func (a *Allocator) down(i int) {
	h := a.heap
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].key < h[child].key {
			child++
		}
		if h[i].key <= h[child].key {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

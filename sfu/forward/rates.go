package forward

import (
	"time"

	"anytime/sfu/codec"
)

// Rates measures what the layers of one received stream cost: for each spatial and temporal layer, the bit rate of
// everything that a subscription with that target is sent, over the last second. It is what an allocation of bandwidth
// compares its budget with.
type Rates struct {
	buckets [rateBuckets]rateBucket
	latest  int64 // index of the newest bucket, in units of rateStep since time 0
	begun   time.Duration
	any     bool
}

const (
	rateBuckets = 11 // a second, and the one that is being filled
	rateStep    = 100 * time.Millisecond
)

type rateBucket [codec.MaxSpatial + 1][codec.MaxTemporal + 1]uint32 // bytes

// Observe counts a packet of size bytes, which arrived at p.Arrival.
func (r *Rates) Observe(p *Packet, size int) {
	b := r.at(p.Arrival)
	if b == nil {
		return
	}
	switch layeringOf(p) {
	case described:
		d := &p.Dependency
		for i, t := range d.Structure.Targets() {
			if d.Indication(i) != codec.NotPresent {
				b[t.Spatial][t.Temporal] += uint32(size)
			}
		}
	case indexed:
		d := &p.Descriptor
		for s := int(d.Spatial); s <= codec.MaxSpatial; s++ {
			if d.Predicted && d.NotForAbove && s > int(d.Spatial) {
				break
			}
			for t := d.Temporal; t <= codec.MaxTemporal; t++ {
				b[s][t] += uint32(size)
			}
		}
	default:
		t := uint8(0)
		if p.Descriptor.HasTemporal && !p.PaddingOnly {
			t = min(p.Descriptor.Temporal, codec.MaxTemporal)
		}
		for ; t <= codec.MaxTemporal; t++ {
			b[0][t] += uint32(size)
		}
	}
}

// at returns the bucket of that time, nil for one that is gone.
func (r *Rates) at(now time.Duration) *rateBucket {
	n := int64(now / rateStep)
	if !r.any {
		r.any, r.begun, r.latest = true, now, n
	}
	if n <= r.latest-rateBuckets {
		return nil
	}
	for steps := 0; r.latest < n; steps++ {
		if steps == rateBuckets {
			r.latest = n
			break
		}
		r.latest++
		r.buckets[r.latest%rateBuckets] = rateBucket{}
	}
	return &r.buckets[n%rateBuckets]
}

// Begun returns when the first packet was observed; ok is false before.
func (r *Rates) Begun() (at time.Duration, ok bool) { return r.begun, r.any }

// Bitrate returns what a subscription with that target costs, in bits per second of the last second before now. A layer
// that isn't sent has rate 0; so has everything before the first packet.
func (r *Rates) Bitrate(spatial, temporal uint8, now time.Duration) uint64 {
	if !r.any || spatial > codec.MaxSpatial || temporal > codec.MaxTemporal {
		return 0
	}
	n := int64(now / rateStep)
	bytes := uint64(0)
	for i := max(n-rateBuckets+1, r.latest-rateBuckets+1, 0); i < n && i <= r.latest; i++ {
		bytes += uint64(r.buckets[i%rateBuckets][spatial][temporal])
	}
	window := min(max(time.Duration(n)*rateStep-r.begun, rateStep), time.Second)
	return bytes * 8 * uint64(time.Second/time.Microsecond) / uint64(window/time.Microsecond)
}

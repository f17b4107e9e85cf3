package sfu

import (
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
)

// rateWindow is over how long pictures are counted.
const rateWindow = time.Second

// frameRates counts the pictures of a layer by temporal layer. It is pure.
type frameRates struct {
	begun    bool
	since    time.Duration
	counts   [forward.AllTemporal + 1]uint32
	rates    [forward.AllTemporal + 1]float64 // pictures a second with all layers up to this one; valid if highest > 0
	highest  uint8                            // temporal layer that occurred in the last window
	measured bool
}

// packet counts a packet that arrived at now. It reports whether the rates have changed much.
func (r *frameRates) packet(p *forward.Packet, now time.Duration) (changed bool) {
	d := &p.Descriptor
	if dep := &p.Dependency; dep.Structure != nil && d.Kind != codec.VP8 {
		d = &codec.Descriptor{FrameStart: dep.First, HasTemporal: true, Temporal: dep.Temporal, Spatial: dep.Spatial}
	}
	return r.frame(d, now)
}

// frame counts a packet that arrived at now. It reports whether the rates have changed much.
func (r *frameRates) frame(d *codec.Descriptor, now time.Duration) (changed bool) {
	if !d.FrameStart || !d.HasTemporal || d.Temporal > forward.AllTemporal || d.Spatial > 0 {
		return false // each picture counts once, by its lowest spatial layer
	}
	if !r.begun {
		r.begun, r.since = true, now
	}
	if elapsed := now - r.since; elapsed >= rateWindow {
		changed = r.close(elapsed)
		r.since, r.counts = now, [len(r.counts)]uint32{}
	}
	r.counts[d.Temporal]++
	return changed
}

// close ends a window of that length.
func (r *frameRates) close(elapsed time.Duration) (changed bool) {
	sum, highest := 0.0, uint8(0)
	for i, n := range r.counts {
		sum += float64(n) / elapsed.Seconds()
		if n > 0 {
			highest = uint8(i)
		}
		if old := r.rates[i]; sum > old*1.25 || sum < old*0.8 {
			changed = true
		}
		r.rates[i] = sum
	}
	changed = changed || highest != r.highest || !r.measured
	r.highest, r.measured = highest, true
	return changed
}

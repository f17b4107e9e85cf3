package room

import "time"

// dynacast is what a publisher has been told of the layers that are wanted of its video track. More is
// told at once; less only after Limits.LayerDelay, so that a subscriber that comes and goes, or a view
// that flickers, doesn't have the encoder started again and again.
type dynacast struct {
	// told and wanted are the highest layers by codec, negative for none.
	told, wanted []int8
	due          time.Time // when told falls to wanted; zero when it needn't
}

// highestLayer is the layer 'high'.
const highestLayer = 2

// grow makes room for n codecs. The first is sent with all its layers as long as nothing else is said,
// the others not at all.
func (d *dynacast) grow(n int) {
	for i := len(d.told); i < n; i++ {
		first := int8(-1)
		if i == 0 {
			first = highestLayer
		}
		d.told, d.wanted = append(d.told, first), append(d.wanted, first)
	}
}

// want takes what is wanted now. It reports whether the publisher must hear at once.
func (d *dynacast) want(now time.Time, delay time.Duration, layers []int8) (tell bool) {
	d.grow(len(layers))
	less := false
	for i := range d.told {
		want := int8(-1)
		if i < len(layers) {
			want = min(max(layers[i], -1), highestLayer)
		}
		d.wanted[i] = want
		if want > d.told[i] {
			d.told[i], tell = want, true
		}
		less = less || want < d.told[i]
	}
	switch {
	case !less:
		d.due = time.Time{}
	case d.due.IsZero():
		d.due = now.Add(delay)
	}
	return tell
}

// fall tells less if it is time. It reports whether it was.
func (d *dynacast) fall(now time.Time) bool {
	if d.due.IsZero() || now.Before(d.due) {
		return false
	}
	d.due = time.Time{}
	copy(d.told, d.wanted)
	return true
}

// LayersWanted takes what subscribers want of a participant's video track: the highest layer of each
// codec, in their order, negative for none.
func (r *Room) LayersWanted(now time.Time, id, trackID string, layers []int8) []Effect {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id || t.Kind != Video || len(layers) > maxCodecs {
		return nil
	}
	if t.dynacast.want(now, r.limits.LayerDelay, layers) {
		r.tellLayers(t)
	}
	return r.take(now)
}

// tellLayers tells the publisher what it is to send, unless that is what it does anyway.
func (r *Room) tellLayers(t *track) {
	if t.Kind != Video || !t.owner.attached || len(t.dynacast.told) == 0 {
		return
	}
	e := SendLayers{To: t.owner.ID, TrackID: t.ID}
	for i, highest := range t.dynacast.told {
		mime := t.MimeType
		if i < len(t.Codecs) && t.Codecs[i].name() != "" {
			mime = t.Codecs[i].name()
		}
		e.Codecs = append(e.Codecs, CodecDemand{MimeType: mime, Highest: int(highest)})
	}
	r.emit(e)
}

// StreamState says that nothing comes of a track that somebody is subscribed to, or that it comes again.
func (r *Room) StreamState(now time.Time, id, trackID string, paused bool) []Effect {
	s, t := r.byID[id], r.tracks[trackID]
	if s == nil || t == nil || s.subs[trackID] == nil || !s.subs[trackID].on || s.subs[trackID].paused == paused {
		return nil
	}
	s.subs[trackID].paused = paused
	r.tellStream(s, t, paused)
	return r.take(now)
}

func (r *Room) tellStream(s *participant, t *track, paused bool) {
	if s.attached {
		r.emit(SendStreamState{To: s.ID, Owner: t.owner.ID, TrackID: t.ID, Paused: paused})
	}
}

package room

import (
	"slices"
	"strings"
	"time"
)

// AddTrack announces a track before its media arrives. t needs ID, CID and Kind; the owner is id.
// The answer leaves at once. An announcement repeated with the cid of a track whose media has not
// started yet gets the same answer again.
func (r *Room) AddTrack(now time.Time, id string, t Track) ([]Effect, error) {
	p, err := r.local(id)
	if err != nil {
		return nil, err
	}
	switch {
	case t.ID == "" || r.tracks[t.ID] != nil:
		return nil, refuse(Invalid, "a track needs a fresh id")
	case t.CID == "":
		return nil, refuse(Invalid, "a track needs a cid, the id of its media in the session description")
	case !p.Permission.Publish:
		return nil, refuse(NotAllowed, "this participant may not publish")
	case !p.Permission.mayPublish(t.Source):
		return nil, refuse(NotAllowed, "this participant may not publish this source")
	case t.Kind == Audio && len(t.Codecs) > 1:
		return nil, refuse(Unsupported, "an audio track has one codec")
	}
	for i, c := range t.Codecs {
		if slices.ContainsFunc(t.Codecs[:i], c.same) {
			return nil, refuse(Invalid, "a codec of this track is named twice")
		}
	}
	for _, known := range p.tracks {
		if known.CID == t.CID && !known.started {
			r.answerAdd(known, known.CID)
			return r.take(now), nil
		}
	}
	if len(p.tracks) >= r.limits.Tracks {
		return nil, refuse(LimitExceeded, "this participant has as many tracks as are allowed")
	}
	t.Owner = p.ID
	rec := &track{Track: t.clone(), owner: p}
	if t.Kind == Video && len(rec.Codecs) == 0 {
		rec.Codecs = []Codec{{MimeType: t.MimeType, CID: t.CID, Layers: slices.Clone(t.Layers)}} // older SDKs name none
	}
	for i := range rec.Codecs {
		rec.Codecs[i].Announced = rec.Codecs[i].MimeType
	}
	p.tracks = append(p.tracks, rec)
	r.tracks[t.ID] = rec
	r.answerAdd(rec, rec.CID)
	r.emit(PublishTrack{Track: rec.Track.clone()})
	return r.take(now), nil
}

// answerAdd tells the publisher that its track, or the codec of it with that cid, is known; Resume tells it again when there is
// nobody to tell now.
func (r *Room) answerAdd(t *track, cid string) {
	if t.owner.attached {
		r.emit(SendTrackPublished{To: t.owner.ID, CID: cid, Track: t.Track.clone()})
	}
}

// TrackStarted says that a track's media is known to the SFU. The others see the track, and those
// who want it are subscribed. mime, when set, replaces what was announced.
func (r *Room) TrackStarted(now time.Time, id, trackID, mime string) []Effect {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id {
		return nil
	}
	if mime != "" && !strings.EqualFold(mime, t.MimeType) {
		t.MimeType = mime
		if len(t.Codecs) > 0 {
			t.Codecs[0].MimeType = mime
		}
		r.changed(t.owner)
	}
	if !t.started {
		if len(t.owner.startedTracks()) == 0 {
			r.roomChanged = true
		}
		t.started = true
		if mime != "" && len(t.Codecs) > 0 {
			t.Codecs[0].Started = true
		}
		r.changed(t.owner)
		r.emit(TrackPublished{Track: t.Track.clone()})
		r.reconcileTrack(t)
	}
	return r.take(now)
}

// TrackEnded says that a track's media is gone for good: the publisher took it out of its offer.
func (r *Room) TrackEnded(now time.Time, id, trackID string) []Effect {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id {
		return nil
	}
	r.endTrack(t)
	r.changed(t.owner)
	return r.take(now)
}

// Unpublish takes a track away from its publisher.
func (r *Room) Unpublish(now time.Time, trackID string) ([]Effect, error) {
	t := r.tracks[trackID]
	if t == nil {
		return nil, refuse(NotFound, "there is no such track")
	}
	r.takeTrack(t)
	r.changed(t.owner)
	return r.take(now), nil
}

// maxTaken is how many tracks a participant is remembered to have lost.
const maxTaken = 32

// takeTrack takes a track away from its publisher, which is told.
func (r *Room) takeTrack(t *track) {
	if t.owner.attached {
		r.emit(SendTrackUnpublished{To: t.owner.ID, TrackID: t.ID})
	}
	t.owner.taken = append(t.owner.taken[max(0, len(t.owner.taken)-maxTaken+1):], t.ID)
	r.endTrack(t)
}

// Took reports whether a track was taken away from a participant, lately.
func (r *Room) Took(id, trackID string) bool {
	p := r.byID[id]
	return p != nil && slices.Contains(p.taken, trackID)
}

// SetMuted mutes or unmutes a participant's own track. byServer tells the publisher to do it, and
// its client will say so in turn.
func (r *Room) SetMuted(now time.Time, id, trackID string, muted, byServer bool) ([]Effect, error) {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id {
		return nil, refuse(NotFound, "there is no such track of this participant")
	}
	if t.Muted != muted {
		t.Muted = muted
		if t.started {
			r.changed(t.owner)
		}
		r.emit(MuteTrack{Owner: id, TrackID: trackID, Muted: muted})
		if !muted {
			r.tellLayers(t) // encoders start anew, and with everything
		}
	}
	t.muteAsked = byServer && muted
	if byServer && t.owner.attached {
		r.emit(SendMute{To: id, TrackID: trackID, Muted: muted})
	}
	return r.take(now), nil
}

// TrackChange is what a publisher may change of a running track; nil fields stay.
type TrackChange struct {
	Features      []int32
	Width, Height *uint32
}

// UpdateTrack changes a participant's own track.
func (r *Room) UpdateTrack(now time.Time, id, trackID string, change TrackChange) ([]Effect, error) {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id {
		return nil, refuse(NotFound, "there is no such track of this participant")
	}
	if change.Features != nil {
		t.Features = slices.Clone(change.Features)
	}
	if change.Width != nil && change.Height != nil {
		t.Width, t.Height = *change.Width, *change.Height
	}
	if t.started {
		r.changed(t.owner)
	}
	return r.take(now), nil
}

// Owns reports whether a track belongs to a participant, started or not.
func (r *Room) Owns(id, trackID string) bool {
	t := r.tracks[trackID]
	return t != nil && t.owner.ID == id
}

// endTrack takes a track out: subscriptions first, then the publication.
func (r *Room) endTrack(t *track) {
	r.forget(t)
	t.owner.tracks = slices.DeleteFunc(t.owner.tracks, func(o *track) bool { return o == t })
	if !t.owner.remote {
		r.emit(UnpublishTrack{Owner: t.owner.ID, TrackID: t.ID})
		if t.started {
			r.emit(TrackUnpublished{Track: t.Track.clone()})
		}
	}
	r.roomChanged = r.roomChanged || len(t.owner.tracks) == 0
}

func (p *participant) startedTracks() []*track {
	var out []*track
	for _, t := range p.tracks {
		if t.started {
			out = append(out, t)
		}
	}
	return out
}

// local returns a participant that has its connection on this node.
func (r *Room) local(id string) (*participant, error) {
	p := r.byID[id]
	if p == nil || p.remote {
		return nil, refuse(NotFound, "this participant is not in the room")
	}
	return p, nil
}

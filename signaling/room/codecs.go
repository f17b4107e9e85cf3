package room

import (
	"slices"
	"strings"
	"time"
)

// maxCodecs is the number of codecs of one track.
const maxCodecs = 8

// same reports whether two codecs are one: their names may differ in case.
func (c Codec) same(d Codec) bool { return strings.EqualFold(c.name(), d.name()) }

// name is what publisher and server call it.
func (c Codec) name() string {
	if c.Announced != "" {
		return c.Announced
	}
	return c.MimeType
}

// AddCodec announces a further codec of a participant's own video track, or that one which was named
// with the track is now going to be sent; livekit-client does so once SendLayers asks for it. c needs
// MimeType and CID. It is answered like AddTrack, and like it may be repeated until its media comes.
func (r *Room) AddCodec(now time.Time, id, trackID string, c Codec) ([]Effect, error) {
	p, err := r.local(id)
	if err != nil {
		return nil, err
	}
	t := r.tracks[trackID]
	switch {
	case t == nil || t.owner != p:
		return nil, refuse(NotFound, "there is no such track of this participant")
	case !p.Permission.mayPublish(t.Source):
		return nil, refuse(NotAllowed, "this participant may not publish this source")
	case t.Kind != Video:
		return nil, refuse(Unsupported, "an audio track has one codec")
	case c.MimeType == "":
		return nil, refuse(Invalid, "a further codec of a track needs a name")
	case c.CID == "":
		return nil, refuse(Invalid, "a codec needs a cid, the id of its media in the session description")
	}
	i := slices.IndexFunc(t.Codecs, c.same)
	switch {
	case i >= 0 && t.Codecs[i].CID == c.CID && !t.Codecs[i].Started && i > 0:
		r.answerAdd(t, c.CID)
		return r.take(now), nil
	case i >= 0 && (t.Codecs[i].CID != "" || t.Codecs[i].Started):
		return nil, refuse(Invalid, "this track has that codec already")
	case p.announces(c.CID):
		return nil, refuse(Invalid, "this cid is of another track or codec")
	case i < 0 && len(t.Codecs) >= maxCodecs:
		return nil, refuse(LimitExceeded, "this track has as many codecs as are allowed")
	case i < 0:
		i = len(t.Codecs)
		t.Codecs = append(t.Codecs, Codec{MimeType: c.MimeType, Announced: c.MimeType, LayerMode: c.LayerMode})
		t.dynacast.grow(len(t.Codecs))
	}
	t.Codecs[i].CID, t.Codecs[i].Layers = c.CID, slices.Clone(c.Layers)
	r.answerAdd(t, c.CID)
	r.emit(PublishCodec{Owner: p.ID, TrackID: trackID, Codec: t.Track.clone().Codecs[i]})
	if t.started {
		r.changed(p)
	}
	return r.take(now), nil
}

// announces reports whether one of the participant's tracks or codecs has the cid.
func (p *participant) announces(cid string) bool {
	return slices.ContainsFunc(p.tracks, func(t *track) bool {
		return t.CID == cid || slices.ContainsFunc(t.Codecs, func(c Codec) bool { return c.CID == cid })
	})
}

// CodecStarted says that the media of a track's codec, by its place among them, is known to the SFU.
// Subscribers that had none of the codecs before may have this one.
func (r *Room) CodecStarted(now time.Time, id, trackID string, codec int, mime string) []Effect {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id || codec < 0 || codec >= len(t.Codecs) {
		return nil
	}
	c := &t.Codecs[codec]
	c.Started = true
	if mime != "" && !strings.EqualFold(mime, c.MimeType) {
		c.MimeType = mime
	}
	if mime != "" && codec == 0 {
		t.MimeType = mime
	}
	r.changed(t.owner)
	for _, s := range r.order {
		if sub := s.subs[trackID]; sub != nil && sub.lacking {
			sub.lacking = false
			r.reconcile(s, t)
		}
	}
	return r.take(now)
}

// CodecEnded says that the publisher no longer sends one of a track's codecs. It may announce it again.
func (r *Room) CodecEnded(now time.Time, id, trackID string, codec int) []Effect {
	t := r.tracks[trackID]
	if t == nil || t.owner.ID != id || codec < 0 || codec >= len(t.Codecs) {
		return nil
	}
	t.Codecs[codec].CID, t.Codecs[codec].Started = "", false
	r.changed(t.owner)
	return r.take(now)
}

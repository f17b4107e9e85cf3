package sfu

import (
	"errors"
	"fmt"
	"slices"
)

// announced are the tracks that a participant has announced, and the m-lines that they are tied to. Guarded by the
// participant.
type announced struct {
	byID     map[string]*publication
	order    []*publication          // as announced
	bound    map[string]*publication // by mid
	claimed  map[string]string       // by mid: the msid track id that was bound last
	sections []section               // of the publisher, as last negotiated
}

func newAnnounced() announced {
	return announced{byID: map[string]*publication{}, bound: map[string]*publication{}, claimed: map[string]string{}}
}

// Publish announces a track. Its media is taken once the client's description has an m-line for it.
func (p *Participant) Publish(cfg PublicationConfig) error {
	if cfg.ID == "" {
		return errors.New("sfu: publishing needs a track id")
	}
	b, err := p.announce(cfg)
	if err != nil {
		return err
	}
	p.follow(b)
	return nil
}

func (p *Participant) announce(cfg PublicationConfig) (b bindings, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return b, ErrClosed
	case p.tracks.byID[cfg.ID] != nil:
		return b, fmt.Errorf("track %s: %w", cfg.ID, ErrExists)
	case len(p.tracks.byID) >= p.server.cfg.Limits.Publications:
		return b, fmt.Errorf("%w: %d tracks published", ErrLimit, len(p.tracks.byID))
	case len(cfg.Backups) >= maxCodecs:
		return b, fmt.Errorf("%w: %d codecs", ErrLimit, len(cfg.Backups)+1)
	}
	pub := newPublication(p, cfg)
	if !pub.appear(p.room) {
		pub.end()
		return b, fmt.Errorf("track %s: %w", cfg.ID, ErrExists)
	}
	for _, r := range p.shown {
		pub.appear(r)
	}
	p.tracks.byID[cfg.ID] = pub
	p.enrol(pub)
	for _, c := range cfg.Backups {
		p.enrol(pub.codecs.add(p, c))
	}
	return p.bind(), nil // the m-line may have come first
}

// Unpublish withdraws a track.
func (p *Participant) Unpublish(trackID string) {
	p.mu.Lock()
	pub := p.tracks.byID[trackID]
	p.mu.Unlock()
	if pub != nil {
		p.endPublication(pub)
	}
}

// endPublication ends pub and everybody's subscription to it.
func (p *Participant) endPublication(pub *publication) {
	p.mu.Lock()
	delete(p.tracks.byID, pub.id)
	p.tracks.order = slices.DeleteFunc(p.tracks.order, func(o *publication) bool { return o.codecs == pub.codecs })
	for mid, o := range p.tracks.bound {
		if o.codecs == pub.codecs {
			delete(p.tracks.bound, mid)
			if in := p.ingest(); in != nil {
				in.bind(mid, nil)
			}
		}
	}
	p.mu.Unlock()
	for _, s := range pub.end() {
		s.p.drop(s)
	}
}

// SetMuted stops or resumes the forwarding of a track of the participant's.
func (p *Participant) SetMuted(trackID string, muted bool) {
	p.mu.Lock()
	pub := p.tracks.byID[trackID]
	p.mu.Unlock()
	if pub != nil {
		pub.setMuted(muted)
	}
}

// bindings is what follows from tying tracks to m-lines. It is done without the participant's lock, as it concerns
// others.
type bindings struct {
	ended   []*publication // their m-lines have stopped
	started []Event        // what m-lines that have come bring
	changed []*publication // tracks whose subscriptions are concerned
}

func (p *Participant) follow(b bindings) {
	for _, pub := range b.ended {
		first := pub.codecs.first()
		switch {
		case first.isEnded(): // with another codec of its track
		case p.codecEnded(pub):
			p.notify(CodecEnded{TrackID: pub.id, Codec: pub.index})
		default:
			p.endPublication(first)
			p.notify(PublicationEnded{TrackID: pub.id})
		}
	}
	for _, e := range b.started {
		p.notify(e)
	}
	for _, pub := range b.changed {
		pub.codecs.settle(p.server.now())
		for _, s := range pub.subscriptions() {
			s.p.nego.kick()
		}
	}
}

// sentOn returns the mids of the m-lines on which the client has sent.
func (p *Participant) sentOn() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	mids := make(map[string]bool, len(p.tracks.sections))
	for i := range p.tracks.sections {
		mids[p.tracks.sections[i].mid] = true
	}
	return mids
}

// bind ties announced tracks to negotiated m-lines: by the msid's track id, else the first of the kind. Called with p.mu
// held.
func (p *Participant) bind() (b bindings) {
	for i := range p.tracks.sections {
		s := &p.tracks.sections[i]
		// The m-line was stopped, or passed on to another track.
		if old := p.tracks.bound[s.mid]; old != nil && (!s.sending || old.cfg.CID != s.track && p.announced(s, true, nil) != nil) {
			delete(p.tracks.bound, s.mid)
			b.ended = append(b.ended, old)
		}
	}
	for _, exact := range []bool{true, false} {
		for i := range p.tracks.sections {
			s := &p.tracks.sections[i]
			if !s.sending || p.tracks.bound[s.mid] != nil || s.kind != "audio" && s.kind != "video" {
				continue
			}
			// An m-line whose track was withdrawn, but which still sends it, is not for the next track that comes along.
			if !exact && p.tracks.claimed[s.mid] == s.track {
				continue
			}
			pub := p.announced(s, exact, b.ended)
			if pub == nil {
				continue
			}
			for mid, o := range p.tracks.bound {
				if o == pub { // it was tied to another for want of the right one
					delete(p.tracks.bound, mid)
				}
			}
			p.tracks.bound[s.mid], p.tracks.claimed[s.mid] = pub, s.track
		}
	}
	in := p.ingest()
	for i := range p.tracks.sections {
		s := &p.tracks.sections[i]
		pub := p.tracks.bound[s.mid]
		if pub == nil || in == nil {
			continue
		}
		in.bind(s.mid, pub)
		known := pub.isReady()
		if !pub.bind(s) {
			continue
		}
		b.changed = append(b.changed, pub.codecs.first())
		mime, first := pub.kind().String(), pub.index == 0
		if !known {
			started := PublicationStarted{TrackID: pub.id, Layers: max(1, len(s.rids))}
			if first {
				started.MimeType = mime
			}
			b.started = append(b.started, started)
		}
		if known || !first {
			b.started = append(b.started, CodecStarted{TrackID: pub.id, Codec: pub.index, MimeType: mime})
		}
	}
	return b
}

// announced returns the publication that could be the one of m-line s: by the exact track id, or the first of its kind
// that has no m-line yet, those of ended left out. Called with p.mu held.
func (p *Participant) announced(s *section, exact bool, ended []*publication) *publication {
	for _, pub := range p.tracks.order {
		if slices.Contains(ended, pub) {
			continue
		}
		if pub.cfg.Kind.String() != s.kind || exact && (pub.cfg.CID == "" || pub.cfg.CID != s.track) {
			continue
		}
		if pub.cfg.CID == "" && len(pub.codecs.all()) > 1 {
			continue // a codec that the publisher has only named
		}
		taken := false
		for mid, o := range p.tracks.bound {
			taken = taken || o == pub && (!exact || p.tracks.claimed[mid] == pub.cfg.CID)
		}
		if !taken {
			return pub
		}
	}
	return nil
}

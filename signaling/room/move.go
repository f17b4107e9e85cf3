package room

import (
	"slices"
	"time"
)

// Transfer is a participant between two rooms, with its tracks.
type Transfer struct{ p *participant }

// Rename sets the name that it is shown by in the room to come.
func (t *Transfer) Rename(name string) { t.p.Name = name }

// MoveOut takes a participant out of the room, to be let into another by MoveIn: its connection, its
// media and its tracks stay. The others see it leave. Whoever has no connection now can't be moved,
// for nothing would tell it.
func (r *Room) MoveOut(now time.Time, id string) (*Transfer, []Effect, error) {
	p, err := r.local(id)
	switch {
	case err != nil:
		return nil, nil, err
	case !p.attached:
		return nil, nil, refuse(NotConnected, "this participant has no connection now")
	}
	for _, t := range p.tracks {
		r.forget(t)
		if t.started {
			r.emit(TrackUnpublished{Track: t.Track.clone()})
		}
	}
	r.vacate(now, p)
	p.version++
	last := p.info()
	last.State, last.Tracks, last.Reason = Departed, nil, Removed
	r.emit(ParticipantLeft{Participant: last})
	r.departed(p, last)
	return &Transfer{p}, r.take(now), nil
}

// MoveIn lets a participant in that left another room by MoveOut, and whose media has followed. One of
// the same identity is evicted first. It takes its place however full the room is: see Full.
func (r *Room) MoveIn(now time.Time, t *Transfer) ([]Effect, error) {
	p := t.p
	if r.finished || r.byID[p.ID] != nil {
		return nil, refuse(NotFound, "the room has ended, or has this participant")
	}
	if old := r.byIdentity[p.Identity]; old != nil {
		r.depart(now, old, DuplicateIdentity, Disconnect)
	}
	p.version++
	p.joinedAt = now
	r.flushDepartures()
	r.add(p)
	if p.attached {
		moved, _ := r.Moved(p.ID)
		r.emit(moved)
	}
	r.emit(ParticipantJoined{Participant: p.info()})
	if p.activated {
		r.emit(ParticipantActive{Participant: p.info()})
	}
	r.changed(p)
	for _, t := range p.tracks {
		t.announced = false
		r.tracks[t.ID] = t
		if t.started {
			r.emit(TrackPublished{Track: t.Track.clone()})
		}
	}
	if q := p.quality; q != Excellent {
		p.quality = Excellent
		r.setQuality(p, q)
	}
	r.tellStanding(p)
	r.reconcileSubscriber(p)
	for _, t := range p.tracks {
		r.reconcileTrack(t)
	}
	return r.take(now), nil
}

// Moved is what a participant has to know that has come from another room.
func (r *Room) Moved(id string) (SendMoved, bool) {
	p := r.byID[id]
	if p == nil {
		return SendMoved{}, false
	}
	return SendMoved{To: p.ID, Self: p.info(), Others: r.othersOf(p), Room: r.Describe()}, true
}

// Full reports whether the room takes nobody more, when so many are expected beside those who are in.
func (r *Room) Full(expected int) bool { return len(r.order)+expected >= r.capacity() }

// forget takes a track out of the room and ends the subscriptions to it.
func (r *Room) forget(t *track) {
	for _, s := range r.order {
		if sub := s.subs[t.ID]; sub != nil {
			if sub.on {
				r.emit(Unsubscribe{Subscriber: s.ID, TrackID: t.ID})
			}
			delete(s.subs, t.ID)
		}
	}
	delete(r.tracks, t.ID)
}

// vacate takes p out of the room's lists.
func (r *Room) vacate(now time.Time, p *participant) {
	delete(r.byID, p.ID)
	if r.byIdentity[p.Identity] == p {
		delete(r.byIdentity, p.Identity)
	}
	r.order = slices.DeleteFunc(r.order, func(q *participant) bool { return q == p })
	r.roomChanged = true
	if len(r.order) == 0 {
		r.emptySince = now
	}
	p.subs = subscriptions{} // they end with its transports, or with the move
	r.stopSpeaking(p.ID)
}

// Grants returns what a participant has said of who may subscribe to its tracks; nil is everybody.
func (r *Room) Grants(id string) *GrantIndex {
	if p := r.byID[id]; p != nil {
		return p.grants
	}
	return nil
}

// MirrorGrants sets what a remote participant has said of who may subscribe to its tracks.
func (r *Room) MirrorGrants(now time.Time, id string, grants *GrantIndex) []Effect {
	p := r.byID[id]
	if p == nil || !p.remote || p.grants == grants {
		return nil
	}
	p.grants = grants
	for _, t := range p.tracks {
		r.reconcileTrack(t)
	}
	return r.take(now)
}

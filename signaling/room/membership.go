package room

import (
	"slices"
	"time"
)

// Join lets a participant in. One of the same identity is evicted first. A refusal leaves the room
// as it was.
func (r *Room) Join(now time.Time, profile Profile) ([]Effect, error) {
	if r.finished {
		return nil, refuse(NotFound, "the room has ended")
	}
	if profile.ID == "" || profile.Identity == "" || r.byID[profile.ID] != nil {
		return nil, refuse(Invalid, "a participant needs an identity and a fresh id")
	}
	old := r.byIdentity[profile.Identity]
	if old == nil && len(r.order) >= r.capacity() {
		return nil, refuse(LimitExceeded, "the room is full")
	}
	if old != nil {
		r.depart(now, old, DuplicateIdentity, Disconnect)
	}
	p := &participant{
		Profile: profile, state: Joined, joinedAt: now, version: 1, quality: Excellent, measured: Excellent, score: bestScore,
		attached: true, deadline: now.Add(r.limits.MediaTimeout), onExpired: JoinFailed,
		subs: subscriptions{},
	}
	r.flushDepartures()
	others := r.othersOf(p)
	r.add(p)
	r.emit(SendJoin{To: p.ID, Self: p.info(), Others: others, Room: r.Describe()},
		OpenMedia{ID: p.ID}, ParticipantJoined{Participant: p.info()})
	r.changed(p)
	r.tellStanding(p)
	r.reconcileSubscriber(p)
	return r.take(now), nil
}

// Resume attaches a new connection to a participant that kept its media. ok is false when there is
// no such participant: the client has to join anew.
func (r *Room) Resume(now time.Time, id, identity string) (effects []Effect, ok bool) {
	p := r.byID[id]
	if p == nil || p.remote || p.Identity != identity {
		return nil, false
	}
	r.flushDepartures()
	if !p.attached && p.media != TransportConnected {
		r.emit(ParticipantBack{Participant: p.info()})
	}
	p.attached = true
	switch {
	case p.state != Active:
		p.deadline, p.onExpired = now.Add(r.limits.MediaTimeout), JoinFailed
	case p.media == TransportConnected:
		p.deadline = time.Time{}
	default:
		p.deadline, p.onExpired = now.Add(r.limits.MediaTimeout), MediaLost
	}
	r.emit(SendReconnect{To: p.ID})
	r.emit(SendUpdate{To: []string{p.ID}, Participants: append([]Info{p.info()}, r.othersOf(p)...)})
	r.emit(SendRoom{To: []string{p.ID}, Room: r.Describe()})
	// An answer to AddTrack may have been lost with the old connection. A client that had it ignores
	// the repetition.
	for _, t := range p.tracks {
		if !t.started {
			r.answerAdd(t, t.CID)
		}
		// The wish that it mutes may have been lost too; its client would take the update's word for a
		// mistake and correct it.
		if t.muteAsked {
			r.emit(SendMute{To: p.ID, TrackID: t.ID, Muted: true})
		}
		for i, c := range t.Codecs {
			if i > 0 && c.CID != "" && !c.Started {
				r.answerAdd(t, c.CID)
			}
		}
		r.tellLayers(t)
	}
	if p.mediaAway() {
		r.setQuality(p, Poor)
	} else {
		r.setQuality(p, p.measured)
	}
	r.tellStanding(p)
	r.emit(RestartICE{ID: p.ID})
	return r.take(now), true
}

// Detach says that a participant's connection is gone. While its media is connected the others hear
// and see it, so it stays and they are told of no loss: some clients take minutes to notice. Without
// media it stays for the departure grace.
func (r *Room) Detach(now time.Time, id string) []Effect {
	p := r.byID[id]
	if p == nil || !p.attached {
		return nil
	}
	p.attached, p.resumeAt = false, time.Time{}
	if p.media == TransportConnected {
		p.deadline = time.Time{}
	} else {
		r.lost(now, p)
	}
	return r.take(now)
}

// Leave takes a participant out at its own wish.
func (r *Room) Leave(now time.Time, id string) []Effect {
	p := r.byID[id]
	if p == nil || p.remote {
		return nil
	}
	p.attached = false // it said goodbye: nothing more is sent to it
	r.depart(now, p, ClientLeft, Disconnect)
	return r.take(now)
}

// Remove takes a participant out for a reason and tells its client what to do next.
func (r *Room) Remove(now time.Time, id string, reason Reason, action LeaveAction) []Effect {
	p := r.byID[id]
	if p == nil || p.remote {
		return nil
	}
	r.depart(now, p, reason, action)
	return r.take(now)
}

// Close takes everybody out and ends the room.
func (r *Room) Close(now time.Time, reason Reason, action LeaveAction) []Effect {
	if r.finished {
		return nil
	}
	for len(r.order) > 0 {
		r.depart(now, r.order[0], reason, action)
	}
	r.finished = true
	out := append(r.take(now), Finished{})
	return out
}

// Transport is the state of one of a participant's transports.
type Transport uint8

const (
	TransportConnected Transport = iota + 1
	TransportDisconnected
	TransportFailed
)

// TransportChanged follows a participant's transports. The primary one makes it Active; while it
// isn't connected the participant is given MediaTimeout to come back.
func (r *Room) TransportChanged(now time.Time, id string, publisher bool, state Transport) []Effect {
	p := r.byID[id]
	if p == nil || p.remote || publisher == p.SubscriberPrimary {
		return nil
	}
	was := p.media
	p.media = state
	switch state {
	case TransportConnected:
		if p.state != Active {
			p.state, p.activated = Active, true
			r.changed(p)
			r.emit(ParticipantActive{Participant: p.info()})
		}
		p.deadline, p.resumeAt = time.Time{}, time.Time{}
		if !p.attached && was != TransportConnected {
			r.emit(ParticipantBack{Participant: p.info()})
		}
		r.setQuality(p, p.measured)
	case TransportDisconnected, TransportFailed:
		switch {
		case !p.attached && was == TransportConnected:
			r.lost(now, p)
		case p.attached:
			r.setQuality(p, Poor)
			if was == TransportConnected {
				p.resumeAt = now.Add(r.limits.ResumeAfter)
			}
			if p.deadline.IsZero() {
				p.deadline, p.onExpired = now.Add(r.limits.MediaTimeout), MediaLost
			}
		}
	}
	return r.take(now)
}

// lost tells that nothing is heard of a participant any more, neither messages nor media, and begins
// its departure grace.
func (r *Room) lost(now time.Time, p *participant) {
	p.deadline, p.onExpired = now.Add(r.limits.DepartureGrace), SignalLost
	r.setQuality(p, Lost)
	r.emit(ParticipantLost{Participant: p.info()})
}

// Mirror adds or updates a participant that lives on another node. Older versions are ignored.
func (r *Room) Mirror(now time.Time, info Info) []Effect {
	if r.finished || info.ID == "" || info.Identity == "" {
		return nil
	}
	p := r.byID[info.ID]
	switch {
	case info.State == Departed:
		if p != nil && p.remote {
			r.depart(now, p, info.Reason, Disconnect)
		}
		return r.take(now)
	case p == nil:
		if old := r.byIdentity[info.Identity]; old != nil {
			r.depart(now, old, DuplicateIdentity, Disconnect)
		}
		p = &participant{remote: true, joinedAt: info.JoinedAt, quality: Excellent, measured: Excellent, score: bestScore, subs: subscriptions{}}
		p.Profile = info.Profile
		r.flushDepartures()
		r.add(p)
	case !p.remote || info.Version <= p.version:
		return nil
	}
	p.Profile, p.state, p.version = info.Profile, info.State, info.Version-1 // changed counts it up
	p.activated = info.Activated
	for _, t := range slices.Clone(p.tracks) {
		if !slices.ContainsFunc(info.Tracks, func(n Track) bool { return n.ID == t.ID }) {
			r.endTrack(t)
		}
	}
	r.changed(p)
	for _, n := range info.Tracks {
		n.Owner = p.ID
		if t := r.tracks[n.ID]; t != nil {
			if t.owner == p {
				t.Track = n
			}
			continue
		}
		t := &track{Track: n, owner: p, started: true, announced: true}
		p.tracks = append(p.tracks, t)
		r.tracks[n.ID] = t
		r.reconcileTrack(t)
	}
	return r.take(now)
}

// NextDeadline returns when Tick has something to do, zero when never.
func (r *Room) NextDeadline() time.Time {
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	earlier(r.changes.due)
	for _, p := range r.order {
		earlier(p.deadline)
		earlier(p.resumeAt)
		for _, t := range p.tracks {
			earlier(t.dynacast.due)
		}
	}
	if !r.finished && len(r.order) == 0 {
		earlier(r.emptySince.Add(r.emptyTimeout(r.visited)))
	}
	return next
}

// Tick does what is due at now.
func (r *Room) Tick(now time.Time) []Effect {
	for _, p := range slices.Clone(r.order) {
		if !p.deadline.IsZero() && !now.Before(p.deadline) {
			action := Disconnect
			if p.onExpired == MediaLost || p.onExpired == JoinFailed {
				action = Reconnect // its connection is alive: a fresh start may get through
			}
			r.depart(now, p, p.onExpired, action)
		} else if !p.resumeAt.IsZero() && !now.Before(p.resumeAt) {
			p.resumeAt = time.Time{}
			r.emit(AskToResume{To: p.ID})
		}
	}
	if !r.changes.due.IsZero() && !now.Before(r.changes.due) {
		r.flush()
	}
	for _, p := range r.order {
		for _, t := range p.tracks {
			if t.dynacast.fall(now) {
				r.tellLayers(t)
			}
		}
	}
	out := r.take(now)
	if !r.finished && len(r.order) == 0 && !now.Before(r.emptySince.Add(r.emptyTimeout(r.visited))) {
		r.finished = true
		out = append(out, Finished{})
	}
	return out
}

func (r *Room) add(p *participant) {
	r.order = append(r.order, p)
	r.byID[p.ID] = p
	r.byIdentity[p.Identity] = p
	r.roomChanged, r.visited = true, true
}

// depart takes p out. The order matters: its client is told, nobody stays subscribed to it, then
// its media closes, then the others hear of it.
func (r *Room) depart(now time.Time, p *participant, reason Reason, action LeaveAction) {
	if p.attached {
		r.emit(SendLeave{To: p.ID, Action: action, Reason: reason})
		p.attached = false
	}
	for _, t := range slices.Clone(p.tracks) {
		r.endTrack(t)
	}
	r.vacate(now, p)
	p.deadline = time.Time{}

	p.state = Departed
	p.version++
	last := p.info()
	last.Reason = reason
	if !p.remote {
		r.emit(CloseMedia{ID: p.ID}, ParticipantLeft{Participant: last})
	} else {
		r.emit(RemoteLeft{Participant: last})
	}
	r.departed(p, last)
}

// othersOf returns what p may see of the others.
func (r *Room) othersOf(p *participant) []Info {
	var out []Info
	for _, q := range r.order {
		if q != p && q.visible() {
			out = append(out, q.info())
		}
	}
	return out
}

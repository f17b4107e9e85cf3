package room

import (
	"maps"
	"slices"
	"time"
)

// changes are the participants whose update, and whose quality, has yet to be told.
type changes struct {
	entries []change
	quality []*participant
	due     time.Time // when they must be told at the latest; zero when there are none
}

// change is a participant that changed, or the last words about one that left or hid. Who hid is not
// told of its own departure.
type change struct {
	p      *participant
	last   *Info
	except string
}

// Metadata is what a participant may change of itself; nil fields stay. An attribute set to "" is
// deleted.
type Metadata struct {
	Name, Metadata *string
	Attributes     map[string]string
}

// UpdateMetadata changes a participant's own name, metadata and attributes. admin skips the
// permission check. maxBytes bounds the attributes' keys and values together.
func (r *Room) UpdateMetadata(now time.Time, id string, m Metadata, admin bool, maxBytes int) ([]Effect, error) {
	p, err := r.local(id)
	if err != nil {
		return nil, err
	}
	if !admin && !p.Permission.UpdateMetadata {
		return nil, refuse(NotAllowed, "this participant may not change its own name, metadata or attributes")
	}
	attributes := maps.Clone(p.Attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	for k, v := range m.Attributes {
		if v == "" {
			delete(attributes, k)
		} else {
			attributes[k] = v
		}
	}
	size := 0
	for k, v := range attributes {
		size += len(k) + len(v)
	}
	if size > maxBytes {
		return nil, refuse(LimitExceeded, "the attributes together are too large")
	}
	p.Attributes = attributes
	if m.Name != nil {
		p.Name = *m.Name
	}
	if m.Metadata != nil {
		p.Metadata = *m.Metadata
	}
	r.changed(p)
	return r.take(now), nil
}

// SetPermission changes what a participant may do. Tracks that it may no longer publish end, and
// subscriptions follow.
func (r *Room) SetPermission(now time.Time, id string, permission Permission) ([]Effect, error) {
	p, err := r.local(id)
	if err != nil {
		return nil, err
	}
	if p.Permission.equal(permission) {
		return nil, nil
	}
	wasVisible := p.visible()
	p.Permission = permission
	r.changed(p)
	for _, t := range slices.Clone(p.tracks) {
		if !permission.mayPublish(t.Source) {
			r.takeTrack(t)
		}
	}
	if wasVisible && !p.visible() {
		gone := p.info()
		gone.State, gone.Tracks, gone.Permission = Departed, nil, Permission{}
		// Whatever order things happen in before they are told: first the departure, then what it
		// is to be told itself, or what all are told once it shows itself again.
		r.changes.entries = slices.DeleteFunc(r.changes.entries, func(c change) bool { return c.p == p })
		r.changes.entries = append(r.changes.entries, change{last: &gone, except: p.ID}, change{p: p})
		r.roomChanged = true
	} else if !wasVisible && p.visible() {
		r.roomChanged = true
	}
	for _, t := range p.tracks {
		r.reconcileTrack(t)
	}
	r.reconcileSubscriber(p)
	return r.take(now), nil
}

// SetRoomMetadata changes the room's own metadata.
func (r *Room) SetRoomMetadata(now time.Time, metadata string) []Effect {
	if r.metadata != metadata {
		r.metadata = metadata
		r.roomChanged = true
		r.flush()
	}
	return r.take(now)
}

// Speakers takes the active speakers, loudest first, and tells what changed: levels of those who
// speak, and who stopped.
func (r *Room) Speakers(now time.Time, speakers []Speaker) []Effect {
	var told []Speaker
	next := map[string]Speaker{}
	for _, s := range speakers {
		p := r.byID[s.Participant]
		if p == nil || !p.visible() || next[s.Participant].Active {
			continue
		}
		s.Active = true
		next[s.Participant] = s
		if r.speaking[s.Participant] != s {
			told = append(told, s)
		}
	}
	// In the order of joining: what is sent must not depend on the order of a map.
	for _, p := range r.order {
		if r.speaking[p.ID].Active && !next[p.ID].Active {
			told = append(told, Speaker{Participant: p.ID})
		}
	}
	r.speaking = next
	if to := r.listeners(""); len(told) > 0 && len(to) > 0 {
		r.emit(SendSpeakers{To: to, Speakers: told})
	}
	return r.take(now)
}

func (r *Room) stopSpeaking(id string) { delete(r.speaking, id) }

// tellStanding tells a participant, who has just arrived, what the others were told before: who
// speaks, and whose connection is not well.
func (r *Room) tellStanding(p *participant) {
	var speakers []Speaker
	var qualities []ParticipantQuality
	for _, q := range r.order {
		if s := r.speaking[q.ID]; s.Active && q != p {
			speakers = append(speakers, s)
		}
		if q != p && q.visible() && q.quality != Excellent {
			qualities = append(qualities, q.qualityLine())
		}
	}
	if len(speakers) > 0 {
		r.emit(SendSpeakers{To: []string{p.ID}, Speakers: speakers})
	}
	if len(qualities) > 0 {
		r.emit(SendQuality{To: []string{p.ID}, Qualities: qualities})
	}
	for _, q := range r.order {
		for _, t := range q.tracks {
			if sub := p.subs[t.ID]; sub != nil && sub.on && sub.paused {
				r.tellStream(p, t, true)
			}
		}
	}
}

// changed counts p's version up and remembers to tell of it.
func (r *Room) changed(p *participant) {
	p.version++
	for _, c := range r.changes.entries {
		if c.p == p {
			return
		}
	}
	r.changes.entries = append(r.changes.entries, change{p: p})
}

// departed remembers the last words about p, after whatever else was to be told.
func (r *Room) departed(p *participant, last Info) {
	r.changes.entries = slices.DeleteFunc(r.changes.entries, func(c change) bool { return c.p == p })
	r.changes.quality = slices.DeleteFunc(r.changes.quality, func(q *participant) bool { return q == p })
	if p.visible() {
		r.changes.entries = append(r.changes.entries, change{last: &last})
	}
}

func (r *Room) setQuality(p *participant, q Quality) {
	if p.quality == q {
		return
	}
	p.quality = q
	r.tellQuality(p)
}

func (r *Room) tellQuality(p *participant) {
	if !slices.Contains(r.changes.quality, p) {
		r.changes.quality = append(r.changes.quality, p)
	}
}

// settle tells changes at once in a small room, and sets a time for them in a large one.
func (r *Room) settle(now time.Time) {
	if len(r.changes.entries) == 0 && len(r.changes.quality) == 0 && !r.roomChanged {
		return
	}
	if len(r.order) <= r.limits.CoalesceAbove {
		r.flush()
	} else if r.changes.due.IsZero() {
		r.changes.due = now.Add(r.limits.CoalesceInterval)
	}
}

// flushFor tells changes now if p is among them.
func (r *Room) flushFor(p *participant) {
	for _, c := range r.changes.entries {
		if c.p == p {
			r.flush()
			return
		}
	}
}

// flushDepartures tells of departures before somebody arrives: the newcomer, who never saw who left,
// might take the news for one of the same identity that is here now.
func (r *Room) flushDepartures() {
	for _, c := range r.changes.entries {
		if c.last != nil {
			r.flush()
			return
		}
	}
}

// flush tells everybody what changed. Hidden participants hear of themselves, nobody else does.
func (r *Room) flush() {
	entries, quality := r.changes.entries, r.changes.quality
	r.changes = changes{}
	to := r.listeners("")
	var shown []Info
	tell := func() {
		if len(shown) > 0 && len(to) > 0 {
			r.emit(SendUpdate{To: to, Participants: shown})
		}
		shown = nil
	}
	for _, c := range entries {
		switch {
		case c.except != "":
			tell()
			if others := r.listeners(c.except); len(others) > 0 {
				r.emit(SendUpdate{To: others, Participants: []Info{*c.last}})
			}
		case c.last != nil:
			shown = append(shown, *c.last)
		case c.p.visible():
			shown = append(shown, c.p.info())
		case c.p.attached:
			r.emit(SendUpdate{To: []string{c.p.ID}, Participants: []Info{c.p.info()}})
		}
	}
	tell()
	if len(to) == 0 {
		r.roomChanged = false
		return
	}
	if r.roomChanged {
		r.roomChanged = false
		r.emit(SendRoom{To: to, Room: r.Describe()})
	}
	var known []ParticipantQuality
	for _, p := range quality {
		// A client that hears of its own connection as lost for 10 s reconnects from scratch: its own
		// quality is never told below Poor. A detached participant can't hear anyway.
		switch {
		case p.visible() && p.quality != Lost:
			known = append(known, p.qualityLine())
		case p.visible():
			if others := r.listeners(p.ID); len(others) > 0 {
				r.emit(SendQuality{To: others, Qualities: []ParticipantQuality{p.qualityLine()}})
			}
		}
	}
	if len(known) > 0 {
		r.emit(SendQuality{To: to, Qualities: known})
	}
}

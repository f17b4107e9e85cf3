package room

import (
	"slices"
	"time"
)

// Limits of a room. Zero values take the default named beside them.
type Limits struct {
	// Participants in the room, hidden ones included. 0 is 1000.
	Participants int
	// Tracks per participant. 0 is 16.
	Tracks int
	// DepartureGrace is how long a participant stays that has neither connection nor media. 0 is 30 s.
	DepartureGrace time.Duration
	// ResumeAfter is how long media may be away before a client that is still connected is asked to
	// resume, which restarts ICE. 0 is 2 s.
	ResumeAfter time.Duration
	// MediaTimeout is how long media may take to connect, or to come back. 0 is 60 s.
	MediaTimeout time.Duration
	// EmptyTimeout is how long an empty room stays. 0 is 20 s, negative is not at all.
	EmptyTimeout time.Duration
	// LayerDelay is how long a layer that nobody wants any more goes on. 0 is 3 s.
	LayerDelay time.Duration
	// CoalesceAbove is the number of participants above which updates wait for CoalesceInterval.
	// 0 is 16, and 100 ms.
	CoalesceAbove    int
	CoalesceInterval time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Participants, 1000)
	def(&l.Tracks, 16)
	def(&l.CoalesceAbove, 16)
	dur(&l.DepartureGrace, 30*time.Second)
	dur(&l.ResumeAfter, 2*time.Second)
	dur(&l.MediaTimeout, 60*time.Second)
	dur(&l.EmptyTimeout, 20*time.Second)
	dur(&l.LayerDelay, 3*time.Second)
	dur(&l.CoalesceInterval, 100*time.Millisecond)
	return l
}

// Room is the state of one room. Not safe for concurrent use.
type Room struct {
	id, name  string
	metadata  string
	createdAt time.Time
	limits    Limits
	policy    Policy
	visited   bool // somebody has been here

	order      []*participant // in the order of joining
	byID       map[string]*participant
	byIdentity map[string]*participant
	tracks     map[string]*track

	speaking map[string]Speaker
	changes  changes
	// roomChanged: the description differs from what was last sent.
	roomChanged bool
	emptySince  time.Time
	finished    bool

	out []Effect
}

// New returns an empty room that was created now.
func New(id, name string, limits Limits, now time.Time) *Room {
	return &Room{
		id: id, name: name, createdAt: now, limits: limits.withDefaults(),
		byID: map[string]*participant{}, byIdentity: map[string]*participant{},
		tracks: map[string]*track{}, speaking: map[string]Speaker{},
		emptySince: now,
	}
}

// ID returns the room's id (RM_…).
func (r *Room) ID() string { return r.id }

// Describe returns what the room shows of itself.
func (r *Room) Describe() Description {
	d := Description{ID: r.id, Name: r.name, Metadata: r.metadata, CreatedAt: r.createdAt, Max: r.capacity()}
	d.EmptyTimeout, d.DepartureTimeout = r.emptyTimeout(false), r.emptyTimeout(true)
	for _, p := range r.order {
		if p.visible() {
			d.Participants++
			if len(p.tracks) > 0 {
				d.Publishers++
			}
		}
	}
	return d
}

// Participants returns everybody in the room, hidden ones included, in the order of joining.
func (r *Room) Participants() []Info {
	out := make([]Info, 0, len(r.order))
	for _, p := range r.order {
		out = append(out, p.info())
	}
	return out
}

// Connected returns the identities of those of whom anything is heard now, messages or media: not of
// those who are lost and may yet come back.
func (r *Room) Connected() []string {
	var out []string
	for _, p := range r.order {
		if p.remote || p.attached || p.media == TransportConnected {
			out = append(out, p.Identity)
		}
	}
	return out
}

// Participant returns one participant by id.
func (r *Room) Participant(id string) (Info, bool) {
	if p := r.byID[id]; p != nil {
		return p.info(), true
	}
	return Info{}, false
}

// IDOf returns the participant id that an identity has in the room.
func (r *Room) IDOf(identity string) (string, bool) {
	if p := r.byIdentity[identity]; p != nil {
		return p.ID, true
	}
	return "", false
}

// Track returns one published track.
func (r *Room) Track(id string) (Track, bool) {
	if t := r.tracks[id]; t != nil {
		return t.Track.clone(), true
	}
	return Track{}, false
}

// Finished reports whether the room has ended.
func (r *Room) Finished() bool { return r.finished }

// Hidden reports whether a participant is shown to nobody but itself.
func (r *Room) Hidden(id string) bool {
	p := r.byID[id]
	return p != nil && !p.visible()
}

// DataRecipients returns the local participants that a data packet of sender goes to: all that may
// be told of the sender, or those of the given identities. The sender itself never receives it.
func (r *Room) DataRecipients(sender string, identities []string) ([]string, error) {
	from := r.byID[sender]
	if from == nil {
		return nil, refuse(NotFound, "the sender is not in the room")
	}
	if !from.Permission.PublishData {
		return nil, refuse(NotAllowed, "this participant may not send data")
	}
	var to []string
	if len(identities) == 0 {
		for _, p := range r.order {
			if p != from && !p.remote {
				to = append(to, p.ID)
			}
		}
		return to, nil
	}
	for _, identity := range identities {
		p := r.byIdentity[identity]
		if p != nil && p != from && !p.remote && !slices.Contains(to, p.ID) {
			to = append(to, p.ID)
		}
	}
	return to, nil
}

// emit appends effects to the running event's result.
func (r *Room) emit(e ...Effect) { r.out = append(r.out, e...) }

// take ends an event: changes are told, and its effects handed out.
func (r *Room) take(now time.Time) []Effect {
	r.settle(now)
	out := r.out
	r.out = nil
	return out
}

// listeners returns the ids of everybody that can be written to, but for one.
func (r *Room) listeners(except string) []string {
	var to []string
	for _, p := range r.order {
		if p.attached && p.ID != except {
			to = append(to, p.ID)
		}
	}
	return to
}

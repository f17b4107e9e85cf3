package room

import (
	"slices"
	"time"
)

// Policy is what whoever makes a room may set. Zero fields leave the room's Limits as they are.
type Policy struct {
	// EmptyTimeout is how long the room stays while nobody has come, DepartureTimeout how long after
	// the last has left.
	EmptyTimeout, DepartureTimeout time.Duration
	// Participants at most; Limits.Participants bounds it.
	Participants int
}

// SetPolicy changes the fields of the room's policy that are set. Whoever is in the room stays,
// however few it may take from now on.
func (r *Room) SetPolicy(now time.Time, p Policy) []Effect {
	was := r.policy
	if p.EmptyTimeout > 0 {
		r.policy.EmptyTimeout = p.EmptyTimeout
	}
	if p.DepartureTimeout > 0 {
		r.policy.DepartureTimeout = p.DepartureTimeout
	}
	if p.Participants > 0 {
		r.policy.Participants = p.Participants
	}
	r.roomChanged = r.roomChanged || r.policy != was
	return r.take(now)
}

// emptyTimeout is how long the room stays empty, before anybody came or after the last has left.
func (r *Room) emptyTimeout(visited bool) time.Duration {
	d := r.policy.EmptyTimeout
	if visited {
		d = r.policy.DepartureTimeout
	}
	if d == 0 {
		d = r.limits.EmptyTimeout
	}
	return max(d, 0)
}

// capacity is how many participants the room takes.
func (r *Room) capacity() int {
	if r.policy.Participants > 0 {
		return min(r.policy.Participants, r.limits.Participants)
	}
	return r.limits.Participants
}

// Audience returns the local participants that a data packet of the server goes to: all, or those of
// the given identities.
func (r *Room) Audience(identities []string) []string {
	var to []string
	for _, p := range r.order {
		if !p.remote && (len(identities) == 0 || slices.Contains(identities, p.Identity)) {
			to = append(to, p.ID)
		}
	}
	return to
}

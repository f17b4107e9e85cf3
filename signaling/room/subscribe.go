package room

import (
	"slices"
	"time"
)

// subscriptions of one participant by track id. There is an entry only where something is on, or
// was said by hand.
type subscriptions map[string]*subscription

type subscription struct {
	// wanted, when set, is what the subscriber said by hand; otherwise AutoSubscribe decides.
	wanted *bool
	// on: Subscribe was emitted and neither failed nor was undone.
	on bool
	// denied: the subscriber was told that the publisher does not allow it.
	denied bool
	// lacking: the subscriber has none of the track's codecs. It is tried again when one is added.
	lacking bool
	// paused: the subscriber was told that nothing comes.
	paused   bool
	settings *Settings
}

// SubscriptionGrants say who may subscribe to a publisher's tracks.
type SubscriptionGrants struct {
	// Everybody may subscribe to everything; the rest is then ignored.
	Everybody bool
	Grants    []SubscriptionGrant
}

// SubscriptionGrant allows one participant, by id or identity, some tracks or all.
type SubscriptionGrant struct {
	Participant, Identity string
	AllTracks             bool
	Tracks                []string
}

// GrantIndex finds the grants of a subscriber: a list may have thousands, and each track asks for each subscriber. It
// doesn't change; nil allows everybody.
type GrantIndex struct {
	everybody      bool
	identity, byID map[string][]SubscriptionGrant // those that name no identity are found by participant
}

// IndexGrants makes an index of a list.
func IndexGrants(g SubscriptionGrants) *GrantIndex {
	x := &GrantIndex{everybody: g.Everybody, identity: map[string][]SubscriptionGrant{}, byID: map[string][]SubscriptionGrant{}}
	for _, grant := range g.Grants {
		if grant.Identity != "" {
			x.identity[grant.Identity] = append(x.identity[grant.Identity], grant)
		} else if grant.Participant != "" {
			x.byID[grant.Participant] = append(x.byID[grant.Participant], grant)
		}
	}
	return x
}

func (x *GrantIndex) allow(subscriber *participant, trackID string) bool {
	if x == nil || x.everybody {
		return true
	}
	for _, grant := range x.identity[subscriber.Identity] {
		if (grant.Participant == "" || grant.Participant == subscriber.ID) && grant.covers(trackID) {
			return true
		}
	}
	for _, grant := range x.byID[subscriber.ID] {
		if grant.covers(trackID) {
			return true
		}
	}
	return false
}

func (g SubscriptionGrant) covers(trackID string) bool {
	return g.AllTracks || slices.Contains(g.Tracks, trackID)
}

// UpdateSubscription subscribes to, or unsubscribes from, tracks by hand. A wish for a track that
// isn't there yet is refused with TrackNotFound, the others are carried out all the same.
func (r *Room) UpdateSubscription(now time.Time, id string, trackIDs []string, subscribe bool) ([]Effect, error) {
	s, err := r.local(id)
	if err != nil {
		return nil, err
	}
	if subscribe && !s.Permission.Subscribe {
		return nil, refuse(NotAllowed, "this participant may not subscribe")
	}
	for _, trackID := range trackIDs {
		t := r.tracks[trackID]
		if t == nil || t.owner == s || !t.owner.visible() {
			if subscribe && s.attached {
				r.emit(SendSubscriptionError{To: s.ID, TrackID: trackID, Failure: TrackNotFound})
			}
			continue
		}
		sub := s.subs.entry(trackID)
		sub.wanted, sub.lacking = &subscribe, false
		r.reconcile(s, t)
	}
	return r.take(now), nil
}

// Configure sets a subscriber's wishes for tracks. They may precede the subscription; unknown tracks
// are skipped, since settings race with the end of a track.
func (r *Room) Configure(now time.Time, id string, trackIDs []string, settings Settings) []Effect {
	s, err := r.local(id)
	if err != nil {
		return nil
	}
	for _, trackID := range trackIDs {
		t := r.tracks[trackID]
		if t == nil || t.owner == s {
			continue
		}
		sub := s.subs.entry(trackID)
		sub.settings = &settings
		if sub.on {
			r.emit(Configure{Subscriber: s.ID, TrackID: trackID, Settings: settings})
		}
	}
	return r.take(now)
}

// SetSubscriptionPermission changes who may subscribe to a participant's tracks, the present ones
// and those to come.
func (r *Room) SetSubscriptionPermission(now time.Time, id string, grants SubscriptionGrants) ([]Effect, error) {
	p, err := r.local(id)
	if err != nil {
		return nil, err
	}
	p.grants = IndexGrants(grants)
	for _, t := range p.tracks {
		r.reconcileTrack(t)
	}
	return r.take(now), nil
}

// Subscribed says that a subscription was set up in the SFU.
func (r *Room) Subscribed(now time.Time, id, trackID string) []Effect {
	s, t := r.byID[id], r.tracks[trackID]
	if s == nil || t == nil || s.subs[trackID] == nil || !s.subs[trackID].on {
		return nil
	}
	if !t.announced {
		t.announced = true
		if t.owner.attached {
			r.emit(SendTrackSubscribed{To: t.owner.ID, TrackID: trackID})
		}
	}
	return r.take(now)
}

// SubscriptionFailed says that the SFU could not set up, or gave up, a subscription. It is not tried
// again until the subscriber asks for it or, where it lacks the codec, the track gets another one.
func (r *Room) SubscriptionFailed(now time.Time, id, trackID string, failure SubscriptionFailure) []Effect {
	s := r.byID[id]
	if s == nil {
		return nil
	}
	sub := s.subs[trackID]
	if sub == nil || !sub.on {
		return nil
	}
	sub.on, sub.paused = false, false
	if sub.lacking = failure == CodecUnsupported; !sub.lacking {
		no := false
		sub.wanted = &no
	}
	if s.attached {
		r.emit(SendSubscriptionError{To: id, TrackID: trackID, Failure: failure})
	}
	return r.take(now)
}

// SubscriptionStalled says that a subscription has nowhere to go for now. The subscriber is told; the
// subscription stays, since its place may yet come.
func (r *Room) SubscriptionStalled(now time.Time, id, trackID string) []Effect {
	s := r.byID[id]
	if s == nil || s.subs[trackID] == nil || !s.subs[trackID].on {
		return nil
	}
	if s.attached {
		r.emit(SendSubscriptionError{To: id, TrackID: trackID, Failure: FailureUnknown})
	}
	return r.take(now)
}

// Unwanted reports whether a participant has unsubscribed from a track by hand.
func (r *Room) Unwanted(id, trackID string) bool {
	p := r.byID[id]
	return p != nil && p.subs[trackID] != nil && p.subs[trackID].wanted != nil && !*p.subs[trackID].wanted
}

// IsSubscribed reports whether a participant is subscribed to a track.
func (r *Room) IsSubscribed(id, trackID string) bool {
	p := r.byID[id]
	return p != nil && p.subs[trackID] != nil && p.subs[trackID].on
}

// reconcile brings one subscription to where it should be.
func (r *Room) reconcile(s *participant, t *track) {
	if s == t.owner || s.remote {
		return
	}
	sub := s.subs[t.ID]
	wanted := s.AutoSubscribe
	if sub != nil && sub.wanted != nil {
		wanted = *sub.wanted
	}
	wanted = wanted && (sub == nil || !sub.lacking)
	wanted = wanted && s.Permission.Subscribe && t.started && t.owner.visible()
	allowed := t.owner.grants.allow(s, t.ID)

	if wanted && !allowed {
		if sub := s.subs.entry(t.ID); !sub.denied {
			sub.denied = true
			r.tellPermission(s, t, false)
		}
	} else if sub != nil && sub.denied && allowed {
		sub.denied = false
		r.tellPermission(s, t, true)
	}
	on := sub != nil && sub.on
	switch want := wanted && allowed; {
	case want && !on:
		sub = s.subs.entry(t.ID)
		sub.on = true
		r.flushFor(t.owner) // "a participant's update precedes its track"
		r.emit(Subscribe{Subscriber: s.ID, TrackID: t.ID})
		if sub.settings != nil {
			r.emit(Configure{Subscriber: s.ID, TrackID: t.ID, Settings: *sub.settings})
		}
	case !want && on:
		sub.on, sub.paused = false, false
		r.emit(Unsubscribe{Subscriber: s.ID, TrackID: t.ID})
	}
}

func (r *Room) tellPermission(s *participant, t *track, allowed bool) {
	if s.attached {
		r.flushFor(t.owner)
		r.emit(SendSubscriptionPermission{To: s.ID, Owner: t.owner.ID, TrackID: t.ID, Allowed: allowed})
	}
}

// reconcileTrack does it for everybody and one track.
func (r *Room) reconcileTrack(t *track) {
	for _, s := range r.order {
		r.reconcile(s, t)
	}
}

// reconcileSubscriber does it for one participant and all tracks.
func (r *Room) reconcileSubscriber(s *participant) {
	for _, p := range r.order {
		for _, t := range p.tracks {
			r.reconcile(s, t)
		}
	}
}

func (m subscriptions) entry(trackID string) *subscription {
	sub := m[trackID]
	if sub == nil {
		sub = &subscription{}
		m[trackID] = sub
	}
	return sub
}

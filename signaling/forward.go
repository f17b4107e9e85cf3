package signaling

import (
	"context"
	"slices"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// A forwarded participant is one that lives elsewhere, for the room that shows it: package room mirrors
// it, as it will participants of other nodes. Its own room tells the other of every change, and of its
// end; the other tells its own room when it shows it no longer.

// showing is a further room in which a session's tracks are shown. It belongs to the session's room.
type showing struct {
	name, id string // of the further room
	ready    bool   // its participants find the tracks
	version  uint32 // of the participant, as last told
	grants   *room.GrantIndex
	done     chan<- error // of the API call, until it is answered; has room for one
}

// forwardParticipant shows a participant with its tracks in a second room, until it leaves its own, or
// is removed there.
func (s *Server) forwardParticipant(ctx context.Context, m *wire.ForwardParticipantRequest) (*wire.ForwardParticipantResponse, error) {
	if err := s.lead(ctx, m.GetRoom(), m.GetIdentity(), m.GetDestinationRoom(), (*actor).show); err != nil {
		return nil, err
	}
	return &wire.ForwardParticipantResponse{}, nil
}

// maxShowings is in how many further rooms a participant may be shown.
const maxShowings = 16

func (a *actor) show(s *session, to destination, done chan<- error) error {
	if slices.ContainsFunc(s.shown, func(sh *showing) bool { return sh.name == to.name }) {
		return twirp.Errorf(twirp.FailedPrecondition, "this participant is about to be shown there")
	}
	if len(s.shown) >= maxShowings {
		return &room.Refusal{Code: room.LimitExceeded, Text: "this participant is shown in as many rooms as are allowed"}
	}
	sh := &showing{name: to.name, id: to.id, done: done}
	s.shown = append(s.shown, sh)
	a.showings++
	s.worker.always(func(p Peer) {
		err := error(twirp.Errorf(twirp.Unavailable, "the participant has no media"))
		if p != nil {
			err = p.Show(sh.id)
		}
		s.post(func(a *actor) {
			switch {
			case !slices.Contains(s.shown, sh): // ended meanwhile
			case err != nil:
				a.hide(s, sh, room.MediaLost)
				sh.answer(err)
			default:
				sh.ready = true // tellShowings does the rest
			}
		})
	})
	return nil
}

func (sh *showing) answer(err error) {
	if sh.done != nil {
		sh.done <- err
		sh.done = nil
	}
}

// tellShowings tells other rooms what has changed about participants that they show.
func (a *actor) tellShowings() {
	if a.showings == 0 {
		return
	}
	for _, s := range a.sessions {
		for _, sh := range slices.Clone(s.shown) {
			info, ok := a.room.Participant(s.id)
			grants := a.room.Grants(s.id)
			if !ok || !sh.ready || info.Version == sh.version && grants == sh.grants {
				continue
			}
			sh.version, sh.grants = info.Version, grants
			info.Forwarded = true
			done := sh.done
			sh.done = nil
			from := guestOf{room: a.name, identity: s.identity}
			told := a.srv.tell(sh.name, func(b *actor) { b.mirror(info, grants, sh.id, from, done) })
			if !told {
				sh.done = done
				a.hide(s, sh, room.RoomDeleted)
				sh.answer(noRoom(sh.name))
			}
		}
	}
}

// hide ends a showing.
func (a *actor) hide(s *session, sh *showing, reason room.Reason) {
	s.shown = slices.DeleteFunc(s.shown, func(o *showing) bool { return o == sh })
	a.showings--
	s.worker.do(func(p Peer) { p.Hide(sh.id) })
	sh.answer(twirp.Errorf(twirp.NotFound, "the participant has left"))
	gone := room.Info{Profile: room.Profile{ID: s.id, Identity: s.identity}, State: room.Departed, Reason: reason}
	a.srv.tell(sh.name, func(b *actor) {
		if !b.over {
			b.apply(b.room.Mirror(time.Now(), gone))
		}
	})
}

// hideAll ends all showings of a session that leaves its room.
func (a *actor) hideAll(s *session, reason room.Reason) {
	for _, sh := range slices.Clone(s.shown) {
		a.hide(s, sh, reason)
	}
}

// guestOf is where a forwarded participant lives.
type guestOf struct{ room, identity string }

// mirror shows, in this room, a participant of another, or what has changed about it.
func (a *actor) mirror(info room.Info, grants *room.GrantIndex, roomID string, from guestOf, done chan<- error) {
	now := time.Now()
	_, known := a.room.Participant(info.ID)
	_, taken := a.room.IDOf(info.Identity)
	var err error
	switch {
	case a.over || a.room.ID() != roomID:
		err = noRoom(a.name)
	case !known && done == nil:
		return // it was removed here, and its room will hear of that
	case !known && taken:
		err = twirp.Errorf(twirp.FailedPrecondition, "the identity %.80q is in the room %.80q already", info.Identity, a.name)
	}
	if err == nil {
		if a.guests == nil {
			a.guests = map[string]guestOf{}
		}
		a.guests[info.ID] = from
		if !known {
			// Nobody may subscribe to what the participant keeps from them: grants come before tracks.
			tracks := info.Tracks
			info.Tracks, info.Version = nil, info.Version-1
			a.apply(a.room.Mirror(now, info))
			a.apply(a.room.MirrorGrants(now, info.ID, grants))
			info.Tracks, info.Version = tracks, info.Version+1
		}
		a.apply(a.room.MirrorGrants(now, info.ID, grants))
		a.apply(a.room.Mirror(now, info))
		if !known {
			a.observeParticipant(ParticipantJoined, info)
			if info.Activated {
				a.observeParticipant(ParticipantActive, info)
			}
		}
	} else {
		a.sendHome(info.ID, from)
	}
	if done != nil {
		done <- err
	}
}

// guestLeft follows a forwarded participant that is shown here no longer.
func (a *actor) guestLeft(e room.RemoteLeft) {
	from, ok := a.guests[e.Participant.ID]
	if !ok {
		return
	}
	delete(a.guests, e.Participant.ID)
	e.Participant.Forwarded = true
	a.observeParticipant(ParticipantLeft, e.Participant)
	a.sendHome(e.Participant.ID, from)
}

// sendHome tells the room that a forwarded participant lives in that it is not shown here.
func (a *actor) sendHome(id string, from guestOf) {
	name := a.name
	a.srv.tell(from.room, func(b *actor) {
		s := b.sessions[id]
		if s == nil {
			return
		}
		for _, sh := range s.shown {
			if sh.name == name {
				b.hide(s, sh, room.Removed)
				return
			}
		}
	})
}

// removeGuest takes a forwarded participant out of the room that shows it.
func (a *actor) removeGuest(identity string) bool {
	id, ok := a.room.IDOf(identity)
	if _, guest := a.guests[id]; !ok || !guest {
		return false
	}
	a.apply(a.room.Mirror(time.Now(), room.Info{
		Profile: room.Profile{ID: id, Identity: identity}, State: room.Departed, Reason: room.Removed,
	}))
	return true
}

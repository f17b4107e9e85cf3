package signaling

import (
	"context"
	"errors"
	"net/http"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// A participant moves in these steps, so that each room is touched on its own goroutine, and what
// fails leaves everything as it was:
//
//  1. The application is asked whether it may be in the other room, which keeps a place for it.
//  2. Its room lets it go: the others see it leave. From here on its session's inbox waits.
//  3. Its worker moves the media.
//  4. The other room takes it in, tells its client and the others, and opens the inbox.

// moveTimeout is how long the API waits for a participant's media to follow.
const moveTimeout = 10 * time.Second

// destination is a room that somebody is to be shown in. It keeps a place while it is asked.
type destination struct {
	name, id string
	at       *actor
	// admission is what the application says of the participant there.
	admission Admission
}

// destine finds out whether a participant may come to a room, and keeps a place there. release gives
// the place back.
func (s *Server) destine(ctx context.Context, from, identity, to string) (d destination, err error) {
	if err := wire.CheckRoomName(to); err != nil {
		return d, badArgument(err)
	}
	if from == to {
		return d, twirp.Errorf(twirp.InvalidArgument, "the destination is the participant's own room")
	}
	var claims wire.Claims
	if err := s.call(from, identity, func(a *actor, p *session) error {
		claims = a.presentClaims(p)
		return nil
	}); err != nil {
		return d, err
	}
	claims.Video.Room = to
	d.name = to
	if d.admission, err = s.authorize(ctx, claims, Join); err != nil {
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			return d, err
		}
		if refusal.Status == http.StatusNotFound {
			return d, twirp.Errorf(twirp.NotFound, "%s", refusal.Text)
		}
		return d, twirp.Errorf(twirp.PermissionDenied, "%s", refusal.Text)
	}
	return d, s.visit(to, func(a *actor) error {
		if _, there := a.room.IDOf(identity); there {
			return twirp.Errorf(twirp.FailedPrecondition, "the identity %.80q is in the room %.80q already", identity, to)
		}
		if a.room.Full(a.expected) {
			return &room.Refusal{Code: room.LimitExceeded, Text: "the room is full"}
		}
		a.expected++
		d.id, d.at = a.room.ID(), a
		return nil
	})
}

func (d destination) release() {
	if d.at != nil {
		d.at.post(func(a *actor) { a.expected-- })
	}
}

// await waits for what the rooms do.
func await(ctx context.Context, done <-chan error) error {
	timer := time.NewTimer(moveTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return twirp.Errorf(twirp.DeadlineExceeded, "the participant's media did not follow within %v", moveTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead has the actor of a participant's room do something that concerns a second room too, and waits until it is done.
func (s *Server) lead(ctx context.Context, from, identity, destinationRoom string, do func(*actor, *session, destination, chan<- error) error) error {
	to, err := s.destine(ctx, from, identity, destinationRoom)
	defer to.release()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	if err := s.call(from, identity, func(a *actor, p *session) error { return do(a, p, to, done) }); err != nil {
		return err
	}
	return await(ctx, done)
}

// moveParticipant brings a participant, with its connection, media and tracks, into another room.
func (s *Server) moveParticipant(ctx context.Context, m *wire.MoveParticipantRequest) (*wire.MoveParticipantResponse, error) {
	if err := s.lead(ctx, m.GetRoom(), m.GetIdentity(), m.GetDestinationRoom(), (*actor).moveOut); err != nil {
		return nil, err
	}
	return &wire.MoveParticipantResponse{}, nil
}

// voyage is a session between two rooms. Nobody else touches it meanwhile.
type voyage struct {
	*session
	transfer *room.Transfer
	to       destination
	done     chan<- error // has room for one
}

func (a *actor) moveOut(s *session, to destination, done chan<- error) error {
	transfer, effects, err := a.room.MoveOut(time.Now(), s.id)
	if err != nil {
		return err
	}
	s.log.Info("participant moves", "to", to.name)
	a.hideAll(s, room.Removed)
	s.depart()
	s.moving = true // it leaves with the effects below, and takes its connection along
	a.dropCalls(s.id)
	a.rememberMove(s.id, to.name)
	a.apply(effects)
	if to.admission.Name != "" {
		transfer.Rename(to.admission.Name)
	}
	v := &voyage{session: s, transfer: transfer, to: to, done: done}
	s.worker.always(func(p Peer) { a.srv.land(v, to.id, p) })
	return nil
}

// land moves the media, on the session's worker, and has the other room take the session in.
func (s *Server) land(v *voyage, roomID string, p Peer) {
	err := errors.New("there is no media")
	if p != nil {
		err = p.Move(roomID)
	}
	if lost := s.post(v.to.name, true, func(a *actor) { a.moveIn(v, roomID, err) }); lost != nil {
		v.strand(lost)
	}
}

// strand ends a session that no room takes in: the server stops.
func (v *voyage) strand(err error) {
	if v.conn != nil {
		if frame, err := wire.EncodeResponse(wire.Leave(wire.LeaveReconnect, wire.ReasonServerShutdown)); err == nil {
			v.conn.send(frame)
		}
		v.conn.close(closeNormal, "")
	}
	v.worker.close()
	v.done <- err
}

func (a *actor) moveIn(v *voyage, roomID string, moved error) {
	s, now := v.session, time.Now()
	if a.over {
		if a.srv.stopping() {
			v.strand(errClosing)
			return
		}
		a.reopen(room.Policy{}, "")
	}
	if moved == nil && a.room.ID() != roomID {
		id := a.room.ID() // the room ended, and began anew
		s.worker.always(func(p Peer) { a.srv.land(v, id, p) })
		return
	}
	s.claims.Video.Room, s.claims.Room = a.name, nil // what it said of a room was of the other
	s.log = a.log.With("participant", s.id, "identity", s.identity)
	s.refreshAt = now.Add(a.srv.cfg.TokenLifetime / 2)
	a.sessions[s.id], s.moving = s, false
	delete(a.moved, s.id) // it is back: whoever looks for it here has found it
	effects, err := a.room.MoveIn(now, v.transfer)
	if err != nil {
		delete(a.sessions, s.id)
		v.strand(err)
		return
	}
	a.apply(effects)
	if moved != nil {
		s.log.Error("cannot move media", "err", moved)
		a.apply(a.room.Remove(now, s.id, room.JoinFailed, room.Reconnect))
	}
	s.settle(a)
	v.done <- moved
}

// roomMoved tells a client where it is now.
func (a *actor) roomMoved(s *session, e room.SendMoved) *wire.SignalResponse {
	token := ""
	if secret, ok := a.srv.cfg.Keys(s.claims.APIKey); ok {
		now := time.Now()
		var err error
		token, err = wire.MintAt(s.claims.APIKey, secret, a.presentClaims(s), max(a.srv.cfg.TokenLifetime, s.claims.ExpiresAt.Sub(now)), now)
		if err != nil {
			s.log.Error("cannot make a token", "err", err)
		}
	}
	return &wire.SignalResponse{Message: &wire.ResponseRoomMoved{RoomMoved: &wire.RoomMoved{
		Room: roomInfo(e.Room), Token: token, Participant: participantInfo(e.Self), OtherParticipants: participantInfos(e.Others),
	}}}
}

// maxMoved bounds how many sessions a room remembers as moved.
const maxMoved = 10_000

// rememberMove lets a client that lost its connection before it heard of its move find its session.
func (a *actor) rememberMove(id, to string) {
	if a.moved == nil {
		a.moved = map[string]string{}
	}
	if len(a.moved) >= maxMoved {
		for known := range a.moved {
			delete(a.moved, known)
			break
		}
	}
	a.moved[id] = to
}

// followMove passes a resume on to the room that the session has moved to. It reports whether there
// is one.
func (a *actor) followMove(j joining) bool {
	to, ok := a.moved[j.query.SID]
	if !ok {
		return false
	}
	j.claims.Video.Room, j.moved = to, true
	return a.srv.tell(to, func(b *actor) { b.onResume(j) })
}

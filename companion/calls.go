package companion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/signaling/call"
)

// The way of a call through these files:
//
//  1. calls_routes.go: a route turns a request into an event of package call.
//  2. calls_work.go: [Server.change] has the store apply it and save it, then the
//     effects are carried out: people hear of the call, devices leave the room. What
//     a dying process leaves undone, and timers, any other process takes from the store:
//     it looks when something there is due, and each 5 s for what others have saved.
//  3. calls_view.go: the call as one device sees it.
//  4. calls.go: what the room service asks and tells.
//  5. calls_quality.go: what it measured, for those in the call.

// Rooms is the service that carries the calls' media. A call's room has the
// call's id as its name, and a device is account:device in it.
type Rooms interface {
	// Token returns a token to join the room as identity, which expires within two minutes.
	Token(identity, room, displayName string) (token string, expires time.Time, err error)
	// Participants returns the identities that are connected to the room, on whatever
	// node: not those that lost their connection and may resume it.
	Participants(room string) []string
	// Disconnect removes a participant, CloseRoom all of them. Neither fails when
	// there is nobody; both may take a moment.
	Disconnect(room, identity, reason string)
	CloseRoom(room string)
	// Quality returns what was measured of the connection of identity, and of the others' that
	// concerns it. false: identity is not in the room.
	Quality(room, identity string) (CallQuality, bool)
}

// CallsConfig is what calls need of the rest of the program.
type CallsConfig struct {
	Rooms Rooms // nil = calls ring, but nobody can join

	Place     Rate // calls placed and people invited by one account; zero = 20 at once, one more each 3 s
	Strangers Rate // those of them to people who are no contacts; zero = 6 at once, one more each 20 s
	Quality   Rate // questions of one device for the quality of its call; zero = 10 at once, one more each second
}

var (
	defaultPlace     = Rate{20, 3 * time.Second}
	defaultStrangers = Rate{6, 20 * time.Second}
)

// calls is the server's state of calls.
type calls struct {
	rooms                     Rooms
	place, strangers, quality *limiter
	*callWorker
}

// initCalls is called before any request is served.
func (s *Server) initCalls() {
	cfg := s.cfg.Calls
	if cfg.Place.Burst <= 0 || cfg.Place.Every <= 0 {
		cfg.Place = defaultPlace
	}
	if cfg.Strangers.Burst <= 0 || cfg.Strangers.Every <= 0 {
		cfg.Strangers = defaultStrangers
	}
	if cfg.Quality.Burst <= 0 || cfg.Quality.Every <= 0 {
		cfg.Quality = defaultQualityRate
	}
	s.calls = calls{rooms: cfg.Rooms, place: newLimiter(cfg.Place), strangers: newLimiter(cfg.Strangers), quality: newLimiter(cfg.Quality)}
	if s.calls.rooms == nil {
		s.calls.rooms = noRooms{}
	}
	s.calls.callWorker = newCallWorker(s.store, s.calls.rooms, s.publishCall, s.now, s.log)

	// Whoever signs out or blocks leaves the calls that this concerns, before the
	// rest of the program hears of it.
	signedOut, blocked := s.cfg.SignedOut, s.cfg.Blocked
	s.cfg.SignedOut = func(accountID, deviceID string) {
		s.calls.signedOut(s.ctx, accountID, deviceID)
		if signedOut != nil {
			signedOut(accountID, deviceID)
		}
	}
	s.cfg.Blocked = func(accountID, blockedID string) {
		s.calls.blocked(s.ctx, accountID, blockedID)
		if blocked != nil {
			blocked(accountID, blockedID)
		}
	}
}

// startCalls starts the timers and the outbox, which end with s.ctx. Called by New,
// at its end.
func (s *Server) startCalls(ctx context.Context) error {
	if err := s.calls.roomsGone(ctx); err != nil {
		return err
	}
	s.wg.Go(func() { s.calls.carryOut(s.ctx) })
	s.wg.Go(func() { s.calls.keepTime(s.ctx) })
	s.wg.Go(func() { s.calls.followRooms(s.ctx) })
	return nil
}

// callSnapshot returns the calls in the snapshot of a new event socket: those that
// ring or go on, as this session sees them.
func (s *Server) callSnapshot(ctx context.Context, sess Session) (any, error) {
	ongoing, err := s.store.OngoingCalls(ctx, sess.Account.ID)
	if err != nil {
		return nil, err
	}
	return s.viewCalls(ctx, sess, ongoing)
}

// ErrNotAdmitted is why CallAuthorize keeps a device out of a room.
var ErrNotAdmitted = errors.New("not admitted to the call")

// CallAuthorize decides whether a device may be in the room of a call, and under
// which display name. The room service asks it when the device joins and when it
// resumes: a token that is still good is not enough, for the call may be over, the
// person out of it, or the device signed out. It fails with an error that wraps
// ErrNotAdmitted, or another one if the store can't say.
func (s *Server) CallAuthorize(ctx context.Context, room, identity string) (displayName string, err error) {
	account, device, ok := splitIdentity(identity)
	if !ok || !people.ValidID("ca_", room) {
		return "", fmt.Errorf("%w: no device of a call", ErrNotAdmitted)
	}
	c, err := s.store.Call(ctx, room)
	if errors.Is(err, sqlstore.ErrNotFound) {
		return "", fmt.Errorf("%w: no such call", ErrNotAdmitted)
	}
	if err != nil {
		return "", err
	}
	if p := c.Person(account); p == nil || p.State != call.PersonJoined || p.Device != device {
		return "", fmt.Errorf("%w: the device is not in the call", ErrNotAdmitted)
	}
	in, err := s.store.SignedIn(ctx, account, device, s.now())
	if err != nil {
		return "", err
	}
	if !in {
		return "", fmt.Errorf("%w: signed out", ErrNotAdmitted)
	}
	p, err := s.store.Person(ctx, account, account)
	if err != nil {
		return "", err
	}
	return p.DisplayName, nil
}

// RoomJoined says that the participant is connected to the room: it joined, or
// resumed after it was lost. It never blocks, and keeps its order with RoomLeft.
func (s *Server) RoomJoined(room, identity string) { s.calls.heardOf(room, identity, roomJoined) }

// RoomLeft says that the participant is not connected to the room any more: lost,
// in which case the person has 30 s from this moment to come back and the others
// see "reconnecting"; or gone of its own will, which leaves 10 s for a page that
// reloads.
func (s *Server) RoomLeft(room, identity string, lost bool) {
	news := roomLeft
	if lost {
		news = roomLost
	}
	s.calls.heardOf(room, identity, news)
}

// splitIdentity takes a room identity apart.
func splitIdentity(identity string) (account, device string, ok bool) {
	account, device, ok = strings.Cut(identity, ":")
	return account, device, ok && people.ValidID("ac_", account) && people.ValidID("dv_", device)
}

// noRooms is a server without media.
type noRooms struct{}

func (noRooms) Token(string, string, string) (string, time.Time, error) {
	return "", time.Time{}, errors.New("this server has no rooms")
}
func (noRooms) Participants(string) []string      { return nil }
func (noRooms) Disconnect(string, string, string) {}
func (noRooms) CloseRoom(string)                  {}
func (noRooms) Quality(string, string) (CallQuality, bool) {
	return CallQuality{}, false
}

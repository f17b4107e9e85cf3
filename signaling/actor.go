package signaling

import (
	"log/slog"
	"sync"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// actor owns one room: its state, and the sessions of its participants on this node. Everything
// happens on its goroutine, in the order of its mailbox.
type actor struct {
	srv  *Server
	log  *slog.Logger
	name string
	room *room.Room
	box  mailbox

	sessions map[string]*session  // by participant id
	over     bool                 // the room has finished; the actor retires
	ends     wire.RoomEndReason   // why it finishes, unless nobody is left
	revoked  map[string]time.Time // by identity: tokens valid from an earlier time don't let it in
	calls    map[string]rpcCall   // by request id: the server's own RPCs under way
	expected int                  // participants of other rooms that are on their way here
	moved    map[string]string    // by participant id: sessions that have moved, and where to
	showings int                  // how many of the sessions' tracks are shown in further rooms
	guests   map[string]guestOf   // by participant id: participants of other rooms that are shown here
	data     dataLog              // reliable data of the last seconds
	queue    []room.Effect        // effects being carried out
	applying bool
}

func newActor(s *Server, name string) *actor {
	a := &actor{
		srv: s, name: name, log: s.log.With("room", name),
		box:      mailbox{wake: make(chan struct{}, 1)},
		sessions: map[string]*session{}, ends: wire.RoomEndIdle,
	}
	a.room = room.New(wire.NewRoomID(), name, s.cfg.Limits.Room, time.Now())
	return a
}

// mailbox is what an actor has yet to do. It is unbounded by itself: each source bounds what it puts
// in (conn by credits, data packets by bytes, workers by what they were asked).
type mailbox struct {
	mu       sync.Mutex
	messages []func(*actor)
	wake     chan struct{} // capacity 1
}

func (b *mailbox) put(m func(*actor)) {
	b.mu.Lock()
	b.messages = append(b.messages, m)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []func(*actor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.messages
	b.messages = nil
	return m
}

func (b *mailbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages) == 0
}

// post puts a message into the mailbox. It never blocks and works from any goroutine. Messages to an
// actor that has retired are dropped: they are echoes of participants who are gone.
func (a *actor) post(m func(*actor)) { a.box.put(m) }

// run is the actor's goroutine.
func (a *actor) run() {
	a.observe(RoomEvent{Kind: RoomStarted})
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a.schedule(timer)
		select {
		case <-a.box.wake:
		case <-timer.C:
		}
		for _, message := range a.box.take() {
			message(a)
		}
		now := time.Now()
		if due := a.room.NextDeadline(); !due.IsZero() && !now.Before(due) {
			a.apply(a.room.Tick(now))
		}
		a.tellShowings()
		a.refreshTokens(now)
		a.data.expire(now)
		if !a.over {
			continue
		}
		if a.srv.retire(a) {
			return
		}
	}
}

// reopen gives whoever comes after the room has ended, and before the actor has, a new one.
func (a *actor) reopen(policy room.Policy, metadata string) {
	now, old := time.Now(), a.room.ID()
	a.over, a.ends = false, wire.RoomEndIdle
	a.room = room.New(wire.NewRoomID(), a.name, a.srv.cfg.Limits.Room, now)
	a.arrange(now, policy, metadata)
	a.srv.reopened(a, old)
	a.observe(RoomEvent{Kind: RoomStarted})
}

// arrange sets what the API may set of a room; what is zero stays.
func (a *actor) arrange(now time.Time, policy room.Policy, metadata string) {
	a.apply(a.room.SetPolicy(now, policy))
	if metadata != "" {
		a.apply(a.room.SetRoomMetadata(now, metadata))
	}
}

// configure makes a new room as the token says of whoever it is made for.
func (a *actor) configure(c wire.Claims) {
	if c.Room == nil {
		return
	}
	a.arrange(time.Now(), policyOf(c.Room), c.Room.GetMetadata())
	if c.Room.GetEgress() != nil || len(c.Room.GetAgents()) > 0 {
		a.log.Warn("a token asks for recording or agents, which this server has not", "identity", c.Identity)
	}
}

// schedule sets the timer to the next thing that is due.
func (a *actor) schedule(timer *time.Timer) {
	next := a.room.NextDeadline()
	for _, s := range a.sessions {
		if due := s.refreshAt; !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if due := a.data.due; !due.IsZero() && (next.IsZero() || due.Before(next)) {
		next = due
	}
	wait := time.Hour
	if !next.IsZero() {
		wait = max(time.Until(next), 0)
	}
	timer.Reset(wait)
}

func (a *actor) observe(e RoomEvent) {
	if a.srv.cfg.Observe == nil {
		return
	}
	e.Room, e.RoomID, e.At = a.name, a.room.ID(), time.Now()
	e.RoomInfo = roomInfo(a.room.Describe())
	a.srv.cfg.Observe(e)
}

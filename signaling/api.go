package signaling

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// API serves the contract's server API: Twirp under /twirp/. Whoever holds the API secret makes
// tokens for it; each method asks for a grant of the token's (api_methods.go).
//
// The token alone says who asks: cookies are ignored, so that any origin may call.
func (s *Server) API() http.Handler {
	calls := &twirp.Server{
		Services: map[string]map[string]twirp.Method{"livekit.RoomService": s.apiMethods(), "anytime.RoomService": s.ourMethods()},
		Absent:   absentServices,
		Admit:    s.admitCall,
		Log:      s.log,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-store")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "POST, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Livekit-Request-Id")
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		calls.ServeHTTP(w, r)
	})
}

// absentServices are those of the contract that other programs serve beside the reference.
var absentServices = map[string]string{
	"livekit.Egress":               "this server records nothing: there is no egress service",
	"livekit.Ingress":              "this server takes media from room participants only: there is no ingress service",
	"livekit.SIP":                  "this server does not reach the telephone network: there is no SIP service",
	"livekit.PhoneNumberService":   "this server does not reach the telephone network: there is no phone number service",
	"livekit.AgentDispatchService": "this server dispatches no agents: let yours join with a room token",
	"livekit.Connector":            "this server has no connectors",
	"livekit.AgentSimulation":      "this server dispatches no agents",
	"livekit.CloudAgent":           "this server dispatches no agents",
	"livekit.AgentDBService":       "this server dispatches no agents",
	"livekit.Replay":               "this server records nothing: there is no replay service",
}

type claimsKey struct{}

// admitCall checks the caller's allowance and token.
func (s *Server) admitCall(r *http.Request) (context.Context, error) {
	if !s.calls.allow(s.clientAddr(r), time.Now()) {
		return nil, twirp.Errorf(twirp.ResourceExhausted, "too many calls from this address: slow down")
	}
	// A token in the URL would end up in logs: the header only.
	claims, err := wire.Verify(wire.BearerToken(nil, r.Header.Get("Authorization")), s.cfg.Keys)
	if errors.Is(err, wire.ErrNoToken) {
		return nil, twirp.Errorf(twirp.Unauthenticated, "no access token: give it as Authorization: Bearer")
	}
	if err != nil {
		return nil, twirp.Errorf(twirp.Unauthenticated, "%v", err)
	}
	return context.WithValue(r.Context(), claimsKey{}, claims), nil
}

// need is what a call asks of its token.
type need struct {
	create, list bool
	// admin of room; destination is a second room that the token must name.
	admin, forward    bool
	room, destination string
}

func adminOf(room string) need { return need{admin: true, room: room} }

func (n need) check(g wire.Grant) error {
	lacks := func(format string, args ...any) error { return twirp.Errorf(twirp.PermissionDenied, format, args...) }
	switch {
	case n.create && !g.RoomCreate:
		return lacks("the access token lacks roomCreate")
	case n.list && !g.RoomList:
		return lacks("the access token lacks roomList")
	case n.admin && (!g.RoomAdmin || g.Room == "" || g.Room != n.room):
		return lacks("the access token lacks roomAdmin for the room %.80q", n.room)
	case n.forward && (g.DestinationRoom == "" || g.DestinationRoom != n.destination):
		return lacks("the access token lacks destinationRoom for the room %.80q", n.destination)
	}
	return nil
}

// granted makes a method of the API that runs only when the token grants what it needs.
func granted[Q, A any, PQ interface {
	*Q
	proto.Message
}, PA interface {
	*A
	proto.Message
}](needs func(PQ) need, run func(context.Context, PQ) (PA, error)) twirp.Method {
	return twirp.Call(func(ctx context.Context, m PQ) (PA, error) {
		claims, _ := ctx.Value(claimsKey{}).(wire.Claims)
		if err := needs(m).check(claims.Video); err != nil {
			return nil, err
		}
		answer, err := run(ctx, m)
		return answer, apiError(err)
	})
}

// apiError gives a refusal of the room its Twirp code.
func apiError(err error) error {
	var refusal *room.Refusal
	switch {
	case errors.As(err, &refusal):
		code := map[room.RefusalCode]twirp.Code{
			room.Invalid: twirp.InvalidArgument, room.NotFound: twirp.NotFound, room.NotAllowed: twirp.PermissionDenied,
			room.LimitExceeded: twirp.ResourceExhausted, room.Unsupported: twirp.Unimplemented,
			room.NotConnected: twirp.FailedPrecondition,
		}[refusal.Code]
		return twirp.Errorf(code, "%s", refusal.Text)
	case errors.Is(err, errRoomLimit):
		return twirp.Errorf(twirp.ResourceExhausted, "%v", err)
	case errors.Is(err, errClosing):
		return twirp.Errorf(twirp.Unavailable, "%v", err)
	}
	return err
}

func noRoom(name string) error {
	return twirp.Errorf(twirp.NotFound, "there is no room %.80q", name)
}

// visit runs f on the goroutine of a room that exists, and waits for it.
func (s *Server) visit(name string, f func(*actor) error) error {
	err := noRoom(name)
	s.ask(name, func(a *actor) {
		if !a.over {
			err = f(a)
		}
	})
	return err
}

// call is visit for a participant.
func (s *Server) call(name, identity string, f func(*actor, *session) error) error {
	return s.visit(name, func(a *actor) error {
		if id, ok := a.room.IDOf(identity); ok {
			if session := a.sessions[id]; session != nil {
				return f(a, session)
			}
			if from, guest := a.guests[id]; guest {
				return twirp.Errorf(twirp.FailedPrecondition, "the participant %.80q is forwarded from the room %.80q: do this there", identity, from.room)
			}
		}
		return noParticipant(identity, name)
	})
}

func noParticipant(identity, room string) error {
	return twirp.Errorf(twirp.NotFound, "there is no participant %.80q in the room %.80q", identity, room)
}

// createdTimeout is how long a room that was created without an empty timeout waits for somebody.
const createdTimeout = 5 * time.Minute

// create makes a room, or changes what the policy and metadata say of one that exists.
func (s *Server) create(name string, policy room.Policy, metadata string) (*wire.Room, error) {
	fresh := policy
	if fresh.EmptyTimeout == 0 {
		fresh.EmptyTimeout = createdTimeout
	}
	var info *wire.Room
	done := make(chan struct{})
	describe := func(a *actor) {
		defer close(done)
		info = roomInfo(a.room.Describe())
	}
	s.mu.Lock()
	var err error
	if a := s.rooms[name]; a != nil {
		a.post(func(a *actor) {
			if a.over {
				a.reopen(fresh, metadata)
			} else {
				a.arrange(time.Now(), policy, metadata)
			}
			describe(a)
		})
	} else {
		err = s.add(name, func(a *actor) { a.arrange(time.Now(), fresh, metadata) }, describe)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	<-done
	return info, nil
}

// describeRooms returns the rooms with the given names that exist, or all, the oldest first.
func (s *Server) describeRooms(names []string) []*wire.Room {
	var (
		mu   sync.Mutex
		list []*wire.Room
		asks sync.WaitGroup
	)
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	s.mu.Lock()
	for name, a := range s.rooms {
		if len(names) > 0 && !wanted[name] {
			continue
		}
		asks.Add(1)
		a.post(func(a *actor) {
			defer asks.Done()
			if a.over {
				return
			}
			info := roomInfo(a.room.Describe())
			mu.Lock()
			list = append(list, info)
			mu.Unlock()
		})
	}
	s.mu.Unlock()
	asks.Wait()
	slices.SortFunc(list, func(a, b *wire.Room) int {
		if a.CreationTimeMs != b.CreationTimeMs {
			return int(a.CreationTimeMs - b.CreationTimeMs)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// maxRevoked bounds the identities whose tokens one room remembers as revoked.
const maxRevoked = 10_000

// revoke keeps tokens of an identity out that are valid from before a time, while the room lasts.
func (a *actor) revoke(identity string, before time.Time) {
	if a.revoked == nil {
		a.revoked = map[string]time.Time{}
	}
	if len(a.revoked) >= maxRevoked {
		for known := range a.revoked {
			delete(a.revoked, known)
			break
		}
	}
	a.revoked[identity] = before
}

func (a *actor) tokenRevoked(c wire.Claims) bool {
	before, ok := a.revoked[c.Identity]
	return ok && c.NotBefore.Before(before)
}

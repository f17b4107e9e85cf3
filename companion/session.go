package companion

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"anytime/companion/people"
)

// Session is someone signed in on a device.
type Session struct {
	Account people.Account `json:"account"`
	Device  people.Device  `json:"device"`
	Token   string         `json:"token,omitempty" doc:"The bearer token, for apps that asked for one; shown only once"`

	hash string // of the secret that proves it
}

// Identity is the room identity of the session: account:device.
func (s Session) Identity() string { return s.Account.ID + ":" + s.Device.ID }

type contextKey int

const (
	sessionKey contextKey = iota
	clientKey
)

// client is what is known of the other end of a request.
type client struct {
	addr   string // IP address, or the /64 network of an IPv6 address: what limits are kept for
	host   string // the host the client asked for
	secure bool   // over TLS, as far as this server or a trusted proxy can tell
	w      http.ResponseWriter
	r      *http.Request
}

// clientOf returns the client of a request's context.
func clientOf(ctx context.Context) client {
	c, _ := ctx.Value(clientKey).(client)
	return c
}

// wsBase is the ws:// or wss:// base of this server as the client reached it.
func (c client) wsBase() string {
	if c.secure {
		return "wss://" + c.host
	}
	return "ws://" + c.host
}

// signedIn registers a route for those who are signed in; others get 401.
func signedIn[I, O any](s *Server, op huma.Operation, handler func(context.Context, Session, *I) (*O, error)) {
	op.Security = []map[string][]string{{"cookie": {}}, {"bearer": {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusTooManyRequests)
	register(s, op, func(ctx context.Context, in *I) (*O, error) {
		return handler(ctx, ctx.Value(sessionKey).(Session), in)
	})
}

// register registers a route for everyone.
func register[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	op.MaxBodyBytes = maxBody
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, s.answer(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

// requireSession is huma middleware: on routes with Security it finds the session
// or ends the request.
func (s *Server) requireSession(ctx huma.Context, next func(huma.Context)) {
	if len(ctx.Operation().Security) == 0 {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	sess, err := s.authenticate(r.Context(), r, w)
	if err != nil {
		p := s.answer(r.Context(), ctx.Operation().OperationID, err).(*Problem)
		writeProblem(w, p)
		return
	}
	next(huma.WithValue(ctx, sessionKey, sess))
}

// errSignedOut is the answer to a request without a valid session.
func errSignedOut() *Problem {
	return problem(http.StatusUnauthorized, "signed_out", "You are not signed in. Please sign in and try again.")
}

// authenticate finds the session of a request by its bearer token or cookie.
func (s *Server) authenticate(ctx context.Context, r *http.Request, w http.ResponseWriter) (Session, error) {
	return Session{}, errSignedOut()
}

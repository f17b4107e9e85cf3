package companion

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

const (
	// cookieName begins with __Host-: a browser takes such a cookie only with
	// Secure, Path=/ and no Domain, so no other host or path can set one
	// (draft-ietf-httpbis-rfc6265bis, section 4.1.3.2).
	cookieName = "__Host-anytime"

	sessionLife = 30 * 24 * time.Hour // since the session was last seen
	seenEvery   = time.Hour           // how often being seen is written down
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
	addr   string // what limits per address are kept for (addressKey)
	host   string // the host the client asked for
	secure bool   // over TLS, as far as this server or a trusted proxy can tell
	r      *http.Request
	w      http.ResponseWriter
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
	sess, err := s.admitted(r, w)
	if err != nil {
		writeProblem(w, s.answer(r.Context(), ctx.Operation().OperationID, err).(*Problem))
		return
	}
	next(huma.WithValue(ctx, sessionKey, sess))
}

// admitted returns the session of a request that is within its device's limit.
func (s *Server) admitted(r *http.Request, w http.ResponseWriter) (Session, error) {
	sess, err := s.authenticate(r, w)
	if err != nil {
		return Session{}, err
	}
	if wait, ok := s.limits.requests.take(sess.Device.ID, s.now()); !ok {
		return Session{}, tooMany(wait, "This device asks too much at once. Please wait a moment and try again.")
	}
	return sess, nil
}

// errSignedOut is the answer to a request without a valid session.
func errSignedOut() *Problem {
	p := problem(http.StatusUnauthorized, "signed_out", "You are not signed in. Please sign in and try again.")
	// RFC 9110, section 15.5.2: a 401 names a challenge.
	p.headers = http.Header{"Www-Authenticate": {"Bearer"}}
	return p
}

// authenticate finds the session of a request by its bearer token or, without
// one, its cookie. A secret counts only in the way it was given out. A session
// that is in use is extended, and its cookie with it.
func (s *Server) authenticate(r *http.Request, w http.ResponseWriter) (Session, error) {
	secret, bearer := presented(r)
	hash, err := people.HashSecret(secret)
	if err != nil {
		return Session{}, errSignedOut()
	}
	now := s.now()
	stored, err := s.store.Session(r.Context(), hash, now)
	if errors.Is(err, sqlstore.ErrNotFound) || err == nil && stored.Bearer != bearer {
		return Session{}, errSignedOut()
	}
	if err != nil {
		return Session{}, err
	}
	if now.Sub(stored.SeenAt) >= seenEvery {
		if err := s.store.ExtendSession(r.Context(), stored.Device.ID, now, now.Add(sessionLife)); err != nil {
			return Session{}, err
		}
		if !bearer {
			setCookie(w, secret)
		}
	}
	return Session{Account: stored.Account, Device: stored.Device, hash: hash}, nil
}

// presented returns the secret that a request shows, and whether as a bearer token
// (RFC 6750, section 2.1). A request with an Authorization header is judged by
// that alone.
func presented(r *http.Request) (secret string, bearer bool) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", true
		}
		return strings.TrimSpace(token), true
	}
	if c, err := r.Cookie(cookieName); err == nil {
		return c.Value, false
	}
	return "", false
}

func setCookie(w http.ResponseWriter, secret string) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: secret, Path: "/", MaxAge: int(sessionLife / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func clearCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// ended lets go of everything that devices hold whose sessions are over.
func (s *Server) ended(gone ...sqlstore.EndedSession) {
	for _, e := range gone {
		reason := "signed out"
		if e.Expired {
			reason = "the session expired"
		}
		s.hub.drop(e.AccountID, e.DeviceID, reason)
		if s.cfg.SignedOut != nil {
			s.cfg.SignedOut(e.AccountID, e.DeviceID)
		}
	}
}

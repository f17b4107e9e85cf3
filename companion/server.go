package companion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

const (
	maxBody     = 64 << 10    // bytes of JSON in a request
	sweepEvery  = time.Minute // between two looks for what has expired
	hashSlots   = 4           // most passwords hashed at once, whatever the cores
	hashWaiting = 64          // most sign-ins in line for that
)

// Config says what a Server works with.
type Config struct {
	Store *sqlstore.Store // required; the caller closes it after the Server
	Name  string          // what people see as the server's name; "" = "Anytime"

	// Registration is who may sign up until the operator decides otherwise; it
	// counts only the first time a store is used. "" = invite.
	Registration people.Registration

	// SetUpSecret is the secret of the set-up link, as people.NewSecret makes them;
	// "" = a new one. It matters only while there is no operator.
	SetUpSecret string

	// TrustedProxies are the addresses whose X-Forwarded-For and X-Forwarded-Proto
	// are believed. Empty = none.
	TrustedProxies []netip.Prefix

	// SignedOut is called after a device's session ended, before the request that
	// ended it is answered: whatever the device still holds, such as its place in a
	// room, must go. It may be called from several goroutines and should not block.
	// nil = nothing to do.
	SignedOut func(accountID, deviceID string)

	// Blocked is called in the same way after one account blocked another: a call
	// that they share must end for one of them. nil = nothing to do.
	Blocked func(accountID, blockedID string)

	Calls     CallsConfig
	Limits    Limits
	Passwords people.Argon2    // cost of a password's hash; zero = people.DefaultArgon2
	Now       func() time.Time // nil = time.Now
	Log       *slog.Logger     // nil = slog.Default()
}

// Server is the companion API. It is made by New and ended by Close.
type Server struct {
	cfg       Config
	store     *sqlstore.Store
	log       *slog.Logger
	now       func() time.Time
	mux       *http.ServeMux
	handler   http.Handler // mux, behind what every request passes
	api       huma.API
	hub       *Hub
	limits    *limiters
	passwords *people.Passwords
	setUp     string // secret of the set-up link, or ""

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // every goroutine of the server but those of sockets

	calls calls
}

// New prepares the store and returns a server for it. ctx bounds the start alone.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Name == "" {
		cfg.Name = "Anytime"
	}
	if cfg.Registration == "" {
		cfg.Registration = people.RegistrationInvite
	}
	if cfg.SetUpSecret == "" {
		cfg.SetUpSecret = people.NewSecret()
	}
	if cfg.Passwords == (people.Argon2{}) {
		cfg.Passwords = people.DefaultArgon2
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Limits = cfg.Limits.filled()
	if _, err := people.ParseRegistration(string(cfg.Registration)); err != nil {
		return nil, err
	}
	hash, err := people.HashSecret(cfg.SetUpSecret)
	if err != nil {
		return nil, errors.New("the set-up secret is not one that people.NewSecret made")
	}
	s := &Server{
		cfg: cfg, store: cfg.Store, log: cfg.Log, now: cfg.Now,
		mux:       http.NewServeMux(),
		hub:       newHub(people.NewID(""), cfg.Limits.EventQueue),
		limits:    newLimiters(cfg.Limits),
		passwords: people.NewPasswords(cfg.Passwords, min(hashSlots, runtime.GOMAXPROCS(0)), hashWaiting),
	}
	good, err := s.store.Prepare(ctx, cfg.Registration, hash, s.now())
	if err != nil {
		return nil, fmt.Errorf("prepare the store: %w", err)
	}
	if good {
		s.setUp = cfg.SetUpSecret
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.routes()
	if err := s.startCalls(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("start the calls: %w", err)
	}
	s.wg.Go(s.sweep) // last, for it may call the hooks that calls put in front of Config's
	return s, nil
}

// SetUpSecret returns the secret that makes whoever signs up with it the operator,
// or "" if there is an operator already. The link for people is /#/setup/<secret>.
func (s *Server) SetUpSecret() string { return s.setUp }

// Handler serves everything under /v1/.
func (s *Server) Handler() http.Handler { return s.handler }

// Close closes every event socket and waits for every goroutine. The HTTP server
// in front should take no new requests any more.
func (s *Server) Close() {
	s.hub.close()
	s.stop()
	s.wg.Wait()
}

// routes builds the handler.
func (s *Server) routes() {
	config := huma.DefaultConfig("Anytime", "1.0.0")
	config.Info.Description = "Accounts, contacts and calls of an Anytime server. Media flows over /rtc, events over the WebSocket /v1/events."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/v1/openapi", "", ""
	config.CreateHooks = nil // no $schema in answers
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"cookie": {Type: "apiKey", In: "cookie", Name: cookieName},
		"bearer": {Type: "http", Scheme: "bearer"},
	}
	s.api = humago.New(s.mux, config)
	s.api.UseMiddleware(s.requireSession)
	s.serverRoutes()
	s.accountRoutes()
	s.peopleRoutes()
	s.callRoutes()
	s.mux.HandleFunc("GET /v1/events", s.serveEvents)
	s.mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem(http.StatusNotFound, "no_such_route", "The server has no such route: see /v1/openapi.json."))
	})

	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem(http.StatusForbidden, "cross_origin", "This page belongs to another site, which may not ask this of the server."))
	}))
	inner := origin.Handler(s.mux)
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		c := client{
			addr: addressKey(ClientAddr(r, s.cfg.TrustedProxies)), host: r.Host,
			secure: overTLS(r, s.cfg.TrustedProxies), r: r, w: w,
		}
		inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey, c)))
	})
}

// sweep ends what has expired, once a minute: sessions, invitations, limits that
// no longer limit.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		now := s.now()
		s.limits.sweep(now)
		gone, err := s.store.ExpireSessions(s.ctx, now)
		if err != nil && s.ctx.Err() == nil {
			s.log.Error("end expired sessions", "err", err)
		}
		s.ended(gone...)
	}
}

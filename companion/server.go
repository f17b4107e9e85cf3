package companion

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

// maxBody is how many bytes of JSON a request may have.
const maxBody = 64 << 10

// Config says what a Server works with.
type Config struct {
	Store *sqlstore.Store // required; the caller closes it after the Server
	Name  string          // what people see as the server's name; "" = "Anytime"

	// Registration is who may sign up until the operator decides otherwise; it
	// counts only the first time a store is used. "" = invite.
	Registration people.Registration

	// SetUpSecret is the secret of the set-up link; "" = a new one. It matters only
	// while there is no operator.
	SetUpSecret string

	// TrustedProxies are the addresses whose X-Forwarded-For and X-Forwarded-Proto
	// are believed. Empty = none.
	TrustedProxies []netip.Prefix

	// SignedOut is called after a device's session ended: whatever it still holds,
	// such as its place in a room, must go. nil = nothing to do.
	SignedOut func(accountID, deviceID string)

	// Blocked is called after one account blocked another: a call that they share
	// must end for one of them. nil = nothing to do.
	Blocked func(accountID, blockedID string)

	Calls CallsConfig

	Now func() time.Time // nil = time.Now
	Log *slog.Logger     // nil = slog.Default()
}

// Server is the companion API. It is made by New and ended by Close.
type Server struct {
	cfg   Config
	store *sqlstore.Store
	log   *slog.Logger
	now   func() time.Time
	mux   *http.ServeMux
	api   huma.API
	hub   *Hub

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // every goroutine of the server

	calls calls
}

// New returns a server for the store. ctx bounds the start alone.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{
		cfg: cfg, store: cfg.Store, log: cfg.Log, now: cfg.Now,
		mux: http.NewServeMux(), hub: &Hub{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	config := huma.DefaultConfig("Anytime", "1.0.0")
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/v1/openapi", "", ""
	s.api = humago.New(s.mux, config)
	s.api.UseMiddleware(s.requireSession)
	s.callRoutes()
	if err := s.startCalls(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Handler serves /v1/.
func (s *Server) Handler() http.Handler { return s.mux }

// Close closes every socket and waits for every goroutine.
func (s *Server) Close() {
	s.stop()
	s.stopCalls()
	s.wg.Wait()
}

package signaling

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

// authorizeTimeout bounds one call of Config.Authorize.
const authorizeTimeout = 10 * time.Second

// Handler serves /rtc and /rtc/v1, and /validate below each. Whether a client has one peer connection
// or two is up to its query, not to the path: see wire.ParseJoinQuery.
//
// The token alone says who asks: cookies are ignored, so that any origin may connect.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rtc", s.serveRTC)
	mux.HandleFunc("GET /rtc/validate", s.serveValidate)
	mux.HandleFunc("GET /rtc/v1", s.serveRTC)
	mux.HandleFunc("GET /rtc/v1/validate", s.serveValidate)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-store")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization")
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// denial is an answer to a request that can't be let in.
type denial struct {
	status int
	text   string
}

// admit checks everything that can be checked before the upgrade: the address's allowance, the
// query, the token, and what Authorize says.
func (s *Server) admit(r *http.Request) (joining, *denial) {
	if !s.joins.allow(s.clientAddr(r), time.Now()) {
		return joining{}, &denial{http.StatusTooManyRequests, "too many connections from this address: wait a moment"}
	}
	query, err := wire.ParseJoinQuery(r)
	if err != nil {
		return joining{}, &denial{http.StatusBadRequest, err.Error()}
	}
	claims, err := wire.Verify(query.Token, s.cfg.Keys)
	if err != nil {
		return joining{}, &denial{http.StatusUnauthorized, err.Error()}
	}
	query.Token = "" // nobody needs it any more
	if claims.Video.Room == "" {
		claims.Video.Room = query.Room
	}
	switch err := claims.Validate(); {
	case err != nil:
		return joining{}, &denial{http.StatusUnauthorized, "access token: " + err.Error()}
	case !claims.Video.RoomJoin:
		return joining{}, &denial{http.StatusForbidden, "access token does not allow joining a room"}
	case claims.Video.Room == "":
		return joining{}, &denial{http.StatusForbidden, "access token does not name a room"}
	}
	occasion := Join
	if query.Reconnect {
		occasion = Resume
	}
	admission, err := s.authorize(r.Context(), claims, occasion)
	if err != nil {
		var refusal *Refusal
		if errors.As(err, &refusal) {
			return joining{}, refusal.denial()
		}
		s.log.Error("cannot check a token", "room", claims.Video.Room, "identity", claims.Identity, "err", err)
		return joining{}, &denial{http.StatusServiceUnavailable, "the token cannot be checked now: try again"}
	}
	return joining{claims: claims, admission: admission, query: query}, nil
}

// denial keeps to the statuses that SDKs take for a final no. They take 404 for one only with the
// contract's own words; any other 404 on /rtc/validate makes livekit-client retry for ever.
func (r *Refusal) denial() *denial {
	switch r.Status {
	case http.StatusUnauthorized:
		return &denial{http.StatusUnauthorized, r.Text}
	case http.StatusNotFound:
		return &denial{http.StatusNotFound, "requested room does not exist: " + r.Text}
	default:
		return &denial{http.StatusForbidden, r.Text}
	}
}

func (s *Server) authorize(ctx context.Context, claims wire.Claims, occasion Occasion) (Admission, error) {
	if s.cfg.Authorize == nil {
		return Admission{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	return s.cfg.Authorize(ctx, claims, occasion)
}

// serveValidate answers what serveRTC would, for SDKs that can't read the status of a failed
// upgrade.
func (s *Server) serveValidate(w http.ResponseWriter, r *http.Request) {
	if _, no := s.admit(r); no != nil {
		no.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("success"))
}

func (d *denial) write(w http.ResponseWriter) {
	if d.status == http.StatusTooManyRequests || d.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(2))
	}
	http.Error(w, d.text, d.status)
}

var upgrader = websocket.Upgrader{
	HandshakeTimeout: 10 * time.Second,
	ReadBufferSize:   1 << 10, // kept as long as the connection; longer messages are read past it
	WriteBufferSize:  4 << 10,
	WriteBufferPool:  &sync.Pool{},
	CheckOrigin:      func(*http.Request) bool { return true }, // the token is the authority
}

// serveRTC lets a client in. Everything after the upgrade happens on the room's goroutine.
func (s *Server) serveRTC(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket") // RFC 9110 §15.5.22
		http.Error(w, "this is a WebSocket endpoint", http.StatusUpgradeRequired)
		return
	}
	j, no := s.admit(r)
	if no != nil {
		no.write(w)
		return
	}
	// Counted before the upgrade: Shutdown waits for what it sees here.
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		(&denial{http.StatusServiceUnavailable, errClosing.Error()}).write(w)
		return
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()

	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c := s.connected(ws)
	j.conn = c

	if j.query.Reconnect {
		found := false
		s.mu.Lock()
		if a := s.rooms[j.claims.Video.Room]; a != nil {
			found = true
			a.post(func(a *actor) { a.onResume(j) })
		}
		s.mu.Unlock()
		if !found {
			s.turnAway(c, wire.LeaveReconnect, wire.ReasonStateMismatch, "unknown session: join anew")
		}
		return
	}
	if err := s.enter(j); err != nil {
		s.log.Warn("join refused", "room", j.claims.Video.Room, "err", err)
		s.turnAway(c, wire.LeaveDisconnect, wire.ReasonJoinFailure, err.Error())
	}
}

// connected makes a connection that Shutdown waits for. A caller that Shutdown sees calls it.
func (s *Server) connected(ws *websocket.Conn) *conn {
	s.running.Add(1)
	var c *conn
	s.mu.Lock()
	defer s.mu.Unlock()
	c = newConn(ws, s.cfg.Limits, func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.running.Done()
	})
	s.conns[c] = struct{}{}
	return c
}

// clientAddr returns the address that limits count.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	if s.cfg.ClientAddr != nil {
		return s.cfg.ClientAddr(r)
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

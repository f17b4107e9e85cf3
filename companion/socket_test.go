package companion

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
)

func TestSnapshot(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna := s.signUp(t, "anna")
		s.signUp(t, "bert")
		anna.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
		var snap struct {
			Session  Session
			Contacts people.Contacts
			Calls    []json.RawMessage
		}
		anna.events(&snap)
		if snap.Session != anna.Session {
			t.Errorf("session %+v", snap.Session)
		}
		if got := lists(snap.Contacts); got != [4]string{2: "bert"} {
			t.Errorf("contacts %q", got)
		}
		if snap.Calls == nil || len(snap.Calls) != 0 {
			t.Errorf("calls %s", snap.Calls)
		}
	})
}

// An event is what is true when it is written, and no event is lost between the
// snapshot and what follows.
func TestEventsFollowTheSnapshot(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	anna := s.signUp(t, "anna")
	e := anna.events(nil)
	var n atomic.Int64
	for range 50 {
		n.Add(1)
		s.hub.Publish(anna.id(), "", Event{Type: "count", Key: "n",
			Load: func(context.Context, Session) (any, error) { return n.Load(), nil }})
	}
	last, cursor := int64(0), ""
	for last < 50 {
		var v int64
		ev := e.expect("count", &v)
		if v < last {
			t.Fatalf("%d after %d", v, last)
		}
		if ev.Cursor == cursor || ev.Cursor == "" {
			t.Fatalf("two events with the cursor %q", cursor)
		}
		last, cursor = v, ev.Cursor
	}
}

func TestFailingLoadAsksToComeBack(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	anna := s.signUp(t, "anna")
	e := anna.events(nil)
	s.hub.Publish(anna.id(), "", Event{Type: "x", Load: func(context.Context, Session) (any, error) { return nil, errors.New("broken") }})
	e.closed(websocket.CloseInternalServerErr)
	anna.events(nil)
}

func TestTooManySockets(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), func(c *Config) { c.Limits.Sockets = 2 })
	anna := s.signUp(t, "anna")
	anna.events(nil)
	second := anna.events(nil)
	_, res, err := anna.dial(nil)
	if err == nil || res == nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Fatalf("a third socket: %v, %+v", err, res)
	}
	second.conn.Close()
	// The server notices in its own time.
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, _, err := anna.dial(nil)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after one socket closed")
		}
	}
}

func TestClientMessages(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	anna := s.signUp(t, "anna")
	bystander := s.signIn(t, "anna").events(nil)
	for _, c := range []struct {
		what string
		kind int
		msg  string
		code int
	}{
		{"an unknown type", websocket.TextMessage, `{"type":"hello"}`, closeBadMessage},
		{"no type", websocket.TextMessage, `{}`, closeBadMessage},
		{"no JSON", websocket.TextMessage, `hello`, closeBadMessage},
		{"deep JSON", websocket.TextMessage, strings.Repeat("[", 1000), closeBadMessage},
		{"bytes", websocket.BinaryMessage, `{"type":"pong"}`, closeBadMessage},
		{"a large frame", websocket.TextMessage, strings.Repeat("x", maxClientMsg+1), websocket.CloseMessageTooBig},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := anna.events(nil)
			if err := e.conn.WriteMessage(c.kind, []byte(c.msg)); err != nil {
				t.Fatal(err)
			}
			e.closed(c.code)
		})
	}
	t.Run("a flood", func(t *testing.T) {
		e := anna.events(nil)
		for range 100 {
			if e.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`)) != nil {
				break
			}
		}
		e.closed(closeBadMessage)
	})
	s.hub.Publish(anna.id(), "", Event{Type: "still", Data: 1})
	bystander.expect("still", nil)
}

func TestSocketOrigin(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	anna := s.signUp(t, "anna")
	for _, c := range []struct {
		header http.Header
		ok     bool
	}{
		{http.Header{}, true},
		{http.Header{"Origin": {s.http.URL}}, true},
		{http.Header{"Origin": {strings.ToUpper(s.http.URL)}}, true},
		{http.Header{"Origin": {"https://evil.example"}}, false},
		{http.Header{"Origin": {s.http.URL + ".evil.example"}}, false},
		{http.Header{"Origin": {"https://127.0.0.1:1"}}, false}, // another port
		{http.Header{"Origin": {"null"}}, false},
		{http.Header{"Origin": {""}}, false},
		{http.Header{"Origin": {s.http.URL, "https://evil.example"}}, false},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
	} {
		conn, res, err := anna.dial(c.header.Clone())
		if (err == nil) != c.ok {
			t.Errorf("with %v: %v", c.header, err)
		}
		if !c.ok && (res == nil || res.StatusCode != 403) {
			t.Errorf("with %v the answer is %+v", c.header, res)
		}
		if conn != nil {
			conn.Close()
		}
	}
	if _, res, err := s.browser(t).dial(nil); err == nil || res.StatusCode != 401 {
		t.Errorf("without a session: %v", err)
	}
	anna.refused("GET", "/v1/events", nil, 426, "invalid_request")
}

// pipes is a listener whose connections are in memory, so that a bubble of
// testing/synctest knows when everyone waits.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	p.conns <- b
	return a, nil
}

// bubble runs f in simulated time, with a server on SQLite and the bearer tokens of
// one person's two devices. That every goroutine ends is checked by synctest.
func bubble(t *testing.T, f func(t *testing.T, s *Server, dial func(token string) *websocket.Conn, tokens [2]string)) {
	t.Helper()
	url := sqltest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlstore.Open(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		s, err := New(context.Background(), Config{Store: store, Registration: people.RegistrationOpen, Passwords: cheap})
		if err != nil {
			t.Fatal(err)
		}
		var tokens [2]string
		for i, path := range []string{"/v1/accounts", "/v1/sessions"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", path, strings.NewReader(`{"name":"anna","password":"`+password+`","bearer":true}`))
			r.Header.Set("Content-Type", "application/json")
			s.Handler().ServeHTTP(w, r)
			var sess Session
			if err := json.Unmarshal(w.Body.Bytes(), &sess); err != nil || sess.Token == "" {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			tokens[i] = sess.Token
		}
		p := newPipes()
		srv := &http.Server{Handler: s.Handler()}
		var served sync.WaitGroup
		served.Go(func() { srv.Serve(p) })
		f(t, s, func(token string) *websocket.Conn {
			t.Helper()
			d := websocket.Dialer{NetDialContext: p.dial}
			conn, _, err := d.Dial("ws://test/v1/events", http.Header{"Authorization": {"Bearer " + token}})
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}, tokens)
		s.Close()
		srv.Close()
		served.Wait()
	})
}

// read reads frames up to the end of the socket; it answers the first pongs pings.
// It returns the types seen and how the socket ended.
func read(conn *websocket.Conn, pongs int) (types []string, err error) {
	defer conn.Close()
	for {
		var r received
		if err := conn.ReadJSON(&r); err != nil {
			return types, err
		}
		types = append(types, r.Type)
		if r.Type == "ping" && pongs > 0 {
			pongs--
			if err := conn.WriteJSON(map[string]string{"type": "pong"}); err != nil {
				return types, err
			}
		}
	}
}

func TestPing(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		start := time.Now()
		types, err := read(dial(tokens[0]), 10)
		// Pongs at 20, 40, …, 200 s; then 45 s of silence.
		if d := time.Since(start); d < 245*time.Second || d > 246*time.Second {
			t.Errorf("the socket ended after %v", d)
		}
		if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
			t.Errorf("the socket ended with %v", err)
		}
		if len(types) != 13 || types[0] != "snapshot" {
			t.Errorf("frames %v", types)
		}
	})
}

// A client that reads nothing for a while is told to come back; others of its
// account get every event.
func TestSlowReader(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		slow, quick := dial(tokens[0]), dial(tokens[1])
		seen := make(chan string)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer quick.Close()
			for {
				var r received
				if quick.ReadJSON(&r) != nil {
					return
				}
				seen <- string(r.Data)
			}
		})
		<-seen // the snapshot
		hash, err := people.HashSecret(tokens[0])
		if err != nil {
			t.Fatal(err)
		}
		sess, err := s.store.Session(context.Background(), hash, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.cfg.Limits.EventQueue + 10 {
			s.hub.Publish(sess.Account.ID, "", Event{Type: "n", Data: i})
			if got := <-seen; got != strconv.Itoa(i) {
				t.Fatalf("event %s, want %d", got, i)
			}
		}
		time.Sleep(writeWait / 2)
		if _, err := read(slow, 0); !websocket.IsCloseError(err, closeTooSlow) {
			t.Errorf("the slow socket ended with %v", err)
		}
		s.hub.close()
		wg.Wait()
	})
}

// A client that hangs without a word is noticed.
func TestHungClient(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		conn := dial(tokens[0])
		defer conn.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		if n := len(s.hub.sockets); n != 0 {
			t.Errorf("%d accounts still have sockets", n)
		}
	})
}

// A session that another process ended closes the socket within a minute.
func TestSessionEndedElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		hash, err := people.HashSecret(tokens[0])
		if err != nil {
			t.Fatal(err)
		}
		conn := dial(tokens[0])
		var ended []string
		var cause error
		var wg sync.WaitGroup
		wg.Go(func() { ended, cause = read(conn, 1000) })
		time.Sleep(10 * time.Minute)
		start := time.Now()
		if _, err := s.store.EndSession(context.Background(), hash, time.Now()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if d := time.Since(start); d > time.Minute {
			t.Errorf("the socket outlived its session by %v", d)
		}
		if !websocket.IsCloseError(cause, closeSignedOut) || ended[len(ended)-1] != "signed_out" {
			t.Errorf("the socket ended with %v after %v", cause, ended)
		}
	})
}

// An open socket keeps its session alive.
func TestSocketKeepsSession(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		conn := dial(tokens[0])
		var wg sync.WaitGroup
		wg.Go(func() { read(conn, 1<<30) })
		const wait = 2 * time.Hour
		time.Sleep(wait)
		left := func(token string) time.Duration {
			hash, err := people.HashSecret(token)
			if err != nil {
				t.Fatal(err)
			}
			sess, err := s.store.Session(context.Background(), hash, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return time.Until(sess.ExpiresAt)
		}
		if d := left(tokens[0]); d < sessionLife-seenEvery-2*time.Minute {
			t.Errorf("the session with a socket has %v left", d)
		}
		if d := left(tokens[1]); d > sessionLife-wait+time.Second {
			t.Errorf("the session without one has %v left", d)
		}
		s.hub.close()
		wg.Wait()
	})
}

// Close tells every client to come back, and leaves no goroutine.
func TestCloseEndsSockets(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, dial func(string) *websocket.Conn, tokens [2]string) {
		var wg sync.WaitGroup
		for _, token := range tokens {
			conn := dial(token)
			wg.Go(func() {
				if _, err := read(conn, 1); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
					t.Errorf("the socket ended with %v", err)
				}
			})
		}
		silent := dial(tokens[0]) // reads nothing, answers nothing
		defer silent.Close()
		synctest.Wait()
		s.Close()
		wg.Wait()
	})
}

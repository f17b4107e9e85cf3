package companion

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
)

func TestMain(m *testing.M) { os.Exit(sqltest.Main(m)) }

// cheap makes passwords cost next to nothing.
var cheap = people.Argon2{Time: 1, Memory: 8, Threads: 1}

const password = "correct horse battery"

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// testServer is a companion behind TLS, for a jar keeps Secure cookies from plain
// HTTP.
type testServer struct {
	*Server
	t     *testing.T
	http  *httptest.Server
	store *sqlstore.Store
}

// eachServer runs f with a server on either database. change may be nil.
func eachServer(t *testing.T, change func(*Config), f func(*testing.T, *testServer)) {
	t.Helper()
	sqltest.Each(t, func(t *testing.T, url string) { f(t, newTestServer(t, url, change)) })
}

func newTestServer(t *testing.T, url string, change func(*Config)) *testServer {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	cfg := Config{Store: store, Registration: people.RegistrationOpen, Passwords: cheap,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(s.Handler())
	t.Cleanup(func() {
		s.Close()
		srv.Close()
	})
	return &testServer{Server: s, t: t, http: srv, store: store}
}

// browser is an HTTP client with cookies of its own, or an app with a token.
type browser struct {
	t       *testing.T
	s       *testServer
	jar     *cookiejar.Jar
	http    *http.Client
	token   string
	header  http.Header // sent with each request
	Session Session
}

func (s *testServer) browser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *s.http.Client()
	c.Jar = jar
	return &browser{t: t, s: s, jar: jar, http: &c, header: http.Header{}}
}

// signUp returns a new browser, signed up under the name.
func (s *testServer) signUp(t *testing.T, name string) *browser {
	t.Helper()
	b := s.browser(t)
	b.do("POST", "/v1/accounts", map[string]any{"name": name, "password": password}, 201, &b.Session)
	return b
}

// signIn returns another device of the person.
func (s *testServer) signIn(t *testing.T, name string) *browser {
	t.Helper()
	b := s.browser(t)
	b.do("POST", "/v1/sessions", map[string]any{"name": name, "password": password}, 201, &b.Session)
	return b
}

// do sends a request and reads the answer into out unless it is nil. The test
// fails if the status is another.
func (b *browser) do(method, path string, in any, status int, out any) *http.Response {
	b.t.Helper()
	var body io.Reader
	if in != nil {
		if raw, ok := in.(string); ok {
			body = strings.NewReader(raw)
		} else {
			j, err := json.Marshal(in)
			if err != nil {
				b.t.Fatal(err)
			}
			body = bytes.NewReader(j)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, b.s.http.URL+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	if b.token != "" {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if res.StatusCode != status {
		b.t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			b.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
	return res
}

// refused sends a request that must be answered by a problem with the code.
func (b *browser) refused(method, path string, in any, status int, code string) (*http.Response, Problem) {
	b.t.Helper()
	var p Problem
	res := b.do(method, path, in, status, &p)
	if p.Code != code {
		b.t.Errorf("%s %s: code %q, want %q (%s)", method, path, p.Code, code, p.Detail)
	}
	if p.Status != status || p.Detail == "" || !strings.HasSuffix(p.Detail, ".") {
		b.t.Errorf("%s %s: problem %+v is no sentence with status %d", method, path, p, status)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		b.t.Errorf("%s %s: content type %q", method, path, ct)
	}
	return res, p
}

// cookie returns the secret in the browser's session cookie, or "".
func (b *browser) cookie() string {
	u, _ := url.Parse(b.s.http.URL)
	for _, c := range b.jar.Cookies(u) {
		if c.Name == cookieName {
			return c.Value
		}
	}
	return ""
}

// events is an event socket and what a client does with it.
type events struct {
	t    *testing.T
	conn *websocket.Conn
}

type received struct {
	Type   string
	Cursor string
	Data   json.RawMessage
}

// dial opens the event socket.
func (b *browser) dial(header http.Header) (*websocket.Conn, *http.Response, error) {
	tlsConfig := b.s.http.Client().Transport.(*http.Transport).TLSClientConfig
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: tlsConfig.RootCAs}, Jar: jarAs{b.jar}}
	if header == nil {
		header = http.Header{}
	}
	if b.token != "" {
		header.Set("Authorization", "Bearer "+b.token)
	}
	return d.Dial("wss"+strings.TrimPrefix(b.s.http.URL, "https")+"/v1/events", header)
}

// jarAs shows a jar wss as https, whose Secure cookies go to both.
type jarAs struct{ *cookiejar.Jar }

func (j jarAs) Cookies(u *url.URL) []*http.Cookie {
	v := *u
	v.Scheme = strings.Replace(v.Scheme, "ws", "http", 1)
	return j.Jar.Cookies(&v)
}

// events opens the event socket and reads its snapshot into out unless it is nil.
func (b *browser) events(out any) *events {
	b.t.Helper()
	conn, _, err := b.dial(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	e := &events{b.t, conn}
	first := e.next()
	if first.Type != "snapshot" {
		b.t.Fatalf("first event is %s, want snapshot", first.Type)
	}
	if out != nil {
		if err := json.Unmarshal(first.Data, out); err != nil {
			b.t.Fatal(err)
		}
	}
	return e
}

// next reads the next event.
func (e *events) next() received {
	e.t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var r received
	if err := e.conn.ReadJSON(&r); err != nil {
		e.t.Fatalf("read an event: %v", err)
	}
	return r
}

// expect reads events up to the first of the type, and its data into out.
func (e *events) expect(kind string, out any) received {
	e.t.Helper()
	for {
		r := e.next()
		if r.Type != kind {
			continue
		}
		if out != nil {
			if err := json.Unmarshal(r.Data, out); err != nil {
				e.t.Fatal(err)
			}
		}
		return r
	}
}

// closed reads up to the closing frame and checks its code.
func (e *events) closed(code int) {
	e.t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, _, err := e.conn.ReadMessage()
		if err == nil {
			continue
		}
		if !websocket.IsCloseError(err, code) {
			e.t.Fatalf("the socket ended with %v, want close code %d", err, code)
		}
		return
	}
}

// answer sends a request and returns its status and body.
func (b *browser) answer(method, path string, in any) string {
	b.t.Helper()
	j, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	if in == nil {
		j = nil
	}
	req, err := http.NewRequestWithContext(context.Background(), method, b.s.http.URL+path, bytes.NewReader(j))
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.Status + " " + string(body)
}

package companion

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
)

func TestHeaders(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	b := s.browser(t)
	for path, status := range map[string]int{"/v1/server": 200, "/v1/session": 401, "/v1/nowhere": 404, "/v1/openapi.json": 200} {
		res := b.do("GET", path, nil, status, nil)
		for k, v := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if got := res.Header.Get(k); got != v {
				t.Errorf("%s: %s is %q", path, k, got)
			}
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: open to other sites: %q", path, got)
		}
	}
	b.refused("GET", "/v1/nowhere", nil, 404, "no_such_route")
	b.refused("DELETE", "/v1/server", nil, 404, "no_such_route")
}

// Pages of other sites can change nothing, whatever cookie the browser sends.
func TestCrossOrigin(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	b := s.signUp(t, "anna")
	for _, c := range []struct {
		header http.Header
		ok     bool
	}{
		{http.Header{"Sec-Fetch-Site": {"same-origin"}}, true},
		{http.Header{"Origin": {s.http.URL}}, true},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, false},
		{http.Header{"Origin": {"https://evil.example"}}, false},
		{http.Header{"Origin": {"null"}}, false},
	} {
		b.header = c.header
		for _, try := range []struct{ method, path string }{
			{"PATCH", "/v1/account"}, {"POST", "/v1/sessions"}, {"POST", "/v1/accounts"}, {"POST", "/v1/contacts"},
			{"PUT", "/v1/server/registration"}, {"DELETE", "/v1/session"},
		} {
			if c.ok && try.path != "/v1/account" {
				continue
			}
			if c.ok {
				b.do(try.method, try.path, map[string]any{}, 200, nil)
			} else {
				b.refused(try.method, try.path, map[string]any{}, 403, "cross_origin")
			}
		}
	}
	b.header = http.Header{}
	b.do("GET", "/v1/session", nil, 200, nil)
}

func TestOpenAPI(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
			Responses   map[string]any
		}
	}
	s.browser(t).do("GET", "/v1/openapi.json", nil, 200, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q", doc.OpenAPI)
	}
	public := map[string]bool{"get-server": true, "sign-up": true, "sign-in": true}
	n := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			n++
			if public[op.OperationID] != (len(op.Security) == 0) {
				t.Errorf("%s %s (%s) has security %v", method, path, op.OperationID, op.Security)
			}
		}
	}
	if _, ok := doc.Paths["/v1/calls"]["post"].Responses["201"]; !ok {
		t.Error("placing a call is documented without its 201")
	}
	if n < 17 {
		t.Errorf("%d operations are documented", n)
	}
	for _, path := range []string{"/v1/accounts", "/v1/sessions", "/v1/session", "/v1/account", "/v1/people/{name}", "/v1/contacts", "/v1/contacts/{id}/block"} {
		if len(doc.Paths[path]) == 0 {
			t.Errorf("%s is not documented", path)
		}
	}
}

// Every route but the public ones wants a session, with whatever input.
func TestRoutesNeedSession(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	b := s.browser(t)
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	b.do("GET", "/v1/openapi.json", nil, 200, &doc)
	for path, methods := range doc.Paths {
		for method := range methods {
			if path == "/v1/server" || path == "/v1/accounts" || path == "/v1/sessions" {
				continue
			}
			b.refused(strings.ToUpper(method), strings.NewReplacer("{", "", "}", "").Replace(path), map[string]any{}, 401, "signed_out")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	store, err := sqlstore.Open(t.Context(), sqltest.SQLite(t))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, cfg := range []Config{
		{Store: store, Registration: "ajar"},
		{Store: store, SetUpSecret: "operator"},
	} {
		if s, err := New(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("New took %+v", cfg)
		}
	}
}

// While there is no operator each start has a link of its own, and several stay
// good; once one was used there is none.
func TestSetUpLinks(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		first, second := newTestServer(t, url, nil), newTestServer(t, url, nil)
		if first.SetUpSecret() == "" || first.SetUpSecret() == second.SetUpSecret() {
			t.Fatal("the links are not two")
		}
		b := second.browser(t)
		b.do("POST", "/v1/accounts", map[string]any{"name": "boss", "password": password, "setUp": first.SetUpSecret()}, 201, nil)
		b.refused("POST", "/v1/accounts", map[string]any{"name": "boss2", "password": password, "setUp": second.SetUpSecret()}, 403, "set_up_invalid")
		if third := newTestServer(t, url, nil); third.SetUpSecret() != "" {
			t.Error("a third start has a link, though there is an operator")
		}
	})
}

// What the store keeps does not open a session, an invitation or the set-up link.
func TestSecretsAreHashed(t *testing.T) {
	urls := []string{sqltest.SQLite(t), sqltest.SQLite(t)}
	s := newTestServer(t, urls[0], nil)
	anna := s.browser(t)
	anna.do("POST", "/v1/accounts", map[string]any{"name": "anna", "password": password, "setUp": s.SetUpSecret()}, 201, nil)
	var inv invitation
	anna.do("POST", "/v1/invitations", nil, 201, &inv)
	open := newTestServer(t, urls[1], nil) // with a set-up link that nobody used
	var kept []byte
	for _, url := range urls {
		for _, file := range []string{url, url + "-wal"} {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, b...)
		}
	}
	if !bytes.Contains(kept, []byte(inv.ID)) {
		t.Fatal("the files don't hold what was stored")
	}
	for what, secret := range map[string]string{"session": anna.cookie(), "invitation": inv.Secret, "set-up link": open.SetUpSecret(), "password": password} {
		raw, _ := base64.RawURLEncoding.DecodeString(secret)
		if bytes.Contains(kept, []byte(secret)) || len(raw) == 32 && bytes.Contains(kept, raw) {
			t.Errorf("the secret of the %s is in the store", what)
		}
	}
}

func TestProxies(t *testing.T) {
	cfg := Config{TrustedProxies: prefixes("10.0.0.0/8", "::1/128")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"}, // not a proxy: not believed
		{"10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"[::1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:5", []string{"1.2.3.4, 198.51.100.7"}, "198.51.100.7"}, // the client's own claim is not
		{"10.0.0.1:5", []string{"1.2.3.4", "198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:5", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"}, // two proxies
		{"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1:5", []string{"nonsense"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.7, nonsense"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"10.0.0.1:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"@", []string{"198.51.100.7"}, "invalid IP"}, // a Unix socket
	} {
		r := httptest.NewRequest("GET", "/v1/server", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.forwarded
		if got := ClientAddr(r, cfg.TrustedProxies).String(); got != c.want {
			t.Errorf("from %s through %q the client is %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:5"
	r.Header.Set("X-Forwarded-Proto", "https")
	if !overTLS(r, cfg.TrustedProxies) {
		t.Error("a trusted proxy's word on TLS does not count")
	}
	r.RemoteAddr = "192.0.2.1:5"
	if overTLS(r, cfg.TrustedProxies) {
		t.Error("anyone's word on TLS counts")
	}
	if got := (client{host: "h:1", secure: true}).wsBase() + " " + (client{host: "h:1"}).wsBase(); got != "wss://h:1 ws://h:1" {
		t.Errorf("bases %s", got)
	}
}

// Behind a trusted proxy each client has its own limit.
func TestLimitsBehindProxy(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), func(c *Config) {
		c.TrustedProxies = prefixes("127.0.0.1/32", "::1/128")
		c.Limits.SignUp = Rate{1, time.Hour}
	})
	for i, addr := range []string{"198.51.100.7", "198.51.100.8", "2001:db8::1", "2001:db8:0:1::1"} {
		b := s.browser(t)
		b.header.Set("X-Forwarded-For", addr)
		b.do("POST", "/v1/accounts", map[string]any{"name": "person-" + string(rune('a'+i)), "password": password}, 201, nil)
		b.refused("POST", "/v1/accounts", map[string]any{"name": "zoe", "password": password}, 429, "too_many_requests")
	}
	b := s.browser(t)
	b.header.Set("X-Forwarded-For", "2001:db8::ffff") // of a network that had its turn
	b.refused("POST", "/v1/accounts", map[string]any{"name": "zoe", "password": password}, 429, "too_many_requests")
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:5", "1.2.3.4, 10.0.0.2")
	f.Add("[::1]:5", "fe80::1%eth0")
	trusted := prefixes("10.0.0.0/8", "::1/128")
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		a := ClientAddr(r, trusted)
		if peer := peerAddr(r); !trusts(trusted, peer) && a != peer {
			t.Fatalf("from %q through %q the client is %v", remote, forwarded, a)
		}
		if a.Zone() != "" && a != peerAddr(r) {
			t.Fatalf("a zone came through: %v", a)
		}
		addressKey(a)
	})
}

// Whatever is presented as a session's secret, the answer is a session or none.
func FuzzPresented(f *testing.F) {
	f.Add("Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "")
	f.Add("", "__Host-anytime=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; a=b")
	f.Add("bearer", "__Host-anytime=\"x\"")
	f.Fuzz(func(t *testing.T, authorization, cookie string) {
		r := &http.Request{Header: http.Header{"Authorization": {authorization}, "Cookie": {cookie}}}
		secret, bearer := presented(r)
		if authorization != "" && !bearer {
			t.Fatalf("the cookie of %q counts beside %q", cookie, authorization)
		}
		if hash, err := people.HashSecret(secret); err == nil && len(hash) != 64 {
			t.Fatalf("%q has the hash %q", secret, hash)
		}
	})
}

package companion

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore/sqltest"
)

func TestCookie(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	b := s.browser(t)
	res := b.do("POST", "/v1/accounts", map[string]any{"name": "anna", "password": password}, 201, nil)
	cookies := res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	c := cookies[0]
	if c.Name != "__Host-anytime" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 30*24*3600 {
		t.Errorf("cookie %+v", c)
	}
	if len(c.Value) != 43 {
		t.Errorf("secret of %d characters", len(c.Value))
	}
}

func TestBearer(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		app := s.browser(t)
		res := app.do("POST", "/v1/accounts", map[string]any{"name": "anna", "password": password, "bearer": true,
			"kind": "watch", "deviceName": "Anna's watch"}, 201, &app.Session)
		if app.Session.Token == "" || len(res.Cookies()) != 0 {
			t.Fatalf("session %+v, cookies %v", app.Session, res.Cookies())
		}
		if d := app.Session.Device; d.Kind != "watch" || d.Name != "Anna's watch" {
			t.Errorf("device %+v", d)
		}
		app.refused("GET", "/v1/session", nil, 401, "signed_out")
		app.token = app.Session.Token
		var again Session
		app.do("GET", "/v1/session", nil, 200, &again)
		if again.Token != "" || again.Device != app.Session.Device {
			t.Errorf("session %+v", again)
		}
		app.events(nil)

		// A secret counts only in the way it was given out.
		thief := s.browser(t)
		thief.header.Set("Cookie", cookieName+"="+app.token)
		thief.refused("GET", "/v1/session", nil, 401, "signed_out")
		web := s.signIn(t, "anna")
		thief = s.browser(t)
		thief.token = web.cookie()
		thief.refused("GET", "/v1/session", nil, 401, "signed_out")
		// An Authorization header that is no good is not made up for by a cookie.
		web.header.Set("Authorization", "Basic YW5uYTp4")
		web.refused("GET", "/v1/session", nil, 401, "signed_out")
		web.header = http.Header{}

		app.do("DELETE", "/v1/session", nil, 204, nil)
		res, _ = app.refused("GET", "/v1/session", nil, 401, "signed_out")
		if res.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Error("the 401 names no challenge")
		}
		web.do("GET", "/v1/session", nil, 200, nil)
	})
}

// Signing in anew replaces the secret and keeps the device.
func TestRotation(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		b := s.signUp(t, "anna")
		ev := b.events(nil)
		old, device := b.cookie(), b.Session.Device.ID
		b.do("POST", "/v1/sessions", map[string]any{"name": "anna", "password": password}, 201, &b.Session)
		if b.cookie() == old {
			t.Error("the secret stayed")
		}
		if b.Session.Device.ID != device {
			t.Error("the device changed")
		}
		thief := s.browser(t)
		thief.header.Set("Cookie", cookieName+"="+old)
		thief.refused("GET", "/v1/session", nil, 401, "signed_out")
		// Its socket goes on.
		b.do("PATCH", "/v1/account", map[string]any{"callWaiting": false}, 200, nil)
		ev.expect("account", nil)

		// Someone else at the same browser ends the first one's session.
		s.signUp(t, "bert")
		b.do("POST", "/v1/sessions", map[string]any{"name": "bert", "password": password}, 201, &b.Session)
		if b.Session.Device.ID == device {
			t.Error("two people share a device")
		}
		ev.closed(closeSignedOut)
		// As does a sign-up.
		ev = b.events(nil)
		b.do("POST", "/v1/accounts", map[string]any{"name": "carl", "password": password}, 201, &b.Session)
		ev.closed(closeSignedOut)
	})
}

func TestExpiry(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) { c.Now = clock.now }, func(t *testing.T, s *testServer) {
		b, idle := s.signUp(t, "anna"), s.signIn(t, "anna")
		const day = 24 * time.Hour
		for range 5 {
			clock.advance(20 * day)
			res := b.do("GET", "/v1/session", nil, 200, nil)
			if len(res.Cookies()) != 1 || res.Cookies()[0].Value != b.cookie() {
				t.Fatalf("the cookie was not extended: %v", res.Cookies())
			}
		}
		if res := b.do("GET", "/v1/session", nil, 200, nil); len(res.Cookies()) != 0 {
			t.Error("a cookie is set on every request")
		}
		idle.refused("GET", "/v1/session", nil, 401, "signed_out")
		clock.advance(30*day - time.Second)
		b.do("GET", "/v1/session", nil, 200, nil)
		clock.advance(30 * day)
		b.refused("GET", "/v1/session", nil, 401, "signed_out")
		if _, _, err := b.dial(nil); err == nil {
			t.Error("an expired session opens a socket")
		}
	})
}

// An expired session lets go of what its device holds.
func TestExpiredSessionsEnd(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) { c.Now = clock.now }, func(t *testing.T, s *testServer) {
		b := s.signUp(t, "anna")
		ev := b.events(nil)
		clock.advance(sessionLife)
		gone, err := s.store.ExpireSessions(t.Context(), clock.now())
		if err != nil || len(gone) != 1 || gone[0].DeviceID != b.Session.Device.ID || !gone[0].Expired {
			t.Fatalf("expired %+v, %v", gone, err)
		}
		s.ended(gone...)
		ev.expect("signed_out", nil)
		ev.closed(closeSignedOut)
	})
}

// Beyond the limit of devices the one not seen for longest is signed out.
func TestDeviceLimit(t *testing.T) {
	clock := newClock()
	var mu sync.Mutex
	var out []string
	eachServer(t, func(c *Config) {
		out = nil
		c.Now, c.Limits.Devices = clock.now, 3
		c.SignedOut = func(_, device string) {
			mu.Lock()
			defer mu.Unlock()
			out = append(out, device)
		}
	}, func(t *testing.T, s *testServer) {
		devices := []*browser{s.signUp(t, "anna")}
		for range 2 {
			clock.advance(2 * time.Hour)
			devices = append(devices, s.signIn(t, "anna"))
		}
		clock.advance(2 * time.Hour)
		devices[0].do("GET", "/v1/session", nil, 200, nil) // so that the second is the oldest
		clock.advance(2 * time.Hour)
		s.signIn(t, "anna")
		devices[0].do("GET", "/v1/session", nil, 200, nil)
		devices[1].refused("GET", "/v1/session", nil, 401, "signed_out")
		devices[2].do("GET", "/v1/session", nil, 200, nil)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(out, []string{devices[1].Session.Device.ID}) {
			t.Errorf("signed out %v", out)
		}
	})
}

// A wrong password and an unknown name are answered alike.
func TestWrongPasswordRevealsNothing(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) {
		c.Now = clock.now
		c.Limits.SignInPerName = Rate{3, time.Minute}
		c.Limits.SignInPerAddress = Rate{1000, time.Second}
	}, func(t *testing.T, s *testServer) {
		s.signUp(t, "anna")
		b := s.browser(t)
		try := func(name, password string, status int, code string) (*http.Response, Problem) {
			t.Helper()
			return b.refused("POST", "/v1/sessions", map[string]any{"name": name, "password": password}, status, code)
		}
		same := func(names ...string) {
			t.Helper()
			for range 3 {
				var detail string
				for _, name := range names {
					_, p := try(name, "not the password", 401, "wrong_password")
					if detail == "" {
						detail = p.Detail
					}
					if p.Detail != detail {
						t.Errorf("%q is answered %q, another %q", name, p.Detail, detail)
					}
				}
			}
			for _, name := range names {
				res, _ := try(name, "not the password", 429, "too_many_requests")
				if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
					t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
				}
			}
		}
		same("anna", "nobody", "not a name!", "admin")
		// Even the right password has to wait, or it could be told from a wrong one.
		try("anna", password, 429, "too_many_requests")
		try("ANNA", password, 429, "too_many_requests")
		clock.advance(time.Minute)
		try("anna", "not the password", 401, "wrong_password")
		try("anna", password, 429, "too_many_requests")
		clock.advance(time.Minute)
		// The right one, which uses no turns up.
		for range 5 {
			b.do("POST", "/v1/sessions", map[string]any{"name": "anna", "password": password}, 201, nil)
		}
		for _, bad := range []string{"", "\x00", string(make([]byte, 5000))} {
			clock.advance(time.Minute)
			try("anna", bad, 401, "wrong_password")
		}
	})
}

func TestSignInsPerAddress(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) {
		c.Now = clock.now
		c.Limits.SignInPerAddress = Rate{3, time.Minute}
	}, func(t *testing.T, s *testServer) {
		s.signUp(t, "anna")
		b := s.browser(t)
		for i := range 3 {
			b.refused("POST", "/v1/sessions", map[string]any{"name": "guess" + strconv.Itoa(i) + "x", "password": password}, 401, "wrong_password")
		}
		b.refused("POST", "/v1/sessions", map[string]any{"name": "anna", "password": password}, 429, "too_many_requests")
		clock.advance(time.Minute)
		b.do("POST", "/v1/sessions", map[string]any{"name": "anna", "password": password}, 201, nil)
	})
}

func TestSignUpsPerAddress(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), func(c *Config) { c.Limits.SignUp = Rate{2, time.Hour} })
	s.signUp(t, "anna")
	b := s.browser(t)
	// Typing errors use no turn up.
	b.refused("POST", "/v1/accounts", map[string]any{"name": "bert", "password": "short"}, 422, "password_too_short")
	s.signUp(t, "bert")
	b.refused("POST", "/v1/accounts", map[string]any{"name": "carl", "password": password}, 429, "too_many_requests")
}

// An unknown name costs the same hash as a wrong password: with no room to hash
// one, all are turned away alike. (That the hash for nobody has the same cost is
// tested in package people.)
func TestEverySignInHashes(t *testing.T) {
	s := newTestServer(t, sqltest.SQLite(t), nil)
	s.signUp(t, "anna")
	s.passwords = people.NewPasswords(cheap, 0, 0)
	b := s.browser(t)
	for _, name := range []string{"anna", "nobody", "no name!"} {
		res, _ := b.refused("POST", "/v1/sessions", map[string]any{"name": name, "password": "not the password"}, 503, "busy")
		if res.Header.Get("Retry-After") == "" {
			t.Error("the answer does not say when to come back")
		}
	}
	b.refused("POST", "/v1/accounts", map[string]any{"name": "bert", "password": password}, 503, "busy")
}

// A stored hash of another cost is renewed at the next sign-in.
func TestRehash(t *testing.T) {
	url := sqltest.SQLite(t)
	s := newTestServer(t, url, nil)
	s.signUp(t, "anna")
	_, before, err := s.store.Password(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	dearer := newTestServer(t, url, func(c *Config) { c.Passwords = people.Argon2{Time: 2, Memory: 16, Threads: 1} })
	dearer.signIn(t, "anna")
	_, after, err := s.store.Password(t.Context(), "anna")
	if err != nil || after == before || after[:len("$argon2id$v=19$m=16,t=2,p=1$")] != "$argon2id$v=19$m=16,t=2,p=1$" {
		t.Errorf("the hash went from %s to %s (%v)", before, after, err)
	}
	dearer.signIn(t, "anna")
}

// A second start keeps accounts, sessions and what was decided.
func TestRestart(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		first := newTestServer(t, url, func(c *Config) { c.Registration = people.RegistrationOpen })
		anna := first.signUp(t, "anna")
		first.Close()
		second := newTestServer(t, url, func(c *Config) { c.Registration = people.RegistrationClosed })
		again := second.browser(t)
		again.header.Set("Cookie", cookieName+"="+anna.cookie())
		var sess Session
		again.do("GET", "/v1/session", nil, 200, &sess)
		if sess != anna.Session {
			t.Errorf("session %+v, want %+v", sess, anna.Session)
		}
		second.signUp(t, "bert") // still open
	})
}

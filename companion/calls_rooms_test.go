package companion

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
)

func TestCallRooms(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ben2 := s.signIn(t, "benben")
		annEvents := ann.events(nil)
		id := ann.place(201, "benben").Call.ID
		allowed := func(b *browser, want bool) {
			t.Helper()
			name, err := s.CallAuthorize(t.Context(), id, b.Session.Identity())
			if want && (err != nil || name != b.Session.Account.DisplayName) || !want && !errors.Is(err, ErrNotAdmitted) {
				t.Errorf("%s: %q, %v, want allowed %t", b.Session.Account.Name, name, err, want)
			}
		}
		allowed(ann, true)
		allowed(ben, false) // rings
		ben.act(id, "answer")
		allowed(ben, true)
		allowed(ben2, false)
		for _, bad := range []string{"", "x", ann.Session.Identity() + "x", ann.Session.Account.ID + ":" + ben.Session.Device.ID} {
			if _, err := s.CallAuthorize(t.Context(), id, bad); !errors.Is(err, ErrNotAdmitted) {
				t.Errorf("identity %q: %v", bad, err)
			}
		}
		if _, err := s.CallAuthorize(t.Context(), people.NewID("ca_"), ann.Session.Identity()); !errors.Is(err, ErrNotAdmitted) {
			t.Errorf("another room: %v", err)
		}
		reaches := func(want string) Call {
			t.Helper()
			for {
				if c := annEvents.call("active joined"); stateOf(c, "benben") == want {
					return c
				}
			}
		}
		s.join(ann, id)
		s.join(ben, id)
		s.join(ben2, id) // has no business there
		s.rooms.wait(t, id+" "+ben2.Session.Identity()+" not_in_call")
		s.leave(ben2, id, false)

		// Lost, and back within 30 s.
		s.leave(ben, id, true)
		reaches("reconnecting")
		s.clock.advance(29 * time.Second)
		s.join(ben, id)
		reaches("joined")
		s.elapse(time.Minute)
		allowed(ben, true)

		// Connecting anew, the old connection leaves after the new one joined.
		s.join(ben, id)
		s.RoomLeft(id, ben.Session.Identity(), false)

		// Lost for good.
		s.leave(ben, id, true)
		s.leave(ben, id, true)
		reaches("reconnecting")
		s.elapse(30 * time.Second)
		annEvents.call("ended left answered")
		s.rooms.wait(t, id+" closed")
		allowed(ann, false)
		allowed(ben, false)
		agree(t, ann, ben, "answered", "answered", 29+60+30)
		s.RoomJoined("some other room", "somebody")
		s.RoomLeft(people.NewID("ca_"), "somebody", true)
	})
}

func TestCallSignOut(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ann2 := s.signIn(t, "annann")
		annEvents, benEvents := ann2.events(nil), ben.events(nil)
		id := ann.place(201, "benben").Call.ID
		benEvents.call("ringing ringing")
		ben.act(id, "answer")
		s.join(ann, id)
		s.join(ben, id)
		ann.do("DELETE", "/v1/session", nil, 204, nil)
		benEvents.call("ended left answered")
		annEvents.call("ended left answered")
		s.rooms.wait(t, id+" closed")
		if _, err := s.CallAuthorize(t.Context(), id, ann.Session.Identity()); !errors.Is(err, ErrNotAdmitted) {
			t.Errorf("signed out: %v", err)
		}
		// A caller who signs out while it rings cancels.
		ann2.place(201, "benben")
		benEvents.call("ringing ringing")
		ann2.do("DELETE", "/v1/session", nil, 204, nil)
		benEvents.call("ended cancelled missed")
	})
}

// A new process finds calls whose rooms went away with the old one.
func TestCallsAfterRestart(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo, dora := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo"), s.signUp(t, "doradora")
		first := ann.place(201, "benben").Call.ID
		ben.act(first, "answer")
		second := cleo.place(201, "doradora").Call.ID
		dora.act(second, "answer")
		cleoEvents := cleo.events(nil)
		for _, b := range []*browser{ann, ben} {
			s.join(b, first)
		}
		for _, b := range []*browser{cleo, dora} {
			s.join(b, second)
		}
		s.leave(dora, second, true) // the last news that the old process hears
		for stateOf(cleoEvents.call("active joined"), "doradora") != "reconnecting" {
		}
		s.clock.advance(20 * time.Second)
		s.calls.tidy(t.Context()) // the last time that the calls are looked after
		s.Close()
		s.rooms.mu.Lock()
		clear(s.rooms.in)
		s.rooms.mu.Unlock()

		s.clock.advance(5 * time.Hour)
		next, err := New(t.Context(), s.Server.cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(next.Close)
		s.http.Config.Handler = next.Handler()
		s = &callServer{&testServer{Server: next, t: t, http: s.http, store: s.testServer.store}, s.clock, s.rooms}
		annEvents := ann.events(nil)
		s.clock.advance(59 * time.Second)
		s.join(ann, first)
		s.join(ben, first)
		for c := annEvents.call("active joined"); stateOf(c, "benben") != "joined" || stateOf(c, "annann") != "joined"; c = annEvents.call("active joined") {
		}
		s.elapse(time.Second)
		// Nobody came back to the second.
		s.rooms.wait(t, second+" closed")
		agree(t, cleo, dora, "answered", "answered", 20)
		var still Call
		ann.do("GET", "/v1/calls/"+first, nil, 200, &still)
		if still.State != "active" {
			t.Errorf("the call they came back to: %+v", still)
		}
	})
}

func TestCallLimits(t *testing.T) {
	clock := newClock()
	change := func(c *Config) {
		c.Now = clock.now
		c.Calls = CallsConfig{Rooms: newTestRooms(clock.now), Place: Rate{5, time.Minute}, Strangers: Rate{3, time.Minute}}
	}
	eachServer(t, change, func(t *testing.T, s *testServer) {
		ann := s.signUp(t, "annann")
		s.signUp(t, "benben")
		post := func(body any, status int, code string) *http.Response {
			t.Helper()
			res, _ := ann.refused("POST", "/v1/calls", body, status, code)
			return res
		}
		ok := map[string]any{"to": []string{"benben"}, "media": "audio", "clientId": "a"}
		with := func(key string, value any) map[string]any {
			m := map[string]any{}
			for k, v := range ok {
				m[k] = v
			}
			if m[key] = value; value == nil {
				delete(m, key)
			}
			return m
		}
		post(with("to", []string{"nobody"}), 404, "person_not_found")
		post(with("to", []string{"a b"}), 404, "person_not_found")
		post(with("to", []string{"annann"}), 422, "self")
		post(with("to", []string{}), 422, "invalid_request")
		post(with("to", slices.Repeat([]string{"benben"}, 50)), 422, "invalid_request")
		post(with("media", "smell"), 422, "invalid_request")
		post(with("clientId", strings.Repeat("x", 65)), 422, "invalid_request")
		post(with("clientId", nil), 422, "invalid_request")
		post(with("surprise", 1), 422, "invalid_request")
		post("{", 400, "invalid_request")
		post(`{"to":["benben"],"media":"audio","clientId":"`+strings.Repeat("x", maxBody)+`"}`, 413, "too_large")
		ann.refused("GET", "/v1/calls?before=nonsense", nil, 422, "bad_cursor")
		ann.refused("GET", "/v1/calls?limit=101", nil, 422, "invalid_request")
		ann.refused("GET", "/v1/calls/ca_nothing", nil, 404, "call_not_found")
		ann.refused("POST", "/v1/calls/ca_nothing/answer", nil, 404, "call_not_found")
		s.browser(t).refused("POST", "/v1/calls", ok, 401, "signed_out")
		for range 3 {
			id := ann.place(201, "benben").Call.ID
			ann.act(id, "cancel")
		}
		if res := post(ok, 429, "too_many_requests"); res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		clock.advance(time.Minute)
		ann.act(ann.place(201, "benben").Call.ID, "cancel")
		var page, rest struct {
			Calls []Call
			Next  string
		}
		ann.do("GET", "/v1/calls?limit=3", nil, 200, &page)
		ann.do("GET", "/v1/calls?limit=3&before="+page.Next, nil, 200, &rest)
		if len(page.Calls) != 3 || len(rest.Calls) != 1 || rest.Next != "" || page.Calls[0].CreatedAt.Before(rest.Calls[0].CreatedAt) {
			t.Errorf("pages of %d and %d calls", len(page.Calls), len(rest.Calls))
		}
	})
}

// Effects are carried out at least once; a socket shows each version once.
func TestCallEventOnce(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		early := ben.events(nil)
		id := ann.place(201, "benben").Call.ID
		early.call("ringing ringing")
		late := ben.events(nil) // has it in its snapshot
		for range 3 {
			s.publishCall(ben.Session.Account.ID, "", id)
		}
		ben.do("PATCH", "/v1/account", map[string]any{"displayName": "Ben"}, 200, nil)
		for _, e := range []*events{early, late} {
			if got := e.next(); got.Type != "account" {
				t.Errorf("%s again: %s", got.Type, got.Data)
			}
		}
	})
}

// What a person waits for: placing a call, answering it, and hanging up, each with
// its commit on disk, as the server does them.
func BenchmarkCall(b *testing.B) {
	store, err := sqlstore.Open(b.Context(), sqltest.SQLite(b))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	most := Rate{1 << 20, time.Microsecond}
	s, err := New(b.Context(), Config{Store: store, Registration: people.RegistrationOpen, Passwords: cheap,
		Calls:  CallsConfig{Rooms: newTestRooms(time.Now), Place: most, Strangers: most},
		Limits: Limits{Requests: most, Lookup: most}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	token := func(name string) string {
		var out Session
		body := fmt.Sprintf(`{"name":%q,"password":%q,"bearer":true}`, name, password)
		serve(b, s.Handler(), "", "/v1/accounts", body, 201, &out)
		return out.Token
	}
	ann, ben := token("annann"), token("benben")
	var times [3]time.Duration
	n := 0
	for b.Loop() {
		var out entered
		start := time.Now()
		serve(b, s.Handler(), ann, "/v1/calls", fmt.Sprintf(`{"to":["benben"],"media":"video","clientId":"%d"}`, n), 201, &out)
		placed := time.Now()
		serve(b, s.Handler(), ben, "/v1/calls/"+out.Call.ID+"/answer", "", 200, nil)
		answered := time.Now()
		serve(b, s.Handler(), ann, "/v1/calls/"+out.Call.ID+"/hangup", "", 200, nil)
		times[0] += placed.Sub(start)
		times[1] += answered.Sub(placed)
		times[2] += time.Since(answered)
		n++
	}
	for i, unit := range []string{"ms/place", "ms/answer", "ms/hangup"} {
		b.ReportMetric(float64(times[i].Microseconds())/1000/float64(n), unit)
	}
}

func serve(b testing.TB, h http.Handler, token, path, body string, status int, out any) {
	b.Helper()
	req := httptest.NewRequest("POST", path, strings.NewReader(body))
	if body == "" {
		req.Body = http.NoBody
		req.ContentLength = 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != status {
		b.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever a client sends, the answer is one of ours: the call, or a problem that
// says what is wrong; never a fault of the server.
func FuzzCallRequest(f *testing.F) {
	store, err := sqlstore.Open(f.Context(), sqltest.SQLite(f))
	if err != nil {
		f.Fatal(err)
	}
	defer store.Close()
	most := Rate{1 << 20, time.Microsecond}
	s, err := New(f.Context(), Config{Store: store, Registration: people.RegistrationOpen, Passwords: cheap,
		Calls:  CallsConfig{Rooms: newTestRooms(time.Now), Place: most, Strangers: most},
		Limits: Limits{Requests: most, Lookup: most}})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	var ann, ben Session
	serve(f, s.Handler(), "", "/v1/accounts", fmt.Sprintf(`{"name":"annann","password":%q,"bearer":true}`, password), 201, &ann)
	serve(f, s.Handler(), "", "/v1/accounts", fmt.Sprintf(`{"name":"benben","password":%q,"bearer":true}`, password), 201, &ben)
	var out entered
	serve(f, s.Handler(), ann.Token, "/v1/calls", `{"to":["benben"],"media":"video","clientId":"first"}`, 201, &out)

	actions := []string{"", "/answer", "/decline", "/cancel", "/hangup", "/join", "/invite"}
	f.Add(uint8(0), "", `{"to":["benben"],"media":"video","clientId":"x"}`)
	f.Add(uint8(1), out.Call.ID, `{"media":"audio"}`)
	f.Add(uint8(2), out.Call.ID, `{"reason":"busy"}`)
	f.Add(uint8(6), out.Call.ID, `{"to":["@annann","benben"]}`)
	f.Add(uint8(13), "x", `[]`)
	f.Fuzz(func(t *testing.T, route uint8, id, body string) {
		token := ann.Token
		if route&64 != 0 {
			token = ben.Token
		}
		path := "/v1/calls"
		if a := int(route) % len(actions); a > 0 {
			path += "/" + url.PathEscape(id) + actions[a]
		}
		req := httptest.NewRequest("POST", path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		switch {
		case w.Code >= 500:
			t.Errorf("POST %s %q: %d %s", path, body, w.Code, w.Body)
		case w.Code >= 400:
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" || p.Detail == "" {
				t.Errorf("POST %s %q: %d without a problem: %s", path, body, w.Code, w.Body)
			}
		}
	})
}

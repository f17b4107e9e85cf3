package companion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
)

// testRooms is a room service that does what it is told.
type testRooms struct {
	mu     sync.Mutex
	now    func() time.Time
	in     map[string][]string // identities by room
	did    []string            // "room identity reason", or "room closed"
	change chan struct{}       // has something after did grew
}

func newTestRooms(now func() time.Time) *testRooms {
	return &testRooms{now: now, in: map[string][]string{}, change: make(chan struct{}, 1)}
}

func (r *testRooms) Token(identity, room, displayName string) (string, time.Time, error) {
	return fmt.Sprintf("token of %s (%s) for %s", identity, displayName, room), r.now().Add(2 * time.Minute), nil
}

func (r *testRooms) Participants(room string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.in[room])
}

func (r *testRooms) Disconnect(room, identity, reason string) {
	r.log(room + " " + identity + " " + reason)
}
func (r *testRooms) CloseRoom(room string) { r.log(room + " closed") }

func (r *testRooms) log(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.did = append(r.did, what)
	select {
	case r.change <- struct{}{}:
	default:
	}
}

// wait waits until the service was told something.
func (r *testRooms) wait(t *testing.T, what string) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		found := slices.Contains(r.did, what)
		did := slices.Clone(r.did)
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-r.change:
		case <-deadline.C:
			t.Fatalf("the rooms were told %q, not %q", did, what)
		}
	}
}

// callServer is a server with people, rooms and a clock.
type callServer struct {
	*testServer
	clock *clock
	rooms *testRooms
}

// eachCallServer runs f with a server on either database.
func eachCallServer(t *testing.T, f func(*testing.T, *callServer)) {
	t.Helper()
	sqltest.Each(t, func(t *testing.T, url string) {
		clock := newClock()
		rooms := newTestRooms(clock.now)
		s := newTestServer(t, url, func(c *Config) {
			c.Now = clock.now
			c.Calls = CallsConfig{Rooms: rooms, Place: Rate{1000, time.Second}, Strangers: Rate{1000, time.Second}}
			c.Limits.Requests = Rate{100_000, time.Millisecond}
			c.Limits.Lookup = Rate{100_000, time.Millisecond}
		})
		f(t, &callServer{s, clock, rooms})
	})
}

// elapse moves the clock and has the timers look at it.
func (s *callServer) elapse(d time.Duration) {
	s.clock.advance(d)
	select {
	case s.calls.sooner <- struct{}{}:
	default:
	}
}

// join puts the device into the room, as the room service would.
func (s *callServer) join(b *browser, room string) {
	s.rooms.mu.Lock()
	s.rooms.in[room] = append(s.rooms.in[room], b.Session.Identity())
	s.rooms.mu.Unlock()
	s.RoomJoined(room, b.Session.Identity())
}

func (s *callServer) leave(b *browser, room string, lost bool) {
	s.rooms.mu.Lock()
	s.rooms.in[room] = slices.DeleteFunc(s.rooms.in[room], func(id string) bool { return id == b.Session.Identity() })
	s.rooms.mu.Unlock()
	s.RoomLeft(room, b.Session.Identity(), lost)
}

type entered struct {
	Call Call
	Join *Join
}

// place calls people; the test fails if that doesn't answer with the status.
func (b *browser) place(status int, to ...string) entered {
	b.t.Helper()
	var out entered
	b.do("POST", "/v1/calls", map[string]any{"to": to, "media": "video", "clientId": people.NewID("")}, status, &out)
	return out
}

// act posts an action of the call without a body.
func (b *browser) act(id, action string) entered {
	b.t.Helper()
	var out entered
	b.do("POST", "/v1/calls/"+id+"/"+action, nil, 200, &out)
	return out
}

func (b *browser) history() []Call {
	b.t.Helper()
	var out struct{ Calls []Call }
	b.do("GET", "/v1/calls", nil, 200, &out)
	return out.Calls
}

// call reads events up to one of a call in the state and my state, which may have
// an outcome behind it: "ended left answered".
func (e *events) call(want string) Call {
	e.t.Helper()
	var seen []string
	for {
		var r received
		e.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := e.conn.ReadJSON(&r); err != nil {
			e.t.Fatalf("waiting for a call %q, after %q: %v", want, seen, err)
		}
		if r.Type != "call" {
			continue
		}
		var c Call
		if err := json.Unmarshal(r.Data, &c); err != nil {
			e.t.Fatal(err)
		}
		got := strings.TrimSpace(c.State + " " + c.MyState + " " + c.Outcome)
		if got == want {
			return c
		}
		seen = append(seen, got)
	}
}

func stateOf(c Call, name string) string {
	for _, p := range c.People {
		if p.Person.Name == name {
			return p.State
		}
	}
	return "none"
}

// agree checks that two people's newest calls tell the same story.
func agree(t *testing.T, a, b *browser, outcomeA, outcomeB string, seconds int64) {
	t.Helper()
	ha, hb := a.history(), b.history()
	if len(ha) == 0 || len(hb) == 0 {
		t.Fatalf("histories of %d and %d calls", len(ha), len(hb))
	}
	ca, cb := ha[0], hb[0]
	if ca.ID != cb.ID || ca.Outcome != outcomeA || cb.Outcome != outcomeB || ca.Length != seconds || cb.Length != seconds ||
		ca.State != "ended" || cb.State != "ended" || ca.EndedAt == nil || cb.EndedAt == nil || !ca.EndedAt.Equal(*cb.EndedAt) {
		t.Errorf("histories differ, want %s/%s of %d s:\n%+v\n%+v", outcomeA, outcomeB, seconds, ca, cb)
	}
}

func TestCallAnsweredOnOneDevice(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ben2 := s.signIn(t, "benben")
		annEvents, benEvents, ben2Events := ann.events(nil), ben.events(nil), ben2.events(nil)

		placed := ann.place(201, "@benben")
		c := placed.Call
		if c.State != "ringing" || c.Direction != "outgoing" || c.MyState != "joined" || !c.Here || c.Outcome != "" || stateOf(c, "benben") != "ringing" || c.Caller.Name != "annann" {
			t.Errorf("placed: %+v", c)
		}
		if want := fmt.Sprintf("token of %s (annann) for %s", ann.Session.Identity(), c.ID); placed.Join == nil || placed.Join.Token != want ||
			placed.Join.URL != "wss://"+strings.TrimPrefix(s.http.URL, "https://") || !placed.Join.ExpiresAt.Equal(s.clock.now().Add(2*time.Minute)) {
			t.Errorf("join: %+v", placed.Join)
		}
		for _, e := range []*events{benEvents, ben2Events} {
			if in := e.call("ringing ringing"); in.ID != c.ID || in.Direction != "incoming" || in.Caller.Name != "annann" || in.Waiting || in.Here {
				t.Errorf("rings: %+v", in)
			}
		}
		s.clock.advance(5 * time.Second)
		answered := ben.act(c.ID, "answer")
		if answered.Call.State != "active" || !answered.Call.Here || answered.Join == nil || answered.Call.AnsweredAt == nil {
			t.Errorf("answered: %+v", answered)
		}
		if other := ben2Events.call("active joined"); other.Here || other.Stopped != "answered_elsewhere" {
			t.Errorf("ben's other device: %+v", other)
		}
		if got := annEvents.call("active joined"); stateOf(got, "benben") != "joined" || got.People[1].Identity != ben.Session.Identity() {
			t.Errorf("ann: %+v", got)
		}
		ben2.refused("POST", "/v1/calls/"+c.ID+"/answer", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/decline", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/join", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/hangup", nil, 409, "not_in_call")
		if again := ben.act(c.ID, "answer"); again.Call.Version != answered.Call.Version || again.Join == nil {
			t.Errorf("answered twice: %+v", again)
		}
		if fresh := ben.act(c.ID, "join"); fresh.Join == nil || fresh.Join.Token == "" {
			t.Errorf("a new token: %+v", fresh)
		}
		s.clock.advance(61 * time.Second)
		if hung := ann.act(c.ID, "hangup"); hung.Call.State != "ended" || hung.Call.Outcome != "answered" || hung.Call.Length != 61 {
			t.Errorf("hung up: %+v", hung.Call)
		}
		benEvents.call("ended left answered")
		ben2Events.call("ended left answered")
		s.rooms.wait(t, c.ID+" closed")
		agree(t, ann, ben, "answered", "answered", 61)
		ann.act(c.ID, "hangup") // once more does no harm
		ann.refused("POST", "/v1/calls/"+c.ID+"/join", nil, 409, "call_over")
		ben.refused("POST", "/v1/calls/"+c.ID+"/answer", nil, 409, "call_over")
		ann.refused("POST", "/v1/calls/"+c.ID+"/invite", map[string]any{"to": []string{"benben"}}, 409, "call_over")
	})
}

func TestCallNotAnswered(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ben2 := s.signIn(t, "benben")
		annEvents, benEvents, ben2Events := ann.events(nil), ben.events(nil), ben2.events(nil)
		ring := func() string {
			t.Helper()
			s.clock.advance(time.Second) // the history's order
			id := ann.place(201, "benben").Call.ID
			annEvents.call("ringing joined")
			benEvents.call("ringing ringing")
			ben2Events.call("ringing ringing")
			return id
		}

		id := ring()
		if got := ben.act(id, "decline"); got.Call.Outcome != "declined" {
			t.Errorf("declined: %+v", got.Call)
		}
		annEvents.call("ended left declined")
		if got := ben2Events.call("ended declined declined"); got.Stopped != "declined_elsewhere" {
			t.Errorf("the other device: %+v", got)
		}
		benEvents.call("ended declined declined")
		agree(t, ann, ben, "declined", "declined", 0)

		id = ring()
		ben.do("POST", "/v1/calls/"+id+"/decline", map[string]any{"reason": "busy"}, 200, nil)
		annEvents.call("ended left busy")
		benEvents.call("ended busy declined")
		ben2Events.call("ended busy declined")
		agree(t, ann, ben, "busy", "declined", 0)

		id = ring()
		ben.refused("POST", "/v1/calls/"+id+"/cancel", nil, 409, "not_caller")
		ann.act(id, "cancel")
		annEvents.call("ended cancelled cancelled")
		benEvents.call("ended cancelled missed")
		ben2Events.call("ended cancelled missed")
		agree(t, ann, ben, "cancelled", "missed", 0)

		id = ring()
		s.elapse(45*time.Second - time.Millisecond)
		var still Call
		ann.do("GET", "/v1/calls/"+id, nil, 200, &still)
		if still.State != "ringing" {
			t.Errorf("before 45 s: %+v", still)
		}
		s.elapse(time.Millisecond)
		annEvents.call("ended left timed_out")
		benEvents.call("ended timed_out missed")
		ben2Events.call("ended timed_out missed")
		agree(t, ann, ben, "timed_out", "missed", 0)
		if h := ben.history(); len(h) != 4 {
			t.Errorf("ben's history has %d calls, want 4", len(h))
		}
	})
}

func TestCallBusyAndWaiting(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo, dora := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo"), s.signUp(t, "doradora")
		benEvents, cleoEvents := ben.events(nil), cleo.events(nil)
		first := ann.place(201, "benben").Call.ID
		if got := benEvents.call("ringing ringing"); got.ID != first || got.Waiting {
			t.Errorf("the first call: %+v", got)
		}
		ben.act(first, "answer")

		s.clock.advance(time.Second)
		second := cleo.place(201, "benben").Call.ID
		if got := benEvents.call("ringing ringing"); got.ID != second || !got.Waiting {
			t.Errorf("a second call: %+v", got)
		}
		third := dora.place(201, "benben")
		if third.Call.State != "ended" || third.Call.Outcome != "busy" || third.Join != nil {
			t.Errorf("a third call: %+v", third)
		}
		if got := benEvents.call("ended busy missed"); got.ID != third.Call.ID {
			t.Errorf("the call that found ben busy: %+v", got)
		}
		agree(t, dora, ben, "busy", "missed", 0)

		ben.refused("POST", "/v1/calls", map[string]any{"to": []string{"doradora"}, "media": "audio", "clientId": "x"}, 409, "in_call")

		// Taking the second call ends the first, in one step.
		ben.act(second, "answer")
		cleoEvents.call("active joined")
		if got := ann.history(); len(got) != 1 || got[0].ID != first || got[0].Outcome != "answered" {
			t.Errorf("ann's history: %+v", got)
		}
		s.rooms.wait(t, first+" closed")
		ben.act(second, "hangup")

		ben.do("PATCH", "/v1/account", map[string]any{"callWaiting": false}, 200, nil)
		fourth := ben.place(201, "annann").Call.ID
		if got := cleo.place(201, "benben"); got.Call.Outcome != "busy" {
			t.Errorf("ben wants no second call: %+v", got.Call)
		}
		ben.act(fourth, "cancel")
	})
}

// Two people press "call" at the same moment, many times.
func TestCallGlare(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		who := [2]*browser{s.signUp(t, "annann"), s.signUp(t, "benben")}
		names := [2]string{"benben", "annann"}
		for round := range 50 {
			var out [2]entered
			var status [2]int
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range who {
				wg.Go(func() {
					<-start
					status[i] = who[i].try("/v1/calls", map[string]any{"to": []string{names[i]}, "media": "video", "clientId": fmt.Sprint(round)}, &out[i])
				})
			}
			close(start)
			wg.Wait()
			if slices.Sort(status[:]); status != [2]int{200, 201} || out[0].Call.ID != out[1].Call.ID || out[0].Join == nil || out[1].Join == nil {
				t.Fatalf("round %d: %v\n%+v\n%+v", round, status, out[0], out[1])
			}
			var now Call
			who[0].do("GET", "/v1/calls/"+out[0].Call.ID, nil, 200, &now)
			if now.State != "active" || now.MyState != "joined" || stateOf(now, "benben") != "joined" {
				t.Fatalf("round %d: %+v", round, now)
			}
			who[round%2].act(out[0].Call.ID, "hangup")
		}
		if h := who[0].history(); len(h) != 50 {
			t.Errorf("%d calls in the history, want 50", len(h))
		}
	})
}

// try posts from a goroutine, where a test can't be ended; it returns the status,
// or 0.
func (b *browser) try(path string, in, out any) int {
	body, err := json.Marshal(in)
	if err != nil {
		b.t.Error(err)
		return 0
	}
	res, err := b.http.Post(b.s.http.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		b.t.Error(err)
		return 0
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		b.t.Error(err)
	}
	return res.StatusCode
}

func TestCallRetriedAndResumed(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann := s.signUp(t, "annann")
		s.signUp(t, "benben")
		body := map[string]any{"to": []string{"benben"}, "media": "audio", "clientId": "one"}
		var first, second entered
		ann.do("POST", "/v1/calls", body, 201, &first)
		ann.do("POST", "/v1/calls", body, 200, &second)
		if first.Call.ID != second.Call.ID || second.Join == nil {
			t.Errorf("the same client id: %+v, %+v", first, second)
		}
		// After a reload of the page: the device is still in that call.
		if again := ann.place(200, "benben"); again.Call.ID != first.Call.ID {
			t.Errorf("the same person: %+v", again)
		}
		var snap struct{ Calls []Call }
		ann.events(&snap)
		if len(snap.Calls) != 1 || snap.Calls[0].ID != first.Call.ID || !snap.Calls[0].Here {
			t.Errorf("snapshot: %+v", snap)
		}
	})
}

func TestCallBlocked(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo")
		annEvents, benEvents := ann.events(nil), ben.events(nil)
		block := func() { ben.do("PUT", "/v1/contacts/"+ann.Session.Account.ID+"/block", nil, 204, nil) }
		unblock := func() { ben.do("DELETE", "/v1/contacts/"+ann.Session.Account.ID+"/block", nil, 204, nil) }

		// Blocked before: it rings for ann alone.
		block()
		id := ann.place(201, "benben").Call.ID
		if got := annEvents.call("ringing joined"); stateOf(got, "benben") != "ringing" {
			t.Errorf("ann sees %+v", got)
		}
		for _, action := range []string{"answer", "decline", "cancel", "hangup", "join"} {
			ben.refused("POST", "/v1/calls/"+id+"/"+action, nil, 404, "call_not_found")
		}
		ben.refused("GET", "/v1/calls/"+id, nil, 404, "call_not_found")
		ben.refused("POST", "/v1/calls/"+id+"/invite", map[string]any{"to": []string{"cleocleo"}}, 404, "call_not_found")
		ben.refused("POST", "/v1/calls", map[string]any{"to": []string{"annann"}, "media": "audio", "clientId": "x"}, 409, "person_blocked")
		var snap struct{ Calls []Call }
		ben.events(&snap)
		if len(snap.Calls) != 0 {
			t.Errorf("ben's snapshot: %+v", snap)
		}
		s.elapse(45 * time.Second)
		annEvents.call("ended left timed_out")
		if h := ben.history(); len(h) != 0 {
			t.Errorf("ben's history: %+v", h)
		}

		// Blocked while it rings: it stops for ben alone.
		unblock()
		id = ann.place(201, "benben").Call.ID
		annEvents.call("ringing joined")
		if got := benEvents.call("ringing ringing"); got.ID != id {
			t.Errorf("ben was shown another call than his first: %+v", got)
		}
		block()
		benEvents.call("ended declined declined")
		var now Call
		ann.do("GET", "/v1/calls/"+id, nil, 200, &now)
		if now.State != "ringing" || stateOf(now, "benben") != "ringing" {
			t.Errorf("ann sees %+v", now)
		}
		s.elapse(45 * time.Second)
		annEvents.call("ended left timed_out")

		// Blocked in a call: it is over.
		unblock()
		id = ann.place(201, "benben").Call.ID
		annEvents.call("ringing joined")
		ben.act(id, "answer")
		annEvents.call("active joined")
		block()
		annEvents.call("ended left answered")
		s.rooms.wait(t, id+" closed")

		// Contacts only: the same answer for a stranger and for a blocked one.
		ben.do("PATCH", "/v1/account", map[string]any{"callsFrom": "contacts"}, 200, nil)
		body := map[string]any{"to": []string{"benben"}, "media": "audio", "clientId": "y"}
		_, p1 := ann.refused("POST", "/v1/calls", body, 403, "contacts_only")
		_, p2 := cleo.refused("POST", "/v1/calls", body, 403, "contacts_only")
		if p1.Detail != p2.Detail {
			t.Errorf("%q and %q tell a block", p1.Detail, p2.Detail)
		}
	})
}

func TestCallGrows(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo")
		annEvents, cleoEvents := ann.events(nil), cleo.events(nil)
		id := ann.place(201, "benben").Call.ID
		ben.act(id, "answer")
		s.clock.advance(10 * time.Second)
		to := map[string]any{"to": []string{"@cleocleo"}}
		cleo.refused("POST", "/v1/calls/"+id+"/invite", map[string]any{"to": []string{"annann"}}, 404, "call_not_found")
		cleo.refused("GET", "/v1/calls/"+id, nil, 404, "call_not_found")
		var grown struct{ Call Call }
		ben.do("POST", "/v1/calls/"+id+"/invite", to, 200, &grown)
		if stateOf(grown.Call, "cleocleo") != "ringing" || grown.Call.State != "active" || len(grown.Call.People) != 3 {
			t.Errorf("invited: %+v", grown.Call)
		}
		if in := cleoEvents.call("ringing ringing"); in.Direction != "incoming" || len(in.People) != 3 || in.AnsweredAt != nil {
			t.Errorf("cleo sees %+v", in)
		}
		cleo.act(id, "answer")
		for stateOf(annEvents.call("active joined"), "cleocleo") != "joined" {
		}
		s.clock.advance(20 * time.Second)
		if got := ann.act(id, "hangup").Call; got.State != "ended" || got.Length != 30 {
			t.Errorf("ann left: %+v", got)
		}
		s.rooms.wait(t, id+" "+ann.Session.Identity()+" left")
		if got := cleoEvents.call("active joined"); got.ID != id {
			t.Errorf("goes on: %+v", got)
		}
		s.clock.advance(5 * time.Second)
		cleo.act(id, "hangup")
		if got := ben.history(); len(got) != 1 || got[0].Length != 35 || got[0].Outcome != "answered" {
			t.Errorf("ben's history: %+v", got)
		}
		if got := cleo.history(); len(got) != 1 || got[0].Length != 25 || got[0].Direction != "incoming" {
			t.Errorf("cleo's history: %+v", got)
		}
		// A group from the start, where one of two declines.
		id = ann.place(201, "benben", "cleocleo", "benben").Call.ID
		ben.act(id, "decline")
		cleo.act(id, "answer")
		cleo.act(id, "hangup")
		if got := ann.history(); len(got) != 2 || got[0].Outcome != "answered" || stateOf(got[0], "benben") != "declined" {
			t.Errorf("ann's history: %+v", got)
		}
	})
}

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
		id = ann2.place(201, "benben").Call.ID
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
		s.Close()
		s.rooms.mu.Lock()
		clear(s.rooms.in)
		s.rooms.mu.Unlock()

		s.clock.advance(time.Second)
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
		agree(t, cleo, dora, "answered", "answered", 61)
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

func serve(b *testing.B, h http.Handler, token, path, body string, status int, out any) {
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

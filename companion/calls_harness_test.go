package companion

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/companion/people"
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

// Quality tells the others' identities and a loss of 8 % on the way up of each.
func (r *testRooms) Quality(room, identity string) (CallQuality, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	loss := 0.08
	q := CallQuality{Me: OwnQuality{Quality: "good", Up: Link{Loss: &loss, Path: "relay"}}, Others: []OtherQuality{}}
	for _, other := range r.in[room] {
		if other != identity {
			q.Others = append(q.Others, OtherQuality{Identity: other, Quality: "poor", Up: Link{Loss: &loss}, Tracks: []TrackQuality{}})
		}
	}
	return q, slices.Contains(r.in[room], identity)
}

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

package signaling

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anytime/signaling/wire"
)

// TestTokenMakesTheRoom: the first join's token says how the room is; later ones don't change it.
func TestTokenMakesTheRoom(t *testing.T) {
	w := newWorld(t, nil)
	with := func(c *wire.RoomConfiguration) func(*wire.Claims) {
		return func(claims *wire.Claims) { claims.Room = c }
	}
	ann := w.join("r", "ann", with(&wire.RoomConfiguration{EmptyTimeout: 60, DepartureTimeout: 30, MaxParticipants: 2, Metadata: "m",
		Egress: &wire.RoomEgress{}}), nil)
	if r := ann.joined.Room; r.EmptyTimeout != 60 || r.DepartureTimeout != 30 || r.MaxParticipants != 2 || r.Metadata != "m" {
		t.Errorf("the room is %v", r)
	}
	bob := w.join("r", "bob", with(&wire.RoomConfiguration{MaxParticipants: 9, Metadata: "other"}), nil)
	if r := bob.joined.Room; r.MaxParticipants != 2 || r.Metadata != "m" {
		t.Errorf("a later token changed the room: %v", r)
	}
	ws, _, err := w.dial(token(t, "r", "eve", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if _, reason, leave := (&peer{t: t, w: w, ws: ws}).closed(); leave.GetReason() != wire.ReasonJoinFailure || !strings.Contains(reason, "full") {
		t.Errorf("the third got %v, %q", leave, reason)
	}
	status, text := w.get("/rtc/validate?access_token="+token(t, "r", "a", with(&wire.RoomConfiguration{EmptyTimeout: 1 << 30})), nil)
	if status != 401 || !strings.Contains(text, "roomConfig") {
		t.Errorf("an endless room: %d %q", status, text)
	}
}

// TestRoomTimeouts: a room that nobody comes to, and one that everybody has left, in simulated time.
func TestRoomTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, err := New(Config{Media: newFakeMedia(), Keys: testKeys})
		if err != nil {
			t.Fatal(err)
		}
		create := func(name string, empty, departure time.Duration) {
			t.Helper()
			if _, err := srv.createRoom(t.Context(), &wire.CreateRoomRequest{
				Name: name, EmptyTimeout: uint32(empty / time.Second), DepartureTimeout: uint32(departure / time.Second),
			}); err != nil {
				t.Fatal(err)
			}
		}
		there := func(name string, want bool) {
			t.Helper()
			synctest.Wait()
			if got := srv.ask(name, func(*actor) {}); got != want {
				t.Errorf("at %v: the room %s is there: %v", time.Now(), name, got)
			}
		}
		create("empty", 10*time.Second, 0)
		create("default", 0, 0)
		create("left", time.Second, 40*time.Second)
		now := time.Now()
		srv.ask("left", func(a *actor) {
			// Somebody comes and goes.
			if _, err := a.room.Join(now, profileOf(joining{claims: wire.Claims{Identity: "ann"}})); err != nil {
				t.Error(err)
			}
			id, _ := a.room.IDOf("ann")
			a.room.Leave(now, id)
		})
		time.Sleep(10*time.Second - 1)
		there("empty", true)
		time.Sleep(time.Nanosecond)
		there("empty", false)
		time.Sleep(30*time.Second - 1)
		there("left", true)
		time.Sleep(time.Nanosecond)
		there("left", false)
		time.Sleep(createdTimeout - 40*time.Second - 1)
		there("default", true)
		time.Sleep(time.Nanosecond)
		there("default", false)
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

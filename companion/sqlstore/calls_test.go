package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/signaling/call"
)

var callsStart = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// circle is people with two devices each, who can call each other.
type circle struct {
	t   *testing.T
	s   *Store
	ctx context.Context
	now time.Time
	// ids by short names: "a" is an account, "a1" and "a2" its devices
	id map[string]string
}

func newCircle(t *testing.T, s *Store, names ...string) *circle {
	t.Helper()
	c := &circle{t: t, s: s, ctx: t.Context(), now: callsStart, id: map[string]string{}}
	if _, err := s.Prepare(c.ctx, people.RegistrationOpen, "none", c.now); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		name, err := people.ParseName(strings.Repeat(n, 5))
		if err != nil {
			t.Fatal(err)
		}
		c.id[n] = people.NewID("ac_")
		session := func(d string) NewSession {
			c.id[d] = people.NewID("dv_")
			return NewSession{Hash: people.NewSecret(), Device: people.Device{ID: c.id[d], Name: d, Kind: "browser"}, ExpiresAt: c.now.Add(1000 * time.Hour)}
		}
		if _, err := s.CreateAccount(c.ctx, NewAccount{ID: c.id[n], Name: name, DisplayName: n, Password: "none"}, session(n+"1"), c.now); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CreateSession(c.ctx, c.id[n], session(n+"2"), "", 50, c.now.Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *circle) new(device string, to ...string) NewCall {
	n := NewCall{ID: people.NewID("ca_"), Account: c.id[device[:1]], Device: c.id[device], Media: call.Video, ClientID: people.NewID("")}
	for _, p := range to {
		n.To = append(n.To, c.id[p])
	}
	return n
}

func (c *circle) place(want Placing, device string, to ...string) call.Call {
	c.t.Helper()
	change, placing, err := c.s.PlaceCall(c.ctx, c.new(device, to...), c.now)
	if err != nil || placing != want {
		c.t.Fatalf("%s calls %v: %v, %v", device, to, placing, err)
	}
	return change.Call
}

func (c *circle) change(id string, e call.Event) CallChange {
	c.t.Helper()
	change, err := c.s.ChangeCall(c.ctx, id, e, c.now)
	if err != nil {
		c.t.Fatalf("%T: %v", e, err)
	}
	return change
}

func (c *circle) answer(id, device string) CallChange {
	c.t.Helper()
	return c.change(id, call.Answered{Account: c.id[device[:1]], Device: c.id[device]})
}

func (c *circle) hangUp(id, device string) CallChange {
	c.t.Helper()
	return c.change(id, call.HungUp{Account: c.id[device[:1]], Device: c.id[device]})
}

func (c *circle) slots() map[string]string {
	c.t.Helper()
	short := map[string]string{}
	for k, v := range c.id {
		short[v] = k
	}
	rows, err := c.s.reader.QueryContext(c.ctx, "SELECT device_id, call_id FROM device_slots")
	if err != nil {
		c.t.Fatal(err)
	}
	defer rows.Close()
	slots := map[string]string{}
	for rows.Next() {
		var d, id string
		if err := rows.Scan(&d, &id); err != nil {
			c.t.Fatal(err)
		}
		slots[short[d]] = id
	}
	return slots
}

func (c *circle) wantSlots(id string, devices ...string) {
	c.t.Helper()
	got := c.slots()
	for _, d := range devices {
		if got[d] != id {
			c.t.Errorf("%s is in %q, want %q", d, got[d], id)
		}
		delete(got, d)
	}
	if len(got) > 0 {
		c.t.Errorf("slots too many: %v", got)
	}
}

// state is a person's state in a stored call.
func (c *circle) state(id, person string) string {
	c.t.Helper()
	stored, err := c.s.Call(c.ctx, id)
	if err != nil {
		c.t.Fatal(err)
	}
	p := stored.Person(c.id[person])
	if p == nil {
		return "none"
	}
	s := string(p.State)
	if p.Waiting {
		s += " waiting"
	}
	if p.Hidden {
		s += " hidden"
	}
	return s
}

func TestCallIsStored(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		placed := c.place(CallPlaced, "a1", "b")
		id := placed.ID
		c.wantSlots(id, "a1")
		if got, err := s.Call(c.ctx, id); err != nil || got.Version != 1 || got.State != call.Ringing {
			t.Fatalf("stored: %+v, %v", got, err)
		}
		if b := placed.Person(c.id["b"]); len(b.Devices) != 2 || b.Devices[0].ID != c.id["b1"] {
			t.Errorf("b's devices that ring, those seen last first: %+v", b.Devices)
		}
		for _, who := range []string{"a", "b"} {
			if list, err := s.OngoingCalls(c.ctx, c.id[who]); err != nil || len(list) != 1 || list[0].ID != id {
				t.Errorf("%s's ongoing calls: %v, %v", who, list, err)
			}
			if list, _, err := s.CallHistory(c.ctx, c.id[who], nil, 10); err != nil || len(list) != 0 {
				t.Errorf("%s's history while it rings: %v, %v", who, list, err)
			}
		}
		c.now = c.now.Add(3 * time.Second)
		if change := c.answer(id, "b2"); change.Call.State != call.Active || len(change.Work) != 1 {
			t.Errorf("answered: %+v", change)
		}
		c.wantSlots(id, "a1", "b2")
		if _, err := s.ChangeCall(c.ctx, id, call.Answered{Account: c.id["b"], Device: c.id["b1"]}, c.now); !errors.Is(err, call.ErrElsewhere) {
			t.Errorf("b's other device answers: %v", err)
		}
		c.now = c.now.Add(100 * time.Second)
		c.hangUp(id, "a1")
		c.wantSlots("")
		for _, who := range []string{"a", "b"} {
			if list, err := s.OngoingCalls(c.ctx, c.id[who]); err != nil || len(list) != 0 {
				t.Errorf("%s's ongoing calls at the end: %v, %v", who, list, err)
			}
			list, next, err := s.CallHistory(c.ctx, c.id[who], nil, 10)
			if err != nil || len(list) != 1 || next != nil {
				t.Fatalf("%s's history: %v, %v, %v", who, list, next, err)
			}
			if v, ok := list[0].View(c.id[who], ""); !ok || v.Outcome != call.OutcomeAnswered || v.Length != 100*time.Second {
				t.Errorf("%s's history: %s, %v", who, v.Outcome, v.Length)
			}
		}
		if _, err := s.ChangeCall(c.ctx, people.NewID("ca_"), call.TimerFired{}, c.now); !errors.Is(err, ErrNotFound) {
			t.Errorf("a call that isn't there: %v", err)
		}
	})
}

func TestPlacingTwice(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c")
		n := c.new("a1", "b")
		first, placing, err := s.PlaceCall(c.ctx, n, c.now)
		if err != nil || placing != CallPlaced {
			t.Fatal(placing, err)
		}
		n.ID = people.NewID("ca_") // a request sent again gets another id
		again, placing, err := s.PlaceCall(c.ctx, n, c.now.Add(time.Second))
		if err != nil || placing != CallRepeated || again.Call.ID != first.Call.ID || again.Changed || again.Work != nil {
			t.Errorf("the same client id: %v, %+v, %v", placing, again, err)
		}
		if got := c.place(CallResumed, "a1", "b"); got.ID != first.Call.ID {
			t.Errorf("calling b while calling b: %s, want %s", got.ID, first.Call.ID)
		}
		if _, _, err := s.PlaceCall(c.ctx, c.new("a1", "c"), c.now); !errors.Is(err, ErrInCall) {
			t.Errorf("calling c while calling b: %v", err)
		}
		if _, _, err := s.PlaceCall(c.ctx, c.new("a1", "b", "c"), c.now); !errors.Is(err, ErrInCall) {
			t.Errorf("calling b and c while calling b: %v", err)
		}
		c.place(CallPlaced, "a2", "c") // another device is free
		n2 := c.new("c1", "b")
		n2.ClientID = n.ClientID // client ids are a device's own
		if _, placing, err := s.PlaceCall(c.ctx, n2, c.now); err != nil || placing != CallPlaced {
			t.Errorf("another device, the same client id: %v, %v", placing, err)
		}
	})
}

// Two people who call each other at the same moment end up in one call, whoever
// the database lets go first.
func TestGlare(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		for round := range 50 {
			var wg sync.WaitGroup
			var change [2]CallChange
			var placing [2]Placing
			var err [2]error
			calls := [2]NewCall{c.new("a1", "b"), c.new("b1", "a")}
			start := make(chan struct{})
			for i := range calls {
				wg.Go(func() {
					<-start
					change[i], placing[i], err[i] = s.PlaceCall(c.ctx, calls[i], c.now)
				})
			}
			close(start)
			wg.Wait()
			if err := errors.Join(err[0], err[1]); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if slices.Sort(placing[:]); placing != [2]Placing{CallPlaced, CallMet} || change[0].Call.ID != change[1].Call.ID {
				t.Fatalf("round %d: %v, calls %s and %s", round, placing, change[0].Call.ID, change[1].Call.ID)
			}
			id := change[0].Call.ID
			if got, err := s.Call(c.ctx, id); err != nil || got.State != call.Active {
				t.Fatalf("round %d: %s, %v", round, got.State, err)
			}
			c.wantSlots(id, "a1", "b1")
			c.hangUp(id, "a1")
			c.wantSlots("")
		}
		var calls int
		if err := s.reader.QueryRowContext(c.ctx, "SELECT COUNT(*) FROM calls").Scan(&calls); err != nil || calls != 50 {
			t.Errorf("%d calls, want 50, %v", calls, err)
		}
	})
}

// All devices of a person answer at once: one of them is in the call, the others
// are told so.
func TestOneAnswer(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		for round := range 20 {
			id := c.place(CallPlaced, "a1", "b").ID
			var wg sync.WaitGroup
			errs := make([]error, 6)
			start := make(chan struct{})
			for i := range errs {
				device := c.id[[]string{"b1", "b2"}[i%2]]
				wg.Go(func() {
					<-start
					_, errs[i] = s.ChangeCall(c.ctx, id, call.Answered{Account: c.id["b"], Device: device}, c.now)
				})
			}
			close(start)
			wg.Wait()
			won, lost := 0, 0
			for _, err := range errs {
				switch {
				case err == nil:
					won++ // three requests of the winning device
				case errors.Is(err, call.ErrElsewhere):
					lost++
				default:
					t.Fatal(err)
				}
			}
			if won != 3 || lost != 3 {
				t.Fatalf("round %d: %d answered, %d elsewhere: %v", round, won, lost, errs)
			}
			if slots := c.slots(); len(slots) != 2 {
				t.Fatalf("round %d: %v", round, slots)
			}
			c.hangUp(id, "a1")
		}
	})
}

func TestBusyAndWaiting(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c", "d", "e")
		first := c.place(CallPlaced, "a1", "b")
		c.answer(first.ID, "b1")
		second := c.place(CallPlaced, "c1", "b")
		if got := c.state(second.ID, "b"); got != "ringing waiting" {
			t.Errorf("a second call: %s", got)
		}
		third := c.place(CallPlaced, "d1", "b")
		if got := c.state(third.ID, "b"); got != "busy" || third.State != call.Ended {
			t.Errorf("a third call: %s, %s", got, third.State)
		}
		if got := c.slots(); len(got) != 3 || got["d1"] != "" {
			t.Errorf("the busy call holds a slot: %v", got)
		}
	})
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c")
		no := false
		if _, err := s.UpdateAccount(c.ctx, c.id["b"], AccountChange{CallWaiting: &no}); err != nil {
			t.Fatal(err)
		}
		first := c.place(CallPlaced, "a1", "b")
		if got := c.state(first.ID, "b"); got != "ringing" {
			t.Errorf("the first call: %s", got)
		}
		if second := c.place(CallPlaced, "c1", "b"); second.State != call.Ended || c.state(second.ID, "b") != "busy" {
			t.Errorf("a call to somebody who is rung and wants no other: %s", second.State)
		}
	})
}

// Many call one person at once: one rings, one waits, the others find them busy.
func TestBusyRace(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		callers := []string{"a", "c", "d", "e", "f"}
		c := newCircle(t, s, append(callers, "b")...)
		var wg sync.WaitGroup
		got := make([]string, len(callers))
		for i, who := range callers {
			n := c.new(who+"1", "b")
			wg.Go(func() {
				change, _, err := s.PlaceCall(c.ctx, n, c.now)
				if err != nil {
					t.Error(err)
					return
				}
				p := change.Call.Person(c.id["b"])
				got[i] = fmt.Sprint(p.State, p.Waiting)
			})
		}
		wg.Wait()
		slices.Sort(got)
		if want := []string{"busyfalse", "busyfalse", "busyfalse", "ringingfalse", "ringingtrue"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// Answering a call that waits leaves the one that the device is in, in one step.
func TestAnswerLeavesOtherCall(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c")
		first := c.place(CallPlaced, "a1", "b")
		c.answer(first.ID, "b1")
		second := c.place(CallPlaced, "c1", "b")
		change := c.answer(second.ID, "b1")
		if len(change.Work) != 2 {
			t.Errorf("work of both calls: %+v", change.Work)
		}
		c.wantSlots(second.ID, "b1", "c1")
		if got, _ := s.Call(c.ctx, first.ID); got.State != call.Ended {
			t.Errorf("the call that was left: %s", got.State)
		}
		// On another device both go on.
		third := c.place(CallPlaced, "a1", "b")
		c.answer(third.ID, "b2")
		if got := c.slots(); got["b1"] != second.ID || got["b2"] != third.ID {
			t.Errorf("two devices in two calls: %v", got)
		}
		// A caller who answers another call cancels the own one.
		c.hangUp(second.ID, "b1")
		fourth := c.place(CallPlaced, "c2", "b")
		fifth := c.place(CallPlaced, "a2", "c")
		c.answer(fifth.ID, "c2")
		if got, _ := s.Call(c.ctx, fourth.ID); got.State != call.Ended || got.Person(c.id["c"]).Outcome != call.OutcomeCancelled {
			t.Errorf("the call given up: %+v", got)
		}
	})
}

func TestCallsAndBlocks(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c")
		if _, err := s.Block(c.ctx, c.id["b"], c.id["a"], 100, c.now); err != nil {
			t.Fatal(err)
		}
		id := c.place(CallPlaced, "a1", "b").ID
		if got := c.state(id, "b"); got != "ringing hidden" {
			t.Errorf("b, who blocked a: %s", got)
		}
		if list, err := s.OngoingCalls(c.ctx, c.id["b"]); err != nil || len(list) != 0 {
			t.Errorf("b sees %v, %v", list, err)
		}
		var refused *CallRefused
		if _, _, err := s.PlaceCall(c.ctx, c.new("b1", "a"), c.now); !errors.As(err, &refused) || refused.Why != CalleeBlocked || refused.AccountID != c.id["a"] {
			t.Errorf("b calls a, whom b blocked: %v", err)
		}
		// A hidden call takes no place: c's is the first.
		other := c.place(CallPlaced, "c1", "b")
		if got := c.state(other.ID, "b"); got != "ringing" {
			t.Errorf("c calls b: %s", got)
		}
		c.now = c.now.Add(call.RingFor)
		c.change(id, call.TimerFired{})
		if list, _, err := s.CallHistory(c.ctx, c.id["b"], nil, 10); err != nil || len(list) != 0 {
			t.Errorf("b's history: %v, %v", list, err)
		}
		if list, _, err := s.CallHistory(c.ctx, c.id["a"], nil, 10); err != nil || len(list) != 1 || list[0].Person(c.id["a"]).Outcome != call.OutcomeTimedOut {
			t.Errorf("a's history: %v, %v", list, err)
		}
		contacts := people.CallsFromContacts
		if _, err := s.UpdateAccount(c.ctx, c.id["b"], AccountChange{CallsFrom: &contacts}); err != nil {
			t.Fatal(err)
		}
		for _, who := range []string{"a2", "c2"} { // blocked or not, it is the same
			if _, _, err := s.PlaceCall(c.ctx, c.new(who, "b"), c.now); !errors.As(err, &refused) || refused.Why != ContactsOnly {
				t.Errorf("%s calls b, who takes calls from contacts only: %v", who, err)
			}
		}
		if got := c.slots(); got["a2"] != "" || got["c2"] != "" {
			t.Errorf("refused calls took slots: %v", got)
		}
		if shared, err := s.SharedCalls(c.ctx, c.id["b"], c.id["c"]); err != nil || len(shared) != 1 {
			t.Errorf("calls of b and c: %v, %v", shared, err)
		}
	})
}

func TestInviteToCall(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b", "c", "d")
		id := c.place(CallPlaced, "a1", "b").ID
		c.answer(id, "b1")
		c.now = c.now.Add(time.Minute)
		if _, err := s.InviteToCall(c.ctx, id, c.id["d"], c.id["d1"], []string{c.id["c"]}, c.now); !errors.Is(err, call.ErrStranger) {
			t.Errorf("a stranger invites: %v", err)
		}
		if _, err := s.InviteToCall(c.ctx, id, c.id["b"], c.id["b2"], []string{c.id["c"]}, c.now); !errors.Is(err, call.ErrNotIn) {
			t.Errorf("a device that is not in the call invites: %v", err)
		}
		change, err := s.InviteToCall(c.ctx, id, c.id["b"], c.id["b1"], []string{c.id["c"], c.id["c"], c.id["a"]}, c.now)
		if err != nil || !change.Changed {
			t.Fatal(change, err)
		}
		// Whoever is in the call already just stays in it.
		if got := c.state(id, "c") + ", " + c.state(id, "a"); got != "ringing, joined" {
			t.Error(got)
		}
		c.answer(id, "c2")
		c.wantSlots(id, "a1", "b1", "c2")
		c.hangUp(id, "a1")
		c.wantSlots(id, "b1", "c2")
		c.hangUp(id, "b1")
		c.wantSlots("")
	})
}

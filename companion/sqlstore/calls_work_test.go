package sqlstore

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"anytime/signaling/call"
)

func TestCallHistoryPages(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		var want []string
		for i := range 11 {
			id := c.place(CallPlaced, "a1", "b").ID
			c.hangUp(id, "a1")
			want = append(want, id)
			if i%3 == 2 { // some begin in the same millisecond
				c.now = c.now.Add(time.Millisecond)
			}
		}
		var got []string
		var before *CallCursor
		for {
			list, next, err := s.CallHistory(c.ctx, c.id["b"], before, 4)
			if err != nil || len(list) == 0 || len(list) > 4 {
				t.Fatal(list, err)
			}
			for _, one := range list {
				got = append(got, one.ID)
			}
			if next == nil {
				break
			}
			again, err := ParseCallCursor(next.String())
			if err != nil || again != *next {
				t.Fatalf("cursor %+v comes back as %+v, %v", next, again, err)
			}
			before = &again
		}
		slices.Sort(want)
		for i := 0; i+1 < len(got); i++ {
			a, _ := s.Call(c.ctx, got[i])
			b, _ := s.Call(c.ctx, got[i+1])
			if a.CreatedAt.Before(b.CreatedAt) {
				t.Errorf("%d: an older call before a newer one", i)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("pages give %v, want %v", got, want)
		}
	})
}

// Work is held by whoever saved it, then by whoever finds it left.
func TestCallWork(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		change, _, err := s.PlaceCall(c.ctx, c.new("a1", "b"), c.now)
		if err != nil || len(change.Work) != 1 {
			t.Fatal(change, err)
		}
		claim := func() []CallWork {
			t.Helper()
			list, err := s.ClaimCallWork(c.ctx, c.now, 10)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		c.now = c.now.Add(CallLease - time.Millisecond)
		if list := claim(); len(list) != 0 {
			t.Errorf("taken from who saved it: %v", list)
		}
		c.now = c.now.Add(time.Millisecond)
		list := claim()
		if len(list) != 1 || !slices.Equal(list[0].Effects, change.Work[0].Effects) || list[0].Version != 1 {
			t.Fatalf("left work: %+v, want %+v", list, change.Work)
		}
		if again := claim(); len(again) != 0 {
			t.Errorf("claimed twice: %v", again)
		}
		c.now = c.now.Add(CallLease)
		if list = claim(); len(list) != 1 {
			t.Errorf("not claimed again after the lease: %v", list)
		}
		if err := s.CallWorkDone(c.ctx, list...); err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(CallLease)
		if list = claim(); len(list) != 0 {
			t.Errorf("done, and there again: %v", list)
		}
		// What a later version of the program wrote is left for it.
		_, err = s.writer.ExecContext(c.ctx, `INSERT INTO call_outbox (call_id, version, effects, created_at, leased_until) VALUES ($1, 9, '[{"kind":"wave"}]', 0, 0)`, change.Call.ID)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := s.ClaimCallWork(c.ctx, c.now, 10); err == nil || len(list) != 0 {
			t.Errorf("unknown work: %v, %v", list, err)
		}
		var left int
		if err := s.reader.QueryRowContext(c.ctx, "SELECT COUNT(*) FROM call_outbox").Scan(&left); err != nil || left != 1 {
			t.Errorf("unknown work is not left: %d, %v", left, err)
		}
	})
}

func TestDueCalls(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		id := c.place(CallPlaced, "a1", "b").ID
		claim := func() []string {
			t.Helper()
			ids, err := s.ClaimDueCalls(c.ctx, c.now, 10)
			if err != nil {
				t.Fatal(err)
			}
			return ids
		}
		c.now = c.now.Add(call.RingFor - time.Millisecond)
		if ids := claim(); len(ids) != 0 {
			t.Errorf("due early: %v", ids)
		}
		c.now = c.now.Add(time.Millisecond)
		if ids := claim(); !slices.Equal(ids, []string{id}) {
			t.Errorf("due: %v", ids)
		}
		if ids := claim(); len(ids) != 0 {
			t.Errorf("claimed twice: %v", ids)
		}
		c.now = c.now.Add(CallLease)
		if ids := claim(); len(ids) != 1 {
			t.Errorf("the claimer died, and nobody takes over: %v", ids)
		}
		// A change ends the hold.
		c.answer(id, "b1")
		c.now = c.now.Add(call.ConnectWithin)
		if ids := claim(); len(ids) != 1 {
			t.Errorf("due after a change: %v", ids)
		}
		c.change(id, call.TimerFired{})
		if ids := claim(); len(ids) != 0 {
			t.Errorf("due after the end: %v", ids)
		}
	})
}

func TestSignedOutSlots(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		c.place(CallPlaced, "a1", "b")
		if gone, err := s.SignedOutSlots(c.ctx, c.now); err != nil || len(gone) != 0 {
			t.Fatal(gone, err)
		}
		err := s.tx(c.ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.ctx, "DELETE FROM sessions WHERE device_id = $1", c.id["a1"])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := s.SignedOutSlots(c.ctx, c.now); err != nil || len(gone) != 1 || gone[0].DeviceID != c.id["a1"] || gone[0].AccountID != c.id["a"] {
			t.Errorf("%+v, %v", gone, err)
		}
	})
}

func FuzzParseCallCursor(f *testing.F) {
	f.Add(CallCursor{StartedAt: 1795600000000, CallID: "ca_0123456789abcdef"}.String())
	f.Add("")
	f.Add("MTIgY2FfMDEyMzQ1Njc4OWFiY2RlZg==")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCallCursor(s)
		if err != nil {
			if err != ErrCursor {
				t.Errorf("error %v", err)
			}
			return
		}
		if c.String() != s {
			t.Errorf("%q is read as %+v, which is written as %q", s, c, c.String())
		}
	})
}

// NextCallWork says when a claim finds something: of work, of a timer, and after a claim at its end.
func TestNextCallWork(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := newCircle(t, s, "a", "b")
		began := c.now
		want := func(what string, after time.Duration) {
			t.Helper()
			next, err := s.NextCallWork(c.ctx)
			if err != nil || !next.Equal(began.Add(after)) {
				t.Errorf("%s: next after %v, %v; want %v", what, next.Sub(began), err, after)
			}
		}
		none := func(what string) {
			t.Helper()
			if next, err := s.NextCallWork(c.ctx); err != nil || !next.IsZero() {
				t.Errorf("%s: next at %v, %v", what, next, err)
			}
		}
		none("no call")
		change, _, err := s.PlaceCall(c.ctx, c.new("a1", "b"), c.now)
		if err != nil {
			t.Fatal(err)
		}
		want("the effects of the placing", CallLease)
		c.now = began.Add(CallLease)
		if list, err := s.ClaimCallWork(c.ctx, c.now, 10); err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		want("claimed effects", 2*CallLease)
		if err := s.CallWorkDone(c.ctx, change.Work...); err != nil {
			t.Fatal(err)
		}
		want("the ringing", call.RingFor)
		c.now = began.Add(call.RingFor)
		if ids, err := s.ClaimDueCalls(c.ctx, c.now, 10); err != nil || len(ids) != 1 {
			t.Fatal(ids, err)
		}
		want("a claimed timer", call.RingFor+CallLease)
		ended, err := s.ChangeCall(c.ctx, change.Call.ID, call.TimerFired{}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		want("the effects of the end", call.RingFor+CallLease)
		if err := s.CallWorkDone(c.ctx, ended.Work...); err != nil {
			t.Fatal(err)
		}
		none("after the end")
	})
}

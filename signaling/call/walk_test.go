package call

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// world carries out effects as the database and the devices would, and complains about what must not be.
type world struct {
	t     testing.TB
	call  Call
	now   time.Time
	slots map[string]string // device → account
	rings map[string]bool   // device
	ended bool
	log   []string
}

func newWorld(t testing.TB) *world {
	return &world{t: t, now: t0, slots: map[string]string{}, rings: map[string]bool{}}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.log {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

func (w *world) apply(e Event) error {
	w.t.Helper()
	before, err := w.call.Encode()
	if err != nil {
		w.fail("encode: %v", err)
	}
	old := w.call
	n, eff, err := Apply(old, e, w.now)
	w.log = append(w.log, w.now.Sub(t0).String()+" "+nameOf(e)+": "+describe(&n))
	if after, _ := old.Encode(); !bytes.Equal(before, after) {
		w.fail("Apply changed its input:\n%s\n%s", before, after)
	}
	if n.Version == old.Version {
		if len(eff) > 0 || !reflect.DeepEqual(n, old) {
			w.fail("the version stayed, but the call or the effects did not")
		}
		return err
	}
	if err != nil {
		w.fail("an error with a new version: %v", err)
	}
	w.check(old, n, e)
	w.perform(n, eff)
	w.repeat(old, n, eff, e)
	w.call = n
	return nil
}

func (w *world) check(old, n Call, e Event) {
	w.t.Helper()
	if err := n.Check(); err != nil {
		w.fail("%v", err)
	}
	if n.Version != old.Version+1 {
		w.fail("version %d after %d", n.Version, old.Version)
	}
	if old.State == Ended && n.State != Ended || old.State == Active && n.State == Ringing {
		w.fail("%s after %s", n.State, old.State)
	}
	if n.DueAt.Before(n.UpdatedAt) && !n.DueAt.IsZero() {
		if _, fired := e.(TimerFired); fired {
			w.fail("the timer leaves something due behind")
		}
	}
	b, err := n.Encode()
	if err != nil {
		w.fail("%v", err)
	}
	if again, err := Decode(b); err != nil || !reflect.DeepEqual(again, n) {
		w.fail("stored and read back: %v\n%+v\n%+v", err, n, again)
	}
	_, inviting := e.(Invited)
	for i := range n.People {
		p := &n.People[i]
		if d := p.Length(); d < 0 || d > n.UpdatedAt.Sub(n.CreatedAt) {
			w.fail("%s talked for %v of %v", p.Account, d, n.UpdatedAt.Sub(n.CreatedAt))
		}
		if i < len(old.People) && !inviting {
			if was := &old.People[i]; was.Outcome != NoOutcome && (was.Outcome != p.Outcome || !was.EndedAt.Equal(p.EndedAt)) {
				w.fail("%s: outcome %s became %s", p.Account, was.Outcome, p.Outcome)
			}
		}
		for _, d := range []string{"", p.Device} {
			if v, ok := n.View(p.Account, d); ok == p.Hidden || ok && (v.State == Ended) != (v.Outcome != NoOutcome) {
				w.fail("%s sees %+v", p.Account, v)
			}
		}
	}
	if n.State == Ended && len(n.People) == 2 && !n.AnsweredAt.IsZero() {
		if a, b := n.People[0], n.People[1]; a.Length() != b.Length() || a.Outcome != b.Outcome {
			w.fail("two histories differ: %s %v and %s %v", a.Outcome, a.Length(), b.Outcome, b.Length())
		}
	}
}

func (w *world) perform(n Call, eff []Effect) {
	w.t.Helper()
	ids := map[string]bool{}
	for _, e := range eff {
		if ids[e.ID] {
			w.fail("effect %s twice", e.ID)
		}
		ids[e.ID] = true
		switch e.Kind {
		case ClaimSlot:
			if w.slots[e.Device] != "" {
				w.fail("%s claimed twice", e.Device)
			}
			w.slots[e.Device] = e.Account
		case ReleaseSlot:
			if w.slots[e.Device] != e.Account {
				w.fail("%s released by %s, but is %q's", e.Device, e.Account, w.slots[e.Device])
			}
			delete(w.slots, e.Device)
		case Ring:
			if w.rings[e.Device] || w.ended {
				w.fail("%s rings twice, or after the end", e.Device)
			}
			w.rings[e.Device] = true
		case StopRing:
			if !w.rings[e.Device] {
				w.fail("%s stops, but did not ring", e.Device)
			}
			delete(w.rings, e.Device)
		case CloseRoom:
			w.ended = true
		case Notify:
			if p := n.Person(e.Account); p == nil || p.Hidden {
				w.fail("%s is told of a call that does not concern them", e.Account)
			}
		}
	}
	joined := map[string]string{}
	rings := map[string]bool{}
	for _, p := range n.People {
		if p.State == PersonJoined {
			joined[p.Device] = p.Account
		}
		for _, d := range p.Devices {
			if d.State.rings() {
				rings[d.ID] = true
			}
		}
	}
	if !reflect.DeepEqual(joined, w.slots) {
		w.fail("in the call: %v; slots: %v", joined, w.slots)
	}
	if !reflect.DeepEqual(rings, w.rings) {
		w.fail("ringing in the call: %v; in the world: %v", rings, w.rings)
	}
	if n.State == Ended && (len(w.slots) > 0 || len(w.rings) > 0 || !w.ended || !n.DueAt.IsZero()) {
		w.fail("ended, with slots %v, rings %v, room closed %t, due %v", w.slots, w.rings, w.ended, n.DueAt)
	}
	again, err := EncodeEffects(eff)
	if err != nil {
		w.fail("%v", err)
	}
	if back, err := DecodeEffects(again); err != nil || len(back) != len(eff) {
		w.fail("effects stored and read back: %v", err)
	}
}

// repeat applies the same event to the same call, which must do the same, and to the new call, which must do nothing.
func (w *world) repeat(old, n Call, eff []Effect, e Event) {
	w.t.Helper()
	if n2, eff2, err := Apply(old, e, w.now); err != nil || !reflect.DeepEqual(n, n2) || !reflect.DeepEqual(eff, eff2) {
		w.fail("the same event on the same call did something else: %v", err)
	}
	switch e := e.(type) {
	case Invited:
		return // a busy person may be tried again
	case MediaJoined:
		if p := n.Person(e.Account); p == nil || p.State != PersonJoined || p.Device != e.Device {
			return // is thrown out as often as it comes
		}
	}
	if n3, _, _ := Apply(n, e, w.now); n3.Version != n.Version {
		w.fail("%s again changed the call again: %s", nameOf(e), describe(&n3))
	}
}

// source is where a walk gets its decisions: a random generator, or the fuzzer's bytes.
type source interface{ IntN(int) int }

type bytesSource struct{ b []byte }

func (s *bytesSource) IntN(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0])
	s.b = s.b[1:]
	return v % n
}

var accounts = []string{"A", "B", "C", "D", "X"}

func someEvent(r source) Event {
	a := accounts[r.IntN(len(accounts))]
	d := string(a[0]+'a'-'A') + []string{"1", "2", "3"}[r.IntN(3)]
	someone := func() []Invitee {
		list := invite([]string{"A", "B", "C", "D"}[r.IntN(4)])
		switch r.IntN(6) {
		case 0:
			list[0].Busy = true
		case 1:
			list[0].Silent = true
		case 2:
			list = append(list, invite("D")...)
		}
		return list
	}
	switch r.IntN(20) {
	case 0:
		return placed("B")
	case 1:
		return Delivered{a, d}
	case 2, 3, 4:
		return Answered{a, d, ""}
	case 5:
		return Declined{a, d, r.IntN(2) == 0}
	case 6:
		return Cancelled{a, d}
	case 7:
		return HungUp{a, d}
	case 8, 9:
		return Invited{a, d, someone()}
	case 10, 11:
		return MediaJoined{a, d}
	case 12:
		return MediaLost{a, d}
	case 13:
		return MediaLeft{a, d}
	case 14:
		return RoomGone{Since: t0.Add(time.Duration(r.IntN(200)) * time.Second)}
	case 15, 16:
		return TimerFired{}
	case 17:
		return Blocked{a, accounts[r.IntN(len(accounts))]}
	case 18:
		return SignedOut{a, d}
	}
	if r.IntN(10) == 0 {
		return Failed{}
	}
	return TimerFired{}
}

// walk applies events until the source is tired, then lets the timers run out: whatever happened, the call ends.
func walk(t testing.TB, r source, steps int) {
	w := newWorld(t)
	first := Placed{ID: "ca", Account: "A", Device: "a1", Media: Video, People: invite("B")}
	if r.IntN(2) == 0 {
		first.People = append(first.People, invite("C")...)
		first.People[1].Silent = r.IntN(3) == 0
	}
	first.People[0].Busy = r.IntN(8) == 0
	first.People[0].Silent = r.IntN(8) == 0
	if err := w.apply(first); err != nil {
		t.Fatal(err)
	}
	for range steps {
		switch r.IntN(8) {
		case 0:
			w.now = w.now.Add(time.Duration(r.IntN(60)) * time.Second)
		case 1:
			if !w.call.DueAt.IsZero() {
				w.now = w.call.DueAt
			}
		case 2:
			w.now = w.now.Add(-time.Duration(r.IntN(5)) * time.Second) // clocks of two machines differ
		}
		e := someEvent(r)
		if err := w.apply(e); errors.Is(err, ErrNotPlaced) {
			w.fail("%s: %v", nameOf(e), err)
		}
	}
	// Everybody loses the network for good.
	w.apply(RoomGone{})
	for n := 0; w.call.State != Ended; n++ {
		if w.call.DueAt.IsZero() || n > 100 {
			w.fail("nobody is left, and nothing ends the call")
		}
		w.now = w.call.DueAt
		was := w.call.Version
		w.apply(TimerFired{})
		if w.call.Version == was {
			w.fail("the timer was due and did nothing")
		}
	}
}

func TestRandomWalks(t *testing.T) {
	walks := 600
	if testing.Short() {
		walks = 100
	}
	for seed := range walks {
		walk(t, rand.New(rand.NewPCG(uint64(seed), 1)), 40)
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 1, 1, 3, 1, 0, 2})
	f.Add([]byte("answered, lost, back, hung up"))
	f.Fuzz(func(t *testing.T, b []byte) { walk(t, &bytesSource{b}, min(len(b), 200)) })
}

func FuzzDecode(f *testing.F) {
	for _, s := range situations[1:] {
		c, _ := s.call(f)
		b, _ := c.Encode()
		f.Add(b)
		f.Add(bytes.ReplaceAll(b, []byte(`"endedAt"`), []byte(`"unknown"`)))
	}
	f.Add([]byte(`{"id":"x","version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Skip("a year beyond 9999 is read from an offset, but never written")
		}
		c2, err := Decode(again)
		if err != nil {
			t.Fatalf("read, written, refused: %v", err)
		}
		if b2, _ := c2.Encode(); !bytes.Equal(again, b2) {
			t.Fatalf("read and written twice:\n%s\n%s", again, b2)
		}
		// Whatever is accepted can be lived with: no event may panic or break a rule.
		for _, e := range tableEvents {
			if _, ok := e.(timerDue); ok {
				e = TimerFired{}
			}
			n, _, err := Apply(c, e, c.UpdatedAt)
			if err == nil && n.Version != c.Version {
				if err := n.Check(); err != nil {
					t.Fatalf("%s: %v", nameOf(e), err)
				}
			}
		}
	})
}

func FuzzDecodeEffects(f *testing.F) {
	f.Add([]byte(`[{"id":"ca/1/0","kind":"ring","account":"B","device":"b1"}]`))
	f.Add([]byte(`[{"kind":"unheard of"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeEffects(b)
		if err != nil {
			return
		}
		again, err := EncodeEffects(list)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeEffects(again); err != nil || !reflect.DeepEqual(list, back) {
			t.Fatalf("%v: %+v, %+v", err, list, back)
		}
	})
}

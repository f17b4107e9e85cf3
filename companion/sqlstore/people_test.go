package sqlstore

import (
	"errors"
	"testing"
	"time"

	"anytime/companion/people"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// account stores a person of the name and returns their id.
func (s *Store) account(t *testing.T, name string) string {
	t.Helper()
	n, err := people.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := people.HashSecret(people.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(t.Context(), people.RegistrationOpen, hash, now); err != nil {
		t.Fatal(err)
	}
	acc, err := s.CreateAccount(t.Context(), NewAccount{ID: people.NewID("ac_"), Name: n, DisplayName: name, Password: "x"},
		NewSession{Hash: hash, Device: people.Device{ID: people.NewID("dv_"), Name: "d", Kind: "browser"}, ExpiresAt: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	return acc.ID
}

// Whom a call reaches, by who blocked whom, whose calls the callee takes, and
// whether they are contacts. Being blocked must never change what the caller sees.
func TestMayRing(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		contactsOnly := people.CallsFromContacts
		for i, c := range []struct {
			contact, only, blocks, blocked bool
			want                           Ringing
		}{
			{false, false, false, false, Rings},
			{true, false, false, false, Rings},
			{false, true, false, false, ContactsOnly},
			{true, true, false, false, Rings},
			{false, false, false, true, RingsUnheard},
			{true, false, false, true, RingsUnheard},
			{false, true, false, true, ContactsOnly}, // as without the block
			{true, true, false, true, RingsUnheard},
			{true, false, true, false, CalleeBlocked},
			{true, false, true, true, CalleeBlocked},
			{false, true, true, false, CalleeBlocked},
		} {
			a, b := s.account(t, "caller-"+string(rune('a'+i))), s.account(t, "callee-"+string(rune('a'+i)))
			try := func(_ any, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.contact {
				_, _, err := s.Request(ctx, a, b, 10, now)
				try(nil, err)
				_, _, err = s.Accept(ctx, b, a, now)
				try(nil, err)
			}
			if c.only {
				try(s.UpdateAccount(ctx, b, AccountChange{CallsFrom: &contactsOnly}))
			}
			if c.blocks {
				try(s.Block(ctx, a, b, 10, now))
			}
			if c.blocked {
				try(s.Block(ctx, b, a, 10, now))
			}
			if got, err := s.MayRing(ctx, a, b); got != c.want || err != nil {
				t.Errorf("%+v: %v, %v", c, got, err)
			}
		}
		a := s.account(t, "alone")
		if _, err := s.MayRing(ctx, a, people.NewID("ac_")); !errors.Is(err, ErrNotFound) {
			t.Errorf("a call to nobody: %v", err)
		}
	})
}

func TestPeople(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b, c := s.account(t, "anna"), s.account(t, "bert"), s.account(t, "carl")
		if _, _, err := s.Request(ctx, a, b, 10, now); err != nil {
			t.Fatal(err)
		}
		got, err := s.People(ctx, a, []string{a, b, c, b, people.NewID("ac_")})
		if err != nil || len(got) != 3 || got[a].Relation != people.Self || got[b].Relation != people.Requested || got[c].Relation != people.None {
			t.Errorf("people %+v, %v", got, err)
		}
		if p, err := s.PersonByName(ctx, b, "anna"); err != nil || p.ID != a || p.Relation != people.Incoming {
			t.Errorf("by name %+v, %v", p, err)
		}
		if _, err := s.PersonByName(ctx, b, "dora"); !errors.Is(err, ErrNotFound) {
			t.Errorf("nobody's name: %v", err)
		}
		if ids, err := s.KnownBy(ctx, a); err != nil || len(ids) != 1 || ids[0] != b {
			t.Errorf("known by %v, %v", ids, err)
		}
		// Each relation is one of a pair: whichever way it was asked.
		if _, _, err := s.Accept(ctx, b, a, now); err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]string{{a, b}, {b, a}} {
			if p, err := s.Person(ctx, pair[0], pair[1]); err != nil || p.Relation != people.Contact {
				t.Errorf("person %+v, %v", p, err)
			}
		}
		if _, _, err := s.Request(ctx, c, c, 10, now); !errors.Is(err, ErrSelf) {
			t.Errorf("a request to oneself: %v", err)
		}
	})
}

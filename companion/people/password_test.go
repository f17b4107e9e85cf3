package people

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func mustName(t *testing.T, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParsePassword(t *testing.T) {
	name := mustName(t, "annabelle")
	for _, c := range []struct{ in, code string }{
		{"correct horse battery", ""},
		{"Tr0ub4dor&3", ""},
		{"пароль из слов", ""},
		{"密码密码密码", ""},
		{strings.Repeat("ab1", 85), ""},
		{"", "password_too_short"},
		{"1234567", "password_too_short"},
		{"äöü", "password_too_short"},
		{strings.Repeat("ab1", 86), "password_too_long"},
		{strings.Repeat("a", 1<<20), "password_too_long"},
		{"password", "password_common"},
		{"Password", "password_common"},
		{"password1!", "password_common"},
		{"QWERTYUIOP", "password_common"},
		{"iloveyou", "password_common"},
		{"aaaaaaaaaa", "password_common"},
		{"abababababab", "password_common"},
		{"12345678", "password_common"},
		{"987654321", "password_common"},
		{"abcdefgh", "password_common"},
		{"annabelle", "password_common"},
		{"Annabelle99", "password_common"},
		{"annabelleannabelle", "password_common"},
		{"with\x00null byte", "password_invalid"},
		{"with\nline break", "password_invalid"},
		{"with\xffbad bytes", "password_invalid"},
	} {
		got, err := ParsePassword(c.in, name)
		var r *Refusal
		switch {
		case c.code == "" && (err != nil || got == ""):
			t.Errorf("%.30q is refused: %v", c.in, err)
		case c.code != "" && (!errors.As(err, &r) || r.Code != c.code):
			t.Errorf("%.30q gives %v, want %s", c.in, err, c.code)
		}
	}
}

// One password typed on two keyboards is one password.
func TestPasswordForms(t *testing.T) {
	a, err := ParsePassword("ångström ñandu", Name{})
	if err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{"a\u030angstro\u0308m n\u0303andu", "ångström\u00a0ñandu"} {
		if TypedPassword(typed) != a {
			t.Errorf("%q is read as %q, not %q", typed, TypedPassword(typed), a)
		}
	}
}

var cheap = Argon2{Time: 1, Memory: 8, Threads: 1}

func TestHashAndVerify(t *testing.T) {
	ctx := t.Context()
	p := NewPasswords(cheap, 2, 2)
	phc, err := p.Hash(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Errorf("PHC string %s", phc)
	}
	if other, err := p.Hash(ctx, "correct horse"); err != nil || other == phc {
		t.Errorf("two hashes of one password are the same, or %v", err)
	}
	for _, c := range []struct {
		stored, password string
		ok               bool
	}{{phc, "correct horse", true}, {phc, "correct horsf", false}, {phc, "", false}, {"", "correct horse", false}, {"", "", false}} {
		ok, outdated, err := p.Verify(ctx, c.stored, c.password)
		if ok != c.ok || outdated || err != nil {
			t.Errorf("Verify(%q, %q) = %v, %v, %v", c.stored, c.password, ok, outdated, err)
		}
	}
	if cost, _, sum, err := parsePHC(p.dummy()); cost != cheap || len(sum) != hashBytes || err != nil {
		t.Errorf("nobody's hash has cost %+v, %v", cost, err)
	}
	dearer := NewPasswords(Argon2{Time: 2, Memory: 16, Threads: 1}, 1, 1)
	if ok, outdated, err := dearer.Verify(ctx, phc, "correct horse"); !ok || !outdated || err != nil {
		t.Errorf("at another cost: %v, %v, %v", ok, outdated, err)
	}
}

// The reference implementation's own vector: argon2id, "password", salt "somesalt",
// 2 passes, 64 MiB (github.com/P-H-C/phc-winner-argon2, test.c).
func TestArgon2Vector(t *testing.T) {
	p := NewPasswords(DefaultArgon2, 1, 0)
	const phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, _, err := p.Verify(t.Context(), phc, "password"); !ok || err != nil {
		t.Errorf("the vector does not verify: %v", err)
	}
}

// With every slot taken, a few wait and the rest are sent away; who gives up
// leaves the line.
func TestPasswordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPasswords(cheap, 2, 3)
		leave1, err1 := p.enter(t.Context())
		leave2, err2 := p.enter(t.Context())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		var errs []error
		for range 3 {
			wg.Go(func() {
				_, err := p.Hash(ctx, "x")
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			})
		}
		synctest.Wait()
		if _, err := p.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("with the line full: %v, want ErrBusy", err)
		}
		if _, _, err := p.Verify(t.Context(), "", "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("with the line full: %v, want ErrBusy", err)
		}
		giveUp()
		wg.Wait()
		for _, err := range errs {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		}
		leave1()
		leave2()
		if _, err := p.Hash(t.Context(), "x"); err != nil {
			t.Errorf("after all left: %v", err)
		}
		if len(p.slots) != 0 || len(p.waiting) != 0 {
			t.Errorf("%d slots and %d places in line stay taken", len(p.slots), len(p.waiting))
		}
	})
}

func TestSecrets(t *testing.T) {
	s := NewSecret()
	if s == NewSecret() || len(s) != 43 {
		t.Errorf("secret %q", s)
	}
	h, err := HashSecret(s)
	if err != nil || len(h) != 64 || strings.Contains(h, s) {
		t.Errorf("hash %q, %v", h, err)
	}
	for _, bad := range []string{"", "x", s + "=", s + "\n", s[:42], s[:42] + "!", "\n" + s[1:], s + s} {
		if _, err := HashSecret(bad); err == nil {
			t.Errorf("%q counts as a secret", bad)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID("ac_")
		if !ValidID("ac_", id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "ac_", "dv_0123456789abcdef", "ac_0123456789abcde", "ac_0123456789abcdefg", "ac_0123456789abcde:", "ac_0123456789abcdé"} {
		if ValidID("ac_", bad) {
			t.Errorf("%q counts as an account's id", bad)
		}
	}
}

func FuzzHashSecret(f *testing.F) {
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := HashSecret(s)
		if (err == nil) != (h != "") || h != "" && (len(h) != 64 || len(s) != 43) {
			t.Fatalf("%q gives %q, %v", s, h, err)
		}
	})
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, s string) {
		a, salt, sum, err := parsePHC(s)
		if err != nil {
			return
		}
		if a.Memory > maxMemory || a.Time < 1 || a.Time > maxTime || a.Threads < 1 {
			t.Fatalf("%q costs %+v", s, a)
		}
		// Costs may be written with leading zeros; else there is one spelling.
		if b, salt2, sum2, err := parsePHC(phc(a, salt, sum)); err != nil || a != b || string(salt) != string(salt2) || string(sum) != string(sum2) {
			t.Fatalf("%q does not survive being written: %v", s, err)
		}
	})
}

func FuzzParsePassword(f *testing.F) {
	f.Add("correct horse battery", "anna")
	f.Add("a\u030angstro\u0308m n\u0303", "anna")
	f.Fuzz(func(t *testing.T, password, name string) {
		n, _ := ParseName(name)
		p, err := ParsePassword(password, n)
		if err != nil {
			return
		}
		if len(p) < MinPassword || len(p) > MaxPassword {
			t.Fatalf("%q becomes %d bytes", password, len(p))
		}
		if TypedPassword(password) != p || TypedPassword(p) != p {
			t.Fatalf("%q is stored as %q but typed as %q, then %q", password, p, TypedPassword(password), TypedPassword(p))
		}
	})
}

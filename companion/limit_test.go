package companion

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestLimiter(t *testing.T) {
	now := newClock().now()
	l := newLimiter(Rate{Burst: 3, Every: 10 * time.Second})
	take := func(key string, ok bool, wait time.Duration) {
		t.Helper()
		if w, o := l.take(key, now); o != ok || w != wait {
			t.Errorf("take(%s) = %v, %v, want %v, %v", key, w, o, wait, ok)
		}
	}
	for range 3 {
		take("a", true, 0)
	}
	take("a", false, 10*time.Second)
	take("b", true, 0)
	now = now.Add(4 * time.Second)
	take("a", false, 6*time.Second) // a refusal costs nothing
	now = now.Add(6 * time.Second)
	take("a", true, 0)
	take("a", false, 10*time.Second)
	l.giveBack("a")
	take("a", true, 0)
	now = now.Add(time.Hour)
	for range 3 { // no more than the burst is saved up
		take("a", true, 0)
	}
	take("a", false, 10*time.Second)
	l.giveBack("nobody")
	l.sweep(now)
	if _, ok := l.full["b"]; ok || len(l.full) != 1 {
		t.Errorf("after a sweep %d keys are left", len(l.full))
	}
	take("a", false, 10*time.Second)
}

// However many keys come, memory stays bounded, and a key in use is seldom forgotten.
func TestLimiterIsBounded(t *testing.T) {
	now := newClock().now()
	l := newLimiter(Rate{Burst: 1, Every: time.Hour})
	for i := range maxKeys + 5000 {
		l.take(fmt.Sprint(i), now)
		if len(l.full) > maxKeys {
			t.Fatalf("%d keys", len(l.full))
		}
	}
	if len(l.full) < maxKeys/2 {
		t.Errorf("only %d keys are left", len(l.full))
	}
}

func TestAddressKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
	} {
		if got := addressKey(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

func TestLimitsHaveDefaults(t *testing.T) {
	if (Limits{}).filled() != defaultLimits() {
		t.Error("zero limits are not the defaults")
	}
	l := Limits{Lookup: Rate{1, time.Second}, Sockets: 3}.filled()
	want := defaultLimits()
	want.Lookup, want.Sockets = Rate{1, time.Second}, 3
	if l != want {
		t.Errorf("limits %+v", l)
	}
}

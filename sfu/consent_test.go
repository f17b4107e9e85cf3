package sfu

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"
)

// TestConsent: a check with our password gets the answer that RFC 8489 wants; all others are left to the agent.
func TestConsent(t *testing.T) {
	const password = "the password of ours"
	user := stun.NewUsername("us:them")
	ours := stun.NewShortTermIntegrity(password)
	controlling := stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)}
	controlled := stun.RawAttribute{Type: stun.AttrICEControlled, Value: make([]byte, 8)}
	good := stunOf(t, stun.BindingRequest, user, controlling, ours, stun.Fingerprint)
	forged := bytes.Clone(good)
	forged[len(forged)-10] ^= 1
	cut := bytes.Clone(good[:len(good)-12])
	setSTUNLength(cut, len(cut))
	for _, test := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"a check", good, true},
		{"without a fingerprint", stunOf(t, stun.BindingRequest, user, controlling, ours), true},
		{"that nominates", stunOf(t, stun.BindingRequest, user, stun.RawAttribute{Type: stun.AttrUseCandidate}, ours), true},
		{"with another password", stunOf(t, stun.BindingRequest, user, stun.NewShortTermIntegrity("another"), stun.Fingerprint), false},
		{"with none", stunOf(t, stun.BindingRequest, user, stun.Fingerprint), false},
		{"changed on the way", forged, false},
		{"cut short", cut, false},
		{"in our role", stunOf(t, stun.BindingRequest, user, controlled, ours, stun.Fingerprint), false},
		{"an indication", stunOf(t, stun.NewType(stun.MethodBinding, stun.ClassIndication), user, ours, stun.Fingerprint), false},
		{"an answer", stunOf(t, stun.BindingSuccess, user, ours, stun.Fingerprint), false},
	} {
		for _, from := range []string{"192.0.2.1:4711", "[2001:db8::1]:65535", "[::ffff:192.0.2.1]:1"} {
			from := netip.MustParseAddrPort(from)
			m, _ := parseSTUN(test.b)
			before := bytes.Clone(test.b)
			var reply []byte
			got := newConsenter(password).answer(test.b, m, from, func(b []byte) { reply = bytes.Clone(b) })
			if got != test.want || got != (reply != nil) {
				t.Errorf("%s: %v, and %x", test.name, got, reply)
			}
			if !bytes.Equal(before, test.b) {
				t.Errorf("%s: it was changed", test.name)
			}
			if reply == nil {
				continue
			}
			r := &stun.Message{Raw: reply}
			var seen stun.XORMappedAddress
			if err := r.Decode(); err != nil {
				t.Fatal(err)
			}
			if r.Type != stun.BindingSuccess || !bytes.Equal(r.TransactionID[:], test.b[8:20]) {
				t.Errorf("%s: %v", test.name, r)
			}
			if err := ours.Check(r); err != nil {
				t.Error(err)
			}
			if err := stun.Fingerprint.Check(r); err != nil {
				t.Error(err)
			}
			if err := seen.GetFrom(r); err != nil || seen.IP.String() != from.Addr().Unmap().String() || seen.Port != int(from.Port()) {
				t.Errorf("%s from %v: seen at %v, %v", test.name, from, seen, err)
			}
		}
	}
	c, reply := newConsenter(password), 0
	m, _ := parseSTUN(good)
	from := netip.MustParseAddrPort("192.0.2.1:4711")
	send := func(b []byte) { reply += len(b) }
	if n := testing.AllocsPerRun(100, func() { c.answer(good, m, from, send) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

package sfu

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

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

// TestConsentOfThePairInUse: only checks over the pair that the agent has chosen, from an address that is still its peer's, pass
// the agent by.
func TestConsentOfThePairInUse(t *testing.T) {
	m, w := wiredMux(t)
	now := time.Second
	m.clock = func() time.Duration { return now }
	a, b := newMuxPeer(t, m, "us"), newMuxPeer(t, m, "others")
	a.consent("us", "password")
	nominating := stunOf(t, stun.BindingRequest, stun.NewUsername("us:peer"), stun.RawAttribute{Type: stun.AttrUseCandidate},
		stun.NewShortTermIntegrity("password"), stun.Fingerprint)
	plain := checkFor(t, "us")
	read := func() {
		t.Helper()
		if _, _, err := a.agent.ReadFromAddrPort(make([]byte, maxControl)); err != nil {
			t.Fatal(err)
		}
	}
	chooses := func(n int) { // the agent chooses the pair of that address
		t.Helper()
		m.receive(nominating, addressOf(n), now)
		read()
		a.answers(t, addressOf(n))
		a.lead(addressOf(n), false)
		w.took()
	}
	for _, x := range []struct {
		name  string
		do    func()
		check []byte
		from  int
		agent bool // it is the agent's
	}{
		{"the first", func() {}, nominating, 1, true},
		{"one that it has answered, but not chosen", func() { m.receive(plain, addressOf(1), now); read(); a.answers(t, addressOf(1)); w.took() }, plain, 1, true},
		{"over the pair in use", func() { chooses(1) }, plain, 1, false},
		{"that nominates it again", func() {}, nominating, 1, false},
		{"from elsewhere", func() {}, plain, 2, true},
		{"with another password", func() {}, stunOf(t, stun.BindingRequest, stun.NewUsername("us:peer"), stun.NewShortTermIntegrity("pass"), stun.Fingerprint), 1, true},
		{"over the pair before", func() { chooses(2) }, plain, 1, true},
		{"over the new one", func() {}, plain, 2, false},
		{"from an address that is another's now", func() { now += speechLife; b.answers(t, addressOf(2)); w.took() }, plain, 2, true},
		{"from one that it got back", func() { a.answers(t, addressOf(2)); w.took() }, plain, 2, false},
		{"while nothing is sent", func() { a.hold(true) }, plain, 2, true},
		{"when it is sent again", func() { a.hold(false) }, plain, 2, false},
		{"after a nomination over TCP", func() { g := a.generation(); g.nominates = true; g.answered(netip.AddrPort{}) }, plain, 2, true},
	} {
		for a.waiting() > 0 {
			read()
		}
		x.do()
		m.receive(x.check, addressOf(x.from), now)
		sent := w.took()
		if got := a.waiting() > 0; got != x.agent || got == (len(sent) > 0) {
			t.Errorf("a check %s: the agent's: %v, answered: %v", x.name, got, len(sent) > 0)
		}
		if len(sent) > 0 && (sent[0].to != addressOf(x.from) || !isSuccess(sent[0].b) || a.unheard() != 0) {
			t.Errorf("a check %s: %v", x.name, sent)
		}
	}
}

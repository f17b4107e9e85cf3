package turn

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAdmissionRate(t *testing.T) {
	a := newAdmission(10, 100)
	ip := netip.MustParseAddr("192.0.2.1")
	passed := func(now time.Time, tries int) (n int) {
		for range tries {
			if a.allow(ip, now) {
				n++
			}
		}
		return n
	}
	if n := passed(start, 100); n != 40 {
		t.Errorf("%d at once, want the burst of 40", n)
	}
	if n := passed(start.Add(100*time.Millisecond), 10); n != 1 {
		t.Errorf("%d after 100 ms, want 1", n)
	}
	if n := passed(start.Add(time.Second), 100); n != 9 {
		t.Errorf("%d in the rest of the second, want 9", n)
	}
	// Asking in vain costs nothing, and time off earns no more than the burst.
	if n := passed(start.Add(time.Hour), 100); n != 40 {
		t.Errorf("%d after an hour, want 40", n)
	}
	if n := passed(start, 5); n != 0 {
		t.Errorf("%d after the clock went back", n)
	}
}

func TestAdmissionIsPerAddress(t *testing.T) {
	a := newAdmission(1, 100)
	drain := func(text string) (n int) {
		for a.allow(netip.MustParseAddr(text), start) {
			n++
		}
		return n
	}
	for _, test := range []struct {
		address string
		want    int
	}{
		{"192.0.2.1", 4},
		{"192.0.2.2", 4},
		{"::ffff:192.0.2.1", 0},     // the same
		{"2001:db8::1", 4},          //
		{"2001:db8::ffff:2", 0},     // the same /64
		{"2001:db8:0:1::1", 4},      // another
		{"fe80::1%eth0", 4},         //
		{"fe80::2%eth1", 0},         //
		{"2001:db8:0:1:ffff::1", 0}, //
	} {
		if n := drain(test.address); n != test.want {
			t.Errorf("%s: %d passed, want %d", test.address, n, test.want)
		}
	}
}

// Forged senders can't make the table grow, nor open a way around the rate.
func TestAdmissionIsBounded(t *testing.T) {
	a := newAdmission(1, 10)
	passed := 0
	for i := range 1000 {
		if a.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), start) {
			passed++
		}
	}
	if len(a.full) != 10 || passed != 10+4 {
		t.Errorf("%d addresses kept, %d messages passed; want 10 and 14", len(a.full), passed)
	}
	a.sweep(start.Add(500 * time.Millisecond))
	if len(a.full) != 10 {
		t.Errorf("%d kept while their buckets are filling", len(a.full))
	}
	a.sweep(start.Add(2 * time.Second))
	if len(a.full) != 0 {
		t.Errorf("%d kept for ever", len(a.full))
	}
}

func TestNoLimits(t *testing.T) {
	l := Limits{Requests: -1, Allocations: -1, AllocationsPerUser: -1, AllocationsPerAddress: -1, Bandwidth: -1, AllocationAge: -1}.withDefaults()
	a := newAdmission(l.Requests, 10)
	q := newQuota(l)
	who := client{"ac_1", netip.MustParseAddrPort("192.0.2.1:5")}
	for range 100_000 {
		if !a.allow(who.from.Addr(), start) {
			t.Fatal("requests are limited")
		}
		if u, ok := q.acquire(who); !ok || !u.up.take(0, 1500) || !u.requests.take(0, 1) {
			t.Fatal("allocations are limited")
		}
	}
	if !start.Add(l.AllocationAge).After(start.AddDate(50, 0, 0)) {
		t.Error("allocations age")
	}
}

func TestQuotaSweepKeepsTheBucket(t *testing.T) {
	q := newQuota(Limits{Bandwidth: 1000}.withDefaults())
	who := client{"ac_1", netip.MustParseAddrPort("192.0.2.1:5")}
	u, _ := q.acquire(who)
	u.up.take(0, 64<<10)
	q.release(who, start)
	q.sweep(start.Add(9 * time.Second))
	again, _ := q.acquire(who)
	if again != u {
		t.Error("a new allocation begins with a full bucket")
	}
	q.release(who, start)
	q.sweep(start.Add(11 * time.Second))
	if len(q.users) != 0 {
		t.Error("an idle user is kept for ever")
	}
	if allocations, users := q.counts(); allocations != 0 || users != 0 {
		t.Errorf("%d allocations of %d users", allocations, users)
	}
}

func TestPeers(t *testing.T) {
	parse := netip.MustParseAddrPort
	list := usable([]netip.AddrPort{
		parse("[::ffff:192.0.2.1]:7882"), parse("192.0.2.1:7882"), parse("0.0.0.0:7882"), parse("[::]:7882"),
		parse("192.0.2.1:0"), parse("[fe80::1%eth0]:7882"), parse("224.0.0.1:7882"), parse("[2001:db8::1]:7882"), {},
	})
	if got := fmt.Sprint(list); got != "[192.0.2.1:7882 [2001:db8::1]:7882]" {
		t.Errorf("usable: %v", got)
	}
	p := newPeers(list, nil)
	for ip, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "2001:db8::1": true, "127.0.0.1": false, "::1": false,
		"169.254.169.254": false, "::ffff:192.0.2.1": true, "0.0.0.0": false, "::": false,
	} {
		if p.allows(net.ParseIP(ip)) != want {
			t.Errorf("%s: allowed %t", ip, !want)
		}
	}
	if p.allows(nil) || p.allows(net.IP{1, 2}) {
		t.Error("no address is allowed")
	}
}

func TestRoutedPeers(t *testing.T) {
	parse := netip.MustParseAddrPort
	public, other, local := parse("203.0.113.7:7882"), parse("203.0.113.8:7882"), parse("192.0.2.1:7882")
	inside := func(netip.AddrPort) netip.AddrPort { return local }
	p := newPeers(usable([]netip.AddrPort{public}), inside)
	if p.to[public] != local || p.from[local] != public || p.from[public] != public {
		t.Errorf("to %v, from %v", p.to, p.from)
	}
	if _, ok := p.to[local]; ok || p.allows(net.IP{192, 0, 2, 1}) {
		t.Error("an address that wasn't announced can be asked for")
	}
	p = newPeers(usable([]netip.AddrPort{public, other}), inside)
	if p.from[local] != public {
		t.Errorf("from %v", p.from)
	}
	p = newPeers(usable([]netip.AddrPort{public, local}), inside)
	if p.from[local] != local {
		t.Errorf("from %v", p.from)
	}
}

func TestRelayIP(t *testing.T) {
	ports := func(list ...string) (out []netip.AddrPort) {
		for _, text := range list {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(text), 7882))
		}
		return out
	}
	one := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	for _, test := range []struct {
		configured []netip.Addr
		peers      []netip.AddrPort
		v4         bool
		want       string
	}{
		{nil, ports("127.0.0.1", "192.0.2.1", "2001:db8::1"), true, "192.0.2.1"},
		{nil, ports("127.0.0.1", "192.0.2.1", "2001:db8::1"), false, "2001:db8::1"},
		{nil, ports("127.0.0.1"), true, "127.0.0.1"},
		{nil, ports("127.0.0.1"), false, "invalid IP"},
		{one("203.0.113.1"), ports("192.0.2.1", "2001:db8::1"), true, "203.0.113.1"},
		{one("203.0.113.1"), ports("192.0.2.1", "2001:db8::1"), false, "2001:db8::1"},
		{one("::ffff:203.0.113.1"), nil, true, "203.0.113.1"},
	} {
		if got := relayIP(test.configured, test.peers, test.v4).String(); got != test.want {
			t.Errorf("%v: got %s", test, got)
		}
	}
}

func TestCredentialsForm(t *testing.T) {
	name, password := Credentials("secret", "ac_1:dv_2", time.Unix(1_800_000_000, 0), time.Hour)
	// The password by `printf %s 1800003600:ac_1:dv_2 | openssl dgst -sha1 -hmac secret -binary | base64`.
	if name != "1800003600:ac_1:dv_2" || password != "mNGuBbCgEThSY3ToUOVEwLhBMa0=" {
		t.Errorf("%s %s", name, password)
	}
	expiry, identity, ok := parseUsername(name)
	if !ok || identity != "ac_1:dv_2" || expiry.Unix() != 1_800_003_600 {
		t.Errorf("%v %q %t", expiry, identity, ok)
	}
}

func FuzzUsername(f *testing.F) {
	for _, seed := range []string{"1800003600:ac_1:dv_2", "", ":", "1:", ":a", "-1:a", "+1:a", "01:a", "1:a\x00b", "1e3:a", "99999999999999999999:a", "1:" + strings.Repeat("é", 200)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, username string) {
		expiry, identity, ok := parseUsername(username)
		if !ok {
			return
		}
		// Whatever is accepted is exactly what Credentials makes, and fits a user id.
		if again, _ := Credentials("s", identity, expiry, 0); again != username {
			t.Fatalf("%q became %q", username, again)
		}
		who := client{identity, netip.MustParseAddrPort("[2001:db8::1%eth0]:9")}
		if back, ok := parseUserID(who.userID()); !ok || back != who {
			t.Fatalf("user id %q became %+v", who.userID(), back)
		}
	})
}

// FuzzStream feeds bytes as a connection would, cut in two anywhere, and checks what comes out
// message by message.
func FuzzStream(f *testing.F) {
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw
	f.Add(request, uint16(3))
	f.Add(append(append([]byte{0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0}, request...), 0x40, 2, 0, 0), uint16(13))
	f.Add(binary.BigEndian.AppendUint32([]byte{0, 1, 0xff, 0xec}, magicCookie), uint16(1))
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff}, uint16(0))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		at := 0
		for at < len(stream) {
			size, more, err := messageSize(stream[at:])
			if err != nil {
				return
			}
			if size <= 0 || size > maxMessage {
				t.Fatalf("size %d", size)
			}
			if more && size <= len(stream[at:]) {
				t.Fatalf("asks for %d bytes and has %d", size, len(stream[at:]))
			}
			// The first bytes alone come to the same, or ask for more.
			short := stream[at:min(at+int(cut), len(stream))]
			if size2, more2, err := messageSize(short); !more && (err != nil || !more2 && size2 != size) {
				t.Fatalf("%d bytes: %d %t %v; all: %d", len(short), size2, more2, err, size)
			}
			if more || at+size > len(stream) {
				return
			}
			message := stream[at : at+size]
			if message[0]>>6 == 0 && kindOf(message) == garbage {
				t.Fatalf("a STUN message from the stream is garbage: %x", message)
			}
			at += size
		}
	})
}

// FuzzDatagram: nothing passes as a request that Pion's parser reads past its end.
func FuzzDatagram(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw)
	f.Add([]byte{0x40, 0, 0, 1, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		what := kindOf(b)
		if what == garbage {
			return
		}
		message := &stun.Message{Raw: b}
		if (what == request || what == indication) && !stun.IsMessage(b) {
			t.Fatal("not a STUN message")
		}
		if what == request && message.Decode() == nil && message.Type.Class != stun.ClassRequest {
			t.Fatalf("a %v passes as a request", message.Type)
		}
		s := &Server{software: "x"}
		s.announce(b) // must not panic on what isn't ours
	})
}

package turn

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

func TestCredentialsAreChecked(t *testing.T) { eachWay(t, testCredentialsAreChecked) }

func testCredentialsAreChecked(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	oldName, oldPassword := Credentials(testSecret, "ac_1:dv_1", time.Now().Add(-time.Hour), time.Minute)
	_, otherPassword := Credentials("another secret", "ac_1:dv_1", time.Now(), time.Minute)
	for _, test := range []struct{ what, name, password string }{
		{"expired", oldName, oldPassword},
		{"wrong password", name, "wrong"},
		{"another secret", name, otherPassword},
		{"expiry moved", strings.Replace(oldName, oldName[:10], name[:10], 1), oldPassword},
		{"another's name", strings.Replace(name, "ac_1", "ac_2", 1), password},
		{"no expiry", "ac_1", password},
		{"empty", "", ""},
	} {
		before := s.Stats()
		c := connect(t, dial(t, "udp", to, nil), to, test.name, test.password)
		if relay, err := c.Allocate(); err == nil {
			relay.Close()
			t.Errorf("%s: allocated", test.what)
		}
		if now := s.Stats(); now.AllocationsMade != before.AllocationsMade || test.name != "" && now.RefusedCredentials == before.RefusedCredentials {
			t.Errorf("%s: stats %+v", test.what, now)
		}
	}
	// The right ones work, on the same server.
	roundTrips(t, allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password)), peer)
}

// A call outlasts its credentials, but they open nothing new.
func TestAllocationOutlivesItsCredentials(t *testing.T) {
	eachWay(t, testAllocationOutlivesItsCredentials)
}

func testAllocationOutlivesItsCredentials(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{AllocationAge: time.Hour}}, peer)
	name, _ := Credentials(testSecret, "ac_1:dv_1", time.Now(), -time.Minute)
	old, _ := Credentials(testSecret, "ac_1:dv_1", time.Now(), -2*time.Hour)
	for _, test := range []struct {
		method stun.Method
		name   string
		want   bool
	}{
		{stun.MethodAllocate, name, false},
		{stun.MethodRefresh, name, true},
		{stun.MethodCreatePermission, name, true},
		{stun.MethodRefresh, old, false},
	} {
		_, _, ok := s.authenticate(&pion.RequestAttributes{
			Username: test.name, Realm: "anytime", Method: test.method,
			SrcAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5},
		})
		if ok != test.want {
			t.Errorf("%v with %s: %t, want %t", test.method, test.name, ok, test.want)
		}
	}
}

func TestQuotas(t *testing.T) { eachWay(t, testQuotas) }

func testQuotas(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	for _, test := range []struct {
		name   string
		limits Limits
		users  []string // one allocation each, in this order; the last one is refused
	}{
		{"per user", Limits{AllocationsPerUser: 2}, []string{"a", "b", "a", "a"}},
		{"per address", Limits{AllocationsPerAddress: 3}, []string{"a", "b", "c", "d"}},
		{"in total", Limits{Allocations: 2}, []string{"a", "b", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, at, clientTLS := w.all(t, Config{Limits: test.limits}, peer)
			transports := []string{"udp", "tcp", "tls"} // the counts are shared by all
			var first net.PacketConn
			for i, who := range test.users {
				network := transports[i%3]
				name, password := Credentials(testSecret, who, time.Now(), time.Minute)
				c := connect(t, dial(t, network, at[network], clientTLS), at[network], name, password)
				relay, err := c.Allocate()
				if i < len(test.users)-1 {
					if err != nil {
						t.Fatalf("allocation %d: %v", i, err)
					}
					t.Cleanup(func() { relay.Close() })
					if i == 0 {
						first = relay
					}
					continue
				}
				// RFC 8656, section 7.2: 486 (Allocation Quota Reached).
				if err == nil || !strings.Contains(err.Error(), "486") {
					t.Errorf("allocation %d: %v, want error 486", i, err)
				}
				if now := s.Stats(); now.OverQuota != 1 || now.Allocations != len(test.users)-1 {
					t.Errorf("stats %+v", now)
				}
			}
			// An allocation that ends makes room.
			first.Close()
			eventually(t, "the allocation to end", func() bool { return s.Stats().Allocations < len(test.users)-1 })
			name, password := Credentials(testSecret, test.users[0], time.Now(), time.Minute)
			allocate(t, connect(t, dial(t, "udp", at["udp"], nil), at["udp"], name, password))
		})
	}
}

// The relay reaches the SFU's address and port, and nothing else on that address or another.
func TestForbiddenPeers(t *testing.T) { eachWay(t, testForbiddenPeers) }

func testForbiddenPeers(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	relay := allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password))

	for _, other := range []string{"127.0.0.2:80", "169.254.169.254:80", "192.0.2.1:53", "0.0.0.0:7882", "255.255.255.255:9"} {
		before := s.Stats().ForbiddenPeers
		_, err := relay.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(other)))
		if err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("permission for %s: %v, want error 403", other, err)
		}
		if s.Stats().ForbiddenPeers == before {
			t.Errorf("permission for %s not counted", other)
		}
	}

	// Another port of the permitted address: the server beside the SFU.
	victim, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	before := s.Stats()
	if _, err := relay.WriteTo([]byte("hello"), victim.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the packet to be counted as forbidden", func() bool { return s.Stats().ForbiddenPeers > before.ForbiddenPeers })
	if w.sfu != nil {
		return // there is nothing else that could be reached
	}
	// From there into the relay, which has permission for the address by now.
	roundTrips(t, relay, peer)
	if _, err := victim.WriteTo([]byte("stranger"), relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stranger's packet to be counted", func() bool { return s.Stats().Strangers == before.Strangers+1 })
	roundTrips(t, relay, peer) // fails if the stranger's packet arrives
	// Nothing reached the victim: what it gets first is what it sends itself.
	if _, err := victim.WriteTo([]byte("mine"), victim.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, from, err := victim.ReadFrom(b); err != nil || string(b[:n]) != "mine" {
		t.Errorf("the victim got %q from %v, %v", b[:n], from, err)
	}
}

func TestPeersFollowTheSFU(t *testing.T) { eachWay(t, testPeersFollowTheSFU) }

func testPeersFollowTheSFU(t *testing.T, w way) {
	first, second := w.echo(t, "127.0.0.1:0"), w.echo(t, "127.0.0.1:0")
	now := make(chan []netip.AddrPort, 1)
	now <- []netip.AddrPort{first}
	s, err := New(w.config(Config{
		Secret: testSecret, UDP: []string{"127.0.0.1:0"},
		Peers: func() []netip.AddrPort { list := <-now; now <- list; return list },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	relay := allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password))
	roundTrips(t, relay, first)
	<-now
	now <- []netip.AddrPort{second}
	eventually(t, "the new address", func() bool { return s.peers.Load().announced[0] == second })
	roundTrips(t, relay, second)
	before := s.Stats().ForbiddenPeers
	relay.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(first))
	eventually(t, "the old address to be forbidden", func() bool { return s.Stats().ForbiddenPeers > before })
}

// Behind a NAT that doesn't lead back, packets for the announced address go to the real one.
func TestRoute(t *testing.T) { eachWay(t, testRoute) }

func testRoute(t *testing.T, w way) {
	real := w.echo(t, "127.0.0.1:0")
	public := netip.MustParseAddrPort("203.0.113.7:7882")
	s := w.serve(t, Config{
		UDP:   []string{"127.0.0.1:0"},
		Route: func(netip.AddrPort) netip.AddrPort { return real },
	}, public)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	relay := allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password))
	if ip := addrPort(relay.LocalAddr()).Addr(); ip != public.Addr() {
		t.Errorf("announced at %v, want %v", ip, public.Addr())
	}
	roundTrips(t, relay, public)
	if _, err := relay.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(real)); err == nil {
		t.Error("the real address is reached under its own name, which wasn't announced")
	}
}

func TestBandwidthLimit(t *testing.T) { eachWay(t, testBandwidthLimit) }

func testBandwidthLimit(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{Bandwidth: 1000}}, peer)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	relay := allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password))
	// The bucket holds 64 KiB: of 100 packets of 1000 bytes, 65 pass and no more.
	packet := make([]byte, 1000)
	for range 100 {
		if _, err := relay.WriteTo(packet, net.UDPAddrFromAddrPort(peer)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all packets to be counted", func() bool {
		now := s.Stats()
		return now.PacketsUp+now.OverBandwidth >= 100
	})
	if now := s.Stats(); now.PacketsUp < 60 || now.PacketsUp > 70 || now.OverBandwidth < 30 {
		t.Errorf("stats %+v", now)
	}
	// Another user isn't touched.
	name, password = Credentials(testSecret, "ac_2:dv_1", time.Now(), time.Minute)
	roundTrips(t, allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password)), peer)
}

func TestAllocationAge(t *testing.T) { eachWay(t, testAllocationAge) }

func testAllocationAge(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{AllocationAge: 50 * time.Millisecond}}, peer)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password))
	if made := s.Stats().AllocationsMade; made != 1 {
		t.Fatalf("%d allocations made", made)
	}
	eventually(t, "the allocation to be ended", func() bool { return s.Stats().Allocations == 0 && s.pion.AllocationCount() == 0 })
}

func TestChannelsAreBounded(t *testing.T) { eachWay(t, testChannelsAreBounded) }

func testChannelsAreBounded(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	to := s.UDPAddrs()[0]
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw := &rawClient{t: t, conn: conn, name: name, password: password}
	raw.allocate()
	for i := range maxChannels + 1 {
		raw.request(stun.MethodChannelBind,
			attribute(stun.AttrChannelNumber, 0x40, byte(i), 0, 0),
			xorPeer(netip.AddrPortFrom(loopback4, uint16(1000+i))))
	}
	eventually(t, "the allocation to be ended", func() bool { return s.Stats().Allocations == 0 })
}

// What the server doesn't offer is refused without anything being opened.
func TestNotOffered(t *testing.T) { eachWay(t, testNotOffered) }

func testNotOffered(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, TCP: []string{"127.0.0.1:0"}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	for what, extra := range map[string][]stun.Setter{
		"TCP relay":      {attribute(stun.AttrRequestedTransport, 6, 0, 0, 0)},
		"no reservation": {attribute(stun.AttrRequestedTransport, 17, 0, 0, 0), attribute(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)},
		"IPv6":           {attribute(stun.AttrRequestedTransport, 17, 0, 0, 0), attribute(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)},
	} {
		for _, network := range []string{"udp", "tcp"} {
			to := s.UDPAddrs()[0]
			if network == "tcp" {
				to = s.StreamAddrs()[0]
			}
			conn, err := net.Dial(network, to.String())
			if err != nil {
				t.Fatal(err)
			}
			raw := &rawClient{t: t, conn: conn, name: name, password: password}
			reply := raw.request(stun.MethodAllocate, extra...)
			if reply.Type.Class != stun.ClassErrorResponse {
				t.Errorf("%s over %s: %v", what, network, reply.Type)
			}
			conn.Close()
		}
	}
	if now := s.Stats(); now.AllocationsMade != 0 || now.Allocations != 0 {
		t.Errorf("stats %+v", now)
	}
}

func TestEvenPort(t *testing.T) { eachWay(t, testEvenPort) }

func testEvenPort(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	for range 4 {
		conn, err := net.Dial("udp", s.UDPAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw := &rawClient{t: t, conn: conn, name: name, password: password}
		reply := raw.request(stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 17, 0, 0, 0), attribute(stun.AttrEvenPort, 0x80))
		var relayed stun.XORMappedAddress
		if err := relayed.GetFromAs(reply, stun.AttrXORRelayedAddress); err != nil || relayed.Port%2 != 0 {
			t.Errorf("%v: relay at %v, %v", reply.Type, relayed, err)
		}
	}
}

// rawClient sends single requests, for what Pion's client wouldn't.
type rawClient struct {
	t              testing.TB
	conn           net.Conn
	name, password string
	nonce          string
}

func attribute(typ stun.AttrType, value ...byte) stun.RawAttribute {
	return stun.RawAttribute{Type: typ, Value: value}
}

type xorPeer netip.AddrPort

func (x xorPeer) AddTo(m *stun.Message) error {
	a := netip.AddrPort(x)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func (c *rawClient) allocate() {
	c.t.Helper()
	if reply := c.request(stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)); reply.Type.Class != stun.ClassSuccessResponse {
		c.t.Fatal("Allocate:", reply)
	}
}

// request sends an authenticated request and returns the answer to it.
func (c *rawClient) request(method stun.Method, extra ...stun.Setter) *stun.Message {
	c.t.Helper()
	for {
		setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, extra...)
		if c.nonce != "" {
			setters = append(setters, stun.NewUsername(c.name), stun.NewRealm("anytime"), stun.NewNonce(c.nonce),
				stun.NewLongTermIntegrity(c.name, "anytime", c.password))
		}
		reply := c.exchange(stun.MustBuild(setters...).Raw)
		var code stun.ErrorCodeAttribute
		if code.GetFrom(reply) == nil && code.Code == stun.CodeUnauthorized && c.nonce == "" {
			var nonce stun.Nonce
			if err := nonce.GetFrom(reply); err != nil {
				c.t.Fatal(err)
			}
			c.nonce = nonce.String()
			continue
		}
		return reply
	}
}

func (c *rawClient) exchange(message []byte) *stun.Message {
	c.t.Helper()
	if _, err := c.conn.Write(message); err != nil {
		c.t.Fatal(err)
	}
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 2000)
	n, err := c.conn.Read(b)
	if err != nil {
		c.t.Fatal(errors.Join(errors.New("no answer"), err))
	}
	reply := &stun.Message{Raw: b[:n]}
	if err := reply.Decode(); err != nil {
		c.t.Fatal(err)
	}
	return reply
}

// SOFTWARE is in replies to those who haven't proved themselves, and leaves them valid.
func TestSoftware(t *testing.T) { eachWay(t, testSoftware) }

func testSoftware(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, Software: "anytime 1.0"}, peer)
	conn, err := net.Dial("udp", s.UDPAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	raw := &rawClient{t: t, conn: conn, name: name, password: password}
	for _, message := range []*stun.Message{
		stun.MustBuild(stun.TransactionID, stun.BindingRequest),
		stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)),
	} {
		reply := raw.exchange(message.Raw)
		var software stun.Software
		if err := software.GetFrom(reply); err != nil || software.String() != "anytime 1.0" {
			t.Errorf("%v: SOFTWARE %q, %v", reply.Type, software, err)
		}
		if reply.Type == stun.BindingSuccess {
			if err := stun.Fingerprint.Check(reply); err != nil {
				t.Error(err)
			}
		}
	}
	raw.allocate()
	refresh := raw.request(stun.MethodRefresh)
	if err := stun.NewLongTermIntegrity(name, "anytime", password).Check(refresh); err != nil {
		t.Error("a signed reply:", err)
	}
}

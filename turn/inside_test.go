package turn

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// Relays inside have no socket, and their addresses are in the dynamic range.
func TestRelaysInsideAreNotBound(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	_, r := bound(t, s, reach(t, "udp", s.UDPAddrs()[0], nil), peer)
	if r.announced.Port() < firstPort || r.announced.Addr() != loopback4 {
		t.Errorf("relay at %v", r.announced)
	}
	conn, err := net.ListenPacket("udp", r.announced.String())
	if err != nil {
		t.Fatal("the address is taken:", err)
	}
	conn.Close()
	if other := netip.AddrPortFrom(peer.Addr(), r.announced.Port()^1); !s.Relays(r.announced) || s.Relays(other) {
		t.Error("a relay isn't told from other addresses")
	}
}

// An address at which the SFU already knows a client is given up for another one.
func TestAnAddressThatTheSFURefuses(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	w.sfu.refuse = portsTried - 1
	raw, r := bound(t, s, reach(t, "udp", s.UDPAddrs()[0], nil), peer)
	r.Close()
	w.sfu.refuse = portsTried
	again := &rawClient{t: t, conn: reach(t, "udp", s.UDPAddrs()[0], nil), name: raw.name, password: raw.password}
	var code stun.ErrorCodeAttribute
	if reply := again.request(stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)); code.GetFrom(reply) != nil || code.Code != stun.CodeInsufficientCapacity {
		t.Errorf("%v, %v; want 508", reply.Type, code)
	}
	eventually(t, "nothing to be left of either", func() bool {
		now := s.Stats()
		return now.Allocations == 0 && now.AllocationsMade == 1 && s.pion.AllocationCount() == 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.relays) != 0 {
		t.Errorf("%d relays are left", len(s.relays))
	}
}

func TestPortsOfRelaysInside(t *testing.T) {
	s := &Server{relays: make(map[netip.AddrPort]*relay)}
	ip, r := loopback4, new(relay)
	for port := firstPort; port <= lastPort; port++ {
		if port != 50001 && port != 60000 && port != 60001 {
			s.relays[netip.AddrPortFrom(ip, uint16(port))] = r
		}
	}
	if at, ok := s.free(ip, true); !ok || at.Port() != 60000 {
		t.Errorf("a pair at %v, %t", at, ok)
	}
	for _, asked := range []int{60002, firstPort - 1, 80, lastPort + 1} {
		if s.reserve(new(relay), ip, asked) == nil {
			t.Errorf("port %d was had", asked)
		}
	}
	if one := new(relay); s.reserve(one, ip, 60001) != nil || one.announced.Port() != 60001 {
		t.Error("the port asked for wasn't had")
	}
	for range 2 {
		if err := s.reserve(new(relay), ip, 0); err != nil {
			t.Error(err)
		}
	}
	if s.reserve(new(relay), ip, 0) == nil {
		t.Error("a port was had twice")
	}
	if at, ok := s.free(netip.MustParseAddr("192.0.2.1"), true); !ok || at.Port()%2 != 0 || at.Port() < firstPort {
		t.Errorf("another address's pair at %v, %t", at, ok)
	}
}

// The second relay of a pair has the port after the first one's.
func TestReservation(t *testing.T) { eachWay(t, testReservation) }

func testReservation(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	first := &rawClient{t: t, conn: reach(t, "udp", s.UDPAddrs()[0], nil), name: name, password: password}
	reply := first.request(stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 17, 0, 0, 0), attribute(stun.AttrEvenPort, 0x80))
	token, err := reply.Get(stun.AttrReservationToken)
	if err != nil {
		t.Fatal(reply, err)
	}
	var one, two stun.XORMappedAddress
	if err := one.GetFromAs(reply, stun.AttrXORRelayedAddress); err != nil {
		t.Fatal(err)
	}
	second := &rawClient{t: t, conn: reach(t, "udp", s.UDPAddrs()[0], nil), name: name, password: password}
	reply = second.request(stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 17, 0, 0, 0), attribute(stun.AttrReservationToken, token...))
	if err := two.GetFromAs(reply, stun.AttrXORRelayedAddress); err != nil || two.Port != one.Port+1 {
		t.Errorf("%v: relays at %v and %v", reply.Type, one, two)
	}
}

// Who has an allocation may not ask without end either: each user has a rate, which a new allocation doesn't fill up again.
func TestRequestsWithAllocationAreLimited(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{Limits: Limits{Requests: 5}}, peer)
	conn := reach(t, "udp", at["udp"], nil)
	_, r := bound(t, s, conn, peer)
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	for range 100 {
		sent(t, conn, binding)
	}
	eventually(t, "most to be dropped", func() bool { return s.Stats().Limited >= 75 })
	// Its media isn't touched.
	up := s.Stats().PacketsUp
	for range 100 {
		sent(t, conn, channelMessage(testChannel, make([]byte, 100)))
	}
	eventually(t, "the packets to pass", func() bool { return s.Stats().PacketsUp == up+100 })
	u := r.user
	r.Close()
	if again, _ := s.quota.acquire(r.who); again != u {
		t.Error("a new allocation begins with a full bucket")
	}
	s.quota.release(r.who, s.now())
}

// On a connection nothing is lost: it is read no faster than the user's rate.
func TestRequestsOnAConnectionWait(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{Limits: Limits{Requests: 100}}, peer)
	conn := reach(t, "tcp", at["tcp"], nil)
	_, r := bound(t, s, conn, peer)
	for r.user.requests.take(s.clock(), 50) { // as if they had been
	}
	for r.user.requests.take(s.clock(), 1) {
	}
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	const n = 20
	for range n {
		sent(t, conn, binding)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range n {
		b := oneMessage(t, conn, "tcp", stunHeader)
		m := &stun.Message{Raw: append(b, oneMessage(t, conn, "tcp", int(b[3]))...)}
		if err := m.Decode(); err != nil || m.Type != stun.BindingSuccess {
			t.Fatalf("answer %d: %v, %v", i, m, err)
		}
	}
	if s.Stats().Limited == 0 {
		t.Error("none had to wait")
	}
}

func TestBucket(t *testing.T) {
	b := newBucket(1000, 500)
	passed := func(at time.Duration, n int) (times int) {
		for b.take(at, n) {
			times++
		}
		return times
	}
	for _, test := range []struct {
		at      time.Duration
		n, want int
	}{
		{0, 100, 5}, {0, 1, 0}, {50 * time.Millisecond, 25, 2}, {time.Hour, 501, 0}, {time.Hour, 50, 10}, {time.Minute, 1, 0},
	} {
		if got := passed(test.at, test.n); got != test.want {
			t.Errorf("at %v: %d times %d units, want %d", test.at, got, test.n, test.want)
		}
	}
	big := newBucket(never, never/2)
	for i := range 1000 {
		if !big.take(time.Duration(i), 64<<10) {
			t.Fatal("what has no limit is limited")
		}
	}
}

// What follows a run that a user can't afford is dropped, not what comes first.
func TestAnUnaffordableRunIsCut(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{Bandwidth: 1000}}, peer)
	_, r := bound(t, s, reach(t, "udp", s.UDPAddrs()[0], nil), peer)
	run := numberedRun(80, 1000)
	r.deliver(peer, run)
	now := s.Stats()
	if now.PacketsDown != 65 || now.OverBandwidth != 15 || now.BytesDown != 65000 {
		t.Errorf("stats %+v", now)
	}
}

func TestClientTable(t *testing.T) {
	var table clientTable
	a, b := netip.MustParseAddrPort("192.0.2.1:5"), netip.MustParseAddrPort("[2001:db8::1]:5")
	old, young := new(relay), new(relay)
	table.put(a, old)
	table.put(b, old)
	table.put(a, young)
	table.drop(a, old) // late news of what is no more
	if table.at(a) != young || table.at(b) != old || table.at(netip.MustParseAddrPort("192.0.2.1:6")) != nil {
		t.Error("a client isn't found, or another one is")
	}
	table.drop(a, young)
	table.drop(b, old)
	for i := range table.shards {
		if table.shards[i].Load() != nil {
			t.Error("something is left")
		}
	}
}

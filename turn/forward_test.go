package turn

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"anytime/sfu/udp"
)

// testChannel is the number that bound binds.
const testChannel = 0x4000

// bound makes a client with an allocation and a channel to the peer, and returns the server's relay for it.
func bound(t testing.TB, s *Server, conn net.Conn, peer netip.AddrPort) (*rawClient, *relay) {
	t.Helper()
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	raw := &rawClient{t: t, conn: conn, name: name, password: password}
	raw.allocate()
	reply := raw.request(stun.MethodChannelBind, attribute(stun.AttrChannelNumber, testChannel>>8, 0, 0, 0), xorPeer(peer))
	if reply.Type.Class != stun.ClassSuccessResponse {
		t.Fatal("ChannelBind:", reply)
	}
	from := addrPort(conn.LocalAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.relays {
		if r.who.from == from {
			return raw, r
		}
	}
	t.Fatal("no relay")
	return nil, nil
}

func reach(t testing.TB, network string, to netip.AddrPort, c *tls.Config) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	if network == "tls" {
		conn, err = tls.Dial("tcp", to.String(), c)
	} else {
		conn, err = net.Dial(network, to.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func channelMessage(number uint16, packet []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(packet)))
	return append(b, packet...)
}

func sendMessage(peer netip.AddrPort, packet []byte) []byte {
	return stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication),
		xorPeer(peer), attribute(stun.AttrData, packet...)).Raw
}

// Nothing is allocated for a packet in either direction, over any transport, with channels or indications.
func TestForwardingAllocatesNothing(t *testing.T) { eachWay(t, testForwardingAllocatesNothing) }

func testForwardingAllocatesNothing(t *testing.T, w way) {
	if raceEnabled {
		t.Skip("pools lose things on purpose under the race detector")
	}
	peer, other := w.echo(t, "127.0.0.1:0"), w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{Limits: Limits{Bandwidth: -1}}, peer, other)
	for _, network := range []string{"udp", "tcp", "tls"} {
		conn := reach(t, network, at[network], clientTLS)
		_, r := bound(t, s, conn, peer)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			b := make([]byte, 64<<10)
			for {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
		run := udp.Run{Buffer: make([]byte, 5*1100+300), Size: 1100}
		for what, message := range map[string][]byte{
			"ChannelData": channelMessage(testChannel, make([]byte, 1100)),
			"indication":  sendMessage(other, make([]byte, 1100)),
		} {
			from := peer
			if what == "indication" {
				from = other
			}
			before := s.Stats()
			if n := testing.AllocsPerRun(200, func() {
				if !r.up(kindOf(message), message, s.clock()) {
					t.Fatal("it was left to Pion")
				}
				r.deliver(from, run)
			}); n != 0 {
				t.Errorf("%s over %s: %v allocations for a packet up and six down", what, network, n)
			}
			if now := s.Stats(); now.PacketsUp-before.PacketsUp != 201 || now.PacketsDown-before.PacketsDown < 201*6 {
				t.Errorf("%s over %s: %+v", what, network, now)
			}
		}
		if network == "udp" {
			d, from, message := s.udp[0], addrPort(conn.LocalAddr()), channelMessage(testChannel, make([]byte, 1100))
			if n := testing.AllocsPerRun(200, func() { d.receive(message, from, netip.Addr{}, s.clock()) }); n != 0 {
				t.Errorf("%v allocations to take a datagram", n)
			}
		}
		conn.Close()
		<-drained
	}
}

// A run from the SFU reaches the client as a message for each of its datagrams, in order and whole: with a channel, and with
// nothing but a permission.
func TestRunsAreFramed(t *testing.T) { eachWay(t, testRunsAreFramed) }

func testRunsAreFramed(t *testing.T, w way) {
	peer, other := w.echo(t, "127.0.0.1:0"), w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{}, peer, other)
	for _, network := range []string{"udp", "tcp", "tls"} {
		conn := reach(t, network, at[network], clientTLS)
		_, r := bound(t, s, conn, peer)
		padding := 0
		if network != "udp" {
			padding = 3 // RFC 8656, section 12.5
		}
		for _, lengths := range [][]int{{1}, {1201, 1201, 1201, 333}, {170, 170}, {999, 999, 999}} {
			var run udp.Run
			for i, n := range lengths {
				run.Buffer = append(run.Buffer, bytes.Repeat([]byte{byte(i + 1)}, n)...)
			}
			run.Size = lengths[0]
			r.deliver(peer, run)
			r.deliver(other, run)
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			for i, n := range lengths {
				want := channelMessage(testChannel, bytes.Repeat([]byte{byte(i + 1)}, n))
				want = append(want, make([]byte, -len(want)&padding)...)
				if got := oneMessage(t, conn, network, len(want)); !bytes.Equal(got, want) {
					t.Fatalf("%s, datagram %d of %v: %d bytes %x…, want %d", network, i, lengths, len(got), got[:min(8, len(got))], len(want))
				}
			}
			for i, n := range lengths {
				m := &stun.Message{Raw: oneMessage(t, conn, network, envelope{peer: other}.size(n, false))}
				var from stun.XORMappedAddress
				if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) || from.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
					t.Fatalf("%s, datagram %d of %v: %v, %v", network, i, lengths, m, err)
				}
				data, _ := m.Get(stun.AttrData)
				if !bytes.Equal(data, bytes.Repeat([]byte{byte(i + 1)}, n)) || from.Port != int(other.Port()) || from.IP.String() != other.Addr().String() {
					t.Fatalf("%s, datagram %d of %v: %d bytes from %v", network, i, lengths, len(data), from)
				}
			}
		}
		conn.Close()
	}
}

// oneMessage reads a datagram, or so many bytes of a stream.
func oneMessage(t *testing.T, conn net.Conn, network string, size int) []byte {
	t.Helper()
	b := make([]byte, 2000)
	n, err := 0, error(nil)
	if network == "udp" {
		n, err = conn.Read(b)
	} else {
		n, err = io.ReadFull(conn, b[:size])
	}
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return b[:n]
}

// A frame's packets leave with one system call where the system can.
func TestARunStaysTogether(t *testing.T) {
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	if s.ports[0].Path() != udp.Segmented {
		t.Skip("not here")
	}
	_, r := bound(t, s, reach(t, "udp", s.UDPAddrs()[0], nil), peer)
	var before udp.Stats
	eventually(t, "every request's answer is counted", func() bool {
		before = s.ports[0].Stats()
		return before.Sent == before.Received
	})
	r.deliver(peer, udp.Run{Buffer: make([]byte, 40*1200+17), Size: 1200})
	now := s.ports[0].Stats()
	if now.Writes != before.Writes+1 || now.Sent != before.Sent+41 || now.SentBytes-before.SentBytes != 40*1204+21 {
		t.Errorf("before %+v, now %+v", before, now)
	}
	// What is too long for one goes as several.
	r.deliver(peer, udp.Run{Buffer: make([]byte, 150*1200), Size: 1200})
	if sent := s.ports[0].Stats().Sent - now.Sent; sent != 150 {
		t.Errorf("%d of 150 left", sent)
	}
}

// Neither direction is open to a client without a permission, nor one to a channel whose permission has ended.
func TestNothingPassesWithoutPermission(t *testing.T) { eachWay(t, testNothingPassesWithoutPermission) }

func testNothingPassesWithoutPermission(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	for _, network := range []string{"udp", "tcp"} {
		conn := reach(t, network, at[network], nil)
		raw := &rawClient{t: t, conn: conn, name: name, password: password}
		raw.allocate()
		before := s.Stats()
		sent(t, conn, channelMessage(testChannel, make([]byte, 8)))
		sent(t, conn, channelMessage(0x7fff, make([]byte, 8)))
		sent(t, conn, sendMessage(peer, make([]byte, 8)))
		eventually(t, "the three to be counted", func() bool {
			now := s.Stats()
			return now.Garbage-before.Garbage == 2 && now.ForbiddenPeers-before.ForbiddenPeers == 1
		})
		_, r := bound(t, s, reach(t, network, at[network], nil), peer)
		strangers := s.Stats().Strangers
		r.deliver(netip.AddrPortFrom(peer.Addr(), peer.Port()^1), udp.Run{Buffer: make([]byte, 8)})
		relayed := net.UDPAddrFromAddrPort(r.announced)
		s.permissionEnded(nil, nil, "", r.who.userID(), "", relayed, peer.Addr().AsSlice())
		r.deliver(peer, udp.Run{Buffer: make([]byte, 16), Size: 8})
		if n := s.Stats().Strangers - strangers; n != 3 {
			t.Errorf("%d of three packets held back", n)
		}
		if r.up(channelData, channelMessage(testChannel, make([]byte, 8)), s.clock()); s.Stats().PacketsUp != before.PacketsUp {
			t.Error("a packet went up without a permission")
		}
		// As Pion tells when the permission is made anew.
		s.permitted(nil, nil, "", r.who.userID(), "", relayed, peer.Addr().AsSlice())
		if r.up(channelData, channelMessage(testChannel, make([]byte, 8)), s.clock()); s.Stats().PacketsUp != before.PacketsUp+1 {
			t.Error("the channel stays closed")
		}
		// A notice about an earlier holder of the address changes nothing.
		s.channelEnded(nil, nil, "", "ac_9\x00192.0.2.1:5", "", relayed, nil, testChannel)
		if _, open := r.bindings.Load().bound(testChannel); !open {
			t.Error("another's channel was ended")
		}
		s.channelEnded(nil, nil, "", r.who.userID(), "", relayed, nil, testChannel)
		if _, open := r.bindings.Load().bound(testChannel); open {
			t.Error("the channel stays open")
		}
	}
}

// A client on a connection that it doesn't read holds nobody up: what it doesn't take in is dropped and counted.
func TestASlowConnectionHoldsNobodyUp(t *testing.T) {
	noGoroutineLeft(t)
	w := newInside(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{Limits: Limits{Bandwidth: -1, Message: time.Hour}}, peer)
	for _, network := range []string{"tcp", "tls"} {
		_, r := bound(t, s, reach(t, network, at[network], clientTLS), peer)
		run := udp.Run{Buffer: make([]byte, 20*1200), Size: 1200}
		before := s.Stats().Congested
		for i := 0; s.Stats().Congested < before+100; i++ {
			if r.deliver(peer, run); i > 10_000 {
				t.Fatal("nothing is ever dropped")
			}
		}
		if waiting := r.back.(*stream).waiting(); waiting > outboxMedia {
			t.Errorf("%d bytes wait", waiting)
		}
	}
}

func (c *stream) waiting() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.waiting
}

// A relay may end while the SFU sends to it, from any goroutine, and while its client sends.
func TestEndUnderTraffic(t *testing.T) { eachWay(t, testEndUnderTraffic) }

func testEndUnderTraffic(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{Limits: Limits{Bandwidth: -1}}, peer)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for _, network := range []string{"udp", "tcp", "tls"} {
		conn := reach(t, network, at[network], clientTLS)
		_, r := bound(t, s, conn, peer)
		started := make(chan struct{}, 3)
		loop := func(do func()) {
			senders.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if do(); i == 20 {
						started <- struct{}{}
					}
				}
			})
		}
		run := udp.Run{Buffer: make([]byte, 3000), Size: 1000}
		if w.sfu != nil {
			w.sfu.mu.Lock()
			a := w.sfu.relays[r.announced]
			w.sfu.mu.Unlock()
			loop(func() { a.toClient(peer, run) })
		} else {
			loop(func() { r.deliver(peer, run) })
		}
		loop(func() { r.up(channelData, channelMessage(testChannel, make([]byte, 100)), s.clock()) })
		<-started
		<-started
		r.Close()
		r.Close()
		if s.Relays(r.announced) {
			t.Error("a relay that has ended is still there")
		}
	}
	eventually(t, "Pion to forget them", func() bool { return s.pion.AllocationCount() == 0 && s.Stats().Allocations == 0 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	senders.Wait()
}

// FuzzKnownClient is what a client with an allocation may send: it doesn't panic, and nothing goes anywhere but to a peer
// with a permission, whole or not at all.
func FuzzKnownClient(f *testing.F) {
	peer, other := netip.MustParseAddrPort("127.0.0.1:7882"), netip.MustParseAddrPort("[::1]:7882")
	f.Add(channelMessage(testChannel, []byte("hello")))
	f.Add(channelMessage(testChannel+1, nil))
	f.Add(sendMessage(peer, []byte("hello")))
	f.Add(sendMessage(other, nil))
	f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), attribute(stun.AttrData, 1)).Raw)
	s := &Server{started: time.Now()}
	s.peers.Store(newPeers([]netip.AddrPort{peer, other}, nil))
	u := &user{up: newBucket(never, never)}
	var table *bindings
	table = table.withPermission(peer.Addr()).withChannel(testChannel, peer).withChannel(testChannel+1, other)
	f.Fuzz(func(t *testing.T, b []byte) {
		what := kindOf(b)
		if what == garbage {
			return
		}
		went := 0
		r := &relay{s: s, user: u, inward: func(packet []byte, to netip.AddrPort) {
			went++
			if to != peer || !bytes.Contains(b, packet) {
				t.Fatalf("%d bytes to %v", len(packet), to)
			}
		}}
		r.bindings.Store(table)
		taken := r.up(what, b, 0)
		if what == channelData && !taken || what == request && taken || went > 1 || went == 1 && !taken {
			t.Fatalf("kind %d, taken %t, %d packets sent", what, taken, went)
		}
		// Whatever is taken as an indication, another parser takes for one too.
		if m := (&stun.Message{Raw: bytes.Clone(b)}); what == indication && taken {
			if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodSend, stun.ClassIndication) || !m.Contains(stun.AttrXORPeerAddress) {
				t.Fatalf("a %v was taken, %v", m.Type, err)
			}
		}
	})
}

// FuzzEnvelope: what we put into an envelope, others take out.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("hello"), uint16(7882), false)
	f.Add([]byte{}, uint16(0), true)
	f.Fuzz(func(t *testing.T, packet []byte, port uint16, six bool) {
		if len(packet) > 60000 {
			return
		}
		ip := loopback4
		if six {
			ip = netip.MustParseAddr("2001:db8::7")
		}
		e := envelope{peer: netip.AddrPortFrom(ip, port)}
		b := make([]byte, e.size(len(packet), false))
		if n := e.put(b, packet, false); n != len(b) {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		m := &stun.Message{Raw: b}
		var from stun.XORMappedAddress
		if err := m.Decode(); err != nil || from.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
			t.Fatal(m, err)
		}
		data, err := m.Get(stun.AttrData)
		if err != nil || !bytes.Equal(data, packet) || from.Port != int(port) || !from.IP.Equal(ip.AsSlice()) {
			t.Fatalf("%d bytes from %v, %v", len(data), from, err)
		}
		// The same as a Send indication comes back to us.
		binary.BigEndian.PutUint16(b, sendIndication)
		if peer, got, ok := parseSend(b); !ok || peer != e.peer || !bytes.Equal(got, packet) {
			t.Fatalf("%v %d bytes %t", peer, len(got), ok)
		}
		e.channel = testChannel
		b = make([]byte, e.size(len(packet), true))
		if n := e.put(b, packet, true); n != len(b) || n%4 != 0 {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		if what := kindOf(b); what != channelData || !bytes.Equal(b[4:][:len(packet)], packet) {
			t.Fatalf("a %v", what)
		}
	})
}

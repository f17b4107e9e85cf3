package turn

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

func allocateRequest() []byte {
	return stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)).Raw
}

// closedByServer expects the server to end the connection within ten seconds, whatever it sends
// first.
func closedByServer(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("%s: the connection stays open", what)
		}
	}
	conn.Close()
}

func TestSlowConnectionsAreClosed(t *testing.T) { eachWay(t, testSlowConnectionsAreClosed) }

func testSlowConnectionsAreClosed(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{Limits: Limits{FirstAllocation: 800 * time.Millisecond, Message: 50 * time.Millisecond}}, peer)
	for what, open := range map[string]func() net.Conn{
		"says nothing over TCP":      func() net.Conn { return dialTCP(t, at["tcp"].String()) },
		"no TLS handshake":           func() net.Conn { return dialTCP(t, at["tls"].String()) },
		"half a TLS handshake":       func() net.Conn { return sent(t, dialTCP(t, at["tls"].String()), []byte{22, 3, 1, 2}) },
		"says nothing over TLS":      func() net.Conn { return dialTLS(t, at["tls"].String(), clientTLS) },
		"one byte":                   func() net.Conn { return sent(t, dialTCP(t, at["tcp"].String()), []byte{0}) },
		"half a message":             func() net.Conn { return sent(t, dialTCP(t, at["tcp"].String()), allocateRequest()[:21]) },
		"half a message over TLS":    func() net.Conn { return sent(t, dialTLS(t, at["tls"].String(), clientTLS), allocateRequest()[:21]) },
		"asks but allocates nothing": func() net.Conn { return sent(t, dialTCP(t, at["tcp"].String()), allocateRequest()) },
	} {
		before := s.Stats()
		closedByServer(t, what, open())
		eventually(t, what+": counted", func() bool {
			now := s.Stats()
			return now.Connections == 0 && now.TimedOutConnections+now.FailedHandshakes == before.TimedOutConnections+before.FailedHandshakes+1
		})
	}
}

// A trickle of bytes doesn't keep a connection open.
func TestTrickle(t *testing.T) { eachWay(t, testTrickle) }

func testTrickle(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	_, at, _ := w.all(t, Config{Limits: Limits{Message: 100 * time.Millisecond}}, peer)
	conn := dialTCP(t, at["tcp"].String())
	defer conn.Close()
	begun := time.Now()
	// A message of 1020 bytes, one byte every 10 ms: it would take ten seconds.
	message := binary.BigEndian.AppendUint32([]byte{0, 1, 3, 232}, magicCookie)
	message = append(message, make([]byte, 1012)...)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, b := range message {
		<-tick.C
		if _, err := conn.Write([]byte{b}); err != nil {
			break
		}
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("open for %v", took)
	}
}

func TestGarbageEndsAStream(t *testing.T) { eachWay(t, testGarbageEndsAStream) }

func testGarbageEndsAStream(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{}, peer)
	// A length of 65516 makes a size of 65536, which is 0 in 16 bits: Pion's own reader
	// would turn round and round on it.
	wraps := binary.BigEndian.AppendUint32([]byte{0, 1, 0xff, 0xec}, magicCookie)
	for what, bytes := range map[string][]byte{
		"HTTP":                      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"TLS in the clear":          {22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3},
		"STUN without the cookie":   append([]byte{0, 1, 0, 0, 1, 2, 3, 4}, make([]byte, 12)...),
		"a length of no multiple":   append(binary.BigEndian.AppendUint32([]byte{0, 1, 0, 3}, magicCookie), make([]byte, 16)...),
		"a length that wraps":       append(wraps, make([]byte, 12)...),
		"a message too long":        append(binary.BigEndian.AppendUint32([]byte{0, 1, 0x10, 0}, magicCookie), make([]byte, 12)...),
		"channel data too long":     {0x40, 0, 0xff, 0xff, 0, 0, 0, 0},
		"channel data before all":   {0x40, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8},
		"an indication before all":  stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication)).Raw,
		"a byte of nothing's first": {0xff, 0xff, 0xff, 0xff},
	} {
		for _, network := range []string{"tcp", "tls"} {
			before := s.Stats().Garbage
			conn := dialTCP(t, at["tcp"].String())
			if network == "tls" {
				conn = dialTLS(t, at["tls"].String(), clientTLS)
			}
			closedByServer(t, what+" over "+network, sent(t, conn, bytes))
			eventually(t, what+" over "+network+": counted", func() bool { return s.Stats().Garbage == before+1 })
		}
	}
	// The server is well.
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	roundTrips(t, allocate(t, connect(t, dial(t, "tcp", at["tcp"], nil), at["tcp"], name, password)), peer)
}

// Channel data that looks like a STUN message to Pion's reader of streams, and such as is too short for it, is channel data.
func TestMistakableChannelData(t *testing.T) { eachWay(t, testMistakableChannelData) }

func testMistakableChannelData(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	conn := dialTCP(t, at["tcp"].String())
	defer conn.Close()
	raw := &rawClient{t: t, conn: conn, name: name, password: password}
	raw.allocate()
	raw.request(stun.MethodChannelBind, attribute(stun.AttrChannelNumber, 0x40, 0, 0, 0), xorPeer(peer))
	long := append(binary.BigEndian.AppendUint32([]byte{0x40, 0, 0, 24}, magicCookie), make([]byte, 20)...)
	for _, frame := range [][]byte{long, {0x40, 0, 0, 3, 1, 2, 3, 0}} {
		sent(t, conn, frame)
		back := make([]byte, len(frame))
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, back); err != nil || !bytes.Equal(back, frame) {
			t.Fatalf("got back %x, %v", back, err)
		}
	}
	if reply := raw.request(stun.MethodRefresh); reply.Type.Class != stun.ClassSuccessResponse {
		t.Error("Refresh:", reply)
	}
	if n := s.Stats().Garbage; n != 0 {
		t.Errorf("%d messages dropped", n)
	}
}

func TestGarbageOverUDPIsDropped(t *testing.T) { eachWay(t, testGarbageOverUDPIsDropped) }

func testGarbageOverUDPIsDropped(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{"127.0.0.1:0"}}, peer)
	to := s.UDPAddrs()[0]
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := allocateRequest()
	junk := [][]byte{
		{0}, []byte("hello, is anybody there?"), request[:19], request[:len(request)-1],
		append(bytes.Clone(request), 0), {0x40, 0, 0, 4, 1, 2, 3, 4}, make([]byte, 1600), make([]byte, 9000),
		stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw,
	}
	for _, b := range junk {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all of it to be counted", func() bool { return s.Stats().Garbage == uint64(len(junk)) })
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	roundTrips(t, allocate(t, connect(t, dial(t, "udp", to, nil), to, name, password)), peer)
}

func TestRequestsWithoutAllocationAreLimited(t *testing.T) {
	eachWay(t, testRequestsWithoutAllocationAreLimited)
}

func testRequestsWithoutAllocationAreLimited(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{Limits: Limits{Requests: 5}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	relay := allocate(t, connect(t, dial(t, "udp", at["udp"], nil), at["udp"], name, password))

	conn, err := net.Dial("udp", at["udp"].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 100 {
		conn.Write(allocateRequest())
	}
	// A burst of four seconds' worth: twenty, less those of the client above.
	eventually(t, "the rest to be dropped", func() bool { return s.Stats().Limited >= 75 })
	// A new connection counts as a request, and so finds the door closed.
	closedByServer(t, "a connection after too many requests", dialTCP(t, at["tcp"].String()))
	if s.Stats().RefusedConnections == 0 {
		t.Error("the connection isn't counted")
	}
	// Who has an allocation isn't touched.
	roundTrips(t, relay, peer)
}

func TestConnectionsAreCapped(t *testing.T) { eachWay(t, testConnectionsAreCapped) }

func testConnectionsAreCapped(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	for name, limits := range map[string]Limits{
		"in total":    {Connections: 2},
		"per address": {ConnectionsPerAddress: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, at, clientTLS := w.all(t, Config{Limits: limits}, peer)
			user, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
			first := dial(t, "tls", at["tls"], clientTLS)
			relay := allocate(t, connect(t, first, at["tls"], user, password))
			second := dialTCP(t, at["tcp"].String())
			defer second.Close()
			eventually(t, "two connections", func() bool { return s.Stats().Connections == 2 })
			closedByServer(t, "a third", dialTCP(t, at["tcp"].String()))
			closedByServer(t, "a fourth", dialTCP(t, at["tls"].String()))
			if n := s.Stats().RefusedConnections; n != 2 {
				t.Errorf("%d refused, want 2", n)
			}
			roundTrips(t, relay, peer)
			second.Close()
			eventually(t, "one connection", func() bool { return s.Stats().Connections == 1 })
			third := dial(t, "tcp", at["tcp"], nil)
			roundTrips(t, allocate(t, connect(t, third, at["tcp"], user, password)), peer)
		})
	}
}

// A client on TCP that is cut off takes its allocation along.
func TestConnectionLossEndsTheAllocation(t *testing.T) {
	eachWay(t, testConnectionLossEndsTheAllocation)
}

func testConnectionLossEndsTheAllocation(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	conn := dial(t, "tcp", at["tcp"], nil)
	c := connect(t, conn, at["tcp"], name, password)
	if _, err := c.Allocate(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	eventually(t, "the allocation to be gone", func() bool {
		return s.Stats().Allocations == 0 && s.Stats().Connections == 0 && s.pion.AllocationCount() == 0
	})
}

func TestSilentAllocationIsEnded(t *testing.T) { eachWay(t, testSilentAllocationIsEnded) }

func testSilentAllocationIsEnded(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{Limits: Limits{Idle: 100 * time.Millisecond}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	allocate(t, connect(t, dial(t, "tcp", at["tcp"], nil), at["tcp"], name, password))
	eventually(t, "the connection to be closed", func() bool { return s.Stats().Connections == 0 && s.Stats().Allocations == 0 })
	if s.Stats().TimedOutConnections != 1 {
		t.Errorf("stats %+v", s.Stats())
	}
}

// A client that takes nothing in doesn't hold up the relay: its connection ends.
func TestReaderThatDoesNotRead(t *testing.T) { eachWay(t, testReaderThatDoesNotRead) }

func testReaderThatDoesNotRead(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s, at, _ := w.all(t, Config{Limits: Limits{Message: 100 * time.Millisecond, Bandwidth: -1}}, peer)
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	conn := dialTCP(t, at["tcp"].String())
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	raw := &rawClient{t: t, conn: conn, name: name, password: password}
	raw.allocate()
	raw.request(stun.MethodChannelBind, attribute(stun.AttrChannelNumber, 0x40, 0, 0, 0), xorPeer(peer))
	frame := append([]byte{0x40, 0, 0x04, 0xb0}, make([]byte, 1200)...)
	for s.Stats().Connections > 0 {
		if _, err := conn.Write(frame); err != nil {
			break
		}
	}
	eventually(t, "the connection to be closed", func() bool { return s.Stats().Connections == 0 && s.Stats().Allocations == 0 })
	if s.Stats().TimedOutConnections == 0 {
		t.Errorf("stats %+v", s.Stats())
	}
}

func TestCloseEndsEverything(t *testing.T) { eachWay(t, testCloseEndsEverything) }

func testCloseEndsEverything(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{}, peer)
	for _, network := range []string{"udp", "tcp", "tls"} {
		name, password := Credentials(testSecret, "ac_1:dv_"+network, time.Now(), time.Minute)
		roundTrips(t, allocate(t, connect(t, dial(t, network, at[network], clientTLS), at[network], name, password)), peer)
	}
	idle := []net.Conn{dialTCP(t, at["tcp"].String()), dialTCP(t, at["tls"].String())}
	eventually(t, "all connections", func() bool { return s.Stats().Connections == 4 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range idle {
		closedByServer(t, "an idle connection", conn)
	}
	if now := s.Stats(); now.Allocations != 0 || now.Connections != 0 {
		t.Errorf("stats %+v", now)
	}
	if err := s.Close(); err != nil {
		t.Error("a second Close:", err)
	}
}

func dialTCP(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func dialTLS(t *testing.T, address string, c *tls.Config) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func sent(t *testing.T, conn net.Conn, b []byte) net.Conn {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	return conn
}

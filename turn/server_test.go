package turn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"
)

const testSecret = "only for tests"

var loopback4 = netip.MustParseAddr("127.0.0.1")

// noGoroutineLeft fails the test if a goroutine of this package or of Pion's server is running
// once everything that the test cleans up has been closed. Call it first.
func noGoroutineLeft(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.After(10 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			b := make([]byte, 1<<20)
			var left []string
			for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
				if strings.Contains(g, "anytime/turn.") && !strings.Contains(g, "testing.tRunner") ||
					strings.Contains(g, "pion/turn") && !strings.Contains(g, "internal/client") {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			select {
			case <-deadline:
				t.Errorf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
				return
			case <-tick.C:
			}
		}
	})
}

// eventually waits for a condition that a counter or table will meet.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("waited in vain for: " + what)
		case <-tick.C:
		}
	}
}

// dial opens the connection to the server for a Pion client.
func dial(t *testing.T, network string, to netip.AddrPort, c *tls.Config) net.PacketConn {
	t.Helper()
	switch network {
	case "udp":
		bind := "127.0.0.1:0"
		if to.Addr().Is6() {
			bind = "[::1]:0"
		}
		conn, err := net.ListenPacket("udp", bind)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	case "tcp":
		conn, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		return pion.NewSTUNConn(conn)
	default:
		conn, err := tls.Dial("tcp", to.String(), c)
		if err != nil {
			t.Fatal(err)
		}
		return pion.NewSTUNConn(conn)
	}
}

// connect makes a Pion client; the test closes it.
func connect(t *testing.T, conn net.PacketConn, to netip.AddrPort, username, password string) *pion.Client {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	c, err := pion.NewClient(&pion.ClientConfig{
		Conn: conn, STUNServerAddr: to.String(), TURNServerAddr: to.String(),
		Username: username, Password: password, Realm: "anytime",
		RTO: 100 * time.Millisecond, LoggerFactory: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); conn.Close() })
	return c
}

func allocate(t *testing.T, c *pion.Client) net.PacketConn {
	t.Helper()
	relay, err := c.Allocate()
	if err != nil {
		t.Fatal("Allocate:", err)
	}
	t.Cleanup(func() { relay.Close() })
	return relay
}

// roundTrips sends packets of several sizes to the peer and expects each back.
func roundTrips(t *testing.T, relay net.PacketConn, peer netip.AddrPort) {
	t.Helper()
	to := net.UDPAddrFromAddrPort(peer)
	b := make([]byte, 2000)
	for i, size := range []int{20, 5, 1200, 33, 170, 171, 173, 1400} {
		sent := bytes.Repeat([]byte{byte(i + 1)}, size)
		if _, err := relay.WriteTo(sent, to); err != nil {
			t.Fatal(err)
		}
		relay.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := relay.ReadFrom(b)
		if err != nil {
			t.Fatalf("packet %d of %d bytes: %v", i, size, err)
		}
		if !bytes.Equal(b[:n], sent) {
			t.Fatalf("packet %d: got %d bytes %x…, sent %d", i, n, b[:min(n, 8)], size)
		}
		if plain(addrPort(from)) != peer {
			t.Fatalf("from %v, want %v", from, peer)
		}
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func TestRelayOverEachTransport(t *testing.T) { eachWay(t, testRelayOverEachTransport) }

func testRelayOverEachTransport(t *testing.T, w way) {
	noGoroutineLeft(t)
	peer := w.echo(t, "127.0.0.1:0")
	s, at, clientTLS := w.all(t, Config{Software: "test"}, peer)
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			before := s.Stats()
			username, password := Credentials(testSecret, "ac_1:dv_"+network, time.Now(), time.Minute)
			c := connect(t, dial(t, network, at[network], clientTLS), at[network], username, password)
			relay := allocate(t, c)
			if ip := addrPort(relay.LocalAddr()).Addr(); ip != loopback4 {
				t.Errorf("relay at %v, want the peer's address, as no other is configured", ip)
			}
			roundTrips(t, relay, peer)
			here := addrPort(relay.LocalAddr())
			if elsewhere := netip.MustParseAddr("192.0.2.7"); !s.Relays(here) || s.Relays(netip.AddrPortFrom(elsewhere, here.Port())) || s.Relays(netip.AddrPortFrom(here.Addr(), at[network].Port())) {
				t.Error("the relay isn't told from other addresses")
			}
			now := s.Stats()
			if now.Allocations != 1 || now.Users != 1 || now.AllocationsMade != before.AllocationsMade+1 {
				t.Errorf("stats %+v", now)
			}
			eventually(t, "the last packet to be counted", func() bool { now = s.Stats(); return now.PacketsUp-before.PacketsUp >= 8 })
			if now.PacketsUp-before.PacketsUp != 8 || now.PacketsDown-before.PacketsDown != 8 || now.BytesUp == before.BytesUp {
				t.Errorf("relayed %d up, %d down; want 8 each", now.PacketsUp-before.PacketsUp, now.PacketsDown-before.PacketsDown)
			}
			// Ending it takes the relay away at once.
			if err := relay.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "no allocation", func() bool { return s.Stats().Allocations == 0 })
			if s.Relays(here) {
				t.Error("it is taken for a relay though it is gone")
			}
		})
	}
}

func TestBindingTellsTheClientsAddress(t *testing.T) { eachWay(t, testBindingTellsTheClientsAddress) }

func testBindingTellsTheClientsAddress(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	_, at, clientTLS := w.all(t, Config{Software: "anytime test"}, peer)
	for _, network := range []string{"udp", "tcp", "tls"} {
		conn := dial(t, network, at[network], clientTLS)
		c := connect(t, conn, at[network], "", "")
		mapped, err := c.SendBindingRequest()
		if err != nil {
			t.Fatal(network, err)
		}
		if addrPort(mapped).Port() != addrPort(conn.LocalAddr()).Port() {
			t.Errorf("%s: mapped to %v, is %v", network, mapped, conn.LocalAddr())
		}
	}
}

// A wildcard socket answers from the address that was asked, which needn't be the one that the
// route back would suggest.
func TestRepliesFromTheAddressAsked(t *testing.T) { eachWay(t, testRepliesFromTheAddressAsked) }

func testRepliesFromTheAddressAsked(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	s := w.serve(t, Config{UDP: []string{":0"}}, peer)
	asked := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), s.UDPAddrs()[0].Port())
	if l, err := net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Skip("no second loopback address here:", err)
	} else {
		l.Close()
	}
	// A connected socket takes packets from the asked address only.
	conn, err := net.Dial("udp", asked.String())
	if err != nil {
		t.Fatal(err)
	}
	username, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	c := connect(t, connected{conn}, asked, username, password)
	roundTrips(t, allocate(t, c), peer)
}

// connected makes a net.PacketConn of a connected UDP socket.
type connected struct{ net.Conn }

func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }
func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

func TestIPv6(t *testing.T) { eachWay(t, testIPv6) }

func testIPv6(t *testing.T, w way) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here:", err)
	} else {
		l.Close()
	}
	four, six := w.echo(t, "127.0.0.1:0"), w.echo(t, "[::1]:0")
	for _, test := range []struct {
		name  string
		peers []netip.AddrPort
		want  netip.AddrPort
	}{
		{"the SFU has both", []netip.AddrPort{four, six}, six},
		{"the SFU has IPv4 only", []netip.AddrPort{four}, four},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := w.serve(t, Config{UDP: []string{":0"}, TCP: []string{"[::1]:0"}}, test.peers...)
			at := map[string]netip.AddrPort{
				"udp": netip.AddrPortFrom(netip.IPv6Loopback(), s.UDPAddrs()[0].Port()),
				"tcp": s.StreamAddrs()[0],
			}
			for network, to := range at {
				username, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
				c := connect(t, silent{dial(t, network, to, nil)}, to, username, password)
				relay := allocate(t, c)
				if got := addrPort(relay.LocalAddr()).Addr(); got != test.want.Addr() {
					t.Fatalf("%s: relay at %v, want %v", network, got, test.want.Addr())
				}
				roundTrips(t, relay, test.want)
			}
		})
	}
}

// silent keeps Pion's client from asking for IPv6, which it does when its own address is one.
// Browsers name no family at all.
type silent struct{ net.PacketConn }

func (s silent) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(addrPort(s.PacketConn.LocalAddr()).Port())}
}

func TestPortInUse(t *testing.T) {
	noGoroutineLeft(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	first, err := New(Config{
		Secret: testSecret, Peers: func() []netip.AddrPort { return nil },
		UDP: []string{address}, TCP: []string{address},
	})
	if err == nil {
		first.Close()
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), "TCP") || !strings.Contains(err.Error(), address) {
		t.Errorf("error doesn't name the listener: %v", err)
	}
	// Nothing is left open: the UDP port of the failed start is free.
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestConfigIsChecked(t *testing.T) {
	peers := func() []netip.AddrPort { return nil }
	for want, c := range map[string]Config{
		"Secret":   {Peers: peers, UDP: []string{":0"}},
		"Peers":    {Secret: "s", UDP: []string{":0"}},
		"listener": {Secret: "s", Peers: peers},
		"Software": {Secret: "s", Peers: peers, UDP: []string{":0"}, Software: strings.Repeat("x", 764)},
	} {
		if s, err := New(c); err == nil {
			s.Close()
			t.Errorf("no error about %s", want)
		} else if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

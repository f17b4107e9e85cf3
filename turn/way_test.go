package turn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"

	"anytime/sfu/udp"
)

// way is how relays reach the SFU: inside this process where there is one, by sockets otherwise.
type way struct{ sfu *fakeSFU }

// eachWay runs a test over both.
func eachWay(t *testing.T, test func(*testing.T, way)) {
	t.Run("sockets", func(t *testing.T) { test(t, way{}) })
	t.Run("inside", func(t *testing.T) { test(t, newInside(t)) })
}

func newInside(t testing.TB) way {
	f := &fakeSFU{relays: make(map[netip.AddrPort]*attachment), port: 7882}
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.relays) > 0 {
			t.Errorf("%d relays are still attached", len(f.relays))
		}
	})
	return way{f}
}

func (w way) config(c Config) Config {
	if w.sfu != nil {
		c.Inside = w.sfu.inside
	}
	return c
}

// fakeSFU answers each packet with itself, before send returns.
type fakeSFU struct {
	mu     sync.Mutex
	port   uint16
	relays map[netip.AddrPort]*attachment
	refuse int // so many more
}

type attachment struct {
	mu      sync.RWMutex // held while delivering
	gone    bool
	deliver func(netip.AddrPort, udp.Run)
}

// announce returns an address that nobody listens on: none is needed.
func (f *fakeSFU) announce(ip netip.Addr) netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.port++
	return netip.AddrPortFrom(ip, f.port)
}

func (f *fakeSFU) inside(relay netip.AddrPort, deliver func(netip.AddrPort, udp.Run)) (func([]byte, netip.AddrPort), func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse > 0 || f.relays[relay] != nil {
		f.refuse--
		return nil, nil, errors.New("there is a client at this address")
	}
	a := &attachment{deliver: deliver}
	f.relays[relay] = a
	send := func(b []byte, to netip.AddrPort) { a.toClient(to, udp.Run{Buffer: b}) }
	detach := func() {
		a.mu.Lock()
		a.gone = true
		a.mu.Unlock()
		f.mu.Lock()
		delete(f.relays, relay)
		f.mu.Unlock()
	}
	return send, detach, nil
}

func (a *attachment) toClient(from netip.AddrPort, run udp.Run) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if !a.gone {
		a.deliver(from, run)
	}
}

// echo stands for the SFU: an address that answers each packet with itself. By sockets, it is a UDP socket.
func (w way) echo(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	if w.sfu != nil {
		return w.sfu.announce(netip.MustParseAddrPort(address).Addr())
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return addrPort(conn.LocalAddr())
}

// serve starts a server on loopback whose only peers are the given ones.
func (w way) serve(t testing.TB, c Config, peers ...netip.AddrPort) *Server {
	t.Helper()
	c = w.config(c)
	c.Secret = testSecret
	c.Peers = func() []netip.AddrPort { return peers }
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error("Close:", err)
		}
	})
	return s
}

// all starts a server with every kind of listener and returns the address of each.
func (w way) all(t *testing.T, c Config, peers ...netip.AddrPort) (*Server, map[string]netip.AddrPort, *tls.Config) {
	t.Helper()
	cert, roots := selfSigned(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	c.UDP, c.TCP, c.TLS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, []net.Listener{l}
	s := w.serve(t, c, peers...)
	return s, map[string]netip.AddrPort{
		"udp": s.UDPAddrs()[0], "tcp": s.StreamAddrs()[0], "tls": s.StreamAddrs()[1],
	}, &tls.Config{RootCAs: roots}
}

// numberedRun is n datagrams of a size, each filled with its number.
func numberedRun(n, size int) udp.Run {
	run := udp.Run{Size: size}
	for i := range n {
		run.Buffer = append(run.Buffer, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	return run
}

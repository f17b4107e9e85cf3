package sfu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
)

// framed puts packets on a byte stream.
func framed(packets ...[]byte) []byte {
	var b []byte
	for _, p := range packets {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
		b = append(b, p...)
	}
	return b
}

// readFrame reads the next frame that the server has sent.
func readFrame(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var length [frameHeader]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// checkFor is a connectivity check for a user fragment.
func checkFor(t testing.TB, ufrag string) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("test"), stun.NewUsername(ufrag+":peer"),
		stun.NewShortTermIntegrity("password"), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// tcpOwners find themselves by user fragment, and keep what they get.
type tcpOwners struct {
	mu sync.Mutex
	of map[string]*keptTCP
}

type keptTCP struct {
	mu       sync.Mutex
	conns    []*tcpConn // by their first packets
	packets  [][]byte
	gone     int
	received func(c *tcpConn, b []byte)
}

func (o *tcpOwners) find(ufrag string) tcpOwner {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.of[ufrag]; k != nil {
		return k
	}
	return nil
}

func (o *tcpOwners) add(ufrag string) *keptTCP {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := &keptTCP{}
	if o.of == nil {
		o.of = map[string]*keptTCP{}
	}
	o.of[ufrag] = k
	return k
}

func (k *keptTCP) receivedTCP(c *tcpConn, b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.conns, c) {
		k.conns = append(k.conns, c)
	}
	k.packets = append(k.packets, bytes.Clone(b))
	clear(b) // it may be changed
	if k.received != nil {
		k.received(c, b)
	}
}

func (k *keptTCP) goneTCP(*tcpConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone++
}

func (k *keptTCP) state() (conns, packets, gone int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns), len(k.packets), k.gone
}

// piped is a listener for connections in memory, whose ends have addresses. An error may come between them.
type piped struct {
	conns  chan net.Conn // nil: an error
	closed chan struct{}
	once   sync.Once
}

func newPiped() *piped { return &piped{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *piped) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		if c == nil {
			return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *piped) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *piped) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 7881} }

func (l *piped) dial(from string) net.Conn {
	here, there := net.Pipe()
	l.conns <- &pipedConn{there, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 5000))}
	return here
}

type pipedConn struct {
	net.Conn
	from net.Addr
}

func (c *pipedConn) RemoteAddr() net.Addr { return c.from }
func (c *pipedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 200), Port: 7881}
}

// withPipedTCP runs a test in virtual time. All goroutines must have ended when the port is closed.
func withPipedTCP(t *testing.T, run func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, owners := newPiped(), &tcpOwners{}
		p := newTCPPort(l, owners.find, slog.New(slog.DiscardHandler))
		run(t, l, p, owners)
		begin := time.Now()
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("closing took %v", d)
		}
		if n := p.counts().open; n != 0 || p.limit.open != 0 || len(p.limit.by) != 0 || len(p.waiting) != 0 {
			t.Errorf("%d connections are left, limit %+v, waiting %v", n, p.limit, p.waiting)
		}
	})
}

// awaitEnd returns how long it takes until the server closes a connection, which sends nothing meanwhile.
func awaitEnd(t testing.TB, conn net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return time.Since(begin)
}

func mustWrite(t testing.TB, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

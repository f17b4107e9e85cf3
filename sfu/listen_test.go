package sfu

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// scripted is a listener that accepts what it was given, nil standing for an error, and is closed then.
type scripted struct {
	net.Listener
	conns []net.Conn
}

func (l *scripted) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := l.conns[0]
	l.conns = l.conns[1:]
	if c == nil {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return c, nil
}

type connFrom struct {
	net.Conn
	ip     string
	closed int
}

func (c *connFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.ip), Port: 1} }
func (c *connFrom) Close() error         { c.closed++; return nil }

func TestICETCPConnectionsAreBounded(t *testing.T) {
	l := &scripted{}
	limited := newCanonicalListener(l, 4, 2)
	accept := func(ips ...string) (got []net.Conn) {
		t.Helper()
		for _, ip := range ips {
			l.conns = append(l.conns, nil, &connFrom{ip: ip}) // errors don't end it
		}
		for {
			c, err := limited.Accept()
			if errors.Is(err, net.ErrClosed) {
				return got
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c)
		}
	}
	first := accept("192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::ffff", "2001:db8::2", "192.0.2.9")
	if len(first) != 4 {
		t.Fatalf("%d connections, want two of each address and four at most", len(first))
	}
	for range 2 { // closing twice counts once
		_ = first[0].Close()
	}
	if n := len(accept("192.0.2.9", "192.0.2.9")); n != 1 {
		t.Errorf("%d connections after one was closed, want 1", n)
	}
	for _, c := range first {
		_ = c.Close()
	}
	if limited.open != 1 || len(limited.by) != 1 {
		t.Errorf("%d counted, by address %v", limited.open, limited.by)
	}
}

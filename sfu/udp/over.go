package udp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

const (
	// patience is after how many errors in a row a reader pauses, and pause how long: some systems tell of every refused
	// datagram when reading, which is no reason to stop or to wait.
	patience = 64
	pause    = 10 * time.Millisecond
)

// Over makes a port of any conn, such as one of a virtual network: one reader, one write per datagram. Only Clock,
// Reader and Log of the configuration are used. A write waits if the conn's does. The port closes the conn.
func Over(c net.PacketConn, cfg Config) *Port {
	p := newPort(cfg)
	p.addr = addrPort(c.LocalAddr())
	p.conn = newConn(p, c)
	p.start()
	return p
}

// conn is a PacketConn under a port.
type conn struct {
	port   *Port
	reader Reader
	net.PacketConn
	// fast is the same conn where it takes addresses that need no allocation, as a *net.UDPConn does.
	fast interface {
		ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
		WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	}
	counters
}

func newConn(p *Port, c net.PacketConn) *conn {
	made := &conn{port: p, reader: discard, PacketConn: c}
	if u, ok := c.(*net.UDPConn); ok {
		made.fast = u
	}
	return made
}

func (c *conn) give(r Reader) { c.reader = r }
func (c *conn) path() Path    { return Plain }
func (c *conn) close() error  { return c.PacketConn.Close() }

func (c *conn) read() {
	b := make([]byte, MaxDatagram+1)
	for failures := 0; ; {
		n, from, err := c.readFrom(b)
		if c.port.closed.Load() {
			return
		}
		switch {
		case n > MaxDatagram: // with or without an error about the buffer's length
			c.oversize.Add(1)
		case err == nil:
			failures = 0
			if n > 0 {
				c.reads.Add(1)
				c.received.Add(1)
				c.receivedBytes.Add(uint64(n))
				c.reader.Receive(b[:n:n], from, c.port.cfg.Clock())
				c.reader.Rest(c.port.cfg.Clock())
			}
		case errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF):
			c.port.cfg.Log.Error("the UDP conn was closed from outside", "addr", c.port.addr, "error", err)
			return
		default:
			if failures++; failures%patience == 0 {
				select {
				case <-time.After(pause):
				case <-c.port.done:
					return
				}
			}
		}
	}
}

func (c *conn) readFrom(b []byte) (int, netip.AddrPort, error) {
	if c.fast != nil {
		n, from, err := c.fast.ReadFromUDPAddrPort(b)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, from, err := c.PacketConn.ReadFrom(b)
	return n, addrPort(from), err
}

func (c *conn) send(runs []Run) int {
	left := 0
	for _, run := range runs {
		for len(run.Buffer) > 0 {
			var one Run
			one, run = run.cut(1)
			if c.write(one.Buffer, one.To) == nil {
				left++
			}
		}
	}
	return left
}

func (c *conn) write(b []byte, to netip.AddrPort) error {
	var err error
	if c.fast != nil {
		_, err = c.fast.WriteToUDPAddrPort(b, to)
	} else {
		_, err = c.PacketConn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	switch {
	case err == nil:
		c.writes.Add(1)
		c.sent.Add(1)
		c.sentBytes.Add(uint64(len(b)))
	case c.port.closed.Load():
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS):
		c.full.Add(1)
	default:
		c.failed.Add(1)
	}
	return err
}

// addrPort is a's address with IPv4 unmapped, or zero if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// network is udp4 for an IPv4 host, and udp otherwise: Go would take 0.0.0.0 for both families.
func network(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "udp" // whose error is clearer
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		return "udp4"
	}
	return "udp"
}

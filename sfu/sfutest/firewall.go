package sfutest

import (
	"net"
	"sync/atomic"

	pion "github.com/pion/transport/v4"
)

// Firewall is a network that can stop to let UDP through.
type Firewall struct {
	pion.Net
	blocked atomic.Bool
}

// Block drops UDP in both directions from now on, silently, as firewalls do.
func (f *Firewall) Block() { f.blocked.Store(true) }

// ListenUDP implements pion.Net.
func (f *Firewall) ListenUDP(network string, addr *net.UDPAddr) (pion.UDPConn, error) {
	c, err := f.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	return &walledConn{c, &f.blocked}, nil
}

type walledConn struct {
	pion.UDPConn
	blocked *atomic.Bool
}

func (c *walledConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		if err != nil || !c.blocked.Load() {
			return n, from, err
		}
	}
}

func (c *walledConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.blocked.Load() {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

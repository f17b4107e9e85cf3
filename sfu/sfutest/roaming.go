package sfutest

import (
	"errors"
	"net"
	"slices"
	"sync"

	pion "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/vnet"
)

// Host adds a host to the network, for a client that isn't a [Client], and returns its address.
func (n *Network) Host() (pion.Net, string) { return n.host() }

// Roaming is the network of a client that changes its address in the middle of a call.
type Roaming struct {
	pion.Net // what doesn't depend on the address
	network  *Network

	mu    sync.Mutex
	host  *vnet.Net
	ip    string
	conns []*roamingConn
}

// Roaming returns a network for one client.
func (n *Network) Roaming() *Roaming {
	host, ip := n.host()
	return &Roaming{Net: host, network: n, host: host, ip: ip}
}

// Move leaves the network for another one, as from WLAN to a mobile network: sockets of before are dead, new ones have
// the new address.
func (r *Roaming) Move() {
	host, ip := r.network.host()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.network.cut.Store(r.ip, true)
	r.host, r.ip = host, ip
}

// Rebind gives the sockets another address without their noticing, as a NAT does that has lost its mapping. What is sent
// to the old one is lost.
func (r *Roaming) Rebind() error {
	host, ip := r.network.host()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.network.cut.Store(r.ip, true)
	r.host, r.ip = host, ip
	for _, c := range r.conns {
		inner, err := host.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
		if err != nil {
			return err
		}
		c.use(inner)
	}
	return nil
}

// Interfaces implements pion.Net.
func (r *Roaming) Interfaces() ([]*pion.Interface, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.host.Interfaces()
}

// ListenUDP implements pion.Net.
func (r *Roaming) ListenUDP(network string, addr *net.UDPAddr) (pion.UDPConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inner, err := r.host.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	c := &roamingConn{UDPConn: inner, network: r, addr: inner.LocalAddr(), in: make(chan datagram, 1024), done: make(chan struct{})}
	c.use(inner)
	r.conns = append(r.conns, c)
	return c, nil
}

type datagram struct {
	b    []byte
	from net.Addr
	err  error
}

// roamingConn is a socket over one after another.
type roamingConn struct {
	pion.UDPConn // the first; reading and writing are ours
	network      *Roaming
	addr         net.Addr
	in           chan datagram
	done         chan struct{}
	pumps        sync.WaitGroup
	once         sync.Once

	mu  sync.Mutex
	all []pion.UDPConn // the last is in use
}

func (c *roamingConn) use(inner pion.UDPConn) {
	c.mu.Lock()
	c.all = append(c.all, inner)
	c.mu.Unlock()
	c.pumps.Go(func() {
		for {
			b := make([]byte, 2048)
			n, from, err := inner.ReadFrom(b)
			select {
			case c.in <- datagram{b[:n], from, err}:
			case <-c.done:
				return
			}
			if err != nil {
				return
			}
		}
	})
}

// LocalAddr is the first: the owner knows no other.
func (c *roamingConn) LocalAddr() net.Addr { return c.addr }

func (c *roamingConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.from, d.err
	case <-c.done:
		return 0, nil, net.ErrClosed
	}
}

func (c *roamingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	inner := c.all[len(c.all)-1]
	c.mu.Unlock()
	return inner.WriteTo(b, to)
}

func (c *roamingConn) Close() error {
	var errs []error
	c.once.Do(func() {
		close(c.done)
		c.mu.Lock()
		for _, inner := range c.all {
			errs = append(errs, inner.Close())
		}
		c.mu.Unlock()
		c.pumps.Wait()
		c.network.mu.Lock()
		c.network.conns = slices.DeleteFunc(c.network.conns, func(o *roamingConn) bool { return o == c })
		c.network.mu.Unlock()
	})
	return errors.Join(errs...)
}

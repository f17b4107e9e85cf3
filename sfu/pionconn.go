package sfu

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What Pion's ICE agent sees of the ports: for each set of credentials that it makes, a conn for each family of UDP and of
// TCP, on which STUN and DTLS come in. All that it sends goes through them as well.

const (
	// waitingPackets is how many packets may wait for an agent, that of DTLS included; more are dropped, and sent again by
	// whoever sent them.
	waitingPackets = 128
	// maxControl bounds such a packet, in bytes: none is longer than what one path passes in one piece.
	maxControl = 2048
)

// family is which of an agent's conns a packet belongs to.
const (
	familyUDP4 = iota
	familyUDP6
	familyTCP4
	familyTCP6
	families
)

func familyOf(tcp, v6 bool) (f int) {
	if tcp {
		f = familyTCP4
	}
	if v6 {
		f++
	}
	return f
}

// generation is one set of ICE credentials of a peer connection. A restart makes another, while packets for the one before
// may still come.
type generation struct {
	p         *plane
	fragment  string
	consenter atomic.Pointer[consenter] // nil where the agent answers everything

	mu     sync.Mutex
	closed bool
	conns  [families]*pionConn
	tcp    map[netip.AddrPort]*tcpConn // by remote address
	// asked is where the latest check came from that the agent has read, and nominates whether it nominated its pair; nominated
	// is where the latest such came from that the agent answered, so that it has chosen this pair or a better one.
	asked     netip.AddrPort
	nominates bool
	nominated netip.AddrPort
}

// conn returns the conn of a family, which it makes if need be; nil once the generation is closed. Candidates of one family
// share it, and the first alone reads from it: each would do so on a goroutine of its own and into 8 KB of its own.
func (g *generation) conn(family int, local net.Addr) net.PacketConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if c := g.conns[family]; c != nil {
		return unread{c}
	}
	c := &pionConn{g: g, tcp: family >= familyTCP4, local: local, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	g.conns[family] = c
	return c
}

// push gives a packet to the agent. It reports false if the agent takes none of its kind.
func (g *generation) push(b []byte, from netip.AddrPort, tcp bool) bool {
	g.mu.Lock()
	c := g.conns[familyOf(tcp, from.Addr().Is6())]
	g.mu.Unlock()
	if c == nil || len(b) > maxControl {
		return false
	}
	c.push(b, from)
	return true
}

// receivedTCP implements tcpOwner.
func (g *generation) receivedTCP(c *tcpConn, b []byte) {
	from := c.remote()
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.tcp[from] = c
	}
	g.mu.Unlock()
	// RFC 8445 section 9: during a restart, media goes on over the pair of before until there is another.
	if closed && !g.p.uses(c) {
		c.close()
		return
	}
	switch kindOf(b) {
	case kindSTUN:
		if _, ok := parseSTUN(b); ok && !closed {
			g.push(b, from, true)
		}
	case kindDTLS:
		if g.p.proven(c) {
			g.p.handshakes(b, from, true)
		}
	case kindMedia:
		if g.p.proven(c) {
			at := g.p.mux.clock()
			if g.p.media(b, from, at) {
				g.p.rest(at)
			}
		}
	default:
		g.p.mux.stats.other.Add(1)
	}
}

// goneTCP implements tcpOwner.
func (g *generation) goneTCP(c *tcpConn) {
	from := c.remote()
	g.mu.Lock()
	if g.tcp[from] == c {
		delete(g.tcp, from)
	}
	g.mu.Unlock()
	g.p.gone(c)
}

func (g *generation) stream(to netip.AddrPort) *tcpConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tcp[to]
}

// close ends the conns. TCP connections that the plane doesn't use are closed.
func (g *generation) close() {
	g.mu.Lock()
	g.closed = true
	conns := g.conns
	var streams []*tcpConn
	for _, c := range g.tcp {
		streams = append(streams, c)
	}
	g.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
	for _, c := range streams {
		if !g.p.uses(c) {
			c.close()
		}
	}
}

// control is a packet that waits for an agent.
type control struct {
	from netip.AddrPort
	n    int
	b    [maxControl]byte
}

var controls = sync.Pool{New: func() any { return new(control) }}

// pionConn is an agent's [net.PacketConn]. The candidates of a family share it.
type pionConn struct {
	g     *generation
	tcp   bool
	local net.Addr
	// arrived is told when a packet comes while none waits.
	arrived chan struct{}
	closed  chan struct{}
	once    sync.Once

	mu      sync.Mutex
	waiting []*control // in order; nil while there is none
}

func (c *pionConn) push(b []byte, from netip.AddrPort) {
	packet := controls.Get().(*control)
	packet.from, packet.n = from, copy(packet.b[:], b)
	c.mu.Lock()
	n := len(c.waiting)
	if n < waitingPackets {
		c.waiting = append(c.waiting, packet)
	}
	c.mu.Unlock()
	switch n {
	case waitingPackets:
		controls.Put(packet)
		c.g.p.mux.stats.full.Add(1)
	case 0:
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}
}

// next takes the first packet that waits, nil if there is none.
func (c *pionConn) next() *control {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return nil
	}
	packet := c.waiting[0]
	if c.waiting = c.waiting[1:]; len(c.waiting) == 0 {
		c.waiting = nil // so that it takes no room
	}
	return packet
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter, which spares an allocation for each packet.
func (c *pionConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		if packet := c.next(); packet != nil {
			from, n := packet.from, copy(b, packet.b[:packet.n])
			controls.Put(packet)
			c.g.reads(b[:n], from)
			return n, from, nil
		}
		select {
		case <-c.arrived:
		case <-c.closed:
			return 0, netip.AddrPort{}, io.EOF
		}
	}
}

// WriteToAddrPort implements ice.AddrPortReaderWriter. An answer to a check proves the address: the agent gives none to who
// doesn't know the password.
func (c *pionConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-c.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	to = unmapped(to)
	if c.tcp {
		stream := c.g.stream(to)
		if stream == nil {
			return 0, errors.New("the TCP connection has ended")
		}
		if isSuccess(b) {
			c.g.answered(netip.AddrPort{})
			c.g.p.proveStream(stream)
			c.g.p.alive(c.g.p.mux.clock())
		}
		stream.send(b, 0)
		return len(b), nil
	}
	if isSuccess(b) {
		c.g.answered(to)
		c.g.p.prove(to)
		c.g.p.alive(c.g.p.mux.clock())
	}
	return len(b), c.g.p.mux.write(b, to)
}

// reads notes what the agent reads. It answers before it reads on.
func (g *generation) reads(b []byte, from netip.AddrPort) {
	if kindOf(b) != kindSTUN {
		return
	}
	m, _ := parseSTUN(b)
	g.mu.Lock()
	g.asked, g.nominates = from, m.nominates
	g.mu.Unlock()
}

// answered notes that the agent has answered a check well, over UDP to an address, over TCP to none.
func (g *generation) answered(to netip.AddrPort) {
	g.mu.Lock()
	if g.nominates && (g.asked == to || !to.IsValid()) {
		g.nominated = to
	}
	g.mu.Unlock()
}

// ReadFrom implements net.PacketConn.
func (c *pionConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, networkAddr(from, c.tcp), nil
}

// WriteTo implements net.PacketConn.
func (c *pionConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.WriteToAddrPort(b, addrPort(to))
}

// Close implements net.PacketConn.
func (c *pionConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *pionConn) LocalAddr() net.Addr { return c.local }

// SetDeadline, SetReadDeadline and SetWriteDeadline implement net.PacketConn: a write never waits, and a read is ended by
// Close, which is what Pion sets deadlines for.
func (c *pionConn) SetDeadline(time.Time) error      { return nil }
func (c *pionConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pionConn) SetWriteDeadline(time.Time) error { return nil }

// unread is a conn for those candidates of a family that don't read: what comes is the first one's.
type unread struct{ *pionConn }

// ReadFromAddrPort implements ice.AddrPortReaderWriter.
func (unread) ReadFromAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, io.EOF
}

// ReadFrom implements net.PacketConn.
func (unread) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, io.EOF }

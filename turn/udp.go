package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"anytime/sfu/udp"
)

const (
	// kernelBuffer is asked for per socket and direction, in bytes: room for bursts. The system may grant less.
	kernelBuffer = 4 << 20
	// queueLength is how many messages wait for Pion at a listener, 1.6 MB at most.
	queueLength = 1024
	// maxFrames is the most that goes to the kernel at once, in bytes.
	maxFrames = 1 << 16
)

// datagrams is what one listener over UDP has of one address family: the net.PacketConn that Pion reads and writes, beside
// which the packets of media pass. The port's readers fill its queue, one goroutine of Pion's empties it.
type datagrams struct {
	s     *Server
	port  *udp.Port
	local net.Addr // what Pion takes for the local address

	clients clientTable
	queue   chan *message

	asking atomic.Pointer[udpClient] // who sent the request being answered

	closing, reader sync.Once
	done            chan struct{} // closed by Close
}

// message is a datagram on its way to Pion.
type message struct {
	from  netip.AddrPort
	local netip.Addr
	n     int
	b     [maxMessage]byte
}

var messages = sync.Pool{New: func() any { return new(message) }}

// listenUDP opens a port for an address, for both families if it has no host, and one for each family of a host name.
func (s *Server) listenUDP(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return s.openUDP(address)
	}
	opened := 0
	for _, network := range []string{"udp4", "udp6"} {
		at, err := net.ResolveUDPAddr(network, address)
		if err != nil {
			continue // a name with addresses of one family
		}
		if port == "0" && opened > 0 { // the same port for both
			at.Port = int(s.ports[len(s.ports)-1].Addr().Port())
		}
		err = s.openUDP(at.String())
		if opened > 0 && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
			s.log.Debug("TURN over UDP: no IPv6 on this machine", "error", err)
			continue
		}
		if err != nil {
			return err
		}
		opened++
	}
	if opened == 0 {
		return &net.AddrError{Err: "no address to listen on", Addr: address}
	}
	return nil
}

// openUDP opens a port, with a socket per core. On every address of the machine, answers leave from the one that was asked:
// the port tells which that was.
func (s *Server) openUDP(address string) error {
	four, six := s.newDatagrams(), s.newDatagrams()
	port, err := udp.Listen(udp.Config{
		Addr: address, Buffer: kernelBuffer, Clock: s.clock, Log: s.log,
		Reader: func(int) udp.Reader { return families{four, six} },
	})
	if err != nil {
		return err
	}
	s.ports = append(s.ports, port)
	for _, d := range []*datagrams{four, six} {
		if at := port.Addr().Addr(); !at.IsUnspecified() && at.Is4() != (d == four) || at == netip.IPv4Unspecified() && d == six {
			continue // none of this family come here
		}
		d.port = port
		d.local = s.localAs(net.UDPAddrFromAddrPort(port.Addr()), d == four)
		s.udp = append(s.udp, d)
	}
	return nil
}

// families takes what comes to a port.
type families struct{ four, six *datagrams }

// ReceiveAt implements udp.LocalReader.
func (f families) ReceiveAt(b []byte, from netip.AddrPort, local netip.Addr, at time.Duration) {
	if from.Addr().Is4() {
		f.four.receive(b, from, local, at)
	} else {
		f.six.receive(b, from, local, at)
	}
}

// Receive implements udp.Reader, for a port of one address.
func (f families) Receive(b []byte, from netip.AddrPort, at time.Duration) {
	f.ReceiveAt(b, from, netip.Addr{}, at)
}

// Rest implements udp.Reader.
func (families) Rest(time.Duration) {}

func (s *Server) newDatagrams() *datagrams {
	return &datagrams{s: s, queue: make(chan *message, queueLength), done: make(chan struct{})}
}

// localAs is the local address for Pion, which picks a relay's family by it when the client
// didn't say (browsers don't): the client's own family, unless the SFU has no address of that
// one. Otherwise it only has to be the same for all packets of one listener and family.
func (s *Server) localAs(local net.Addr, v4 bool) net.Addr {
	set := s.peers.Load()
	if set.has(v4) || !set.has(!v4) {
		return local
	}
	port := int(addrPort(local).Port())
	ip := relayIP(s.relayIPs, set.announced, !v4)
	if _, ok := local.(*net.TCPAddr); ok {
		return &net.TCPAddr{IP: ip.AsSlice(), Port: port}
	}
	return &net.UDPAddr{IP: ip.AsSlice(), Port: port}
}

// receive takes a datagram. Those that carry data are forwarded at once. Pion gets, of a client with an allocation, the
// others within the user's rate; of a sender without one the requests, as many as admission lets through.
func (d *datagrams) receive(b []byte, from netip.AddrPort, local netip.Addr, at time.Duration) {
	what := garbage
	if len(b) <= maxMessage {
		what = kindOf(b)
	}
	r := d.clients.at(from)
	stats := &d.s.stats
	switch {
	case what == garbage, r == nil && what != request:
		stats.garbage.Add(1)
		return
	case r != nil && r.up(what, b, at):
		return
	case r != nil && !r.user.requests.take(at, 1), r == nil && !d.s.gate.allow(from.Addr(), d.s.now()):
		stats.limited.Add(1)
		return
	}
	m := messages.Get().(*message)
	m.from, m.local, m.n = from, local, copy(m.b[:], b)
	select {
	case d.queue <- m:
	default:
		stats.limited.Add(1)
		messages.Put(m)
	}
}

// ReadFrom implements net.PacketConn: the next message for Pion.
func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case m := <-d.queue:
		d.asking.Store(d.client(m.from, m.local))
		n, from := copy(p, m.b[:m.n]), net.UDPAddrFromAddrPort(m.from)
		messages.Put(m)
		return n, from, nil
	case <-d.done:
		d.reader.Do(d.s.readers.Done)
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. What Pion writes are answers, each before it reads on.
func (d *datagrams) WriteTo(p []byte, to net.Addr) (int, error) {
	out := d.s.announce(p)
	c := d.clientAt(addrPort(to))
	d.port.Send(c.hint, udp.Run{To: c.addr, Buffer: out, From: c.local})
	return len(p), nil
}

// Close implements net.PacketConn. The port is closed by the server: the other family has it too.
func (d *datagrams) Close() error {
	d.closing.Do(func() { close(d.done) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (d *datagrams) LocalAddr() net.Addr { return d.local }

// SetDeadline, SetReadDeadline and SetWriteDeadline implement net.PacketConn. Pion doesn't use them.
func (d *datagrams) SetDeadline(time.Time) error      { return nil }
func (d *datagrams) SetReadDeadline(time.Time) error  { return nil }
func (d *datagrams) SetWriteDeadline(time.Time) error { return nil }

// outlet leads to the client that asked last, whose allocation is being made.
func (d *datagrams) outlet(from netip.AddrPort) outlet { return d.clientAt(from) }

func (d *datagrams) opened(from netip.AddrPort, r *relay) { d.clients.put(from, r) }
func (d *datagrams) closed(from netip.AddrPort, r *relay) { d.clients.drop(from, r) }

func (d *datagrams) clientAt(addr netip.AddrPort) *udpClient {
	if asking := d.asking.Load(); asking != nil && asking.addr == addr {
		return asking
	}
	return d.client(addr, netip.Addr{})
}

func (d *datagrams) client(addr netip.AddrPort, local netip.Addr) *udpClient {
	return &udpClient{port: d.port, addr: addr, local: local, hint: hash(addr)}
}

// udpClient is the outlet to a client over UDP.
type udpClient struct {
	port  *udp.Port
	addr  netip.AddrPort
	local netip.Addr // the address it asked, where the port has several
	hint  uint32
}

var frames = sync.Pool{New: func() any { return new([maxFrames]byte) }}

func (c *udpClient) send(e envelope, run udp.Run) {
	buffer := frames.Get().(*[maxFrames]byte)
	out := udp.Run{To: c.addr, From: c.local}
	filled := 0
	for at := 0; at < len(run.Buffer); {
		packet := next(run, at)
		at += len(packet)
		size := e.size(len(packet), false)
		if size > maxFrames {
			continue
		}
		if filled+size > maxFrames {
			out.Buffer, filled = buffer[:filled], 0
			c.port.Send(c.hint, out)
		}
		if filled == 0 {
			out.Size = size // that of all but the last
		}
		filled += e.put(buffer[filled:], packet, false)
	}
	if filled > 0 {
		out.Buffer = buffer[:filled]
		c.port.Send(c.hint, out)
	}
	frames.Put(buffer)
}

package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// datagrams is a UDP socket that clients send to: the net.PacketConn that Pion reads and writes.
// One goroutine reads; any may write.
type datagrams struct {
	*net.UDPConn
	s     *Server
	local net.Addr // what Pion takes for the local address
	every bool     // listens on every address: replies must name theirs
	v4    bool
	oob   []byte // of the reader

	mu      sync.RWMutex
	clients map[netip.AddrPort]datagramClient // those with an allocation

	asking atomic.Pointer[datagramClient] // who sent the request being answered
	reader sync.Once
}

// datagramClient is a client's address, and the control message by which replies leave from the
// address it had asked (nil: the system chooses).
type datagramClient struct {
	addr   *net.UDPAddr
	source []byte
	relay  *relay
}

// listenUDP opens one socket per family for an empty or unspecified host, or else one.
func (s *Server) listenUDP(address string) ([]*datagrams, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var opened []*datagrams
	for _, network := range []string{"udp4", "udp6"} {
		if host != "" {
			if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() && ip.Unmap().Is4() != (network == "udp4") {
				continue
			} else if err == nil && ip.IsUnspecified() && ip.Is4() && network == "udp6" {
				continue
			}
		}
		at, err := net.ResolveUDPAddr(network, net.JoinHostPort(host, port))
		if err != nil {
			if len(opened) > 0 || network == "udp4" && host != "" {
				continue // a name with addresses of one family
			}
			return opened, err
		}
		if at.IP.IsUnspecified() { // "::" for udp4
			at.IP = nil
		}
		if at.Port == 0 && len(opened) > 0 { // the same port for both
			at.Port = int(addrPort(opened[0].UDPConn.LocalAddr()).Port())
		}
		conn, err := net.ListenUDP(network, at)
		if err != nil {
			if len(opened) > 0 && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
				s.log.Debug("TURN over UDP: no IPv6 on this machine", "error", err)
				continue
			}
			return opened, err
		}
		opened = append(opened, s.newDatagrams(conn, network == "udp4"))
	}
	if len(opened) == 0 {
		return nil, &net.AddrError{Err: "no address to listen on", Addr: address}
	}
	return opened, nil
}

func (s *Server) newDatagrams(conn *net.UDPConn, v4 bool) *datagrams {
	d := &datagrams{
		UDPConn: conn,
		s:       s,
		v4:      v4,
		local:   s.localAs(conn.LocalAddr(), v4),
		clients: make(map[netip.AddrPort]datagramClient),
	}
	// Room for bursts; the system may grant less.
	_ = conn.SetReadBuffer(4 << 20)
	_ = conn.SetWriteBuffer(4 << 20)
	if addrPort(conn.LocalAddr()).Addr().IsUnspecified() {
		var err error
		if v4 {
			err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
		} else {
			err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
		}
		// Without it, replies leave from the address that the route suggests.
		if d.every = err == nil; d.every {
			d.oob = make([]byte, 128)
		}
	}
	return d
}

// localAs is the local address for Pion, which picks a relay's family by it when the client
// didn't say (browsers don't): the client's own family, unless the SFU has no address of that
// one. Otherwise it only has to be the same for all packets of one socket.
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

// LocalAddr implements net.PacketConn.
func (d *datagrams) LocalAddr() net.Addr { return d.local }

// ReadFrom returns the next message that may pass: any of a client with an allocation, and of
// others the requests, as many as admission lets through.
func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, oobn, _, from, err := d.UDPConn.ReadMsgUDPAddrPort(p, d.oob)
		if err != nil {
			if d.s.retry(err) {
				d.s.log.Warn("reading TURN over UDP", "error", err)
				continue
			}
			d.reader.Do(d.s.readers.Done)
			return 0, nil, err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		what := kindOf(p[:n])
		if n >= len(p) {
			what = garbage
		}
		d.mu.RLock()
		client, known := d.clients[from]
		d.mu.RUnlock()
		switch {
		case what == garbage, !known && what != request:
			d.s.stats.garbage.Add(1)
			continue
		case !known && !d.s.gate.allow(from.Addr(), d.s.now()):
			d.s.stats.limited.Add(1)
			continue
		case !known:
			client = datagramClient{addr: net.UDPAddrFromAddrPort(from), source: d.source(d.oob[:oobn])}
		}
		if what == request {
			asking := client
			d.asking.Store(&asking)
		}
		return n, client.addr, nil
	}
}

// source turns the control message of a packet into that of its reply.
func (d *datagrams) source(oob []byte) []byte {
	if !d.every {
		return nil
	}
	if d.v4 {
		var in ipv4.ControlMessage
		if in.Parse(oob) != nil || in.Dst == nil || in.Dst.IsMulticast() || in.Dst.Equal(net.IPv4bcast) {
			return nil
		}
		return (&ipv4.ControlMessage{Src: in.Dst}).Marshal()
	}
	var in ipv6.ControlMessage
	if in.Parse(oob) != nil || in.Dst == nil || in.Dst.IsMulticast() {
		return nil
	}
	out := ipv6.ControlMessage{Src: in.Dst}
	if in.Dst.IsLinkLocalUnicast() {
		out.IfIndex = in.IfIndex
	}
	return out.Marshal()
}

// WriteTo sends a message to a client.
func (d *datagrams) WriteTo(p []byte, to net.Addr) (int, error) {
	at := addrPort(to)
	d.mu.RLock()
	client, known := d.clients[at]
	d.mu.RUnlock()
	if !known {
		if asking := d.asking.Load(); asking != nil && addrPort(asking.addr) == at {
			client = *asking
		}
	}
	out := d.s.announce(p)
	if _, _, err := d.UDPConn.WriteMsgUDPAddrPort(out, client.source, at); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *datagrams) opened(from netip.AddrPort, r *relay) {
	client := datagramClient{addr: net.UDPAddrFromAddrPort(from)}
	if asking := d.asking.Load(); asking != nil && addrPort(asking.addr) == from {
		client = *asking
	}
	client.relay = r
	d.mu.Lock()
	d.clients[from] = client
	d.mu.Unlock()
}

// closed forgets the client, unless a newer relay has taken the place.
func (d *datagrams) closed(from netip.AddrPort, r *relay) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clients[from].relay == r {
		delete(d.clients, from)
	}
}

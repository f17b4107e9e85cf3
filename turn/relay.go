package turn

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pion "github.com/pion/turn/v5"
)

var (
	errClosed     = errors.New("the server is closing")
	errQuota      = errors.New("over the quota of allocations")
	errNotOffered = errors.New("only UDP relays are offered")
	errNoEvenPort = errors.New("found no even port")
	errNoFamily   = errors.New("the SFU has no address of this family")
)

// entrance is the listener that a client came in by. It is told of the client's relay, so that
// it lets the client's packets through.
type entrance interface {
	opened(from netip.AddrPort, r *relay)
	closed(from netip.AddrPort, r *relay)
}

// generator makes the relays for one entrance; Pion calls it once an allocation has been
// authenticated and the quota has said yes.
type generator struct {
	s  *Server
	in entrance
}

func (generator) Validate() error { return nil }

// AllocatePacketConn makes a relay socket. Its errors reach the client as 508 (Insufficient
// Capacity).
func (g generator) AllocatePacketConn(c pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	who, ok := parseUserID(c.UserID)
	if !ok {
		return g.s.evenPort(c.Network == "udp4")
	}
	r, err := g.s.newRelay(g.in, who, c.Network == "udp4", c.RequestedPort)
	if err != nil {
		g.s.log.Debug("TURN allocation refused", "user", who.identity, "from", who.from, "error", err)
		return nil, nil, err
	}
	return r, net.UDPAddrFromAddrPort(r.announced), nil
}

// evenPort answers Pion's probe for an even port, which goes before an allocation that asks for one:
// Pion closes the socket and asks for its port again, for the client. WebRTC has no use for a pair
// of ports, but other clients may ask.
func (s *Server) evenPort(v4 bool) (net.PacketConn, net.Addr, error) {
	set := s.peers.Load()
	ip := relayIP(s.relayIPs, set.announced, v4)
	if !ip.IsValid() {
		return nil, nil, errNoFamily
	}
	port := 0
	for range 16 {
		conn, err := listenRelay(ip, set, port)
		if err != nil && port == 0 {
			return nil, nil, err
		}
		if err != nil { // the neighbour is taken
			port = 0
			continue
		}
		port = int(addrPort(conn.LocalAddr()).Port())
		if port%2 == 0 {
			return conn, &net.UDPAddr{IP: ip.AsSlice(), Port: port}, nil
		}
		conn.Close()
		port--
	}
	return nil, nil, errNoEvenPort
}

// AllocateListener and AllocateConn would be TCP relays (RFC 6062).
func (generator) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNotOffered
}

func (generator) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) { return nil, errNotOffered }

// relay is the socket of one allocation: a net.PacketConn on which only the SFU's addresses
// exist.
type relay struct {
	*net.UDPConn
	s         *Server
	in        entrance
	who       client
	user      *user
	announced netip.AddrPort
	age       *time.Timer
	channels  atomic.Int32

	closing sync.Once
	reader  sync.Once
}

// newRelay makes a relay for a client. A port of 0 is any; another one comes from a client who asked
// for an even port, or for the one after it.
func (s *Server) newRelay(in entrance, who client, v4 bool, port int) (*relay, error) {
	set := s.peers.Load()
	ip := relayIP(s.relayIPs, set.announced, v4)
	if !ip.IsValid() || !set.has(v4) {
		return nil, errNoFamily
	}
	u, ok := s.quota.acquire(who)
	if !ok {
		s.stats.overQuota.Add(1)
		return nil, errQuota
	}
	conn, err := listenRelay(ip, set, port)
	if err != nil {
		s.quota.release(who, s.now())
		return nil, err
	}
	_ = conn.SetReadBuffer(1 << 20) // room for a keyframe; the system may grant less
	r := &relay{UDPConn: conn, s: s, in: in, who: who, user: u}
	r.announced = netip.AddrPortFrom(ip, addrPort(conn.LocalAddr()).Port())

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		conn.Close()
		s.quota.release(who, s.now())
		return nil, errClosed
	}
	s.relays[r.announced] = r
	s.readers.Add(1)
	r.age = time.AfterFunc(s.limits.AllocationAge, func() { r.Close() })
	in.opened(who.from, r)
	s.stats.made.Add(1)
	s.log.Debug("TURN allocation", "user", who.identity, "from", who.from, "relay", r.announced)
	return r, nil
}

// listenRelay binds to the announced address. Where that isn't this machine's own, or where
// loopback is to be reached from another address, it leaves the choice to the system.
func listenRelay(ip netip.Addr, set *peers, port int) (*net.UDPConn, error) {
	network, every := "udp6", netip.IPv6Unspecified()
	if ip.Is4() {
		network, every = "udp4", netip.IPv4Unspecified()
	}
	if ip.IsLoopback() || !set.loopback(ip.Is4()) {
		conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))))
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return conn, err
		}
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(every, uint16(port))))
}

// ReadFrom returns the next packet that one of the SFU's addresses sent and the user's bucket
// has room for.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.UDPConn.ReadFromUDPAddrPort(p)
		if err != nil {
			if r.s.retry(err) {
				continue
			}
			r.reader.Do(r.s.readers.Done)
			return 0, nil, err
		}
		peer := r.s.peers.Load().from[plain(from)]
		switch {
		case peer == nil:
			r.s.stats.strangers.Add(1)
		case n == len(p): // cut off
			r.s.stats.garbage.Add(1)
		case !r.user.down.AllowN(r.s.now(), n):
			r.s.stats.overBandwidth.Add(1)
		default:
			r.s.stats.packetsDown.Add(1)
			r.s.stats.bytesDown.Add(uint64(n))
			return n, peer, nil
		}
	}
}

// WriteTo sends a packet to one of the SFU's addresses. A packet to anywhere else, or over the
// user's limit, is dropped as if it were lost on the way.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	peer, ok := r.s.peers.Load().to[plain(addrPort(to))]
	if !ok {
		r.s.stats.forbidden.Add(1)
		return len(p), nil
	}
	if !r.user.up.AllowN(r.s.now(), len(p)) {
		r.s.stats.overBandwidth.Add(1)
		return len(p), nil
	}
	if _, err := r.UDPConn.WriteToUDPAddrPort(p, peer); err != nil {
		r.s.stats.writing.Add(1)
		return len(p), nil
	}
	r.s.stats.packetsUp.Add(1)
	r.s.stats.bytesUp.Add(uint64(len(p)))
	return len(p), nil
}

// Close ends the allocation: Pion's reader of the socket then forgets it.
func (r *relay) Close() error {
	var err error
	r.closing.Do(func() {
		err = r.UDPConn.Close()
		r.s.mu.Lock()
		delete(r.s.relays, r.announced)
		if r.age != nil {
			r.age.Stop()
		}
		r.s.mu.Unlock()
		r.in.closed(r.who.from, r)
		r.s.quota.release(r.who, r.s.now())
		r.s.log.Debug("TURN allocation ended", "user", r.who.identity, "from", r.who.from, "relay", r.announced)
	})
	return err
}

// channelBound and channelEnded are Pion's notices. A permission is by IP address, so a channel's
// port may still be wrong; and the number of channels is bounded here.
func (s *Server) channelBound(_, _ net.Addr, _, _, _ string, relayed, peer net.Addr, _ uint16) {
	if _, ok := s.peers.Load().to[plain(addrPort(peer))]; !ok {
		s.stats.forbidden.Add(1)
	}
	if r := s.relayAt(relayed); r != nil && r.channels.Add(1) > maxChannels {
		s.log.Debug("TURN allocation ended: too many channels", "user", r.who.identity)
		r.Close()
	}
}

func (s *Server) channelEnded(_, _ net.Addr, _, _, _ string, relayed, _ net.Addr, _ uint16) {
	if r := s.relayAt(relayed); r != nil {
		r.channels.Add(-1)
	}
}

// Relays reports whether packets from an address are those of a relay that a client holds, as the SFU sees them: relays send
// from this machine, from the announced address or, where that is another's in front of it, from the SFU's own.
func (s *Server) Relays(from netip.AddrPort) bool {
	from = plain(from)
	set := s.peers.Load()
	own := slices.ContainsFunc(s.relayIPs, func(ip netip.Addr) bool { return ip.Unmap() == from.Addr() })
	for announced, real := range set.to {
		own = own || announced.Addr() == from.Addr() || real.Addr() == from.Addr()
	}
	if !own {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relays[from] != nil {
		return true
	}
	for announced := range s.relays {
		if announced.Port() == from.Port() && announced.Addr().Is4() == from.Addr().Is4() {
			return true
		}
	}
	return false
}

func (s *Server) relayAt(announced net.Addr) *relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relays[addrPort(announced)]
}

package turn

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
)

// firstPort to lastPort are the relays' ports inside: RFC 8656, section 7.2, "SHOULD" pick from the dynamic range. What the
// system binds is its own choice.
const firstPort, lastPort = 49152, 65535

// portsTried is how often an address is given up for another one before an allocation fails.
const portsTried = 16

var errNoPort = errors.New("no port left for a relay")

// reserve takes a port of the address for a relay: the one asked for, or the next free one from a random port on, which is
// what makes it hard to guess. The caller holds s.mu.
func (s *Server) reserve(r *relay, ip netip.Addr, asked int) error {
	if asked != 0 {
		at := netip.AddrPortFrom(ip, uint16(asked))
		if asked < firstPort || asked > lastPort || s.relays[at] != nil {
			return errNoPort
		}
		r.announced = at
		s.relays[at] = r
		return nil
	}
	at, ok := s.free(ip, false)
	if !ok {
		return errNoPort
	}
	r.announced = at
	s.relays[at] = r
	return nil
}

// free finds a port that no relay has; an even one whose successor is free too, if pair is set. The caller holds s.mu.
func (s *Server) free(ip netip.Addr, pair bool) (netip.AddrPort, bool) {
	const n = lastPort - firstPort + 1
	for i, start := 0, rand.IntN(n); i < n; i++ {
		port := uint16(firstPort + (start+i)%n)
		at := netip.AddrPortFrom(ip, port)
		if s.relays[at] != nil || pair && (port%2 != 0 || s.relays[netip.AddrPortFrom(ip, port+1)] != nil) {
			continue
		}
		return at, true
	}
	return netip.AddrPort{}, false
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
	if s.inside != nil {
		s.mu.Lock()
		at, ok := s.free(ip, true)
		s.mu.Unlock()
		if !ok {
			return nil, nil, errNoEvenPort
		}
		return probe{}, net.UDPAddrFromAddrPort(at), nil
	}
	port := 0
	for range portsTried {
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

// probe stands for the socket that Pion closes at once.
type probe struct{ net.PacketConn }

func (probe) Close() error { return nil }

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

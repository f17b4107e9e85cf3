package turn

import (
	"net"
	"net/netip"
	"slices"
)

// peers is the set of addresses that relays reach, never changed once made.
type peers struct {
	announced []netip.AddrPort                  // sorted, as Config.Peers gave them
	ips       map[netip.Addr]bool               // announced
	to        map[netip.AddrPort]netip.AddrPort // announced → where packets go
	from      map[netip.AddrPort]netip.AddrPort // where packets come from → announced
}

// usable returns the addresses that packets can be sent to, without doubles, sorted.
func usable(list []netip.AddrPort) []netip.AddrPort {
	var ok []netip.AddrPort
	for _, a := range list {
		a = plain(a)
		ip := a.Addr()
		if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || a.Port() == 0 {
			continue
		}
		if ip.Is6() && ip.IsLinkLocalUnicast() { // means nothing without a zone
			continue
		}
		ok = append(ok, a)
	}
	slices.SortFunc(ok, netip.AddrPort.Compare)
	return slices.Compact(ok)
}

func newPeers(list []netip.AddrPort, route func(netip.AddrPort) netip.AddrPort) *peers {
	p := &peers{
		announced: list,
		ips:       make(map[netip.Addr]bool),
		to:        make(map[netip.AddrPort]netip.AddrPort),
		from:      make(map[netip.AddrPort]netip.AddrPort),
	}
	for _, a := range list {
		real := a
		if route != nil {
			real = plain(route(a))
		}
		p.ips[a.Addr()] = true
		p.to[a] = real
		p.from[a] = a
	}
	// What another address leads to is seen under the announced one, unless it is announced
	// itself, or an earlier one leads there too.
	for _, a := range list {
		if _, known := p.from[p.to[a]]; !known {
			p.from[p.to[a]] = a
		}
	}
	return p
}

// allows reports whether a client may ask for permission to reach the address: RFC 8656,
// section 9 makes permissions by IP address alone. The port is checked per packet, in relay.go.
func (p *peers) allows(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && p.ips[a.Unmap()]
}

// relayIP picks the address to announce for relays of one family: the first of the configured
// ones, or else of the peers' with loopback last. The result is invalid when there is none.
func relayIP(configured []netip.Addr, announced []netip.AddrPort, v4 bool) netip.Addr {
	var loopback netip.Addr
	for _, ip := range configured {
		if ip = ip.Unmap(); ip.Is4() == v4 {
			return ip
		}
	}
	for _, a := range announced {
		switch ip := a.Addr(); {
		case ip.Is4() != v4 || ip.IsLinkLocalUnicast():
		case !ip.IsLoopback():
			return ip
		case !loopback.IsValid():
			loopback = ip
		}
	}
	return loopback
}

// plain is the address without IPv4-in-IPv6 and zone, so that equal addresses compare equal.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// addrPort is a network address as a comparable value; the zone stays.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// has reports whether there is a peer of the family.
func (p *peers) has(v4 bool) bool {
	return slices.ContainsFunc(p.announced, func(a netip.AddrPort) bool { return a.Addr().Is4() == v4 })
}

// loopback reports whether packets of the family may go to a loopback address.
func (p *peers) loopback(v4 bool) bool {
	for _, to := range p.to {
		if ip := to.Addr(); ip.Is4() == v4 && ip.IsLoopback() {
			return true
		}
	}
	return false
}

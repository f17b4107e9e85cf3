package sfu

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/udp"
)

// mux tells apart what comes in on the media ports, which all peer connections share. RFC 7983 section 7: the first byte says
// what a packet is.
//
//   - STUN requests go to the peer connection whose user fragment they name. Those that only ask for consent are answered here
//     (consent.go), all others queue for its ICE agent (pionconn.go).
//   - From then on the sender's address stands for the peer connection, once its ICE agent has answered a request from there:
//     so it knew the password. An address that is answered by another one is that one's.
//   - DTLS goes by address into the same queue, SRTP by address to the plane (plane.go), on the reader's goroutine.
//   - Everything else is dropped.
type mux struct {
	port  *udp.Port
	tcp   *tcpPort // nil = off
	addrs []netip.Addr
	clock func() time.Duration

	mu          sync.RWMutex
	generations map[string]*generation // by our user fragment

	addresses [addressShards]addressShard
	insides   insides
	stats     muxCounters
}

// addressShards is a power of two.
const addressShards = 64

// addressShard is the part of the addresses that readers on several cores share with few others.
type addressShard struct {
	sync.RWMutex
	planes map[netip.AddrPort]*plane
}

// muxCounters count what was dropped.
type muxCounters struct {
	unknown atomic.Uint64 // nobody's, by user fragment or address
	other   atomic.Uint64 // neither STUN nor DTLS nor SRTP
	full    atomic.Uint64 // its agent's queue was full
}

func newMux(clock func() time.Duration) *mux {
	m := &mux{clock: clock, generations: map[string]*generation{}}
	for i := range m.addresses {
		m.addresses[i].planes = map[netip.AddrPort]*plane{}
	}
	return m
}

func (m *mux) shard(a netip.AddrPort) *addressShard { return &m.addresses[a.Port()%addressShards] }

// at returns the peer connection of an address, nil if there is none.
func (m *mux) at(a netip.AddrPort) *plane {
	s := m.shard(a)
	s.RLock()
	defer s.RUnlock()
	return s.planes[a]
}

// bind gives an address to a peer connection.
func (m *mux) bind(a netip.AddrPort, p *plane) {
	s := m.shard(a)
	s.Lock()
	defer s.Unlock()
	s.planes[a] = p
}

// unbind takes an address from a peer connection, unless it is another's already.
func (m *mux) unbind(a netip.AddrPort, p *plane) {
	s := m.shard(a)
	s.Lock()
	defer s.Unlock()
	if s.planes[a] == p {
		delete(s.planes, a)
	}
}

// reader implements udp.Config.Reader.
func (m *mux) reader(int) udp.Reader { return &intake{mux: m} }

// intake takes what one socket receives, on the goroutine of its reader.
type intake struct {
	mux     *mux
	gathers []*plane // in which the rest of a frame is awaited
}

// Receive implements udp.Reader.
func (i *intake) Receive(b []byte, from netip.AddrPort, at time.Duration) {
	if kindOf(b) == kindSTUN && i.mux.insides.at(from) != nil { // a relay's address is in this process alone
		i.mux.stats.unknown.Add(1)
		return
	}
	if p := i.mux.receive(b, from, at); p != nil && !slices.Contains(i.gathers, p) {
		i.gathers = append(i.gathers, p)
	}
}

// Rest implements udp.Reader.
func (i *intake) Rest(at time.Duration) {
	for n, p := range i.gathers {
		p.rest(at)
		i.gathers[n] = nil
	}
	i.gathers = i.gathers[:0]
}

// receive takes a datagram that came at server time at. b may be changed during the call. It returns the plane in which the rest
// of a frame is awaited now, if that is so.
func (m *mux) receive(b []byte, from netip.AddrPort, at time.Duration) (gathers *plane) {
	switch kindOf(b) {
	case kindSTUN:
		m.check(b, from)
	case kindDTLS:
		if p := m.at(from); p != nil {
			p.handshakes(b, from, false)
		} else {
			m.stats.unknown.Add(1)
		}
	case kindMedia:
		if p := m.at(from); p != nil {
			if p.media(b, from, at) {
				return p
			}
		} else {
			m.stats.unknown.Add(1)
		}
	default:
		m.stats.other.Add(1)
	}
	return nil
}

// check answers a STUN message that only asks for consent, and hands others to the ICE agent that they are for.
func (m *mux) check(b []byte, from netip.AddrPort) {
	message, ok := parseSTUN(b)
	if !ok {
		m.stats.other.Add(1)
		return
	}
	var g *generation
	if message.fragment != nil {
		m.mu.RLock()
		g = m.generations[string(message.fragment)]
		m.mu.RUnlock()
	} else if p := m.at(from); p != nil { // answers name nobody
		g = p.generation()
	}
	if g == nil || !g.consents(b, message, from) && !g.push(b, from, false) {
		m.stats.unknown.Add(1)
	}
}

// owner returns whose ICE-TCP connections with that user fragment are, nil for nobody.
func (m *mux) owner(fragment string) tcpOwner {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if g := m.generations[fragment]; g != nil {
		return g
	}
	return nil
}

// write sends a datagram of an ICE agent's, or of DTLS.
func (m *mux) write(b []byte, to netip.AddrPort) error {
	if i := m.insides.at(to); i != nil {
		i.answer(b)
		return nil
	}
	_, err := m.port.WriteTo(b, to)
	return err
}

// Close closes the ports and waits for their readers.
func (m *mux) Close() error {
	err := m.port.Close()
	if m.tcp != nil {
		if e := m.tcp.Close(); err == nil {
			err = e
		}
	}
	return err
}

// unmapped is an address as the ports have it.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// networkAddr is the address in the form that Pion takes.
func networkAddr(a netip.AddrPort, tcp bool) net.Addr {
	if tcp {
		return net.TCPAddrFromAddrPort(a)
	}
	return net.UDPAddrFromAddrPort(a)
}

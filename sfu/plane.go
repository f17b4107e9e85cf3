package sfu

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/udp"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// plane is the media of one peer connection below the seams: addresses, SRTP, and the way out. Pion does ICE and DTLS beside
// it and sends no RTP or RTCP; it sees the ports as the plane shows them (pionconn.go).
//
// What comes is opened and handed up on the goroutine that received it, one packet at a time. It is taken from addresses that
// the ICE agent has proven alone; what is sent goes where the agent's selected pair leads.
type plane struct {
	mux  *mux
	up   ascending
	keys handshakeKeys
	// secured is called when the DTLS handshake may be over: it says whether it is.
	secured func() bool
	socket  uint32 // which of the port's sockets sends

	way  atomic.Pointer[way]
	seal atomic.Pointer[sealer] // nil until the keys are known
	// seen is the server time of the latest sign of life; stale: it is long ago, and the next one is waited for.
	seen  atomic.Int64
	stale atomic.Bool
	// spoken and heard are the server times of the latest authentic packets of SRTP or SRTCP: of all, and of those that came
	// over the way in use, checks that we answer there included. 0 = none yet.
	spoken, heard atomic.Int64
	// profile is the SRTP profile's name, empty until it is known.
	profile atomic.Pointer[string]

	receiving sync.Mutex // guards what follows
	open      *opener    // nil until the keys are known
	early     [][]byte   // what came before
	closed    bool

	reporting sync.Mutex    // guards what follows
	control   *srtp.Context // SRTCP
	scratch   []byte

	mu          sync.Mutex // guards what follows; taken last
	ended       bool
	addresses   []netip.AddrPort
	streams     []*tcpConn // that are proven
	generations []*generation
	held        *way // see hold
}

// ascending takes what a plane has opened: one packet at a time, whose bytes are the plane's again afterwards.
type ascending interface {
	// rtp reports whether more of what it belongs to is awaited, before it goes on.
	rtp(b []byte, at time.Duration) (gathers bool)
	// rest is told that there is nothing more at hand.
	rest(at time.Duration)
	rtcp(b []byte, at time.Duration)
	// revived is told of the first sign of life after a long silence.
	revived()
	// flooded ends the peer connection, whose peer sends what no client does.
	flooded(why error)
}

// way is how packets reach the peer: one of a UDP address, a relay in this process and a TCP connection.
type way struct {
	to     netip.AddrPort
	inside *inside
	stream *tcpConn
}

const (
	// maxAddresses bounds the addresses of one peer connection, of each kind: a client has a few, and a few more as it roams.
	maxAddresses = 16
	// maxEarly is how many packets wait for the keys: a peer may send before its handshake is over on our side.
	maxEarly = 64
)

// planes spreads peer connections over a port's sockets.
var planes atomic.Uint32

func newPlane(m *mux, up ascending) *plane {
	return &plane{mux: m, up: up, secured: func() bool { return false }, socket: planes.Add(1)}
}

// sends returns the number of the socket that sends.
func (p *plane) sends() uint32 { return p.socket % uint32(p.mux.port.Sockets()) }

// GetConn implements ice.UDPMux. There is one port for all addresses: they share what comes for one family.
func (p *plane) GetConn(fragment string, local net.Addr) (net.PacketConn, error) {
	a := addrPort(local)
	return p.conn(fragment, familyOf(false, a.Addr().Is6()), local)
}

// GetConnByUfrag implements ice.TCPMux. The local address doesn't matter: a connection that came in through a NAT has another
// one than the candidate that it was dialled by.
func (p *plane) GetConnByUfrag(fragment string, v6 bool, _ net.IP) (net.PacketConn, error) {
	ip := net.IPv4zero
	if v6 {
		ip = net.IPv6unspecified
	}
	return p.conn(fragment, familyOf(true, v6), &net.TCPAddr{IP: ip, Port: int(addrPort(p.mux.tcp.Addr()).Port())})
}

func (p *plane) conn(fragment string, family int, local net.Addr) (net.PacketConn, error) {
	p.mux.mu.Lock()
	g := p.mux.generations[fragment]
	if g == nil {
		g = &generation{p: p, fragment: fragment, tcp: map[netip.AddrPort]*tcpConn{}}
		p.mux.generations[fragment] = g
		p.mu.Lock()
		p.generations = append(p.generations, g)
		p.mu.Unlock()
	}
	p.mux.mu.Unlock()
	if g.p != p {
		return nil, errors.New("the ICE user fragment is another's")
	}
	c := g.conn(family, local)
	if c == nil {
		return nil, ErrClosed
	}
	if family >= familyTCP4 {
		p.mux.tcp.claimed(fragment)
	}
	return c, nil
}

// RemoveConnByUfrag implements ice.UDPMux and ice.TCPMux.
func (p *plane) RemoveConnByUfrag(fragment string) {
	p.mux.mu.Lock()
	g := p.mux.generations[fragment]
	if g == nil || g.p != p {
		p.mux.mu.Unlock()
		return
	}
	delete(p.mux.generations, fragment)
	p.mux.mu.Unlock()
	p.mu.Lock()
	p.generations = slices.DeleteFunc(p.generations, func(o *generation) bool { return o == g })
	p.mu.Unlock()
	g.close()
}

// GetListenAddresses implements ice.UDPMux: a candidate for each announced address.
func (p *plane) GetListenAddresses() []net.Addr {
	out := make([]net.Addr, len(p.mux.addrs))
	for i, a := range p.mux.addrs {
		out[i] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, p.mux.port.Addr().Port()))
	}
	return out
}

// Close implements ice.UDPMux and ice.TCPMux. The port is everybody's, and Pion doesn't close it.
func (p *plane) Close() error { return nil }

// generation returns the latest set of ICE credentials, nil before the first.
func (p *plane) generation() *generation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.generations) == 0 {
		return nil
	}
	return p.generations[len(p.generations)-1]
}

// prove notes that the peer has been found at an address: what comes from there is its. Of too many the oldest is forgotten,
// but not the one that is used. An address from which another one's media comes stays that one's: who can forge a sender's
// address could take it away.
func (p *plane) prove(a netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	other := p.mux.at(a)
	if p.ended || other != nil && other != p && other.speaks() {
		return
	}
	if p.addresses == nil {
		p.addresses = make([]netip.AddrPort, 0, 2)
	}
	if slices.Contains(p.addresses, a) {
		if other != p {
			p.mux.bind(a, p)
		}
		return
	}
	if len(p.addresses) == maxAddresses {
		oldest := 0
		if w := p.way.Load(); w != nil && w.to == p.addresses[0] {
			oldest = 1
		}
		p.mux.unbind(p.addresses[oldest], p)
		p.addresses = slices.Delete(p.addresses, oldest, oldest+1)
	}
	p.addresses = append(p.addresses, a)
	p.mux.bind(a, p)
}

// forget takes an address back that is nobody's any more.
func (p *plane) forget(a netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addresses = slices.DeleteFunc(p.addresses, func(o netip.AddrPort) bool { return o == a })
	p.mux.unbind(a, p)
}

// speechLife is how long an address is held for the peer whose media came from there.
const speechLife = 2 * time.Second

// speaks reports whether media, or its feedback, has come of late.
func (p *plane) speaks() bool {
	at := p.spoken.Load()
	return at != 0 && p.mux.clock()-time.Duration(at) < speechLife
}

// proveStream is prove for a TCP connection.
func (p *plane) proveStream(c *tcpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = slices.DeleteFunc(p.streams, (*tcpConn).ended)
	if p.ended || c.ended() {
		return
	}
	if !slices.Contains(p.streams, c) && len(p.streams) < maxAddresses {
		p.streams = append(p.streams, c)
	}
	// The client may connect anew from the same address: to the ICE agent that is no other pair.
	if w := p.way.Load(); w != nil && w.stream != nil && w.stream.ended() && w.to == c.remote() {
		p.way.Store(&way{to: w.to, stream: c})
	}
}

func (p *plane) proven(c *tcpConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.streams, c)
}

// gone forgets a TCP connection that has ended.
func (p *plane) gone(c *tcpConn) {
	p.mu.Lock()
	p.streams = slices.DeleteFunc(p.streams, func(o *tcpConn) bool { return o == c })
	p.mu.Unlock()
}

// uses reports whether media leaves over a TCP connection.
func (p *plane) uses(c *tcpConn) bool {
	w := p.way.Load()
	return w != nil && w.stream == c
}

// lead has media leave for where the ICE agent's selected pair leads.
func (p *plane) lead(to netip.AddrPort, tcp bool) {
	w := &way{to: unmapped(to)}
	if tcp {
		// The agent chooses a pair before it answers the check that nominates it, so the connection may not be proven yet.
		if w.stream = p.stream(w.to); w.stream == nil {
			return // it has just ended
		}
	} else {
		w.inside = p.mux.insides.at(w.to)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.held = nil
	if was := p.way.Swap(w); was == nil || was.to != w.to {
		p.heard.Store(0)
	}
}

// stream returns the TCP connection from an address, nil if there is none.
func (p *plane) stream(from netip.AddrPort) *tcpConn {
	p.mu.Lock()
	generations := slices.Clone(p.generations)
	p.mu.Unlock()
	for _, g := range slices.Backward(generations) {
		if c := g.stream(from); c != nil {
			return c
		}
	}
	return nil
}

// handshakes hands a DTLS packet from a proven address to the agent, which passes it on to Pion's DTLS.
func (p *plane) handshakes(b []byte, from netip.AddrPort, tcp bool) {
	p.keys.received(b)
	if g := p.generation(); g == nil || !g.push(b, from, tcp) {
		p.mux.stats.unknown.Add(1)
	}
}

// hello is Pion's hook for our own ServerHello.
func (p *plane) hello(h handshake.MessageServerHello) handshake.Message {
	p.keys.hello(&h, false)
	return &h
}

// unheard is for how long nothing authentic has come over the way in use, checks that we answer there included.
func (p *plane) unheard() time.Duration {
	heard := p.heard.Load()
	if heard == 0 {
		return math.MaxInt64
	}
	return p.mux.clock() - time.Duration(heard)
}

// media takes an SRTP or SRTCP packet that came at server time at from a proven address. It reports whether the rest of a frame
// is awaited: the caller says so by rest when there is nothing more at hand.
func (p *plane) media(b []byte, from netip.AddrPort, at time.Duration) (gathers bool) {
	p.receiving.Lock()
	defer p.receiving.Unlock()
	if p.closed {
		return false
	}
	if p.open == nil && !p.secure() {
		if len(p.early) < maxEarly && len(b) <= headroom+maxTag {
			p.early = append(p.early, slices.Clone(b))
		}
		return false
	}
	return p.take(b, from, at)
}

// rest lets go on what was gathered so far.
func (p *plane) rest(at time.Duration) {
	p.receiving.Lock()
	defer p.receiving.Unlock()
	if !p.closed {
		p.up.rest(at)
	}
}

// take opens a packet and hands it up. Called with receiving held.
func (p *plane) take(b []byte, from netip.AddrPort, at time.Duration) (gathers bool) {
	var plain []byte
	var err error
	control := isRTCP(b)
	if control {
		plain, err = p.open.openRTCP(b)
	} else {
		plain, err = p.open.open(b)
	}
	switch {
	case err == errSources:
		p.closed = true
		p.up.flooded(err)
		return false
	case err != nil:
		return false
	}
	p.alive(at)
	p.spoken.Store(int64(max(at, 1)))
	if w := p.way.Load(); w != nil && w.to == from {
		p.heard.Store(int64(max(at, 1)))
	}
	if control {
		p.up.rtcp(plain, at)
		return false
	}
	return p.up.rtp(plain, at)
}

// start is told that the DTLS handshake may be over.
func (p *plane) start() {
	p.receiving.Lock()
	defer p.receiving.Unlock()
	if p.open == nil && !p.closed {
		p.secure()
	}
}

// secure makes the SRTP contexts once the DTLS handshake is over, so that the peer has shown the certificate of its session
// description, and takes what came early. Called with receiving held.
func (p *plane) secure() bool {
	if !p.secured() {
		return false
	}
	profile, ours, theirs, err := p.keys.derive()
	if err != nil {
		return false
	}
	open, err := newOpener(profile, theirs)
	if err != nil {
		return false
	}
	seal, err := newSealer(profile, ours)
	if err != nil {
		return false
	}
	control, err := srtp.CreateContext(ours.key, ours.salt, srtp.ProtectionProfile(profile))
	if err != nil {
		return false
	}
	name := profileName(profile)
	p.profile.Store(&name)
	p.reporting.Lock()
	p.control = control
	p.reporting.Unlock()
	p.seal.Store(seal)
	p.open = open
	early, now := p.early, p.mux.clock()
	p.early = nil
	for _, b := range early {
		p.take(b, netip.AddrPort{}, now)
	}
	p.up.rest(now)
	return true
}

// report sends RTCP, as far as there is a way. It may be called from any goroutine.
func (p *plane) report(packets []rtcp.Packet) error {
	b, err := rtcp.Marshal(packets)
	if err != nil {
		return fmt.Errorf("writing RTCP: %w", err)
	}
	p.reporting.Lock()
	defer p.reporting.Unlock()
	if p.control == nil {
		return errNoKeys
	}
	if p.scratch, err = p.control.EncryptRTCP(p.scratch[:0], b, nil); err != nil {
		return fmt.Errorf("protecting RTCP: %w", err)
	}
	run := [1]udp.Run{{Buffer: p.scratch}}
	p.send(run[:])
	return nil
}

// send sends runs to the peer and returns how many packets left.
func (p *plane) send(runs []udp.Run) (sent int) {
	w := p.way.Load()
	switch {
	case w == nil:
	case w.stream != nil:
		for i := range runs {
			sent += w.stream.send(runs[i].Buffer, runs[i].Size)
		}
	case w.inside != nil:
		for i := range runs {
			sent += w.inside.deliver(runs[i])
		}
	default:
		for i := range runs {
			runs[i].To = w.to
		}
		sent = p.mux.port.Send(p.socket, runs...)
	}
	return sent
}

// close lets go of everything. Nothing is handed up any more when it returns. The caller has closed the ICE agent.
func (p *plane) close() {
	p.receiving.Lock()
	p.closed, p.early = true, nil
	p.receiving.Unlock()
	p.mu.Lock()
	p.ended = true
	p.way.Store(nil)
	p.held = nil
	addresses, generations, streams := p.addresses, slices.Clone(p.generations), slices.Clone(p.streams)
	p.addresses = nil
	p.mu.Unlock()
	for _, a := range addresses {
		p.mux.unbind(a, p)
	}
	for _, g := range generations {
		p.RemoveConnByUfrag(g.fragment)
	}
	for _, c := range streams {
		c.close()
	}
}

func profileName(p dtls.SRTPProtectionProfile) string {
	switch p {
	case dtls.SRTP_AEAD_AES_128_GCM:
		return "AEAD_AES_128_GCM"
	case dtls.SRTP_AEAD_AES_256_GCM:
		return "AEAD_AES_256_GCM"
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		return "AES_CM_128_HMAC_SHA1_80"
	default:
		return fmt.Sprintf("0x%04x", uint16(p))
	}
}

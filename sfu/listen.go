package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	pion "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

const (
	defaultUDPAddr = ":7882"
	defaultTCPAddr = ":7881"

	// socketBuffer is the kernel buffer asked for on the UDP socket, in bytes. The kernel may grant less.
	socketBuffer = 4 << 20
	// tcpWriteBuffer bounds what may wait for a slow ICE-TCP peer, in bytes; packets beyond it are dropped, so that one
	// bad link never holds up the publisher that feeds it.
	tcpWriteBuffer = 1 << 20
	// tcpReadBuffer is in packets.
	tcpReadBuffer = 64
	// maxTCP and maxTCPPerAddress bound the ICE-TCP connections, which need no proof to be opened; an address is an IPv4
	// address or an IPv6 /64. A client behind a NAT makes two to four.
	maxTCP           = 4096
	maxTCPPerAddress = 512
	// firstCheck is how long a connection may take for its first connectivity check, and unclaimed how long one is kept
	// whose check names no peer connection that we have (yet).
	firstCheck = 5 * time.Second
	unclaimed  = 10 * time.Second
	// maxAnnounced bounds the candidates we put into an SDP, per protocol.
	maxAnnounced = 16
)

// sockets are the one UDP and the one TCP port that all peer connections share.
type sockets struct {
	net  *announcedNet
	udp  *announcedUDP
	tcp  *announcedTCP // nil = off
	conn net.PacketConn
}

// listen opens the ports and settles the addresses to announce.
func listen(cfg Config, log pionLog) (*sockets, error) {
	host := cfg.Net
	if host == nil {
		n, err := stdnet.NewNet()
		if err != nil {
			return nil, fmt.Errorf("reading the network interfaces: %w", err)
		}
		host = n
	}
	udpAddr := cfg.UDPAddr
	if udpAddr == "" {
		udpAddr = defaultUDPAddr
	}
	conn, err := host.ListenPacket("udp"+family(udpAddr), udpAddr)
	if err != nil {
		return nil, fmt.Errorf("listening for media on UDP %s: %w", udpAddr, err)
	}
	if b, ok := conn.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}); ok {
		// The kernel's maximum may be lower; then it grants that much, which is not an error worth stopping for.
		_ = b.SetReadBuffer(socketBuffer)
		_ = b.SetWriteBuffer(socketBuffer)
	}
	bound, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("listening for media on UDP %s: not a UDP socket", udpAddr)
	}
	addrs, err := announcedAddrs(cfg, host, bound.AddrPort().Addr().Unmap())
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := &sockets{net: newAnnouncedNet(host, addrs), conn: conn}
	s.udp = &announcedUDP{port: bound.Port, addrs: addrs}
	s.udp.UDPMuxDefault = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Net: s.net, Logger: log})

	if cfg.TCPAddr == "off" || cfg.Net != nil { // a virtual network has no TCP
		return s, nil
	}
	tcpAddr := cfg.TCPAddr
	if tcpAddr == "" {
		tcpAddr = defaultTCPAddr
	}
	l, err := net.Listen("tcp"+family(tcpAddr), tcpAddr)
	if err != nil {
		_ = s.udp.Close()
		return nil, fmt.Errorf("listening for media on TCP %s: %w", tcpAddr, err)
	}
	s.tcp = &announcedTCP{mux: ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener:                     newCanonicalListener(l, maxTCP, maxTCPPerAddress),
		Logger:                       log,
		ReadBufferSize:               tcpReadBuffer,
		WriteBufferSize:              tcpWriteBuffer,
		FirstStunBindTimeout:         firstCheck,
		AliveDurationForConnFromStun: unclaimed,
	}), addr: l.Addr()}
	return s, nil
}

// family is "4" for an IPv4 host: Go would take 0.0.0.0 for both families otherwise.
func family(addr string) string {
	if p, err := netip.ParseAddrPort(addr); err == nil && p.Addr().Is4() {
		return "4"
	}
	return ""
}

func (s *sockets) Close() error {
	var errs []error
	errs = append(errs, s.udp.Close())
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	return errors.Join(errs...)
}

// announcedAddrs are the addresses that go into candidates: those of the configuration, or else the one the socket is
// bound to, or else every unicast address of the host.
func announcedAddrs(cfg Config, host pion.Net, bound netip.Addr) ([]netip.Addr, error) {
	var addrs []netip.Addr
	add := func(a netip.Addr) {
		a = a.Unmap().WithZone("")
		if a.IsValid() && len(addrs) < maxAnnounced && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	var loopback []netip.Addr
	switch {
	case len(cfg.NodeIPs) > 0:
		for _, a := range cfg.NodeIPs {
			add(a)
		}
		loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		if bound.Is6() && bound.IsUnspecified() {
			loopback = append(loopback, netip.IPv6Loopback())
		}
	case bound.IsValid() && !bound.IsUnspecified():
		add(bound)
		return addrs, nil
	default:
		ifaces, err := host.Interfaces()
		if err != nil {
			return nil, fmt.Errorf("reading the network interfaces: %w", err)
		}
		for _, i := range ifaces {
			if i.Flags&net.FlagUp == 0 {
				continue
			}
			list, err := i.Addrs()
			if err != nil {
				continue // the interface has just gone
			}
			for _, n := range list {
				p, err := netip.ParsePrefix(n.String())
				if err != nil {
					continue
				}
				a := p.Addr().Unmap()
				switch {
				case bound.Is4() && !a.Is4():
				case a.IsLoopback():
					loopback = append(loopback, a)
				case a.IsGlobalUnicast():
					// RFC 8445 section 5.1.1.1 leaves out link-local IPv6; link-local IPv4 reaches nobody we serve either.
					add(a)
				}
			}
		}
	}
	if cfg.Loopback || len(addrs) == 0 {
		for _, a := range loopback {
			add(a)
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("no network address to announce for media: set the node IP")
	}
	return addrs, nil
}

// announcedNet shows Pion one interface that holds exactly the announced addresses. Candidates then carry those, also
// where the real address differs (NAT 1:1, containers), and no peer connection has to list the host's interfaces.
type announcedNet struct {
	pion.Net
	ifaces []*pion.Interface
}

func newAnnouncedNet(host pion.Net, addrs []netip.Addr) *announcedNet {
	i := pion.NewInterface(net.Interface{Index: 1, MTU: 1500, Name: "announced", Flags: net.FlagUp | net.FlagMulticast})
	for _, a := range addrs {
		i.AddAddress(&net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())})
	}
	return &announcedNet{Net: host, ifaces: []*pion.Interface{i}}
}

func (n *announcedNet) Interfaces() ([]*pion.Interface, error) { return n.ifaces, nil }

// announcedUDP is Pion's mux on one socket, with the announced addresses in place of the socket's.
type announcedUDP struct {
	*ice.UDPMuxDefault
	port  int
	addrs []netip.Addr
}

func (m *announcedUDP) GetListenAddresses() []net.Addr {
	out := make([]net.Addr, len(m.addrs))
	for i, a := range m.addrs {
		out[i] = &net.UDPAddr{IP: a.AsSlice(), Port: m.port}
	}
	return out
}

// GetConn ignores the announced address but for its family: there is one socket.
func (m *announcedUDP) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	if u, ok := m.LocalAddr().(*net.UDPAddr); ok && !u.IP.IsUnspecified() {
		addr = u
	}
	return m.UDPMuxDefault.GetConn(ufrag, addr)
}

// announcedTCP is Pion's TCP mux without the local address in its keys: a connection that came in through a NAT has
// another local address than the candidate it was dialled by.
type announcedTCP struct {
	mux  *ice.TCPMuxDefault
	addr net.Addr
}

func (m *announcedTCP) GetConnByUfrag(ufrag string, isIPv6 bool, _ net.IP) (net.PacketConn, error) {
	return m.mux.GetConnByUfrag(ufrag, isIPv6, unspecified(isIPv6))
}

func (m *announcedTCP) RemoveConnByUfrag(ufrag string) { m.mux.RemoveConnByUfrag(ufrag) }

func (m *announcedTCP) Close() error { return m.mux.Close() }

func unspecified(isIPv6 bool) net.IP {
	if isIPv6 {
		return net.IPv6unspecified
	}
	return net.IPv4zero
}

// canonicalListener and canonicalConn give every connection of a family the same local IP; see [announcedTCP]. The
// listener keeps to its limits by closing what is too much, and outlives errors: Pion stops listening at the first one.
type canonicalListener struct {
	net.Listener
	most, perAddress int

	mu   sync.Mutex
	open int
	by   map[netip.Addr]int
}

func newCanonicalListener(l net.Listener, most, perAddress int) *canonicalListener {
	return &canonicalListener{Listener: l, most: most, perAddress: perAddress, by: map[netip.Addr]int{}}
}

func (l *canonicalListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil { // out of file descriptors, say
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if from := networkOf(c.RemoteAddr()); l.count(from) {
			return &canonicalConn{Conn: c, release: func() { l.release(from) }}, nil
		}
		_ = c.Close()
	}
}

func (l *canonicalListener) count(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most || l.by[from] >= l.perAddress {
		return false
	}
	l.open++
	l.by[from]++
	return true
}

func (l *canonicalListener) release(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

// networkOf is what counts as one address.
func networkOf(a net.Addr) netip.Addr {
	ip := addrPort(a).Addr().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

type canonicalConn struct {
	net.Conn
	release func()
	once    sync.Once
}

func (c *canonicalConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

func (c *canonicalConn) LocalAddr() net.Addr {
	a, ok := c.Conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return c.Conn.LocalAddr()
	}
	return &net.TCPAddr{IP: unspecified(a.IP.To4() == nil), Port: a.Port}
}

package sfu

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"anytime/sfu/udp"

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

// listen opens the ports and settles the addresses to announce.
func listen(cfg Config, clock func() time.Duration) (m *mux, host pion.Net, err error) {
	if host = cfg.Net; host == nil {
		if host, err = stdnet.NewNet(); err != nil {
			return nil, nil, fmt.Errorf("reading the network interfaces: %w", err)
		}
	}
	m = newMux(clock)
	if m.port, err = listenUDP(cfg, host, m, clock); err != nil {
		return nil, nil, err
	}
	if m.addrs, err = announcedAddrs(cfg, host, m.port.Addr().Addr()); err != nil {
		_ = m.port.Close()
		return nil, nil, err
	}
	if cfg.TCPAddr == "off" || cfg.Net != nil { // a virtual network has no TCP
		return m, host, nil
	}
	tcpAddr := cmp.Or(cfg.TCPAddr, defaultTCPAddr)
	l, err := net.Listen("tcp"+family(tcpAddr), tcpAddr)
	if err != nil {
		_ = m.port.Close()
		return nil, nil, fmt.Errorf("listening for media on TCP %s: %w", tcpAddr, err)
	}
	m.tcp = newTCPPort(l, m.owner, cfg.Log)
	return m, host, nil
}

// listenUDP opens the UDP port: a socket per core, or the one of a virtual network.
func listenUDP(cfg Config, host pion.Net, m *mux, clock func() time.Duration) (*udp.Port, error) {
	addr := cmp.Or(cfg.UDPAddr, defaultUDPAddr)
	port := udp.Config{Addr: addr, Buffer: socketBuffer, Path: cfg.UDPPath, Clock: clock, Reader: m.reader, Log: cfg.Log}
	if cfg.Net == nil {
		p, err := udp.Listen(port)
		if err != nil {
			return nil, fmt.Errorf("listening for media: %w", err)
		}
		return p, nil
	}
	conn, err := host.ListenPacket("udp"+family(addr), addr)
	if err != nil {
		return nil, fmt.Errorf("listening for media on UDP %s: %w", addr, err)
	}
	return udp.Over(conn, port), nil
}

// family is "4" for an IPv4 host: Go would take 0.0.0.0 for both families otherwise.
func family(addr string) string {
	if p, err := netip.ParseAddrPort(addr); err == nil && p.Addr().Is4() {
		return "4"
	}
	return ""
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

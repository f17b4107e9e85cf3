package turn

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"

	"anytime/sfu/udp"
)

// Server is a running TURN server.
type Server struct {
	secret, realm, software string
	limits                  Limits
	relayIPs                []netip.Addr
	log                     *slog.Logger
	now                     func() time.Time
	started                 time.Time
	inside                  func(netip.AddrPort, func(netip.AddrPort, udp.Run)) (func([]byte, netip.AddrPort), func(), error) // may be nil

	gate  gate
	quota *quota
	peers atomic.Pointer[peers]
	stats counters

	pion    *pion.Server
	ports   []*udp.Port
	udp     []*datagrams // one or two for each of ports
	streams []*streams

	mu      sync.Mutex
	closing bool
	relays  map[netip.AddrPort]*relay // by announced address
	conns   map[*stream]struct{}

	stop    chan struct{}
	readers sync.WaitGroup // whatever reads or writes one of our sockets, and the housekeeper
}

// addressesKept bounds the table of senders without an allocation: about 100 bytes for each.
const addressesKept = 1 << 16

// New starts a server. An error names the listener that couldn't be opened; nothing is left
// open then, the TLS listeners of the configuration included.
func New(c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		closeAll(c.TLS)
		return nil, err
	}
	limits := c.Limits.withDefaults()
	s := &Server{
		secret:   c.Secret,
		realm:    cmp.Or(c.Realm, "anytime"),
		software: c.Software,
		limits:   limits,
		relayIPs: c.RelayIPs,
		log:      cmp.Or(c.Log, slog.Default()),
		now:      time.Now,
		started:  time.Now(),
		inside:   c.Inside,
		gate: gate{
			requests: newAdmission(limits.Requests, addressesKept),
			conns:    newCounted(limits.Connections, limits.ConnectionsPerAddress),
		},
		quota:  newQuota(limits),
		relays: make(map[netip.AddrPort]*relay),
		conns:  make(map[*stream]struct{}),
		stop:   make(chan struct{}),
	}
	s.peers.Store(newPeers(usable(c.Peers()), c.Route))

	var listeners []net.Listener
	for _, address := range c.TCP {
		l, err := net.Listen("tcp", address)
		if err != nil {
			s.closeSockets(append(listeners, c.TLS...))
			return nil, fmt.Errorf("TURN over TCP: %w", err)
		}
		listeners = append(listeners, l)
	}
	listeners = append(listeners, c.TLS...)
	for _, address := range c.UDP {
		if err := s.listenUDP(address); err != nil {
			s.closeSockets(listeners)
			return nil, fmt.Errorf("TURN over UDP: %w", err)
		}
	}
	for _, l := range listeners {
		s.streams = append(s.streams, &streams{Listener: l, s: s, by: make(map[netip.AddrPort]*stream)})
	}
	if err := s.start(); err != nil {
		s.closeSockets(listeners)
		return nil, fmt.Errorf("TURN: %w", err)
	}
	s.readers.Add(1)
	go s.housekeep(c.Peers, c.Route)
	return s, nil
}

func (s *Server) start() error {
	config := pion.ServerConfig{
		Realm:       s.realm,
		AuthHandler: s.authenticate,
		QuotaHandler: func(userID, _ string, _ net.Addr) bool {
			who, ok := parseUserID(userID)
			if ok = ok && s.quota.has(who); !ok {
				s.stats.overQuota.Add(1)
			}
			return ok
		},
		EventHandler: pion.EventHandler{
			OnAuth: func(_, _ net.Addr, _, _, _, _ string, verdict bool) {
				if !verdict {
					s.stats.refusedCredentials.Add(1)
				}
			},
			OnChannelCreated:    s.channelBound,
			OnChannelDeleted:    s.channelEnded,
			OnPermissionCreated: s.permitted,
			OnPermissionDeleted: s.permissionEnded,
		},
		InboundMTU:    maxMessage + 1,
		LoggerFactory: pionLog{s.log},
	}
	permit := func(_ net.Addr, peer net.IP) bool {
		ok := s.peers.Load().allows(peer)
		if !ok {
			s.stats.forbidden.Add(1)
		}
		return ok
	}
	for _, d := range s.udp {
		config.PacketConnConfigs = append(config.PacketConnConfigs, pion.PacketConnConfig{
			PacketConn: d, RelayAddressGenerator: generator{s, d}, PermissionHandler: permit,
		})
	}
	for _, l := range s.streams {
		config.ListenerConfigs = append(config.ListenerConfigs, pion.ListenerConfig{
			Listener: l, RelayAddressGenerator: generator{s, l}, PermissionHandler: permit,
		})
	}
	s.readers.Add(len(s.udp) + len(s.streams))
	server, err := pion.NewServer(config)
	if err != nil {
		s.readers.Add(-len(s.udp) - len(s.streams))
		return err
	}
	s.pion = server
	return nil
}

// clock is the time since the server started, which every bucket counts by.
func (s *Server) clock() time.Duration { return time.Since(s.started) }

// goReader starts a goroutine that Close waits for, unless the server is closing.
func (s *Server) goReader(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.readers.Go(f)
	return true
}

// UDPAddrs returns the addresses listened on; an empty host in the configuration yields one, "[::]", for both families.
func (s *Server) UDPAddrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, p := range s.ports {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// StreamAddrs returns the addresses of the TCP listeners, then of the TLS ones, in the order of
// the configuration.
func (s *Server) StreamAddrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, l := range s.streams {
		addrs = append(addrs, addrPort(l.Addr()))
	}
	return addrs
}

// housekeep follows the SFU's addresses and forgets what has become irrelevant.
func (s *Server) housekeep(list func() []netip.AddrPort, route func(netip.AddrPort) netip.AddrPort) {
	defer s.readers.Done()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if now := usable(list()); !slices.Equal(now, s.peers.Load().announced) {
			s.peers.Store(newPeers(now, route))
		}
		s.gate.sweep(s.now())
		s.quota.sweep(s.now())
	}
}

// closeTimeout bounds Close, should a reader not come back.
const closeTimeout = 10 * time.Second

// Close ends every allocation and returns once the sockets are closed and their readers have
// returned. Only the first call does anything.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	conns := make([]*stream, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()

	close(s.stop)
	err := s.closePorts()
	err = errors.Join(err, s.pion.Close())
	for _, c := range conns {
		c.abort()
	}
	s.mu.Lock()
	relays := make([]*relay, 0, len(s.relays))
	for _, r := range s.relays {
		relays = append(relays, r)
	}
	s.mu.Unlock()
	for _, r := range relays {
		r.Close()
	}

	done := make(chan struct{})
	go func() {
		s.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		err = errors.Join(err, errors.New("TURN: a connection didn't close in time"))
	}
	return err
}

// closeSockets undoes what New has opened so far.
func (s *Server) closeSockets(listeners []net.Listener) {
	closeAll(listeners)
	_ = s.closePorts()
}

func (s *Server) closePorts() error {
	var err error
	for _, p := range s.ports {
		err = errors.Join(err, p.Close())
	}
	return err
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// retry reports whether reading a socket makes sense after the error, and if so waits a moment:
// Pion ends its loop at the first error, and with it the listener.
func (s *Server) retry(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-s.stop:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

// announce adds our SOFTWARE attribute to a reply that isn't protected by a MESSAGE-INTEGRITY:
// what follows one is ignored by receivers (RFC 8489, section 14.5), and what precedes it is
// signed with a key that only Pion has at hand.
func (s *Server) announce(p []byte) []byte {
	// The responses are the messages whose type has bit 8 set.
	if s.software == "" || len(p) < stunHeader || p[0] != 1 {
		return p
	}
	reply := &stun.Message{Raw: p}
	if reply.Decode() != nil || reply.Contains(stun.AttrMessageIntegrity) {
		return p
	}
	signed := &stun.Message{Type: reply.Type, TransactionID: reply.TransactionID}
	signed.WriteHeader()
	fingerprint := false
	for _, a := range reply.Attributes {
		if a.Type == stun.AttrFingerprint {
			fingerprint = true
			continue
		}
		signed.Add(a.Type, a.Value)
	}
	signed.Add(stun.AttrSoftware, []byte(s.software))
	if fingerprint { // RFC 8489, section 14.7: the last attribute
		if stun.Fingerprint.AddTo(signed) != nil {
			return p
		}
	}
	return signed.Raw
}

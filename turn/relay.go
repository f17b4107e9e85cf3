package turn

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pion "github.com/pion/turn/v5"

	"anytime/sfu/udp"
)

var (
	errClosed     = errors.New("the server is closing")
	errGone       = errors.New("the client has gone")
	errQuota      = errors.New("over the quota of allocations")
	errNotOffered = errors.New("only UDP relays are offered")
	errNoEvenPort = errors.New("found no even port")
	errNoFamily   = errors.New("the SFU has no address of this family")
)

// entrance is the listener that a client came in by. It is told of the client's relay, so that
// it lets the client's packets through.
type entrance interface {
	// outlet leads back to the client, or is nil if that is gone.
	outlet(from netip.AddrPort) outlet
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

// AllocatePacketConn makes a relay. Its errors reach the client as 508 (Insufficient
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

// AllocateListener and AllocateConn would be TCP relays (RFC 6062).
func (generator) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNotOffered
}

func (generator) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) { return nil, errNotOffered }

// relay is one allocation's way to the SFU, and only there: inside this process, or by a socket on which only the SFU's
// addresses exist. It is the net.PacketConn that Pion takes for the relay's socket, though packets of media don't come by
// there (forward.go).
type relay struct {
	s         *Server
	in        entrance
	who       client
	user      *user
	announced netip.AddrPort
	back      outlet
	bindings  atomic.Pointer[bindings]

	conn   *net.UDPConn                        // nil with Config.Inside
	inward func(b []byte, peer netip.AddrPort) // of Config.Inside

	age     *time.Timer
	closing sync.Once
	reader  sync.Once
	done    chan struct{} // closed by Close

	mu     sync.Mutex // of what follows, and of changes to bindings
	ended  bool
	detach func() // of Config.Inside
}

// newRelay makes a relay for a client. A port of 0 is any; another one comes from a client who asked
// for an even port, or for the one after it.
func (s *Server) newRelay(in entrance, who client, v4 bool, port int) (*relay, error) {
	set := s.peers.Load()
	ip := relayIP(s.relayIPs, set.announced, v4)
	if !ip.IsValid() || !set.has(v4) {
		return nil, errNoFamily
	}
	back := in.outlet(who.from)
	if back == nil {
		return nil, errGone
	}
	u, ok := s.quota.acquire(who)
	if !ok {
		s.stats.overQuota.Add(1)
		return nil, errQuota
	}
	r := &relay{s: s, in: in, who: who, user: u, back: back, done: make(chan struct{})}
	err := error(nil)
	if s.inside != nil {
		err = r.attach(ip, port)
	} else {
		err = r.bind(ip, set, port)
	}
	if err == nil {
		err = r.begin()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	s.stats.made.Add(1)
	s.log.Debug("TURN allocation", "user", who.identity, "from", who.from, "relay", r.announced)
	return r, nil
}

// bind opens the relay's socket.
func (r *relay) bind(ip netip.Addr, set *peers, port int) error {
	conn, err := listenRelay(ip, set, port)
	if err != nil {
		return err
	}
	_ = conn.SetReadBuffer(1 << 20) // room for a keyframe; the system may grant less
	r.conn = conn
	r.announced = netip.AddrPortFrom(ip, addrPort(conn.LocalAddr()).Port())
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.relays[r.announced] = r
	return nil
}

// attach takes an address and opens the way into the SFU under it. Where the SFU refuses one, because it already knows a
// client there, another one may do.
func (r *relay) attach(ip netip.Addr, port int) error {
	var err error
	for range portsTried {
		r.s.mu.Lock()
		taken := r.s.reserve(r, ip, port)
		r.s.mu.Unlock()
		if taken != nil {
			return errors.Join(taken, err)
		}
		var detach func()
		if r.inward, detach, err = r.s.inside(r.announced, r.deliver); err == nil {
			return r.attached(detach)
		}
		r.release()
		if port != 0 {
			break
		}
	}
	return err
}

// attached keeps what ends the attachment, unless the relay has been ended meanwhile.
func (r *relay) attached(detach func()) error {
	r.mu.Lock()
	ended := r.ended
	if !ended {
		r.detach = detach
	}
	r.mu.Unlock()
	if ended {
		detach()
		return errClosed
	}
	return nil
}

// begin lets the client's packets in.
func (r *relay) begin() error {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if s.closing || ended {
		return errClosed
	}
	s.readers.Add(1)
	r.age = time.AfterFunc(s.limits.AllocationAge, func() { r.Close() })
	r.in.opened(r.who.from, r)
	return nil
}

// release gives the address back.
func (r *relay) release() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.s.relays[r.announced] == r {
		delete(r.s.relays, r.announced)
	}
}

// ReadFrom implements net.PacketConn. Nothing ever comes to Pion this way: it returns when the relay has ended, and until
// then forwards what comes to the relay's socket, if it has one.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	defer r.reader.Do(r.s.readers.Done)
	if r.conn == nil {
		<-r.done
		return 0, nil, net.ErrClosed
	}
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(p)
		switch {
		case err != nil:
			if !r.s.retry(err) {
				return 0, nil, err
			}
		case n == len(p): // cut off
			r.s.stats.garbage.Add(1)
		default:
			r.deliver(from, udp.Run{Buffer: p[:n]})
		}
	}
}

// WriteTo implements net.PacketConn: what Pion took from an indication that forward.go left to it.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	r.toPeer(p, plain(addrPort(to)), r.s.clock())
	return len(p), nil
}

// LocalAddr implements net.PacketConn.
func (r *relay) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(r.announced) }

// SetDeadline, SetReadDeadline and SetWriteDeadline implement net.PacketConn. Pion doesn't use them.
func (r *relay) SetDeadline(time.Time) error      { return nil }
func (r *relay) SetReadDeadline(time.Time) error  { return nil }
func (r *relay) SetWriteDeadline(time.Time) error { return nil }

// Close ends the allocation, and returns once nothing is delivered any more: Pion's reader then forgets it.
func (r *relay) Close() error {
	var err error
	r.closing.Do(func() {
		r.in.closed(r.who.from, r)
		r.mu.Lock()
		r.ended = true
		detach := r.detach
		r.mu.Unlock()
		if detach != nil {
			detach()
		}
		if r.conn != nil {
			err = r.conn.Close()
		}
		close(r.done)
		r.release() // not before: the address would be another's
		r.s.mu.Lock()
		if r.age != nil {
			r.age.Stop()
		}
		r.s.mu.Unlock()
		r.s.quota.release(r.who, r.s.now())
		r.s.log.Debug("TURN allocation ended", "user", r.who.identity, "from", r.who.from, "relay", r.announced)
	})
	return err
}

// channelBound, channelEnded, permitted and permissionEnded are Pion's notices. A permission is by IP address, so a channel's
// port may still be wrong; and the number of channels is bounded here.
func (s *Server) channelBound(_, _ net.Addr, _, userID, _ string, relayed, peer net.Addr, number uint16) {
	to := plain(addrPort(peer))
	if _, ok := s.peers.Load().to[to]; !ok {
		s.stats.forbidden.Add(1)
	}
	r := s.relayAt(relayed, userID)
	// Pion takes any number. What isn't one would be taken for something else than ChannelData, by the client and by us.
	if r == nil || number>>14 != 0b01 {
		return
	}
	if r.change(func(t *bindings) *bindings { return t.withChannel(number, to) }) > maxChannels {
		s.log.Debug("TURN allocation ended: too many channels", "user", r.who.identity)
		r.Close()
	}
}

func (s *Server) channelEnded(_, _ net.Addr, _, userID, _ string, relayed, _ net.Addr, number uint16) {
	if r := s.relayAt(relayed, userID); r != nil {
		r.change(func(t *bindings) *bindings { return t.withoutChannel(number) })
	}
}

func (s *Server) permitted(_, _ net.Addr, _, userID, _ string, relayed net.Addr, peer net.IP) {
	ip, ok := netip.AddrFromSlice(peer)
	if r := s.relayAt(relayed, userID); ok && r != nil {
		r.change(func(t *bindings) *bindings { return t.withPermission(ip.Unmap()) })
	}
}

func (s *Server) permissionEnded(_, _ net.Addr, _, userID, _ string, relayed net.Addr, peer net.IP) {
	ip, ok := netip.AddrFromSlice(peer)
	if r := s.relayAt(relayed, userID); ok && r != nil {
		r.change(func(t *bindings) *bindings { return t.withoutPermission(ip.Unmap()) })
	}
}

// change replaces the bindings and returns how many channels there are.
func (r *relay) change(to func(*bindings) *bindings) (channels int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := to(r.bindings.Load())
	r.bindings.Store(next)
	return len(next.channels)
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
	if s.inside != nil { // where the SFU sees the announced address itself
		return false
	}
	for announced := range s.relays {
		if announced.Port() == from.Port() && announced.Addr().Is4() == from.Addr().Is4() {
			return true
		}
	}
	return false
}

// relayAt returns the relay that Pion means. An address may be another's by the time that Pion tells of its last holder.
func (s *Server) relayAt(announced net.Addr, userID string) *relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.relays[addrPort(announced)]; r != nil && r.who.userID() == userID {
		return r
	}
	return nil
}

package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
)

// A splitter shares one TLS port between HTTPS and TURN, so that clients behind a firewall that
// passes nothing but TCP 443 get both. For each connection, in a goroutine of its own:
//
//  1. it is counted against the caps, in total and for its address;
//  2. the TLS handshake runs under a deadline;
//  3. the application protocol agreed on (ALPN) decides: h2 and http/1.1 are HTTPS, stun.turn and
//     stun.nat-discovery are TURN (RFC 7443). A connection for acme-tls/1 has served its purpose
//     with the handshake (RFC 8737);
//  4. without ALPN (browsers' TURN clients) the first bytes decide, under a deadline;
//  5. the connection goes to the listener concerned, handshake done, deadlines cleared.
//
// The connections that HTTPS gets are *tls.Conn, which HTTP/2 requires, except after step 4.
type splitter struct {
	HTTPS, TURN net.Listener

	listener net.Listener
	config   *tls.Config
	limits   splitLimits
	log      *slog.Logger
	https    *branch
	turn     *branch

	mu    sync.Mutex
	open  map[*heldConn]struct{} // not yet handed over
	byIP  map[netip.Addr]tally
	total tally

	stop    chan struct{}
	stopped sync.Once
	tasks   sync.WaitGroup

	refused, failed, timedOut atomic.Uint64
}

// tally counts connections.
type tally struct{ pending, open int }

// splitLimits bound what clients can hold open. For each, 0 is the default given here. An
// address is an IPv4 address or an IPv6 /64 prefix.
type splitLimits struct {
	pending, pendingPerAddress int           // connections not yet handed over: 2048 and 64
	open, openPerAddress       int           // all connections: 16384 and 1024
	handshake                  time.Duration // for the TLS handshake: 10 s
	firstBytes                 time.Duration // for the first bytes where they decide: 10 s
}

// splitStats are counts since the start.
type splitStats struct {
	Open, Pending             int // now
	Refused, Failed, TimedOut uint64
}

// splitTLS starts to share the listener, which it owns from now on. The two listeners end with
// Close, or one by one.
func splitTLS(l net.Listener, config *tls.Config, limits splitLimits, log *slog.Logger) *splitter {
	s := &splitter{
		listener: l,
		config:   config,
		limits:   limits.withDefaults(),
		log:      log,
		open:     make(map[*heldConn]struct{}),
		byIP:     make(map[netip.Addr]tally),
		stop:     make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.https, s.turn = newBranch(s), newBranch(s)
	s.HTTPS, s.TURN = s.https, s.turn
	s.tasks.Add(1)
	go s.accept()
	return s
}

func (l splitLimits) withDefaults() splitLimits {
	for n, zero := range map[*int]int{&l.pending: 2048, &l.pendingPerAddress: 64, &l.open: 16384, &l.openPerAddress: 1024} {
		if *n == 0 {
			*n = zero
		}
	}
	for d, zero := range map[*time.Duration]time.Duration{&l.handshake: 10 * time.Second, &l.firstBytes: 10 * time.Second} {
		if *d == 0 {
			*d = zero
		}
	}
	return l
}

// Close ends the listeners and the connections that haven't been handed over, and waits for them.
func (s *splitter) Close() error {
	var err error
	s.stopped.Do(func() {
		close(s.stop)
		err = s.listener.Close()
		s.mu.Lock()
		pending := make([]*heldConn, 0, len(s.open))
		for c := range s.open {
			pending = append(pending, c)
		}
		s.mu.Unlock()
		for _, c := range pending {
			c.Close()
		}
	})
	s.tasks.Wait()
	return err
}

// stats returns the counts.
func (s *splitter) stats() splitStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return splitStats{
		Open: s.total.open, Pending: s.total.pending,
		Refused: s.refused.Load(), Failed: s.failed.Load(), TimedOut: s.timedOut.Load(),
	}
}

func (s *splitter) accept() {
	defer s.tasks.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("accepting HTTPS connections", "error", err)
			select { // out of file descriptors, say
			case <-s.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		held := s.hold(conn)
		if held == nil {
			s.refused.Add(1)
			conn.Close()
			continue
		}
		go func() {
			defer s.tasks.Done()
			s.serve(held)
		}()
	}
}

// hold counts a connection, unless that would be one too many or we are closing.
func (s *splitter) hold(conn net.Conn) *heldConn {
	ip := networkOf(conn.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop:
		return nil
	default:
	}
	mine, l := s.byIP[ip], s.limits
	if s.total.pending >= l.pending || mine.pending >= l.pendingPerAddress || s.total.open >= l.open || mine.open >= l.openPerAddress {
		return nil
	}
	held := &heldConn{Conn: conn, s: s, ip: ip}
	s.count(ip, tally{1, 1})
	s.open[held] = struct{}{}
	s.tasks.Add(1)
	return held
}

// count is called with the lock held.
func (s *splitter) count(ip netip.Addr, by tally) {
	mine := s.byIP[ip]
	mine.pending += by.pending
	mine.open += by.open
	s.total.pending += by.pending
	s.total.open += by.open
	if s.byIP[ip] = mine; mine.open == 0 {
		delete(s.byIP, ip)
	}
}

// handedOver ends the time in which the connection is ours to close.
func (s *splitter) handedOver(c *heldConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ours := s.open[c]; ours {
		delete(s.open, c)
		s.count(c.ip, tally{pending: -1})
	}
}

func (s *splitter) serve(held *heldConn) {
	to, conn, err := s.decide(held)
	if err == nil && to != nil {
		if to.deliver(conn, held, s.limits.firstBytes) {
			return
		}
		err = net.ErrClosed
	}
	defer held.Close() // counted first: whoever sees it gone sees why
	switch {
	case err == nil: // ACME
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.timedOut.Add(1)
	default:
		s.failed.Add(1)
	}
	if err != nil {
		s.log.Debug("HTTPS connection ended", "from", held.RemoteAddr(), "error", err)
	}
}

// decide runs steps 2 to 4. to is nil for a connection that is done with.
func (s *splitter) decide(held *heldConn) (to *branch, conn net.Conn, err error) {
	if err := held.SetDeadline(time.Now().Add(s.limits.handshake)); err != nil {
		return nil, nil, err
	}
	secure := tls.Server(held, s.config)
	if err := secure.Handshake(); err != nil {
		return nil, nil, err
	}
	conn = secure
	switch secure.ConnectionState().NegotiatedProtocol {
	case protoHTTP2, protoHTTP1:
		to = s.https
	case protoTURN, protoSTUN:
		to = s.turn
	case acme.ALPNProto:
		return nil, nil, nil
	default:
		if err := held.SetDeadline(time.Now().Add(s.limits.firstBytes)); err != nil {
			return nil, nil, err
		}
		first, isTURN, err := sniff(secure)
		if err != nil {
			return nil, nil, err
		}
		conn = &begunConn{Conn: secure, first: first}
		if to = s.https; isTURN {
			to = s.turn
		}
	}
	return to, conn, held.SetDeadline(time.Time{})
}

// sniff reads until it is clear whether a STUN message begins, at most eight bytes. RFC 8489,
// section 5: "The most significant 2 bits of every STUN message MUST be zeroes", and the magic
// cookie follows after type and length. HTTP begins with a letter, which has neither.
func sniff(conn net.Conn) (first []byte, isTURN bool, err error) {
	b := make([]byte, 8)
	for n := 0; n < len(b); {
		m, err := conn.Read(b[n:])
		if err != nil {
			return nil, false, err
		}
		if n += m; n > 0 && b[0]>>6 != 0 {
			return b[:n], false, nil
		}
	}
	return b, binary.BigEndian.Uint32(b[4:]) == 0x2112A442, nil
}

// begunConn is a TLS connection of which the first bytes have been read already.
type begunConn struct {
	*tls.Conn
	first []byte
}

// Read implements net.Conn.
func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// heldConn is a TCP connection that is counted until it is closed.
type heldConn struct {
	net.Conn
	s    *splitter
	ip   netip.Addr
	once sync.Once
}

// Close implements net.Conn.
func (c *heldConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.s.handedOver(c)
		c.s.mu.Lock()
		c.s.count(c.ip, tally{open: -1})
		c.s.mu.Unlock()
	})
	return err
}

// branch is one of a splitter's two listeners.
type branch struct {
	s      *splitter
	conns  chan delivery
	closed chan struct{}
	once   sync.Once
}

// delivery is a connection on its way to whoever accepts it.
type delivery struct {
	conn net.Conn
	held *heldConn
}

func newBranch(s *splitter) *branch {
	return &branch{s: s, conns: make(chan delivery), closed: make(chan struct{})}
}

// deliver hands a connection to whoever accepts within the given time.
func (b *branch) deliver(conn net.Conn, held *heldConn, within time.Duration) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-b.closed:
		return false
	case <-b.s.stop:
		return false
	case <-late.C:
		return false
	case b.conns <- delivery{conn, held}:
		return true
	}
}

// Accept implements net.Listener. Once it has returned a connection, Close leaves that one alone.
func (b *branch) Accept() (net.Conn, error) {
	select {
	case <-b.closed:
	case <-b.s.stop:
	case d := <-b.conns:
		b.s.handedOver(d.held)
		return d.conn, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener: it ends this listener, and the port with the second.
func (b *branch) Close() error {
	b.once.Do(func() { close(b.closed) })
	for _, other := range []*branch{b.s.https, b.s.turn} {
		select {
		case <-other.closed:
		default:
			return nil
		}
	}
	return b.s.Close()
}

// Addr implements net.Listener.
func (b *branch) Addr() net.Addr { return b.s.listener.Addr() }

// networkOf is what counts as one address: an IPv4 address, or an IPv6 /64.
func networkOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return ip
}

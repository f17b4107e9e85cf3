package turn

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// streams is a TCP or TLS listener for Pion, which it gives connections that return one whole
// message per Read and never wait without end.
type streams struct {
	net.Listener
	s *Server

	mu     sync.Mutex
	by     map[netip.AddrPort]*stream // by client
	reader sync.Once
}

// Accept returns the next connection within the limits; others are closed at once.
func (l *streams) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			// Out of file descriptors, or the client has gone already: Pion would stop
			// listening.
			if l.s.retry(err) {
				l.s.log.Warn("accepting TURN connections", "on", l.Addr(), "error", err)
				continue
			}
			l.reader.Do(l.s.readers.Done)
			return nil, err
		}
		from := addrPort(conn.RemoteAddr())
		// A connection costs more than a message, so it counts as one.
		if !l.s.gate.allow(from.Addr(), l.s.now()) || !l.s.gate.connect(from.Addr()) {
			l.s.stats.refusedConnections.Add(1)
			abort(conn)
			continue
		}
		c := &stream{
			Conn: conn, l: l, from: from, in: bufio.NewReaderSize(conn, 4096), since: l.s.now(),
			out: outbox{wake: make(chan struct{}, 1)}, done: make(chan struct{}),
		}
		c.local = l.s.localAs(conn.LocalAddr(), from.Addr().Is4())
		if !l.s.add(c) {
			l.s.gate.disconnect(from.Addr())
			abort(conn)
			continue
		}
		return c, nil
	}
}

// add keeps the connection to be closed with the server.
func (s *Server) add(c *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[c] = struct{}{}
	s.readers.Add(1)
	c.l.mu.Lock()
	c.l.by[c.from] = c
	c.l.mu.Unlock()
	return true
}

// outlet is the client's connection.
func (l *streams) outlet(from netip.AddrPort) outlet {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.by[from]; c != nil {
		return c
	}
	return nil
}

func (l *streams) opened(from netip.AddrPort, r *relay) { l.hold(from, nil, r) }
func (l *streams) closed(from netip.AddrPort, r *relay) { l.hold(from, r, nil) }

// hold notes that the client's allocation is another now, if it was the given one.
func (l *streams) hold(from netip.AddrPort, was, is *relay) {
	l.mu.Lock()
	c := l.by[from]
	l.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was == nil || c.relay == was {
		c.relay, c.since = is, l.s.now()
	}
}

// stream is one client's connection. One goroutine reads, another one writes.
type stream struct {
	net.Conn
	l     *streams
	from  netip.AddrPort
	local net.Addr
	in    *bufio.Reader

	mu    sync.Mutex
	relay *relay    // nil: no allocation
	since time.Time // when that became so

	readBy time.Time // the deadline in force, of the reader

	out     outbox
	writeBy time.Time // the deadline in force, of the writer

	closing, reader sync.Once
	done            chan struct{} // closed by abort
}

// LocalAddr implements net.Conn.
func (c *stream) LocalAddr() net.Addr { return c.local }

// Read returns one whole message that is Pion's, so that its reader of streams has nothing to piece together: that one
// recurses for each read and takes some lengths for zero. Messages that carry data are forwarded here.
func (c *stream) Read(p []byte) (int, error) {
	n, err := c.next(p)
	if err != nil {
		c.count(err)
		c.reader.Do(c.l.s.readers.Done)
	}
	return n, err
}

func (c *stream) next(p []byte) (int, error) {
	for {
		n, err := c.message(p)
		if err != nil {
			return 0, err
		}
		what := kindOf(p[:n])
		if r := c.allocation(); r != nil {
			at := c.l.s.clock()
			if r.up(what, p[:n], at) {
				continue
			}
			if r.user.requests.take(at, 1) {
				return n, nil
			}
			c.l.s.stats.limited.Add(1)
			if err := c.await(r.user.requests); err != nil {
				return 0, err
			}
			return n, nil
		}
		// Before there is an allocation: requests only, within the address's rate. A stream
		// can't be forged, so whoever goes beyond is cut off.
		if what != request {
			return 0, errNotTURN
		}
		if !c.l.s.gate.allow(c.from.Addr(), c.l.s.now()) {
			c.l.s.stats.limited.Add(1)
			return 0, errLimited
		}
		return n, nil
	}
}

func (c *stream) allocation() *relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.relay
}

// await reads no further until a user's rate of requests allows the next one: on a stream it wouldn't be sent again.
func (c *stream) await(requests *bucket) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return net.ErrClosed
		case <-tick.C:
			if requests.take(c.l.s.clock(), 1) {
				return nil
			}
		}
	}
}

var errLimited = errors.New("too many requests")

// message reads one message into p, which has room for maxMessage bytes.
func (c *stream) message(p []byte) (int, error) {
	begun := time.Time{}
	need := 1
	for {
		if c.in.Buffered() < need {
			if begun.IsZero() && c.in.Buffered() > 0 {
				begun = c.l.s.now()
			}
			if err := c.deadline(begun); err != nil {
				return 0, err
			}
		}
		head, err := c.in.Peek(need)
		if err != nil {
			return 0, err
		}
		size, more, err := messageSize(head)
		if err != nil {
			return 0, err
		}
		if more || size > len(head) {
			need = size
			continue
		}
		if size > len(p) {
			return 0, errTooLong
		}
		return io.ReadFull(c.in, p[:size])
	}
}

// deadline sets how long the next read may wait: for a message to begin, as long as an
// allocation may be silent, or as remains until there must be one; for the rest of one that has
// begun, not beyond Limits.Message.
func (c *stream) deadline(begun time.Time) error {
	limits := &c.l.s.limits
	c.mu.Lock()
	by, patience := c.since.Add(limits.FirstAllocation), limits.FirstAllocation
	if c.relay != nil {
		by, patience = c.l.s.now().Add(limits.Idle), limits.Idle
	}
	c.mu.Unlock()
	if !begun.IsZero() {
		if rest := begun.Add(limits.Message); rest.Before(by) {
			by, patience = rest, limits.Message
		}
	}
	// A deadline costs more than the clock: one in force that is nearly as late will do.
	if later := by.Sub(c.readBy); later >= 0 && later < patience/8 {
		return nil
	}
	c.readBy = by
	return c.Conn.SetReadDeadline(by)
}

// count notes why a connection ends.
func (c *stream) count(err error) {
	stats := &c.l.s.stats
	t, isTLS := c.Conn.(*tls.Conn)
	switch {
	case isTLS && !t.ConnectionState().HandshakeComplete:
		stats.failedHandshakes.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		stats.timedOut.Add(1)
	case errors.Is(err, errNotTURN), errors.Is(err, errTooLong):
		stats.garbage.Add(1)
	}
	c.l.s.log.Debug("TURN connection ended", "from", c.from, "error", err)
}

// Close ends the connection and its allocation.
func (c *stream) Close() error {
	c.abort()
	return nil
}

func (c *stream) abort() {
	c.closing.Do(func() {
		close(c.done)
		abort(c.Conn)
		c.l.mu.Lock()
		if c.l.by[c.from] == c {
			delete(c.l.by, c.from)
		}
		c.l.mu.Unlock()
		c.l.s.mu.Lock()
		delete(c.l.s.conns, c)
		c.l.s.mu.Unlock()
		c.l.s.gate.disconnect(c.from.Addr())
	})
}

// abort closes a connection without a TLS goodbye, which could wait for the other side.
func abort(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	conn.Close()
}

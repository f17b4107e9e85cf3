package sfu

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tcpIdle is how long a connection may go without a whole packet; consent checks come every few seconds (RFC 7675).
	tcpIdle = 60 * time.Second
	// tcpWriteTimeout is how long the peer may take for a chunk.
	tcpWriteTimeout = 10 * time.Second
	// minRetry and maxRetry bound the pause after Accept failed. Each failure in a row doubles it.
	minRetry = 5 * time.Millisecond
	maxRetry = time.Second
)

var (
	errNoCheck   = errors.New("the first packet is no connectivity check")
	errUnclaimed = errors.New("nobody has claimed the connection")
)

// tcpOwner is whom a connection's packets belong to: found by the user fragment in its first connectivity check.
type tcpOwner interface {
	// receivedTCP takes one packet that came over c, on c's reading goroutine, which must not wait there for the port or
	// another connection to close; it may close c. b may be changed during the call and is c's again afterwards. An owner
	// that has ended since it was found closes c.
	receivedTCP(c *tcpConn, b []byte)
	// goneTCP tells that c has ended: nothing of it is received any more. It is called once, on the same goroutine, for
	// every connection of which something was received.
	goneTCP(c *tcpConn)
}

// tcpPort is the passive side of ICE-TCP (RFC 6544) on one port, framed by RFC 4571.
//
// A connection passes in this order: accept (within the limits) → its reading goroutine, tcpConn.run → first frame, which
// must be a connectivity check → owner, perhaps after a wait → tcpOwner.receivedTCP, frame by frame → tcpOwner.goneTCP. What
// is sent waits in chunks for a writing goroutine that lives as long as something waits.
//
// Opening a connection takes no proof, so their number is limited, in all and by address, and each must soon say whose it is.
type tcpPort struct {
	l    net.Listener
	find func(ufrag string) tcpOwner
	log  *slog.Logger

	running sync.WaitGroup
	done    chan struct{} // closed with the port

	mu      sync.Mutex
	closing bool
	conns   map[*tcpConn]struct{}
	limit   tcpLimit
	waiting map[string][]*tcpConn // by user fragment, those that nobody has claimed, in the order they came
	err     error                 // of closing

	refused, dropped atomic.Uint64
}

// tcpCounts are a port's open connections now, and since it opened the connections that were too many and the packets that
// found a connection's queue full.
type tcpCounts struct {
	open             int
	refused, dropped uint64
}

// newTCPPort listens on l, which becomes the port's. find returns who owns a user fragment, nil for nobody (yet); it is
// called on connections' goroutines, without a lock.
func newTCPPort(l net.Listener, find func(ufrag string) tcpOwner, log *slog.Logger) *tcpPort {
	p := &tcpPort{
		l: l, find: find, log: log,
		done:    make(chan struct{}),
		conns:   map[*tcpConn]struct{}{},
		limit:   tcpLimit{most: maxTCP, perAddress: maxTCPPerAddress, by: map[netip.Addr]int{}},
		waiting: map[string][]*tcpConn{},
	}
	p.running.Go(p.accept)
	return p
}

// Addr is what the port listens on.
func (p *tcpPort) Addr() net.Addr { return p.l.Addr() }

func (p *tcpPort) counts() tcpCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return tcpCounts{open: len(p.conns), refused: p.refused.Load(), dropped: p.dropped.Load()}
}

// Close closes the listener and all connections, and waits for their goroutines: no owner is called after it.
func (p *tcpPort) Close() error {
	p.mu.Lock()
	if !p.closing {
		p.closing = true
		close(p.done)
		p.err = p.l.Close()
		for c := range p.conns {
			c.close()
		}
	}
	err := p.err
	p.mu.Unlock()
	p.running.Wait()
	if err != nil {
		return fmt.Errorf("closing the ICE-TCP port: %w", err)
	}
	return nil
}

// accept takes connections until the port is closed. It outlives errors: out of file descriptors, say, or a peer that has
// gone already.
func (p *tcpPort) accept() {
	pause := minRetry
	for {
		conn, err := p.l.Accept()
		switch {
		case err == nil:
			pause = minRetry
			p.add(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case pause == minRetry: // once, however long it lasts
			p.log.Warn("accepting ICE-TCP connections", "on", p.Addr(), "error", err)
		}
		retry := time.NewTimer(pause)
		pause = min(2*pause, maxRetry)
		select {
		case <-retry.C:
		case <-p.done:
			retry.Stop()
			return
		}
	}
}

// add starts a connection if that is within the limits, and closes it otherwise.
func (p *tcpPort) add(conn net.Conn) {
	c := &tcpConn{
		port: p, conn: conn, done: make(chan struct{}), claim: make(chan struct{}, 1),
		from: addrPort(conn.RemoteAddr()), to: addrPort(conn.LocalAddr()),
	}
	c.writer = c.write
	p.mu.Lock()
	taken := !p.closing && p.limit.take(c.from.Addr())
	if taken {
		p.conns[c] = struct{}{}
		p.running.Go(c.run)
	}
	p.mu.Unlock()
	if !taken {
		p.refused.Add(1)
		abort(conn)
	}
}

func (p *tcpPort) remove(c *tcpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	p.limit.release(c.from.Addr())
}

// claimed tells that find knows an owner of the fragment now. The connections that wait for it go on, those first that came
// first.
func (p *tcpPort) claimed(ufrag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.waiting[ufrag] {
		select {
		case c.claim <- struct{}{}:
		default: // it has been told
		}
	}
}

// owner returns who owns the fragment that c's first check names, nil if nobody claims it in time or c is closed.
func (p *tcpPort) owner(c *tcpConn, ufrag string) tcpOwner {
	if o := p.find(ufrag); o != nil {
		return o
	}
	p.mu.Lock()
	p.waiting[ufrag] = append(p.waiting[ufrag], c)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting[ufrag] = slices.DeleteFunc(p.waiting[ufrag], func(o *tcpConn) bool { return o == c })
		if len(p.waiting[ufrag]) == 0 {
			delete(p.waiting, ufrag)
		}
	}()
	patience := time.NewTimer(unclaimed)
	defer patience.Stop()
	for {
		// Also at first: it may have become known before c waited.
		if o := p.find(ufrag); o != nil {
			return o
		}
		select {
		case <-c.claim:
		case <-patience.C:
			return nil
		case <-c.done:
			return nil
		}
	}
}

// tcpConn is one connection. One goroutine reads; any may send. Go sets TCP_NODELAY on every connection.
type tcpConn struct {
	port     *tcpPort
	conn     net.Conn
	from, to netip.AddrPort
	done     chan struct{} // closed with the connection
	claim    chan struct{} // see tcpPort.claimed

	readBy, writeBy time.Time // the deadlines in force, of the reader and the writer

	writer func() // write; as a value of its own it is started without an allocation

	mu      sync.Mutex
	closed  bool
	writing bool // the writer runs
	queue   tcpQueue
}

// remote is the peer's address, IPv4 unmapped.
func (c *tcpConn) remote() netip.AddrPort { return c.from }

// local is our address as the connection has it, IPv4 unmapped. Behind a NAT it differs from the candidate's.
func (c *tcpConn) local() netip.AddrPort { return c.to }

// ended reports whether it was closed.
func (c *tcpConn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// close ends the connection at once, with what waits to be sent. It doesn't wait for the goroutines, nor call the owner.
func (c *tcpConn) close() {
	c.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		close(c.done)
	}
	c.mu.Unlock()
	if first {
		_ = c.conn.Close()
	}
}

// run is the reading goroutine.
func (c *tcpConn) run() {
	o, err := c.receive()
	c.close()
	c.port.remove(c)
	if o != nil {
		o.goneTCP(c)
	}
	c.port.log.Debug("ICE-TCP connection ended", "from", c.from, "error", err)
}

// receive gives the owner what comes. It returns why the connection ends, and the owner, nil if there was none.
func (c *tcpConn) receive() (tcpOwner, error) {
	buffer := frameBuffers.Get().(*[frameHeader + maxTCPFrame]byte)
	defer frameBuffers.Put(buffer)
	f := tcpFrames{b: buffer[:]}
	b, err := c.frame(&f, firstCheck)
	if err != nil {
		return nil, err
	}
	ufrag := checkedFragment(b)
	if ufrag == "" {
		return nil, errNoCheck
	}
	o := c.port.owner(c, ufrag)
	if o == nil {
		return nil, errUnclaimed
	}
	for {
		o.receivedTCP(c, b)
		if b, err = c.frame(&f, tcpIdle); err != nil {
			return o, err
		}
	}
}

// frame returns the next frame, which must be there within the given time, or an eighth less.
func (c *tcpConn) frame(f *tcpFrames, within time.Duration) ([]byte, error) {
	for waited := false; ; waited = true {
		if b, err := f.next(); b != nil || err != nil {
			return b, err
		}
		if !waited {
			// A deadline costs more than the clock: one in force that is nearly as late will do.
			if by := time.Now().Add(within); by.Sub(c.readBy) > within/8 {
				if err := c.conn.SetReadDeadline(by); err != nil {
					return nil, err
				}
				c.readBy = by
			}
		}
		n, err := c.conn.Read(f.room())
		if n == 0 && err != nil {
			return nil, err
		}
		f.filled(n)
	}
}

// send queues the packets that follow each other in b, size bytes each but the last; size 0 means that b is one packet. It
// returns how many were queued: none of a connection that is closed, and of others the first ones, up to where
// tcpWriteBuffer would be passed or a packet is longer than maxTCPFrame. The rest is dropped. It never waits for the peer, and
// may be called at the same time from any goroutine; each call's packets stay together. b is the caller's again afterwards.
func (c *tcpConn) send(b []byte, size int) int {
	if size <= 0 {
		size = max(len(b), 1)
	}
	packets, queued := (len(b)+size-1)/size, 0
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0
	}
	for ; len(b) > 0 && c.queue.add(b[:min(size, len(b))]); queued++ {
		b = b[min(size, len(b)):]
	}
	if queued > 0 && !c.writing {
		c.writing = true
		// The reader still runs as c isn't closed, so nobody has waited for the last of them yet.
		c.port.running.Add(1)
		go c.writer()
	}
	c.mu.Unlock()
	if queued < packets {
		c.port.dropped.Add(uint64(packets - queued))
	}
	return queued
}

// write is the writing goroutine. It ends when nothing waits any more.
func (c *tcpConn) write() {
	defer c.port.running.Done()
	for {
		chunk := c.next()
		if chunk == nil {
			return
		}
		err := c.writeChunk(chunk)
		c.mu.Lock()
		c.queue.wrote(chunk)
		c.mu.Unlock()
		if err != nil {
			// Half a frame may have left: nothing that followed could be read.
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.port.log.Debug("ICE-TCP peer takes nothing", "from", c.from)
			}
			linger(c.conn)
			c.close()
		}
	}
}

// next takes the chunk to write next; nil means that the writer has to end.
func (c *tcpConn) next() *tcpChunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.queue.clear()
	}
	chunk := c.queue.next()
	c.writing = chunk != nil
	return chunk
}

func (c *tcpConn) writeChunk(chunk *tcpChunk) error {
	if by := time.Now().Add(tcpWriteTimeout); by.Sub(c.writeBy) > tcpWriteTimeout/8 {
		if err := c.conn.SetWriteDeadline(by); err != nil {
			return err
		}
		c.writeBy = by
	}
	_, err := c.conn.Write(chunk.b[:chunk.n])
	return err
}

// abort closes a connection so that nothing of it stays, also not in the kernel.
func abort(conn net.Conn) {
	linger(conn)
	_ = conn.Close()
}

// linger makes closing throw away what the kernel still holds for the peer.
func linger(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that has ended
	}
}

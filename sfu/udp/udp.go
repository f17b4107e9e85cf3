package udp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxDatagram is the longest datagram that is received, in bytes. Longer ones are dropped and counted.
	MaxDatagram = 8192
	// maxSockets bounds Config.Sockets.
	maxSockets = 256
)

// Path is how datagrams pass between us and the kernel. Each falls back to the next where the kernel lacks it.
type Path int32

// The paths.
const (
	// Auto is the best that there is.
	Auto Path = iota
	// Segmented sends up to 64 datagrams to one address as one message (UDP_SEGMENT), several messages with one system call
	// (sendmmsg), and receives likewise (UDP_GRO, recvmmsg). Linux since 4.18, receiving since 5.0.
	Segmented
	// Batched sends and receives several datagrams with one system call (sendmmsg, recvmmsg).
	Batched
	// Plain is one system call per datagram.
	Plain
)

var pathNames = [...]string{Auto: "auto", Segmented: "segmented", Batched: "batched", Plain: "plain"}

// String returns the name that [ParsePath] takes.
func (p Path) String() string {
	if p < 0 || int(p) >= len(pathNames) {
		return fmt.Sprintf("Path(%d)", int32(p))
	}
	return pathNames[p]
}

// ParsePath returns the path of a name: auto, segmented, batched or plain; empty means auto.
func ParsePath(name string) (Path, error) {
	for p, n := range pathNames {
		if n == name {
			return Path(p), nil
		}
	}
	if name == "" {
		return Auto, nil
	}
	return Auto, fmt.Errorf("unknown UDP path %q: want auto, segmented, batched or plain", name)
}

// Reader takes what a socket receives. It is called on the socket's reading goroutine only, which receives nothing else
// meanwhile.
type Reader interface {
	// Receive gets every datagram but empty ones, with its arrival time by the port's clock. b may be changed during the
	// call, and is the port's again afterwards.
	Receive(b []byte, from netip.AddrPort, at time.Duration)
	// Rest is called with the time when there is nothing more to read for now, before the socket's reader waits; at the
	// latest after 64 messages from the kernel, each of which may be several datagrams. Whatever was received since the last
	// time is followed by a Rest, also when the port closes; without anything received there is none.
	Rest(at time.Duration)
}

// LocalReader is a Reader that is told at which address of this machine a datagram came in: what Run.From is to be for an
// answer.
type LocalReader interface {
	Reader
	// ReceiveAt is called instead of Receive on a port of every address, where the system tells, as only Linux does. local is
	// zero where no answer can leave from it.
	ReceiveAt(b []byte, from netip.AddrPort, local netip.Addr, at time.Duration)
}

// ReceiveFunc is a Reader that doesn't care about rest.
type ReceiveFunc func(b []byte, from netip.AddrPort, at time.Duration)

// Receive calls the function.
func (f ReceiveFunc) Receive(b []byte, from netip.AddrPort, at time.Duration) { f(b, from, at) }

// Rest does nothing.
func (f ReceiveFunc) Rest(time.Duration) {}

// discard is the Reader of who wants none.
var discard Reader = ReceiveFunc(func([]byte, netip.AddrPort, time.Duration) {})

// Config configures a [Port].
type Config struct {
	// Addr is the host and port to listen on; an empty host is every address of both families, 0.0.0.0 every IPv4 address,
	// and port 0 any free one.
	Addr string
	// Sockets is how many sockets share the port, 256 at most. 0 means one per core, or one where a port can't be shared.
	Sockets int
	// Buffer is the kernel buffer asked for, in bytes per socket and direction. The kernel may grant less. 0 means the
	// system's default.
	Buffer int
	// Path is the best path to use; 0 is Auto.
	Path Path
	// Clock gives arrival times; nil means the time since the port opened.
	Clock func() time.Duration
	// Reader is called once for each socket when the port opens, before anything is received, with the sockets' numbers from
	// 0 on, and returns what takes the datagrams that come in there. nil, as either, drops them.
	Reader func(socket int) Reader
	// Log is nil for slog.Default().
	Log *slog.Logger
}

// Run is one or more datagrams to one address, one after the other in a buffer.
type Run struct {
	To     netip.AddrPort
	Buffer []byte
	// Size is the bytes of each datagram but the last, which may be shorter. 0 means that the buffer is one datagram.
	Size int
	// From is the address of this machine to leave from, on a port that is bound to none. Zero leaves it to the system, as
	// does every system but Linux.
	From netip.Addr
}

// Datagrams is how many a run has.
func (r Run) Datagrams() int {
	if r.Size <= 0 || len(r.Buffer) <= r.Size {
		return 1
	}
	return (len(r.Buffer) + r.Size - 1) / r.Size
}

// cut takes the first n datagrams, or as many as there are, off the run. The last of what it leaves may be shorter.
func (r Run) cut(n int) (first, rest Run) {
	if r.Size <= 0 || len(r.Buffer) <= n*r.Size {
		return r, Run{}
	}
	first, rest = r, r
	first.Buffer, rest.Buffer = r.Buffer[:n*r.Size], r.Buffer[n*r.Size:]
	return first, rest
}

// Stats counts since the port opened. Sockets are counted one after the other, so the figures are of slightly different
// moments.
type Stats struct {
	// Received and ReceivedBytes are datagrams given to a [Reader].
	Received, ReceivedBytes uint64
	// Sent and SentBytes are datagrams that the kernel took.
	Sent, SentBytes uint64
	// Full are datagrams that didn't leave because the send buffer was full.
	Full uint64
	// Failed are datagrams that the kernel refused, for their address or their size mostly.
	Failed uint64
	// Oversize are messages that came in and were dropped because they were longer than MaxDatagram.
	Oversize uint64
	// Overflow is at least how many messages the kernel dropped because the receive buffer was full. Linux only; known
	// when the next datagram comes.
	Overflow uint64
	// Unsegmented are runs whose datagrams had to go one by one because the kernel refused to cut the run up.
	Unsegmented uint64
	// Reads and Writes are system calls that received or sent at least one datagram.
	Reads, Writes uint64
}

// counters are a socket's part of Stats.
type counters struct {
	received, receivedBytes, oversize, overflow, reads atomic.Uint64 // the reader's
	sent, sentBytes, full, failed, unsegmented, writes atomic.Uint64
}

func (c *counters) count() *counters { return c }

func (c *counters) addTo(s *Stats) {
	s.Received += c.received.Load()
	s.ReceivedBytes += c.receivedBytes.Load()
	s.Sent += c.sent.Load()
	s.SentBytes += c.sentBytes.Load()
	s.Full += c.full.Load()
	s.Failed += c.failed.Load()
	s.Oversize += c.oversize.Load()
	s.Overflow += c.overflow.Load()
	s.Unsegmented += c.unsegmented.Load()
	s.Reads += c.reads.Load()
	s.Writes += c.writes.Load()
}

// Port is an open port. Its methods may be called at the same time from any goroutine.
type Port struct {
	cfg  Config
	addr netip.AddrPort
	// sockets are those of Listen; conn is the one of Over instead. Sending calls them directly: through an interface, every
	// caller's runs would move to the heap.
	sockets []*socket
	conn    *conn

	closed  atomic.Bool
	done    chan struct{} // closed with the port
	once    sync.Once
	err     error // of closing
	readers sync.WaitGroup
}

// link is a socket or a conn.
type link interface {
	// give tells who takes what comes, before read.
	give(Reader)
	// read gives what comes to the Reader, until the port is closed.
	read()
	// path is how it sends.
	path() Path
	count() *counters
	close() error
}

func newPort(cfg Config) *Port {
	if cfg.Clock == nil {
		start := time.Now()
		cfg.Clock = func() time.Duration { return time.Since(start) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Port{cfg: cfg, done: make(chan struct{})}
}

func (p *Port) links() []link {
	var links []link
	for _, s := range p.sockets {
		links = append(links, s)
	}
	if p.conn != nil {
		links = append(links, p.conn)
	}
	return links
}

// start starts the reading goroutines.
func (p *Port) start() {
	links := p.links()
	if p.cfg.Reader != nil {
		for i, l := range links {
			if r := p.cfg.Reader(i); r != nil {
				l.give(r)
			}
		}
	}
	for _, l := range links {
		p.readers.Go(l.read)
	}
}

// Send sends runs in order and returns how many datagrams the kernel took. It never waits, but for a conn of [Over] that
// does: what finds the send buffer full is dropped, as is what the kernel refuses; both are counted. The hint chooses the
// socket: callers with different hints don't get in each other's way, and what one caller after the other sends under one
// hint stays in order. The buffers are the caller's again afterwards.
func (p *Port) Send(hint uint32, runs ...Run) int {
	if p.conn != nil {
		return p.conn.send(runs)
	}
	return p.sockets[hint%uint32(len(p.sockets))].send(runs)
}

// Sockets is how many sockets there are: hints that are the same modulo this choose the same one.
func (p *Port) Sockets() int { return max(len(p.sockets), 1) }

// WriteTo sends one datagram. The error says why it didn't leave; after Close it matches net.ErrClosed. Like Send, it
// doesn't wait.
func (p *Port) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	var err error
	if p.conn != nil {
		err = p.conn.write(b, to)
	} else {
		err = p.sockets[int(to.Port())%len(p.sockets)].write(b, to)
	}
	if err != nil {
		return 0, fmt.Errorf("sending a datagram to %v: %w", to, err)
	}
	return len(b), nil
}

// Addr is the address that the port is bound to, IPv4 unmapped.
func (p *Port) Addr() netip.AddrPort { return p.addr }

// Path is how datagrams leave now: where the sockets differ, the lesser path.
func (p *Port) Path() Path {
	least := Auto
	for _, l := range p.links() {
		least = max(least, l.path())
	}
	return least
}

// Stats returns the counters.
func (p *Port) Stats() Stats {
	var s Stats
	for _, l := range p.links() {
		l.count().addTo(&s)
	}
	return s
}

// Close closes the sockets and waits for the reading goroutines: no [Reader] is called after it, and none may call it.
func (p *Port) Close() error {
	p.once.Do(func() {
		p.closed.Store(true)
		close(p.done)
		for _, l := range p.links() {
			if err := l.close(); err != nil && p.err == nil {
				p.err = err
			}
		}
		p.readers.Wait()
	})
	return p.err
}

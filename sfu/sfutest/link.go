package sfutest

import (
	"container/heap"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/transport/v4"
)

// Impairment is what one direction of a [Link] does to datagrams. The zero value does nothing.
type Impairment struct {
	// Loss, Duplicate and Reorder are shares of the datagrams, 0 to 1: lost, sent twice, held back by ReorderBy so that
	// others overtake.
	Loss, Duplicate, Reorder float64
	ReorderBy                time.Duration
	// Delay is one way; Jitter is the most that is added to it, evenly distributed. Both keep the order.
	Delay, Jitter time.Duration
	// Rate is in bits per second, 0 for no limit. What waits longer than Queue is dropped at its tail; 0 means 300 ms.
	Rate  int
	Queue time.Duration
}

// LinkStats counts what happened to the datagrams of one direction.
type LinkStats struct{ Taken, Lost, Dropped, Duplicated, Reordered int }

// overhead is what IP and UDP add to a datagram, in bytes.
const overhead = 28

// pipe decides on the datagrams of one direction. It is pure.
type pipe struct {
	Impairment
	random     *rand.Rand
	free, last time.Duration // when the line is free again, and the latest arrival
	stats      LinkStats
}

// take returns when a datagram of size bytes that is sent at now arrives: never, once or twice.
func (p *pipe) take(now time.Duration, size int) (at [2]time.Duration, n int) {
	p.stats.Taken++
	// Always as many draws, so that a change of one impairment leaves the others' choices alone.
	lost, twice, late, jitter := p.random.Float64(), p.random.Float64(), p.random.Float64(), p.random.Float64()
	t := now
	if p.Rate > 0 {
		limit := p.Queue
		if limit == 0 {
			limit = 300 * time.Millisecond
		}
		start := max(now, p.free)
		if start-now > limit {
			p.stats.Dropped++
			return at, 0
		}
		p.free = start + time.Duration(float64(size+overhead)*8/float64(p.Rate)*float64(time.Second))
		t = p.free
	}
	if lost < p.Loss {
		p.stats.Lost++
		return at, 0
	}
	t += p.Delay + time.Duration(jitter*float64(p.Jitter))
	if late < p.Reorder {
		p.stats.Reordered++
		t += p.ReorderBy
	} else {
		t = max(t, p.last)
		p.last = t
	}
	at[0], n = t, 1
	if twice < p.Duplicate {
		p.stats.Duplicated++
		at[1], n = t, 2
	}
	return at, n
}

// Link is the network of one client, between its sockets and a host of the virtual network.
type Link struct {
	pion.Net
	ip       string
	up, down direction
	stop     chan struct{}
	done     sync.WaitGroup
}

// Link returns a network for one client that impairs nothing yet. Every choice follows from seed.
func (n *Network) Link(t testing.TB, seed uint64) *Link {
	t.Helper()
	host, ip := n.host()
	l := &Link{Net: host, ip: ip, stop: make(chan struct{})}
	start := time.Now()
	for i, d := range []*direction{&l.up, &l.down} {
		d.start, d.wake = start, make(chan struct{}, 1)
		d.pipe.random = rand.New(rand.NewPCG(seed, uint64(i)))
		l.done.Go(func() { d.run(l.stop) })
	}
	t.Cleanup(func() {
		close(l.stop)
		l.done.Wait()
	})
	return l
}

// Impair sets what the link does from now on, towards the server and from it.
func (l *Link) Impair(up, down Impairment) {
	l.up.set(up)
	l.down.set(down)
}

// Stats returns the counts of both directions.
func (l *Link) Stats() (up, down LinkStats) { return l.up.snapshot(), l.down.snapshot() }

// direction delivers datagrams when their time has come.
type direction struct {
	start time.Time
	wake  chan struct{}

	mu    sync.Mutex
	pipe  pipe
	queue transit
	sent  uint64
}

func (d *direction) set(i Impairment) {
	d.mu.Lock()
	d.pipe.Impairment = i
	d.mu.Unlock()
}

func (d *direction) snapshot() LinkStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe.stats
}

// send has deliver called with a copy of b when it arrives.
func (d *direction) send(b []byte, deliver func([]byte)) {
	now := time.Since(d.start)
	d.mu.Lock()
	at, n := d.pipe.take(now, len(b))
	for i := range n {
		d.sent++
		heap.Push(&d.queue, parcel{at: at[i], order: d.sent, b: append([]byte(nil), b...), deliver: deliver})
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *direction) run(stop chan struct{}) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		d.mu.Lock()
		var ready []parcel
		now := time.Since(d.start)
		for len(d.queue) > 0 && d.queue[0].at <= now {
			ready = append(ready, heap.Pop(&d.queue).(parcel))
		}
		wait := time.Hour
		if len(d.queue) > 0 {
			wait = d.queue[0].at - now
		}
		d.mu.Unlock()
		for _, p := range ready {
			p.deliver(p.b)
		}
		if len(ready) > 0 {
			continue
		}
		t.Reset(wait)
		select {
		case <-t.C:
		case <-d.wake:
		case <-stop:
			return
		}
	}
}

// parcel is one datagram on its way.
type parcel struct {
	at      time.Duration
	order   uint64
	b       []byte
	deliver func([]byte)
}

// transit is a heap of parcels by time, then order.
type transit []parcel

func (q transit) Len() int { return len(q) }
func (q transit) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q transit) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *transit) Push(x any)   { *q = append(*q, x.(parcel)) }
func (q *transit) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = parcel{}
	*q = old[:len(old)-1]
	return x
}

// ListenUDP implements pion.Net.
func (l *Link) ListenUDP(network string, addr *net.UDPAddr) (pion.UDPConn, error) {
	inner, err := l.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	c := &linkConn{UDPConn: inner, link: l, in: make(chan datagram, 4096), done: make(chan struct{})}
	c.pump.Go(func() {
		for {
			b := make([]byte, 2048)
			n, from, err := inner.ReadFrom(b)
			if err != nil {
				c.receive(datagram{err: err})
				return
			}
			l.down.send(b[:n], func(b []byte) { c.receive(datagram{b: b, from: from}) })
		}
	})
	return c, nil
}

// linkConn is a socket at the client's end of a link.
type linkConn struct {
	pion.UDPConn
	link *Link
	in   chan datagram
	done chan struct{}
	pump sync.WaitGroup
	once sync.Once
}

// receive queues a datagram, unless the socket is closed or its buffer full.
func (c *linkConn) receive(d datagram) {
	select {
	case c.in <- d:
	case <-c.done:
	default:
	}
}

func (c *linkConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.from, d.err
	case <-c.done:
		return 0, nil, net.ErrClosed
	}
}

func (c *linkConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.link.up.send(b, func(b []byte) {
		_, _ = c.UDPConn.WriteTo(b, to) // a socket that was closed meanwhile
	})
	return len(b), nil
}

func (c *linkConn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.done)
		err = c.UDPConn.Close()
		c.pump.Wait()
	})
	return err
}

// Seed returns the seed of a test's random choices: ANYTIME_SEED if that is set, else a new one. A test that fails logs
// it, to be run with it again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("ANYTIME_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ANYTIME_SEED: %v", err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run it again with ANYTIME_SEED=%d", seed)
		}
	})
	return seed
}

package sfu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
)

// Over real TCP: frames split and joined, an answer, addresses, and the end from either side.
func TestTCPConnection(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	owners := &tcpOwners{}
	k := owners.add("ours")
	k.received = func(c *tcpConn, b []byte) {
		run := slices.Repeat([]byte("0123456789"), 3)
		if n := c.send(run[:25], 10); n != 3 {
			t.Errorf("%d packets queued", n)
		}
	}
	p := newTCPPort(l, owners.find, slog.New(slog.DiscardHandler))
	conn, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first, big := checkFor(t, "ours"), bytes.Repeat([]byte{9}, maxTCPFrame)
	answered := func() {
		t.Helper()
		for _, want := range []string{"0123456789", "0123456789", "01234"} {
			if got := readFrame(t, conn); string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	stream := framed(first, nil, big, []byte("a"), []byte("b"))
	for _, part := range [][]byte{stream[:1], stream[1:30], stream[30 : len(stream)-3]} {
		mustWrite(t, conn, part)
	}
	for range 3 { // all but "b" are complete
		answered()
	}
	mustWrite(t, conn, stream[len(stream)-3:])
	answered()
	for i, want := range [][]byte{first, big, []byte("a"), []byte("b")} {
		if !bytes.Equal(k.packets[i], want) {
			t.Errorf("packet %d differs", i)
		}
	}
	if c := k.conns[0]; c.remote() != addrPort(conn.LocalAddr()) || c.local() != addrPort(conn.RemoteAddr()) {
		t.Errorf("from %v to %v", c.remote(), c.local())
	}

	second, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	mustWrite(t, second, framed(checkFor(t, "ours")))
	readFrame(t, second)
	if n := p.counts().open; n != 2 {
		t.Errorf("%d connections", n)
	}
	_ = conn.Close()
	eventually(t, "the owner learns that the peer has gone", func() bool { _, _, gone := k.state(); return gone == 1 })
	if n := p.counts().open; n != 1 {
		t.Errorf("%d connections after one has ended", n)
	}
	k.conns[1].close()
	k.conns[1].close()
	if _, err := io.Copy(io.Discard, second); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if n := k.conns[1].send([]byte("late"), 0); n != 0 {
		t.Errorf("%d packets queued on a closed connection", n)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, _, gone := k.state(); gone != 2 || p.counts() != (tcpCounts{}) {
		t.Errorf("%d told, %+v", gone, p.counts())
	}
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// Whoever sends at the same time, runs stay together and every packet arrives.
func TestTCPSendersShareAConnection(t *testing.T) {
	const senders, runs, packets, size = 4, 50, 5, 100
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	owners := &tcpOwners{}
	k := owners.add("ours")
	p := newTCPPort(l, owners.find, slog.New(slog.DiscardHandler))
	defer p.Close()
	conn, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mustWrite(t, conn, framed(checkFor(t, "ours")))
	eventually(t, "the connection has an owner", func() bool { conns, _, _ := k.state(); return conns == 1 })
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for r := range runs {
				if n := k.conns[0].send(bytes.Repeat([]byte{byte(s), byte(r)}, packets*size/2), size); n != packets {
					t.Errorf("%d queued", n)
				}
			}
		})
	}
	var next [senders]byte
	for range senders * runs {
		first := readFrame(t, conn)
		s := first[0]
		want := bytes.Repeat([]byte{s, next[s]}, size/2)
		next[s]++
		for i, b := 1, first; ; i, b = i+1, readFrame(t, conn) {
			if !bytes.Equal(b, want) {
				t.Fatalf("packet %d is %x, want %x", i, b[:2], want[:2])
			}
			if i == packets {
				break
			}
		}
	}
	all.Wait()
}

// Who doesn't say in time whose a connection is, or says it wrongly, loses it.
func TestTCPNeedsACheckFirst(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners) {
		k := owners.add("ours")
		silent, half, null := l.dial("192.0.2.1"), l.dial("192.0.2.1"), l.dial("192.0.2.1")
		mustWrite(t, half, framed(checkFor(t, "ours"))[:40])
		var nulls sync.WaitGroup
		nulls.Go(func() { // they are no packets
			for {
				if _, err := null.Write(framed(nil, nil)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		for _, conn := range []net.Conn{silent, half, null} {
			begin := time.Now()
			awaitEnd(t, conn)
			if d := time.Since(begin); conn == silent && d != firstCheck || conn != silent && d != 0 {
				t.Errorf("closed after another %v", d)
			}
		}
		nulls.Wait()
		response := checkFor(t, "ours")
		response[0] = 1
		for name, first := range map[string][]byte{
			"long":     {0xff, 0xff},
			"RTP":      framed(bytes.Repeat([]byte{0x80}, 100)),
			"response": framed(response),
			"nameless": framed(stun.MustBuild(stun.BindingRequest).Raw),
			"no colon": framed(stun.MustBuild(stun.BindingRequest, stun.NewUsername("ours")).Raw),
			"empty":    framed(stun.MustBuild(stun.BindingRequest, stun.NewUsername(":ours")).Raw),
		} {
			conn := l.dial("192.0.2.1")
			mustWrite(t, conn, first)
			if d := awaitEnd(t, conn); d != 0 {
				t.Errorf("%s: closed after %v", name, d)
			}
		}
		if conns, _, gone := k.state(); conns != 0 || gone != 0 {
			t.Errorf("the owner got %d connections, %d gone", conns, gone)
		}
	})
}

// A check that comes before its owner waits, and nothing behind it is read; in the end it is closed.
func TestTCPWaitsForItsOwner(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners) {
		early, twin, never := l.dial("192.0.2.1"), l.dial("192.0.2.1"), l.dial("192.0.2.1")
		defer early.Close()
		defer twin.Close()
		for _, conn := range []net.Conn{early, twin} {
			mustWrite(t, conn, framed(checkFor(t, "later")))
		}
		mustWrite(t, never, framed(checkFor(t, "never")))
		var read atomic.Bool
		var writer sync.WaitGroup
		writer.Go(func() {
			mustWrite(t, early, framed([]byte("second")))
			read.Store(true)
		})
		time.Sleep(unclaimed - time.Second)
		p.claimed("later") // too early: find doesn't know it
		synctest.Wait()
		if read.Load() {
			t.Error("more than the first packet was read")
		}
		k := owners.add("later")
		p.claimed("later")
		p.claimed("other")
		writer.Wait()
		synctest.Wait()
		if conns, packets, _ := k.state(); conns != 2 || packets != 3 {
			t.Errorf("%d packets over %d connections", packets, conns)
		}
		var got [][]byte
		for _, b := range k.packets {
			if string(b) == "second" {
				got = append(got, b)
			} else if checkedFragment(b) != "later" {
				t.Errorf("%x", b)
			}
		}
		if len(got) != 1 || string(k.packets[0]) == "second" {
			t.Errorf("packets %q", k.packets)
		}
		if d := awaitEnd(t, never); d != time.Second {
			t.Errorf("nobody's connection is closed after another %v", d)
		}
		waiting := l.dial("192.0.2.1") // until the port is closed
		mustWrite(t, waiting, framed(checkFor(t, "never")))
	})
}

// An owner that becomes known between find and the wait is found all the same.
func TestTCPOwnerAppearsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, k, asked := newPiped(), &keptTCP{}, false
		p := newTCPPort(l, func(string) tcpOwner {
			if asked {
				return k
			}
			asked = true // and claimed has been called in between, with nobody waiting
			return nil
		}, slog.New(slog.DiscardHandler))
		conn := l.dial("192.0.2.1")
		mustWrite(t, conn, framed(checkFor(t, "ours")))
		synctest.Wait()
		if conns, _, _ := k.state(); conns != 1 {
			t.Errorf("%d connections", conns)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Silence ends a connection, and so do null packets and packets that don't get whole.
func TestTCPSilenceEnds(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners) {
		k := owners.add("ours")
		conn, slow := l.dial("192.0.2.1"), l.dial("192.0.2.2")
		mustWrite(t, conn, framed(checkFor(t, "ours")))
		mustWrite(t, slow, framed(checkFor(t, "ours")))
		var trickle sync.WaitGroup
		trickle.Go(func() {
			begin := time.Now()
			for _, b := range slices.Concat(framed(nil), framed(make([]byte, 1000))) {
				time.Sleep(time.Second)
				if _, err := slow.Write([]byte{b}); err != nil {
					break
				}
			}
			if d := time.Since(begin); d < tcpIdle*7/8 || d > tcpIdle+time.Second {
				t.Errorf("a trickle lasted %v", d)
			}
		})
		for range 20 {
			time.Sleep(tcpIdle * 3 / 4)
			mustWrite(t, conn, framed([]byte("alive")))
		}
		trickle.Wait()
		if d := awaitEnd(t, conn); d < tcpIdle*7/8 || d > tcpIdle {
			t.Errorf("closed after %v", d)
		}
		synctest.Wait()
		if conns, packets, gone := k.state(); conns != 2 || packets != 22 || gone != 2 {
			t.Errorf("%d connections, %d packets, %d gone", conns, packets, gone)
		}
	})
}

// A peer that doesn't read costs its own packets and no time, and loses the connection.
func TestTCPSlowPeer(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners) {
		k := owners.add("ours")
		conn := l.dial("192.0.2.1")
		mustWrite(t, conn, framed(checkFor(t, "ours")))
		synctest.Wait()
		c, begin := k.conns[0], time.Now()
		const size, packets = 1000, 20
		run, queued, calls := make([]byte, packets*size), 0, 0
		for n := packets; n == packets; calls++ {
			n = c.send(run, size)
			queued += n
			synctest.Wait() // the writer waits for the peer
		}
		if want := tcpWriteBuffer / (size + frameHeader); queued != want {
			t.Errorf("%d packets are waiting, want %d", queued, want)
		}
		dropped := uint64(calls*packets - queued)
		if n := p.counts().dropped; n != dropped || n == 0 {
			t.Errorf("%d dropped, want %d", n, dropped)
		}
		if n := c.send(run[:maxTCPFrame+1], 0); n != 0 || p.counts().dropped != dropped+1 {
			t.Error("a packet that is too long was queued")
		}
		if time.Since(begin) != 0 {
			t.Error("sending took time")
		}
		// A chunk makes room for what comes then.
		for range 20 {
			readFrame(t, conn)
		}
		synctest.Wait()
		if n := c.send(run, size); n == 0 || n == packets {
			t.Errorf("%d packets queued after a chunk has left", n)
		}
		time.Sleep(tcpWriteTimeout * 7 / 8)
		synctest.Wait()
		if _, _, gone := k.state(); gone != 0 {
			t.Error("the connection is closed already")
		}
		time.Sleep(tcpWriteTimeout / 4)
		synctest.Wait()
		if _, _, gone := k.state(); gone != 1 || c.send(run, size) != 0 {
			t.Error("the connection is still there")
		}
		if c.queue.waiting != 0 || c.queue.first != nil || c.writing {
			t.Errorf("%d bytes are left", c.queue.waiting)
		}
	})
}

// A connection may be closed while its packets wait, by its owner while it receives.
func TestTCPOwnerCloses(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, owners *tcpOwners) {
		k := owners.add("ours")
		k.received = func(c *tcpConn, _ []byte) {
			c.send(make([]byte, 100_000), 1000)
			c.close()
		}
		conn := l.dial("192.0.2.1")
		mustWrite(t, conn, framed(checkFor(t, "ours"), []byte("not seen: it may or may not be")))
		_, _ = io.Copy(io.Discard, conn)
		synctest.Wait()
		if conns, _, gone := k.state(); conns != 1 || gone != 1 || k.conns[0].queue.waiting != 0 {
			t.Errorf("%d connections, %d gone, %+v", conns, gone, k.conns[0].queue)
		}
	})
}

// One address has only so many connections, and what has ended makes room. Errors of the listener pass.
func TestTCPLimits(t *testing.T) {
	withPipedTCP(t, func(t *testing.T, l *piped, p *tcpPort, _ *tcpOwners) {
		l.conns <- nil
		l.conns <- nil
		var conns []net.Conn
		for range maxTCPPerAddress {
			conns = append(conns, l.dial("2001:db8::1"))
		}
		if d := awaitEnd(t, l.dial("2001:db8::ffff:0:0:1")); d != 0 || p.counts() != (tcpCounts{open: maxTCPPerAddress, refused: 1}) {
			t.Errorf("after %v: %+v", d, p.counts())
		}
		l.dial("2001:db8:0:1::1")
		l.dial("::ffff:192.0.2.1")
		_ = conns[0].Close()
		synctest.Wait()
		l.dial("2001:db8::2")
		synctest.Wait()
		if got := p.counts(); got != (tcpCounts{open: maxTCPPerAddress + 2, refused: 1}) {
			t.Errorf("%+v", got)
		}
		if p.limit.by[netip.MustParseAddr("192.0.2.1")] != 1 {
			t.Errorf("%v", p.limit.by)
		}
		l.conns <- nil // closed while it waits for the listener to recover
	})
	limit := tcpLimit{most: 3, perAddress: 2, by: map[netip.Addr]int{}}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")
	for i, step := range []struct {
		from netip.Addr
		ok   bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {b, false}} {
		if ok := limit.take(step.from); ok != step.ok {
			t.Errorf("step %d: %v", i, ok)
		}
	}
	limit.release(a)
	limit.release(a)
	limit.release(b)
	if limit.open != 0 || len(limit.by) != 0 {
		t.Errorf("%+v", limit)
	}
}

// Sending and receiving a packet allocates nothing.
func TestTCPAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := echo{}
	p := newTCPPort(l, func(string) tcpOwner { return k }, slog.New(slog.DiscardHandler))
	defer p.Close()
	conn, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	out, in := framed(checkFor(t, "ours"), make([]byte, 1000)), make([]byte, 3000)
	round := func() {
		if _, err := conn.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, in[:len(out)]); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// echo sends back what comes.
type echo struct{}

func (echo) receivedTCP(c *tcpConn, b []byte) { c.send(b, 0) }
func (echo) goneTCP(*tcpConn)                 {}

// BenchmarkTCP is the time per packet from send to a peer on this machine that reads all at once: two system calls a run, and the way between goroutines.
func BenchmarkTCP(b *testing.B) {
	for _, packets := range []int{1, 8} {
		b.Run(fmt.Sprintf("packets=%d", packets), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			const size = 1200
			run, opened := make([]byte, packets*size), make(chan *tcpConn)
			p := newTCPPort(l, func(string) tcpOwner { return openedTCP(opened) }, slog.New(slog.DiscardHandler))
			defer p.Close()
			conn, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			mustWrite(b, conn, framed(checkFor(b, "ours")))
			c, in := <-opened, make([]byte, packets*(frameHeader+size))
			b.ReportAllocs()
			for b.Loop() {
				if n := c.send(run, size); n != packets {
					b.Fatalf("%d queued", n)
				}
				if _, err := io.ReadFull(conn, in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
		})
	}
}

// openedTCP tells of the first packet of each connection.
type openedTCP chan *tcpConn

func (o openedTCP) receivedTCP(c *tcpConn, _ []byte) { o <- c }
func (o openedTCP) goneTCP(*tcpConn)                 {}

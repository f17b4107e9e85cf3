package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patienceOfTests is what a condition may take on a busy machine.
const patienceOfTests = 20 * time.Second

// every is a Reader for every socket.
func every(receive ReceiveFunc) func(int) Reader { return func(int) Reader { return receive } }

// kinds are the ways to open a port. The paths that a system lacks fall back, which must not show.
var kinds = map[string]func(Config) (*Port, error){
	"auto":      func(c Config) (*Port, error) { return Listen(c) },
	"segmented": func(c Config) (*Port, error) { c.Path = Segmented; return Listen(c) },
	"batched":   func(c Config) (*Port, error) { c.Path = Batched; return Listen(c) },
	"plain":     func(c Config) (*Port, error) { c.Path = Plain; return Listen(c) },
	"over UDP":  func(c Config) (*Port, error) { return over(c, func(u *net.UDPConn) net.PacketConn { return u }) },
	// The methods of a UDPConn are hidden here, as a virtual network's lack them.
	"over any": func(c Config) (*Port, error) {
		return over(c, func(u *net.UDPConn) net.PacketConn { return struct{ net.PacketConn }{u} })
	},
}

func over(cfg Config, as func(*net.UDPConn) net.PacketConn) (*Port, error) {
	c, err := net.ListenPacket(network(cfg.Addr), cfg.Addr)
	if err != nil {
		return nil, err
	}
	u := c.(*net.UDPConn)
	return Over(as(u), cfg), u.SetReadBuffer(cfg.Buffer)
}

func open(t testing.TB, kind string, cfg Config) *Port {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = 2
	}
	cfg.Buffer = 4 << 20
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p, err := kinds[kind](cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// arrived is a datagram that came.
type arrived struct {
	b    []byte
	from netip.AddrPort
	at   time.Duration
}

// mailbox keeps what a port receives.
type mailbox chan arrived

func (m mailbox) receive(b []byte, from netip.AddrPort, at time.Duration) {
	m <- arrived{bytes.Clone(b), from, at}
}

func (m mailbox) next(t testing.TB) arrived {
	t.Helper()
	select {
	case got := <-m:
		return got
	case <-time.After(patienceOfTests):
		t.Fatal("no datagram came")
		return arrived{}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patienceOfTests)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s", what)
		}
	}
}

// numbered is a run of n datagrams of a size, each with its number and content of its own, the last one of last bytes.
func numbered(to netip.AddrPort, n, size, last int) Run {
	b := make([]byte, (n-1)*size+last)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	for i := range n {
		binary.BigEndian.PutUint32(b[i*size:], uint32(i))
	}
	return Run{To: to, Buffer: b, Size: size}
}

func expect(t *testing.T, m mailbox, run Run, from netip.AddrPort) {
	t.Helper()
	for i := range run.Datagrams() {
		want, rest := run.cut(1)
		run = rest
		got := m.next(t)
		if !bytes.Equal(got.b, want.Buffer) {
			t.Fatalf("datagram %d: %d bytes %x…, want %d bytes %x…", i, len(got.b), head(got.b), len(want.Buffer), head(want.Buffer))
		}
		if got.from != from {
			t.Fatalf("datagram %d came from %v, want %v", i, got.from, from)
		}
	}
}

func head(b []byte) []byte { return b[:min(len(b), 8)] }

func TestRunsArriveWholeAndInOrder(t *testing.T) {
	for sending := range kinds {
		for receiving := range kinds {
			t.Run(sending+" to "+receiving, func(t *testing.T) {
				t.Parallel()
				m := make(mailbox, 1024)
				to := open(t, receiving, Config{Reader: every(m.receive), Clock: func() time.Duration { return time.Hour }})
				from := open(t, sending, Config{})
				total := 0
				for _, test := range []struct{ n, size, last int }{
					{1, 1200, 1200}, {2, 1200, 1200}, {2, 1200, 4}, {16, 1200, 700}, {64, 300, 300}, {65, 300, 4}, {200, 300, 299},
					{60, 1250, 1250}, // more than 65,000 bytes
					{3, MaxDatagram, 4},
				} {
					run := numbered(to.Addr(), test.n, test.size, test.last)
					if n := from.Send(7, run); n != test.n {
						t.Fatalf("%d of %d datagrams left", n, test.n)
					}
					expect(t, m, run, from.Addr())
					total += test.n
				}
				one := Run{To: to.Addr(), Buffer: []byte("one datagram")}
				if n := from.Send(7, one); n != 1 {
					t.Fatal("a run without a size didn't leave as one datagram")
				}
				if got := m.next(t); string(got.b) != "one datagram" || got.at != time.Hour {
					t.Errorf("got %q at %v", got.b, got.at)
				}
				if n, err := from.WriteTo([]byte("written"), to.Addr()); n != 7 || err != nil {
					t.Fatalf("WriteTo: %d, %v", n, err)
				}
				if got := m.next(t); string(got.b) != "written" || got.from != from.Addr() {
					t.Errorf("got %q from %v", got.b, got.from)
				}
				total += 2
				if s := from.Stats(); s.Sent != uint64(total) || s.Full+s.Failed+s.Unsegmented > 0 {
					t.Errorf("sender: %+v, want %d sent", s, total)
				}
				eventually(t, "the receiver's count", func() bool { return to.Stats().Received == uint64(total) })
				if s := to.Stats(); s.ReceivedBytes != from.Stats().SentBytes || s.Oversize+s.Overflow > 0 {
					t.Errorf("receiver: %+v, sender: %+v", s, from.Stats())
				}
			})
		}
	}
}

func TestSeveralRunsInOneSend(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			m, other := make(mailbox, 1024), make(mailbox, 1024)
			to := open(t, kind, Config{Reader: every(m.receive)})
			too := open(t, kind, Config{Reader: every(other.receive)})
			from := open(t, kind, Config{})
			runs := []Run{numbered(to.Addr(), 5, 500, 100), numbered(too.Addr(), 70, 300, 300), {To: to.Addr()}, numbered(to.Addr(), 1, 9, 9)}
			if n := from.Send(1, runs...); n != 76 {
				t.Errorf("%d datagrams left, want 76", n)
			}
			expect(t, m, runs[0], from.Addr())
			expect(t, m, runs[3], from.Addr())
			expect(t, other, runs[1], from.Addr())
			want := map[Path]uint64{Segmented: 1, Batched: 2, Plain: 76}[from.Path()]
			if s := from.Stats(); s.Writes != want {
				t.Errorf("%d system calls on the path %v, want %d", s.Writes, from.Path(), want)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			m := make(mailbox, 64)
			dual := open(t, kind, Config{Addr: ":0", Reader: every(m.receive)})
			if !dual.Addr().Addr().IsUnspecified() {
				t.Fatalf("bound to %v", dual.Addr())
			}
			if _, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
				t.Skip("no IPv6 here:", err)
			}
			for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
				answers := make(mailbox, 64)
				peer := open(t, kind, Config{Addr: addr, Reader: every(answers.receive)})
				at := netip.AddrPortFrom(peer.Addr().Addr(), dual.Addr().Port())
				expectRun := numbered(at, 3, 100, 50)
				if n := peer.Send(0, expectRun); n != 3 {
					t.Fatalf("%d datagrams left for %v", n, at)
				}
				expect(t, m, expectRun, peer.Addr()) // an IPv4 peer appears as one
				answer := numbered(peer.Addr(), 3, 100, 50)
				if n := dual.Send(0, answer); n != 3 {
					t.Fatalf("%d datagrams left for %v", n, peer.Addr())
				}
				expect(t, answers, answer, at)
				mapped := netip.AddrPortFrom(netip.AddrFrom16(peer.Addr().Addr().As16()), peer.Addr().Port())
				if _, err := dual.WriteTo([]byte("mapped"), mapped); err != nil {
					t.Error(err)
				}
				if got := answers.next(t); string(got.b) != "mapped" {
					t.Errorf("got %q", got.b)
				}
			}
			v4 := open(t, kind, Config{Addr: "0.0.0.0:0"})
			if a := v4.Addr().Addr(); a != netip.IPv4Unspecified() {
				t.Errorf("0.0.0.0 is bound to %v", a)
			}
			v6 := netip.AddrPortFrom(netip.IPv6Loopback(), dual.Addr().Port())
			if _, err := v4.WriteTo([]byte("x"), v6); err == nil {
				t.Error("an IPv4 socket wrote to an IPv6 address")
			}
			if n := v4.Send(0, numbered(v6, 4, 100, 100)); n != 0 {
				t.Errorf("an IPv4 socket sent %d datagrams to an IPv6 address", n)
			}
			if s := v4.Stats(); s.Failed != 5 {
				t.Errorf("%d counted as failed, want 5", s.Failed)
			}
		})
	}
}

func TestWhatCannotBeSentStopsNothing(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			m := make(mailbox, 64)
			to := open(t, kind, Config{Reader: every(m.receive)})
			from := open(t, kind, Config{})
			gone, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			refusing := addrPort(gone.LocalAddr())
			if err := gone.Close(); err != nil {
				t.Fatal(err)
			}
			broadcast := netip.MustParseAddrPort("255.255.255.255:9") // which needs an option that we don't set
			for i := range 20 {
				bad := []Run{
					numbered(refusing, 3, 100, 100), {To: broadcast, Buffer: []byte("x")}, {}, {Buffer: []byte("nowhere")},
					{To: to.Addr(), Buffer: make([]byte, 70000)},
				}
				good := numbered(to.Addr(), 3, 100, 50)
				if n := from.Send(0, append(bad, good)...); n < 3 || n > 7 {
					t.Fatalf("round %d: %d datagrams left", i, n)
				}
				expect(t, m, good, from.Addr())
			}
			if _, err := from.WriteTo(make([]byte, 70000), to.Addr()); err == nil {
				t.Error("70,000 bytes left as one datagram")
			}
			if s := from.Stats(); s.Failed < 41 || s.Full > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestLongAndEmptyDatagramsAreDropped(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			m := make(mailbox, 8)
			to := open(t, kind, Config{Reader: every(m.receive)})
			from := open(t, kind, Config{})
			for _, size := range []int{MaxDatagram + 1, 60000, 0, MaxDatagram, 1} {
				if _, err := from.WriteTo(make([]byte, size), to.Addr()); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []int{MaxDatagram, 1} {
				if got := m.next(t); len(got.b) != want {
					t.Errorf("got %d bytes, want %d", len(got.b), want)
				}
			}
			if s := to.Stats(); s.Oversize != 2 {
				t.Errorf("%d counted as too long, want 2", s.Oversize)
			}
		})
	}
}

// The receiver owns the datagram while it has it, and no more than that: writing and appending must not reach the next one.
func TestReceiverMayWrite(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			m := make(mailbox, 1024)
			to := open(t, kind, Config{Reader: every(func(b []byte, from netip.AddrPort, at time.Duration) {
				m.receive(b, from, at)
				clear(b)
				_ = append(b, "beyond the end"...)
			})})
			from := open(t, kind, Config{})
			for range 3 {
				run := numbered(to.Addr(), 20, 300, 17)
				if n := from.Send(0, run); n != 20 {
					t.Fatalf("%d datagrams left", n)
				}
				expect(t, m, run, from.Addr())
			}
		})
	}
}

func TestCloseUnderTraffic(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			var closed, late atomic.Bool
			var came atomic.Uint64
			p := open(t, kind, Config{Reader: every(func([]byte, netip.AddrPort, time.Duration) {
				came.Add(1)
				if closed.Load() {
					late.Store(true)
				}
			})})
			peer := open(t, kind, Config{})
			stop := make(chan struct{})
			var senders sync.WaitGroup
			for i := range 3 {
				senders.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							peer.Send(uint32(i), numbered(p.Addr(), 5, 200, 100))
							p.Send(uint32(i), numbered(peer.Addr(), 5, 200, 100))
						}
					}
				})
			}
			eventually(t, "traffic", func() bool { return came.Load() > 100 })
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			closed.Store(true)
			if err := p.Close(); err != nil {
				t.Error("closing twice:", err)
			}
			if n := p.Send(1, numbered(peer.Addr(), 5, 200, 100)); n != 0 {
				t.Errorf("%d datagrams left after closing", n)
			}
			if _, err := p.WriteTo([]byte("x"), peer.Addr()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("WriteTo after closing: %v", err)
			}
			close(stop)
			senders.Wait()
			if late.Load() {
				t.Error("something was received after Close")
			}
			if err := peer.Close(); err != nil {
				t.Error(err)
			}
			eventually(t, "the readers to be gone", func() bool {
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				return !strings.Contains(string(stacks), ").read(")
			})
		})
	}
}

func TestNoAllocationPerDatagram(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	for kind := range kinds {
		if kind == "over any" {
			continue // a PacketConn's own addresses are allocated
		}
		t.Run(kind, func(t *testing.T) {
			came := make(chan struct{}, 1024)
			to := open(t, kind, Config{Sockets: 1, Addr: ":0", Reader: every(func([]byte, netip.AddrPort, time.Duration) { came <- struct{}{} })})
			from := open(t, kind, Config{Sockets: 1})
			address := netip.AddrPortFrom(from.Addr().Addr(), to.Addr().Port())
			frame, word := numbered(address, 20, 1200, 900), numbered(address, 1, 100, 100)
			deadline := time.NewTimer(time.Minute)
			defer deadline.Stop()
			step := func() {
				left := from.Send(3, frame, word)
				if _, err := from.WriteTo(word.Buffer, address); err == nil {
					left++
				}
				for range left {
					select {
					case <-came:
					case <-deadline.C:
						t.Fatal("datagrams are missing")
					}
				}
				if left != 22 {
					t.Fatalf("%d of 22 datagrams left", left)
				}
			}
			for range 100 {
				step()
			}
			if n := testing.AllocsPerRun(500, step); n != 0 {
				t.Errorf("%v allocations for 22 datagrams sent and received", n)
			}
		})
	}
}

func TestListenRefuses(t *testing.T) {
	used := open(t, "plain", Config{})
	for _, cfg := range []Config{
		{Addr: used.Addr().String(), Sockets: 2},
		{Addr: used.Addr().String(), Sockets: 1},
		{Addr: "127.0.0.1:0", Sockets: -1},
		{Addr: "127.0.0.1:0", Sockets: maxSockets + 1},
		{Addr: "no port"},
		{Addr: "192.0.2.1:0"}, // not ours
	} {
		if p, err := Listen(cfg); err == nil {
			t.Errorf("%+v: opened on %v", cfg, p.Addr())
			_ = p.Close()
		}
	}
}

func TestPathNames(t *testing.T) {
	for p := Auto; p <= Plain; p++ {
		if got, err := ParsePath(p.String()); got != p || err != nil {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	if got, err := ParsePath(""); got != Auto || err != nil {
		t.Errorf("no name: %v, %v", got, err)
	}
	if _, err := ParsePath("fast"); err == nil {
		t.Error("fast is no path")
	}
	if s := fmt.Sprint(Path(9)); s != "Path(9)" {
		t.Error(s)
	}
}

// failing is a conn whose reads fail a number of times, as they do on systems that tell of refused datagrams there.
type failing struct {
	net.PacketConn
	left atomic.Int32
}

func (f *failing) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.left.Add(-1) >= 0 {
		return 0, nil, errors.New("connection reset by peer")
	}
	return f.PacketConn.ReadFrom(b)
}

func TestReadErrorsDoNotEndTheReader(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{PacketConn: c}
	f.left.Store(3 * patience)
	m := make(mailbox, 8)
	p := Over(f, Config{Reader: every(m.receive)})
	defer p.Close()
	if _, err := p.WriteTo([]byte("to myself"), p.Addr()); err != nil {
		t.Fatal(err)
	}
	if got := m.next(t); string(got.b) != "to myself" {
		t.Errorf("got %q", got.b)
	}
}

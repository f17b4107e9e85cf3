package udp

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAutoIsSegmentedHere(t *testing.T) {
	if !supported() {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	p, err := Listen(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Path() != Segmented {
		t.Errorf("the path is %v", p.Path())
	}
}

func TestSocketsShareThePort(t *testing.T) {
	for _, kind := range []string{"segmented", "batched", "plain"} {
		t.Run(kind, func(t *testing.T) {
			const sockets, peers = 4, 64
			m := make(mailbox, peers)
			p := open(t, kind, Config{Sockets: sockets, Reader: every(m.receive)})
			if len(p.sockets) != sockets {
				t.Fatalf("%d sockets", len(p.sockets))
			}
			for range peers {
				peer := open(t, "plain", Config{Sockets: 1})
				for range 2 {
					if n := peer.Send(0, numbered(p.Addr(), 1, 10, 10)); n != 1 {
						t.Fatal("nothing left")
					}
					if got := m.next(t); got.from != peer.Addr() {
						t.Fatalf("from %v, want %v", got.from, peer.Addr())
					}
				}
			}
			busy := 0
			eventually(t, "the counters", func() bool { return p.Stats().Received == 2*peers })
			for _, s := range p.sockets {
				n := s.received.Load()
				if n%2 != 0 {
					t.Errorf("a socket has %d datagrams: a sender's two were parted", n)
				}
				if n > 0 {
					busy++
				}
			}
			if busy < 2 {
				t.Error("one socket received everything")
			}
			for hint := range uint32(2 * sockets) {
				before := p.sockets[hint%sockets].sent.Load()
				for range 3 {
					p.Send(hint, numbered(p.Addr(), 1, 10, 10))
				}
				if n := p.sockets[hint%sockets].sent.Load() - before; n != 3 {
					t.Errorf("hint %d: its socket sent %d of 3", hint, n)
				}
			}
		})
	}
}

// What arrives as one message still comes as datagrams, and with fewer system calls.
func TestJoinedDatagramsAreCutUp(t *testing.T) {
	m := make(mailbox, 1024)
	to := open(t, "segmented", Config{Sockets: 1, Reader: every(m.receive)})
	from := open(t, "segmented", Config{Sockets: 1})
	if from.Path() != Segmented {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	run := numbered(to.Addr(), 50, 1200, 33)
	from.Send(0, run)
	expect(t, m, run, from.Addr())
	eventually(t, "the counters", func() bool { return to.Stats().Received == 50 })
	if s := to.Stats(); s.Reads != 1 {
		t.Errorf("%d system calls received 50 datagrams that were sent as one run", s.Reads)
	}
}

// scripted answers with errors as long as it has some, and then as the kernel. An errno of 0 passes the call on.
type scripted struct {
	errnos []syscall.Errno
	calls  int
	most   int // of messages in one call
}

func (s *scripted) transmit(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
	s.calls++
	s.most = max(s.most, len(messages))
	if len(s.errnos) > 0 {
		errno := s.errnos[0]
		s.errnos = s.errnos[1:]
		if errno != 0 {
			return 0, errno
		}
	}
	return kernel(fd, messages)
}

func script(p *Port, errnos ...syscall.Errno) *scripted {
	s := &scripted{errnos: errnos}
	p.sockets[0].transmit = s.transmit
	return s
}

// segmenting is a port that sends segmented runs, whatever this kernel can do: the tests' errors come before it.
func segmenting(t *testing.T, log *slog.Logger) *Port {
	p := open(t, "segmented", Config{Sockets: 1, Log: log})
	if p.Path() != Segmented {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	return p
}

func TestSegmentationEndsWhereTheDeviceRefusesIt(t *testing.T) {
	var log bytes.Buffer
	m := make(mailbox, 1024)
	to := open(t, "segmented", Config{Reader: every(m.receive)})
	from := segmenting(t, slog.New(slog.NewTextHandler(&log, nil)))
	s := script(from, unix.EIO, 0, unix.EIO, 0)
	// Two runs in one system call: both are refused, both come whole and in order.
	first, second := numbered(to.Addr(), 10, 300, 100), numbered(to.Addr(), 70, 300, 100)
	if n := from.Send(0, first, second); n != 80 {
		t.Errorf("%d of 80 datagrams left", n)
	}
	expect(t, m, first, from.Addr())
	expect(t, m, second, from.Addr())
	if from.Path() != Batched {
		t.Errorf("the path is %v", from.Path())
	}
	calls := s.calls
	if n := from.Send(0, second); n != 70 || s.calls != calls+2 {
		t.Errorf("%d of 70 datagrams left afterwards, with %d calls", n, s.calls-calls)
	}
	expect(t, m, second, from.Addr())
	if n := strings.Count(log.String(), "lesser path"); n != 1 {
		t.Errorf("logged %d times: %s", n, &log)
	}
	if stats := from.Stats(); stats.Unsegmented != 2 || stats.Failed+stats.Full > 0 {
		t.Errorf("%+v", stats)
	}
}

// A path with a small MTU is one client's matter, be it the only one who is sent anything. Several in a row, and nobody's
// runs that pass, are the socket's.
func TestARefusedSizeIsOneClientsMatter(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EINVAL, unix.EMSGSIZE} {
		t.Run(errno.Error(), func(t *testing.T) {
			m := make(mailbox, 1024)
			to := open(t, "segmented", Config{Addr: "0.0.0.0:0", Reader: every(m.receive)})
			from := segmenting(t, nil)
			// client is another address each: all of 127.0.0.0/8 are ours.
			client := func(i int) netip.AddrPort {
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), to.Addr().Port())
			}
			send := func(i int, errnos ...syscall.Errno) {
				t.Helper()
				script(from, errnos...)
				run := numbered(client(i), 5, 300, 100)
				if n := from.Send(0, run); n != 5 {
					t.Fatalf("%d of 5 datagrams left", n)
				}
				expect(t, m, run, from.Addr())
			}
			still := func(when string) {
				t.Helper()
				if from.Path() != Segmented {
					t.Fatalf("the path is %v after %s", from.Path(), when)
				}
			}
			for i := range 10 * maxRefused {
				send(i%(maxRefusedTo-1), errno)
				still("refusals of too few clients")
			}
			send(0)
			for i := range 10 * maxRefused {
				send(i, errno)
				if i%(maxRefused-1) == maxRefused-2 {
					send(0)
				}
				still("refusals with a run in between that passed")
			}
			send(0)
			for i := range maxRefusedTo - 1 {
				send(i, errno)
			}
			send(0)
			for i := range maxRefused {
				still("as many refusals of all clients")
				send(i%maxRefusedTo, errno)
			}
			if from.Path() != Batched {
				t.Errorf("the path is %v in the end", from.Path())
			}
		})
	}
}

// Ports don't make clients: they share a path.
func TestRefusalsOfOneAddress(t *testing.T) {
	var r refusals
	for i := range 10 * maxRefused {
		to := netip.MustParseAddr("192.0.2.1")
		if i%2 == 1 {
			to = netip.AddrFrom16(to.As16())
		}
		if r.add(to) {
			t.Fatal("one client ends it for all")
		}
	}
	for i := range maxRefusedTo - 1 {
		if enough := r.add(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})); enough != (i == maxRefusedTo-2) {
			t.Errorf("%d clients: %v", 2+i, enough)
		}
	}
	r.clear()
	for i := range maxRefused {
		if enough := r.add(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})); enough != (i == maxRefused-1) {
			t.Errorf("%d refusals: %v", i+1, enough)
		}
	}
}

func TestFallsBackToPlain(t *testing.T) {
	m := make(mailbox, 1024)
	to := open(t, "plain", Config{Reader: every(m.receive)})
	from := open(t, "batched", Config{Sockets: 1})
	s := script(from, unix.ENOSYS)
	run := numbered(to.Addr(), 10, 300, 100)
	if n := from.Send(0, run); n != 10 || from.Path() != Plain {
		t.Errorf("%d of 10 datagrams left on the path %v", n, from.Path())
	}
	expect(t, m, run, from.Addr())
	s.most = 0
	from.Send(0, run)
	expect(t, m, run, from.Addr())
	if s.most != 1 {
		t.Errorf("%d messages in one call", s.most)
	}
}

func TestAFullSendBufferIsNotWaitedFor(t *testing.T) {
	for _, kind := range []string{"segmented", "batched", "plain"} {
		for _, errno := range []syscall.Errno{unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM} {
			m := make(mailbox, 1024)
			to := open(t, "plain", Config{Reader: every(m.receive)})
			from := open(t, kind, Config{Sockets: 1})
			script(from, 0, errno)
			run := numbered(to.Addr(), 1, 300, 300)
			long := numbered(to.Addr(), 20, 300, 100)
			from.Send(0, run)
			expect(t, m, run, from.Addr())
			if n := from.Send(0, long, run); n != 0 {
				t.Errorf("%s, %v: %d datagrams left", kind, errno, n)
			}
			if s := from.Stats(); s.Full != 21 || s.Failed+s.Unsegmented > 0 {
				t.Errorf("%s, %v: %+v", kind, errno, s)
			}
			script(from, errno)
			if _, err := from.WriteTo([]byte("x"), to.Addr()); !errors.Is(err, errno) {
				t.Errorf("%s: WriteTo: %v", kind, err)
			}
			if n := from.Send(0, long); n != 20 {
				t.Errorf("%s, %v: %d of 20 left afterwards", kind, errno, n)
			}
			expect(t, m, long, from.Addr())
		}
	}
}

func TestADestinationsErrorsAreItsOwn(t *testing.T) {
	for _, kind := range []string{"segmented", "batched", "plain"} {
		for _, errno := range []syscall.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPERM, unix.EACCES} {
			m := make(mailbox, 1024)
			to := open(t, "plain", Config{Reader: every(m.receive)})
			from := open(t, kind, Config{Sockets: 1})
			path := from.Path()
			script(from, unix.EINTR, errno)
			one, run := numbered(to.Addr(), 1, 300, 300), numbered(to.Addr(), 20, 300, 100)
			if n := from.Send(0, one, run); n != 20 {
				t.Errorf("%s, %v: %d of 20 datagrams left", kind, errno, n)
			}
			expect(t, m, run, from.Addr())
			if s := from.Stats(); s.Failed != 1 || s.Full+s.Unsegmented > 0 || from.Path() != path {
				t.Errorf("%s, %v: %+v on %v", kind, errno, s, from.Path())
			}
		}
	}
}

func TestProbe(t *testing.T) {
	best := Batched
	if supported() {
		best = Segmented
	}
	// A sandbox that takes the control message and does nothing with it.
	ignoring := func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
		for i := range messages {
			messages[i].Hdr.SetControllen(0)
		}
		return kernel(fd, messages)
	}
	without := func(errno syscall.Errno, which func([]unix.Mmsghdr) bool) transmit {
		return func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
			if which(messages) {
				return 0, errno
			}
			return kernel(fd, messages)
		}
	}
	segmented := func(m []unix.Mmsghdr) bool { return m[0].Hdr.Controllen > 0 }
	several := func(m []unix.Mmsghdr) bool { return len(m) > 1 }
	for name, test := range map[string]struct {
		asked, want Path
		send        transmit
	}{
		"auto":                   {Auto, best, kernel},
		"segmented":              {Segmented, best, kernel},
		"batched":                {Batched, Batched, kernel},
		"plain":                  {Plain, Plain, kernel},
		"old kernel":             {Auto, Batched, without(unix.EINVAL, segmented)},
		"no checksum offload":    {Auto, Batched, without(unix.EIO, segmented)},
		"ignored":                {Auto, Batched, ignoring},
		"no sendmmsg":            {Batched, Plain, without(unix.ENOSYS, several)},
		"sendmmsg not permitted": {Batched, Plain, without(unix.EPERM, several)},
	} {
		if got := probe(test.asked, test.send); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// A receiver that is late loses what the kernel has no room for, and can tell.
func TestOverflowIsCounted(t *testing.T) {
	var late atomic.Bool
	gate := make(chan struct{})
	p, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Buffer: 8192, Path: Batched, Reader: every(func([]byte, netip.AddrPort, time.Duration) {
		if late.CompareAndSwap(false, true) {
			<-gate
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	from := open(t, "plain", Config{Sockets: 1})
	for range 200 {
		from.Send(0, numbered(p.Addr(), 1, 1200, 1200))
	}
	close(gate)
	eventually(t, "lost datagrams to be counted", func() bool {
		from.Send(0, numbered(p.Addr(), 1, 1200, 1200)) // the count comes with a datagram
		return p.Stats().Overflow > 0
	})
}

func TestAddresses(t *testing.T) {
	six, four := &socket{v6: true}, &socket{}
	var name unix.RawSockaddrInet6
	for _, test := range []struct {
		s    *socket
		addr string
		want string
	}{
		{four, "192.0.2.7:4660", "192.0.2.7:4660"},
		{four, "[::ffff:192.0.2.7]:80", "192.0.2.7:80"},
		{four, "[2001:db8::1]:80", ""},
		{four, "192.0.2.7:0", ""},
		{six, "192.0.2.7:65535", "192.0.2.7:65535"},
		{six, "[2001:db8::1]:80", "[2001:db8::1]:80"},
		{six, "[fe80::1%7]:80", "[fe80::1%7]:80"},
		{six, "[fe80::1%lo]:80", "[fe80::1%1]:80"},
		{six, "[fe80::1%nosuch]:80", ""},
	} {
		got := ""
		if test.s.encode(&name, netip.MustParseAddrPort(test.addr)) > 0 {
			got = decode(&name).String()
		}
		if got != test.want {
			t.Errorf("%s became %q, want %q", test.addr, got, test.want)
		}
	}
}

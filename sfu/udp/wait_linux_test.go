package udp

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unread is a bound socket that nobody reads, and its address.
func unread(t *testing.T, addr string) (*socket, netip.AddrPort) {
	t.Helper()
	c, err := bind(network(addr), addr, false)
	if err != nil {
		t.Skip("can't bind here:", err)
	}
	local := addrPort(c.LocalAddr())
	s, err := newSocket(newPort(Config{Log: slog.New(slog.DiscardHandler)}), c, Batched)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s, local
}

// poller watches a socket's watch as the runtime does.
type poller struct {
	t  *testing.T
	fd int
}

func newPoller(t *testing.T, s *socket) poller {
	t.Helper()
	p := poller{t: t}
	var err error
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p.fd) })
	err = s.watch.raw.Control(func(fd uintptr) {
		both := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET}
		if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(fd), &both); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// woken returns whether the poller has an event within that time.
func (p poller) woken(patience time.Duration) bool {
	p.t.Helper()
	for {
		n, err := unix.EpollWait(p.fd, make([]unix.EpollEvent, 1), int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return n > 0
	}
}

// drain reads as the reader does and returns how many messages and errors there were.
func drain(t *testing.T, s *socket) (messages, failures int) {
	t.Helper()
	in := newInbox(Batched)
	err := s.watch.each(func() bool {
		for failures < 1000 {
			n, errno := in.fill(s.fd)
			switch {
			case errno == unix.EAGAIN:
				return true
			case errno != 0:
				failures++
			default:
				messages += n
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages, failures
}

func TestOnlyWhatComesWakes(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			s, local := unread(t, addr)
			p := newPoller(t, s)
			if p.woken(0) {
				t.Fatal("woken by nothing")
			}
			sink, err := net.ListenPacket("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			for range 100 {
				s.send([]Run{{To: addrPort(sink.LocalAddr()), Buffer: []byte("x")}})
				if _, _, err := sink.ReadFrom(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if p.woken(0) {
					t.Fatal("woken by what was sent")
				}
			}
			for range 100 { // each time anew, also for what comes before the last one is read
				for range 3 {
					if _, err := sink.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(local)); err != nil {
						t.Fatal(err)
					}
					if !p.woken(patienceOfTests) {
						t.Fatal("not woken by what came")
					}
				}
				if n, failures := drain(t, s); n != 3 || failures > 0 {
					t.Fatalf("read %d messages and %d errors", n, failures)
				}
				if p.woken(0) {
					t.Fatal("woken by what was read already")
				}
			}
		})
	}
}

// The event is taken before the datagrams are read: with it there, what comes meanwhile wouldn't have to be a new one.
func TestEventsAreTaken(t *testing.T) {
	s, local := unread(t, "127.0.0.1:0")
	p := newPoller(t, s)
	events := func() (n int) {
		err := s.watch.raw.Control(func(fd uintptr) {
			var err error
			if n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if err := s.write([]byte("to myself"), local); err != nil {
		t.Fatal(err)
	}
	if !p.woken(patienceOfTests) || events() != 1 {
		t.Fatal("no event for a datagram")
	}
	if err := s.watch.each(func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if events() != 0 {
		t.Error("the event is still there")
	}
}

// An ICMP message reaches a socket that asks for errors, which ours don't. Were it to, that would stop nothing, and wake
// once: what stays in the error queue keeps EPOLLERR up.
func TestAnErrorWakesOnce(t *testing.T) {
	s, local := unread(t, "127.0.0.1:0")
	if err := s.set(unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
		t.Fatal(err)
	}
	p := newPoller(t, s)
	gone, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := addrPort(gone.LocalAddr())
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := s.write([]byte("x"), refusing); err != nil {
			t.Fatal(err)
		}
		if !p.woken(patienceOfTests) {
			t.Fatal("not woken by the error")
		}
		if n, failures := drain(t, s); n != 0 || failures != 1 {
			t.Fatalf("read %d messages and %d errors", n, failures)
		}
		if p.woken(0) {
			t.Fatal("woken again by the error")
		}
		if err := s.write([]byte("to myself"), local); err != nil {
			t.Fatal(err)
		}
		if !p.woken(patienceOfTests) {
			t.Fatal("not woken by a datagram behind the error")
		}
		if n, failures := drain(t, s); n != 1 || failures != 0 {
			t.Fatalf("read %d messages and %d errors", n, failures)
		}
	}
}

func TestADescriptorOutlivesItsUsers(t *testing.T) {
	for range 20 {
		s, _ := unread(t, "127.0.0.1:0")
		d := &descriptor{idle: make(chan struct{})}
		fd, err := unix.Dup(int(s.fd))
		if err != nil {
			t.Fatal(err)
		}
		d.fd = uintptr(fd)
		var users sync.WaitGroup
		using := make(chan struct{}, 4)
		var closed atomic.Bool
		for range 4 {
			users.Go(func() {
				for first := true; d.acquire(); first = false {
					if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || closed.Load() {
						t.Error("used after it was closed:", err)
					}
					if first {
						using <- struct{}{}
					}
					d.release()
				}
			})
		}
		for range 4 {
			<-using
		}
		if err := d.close(); err != nil {
			t.Error(err)
		}
		closed.Store(true)
		if d.acquire() {
			t.Error("acquired after it was closed")
		}
		users.Wait()
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(files)
}

// A port leaves nothing behind: neither descriptors nor, with senders in its sockets, the address.
func TestClosingFreesEverything(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	used := open(t, "plain", Config{})
	before, addr := descriptors(t), "127.0.0.1:0"
	for i := range 50 {
		path := Path(i % int(Plain+1))
		p, err := Listen(Config{Addr: addr, Sockets: 3, Path: path, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		addr = p.Addr().String() // the same one again
		if during := descriptors(t); during != before+6 {
			t.Fatalf("%d descriptors for 3 sockets", during-before)
		}
		var senders sync.WaitGroup
		sent := make(chan struct{})
		senders.Go(func() {
			p.Send(0, numbered(p.Addr(), 3, 100, 100))
			close(sent)
			for p.Send(0, numbered(p.Addr(), 3, 100, 100)) > 0 {
			}
		})
		<-sent
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		senders.Wait()
		if _, err := Listen(Config{Addr: used.Addr().String(), Sockets: 3, Path: path, Log: log}); err == nil {
			t.Fatal("the address was used")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors more than before", after-before)
	}
}

func TestDescriptorsAreNotInherited(t *testing.T) {
	p := open(t, "auto", Config{Sockets: 1})
	s := p.sockets[0]
	check := func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v: children would have it", flags, err)
		}
	}
	check(s.fd)
	if err := s.watch.raw.Control(check); err != nil {
		t.Error(err)
	}
}

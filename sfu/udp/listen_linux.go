package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probePatience bounds how long the probe waits for its own datagrams, which are there at once where it works.
const probePatience = 500 * time.Millisecond

// socket is one of the sockets of a port. Any number of goroutines may send at the same time; one reads.
type socket struct {
	port   *Port
	reader Reader
	local  LocalReader // reader, where it is to be told the local addresses; nil otherwise
	descriptor
	watch *watch
	v6    bool // takes IPv4 addresses in their mapped form only
	// limit is the best Path that works for sending. It only ever gets worse.
	limit    atomic.Int32
	refused  refusals
	transmit transmit
	counters
}

// Listen opens the port. Another process, or port, that listens there already is an error.
func Listen(cfg Config) (*Port, error) {
	if cfg.Sockets < 0 || cfg.Sockets > maxSockets {
		return nil, fmt.Errorf("%d UDP sockets: want 0 to %d", cfg.Sockets, maxSockets)
	}
	n := cfg.Sockets
	if n == 0 {
		n = min(runtime.GOMAXPROCS(0), maxSockets)
	}
	p := newPort(cfg)
	path := probe(cfg.Path, kernel)
	if cfg.Path != Auto && path != cfg.Path {
		p.cfg.Log.Warn("the kernel lacks the UDP path asked for", "asked", cfg.Path, "used", path)
	}
	addr := cfg.Addr
	for i := range n {
		// The first binds without SO_REUSEPORT, so that a second server on this port fails to start, and the kernel never
		// picks a port that is in use; the option counts at the moment when the next one binds.
		c, err := bind(network(addr), addr, i > 0)
		if i == 0 && err != nil {
			return nil, fmt.Errorf("listening on UDP %s: %w", cfg.Addr, err)
		}
		if err != nil {
			p.cfg.Log.Warn("this UDP port can't be shared by more sockets", "addr", addr, "sockets", i, "error", err)
			break
		}
		local := c.LocalAddr()
		s, err := newSocket(p, c, path)
		if err == nil && i == 0 && n > 1 {
			if failed := s.set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); failed != nil {
				p.cfg.Log.Warn("this UDP port can't be shared by several sockets", "addr", addr, "error", failed)
				n = 1
			}
		}
		if err != nil {
			_ = p.Close()
			return nil, fmt.Errorf("listening on UDP %s: %w", cfg.Addr, err)
		}
		p.sockets = append(p.sockets, s)
		if i == 0 {
			p.addr = addrPort(local)
			addr = local.String()
			if n == 1 {
				break
			}
		}
	}
	p.start()
	return p, nil
}

func bind(network, addr string, shared bool) (*net.UDPConn, error) {
	var config net.ListenConfig
	if shared {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
			return errors.Join(err, failed)
		}
	}
	c, err := config.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// newSocket takes over a bound conn, whose sends may use path at best. The conn is closed in any case.
func newSocket(p *Port, c *net.UDPConn, path Path) (*socket, error) {
	fd, err := detach(c)
	if err != nil {
		return nil, err
	}
	s := &socket{port: p, reader: discard, transmit: kernel, descriptor: descriptor{fd: uintptr(fd), idle: make(chan struct{})}}
	s.limit.Store(int32(path))
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	s.v6 = domain == unix.AF_INET6
	if err == nil {
		s.watch, err = newWatch(s.fd)
	}
	if err != nil {
		_ = s.descriptor.close()
		return nil, err
	}
	if size := p.cfg.Buffer; size > 0 {
		// FORCE goes beyond the system's maximum and needs the right to. Less than what was asked for is no reason to stop.
		if s.set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			_ = s.set(unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
		if s.set(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != nil {
			_ = s.set(unix.SOL_SOCKET, unix.SO_SNDBUF, size)
		}
	}
	// Older kernels know neither of these; then nothing is joined, or the count stays 0.
	if s.joins() {
		_ = s.set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	_ = s.set(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	return s, nil
}

func (s *socket) give(r Reader) {
	s.reader = r
	local, ok := r.(LocalReader)
	if !ok || !s.port.addr.Addr().IsUnspecified() {
		return // for one address it is known
	}
	if err := s.askLocal(); err != nil {
		s.port.cfg.Log.Warn("answers leave from the address that the system chooses", "addr", s.port.addr, "error", err)
		return
	}
	s.local = local
}

// joins is whether the kernel is asked to leave datagrams of one sender together. What can be sent has no say in it.
func (s *socket) joins() bool { return s.port.cfg.Path <= Segmented }

func (s *socket) set(level, option, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(s.fd), level, option, value))
}

// close ends the reader first, which uses the descriptor without acquiring it.
func (s *socket) close() error { return errors.Join(s.watch.close(), s.descriptor.close()) }

// probe returns the best path from want on that works between two sockets of ours.
func probe(want Path, send transmit) Path {
	for path := max(want, Segmented); path < Plain; path++ {
		if works(path, send) {
			return path
		}
	}
	return Plain
}

// works sends three datagrams over the loopback interface and looks whether they come as three: some sandboxes take the
// control message and ignore it.
func works(path Path, send transmit) bool {
	c, err := bind("udp4", "127.0.0.1:0", false)
	if err != nil {
		c, err = bind("udp6", "[::1]:0", false)
	}
	if err != nil {
		// There is no loopback interface to ask. Who can tell of the option has it, and the sockets still fall back.
		return supported()
	}
	to := addrPort(c.LocalAddr())
	came := make(chan int, 3)
	p := newPort(Config{Path: Plain, Log: slog.New(slog.DiscardHandler), Reader: func(int) Reader {
		return ReceiveFunc(func(b []byte, _ netip.AddrPort, _ time.Duration) {
			select {
			case came <- len(b):
			default:
			}
		})
	}})
	s, err := newSocket(p, c, path)
	if err != nil {
		return false
	}
	s.transmit = send
	p.sockets = []*socket{s}
	p.start()
	defer p.Close()
	const size = 100
	if s.send([]Run{{To: to, Buffer: make([]byte, 2*size+size/2), Size: size}}) != 3 || s.path() != path || s.unsegmented.Load() > 0 {
		return false
	}
	patience := time.NewTimer(probePatience)
	defer patience.Stop()
	for _, want := range []int{size, size, size / 2} {
		select {
		case n := <-came:
			if n != want {
				return false
			}
		case <-patience.C:
			return false
		}
	}
	return true
}

func supported() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	return err == nil
}

// encode writes an address as the kernel wants it and returns its length, or 0 if this socket has no way to send there.
func (s *socket) encode(name *unix.RawSockaddrInet6, to netip.AddrPort) uint32 {
	a := to.Addr()
	if !a.IsValid() || to.Port() == 0 {
		return 0
	}
	if !s.v6 {
		if a = a.Unmap(); !a.Is4() {
			return 0
		}
		v4 := asInet4(name)
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swapped(to.Port()), Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swapped(to.Port()), Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		if name.Scope_id = scope(zone); name.Scope_id == 0 {
			return 0
		}
	}
	return unix.SizeofSockaddrInet6
}

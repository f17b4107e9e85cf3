package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
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
	port *Port
	conn *net.UDPConn
	raw  syscall.RawConn
	v6   bool // takes IPv4 addresses in their mapped form only
	// limit is the best Path that works for sending. It only ever gets worse.
	limit atomic.Int32
	// refused counts the segmented runs in a row that were refused.
	refused  atomic.Int32
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
		s, err := newSocket(p, c, path)
		if err == nil && i == 0 && n > 1 {
			if failed := s.set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); failed != nil {
				p.cfg.Log.Warn("this UDP port can't be shared by several sockets", "addr", addr, "error", failed)
				n = 1
			}
		}
		if err != nil {
			_ = c.Close()
			_ = p.Close()
			return nil, fmt.Errorf("listening on UDP %s: %w", cfg.Addr, err)
		}
		p.sockets = append(p.sockets, s)
		if i == 0 {
			p.addr = addrPort(c.LocalAddr())
			addr = c.LocalAddr().String()
		}
		if p.wantsLocal() {
			if err := s.askLocal(); err != nil {
				p.cfg.Log.Warn("answers leave from the address that the system chooses", "addr", addr, "error", err)
			}
		}
		if n == 1 {
			break
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

// newSocket prepares a bound conn, whose sends may use path at best.
func newSocket(p *Port, c *net.UDPConn, path Path) (*socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{port: p, conn: c, raw: raw, transmit: kernel}
	s.limit.Store(int32(path))
	var failed error
	err = raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		s.v6, failed = domain == unix.AF_INET6, err
	})
	if err = errors.Join(err, failed); err != nil {
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

// joins is whether the kernel is asked to leave datagrams of one sender together. What can be sent has no say in it.
func (s *socket) joins() bool { return s.port.cfg.Path <= Segmented }

func (s *socket) set(level, option, value int) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(err, failed)
}

func (s *socket) close() error { return s.conn.Close() }

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
	defer c.Close()
	s, err := newSocket(newPort(Config{Path: Plain, Log: slog.New(slog.DiscardHandler)}), c, path)
	if err != nil {
		return false
	}
	s.transmit = send
	const size = 100
	if s.send([]Run{{To: addrPort(c.LocalAddr()), Buffer: make([]byte, 2*size+size/2), Size: size}}) != 3 || s.path() != path || s.unsegmented.Load() > 0 {
		return false
	}
	if c.SetReadDeadline(time.Now().Add(probePatience)) != nil {
		return false
	}
	b := make([]byte, 4*size)
	for _, want := range []int{size, size, size / 2} {
		if n, err := c.Read(b); err != nil || n != want {
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

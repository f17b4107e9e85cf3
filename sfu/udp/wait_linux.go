package udp

import (
	"errors"
	"math"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// descriptor is a file descriptor that is closed when nobody uses it any more: its number may be another file's right
// afterwards.
type descriptor struct {
	fd    uintptr
	users atomic.Int64  // negative when closing
	idle  chan struct{} // closed when the last user leaves a descriptor that is closing
}

// acquire returns whether the descriptor may be used, until release.
func (d *descriptor) acquire() bool {
	for {
		n := d.users.Load()
		if n < 0 {
			return false
		}
		if d.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *descriptor) release() {
	if d.users.Add(-1) == math.MinInt64 {
		close(d.idle)
	}
}

// close waits for the users. It is called once.
func (d *descriptor) close() error {
	if d.users.Add(math.MinInt64) != math.MinInt64 {
		<-d.idle
	}
	return os.NewSyscallError("close", unix.Close(int(d.fd)))
}

// detach takes a socket away from the runtime's poller, and from c, which is closed.
func detach(c *net.UDPConn) (int, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var failed error
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, os.NewSyscallError("fcntl", failed))
}

// watch waits for a socket to have something to read, and for nothing else.
//
// The runtime's poller registers what it has for both directions. On a UDP socket, each datagram that leaves makes room in
// the send buffer, which is an event: for every one sent, the thread that polls would wake and find nothing to do. So each
// socket has an epoll instance of its own, which looks for EPOLLIN only, and it is this instance that the runtime polls: it
// is readable when it has an event. A thread of our own in epoll_wait would be no better, as the scheduler hands its
// processor on each time.
//
// Both are edge-triggered. The instance's event is taken first and the datagrams afterwards, until there are none: one that
// comes from then on is a new event, with which the instance is readable anew. An error that waits in the socket is an event
// too, but only once, and the next read takes it away.
type watch struct {
	file  *os.File // the epoll instance; closing it wakes who waits
	raw   syscall.RawConn
	event unix.EpollEvent
}

func newWatch(fd uintptr) (*watch, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	in := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &in))
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(epoll, true)) // what tells os that it can be polled
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	w := &watch{file: os.NewFile(uintptr(epoll), "epoll")}
	w.raw, err = w.file.SyscallConn()
	if err == nil {
		err = w.file.SetReadDeadline(time.Time{}) // fails unless the runtime polls it
	}
	if err != nil {
		_ = w.file.Close()
		return nil, err
	}
	return w, nil
}

// each calls drain now and whenever there may be something to read, until it returns true or the watch is closed. Drain is
// to read until there is nothing left.
func (w *watch) each(drain func() bool) error {
	return w.raw.Read(func(epoll uintptr) bool {
		// Whatever the answer is: what counts is that the event is taken, without which gVisor, say, doesn't tell of the next
		// one. epoll_wait itself is missing on newer architectures.
		_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&w.event)), 1, 0, 0, 0)
		return drain()
	})
}

// close wakes who waits, and waits until they have left.
func (w *watch) close() error { return w.file.Close() }

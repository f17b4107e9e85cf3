package main

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The net package enters each read and write as a system call that may block. If the process was at rest, this wakes the runtime's
// monitor, which then polls every 20 µs for a while: the pings of 150 idle WebSockets alone woke a server 500 times a second. These
// sockets never block, so raw system calls do.

// quick makes a listener's TCP connections read and write without a word to the scheduler.
func quick(l net.Listener) net.Listener { return quickListener{l} }

type quickListener struct{ net.Listener }

// Accept implements net.Listener.
func (l quickListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c, nil
	}
	return &quickConn{TCPConn: tcp, raw: raw}, nil
}

// quickConn waits, and is closed, as the TCPConn in it does.
type quickConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// Read implements net.Conn.
func (c *quickConn) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = c.raw.Read(func(fd uintptr) bool {
		n, errno = transfer(unix.SYS_READ, fd, b)
		return errno != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, c.failed("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *quickConn) Write(b []byte) (n int, err error) {
	for n < len(b) {
		var errno syscall.Errno
		err = c.raw.Write(func(fd uintptr) bool {
			var some int
			some, errno = transfer(unix.SYS_WRITE, fd, b[n:])
			n += some
			return errno != unix.EAGAIN
		})
		if err != nil {
			return n, err
		}
		if errno != 0 {
			return n, c.failed("write", errno)
		}
	}
	return n, nil
}

// failed is the error that the net package would give.
func (c *quickConn) failed(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno)}
}

// transfer is read(2) or write(2) of a socket that doesn't block, repeated when a signal came. b isn't empty.
func transfer(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

//go:build amd64 || arm64

package load

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// batchSize is how many datagrams are read at once.
const batchSize = 32

// batchFull: after so many datagrams there may be more.
const batchFull = batchSize

// napped: the kernel says when a datagram came, so that it may wait for others.
const napped = true

// mmsghdr is the kernel's struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	header syscall.Msghdr
	length uint32
	_      uint32
}

// batch reads datagrams by recvmmsg: one each, as the kernel got them, for UDP_GRO would make segments of one send cheaper
// than those of many.
type batch struct {
	headers [batchSize]mmsghdr
	vectors [batchSize]syscall.Iovec
	names   [batchSize][28]byte // room for an IPv6 address
	control [batchSize][64]byte
	data    [batchSize][1600]byte
}

var batches = sync.Pool{New: func() any {
	b := &batch{}
	for i := range b.headers {
		b.vectors[i] = syscall.Iovec{Base: &b.data[i][0], Len: uint64(len(b.data[i]))}
		h := &b.headers[i].header
		h.Name, h.Iov, h.Iovlen, h.Control = &b.names[i][0], &b.vectors[i], 1, &b.control[i][0]
	}
	return b
}}

// prepare has the kernel note the arrival of each datagram, and how many it had no room for.
func prepare(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
		if failed == nil {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RXQ_OVFL, 1)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// reader reads one socket.
type reader struct {
	raw syscall.RawConn
	// dropped is how many datagrams the kernel has dropped at this socket.
	dropped uint32

	got   *batch
	count int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

func newReader(conn *net.UDPConn) (*reader, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &reader{raw: raw}
	r.try = r.receive // once, for closures allocate
	return r, nil
}

// receive is called by the runtime when there is something; what has no datagram holds no buffers.
func (r *reader) receive(fd uintptr) bool {
	b := batches.Get().(*batch)
	for i := range b.headers {
		b.headers[i].header.Namelen = uint32(len(b.names[i]))
		b.headers[i].header.Controllen = uint64(len(b.control[i]))
	}
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), batchSize, syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.got, r.count, r.errno = b, int(n), 0
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			batches.Put(b)
			return false
		default:
			batches.Put(b)
			r.got, r.count, r.errno = nil, 0, errno
			return true
		}
	}
}

// read waits for datagrams and hands each to take with its sender and the time that it came, by clock. It returns how many
// there were. What take is given is valid during the call.
func (r *reader) read(clock func() time.Duration, take func(datagram []byte, from netip.AddrPort, at time.Duration)) (int, error) {
	r.got = nil
	if err := r.raw.Read(r.try); err != nil {
		return 0, err
	}
	if r.got == nil {
		return 0, r.errno
	}
	b, now, wall := r.got, clock(), time.Now().UnixNano()
	for i := range r.count {
		h := &b.headers[i]
		at := now
		if stamp := r.control(b.control[i][:h.header.Controllen]); stamp != 0 {
			// By the age, for the two clocks differ. A step of the wall clock is no age.
			if age := time.Duration(wall - stamp); age > 0 && age < 10*time.Second {
				at = now - age
			}
		}
		take(b.data[i][:h.length], sender(b.names[i][:h.header.Namelen]), at)
	}
	batches.Put(b)
	return r.count, nil
}

// control reads the ancillary data of a datagram: when it came, in ns of the wall clock.
func (r *reader) control(b []byte) (stamp int64) {
	const head = syscall.SizeofCmsghdr
	for len(b) >= head {
		length := int(binary.NativeEndian.Uint64(b))
		level, kind := int32(binary.NativeEndian.Uint32(b[8:])), int32(binary.NativeEndian.Uint32(b[12:]))
		if length < head || length > len(b) {
			break
		}
		switch data := b[head:length]; {
		case level == syscall.SOL_SOCKET && kind == syscall.SCM_TIMESTAMPNS && len(data) >= 16:
			stamp = int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
		case level == syscall.SOL_SOCKET && kind == syscall.SO_RXQ_OVFL && len(data) >= 4:
			r.dropped = binary.NativeEndian.Uint32(data)
		}
		b = b[min((length+7)&^7, len(b)):]
	}
	return stamp
}

// sender reads a socket address: family, port, and the address after it, which is 4 bytes further on in IPv6.
func sender(b []byte) netip.AddrPort {
	if len(b) < 8 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == syscall.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case family == syscall.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

package udp

import (
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// joinedSlots × joinedSlot is the reader's buffer where the kernel joins datagrams: a joined message has up to 64 KB.
	// Pages that nothing was ever written to take no memory.
	joinedSlots, joinedSlot = 15, 1 << 16
	// singleSlots × singleSlot is the buffer otherwise.
	singleSlots, singleSlot = 32, MaxDatagram
	// maxUnrested is after how many messages a reader rests although there are more.
	maxUnrested = 64
	// readPatience is how many errors in a row a reader takes before it waits for the kernel to tell of something new.
	readPatience = 8
)

// controls has room for the three control messages that may come with a message: UDP_GRO, SO_RXQ_OVFL and IPV6_PKTINFO.
type controls [11]uint64

// inbox is what one recvmmsg fills.
type inbox struct {
	messages []unix.Mmsghdr
	iovecs   []unix.Iovec
	names    []unix.RawSockaddrInet6
	controls []controls
	buffer   []byte
	slot     int
	plain    bool // one message per system call
}

func newInbox(path Path) *inbox {
	in := &inbox{slot: singleSlot, plain: path == Plain}
	n := singleSlots
	switch path {
	case Auto, Segmented:
		n, in.slot = joinedSlots, joinedSlot
	case Plain:
		n = 1
	}
	in.messages = make([]unix.Mmsghdr, n)
	in.iovecs = make([]unix.Iovec, n)
	in.names = make([]unix.RawSockaddrInet6, n)
	in.controls = make([]controls, n)
	in.buffer = make([]byte, n*in.slot)
	for i := range in.messages {
		in.iovecs[i].Base = &in.buffer[i*in.slot]
		in.iovecs[i].SetLen(in.slot)
		m := &in.messages[i].Hdr
		m.Iov = &in.iovecs[i]
		m.SetIovlen(1)
		m.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		m.Control = (*byte)(unsafe.Pointer(&in.controls[i]))
		in.reset(i)
	}
	return in
}

// reset makes a message ready to be filled again.
func (in *inbox) reset(i int) {
	m := &in.messages[i].Hdr
	m.Namelen = unix.SizeofSockaddrInet6
	m.SetControllen(int(unsafe.Sizeof(controls{})))
	m.Flags = 0
}

// fill receives what is there, at most as many messages as there are slots.
func (in *inbox) fill(fd uintptr) (int, syscall.Errno) {
	if !in.plain {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.messages[0])), uintptr(len(in.messages)), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.ENOSYS {
			return 0, errno
		}
		in.plain = true
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&in.messages[0].Hdr)), unix.MSG_DONTWAIT, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	in.messages[0].Len = uint32(n)
	return 1, 0
}

// read is the reader. It wakes when something comes, and when the socket is closed.
func (s *socket) read() {
	in := newInbox(s.port.cfg.Path)
	failures, unrested := 0, 0
	rest := func() {
		if unrested > 0 {
			unrested = 0
			s.reader.Rest(s.port.cfg.Clock())
		}
	}
	err := s.watch.each(func() bool {
		defer rest()
		for !s.port.closed.Load() {
			n, errno := in.fill(s.fd)
			switch {
			case errno == 0:
				failures = 0
				s.deliver(in, n)
				if unrested += n; unrested > maxUnrested-len(in.messages) {
					rest()
				}
			case errno == unix.EAGAIN:
				return false
			case errno == unix.EINTR:
			default: // an ICMP message's, say: it is told once, and there may be datagrams behind it
				if failures++; failures%readPatience == 0 {
					return false
				}
			}
		}
		return true
	})
	if err != nil && !s.port.closed.Load() {
		s.port.cfg.Log.Error("receiving from a UDP socket ended", "addr", s.port.addr, "error", err)
	}
}

// deliver gives the datagrams of n messages to the socket's Reader.
func (s *socket) deliver(in *inbox, n int) {
	at := s.port.cfg.Clock()
	datagrams, bytes := 0, 0
	for i := range n {
		m := &in.messages[i]
		b := in.buffer[i*in.slot:][:m.Len]
		from := decode(&in.names[i])
		size, overflow, local := in.controls[i].parse(int(m.Hdr.Controllen))
		if overflow > 0 {
			s.overflow.Store(uint64(overflow))
		}
		if size <= 0 {
			size = len(b)
		}
		if m.Hdr.Flags&unix.MSG_TRUNC != 0 || size > MaxDatagram {
			s.oversize.Add(1)
			b = nil
		}
		for len(b) > 0 {
			d := b[:min(size, len(b))]
			b = b[len(d):]
			datagrams++
			bytes += len(d)
			if s.local != nil {
				s.local.ReceiveAt(d[:len(d):len(d)], from, local, at)
				continue
			}
			s.reader.Receive(d[:len(d):len(d)], from, at)
		}
		in.reset(i)
	}
	s.reads.Add(1)
	s.received.Add(uint64(datagrams))
	s.receivedBytes.Add(uint64(bytes))
}

// parse returns the size of the datagrams that were joined, 0 if none were, how many messages the socket has lost so far, 0
// if that isn't told, and the address that they came to, zero if that isn't told.
func (c *controls) parse(length int) (size int, overflow uint32, local netip.Addr) {
	header := unix.CmsgLen(0)
	for at := 0; at+header+4 <= min(length, int(unsafe.Sizeof(*c))); {
		h := (*unix.Cmsghdr)(unsafe.Add(unsafe.Pointer(c), at))
		if int(h.Len) < header+4 {
			break
		}
		data := unsafe.Add(unsafe.Pointer(c), at+header)
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO:
			size = int(*(*int32)(data))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL:
			overflow = *(*uint32)(data)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && int(h.Len) == unix.CmsgLen(unix.SizeofInet4Pktinfo):
			local = local4(data)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && int(h.Len) == unix.CmsgLen(unix.SizeofInet6Pktinfo):
			local = local6(data)
		}
		at += unix.CmsgSpace(int(h.Len) - header)
	}
	return size, overflow, local
}

// decode reads the address that the kernel wrote, IPv4 unmapped. The zone of a link-local address is its interface's number.
func decode(name *unix.RawSockaddrInet6) netip.AddrPort {
	switch name.Family {
	case unix.AF_INET:
		v4 := asInet4(name)
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swapped(v4.Port))
	case unix.AF_INET6:
		a := netip.AddrFrom16(name.Addr).Unmap()
		if name.Scope_id != 0 && a.Is6() && a.IsLinkLocalUnicast() {
			a = a.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, swapped(name.Port))
	}
	return netip.AddrPort{}
}

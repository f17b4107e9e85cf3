package udp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxMessages is how many messages one sendmmsg has at most.
	maxMessages = 64
	// maxSegments and maxSegmented bound one message, in datagrams and bytes: what every kernel with UDP_SEGMENT takes
	// (UDP_MAX_SEGMENTS, and 65,535 bytes with the headers).
	maxSegments  = 64
	maxSegmented = 65000
	// maxRefused is how many segmented runs in a row may be refused for their size before the socket does without, if they
	// were to so many addresses at least.
	maxRefused   = 16
	maxRefusedTo = 4
)

// transmit sends some of the messages with one system call and returns how many.
type transmit func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno)

// kernel is the transmit of every socket; tests have others. The socket is non-blocking and the calls are short, so the
// scheduler isn't told of them.
func kernel(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
	if len(messages) == 1 {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&messages[0].Hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
		if errno != 0 {
			return 0, errno
		}
		return 1, 0
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// segmentation is the control message that tells the size of a run's datagrams, with room for a source behind it.
type segmentation struct {
	header unix.Cmsghdr
	size   uint16
	_      [6]byte
	source source
}

// batch is the messages of one Send.
type batch struct {
	messages [maxMessages]unix.Mmsghdr
	iovecs   [maxMessages]unix.Iovec
	names    [maxMessages]unix.RawSockaddrInet6
	controls [maxMessages]segmentation
	parts    [maxMessages]Run // what each message has
	from, n  int              // messages[from:n] are to be sent
}

var batches = sync.Pool{New: func() any {
	b := new(batch)
	for i := range b.messages {
		m := &b.messages[i].Hdr
		m.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		m.Iov = &b.iovecs[i]
		m.SetIovlen(1)
		c := &b.controls[i]
		c.header.Level, c.header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		c.header.SetLen(unix.CmsgLen(2))
	}
	return b
}}

// path is the best path that works.
func (s *socket) path() Path { return Path(s.limit.Load()) }

// fall makes path the best one from now on.
func (s *socket) fall(path Path, why syscall.Errno) {
	for {
		was := s.limit.Load()
		if was >= int32(path) {
			return
		}
		if s.limit.CompareAndSwap(was, int32(path)) {
			s.port.cfg.Log.Warn("UDP datagrams leave on a lesser path from now on", "addr", s.port.addr, "was", Path(was), "path", path, "error", why)
			return
		}
	}
}

func (s *socket) send(runs []Run) int {
	segments := 1
	if s.path() == Segmented {
		segments = maxSegments
	}
	b := batches.Get().(*batch)
	left := 0
	for _, run := range runs {
		left += s.add(b, run, segments)
	}
	n, _ := s.flush(b)
	batches.Put(b)
	return left + n
}

// write sends one datagram, which may be empty.
func (s *socket) write(datagram []byte, to netip.AddrPort) error {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	if !s.message(b, Run{To: to, Buffer: datagram}) {
		return fmt.Errorf("no way there from a socket on %v", s.port.addr)
	}
	if n, errno := s.flush(b); n == 0 {
		if errno == unix.EBADF {
			return net.ErrClosed
		}
		return errno
	}
	return nil
}

// add adds a run as messages of at most so many datagrams, and sends when the batch is full. It returns how many left.
func (s *socket) add(b *batch, run Run, segments int) (left int) {
	if run.Size > 0 {
		segments = min(segments, max(1, maxSegmented/run.Size))
	}
	for len(run.Buffer) > 0 {
		var part Run
		part, run = run.cut(segments)
		if b.n == maxMessages {
			n, _ := s.flush(b)
			left += n
		}
		s.message(b, part)
	}
	return left
}

// message adds one message. It returns false, and counts, if its address is of no use.
func (s *socket) message(b *batch, part Run) bool {
	i := b.n
	m := &b.messages[i].Hdr
	m.Namelen = s.encode(&b.names[i], part.To)
	if m.Namelen == 0 {
		s.failed.Add(uint64(part.Datagrams()))
		return false
	}
	b.iovecs[i].Base = unsafe.SliceData(part.Buffer)
	b.iovecs[i].SetLen(len(part.Buffer))
	c, controls := &b.controls[i], 0
	m.Control = (*byte)(unsafe.Pointer(c))
	if part.Datagrams() > 1 {
		c.size = uint16(part.Size)
		controls = unix.CmsgSpace(2)
	}
	if part.From.IsValid() {
		if controls == 0 {
			m.Control = (*byte)(unsafe.Pointer(&c.source))
		}
		controls += c.source.from(s.v6, part.From)
	}
	m.SetControllen(controls)
	b.parts[i] = part
	b.n++
	return true
}

// flush sends what the batch has, empties it, and returns how many datagrams left and the last error.
func (s *socket) flush(b *batch) (left int, last syscall.Errno) {
	for b.from < b.n {
		to := b.n
		if s.path() == Plain {
			to = b.from + 1
		}
		if !s.acquire() {
			last = unix.EBADF // closed
			break
		}
		sent, errno := s.transmit(s.fd, b.messages[b.from:to])
		s.release()
		if errno == 0 && sent > 0 {
			left += s.took(b, sent)
			continue
		}
		last = errno
		switch part := b.parts[b.from]; {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM:
			for ; b.from < b.n; b.from++ {
				s.full.Add(uint64(b.parts[b.from].Datagrams()))
			}
		case errno == unix.ENOSYS && s.path() != Plain:
			s.fall(Plain, errno)
		case part.Datagrams() > 1 && (errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE):
			b.from++
			left += s.unsegment(part, errno)
		default: // concerns this destination, or this datagram
			s.failed.Add(uint64(part.Datagrams()))
			b.from++
		}
	}
	// The buffers are the caller's again: a pooled batch mustn't keep them alive.
	clear(b.parts[:b.n])
	clear(b.iovecs[:b.n])
	b.from, b.n = 0, 0
	return left, last
}

// took counts the messages that the kernel took.
func (s *socket) took(b *batch, sent int) (datagrams int) {
	bytes, segmented := 0, false
	for _, part := range b.parts[b.from : b.from+sent] {
		n := part.Datagrams()
		datagrams += n
		bytes += len(part.Buffer)
		segmented = segmented || n > 1
	}
	b.from += sent
	s.writes.Add(1)
	s.sent.Add(uint64(datagrams))
	s.sentBytes.Add(uint64(bytes))
	if segmented {
		s.refused.clear()
	}
	return datagrams
}

// unsegment sends the datagrams of a run one by one that the kernel refused to cut up. EIO says that the device or the
// route doesn't take such runs: that won't change. EINVAL (EMSGSIZE on newer kernels) says that these datagrams are
// larger than the MTU of the path to this address, where single ones are fragmented instead. That is one client's path, and
// an ICMP message can make it so: it ends segmentation for everybody only when several clients' runs are refused and
// nobody's pass in between.
func (s *socket) unsegment(run Run, why syscall.Errno) int {
	s.unsegmented.Add(1)
	if why == unix.EIO || s.refused.add(run.To.Addr()) {
		s.fall(Batched, why)
	}
	b := batches.Get().(*batch)
	left := s.add(b, run, 1)
	n, _ := s.flush(b)
	batches.Put(b)
	return left + n
}

// refusals are the segmented runs in a row that were refused for their size. A path and its MTU belong to an address: its
// ports don't differ in them.
type refusals struct {
	any  atomic.Bool // spares the senders the lock as long as there are none
	mu   sync.Mutex
	runs int
	to   []netip.Addr // all different, maxRefusedTo at most
}

// add returns whether there are too many now.
func (r *refusals) add(to netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.any.Store(true)
	r.runs++
	if to = to.Unmap(); len(r.to) < maxRefusedTo && !slices.Contains(r.to, to) {
		r.to = append(r.to, to)
	}
	return r.runs >= maxRefused && len(r.to) >= maxRefusedTo
}

func (r *refusals) clear() {
	if !r.any.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.any.Store(false)
	r.runs, r.to = 0, r.to[:0]
}

// swapped is a port in network byte order.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

func asInet4(name *unix.RawSockaddrInet6) *unix.RawSockaddrInet4 {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
}

// scope is the number of the interface that a zone names, or 0. Ours are numbers.
func scope(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}

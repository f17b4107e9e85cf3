package sfu

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// tcpChunk is a stretch of the byte stream to a peer; it may begin and end amid a packet. With its fields it takes 16 KB.
type tcpChunk struct {
	next *tcpChunk
	n    int // bytes in use
	b    [16<<10 - 16]byte
}

var tcpChunks = sync.Pool{New: func() any { return new(tcpChunk) }}

// tcpQueue holds what waits to be written to a connection: tcpWriteBuffer at most, in pooled chunks, so that a connection
// at rest holds none. It is guarded by whom it belongs to.
type tcpQueue struct {
	first, last *tcpChunk
	waiting     int // bytes, those being written included
}

// add frames a packet (RFC 4571 section 2). It refuses one for which there is no room, and none are longer than maxTCPFrame.
func (q *tcpQueue) add(packet []byte) bool {
	if len(packet) > maxTCPFrame || q.waiting+frameHeader+len(packet) > tcpWriteBuffer {
		return false
	}
	var length [frameHeader]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(packet)))
	q.append(length[:])
	q.append(packet)
	q.waiting += frameHeader + len(packet)
	return true
}

func (q *tcpQueue) append(b []byte) {
	for len(b) > 0 {
		if q.last == nil || q.last.n == len(q.last.b) {
			chunk := tcpChunks.Get().(*tcpChunk)
			if q.last == nil {
				q.first = chunk
			} else {
				q.last.next = chunk
			}
			q.last = chunk
		}
		n := copy(q.last.b[q.last.n:], b)
		q.last.n += n
		b = b[n:]
	}
}

// next takes the first chunk, nil if nothing waits; wrote returns it.
func (q *tcpQueue) next() *tcpChunk {
	chunk := q.first
	if chunk == nil {
		return nil
	}
	if q.first = chunk.next; q.first == nil {
		q.last = nil
	}
	chunk.next = nil
	return chunk
}

// wrote takes a chunk back.
func (q *tcpQueue) wrote(chunk *tcpChunk) {
	q.waiting -= chunk.n
	chunk.n = 0
	tcpChunks.Put(chunk)
}

// clear throws away all that waits.
func (q *tcpQueue) clear() {
	for chunk := q.next(); chunk != nil; chunk = q.next() {
		q.wrote(chunk)
	}
}

// tcpLimit counts connections, in all and by address. An IPv6 /64 is one address: a client has as many of it as it likes.
type tcpLimit struct {
	most, perAddress int
	open             int
	by               map[netip.Addr]int
}

// take counts a connection unless it is too much.
func (l *tcpLimit) take(from netip.Addr) bool {
	from = limitedAs(from)
	if l.open >= l.most || l.by[from] >= l.perAddress {
		return false
	}
	l.open++
	l.by[from]++
	return true
}

func (l *tcpLimit) release(from netip.Addr) {
	from = limitedAs(from)
	l.open--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

func limitedAs(a netip.Addr) netip.Addr {
	a = a.WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().Addr()
	}
	return a
}

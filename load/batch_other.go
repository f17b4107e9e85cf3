//go:build !linux || (!amd64 && !arm64)

package load

import (
	"net"
	"net/netip"
	"time"
)

// batchFull: after so many datagrams there may be more.
const batchFull = 1

// napped: nobody but us notes when a datagram came.
const napped = false

func prepare(*net.UDPConn) error { return nil }

// reader reads one socket, a datagram at a time.
type reader struct {
	conn    *net.UDPConn
	dropped uint32 // not known here
	buffer  [1600]byte
}

func newReader(conn *net.UDPConn) (*reader, error) { return &reader{conn: conn}, nil }

// read waits for a datagram and hands it to take with its sender and the time.
func (r *reader) read(clock func() time.Duration, take func(datagram []byte, from netip.AddrPort, at time.Duration)) (int, error) {
	n, from, err := r.conn.ReadFromUDPAddrPort(r.buffer[:])
	if err != nil {
		return 0, err
	}
	take(r.buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), clock())
	return 1, nil
}

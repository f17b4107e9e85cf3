//go:build !linux

package udp

import (
	"fmt"
	"net"
)

// socket is what Listen opens on systems without batches: nothing but a conn.
type socket = conn

// Listen opens the port: one socket, with plain reads and writes. A write may wait for room in the kernel's buffer.
func Listen(cfg Config) (*Port, error) {
	if cfg.Sockets < 0 || cfg.Sockets > maxSockets {
		return nil, fmt.Errorf("%d UDP sockets: want 0 to %d", cfg.Sockets, maxSockets)
	}
	c, err := net.ListenPacket(network(cfg.Addr), cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening on UDP %s: %w", cfg.Addr, err)
	}
	if u, ok := c.(*net.UDPConn); ok && cfg.Buffer > 0 {
		// The kernel's maximum may be lower, which is no error worth stopping for.
		_ = u.SetReadBuffer(cfg.Buffer)
		_ = u.SetWriteBuffer(cfg.Buffer)
	}
	return Over(c, cfg), nil
}

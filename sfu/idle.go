package sfu

import (
	"net/netip"
	"runtime"
)

// Pion starts an SRTP and an SRTCP session for each peer connection, whatever its settings. Nothing comes to them and they
// send nothing, as SRTP is the plane's; but each has a goroutine that reads into a buffer of 8 KB, and another that awaits
// streams from it: per peer connection four goroutines and about 35 KB. Pion ends them with DTLS alone. What it lets us do is
// hear what a session's reader logs: one line for a packet that isn't authentic. So that packet we send it, once, and
// the goroutine ends in our logger by [runtime.Goexit], which runs the reader's own deferred cleaning up. The session is a
// closed one then, to all others in Pion.

// idleSession is the logger of Pion's SRTP sessions.
type idleSession struct{ pionLog }

// Info is called for a packet that isn't authentic, by the goroutine that reads a session's packets and holding no lock.
func (idleSession) Info(string) { runtime.Goexit() }

// Packets without anything but a header: RTP, and an empty receiver report.
var (
	forgedRTP  = []byte{0x80, 0x7f, 11: 0}
	forgedRTCP = []byte{0x80, 201, 0, 1, 7: 0}
)

// endSessions ends Pion's SRTP sessions. The DTLS handshake must be over. If a packet is lost, they stay.
func (p *plane) endSessions() {
	g := p.generation()
	p.mu.Lock()
	var from netip.AddrPort // where the agent takes packets from
	tcp := len(p.streams) > 0
	if tcp {
		from = p.streams[0].remote()
	} else if len(p.addresses) > 0 {
		from = p.addresses[0]
	}
	p.mu.Unlock()
	if g == nil || !from.IsValid() {
		return
	}
	g.push(forgedRTP, from, tcp)
	g.push(forgedRTCP, from, tcp)
}

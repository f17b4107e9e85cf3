package turn

import "sync/atomic"

// Stats are the server's counts since it started, except where they say "now".
type Stats struct {
	Allocations int // now
	Users       int // now: identities with an allocation
	Connections int // now: over TCP and TLS

	AllocationsMade uint64
	// BytesUp and PacketsUp went from clients to the SFU, the others back.
	BytesUp, PacketsUp, BytesDown, PacketsDown uint64

	// RefusedCredentials counts requests with unknown, expired or wrong credentials.
	RefusedCredentials uint64
	// OverQuota counts allocations refused because of a limit.
	OverQuota uint64
	// ForbiddenPeers counts permissions asked for, channels bound and packets addressed to
	// what isn't one of our SFU's addresses, or is one without a permission. Strangers counts packets
	// that came from there.
	ForbiddenPeers, Strangers uint64
	// OverBandwidth counts packets dropped because their user is over the limit.
	OverBandwidth uint64
	// Congested counts those of PacketsDown that were dropped after all because their client, on a
	// connection, takes them in too slowly.
	Congested uint64
	// Limited counts messages other than data that were dropped, or on a connection with an allocation
	// delayed, because their sender sent too many. Garbage counts messages dropped because they aren't
	// TURN, or not of a sender without an allocation (a stream that carries such is closed), and
	// ChannelData on channels that aren't bound.
	Limited, Garbage uint64
	// RefusedConnections were over a limit. TimedOutConnections were too slow: no allocation
	// in time, an unfinished message, a reader that doesn't read, or silent for too long.
	// FailedHandshakes ended before TLS was up, in time or not.
	RefusedConnections, TimedOutConnections, FailedHandshakes uint64
	// WriteErrors counts packets that the system refused to send to the SFU.
	WriteErrors uint64
}

type counters struct {
	made, bytesUp, packetsUp, bytesDown, packetsDown        atomic.Uint64
	refusedCredentials, overQuota, forbidden, strangers     atomic.Uint64
	overBandwidth, congested, limited, garbage              atomic.Uint64
	refusedConnections, timedOut, failedHandshakes, writing atomic.Uint64
}

// Stats returns the counts. Safe at any time, after Close too.
func (s *Server) Stats() Stats {
	c := &s.stats
	allocations, users := s.quota.counts()
	oversize := uint64(0) // too long to be given to us
	for _, p := range s.ports {
		oversize += p.Stats().Oversize
	}
	return Stats{
		Allocations:         allocations,
		Users:               users,
		Connections:         s.gate.connections(),
		AllocationsMade:     c.made.Load(),
		BytesUp:             c.bytesUp.Load(),
		PacketsUp:           c.packetsUp.Load(),
		BytesDown:           c.bytesDown.Load(),
		PacketsDown:         c.packetsDown.Load(),
		RefusedCredentials:  c.refusedCredentials.Load(),
		OverQuota:           c.overQuota.Load(),
		ForbiddenPeers:      c.forbidden.Load(),
		Strangers:           c.strangers.Load(),
		OverBandwidth:       c.overBandwidth.Load(),
		Congested:           c.congested.Load(),
		Limited:             c.limited.Load(),
		Garbage:             c.garbage.Load() + oversize,
		RefusedConnections:  c.refusedConnections.Load(),
		TimedOutConnections: c.timedOut.Load(),
		FailedHandshakes:    c.failedHandshakes.Load(),
		WriteErrors:         c.writing.Load(),
	}
}

package turn

import (
	"encoding/binary"
	"net/netip"
	"time"

	"anytime/sfu/udp"
)

// outlet leads back to a client: over the UDP port that it asked, or over its connection.
type outlet interface {
	// send puts each datagram of a run into its envelope and sends it. It neither waits nor keeps the buffer.
	send(e envelope, run udp.Run)
}

// up forwards what a client sends to a peer, as ChannelData or as a Send indication, and reports whether the message was
// such. Everything else is for Pion. It runs on the goroutine that received the message, and allocates nothing.
func (r *relay) up(what kind, b []byte, at time.Duration) bool {
	var peer netip.AddrPort
	switch what {
	case channelData:
		// RFC 8656, section 12.6: what comes on a channel that isn't bound is discarded.
		open := false
		if peer, open = r.bindings.Load().bound(binary.BigEndian.Uint16(b)); !open {
			r.s.stats.garbage.Add(1)
			return true
		}
		b = b[channelHeader:][:binary.BigEndian.Uint16(b[2:])]
	case indication:
		var ok bool
		if peer, b, ok = parseSend(b); !ok {
			return false
		}
		// Section 11.2: without a permission "the server silently discards".
		if !r.bindings.Load().permits(peer.Addr()) {
			r.s.stats.forbidden.Add(1)
			return true
		}
	default:
		return false
	}
	r.toPeer(b, peer, at)
	return true
}

// toPeer sends a packet to one of the SFU's addresses. A packet to anywhere else, or over the user's limit, is dropped as if
// it were lost on the way.
func (r *relay) toPeer(b []byte, peer netip.AddrPort, at time.Duration) {
	stats := &r.s.stats
	real, ok := r.s.peers.Load().to[peer]
	if !ok {
		stats.forbidden.Add(1)
		return
	}
	if !r.user.up.take(at, len(b)) {
		stats.overBandwidth.Add(1)
		return
	}
	if r.conn == nil {
		if len(b) > 0 { // nothing in WebRTC is empty
			r.inward(b, peer)
		}
	} else if _, err := r.conn.WriteToUDPAddrPort(b, real); err != nil {
		stats.writing.Add(1)
		return
	}
	stats.packetsUp.Add(1)
	stats.bytesUp.Add(uint64(len(b)))
}

// deliver forwards what an address sent to the relay, a run of one or more datagrams, to the client. It runs on the sender's
// goroutine, or on the reader's of the relay's socket, and allocates nothing.
func (r *relay) deliver(from netip.AddrPort, run udp.Run) {
	stats := &r.s.stats
	n, bytes := run.Datagrams(), len(run.Buffer)
	// RFC 8656, section 11.3: without a permission "the server silently discards".
	peer, ok := r.s.peers.Load().from[plain(from)]
	e, permitted := r.bindings.Load().envelope(peer)
	if !ok || !permitted {
		stats.strangers.Add(uint64(n))
		return
	}
	if at := r.s.clock(); !r.user.down.take(at, bytes) {
		// What the bucket still has room for, in order.
		var rest udp.Run
		if run, rest = r.affordable(run, at); len(rest.Buffer) > 0 {
			stats.overBandwidth.Add(uint64(rest.Datagrams()))
		}
		if n, bytes = run.Datagrams(), len(run.Buffer); bytes == 0 {
			return
		}
	}
	r.back.send(e, run)
	stats.packetsDown.Add(uint64(n))
	stats.bytesDown.Add(uint64(bytes))
}

// affordable cuts a run where the user's bucket ends.
func (r *relay) affordable(run udp.Run, at time.Duration) (first, rest udp.Run) {
	first, rest = run, run
	passed := 0
	for passed < len(run.Buffer) {
		n := len(next(run, passed))
		if !r.user.down.take(at, n) {
			break
		}
		passed += n
	}
	first.Buffer, rest.Buffer = run.Buffer[:passed], run.Buffer[passed:]
	return first, rest
}

// next is the datagram of a run that begins at an offset.
func next(run udp.Run, at int) []byte {
	rest := run.Buffer[at:]
	if run.Size > 0 && len(rest) > run.Size {
		return rest[:run.Size]
	}
	return rest
}

package sfu

import (
	"sync"

	"anytime/sfu/udp"
)

// planeSink is the seam above: it puts a run together, protects it where it lies and sends it. It is used by one egress, which
// calls it with its lock held.
type planeSink struct {
	plane *plane
	runs  [maxRun]udp.Run
	pads  [maxRun]byte
}

// maxEqualising is how many bytes of padding a packet gets at most to be as long as the others of its run.
const maxEqualising = 8

// length is that of the packet.
func (g *segment) length() int { return len(g.header) + len(g.prefix) + len(g.payload) }

// equalise decides on the padding that makes runs of packets that have nearly the same length: the kernel cuts runs into pieces of
// one size, of which the last may be shorter, and packetizers make those at the end of a frame a byte longer.
func equalise(run []segment, pads *[maxRun]byte) {
	clear(pads[:len(run)])
	for i := 0; i < len(run); {
		least, most := run[i].length(), run[i].length()
		j := i + 1
		for ; j < len(run); j++ {
			n := run[j].length()
			if max(most, n)-min(least, n) > maxEqualising {
				break
			}
			least, most = min(least, n), max(most, n)
		}
		for k := i; k < j-1; k++ { // the last may be shorter
			if run[k].pads {
				pads[k] = byte(most - run[k].length())
			}
		}
		i = j
	}
}

// pad appends padding to a packet that has none, RFC 3550 section 5.1: the padding bit is set in its header, and the last byte
// tells how many there are.
func pad(packet []byte, n byte) []byte {
	packet[0] |= 0x20
	for range n - 1 {
		packet = append(packet, 0)
	}
	return append(packet, n)
}

// maxSegment bounds one packet of a run, with padding and protection.
const maxSegment = maxHeader + maxPrefix + largePacket + maxEqualising + maxTag

// runBuffers are what runs are put together in.
var runBuffers = sync.Pool{New: func() any { return new([maxRun * maxSegment]byte) }}

// sendRun implements sink. Packets of one size, or nearly so ([equalise]), that follow each other make one run for the kernel; a
// shorter one ends it.
func (k *planeSink) sendRun(run []segment) int {
	seal := k.plane.seal.Load()
	if seal == nil {
		return 0
	}
	buffer := runBuffers.Get().(*[maxRun * maxSegment]byte)
	equalise(run, &k.pads)
	n, start, size, at := 0, 0, 0, 0 // runs, where the one being made starts, its packets' size, its end
	for i := range run {
		g := &run[i]
		end := at + copy(buffer[at:], g.header)
		end += copy(buffer[end:], g.prefix)
		end += copy(buffer[end:], g.payload)
		packet := buffer[at : end : at+maxSegment]
		if k.pads[i] > 0 {
			packet = pad(packet, k.pads[i])
		}
		b, err := seal.seal(packet, len(g.header))
		if err != nil {
			continue
		}
		switch length := len(b); {
		case at == start: // the first of its run
			size = length
		case length > size || (at-start)%size != 0: // too long, or the one before was shorter
			k.runs[n] = udp.Run{Buffer: buffer[start:at], Size: size}
			n++
			start, size = at, length
		}
		at += len(b)
	}
	if at > start {
		k.runs[n] = udp.Run{Buffer: buffer[start:at], Size: size}
		n++
	}
	sent := k.plane.send(k.runs[:n])
	clear(k.runs[:n])
	runBuffers.Put(buffer)
	return sent
}

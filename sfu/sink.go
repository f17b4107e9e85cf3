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
}

// maxSegment bounds one packet of a run, with its protection.
const maxSegment = maxHeader + maxPrefix + largePacket + maxTag

// runBuffers are what runs are put together in.
var runBuffers = sync.Pool{New: func() any { return new([maxRun * maxSegment]byte) }}

// sendRun implements sink. Packets of one size that follow each other make one run for the kernel; a shorter one ends it.
func (k *planeSink) sendRun(run []segment) int {
	seal := k.plane.seal.Load()
	if seal == nil {
		return 0
	}
	buffer := runBuffers.Get().(*[maxRun * maxSegment]byte)
	n, start, size, at := 0, 0, 0, 0 // runs, where the one being made starts, its packets' size, its end
	for i := range run {
		g := &run[i]
		end := at + copy(buffer[at:], g.header)
		end += copy(buffer[end:], g.prefix)
		end += copy(buffer[end:], g.payload)
		b, err := seal.seal(buffer[at:end:at+maxSegment], len(g.header))
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

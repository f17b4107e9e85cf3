package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// stamp is what the body of every media packet begins with: who sent it, when, and what follows. It is written in groups of
// 7 bits with the high bit set, and so is the pattern after it: no body has a zero byte, so that none can look like a start
// code (ITU-T H.264 §7.4.1.1).
type stamp struct {
	run       uint32        // of this run of the generator, 28 bits
	publisher uint16        // 14 bits
	layer     uint8         // 7 bits; audio: audioLayer
	frame     uint32        // number of the frame, 28 bits
	index     uint16        // of the packet in its frame, 14 bits
	size      uint16        // of the body with the stamp, in bytes, 14 bits
	sent      time.Duration // when it was sent, by the generator's monotonic clock
}

const (
	stampMagic = 0x2b6d // 14 bits
	// stampSize is the length of a stamp in bytes.
	stampSize = 2 + 4 + 2 + 1 + 4 + 2 + 2 + 9 + 2
	// audioLayer is the layer of audio packets.
	audioLayer = 127
)

var (
	errNoStamp  = errors.New("the packet carries no stamp of the load generator")
	errMismatch = errors.New("the packet's content is not what was sent")
)

// groups writes the lowest 7·len(b) bits of v.
func groups(b []byte, v uint64) []byte {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(v) | 0x80
		v >>= 7
	}
	return b
}

// value reads what groups wrote.
func value(b []byte) (v uint64) {
	for _, x := range b {
		v = v<<7 | uint64(x&0x7f)
	}
	return v
}

// checksum of a stamp's bytes, 14 bits.
func checksum(b []byte) uint64 {
	sum := uint64(0x1d0f)
	for _, x := range b {
		sum = sum*131 + uint64(x)
	}
	return sum & 0x3fff
}

// body fills b, which is stampSize long at least, with the stamp and the pattern that belongs to it.
func (s stamp) body(b []byte) {
	groups(b[0:2], stampMagic)
	groups(b[2:6], uint64(s.run))
	groups(b[6:8], uint64(s.publisher))
	groups(b[8:9], uint64(s.layer))
	groups(b[9:13], uint64(s.frame))
	groups(b[13:15], uint64(s.index))
	groups(b[15:17], uint64(len(b)))
	groups(b[17:26], uint64(s.sent))
	groups(b[26:28], checksum(b[:26]))
	pattern := s.seed()
	rest := b[stampSize:]
	for ; len(rest) >= 8; rest = rest[8:] {
		binary.LittleEndian.PutUint64(rest, pattern|high)
		pattern = pattern*step + 1
	}
	for i := range rest {
		rest[i] = byte(pattern>>(8*i)) | 0x80
	}
}

const (
	high = 0x8080808080808080
	step = 6364136223846793005 // Knuth's MMIX
)

// seed of the pattern: it differs from packet to packet, but not with the time.
func (s stamp) seed() uint64 {
	return (uint64(s.publisher)<<50 | uint64(s.layer)<<43 | uint64(s.frame)<<14 | uint64(s.index)) * 0x9e3779b97f4a7c15
}

// verify reads a body and checks all of it.
func verify(b []byte) (stamp, error) {
	if len(b) < stampSize || value(b[0:2]) != stampMagic || value(b[26:28]) != checksum(b[:26]) {
		return stamp{}, errNoStamp
	}
	s := stamp{
		run: uint32(value(b[2:6])), publisher: uint16(value(b[6:8])), layer: uint8(value(b[8:9])), frame: uint32(value(b[9:13])),
		index: uint16(value(b[13:15])), size: uint16(value(b[15:17])), sent: time.Duration(value(b[17:26])),
	}
	if int(s.size) != len(b) {
		return s, fmt.Errorf("%w: %d bytes arrived of %d", errMismatch, len(b), s.size)
	}
	pattern := s.seed()
	rest := b[stampSize:]
	for ; len(rest) >= 8; rest = rest[8:] {
		if binary.LittleEndian.Uint64(rest) != pattern|high {
			return s, errMismatch
		}
		pattern = pattern*step + 1
	}
	for i := range rest {
		if rest[i] != byte(pattern>>(8*i))|0x80 {
			return s, errMismatch
		}
	}
	return s, nil
}

package sfu

import (
	"encoding/binary"
	"errors"
	"sync"
)

const (
	// maxTCPFrame is the longest packet that is taken or sent, in bytes.
	maxTCPFrame = 8192
	// frameHeader is the length in front of each packet, in bytes.
	frameHeader = 2
)

var errFrameTooLong = errors.New("frame too long")

// tcpFrames takes the frames off a byte stream (RFC 4571 section 2: 16 bits of length, then as many bytes). What is read
// goes to [tcpFrames.room] and is then told with [tcpFrames.filled]; the frames stay where they were read.
type tcpFrames struct {
	b        []byte // of one frame at least
	from, to int    // what has been read and not taken
}

var frameBuffers = sync.Pool{New: func() any { return new([frameHeader + maxTCPFrame]byte) }}

// next returns the next frame, nil when more must be read first. The frame may be changed; it is valid until room is asked
// for. An error is for good.
func (f *tcpFrames) next() ([]byte, error) {
	for f.to-f.from >= frameHeader {
		n := int(binary.BigEndian.Uint16(f.b[f.from:]))
		if n > maxTCPFrame {
			return nil, errFrameTooLong
		}
		end := f.from + frameHeader + n
		if end > f.to {
			break
		}
		b := f.b[f.from+frameHeader : end : end]
		f.from = end
		if n > 0 { // RFC 4571 section 2: a length of zero is legal and codes the null packet
			return b, nil
		}
	}
	return nil, nil
}

// room returns where to read to, once next has returned nil: a byte at least.
func (f *tcpFrames) room() []byte {
	if f.from > 0 {
		f.to = copy(f.b, f.b[f.from:f.to])
		f.from = 0
	}
	return f.b[f.to:]
}

// filled tells that n bytes have been read to the room.
func (f *tcpFrames) filled(n int) { f.to += n }

package sfu

import (
	"bytes"
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

const (
	stunHeader         = 20 // bytes
	stunBindingRequest = 0x0001
	stunCookie         = 0x2112a442
	stunUsername       = 0x0006
	stunIntegrity      = 0x0008
	stunIntegrity256   = 0x001c
	// maxUfrag is in bytes: RFC 8839 section 5.4.
	maxUfrag = 256
)

// checkedUfrag returns the user fragment that a connectivity check names as its receiver's: what stands before the colon of
// the USERNAME (RFC 8445 section 7.2.2) of a STUN binding request (RFC 8489 section 5). It is "" of anything else.
func checkedUfrag(b []byte) string {
	if len(b) < stunHeader || binary.BigEndian.Uint16(b) != stunBindingRequest || binary.BigEndian.Uint32(b[4:]) != stunCookie {
		return ""
	}
	// Attributes are padded to four bytes, so their length as a whole is a multiple of it.
	if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b)-stunHeader || n%4 != 0 {
		return ""
	}
	for b = b[stunHeader:]; len(b) >= 4; {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
		if n > len(b) {
			return ""
		}
		switch kind {
		case stunUsername:
			ufrag, _, ok := bytes.Cut(b[:n], []byte{':'})
			if !ok || len(ufrag) > maxUfrag {
				return ""
			}
			return string(ufrag)
		case stunIntegrity, stunIntegrity256: // RFC 8489 section 14.5: what follows it is ignored
			return ""
		}
		b = b[(n+3)&^3:] // len(b) is a multiple of four
	}
	return ""
}

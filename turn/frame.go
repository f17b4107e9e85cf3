package turn

import (
	"encoding/binary"
	"errors"
)

const (
	stunHeader    = 20
	channelHeader = 4
	magicCookie   = 0x2112A442 // RFC 8489, section 5

	// maxMessage is the longest message taken from a client, in bytes. Pion's buffer is one
	// byte longer, and what fills that is taken for cut off. Media packets have at most 1500.
	maxMessage = 1599
)

var (
	errNotTURN = errors.New("neither a STUN message nor channel data")
	errTooLong = errors.New("message longer than 1599 bytes")
)

// messageSize returns the size on a stream of the message that b begins, padding included. more
// is set, and size is what must be read before asking again, when b doesn't tell yet.
//
// RFC 8656, section 12: the first two bits tell STUN (0b00) from channel data (0b01).
func messageSize(b []byte) (size int, more bool, err error) {
	if len(b) < 1 {
		return 1, true, nil
	}
	switch b[0] >> 6 {
	case 0b00:
		if len(b) < 8 {
			return 8, true, nil
		}
		if binary.BigEndian.Uint32(b[4:]) != magicCookie {
			return 0, false, errNotTURN
		}
		// RFC 8489, section 5: "the last 2 bits of this field are always zero".
		length := int(binary.BigEndian.Uint16(b[2:]))
		if length%4 != 0 {
			return 0, false, errNotTURN
		}
		size = stunHeader + length
	case 0b01:
		if len(b) < channelHeader {
			return channelHeader, true, nil
		}
		// RFC 8656, section 12.5: "Over TCP and TLS-over-TCP, the ChannelData message MUST be
		// padded to a multiple of four bytes". The length field doesn't count the padding.
		length := int(binary.BigEndian.Uint16(b[2:]))
		size = channelHeader + (length+3)&^3
	default:
		return 0, false, errNotTURN
	}
	if size > maxMessage {
		return 0, false, errTooLong
	}
	return size, false, nil
}

// kind is what a message is, as far as its first bytes tell.
type kind uint8

const (
	garbage kind = iota
	request
	indication // or a response, which a server has no use for
	channelData
)

// kindOf looks at a whole message. Over UDP channel data needs no padding.
func kindOf(b []byte) kind {
	if len(b) < channelHeader {
		return garbage
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	switch b[0] >> 6 {
	case 0b00:
		if len(b) < stunHeader || length%4 != 0 || len(b) != stunHeader+length || binary.BigEndian.Uint32(b[4:]) != magicCookie {
			return garbage
		}
		// RFC 8489, section 5: the class is bits 4 and 8 of the type, both zero in a request.
		if binary.BigEndian.Uint16(b)&0x0110 == 0 {
			return request
		}
		return indication
	case 0b01:
		if len(b) < channelHeader+length {
			return garbage
		}
		return channelData
	}
	return garbage
}

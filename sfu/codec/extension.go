package codec

import (
	"encoding/binary"
	"time"
)

// Profile words of RFC 8285.
const (
	profileOneByte = 0xbede // section 4.2
	profileTwoByte = 0x100  // section 4.3: these 12 bits, then 4 application bits
)

// URIs of the header extensions that the server uses, as they stand in a=extmap.
const (
	URIMid               = "urn:ietf:params:rtp-hdrext:sdes:mid"
	URIRid               = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	URIRepairedRid       = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	URIAudioLevel        = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	URITransportSequence = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	URIAbsSendTime       = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
	URIVideoOrientation  = "urn:3gpp:video-orientation"
	URIDependency        = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

// Extensions iterates over the header extension elements of one packet. The zero value is empty.
type Extensions struct {
	rest    []byte
	twoByte bool
}

// Extensions returns the elements of the header extension in b, the bytes that were parsed. A profile that RFC 8285
// doesn't define has none.
func (h *Header) Extensions(b []byte) Extensions {
	e := Extensions{rest: b[h.ExtensionStart:h.ExtensionEnd]}
	switch {
	case h.Profile == profileOneByte:
	case h.Profile>>4 == profileTwoByte:
		e.twoByte = true
	default:
		e.rest = nil
	}
	return e
}

// Next returns the next element; value points into the packet. ok is false at the end or at the first malformed element,
// as the rest can't be told apart then.
func (e *Extensions) Next() (id uint8, value []byte, ok bool) {
	for len(e.rest) > 0 {
		b := e.rest[0]
		// RFC 8285 sections 4.2 and 4.3: a byte of 0 between elements is padding.
		if b == 0 {
			e.rest = e.rest[1:]
			continue
		}
		var n, header int
		if e.twoByte {
			if len(e.rest) < 2 {
				break
			}
			id, n, header = b, int(e.rest[1]), 2
		} else {
			id = b >> 4
			// Section 4.2: "The 4-bit length is the number, minus one, of data bytes"; "If the ID value 15 is encountered, its
			// length field MUST be ignored, processing of the entire extension MUST terminate at that point". An ID of 0 with a
			// length is nobody's and skipped.
			n, header = int(b&0x0f)+1, 1
			if id == 15 {
				break
			}
		}
		if len(e.rest) < header+n {
			break
		}
		value = e.rest[header : header+n : header+n]
		e.rest = e.rest[header+n:]
		if id == 0 {
			continue
		}
		return id, value, true
	}
	e.rest = nil
	return 0, nil, false
}

// Extension returns the first element with this id, nil if there is none.
func (h *Header) Extension(b []byte, id uint8) []byte {
	for e := h.Extensions(b); ; {
		got, value, ok := e.Next()
		if !ok {
			return nil
		}
		if got == id {
			return value
		}
	}
}

// ParseAudioLevel reads the client-to-mixer audio level of RFC 6464: level in -dBov (0 the loudest, 127 silence).
func ParseAudioLevel(value []byte) (level uint8, voice, ok bool) {
	// RFC 6464 section 3: "V" flags voice activity, the level takes 7 bits. In the two-byte form a second byte of padding
	// may stand behind.
	if len(value) < 1 {
		return 127, false, false
	}
	return value[0] & 0x7f, value[0]&0x80 != 0, true
}

// PutTransportSequence writes a transport-wide sequence number over the two bytes of v
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
func PutTransportSequence(v []byte, sequence uint16) { binary.BigEndian.PutUint16(v, sequence) }

// PutAbsSendTime writes an absolute send time over the three bytes of v: 24 bits, 6.18 fixed point seconds.
// Only differences matter, so any clock will do.
func PutAbsSendTime(v []byte, now time.Duration) {
	t := uint64(now%(64*time.Second)) << 18 / uint64(time.Second)
	v[0], v[1], v[2] = byte(t>>16), byte(t>>8), byte(t)
}

package codec

import "encoding/binary"

// MaxPacket is the largest datagram that [ParseHeader] takes, in bytes.
const MaxPacket = 65535

// Header is an RTP fixed header, with the bounds of what follows as offsets into the parsed bytes. It holds no slice, so
// it may be kept beside a pooled buffer and copied freely.
type Header struct {
	SSRC, Timestamp uint32
	Sequence        uint16
	PayloadType     uint8 // 7 bits
	Marker          bool
	// Profile is the "defined by profile" word of the header extension, 0 without one.
	Profile uint16
	// ExtensionStart and ExtensionEnd bound the extension elements, without the four bytes of profile and length.
	ExtensionStart, ExtensionEnd uint16
	// PayloadStart and PayloadEnd bound the payload, padding removed. Equal bounds are a padding-only packet.
	PayloadStart, PayloadEnd uint16
}

// Payload returns the payload inside b, the bytes that were parsed.
func (h *Header) Payload(b []byte) []byte { return b[h.PayloadStart:h.PayloadEnd:h.PayloadEnd] }

// PaddingOnly reports whether the packet has no payload.
func (h *Header) PaddingOnly() bool { return h.PayloadStart == h.PayloadEnd }

// ParseHeader reads an RTP packet without copying. It is strict: version 2, all parts inside b, padding count sane.
func ParseHeader(b []byte) (h Header, err error) {
	n, err := h.parse(b)
	if err != nil {
		return h, err
	}
	end := len(b)
	// RFC 3550 section 5.1: "padding (P): … The last octet of the padding contains a count of how many padding octets should be
	// ignored, including itself."
	if b[0]&0x20 != 0 {
		count := int(b[end-1])
		if count == 0 || n+count > end {
			return h, ErrMalformed
		}
		end -= count
	}
	h.PayloadStart, h.PayloadEnd = uint16(n), uint16(end)
	return h, nil
}

// ParseClear reads the header of a packet whose payload, padding included, is encrypted (RFC 3711 section 3.1): its bounds are
// not looked for but for where it starts.
func ParseClear(b []byte) (h Header, err error) {
	n, err := h.parse(b)
	h.PayloadStart, h.PayloadEnd = uint16(n), uint16(len(b))
	return h, err
}

// parse reads all before the payload and returns its length in bytes.
func (h *Header) parse(b []byte) (n int, err error) {
	if len(b) < 12 {
		return 0, ErrTruncated
	}
	// RFC 3550 section 5.1: "version (V): 2 bits … The version defined by this specification is two (2)."
	if len(b) > MaxPacket || b[0]>>6 != 2 {
		return 0, ErrMalformed
	}
	h.Marker = b[1]&0x80 != 0
	h.PayloadType = b[1] & 0x7f
	h.Sequence = binary.BigEndian.Uint16(b[2:])
	h.Timestamp = binary.BigEndian.Uint32(b[4:])
	h.SSRC = binary.BigEndian.Uint32(b[8:])
	// "CSRC count (CC): 4 bits The CSRC count contains the number of CSRC identifiers that follow the fixed header."
	n = 12 + 4*int(b[0]&0x0f)
	// "extension (X): 1 bit If the extension bit is set, the fixed header MUST be followed by exactly one header extension."
	if b[0]&0x10 != 0 {
		// Section 5.3.1: "a 16-bit length field that counts the number of 32-bit words in the extension, excluding the
		// four-octet extension header (therefore zero is a valid length)."
		if len(b) < n+4 {
			return 0, ErrTruncated
		}
		h.Profile = binary.BigEndian.Uint16(b[n:])
		words := int(binary.BigEndian.Uint16(b[n+2:]))
		n += 4
		if len(b) < n+4*words {
			return 0, ErrTruncated
		}
		h.ExtensionStart, h.ExtensionEnd = uint16(n), uint16(n+4*words)
		n += 4 * words
	}
	if len(b) < n {
		return 0, ErrTruncated
	}
	return n, nil
}

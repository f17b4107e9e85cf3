package codec

import "encoding/binary"

// Writer builds a fresh RTP header at the beginning of a buffer: fixed part, extension elements, then [Writer.Finish].
// It is a value; it doesn't allocate.
type Writer struct {
	b       []byte
	n       int
	twoByte bool
	begun   bool // the extension header has been reserved
}

// NewWriter writes the fixed part (RFC 3550 section 5.1, no CSRC) into b, which must have room for 12 bytes.
func NewWriter(b []byte, marker bool, payloadType uint8, sequence uint16, timestamp, ssrc uint32) Writer {
	_ = b[11]
	b[0] = 2 << 6
	b[1] = payloadType & 0x7f
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return Writer{b: b, n: 12}
}

// TwoByte selects the two-byte form of RFC 8285 section 4.3. Call it before the first element, and only when the
// receiver negotiated a=extmap-allow-mixed.
func (w *Writer) TwoByte() { w.twoByte = !w.begun || w.twoByte }

// Extension adds one element and returns the offset of its value in the buffer, so that it can be overwritten later
// (transport-wide sequence number at the moment of sending). ok is false, and nothing was written, when id or length
// don't fit the form (one-byte: id 1–14, 1–16 bytes; two-byte: id 1–255, 0–255 bytes) or the buffer is full.
func (w *Writer) Extension(id uint8, value []byte) (offset int, ok bool) {
	n, header := w.n, 1
	if !w.begun {
		n += 4
	}
	if w.twoByte {
		header = 2
		if id == 0 || len(value) > 255 {
			return 0, false
		}
	} else if id == 0 || id > 14 || len(value) == 0 || len(value) > 16 {
		return 0, false
	}
	if n+header+len(value)+3 > len(w.b) { // 3: padding to the next word
		return 0, false
	}
	if w.twoByte {
		w.b[n], w.b[n+1] = id, uint8(len(value))
	} else {
		w.b[n] = id<<4 | uint8(len(value)-1)
	}
	offset = n + header
	copy(w.b[offset:], value)
	w.begun = true
	w.n = offset + len(value)
	return offset, true
}

// Finish pads the extension to a word, writes its header and returns the length of the whole RTP header.
func (w *Writer) Finish() int {
	if !w.begun {
		return w.n
	}
	for w.n%4 != 0 {
		w.b[w.n] = 0
		w.n++
	}
	w.b[0] |= 0x10
	profile := uint16(profileOneByte)
	if w.twoByte {
		profile = profileTwoByte << 4
	}
	binary.BigEndian.PutUint16(w.b[12:], profile)
	binary.BigEndian.PutUint16(w.b[14:], uint16((w.n-16)/4))
	return w.n
}

package codec

// NAL unit types, RFC 6184 table 1 and ITU-T H.264 table 7-1.
const (
	h264Slice    = 1
	h264IDR      = 5
	h264SPS      = 7
	h264AUD      = 9
	h264LastUnit = 23
	h264STAPA    = 24
	h264FUA      = 28
)

// parseH264 reads an H.264 payload: single NAL unit, STAP-A or FU-A (RFC 6184 sections 5.6, 5.7.1, 5.8).
// Browsers use packetization-mode 0 and 1 only; the interleaved types are refused.
func parseH264(b []byte) (Descriptor, error) {
	d := Descriptor{Kind: H264}
	// RFC 6184 section 1.3: F(1) NRI(2) Type(5); of NRI, "A value of 00 indicates that the content of the NAL unit is not
	// used to reconstruct reference pictures for inter picture prediction." It says so of other units than slices, too.
	disposable := b[0]&0x60 == 0
	switch t := b[0] & 0x1f; {
	case t >= 1 && t <= h264LastUnit:
		d.HeaderLength = 1
		d.NonReference = disposable && t == h264Slice
		d.h264Unit(t, b[1:])
		return d, nil
	case t == h264STAPA:
		d.HeaderLength = 1
		// Section 5.7.1: "a 16-bit unsigned size information … followed by the NAL unit itself", repeated.
		for rest := b[1:]; ; {
			if len(rest) < 2 {
				return d, ErrTruncated
			}
			n := int(rest[0])<<8 | int(rest[1])
			rest = rest[2:]
			if n == 0 {
				return d, ErrMalformed
			}
			if n > len(rest) {
				return d, ErrTruncated
			}
			d.h264Unit(rest[0]&0x1f, rest[1:n])
			rest = rest[n:]
			if len(rest) == 0 {
				return d, nil
			}
		}
	case t == h264FUA:
		// Section 5.8: FU indicator, then FU header S E R Type(5).
		if len(b) < 2 {
			return d, ErrTruncated
		}
		d.HeaderLength = 2
		d.NonReference = disposable && b[1]&0x1f == h264Slice
		// "S: When set to one, the Start bit indicates the start of a fragmented NAL unit."
		if b[1]&0x80 != 0 {
			// "The Start bit and End bit MUST NOT both be set to one in the same FU header."
			if b[1]&0x40 != 0 {
				return d, ErrMalformed
			}
			d.h264Unit(b[1]&0x1f, b[2:])
		}
		return d, nil
	default:
		return d, ErrMalformed
	}
}

// h264Unit adds what one NAL unit, or its first fragment, says. body is what follows the NAL unit header.
func (d *Descriptor) h264Unit(t uint8, body []byte) {
	switch t {
	case h264SPS:
		d.ParameterSets, d.Keyframe, d.FrameStart = true, true, true
	case h264AUD:
		d.FrameStart = true
	case h264Slice, h264IDR:
		// ITU-T H.264 section 7.3.3: a slice header begins with first_mb_in_slice as ue(v), where zero is the single bit 1:
		// the first slice of a picture.
		first := len(body) > 0 && body[0]&0x80 != 0
		d.FrameStart = d.FrameStart || first
		if t == h264IDR && first {
			d.Keyframe = true
		}
	}
}

// NAL unit types, RFC 7798 section 1.1.4 and ITU-T H.265 table 7-1.
const (
	h265FirstTSA  = 2 // temporal sub-layer access …
	h265LastSTSA  = 5 // … and step-wise
	h265FirstIRAP = 16
	h265LastIRAP  = 21
	h265VPS       = 32
	h265SPS       = 33
	h265AP        = 48
	h265FU        = 49
	h265PACI      = 50
)

// parseH265 reads an H.265 payload: single NAL unit, aggregation packet or fragmentation unit (RFC 7798 section 4.4).
func parseH265(b []byte) (Descriptor, error) {
	d := Descriptor{Kind: H265}
	// RFC 7798 section 1.1.4: F(1) Type(6) LayerId(6) TID(3), where "TemporalId is equal to TID minus 1".
	if len(b) < 2 {
		return d, ErrTruncated
	}
	tid := b[1] & 0x07
	if tid == 0 { // "a TID value of 0 is illegal"
		return d, ErrMalformed
	}
	d.HasTemporal, d.Temporal = true, tid-1
	d.HeaderLength = 2
	switch t := b[0] >> 1 & 0x3f; {
	case t < h265AP:
		d.h265Unit(t, b[2:])
		return d, nil
	case t == h265AP:
		for rest := b[2:]; ; {
			if len(rest) < 2 {
				return d, ErrTruncated
			}
			n := int(rest[0])<<8 | int(rest[1])
			rest = rest[2:]
			if n < 2 {
				return d, ErrMalformed
			}
			if n > len(rest) {
				return d, ErrTruncated
			}
			d.h265Unit(rest[0]>>1&0x3f, rest[2:n])
			rest = rest[n:]
			if len(rest) == 0 {
				return d, nil
			}
		}
	case t == h265FU:
		if len(b) < 3 {
			return d, ErrTruncated
		}
		d.HeaderLength = 3
		if b[2]&0x80 != 0 { // section 4.4.3: S(1) E(1) FuType(6)
			if b[2]&0x40 != 0 {
				return d, ErrMalformed
			}
			d.h265Unit(b[2]&0x3f, b[3:])
		}
		return d, nil
	case t == h265PACI:
		return d, nil
	default:
		return d, ErrMalformed
	}
}

func (d *Descriptor) h265Unit(t uint8, body []byte) {
	switch {
	case t == h265VPS, t == h265SPS:
		d.ParameterSets, d.Keyframe, d.FrameStart = true, true, true
	case t < h265VPS:
		// ITU-T H.265 section 7.3.6.1: a slice segment header begins with first_slice_segment_in_pic_flag.
		first := len(body) > 0 && body[0]&0x80 != 0
		d.FrameStart = d.FrameStart || first
		// ITU-T H.265 section 7.4.2.2: neither a TSA nor an STSA picture, nor what follows it in its sub-layer, is predicted
		// from what went before in that sub-layer.
		d.LayerSync = d.LayerSync || t >= h265FirstTSA && t <= h265LastSTSA
		if first && t >= h265FirstIRAP && t <= h265LastIRAP {
			d.Keyframe = true
		}
	}
}

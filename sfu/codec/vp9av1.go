package codec

// parseVP9 reads the payload descriptor of RFC 9628 section 4.2 as far as the layer indices.
func parseVP9(b []byte) (Descriptor, error) {
	d := Descriptor{Kind: VP9}
	// First octet: I P L F B E V Z.
	first := b[0]
	n := 1
	// "I: Picture ID (PID) present": 7 bits, or 15 when its M bit is set.
	if first&0x80 != 0 {
		var err error
		if n, err = d.readPictureID(b, n); err != nil {
			return d, err
		}
	}
	d.Predicted = first&0x40 != 0   // "P: Inter-picture predicted frame"
	flexible := first&0x10 != 0     // "F: Flexible mode"
	d.FrameStart = first&0x08 != 0  // "B: Start of Frame"
	d.FrameEnd = first&0x04 != 0    // "E: End of Frame"
	d.NotForAbove = first&0x01 != 0 // "Z: Not a reference frame for upcoming spatial layers"
	// "L: Layer indices present": TID(3) U SID(3) D, then TL0PICIDX in non-flexible mode.
	if first&0x20 != 0 {
		if len(b) < n+1 {
			return d, ErrTruncated
		}
		d.HasTemporal = true
		d.Temporal = b[n] >> 5
		d.LayerSync = b[n]&0x10 != 0
		d.Spatial = b[n] >> 1 & 0x07
		d.FromBelow = b[n]&0x01 != 0
		n++
		if !flexible {
			if len(b) < n+1 {
				return d, ErrTruncated
			}
			d.HasTL0, d.TL0 = true, b[n]
			n++
		}
	}
	d.HeaderLength = uint16(n)
	// A picture is a keyframe's when its base layer neither predicts from earlier pictures nor from a lower layer.
	d.Keyframe = d.FrameStart && !d.Predicted && !d.FromBelow && d.Spatial == 0
	return d, nil
}

// parseAV1 reads the aggregation header of the AV1 RTP payload format, section 4.4. Layers are told by the dependency
// descriptor extension, not here.
func parseAV1(b []byte) (Descriptor, error) {
	// Z Y W(2) N. FrameStart says only that an OBU begins here.
	d := Descriptor{Kind: AV1, HeaderLength: 1}
	// Z: set "if the first OBU element is an OBU fragment that is a continuation of an OBU fragment from the previous packet".
	continued := b[0]&0x80 != 0
	newSequence := b[0]&0x08 != 0
	// N: "MUST be set to 1 if the packet is the first packet of a coded video sequence"; then Z must be 0.
	if newSequence && continued {
		return d, ErrMalformed
	}
	d.FrameStart = !continued
	d.Keyframe = newSequence
	return d, nil
}

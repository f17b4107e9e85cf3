package codec

// parseVP8 reads the payload descriptor of RFC 7741 section 4.2 and the first byte of the payload header, section 4.3.
func parseVP8(b []byte) (Descriptor, error) {
	d := Descriptor{Kind: VP8}
	// RFC 7741 section 4.2, first octet: X R N S R PID(3).
	first := b[0]
	n := 1
	// "N: Non-reference frame. When set to 1, the frame can be discarded without affecting any other future or past frames."
	d.NonReference = first&0x20 != 0
	// "S: Start of VP8 partition. SHOULD be set to 1 when the first payload octet of the RTP packet is the beginning of a
	// new VP8 partition"; partition 0 begins a frame.
	start := first&0x10 != 0
	d.FrameStart = start && first&0x07 == 0
	// "X: Extended control bits present."
	if first&0x80 != 0 {
		if len(b) < 2 {
			return d, ErrTruncated
		}
		ext := b[1]
		n = 2
		// "I: PictureID present."
		if ext&0x80 != 0 {
			var err error
			if n, err = d.readPictureID(b, n); err != nil {
				return d, err
			}
		}
		// "L: TL0PICIDX present."
		if ext&0x40 != 0 {
			if len(b) < n+1 {
				return d, ErrTruncated
			}
			d.HasTL0 = true
			d.TL0 = b[n]
			n++
		}
		// "T: TID present", "K: KEYIDX present": either brings the octet TID(2) Y KEYIDX(5).
		if ext&0x30 != 0 {
			if len(b) < n+1 {
				return d, ErrTruncated
			}
			if ext&0x20 != 0 {
				d.HasTemporal = true
				d.Temporal = b[n] >> 6
				// "Y: 1 layer sync bit … the frame depends only on the base layer (TID = 0) frame with TL0PICIDX equal to that
				// of the current frame." Without T, TID and Y mean nothing.
				d.LayerSync = b[n]&0x20 != 0
			}
			if ext&0x10 != 0 {
				d.HasKeyIndex = true
				d.KeyIndex = b[n] & 0x1f
			}
			n++
		}
	}
	d.HeaderLength = uint16(n)
	// Section 4.3: the payload header is present in "the first packet of the frame"; its bit P is "Inverse key frame flag.
	// When set to 0, the current frame is a key frame."
	if d.FrameStart {
		if len(b) <= n {
			return d, ErrTruncated
		}
		d.Keyframe = b[n]&0x01 == 0
	}
	return d, nil
}

// readPictureID reads the picture id at b[n:], which VP8 and VP9 write alike, and returns the offset after it.
func (d *Descriptor) readPictureID(b []byte, n int) (int, error) {
	if len(b) < n+1 {
		return n, ErrTruncated
	}
	d.HasPictureID = true
	// "M: The most significant bit of the first octet is an extension flag": 1 means 15 bits, 0 means 7.
	if b[n]&0x80 == 0 {
		d.PictureID = uint16(b[n])
		return n + 1, nil
	}
	if len(b) < n+2 {
		return n, ErrTruncated
	}
	d.LongPictureID = true
	d.PictureID = uint16(b[n]&0x7f)<<8 | uint16(b[n+1])
	return n + 2, nil
}

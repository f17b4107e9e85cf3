package codec

// parseRED walks the block headers of RFC 2198 section 3. HeaderLength is the offset of the primary block.
func parseRED(b []byte) (Descriptor, error) {
	d := Descriptor{Kind: RED, FrameStart: true, Keyframe: true}
	_, at, err := REDPrimary(b)
	if err != nil {
		return d, err
	}
	d.HeaderLength = uint16(at)
	return d, nil
}

// REDPrimary returns the payload type of a RED payload's primary block and the offset where its bytes begin (they run
// to the end of the payload). On an encrypted track the offsets mean nothing: such a track is left alone.
func REDPrimary(b []byte) (payloadType uint8, offset int, err error) {
	n, redundant := 0, 0
	for {
		if n >= len(b) {
			return 0, 0, ErrTruncated
		}
		// RFC 2198 section 3: "F: 1 bit First bit in header indicates whether another header block follows. If 1 further
		// header blocks follow, if 0 this is the last header block." The last one is a single octet.
		if b[n]&0x80 == 0 {
			payloadType = b[n] & 0x7f
			n++
			break
		}
		if n+4 > len(b) {
			return 0, 0, ErrTruncated
		}
		redundant += int(b[n+2]&0x03)<<8 | int(b[n+3]) // "block length: 10 bits"
		n += 4
	}
	if n+redundant > len(b) {
		return 0, 0, ErrTruncated
	}
	return payloadType, n + redundant, nil
}

package codec

import "time"

// longestOpus is the most audio in one Opus packet: RFC 6716 section 3.2.5, "the audio duration contained within a packet
// MUST NOT exceed 120 ms".
const longestOpus = 120 * time.Millisecond

// Duration returns the length of audio in a payload of Opus, or of RED with Opus in its primary block; 0 means unknown.
// It reads the first byte, which end-to-end encryption leaves clear, and the second only where the first asks for it.
func Duration(k Kind, payload []byte) time.Duration {
	if k == RED {
		_, at, err := REDPrimary(payload)
		if err != nil {
			return 0
		}
		k, payload = Opus, payload[at:]
	}
	if k != Opus || len(payload) == 0 {
		return 0
	}
	// RFC 6716 section 3.1: the TOC byte is config(5) s(1) c(2); table 2 gives the frame size of each config.
	var frame time.Duration
	switch config := payload[0] >> 3; {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		frame = [4]time.Duration{10, 20, 40, 60}[config&3] * time.Millisecond
	case config < 16: // hybrid: 10, 20 ms
		frame = 10 * time.Millisecond << (config & 1)
	default: // CELT: 2.5, 5, 10, 20 ms
		frame = 2500 * time.Microsecond << (config & 3)
	}
	// c: "0: 1 frame in the packet; 1: 2 frames …, each with equal compressed size; 2: 2 frames …, with different compressed
	// sizes; 3: an arbitrary number of frames", which the low six bits of the next byte count (section 3.2.5).
	n := 1
	switch payload[0] & 3 {
	case 1, 2:
		n = 2
	case 3:
		if len(payload) < 2 {
			return 0
		}
		n = int(payload[1] & 0x3f)
	}
	return min(time.Duration(n)*frame, longestOpus)
}

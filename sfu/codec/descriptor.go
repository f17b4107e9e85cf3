package codec

import "errors"

// Errors of the parsers. They carry no packet contents.
var (
	// ErrTruncated means that the bytes end inside a field.
	ErrTruncated = errors.New("codec: packet ends inside a header field")
	// ErrMalformed means that the bytes contradict their format.
	ErrMalformed = errors.New("codec: packet contradicts its format")
)

// Descriptor is what the forwarding unit knows of one payload. Fields that a format doesn't carry are zero.
type Descriptor struct {
	Kind Kind
	// FrameStart: the packet begins a frame (for audio: always). Where the format doesn't say (H.264 with encrypted
	// slices) it may be missing on a frame, so treat a new timestamp as a start too.
	FrameStart bool
	// Keyframe: a decoder that has nothing yet can start with this very packet.
	Keyframe bool
	// ParameterSets: the packet carries a sequence parameter set (H.264 and H.265).
	ParameterSets bool
	// NonReference: no later frame depends on this one.
	NonReference bool
	// LayerSync (VP8 Y, VP9 U): the frame depends only on the base temporal layer, so forwarding of its temporal layer
	// can begin here.
	LayerSync bool
	// HasTemporal: Temporal is known.
	HasTemporal bool
	// Temporal and Spatial are layer numbers, 0 the base.
	Temporal, Spatial uint8
	// HasPictureID: PictureID is known; LongPictureID: it has 15 bits instead of 7.
	HasPictureID, LongPictureID bool
	PictureID                   uint16
	// HasTL0: TL0 (VP8 TL0PICIDX) is known.
	HasTL0 bool
	TL0    uint8
	// HasKeyIndex: KeyIndex (VP8 KEYIDX, 5 bits) is known.
	HasKeyIndex bool
	KeyIndex    uint8
	// HeaderLength is the length in bytes of the payload descriptor in front of the codec's own bytes.
	HeaderLength uint16
}

// Parse reads the descriptor of one RTP payload (padding removed). An empty payload is [ErrTruncated]: padding-only
// packets must be told apart before. Formats that can't be read give a conservative answer: FrameStart and Keyframe.
func Parse(k Kind, payload []byte) (Descriptor, error) {
	if len(payload) == 0 {
		return Descriptor{Kind: k}, ErrTruncated
	}
	switch k {
	case RED:
		return parseRED(payload)
	case VP8:
		return parseVP8(payload)
	case H264:
		return parseH264(payload)
	case VP9:
		return parseVP9(payload)
	case AV1:
		return parseAV1(payload)
	case H265:
		return parseH265(payload)
	default:
		// RFC 7587 section 4.2: "An RTP payload MUST contain exactly one Opus packet": every packet is a whole frame and
		// decoding can begin at any of them. Unknown formats get the same answer, for lack of a better one.
		return Descriptor{Kind: k, FrameStart: true, Keyframe: true}, nil
	}
}

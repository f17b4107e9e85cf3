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
	// FrameEnd: the packet ends a frame; known of VP9 alone, where the marker ends all frames of a picture.
	FrameEnd bool
	// LayerSync: higher temporal layers can join. VP8 Y and H.265's temporal sub-layer access: the frame depends on lower
	// layers only, so its own layer can begin here. VP9 U: what follows in higher layers depends on nothing above this
	// frame's layer that went before.
	LayerSync bool
	// Predicted (VP9 P): the frame refers to earlier pictures. FromBelow (VP9 D): it refers to the lower spatial layer of its
	// picture. NotForAbove (VP9 Z): the next higher spatial layer doesn't refer to it.
	Predicted, FromBelow, NotForAbove bool
	// HasTemporal: Temporal is known.
	HasTemporal bool
	// Temporal and Spatial are layer numbers, 0 the base.
	Temporal, Spatial uint8
	// HasPictureID: PictureID is known; LongPictureID: it has 15 bits instead of 7.
	HasPictureID, LongPictureID bool
	PictureID                   uint16
	// HasTL0: TL0 (TL0PICIDX of VP8, and of VP9 in non-flexible mode) is known.
	HasTL0 bool
	TL0    uint8
	// HasKeyIndex: KeyIndex (VP8 KEYIDX, 5 bits) is known.
	HasKeyIndex bool
	KeyIndex    uint8
	// HeaderLength is the length in bytes of the payload descriptor in front of the codec's own bytes; of VP9's as far as
	// [Rewrite] changes it.
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

// Rewrite puts another picture id and TL0PICIDX into a payload of VP8 or VP9, whose descriptor is d. The size doesn't
// change: a 7-bit picture id stays one (the low bits of pictureID are taken), a field that is absent stays absent.
func Rewrite(payload []byte, d Descriptor, pictureID uint16, tl0 uint8) {
	if int(d.HeaderLength) > len(payload) {
		return
	}
	n := 0
	switch d.Kind {
	case VP8:
		n = 2 // RFC 7741 section 4.2: the picture id follows the two octets of flags, TL0PICIDX follows the picture id
	case VP9:
		n = 1 // RFC 9628 section 4.2: it follows the one octet of flags; the layer indices stand before TL0PICIDX
	default:
		return
	}
	if d.HasPictureID {
		if d.LongPictureID {
			payload[n] = 0x80 | uint8(pictureID>>8)
			payload[n+1] = uint8(pictureID)
			n += 2
		} else {
			payload[n] = uint8(pictureID) & 0x7f
			n++
		}
	}
	if d.HasTL0 {
		if d.Kind == VP9 {
			n++
		}
		payload[n] = tl0
	}
}

package codec

import "strings"

// Kind is a payload format. The zero value is [Unknown].
type Kind uint8

const (
	// Unknown is a format we can't read: it is forwarded without layers, and every packet may be a keyframe.
	Unknown Kind = iota
	// Audio is any audio format other than Opus and RED.
	Audio
	// Opus is RFC 7587.
	Opus
	// RED is redundant audio, RFC 2198.
	RED
	// VP8 is RFC 7741.
	VP8
	// H264 is RFC 6184.
	H264
	// VP9 is RFC 9628.
	VP9
	// AV1 is the AV1 RTP payload format of the Alliance for Open Media.
	AV1
	// H265 is RFC 7798.
	H265
)

var kindNames = [...]string{"unknown", "audio", "audio/opus", "audio/red", "video/VP8", "video/H264", "video/VP9", "video/AV1", "video/H265"}

// KindOf returns the kind of a media type as SDP and WebRTC name it ("video/VP8", any case).
func KindOf(mimeType string) Kind {
	for k := Opus; k <= H265; k++ {
		if strings.EqualFold(mimeType, kindNames[k]) {
			return k
		}
	}
	if len(mimeType) > 6 && strings.EqualFold(mimeType[:6], "audio/") {
		return Audio
	}
	return Unknown
}

// String returns the media type.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// IsAudio reports whether a receiver can start at any packet.
func (k Kind) IsAudio() bool { return k == Audio || k == Opus || k == RED }

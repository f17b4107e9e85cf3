package sfu

import (
	"time"

	"anytime/sfu/codec"
)

// parse reads the descriptor of a payload. Of a track that is encrypted end to end it reads what that leaves clear: payload
// descriptors of VP8, VP9 and AV1, the first byte of Opus, most NAL unit headers of H.264 and H.265. What can't be
// read there is no fault, but part of a frame like any other.
func (pub *publication) parse(kind codec.Kind, payload []byte) (codec.Descriptor, error) {
	if pub.cfg.Encrypted && kind == codec.RED {
		kind = codec.Audio // the block headers are encrypted
	}
	d, err := codec.Parse(kind, payload)
	if err != nil && pub.cfg.Encrypted && (kind == codec.H264 || kind == codec.H265) {
		return codec.Descriptor{Kind: kind}, nil
	}
	return d, err
}

// length returns how long the audio of a packet is, 0 if that is unknown or hidden.
func (pub *publication) length(kind codec.Kind, payload []byte) time.Duration {
	if pub.cfg.Encrypted && kind == codec.RED {
		return 0
	}
	return codec.Duration(kind, payload)
}

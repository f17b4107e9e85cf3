package load

import (
	"strconv"
	"strings"
)

// opus is the codec of audio, as [VP8] and [H264] are those of video.
const opus = "opus"

// description is what a server's session description says of the streams that it sends.
type description struct {
	payloads map[uint8]payload
	// repairs leads from the SSRC of a stream of retransmissions to the one that it repairs (RFC 4588 §8.5).
	repairs map[uint32]uint32
	// transportCC is the id of the header extension that numbers packets for feedback; 0: none.
	transportCC uint8
	// remb: the server takes a receiver's estimate of the bitrate (draft-alvestrand-rmcat-remb).
	remb bool
}

// payload is what a payload type stands for.
type payload struct {
	codec string // "rtx" for retransmissions
	rate  uint32 // of the clock
}

const (
	transportCCURI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	rtx            = "rtx"
	// maxDescribed bounds what is read of one description.
	maxDescribed = 20_000
)

// describe reads a session description (RFC 8866). Lines that say nothing here are passed over.
func describe(sdp string) *description {
	d := &description{payloads: map[uint8]payload{}, repairs: map[uint32]uint32{}}
	for line := range strings.SplitSeq(sdp, "\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "a=rtpmap":
			number, mapping, _ := strings.Cut(value, " ")
			codec, rate, _ := strings.Cut(strings.ToLower(mapping), "/")
			rate, _, _ = strings.Cut(rate, "/")
			pt, err := strconv.ParseUint(number, 10, 7)
			hz, err2 := strconv.ParseUint(rate, 10, 32)
			if err == nil && err2 == nil {
				d.payloads[uint8(pt)] = payload{codec, uint32(hz)}
			}
		case "a=rtcp-fb":
			d.remb = d.remb || strings.HasSuffix(value, " goog-remb")
		case "a=extmap":
			number, uri, _ := strings.Cut(value, " ")
			number, _, _ = strings.Cut(number, "/")
			if id, err := strconv.ParseUint(number, 10, 8); err == nil && strings.HasPrefix(uri, transportCCURI) {
				d.transportCC = uint8(id)
			}
		case "a=ssrc-group":
			f := strings.Fields(value)
			if len(f) != 3 || f[0] != "FID" || len(d.repairs) >= maxDescribed {
				continue
			}
			media, err := strconv.ParseUint(f[1], 10, 32)
			repair, err2 := strconv.ParseUint(f[2], 10, 32)
			if err == nil && err2 == nil {
				d.repairs[uint32(repair)] = uint32(media)
			}
		}
	}
	return d
}

package load

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Codecs of the generated video.
const (
	VP8  = "vp8"
	H264 = "h264"
)

const (
	// maxPayload is how long an RTP payload gets, in bytes: with SRTP, the header extensions and UDP it fits into 1,280.
	maxPayload = 1150
	// keyframeFactor is how many times as long a keyframe is as what follows it.
	keyframeFactor = 8
	// overhead bounds what stands before the body: VP8's descriptor and frame header, or a fragment's two bytes.
	overhead = 16

	videoRate  = 90000
	audioRate  = 48000
	audioFrame = 20 * time.Millisecond
)

// layer is one simulcast layer of a generated video: RTP payloads of a codec's frames, which a server can tell apart as
// those of a camera, and no decoder can show.
type layer struct {
	codec         string
	width, height uint16
	bitrate       int // bits per second of bodies
	fps           int

	run       uint32
	publisher uint16
	index     uint8
	rnd       *rand.Rand
	debt      int // bytes that keyframes took ahead of the bitrate
	current   frame
	sets      []byte // H.264's parameter sets, as one payload
}

// frame is what is being sent.
type frame struct {
	number   uint32
	keyframe bool
	bytes    int
	sizes    []int // of the bodies
}

func newLayer(codec string, run uint32, publisher uint16, index uint8, width, height uint16, bitrate, fps int) *layer {
	l := &layer{codec: codec, run: run, publisher: publisher, index: index, width: width, height: height, bitrate: bitrate, fps: fps,
		rnd: rand.New(rand.NewPCG(uint64(publisher), uint64(index)))}
	if codec == H264 {
		l.sets = parameterSets(width, height)
	}
	return l
}

// next begins another frame and returns how many packets it has. Frames vary by a fifth, and what a keyframe took more is
// saved on those that follow.
func (l *layer) next(keyframe bool) int {
	f := &l.current
	mean := l.bitrate / 8 / l.fps
	size := mean*4/5 + l.rnd.IntN(mean*2/5+1)
	if keyframe {
		size *= keyframeFactor
		l.debt += size - mean
	} else {
		saved := min(l.debt, size/4)
		l.debt -= saved
		size -= saved
	}
	f.number++
	f.keyframe, f.bytes = keyframe, max(size, stampSize)
	// Equal parts, those at the end a byte longer, as libwebrtc's packetizers make them.
	n := (f.bytes + maxPayload - overhead - 1) / (maxPayload - overhead)
	f.sizes = f.sizes[:0]
	for i := range n {
		f.sizes = append(f.sizes, max(f.bytes/n+b2i(i >= n-f.bytes%n), stampSize))
	}
	if l.sets != nil && keyframe {
		return n + 1
	}
	return n
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// packet writes the payload of packet i of the current frame into b, which has maxPayload bytes, and returns it.
func (l *layer) packet(b []byte, i int, sent time.Duration) []byte {
	f := &l.current
	var head int
	switch l.codec {
	case VP8:
		head = l.vp8Head(b, i == 0)
	case H264:
		if l.sets != nil && f.keyframe {
			if i == 0 {
				return append(b[:0], l.sets...)
			}
			i--
		}
		head = l.h264Head(b, i)
	}
	body := b[head : head+f.sizes[i]]
	stamp{run: l.run, publisher: l.publisher, layer: l.index, frame: f.number, index: uint16(i), sent: sent}.body(body)
	return b[:head+len(body)]
}

// vp8Head writes RFC 7741's descriptor with a 15-bit picture id, TL0PICIDX and the only temporal layer and, on a frame's
// first packet, the frame header (RFC 6386 §9.1).
func (l *layer) vp8Head(b []byte, first bool) int {
	f := &l.current
	b[0] = 0x80 // X
	if first {
		b[0] |= 0x10 // S
	}
	b[1] = 0x80 | 0x40 | 0x20 // I, L, T
	b[2], b[3] = 0x80|byte(f.number>>8)&0x7f, byte(f.number)
	b[4] = byte(f.number) // TL0PICIDX
	b[5] = 0              // TID 0
	if !first {
		return 6
	}
	tag := uint32(f.bytes/4)<<5 | 1<<4 // the first partition's size, show_frame
	if !f.keyframe {
		tag |= 1
	}
	b[6], b[7], b[8] = byte(tag), byte(tag>>8), byte(tag>>16)
	if !f.keyframe {
		return 9
	}
	copy(b[9:], []byte{0x9d, 0x01, 0x2a, byte(l.width), byte(l.width >> 8), byte(l.height), byte(l.height >> 8)})
	return 16
}

// h264Head writes the head of slice packet i: a NAL unit header, or those of a fragment (RFC 6184 §5.8). The body's first
// bit, which is set, says that the slice begins at the picture's first macroblock.
func (l *layer) h264Head(b []byte, i int) int {
	f := &l.current
	const refIDC = 0x60
	kind := byte(1)
	if f.keyframe {
		kind = 5
	}
	if len(f.sizes) == 1 {
		b[0] = refIDC | kind
		return 1
	}
	b[0], b[1] = refIDC|28, kind
	if i == 0 {
		b[1] |= 0x80
	}
	if i == len(f.sizes)-1 {
		b[1] |= 0x40
	}
	return 2
}

// parameterSets returns a STAP-A (RFC 6184 §5.7.1) of the sequence and picture parameter sets of the constrained baseline
// profile at level 3.1 for a picture of that size.
func parameterSets(width, height uint16) []byte {
	var w bitWriter
	mbs := (uint32(height) + 15) / 16
	w.ue(0)                    // seq_parameter_set_id
	w.ue(0)                    // log2_max_frame_num_minus4
	w.ue(2)                    // pic_order_cnt_type
	w.ue(1)                    // max_num_ref_frames
	w.bit(0)                   // gaps_in_frame_num_value_allowed_flag
	w.ue(uint32(width)/16 - 1) // pic_width_in_mbs_minus1
	w.ue(mbs - 1)              // pic_height_in_map_units_minus1
	w.bit(1)                   // frame_mbs_only_flag
	w.bit(1)                   // direct_8x8_inference_flag
	crop := mbs*16 - uint32(height)
	w.bit(b2i(crop > 0)) // frame_cropping_flag
	if crop > 0 {
		w.ue(0)
		w.ue(0)
		w.ue(0)
		w.ue(crop / 2)
	}
	w.bit(0) // vui_parameters_present_flag
	w.bit(1) // rbsp_stop_one_bit
	sps := append([]byte{0x67, 0x42, 0xe0, 0x1f}, w.bytes...)
	pps := []byte{0x68, 0xce, 0x3c, 0x80}
	out := []byte{0x78, 0, byte(len(sps))}
	out = append(out, sps...)
	out = append(out, 0, byte(len(pps)))
	return append(out, pps...)
}

// bitWriter writes bits, the highest first.
type bitWriter struct {
	bytes []byte
	used  int
}

func (w *bitWriter) bit(v int) {
	if w.used%8 == 0 {
		w.bytes = append(w.bytes, 0)
	}
	w.bytes[len(w.bytes)-1] |= byte(v) << (7 - w.used%8)
	w.used++
}

// ue writes an Exp-Golomb code (ITU-T H.264 §9.1).
func (w *bitWriter) ue(v uint32) {
	v++
	n := 0
	for v>>n > 1 {
		n++
	}
	for range n {
		w.bit(0)
	}
	for ; n >= 0; n-- {
		w.bit(int(v >> n & 1))
	}
}

// opusPacket writes a packet of 20 ms (RFC 6716 §3.1: CELT, full band, one frame) into b and returns it.
func opusPacket(b []byte, size int, s stamp) []byte {
	b = b[:max(size, 1+stampSize)]
	b[0] = 0xf8
	s.body(b[1:])
	return b
}

// bodyOf finds the body in a payload as its receiver gets it. first reports that a frame begins here, keyframe that it is
// one. A body of nil has none: parameter sets, or nothing at all.
func bodyOf(codec string, p []byte) (body []byte, first, keyframe bool, err error) {
	switch codec {
	case VP8:
		return vp8Body(p)
	case H264:
		return h264Body(p)
	case opus:
		if len(p) < 2 {
			return nil, true, false, nil
		}
		return p[1:], true, false, nil
	}
	return nil, false, false, fmt.Errorf("codec %q is not one of the load generator", codec)
}

var errShort = fmt.Errorf("%w: the payload ends within its head", errMismatch)

// vp8Body reads RFC 7741's descriptor of any form: servers rewrite it.
func vp8Body(p []byte) (body []byte, first, keyframe bool, err error) {
	if len(p) < 1 {
		return nil, false, false, errShort
	}
	at := 1
	if p[0]&0x80 != 0 {
		if len(p) < 3 {
			return nil, false, false, errShort
		}
		x := p[1]
		at = 2
		if x&0x80 != 0 {
			at += 1 + int(p[2]>>7)
		}
		if x&0x40 != 0 {
			at++
		}
		if x&0x30 != 0 {
			at++
		}
	}
	if p[0]&0x17 != 0x10 { // not a frame's beginning
		if len(p) < at {
			return nil, false, false, errShort
		}
		return p[at:], false, false, nil
	}
	if len(p) < at+3 {
		return nil, false, false, errShort
	}
	if p[at]&1 != 0 {
		return p[at+3:], true, false, nil
	}
	if len(p) < at+10 {
		return nil, false, false, errShort
	}
	return p[at+10:], true, true, nil
}

func h264Body(p []byte) (body []byte, first, keyframe bool, err error) {
	if len(p) < 2 {
		return nil, false, false, errShort
	}
	switch kind := p[0] & 0x1f; kind {
	case 1, 5:
		return p[1:], true, kind == 5, nil
	case 7, 8, 24: // parameter sets
		return nil, true, true, nil
	case 28:
		start := p[1]&0x80 != 0
		return p[2:], start, start && p[1]&0x1f == 5, nil
	default:
		return nil, false, false, fmt.Errorf("%w: a NAL unit of type %d", errMismatch, kind)
	}
}

package load

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

const (
	// feedbackEvery is how often a receiver tells what came; libwebrtc does every 50 to 250 ms.
	feedbackEvery = 100 * time.Millisecond
	// reportEvery is how often receiver reports go out.
	reportEvery = time.Second
	// retryNACK is how long after a request a packet is asked for again.
	retryNACK = 100 * time.Millisecond
	// keyframePatience is how long a stream may go without a keyframe before one is asked for, and again.
	keyframePatience, keyframeRetry = 200 * time.Millisecond, 500 * time.Millisecond
	// sampled: one in so many packets of video is decrypted and checked. Audio is always.
	sampled = 16
	// roomy is the least that a path is said to take, in bits per second, where the server asks. maxEstimated bounds the streams
	// that one estimate names: 255 have room in it.
	roomy, maxEstimated = 10e6, 250
	// maxStreams bounds the streams of one receiver.
	maxStreams = 4096
)

// Content sums up what the decrypted packets held.
type Content struct {
	Checked uint64 `json:"checked"` // every bit as it was sent
	Wrong   uint64 `json:"wrong"`   // stamped, but not what was sent
	Foreign uint64 `json:"foreign"` // without a stamp: silence or black of the server's, or of other participants
	Locked  uint64 `json:"locked"`  // could not be decrypted
}

func (c *Content) add(o Content) {
	c.Checked += o.Checked
	c.Wrong += o.Wrong
	c.Foreign += o.Foreign
	c.Locked += o.Locked
}

// receiver takes the RTP packets of one peer connection, counts them by their clear headers, decrypts a sample, and gives the
// feedback that browsers give. All but sum runs on the goroutine of its line.
type receiver struct {
	run      uint32
	interval time.Duration // of video frames
	describe func() *description

	mu      sync.Mutex
	streams map[uint32]*incoming
	order   []*incoming
	last    *incoming
	video   histogram
	audio   histogram
	content Content
	packets uint64 // RTP packets, of all kinds
	wrongs  error  // the first

	ssrc      uint32 // ours, in feedback
	recorder  *twcc.Recorder
	keys      *srtp.Context
	header    rtp.Header
	plain     []byte
	fresh     bool // something was missed since the last look
	told      time.Duration
	reported  time.Duration
	sequences []uint16

	numbered bool    // the server numbers packets for transport-wide feedback
	weighed  uint64  // bytes at the last report
	most     float64 // bits per second
}

// incoming is a stream and what its feedback needs.
type incoming struct {
	stream
	repair     *incoming // of retransmissions: what they repair
	isRepair   bool
	asked      time.Duration // for a keyframe
	report     time.Duration // when the last sender report came
	reportNTP  uint32        // its middle 32 bits
	sinceCheck int
	expected   uint64 // at the last receiver report
	received   uint64
}

func newReceiver(run uint32, interval time.Duration, describe func() *description) *receiver {
	r := &receiver{run: run, interval: interval, describe: describe, streams: map[uint32]*incoming{}, ssrc: rand.Uint32(), plain: make([]byte, 0, 2048)}
	r.recorder = twcc.NewRecorder(r.ssrc)
	return r
}

// rtpHead is what the clear header of an RTP packet says (RFC 3550 §5.1).
type rtpHead struct {
	padded, marker bool
	pt             uint8
	seq            uint16
	timestamp      uint32
	ssrc           uint32
	length         int
	numbered       bool // has a transport-wide sequence number
	number         uint16
}

func parseHead(b []byte, transportCC uint8) (h rtpHead, ok bool) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return h, false
	}
	h = rtpHead{
		padded: b[0]&0x20 != 0, marker: b[1]&0x80 != 0, pt: b[1] & 0x7f, seq: binary.BigEndian.Uint16(b[2:]),
		timestamp: binary.BigEndian.Uint32(b[4:]), ssrc: binary.BigEndian.Uint32(b[8:]), length: 12 + 4*int(b[0]&0xf),
	}
	if b[0]&0x10 == 0 {
		return h, len(b) >= h.length
	}
	if len(b) < h.length+4 {
		return h, false
	}
	profile, size := binary.BigEndian.Uint16(b[h.length:]), 4*int(binary.BigEndian.Uint16(b[h.length+2:]))
	h.length += 4
	if len(b) < h.length+size {
		return h, false
	}
	extensions := b[h.length : h.length+size]
	h.length += size
	if transportCC == 0 {
		return h, true
	}
	// RFC 8285 §4.2 and §4.3.
	for len(extensions) > 0 {
		id, n, head := extensions[0]>>4, int(extensions[0]&0xf)+1, 1
		if profile>>4 == 0x100 {
			id, head = extensions[0], 2
			if id != 0 {
				if len(extensions) < 2 {
					break
				}
				n = int(extensions[1])
			}
		} else if profile != 0xbede || id == 15 {
			break
		}
		if id == 0 {
			extensions = extensions[1:]
			continue
		}
		if len(extensions) < head+n {
			break
		}
		if id == transportCC && n >= 2 {
			h.numbered, h.number = true, binary.BigEndian.Uint16(extensions[head:])
			break
		}
		extensions = extensions[head+n:]
	}
	return h, true
}

// rtp takes a packet. keys is asked for the context to decrypt with, as long as there is none.
func (r *receiver) rtp(b []byte, at time.Duration, keys func() *srtp.Context) {
	d := r.describe()
	if d == nil {
		return // media before any description
	}
	h, ok := parseHead(b, d.transportCC)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.last
	if in == nil || in.ssrc != h.ssrc {
		if in = r.streams[h.ssrc]; in == nil {
			if in = r.open(h, d); in == nil {
				return
			}
		}
		r.last = in
	}
	if r.keys == nil {
		r.keys = keys()
	}
	r.packets++
	in.counts.Bytes += uint64(len(b))
	if h.numbered {
		r.numbered = true
		r.recorder.Record(h.ssrc, h.number, at.Microseconds())
	}
	var flags uint8
	if h.marker {
		flags |= marked
	}
	if in.isRepair {
		r.repaired(in, h, b, flags, at)
		return
	}
	in.sinceCheck++
	if h.padded || in.interval == 0 || in.wantsKeyframe() || in.sinceCheck >= sampled {
		in.sinceCheck = 0
		if p, ok := r.decrypt(b, h); ok {
			flags |= r.look(in, p, at, true)
		}
	}
	missing := len(in.missing)
	in.packet(h.seq, h.timestamp, flags, false, at)
	r.fresh = r.fresh || len(in.missing) > missing
}

// open begins a stream; nil for what no description tells of.
func (r *receiver) open(h rtpHead, d *description) *incoming {
	p, known := d.payloads[h.pt]
	if !known || len(r.order) >= maxStreams {
		return nil
	}
	in := &incoming{}
	in.ssrc, in.codec, in.clockRate = h.ssrc, p.codec, p.rate
	switch {
	case p.codec == rtx:
		in.isRepair = true
		in.repair = r.streams[d.repairs[h.ssrc]]
	case p.codec != opus:
		in.interval = r.interval
	}
	r.streams[h.ssrc] = in
	r.order = append(r.order, in)
	return in
}

// decrypt returns a packet's payload without padding. It is valid until the next call.
func (r *receiver) decrypt(b []byte, h rtpHead) ([]byte, bool) {
	if r.keys == nil {
		r.content.Locked++
		return nil, false
	}
	p, err := r.keys.DecryptRTP(r.plain, b, &r.header)
	if err != nil {
		r.content.Locked++
		return nil, false
	}
	r.plain = p[:0]
	if p = p[min(h.length, len(p)):]; h.padded && len(p) > 0 {
		p = p[:len(p)-min(int(p[len(p)-1]), len(p))]
	}
	return p, true
}

// look checks a payload and returns the flags that only it tells. timely is false for what was sent again.
func (r *receiver) look(in *incoming, p []byte, at time.Duration, timely bool) (flags uint8) {
	if len(p) == 0 {
		return empty
	}
	body, first, key, err := bodyOf(in.codec, p)
	if first && key {
		flags |= keyStart
	}
	if err != nil {
		r.content.Foreign++
		return flags
	}
	if body == nil {
		return flags
	}
	s, err := verify(body)
	switch {
	case errors.Is(err, errMismatch):
		r.content.Wrong++
		if r.wrongs == nil {
			r.wrongs = err
		}
		return flags
	case err != nil:
		r.content.Foreign++
		return flags
	}
	r.content.Checked++
	if timely && s.run == r.run {
		if in.interval > 0 {
			r.video.add(at - s.sent)
		} else {
			r.audio.add(at - s.sent)
		}
	}
	return flags
}

// repaired takes a retransmission (RFC 4588 §4: the payload begins with the original sequence number), or padding.
func (r *receiver) repaired(in *incoming, h rtpHead, b []byte, flags uint8, at time.Duration) {
	p, ok := r.decrypt(b, h)
	if !ok || len(p) < 2 {
		return
	}
	if in.repair == nil {
		if d := r.describe(); d != nil {
			in.repair = r.streams[d.repairs[in.ssrc]]
		}
		if in.repair == nil {
			return
		}
	}
	original := in.repair
	seq := binary.BigEndian.Uint16(p)
	flags |= r.look(original, p[2:], at, false)
	before := original.counts.Duplicates
	original.packet(seq, h.timestamp, flags, true, at)
	original.counts.Duplicates = before // padding repeats what was sent: that is no fault
}

// rtcp takes a control packet, for the sender reports in it (RFC 3550 §6.4.1). Pion gets it as well.
func (r *receiver) rtcp(b []byte, at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil || len(b) < 8 || b[1] != byte(rtcp.TypeSenderReport) {
		return
	}
	p, err := r.keys.DecryptRTCP(nil, b, nil)
	if err != nil || len(p) < 28 {
		return
	}
	if in := r.streams[binary.BigEndian.Uint32(p[4:])]; in != nil {
		in.report, in.reportNTP = at, binary.BigEndian.Uint32(p[10:])
	}
}

// settled reports whether every picture has begun, so that what comes may be read less often.
func (r *receiver) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range r.order {
		if in.wantsKeyframe() {
			return false
		}
	}
	return len(r.order) > 0
}

// feedback returns what is to be told now.
func (r *receiver) feedback(now time.Duration) (out []rtcp.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := now-r.told >= feedbackEvery
	if !due && !r.fresh {
		return nil
	}
	if now-r.reported >= reportEvery {
		out = r.reports(out, now)
		out = r.estimate(out, now)
		r.reported = now
	}
	for _, in := range r.order {
		if in.isRepair {
			continue
		}
		if len(in.missing) > 0 {
			if r.sequences = in.wanted(r.sequences[:0], now, retryNACK); len(r.sequences) > 0 {
				out = append(out, &rtcp.TransportLayerNack{SenderSSRC: r.ssrc, MediaSSRC: in.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(r.sequences)})
			}
		}
		if in.wantsKeyframe() && in.begun && now-max(in.began, in.lastFrame) >= keyframePatience && now-in.asked >= keyframeRetry {
			in.asked = now
			out = append(out, &rtcp.PictureLossIndication{SenderSSRC: r.ssrc, MediaSSRC: in.ssrc})
		}
	}
	r.fresh = false
	if due {
		r.told = now
		out = append(out, r.recorder.BuildFeedbackPacket()...)
	}
	return out
}

// reports appends receiver reports (RFC 3550 §6.4.2).
func (r *receiver) reports(out []rtcp.Packet, now time.Duration) []rtcp.Packet {
	var blocks []rtcp.ReceptionReport
	for _, in := range r.order {
		if !in.begun {
			continue
		}
		original := in.counts.Received - in.counts.Repaired
		expected, received := in.counts.Expected-in.expected, original-in.received
		in.expected, in.received = in.counts.Expected, original
		block := rtcp.ReceptionReport{
			SSRC: in.ssrc, LastSequenceNumber: uint32(in.newest - 1<<16), Jitter: uint32(in.jitter),
			TotalLost: uint32(min(in.counts.Expected-min(in.counts.Expected, original), 1<<23-1)),
		}
		if expected > received {
			block.FractionLost = uint8(min((expected-received)*256/expected, 255))
		}
		if in.reportNTP != 0 {
			block.LastSenderReport = in.reportNTP
			block.Delay = uint32((now - in.report).Seconds() * 65536)
		}
		blocks = append(blocks, block)
	}
	for len(blocks) > 0 {
		n := min(len(blocks), 31)
		out = append(out, &rtcp.ReceiverReport{SSRC: r.ssrc, Reports: blocks[:n]})
		blocks = blocks[n:]
	}
	return out
}

// estimate appends a receiver's estimate, where the server asks for it and doesn't number its packets for an estimate of its
// own. We have none: the path is said to take half as much again as the most that came in any second, and roomy at least.
func (r *receiver) estimate(out []rtcp.Packet, now time.Duration) []rtcp.Packet {
	d := r.describe()
	if r.numbered || d == nil || !d.remb {
		return out
	}
	var total uint64
	var ssrcs []uint32
	for _, in := range r.order {
		total += in.counts.Bytes
		if !in.isRepair && len(ssrcs) < maxEstimated {
			ssrcs = append(ssrcs, in.ssrc)
		}
	}
	if seconds := (now - r.reported).Seconds(); r.reported > 0 && len(ssrcs) > 0 {
		r.most = max(r.most, float64(total-r.weighed)*8/seconds)
		out = append(out, &rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: r.ssrc, Bitrate: float32(max(1.5*r.most, roomy)), SSRCs: ssrcs})
	}
	r.weighed = total
	return out
}

// sum adds what came so far to t and returns when the first picture was there, 0 when there is none.
func (r *receiver) sum(t *totals, now time.Duration) (keyframe time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range r.order {
		switch {
		case in.isRepair:
			t.video.Bytes += in.counts.Bytes
		case in.interval > 0:
			t.video.add(in.sum(now))
			t.videoTracks++
			if in.keyframe > 0 && (keyframe == 0 || in.keyframe < keyframe) {
				keyframe = in.keyframe
			}
		default:
			t.audio.add(in.sum(now))
			t.audioTracks++
		}
	}
	t.packets += r.packets
	t.content.add(r.content)
	t.videoLatency.merge(&r.video)
	t.audioLatency.merge(&r.audio)
	if t.wrong == nil {
		t.wrong = r.wrongs
	}
	return keyframe
}

package sfu

import (
	"encoding/binary"
	"slices"
	"time"

	"anytime/sfu/forward"

	"github.com/pion/rtcp"
)

const (
	// transportFeedbackInterval is what libwebrtc's own receiver uses at ordinary rates.
	transportFeedbackInterval = 100 * time.Millisecond
	receiverReportInterval    = time.Second
	// senderReportInterval is for the first soonReports reports, by which a receiver learns how streams belong together. From then
	// on its clock and ours alone drift apart, which is slow.
	senderReportInterval  = time.Second
	soonReports           = 6
	settledReportInterval = 3 * time.Second
	// nackTick is the least time between two looks at what is missing: NACKs due within it go out together.
	nackTick = 5 * time.Millisecond
	// idleAfter stops routine feedback to a peer that sends nothing.
	idleAfter = 5 * time.Second
	// maxNACKPairs bounds one NACK packet: 17 sequence numbers each.
	maxNACKPairs = 64
	// maxCompound bounds one datagram of RTCP, in bytes: below any path's MTU, with room for SRTP and IP.
	maxCompound = 1100
)

// feedback is the alarm of a peer connection that publishes: NACKs, keyframe requests, transport-wide feedback and
// receiver reports, each when due. It returns when to be called next.
func (in *ingest) feedback(now time.Duration) (next time.Duration) {
	soonest := func(at time.Duration) {
		if next == 0 || at < next {
			next = at
		}
	}
	var out []rtcp.Packet
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return 0
	}
	idle := now-in.last > idleAfter
	if in.pending && now >= in.nextTWCC {
		out = append(out, in.recorder.BuildFeedbackPacket()...)
		in.pending = false
	}
	if now >= in.nextTWCC {
		in.nextTWCC = now + transportFeedbackInterval
	}
	report := now >= in.nextRR
	if report {
		in.nextRR = now + receiverReportInterval
	}
	layers := make([]*layer, 0, 8)
	for _, s := range in.sections {
		if s.pub == nil {
			continue
		}
		for i := range s.pub.layers {
			if l := s.pub.layers[i].Load(); l != nil {
				layers = append(layers, l)
			}
		}
	}
	if !idle {
		soonest(in.nextTWCC)
	} else {
		in.active.Store(false)
	}
	in.mu.Unlock()

	rtt := in.p.rtt()
	var blocks []rtcp.ReceptionReport
	for _, l := range layers {
		var lost int
		var again time.Duration
		if out, lost, again = l.nacks(now, rtt, out); again != 0 {
			soonest(max(again, now+nackTick))
		}
		if lost > 0 {
			l.requestKeyframe(now)
		}
		send, due := l.keyframes.due(now, rtt)
		if send {
			l.mu.Lock()
			l.stats.PLIs++
			out = append(out, &rtcp.PictureLossIndication{SenderSSRC: feedbackSSRC, MediaSSRC: l.ssrc})
			l.mu.Unlock()
		}
		if due != 0 {
			soonest(due)
		}
		if report && !idle {
			if b, ok := l.receptionReport(now); ok {
				blocks = append(blocks, b)
			}
		}
		if report && l.pub.cfg.Kind == Video && l.seen.Load() != 0 && !l.live(now) && !l.silent.Swap(true) {
			l.pub.retarget(now)
		}
	}
	for len(blocks) > 0 {
		// RFC 3550 section 6.4.2: at most 31 report blocks in one packet.
		n := min(len(blocks), 31)
		out = append(out, &rtcp.ReceiverReport{SSRC: feedbackSSRC, Reports: blocks[:n]})
		blocks = blocks[n:]
	}
	if report && !idle {
		out = append(out, in.referenceTime(now))
	}
	for len(out) > 0 {
		n, size := 0, 0
		for n < len(out) && (n == 0 || size+out[n].MarshalSize() <= maxCompound) {
			size += out[n].MarshalSize()
			n++
		}
		in.write(out[:n])
		out = out[n:]
	}
	return next
}

// nacks appends the NACKs to send now to out. lost is how many packets were given up, again when to look next, 0 for not at
// all.
func (l *layer) nacks(now, rtt time.Duration, out []rtcp.Packet) (_ []rtcp.Packet, lost int, again time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.nack {
		l.missing.Reset()
		return out, 0, 0
	}
	l.due, lost = l.missing.Due(now, rtt, l.due[:0])
	l.stats.Lost += uint64(lost)
	again, _ = l.missing.Next(rtt)
	if len(l.due) == 0 {
		return out, lost, again
	}
	l.stats.NACKs++
	var n *rtcp.TransportLayerNack
	for _, s := range l.due {
		// RFC 4585 section 6.2.1: a packet id and a bitmask of the sixteen that follow it.
		if n != nil {
			last := &n.Nacks[len(n.Nacks)-1]
			if d := uint16(s) - last.PacketID; d >= 1 && d <= 16 {
				last.LostPackets |= 1 << (d - 1)
				continue
			}
		}
		if n == nil || len(n.Nacks) == maxNACKPairs {
			n = &rtcp.TransportLayerNack{SenderSSRC: feedbackSSRC, MediaSSRC: l.ssrc}
			out = append(out, n)
		}
		n.Nacks = append(n.Nacks, rtcp.NackPair{PacketID: uint16(s)})
	}
	return out, lost, again
}

// wall returns the NTP time of a server time, by a clock that doesn't jump.
func (s *Server) wall(now time.Duration) uint64 { return forward.NTP(s.start.Add(now)) }

// referenceTime lets a peer that we send no media answer with what gives the round trip: RFC 3611 section 4.4.
func (in *ingest) referenceTime(now time.Duration) rtcp.Packet {
	return &rtcp.ExtendedReport{SenderSSRC: feedbackSSRC, Reports: []rtcp.ReportBlock{
		&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: in.p.server.wall(now)}}}
}

// answered takes the answers to our reference times: RFC 3611 section 4.5, "The receiver … can compute the round-trip time
// … by recording the arrival time A … and calculating the RTT as A-LRR-DLRR".
func (in *ingest) answered(x *rtcp.ExtendedReport, at time.Duration) {
	for _, b := range x.Reports {
		d, ok := b.(*rtcp.DLRRReportBlock)
		if !ok {
			continue
		}
		for _, r := range d.Reports {
			if r.SSRC != feedbackSSRC || r.LastRR == 0 {
				continue
			}
			v := uint32(in.p.server.wall(at)>>16) - r.LastRR - r.DLRR
			if rtt := time.Duration(v) * time.Second >> 16; v < 1<<31 && rtt < maxRTT {
				in.p.observeRTT(rtt)
			}
			return // one a packet is meant for us
		}
	}
}

// receptionReport returns the report block about a layer.
func (l *layer) receptionReport(now time.Duration) (rtcp.ReceptionReport, bool) {
	clock := l.pub.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.reception.Report()
	if !ok || l.ssrc == 0 {
		return rtcp.ReceptionReport{}, false
	}
	l.stats.FractionLost = float64(r.FractionLost) / 256
	l.stats.TotalLost = int64(r.TotalLost)
	if clock != 0 {
		l.stats.Jitter = time.Duration(r.Jitter) * time.Second / time.Duration(clock)
	}
	b := rtcp.ReceptionReport{SSRC: l.ssrc, FractionLost: r.FractionLost, TotalLost: uint32(r.TotalLost) & 0xffffff,
		LastSequenceNumber: r.HighestSequence, Jitter: r.Jitter}
	if l.sr.ntp != 0 {
		// RFC 3550 section 6.4.1: LSR is "the middle 32 bits out of 64 in the NTP timestamp", DLSR in units of 1/65536 s.
		b.LastSenderReport = uint32(l.sr.ntp >> 16)
		b.Delay = uint32((now - l.sr.arrival) * 65536 / time.Second)
	}
	return b, true
}

func (in *ingest) sendPLI(ssrc uint32) {
	if ssrc == 0 {
		return
	}
	in.write([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: feedbackSSRC, MediaSSRC: ssrc}})
}

// rtcp takes the parts of the peer's RTCP that are about ssrc, which is a source of the peer.
func (in *ingest) rtcp(ssrc uint32, pkts []rtcp.Packet, at time.Duration) {
	for _, p := range pkts {
		if x, ok := p.(*rtcp.ExtendedReport); ok && ssrc == feedbackSSRC {
			in.answered(x, at)
			continue
		}
		sr, ok := p.(*rtcp.SenderReport)
		if !ok || sr.SSRC != ssrc {
			continue
		}
		in.mu.Lock()
		src := in.sources[ssrc]
		in.mu.Unlock()
		if src == nil || src.rtx {
			continue
		}
		src.layer.mu.Lock()
		src.layer.sr = senderReport{ntp: sr.NTPTime, arrival: at}
		src.layer.mu.Unlock()
		if capture, ok := in.p.captured(sr.NTPTime, at); ok {
			src.pub.report(src.layer.index, sr.RTPTime, capture)
		}
	}
}

// returns reads the feedback of a peer connection that subscribes.
type returns struct {
	find    func(ssrc uint32) *subscription
	bitrate func(bps float64) // the receiver's estimate
	out     *egress
	// stray counts what is about none of our streams.
	stray func()
}

// Feedback on single packets: transport-layer feedback (RFC 4585 section 6.2) of these formats.
const (
	typeTransportFeedback = 205
	formatTransportCC     = 15 // draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1
	formatCCFB            = 11 // RFC 8888 section 3.1
)

// nextRTCP cuts the first packet off a datagram of RTCP; it is nil if there is none.
func nextRTCP(b []byte) (p, rest []byte) {
	if len(b) < 4 {
		return nil, nil
	}
	// RFC 3550 section 6.4.1: the length is in words, without the first.
	n := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
	if n > len(b) {
		return nil, nil
	}
	return b[:n], b[n:]
}

// isSingle reports whether a packet of RTCP is feedback on single packets.
func isSingle(p []byte) bool {
	format := p[0] & 0x1f
	return p[0]>>6 == 2 && p[1] == typeTransportFeedback && len(p) >= 12 && (format == formatTransportCC || format == formatCCFB)
}

// alone takes a datagram that is nothing but feedback on single packets, as most RTCP of a subscriber is: that needs no look
// by anybody else. Of other datagrams it takes nothing, and reports false.
func (r *returns) alone(b []byte, now time.Duration) bool {
	for rest := b; len(rest) > 0; {
		var p []byte
		if p, rest = nextRTCP(rest); p == nil || !isSingle(p) {
			return false
		}
	}
	for len(b) > 0 {
		var p []byte
		p, b = nextRTCP(b)
		r.single(p, now)
	}
	return true
}

// raw takes the same bytes as rtcp, and hands those that the estimator reads to it: b holds whole packets. What concerns
// several sources comes once for each, and is taken with the first.
func (r *returns) raw(ssrc uint32, b []byte, now time.Duration) {
	for {
		var p []byte
		if p, b = nextRTCP(b); p == nil {
			return
		}
		if isSingle(p) && binary.BigEndian.Uint32(p[8:]) == ssrc {
			r.single(p, now)
		}
	}
}

// single hands feedback on single packets to the estimator.
func (r *returns) single(p []byte, now time.Duration) {
	if p[0]&0x20 != 0 {
		count := int(p[len(p)-1])
		if count == 0 || count > len(p)-12 {
			return
		}
		p = p[:len(p)-count]
	}
	if p[0]&0x1f == formatTransportCC {
		r.out.transportFeedback(p[12:], now)
	} else {
		r.out.congestionFeedback(p[8:], now)
	}
}

// rtcp takes the parts of the peer's RTCP that are about ssrc, which is a source of ours.
func (r *returns) rtcp(ssrc uint32, pkts []rtcp.Packet, now time.Duration, wall time.Time) {
	for _, p := range pkts {
		switch p := p.(type) {
		case *rtcp.ReceiverReport:
			r.blocks(ssrc, p.Reports, now, wall)
		case *rtcp.SenderReport:
			r.blocks(ssrc, p.Reports, now, wall)
		case *rtcp.TransportLayerNack:
			if s := r.stream(ssrc); s != nil && p.MediaSSRC == ssrc {
				var list [maxResend]uint16
				n := 0
				for i := range p.Nacks {
					p.Nacks[i].Range(func(seq uint16) bool {
						if n == len(list) {
							return false
						}
						list[n] = seq
						n++
						return true
					})
				}
				s.nacked(list[:n], now)
			}
		case *rtcp.PictureLossIndication:
			if s := r.stream(ssrc); s != nil && p.MediaSSRC == ssrc {
				s.keyframeRequested(now)
			}
		case *rtcp.FullIntraRequest:
			// RFC 5104 section 4.3.1: the FCI entries name the sources; the header's media source is unused.
			if slices.ContainsFunc(p.FIR, func(e rtcp.FIREntry) bool { return e.SSRC == ssrc }) {
				if s := r.stream(ssrc); s != nil {
					s.keyframeRequested(now)
				}
			}
		case *rtcp.ReceiverEstimatedMaximumBitrate:
			if len(p.SSRCs) > 0 && p.SSRCs[0] == ssrc {
				r.bitrate(float64(p.Bitrate))
				r.out.receiverEstimate(float64(p.Bitrate), now)
			}
		}
	}
}

// stream finds the subscription of an SSRC.
func (r *returns) stream(ssrc uint32) *subscription {
	s := r.find(ssrc)
	if s == nil {
		r.stray()
	}
	return s
}

func (r *returns) blocks(ssrc uint32, list []rtcp.ReceptionReport, now time.Duration, wall time.Time) {
	for i := range list {
		if list[i].SSRC == ssrc {
			if s := r.find(ssrc); s != nil { // there are reports on RTX, too
				s.received(&list[i], now, wall)
			}
			return
		}
	}
}

// clock returns the RTP clock rate of the publication.
func (pub *publication) clock() uint32 {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.format.clock
}

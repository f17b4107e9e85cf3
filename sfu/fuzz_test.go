package sfu

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// FuzzRTCP gives datagrams to all that takes RTCP: a publisher's, and a subscriber's that sees a stream with a history.
func FuzzRTCP(f *testing.F) {
	add := func(pkts ...rtcp.Packet) {
		b, err := rtcp.Marshal(pkts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&rtcp.PictureLossIndication{MediaSSRC: 1000}, &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 1000}}})
	add(&rtcp.TransportLayerNack{MediaSSRC: 1000, Nacks: []rtcp.NackPair{{PacketID: 1, LostPackets: 0xffff}}})
	add(&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 1000, LastSenderReport: 9}}},
		&rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{1000}})
	add(&rtcp.SenderReport{SSRC: 7, NTPTime: 1 << 40, RTPTime: 77}, &rtcp.SourceDescription{})
	add(&rtcp.ExtendedReport{Reports: []rtcp.ReportBlock{&rtcp.DLRRReportBlock{Reports: []rtcp.DLRRReport{{SSRC: feedbackSSRC, LastRR: 1}}}}})
	add(&rtcp.TransportLayerCC{MediaSSRC: 1000, PacketStatusCount: 1, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{
		PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1}}, RecvDeltas: []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250}},
		Header: rtcp.Header{Padding: true, Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 5}})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSiege(t)
		video := s.publish("TR_a", Video, videoSection("0"))
		v := feed{ssrc: 7, pt: 96, mid: "0"}
		s.in.one(v.packet(v.vp8(true, true), true), s.now)
		_, out := s.subscribe(video, "PA_v", videoSection("0"))
		out.keep = true
		tr, _ := s.flood(s.watch)
		for _, ssrc := range []uint32{1000, 2000, 7, feedbackSSRC, 0} {
			tr.concern(ssrc, b)
		}
		if rtt := s.watch.p.rtt(); rtt <= 0 || rtt > maxRTT {
			t.Errorf("round trip %v", rtt)
		}
		if st := s.watch.snapshot(); st.Resent > 2*5 || st.Packets != 1 {
			t.Errorf("%+v", st)
		}
		s.step()
	})
}

// FuzzStream lives through a script: packets in any order, of any layer, over RTX or not, lost, repeated, with jumps of
// everything, and RTCP in between. What comes out must be one stream.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add([]byte{0x10, 0x41, 0x52, 0x83, 0xf4, 0x15, 0x26, 0x97, 0x08, 0xf9})
	f.Add(slices.Repeat([]byte{3, 0, 0, 7, 0, 11}, 20))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		st := newStage(t)
		video := st.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
		sub, r := st.subscribe(video, "PA_v", videoSection("0"))
		r.keep = true
		feeds := []*feed{{ssrc: 7, rid: "q"}, {ssrc: 8, rid: "h"}, {ssrc: 9, rid: "f"}}
		rtx := feed{ssrc: 70, pt: 97, mid: "0"}
		now := time.Second
		for i, c := range script {
			v := feeds[int(c>>4)%3]
			v.pt, v.mid = 96, "0"
			payload := v.vp8(c&0x40 == 0, c&0x80 != 0 || i < 3)
			switch c & 0xf {
			default:
				st.in.one(v.packet(payload, true), now)
			case 3: // lost
				v.sequence++
			case 4: // twice
				st.in.one(v.packet(payload, true), now)
				v.sequence--
				st.in.one(v.packet(payload, true), now)
			case 5:
				v.sequence += uint16(c) << 7
			case 6:
				v.timestamp -= uint32(c) << 20
			case 7: // again, over RTX
				at := v.sequence - uint16(c>>4)
				st.in.one(rtx.packet(append([]byte{byte(at >> 8), byte(at)}, payload...), true), now)
			case 8:
				v.ssrc += 16
			case 9:
				sub.configure(SubscriptionSettings{Quality: c >> 4, Disabled: c>>4 == 9}, now)
			case 10:
				sub.nacked([]uint16{uint16(i), uint16(c)}, now)
			case 11:
				sub.keyframeRequested(now)
			case 12:
				st.in.feedback(now)
			case 13:
				video.setMuted(c&0x10 != 0)
			case 14:
				v.sequence -= 3
			}
			v.timestamp += 3000
			v.picture++
			now += time.Duration(c&0xf) * 5 * time.Millisecond
		}
		seen := map[uint16]string{}
		for _, p := range r.packets() {
			if p.header.SSRC != 1000 {
				continue // sent again over RTX
			}
			key := p.header.Sequence
			if _, twice := seen[key]; twice {
				t.Fatalf("sequence number %d went out twice", key)
			}
			seen[key] = ""
		}
		if n := len(st.in.sources); n > 8 {
			t.Errorf("%d sources", n)
		}
	})
}

// FuzzAnswer tunes answers, and passes them through the rest of what reads and writes descriptions.
func FuzzAnswer(f *testing.F) {
	f.Add(chromeOffer, chromeOffer, "0", "video/VP9", true)
	f.Add(mixedOffer, mixedOffer, "0", "audio/opus", false)
	f.Fuzz(func(t *testing.T, offer, answer, mid, mime string, audio bool) {
		offered, err := parseDescription(offer)
		if err != nil {
			return
		}
		if _, err := parseDescription(answer); err != nil {
			return // an answer of Pion's
		}
		cfg := PublicationConfig{Kind: Video, MimeType: mime}
		if audio {
			cfg = PublicationConfig{Kind: Audio, MimeType: mime, Stereo: true, DTX: true, RED: true}
		}
		out, err := tune(answer, offered, map[string]PublicationConfig{mid: cfg})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := parseDescription(answer)
		after, err := parseDescription(out)
		if err != nil || len(after) != len(before) {
			t.Fatalf("%d sections became %d: %v", len(before), len(after), err)
		}
		for i := range after {
			if len(after[i].payloads) != len(before[i].payloads) || after[i].mid != before[i].mid {
				t.Errorf("%+v became %+v", before[i], after[i])
			}
		}
		for i := range min(len(offered), len(after)) {
			n := negotiated(&offered[i], &after[i])
			for _, p := range n.payloads {
				_, _, _ = outgoingPayload(after[i].payloads, p)
				_ = sameFormat(p.kind, p.fmtp, mime)
			}
		}
	})
}

// FuzzCandidate takes a client's candidates.
func FuzzCandidate(f *testing.F) {
	f.Add(`{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}`)
	f.Add(`{"candidate":5}`)
	f.Fuzz(func(t *testing.T, text string) {
		tr := &transport{}
		for range 2 {
			if err := tr.candidate(text); err == nil && len(text) > 4096 {
				t.Error("taken")
			}
		}
		if tr.trickled > 2 {
			t.Errorf("%d counted", tr.trickled)
		}
	})
}

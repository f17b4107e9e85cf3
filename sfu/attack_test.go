package sfu

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/codectest"

	"github.com/pion/rtcp"
)

// Every test here is one attack on a room: what it costs is bounded and counted, and another publisher's track goes on.

// siege is a room with an attacker, whose ingest is the stage's, and a publisher and a watcher who mind their business.
type siege struct {
	*stage
	other *stage
	video *publication
	watch *subscription
	sink  *recorder
	feed  feed
	now   time.Duration
	sent  int
}

func newSiege(t testing.TB) *siege {
	s := &siege{stage: newStage(t), feed: feed{ssrc: 7, pt: 96, mid: "0", sequence: 65000}, now: time.Second}
	s.other = s.another("PA_other")
	s.video = s.other.publish("TR_other", Video, videoSection("0"))
	s.watch, s.sink = s.subscribe(s.video, "PA_watcher", videoSection("0"))
	s.sink.keep = true
	s.step()
	return s
}

// another adds a publisher to the stage.
func (st *stage) another(id string) *stage {
	o := &stage{t: st.t, server: st.server, room: st.room, pub: st.participant(id)}
	o.in = newIngest(o.pub, func(p []rtcp.Packet) {
		o.mu.Lock()
		o.sent = append(o.sent, p...)
		o.mu.Unlock()
	})
	o.pub.transports[Publisher].Store(&transport{p: o.pub, in: o.in, plane: &plane{}})
	st.t.Cleanup(func() { o.in.close(); o.pub.reports.stop() })
	return o
}

// step has the other publisher send a frame, 33 ms after the one before.
func (s *siege) step() { s.frame(s.sent == 0) }

// keyframe is a step that lets newcomers in.
func (s *siege) keyframe() { s.frame(true) }

func (s *siege) frame(key bool) {
	s.now += 33 * time.Millisecond
	s.other.in.one(s.feed.packet(s.feed.vp8(true, key), true), s.now)
	s.feed.timestamp += 3000
	s.feed.picture++
	s.sent++
}

// unharmed fails the test unless every frame of the other publisher has reached its watcher, in one unbroken stream.
func (s *siege) unharmed() {
	s.t.Helper()
	got := s.sink.packets()
	if len(got) != s.sent {
		s.t.Fatalf("%d packets of the other publisher arrived, of %d", len(got), s.sent)
	}
	for i, p := range got[1:] {
		if p.header.Sequence != got[i].header.Sequence+1 || p.header.Timestamp != got[i].header.Timestamp+3000 {
			s.t.Fatalf("the other publisher's stream broke at packet %d: %+v, %+v", i+1, got[i].header, p.header)
		}
	}
}

// asked counts what was sent to the attacker.
func (st *stage) asked() (plis, nacks int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, p := range st.sent {
		switch p.(type) {
		case *rtcp.PictureLossIndication:
			plis++
		case *rtcp.TransportLayerNack:
			nacks++
		}
	}
	return plis, nacks
}

func TestAttackMalformedRTP(t *testing.T) {
	s := newSiege(t)
	s.publish("TR_a", Video, videoSection("0"))
	r := rand.New(rand.NewPCG(1, 2))
	f := feed{ssrc: 9, pt: 96, mid: "0"}
	for range 5000 {
		whole := f.packet(f.vp8(true, true), true)
		b := slices.Clone(whole[:r.IntN(len(whole))])
		for range r.IntN(8) {
			if len(b) > 0 {
				b[r.IntN(min(len(b), 40))] = byte(r.Uint32())
			}
		}
		s.in.one(b, s.now)
		if r.IntN(100) == 0 {
			s.step()
		}
	}
	s.unharmed()
	if st := s.in.stats; st.Malformed == 0 || st.Unrouted == 0 || st.Packets != 5000 {
		t.Errorf("%+v", st)
	}
}

func TestAttackMalformedDescriptors(t *testing.T) {
	for _, x := range []struct {
		name string
		s    section
		bad  [][]byte
	}{
		{"VP8", videoSection("0"), [][]byte{{0x80}, {0x90, 0x80}, {0x90, 0xf0, 0x80}, {0x90, 0xff, 0xff}}},
		{"AV1", av1Section("0", 6), [][]byte{{}, {0x10, 0xff, 0xff, 0xff}, {0x30, 0xff}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newSiege(t)
			video := s.publish("TR_a", Video, x.s)
			_, out := s.subscribe(video, "PA_v", x.s)
			out.keep = true
			for _, b := range x.bad {
				for range 100 {
					f := feed{ssrc: 9, pt: x.s.payloads[0].pt, mid: "0", sequence: uint16(len(b))}
					s.in.one(f.packet(b, true), s.now)
				}
				s.step()
			}
			s.unharmed()
			if len(out.packets()) != 0 {
				t.Errorf("%d packets were forwarded", len(out.packets()))
			}
		})
	}
}

func TestAttackMalformedExtensions(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, av1Section("0", 6))
	_, out := s.subscribe(video, "PA_v", av1Section("0", 6))
	out.keep = true // it parses what comes out
	r := rand.New(rand.NewPCG(3, 4))
	f := newAV1Feed("L3T3", 6)
	f.ssrc = 9
	for n := range 400 {
		for _, b := range f.picture(n%40 == 0) {
			h, err := codec.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			for range r.IntN(6) {
				b[int(h.ExtensionStart)-4+r.IntN(int(h.ExtensionEnd-h.ExtensionStart)+4)] = byte(r.Uint32())
			}
			s.in.one(b, s.now)
		}
		s.step()
	}
	s.unharmed()
}

func TestAttackSequenceJumps(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, videoSection("0"))
	_, out := s.subscribe(video, "PA_v", videoSection("0"))
	out.keep = true
	f := feed{ssrc: 9, pt: 96, mid: "0"}
	send := func(sequence uint16) {
		f.sequence = sequence
		s.in.one(f.packet(f.vp8(true, true), true), s.now)
		f.picture++
		f.timestamp += 3000
	}
	// Back and forth: what isn't confirmed by its successor is nobody's.
	for i := range uint16(1000) {
		send(100 + i)
		send(30100 + 7*i)
		s.step()
	}
	if st := s.in.stats; st.Strays != 1000 {
		t.Errorf("%+v", st)
	}
	if n := len(out.packets()); n != 1000 {
		t.Errorf("%d packets forwarded, want 1000", n)
	}
	// In pairs, each of which looks like a restart; and gaps as large as may be.
	for i := range uint16(500) {
		at := i % 2 * 30000
		send(at + 2*i)
		send(at + 2*i + 1)
		send(at + 2*i + 2900)
		s.step()
	}
	s.unharmed()
	s.in.feedback(s.now)
	l := video.layers[0].Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.missing.Len() > 512 || l.packets.Len() > videoHistory {
		t.Errorf("%d missing, %d stored", l.missing.Len(), l.packets.Len())
	}
	if plis, nacks := s.asked(); plis > 2+int(s.now/keyframeSpacing) || nacks > 100 {
		t.Errorf("%d PLIs, %d NACKs", plis, nacks)
	}
}

func TestAttackTimestampJumps(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, videoSection("0"))
	_, out := s.subscribe(video, "PA_v", videoSection("0"))
	out.keep = true
	r := rand.New(rand.NewPCG(5, 6))
	f := feed{ssrc: 9, pt: 96, mid: "0"}
	for i := range 1000 {
		s.in.one(f.packet(f.vp8(true, i == 0), true), s.now)
		f.timestamp, f.picture = r.Uint32(), uint16(r.Uint32())&0x7fff
		s.step()
	}
	s.unharmed()
	got := out.packets()
	for i, p := range got[1:] {
		if d := int32(p.header.Timestamp - got[i].header.Timestamp); d > 11*90000 {
			t.Fatalf("packet %d is %d ticks ahead of the one before", i+1, d)
		}
	}
}

func TestAttackSSRCChanges(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, videoSection("0"))
	sub, out := s.subscribe(video, "PA_v", videoSection("0"))
	out.keep = true
	f := feed{pt: 96, mid: "0", sequence: 40000}
	for i := range 2000 {
		f.ssrc = 1000 + uint32(i)
		s.in.one(f.packet(f.vp8(true, i%2 == 0), true), s.now)
		f.timestamp += 3000
		f.picture++
		s.step()
	}
	s.unharmed()
	if n := len(s.in.sources); n > 1 {
		t.Errorf("%d sources kept", n)
	}
	got := out.packets()
	for i, p := range got[1:] {
		if p.header.Sequence != got[i].header.Sequence+1 {
			t.Fatalf("the subscriber's numbers jump from %d to %d", got[i].header.Sequence, p.header.Sequence)
		}
	}
	if st := sub.snapshot(); st.Packets == 0 {
		t.Errorf("%+v", st)
	}
}

func TestAttackSameSSRCOnTwoMLines(t *testing.T) {
	s := newSiege(t)
	one := s.publish("TR_a", Video, videoSection("0"))
	two := s.publish("TR_b", Video, videoSection("1"))
	_, first := s.subscribe(one, "PA_a", videoSection("0"))
	_, second := s.subscribe(two, "PA_b", videoSection("1"))
	f := feed{ssrc: 9, pt: 96}
	for i := range 100 {
		f.mid = fmt.Sprint(i % 2)
		s.in.one(f.packet(f.vp8(true, i < 2), true), s.now)
		f.timestamp += 3000
		f.picture++
		s.step()
	}
	s.unharmed()
	// An SSRC belongs to the m-line that it was first seen on.
	if first.n != 100 || second.n != 0 {
		t.Errorf("%d packets on the first m-line, %d on the second", first.n, second.n)
	}
}

func TestAttackAnnouncedLayersThatDontCome(t *testing.T) {
	for _, only := range []string{"q", "h", "f"} {
		s := newSiege(t)
		video := s.publish("TR_a", Video, videoSection("0", "q", "h", "f"))
		sub, out := s.subscribe(video, "PA_v", videoSection("0"))
		f := feed{ssrc: 9, pt: 96, mid: "0", rid: only}
		for i := range 50 {
			s.in.one(f.packet(f.vp8(true, i == 0), true), s.now)
			f.timestamp += 3000
			f.picture++
			s.step()
			if i == 25 {
				sub.configure(SubscriptionSettings{Quality: 1}, s.now)
			}
		}
		s.unharmed()
		if out.n != 50 {
			t.Errorf("only %s comes: %d packets of 50 forwarded", only, out.n)
		}
	}
}

func TestAttackSameRidTwice(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, videoSection("0", "q", "q", "q"))
	_, out := s.subscribe(video, "PA_v", videoSection("0"))
	out.keep = true
	feeds := []*feed{{ssrc: 9, pt: 96, mid: "0", rid: "q", sequence: 100}, {ssrc: 10, pt: 96, mid: "0", rid: "q", sequence: 9000}}
	for i := range 1000 {
		for _, f := range feeds {
			s.in.one(f.packet(f.vp8(true, i%10 == 0), true), s.now)
			f.timestamp += 3000
			f.picture++
		}
		s.step()
	}
	s.unharmed()
	if n := len(s.in.sources); n != 1 {
		t.Errorf("%d sources kept", n)
	}
	got := out.packets()
	for i, p := range got[1:] {
		if p.header.Sequence != got[i].header.Sequence+1 {
			t.Fatalf("the subscriber's numbers jump from %d to %d", got[i].header.Sequence, p.header.Sequence)
		}
	}
	if plis, _ := s.asked(); plis > 2+int(s.now/keyframeSpacing) {
		t.Errorf("%d PLIs", plis)
	}
}

func TestAttackSwappedSizes(t *testing.T) {
	s := newSiege(t)
	n := videoSection("0", "q", "h", "f")
	if err := s.pub.Publish(PublicationConfig{ID: "TR_a", CID: n.track, Kind: Video, Layers: []Layer{
		{Quality: 2, Width: 160, Height: 90}, {Quality: 1, Width: 1 << 31, Height: 1 << 31}, {Quality: 0, Width: 1280, Height: 720}, {Quality: 200}}}); err != nil {
		t.Fatal(err)
	}
	s.pub.tracks.sections = append(s.pub.tracks.sections, n)
	s.in.describe(s.pub.tracks.sections)
	s.pub.bind()
	video := s.pub.tracks.byID["TR_a"]
	sub, out := s.subscribe(video, "PA_v", videoSection("0"))
	layers := []*feed{{ssrc: 9, rid: "q"}, {ssrc: 10, rid: "h"}, {ssrc: 11, rid: "f"}}
	for i := range 120 {
		sub.configure(SubscriptionSettings{Width: uint32(i * 40), Height: uint32(i * 23), Quality: uint8(i)}, s.now)
		for _, f := range layers {
			f.pt, f.mid = 96, "0"
			s.in.one(f.packet(f.vp8(true, true), true), s.now)
			f.timestamp += 3000
			f.picture++
		}
		s.step()
	}
	s.unharmed()
	if out.n < 100 {
		t.Errorf("%d of 120 pictures forwarded", out.n)
	}
}

func TestAttackChangingStructures(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, av1Section("0", 6))
	_, out := s.subscribe(video, "PA_v", av1Section("0", 6))
	out.keep = true
	modes := []string{"L1T1", "L3T3", "L2T1", "L3T3_KEY", "L1T3", "L2T2_KEY"}
	f := newAV1Feed(modes[0], 6)
	f.ssrc = 9
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 600 {
		// A structure at each frame, keyframe or not, and frame numbers at random.
		f.encoder = codectest.Encoder{Mode: codectest.ModeOf(modes[i%len(modes)]), Number: int(r.Uint32() & 0xffff)}
		for range 1 + i%3 {
			for _, b := range f.picture(r.IntN(2) == 0) {
				if r.IntN(4) > 0 {
					s.in.one(b, s.now)
				}
			}
		}
		s.step()
	}
	s.unharmed()
	if plis, _ := s.asked(); plis > 2+int(s.now/keyframeSpacing) {
		t.Errorf("%d PLIs", plis)
	}
}

func TestAttackAbsurdDependencies(t *testing.T) {
	s := newSiege(t)
	video := s.publish("TR_a", Video, av1Section("0", 6))
	_, out := s.subscribe(video, "PA_v", av1Section("0", 6))
	out.keep = true
	f := newAV1Feed("L3T3", 6)
	f.ssrc = 9
	r := rand.New(rand.NewPCG(9, 10))
	for i := range 600 {
		for _, b := range f.picture(i%50 == 0) {
			h, err := codec.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			v := h.Extension(b, 6)
			if i > 0 { // the frame number, then what it refers to and its chains
				binary.BigEndian.PutUint16(v[1:], uint16(r.Uint32()))
				for n := 3; n < len(v); n++ {
					v[n] ^= byte(r.IntN(2) << r.IntN(8))
				}
			}
			s.in.one(b, s.now)
		}
		s.step()
	}
	s.unharmed()
	if l := video.layers[0].Load(); l.waiting > videoHistory {
		t.Errorf("%d packets wait for a structure", l.waiting)
	}
}

// flood gives the parts of a room that take RTCP of a watcher.
func (s *siege) flood(sub *subscription) (*transport, func(ssrc uint32, pkts ...rtcp.Packet)) {
	t := &transport{p: sub.p, in: s.in}
	t.back = &returns{find: func(ssrc uint32) *subscription {
		if ssrc == 1000 {
			return sub
		}
		return nil
	}, bitrate: t.estimated, out: sub.out.egress, stray: func() { t.p.strayRTCP.Add(1) }}
	return t, func(ssrc uint32, pkts ...rtcp.Packet) {
		b, err := rtcp.Marshal(pkts)
		if err != nil {
			s.t.Fatal(err)
		}
		t.concern(ssrc, b)
	}
}

func TestAttackPLIFlood(t *testing.T) {
	s := newSiege(t)
	sub, _ := s.subscribe(s.video, "PA_attacker", videoSection("0"))
	_, send := s.flood(sub)
	s.keyframe()
	for i := range 5000 {
		send(1000, &rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 1000})
		send(1000, &rtcp.FullIntraRequest{SenderSSRC: 1, MediaSSRC: 1000, FIR: slices.Repeat([]rtcp.FIREntry{{SSRC: 1000, SequenceNumber: uint8(i)}}, 100)})
		if i%100 == 0 {
			s.video.layers[0].Load().keyframes.came() // each request is answered
			s.step()
		}
	}
	s.unharmed()
	plis, _ := s.other.asked()
	if most := allowedKeyframes + 2 + int(time.Since(s.server.start)/allowedRefill); plis > most {
		t.Errorf("%d keyframes were asked for, at most %d are due", plis, most)
	}
	if st := sub.snapshot(); st.PLIs != 10000 || st.PLIsRefused == 0 {
		t.Errorf("%+v", st)
	}
}

// TestAttackSettingsFlood: who switches a track off and on again and again gets no more keyframes than who asks for them.
func TestAttackSettingsFlood(t *testing.T) {
	s := newSiege(t)
	sub, _ := s.subscribe(s.video, "PA_attacker", videoSection("0"))
	s.keyframe()
	for range 2000 {
		sub.configure(SubscriptionSettings{Disabled: true}, s.now)
		sub.configure(SubscriptionSettings{}, s.now)
		s.step()
		s.video.layers[0].Load().keyframes.came() // each request is answered
	}
	s.unharmed()
	plis, _ := s.other.asked()
	if most := allowedKeyframes + 2 + int(s.now/allowedRefill); plis > most || plis < most/2 {
		t.Errorf("%d keyframes were asked for, at most %d are due", plis, most)
	}
}

func TestAttackNACKFlood(t *testing.T) {
	s := newSiege(t)
	sub, out := s.subscribe(s.video, "PA_attacker", videoSection("0"))
	out.keep = true
	_, send := s.flood(sub)
	s.keyframe()
	for range 200 {
		s.step()
	}
	first := out.packets()[0].header.Sequence
	// Everything, whether it was ever sent or not, again and again.
	for round := range 300 {
		var pairs []rtcp.NackPair
		for i := range uint16(30) {
			pairs = append(pairs, rtcp.NackPair{PacketID: first + 17*i, LostPackets: 0xffff})
		}
		send(1000, &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 1000, Nacks: pairs})
		sub.nacked([]uint16{first + uint16(round)}, time.Duration(round)*time.Hour)
	}
	s.unharmed()
	st := sub.snapshot()
	if st.Unknown == 0 || st.Refused == 0 {
		t.Errorf("%+v", st)
	}
	if st.Resent > st.Packets+firstResend/1000+1 {
		t.Errorf("%d packets sent again, %d sent", st.Resent, st.Packets)
	}
}

func TestAttackRTCPCompounds(t *testing.T) {
	s := newSiege(t)
	sub, _ := s.subscribe(s.video, "PA_attacker", videoSection("0"))
	tr, send := s.flood(sub)
	var many []rtcp.Packet
	for i := range uint32(3000) {
		many = append(many, &rtcp.PictureLossIndication{SenderSSRC: i, MediaSSRC: i})
	}
	blocks := slices.Repeat([]rtcp.ReceptionReport{{SSRC: 1000, FractionLost: 255, TotalLost: 0xffffff, LastSenderReport: 1, Delay: 1 << 31}}, 31)
	for range 1000 {
		many = append(many, &rtcp.ReceiverReport{SSRC: 1, Reports: blocks})
	}
	for i := range 20 {
		send(1000, many...)
		if i%5 == 0 {
			s.step()
		}
	}
	// Garbage, and packets cut short.
	r := rand.New(rand.NewPCG(11, 12))
	whole, err := rtcp.Marshal(many[2990:3010])
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		b := slices.Clone(whole[:r.IntN(len(whole))])
		for range r.IntN(5) {
			if len(b) > 0 {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
		}
		tr.concern(1000, b)
	}
	s.step()
	s.unharmed()
	if tr.p.badRTCP.Load() == 0 {
		t.Error("nothing malformed was counted")
	}
}

func TestAttackFeedbackForOthers(t *testing.T) {
	s := newSiege(t)
	sub, _ := s.subscribe(s.video, "PA_attacker", videoSection("0"))
	tr, send := s.flood(sub)
	s.keyframe() // nobody waits for one any more
	before, _ := s.other.asked()
	for i := range uint32(1000) {
		ssrc := 2000 + i
		send(ssrc, &rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: ssrc}, &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: ssrc, Nacks: []rtcp.NackPair{{PacketID: 1}}},
			&rtcp.FullIntraRequest{SenderSSRC: 1, FIR: []rtcp.FIREntry{{SSRC: ssrc}}}, &rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: ssrc}}})
		// The publisher's own SSRC is none of the attacker's, in either direction.
		send(7, &rtcp.SenderReport{SSRC: 7, NTPTime: uint64(i) << 40, RTPTime: i}, &rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 7})
		send(feedbackSSRC, &rtcp.ExtendedReport{SenderSSRC: 1, Reports: []rtcp.ReportBlock{&rtcp.DLRRReportBlock{
			Reports: slices.Repeat([]rtcp.DLRRReport{{SSRC: feedbackSSRC, LastRR: i, DLRR: i}}, 100)}}})
	}
	s.step()
	s.unharmed()
	if after, _ := s.other.asked(); after != before {
		t.Errorf("%d keyframes were asked for", after-before)
	}
	if n := tr.p.strayRTCP.Load(); n != 4000 {
		t.Errorf("%d strays counted, want 4000", n)
	}
	if s.video.line(0).Known() {
		t.Error("the attacker's sender report moved another's clock")
	}
	if rtt := s.pub.rtt(); rtt > maxRTT {
		t.Errorf("round trip %v", rtt)
	}
}

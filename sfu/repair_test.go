package sfu

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func TestKeyframesAreSentAgainFirst(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	sub, r := st.subscribe(video, "PA_v", videoSection("0"))
	r.keep = true
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	now := time.Second
	frame := func(key bool, packets int) {
		for i := range packets {
			st.in.one(v.packet(v.vp8(i == 0, key), i == packets-1), now)
		}
		v.timestamp += 3000
		v.picture++
	}
	frame(true, 2)
	frame(false, 2)
	frame(true, 3)
	frame(false, 2)
	first := r.packets()[0].header.Sequence
	ask := []uint16{first, first + 3, first + 4, first + 6, first + 7}
	sub.nacked(ask, now+time.Second)
	var got []uint16
	for _, p := range r.packets()[9:] {
		b := p.header.Payload(p.bytes)
		got = append(got, uint16(b[0])<<8|uint16(b[1]))
	}
	if want := []uint16{first + 4, first + 6, first, first + 3, first + 7}; !slices.Equal(got, want) {
		t.Errorf("sent again in the order %v, want %v", got, want)
	}
	// What is asked for once more goes out in two copies.
	sub.nacked(ask[:1], now+2*time.Second)
	if n := len(r.packets()); n != 9+5+2 {
		t.Errorf("%d packets, want two more copies of one", n)
	}
}

// TestRoundTripToAPublisher: one who watches nobody reports on nothing, but answers reference times and NACKs.
func TestRoundTripToAPublisher(t *testing.T) {
	st := newStage(t)
	st.publish("TR_v", Video, videoSection("0"))
	st.in.alarm.stop() // the test calls it
	v, x := feed{ssrc: 7, pt: 96, mid: "0", sequence: 100}, feed{ssrc: 70, pt: 97, mid: "0"}
	now := time.Second
	st.in.one(v.packet(v.vp8(true, true), true), now)
	now += 1100 * time.Millisecond
	st.in.feedback(now)
	sent := uint64(0)
	for _, p := range st.sent {
		if x, ok := p.(*rtcp.ExtendedReport); ok {
			sent = x.Reports[0].(*rtcp.ReceiverReferenceTimeReportBlock).NTPTimestamp
		}
	}
	if sent == 0 {
		t.Fatalf("no reference time in %v", st.sent)
	}
	// It was held for half a second and took 60 ms there and back.
	answer := &rtcp.ExtendedReport{Reports: []rtcp.ReportBlock{&rtcp.DLRRReportBlock{Reports: []rtcp.DLRRReport{
		{SSRC: 99, LastRR: 1}, {SSRC: feedbackSSRC, LastRR: uint32(sent >> 16), DLRR: 1 << 15}}}}}
	st.in.rtcp(feedbackSSRC, []rtcp.Packet{answer}, now+560*time.Millisecond)
	if d := st.pub.rtt() - 60*time.Millisecond; d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("round trip %v, want 60 ms", st.pub.rtt())
	}
	st.pub.roundTrip.Store(0)
	// A packet is lost, asked for once, and comes 80 ms later.
	lost := v.vp8(true, false)
	v.sequence++
	st.in.one(v.packet(v.vp8(true, false), true), now)
	st.in.feedback(now + 20*time.Millisecond)
	st.in.one(x.packet(append([]byte{0, 101}, lost...), true), now+100*time.Millisecond)
	if rtt, want := st.pub.rtt(), (7*defaultRTT+80*time.Millisecond)/8; rtt != want {
		t.Errorf("round trip %v, want %v", rtt, want)
	}
}

func TestFeedbackFitsIntoDatagrams(t *testing.T) {
	st := newStage(t)
	var asked []uint16
	st.in.write = func(list []rtcp.Packet) {
		size := 0
		for _, p := range list {
			size += p.MarshalSize()
			if n, ok := p.(*rtcp.TransportLayerNack); ok {
				for _, pair := range n.Nacks {
					asked = append(asked, pair.PacketList()...)
				}
			}
		}
		if size > maxCompound {
			t.Errorf("%d bytes in one datagram", size)
		}
	}
	st.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
	st.in.alarm.stop()
	var want []uint16
	now := time.Second
	for i, rid := range []string{"q", "h", "f"} {
		v := feed{ssrc: 7 + uint32(i), pt: 96, mid: "0", rid: rid, sequence: uint16(20000 * i)}
		for n := range 6000 {
			b := v.packet(v.vp8(true, n == 0), true)
			if n%20 == 10 { // too far apart for one bitmask
				want = append(want, v.sequence-1)
				continue
			}
			st.in.one(b, now)
		}
	}
	st.in.feedback(now + 50*time.Millisecond)
	slices.Sort(asked)
	slices.Sort(want)
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %d packets, want %d", len(asked), len(want))
	}
}

// TestHistoriesAreBounded: by time for small packets, by the memory that they take for large ones.
func TestHistoriesAreBounded(t *testing.T) {
	st := newStage(t)
	audio, video := st.publish("TR_a", Audio, audioSection("0")), st.publish("TR_v", Video, videoSection("1"))
	sub, _ := st.subscribe(audio, "PA_a", audioSection("0"))
	a, v := feed{ssrc: 7, pt: 111, mid: "0"}, feed{ssrc: 8, pt: 96, mid: "1"}
	if sub.out.sent != nil || sub.out.stamps != nil {
		t.Error("room is made for a track that never sent")
	}
	now := time.Second
	for n := range 60000 { // 100 Mbit/s
		now += 100 * time.Microsecond
		v.picture++
		st.in.one(v.packet(v.vp8(true, n == 0), true), now)
		if n%200 == 0 {
			st.in.one(a.packet(make([]byte, 80), false), now)
		}
	}
	if l := audio.layers[0].Load().packets; l.Len() < 95 || l.Len() > 105 || l.Bytes() > 105*smallPacket {
		t.Errorf("audio: %d packets in %d bytes", l.Len(), l.Bytes())
	}
	if l := video.layers[0].Load().packets; l.Len() < 1800 || l.Bytes() > videoHistoryBytes {
		t.Errorf("video: %d packets in %d bytes", l.Len(), l.Bytes())
	}
}

func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Hour
	for i := range allowedKeyframes {
		if !a.take(now, allowedKeyframes, allowedRefill) {
			t.Fatalf("request %d is refused", i)
		}
	}
	if a.take(now+allowedRefill-1, allowedKeyframes, allowedRefill) {
		t.Error("one too many")
	}
	if !a.take(now+allowedRefill, allowedKeyframes, allowedRefill) || a.take(now+allowedRefill, allowedKeyframes, allowedRefill) {
		t.Error("one more every refill")
	}
	now += time.Hour
	taken := 0
	for i := range 1000 {
		if a.take(now+time.Duration(i)*allowedRefill/10, allowedKeyframes, allowedRefill) {
			taken++
		}
	}
	if taken != allowedKeyframes+99 {
		t.Errorf("%d taken in a hundred refills", taken)
	}
}

// TestMoreStamps: what waits is stamped where it is looked for, when there is room for more.
func TestMoreStamps(t *testing.T) {
	r := &recorder{keep: true}
	e := newEgress(r, func() time.Duration { return time.Second })
	defer e.close()
	e.start()
	var mine, other atomic.Bool
	ids := extensionIDs{transport: 3}
	stamps, others := make([]stamp, 4), make([]stamp, 4)
	put := func(in []stamp, stream *atomic.Bool, sequence uint16, closes bool) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.queue(&outgoing{sequence: sequence, ids: &ids, fill: true, stamp: &in[int(sequence)%len(in)], shed: stream}) {
			t.Fatal("not taken")
		}
		if closes {
			e.dispatch()
		}
	}
	put(stamps, &mine, 8, false)
	put(stamps, &mine, 9, true) // these two leave
	put(stamps, &mine, 10, false)
	put(others, &other, 11, false)
	put(stamps, &mine, 13, false) // it stands where 9 did
	e.mu.Lock()
	stamps = e.moreStamps(&mine, stamps, 8)
	e.mu.Unlock()
	put(stamps, &mine, 14, true)
	for _, sequence := range []uint16{8, 10, 13, 14} {
		if m := stamps[sequence%8]; !m.sent || m.sequence != sequence {
			t.Errorf("%d: %+v", sequence, m)
		}
	}
	if m := others[3]; !m.sent || m.sequence != 11 {
		t.Errorf("another stream's: %+v", m)
	}
	for i, want := range []uint16{0, 2, 4, 5} { // in the order of leaving
		if got := stamps[[]uint16{8, 10, 13, 14}[i]%8].transport; got != want {
			t.Errorf("stamped %d, want %d", got, want)
		}
	}
}

package sfu

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/rtcp"
)

func TestEstimateFollowsTheLink(t *testing.T) {
	k := &narrow{rate: 3e6, delay: 30 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.p.want(2_500_000)
		d.run(10*time.Second, 1.8e6)
		before := d.congestion()
		if before.Source != ByTransportFeedback || before.Target < 2_000_000 || before.Target > 3_300_000 || before.Loss != 0 {
			t.Fatalf("on a link of 3 Mbit/s: %+v", before)
		}
		if before.RTT < 60*ms || before.RTT > 150*ms || d.p.rtt() != before.RTT {
			t.Errorf("a round trip of %v, and %v of the participant", before.RTT, d.p.rtt())
		}
		if got := d.budget(); got != before.Target {
			t.Errorf("the allocation has %d, the target is %d", got, before.Target)
		}
		k.setRate(500_000)
		begin := d.server.now()
		fits := time.Duration(0)
		for range 40 {
			// What the allocation does: a layer that fits.
			bits := float64(d.budget())
			if bits < 1.8e6 {
				bits = min(bits*0.9, 400_000)
			} else {
				bits = 1.8e6
			}
			d.run(100*ms, bits)
			if fits == 0 && d.congestion().Target < 500_000 {
				fits = d.server.now() - begin
			}
		}
		after := d.congestion()
		if fits == 0 || fits > 1500*ms {
			t.Errorf("the target fits %v after the link fell: %+v", fits, after)
		}
		if after.Queue > 100*ms {
			t.Errorf("4 s after the link fell packets wait for %v", after.Queue)
		}
		d.p.want(2_000_000)
		k.setRate(3e6)
		for range 80 {
			d.run(100*ms, min(1.8e6, 0.9*float64(d.budget())))
		}
		if back := d.congestion(); back.Target < 1_900_000 {
			t.Errorf("8 s after the link came back: %+v", back)
		}
		t.Logf("before %+v; fits after %v, then %+v", before, fits, after)
	})
}

// TestFeedbackFlood: no receiver reports so often; what is too much isn't read.
func TestFeedbackFlood(t *testing.T) {
	k := &narrow{rate: 20e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(3*time.Second, 1.8e6)
		if n := d.congestion().Refused; n != 0 {
			t.Errorf("%d messages of an honest receiver weren't read", n)
		}
		// About packets that never left.
		lie := &rtcp.TransportLayerCC{
			Header:     rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 5},
			SenderSSRC: 1, MediaSSRC: 1000, BaseSequenceNumber: 40_000, PacketStatusCount: 1,
			PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1}},
			RecvDeltas:   []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250}},
		}
		before := d.congestion()
		for range 10_000 {
			d.receive(lie)
		}
		after := d.congestion()
		if read := after.Counts.Unknown - before.Counts.Unknown; read == 0 || read > allowedFeedback {
			t.Errorf("%d of 10000 messages at once were read", read)
		}
		if n := after.Refused; n < 10_000-allowedFeedback {
			t.Errorf("%d messages weren't read", n)
		}
		d.run(3*time.Second, 1.8e6)
		if n := d.congestion(); n.Refused != after.Refused || n.Source != ByTransportFeedback {
			t.Errorf("afterwards %+v", n)
		}
	})
}

func TestProbesFindTheLink(t *testing.T) {
	k := &narrow{rate: 20e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(3*time.Second, 100_000)
		low := d.congestion()
		if low.Target > 600_000 || low.Counts.Probes != 0 {
			t.Fatalf("nobody wanted more, but: %+v", low)
		}
		d.p.want(4_000_000)
		d.run(3*time.Second, 100_000)
		high := d.congestion()
		if high.Target < 4_000_000 || high.Counts.Probes == 0 {
			t.Errorf("4 Mbit/s are wanted and there, but: %+v", high)
		}
		s := d.down.out.snapshot()
		if s.Padding == 0 || s.Padding > 500 {
			t.Errorf("%d packets of padding", s.Padding)
		}
		for _, p := range k.sent {
			if p.header.SSRC != 1000 && (p.header.SSRC != 2000 || p.header.PayloadType != 97) {
				t.Fatalf("padding %+v", p.header)
			}
		}
		d.p.want(0)
		before := d.down.out.snapshot().Padding
		d.run(6*time.Second, 100_000)
		if n := d.down.out.snapshot().Padding - before; n != 0 {
			t.Errorf("%d packets of padding though nothing more is wanted", n)
		}
	})
}

// Without RTX padding takes sequence numbers of the stream, between frames.
func TestPaddingWithoutRTX(t *testing.T) {
	s := pacedSection(true)
	s.payloads = s.payloads[:1]
	k := &narrow{rate: 20e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, s, k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.p.want(2_000_000)
		d.run(4*time.Second, 200_000)
		padding := 0
		var last codec.Header
		for i, p := range k.sent {
			h := p.header
			if h.PaddingOnly() {
				padding++
				if h.Timestamp != last.Timestamp || !last.Marker && !last.PaddingOnly() {
					t.Fatalf("padding %+v after %+v", h, last)
				}
			}
			if i > 0 && h.Sequence != last.Sequence+1 {
				t.Fatalf("%d after %d", h.Sequence, last.Sequence)
			}
			last = h
		}
		if padding == 0 || d.congestion().Target < 2_000_000 {
			t.Errorf("%d packets of padding, %+v", padding, d.congestion())
		}
		// One that was lost can be had again, bit for bit.
		n := d.sub.snapshot().Resent
		for i := len(k.sent) - 1; i >= 0; i-- {
			if k.sent[i].header.PaddingOnly() && last.Sequence-k.sent[i].header.Sequence < 400 {
				d.sub.nacked([]uint16{k.sent[i].header.Sequence}, d.server.now())
				break
			}
		}
		if got := d.sub.snapshot().Resent - n; got != 1 {
			t.Errorf("%d packets of padding were sent again", got)
		}
	})
}

// A transport on which nothing leaves because so little is allowed finds out when there is more.
func TestStarvedTransportProbes(t *testing.T) {
	k := &narrow{rate: 5e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(time.Second, 100_000)
		for range 100 { // nothing is sent
			time.Sleep(50 * ms)
			synctest.Wait()
			d.report()
		}
		packets := d.down.out.snapshot().Packets
		d.p.want(3_000_000)
		for range 100 {
			time.Sleep(50 * ms)
			synctest.Wait()
			d.report()
		}
		if c := d.congestion(); c.Target < 3_000_000 {
			t.Errorf("after 5 s: %+v, %d packets", c, d.down.out.snapshot().Packets-packets)
		}
	})
}

func TestFeedbackThatNeverComes(t *testing.T) {
	k := &narrow{rate: 1e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.reports = true
		d.p.want(800_000)
		d.run(2*time.Second, 300_000)
		if c := d.congestion(); c.Source != ByTransportFeedback {
			t.Fatalf("after 2 s: %+v", c)
		}
		d.run(20*time.Second, 300_000)
		if c := d.congestion(); c.Source != ByReports || c.Target < 400_000 {
			t.Fatalf("after 20 s: %+v", c)
		}
		d.feedback = true
		d.run(10*time.Second, 300_000)
		if c := d.congestion(); c.Source != ByTransportFeedback || c.Target < 400_000 {
			t.Fatalf("feedback has come: %+v", c)
		}
		d.feedback = false // and goes again
		d.run(10*time.Second, 300_000)
		if c := d.congestion(); c.Source != ByReports {
			t.Fatalf("feedback has gone: %+v", c)
		}
	})
}

func TestSilentPathIsNoPath(t *testing.T) {
	k := &narrow{rate: 5e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(3*time.Second, 400_000)
		d.feedback = false
		d.run(10*time.Second, 400_000)
		if c := d.congestion(); c.Source != ByTransportFeedback || c.Target > 60_000 {
			t.Errorf("nothing comes back, but %+v", c)
		}
	})
}

func TestReceiverReportsAlone(t *testing.T) {
	k := &narrow{rate: 1e6, delay: 20 * ms, queue: 100 * ms}
	withDownlink(t, pacedSection(false), k, func(t *testing.T, d *downlink) {
		d.reports = true
		d.p.want(2_000_000)
		for range 300 {
			d.run(100*ms, min(1.8e6, 0.9*float64(d.budget())))
		}
		c := d.congestion()
		if c.Source != ByReports || c.Target < 400_000 || c.Target > 1_500_000 {
			t.Errorf("over 1 Mbit/s: %+v", c)
		}
		lost := k.lost
		now := d.server.now()
		for range 100 {
			d.run(100*ms, min(1.8e6, 0.9*float64(d.budget())))
		}
		if rate := k.bitsBetween(now, d.server.now()); rate > 1.2e6 {
			t.Errorf("%.0f bit/s over 1 Mbit/s, %d packets lost", rate, k.lost-lost)
		}
	})
}

func TestREMBAlone(t *testing.T) {
	k := &narrow{rate: 10e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(false), k, func(t *testing.T, d *downlink) {
		d.reports = true
		receiver := 3e6
		d.remb = func() float64 { return receiver }
		d.p.want(2_000_000)
		d.run(10*time.Second, 400_000)
		c := d.congestion()
		if c.Source != ByREMB || c.Target < 2_000_000 || c.Target > 3_000_000 {
			t.Errorf("the receiver says 3 Mbit/s: %+v", c)
		}
		receiver = 300_000
		d.run(2*time.Second, 250_000)
		if c := d.congestion(); c.Target > 300_000 {
			t.Errorf("the receiver says 300 kbit/s: %+v", c)
		}
	})
}

// What waits of a subscription that ends doesn't leave any more.
func TestEndedSubscriptionLeavesNothing(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(time.Second, 300_000)
		for i := range 40 {
			d.in.one(d.v.packet(d.v.vp8(i == 0, false), i == 39), d.server.now())
		}
		if s := d.down.out.snapshot(); s.Waiting == 0 {
			t.Fatal("nothing waits")
		}
		d.p.want(5_000_000)
		n := len(k.sent)
		d.sub.end()
		d.run(2*time.Second, 300_000)
		if s := d.down.out.snapshot(); s.Waiting != 0 || len(k.sent) != n {
			t.Errorf("%d packets wait, %d left", s.Waiting, len(k.sent)-n)
		}
	})
}

func TestIdleTransportsCostNothing(t *testing.T) {
	k := &narrow{rate: 5e6, delay: 20 * ms, queue: 300 * ms}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(2*time.Second, 400_000)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		e := d.down.out
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.control.ticking || e.armed || e.media.head != nil || e.control.alarm.due != 0 {
			t.Errorf("ticking %v, armed %v, due %v", e.control.ticking, e.armed, e.control.alarm.due)
		}
	})
}

// pacedSubscribers are fed from pub over paced transports, whose clock is the caller's.
func pacedSubscribers(st *stage, pub *publication, n int, bits int64, clock func() time.Duration) (sinks []*recorder) {
	st.server.cfg.StartBitrate = bits
	for range n {
		p, r := st.participant("PA_sub"), &recorder{}
		e := newEgress(r, clock)
		e.owner = p
		st.t.Cleanup(e.close)
		s := pacedSection(true)
		sub := &subscription{p: p, pub: pub, room: st.room, settings: SubscriptionSettings{Quality: 2}}
		pub.want(sub)
		if err := sub.establish(e, &s, 1000, 2000); err != nil {
			st.t.Fatal(err)
		}
		sub.out.announced = true
		e.start()
		e.control.alarm.stop() // real time would find that no feedback comes
		pub.feed(sub)
		sinks = append(sinks, r)
	}
	return sinks
}

func TestPacedForwardingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	for name, bits := range map[string]int64{"at once": 100_000_000, "through the queue": 700_000} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t)
			video := st.publish("TR_v", Video, videoSection("0"))
			var now atomic.Int64 // of the egress, ahead of real time: its timers hardly run
			now.Store(int64(time.Second))
			sinks := pacedSubscribers(st, video, 5, bits, func() time.Duration { return time.Duration(now.Load()) })
			v := feed{ssrc: 7, pt: 96, mid: "0"}
			key, delta := v.vp8(true, true), v.vp8(false, false)
			st.in.one(v.packet(key, true), time.Duration(now.Load()))
			frame := func() {
				v.timestamp += 3000
				at := time.Duration(now.Add(int64(33 * ms)))
				st.in.one(v.packet(delta, false), at)
				st.in.one(v.packet(delta, false), at)
				st.in.one(v.packet(delta, true), at)
			}
			for range 2000 {
				frame()
			}
			before := sinks[0].count()
			if n := testing.AllocsPerRun(500, frame); n != 0 {
				t.Errorf("%v allocations for 3 packets to 5 subscribers", n)
			}
			if n := sinks[0].count() - before; n < 3*490 {
				t.Errorf("%d of %d packets left", n, 3*501)
			}
		})
	}
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func BenchmarkPaced(b *testing.B) {
	const subscribers = 20
	st := newStage(b)
	video := st.publish("TR_v", Video, videoSection("0"))
	var now atomic.Int64
	now.Store(int64(time.Second))
	pacedSubscribers(st, video, subscribers, 100_000_000, func() time.Duration { return time.Duration(now.Load()) })
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	key, delta := v.vp8(true, true), v.vp8(true, false)
	st.in.one(v.packet(key, true), time.Duration(now.Load()))
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		v.timestamp += 3000
		st.in.one(v.packet(delta, true), time.Duration(now.Add(int64(ms))))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*subscribers), "ns/packet-sent")
}

func FuzzFeedback(f *testing.F) {
	d := []byte{0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 2, 0, 0, 1, 0, 0x20, 2, 4, 4}
	f.Add(d, uint16(3))
	f.Add([]byte{0x8b, 205, 0, 5, 0, 0, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 2, 0x80, 0, 0x80, 1, 0, 1, 0, 0}, uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		st := newStage(t)
		p := st.participant("PA_sub")
		e := newEgress(&recorder{}, st.server.now)
		e.owner = p
		defer e.close()
		s := pacedSection(true)
		s.ccfb = n%2 == 0
		e.carries(&s)
		e.start()
		ids := extensionIDsOf(&s)
		for i := range n % 64 {
			e.send(&outgoing{ssrc: 1000, sequence: i, pt: 96, ids: &ids, fill: true, class: sound})
		}
		r := returns{find: p.subscriptionOf, bitrate: func(float64) {}, out: e}
		now := st.server.now()
		r.raw(1000, b, now)
		if len(b) >= 12 {
			r.raw(binary.BigEndian.Uint32(b[8:]), b, now)
		}
		c := e.congestion(now)
		if c.Target < 50_000 || c.Target > 100_000_000 {
			t.Errorf("%+v", c)
		}
	})
}

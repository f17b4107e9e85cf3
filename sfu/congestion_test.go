package sfu

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
)

const ms = time.Millisecond

// narrow is a sink: a link of a rate with a drop-tail queue in simulated time, and the receiver behind it, who reports by
// transport-wide feedback, receiver reports or REMB.
type narrow struct {
	clock func() time.Duration
	delay time.Duration // one way
	queue time.Duration // the longest that a packet waits

	mu       sync.Mutex
	rate     float64 // bit/s
	free     time.Duration
	arriving []arriving
	sent     []departure
	streams  map[uint32]*streamAtReceiver
	lost     int
}

type arriving struct {
	at     time.Duration
	number uint16
	has    bool
	size   int
}

type departure struct {
	at     time.Duration
	size   int
	header codec.Header
	audio  bool
}

// streamAtReceiver counts for receiver reports.
type streamAtReceiver struct {
	first, highest     uint16
	received, expected int
}

func (k *narrow) sendRun(run []segment) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	for _, g := range run {
		h, err := codec.ParseHeader(append(append(append([]byte{}, g.header...), g.prefix...), g.payload...))
		if err != nil {
			panic(err)
		}
		size := len(g.header) + len(g.prefix) + len(g.payload) + packetOverhead
		k.sent = append(k.sent, departure{now, size, h, h.PayloadType == 111})
		s := k.streams[h.SSRC]
		if s == nil {
			s = &streamAtReceiver{first: h.Sequence, highest: h.Sequence - 1}
			k.streams[h.SSRC] = s
		}
		begin := max(now, k.free)
		if begin-now > k.queue {
			k.lost++
			continue
		}
		k.free = begin + time.Duration(float64(size*8)/k.rate*float64(time.Second))
		if d := int16(h.Sequence - s.highest); d > 0 {
			s.highest = h.Sequence
			s.expected += int(d)
		}
		s.received++
		a := arriving{at: k.free + k.delay, size: size}
		if v := h.Extension(g.header, 3); v != nil {
			a.number, a.has = binary.BigEndian.Uint16(v), true
		}
		k.arriving = append(k.arriving, a)
	}
	return len(run)
}

func (k *narrow) setRate(bits float64) {
	k.mu.Lock()
	k.rate = bits
	k.mu.Unlock()
}

// arrived takes what has arrived by now.
func (k *narrow) arrived(now time.Duration) (list []arriving) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.arriving) > 0 && k.arriving[0].at <= now {
		list = append(list, k.arriving[0])
		k.arriving = k.arriving[1:]
	}
	return list
}

// reportBlock is what a receiver report says of a stream.
func (k *narrow) reportBlock(ssrc uint32) (b rtcp.ReceptionReport, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.streams[ssrc]
	if s == nil || s.expected == 0 {
		return b, false
	}
	fraction := max(0, 256*(s.expected-s.received)/s.expected)
	s.expected, s.received = 0, 0
	return rtcp.ReceptionReport{SSRC: ssrc, FractionLost: uint8(min(fraction, 255)), LastSequenceNumber: uint32(s.highest) + 1<<16}, true
}

// bitsBetween is what left in that time, in bit/s.
func (k *narrow) bitsBetween(from, to time.Duration) float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	bytes := 0
	for _, d := range k.sent {
		if d.at >= from && d.at < to {
			bytes += d.size
		}
	}
	return float64(bytes*8) / (to - from).Seconds()
}

// downlink is a subscriber behind a path, in a synctest bubble.
type downlink struct {
	*stage
	path *narrow
	p    *Participant
	down *transport
	sub  *subscription
	v    feed
	// what the receiver sends
	feedback, reports bool
	remb              func() float64

	recorder     *twcc.Recorder
	key          bool
	frame        int
	nextFeedback time.Duration
	nextReport   time.Duration
}

func pacedSection(transportCC bool) section {
	s := videoSection("0")
	for i := range s.payloads {
		s.payloads[i].transportCC = transportCC
	}
	return s
}

// withDownlink runs f in simulated time, with a subscriber of one video track whose m-line is s.
func withDownlink(t *testing.T, s section, k *narrow, f func(t *testing.T, d *downlink)) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		time.Sleep(time.Second) // virtual: server time 0 means unset here and there
		d := &downlink{stage: st, path: k, recorder: twcc.NewRecorder(1), key: true}
		k.clock, k.streams = st.server.now, map[uint32]*streamAtReceiver{}
		video := st.publish("TR_v", Video, videoSection("0"))
		d.p = st.participant("PA_sub")
		e := newEgress(k, 0, st.server.now)
		e.owner = d.p
		d.down = &transport{p: d.p, target: Subscriber, out: e}
		d.down.back = &returns{find: d.p.subscriptionOf, transport: d.down.transportFeedback, bitrate: d.down.estimated, out: e}
		d.p.transports[Subscriber].Store(d.down)
		defer func() { e.close(); d.p.reports.stop() }()
		d.sub = &subscription{p: d.p, pub: video, room: st.room, settings: SubscriptionSettings{Quality: 2}}
		d.p.subs["TR_v"] = d.sub
		video.want(d.sub)
		if err := d.sub.establish(e, &s, 1000, 2000); err != nil {
			t.Fatal(err)
		}
		d.p.enlist(1000, d.sub)
		d.sub.out.announced = true
		e.start()
		video.feed(d.sub)
		d.p.sharing.remove(d.sub) // all goes through, whatever the budget
		d.sub.out.forwarder.SetTarget(0, forward.AllTemporal)
		d.v = feed{ssrc: 7, pt: 96, mid: "0"}
		f(t, d)
	})
}

// run publishes video of that rate for a while, at 30 frames a second, and lets the receiver report.
func (d *downlink) run(length time.Duration, bits float64) {
	const tick = time.Second / 60
	for range int(length / tick) {
		if d.frame++; d.frame%2 == 0 {
			packets := max(1, int(math.Round(bits/8/30/1100)))
			d.v.timestamp += 3000
			d.v.picture++
			for i := range packets {
				d.in.rtp(d.v.packet(d.v.vp8(i == 0, d.key), i == packets-1), d.server.now())
			}
			d.key = false
		}
		time.Sleep(tick) // virtual
		synctest.Wait()
		d.report()
	}
}

// report sends what the receiver has to say now.
func (d *downlink) report() {
	now := d.server.now()
	for _, a := range d.path.arrived(now - d.path.delay) {
		if a.has && d.feedback {
			d.recorder.Record(1000, a.number, a.at.Microseconds()+77_000_000)
		}
	}
	if d.feedback && now >= d.nextFeedback {
		d.nextFeedback = now + 50*ms
		for _, p := range d.recorder.BuildFeedbackPacket() {
			d.receive(p)
		}
	}
	if now >= d.nextReport {
		d.nextReport = now + time.Second
		if d.reports {
			if b, ok := d.path.reportBlock(1000); ok {
				d.receive(&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{b}})
			}
		}
		if d.remb != nil {
			d.receive(&rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: 1, Bitrate: float32(d.remb()), SSRCs: []uint32{1000}})
		}
	}
}

// receive passes a packet through the seam, as Pion's session does.
func (d *downlink) receive(p rtcp.Packet) {
	b, err := p.Marshal()
	if err != nil {
		d.t.Fatal(err)
	}
	u := upward{t: d.down, ssrc: 1000, rtcp: true}
	if _, err := u.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

// budget is what the allocation was told.
func (d *downlink) budget() int64 {
	d.p.sharing.mu.Lock()
	defer d.p.sharing.mu.Unlock()
	return d.p.sharing.estimate
}

func (d *downlink) congestion() CongestionStats { return d.down.out.congestion(d.server.now()) }

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

// A keyframe is spread over time; audio and what is sent again don't wait behind it.
func TestKeyframeIsSmoothed(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		audio := d.publish("TR_a", Audio, audioSection("1"))
		a := audioSection("1")
		listening := &subscription{p: d.p, pub: audio, room: d.room}
		audio.want(listening)
		if err := listening.establish(d.down.out, &a, 3000, 0); err != nil {
			t.Fatal(err)
		}
		listening.out.announced = true
		audio.feed(listening)
		d.feedback = true
		d.run(2*time.Second, 300_000)
		begin, first := d.server.now(), len(k.sent)
		d.v.timestamp += 3000
		d.v.picture++
		for i := range 40 { // 42 kB
			d.in.rtp(d.v.packet(d.v.vp8(i == 0, true), i == 39), begin)
		}
		if n := len(k.sent) - first; n == 0 || n > maxRun {
			t.Errorf("%d packets of the keyframe left at once", n)
		}
		waiting := d.down.out.snapshot()
		if waiting.Waiting < 20 || waiting.WaitingBytes < 20_000 {
			t.Errorf("%+v", waiting)
		}
		f := feed{ssrc: 8, pt: 111, mid: "1"}
		n := len(k.sent)
		d.in.rtp(f.packet([]byte("opus"), false), begin)
		if len(k.sent) != n+1 || !k.sent[n].audio {
			t.Error("audio waits")
		}
		again := k.sent[n-1].header.Sequence
		d.sub.nacked([]uint16{again}, begin+d.sub.p.knownRTT())
		time.Sleep(time.Second)
		synctest.Wait()
		var last time.Duration
		var position, repaired int
		for i, p := range k.sent[n+1:] {
			if p.header.SSRC == 2000 {
				repaired, position = repaired+1, i
			}
			last = p.at
		}
		if repaired != 1 || position > 1 {
			t.Errorf("%d packets sent again, after %d others", repaired, position)
		}
		if d := last - begin; d < 100*ms || d > 270*ms {
			t.Errorf("the keyframe took %v", d)
		}
		if s := d.down.out.snapshot(); s.Waiting != 0 || s.WaitingBytes != 0 || s.Shed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(time.Second, 300_000)
		now := d.server.now()
		for range 3 * maxWaiting {
			d.in.rtp(d.v.packet(d.v.vp8(false, false), true), now)
			if s := d.down.out.snapshot(); s.Waiting > maxWaiting || s.WaitingBytes > maxWaitingBytes+2000 {
				t.Fatalf("%+v", s)
			}
		}
		s := d.down.out.snapshot()
		if s.Shed < 1000 || s.Waiting != 0 {
			t.Errorf("%d packets were shed, %d wait", s.Shed, s.Waiting)
		}
		if layer, waits := d.sub.out.forwarder.NeedsKeyframe(); !waits || layer != 0 {
			t.Error("it doesn't need a keyframe")
		}
		n := len(k.sent)
		d.sub.nacked([]uint16{d.sub.out.newest}, now)
		d.in.rtp(d.v.packet(d.v.vp8(true, true), true), now)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(k.sent) != n+1 || k.sent[n].header.SSRC != 1000 {
			t.Errorf("%d packets after the keyframe", len(k.sent)-n)
		}
	})
}

// TestFloodShedsItself: where too much waits, the stream that takes the most room is the one that is shed.
func TestFloodShedsItself(t *testing.T) {
	var f fifo
	var small, large atomic.Bool
	for i := range 30 {
		stream, size := &large, 1200
		if i%3 == 0 {
			stream, size = &small, 1000 // its packet is the first in the queue
		}
		f.push(&slot{shed: stream, size: size})
	}
	f.push(&slot{size: 100_000}) // padding that has to leave
	if got := f.heaviest(); got != &large {
		t.Fatalf("%p is to be shed, of %p and %p", got, &small, &large)
	}
	if n := f.remove(&large); n != 20 || f.n != 11 || f.heaviest() != &small {
		t.Errorf("%d removed, %d left", n, f.n)
	}
	for range 100 { // more streams than are looked at
		f.push(&slot{shed: new(atomic.Bool), size: 50})
	}
	if f.heaviest() != &small {
		t.Error("one of many small ones is to be shed")
	}
}

// What waits of a subscription that ends doesn't leave any more.
func TestEndedSubscriptionLeavesNothing(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(time.Second, 300_000)
		for i := range 40 {
			d.in.rtp(d.v.packet(d.v.vp8(i == 0, false), i == 39), d.server.now())
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
		e := newEgress(r, 0, clock)
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
			st.in.rtp(v.packet(key, true), time.Duration(now.Load()))
			frame := func() {
				v.timestamp += 3000
				at := time.Duration(now.Add(int64(33 * ms)))
				st.in.rtp(v.packet(delta, false), at)
				st.in.rtp(v.packet(delta, false), at)
				st.in.rtp(v.packet(delta, true), at)
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
	st.in.rtp(v.packet(key, true), time.Duration(now.Load()))
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		v.timestamp += 3000
		st.in.rtp(v.packet(delta, true), time.Duration(now.Add(int64(ms))))
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
		e := newEgress(&recorder{}, 0, st.server.now)
		e.owner = p
		defer e.close()
		s := pacedSection(true)
		s.ccfb = n%2 == 0
		e.carries(&s)
		e.start()
		ids := extensionIDsOf(&s)
		for i := range n % 64 {
			e.send(&outgoing{ssrc: 1000, sequence: i, pt: 96, ids: &ids, fill: true, closes: true, class: sound})
		}
		r := returns{find: p.subscriptionOf, transport: func(int, int) {}, bitrate: func(float64) {}, out: e}
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

package sfu

import (
	"encoding/binary"
	"math"
	"sync"
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
		e := newEgress(k, st.server.now)
		e.owner = d.p
		d.down = &transport{p: d.p, target: Subscriber, out: e}
		d.down.back = &returns{find: d.p.subscriptionOf, bitrate: d.down.estimated, out: e}
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
		d.sub.heed()
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
				d.in.one(d.v.packet(d.v.vp8(i == 0, d.key), i == packets-1), d.server.now())
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

// receive passes a packet through the seam, as the plane does.
func (d *downlink) receive(p rtcp.Packet) {
	b, err := p.Marshal()
	if err != nil {
		d.t.Fatal(err)
	}
	d.down.concern(1000, b)
}

// budget is what the allocation was told.
func (d *downlink) budget() int64 {
	d.p.sharing.mu.Lock()
	defer d.p.sharing.mu.Unlock()
	return d.p.sharing.estimate
}

func (d *downlink) congestion() CongestionStats { return d.down.out.congestion(d.server.now()) }

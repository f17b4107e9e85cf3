package sfu

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/rtcp"
)

// Between the seams there is no Pion: the tests here feed bytes into ingest and read runs from a sink.

// recorder is a sink that keeps what it is given, if keep is set.
type recorder struct {
	mu   sync.Mutex
	keep bool
	runs [][]wire
	n    int
}

type wire struct {
	header codec.Header
	bytes  []byte
}

func (r *recorder) sendRun(run []segment) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += len(run)
	if !r.keep {
		return len(run)
	}
	var out []wire
	for _, g := range run {
		b := slices.Concat(g.header, g.prefix, g.payload)
		h, err := codec.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		out = append(out, wire{h, b})
	}
	r.runs = append(r.runs, out)
	return len(run)
}

func (r *recorder) packets() (out []wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.runs {
		out = append(out, run...)
	}
	return out
}

// one takes a packet after which nothing more is at hand.
func (in *ingest) one(b []byte, at time.Duration) {
	in.rtp(b, at)
	in.rest(at)
}

// concern gives the transport a datagram of RTCP as it concerns one source, whatever is in it.
func (t *transport) concern(ssrc uint32, b []byte) {
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		t.p.badRTCP.Add(1)
		return
	}
	t.rtcpOn(ssrc, pkts, b, t.p.server.now())
}

// stage is a publisher and subscribers without connections.
type stage struct {
	t      testing.TB
	server *Server
	room   *room
	pub    *Participant
	in     *ingest
	sent   []rtcp.Packet
	mu     sync.Mutex
}

func newStage(t testing.TB) *stage {
	st := &stage{t: t, room: newRoom("room", Voices{})}
	st.server = &Server{log: slog.New(slog.DiscardHandler), start: time.Now(), rooms: map[string]*room{"room": st.room}}
	t.Cleanup(st.server.works.stop)
	st.server.cfg.Limits = Limits{Publications: 16, Subscriptions: 100}
	st.pub = st.participant("PA_pub")
	st.in = newIngest(st.pub, func(p []rtcp.Packet) {
		st.mu.Lock()
		st.sent = append(st.sent, p...)
		st.mu.Unlock()
	})
	st.pub.transports[Publisher].Store(&transport{p: st.pub, in: st.in, plane: &plane{}})
	t.Cleanup(func() { st.in.close(); st.pub.reports.stop() })
	return st
}

func (st *stage) participant(id string) *Participant {
	p := &Participant{server: st.server, room: st.room, log: st.server.log, cfg: ParticipantConfig{Room: "room", ID: id, Notify: func(Event) {}},
		tracks: newAnnounced(), subs: map[string]*subscription{}, bySSRC: map[uint32]*subscription{}, done: make(chan struct{})}
	p.nego.p = p
	p.nego.outstanding = true // nothing is ever offered
	p.reports = newAlarm(&st.server.works, st.server.now, func(time.Duration) time.Duration { return 0 })
	p.sharing = newAllocation(p)
	p.sharing.alarm.stop() // time is the test's
	p.budget(0, 1)
	p.budget(0, unlimited)
	return p
}

// publish makes a track whose m-line is s.
func (st *stage) publish(id string, kind Kind, s section) *publication {
	st.t.Helper()
	if err := st.pub.Publish(PublicationConfig{ID: id, CID: s.track, Kind: kind}); err != nil {
		st.t.Fatal(err)
	}
	st.pub.tracks.sections = append(st.pub.tracks.sections, s)
	st.in.describe(st.pub.tracks.sections)
	st.pub.bind()
	return st.pub.tracks.byID[id]
}

// subscribe feeds a new participant from pub over an m-line that takes s.
func (st *stage) subscribe(pub *publication, id string, s section) (*subscription, *recorder) {
	st.t.Helper()
	r := &recorder{}
	e := newEgress(r, st.server.now)
	e.start()
	st.t.Cleanup(e.close)
	sub := &subscription{p: st.participant(id), pub: pub, room: st.room, settings: SubscriptionSettings{Quality: 2}}
	pub.want(sub)
	if err := sub.establish(e, &s, 1000, 2000); err != nil {
		st.t.Fatal(err)
	}
	sub.out.announced = true // no padding in front, so that tests count packets alone
	pub.feed(sub)
	return sub, r
}

func audioSection(mid string) section {
	return section{mid: mid, kind: "audio", sending: true, receiving: true, track: "cid-" + mid,
		extensions: map[string]uint8{codec.URITransportSequence: 3, codec.URIAudioLevel: 1, codec.URIAbsSendTime: 2, codec.URIMid: 4},
		payloads:   []payload{{pt: 111, kind: codec.Opus, clock: 48000, nack: true}, {pt: 63, kind: codec.RED, clock: 48000}}}
}

func videoSection(mid string, rids ...string) section {
	return section{mid: mid, kind: "video", sending: true, receiving: true, track: "cid-" + mid, rids: rids,
		extensions: map[string]uint8{codec.URITransportSequence: 3, codec.URIAbsSendTime: 2, codec.URIMid: 4, codec.URIRid: 5, codec.URIRepairedRid: 6},
		payloads:   []payload{{pt: 96, kind: codec.VP8, clock: 90000, nack: true}, {pt: 97, rtx: true, apt: 96, clock: 90000}}}
}

// feed builds packets of one SSRC.
type feed struct {
	ssrc, timestamp   uint32
	sequence, picture uint16
	transport         *uint16
	pt                uint8
	mid, rid          string
	buf               [1400]byte
}

func (f *feed) packet(payload []byte, marker bool) []byte {
	w := codec.NewWriter(f.buf[:], marker, f.pt, f.sequence, f.timestamp, f.ssrc)
	if f.transport != nil {
		at, _ := w.Extension(3, zeros[:2])
		codec.PutTransportSequence(f.buf[at:], *f.transport)
		*f.transport++
	}
	if f.mid != "" {
		w.Extension(4, []byte(f.mid))
	}
	if f.rid != "" {
		w.Extension(5, []byte(f.rid))
	}
	n := w.Finish()
	f.sequence++
	return f.buf[:n+copy(f.buf[n:], payload)]
}

// vp8 is the payload of one packet: 15-bit picture id, TL0PICIDX, TID.
func (f *feed) vp8(first, key bool) []byte {
	b := make([]byte, 1000)
	b[0] = 0x80
	if first {
		b[0] |= 0x10
	}
	b[1], b[2], b[3], b[4] = 0xe0, 0x80|byte(f.picture>>8), byte(f.picture), byte(f.picture)
	if !key {
		b[6] = 1
	}
	return b
}

func TestForwardingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
	audio := st.publish("TR_a", Audio, audioSection("1"))
	var sinks []*recorder
	for i := range 20 {
		_, r := st.subscribe(video, fmt.Sprintf("PA_v%d", i), videoSection("0"))
		sinks = append(sinks, r)
		_, r = st.subscribe(audio, fmt.Sprintf("PA_a%d", i), audioSection("1"))
		sinks = append(sinks, r)
	}
	var transport uint16
	v := feed{ssrc: 7, sequence: 65000, picture: 100, pt: 96, mid: "0", rid: "f", transport: &transport}
	a := feed{ssrc: 8, sequence: 10, pt: 111, mid: "1", transport: &transport}
	key, delta, more, opus := v.vp8(true, true), v.vp8(true, false), v.vp8(false, false), make([]byte, 80)
	now := st.server.now()
	st.in.one(v.packet(key, true), now)
	frame := func() {
		now += 33 * time.Millisecond
		v.timestamp += 3000
		v.picture++
		for _, b := range [][]byte{delta, more} {
			b[2], b[3] = 0x80|byte(v.picture>>8)&0x7f, byte(v.picture)
		}
		st.in.one(v.packet(delta, false), now)
		st.in.one(v.packet(more, false), now)
		st.in.one(v.packet(more, true), now)
		a.timestamp += 960
		st.in.one(a.packet(opus, false), now)
	}
	for range 3000 { // fill histories and pools
		frame()
	}
	before := 0
	for _, r := range sinks {
		before += r.n
	}
	if n := testing.AllocsPerRun(500, frame); n != 0 {
		t.Errorf("%v allocations for 4 packets to 20 subscribers each", n)
	}
	after := 0
	for _, r := range sinks {
		after += r.n
	}
	if want := 501 * (3*20 + 20); after-before != want {
		t.Errorf("%d packets came out, want %d", after-before, want)
	}
}

func BenchmarkForward(b *testing.B) {
	for _, subscribers := range []int{1, 20, 150} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) {
			st := newStage(b)
			video := st.publish("TR_v", Video, videoSection("0"))
			for i := range subscribers {
				st.subscribe(video, fmt.Sprintf("PA_%d", i), videoSection("0"))
			}
			v := feed{ssrc: 7, pt: 96, mid: "0"}
			key, delta := v.vp8(true, true), v.vp8(true, false)
			st.in.one(v.packet(key, true), st.server.now())
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				v.timestamp += 3000
				st.in.one(v.packet(delta, true), time.Duration(i)*time.Millisecond)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*subscribers), "ns/packet-sent")
		})
	}
}

func TestRunsCloseAtMarkerAndLength(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	_, r := st.subscribe(video, "PA_a", videoSection("0"))
	r.keep = true
	v := feed{ssrc: 7, pt: 96, mid: "0", picture: 5}
	key, more := v.vp8(true, true), v.vp8(false, false)
	st.in.rtp(v.packet(key, false), 1)
	for range 18 {
		st.in.rtp(v.packet(more, false), 1)
	}
	st.in.rtp(v.packet(more, true), 1)
	var lengths []int
	for _, run := range r.runs {
		lengths = append(lengths, len(run))
	}
	if !slices.Equal(lengths, []int{16, 4}) {
		t.Errorf("runs of %v, want 16 and 4", lengths)
	}
	// Transport-wide sequence numbers count all packets, in order; the picture id is the subscription's own.
	for i, p := range r.packets() {
		v := p.header.Extension(p.bytes, 3)
		if got := int(v[0])<<8 | int(v[1]); got != i {
			t.Errorf("packet %d has transport-wide sequence number %d", i, got)
		}
		if p.header.Extension(p.bytes, 2) == nil {
			t.Errorf("packet %d has no absolute send time", i)
		}
	}
}

func TestRestSendsWhatNoMarkerCloses(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	_, r := st.subscribe(video, "PA_a", videoSection("0"))
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	st.in.rtp(v.packet(v.vp8(true, true), false), 1)
	st.in.rtp(v.packet(v.vp8(false, false), false), 1)
	if r.n != 0 {
		t.Errorf("%d packets have left before the rest of their frame was awaited", r.n)
	}
	st.in.rest(1)
	if r.n != 2 {
		t.Errorf("%d packets have left, want both", r.n)
	}
}

// eventually polls what no event tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s", what)
		}
	}
}

func TestREDIsUnwrappedForThoseWithout(t *testing.T) {
	st := newStage(t)
	audio := st.publish("TR_a", Audio, audioSection("0"))
	_, with := st.subscribe(audio, "PA_with", audioSection("0"))
	without := audioSection("0")
	without.payloads = []payload{{pt: 109, kind: codec.Opus, clock: 48000}}
	_, plain := st.subscribe(audio, "PA_without", without)
	with.keep, plain.keep = true, true
	f := feed{ssrc: 9, pt: 63, mid: "0"}
	// RFC 2198 section 3: one redundant block of two bytes, 960 earlier, then the primary.
	red := []byte{0x80 | 111, 960 >> 6, 960 & 0x3f << 2, 2, 111, 'o', 'l', 'n', 'e', 'w'}
	st.in.one(f.packet(red, false), 1)
	st.in.one(f.packet(red[:3], false), 2) // cut short: nobody gets it
	f.pt = 111
	st.in.one(f.packet([]byte("opus"), false), 3)
	for name, x := range map[string]struct {
		r    *recorder
		pts  []uint8
		body []string
	}{
		"with":    {with, []uint8{63, 111}, []string{string(red), "opus"}},
		"without": {plain, []uint8{109, 109}, []string{"new", "opus"}},
	} {
		got := x.r.packets()
		if len(got) != 2 {
			t.Fatalf("%s RED: %d packets, want 2", name, len(got))
		}
		for i, p := range got {
			if p.header.PayloadType != x.pts[i] || string(p.header.Payload(p.bytes)) != x.body[i] {
				t.Errorf("%s RED: payload type %d with %q, want %d with %q", name, p.header.PayloadType, p.header.Payload(p.bytes), x.pts[i], x.body[i])
			}
		}
	}
}

func TestNACKOverRTXAndBitForBitWithout(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	audio := st.publish("TR_a", Audio, audioSection("1"))
	vs, vr := st.subscribe(video, "PA_v", videoSection("0"))
	as, ar := st.subscribe(audio, "PA_a", audioSection("1"))
	vr.keep, ar.keep = true, true
	v, a := feed{ssrc: 7, pt: 96, mid: "0", picture: 77}, feed{ssrc: 8, pt: 111, mid: "1"}
	for i := range 5 {
		st.in.one(v.packet(v.vp8(true, i == 0), true), time.Duration(i+1)*time.Millisecond)
		v.picture++
		v.timestamp += 3000
		st.in.one(a.packet([]byte{1, 2, 3, byte(i)}, false), time.Duration(i+1)*time.Millisecond)
		a.timestamp += 960
	}
	wanted := vr.packets()[2]
	vs.nacked([]uint16{wanted.header.Sequence, wanted.header.Sequence + 1000}, time.Second)
	vs.nacked([]uint16{wanted.header.Sequence}, time.Second+time.Millisecond) // within the round trip: the first is on its way
	got := vr.packets()
	if len(got) != 6 {
		t.Fatalf("%d packets, want 5 and one retransmission", len(got))
	}
	rtx := got[5]
	body := rtx.header.Payload(rtx.bytes)
	if rtx.header.SSRC != 2000 || rtx.header.PayloadType != 97 || rtx.header.Timestamp != wanted.header.Timestamp ||
		uint16(body[0])<<8|uint16(body[1]) != wanted.header.Sequence || string(body[2:]) != string(wanted.header.Payload(wanted.bytes)) {
		t.Errorf("retransmission %+v of %+v", rtx.header, wanted.header)
	}
	if s := vs.snapshot(); s.Resent != 1 || s.NACKs != 2 {
		t.Errorf("%+v", s)
	}
	// Audio has no RTX: the same SRTP index must protect the very same bytes.
	first := ar.packets()[1]
	as.nacked([]uint16{first.header.Sequence}, time.Second)
	again := ar.packets()[5]
	if string(again.bytes) != string(first.bytes) {
		t.Errorf("plain retransmission differs:\n%x\n%x", first.bytes, again.bytes)
	}
}

func TestRTXIsUnwrappedAndCountedOnce(t *testing.T) {
	st := newStage(t)
	s := videoSection("0")
	s.ssrcs, s.groups = []uint32{7, 70}, []ssrcGroup{{"FID", []uint32{7, 70}}}
	video := st.publish("TR_v", Video, s)
	_, r := st.subscribe(video, "PA_v", videoSection("0"))
	r.keep = true
	v, x := feed{ssrc: 7, pt: 96, sequence: 100}, feed{ssrc: 70, pt: 97, sequence: 5}
	payloads := [][]byte{}
	for i := range 3 {
		p := v.vp8(true, i == 0)
		payloads = append(payloads, p)
		b := v.packet(p, true)
		if i != 1 {
			st.in.one(b, time.Duration(i+1))
		}
		v.picture++
		v.timestamp += 3000
	}
	x.timestamp = 3000
	lost := append([]byte{0, 101}, payloads[1]...)
	for range 2 {
		st.in.one(x.packet(lost, true), 10)
	}
	st.in.one(x.packet([]byte{0}, true), 11) // padding
	got := r.packets()
	if len(got) != 3 {
		t.Fatalf("%d packets came out, want 3", len(got))
	}
	if d := got[2].header.Sequence - got[0].header.Sequence; d != 1 {
		t.Errorf("the repaired packet went out %d after the first, want 1", d)
	}
	l := video.layers[0].Load()
	if l.stats.Packets != 2 || l.stats.Repaired != 2 || st.in.stats.Duplicates != 1 {
		t.Errorf("%+v, %+v", l.stats, st.in.stats)
	}
	if a, _ := l.reception.Report(); a.TotalLost != 1 {
		t.Errorf("the receiver report tells %d lost, want 1: repair doesn't count", a.TotalLost)
	}
}

func TestPublisherFeedback(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	st.subscribe(video, "PA_v", videoSection("0"))
	var transport uint16
	v := feed{ssrc: 7, pt: 96, mid: "0", sequence: 100, transport: &transport}
	for i := range 20 {
		b := v.packet(v.vp8(true, i == 0), true)
		if i < 10 || i > 12 {
			st.in.one(b, time.Duration(i+1)*time.Millisecond)
		}
		v.timestamp += 3000
		v.picture++
	}
	st.in.rtcp(7, []rtcp.Packet{&rtcp.SenderReport{SSRC: 7, NTPTime: 1 << 40, RTPTime: 3000}}, 30*time.Millisecond)
	// The alarm runs by itself too; what it sends counts the same.
	st.in.feedback(40 * time.Millisecond)
	st.in.feedback(2 * time.Second)
	var nacked []uint16
	var feedback, reports int
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, p := range st.sent {
		switch p := p.(type) {
		case *rtcp.TransportLayerNack:
			if len(nacked) == 0 {
				for _, n := range p.Nacks {
					nacked = append(nacked, n.PacketList()...)
				}
			}
		case *rtcp.TransportLayerCC:
			feedback++
		case *rtcp.ReceiverReport:
			reports++
			if b := p.Reports[0]; b.SSRC != 7 || b.TotalLost != 3 || b.LastSenderReport != 1<<24 {
				t.Errorf("report block %+v", b)
			}
		}
	}
	if !slices.Equal(nacked, []uint16{110, 111, 112}) || feedback == 0 || reports == 0 {
		t.Errorf("NACKed %v, %d transport-wide feedbacks, %d receiver reports", nacked, feedback, reports)
	}
}

func TestSenderReportsFollowTheLayer(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0", "q", "f"))
	s, r := st.subscribe(video, "PA_v", videoSection("0"))
	r.keep = true
	layers := []*feed{{ssrc: 7, pt: 96, mid: "0", rid: "q", timestamp: 1000}, {ssrc: 8, pt: 96, mid: "0", rid: "f", timestamp: 5_000_000}}
	at := time.Second
	tick := func(key bool) {
		at += 40 * time.Millisecond
		for _, f := range layers {
			f.timestamp += 3600
			f.picture++
			st.in.one(f.packet(f.vp8(true, key), true), at)
		}
	}
	if _, ok := s.report(at, time.Now()); ok {
		t.Error("a sender report before anything was sent")
	}
	tick(true)
	// Both layers' clocks were captured at the same time: NTP 100 s stands for the tick just sent.
	for _, f := range layers {
		st.in.rtcp(f.ssrc, []rtcp.Packet{&rtcp.SenderReport{SSRC: f.ssrc, NTPTime: 100 << 32, RTPTime: f.timestamp}}, at)
	}
	check := func() {
		t.Helper()
		p, ok := s.report(at, time.Now())
		if !ok {
			t.Fatal("no sender report")
		}
		sent := r.packets()
		sr := p[0].(*rtcp.SenderReport)
		if d := int32(sr.RTPTime - sent[len(sent)-1].header.Timestamp); d < -90 || d > 90 {
			t.Errorf("the report's timestamp is %d ticks from the packet captured now", d)
		}
		if sr.PacketCount != uint32(len(sent)) {
			t.Errorf("%d packets reported, %d sent", sr.PacketCount, len(sent))
		}
	}
	for range 5 {
		tick(false)
	}
	check()
	s.configure(SubscriptionSettings{Quality: 0}, at)
	tick(true)
	for range 5 {
		tick(false)
	}
	if l := s.snapshot().Layer; l != 0 {
		t.Fatalf("on layer %d", l)
	}
	check()
}

func TestUnknownAndMalformedPacketsAreCounted(t *testing.T) {
	st := newStage(t)
	st.publish("TR_v", Video, videoSection("0", "q", "h"))
	st.publish("TR_w", Video, videoSection("1"))
	v := feed{ssrc: 7, pt: 96}
	st.in.one(nil, 1)
	st.in.one(make([]byte, 100), 1)
	st.in.one(v.packet(v.vp8(true, true), true), 1) // which m-line, which layer?
	v.mid = "0"
	st.in.one(v.packet(v.vp8(true, true), true), 1) // which layer?
	v.rid = "x"
	st.in.one(v.packet(v.vp8(true, true), true), 1)
	v.mid, v.rid, v.pt = "1", "", 50
	st.in.one(v.packet(v.vp8(true, true), true), 1)
	v.pt = 96
	st.in.one(v.packet([]byte{0x80}, true), 1)
	if s := st.in.stats; s.Malformed != 3 || s.Unrouted != 4 {
		t.Errorf("%+v", s)
	}
	// SSRCs at will: the table stays bounded.
	for i := range uint32(10000) {
		f := feed{ssrc: 100 + i, pt: 96, mid: "1"}
		st.in.one(f.packet(f.vp8(true, true), true), 1)
	}
	if n := len(st.in.sources); n > maxSources {
		t.Errorf("%d sources kept", n)
	}
}

func TestPacketsAreGivenBack(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	st.subscribe(video, "PA_v", videoSection("0"))
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	for i := range 10 {
		st.in.one(v.packet(v.vp8(i == 0, i == 0), false), 1)
	}
	l := video.layers[0].Load()
	var held []*packet
	for s := l.reception.Highest() - 9; s <= l.reception.Highest(); s++ {
		held = append(held, l.stored(s))
	}
	for _, s := range video.end() {
		s.mu.Lock()
		e := s.out.egress
		s.mu.Unlock()
		e.close()
	}
	for i, p := range held {
		if p == nil {
			t.Fatalf("packet %d isn't stored", i)
		}
		if n := p.refs.Load(); n != 1 {
			t.Errorf("packet %d: %d references left, want the test's own", i, n)
		}
		p.release()
	}
}

func TestSilentTracksAreAnnouncedByPadding(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, videoSection("0"))
	s, r := st.subscribe(video, "PA_v", videoSection("0"))
	r.keep, s.out.announced = true, false
	s.announce()
	s.announce() // the sweep repeats it
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	st.in.one(v.packet(v.vp8(true, true), true), 1)
	got := r.packets()
	if s.announce(); len(got) != 3 || len(r.packets()) != 3 {
		t.Fatalf("%d packets, and then %d", len(got), len(r.packets()))
	}
	for i, p := range got[1:] {
		if p.header.Sequence != got[i].header.Sequence+1 || !got[i].header.PaddingOnly() || got[i].header.PayloadType != 96 {
			t.Errorf("packet %d: %+v before %+v", i, got[i].header, p.header)
		}
	}
}

func TestSSRCGroupSimulcast(t *testing.T) {
	st := newStage(t)
	s := videoSection("0")
	s.ssrcs = []uint32{1, 2, 3, 11, 12, 13}
	s.groups = []ssrcGroup{{"SIM", []uint32{1, 2, 3}}, {"FID", []uint32{1, 11}}, {"FID", []uint32{2, 12}}, {"FID", []uint32{3, 13}}}
	video := st.publish("TR_v", Video, s)
	for _, ssrc := range []uint32{3, 1, 2} {
		f := feed{ssrc: ssrc, pt: 96}
		st.in.one(f.packet(f.vp8(true, true), true), 1)
	}
	f := feed{ssrc: 12, pt: 97}
	st.in.one(f.packet([]byte{0, 0, 1}, true), 1)
	for i := range 3 {
		l := video.layers[i].Load()
		if l == nil || l.ssrc != uint32(i+1) || (i == 1) != (l.repair == 12) {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
}

func TestH264Formats(t *testing.T) {
	for _, x := range []struct {
		a, b string
		same bool
	}{
		{"packetization-mode=1;profile-level-id=42e01f", "level-asymmetry-allowed=1;profile-level-id=42E034;packetization-mode=1", true},
		{"packetization-mode=1;profile-level-id=42e01f", "packetization-mode=0;profile-level-id=42e01f", false},
		{"packetization-mode=1;profile-level-id=42e01f", "packetization-mode=1;profile-level-id=42001f", false},
		{"packetization-mode=1;profile-level-id=42e01f", "packetization-mode=1;profile-level-id=42c01f", true},
		{"packetization-mode=1;profile-level-id=640c1f", "packetization-mode=1;profile-level-id=64001f", true},
		{"profile-level-id=42e01f", "", true},
	} {
		if got := sameH264(x.a, x.b); got != x.same {
			t.Errorf("%q and %q: %v", x.a, x.b, got)
		}
	}
}

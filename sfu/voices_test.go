package sfu

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/speakerstest"

	"github.com/pion/rtcp"
)

// microphone is one who publishes audio on a stage.
type microphone struct {
	in   *ingest
	pub  *publication
	feed feed
	buf  [400]byte
	// sent is the latest frame, before the one before it.
	sent, before int
}

// microphone lets a participant of its own publish. noVoice: its V bit isn't used.
func (st *stage) microphone(id string, cfg PublicationConfig, noVoice bool) *microphone {
	st.t.Helper()
	p := st.participant("PA_" + id)
	m := &microphone{in: newIngest(p, func([]rtcp.Packet) {}), feed: feed{ssrc: 9, sequence: 65000, pt: 111, timestamp: 1 << 31}}
	p.transports[Publisher].Store(&transport{p: p, in: m.in, plane: &plane{}})
	st.t.Cleanup(func() { m.in.close(); p.reports.stop() })
	s := audioSection("0")
	s.noVoice = noVoice
	cfg.ID, cfg.CID, cfg.Kind = "TR_"+id, s.track, Audio
	if err := p.Publish(cfg); err != nil {
		st.t.Fatal(err)
	}
	p.tracks.sections = []section{s}
	m.in.describe(p.tracks.sections)
	p.bind()
	m.pub = p.tracks.byID[cfg.ID]
	return m
}

// noLevel in place of a level sends none.
const noLevel = 0xff

// packet is one of 20 ms: frame says which. level holds the V bit.
func (m *microphone) packet(frame int, level uint8, size int) []byte {
	w := codec.NewWriter(m.buf[:], false, 111, m.feed.sequence, m.feed.timestamp+uint32(frame*960), m.feed.ssrc)
	if level != noLevel {
		w.Extension(1, levelBytes[level][:])
	}
	n := w.Finish()
	m.feed.sequence++
	m.before, m.sent = m.sent, frame
	b := m.buf[:n+max(size, 1)]
	clear(b[n:])
	b[n] = 0xf8 // RFC 6716 table 2: 20 ms of CELT, one frame
	return b
}

// send sends one, and tells the listeners.
func (m *microphone) send(frame int, level uint8, size int, listeners ...*listener) {
	b := m.packet(frame, level, size)
	for _, l := range listeners {
		l.now, l.before, l.came = frame, m.before, false
	}
	m.in.one(b, at(frame))
}

// at is the server time of a frame.
func at(frame int) time.Duration { return time.Second + time.Duration(frame)*speakerstest.Frame }

// listener is one who is subscribed to microphones.
type listener struct {
	t       *testing.T
	p       *Participant
	streams map[uint32]*heardStream // by SSRC
	subs    []*subscription
	egress  *egress
	// now is the frame being sent, before the one of the same microphone before it. came is set when a packet with sound in it
	// came.
	now, before int
	came        bool
}

// heardStream is one stream as it arrives.
type heardStream struct {
	packets, hushed int
	sequence        uint16
	timestamp       uint32
	frame           int // that timestamp stands for
	silent          bool
}

func (l *listener) sendRun(run []segment) int {
	for _, g := range run {
		b := append(append([]byte(nil), g.header...), append(g.prefix, g.payload...)...)
		h, err := codec.ParseHeader(b)
		s := l.streams[h.SSRC]
		if err != nil || s == nil {
			l.t.Errorf("a packet of no subscription: %+v, %v", h, err)
			continue
		}
		hush := h.PayloadEnd-h.PayloadStart == 1 && h.Extension(b, 1) == nil
		if s.packets+s.hushed > 0 {
			// The numbers go on, and the timestamps tell the time that has passed: to the receiver it is a pause.
			if h.Sequence != s.sequence+1 || h.Timestamp-s.timestamp != uint32(l.now-s.frame)*960 {
				l.t.Errorf("frame %d: sequence number %d after %d, timestamp %d after %d of frame %d",
					l.now, h.Sequence, s.sequence, h.Timestamp, s.timestamp, s.frame)
			}
			if !s.silent && l.before != s.frame {
				l.t.Errorf("frame %d: a gap since %d that nothing announced", l.now, s.frame)
			}
		}
		if !hush && h.Marker != (s.packets == 0 || s.silent) {
			l.t.Errorf("frame %d: marker %v, silent before %v", l.now, h.Marker, s.silent)
		}
		s.sequence, s.timestamp, s.frame, s.silent = h.Sequence, h.Timestamp, l.now, hush
		if hush {
			s.hushed++
		} else {
			s.packets++
			l.came = true
		}
	}
	return len(run)
}

// listener subscribes a participant to microphones.
func (st *stage) listener(t *testing.T, id string, voices int, mics ...*microphone) *listener {
	t.Helper()
	l := &listener{t: t, p: st.participant("PA_" + id), streams: map[uint32]*heardStream{}}
	l.p.SetVoices(voices)
	l.egress = newEgress(l, st.server.now)
	l.egress.start()
	t.Cleanup(func() { l.egress.close(); l.p.reports.stop() })
	for i, m := range mics {
		s := &subscription{p: l.p, pub: m.pub, room: l.p.room}
		m.pub.want(s)
		n := audioSection("0")
		ssrc := uint32(1000 + i)
		if err := s.establish(l.egress, &n, ssrc, 0); err != nil {
			t.Fatal(err)
		}
		s.out.announced = true // no padding in front
		m.pub.feed(s)
		l.subs = append(l.subs, s)
		l.streams[ssrc] = &heardStream{}
	}
	return l
}

func (l *listener) stream(i int) *heardStream { return l.streams[uint32(1000+i)] }

// speech is the level of one who speaks, with the V bit: syllables, what lies between them, and breath.
func speech(frame int) uint8 {
	switch {
	case frame%100 >= 80:
		return humming
	case frame%9 < 6:
		return 0x80 | uint8(24+frame%3)
	}
	return 0x80 | 40
}

// humming is the level of a microphone that nobody speaks into.
const humming = 70

// TestRoomOf200Microphones plays scripted meetings through the whole of the SFU between the seams: who hears what, and when,
// is read from the packets that leave. The target is the right three at least 98 % of the time, and a new speaker within
// 100 ms at the 99th percentile of all turns.
func TestRoomOf200Microphones(t *testing.T) {
	seeds, length, percentile := uint64(6), 5*time.Minute, 99
	if testing.Short() || raceEnabled { // too few turns for the 99th
		seeds, length, percentile = 2, time.Minute, 95
	}
	takes := []int{0, 1}
	all := make([]speakerstest.Outcome, len(takes))
	var mu sync.Mutex
	t.Run("seeds", func(t *testing.T) {
		for seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				outcomes := playScript(t, speakerstest.NewRoom(seed, length), time.Duration(seed%2)*30*time.Millisecond, takes)
				mu.Lock()
				defer mu.Unlock()
				for i := range outcomes {
					all[i].Add(&outcomes[i])
				}
			})
		}
	})
	for i, n := range takes {
		o := &all[i]
		right := 100 * float64(o.Right) / float64(o.Frames)
		t.Logf("who takes %d (0: all 3) gets the right ones %.2f %% of the time; %d turns begin to arrive within %v p50, %v p95, %v p99; "+
			"%.2f %% of talk past 100 ms is lost; liars cost a talker's slot %.5f of the time", n, right, len(o.Latencies),
			o.Latency(50), o.Latency(95), o.Latency(99), 100*float64(o.Clipped)/float64(o.Talk), o.Usurped/float64(seeds))
		if n == 0 && (right < 98 || o.Latency(percentile) > 100*time.Millisecond) || right < 95 {
			t.Error("the target is missed")
		}
	}
}

// playScript has a meeting listened to by those who take so many microphones, and judges what arrives at each.
func playScript(t *testing.T, script *speakerstest.Room, jitter time.Duration, takes []int) (out []speakerstest.Outcome) {
	st := newStage(t)
	var mics []*microphone
	for i := range script.Scripts {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, i%2 == 1))
	}
	var listeners []*listener
	forwarded := make([][][]bool, len(takes))
	for i, n := range takes {
		listeners = append(listeners, st.listener(t, fmt.Sprint("takes ", n), n, mics...))
		forwarded[i] = make([][]bool, len(mics))
		for k := range forwarded[i] {
			forwarded[i][k] = make([]bool, script.Frames)
		}
	}
	script.Each(jitter, func(who, k int, at time.Duration) {
		f := script.Scripts[who][k]
		level := f.Level
		if f.Voice {
			level |= 0x80
		}
		if f.NoLevel {
			level = noLevel
		}
		b := mics[who].packet(k, level, f.Size)
		for _, l := range listeners {
			l.now, l.before, l.came = k, mics[who].before, false
		}
		mics[who].in.one(b, time.Second+at)
		for i, l := range listeners {
			forwarded[i][who][k] = l.came
		}
	})
	for i, n := range takes {
		if n == 0 {
			n = 3
		}
		o := script.Judge(forwarded[i], n)
		if o.Mean > float64(n) || o.MissingMost > 3 {
			t.Errorf("%.3f of %d arrived on average, and at most %d without level", o.Mean, n, o.MissingMost)
		}
		out = append(out, o)
	}
	v := st.room.voices()
	t.Logf("jitter up to %v: %d packets held back; %d slots changed hands", 6*jitter, v.Gated, v.Swaps)
	if !v.Gating || v.Open != 200 {
		t.Errorf("%+v", v)
	}
	return out
}

// play has microphones send for so many frames: those listed speak, the others hum.
func play(mics []*microphone, listeners []*listener, from, frames int, speaking ...int) {
	for k := from; k < from+frames; k++ {
		for i, m := range mics {
			level := uint8(humming)
			if slices.Contains(speaking, i) {
				level = speech(k)
			}
			m.send(k, level, 80, listeners...)
		}
	}
}

func TestSmallRoomsHoldNothingBack(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 8 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	l := st.listener(t, "l", 1, mics...)
	play(mics, []*listener{l}, 0, 100, 3)
	for i := range mics {
		if s := l.stream(i); s.packets != 100 || s.hushed != 0 {
			t.Errorf("microphone %d: %+v", i, s)
		}
	}
}

func TestHeldBackIsAPause(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 12 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	exempt := st.microphone("screen", PublicationConfig{Exempt: true}, false)
	all := st.listener(t, "all", 0, append(mics, exempt)...)
	one := st.listener(t, "one", 1, mics...)
	both := []*listener{all, one}
	send := func(from, frames int, speaking ...int) { play(append(mics, exempt), both, from, frames, speaking...) }
	send(0, 300, 0)
	send(300, 300, 1)
	send(600, 300, 0)
	send(900, 300, 2, 3, 4)
	for i, want := range map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: false, 11: false, 12: true} {
		if got := all.stream(i).packets > 250; got != want {
			t.Errorf("microphone %d: %+v", i, all.stream(i))
		}
	}
	if s := all.stream(0); s.hushed == 0 || !s.silent {
		t.Errorf("who was held back in the end: %+v", s)
	}
	if s := all.stream(12); s.packets != 1200 {
		t.Errorf("%d packets of an exempt track", s.packets)
	}
	sum := 0
	for _, s := range one.streams {
		sum += s.packets
	}
	if sum < 1100 || sum > 1210 {
		t.Errorf("who takes one got %d packets in 1200 frames", sum)
	}
	// It takes all from now on, and then but one again.
	one.p.SetVoices(0)
	send(1200, 100, 2, 3, 4)
	got := 0
	for i := 2; i < 5; i++ {
		if !one.stream(i).silent {
			got++
		}
	}
	if got != 3 {
		t.Errorf("%d of 3 speakers arrive", got)
	}
	one.p.SetVoices(1)
	send(1300, 100, 2, 3, 4)
	got = 0
	for i := 2; i < 5; i++ {
		if one.stream(i).frame > 1390 {
			got++
		}
	}
	if got != 1 {
		t.Errorf("%d speakers arrive at one who takes one", got)
	}
	v := st.room.voices()
	if !v.Gating || v.Open != 12 || v.Exempt != 1 || v.Gated == 0 || mics[11].pub.snapshot(0).HeldBack < 1100 {
		t.Errorf("%+v, and %+v", v, mics[11].pub.snapshot(0))
	}
	// Muting all but eight ends it.
	for _, m := range mics[6:] {
		m.pub.setMuted(true)
	}
	before := all.stream(5).packets
	send(1400, 50)
	if n := all.stream(5).packets - before; n != 50 || st.room.voices().Gating {
		t.Errorf("%d packets of one of six microphones, %+v", n, st.room.voices())
	}
}

// The frame that begins a pause comes again, bit for bit, when it was lost.
func TestHushIsResent(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 12 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	sub, r := st.subscribe(mics[0].pub, "PA_l", audioSection("0"))
	r.keep = true
	play(mics, nil, 0, 150, 0)
	play(mics, nil, 150, 60, 1, 2, 3)
	got := r.packets()
	last := got[len(got)-1]
	if body := last.header.Payload(last.bytes); len(body) != 1 || body[0] != 0xf8 {
		t.Fatalf("the last packet holds %x", body)
	}
	sub.nacked([]uint16{last.header.Sequence, last.header.Sequence - 1}, time.Minute)
	again := r.packets()[len(got):]
	if len(again) != 2 || string(again[0].bytes) != string(last.bytes) || string(again[1].bytes) != string(got[len(got)-2].bytes) {
		t.Errorf("sent again: %v, want what was sent", again)
	}
}

// RED goes on being RED, or Opus for those without it.
func TestHushOfRED(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 12 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	_, with := st.subscribe(mics[0].pub, "PA_with", audioSection("0"))
	without := audioSection("0")
	without.payloads = []payload{{pt: 109, kind: codec.Opus, clock: 48000}}
	_, plain := st.subscribe(mics[0].pub, "PA_without", without)
	with.keep, plain.keep = true, true
	for k := range 400 {
		level := uint8(humming)
		if k < 150 {
			level = speech(k)
		}
		b := mics[0].packet(k, level, 80)
		h, _ := codec.ParseHeader(b)
		b[1] = 63
		body := b[h.PayloadStart:h.PayloadEnd]
		// RFC 2198 section 3: one redundant block of 20 bytes, then 55 of the primary: two frames, which become one.
		copy(body, []byte{0x80 | 111, 960 >> 6, 960 & 0x3f << 2, 20, 111})
		body[25] = 0xf9
		mics[0].in.one(b, at(k))
		if k < 150 {
			play(mics[1:], nil, k, 1)
		} else {
			play(mics[1:], nil, k, 1, 0, 1, 2)
		}
	}
	for name, x := range map[string]struct {
		r    *recorder
		pt   uint8
		body string
	}{"with": {with, 63, "\x6f\xf8"}, "without": {plain, 109, "\xf8"}} {
		got := x.r.packets()
		last := got[len(got)-1]
		if last.header.PayloadType != x.pt || string(last.header.Payload(last.bytes)) != x.body {
			t.Errorf("%s RED the last packet is of type %d and holds %x", name, last.header.PayloadType, last.header.Payload(last.bytes))
		}
	}
}

// Late packets belong to what is being forwarded, and to nothing else.
func TestLatePacketsFollowTheirVoice(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 12 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	_, r := st.subscribe(mics[0].pub, "PA_l", audioSection("0"))
	play(mics, nil, 0, 100, 0)
	late := append([]byte(nil), mics[0].packet(100, speech(100), 80)...)
	mics[0].in.one(mics[0].packet(101, speech(101), 80), at(101))
	before := r.n
	mics[0].in.one(late, at(102))
	if r.n != before+1 {
		t.Errorf("%d packets for a late one of a speaker", r.n-before)
	}
	play(mics, nil, 102, 300, 1, 2, 3)
	late = append([]byte(nil), mics[0].packet(402, speech(402), 80)...)
	mics[0].in.one(mics[0].packet(403, humming, 80), at(403))
	before = r.n
	mics[0].in.one(late, at(404))
	if r.n != before {
		t.Errorf("%d packets for a late one that is held back", r.n-before)
	}
}

// Who moves, or is shown elsewhere too, is one microphone among those of that room.
func TestVoicesAreOfTheirRoom(t *testing.T) {
	st := newStage(t)
	other := st.server.named("other")
	st.server.rooms["other"] = other
	big := &stage{t: t, server: st.server, room: other}
	var crowd []*microphone
	for i := range 12 {
		crowd = append(crowd, big.microphone(fmt.Sprint("crowd", i), PublicationConfig{}, false))
	}
	other.add(crowd[0].pub.owner)
	guest := st.microphone("guest", PublicationConfig{}, false)
	if err := st.server.show(guest.pub.owner, "other"); err != nil {
		t.Fatal(err)
	}
	guest.pub.setMuted(true)
	if v := other.voices(); v.Open != 12 {
		t.Errorf("muted: %+v", v)
	}
	guest.pub.setMuted(false)
	here, there := st.listener(t, "here", 0, guest), big.listener(t, "there", 0, guest)
	both := append(crowd, guest)
	play(both, []*listener{here, there}, 0, 200, 0, 1, 2)
	if a, b := here.stream(0).packets, there.stream(0).packets; a != 200 || b != 0 {
		t.Errorf("a guest's humming: %d packets at home, %d in the large room", a, b)
	}
	play(both, []*listener{here, there}, 200, 300, 12)
	if a, b := here.stream(0).packets, there.stream(0).packets; a != 500 || b < 280 {
		t.Errorf("a guest's speech: %d packets at home, %d in the large room", a, b)
	}
	st.server.hide(guest.pub.owner, "other")
	if v := other.voices(); v.Open != 12 {
		t.Errorf("hidden: %+v", v)
	}
	if _, err := st.server.move(guest.pub.owner, "other"); err != nil {
		t.Fatal(err)
	}
	if v, w := st.room.voices(), other.voices(); v.Open != 0 || w.Open != 13 {
		t.Errorf("moved: %+v here, %+v there", v, w)
	}
	moved := big.listener(t, "moved", 0, guest)
	play(both, []*listener{here, there, moved}, 500, 300, 12)
	if n := moved.stream(0).packets; n < 280 {
		t.Errorf("%d packets of one who has moved and speaks", n)
	}
	guest.pub.end()
	if v := other.voices(); v.Open != 12 {
		t.Errorf("ended: %+v", v)
	}
	// What was counted outlives the room.
	st.server.mux, _ = wiredMux(t)
	before := st.server.Stats()
	st.server.mu.Lock()
	st.server.forsake(other, 0)
	st.server.mu.Unlock()
	if after := st.server.Stats(); before.HeldBack == 0 || after.HeldBack != before.HeldBack || len(after.Voices) != len(before.Voices)-1 {
		t.Errorf("%d held back in %+v, then %d in %+v", before.HeldBack, before.Voices, after.HeldBack, after.Voices)
	}
}

// Sender reports are of those who send: with so many streams that don't, they would grow with the square of the room.
func TestSilentVoicesReportNothing(t *testing.T) {
	st := newStage(t)
	var mics []*microphone
	for i := range 12 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	l := st.listener(t, "l", 0, mics...)
	for i, m := range mics {
		m.in.one(m.packet(0, humming, 80), at(0))
		m.in.rtcp(9, []rtcp.Packet{&rtcp.SenderReport{SSRC: 9, NTPTime: uint64(i+1) << 32, RTPTime: m.feed.timestamp}}, time.Second)
	}
	reports := func(now time.Duration) (n int) {
		for _, s := range l.subs {
			if _, ok := s.report(now, time.Now()); ok {
				n++
			}
		}
		return n
	}
	play(mics, []*listener{l}, 1, 200, 0, 1)
	if n := reports(5 * time.Second); n != 2 {
		t.Errorf("%d reports of 2 who speak", n)
	}
	if n := reports(6 * time.Second); n != 0 {
		t.Errorf("%d reports of nobody", n)
	}
	play(mics, []*listener{l}, 201, 50, 1)
	if n := reports(10 * time.Second); n < 1 || n > 2 {
		t.Errorf("%d reports of one who speaks", n)
	}
}

// stadium is a large room: 200 microphones, of which some are forwarded to 200 subscribers.
func stadium(t testing.TB) (hold, pass func()) {
	st := newStage(t)
	var mics []*microphone
	for i := range 200 {
		mics = append(mics, st.microphone(fmt.Sprint(i), PublicationConfig{}, false))
	}
	for i := range 200 {
		for _, m := range mics[:2] {
			st.subscribe(m.pub, fmt.Sprint("PA_l", i), audioSection("0"))
		}
	}
	play(mics, nil, 0, 150, 0)
	k := 150
	hold = func() { k++; mics[1].send(k, humming, 80) }
	pass = func() { k++; mics[0].send(k, speech(k), 80) }
	return hold, pass
}

func TestChoosingVoicesAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	hold, pass := stadium(t)
	for range 500 { // fill histories and pools
		hold()
		pass()
	}
	if n := testing.AllocsPerRun(200, hold); n != 0 {
		t.Errorf("%v allocations for a packet that is held back", n)
	}
	if n := testing.AllocsPerRun(200, pass); n != 0 {
		t.Errorf("%v allocations for a packet to 200 subscribers", n)
	}
}

func BenchmarkVoices(b *testing.B) {
	hold, pass := stadium(b)
	for _, x := range []struct {
		name   string
		packet func()
	}{{"held-back", hold}, {"to-200", pass}} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.packet()
			}
		})
	}
}

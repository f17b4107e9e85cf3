package sfu

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/rtcp"
)

// hall is a stage with several publishers and simulated time. Every frame of time passes for all of them at once.
type hall struct {
	*stage
	now     time.Duration
	cameras []*camera
	voices  []*singer
	viewers []*viewer
	frames  int
	each    func() // before every frame
}

func newHall(t testing.TB) *hall {
	h := &hall{stage: newStage(t)}
	h.now = time.Second
	h.server.cfg.Limits.Publications = 600
	return h
}

// camera publishes simulcast of three temporal layers, and answers keyframe requests after answer.
type camera struct {
	p      *Participant
	in     *ingest
	pub    *publication
	layers []*feed
	kbits  []int
	off    []bool
	asked  []time.Duration // when the keyframe is due, 0 for none
	answer time.Duration
	keys   []int // sent, by layer
	noise  func() float64
	told   []Event
}

// newcomer is a participant who may publish.
func (h *hall) newcomer(id string) (*Participant, *ingest, *[]rtcp.Packet) {
	p, sent := h.participant(id), &[]rtcp.Packet{}
	in := newIngest(p, func(b []rtcp.Packet) {
		h.mu.Lock()
		*sent = append(*sent, b...)
		h.mu.Unlock()
	})
	p.transports[Publisher].Store(&transport{p: p, in: in})
	h.room.add(p)
	h.t.Cleanup(func() { in.close(); p.reports.stop() })
	return p, in, sent
}

// camera adds one with a layer per bitrate. A single layer has no rid.
func (h *hall) camera(id string, still bool, kbits ...int) *camera {
	h.t.Helper()
	c := &camera{kbits: kbits, off: make([]bool, len(kbits)), asked: make([]time.Duration, len(kbits)), keys: make([]int, len(kbits)),
		answer: 60 * time.Millisecond, noise: func() float64 { return 1 }}
	c.p, c.in, _ = h.newcomer("PA_" + id)
	c.in.write = func(list []rtcp.Packet) {
		for _, p := range list {
			if p, ok := p.(*rtcp.PictureLossIndication); ok {
				for i, f := range c.layers {
					if f.ssrc == p.MediaSSRC && c.asked[i] == 0 {
						c.asked[i] = h.now + c.answer
					}
				}
			}
		}
	}
	c.p.cfg.Notify = func(e Event) { c.told = append(c.told, e) }
	rids := []string{"q", "h", "f"}[:len(kbits)]
	cfg := PublicationConfig{ID: "TR_" + id, CID: "cid-0", Kind: Video, Still: still}
	for i, k := range kbits {
		cfg.Layers = append(cfg.Layers, Layer{Quality: uint8(i), Width: 320 << i, Height: 180 << i, Bitrate: uint32(k) * 1000})
		c.layers = append(c.layers, &feed{ssrc: uint32(len(h.cameras)*10 + i + 7), pt: 96, mid: "0", rid: rids[i]})
	}
	if len(kbits) == 1 {
		rids, c.layers[0].rid = nil, ""
		cfg.Layers[0].Quality, cfg.Layers[0].Width, cfg.Layers[0].Height = 2, 1280, 720
	}
	c.pub = h.announce(c.p, c.in, cfg, videoSection("0", rids...))
	h.cameras = append(h.cameras, c)
	return c
}

func (h *hall) announce(p *Participant, in *ingest, cfg PublicationConfig, s section) *publication {
	h.t.Helper()
	if err := p.Publish(cfg); err != nil {
		h.t.Fatal(err)
	}
	p.tracks.sections = append(p.tracks.sections, s)
	in.describe(p.tracks.sections)
	p.follow(p.bind())
	return p.tracks.byID[cfg.ID]
}

// send sends one frame of every layer, in packets of at most 1,000 bytes.
func (c *camera) send(n int, now time.Duration) {
	for i, f := range c.layers {
		f.timestamp += 3000
		f.picture++
		if c.off[i] {
			continue
		}
		key := c.asked[i] != 0 && now >= c.asked[i]
		size, temporal := float64(c.kbits[i])*1000/8/30*c.noise(), [4]byte{0, 2, 1, 2}[n%4]
		if key {
			c.asked[i], temporal = 0, 0
			c.keys[i]++
			size *= 4
		}
		// The lower temporal layers have the larger frames.
		left := int(size * [3]float64{1.8, 1, 0.6}[temporal])
		for first := true; left > 0; first = false {
			b := f.vp8(first, key)
			b[5], b[7] = temporal<<6|0x20, byte(i)
			b = b[:max(min(left, len(b)), 10)]
			left -= len(b)
			c.in.rtp(f.packet(b, left <= 0), now)
		}
	}
}

// singer publishes audio of 32 kbit/s.
type singer struct {
	p    *Participant
	in   *ingest
	pub  *publication
	feed feed
}

func (h *hall) microphone(id string) *singer {
	h.t.Helper()
	v := &singer{feed: feed{ssrc: 5, pt: 111, mid: "0"}}
	v.p, v.in, _ = h.newcomer("PA_" + id)
	v.pub = h.announce(v.p, v.in, PublicationConfig{ID: "TR_" + id, CID: "cid-0", Kind: Audio}, audioSection("0"))
	h.voices = append(h.voices, v)
	return v
}

// viewer subscribes to what others publish, over one transport.
type viewer struct {
	h    *hall
	p    *Participant
	out  *egress
	sink *recorder
	subs []*subscription
	told []Event
}

func (h *hall) viewer(id string) *viewer {
	v := &viewer{h: h, p: h.participant("PA_" + id), sink: &recorder{}}
	v.p.cfg.Notify = func(e Event) { v.told = append(v.told, e) }
	v.out = newEgress(v.sink, -1, h.server.now)
	v.out.start()
	h.t.Cleanup(v.out.close)
	h.viewers = append(h.viewers, v)
	return v
}

// unknown makes nothing known of the viewer's path.
func (v *viewer) unknown() *viewer {
	v.p.sharing.known, v.p.sharing.first, v.p.sharing.estimate = false, 0, 0
	return v
}

func (v *viewer) watch(pub *publication, set SubscriptionSettings) *subscription {
	v.h.t.Helper()
	s := &subscription{p: v.p, pub: pub, room: v.p.room, settings: set}
	line := videoSection("0")
	switch {
	case pub.cfg.Kind == Audio:
		line = audioSection("0")
	case pub.kind() == codec.AV1:
		line = av1Section("0", 6)
	}
	pub.want(s)
	if err := s.establish(v.out, &line, uint32(1000+len(v.subs)), uint32(2000+len(v.subs))); err != nil {
		v.h.t.Fatal(err)
	}
	s.out.announced = true
	s.mu.Lock()
	s.fed = true
	s.mu.Unlock()
	pub.codecs.settleFor(s, v.h.now) // as feed, at the time of the test
	v.subs = append(v.subs, s)
	return s
}

// pass lets time pass, frame by frame.
func (h *hall) pass(d time.Duration) {
	for end := h.now + d; h.now < end; h.now += time.Second / 30 {
		if h.each != nil {
			h.each()
		}
		for _, c := range h.cameras {
			c.send(h.frames, h.now)
		}
		for _, v := range h.voices {
			for range 2 {
				v.feed.timestamp += 960
				v.in.rtp(v.feed.packet(make([]byte, 80), false), h.now)
			}
		}
		if h.frames++; h.frames%8 == 0 { // the alarm
			for _, v := range h.viewers {
				v.p.sharing.tick(h.now)
			}
		}
	}
}

// layers are those that are being forwarded.
func (v *viewer) layers() (list []int) {
	for _, s := range v.subs {
		list = append(list, s.snapshot().Layer)
	}
	return list
}

func (v *viewer) expect(what string, want ...int) {
	v.h.t.Helper()
	if got := v.layers(); !slices.Equal(got, want) {
		for _, s := range v.subs {
			v.h.t.Logf("%s: %+v", s.pub.id, s.snapshot())
		}
		v.h.t.Fatalf("%s: layers %v are forwarded, want %v; %+v", what, got, want, v.p.sharing.snapshot())
	}
}

// pauses returns what was told of a track's pauses, oldest first.
func (v *viewer) pauses(id string) (list []bool) {
	for _, e := range v.told {
		if e, ok := e.(StreamPaused); ok && e.TrackID == id {
			list = append(list, e.Paused)
		}
	}
	return list
}

var (
	large = SubscriptionSettings{Width: 1280, Height: 720}
	small = SubscriptionSettings{Width: 240, Height: 135}
)

func TestABudgetThatFallsTakesFromThumbnailsFirst(t *testing.T) {
	h := newHall(t)
	screen, speaker := h.camera("screen", true, 150, 500, 1700), h.camera("speaker", false, 150, 500, 1700)
	one, two := h.camera("one", false, 150, 500, 1700), h.camera("two", false, 150, 500, 1700)
	talk := h.microphone("talk")
	h.room.attend([]Speaker{{ID: "PA_speaker", Active: true, Level: 1}}, h.now)
	v := h.viewer("v")
	for _, c := range []*camera{screen, speaker} {
		v.watch(c.pub, large)
	}
	for _, c := range []*camera{one, two} {
		v.watch(c.pub, small)
	}
	audio := v.watch(talk.pub, SubscriptionSettings{})
	h.pass(3 * time.Second)
	v.expect("no limit", 2, 2, 0, 0, 0)
	for _, x := range []struct {
		budget int64
		want   []int
	}{
		{4_200_000, []int{2, 2, 0, 0, 0}},
		{3_600_000, []int{2, 2, -1, -1, 0}},
		{2_400_000, []int{2, 1, -1, -1, 0}},
		{2_000_000, []int{2, 0, -1, -1, 0}},
		{600_000, []int{1, -1, -1, -1, 0}},
		{200_000, []int{0, -1, -1, -1, 0}},
		{0, []int{0, -1, -1, -1, 0}}, // for badTime
		{0, []int{-1, -1, -1, -1, 0}},
	} {
		v.p.budget(h.now, x.budget)
		h.pass(2 * time.Second)
		v.expect(fmt.Sprint(x.budget), x.want...)
	}
	for _, c := range []*camera{one, two, speaker, screen} {
		if got := v.pauses(c.pub.id); !slices.Equal(got, []bool{true}) {
			t.Errorf("of %s was told %v, want one pause", c.pub.id, got)
		}
		if got := wantedOf(c.told); len(got) != 1 || c == screen && got[0] != 2 || c == one && got[0] != 0 {
			t.Errorf("the publisher of %s was told that %v is wanted", c.pub.id, got)
		}
	}
	if s := audio.snapshot(); s.Why != "full" || s.Packets < 500 {
		t.Errorf("audio: %+v", s)
	}
	if s := v.subs[2].snapshot(); s.Why != "bandwidth" || s.WantedSpatial != 0 || s.Need == 0 {
		t.Errorf("a thumbnail: %+v", s)
	}
	if s := v.p.sharing.snapshot(); s.Paused != 4 || s.Wanted <= s.Used || s.Need == 0 {
		t.Errorf("%+v", s)
	}
	// And up again, in the other order.
	began := h.now
	v.p.budget(h.now, 8_000_000)
	h.pass(time.Second)
	if got := v.layers(); slices.Max(got[:4]) > 1 {
		t.Errorf("layers %v %v after the budget has come back: it may go again", got, h.now-began)
	}
	h.pass(12 * time.Second)
	v.expect("all is back", 2, 2, 0, 0, 0)
	for _, c := range []*camera{one, two, speaker, screen} {
		if got := v.pauses(c.pub.id); !slices.Equal(got, []bool{true, false}) {
			t.Errorf("of %s was told %v, want a pause and its end", c.pub.id, got)
		}
	}
}

func TestConfigureActsAtOnceWhateverIsKnown(t *testing.T) {
	for _, known := range []bool{true, false} {
		h := newHall(t)
		c := h.camera("c", false, 150, 500, 1700)
		v := h.viewer("v")
		if !known {
			v.unknown()
		}
		h.pass(2 * time.Second)
		s := v.watch(c.pub, large)
		h.pass(startTime + time.Second)
		v.expect("at first", 2)
		s.configure(SubscriptionSettings{Disabled: true}, h.now)
		v.expect("disabled", -1)
		h.pass(time.Second)
		s.configure(small, h.now)
		h.pass(200 * time.Millisecond)
		v.expect("small", 0)
		s.configure(large, h.now)
		h.pass(200 * time.Millisecond)
		v.expect("large", 2)
		s.configure(SubscriptionSettings{Width: 640, Height: 360, FPS: 7}, h.now)
		h.pass(600 * time.Millisecond)
		v.expect("medium", 1)
		before := v.sink.n
		h.pass(2 * time.Second)
		if n := float64(v.sink.n-before) / 2; n > 40 {
			t.Errorf("%v packets a second of 7 frames of four packets", n)
		}
		if n := len(v.pauses(c.pub.id)); n != 0 {
			t.Errorf("%d pauses were told", n)
		}
	}
}

// The first picture comes with the first keyframe, which is asked for at once; of an unknown path it is the lowest layer.
func TestALateJoinerGetsTheFirstPictureAtOnce(t *testing.T) {
	for _, kbits := range [][]int{{150, 500, 1700}, {1700}} {
		h := newHall(t)
		var pubs []*camera
		for i := range 9 {
			pubs = append(pubs, h.camera(fmt.Sprint(i), false, kbits...))
		}
		h.pass(3 * time.Second)
		v := h.viewer("v").unknown()
		for _, c := range pubs {
			v.watch(c.pub, large)
		}
		h.pass(pubs[0].answer + 70*time.Millisecond)
		v.expect("a keyframe later", make([]int, 9)...)
		if more := v.p.sharing.more(h.now); more < 9*1_700_000 {
			t.Errorf("%d bit/s are looked for, want as much as everybody's best", more)
		}
		// Where the estimate begins says nothing yet; nor does it while it doesn't cover what is being sent.
		for _, bits := range []int64{500_000, 510_000, 1_000_000} {
			v.p.budget(h.now, bits)
			h.pass(50 * time.Millisecond)
			v.expect("the path is being tried", make([]int, 9)...)
		}
		v.p.budget(h.now, 20_000_000)
		h.pass(500 * time.Millisecond)
		best := slices.Repeat([]int{len(kbits) - 1}, 9)
		v.expect("the path is known", best...)
		if n := len(v.told); n != 0 {
			t.Errorf("told %+v", v.told)
		}
		// One whose path stays unknown has no limit in the end.
		w := h.viewer("w").unknown()
		for _, c := range pubs {
			w.watch(c.pub, large)
		}
		h.pass(startTime + time.Second)
		w.expect("nothing is ever known", best...)
	}
}

// An estimate that falls counts at once, and one that doesn't grow after a while.
func TestAPathThatIsTooNarrowFromTheStart(t *testing.T) {
	for _, falls := range []bool{true, false} {
		h := newHall(t)
		var pubs []*camera
		for i := range 4 {
			pubs = append(pubs, h.camera(fmt.Sprint(i), false, 150, 500))
		}
		h.pass(2 * time.Second)
		v := h.viewer("v").unknown()
		v.p.budget(h.now, 300_000)
		for _, c := range pubs {
			v.watch(c.pub, large)
		}
		h.pass(300 * time.Millisecond)
		v.expect("at first", 0, 0, 0, 0)
		if falls {
			v.p.budget(h.now, 200_000)
		} else {
			h.pass(startTime)
		}
		h.pass(100 * time.Millisecond)
		if s := v.p.sharing.snapshot(); s.Paused == 0 || s.Used > s.Estimate || len(v.told) != s.Paused {
			t.Errorf("falls %v: %+v, told %+v", falls, s, v.told)
		}
	}
}

// Bitrates that vary by a third and an estimate that varies by a twentieth are no reason to change layers.
func TestNoisyBitratesDontFlap(t *testing.T) {
	h := newHall(t)
	random := uint32(1)
	noise := func(share float64) float64 {
		random = random*1664525 + 1013904223
		return 1 + share*(float64(random>>8)/float64(1<<23)-1)
	}
	var subs []*subscription
	v := h.viewer("v")
	for i := range 4 {
		c := h.camera(fmt.Sprint(i), false, 150, 500, 1700)
		c.noise = func() float64 { return noise(0.35) }
		subs = append(subs, v.watch(c.pub, large))
	}
	tick := 0
	h.each = func() {
		if tick++; tick%3 == 0 {
			v.p.budget(h.now, int64(3_000_000*noise(0.05)))
		}
	}
	h.pass(20 * time.Second)
	before := uint64(0)
	for _, s := range subs {
		before += s.snapshot().Switches
	}
	h.pass(60 * time.Second)
	after := uint64(0)
	for _, s := range subs {
		after += s.snapshot().Switches
	}
	t.Logf("%d switches in a minute, %v", after-before, v.layers())
	if after-before > 4 {
		t.Errorf("%d switches in a minute", after-before)
	}
	if len(v.told) > 0 {
		t.Errorf("told %+v", v.told)
	}
}

func TestTheSpeakerGoesFirst(t *testing.T) {
	h := newHall(t)
	a, b := h.camera("a", false, 150, 500, 1700), h.camera("b", false, 150, 500, 1700)
	v := h.viewer("v")
	v.watch(a.pub, large)
	v.watch(b.pub, large)
	v.p.budget(h.now, 2_300_000)
	speak := func(c *camera) {
		h.room.attend([]Speaker{{ID: c.p.cfg.ID, Active: true, Level: 1}}, h.now)
		h.pass(8 * time.Second)
	}
	speak(a)
	v.expect("one speaks", 2, 0)
	h.room.attend([]Speaker{{ID: "PA_a"}}, h.now) // and stops
	h.pass(5 * time.Second)
	v.expect("nobody speaks", 2, 0)
	speak(b)
	if got := v.layers(); got[1] != 2 || got[0] == 2 {
		t.Errorf("layers %v when the other speaks", got)
	}
	h.room.remove(b.p)
	if h.room.speaker != nil || b.p.speaking.Load() {
		t.Error("who has left is still the speaker")
	}
}

// While two talk at once the speaker doesn't change with every word.
func TestTwoSpeakers(t *testing.T) {
	h := newHall(t)
	a, b := h.camera("a", false, 150), h.camera("b", false, 150)
	x, y := Speaker{ID: a.p.cfg.ID, Active: true, Level: 1}, Speaker{ID: b.p.cfg.ID, Active: true, Level: 1}
	for _, s := range []struct {
		after time.Duration
		list  []Speaker
		want  *Participant
	}{
		{0, []Speaker{{ID: "PA_gone", Active: true}}, nil},
		{0, []Speaker{x}, a.p},
		{300 * time.Millisecond, []Speaker{y, x}, a.p},
		{speakerTime, []Speaker{y, x}, b.p},
		{300 * time.Millisecond, []Speaker{x, y}, b.p},
		{300 * time.Millisecond, []Speaker{x, {ID: b.p.cfg.ID}}, a.p},
		{300 * time.Millisecond, []Speaker{{ID: a.p.cfg.ID}}, a.p},
	} {
		h.now += s.after
		if h.room.attend(s.list, h.now); h.room.speaker != s.want {
			t.Errorf("%+v: the speaker is %v", s.list, h.room.speaker)
		}
		for _, p := range []*Participant{a.p, b.p} {
			if p.speaking.Load() != (p == s.want) {
				t.Errorf("%+v: %s speaks: %v", s.list, p.cfg.ID, p.speaking.Load())
			}
		}
	}
}

// What is announced counts until it is known better: a still screen is cheap soon, a liar is dear after a few seconds.
func TestOffers(t *testing.T) {
	for _, x := range []struct {
		name                 string
		announced, sent      int // kbit/s
		first, second, tenth int64
	}{
		{name: "honest", announced: 1700, sent: 1700, first: 1700, second: 1730, tenth: 1740},
		{name: "not announced", announced: 0, sent: 600, first: 150, second: 800, tenth: 640},
		{name: "less than announced", announced: 4000, sent: 300, first: 4000, second: 400, tenth: 310},
		{name: "more than announced", announced: 10, sent: 1700, first: 10, second: 190, tenth: 1500},
	} {
		h := newHall(t)
		c := h.camera("c", false, x.sent)
		c.pub.cfg.Layers[0].Bitrate = uint32(x.announced) * 1000
		v := h.viewer("v")
		v.watch(c.pub, large)
		check := func(when string, want int64) {
			t.Helper()
			o := c.pub.offer(h.now)
			if got := o.cost(0, 3) / 1000; got < want*3/4 || got > want*5/4 {
				t.Errorf("%s, %s: %d kbit/s, want about %d", x.name, when, got, want)
			}
		}
		h.pass(100 * time.Millisecond)
		check("at first", x.first)
		h.pass(1100 * time.Millisecond)
		check("after a second", x.second)
		h.pass(9 * time.Second)
		check("after ten", x.tenth)
		// It pauses, and is back: it costs what it did.
		c.off[0] = true
		h.pass(4 * time.Second)
		if o := c.pub.offer(h.now); o.layers[0].Temporal[0].Live {
			t.Errorf("%s: live after 4 s of silence", x.name)
		}
		c.pub.layers[0].Load().silent.Store(true) // as the alarm of its publisher does
		c.off[0] = false
		h.pass(100 * time.Millisecond)
		check("back", x.tenth)
		v.expect(x.name, 0)
	}
}

func TestSharingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h := newHall(t)
	v := h.viewer("v")
	for i := range 20 {
		v.watch(h.camera(fmt.Sprint(i), false, 150, 500, 1700).pub, SubscriptionSettings{Width: 640, Height: 360})
	}
	h.pass(3 * time.Second)
	n := 0
	if allocs := testing.AllocsPerRun(200, func() {
		h.now += shareInterval / 10
		n++
		v.p.budget(h.now, int64(2_000_000+n%3*1_000_000))
		v.p.sharing.tick(h.now)
	}); allocs > 1 { // keyframes are asked for by RTCP
		t.Errorf("%v allocations", allocs)
	}
}

// link is a sink with a link of 20 Mbit/s behind it, which falls to bits per second at from, 30 ms one way, with a
// drop-tail queue. Its receiver asks again for what it misses, until a later keyframe is complete.
type link struct {
	now   *time.Duration
	from  time.Duration
	bits  float64
	queue time.Duration
	free  time.Duration // when all has been sent
	sent  []*carried
}

// carried is one packet of the stream.
type carried struct {
	at, out    time.Duration // out 0: not arrived
	asked      time.Duration
	sequence   uint16
	layer      byte
	first, key bool
	marker     bool
}

func (l *link) sendRun(run []segment) int {
	for _, g := range run {
		b := slices.Concat(g.header, g.prefix, g.payload)
		h, err := codec.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		v := h.Payload(b)
		var c *carried
		if h.SSRC >= 2000 { // RTX
			for _, o := range l.sent {
				if o.sequence == uint16(v[0])<<8|uint16(v[1]) {
					c = o
				}
			}
		} else {
			first := v[0]&0x10 != 0
			c = &carried{at: *l.now, sequence: h.Sequence, layer: v[7], first: first, key: first && v[6]&1 == 0, marker: h.Marker}
			l.sent = append(l.sent, c)
		}
		if l.free-*l.now > l.queue {
			continue
		}
		rate := 20e6
		if *l.now >= l.from {
			rate = l.bits
		}
		l.free = max(l.free, *l.now) + time.Duration(float64(len(b)+28)*8/rate*float64(time.Second))
		if c.out == 0 {
			c.out = l.free + 30*time.Millisecond
		}
	}
	return len(run)
}

// ask returns what the receiver asks for now.
func (l *link) ask() (list []uint16) {
	now := *l.now - 30*time.Millisecond // when the request left
	later, complete := false, false
	for i := len(l.sent) - 1; i >= 0 && *l.now-l.sent[i].at < 3*time.Second; i-- {
		c := l.sent[i]
		if c.out != 0 {
			later = later || c.out <= now
			complete = (complete || c.marker) && c.out <= now
			if c.key && complete {
				break
			}
			continue
		}
		complete = false
		if later && (c.asked == 0 || now-c.asked >= 100*time.Millisecond) {
			c.asked = now
			list = append(list, c.sequence)
		}
	}
	return list
}

// freeze returns the longest time for which the picture stands still after from. A frame is shown when all of it has come,
// and all since the keyframe, unless a later one has been.
func (l *link) freeze() (longest time.Duration) {
	var shown []time.Duration
	ready, whole := time.Duration(0), true
	for _, c := range l.sent {
		if c.key {
			ready, whole = 0, true
		}
		whole = whole && c.out != 0
		if ready = max(ready, c.out); c.marker && whole {
			shown = append(shown, ready)
		}
	}
	last := *l.now
	for i := len(shown) - 1; i >= 0 && last > l.from; i-- {
		if shown[i] < last {
			longest = max(longest, last-max(shown[i], l.from))
			last = shown[i]
		}
	}
	return longest
}

// A link falls to 500 kbit/s, with a queue of 300 ms. The estimate follows a little later.
func TestTheWayDownIsShort(t *testing.T) {
	for _, answer := range []time.Duration{60 * time.Millisecond, 160 * time.Millisecond} {
		for _, late := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
			worst, most, lost := time.Duration(0), time.Duration(0), 0
			for offset := range 4 {
				h := newHall(t)
				c := h.camera("c", false, 150, 500, 1700)
				c.answer = answer
				v := h.viewer("v")
				l := &link{now: &h.now, from: time.Hour, bits: 500_000, queue: 300 * time.Millisecond}
				v.out.sink = l
				s := v.watch(c.pub, large)
				h.pass(4*time.Second + time.Duration(offset)*time.Second/30)
				v.expect("before", 2)
				l.from = h.now
				h.each = func() {
					if list := l.ask(); len(list) > 0 {
						s.nacked(list, h.now)
					}
				}
				h.pass(late)
				v.p.budget(h.now, 420_000)
				h.pass(3 * time.Second)
				if got := v.layers(); got[0] == 2 || got[0] < 0 {
					t.Errorf("layer %d is forwarded afterwards", got[0])
				}
				worst, most = max(worst, l.freeze()), max(most, l.free-h.now)
				for _, c := range l.sent {
					if c.out == 0 {
						lost++
					}
				}
			}
			t.Logf("keyframe after %v, estimate after %v: no picture for %v at most, queue of %v in the end, %d lost", answer, late, worst, most, lost)
			if worst > 700*time.Millisecond || most > 100*time.Millisecond {
				t.Errorf("no picture for %v, queue of %v in the end", worst, most)
			}
		}
	}
}

// A stream of several layers goes down at its next picture where it can, and else as simulcast does.
func TestStreamsOfLayersGoDownToo(t *testing.T) {
	for _, mode := range []string{"L3T3", "L3T3_KEY"} {
		h := newHall(t)
		p, in, _ := h.newcomer("PA_s")
		keyframe := time.Duration(1)
		keyframes := 0
		in.write = func(list []rtcp.Packet) {
			for _, p := range list {
				if _, ok := p.(*rtcp.PictureLossIndication); ok && keyframe == 0 {
					keyframe = h.now + 60*time.Millisecond
				}
			}
		}
		pub := h.announce(p, in, PublicationConfig{ID: "TR_s", CID: "cid-0", Kind: Video}, av1Section("0", 6))
		f := newAV1Feed(mode, 6)
		f.pad = 400
		h.each = func() {
			key := keyframe != 0 && h.now >= keyframe
			if key {
				keyframe = 0
				keyframes++
			}
			for _, b := range f.picture(key) {
				in.rtp(b, h.now)
			}
		}
		v := h.viewer("v")
		s := v.watch(pub, large)
		check := func(what string, spatial, temporal int) {
			t.Helper()
			if got := s.snapshot(); got.Spatial != spatial || got.Temporal != temporal {
				t.Fatalf("%s, %s: S%d T%d, want S%d T%d: %+v", mode, what, got.Spatial, got.Temporal, spatial, temporal, pub.offers.offer.layers)
			}
		}
		h.pass(4 * time.Second)
		check("all", 2, 2)
		o := pub.offer(h.now)
		if o.spatials != 3 || o.layers[1].Width != 640 || o.cost(2, 2) <= o.cost(1, 2) || o.cost(2, 2) <= o.cost(2, 1) || o.layers[2].Temporal[1].FPS != 15 {
			t.Errorf("%s: offers %+v", mode, o)
		}
		before := keyframes
		v.p.budget(h.now, o.cost(2, 1)+1000) // frame rates go down at once
		h.pass(100 * time.Millisecond)
		check("fewer frames", 2, 1)
		if keyframes != before {
			t.Errorf("%s: a keyframe for less frames", mode)
		}
		v.p.budget(h.now, o.cost(0, 1)+1000)
		h.now += descentCheck
		v.p.sharing.tick(h.now)
		h.pass(200 * time.Millisecond)
		check("lowest", 0, 1)
		if mode == "L3T3" && keyframes != before {
			t.Errorf("%s: %d keyframes on the way down", mode, keyframes-before)
		}
		v.p.budget(h.now, 10*o.cost(2, 2))
		h.pass(6 * time.Second)
		check("all again", 2, 2)
		s.configure(SubscriptionSettings{Width: 640, Height: 360, FPS: 15}, h.now)
		h.pass(200 * time.Millisecond)
		check("by settings", 1, 1)
		if len(v.told) != 0 {
			t.Errorf("%s: told %+v", mode, v.told)
		}
	}
}

// Where a track comes in two codecs, the one that takes over is no dearer than the one before.
func TestACodecTakesOverWithinTheBudget(t *testing.T) {
	for _, x := range []struct{ budget, layer int }{{10_000_000, 2}, {700_000, 1}, {250_000, 0}} {
		h := newHall(t)
		c := h.camera("c", false, 150, 500, 1700)
		v := h.viewer("v")
		s := v.watch(c.pub, large)
		h.pass(2 * time.Second)
		v.p.budget(h.now, int64(x.budget))
		h.pass(2 * time.Second)
		v.expect("before", x.layer)
		other := h.camera("o", false, 150, 500, 1700)
		h.pass(2 * time.Second)
		s.mu.Lock()
		st := s.out
		s.wait(other.pub)
		st.aimNext(s.settings, s.allotted, h.now)
		target := st.nextForwarder.Target()
		s.mu.Unlock()
		if target != x.layer {
			t.Errorf("%d bit/s: layer %d of the next codec, want %d", x.budget, target, x.layer)
		}
	}
}

func BenchmarkShare(b *testing.B) {
	for _, x := range []struct{ viewers, cameras int }{{1, 25}, {1, 500}, {1000, 25}} {
		b.Run(fmt.Sprintf("%dx%d", x.viewers, x.cameras), func(b *testing.B) {
			h := newHall(b)
			for i := range x.cameras {
				h.camera(fmt.Sprint(i), false, 150, 500, 1700)
			}
			h.pass(2 * time.Second)
			for i := range x.viewers {
				v := h.viewer(fmt.Sprint(i))
				v.p.budget(h.now, int64(x.cameras)*300_000)
				for _, c := range h.cameras {
					v.watch(c.pub, SubscriptionSettings{Width: 640, Height: 360})
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				h.now += shareInterval
				for _, v := range h.viewers {
					v.p.sharing.share(h.now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*x.viewers*x.cameras), "ns/subscription")
		})
	}
}

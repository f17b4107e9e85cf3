package sfu

import (
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
	p.transports[Publisher].Store(&transport{p: p, in: in, plane: &plane{}})
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
			c.in.one(f.packet(b, left <= 0), now)
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
	v.out = newEgress(v.sink, h.server.now)
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
				v.in.one(v.feed.packet(make([]byte, 80), false), h.now)
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

package sfu

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"
)

func TestChoosingCodecs(t *testing.T) {
	const a, b, c = 1, 2, 4 // codecs in the publisher's order
	for _, x := range []struct {
		name   string
		policy BackupPolicy
		takes  []codecBits // of the subscriptions
		bound  codecBits
		common int
		want   [][2]int // what each should have, and has meanwhile
	}{
		{"one codec", EveryCodec, []codecBits{a}, a, -1, [][2]int{{0, 0}}},
		{"each its best", EveryCodec, []codecBits{a | b, b}, a | b, -1, [][2]int{{0, 0}, {1, 1}}},
		{"the backup isn't there yet", EveryCodec, []codecBits{a | b, b}, a, -1, [][2]int{{0, 0}, {1, -1}}},
		{"the first has ended", EveryCodec, []codecBits{a | b, b}, b, -1, [][2]int{{0, 1}, {1, 1}}},
		{"nobody is held back", PreferOneCodec, []codecBits{a | b, a | b}, a | b, 0, [][2]int{{0, 0}, {0, 0}}},
		{"one for all", PreferOneCodec, []codecBits{a | b, b}, a | b, 1, [][2]int{{1, 1}, {1, 1}}},
		{"one for all, later", PreferOneCodec, []codecBits{a | b, b}, a, 1, [][2]int{{1, 0}, {1, -1}}},
		{"no one for all", PreferOneCodec, []codecBits{a, b}, a | b, -1, [][2]int{{0, 0}, {1, 1}}},
		{"the most", OneCodec, []codecBits{a, b, b | c}, a | b | c, 1, [][2]int{{-1, -1}, {1, 1}, {1, 1}}},
		{"nobody takes any", OneCodec, []codecBits{0, 0}, a, -1, [][2]int{{-1, -1}, {-1, -1}}},
		{"nobody", PreferOneCodec, nil, a, -1, nil},
	} {
		common := x.policy.common(x.takes)
		if common != x.common {
			t.Errorf("%s: common %d, want %d", x.name, common, x.common)
		}
		for i, takes := range x.takes {
			if want, have := choose(x.policy, takes, x.bound, common); want != x.want[i][0] || have != x.want[i][1] {
				t.Errorf("%s: subscription %d should have %d, has %d; want %v", x.name, i, want, have, x.want[i])
			}
		}
	}
}

// events collects what a participant of a stage is told.
func (st *stage) events() *[]Event {
	var list []Event
	st.pub.cfg.Notify = func(e Event) { list = append(list, e) }
	return &list
}

// wantedOf returns what was told last.
func wantedOf(events []Event) []int8 {
	for _, e := range slices.Backward(events) {
		if e, ok := e.(LayersWanted); ok {
			return e.Layers
		}
	}
	return nil
}

func TestLayersWanted(t *testing.T) {
	st := newStage(t)
	events := st.events()
	s := videoSection("0", "q", "h", "f")
	if err := st.pub.Publish(PublicationConfig{ID: "TR_v", CID: s.track, Kind: Video, Layers: []Layer{
		{Quality: 0, Width: 320, Height: 180}, {Quality: 1, Width: 640, Height: 360}, {Quality: 2, Width: 1280, Height: 720},
	}}); err != nil {
		t.Fatal(err)
	}
	st.pub.tracks.sections = []section{s}
	st.in.describe(st.pub.tracks.sections)
	st.pub.follow(st.pub.bind())
	pub := st.pub.tracks.byID["TR_v"]
	check := func(what string, want int8) {
		t.Helper()
		if got := wantedOf(*events); len(got) != 1 || got[0] != want {
			t.Errorf("%s: wanted %v, want %d", what, got, want)
		}
	}
	check("nobody", -1)
	one, _ := st.subscribe(pub, "PA_1", videoSection("0"))
	check("one", 2)
	now := st.server.now()
	one.configure(SubscriptionSettings{Width: 300, Height: 150}, now)
	check("a small view", 0)
	one.configure(SubscriptionSettings{Width: 180, Height: 320}, now)
	check("on its side", 0)
	one.configure(SubscriptionSettings{Width: 360, Height: 200}, now)
	check("a little larger", 1)
	one.configure(SubscriptionSettings{Width: 4000, Height: 3000}, now)
	check("larger than there is", 2)
	one.configure(SubscriptionSettings{Quality: 1}, now)
	check("by quality", 1)
	two, _ := st.subscribe(pub, "PA_2", videoSection("0"))
	check("two", 2)
	two.configure(SubscriptionSettings{Disabled: true, Quality: 2}, now)
	check("the second disabled", 1)
	one.configure(SubscriptionSettings{Disabled: true}, now)
	check("both", -1)
	two.configure(SubscriptionSettings{Quality: 0}, now)
	check("one again", 0)
	told := len(*events)
	two.configure(SubscriptionSettings{Quality: 0, FPS: 15}, now)
	if len(*events) != told {
		t.Error("told what was known")
	}
	two.end()
	check("gone", -1)
}

// vp8Temporal is the payload of a VP8 frame of one packet in a temporal layer.
func (f *feed) vp8Temporal(temporal byte, key bool) []byte {
	b := f.vp8(true, key)
	b[5] = temporal<<6 | 0x20 // Y: it depends on the base layer alone
	return b
}

// TestFPSLeavesTemporalLayersOut: of 30 pictures a second in three temporal layers.
func TestFPSLeavesTemporalLayersOut(t *testing.T) {
	st := newStage(t)
	pub := st.publish("TR_v", Video, videoSection("0"))
	sub, r := st.subscribe(pub, "PA_1", videoSection("0"))
	f := feed{ssrc: 7, pt: 96, mid: "0"}
	now := st.server.now()
	n := 0
	second := func() (sent int) {
		before := r.n
		for range 30 {
			temporal := [4]byte{0, 2, 1, 2}[n%4]
			st.in.one(f.packet(f.vp8Temporal(temporal, n == 0), true), now)
			n++
			now += time.Second / 30
			f.timestamp += 3000
			f.picture++
		}
		return r.n - before
	}
	for _, x := range []struct {
		fps         uint32
		least, most int
	}{{0, 30, 30}, {30, 30, 30}, {15, 14, 16}, {10, 14, 16}, {7, 7, 9}, {1, 7, 9}, {60, 30, 30}} {
		sub.configure(SubscriptionSettings{Quality: 2, FPS: x.fps}, now)
		second() // to measure, and to reach it
		second()
		if sent := second(); sent < x.least || sent > x.most {
			t.Errorf("%d a second wanted, %d sent", x.fps, sent)
		}
	}
}

func TestFrameRates(t *testing.T) {
	var r frameRates
	if r.measured {
		t.Error("measured before anything came")
	}
	changes := 0
	for i := range 200 {
		d := codec.Descriptor{FrameStart: true, HasTemporal: true, Temporal: uint8(i % 2)}
		if r.frame(&d, time.Duration(i)*time.Second/20) {
			changes++
		}
		d.FrameStart = false // another packet of the same frame
		r.frame(&d, time.Duration(i)*time.Second/20)
	}
	if changes != 1 {
		t.Errorf("a steady rate changed %d times", changes)
	}
	if !r.measured || r.highest != 1 || r.rates[0] < 9.5 || r.rates[0] > 10.5 || r.rates[1] < 19.5 || r.rates[1] > 20.5 {
		t.Errorf("measured %v: up to layer %d, %v a second", r.measured, r.highest, r.rates)
	}
}

// TestEncryptedPayloadsAreLeftAlone: what end-to-end encryption hides is neither read nor taken for a fault.
func TestEncryptedPayloadsAreLeftAlone(t *testing.T) {
	st := newStage(t)
	encrypted := func(id string, kind Kind, s section) *publication {
		t.Helper()
		if err := st.pub.Publish(PublicationConfig{ID: id, CID: s.track, Kind: kind, Encrypted: true}); err != nil {
			t.Fatal(err)
		}
		st.pub.tracks.sections = append(st.pub.tracks.sections, s)
		st.in.describe(st.pub.tracks.sections)
		st.pub.follow(st.pub.bind())
		return st.pub.tracks.byID[id]
	}
	h264 := section{mid: "1", kind: "video", sending: true, receiving: true, track: "cid-1", extensions: map[string]uint8{codec.URIMid: 4},
		payloads: []payload{{pt: 102, kind: codec.H264, clock: 90000}}}
	audio, video := encrypted("TR_a", Audio, audioSection("0")), encrypted("TR_v", Video, h264)
	without := audioSection("0")
	without.payloads = without.payloads[:1] // Opus alone
	_, both := st.subscribe(audio, "PA_red", audioSection("0"))
	_, opus := st.subscribe(audio, "PA_opus", without)
	_, picture := st.subscribe(video, "PA_v", h264)
	a := feed{ssrc: 8, pt: 63, mid: "0"}
	// Read as RED this would end inside a header.
	st.in.one(a.packet([]byte{0xff, 0xff}, false), 1)
	a.pt = 111
	st.in.one(a.packet([]byte{0xff, 0xff}, false), 2)
	if both.n != 2 || opus.n != 1 {
		t.Errorf("%d packets with RED, %d without; want 2 and 1", both.n, opus.n)
	}
	v := feed{ssrc: 9, pt: 102, mid: "1"}
	for i, p := range [][]byte{{0x67, 1, 2}, {0x65, 0x80, 1}, {0x41, 0x9a}, {0x7f, 0xee, 3}, {0x78, 0xff, 0xff, 1}} {
		st.in.one(v.packet(p, true), time.Duration(i+1)*33*time.Millisecond)
		v.timestamp += 3000
	}
	if picture.n != 5 {
		t.Errorf("%d of 5 video packets were forwarded", picture.n)
	}
	if n := st.in.stats.Malformed; n != 0 {
		t.Errorf("%d packets are called malformed", n)
	}
}

func TestRatingAndScore(t *testing.T) {
	const ms = time.Millisecond
	for _, x := range []struct {
		p           path
		least, most float64 // of the score
	}{
		{path{}, 4.35, 4.45},
		{path{rtt: 100 * ms, jitter: 5 * ms}, 4.3, 4.45},
		{path{loss: 0.01}, 4.2, 4.4},
		{path{loss: 0.02, rtt: 60 * ms}, 4.1, 4.3},
		{path{loss: 0.05, rtt: 60 * ms}, 3.6, 4.02},        // good
		{path{loss: 0.1, rtt: 60 * ms}, 3.1, 3.5},          // still
		{path{loss: 0.2, rtt: 60 * ms}, 2, 3.0},            // poor
		{path{loss: 0.5}, 1, 1.9},                          // hopeless
		{path{loss: 7, rtt: time.Minute}, 1, 1},            // nonsense is bounded
		{path{loss: -1}, 4.35, 4.45},                       // so is this
		{path{rtt: 400 * ms}, 4, 4.2},                      // one hears the delay
		{path{rtt: 700 * ms}, 3.1, 3.6},                    // and minds it
		{path{rtt: 1200 * ms}, 1.5, 2.6},                   // and hangs up
		{path{jitter: 100 * ms, rtt: 100 * ms}, 3.8, 4.15}, // a deep jitter buffer
	} {
		if got := score(rating(x.p)); got < x.least || got > x.most {
			t.Errorf("%+v: rating %.1f, score %.2f, want %v to %v", x.p, rating(x.p), got, x.least, x.most)
		}
	}
	last := 5.0
	for r := 100.0; r >= -10; r-- {
		if s := score(r); s > last || s < 1 || s > mosBest {
			t.Errorf("score(%v) = %v after %v", r, s, last)
		} else {
			last = s
		}
	}
}

func TestConnectionMeter(t *testing.T) {
	var m connectionMeter
	if mos, changed := m.add(ratingBest); !changed || mos < 4.3 {
		t.Errorf("first: %v, %v", mos, changed)
	}
	if _, changed := m.add(ratingBest - 1); changed {
		t.Error("a small change was told")
	}
	down, changed := m.add(40)
	if !changed || down > 3.2 {
		t.Errorf("a bad interval: %v, %v", down, changed)
	}
	up, _ := m.add(ratingBest)
	if up-down > 1.2 || up <= down {
		t.Errorf("back at once: %v after %v", up, down)
	}
	for range 10 {
		up, _ = m.add(ratingBest)
	}
	if up < 4.3 {
		t.Errorf("it never recovers: %v", up)
	}
}

func TestCodecRefusals(t *testing.T) {
	st := newStage(t)
	st.publish("TR_v", Video, videoSection("0"))
	st.publish("TR_a", Audio, audioSection("1"))
	for name, x := range map[string]struct {
		track string
		cfg   CodecConfig
	}{
		"unknown track":  {"TR_x", CodecConfig{MimeType: "video/H264", CID: "c"}},
		"audio track":    {"TR_a", CodecConfig{MimeType: "video/H264", CID: "c"}},
		"audio codec":    {"TR_v", CodecConfig{MimeType: "audio/opus", CID: "c"}},
		"unknown codec":  {"TR_v", CodecConfig{MimeType: "video/xyz", CID: "c"}},
		"the same again": {"TR_v", CodecConfig{MimeType: "video/vp8", CID: "c"}},
	} {
		if err := st.pub.AddCodec(x.track, x.cfg); err == nil {
			t.Errorf("%s: added", name)
		}
	}
	for i, kind := range []string{"H264", "VP9", "AV1", "H265"} {
		if err := st.pub.AddCodec("TR_v", CodecConfig{MimeType: "video/" + kind, CID: fmt.Sprint("c", i)}); err != nil {
			t.Error(err)
		}
	}
	if n := len(st.pub.tracks.order); n != 6 {
		t.Errorf("%d codecs are waited for, want 6", n)
	}
	st.pub.Unpublish("TR_v")
	if n := len(st.pub.tracks.order); n != 1 {
		t.Errorf("%d are left, want the audio track", n)
	}
	if err := st.pub.Publish(PublicationConfig{ID: "TR_w", Kind: Video, Backups: make([]CodecConfig, maxCodecs)}); err == nil {
		t.Error("any number of codecs")
	}
}

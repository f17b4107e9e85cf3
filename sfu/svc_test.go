package sfu

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/codectest"
	"anytime/sfu/forward"

	"github.com/pion/rtcp"
)

// av1Section is a video m-line with AV1 and dependency descriptors.
func av1Section(mid string, dependency uint8, rids ...string) section {
	s := videoSection(mid, rids...)
	s.mixed = true
	s.extensions[codec.URIDependency] = dependency
	s.payloads = []payload{{pt: 45, kind: codec.AV1, clock: 90000, nack: true}, {pt: 46, rtx: true, apt: 45, clock: 90000}}
	return s
}

// av1Feed sends the frames of an encoder, a packet each.
type av1Feed struct {
	feed
	encoder    codectest.Encoder
	dependency uint8
	pad        int // bytes in the lowest spatial layer's packets; each higher one has as many more
}

// picture returns the packets of one picture.
func (f *av1Feed) picture(key bool) (packets [][]byte) {
	frames := f.encoder.Picture(key)
	for i := range frames {
		b := make([]byte, 1400)
		w := codec.NewWriter(b, i == len(frames)-1, 45, f.sequence, f.timestamp, f.ssrc)
		d := frames[i].Descriptor(true, true)
		if len(d) > 16 || f.dependency > 14 {
			w.TwoByte()
		}
		if f.mid != "" {
			w.Extension(4, []byte(f.mid))
		}
		if f.rid != "" {
			w.Extension(5, []byte(f.rid))
		}
		if _, ok := w.Extension(f.dependency, d); !ok {
			panic("no room for the descriptor")
		}
		n := w.Finish()
		n += copy(b[n:], []byte{0x10, byte(frames[i].Spatial), 1, 2, 3})
		n += copy(b[n:], make([]byte, f.pad*(1+frames[i].Spatial)))
		f.sequence++
		packets = append(packets, b[:n])
	}
	f.timestamp += 3000
	return packets
}

func newAV1Feed(mode string, dependency uint8) *av1Feed {
	return &av1Feed{feed: feed{ssrc: 7, mid: "0", sequence: 65530}, encoder: codectest.Encoder{Mode: codectest.ModeOf(mode), Number: 65530},
		dependency: dependency}
}

func TestDescriptorsReachSubscribers(t *testing.T) {
	for _, test := range []struct {
		name             string
		in, out          uint8
		mixed            bool
		wide, descriptor bool
	}{
		{"one byte where it fits", 6, 7, true, false, true},
		{"an id above 14", 20, 200, true, true, true},
		{"no mixing of forms", 6, 7, false, false, false},
		{"not negotiated", 6, 0, true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := newStage(t)
			video := st.publish("TR_v", Video, av1Section("0", test.in))
			out := av1Section("0", test.out)
			out.mixed = test.mixed
			_, r := st.subscribe(video, "PA_v", out)
			r.keep = true
			f := newAV1Feed("L3T3", test.in)
			want := [][]byte{}
			for n := range 5 {
				for _, b := range f.picture(n == 0) {
					h, err := codec.ParseHeader(b)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, h.Extension(b, test.in))
					st.in.one(b, time.Duration(n+1)*33*time.Millisecond)
				}
			}
			got := r.packets()
			if len(got) != len(want) {
				t.Fatalf("%d packets, want %d", len(got), len(want))
			}
			for i, p := range got {
				v := p.header.Extension(p.bytes, max(test.out, 1))
				if !test.descriptor {
					if v != nil {
						t.Fatalf("packet %d has a descriptor %x", i, v)
					}
				} else if !bytes.Equal(v, want[i]) {
					t.Fatalf("packet %d has descriptor %x, want %x", i, v, want[i])
				}
				if wide := p.header.Profile == 0x1000; wide != (test.wide || test.descriptor && len(want[i]) > 16) {
					t.Errorf("packet %d with a descriptor of %d bytes: two-byte form %v", i, len(want[i]), wide)
				}
				if p.header.Extension(p.bytes, 3) == nil {
					t.Errorf("packet %d has no transport-wide sequence number", i)
				}
			}
		})
	}
}

// Of VP8 they go no further: see describe.
func TestDescriptorsOfVP8StayHere(t *testing.T) {
	const dependency = 7
	st := newStage(t)
	line := videoSection("0")
	line.mixed, line.extensions[codec.URIDependency] = true, dependency
	video := st.publish("TR_v", Video, line)
	_, r := st.subscribe(video, "PA_v", line)
	r.keep = true
	f := feed{ssrc: 7, mid: "0"}
	encoder := codectest.Encoder{Mode: codectest.ModeOf("L1T3")}
	for n := range 5 {
		b := make([]byte, 1400)
		w := codec.NewWriter(b, true, 96, f.sequence, f.timestamp, f.ssrc)
		w.TwoByte()
		w.Extension(4, []byte(f.mid))
		if _, ok := w.Extension(dependency, encoder.Picture(n == 0)[0].Descriptor(true, true)); !ok {
			t.Fatal("no room for the descriptor")
		}
		at := w.Finish()
		at += copy(b[at:], f.vp8(true, n == 0))
		f.sequence, f.picture, f.timestamp = f.sequence+1, f.picture+1, f.timestamp+3000
		st.in.one(b[:at], time.Duration(n+1)*33*time.Millisecond)
	}
	got := r.packets()
	if len(got) != 5 {
		t.Fatalf("%d packets, want 5", len(got))
	}
	for i, p := range got {
		if v := p.header.Extension(p.bytes, dependency); v != nil {
			t.Errorf("packet %d has a descriptor %x", i, v)
		}
		if p.header.Extension(p.bytes, 3) == nil {
			t.Errorf("packet %d has no transport-wide sequence number", i)
		}
	}
	if video.layers[0].Load().structure.Load() == nil {
		t.Error("the descriptors were not read")
	}
}

// The structure is lost and comes again over RTX: what needs it waits and follows in order.
func TestPacketsWaitForTheirStructure(t *testing.T) {
	st := newStage(t)
	s := av1Section("0", 6)
	s.ssrcs, s.groups = []uint32{7, 70}, []ssrcGroup{{"FID", []uint32{7, 70}}}
	video := st.publish("TR_v", Video, s)
	sub, r := st.subscribe(video, "PA_v", av1Section("0", 6))
	r.keep = true
	f := newAV1Feed("L2T1", 6)
	packets := append(f.picture(true), append(f.picture(false), f.picture(false)...)...)
	// One before, so that the gap is noticed.
	lost := packets[0]
	h, err := codec.ParseHeader(lost)
	if err != nil {
		t.Fatal(err)
	}
	first := feed{ssrc: 7, pt: 45, mid: "0", sequence: h.Sequence - 1}
	st.in.one(first.packet(nil, false), 1)
	for _, b := range packets[1:] {
		st.in.one(b, 2)
	}
	if got := len(r.packets()); got != 0 {
		t.Fatalf("%d packets left before their structure came", got)
	}
	x := feed{ssrc: 70, sequence: 5}
	b := make([]byte, 1400)
	w := codec.NewWriter(b, h.Marker, 46, x.sequence, h.Timestamp, 70)
	w.TwoByte()
	w.Extension(6, h.Extension(lost, 6))
	n := w.Finish()
	n += copy(b[n:], append([]byte{byte(h.Sequence >> 8), byte(h.Sequence)}, h.Payload(lost)...))
	st.in.one(b[:n], 50*time.Millisecond)
	got := r.packets()
	if len(got) != len(packets) {
		t.Fatalf("%d packets left, want %d", len(got), len(packets))
	}
	for i, p := range got {
		if i > 0 && p.header.Sequence != got[i-1].header.Sequence+1 {
			t.Errorf("sequence number %d after %d", p.header.Sequence, got[i-1].header.Sequence)
		}
		if p.header.Marker != (i%2 == 1) {
			t.Errorf("packet %d: marker %v", i, p.header.Marker)
		}
	}
	if s := sub.snapshot(); s.Spatial != 1 || s.Temporal != 0 {
		t.Errorf("forwarded S%d T%d", s.Spatial, s.Temporal)
	}
}

// A structure that doesn't come is asked for by a keyframe request, while somebody watches.
func TestMissingStructureAsksForAKeyframe(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, av1Section("0", 6))
	st.subscribe(video, "PA_v", av1Section("0", 6))
	f := newAV1Feed("L1T1", 6)
	f.picture(true)
	plis := func() (n int) {
		st.mu.Lock()
		defer st.mu.Unlock()
		for _, p := range st.sent {
			if _, ok := p.(*rtcp.PictureLossIndication); ok {
				n++
			}
		}
		return n
	}
	video.layer(0).keyframes.came() // whoever subscribes asks, too
	before := plis()
	for n := range waitingForStructure + 1 {
		for _, b := range f.picture(false) {
			st.in.one(b, 10*time.Second+time.Duration(n)*time.Millisecond)
		}
	}
	if got := plis() - before; got != 1 {
		t.Errorf("%d keyframe requests, want 1", got)
	}
}

func TestSpatialLayersBySettings(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, av1Section("0", 6))
	s, r := st.subscribe(video, "PA_v", av1Section("0", 6))
	r.keep = true
	f := newAV1Feed("L3T1", 6)
	at := time.Second
	feed := func(key bool) {
		at += 33 * time.Millisecond
		for _, b := range f.picture(key) {
			st.in.one(b, at)
		}
	}
	feed(true)
	for _, x := range []struct {
		set     SubscriptionSettings
		spatial int
	}{
		{SubscriptionSettings{Quality: 0}, 0}, {SubscriptionSettings{Quality: 2}, 2}, {SubscriptionSettings{Quality: 1}, 1},
		// By size: the layers are 320, 640 and 1280 wide.
		{SubscriptionSettings{Width: 300, Height: 150}, 0}, {SubscriptionSettings{Width: 180, Height: 320}, 0},
		{SubscriptionSettings{Width: 360, Height: 200}, 1}, {SubscriptionSettings{Width: 4000, Height: 3000}, 2},
	} {
		s.configure(x.set, at)
		feed(false)
		feed(true)
		feed(false)
		if got := s.snapshot(); got.Spatial != x.spatial {
			t.Errorf("%+v: spatial layer %d, want %d", x.set, got.Spatial, x.spatial)
		}
	}
	// The publisher sends smaller pictures: another layer is large enough now.
	s.configure(SubscriptionSettings{Width: 320, Height: 180}, at)
	feed(true)
	f.encoder.Width, f.encoder.Offset = 640, 10
	feed(true)
	s.p.sharing.tick(at) // the alarm
	feed(true)
	if got := s.snapshot(); got.Spatial != 1 {
		t.Errorf("spatial layer %d of the smaller pictures, want 1", got.Spatial)
	}
	l := video.layers[0].Load()
	if got := video.snapshot(at).Layers[0].Spatial; got != 3 {
		t.Errorf("%d spatial layers told", got)
	}
	if low, high := l.bitrate(0, 0, at), l.bitrate(2, 0, at); low == 0 || high < 2*low {
		t.Errorf("the base costs %d bit/s, all %d", low, high)
	}
}

// With two layers the higher is high quality, as SDKs announce it.
func TestSpatialWish(t *testing.T) {
	for _, x := range []struct{ layers, quality, want int }{
		{0, 0, forward.AllSpatial}, {1, 0, forward.AllSpatial}, {2, 0, 0}, {2, 1, 0}, {2, 2, 1}, {3, 0, 0}, {3, 1, 1}, {3, 2, 2}, {4, 2, 3},
	} {
		pub := &publication{}
		l := newLayer(pub, 0)
		pub.layers[0].Store(l)
		l.spatial.Store(int32(x.layers))
		if got := pub.spatialWish(0, SubscriptionSettings{Quality: uint8(x.quality)}); got != x.want {
			t.Errorf("quality %d of %d layers is layer %d, want %d", x.quality, x.layers, got, x.want)
		}
	}
	pub := &publication{}
	if pub.spatialWish(-1, SubscriptionSettings{}) != forward.AllSpatial || pub.spatialWish(1, SubscriptionSettings{}) != forward.AllSpatial {
		t.Error("a layer that isn't there has spatial layers")
	}
}

// AV1 in simulcast: each source counts frames for itself, the subscriber sees one count.
func TestFrameNumbersAcrossSimulcastLayers(t *testing.T) {
	st := newStage(t)
	video := st.publish("TR_v", Video, av1Section("0", 7, "q", "f"))
	s, r := st.subscribe(video, "PA_v", av1Section("0", 7))
	r.keep = true
	low, high := newAV1Feed("L1T3", 7), newAV1Feed("L1T3", 7)
	low.rid, high.rid, high.ssrc, high.encoder.Number = "q", "f", 8, 20
	at := time.Second
	for n := range 30 {
		at += 33 * time.Millisecond
		for _, f := range []*av1Feed{low, high} {
			for _, b := range f.picture(n%10 == 0) {
				st.in.one(b, at)
			}
		}
		if n == 12 {
			s.configure(SubscriptionSettings{Quality: 0}, at)
		}
	}
	var numbers []uint16
	for _, p := range r.packets() {
		v := p.header.Extension(p.bytes, 7)
		if len(v) < 3 {
			t.Fatalf("descriptor %x", v)
		}
		numbers = append(numbers, uint16(v[1])<<8|uint16(v[2]))
	}
	if len(numbers) < 30 || s.snapshot().Switches < 2 {
		t.Fatalf("%d frames, %d switches", len(numbers), s.snapshot().Switches)
	}
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			t.Errorf("frame number %d after %d", numbers[i], numbers[i-1])
		}
	}
}

// VP9 without descriptors: picture ids of the payload go on across simulcast layers.
func TestPictureIDsOfVP9(t *testing.T) {
	st := newStage(t)
	in := videoSection("0", "q", "f")
	in.payloads = []payload{{pt: 98, kind: codec.VP9, clock: 90000, nack: true}}
	video := st.publish("TR_v", Video, in)
	out := in
	out.rids = nil
	s, r := st.subscribe(video, "PA_v", out)
	r.keep = true
	feeds := []*feed{{ssrc: 7, pt: 98, mid: "0", rid: "q", picture: 500}, {ssrc: 8, pt: 98, mid: "0", rid: "f"}}
	encoders := []*codectest.Encoder{{Mode: codectest.ModeOf("L1T2")}, {Mode: codectest.ModeOf("L1T2")}}
	for range 500 {
		encoders[0].Picture(true)
	}
	at := time.Second
	for n := range 30 {
		at += 33 * time.Millisecond
		for i, f := range feeds {
			frame := encoders[i].Picture(n%10 == 0)[0]
			st.in.one(f.packet(append(frame.VP9(true, true, uint8(frame.Picture)), 9, 9), true), at)
			f.timestamp += 3000
		}
		if n == 12 {
			s.configure(SubscriptionSettings{Quality: 0}, at)
		}
	}
	got := r.packets()
	if len(got) < 30 {
		t.Fatalf("%d packets", len(got))
	}
	var last codec.Descriptor
	for i, p := range got {
		d, err := codec.Parse(codec.VP9, p.header.Payload(p.bytes))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && (d.PictureID != last.PictureID+1 || d.TL0 != last.TL0+1) {
			t.Errorf("picture %d, TL0PICIDX %d after %d, %d", d.PictureID, d.TL0, last.PictureID, last.TL0)
		}
		last = d
	}
}

func TestSVCForwardingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	st := newStage(t)
	video := st.publish("TR_v", Video, av1Section("0", 6))
	var sinks []*recorder
	for i := range 5 {
		s, r := st.subscribe(video, string(rune('a'+i)), av1Section("0", 6))
		s.configure(SubscriptionSettings{Quality: uint8(i % 3)}, 0)
		sinks = append(sinks, r)
	}
	f := newAV1Feed("L3T3", 6)
	var script [][]byte
	for n := range 2400 {
		script = append(script, f.picture(n%300 == 0)...)
	}
	at, i := time.Second, 0
	feed := func() {
		at += 11 * time.Millisecond
		st.in.one(script[i], at)
		i++
	}
	for range 6000 {
		feed()
	}
	before := sinks[0].n
	if n := testing.AllocsPerRun(1000, feed); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	if sinks[0].n == before {
		t.Error("nothing was forwarded meanwhile")
	}
}

func TestFormats(t *testing.T) {
	for _, x := range []struct {
		kind codec.Kind
		a, b string
		same bool
	}{
		{codec.VP8, "", "max-fs=12", true},
		{codec.VP9, "profile-id=0", "", true}, {codec.VP9, "profile-id=0;x-google-start-bitrate=1000", "profile-id=2", false},
		{codec.AV1, "level-idx=5;profile=0;tier=0", "", true}, {codec.AV1, "profile=1", "profile=0", false},
		{codec.H265, "level-id=180;profile-id=1", "level-id=93", true}, {codec.H265, "profile-id=2", "profile-id=1", false},
		{codec.H265, "tier-flag=1", "", false},
		{codec.H264, "packetization-mode=1;profile-level-id=42e01f", "profile-level-id=42e01f", false},
	} {
		if got := sameFormat(x.kind, x.a, x.b); got != x.same {
			t.Errorf("%v, %q and %q: %v", x.kind, x.a, x.b, got)
		}
	}
	seen := map[uint8]bool{}
	for _, c := range videoCodecs(nil) {
		pt := uint8(c.PayloadType)
		// RFC 5761 section 4 and RFC 3551 section 6: what may be a dynamic payload type beside RTCP.
		if seen[pt] || pt < 35 || pt > 63 && pt < 96 || pt == ptOpus || pt == ptRED {
			t.Errorf("payload type %d", pt)
		}
		seen[pt] = true
	}
}

func TestAnswersAreTuned(t *testing.T) {
	const answer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 98 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\n"
	offer := []section{
		{mid: "0", kind: "audio", payloads: []payload{{pt: 111, kind: codec.Opus}, {pt: 63, kind: codec.RED}}},
		{mid: "1", kind: "video", payloads: []payload{{pt: 96, kind: codec.VP8}, {pt: 45, kind: codec.AV1}, {pt: 98, kind: codec.VP9}}},
	}
	for _, x := range []struct {
		audio, video PublicationConfig
		want         []string
		not          string
	}{
		{PublicationConfig{Stereo: true, DTX: true, RED: true}, PublicationConfig{Kind: Video, MimeType: "video/vp9"},
			[]string{"SAVPF 63 111", "a=fmtp:111 minptime=10;stereo=1;usedtx=1", "SAVPF 98 96", "a=fmtp:63 111/111"}, "fmtp:63 111/111;"},
		{PublicationConfig{}, PublicationConfig{Kind: Video}, []string{"SAVPF 111 63", "SAVPF 96 98"}, "usedtx"},
		{PublicationConfig{DTX: true}, PublicationConfig{Kind: Video, MimeType: "video/H265"}, []string{"SAVPF 96 98", "usedtx=1"}, "stereo"},
		{PublicationConfig{Kind: Video}, PublicationConfig{Kind: Audio}, []string{"SAVPF 98 96"}, "usedtx"}, // not what the m-lines are
	} {
		got, err := tune(answer, offer, map[string]PublicationConfig{"0": x.audio, "1": x.video})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range x.want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in\n%s", w, got)
			}
		}
		if strings.Contains(got, x.not) {
			t.Errorf("%q in\n%s", x.not, got)
		}
	}
	if got, err := tune(answer, offer, nil); err != nil || got != answer {
		t.Errorf("without tracks: %v\n%s", err, got)
	}
	if _, err := tune("nonsense", offer, nil); err == nil {
		t.Error("nonsense was taken")
	}
}

func TestMixedHeaderExtensions(t *testing.T) {
	both := section{mixed: true, extensions: map[string]uint8{"a": 3, "b": 15, "c": 200}}
	one := both
	one.mixed = false
	if n := negotiated(&both, &both); len(n.extensions) != 3 || !n.mixed {
		t.Errorf("%+v", n.extensions)
	}
	if n := negotiated(&both, &one); len(n.extensions) != 1 || n.mixed {
		t.Errorf("%+v", n.extensions)
	}
	s := section{extensions: map[string]uint8{}}
	for _, v := range []string{"15 u:x", "255/recvonly u:y", "256 u:z", "0 u:0", "4096 u:w"} {
		s.extmap(v)
	}
	if len(s.extensions) != 2 || s.extensions["u:x"] != 15 || s.extensions["u:y"] != 255 {
		t.Errorf("%v", s.extensions)
	}
}

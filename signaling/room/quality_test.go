package room

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// layers renders what a publisher is told.
func layers(effects []Effect) string {
	var out []string
	for _, e := range effects {
		if e, ok := e.(SendLayers); ok {
			s := e.To + " " + e.TrackID
			for _, c := range e.Codecs {
				s += fmt.Sprintf(" %s:%d", c.MimeType, c.Highest)
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

// TestDynacast: more is told at once, less after the delay, and nothing that was told already.
func TestDynacast(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []any // a time in seconds and what is wanted; a time alone is a tick
		want  []string
	}{
		{"everything from the start is nothing new", []any{0., []int8{2}, 9.}, []string{"", ""}},
		{"less waits", []any{0., []int8{0}, 2.9, 3.}, []string{"", "", "vp8:0"}},
		{"nobody", []any{0., []int8{-1}, 3.}, []string{"", "vp8:-1"}},
		{"more comes at once", []any{0., []int8{-1}, 3., 4., []int8{0}, 5., []int8{2}}, []string{"", "vp8:-1", "vp8:0", "vp8:2"}},
		{"flapping costs nothing", []any{0., []int8{0}, 1., []int8{2}, 2., []int8{0}, 3., 4., []int8{2}, 9.},
			[]string{"", "", "", "", "", ""}},
		{"the delay runs from the first fall", []any{0., []int8{1}, 2., []int8{0}, 3.}, []string{"", "", "vp8:0"}},
		{"one more, one less", []any{0., []int8{0, 1}, 3.}, []string{"vp8:2 vp9:1", "vp8:0 vp9:1"}},
		{"a codec that nobody wants any more", []any{0., []int8{2, 2}, 1., []int8{2, -1}, 4.},
			[]string{"vp8:2 vp9:2", "", "vp8:2 vp9:-1"}},
		{"nonsense is bounded", []any{0., []int8{-100, 100}, 3.}, []string{"vp8:2 vp9:2", "vp8:-1 vp9:2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t, Limits{})
			s.join("ann")
			s.publish("ann", "a", func(t *Track) { t.Codecs = []Codec{{MimeType: "vp8"}, {MimeType: "vp9"}} })
			var got []string
			for i := 0; i < len(c.steps); i++ {
				now := at(c.steps[i].(float64))
				if i+1 < len(c.steps) {
					if wanted, ok := c.steps[i+1].([]int8); ok {
						i++
						got = append(got, layers(s.LayersWanted(now, "PA_ann", "TR_a", wanted)))
						continue
					}
				}
				due := s.NextDeadline()
				told := layers(s.Tick(now))
				if told != "" && (due.IsZero() || due.After(now)) {
					t.Errorf("told at %v, the deadline was %v", now, due)
				}
				got = append(got, told)
			}
			for i := range c.want {
				if c.want[i] != "" {
					c.want[i] = "PA_ann TR_a " + c.want[i]
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

func TestDynacastIsToldAgain(t *testing.T) {
	s := newScript(t, Limits{LayerDelay: time.Second})
	s.join("ann")
	s.join("bob")
	s.publish("ann", "a")
	s.publish("ann", "sound", func(t *Track) { t.Kind = Audio })
	for _, id := range []string{"PA_bob", "PA_gone"} { // not the owner
		if got := s.LayersWanted(t0, id, "TR_a", []int8{0}); got != nil {
			t.Errorf("from %s: %v", id, brief(got))
		}
	}
	if got := s.LayersWanted(t0, "PA_ann", "TR_sound", []int8{-1}); got != nil {
		t.Errorf("of a sound: %v", brief(got))
	}
	s.LayersWanted(t0, "PA_ann", "TR_a", []int8{0})
	s.Detach(t0, "PA_ann")
	s.last = s.Tick(at(1)) // nobody to tell
	if got := layers(s.last); got != "" {
		t.Errorf("told %q without a connection", got)
	}
	s.last, _ = s.Resume(at(2), "PA_ann", "ann")
	if got := layers(s.last); got != "PA_ann TR_a video/VP8:0" {
		t.Errorf("after the resume it was told %q", got)
	}
	// Encoders start anew when a track is unmuted.
	s.ok(s.SetMuted(at(3), "PA_ann", "TR_a", true, false))
	if got := layers(s.last); got != "" {
		t.Errorf("told %q at the mute", got)
	}
	s.ok(s.SetMuted(at(3), "PA_ann", "TR_a", false, false))
	if got := layers(s.last); got != "PA_ann TR_a video/VP8:0" {
		t.Errorf("told %q at the unmute", got)
	}
	s.LayersWanted(at(4), "PA_ann", "TR_a", []int8{-1})
	s.TrackEnded(at(4), "PA_ann", "TR_a")
	if got := layers(s.Tick(at(9))); got != "" {
		t.Errorf("told %q of a track that has ended", got)
	}
}

// TestBackupCodec follows livekit-client: the track names the codec, add_track with the sid brings it.
func TestBackupCodec(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	codecs := func(t *Track) { t.Codecs = []Codec{{MimeType: "video/vp9", CID: "cid-a"}, {MimeType: "video/vp8"}} }
	s.publish("ann", "a", codecs)
	track, _ := s.Track("TR_a")
	// Its encoder turned out to be another; its name stays.
	if track.MimeType != "video/VP8" || track.Codecs[0].MimeType != "video/VP8" || track.Codecs[0].Announced != "video/vp9" || !track.Codecs[0].Started {
		t.Errorf("track is %+v", track)
	}
	if got := layers(s.LayersWanted(t0, "PA_ann", "TR_a", []int8{2, 1})); got != "PA_ann TR_a video/vp9:2 video/vp8:1" {
		t.Errorf("the publisher is told %q", got)
	}
	vp8 := Codec{MimeType: "video/VP8", CID: "cid-b", Layers: []Layer{{Quality: 2}}}
	s.ok(s.AddCodec(t0, "PA_ann", "TR_a", vp8))
	s.want("published>PA_ann cid-b=TR_a", "publishcodec PA_ann TR_a {video/vp8 video/vp8 cid-b [{2 0 0 0 0 0 }] 0 false",
		"update>PA_ann,PA_bob ann:joined+TR_a")
	s.ok(s.AddCodec(t0, "PA_ann", "TR_a", vp8)) // the same once more: the answer may have been lost
	s.want("published>PA_ann cid-b=TR_a")
	s.Detach(t0, "PA_ann")
	s.last, _ = s.Resume(t0, "PA_ann", "ann")
	if got := brief(s.last); !slices.Contains(got, "published>PA_ann cid-b=TR_a") {
		t.Errorf("after a resume: %v", got)
	}
	s.last = s.CodecStarted(t0, "PA_ann", "TR_a", 1, "video/VP8")
	s.want("update>PA_ann,PA_bob ann:joined+TR_a")
	track, _ = s.Track("TR_a")
	if c := track.Codecs[1]; c.CID != "cid-b" || !strings.EqualFold(c.MimeType, "video/VP8") || !c.Started || len(c.Layers) != 1 {
		t.Errorf("the second codec is %+v", c)
	}

	// What is refused.
	s.publish("bob", "b")
	s.publish("ann", "sound", func(t *Track) { t.Kind, t.Source = Audio, Microphone })
	for name, c := range map[string]struct {
		who, track string
		codec      Codec
		code       RefusalCode
	}{
		"unknown sid":           {"PA_ann", "TR_x", vp8, NotFound},
		"another's track":       {"PA_ann", "TR_b", vp8, NotFound},
		"nobody":                {"PA_x", "TR_a", vp8, NotFound},
		"a codec twice":         {"PA_ann", "TR_a", Codec{MimeType: "video/vp8", CID: "c"}, Invalid},
		"the first codec again": {"PA_ann", "TR_a", Codec{MimeType: "video/VP9", CID: "c"}, Invalid},
		"a cid twice":           {"PA_ann", "TR_a", Codec{MimeType: "video/h264", CID: "cid-a"}, Invalid},
		"no name":               {"PA_ann", "TR_a", Codec{CID: "c"}, Invalid},
		"no cid":                {"PA_ann", "TR_a", Codec{MimeType: "video/h264"}, Invalid},
		"a sound":               {"PA_ann", "TR_sound", Codec{MimeType: "audio/pcmu", CID: "c"}, Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			effects, err := s.AddCodec(t0, c.who, c.track, c.codec)
			s.refused(c.code, effects, err)
		})
	}
	_, err := s.AddTrack(t0, "PA_ann", Track{ID: "TR_t", CID: "c", Kind: Video, Codecs: []Codec{{MimeType: "video/vp8"}, {MimeType: "video/VP8"}}})
	s.refused(Invalid, nil, err)
	_, err = s.AddTrack(t0, "PA_ann", Track{ID: "TR_t", CID: "c", Kind: Audio, Codecs: make([]Codec, 2)})
	s.refused(Unsupported, nil, err)
	for i := range maxCodecs - 2 {
		s.ok(s.AddCodec(t0, "PA_ann", "TR_a", Codec{MimeType: fmt.Sprint("video/x", i), CID: fmt.Sprint("c", i)}))
	}
	_, err = s.AddCodec(t0, "PA_ann", "TR_a", Codec{MimeType: "video/y", CID: "y"})
	s.refused(LimitExceeded, nil, err)

	// One codec ends; the track stays, and the codec may come again.
	s.last = s.CodecEnded(t0, "PA_ann", "TR_a", 1)
	s.want("update>PA_ann,PA_bob ann:joined+TR_a+TR_sound")
	vp8.CID = "cid-c"
	s.ok(s.AddCodec(t0, "PA_ann", "TR_a", vp8))
	for _, codec := range []int{-1, 99} {
		if got := s.CodecStarted(t0, "PA_ann", "TR_a", codec, ""); got != nil {
			t.Errorf("codec %d: %v", codec, brief(got))
		}
	}
}

// TestLackingCodec: who has none of a track's codecs hears so, and is subscribed when one comes that it
// may have.
func TestLackingCodec(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.publish("ann", "a", func(t *Track) { t.Codecs = []Codec{{MimeType: "video/av1", CID: "cid-a"}} })
	s.Configure(t0, "PA_bob", []string{"TR_a"}, Settings{Quality: 1})
	s.last = s.SubscriptionFailed(t0, "PA_bob", "TR_a", CodecUnsupported)
	s.want("sendsubscriptionerror PA_bob TR_a 1")
	s.ok(s.SetSubscriptionPermission(t0, "PA_ann", SubscriptionGrants{Everybody: true}))
	s.want() // not tried again for anything else
	s.ok(s.AddCodec(t0, "PA_ann", "TR_a", Codec{MimeType: "video/vp8", CID: "b"}))
	s.last = s.CodecStarted(t0, "PA_ann", "TR_a", 1, "video/VP8")
	s.want("update>PA_ann,PA_bob ann:joined+TR_a", "subscribe PA_bob TR_a", "configure PA_bob TR_a {false 1 0 0 0 0")
	// One who unsubscribed by hand meanwhile isn't.
	s.last = s.SubscriptionFailed(t0, "PA_bob", "TR_a", CodecUnsupported)
	s.ok(s.UpdateSubscription(t0, "PA_bob", []string{"TR_a"}, false))
	s.last = s.CodecStarted(t0, "PA_ann", "TR_a", 1, "")
	s.want("update>PA_ann,PA_bob ann:joined+TR_a")
}

func TestStreamState(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.publish("ann", "a")
	s.last = s.StreamState(t0, "PA_bob", "TR_a", true)
	s.want("sendstreamstate PA_bob PA_ann TR_a true")
	s.last = s.StreamState(t0, "PA_bob", "TR_a", true)
	s.want()
	s.Detach(t0, "PA_bob")
	s.last, _ = s.Resume(t0, "PA_bob", "bob")
	if got := brief(s.last); !slices.Contains(got, "sendstreamstate PA_bob PA_ann TR_a true") {
		t.Errorf("after a resume: %v", got)
	}
	s.last = s.StreamState(t0, "PA_bob", "TR_a", false)
	s.want("sendstreamstate PA_bob PA_ann TR_a false")
	s.last = s.StreamState(t0, "PA_bob", "TR_a", true)
	s.ok(s.UpdateSubscription(t0, "PA_bob", []string{"TR_a"}, false))
	s.last = s.StreamState(t0, "PA_bob", "TR_a", true)
	s.want() // not subscribed
	s.ok(s.UpdateSubscription(t0, "PA_bob", []string{"TR_a"}, true))
	s.last = s.StreamState(t0, "PA_bob", "TR_a", true)
	s.want("sendstreamstate PA_bob PA_ann TR_a true") // a new subscription begins as one that flows
	if got := s.StreamState(t0, "PA_ann", "TR_a", true); got != nil {
		t.Errorf("to the publisher: %v", brief(got))
	}
}

func TestMeasuredQuality(t *testing.T) {
	for _, c := range []struct {
		scores []float32
		want   []Quality
	}{
		{[]float32{4.5, 4.4, 4.03}, []Quality{Excellent, Excellent, Excellent}},
		{[]float32{4, 4.1, 4.14}, []Quality{Good, Good, Excellent}}, // a margin on the way up
		{[]float32{3, 3.15, 3.21, 4.2}, []Quality{Poor, Poor, Good, Excellent}},
		{[]float32{-5, 99}, []Quality{Poor, Excellent}},
	} {
		q := Excellent
		for i, score := range c.scores {
			if q = qualityOf(score, q); q != c.want[i] {
				t.Errorf("%v: score %v is called %d, want %d", c.scores, score, q, c.want[i])
			}
		}
	}

	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.last = s.Score(t0, "PA_bob", 4.4)
	s.want("quality>PA_ann,PA_bob [{PA_bob 4}]") // of which nothing was known before
	s.last = s.Score(t0, "PA_bob", 4.4)
	s.want()
	s.last = s.Score(t0, "PA_bob", 3.5)
	s.want("quality>PA_ann,PA_bob [{PA_bob 3}]")
	if q := s.last[0].(SendQuality).Qualities[0]; q.Score != 3.5 {
		t.Errorf("score %v", q.Score)
	}
	s.last = s.Score(t0, "PA_bob", 3.4)
	s.want()
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportConnected)
	s.want("active bob", "update>PA_ann,PA_bob bob:active")
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportDisconnected)
	s.want("quality>PA_ann,PA_bob [{PA_bob 2}]")
	s.last = s.Score(t0, "PA_bob", 4.5) // of the time before
	s.want()
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportConnected)
	s.want("quality>PA_ann,PA_bob [{PA_bob 4}]")
	// Without connection and media it is lost, whatever was measured; the others alone hear of it.
	s.last = s.Detach(t0, "PA_bob")
	s.want()
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportDisconnected)
	s.want("lost bob", "quality>PA_ann [{PA_bob 1}]")
	s.last = s.Score(t0, "PA_bob", 2)
	s.want()
	s.join("eve")
	if got := brief(s.last); !slices.Contains(got, "quality>PA_eve [{PA_bob 1}]") {
		t.Errorf("eve was told %v", got)
	}
	s.last = s.Score(t0, "PA_eve", 4.2)
	s.want("quality>PA_eve [{PA_bob 1}]", "quality>PA_ann,PA_eve [{PA_eve 4}]")
	s.last, _ = s.Resume(t0, "PA_bob", "bob")
	if got := brief(s.last); !slices.Contains(got, "quality>PA_ann,PA_bob,PA_eve [{PA_bob 2}]") {
		t.Errorf("after the resume: %v", got)
	}
	if got := s.Score(t0, "PA_gone", 2); got != nil {
		t.Errorf("of nobody: %v", brief(got))
	}
}

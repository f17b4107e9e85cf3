package signaling

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

func TestVoicesAttribute(t *testing.T) {
	w := newAPIWorld(t, nil)
	says := func(v string) map[string]string { return map[string]string{wire.VoicesAttribute: v} }
	ann := w.join("r", "ann", func(c *wire.Claims) {
		c.Attributes, c.Video.CanUpdateOwnMetadata = says("2"), ptr(true)
	}, nil)
	eventually(t, "media", func() bool { return w.media.peer(ann.id) != nil })
	media := w.media.peer(ann.id)
	if media.cfg.Voices != 2 {
		t.Errorf("media was told %d", media.cfg.Voices)
	}
	update := func(v string) *wire.SignalRequest {
		return &wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{Attributes: says(v)}}}
	}
	ann.send(update("16"))
	eventually(t, "16", func() bool { return media.did("voices 16") })
	ann.send(update("")) // deleted
	eventually(t, "all", func() bool { return media.did("voices 0") })
	var info wire.ParticipantInfo
	w.ok("UpdateParticipant", &wire.UpdateParticipantRequest{Room: "r", Identity: "ann", Attributes: says("1")}, &info)
	eventually(t, "1", func() bool { return media.did("voices 1") })
	for _, bad := range []string{"0", "17", "-1", "01", "+1", "1.5", "one", " 1", "99999999999999999999"} {
		ann.send(update(bad))
		r := ann.until("the refusal", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil }).GetRequestResponse()
		if r.Reason != wire.RequestInvalid || !strings.Contains(r.Message, "from 1 to 16") {
			t.Errorf("%q: %v", bad, r)
		}
		if code := w.call("UpdateParticipant", admin("r"), &wire.UpdateParticipantRequest{Room: "r", Identity: "ann", Attributes: says(bad)}, &info); code != twirp.InvalidArgument {
			t.Errorf("%q of the API: %q", bad, code)
		}
		_, answer, err := w.dial(token(t, "r", "bob", func(c *wire.Claims) { c.Attributes = says(bad) }), nil)
		if err == nil || answer == nil || answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q in a token: %v", bad, err)
		}
	}
	ann.sync()
	media.mu.Lock()
	defer media.mu.Unlock()
	told := slices.DeleteFunc(slices.Clone(media.calls), func(c string) bool { return !strings.HasPrefix(c, "voices") })
	if !slices.Equal(told, []string{"voices 16", "voices 0", "voices 1"}) {
		t.Errorf("media was told %q", told)
	}
}

// What an application adds is dropped where it is none: the tokens that are made of it would let nobody in.
func TestVoicesAttributeOfTheApplication(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Authorize = func(_ context.Context, claims wire.Claims, _ Occasion) (Admission, error) {
			return Admission{Attributes: map[string]string{wire.VoicesAttribute: claims.Identity}}, nil
		}
	})
	for identity, want := range map[string]int{"3": 3, "many": 0} {
		p := w.join("r", identity, nil, nil)
		eventually(t, "media", func() bool { return w.media.peer(p.id) != nil })
		if got := w.media.peer(p.id).cfg.Voices; got != want {
			t.Errorf("%s: %d", identity, got)
		}
		if _, kept := p.joined.GetParticipant().GetAttributes()[wire.VoicesAttribute]; kept != (want > 0) {
			t.Errorf("%s: attributes %v", identity, p.joined.GetParticipant().GetAttributes())
		}
	}
}

func TestExemptTracks(t *testing.T) {
	mic, screen := room.Track{Source: room.Microphone}, room.Track{Source: room.ScreenShareAudio}
	for _, c := range []struct {
		name   string
		track  room.Track
		claims wire.Claims
		want   bool
	}{
		{"a person's microphone", mic, wire.Claims{}, false},
		{"a telephone", mic, wire.Claims{Kind: "sip"}, false},
		{"a screen's sound", screen, wire.Claims{}, true},
		{"an agent", mic, wire.Claims{Kind: "agent"}, true},
		{"an ingress", mic, wire.Claims{Kind: "ingress"}, true},
		{"an egress", mic, wire.Claims{Kind: "egress"}, true},
		{"a recorder", mic, wire.Claims{Video: wire.Grant{Recorder: true}}, true},
	} {
		if got := isExempt(c.track, c.claims); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	w := newWorld(t, nil)
	ann := w.join("r", "ann", func(c *wire.Claims) { c.Kind = "agent" }, nil)
	sound := ann.publish("sound", wire.TrackAudio, wire.SourceMicrophone)
	media := w.media.peer(ann.id)
	media.mu.Lock()
	defer media.mu.Unlock()
	if track := media.tracks[sound.Sid]; track == nil || !track.Exempt {
		t.Errorf("media was told %+v", track)
	}
}

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// What SDKs with a single peer connection rely on.

// TestContractServerNeverOffersOnASinglePeerConnection: it asks for offers.
func TestContractServerNeverOffersOnASinglePeerConnection(t *testing.T) {
	for _, name := range []string{"js", "js firefox", "react native"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann := r.join(ctx, "ann", nil)
			rec := newRecorder()
			bob := r.join(ctx, "bob", rec.record(as(profile(t, name))))
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			hears(ctx, t, byID(ctx, t, bob, audio.ID())[audio.ID()], 'a', 5)
			kinds := rec.kinds()
			if slices.Contains(kinds, "offer") || !slices.Contains(kinds, "media_sections_requirement") || bob.JoinResponse().SubscriberPrimary {
				t.Errorf("the server sent %v", kinds)
			}
			for _, m := range rec.all() {
				if m.GetTrickle() != nil && m.GetTrickle().Target != wire.TargetPublisher {
					t.Errorf("a candidate is for the %v", m.GetTrickle().Target)
				}
			}
		})
	}
}

// TestContractOfferIDsAreEchoed: JavaScript drops an answer whose id isn't that of its latest offer; Go numbers none.
func TestContractOfferIDsAreEchoed(t *testing.T) {
	for name, want := range map[string][]uint32{"js": {1, 2, 3}, "js firefox": {1, 2, 3}, "js dual": {1, 2, 3}, "go": {0, 0, 0}, "go single": {0, 0, 0}} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			rec := newRecorder()
			ann := r.join(ctx, "ann", rec.record(as(profile(t, name))))
			for range 2 { // after that of the join
				if err := ann.Negotiate(ctx); err != nil {
					t.Fatal(err)
				}
			}
			var ids []uint32
			for _, m := range rec.all() {
				if m.GetAnswer() != nil {
					ids = append(ids, m.GetAnswer().Id)
				}
			}
			if !slices.Equal(ids, want) {
				t.Errorf("the answers have the ids %v, want %v", ids, want)
			}
		})
	}
}

// TestContractEveryAnswerMapsMidsToTracks: a browser's own track id is of no use on a single peer connection.
func TestContractEveryAnswerMapsMidsToTracks(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(as(profile(t, "js"))))
	byID(ctx, t, bob, audio.ID(), video.ID())
	if err := bob.Negotiate(ctx); err != nil {
		t.Fatal(err)
	}
	var last *wire.SessionDescription
	for _, m := range rec.all() {
		if m.GetAnswer() != nil {
			last = m.GetAnswer()
		}
	}
	if len(last.MidToTrackId) != 2 {
		t.Fatalf("the last answer maps %v", last.MidToTrackId)
	}
	for _, section := range strings.Split(last.Sdp, "\r\nm=")[1:] {
		mid := regexp.MustCompile(`\r\na=mid:(\S+)`).FindStringSubmatch(section)[1]
		id, sends := last.MidToTrackId[mid], strings.Contains(section, "\r\na=sendonly")
		switch {
		case (id != "") != sends:
			t.Errorf("section %s sends: %v, and is mapped to %q", mid, sends, id)
		case sends && !strings.Contains(section, "\r\na=msid:"+ann.ID()+"|camera "+id+"\r\n"):
			t.Errorf("section %s has not the msid of %s:\n%s", mid, id, section)
		}
	}
}

// TestContractSectionsRequirementCountsWhatIsMissing: the counts are additional ones.
func TestContractSectionsRequirementCountsWhatIsMissing(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	var ids []string
	for i := range 2 {
		ids = append(ids,
			publishSource(ctx, t, ann, byte('a'+i), client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone}).ID(),
			publishSource(ctx, t, ann, byte('A'+i), client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera}).ID())
	}
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(single(1, 0))) // one section for two of audio, none for two of video
	byID(ctx, t, bob, ids...)
	_, m := rec.await(ctx, t, "the requirement", 0, func(m *wire.SignalResponse) bool { return m.GetMediaSectionsRequirement() != nil })
	if q := m.GetMediaSectionsRequirement(); q.NumAudios != 1 || q.NumVideos != 2 {
		t.Errorf("required are %v, want one more of audio and two of video", q)
	}
}

// TestContractSectionsRequirementOfNothingForcesAnOffer: there are sections enough, but nobody offers them.
func TestContractSectionsRequirementOfNothingForcesAnOffer(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(as(profile(t, "js"))))
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	byID(ctx, t, bob, audio.ID())
	_, m := rec.await(ctx, t, "the requirement", 0, func(m *wire.SignalResponse) bool { return m.GetMediaSectionsRequirement() != nil })
	if q := m.GetMediaSectionsRequirement(); q.NumAudios != 0 || q.NumVideos != 0 {
		t.Errorf("required are %v, want none", q)
	}
}

// TestContractPayloadTypesAreEchoed: an answer to a client's offer names the codecs by the client's own numbers.
func TestContractPayloadTypesAreEchoed(t *testing.T) {
	for name, mode := range map[string]func(*client.Config, *wire.Claims){"single": single(0, 0), "dual": nil} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			rec := newRecorder()
			ann := r.join(ctx, "ann", rec.record(func(c *client.Config, claims *wire.Claims) {
				if mode != nil {
					mode(c, claims)
				}
				c.SignalOnly = true
			}))
			numbers := map[string]webrtc.RTPCodecParameters{
				"audio": {RTPCodecCapability: client.Opus, PayloadType: 63}, "video": {RTPCodecCapability: client.VP8, PayloadType: 41},
			}
			engine := &webrtc.MediaEngine{}
			for kind, number := range numbers {
				if err := engine.RegisterCodec(number, webrtc.NewRTPCodecType(kind)); err != nil {
					t.Fatal(err)
				}
			}
			pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine)).NewPeerConnection(webrtc.Configuration{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = pc.GracefulClose() })
			for kind := range numbers {
				if _, err := pc.AddTransceiverFromKind(webrtc.NewRTPCodecType(kind), webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
					t.Fatal(err)
				}
			}
			offer, err := pc.CreateOffer(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := ann.Send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: offer.SDP, Id: 7}}}); err != nil {
				t.Fatal(err)
			}
			_, m := rec.await(ctx, t, "the answer", 0, func(m *wire.SignalResponse) bool { return m.GetAnswer() != nil })
			for _, line := range []string{"a=rtpmap:63 opus/48000/2\r\n", "a=rtpmap:41 VP8/90000\r\n"} {
				if !strings.Contains(m.GetAnswer().Sdp, line) {
					t.Errorf("the answer has no %q:\n%s", line, m.GetAnswer().Sdp)
				}
			}
			if n := strings.Count(m.GetAnswer().Sdp, "a=rtpmap:"); n != 2 {
				t.Errorf("the answer has %d codecs, the offer had 2:\n%s", n, m.GetAnswer().Sdp)
			}
		})
	}
}

// TestContractJoinRequestsOfAllKinds: base64url or base64, packed or not, at /rtc/v1 or /rtc, with the token in the query or
// a header.
func TestContractJoinRequestsOfAllKinds(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	for _, p := range client.Profiles() {
		for range 4 { // whether base64 differs from base64url depends on chance: on the token's length, for one
			ann, err := client.Join(ctx, client.Config{
				URL: r.url, Token: roomToken(t, "ann"), Profile: &p, SignalOnly: true, FullICE: true,
			})
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
				continue
			}
			ann.Close()
		}
	}
}

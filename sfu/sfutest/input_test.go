package sfutest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"anytime/sfu"

	"github.com/pion/webrtc/v4"
)

func TestGarbageDescriptions(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_a")
	_, err = b.AwaitPackets("TR_a", 5)
	must(t, err)
	good, err := a.OfferText()
	must(t, err)
	replace := func(old, new string) string { return strings.Replace(good, old, new, -1) }
	section := good[strings.Index(good, "m=audio"):]
	for name, text := range map[string]string{
		"empty":            "",
		"not SDP":          "hello",
		"binary":           string([]byte{0, 1, 2, 0xff}),
		"truncated":        good[:strings.LastIndex(good, "m=")+5],
		"an m-line short":  good[:strings.LastIndex(good, "m=")],
		"too large":        good + strings.Repeat("a=x\r\n", 1<<18),
		"no mid":           replace("a=mid:", "a=nid:"),
		"long mid":         replace("a=mid:", "a=mid:0123456789abcdef"),
		"no fingerprint":   replace("a=fingerprint:", "a=fungerprint:"),
		"bad fingerprint":  replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 zz"),
		"no credentials":   replace("a=ice-ufrag:", "a=ice-ufrog:"),
		"no media":         good[:strings.Index(good, "m=")],
		"mid twice":        good + section,
		"too many":         good + many(section, 300),
		"bad apt":          replace("apt=96", "apt=xx"),
		"bad extmap":       replace("a=extmap:1 ", "a=extmap:frog "),
		"bad candidate":    replace("a=mid:0\r\n", "a=mid:0\r\na=candidate:frog\r\n"),
		"many candidates":  replace("a=mid:0\r\n", "a=mid:0\r\n"+strings.Repeat("a=candidate:1 1 udp 1 10.9.9.9 9 typ host\r\n", 200)),
		"bad ssrc":         replace("a=ssrc:", "a=ssrc:-"),
		"bad ssrc group":   replace("a=mid:0\r\n", "a=mid:0\r\na=ssrc-group:SIM 1 x\r\n"),
		"many rids":        replace("a=mid:0\r\n", "a=mid:0\r\n"+many("a=rid:0 send\r\n", 9)),
		"many attributes":  replace("a=mid:0\r\n", "a=mid:0\r\n"+strings.Repeat("a=x\r\n", 3000)),
		"answer as offer ": replace("a=setup:actpass", "a=setup:frog"),
	} {
		answer, _, err := a.Participant.Offer(text)
		if err == nil {
			if strings.Contains(name, "bad apt") || strings.Contains(name, "bad extmap") || strings.Contains(name, "answer as offer") ||
				strings.Contains(name, "bad fingerprint") || strings.Contains(name, "bad candidate") {
				continue // tolerated: the rest of the description makes sense
			}
			t.Errorf("%s: answered with %d bytes", name, len(answer))
		} else if !errors.Is(err, sfu.ErrDescription) {
			t.Errorf("%s: %v is no ErrDescription", name, err)
		}
	}
	// The room lives, and the same peer connection takes a good offer.
	_, err = b.AwaitPackets("TR_a", 5)
	must(t, err)
	must(t, a.Negotiate(false))
	_, err = a.Audio("TR_b")
	must(t, err)
	subscribe(t, b, "TR_b")
	_, err = b.AwaitPackets("TR_b", 5)
	must(t, err)
}

func many(section string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Replace(strings.Replace(section, "a=mid:0", fmt.Sprintf("a=mid:%d", 1000+i), 1), "rid:0", fmt.Sprintf("rid:%d", i), 1))
	}
	return b.String()
}

func TestGarbageFirstOffer(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	good, err := a.OfferText()
	must(t, err)
	for _, text := range []string{"v=0", strings.Replace(good, "a=fingerprint:sha-256 ", "a=fingerprint:sha-256 zz", 1),
		strings.Replace(good, "a=mid:0\r\n", "a=mid:0\r\na=candidate:frog\r\n", 1)} {
		_, _, _ = a.Participant.Offer(text)
	}
	if _, err := a.Audio("TR_a"); err != nil {
		t.Errorf("a good offer after bad ones: %v", err)
	}
}

func TestStrayAnswersAndCandidates(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	if err := a.Participant.Answer(1, "v=0"); !errors.Is(err, sfu.ErrStaleAnswer) {
		t.Errorf("answer without an offer: %v", err)
	}
	for _, text := range []string{"", "{", "[]", `{"candidate":5}`, strings.Repeat("x", 1<<16)} {
		if err := a.Participant.Candidate(sfu.Subscriber, text); !errors.Is(err, sfu.ErrDescription) {
			t.Errorf("candidate %.20q: %v", text, err)
		}
	}
	for _, text := range []string{`{"candidate":"candidate:frog"}`, `{"candidate":"candidate:1 1 udp 1 secret.local 9 typ host"}`, `{"candidate":""}`} {
		if err := a.Participant.Candidate(sfu.Publisher, text); err != nil {
			t.Errorf("unusable candidate %s: %v", text, err)
		}
	}
	var err error
	for range 1000 {
		if err = a.Trickle(sfu.Subscriber, webrtc.ICECandidateInit{Candidate: "candidate:1 1 udp 1 10.9.9.9 9 typ host"}); err != nil {
			break
		}
	}
	if !errors.Is(err, sfu.ErrLimit) {
		t.Errorf("a thousand candidates: %v", err)
	}
	if err := a.Participant.Candidate(7, "{}"); err == nil {
		t.Error("a candidate for target 7 was taken")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := New(t, func(c *sfu.Config) { c.Limits = sfu.Limits{Publications: 2, Subscriptions: 1} })
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	for i, want := range []error{nil, nil, sfu.ErrLimit} {
		if err := a.Participant.Publish(sfu.PublicationConfig{ID: fmt.Sprintf("TR_%d", i)}); !errors.Is(err, want) {
			t.Errorf("publication %d: %v", i, err)
		}
	}
	for i, want := range []error{nil, sfu.ErrLimit} {
		if err := b.Participant.Subscribe(fmt.Sprintf("TR_%d", i)); !errors.Is(err, want) {
			t.Errorf("subscription %d: %v", i, err)
		}
	}
	if err := b.Participant.Publish(sfu.PublicationConfig{ID: "TR_0"}); !errors.Is(err, sfu.ErrExists) {
		t.Errorf("another's track id: %v", err)
	}
	if _, err := n.Server.Join(sfu.ParticipantConfig{Room: "room", ID: "PA_a"}); !errors.Is(err, sfu.ErrExists) {
		t.Errorf("an id that is in the room: %v", err)
	}
	if err := b.Participant.Subscribe("TR_none"); !errors.Is(err, sfu.ErrUnknownTrack) {
		t.Errorf("an unknown track: %v", err)
	}
	other := n.Join(t, "other", "PA_a")
	if err := other.Participant.Subscribe("TR_0"); !errors.Is(err, sfu.ErrUnknownTrack) {
		t.Errorf("a track of another room: %v", err)
	}
}

func TestUnsupportedCodec(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	_, err := a.Video("TR_v")
	must(t, err)
	b := n.JoinWith(t, n.Server, "room", "PA_b", Options{Codecs: func(m *webrtc.MediaEngine) error {
		return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 102, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeH264, ClockRate: 90000, SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}},
			webrtc.RTPCodecTypeVideo)
	}})
	for range 2 { // before and after its codecs are known
		subscribe(t, b, "TR_v")
		must(t, b.AwaitEvent("failure", func(e sfu.Event) bool {
			f, ok := e.(sfu.SubscriptionFailed)
			return ok && f.TrackID == "TR_v" && errors.Is(f.Err, sfu.ErrCodec)
		}))
		b.mu.Lock()
		b.events = nil
		b.mu.Unlock()
	}
}

package sfu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anytime/sfu/codec"
)

func TestKeyframeRequests(t *testing.T) {
	const ms = time.Millisecond
	var k keyframeRequests
	send, due := k.want(1000*ms, 50*ms, false)
	if !send || due != 1500*ms {
		t.Fatalf("the first wish: %v, %v", send, due)
	}
	for at := 1001 * ms; at < 1500*ms; at += 50 * ms {
		if send, due := k.want(at, 50*ms, false); send || due != 0 {
			t.Fatalf("a wish at %v while one is under way: %v, %v", at, send, due)
		}
	}
	if send, due = k.due(1400*ms, 50*ms); send || due != 1500*ms {
		t.Fatalf("too early: %v, %v", send, due)
	}
	if send, due = k.due(1500*ms, 50*ms); !send || due <= 1900*ms {
		t.Fatalf("unanswered: %v, %v", send, due)
	}
	k.came()
	if send, due = k.due(3000*ms, 50*ms); send || due != 0 {
		t.Fatalf("answered: %v, %v", send, due)
	}
	// One who comes just after a request waits for the spacing, or the round trip where that is longer.
	if send, due = k.want(1600*ms, 50*ms, false); send || due != 2000*ms {
		t.Fatalf("soon after the last: %v, %v", send, due)
	}
	k.came()
	if send, due = k.want(1700*ms, 2*time.Second, false); send || due != 4500*ms {
		t.Fatalf("over a long round trip: %v, %v", send, due)
	}
}

func TestKeyframeRequestsBackOffAndGiveUp(t *testing.T) {
	var k keyframeRequests
	now := time.Second
	_, due := k.want(now, 0, false)
	n, longest := 1, time.Duration(0)
	for due != 0 {
		longest = max(longest, due-now)
		now = due
		var send bool
		if send, due = k.due(now, 0); send {
			n++
		}
		if n > 100 {
			t.Fatal("it never gives up")
		}
	}
	if n != keyframeTries || longest > keyframeBackoff || longest < time.Second {
		t.Errorf("%d requests, at most %v apart", n, longest)
	}
	if send, _ := k.want(now+time.Minute, 0, false); !send {
		t.Error("a new wish after giving up isn't passed on")
	}
}

// TestKeyframesForNewcomers: who sees nothing waits less, but newcomers don't have the publisher send keyframes alone.
func TestKeyframesForNewcomers(t *testing.T) {
	const ms, rtt = time.Millisecond, 20 * time.Millisecond
	var k keyframeRequests
	now := 1000 * ms
	if send, _ := k.want(now, rtt, true); !send {
		t.Fatal("the first is not passed on")
	}
	k.came()
	// One who sees something waits for the spacing; a newcomer after it brings the request forward.
	if send, due := k.want(now+10*ms, rtt, false); send || due != now+keyframeSpacing {
		t.Fatalf("one who sees something: %v, %v", send, due)
	}
	if send, due := k.want(now+20*ms, rtt, true); send || due != now+newcomerSpacing {
		t.Fatalf("a newcomer: %v, %v", send, due)
	}
	if send, due := k.due(now+newcomerSpacing, rtt); !send || due != now+newcomerSpacing+keyframeSpacing {
		t.Fatalf("in time: %v, %v", send, due)
	}
	k.came()
	// Twenty a second for ten seconds: a few go quickly, then they share.
	count := 0
	start := now + time.Minute
	due := time.Duration(0)
	for at := start; at < start+10*time.Second; at += 10 * ms {
		send, next := false, time.Duration(0)
		if due != 0 && at >= due {
			due = 0
			if send, next = k.due(at, rtt); next != 0 {
				due = next
			}
		}
		if !send && at%(50*ms) == 0 {
			if send, next = k.want(at, rtt, true); next != 0 {
				due = next
			}
		}
		if send {
			count++
			k.came()
			due = 0
		}
	}
	// The spacing allows 20, the burst adds 6, and 10 come back in 10 s.
	if count < 20 || count > 36 {
		t.Errorf("%d requests in 10 s", count)
	}
	// Over a long round trip the answer to the last request is still on its way.
	k = keyframeRequests{}
	k.want(now, time.Second, true)
	k.came()
	if send, due := k.want(now+200*ms, time.Second, true); send || due != now+1500*ms {
		t.Errorf("over a long round trip: %v, %v", send, due)
	}
}

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		clock := func() time.Duration { return time.Since(start) + time.Second }
		var ran []time.Duration
		var again time.Duration
		var works clockwork
		defer works.stop()
		a := newAlarm(&works, clock, func(now time.Duration) time.Duration {
			ran = append(ran, now)
			next := again
			again = 0
			return next
		})
		again = 4 * time.Second
		a.at(5 * time.Second)
		a.at(3 * time.Second)
		a.at(9 * time.Second)
		time.Sleep(20 * time.Second) // virtual
		synctest.Wait()
		if len(ran) != 2 || ran[0] != 3*time.Second || ran[1] != 4*time.Second {
			t.Errorf("ran at %v", ran)
		}
		a.at(clock() + time.Second)
		a.stop()
		a.at(clock() + time.Second)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(ran) != 2 {
			t.Errorf("ran after stop, at %v", ran)
		}
	})
}

func TestAlarmStopWaits(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	var works clockwork
	defer works.stop()
	a := newAlarm(&works, func() time.Duration { return 0 }, func(time.Duration) time.Duration {
		close(begun)
		<-release
		done.Store(true)
		return 0
	})
	a.at(1)
	<-begun
	go close(release)
	a.stop()
	if !done.Load() {
		t.Error("stop returned while the function ran")
	}
}

// chromeOffer is what Chromium offers for RED and Opus, and VP8 in three layers, cut down to what matters.
const chromeOffer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\na=extmap-allow-mixed\r\n" +
	"a=msid-semantic: WMS stream\r\nm=audio 9 UDP/TLS/RTP/SAVPF 63 111 9\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n" +
	"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\n" +
	"a=fingerprint:sha-256 0F:7D:40:24:CF:30:50:A3:CB:BD:D0:E8:37:E1:63:BC:51:25:B3:68:E7:DB:D8:26:47:71:08:2A:EA:7A:A1:FF\r\n" +
	"a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n" +
	"a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n" +
	"a=extmap:4/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\na=msid:stream audio\r\na=rtcp-mux\r\n" +
	"a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n" +
	"a=fmtp:111 minptime=10;stereo=1;useinbandfec=1\r\na=rtpmap:9 G722/8000\r\na=ssrc:2662961139 cname:x\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=setup:actpass\r\na=mid:1\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n" +
	"a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n" +
	"a=sendonly\r\na=msid:stream video\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n" +
	"a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n" +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=setup:actpass\r\na=mid:2\r\na=sctp-port:5000\r\n"

func TestParseDescription(t *testing.T) {
	s, err := parseDescription(chromeOffer)
	if err != nil || len(s) != 3 {
		t.Fatalf("%d sections, %v", len(s), err)
	}
	a, v := s[0], s[1]
	if a.mid != "0" || a.kind != "audio" || !a.sending || a.receiving || a.stream != "stream" || a.track != "audio" || len(a.ssrcs) != 1 {
		t.Errorf("audio: %+v", a)
	}
	if p, _ := a.payload(111); p.kind.String() != "audio/opus" || p.clock != 48000 || !strings.Contains(p.fmtp, "stereo=1") || p.nack {
		t.Errorf("opus: %+v", p)
	}
	if ids := extensionIDsOf(&a); ids.level != 1 || ids.transport != 3 || ids.mid != 4 {
		t.Errorf("extensions: %+v", ids)
	}
	if p, _ := v.payload(96); !p.nack || v.payloads.rtxOf(96) != 97 {
		t.Errorf("vp8: %+v, rtx %d", p, v.payloads.rtxOf(96))
	}
	if strings.Join(v.rids, "") != "qhf" {
		t.Errorf("rids %v", v.rids)
	}
}

func TestFeedbackOfDescriptions(t *testing.T) {
	offer := strings.ReplaceAll(chromeOffer, "a=rtcp-fb:96 nack\r\n", "a=rtcp-fb:* ack ccfb\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 transport-cc\r\n")
	ours, err := parseDescription(offer)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := parseDescription(chromeOffer)
	if err != nil {
		t.Fatal(err)
	}
	v := &ours[1]
	if v.extensions[codec.URITransportSequence] = 3; !v.ccfb || !v.transportCC() {
		t.Errorf("%+v", v)
	}
	if n := negotiated(v, &theirs[1]); n.ccfb || n.transportCC() {
		t.Errorf("with one who has neither: %+v", n)
	}
	perType := theirs[1]
	perType.payloadAttribute("rtcp-fb", "96 ack ccfb")
	if n := negotiated(v, &perType); !n.ccfb || n.transportCC() {
		t.Errorf("with one who has RFC 8888 for a payload type: %+v", n)
	}
	if n := negotiated(v, v); !n.ccfb || !n.transportCC() {
		t.Errorf("with one who has both: %+v", n)
	}
}

func TestDescriptionRefusals(t *testing.T) {
	for _, x := range []struct{ name, text, want string }{
		{"nothing", "", "no media section"},
		{"two mids alike", strings.Replace(chromeOffer, "a=mid:1", "a=mid:0", 1), "used twice"},
		{"fingerprint", strings.Replace(chromeOffer, "sha-256 0F", "sha-256 0G", 1), "fingerprint"},
		{"no fingerprint", strings.Replace(chromeOffer, "a=fingerprint:", "a=x:", 1), "fingerprint"},
		{"five layers", strings.Replace(chromeOffer, "a=rid:q", "a=rid:1 send\r\na=rid:2 send\r\na=rid:q", 1), "layers"},
		{"candidates", strings.Replace(chromeOffer, "a=mid:0", "a=mid:0"+strings.Repeat("\r\na=candidate:x", maxCandidates+1), 1), "candidates"},
		{"sources", strings.Replace(chromeOffer, "a=ssrc:2662961139", manySources(), 1), "sources"},
		{"a long quote", strings.Replace(chromeOffer, "IN IP4 127", "IN "+strings.Repeat("X", 9999)+" 127", 1), "XXX"},
		{"size", chromeOffer + strings.Repeat("a=x\r\n", maxDescription/5), "bytes"},
	} {
		if _, err := parseDescription(x.text); !errors.Is(err, ErrDescription) || !strings.Contains(err.Error(), x.want) || len(err.Error()) > 300 {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func manySources() string {
	var b strings.Builder
	for i := range maxStreamsPerSec + 1 {
		b.WriteString("a=ssrc:" + string(rune('1'+i%9)) + strings.Repeat("1", i/9) + " cname:x\r\n")
	}
	return b.String() + "a=ssrc:1"
}

func FuzzDescription(f *testing.F) {
	f.Add(chromeOffer)
	f.Add("v=0\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseDescription(text)
		if err != nil {
			return
		}
		for i := range s {
			n := negotiated(&s[i], &s[i])
			if len(n.payloads) > len(s[i].payloads) || len(n.rids) > maxRids || len(n.ssrcs) > maxStreamsPerSec {
				t.Errorf("%+v", n)
			}
		}
	})
}

func FuzzIngest(f *testing.F) {
	v := feed{ssrc: 7, pt: 96, mid: "0", rid: "q"}
	f.Add(append([]byte(nil), v.packet(v.vp8(true, true), true)...), append([]byte(nil), v.packet(v.vp8(true, false), true)...))
	a := feed{ssrc: 8, pt: 63, mid: "1"}
	f.Add(append([]byte(nil), a.packet([]byte{0x80 | 111, 0, 0, 2, 111, 1, 2, 3}, false)...), []byte{0x80})
	x := feed{ssrc: 9, pt: 97, mid: "0"}
	f.Add(append([]byte(nil), x.packet([]byte{0, 0, 1, 2}, false)...), []byte{0x90, 96})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		st := newStage(t)
		video := st.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
		audio := st.publish("TR_a", Audio, audioSection("1"))
		_, vr := st.subscribe(video, "PA_v", videoSection("0"))
		plain := audioSection("1")
		plain.payloads = plain.payloads[:1]
		_, ar := st.subscribe(audio, "PA_a", plain)
		vr.keep, ar.keep = true, true // the recorder parses what comes out
		for i, b := range [][]byte{one, two, one} {
			st.in.one(b, time.Duration(i+1))
		}
		if n := len(vr.packets()) + len(ar.packets()); n > 3+2 { // padding may fill holes
			t.Errorf("3 packets became %d", n)
		}
	})
}

// The packages between the seams must not know Pion; nor may these files of package sfu.
func TestSeamKnowsNoPion(t *testing.T) {
	allowed := map[string]string{
		"ingest.go":       "interceptor/pkg/twcc rtcp", // a library and packet types
		"feedback.go":     "rtcp",
		"subscription.go": "rtcp",
		"subscribe.go":    "rtcp",
		"description.go":  "sdp/v3",
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		switch name {
		case "transport.go", "plane.go", "keys.go", "srtp.go", "media.go", "listen.go", "negotiation.go", "sections.go", "tune.go", "data.go", "server.go", "log.go", "answer.go", "trunk.go", "mlines.go", "paths.go":
			continue // below the seam, or speaking with what is
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			_, path, ok := strings.Cut(strings.TrimSpace(line), `"github.com/pion/`)
			if !ok {
				continue
			}
			path = strings.TrimSuffix(path, `"`)
			found := false
			for w := range strings.FieldsSeq(allowed[name]) {
				found = found || w == path
			}
			if !found {
				t.Errorf("%s imports pion/%s", name, path)
			}
		}
	}
}

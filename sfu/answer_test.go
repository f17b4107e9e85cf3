package sfu

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
)

// mixedOffer has what we speak, what we don't, feedback in every form, and sections that can't be taken.
const mixedOffer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a v w d r x\r\n" +
	"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 110\r\na=mid:a\r\na=sendrecv\r\na=rtcp-fb:* ack ccfb\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n" +
	"a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:110 telephone-event/48000\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 96 97 35 36 102 103 116 98\r\na=mid:v\r\na=sendrecv\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send q;~h\r\n" +
	"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-lntf\r\n" +
	"a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=1\r\n" +
	"a=rtpmap:35 X-unheard/90000\r\na=rtcp-fb:35 nack\r\na=rtpmap:36 rtx/90000\r\na=fmtp:36 apt=35\r\n" +
	"a=rtpmap:102 H264/90000\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n" +
	"a=rtcp-fb:* transport-cc\r\na=rtcp-fb:* ack ccfb\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:116 ulpfec/90000\r\n" +
	"a=extmap:4/sendonly " + codec.URIMid + "\r\na=extmap:9 urn:unheard\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 35\r\na=mid:w\r\na=rtpmap:35 X-unheard/90000\r\na=rtcp-fb:35 nack\r\n" +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 35 120 124 125 126\r\na=mid:r\r\na=recvonly\r\na=rid:x recv\r\na=simulcast:recv x\r\na=rtpmap:35 X-unheard/90000\r\n" +
	"a=rtpmap:120 VP8/90000\r\na=rtcp-fb:120 nack\r\na=rtcp-fb:* ack ccfb\r\na=rtpmap:124 rtx/90000\r\na=fmtp:124 apt=120\r\n" +
	"a=rtpmap:125 VP9/90000\r\na=fmtp:125 profile-id=1\r\na=rtpmap:126 rtx/90000\r\na=fmtp:126 apt=125\r\n" +
	"m=text 9 UDP/TLS/RTP/SAVPF 35\r\na=mid:x\r\na=rtpmap:35 t140/1000\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:alone\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"

// answerOf answers an offer, of which Pion says what it does say.
func answerOf(t *testing.T, offer string) (string, []section) {
	t.Helper()
	sections, err := parseDescription(offer)
	if err != nil {
		t.Fatal(err)
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(offer); err != nil {
		t.Fatal(err)
	}
	pion := "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=fingerprint:sha-256 0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F:0F\r\n" +
		"a=group:BUNDLE d\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:passive\r\na=mid:d\r\na=sendrecv\r\n" +
		"a=ice-ufrag:ours\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n"
	answer, err := answerText(pion, &d, sections)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := parseDescription(answer)
	if err != nil && strings.Contains(answer, "a=group:BUNDLE") { // of one that accepts nothing there is nothing to read
		t.Fatalf("%v\n%s", err, answer)
	}
	return answer, ours
}

func TestAnswers(t *testing.T) {
	text, _ := answerOf(t, mixedOffer)
	lines := strings.Split(text, "\r\nm=")
	for i, want := range []string{"audio 9 UDP/TLS/RTP/SAVPF 111 63", "video 9 UDP/TLS/RTP/SAVPF 96 97 102 103", "video 0 UDP/TLS/RTP/SAVPF 0",
		"application 9 UDP/DTLS/SCTP webrtc-datachannel", "video 9 UDP/TLS/RTP/SAVPF 120 124 125 126", "text 0 UDP/TLS/RTP/SAVPF 0", "audio 0 UDP/TLS/RTP/SAVPF 0"} {
		if got, _, _ := strings.Cut(lines[i+1], "\r\n"); got != want {
			t.Errorf("m-line %d is answered by %s, want %s", i, got, want)
		}
	}
	if head := lines[0]; !strings.Contains(head, "a=group:BUNDLE a v d r") || strings.Count(head, "a=group") != 1 || strings.Contains(head, "mixed") {
		t.Errorf("the answer begins with %q", head)
	}
	for i, x := range []struct{ there, not []string }{
		{[]string{"a=fmtp:63 111/111", "a=candidate:1 1 udp", "a=end-of-candidates", "a=setup:passive", "a=ice-ufrag:ours", "a=recvonly", "a=rtcp-mux"}, []string{"G722", "ccfb"}},
		{[]string{"a=rid:q recv", "a=rid:h recv", "a=simulcast:recv q;~h", "a=fmtp:103 apt=102", "profile-level-id=42e01f", "a=extmap:4 " + codec.URIMid, "a=ice-ufrag:ours"},
			[]string{"ulpfec", "unheard", "VP9", "candidate", "ccfb"}},
		{[]string{"a=mid:w", "a=inactive"}, []string{"rtpmap"}},
		{[]string{"a=mid:d", "a=sendrecv"}, []string{"candidate"}},
		{[]string{"a=inactive", "a=rid:x recv", "a=simulcast:recv x", "a=fmtp:124 apt=120", "a=fmtp:125 profile-id=1", "a=fmtp:126 apt=125"}, nil},
	} {
		for _, s := range x.there {
			if strings.Count(lines[i+1], s) != 1 {
				t.Errorf("m-line %d hasn't %s once:\n%s", i, s, lines[i+1])
			}
		}
		for _, s := range x.not {
			if strings.Contains(lines[i+1], s) {
				t.Errorf("m-line %d has %s:\n%s", i, s, lines[i+1])
			}
		}
	}
	var got []string
	for line := range strings.SplitSeq(text, "\r\n") {
		if v, ok := strings.CutPrefix(line, "a=rtcp-fb:"); ok {
			got = append(got, v)
		}
	}
	slices.Sort(got)
	// RFC 8888 where the client receives alone: to who sends we don't speak it.
	want := []string{"* ack ccfb", "102 transport-cc", "111 transport-cc", "120 nack", "96 nack", "96 nack pli", "96 transport-cc"}
	if !slices.Equal(got, want) {
		t.Errorf("feedback in the answer: %q, want %q", got, want)
	}
}

func FuzzAnswerText(f *testing.F) {
	f.Add(mixedOffer)
	f.Add(chromeOffer)
	f.Add(strings.Replace(chromeOffer, "a=mid:2\r\n", "a=mid:2\r2\r\n", 1))
	f.Fuzz(func(t *testing.T, text string) {
		offered, err := parseDescription(text)
		if err != nil {
			return // it never gets that far
		}
		_, ours := answerOf(t, text)
		if ours == nil {
			return
		}
		if len(ours) != len(offered) {
			t.Fatalf("%d sections were answered by %d", len(offered), len(ours))
		}
		for i, a := range ours {
			if a.mid != offered[i].mid || a.sending && a.kind != "application" || !a.rejected && offered[i].rejected {
				t.Errorf("section %+v was answered by %+v", offered[i], a)
			}
			for _, p := range a.payloads {
				if _, ok := offered[i].payload(p.pt); !ok && !a.rejected {
					t.Errorf("payload type %d wasn't offered", p.pt)
				}
			}
		}
	})
}

// soleParticipant is on a server of its own, with a single peer connection.
func soleParticipant(t testing.TB) *Participant {
	t.Helper()
	server, err := New(Config{UDPAddr: "127.0.0.1:0", TCPAddr: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	p, err := server.Join(ParticipantConfig{Room: "room", ID: "PA_x", Single: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestReceivingSectionsBeginToSend: a client may send on an m-line on which it only received at first, and stop again; the
// codecs of the answer are always those of the offer that we speak.
func TestReceivingSectionsBeginToSend(t *testing.T) {
	p := soleParticipant(t)
	receiving := browserOffer(2)
	first, second, _ := strings.Cut(receiving, "a=mid:0\r\na=recvonly")
	sending := first + "a=mid:0\r\na=sendrecv\r\na=msid:stream track" + second
	want, err := parseDescription(receiving)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		delete(want[i].extensions, "urn:unheard")
	}
	for i, offer := range []string{receiving, sending, receiving, sending} {
		answer, _, err := p.Offer(offer)
		if err != nil {
			t.Fatal(err)
		}
		sections, err := parseDescription(answer)
		if err != nil {
			t.Fatal(err)
		}
		for n, s := range sections {
			if sends := n == 0 && i%2 == 1; s.receiving != sends || s.rejected {
				t.Errorf("offer %d, section %d: receiving %v, rejected %v", i, n, s.receiving, s.rejected)
			}
			if !maps.Equal(s.extensions, want[n].extensions) {
				t.Errorf("offer %d, section %d: the header extensions are %v, offered were %v", i, n, s.extensions, want[n].extensions)
			}
			if len(s.payloads) != len(want[n].payloads) {
				t.Errorf("offer %d, section %d: %d payload types of %d are in the answer", i, n, len(s.payloads), len(want[n].payloads))
			}
			for _, o := range want[n].payloads {
				if a, ok := s.payload(o.pt); !ok || a.kind != o.kind || a.rtx != o.rtx || a.apt != o.apt || a.nack != o.nack || a.kind == codec.H264 && !sameH264(a.fmtp, o.fmtp) {
					t.Errorf("offer %d, section %d: %+v was answered by %+v", i, n, o, a)
				}
			}
		}
	}
}

// BenchmarkAnswer is the answer to a browser's offer with so many m-lines.
func BenchmarkAnswer(b *testing.B) {
	for _, sections := range []int{6, 60} {
		b.Run(fmt.Sprint(sections), func(b *testing.B) {
			p := soleParticipant(b)
			offer := browserOffer(sections)
			b.SetBytes(int64(len(offer)))
			for b.Loop() {
				if _, _, err := p.Offer(offer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// browserOffer is like Chromium's: 25 video payload types, five kinds of feedback for each codec.
func browserOffer(sections int) string {
	var s strings.Builder
	s.WriteString("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE")
	for i := range sections {
		fmt.Fprintf(&s, " %d", i)
	}
	s.WriteString("\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 AB" + strings.Repeat(":AB", 31) + "\r\n")
	for i := range sections {
		var formats, lines strings.Builder
		add := func(pt int, name, fmtp string) {
			fmt.Fprintf(&formats, " %d %d", pt, pt+1)
			fmt.Fprintf(&lines, "a=rtpmap:%d %s/90000\r\n", pt, name)
			for _, f := range []string{"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"} {
				fmt.Fprintf(&lines, "a=rtcp-fb:%d %s\r\n", pt, f)
			}
			if fmtp != "" {
				fmt.Fprintf(&lines, "a=fmtp:%d %s\r\n", pt, fmtp)
			}
			fmt.Fprintf(&lines, "a=rtpmap:%d rtx/90000\r\na=fmtp:%d apt=%d\r\n", pt+1, pt+1, pt)
		}
		add(96, "VP8", "")
		for n, f := range videoFormats[1:] {
			_, name, _ := strings.Cut(f.kind.String(), "/")
			add(102+2*n, name, f.fmtp)
		}
		fmt.Fprintf(&s, "m=video 9 UDP/TLS/RTP/SAVPF%s\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=mid:%d\r\na=recvonly\r\n"+
			"a=extmap:3 "+codec.URITransportSequence+"\r\na=extmap:4/recvonly "+codec.URIMid+"\r\na=extmap:9 urn:unheard\r\n%s", formats.String(), i, lines.String())
	}
	return s.String()
}

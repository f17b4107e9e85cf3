package sfu

import (
	"strings"
	"testing"
)

const offerHead = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n" +
	"a=fingerprint:sha-256 " + "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n" +
	"a=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\n"

// Port 0 rejects an m-line (RFC 3264 section 6), unless the line is to be used within its bundle only (RFC 9143 section 6).
func TestBundleOnlyIsNotRejected(t *testing.T) {
	line := func(port, mid, more string) string {
		return "m=video " + port + " UDP/TLS/RTP/SAVPF 120\r\nc=IN IP4 0.0.0.0\r\na=mid:" + mid + "\r\na=sendonly\r\na=rtpmap:120 VP8/90000\r\n" + more
	}
	sections, err := parseDescription(strings.Join([]string{
		offerHead, line("9", "0", ""), line("0", "1", "a=bundle-only\r\n"), line("0", "2", ""),
	}, ""))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true} {
		if got := sections[i].rejected; got != want {
			t.Errorf("m-line %d rejected: %v, want %v", i, got, want)
		}
	}
	takes := section{receiving: true, payloads: sections[1].payloads}
	if s := negotiated(&sections[1], &takes); !s.sending {
		t.Error("a bundle-only m-line doesn't send")
	}
}

// RFC 6464 section 4: the V bit beside the audio level counts unless one side says that it doesn't.
func TestVoiceBitIsTurnedOff(t *testing.T) {
	line := func(mid, more string) string {
		return "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:" + mid + "\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n" +
			"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level" + more + "\r\n"
	}
	sections, err := parseDescription(offerHead + line("0", "") + line("1", " vad=on") + line("2", " vad=off"))
	if err != nil {
		t.Fatal(err)
	}
	answer := sections[0]
	for i, want := range []bool{false, false, true} {
		n := negotiated(&sections[i], &answer)
		if got := extensionIDsOf(&n); got.level != 1 || got.noVoice != want {
			t.Errorf("m-line %d: %+v, want off %v", i, got, want)
		}
	}
	answer.noVoice = true
	if n := negotiated(&sections[0], &answer); !n.noVoice {
		t.Error("the answer turned it off")
	}
}

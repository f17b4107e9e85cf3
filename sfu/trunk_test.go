package sfu

import (
	"errors"
	"strings"
	"testing"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// shown returns what Pion is shown of a description.
func shown(c *trunk, kind webrtc.SDPType, text string) (string, error) {
	sections, err := parseDescription(text)
	if err != nil {
		return "", err
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return "", err
	}
	return c.show(kind, &d, sections)
}

// TestPionIsShownTheTrunk: no m-line of media, and no address that the peer names.
func TestPionIsShownTheTrunk(t *testing.T) {
	for _, text := range []string{
		chromeOffer,
		strings.Replace(chromeOffer, "a=mid:0\r\n", "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 9 typ host\r\n", 1),
		strings.Replace(chromeOffer, "a=mid:2\r\n", "a=mid:2\na=candidate:1 1 udp 1 192.0.2.9 9 typ host\n", 1),
		strings.Replace(chromeOffer, "t=0 0\r\n", "t=0 0\r\na=candidate:1 1 udp 1 192.0.2.9 9 typ host\r\n", 1),
	} {
		var c trunk
		got, err := shown(&c, webrtc.SDPTypeOffer, text)
		if err != nil || strings.Count(got, "m=") != 1 || !strings.Contains(got, "m=application 9 ") || strings.Contains(got, "candidate") || c.stub || c.data != "2" {
			t.Errorf("%+v, %v\n%s", c, err, got)
		}
		for _, line := range []string{"a=group:BUNDLE 2\r\n", "a=mid:2\r\n", "a=setup:actpass\r\n", "a=fingerprint:sha-256 0F:", "a=ice-ufrag:", "a=ice-pwd:"} {
			if strings.Count(got, line) != 1 {
				t.Errorf("%q isn't shown once:\n%s", line, got)
			}
		}
	}
}

// TestTrunkWithoutData: who offers no data channels has a stub, which stays in its place when they come.
func TestTrunkWithoutData(t *testing.T) {
	var c trunk
	without, _, _ := strings.Cut(chromeOffer, "m=application")
	without = strings.Replace(without, " 2\r\n", "\r\n", 1) // of the bundle
	for i, text := range []string{without, without, chromeOffer, strings.Replace(chromeOffer, "m=application 9", "m=application 0", 1)} {
		got, err := shown(&c, webrtc.SDPTypeOffer, text)
		if err != nil {
			t.Fatal(err)
		}
		stub, data := strings.Index(got, "m=audio 9 "), strings.Index(got, "m=application 9 ")
		if stub < 0 || (data > stub) != (i >= 2) {
			t.Errorf("offer %d is shown as\n%s", i, got)
		}
	}
	c = trunk{data: "0"}
	if got, err := shown(&c, webrtc.SDPTypeAnswer, without); err != nil || !strings.Contains(got, "m=application 0 ") || c.data != "0" || c.stub {
		t.Errorf("an answer without them: %+v, %v\n%s", c, err, got)
	}
}

// TestPionKeepsTheTrunkAlone: however many m-lines there are, Pion makes nothing of them.
func TestPionKeepsTheTrunkAlone(t *testing.T) {
	p := soleParticipant(t)
	without := browserOffer(60)
	with := strings.Replace(without, "a=group:BUNDLE", "a=group:BUNDLE d", 1) + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\n"
	for i, offer := range []string{without, with, without} {
		answer, _, err := p.Offer(offer)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(answer, "\r\nm="); n != strings.Count(offer, "\r\nm=") || strings.Count(answer, "\r\na=mid:") != n {
			t.Errorf("offer %d is answered with %d m-lines:\n%.3000s", i, n, answer)
		}
		pc := p.transports[Publisher].Load().pc
		local, remote := pc.LocalDescription(), pc.RemoteDescription()
		if n := len(pc.GetTransceivers()); n != 1 || len(local.SDP) > 2000 || len(remote.SDP) > 1000 {
			t.Errorf("offer %d: Pion has %d transceivers, want that of the stub; its descriptions are\n%s\n%s", i, n, local.SDP, remote.SDP)
		}
	}
}

func TestTransportsAreRefused(t *testing.T) {
	replace := func(what, by string) string {
		out := strings.ReplaceAll(chromeOffer, what, by)
		if out == chromeOffer {
			t.Fatalf("no %q", what)
		}
		return out
	}
	for _, x := range []struct{ text, want string }{
		{replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"), "ICE-lite"},
		{replace("t=0 0\r\n", "t=0 0\r\na= ice-lite \r\n"), "ICE-lite"},
		{replace("t=0 0\r\n", "t=0 0\r\na=ice-lite:x\r\n"), "ICE-lite"},
		{replace("t=0 0\r\n", "t=0 0\r\na=ice-ufrag:ab\ra=candidate:1\r\na=ice-pwd:0123456789012345678901\r\n"), "credentials"},
		{replace("a=setup:actpass", "a=setup:holdconn"), "role"},
	} {
		var c trunk
		if _, err := shown(&c, webrtc.SDPTypeOffer, x.text); !errors.Is(err, ErrDescription) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.want, err)
		}
	}
}

func FuzzTrunk(f *testing.F) {
	f.Add(chromeOffer)
	f.Add(mixedOffer)
	f.Fuzz(func(t *testing.T, text string) {
		var c trunk
		got, err := shown(&c, webrtc.SDPTypeOffer, text)
		if err != nil {
			return
		}
		var d sdp.SessionDescription
		if err := d.UnmarshalString(got); err != nil {
			t.Fatal(err)
		}
		if n := len(d.MediaDescriptions); n < 1 || n > 2 || strings.Contains(got, "candidate") && !strings.Contains(c.data, "candidate") {
			t.Errorf("%d m-lines are shown:\n%s", n, got)
		}
	})
}

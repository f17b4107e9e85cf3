package main

import (
	"net/http/httptest"
	"net/netip"
	"reflect"
	"testing"

	"anytime/sfu"
	"anytime/signaling"
)

// Whatever signaling says of a track reaches the SFU.
func TestPublicationConfig(t *testing.T) {
	got := publicationConfig(signaling.Publication{
		ID: "TR_1", CID: "cid", Video: true, Stream: "camera", Muted: true, Stereo: true, DTX: true, RED: true,
		Layers:   []signaling.PublicationLayer{{Quality: 1, Width: 640, Height: 360, Bitrate: 500_000, RID: "h"}},
		MimeType: "video/vp9", Policy: signaling.OneCodec, Encrypted: true, Still: true, Exempt: true,
		Backups: []signaling.PublicationCodec{{MimeType: "video/vp8", CID: "other", Layers: []signaling.PublicationLayer{{Quality: 2}}}},
	})
	want := sfu.PublicationConfig{
		ID: "TR_1", CID: "cid", Kind: sfu.Video, Stream: "camera", Muted: true, Stereo: true, DTX: true, RED: true,
		Layers:   []sfu.Layer{{Quality: 1, Width: 640, Height: 360, Bitrate: 500_000}},
		MimeType: "video/vp9", Policy: sfu.OneCodec, Encrypted: true, Still: true, Exempt: true,
		Backups: []sfu.CodecConfig{{MimeType: "video/vp8", CID: "other", Layers: []sfu.Layer{{Quality: 2}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Limits on joins count whoever stands before a trusted proxy, and nobody's own word.
func TestClientAddrHonoursTrustedProxies(t *testing.T) {
	n := &node{config: config{http: httpConfig{trustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	for from, want := range map[string]string{"10.1.2.3:4": "203.0.113.9", "198.51.100.1:4": "198.51.100.1"} {
		r := httptest.NewRequest("GET", "/rtc", nil)
		r.RemoteAddr = from
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		if got := n.clientAddr(r); got != netip.MustParseAddr(want) {
			t.Errorf("from %s: %v, want %s", from, got, want)
		}
	}
}

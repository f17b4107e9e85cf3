package sfu

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
)

const (
	dtlsFlight = 100 * time.Millisecond

	// replayWindow is in packets; Pion's 64 is less than one video keyframe reordered across a burst.
	replayWindow = 512
	// receiveMTU is how long a packet may be that Pion reads from a peer connection, in bytes: DTLS alone.
	receiveMTU = 1500
	// MaxData is the largest data channel message that is taken or sent, in bytes.
	MaxData = 64 << 10
)

// Payload types that we offer. Those of RTX follow their codec's.
const (
	ptOpus = 111
	ptRED  = 63
)

const mimeRED = "audio/red"

var audioFeedback = []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "nack"}}

var videoFeedback = []webrtc.RTCPFeedback{
	{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"},
}

// audioCodecs returns the formats of a microphone to offer. The lists are shared.
func audioCodecs(stereo, dtx bool) []webrtc.RTPCodecParameters {
	i := 0
	if stereo {
		i++
	}
	if dtx {
		i += 2
	}
	return audioLists[i]
}

// audioLists are those of [audioCodecs], by whether it is stereo and whether silence is left out.
var audioLists = func() (lists [4][]webrtc.RTPCodecParameters) {
	for i := range lists {
		fmtp := "minptime=10;useinbandfec=1"
		if i&1 != 0 {
			// RFC 7587 section 6.1: stereo is the receiver's wish, sprop-stereo the sender's announcement; receivers look at
			// either before they set up a stereo decoder.
			fmtp += ";stereo=1;sprop-stereo=1"
		}
		if i&2 != 0 {
			fmtp += ";usedtx=1"
		}
		lists[i] = []webrtc.RTPCodecParameters{
			{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmtp, RTCPFeedback: audioFeedback}},
			{PayloadType: ptRED, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: mimeRED, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%d", ptOpus, ptOpus)}},
		}
	}
	return lists
}()

type videoFormat struct {
	pt   uint8
	kind codec.Kind
	fmtp string
}

// videoFormats are the video formats that we speak: what browsers offer. RFC 5761 section 4 keeps 64 to 95 free.
var videoFormats = []videoFormat{
	{96, codec.VP8, ""},
	// Constrained baseline, baseline, main and high profile.
	{102, codec.H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
	{104, codec.H264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"},
	{106, codec.H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"},
	{108, codec.H264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"},
	{112, codec.H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"},
	{114, codec.H264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"},
	{116, codec.H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"},
	// 8 bits a sample, and 10.
	{98, codec.VP9, "profile-id=0"},
	{100, codec.VP9, "profile-id=2"},
	{45, codec.AV1, "level-idx=5;profile=0;tier=0"},
	// Main and Main 10.
	{47, codec.H265, "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"},
	{49, codec.H265, "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST"},
}

// videoCodecs returns the formats that we speak, each with its RTX: those that take picks, nil for all.
func videoCodecs(take func(codec.Kind, string) bool) []webrtc.RTPCodecParameters {
	var out []webrtc.RTPCodecParameters
	for _, f := range videoFormats {
		if take != nil && !take(f.kind, f.fmtp) {
			continue
		}
		out = append(out,
			webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(f.pt), RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: f.kind.String(), ClockRate: 90000, SDPFmtpLine: f.fmtp, RTCPFeedback: videoFeedback}},
			webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(f.pt + 1), RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", f.pt)}})
	}
	return out
}

// Header extensions by direction. What is sent is told apart by the SSRCs of our descriptions; the media section's id is offered
// because RFC 8829 section 5.2.1 has every offer do so, and Pion as a client counts on it: where it wasn't offered, a packet that
// is still on its way when its track ends is taken for a new track without a name.
var (
	receivedAudio = []string{codec.URIMid, codec.URIAudioLevel, codec.URITransportSequence, codec.URIAbsSendTime}
	receivedVideo = []string{codec.URIMid, codec.URIRid, codec.URIRepairedRid, codec.URITransportSequence,
		codec.URIAbsSendTime, codec.URIVideoOrientation, codec.URIDependency}
	sentAudio = []string{codec.URIMid, codec.URIAudioLevel, codec.URITransportSequence, codec.URIAbsSendTime}
	sentVideo = []string{codec.URIMid, codec.URITransportSequence, codec.URIAbsSendTime, codec.URIVideoOrientation, codec.URIDependency}
)

// sentExtensions are what we send of them, by the id that we offer, from 1 on.
var sentExtensions = []string{codec.URIMid, codec.URIAudioLevel, codec.URITransportSequence, codec.URIAbsSendTime,
	codec.URIVideoOrientation, codec.URIDependency}

// mediaEngine is all that Pion knows of media: the codec of a trunk's stub.
func mediaEngine() (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	return m, m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}, webrtc.RTPCodecTypeAudio)
}

// newCertificate makes the one DTLS certificate that all peer connections of a server show.
func newCertificate() (webrtc.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return webrtc.Certificate{}, err
	}
	c, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return webrtc.Certificate{}, err
	}
	return *c, nil
}

// newPeer makes a peer connection over a plane: an API of its own for the hooks, no interceptors.
func (s *Server) newPeer(fullICE bool, plane *plane) (*webrtc.PeerConnection, error) {
	e := webrtc.SettingEngine{LoggerFactory: s.pionLog, BufferFactory: noBuffer}
	e.SetNet(newAnnouncedNet(s.host, s.mux.addrs))
	e.SetICEUDPMux(plane)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if s.mux.tcp != nil {
		e.SetICETCPMux(plane)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	e.SetNetworkTypes(networks)
	e.DisableActiveTCP(true)
	e.SetIncludeLoopbackCandidate(true) // the list of announced addresses decides
	e.SetLite(!fullICE)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	path := paths{lite: !fullICE, unheard: plane.unheard}
	e.SetICEBindingRequestHandler(func(m *stun.Message, _, remote ice.Candidate, _ *ice.CandidatePair) bool {
		return path.request(m, remote)
	})
	if fullICE {
		e.SetICETimeouts(iceDisconnected, iceFailed, iceKeepalive)
	} else {
		e.SetICETimeouts(0, 0, 0) // see liveness.go
	}
	e.SetDTLSRetransmissionInterval(dtlsFlight)
	e.SetDTLSInsecureSkipHelloVerify(true) // ICE has verified the address
	// AES-GCM costs a fifth of what AES-CM with HMAC-SHA1 does. The server chooses by its own order, so be the server.
	if err := e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, err
	}
	e.SetDTLSKeyLogWriter(&plane.keys)
	e.SetDTLSServerHelloMessageHook(plane.hello)
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	e.SetReceiveMTU(receiveMTU)
	e.SetSCTPMaxMessageSize(MaxData)
	e.DetachDataChannels() // data.go reads them

	api := webrtc.NewAPI(webrtc.WithMediaEngine(s.media), webrtc.WithSettingEngine(e),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{s.certificate},
		BundlePolicy: webrtc.BundlePolicyMaxBundle,
		SDPSemantics: webrtc.SDPSemanticsUnifiedPlan,
	})
	return pc, err
}

// noBuffer is what Pion's SRTP sessions get to write into: nothing comes to them, and their readers are at the end at once.
func noBuffer(packetio.BufferPacketType, uint32) io.ReadWriteCloser { return nowhere{} }

type nowhere struct{}

func (nowhere) Read([]byte) (int, error)    { return 0, io.EOF }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// outgoingPayload returns the payload type under which a subscriber's m-line takes a published payload, and its RTX payload
// type (0 = none). Formats of one codec must match in what a decoder has to have, see sameFormat.
func outgoingPayload(line payloads, in payload) (pt, rtx uint8, ok bool) {
	for _, p := range line {
		if p.rtx || p.kind != in.kind || p.clock != in.clock {
			continue
		}
		if !sameFormat(in.kind, p.fmtp, in.fmtp) {
			continue
		}
		return p.pt, line.rtxOf(p.pt), true
	}
	return 0, 0, false
}

// sameFormat reports whether what is sent under one set of format parameters can be received under the other.
func sameFormat(kind codec.Kind, a, b string) bool {
	same := func(key, unset string) bool {
		return strings.EqualFold(cmp.Or(formatParameter(a, key), unset), cmp.Or(formatParameter(b, key), unset))
	}
	switch kind {
	case codec.H264:
		return sameH264(a, b) // RFC 6184 section 8.2.2: profile and packetization mode
	case codec.VP9:
		return same("profile-id", "0") // RFC 9628 section 7: unset means 0
	case codec.AV1:
		return same("profile", "0") // AV1 RTP specification, section 7.2.1
	case codec.H265:
		return same("profile-id", "1") && same("tier-flag", "0") && same("tx-mode", "SRST") // RFC 7798 section 7.1
	}
	return true
}

// formatParameter returns a parameter of an a=fmtp line, empty if it isn't there.
func formatParameter(fmtp, key string) string {
	for f := range strings.SplitSeq(fmtp, ";") {
		if k, value, _ := strings.Cut(strings.TrimSpace(f), "="); strings.EqualFold(k, key) {
			return value
		}
	}
	return ""
}

func sameH264(a, b string) bool {
	am, ap := h264Format(a)
	bm, bp := h264Format(b)
	return am == bm && ap == bp
}

// h264Format returns packetization mode and profile (without constraint bits that only narrow it, and without level).
func h264Format(fmtp string) (mode, profile string) {
	mode, profile = "0", "42c" // RFC 6184 section 8.1: the defaults are mode 0 and (constrained) baseline
	for f := range strings.SplitSeq(fmtp, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		switch strings.ToLower(key) {
		case "packetization-mode":
			mode = value
		case "profile-level-id":
			if len(value) != 6 {
				continue
			}
			profile = strings.ToLower(value[:2])
			// profile-iop: constraint_set1 on baseline makes it constrained baseline (ITU-T H.264 section A.2.1.1).
			if profile == "42" && strings.ContainsRune("4567cdefCDEF", rune(value[2])) {
				profile = "42c"
			}
		}
	}
	return mode, profile
}

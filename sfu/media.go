package sfu

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
)

const (
	iceDisconnected = 5 * time.Second
	iceFailed       = 20 * time.Second // a call survives 30 s without a network: the client restarts ICE before that
	iceKeepalive    = 2 * time.Second
	dtlsFlight      = 100 * time.Millisecond

	// replayWindow is in packets; Pion's 64 is less than one video keyframe reordered across a burst.
	replayWindow = 512
	// receiveMTU bounds one received packet, in bytes.
	receiveMTU = 1500
	// MaxData is the largest data channel message that is taken or sent, in bytes.
	MaxData = 64 << 10
)

// Payload types that we offer. Those of RTX follow their codec's.
const (
	ptOpus = 111
	ptRED  = 63
	ptVP8  = 96
)

const mimeRED = "audio/red"

var audioFeedback = []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "nack"}}

var videoFeedback = []webrtc.RTCPFeedback{
	{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"},
}

func audioCodecs(stereo bool) []webrtc.RTPCodecParameters {
	fmtp := "minptime=10;useinbandfec=1"
	if stereo {
		// RFC 7587 section 6.1: stereo is the receiver's wish, sprop-stereo the sender's announcement; receivers look at
		// either before they set up a stereo decoder.
		fmtp += ";stereo=1;sprop-stereo=1"
	}
	return []webrtc.RTPCodecParameters{
		{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmtp, RTCPFeedback: audioFeedback}},
		{PayloadType: ptRED, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mimeRED, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%d", ptOpus, ptOpus)}},
	}
}

// h264Profiles are the combinations that browsers offer: constrained baseline, baseline, main and high.
var h264Profiles = []struct {
	pt            uint8
	profile, mode string
}{
	{102, "42e01f", "1"}, {104, "42e01f", "0"}, {106, "42001f", "1"}, {108, "42001f", "0"},
	{112, "4d001f", "1"}, {114, "4d001f", "0"}, {116, "64001f", "1"},
}

func videoCodecs(kind codec.Kind) []webrtc.RTPCodecParameters {
	var out []webrtc.RTPCodecParameters
	add := func(pt uint8, mime, fmtp string) {
		out = append(out,
			webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(pt), RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: mime, ClockRate: 90000, SDPFmtpLine: fmtp, RTCPFeedback: videoFeedback}},
			webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(pt + 1), RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", pt)}})
	}
	if kind == codec.Unknown || kind == codec.VP8 {
		add(ptVP8, webrtc.MimeTypeVP8, "")
	}
	if kind == codec.Unknown || kind == codec.H264 {
		for _, p := range h264Profiles {
			add(p.pt, webrtc.MimeTypeH264,
				"level-asymmetry-allowed=1;packetization-mode="+p.mode+";profile-level-id="+p.profile)
		}
	}
	return out
}

// Header extensions by direction. A dependency descriptor comes with the codecs that need it.
var (
	receivedAudio = []string{codec.URIMid, codec.URIAudioLevel, codec.URITransportSequence, codec.URIAbsSendTime}
	receivedVideo = []string{codec.URIMid, codec.URIRid, codec.URIRepairedRid, codec.URITransportSequence,
		codec.URIAbsSendTime, codec.URIVideoOrientation}
	sentAudio = []string{codec.URIAudioLevel, codec.URITransportSequence, codec.URIAbsSendTime}
	sentVideo = []string{codec.URITransportSequence, codec.URIAbsSendTime, codec.URIVideoOrientation}
)

func mediaEngine(target Target) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	audio, video := receivedAudio, receivedVideo
	if target == Subscriber {
		audio, video = sentAudio, sentVideo
	}
	for _, c := range audioCodecs(false) {
		if err := m.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	for _, c := range videoCodecs(codec.Unknown) {
		if err := m.RegisterCodec(c, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
	}
	for _, uri := range audio {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	for _, uri := range video {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
	}
	return m, nil
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

// peerHooks are what a peer connection calls below the seam.
type peerHooks struct {
	buffers func(packetio.BufferPacketType, uint32) io.ReadWriteCloser
	profile func(name string)
}

// newPeer makes a peer connection: an API of its own for the hooks, no interceptors.
func (s *Server) newPeer(target Target, fullICE bool, hooks peerHooks) (*webrtc.PeerConnection, *webrtc.API, error) {
	m, err := mediaEngine(target)
	if err != nil {
		return nil, nil, err
	}
	e := webrtc.SettingEngine{LoggerFactory: s.pionLog, BufferFactory: hooks.buffers}
	e.SetNet(s.sockets.net)
	e.SetICEUDPMux(s.sockets.udp)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if s.sockets.tcp != nil {
		e.SetICETCPMux(s.sockets.tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	e.SetNetworkTypes(networks)
	e.DisableActiveTCP(true)
	e.SetIncludeLoopbackCandidate(true) // the list of announced addresses decides
	e.SetLite(!fullICE)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	path := paths{lite: !fullICE}
	e.SetICEBindingRequestHandler(func(m *stun.Message, _, remote ice.Candidate, _ *ice.CandidatePair) bool {
		return path.request(m, remote)
	})
	e.SetICETimeouts(iceDisconnected, iceFailed, iceKeepalive)
	e.SetDTLSRetransmissionInterval(dtlsFlight)
	e.SetDTLSInsecureSkipHelloVerify(true) // ICE has verified the address
	// AES-GCM costs a fifth of what AES-CM with HMAC-SHA1 does. The server chooses by its own order, so be the server.
	if err := e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, nil, err
	}
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	e.SetDTLSServerHelloMessageHook(func(h handshake.MessageServerHello) handshake.Message {
		for _, x := range h.Extensions {
			if u, ok := x.(*extension.UseSRTP); ok && len(u.ProtectionProfiles) == 1 {
				hooks.profile(profileName(u.ProtectionProfiles[0]))
			}
		}
		return &h
	})
	e.SetSRTPReplayProtectionWindow(replayWindow)
	e.SetReceiveMTU(receiveMTU)
	e.SetSCTPMaxMessageSize(MaxData)

	api := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(e),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{s.certificate},
		BundlePolicy: webrtc.BundlePolicyMaxBundle,
		SDPSemantics: webrtc.SDPSemanticsUnifiedPlan,
	})
	return pc, api, err
}

func profileName(p dtls.SRTPProtectionProfile) string {
	switch p {
	case dtls.SRTP_AEAD_AES_128_GCM:
		return "AEAD_AES_128_GCM"
	case dtls.SRTP_AEAD_AES_256_GCM:
		return "AEAD_AES_256_GCM"
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		return "AES_CM_128_HMAC_SHA1_80"
	default:
		return fmt.Sprintf("0x%04x", uint16(p))
	}
}

// outgoingPayload returns the payload type under which a subscriber's m-line takes a published payload, and its RTX payload
// type (0 = none). H.264 must match in profile and packetization mode; see RFC 6184 section 8.2.2.
func outgoingPayload(line *section, in payload) (pt, rtx uint8, ok bool) {
	for _, p := range line.payloads {
		if p.rtx || p.kind != in.kind || p.clock != in.clock {
			continue
		}
		if in.kind == codec.H264 && !sameH264(p.fmtp, in.fmtp) {
			continue
		}
		return p.pt, line.rtxOf(p.pt), true
	}
	return 0, 0, false
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

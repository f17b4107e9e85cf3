package sfutest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// formatSource publishes one video track of any format, a packet for each frame.
type formatSource struct {
	c     *Client
	track *webrtc.TrackLocalStaticRTP
	send  *webrtc.RTPSender
	force atomic.Bool
	plis  atomic.Int64
	done  sync.WaitGroup
	stop  chan struct{}
}

// format publishes a track whose keyframes and other frames have these payloads, 30 a second.
func (c *Client) format(t *testing.T, id string, capability webrtc.RTPCodecCapability, key, delta []byte) *formatSource {
	t.Helper()
	track, err := webrtc.NewTrackLocalStaticRTP(capability, "cid-"+id, "stream")
	must(t, err)
	must(t, c.Participant.Publish(sfu.PublicationConfig{ID: id, CID: "cid-" + id, Kind: sfu.Video, MimeType: capability.MimeType}))
	tr, err := c.pub.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	must(t, err)
	must(t, c.Negotiate(false))
	must(t, c.AwaitState(sfu.Publisher, sfu.Connected))
	s := &formatSource{c: c, track: track, send: tr.Sender(), stop: make(chan struct{})}
	s.done.Add(2)
	go func() {
		defer s.done.Done()
		for {
			pkts, _, err := s.send.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range pkts {
				if _, ok := p.(*rtcp.PictureLossIndication); ok {
					s.plis.Add(1)
					s.force.Store(true)
				}
			}
		}
	}()
	go func() {
		defer s.done.Done()
		tick := time.NewTicker(frameInterval)
		defer tick.Stop()
		p := rtp.Packet{Header: rtp.Header{Version: 2, Marker: true}}
		for n := 0; ; n++ {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			p.Payload = delta
			if s.force.Swap(false) || n == 0 {
				p.Payload = key
			}
			_ = track.WriteRTP(&p)
			p.SequenceNumber++
			p.Timestamp += 3000
		}
	}()
	t.Cleanup(func() {
		close(s.stop)
		_ = s.send.Stop()
		s.done.Wait()
	})
	return s
}

// Each video format goes from a publisher to a subscriber, which begins at a keyframe that it had to ask for.
func TestVideoFormats(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		mime, fmtp string
		key, delta []byte
	}{
		// An aggregation of parameter sets and an IDR slice, RFC 7798 section 4.4.2; and a TRAIL_R slice.
		{webrtc.MimeTypeH265, "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
			[]byte{0x60, 1, 0, 3, 0x40, 1, 9, 0, 3, 0x42, 1, 9, 0, 3, 0x44, 1, 9, 0, 3, 0x26, 1, 0xaf}, []byte{0x02, 1, 0xd0, 9}},
		{webrtc.MimeTypeVP9, "profile-id=0", []byte{0xac, 0x80, 1, 0, 7, 9}, []byte{0xec, 0x80, 2, 0, 8, 9}},
		{webrtc.MimeTypeVP9, "profile-id=2", []byte{0xac, 0x80, 1, 0, 7, 9}, []byte{0xec, 0x80, 2, 0, 8, 9}},
		{webrtc.MimeTypeAV1, "level-idx=5;profile=0;tier=0", []byte{0x18, 0x0a, 1, 2}, []byte{0x10, 0x32, 1, 2}},
		{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
			[]byte{0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 1, 0, 3, 0x65, 0x88, 1}, []byte{0x41, 0x9a, 1}},
	} {
		t.Run(x.mime+" "+x.fmtp, func(t *testing.T) {
			t.Parallel()
			capability := webrtc.RTPCodecCapability{MimeType: x.mime, ClockRate: 90000, SDPFmtpLine: x.fmtp}
			codecs := func(m *webrtc.MediaEngine) error {
				capability := capability
				capability.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}
				return errors.Join(
					m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 120, RTPCodecCapability: capability}, webrtc.RTPCodecTypeVideo),
					m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 121, RTPCodecCapability: webrtc.RTPCodecCapability{
						MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=120"}}, webrtc.RTPCodecTypeVideo),
				)
			}
			vp8 := func(m *webrtc.MediaEngine) error {
				return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
					MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}}, webrtc.RTPCodecTypeVideo)
			}
			n := New(t, nil)
			a := n.JoinWith(t, n.Server, "room", "PA_a", Options{Codecs: codecs})
			b := n.JoinWith(t, n.Server, "room", "PA_b", Options{Codecs: codecs})
			without := n.JoinWith(t, n.Server, "room", "PA_c", Options{Codecs: vp8})
			src := a.format(t, "TR_v", capability, x.key, x.delta)
			must(t, a.AwaitEvent("the codec", func(e sfu.Event) bool {
				s, ok := e.(sfu.PublicationStarted)
				return ok && s.MimeType == x.mime
			}))
			subscribe(t, b, "TR_v")
			r, err := b.AwaitPackets("TR_v", 20)
			must(t, err)
			if r.Mime != x.mime || src.plis.Load() == 0 {
				t.Errorf("came as %s after %d keyframe requests", r.Mime, src.plis.Load())
			}
			subscribe(t, without, "TR_v")
			must(t, without.AwaitEvent("a refusal", func(e sfu.Event) bool {
				f, ok := e.(sfu.SubscriptionFailed)
				return ok && f.TrackID == "TR_v" && errors.Is(f.Err, sfu.ErrCodec)
			}))
		})
	}
}

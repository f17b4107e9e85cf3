package sfutest

import (
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// congestion is what the server knows of the path to the client.
func congestion(c *Client) sfu.TransportStats {
	for _, t := range c.Participant.Stats().Transports {
		if t.Target == sfu.Subscriber {
			return t
		}
	}
	return sfu.TransportStats{}
}

// awaitCongestion polls what no event tells, as long as a busy machine may take.
func awaitCongestion(t testing.TB, c *Client, what string, ok func(sfu.CongestionStats) bool) sfu.CongestionStats {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * Timeout)
	for {
		s := congestion(c)
		if ok(s.Congestion) {
			return s.Congestion
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting until %s: %+v, %+v", what, s.Congestion, s.Egress)
		}
	}
}

// withoutFeedback registers what sends NACKs and reports, and what more.
func withoutFeedback(more ...func(*webrtc.MediaEngine, *interceptor.Registry) error) func(*webrtc.MediaEngine, *interceptor.Registry) error {
	return func(m *webrtc.MediaEngine, r *interceptor.Registry) error {
		if err := webrtc.ConfigureNack(m, r); err != nil {
			return err
		}
		if err := webrtc.ConfigureRTCPReports(r); err != nil {
			return err
		}
		if err := webrtc.ConfigureSimulcastExtensionHeaders(m); err != nil {
			return err
		}
		for _, f := range more {
			if err := f(m, r); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestEstimateFollowsTheBottleneck(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		interceptors func(*webrtc.MediaEngine, *interceptor.Registry) error
		source       sfu.EstimateSource
	}{
		"transport-wide feedback": {nil, sfu.ByTransportFeedback},
		"RFC 8888":                {withoutFeedback(webrtc.ConfigureCongestionControlFeedback), sfu.ByCongestionFeedback},
		"receiver reports":        {withoutFeedback(), sfu.ByReports},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := New(t, func(c *sfu.Config) { c.StartBitrate = 2_500_000 })
			net, link := n.Bottleneck(5_000_000)
			a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", Options{Net: net, Interceptors: x.interceptors})
			v, err := a.Video("TR_v", "q", "h", "f")
			must(t, err)
			v.Fill(1000)
			subscribe(t, b, "TR_v")
			_, err = b.AwaitPackets("TR_v", 200)
			must(t, err)
			s := awaitCongestion(t, b, "feedback has come", func(c sfu.CongestionStats) bool {
				return c.RTT != 0 || x.source == sfu.ByReports // which need the publisher's for a round trip
			})
			if s.Source != x.source || s.Target < 700_000 {
				t.Errorf("over 5 Mbit/s: %+v", s)
			}
			link.Rate(400_000)
			begin := time.Now()
			s = awaitCongestion(t, b, "the target fits", func(c sfu.CongestionStats) bool { return c.Target < 450_000 })
			t.Logf("after %v: %+v", time.Since(begin), s)
			if s.Source != x.source || s.Counts.Malformed != 0 {
				t.Errorf("over 400 kbit/s: %+v", s)
			}
		})
	}
}

func TestREMBLeads(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", Options{Interceptors: withoutFeedback()})
	v, err := a.Video("TR_v", "q", "h", "f")
	must(t, err)
	v.Fill(1000)
	subscribe(t, b, "TR_v")
	_, err = b.AwaitPackets("TR_v", 30)
	must(t, err)
	ssrc := uint32(b.sub.GetReceivers()[0].Track().SSRC())
	tell := func(bits float32) {
		must(t, b.sub.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: 1, Bitrate: bits, SSRCs: []uint32{ssrc}}}))
	}
	tell(300_000)
	s := awaitCongestion(t, b, "the target is that of the REMB", func(c sfu.CongestionStats) bool { return c.Target == 300_000 })
	if s.Source != sfu.ByREMB {
		t.Errorf("%+v", s)
	}
	tell(5_000_000)
	awaitCongestion(t, b, "the target follows", func(c sfu.CongestionStats) bool {
		tell(5_000_000)
		return c.Target > 330_000
	})
}

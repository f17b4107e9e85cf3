package sfutest

import (
	"log/slog"
	"testing"

	"anytime/sfu"
	"anytime/sfu/udp"

	"github.com/pion/webrtc/v4"
)

// TestEveryPath: audio and video come through whole and unchanged whichever way they leave: each way of passing datagrams to the
// kernel, and TCP.
func TestEveryPath(t *testing.T) {
	for _, x := range []struct {
		name     string
		path     udp.Path
		protocol string
	}{
		{"segmented", udp.Segmented, "udp"},
		{"batched", udp.Batched, "udp"},
		{"plain", udp.Plain, "udp"},
		{"ICE-TCP", udp.Auto, "tcp"},
	} {
		check := CheckGoroutines(t)
		t.Run(x.name, func(t *testing.T) {
			network := webrtc.NetworkTypeTCP4
			if x.protocol == "udp" {
				network = webrtc.NetworkTypeUDP4
				port, err := udp.Listen(udp.Config{Addr: "127.0.0.1:0", Sockets: 1, Path: x.path, Log: slog.New(slog.DiscardHandler)})
				must(t, err)
				path := port.Path()
				must(t, port.Close())
				if path != x.path {
					t.Skipf("this system lacks it: %v", path)
				}
			}
			testPath(t, x.path, network, x.protocol)
		})
		check()
	}
}

func testPath(t *testing.T, path udp.Path, network webrtc.NetworkType, protocol string) {
	n := New(t, nil)
	s := loopback(t, sfu.Config{UDPPath: path, MinBitrate: 10_000_000}) // what makes packets late here is a busy machine
	o := Options{Net: osNet(t), Settings: func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{network})
		e.SetIncludeLoopbackCandidate(true)
	}}
	clients := map[string]*Client{"a": nil, "b": nil}
	for id := range clients {
		clients[id] = n.JoinWith(t, s, "room", "PA_"+id, o)
	}
	for id, c := range clients {
		video, err := c.Video("TR_v"+id, "q", "h", "f")
		must(t, err)
		video.Fill(1000)
		_, err = c.Audio("TR_a" + id)
		must(t, err)
	}
	others := map[string]string{"a": "b", "b": "a"}
	for id, c := range clients {
		subscribe(t, c, "TR_v"+others[id])
		subscribe(t, c, "TR_a"+others[id])
	}
	for id, c := range clients {
		for track, packets := range map[string]int{"TR_v" + others[id]: 300, "TR_a" + others[id]: 100} {
			r, err := c.Await(track, "enough", func(p []Packet) bool { return len(p) >= packets })
			must(t, err)
			sum, err := r.Check(track, 0)
			if err != nil || sum.Missing != 0 || sum.Packets < packets {
				t.Errorf("%s gets %s: %+v, %v", c.ID, track, sum, err)
			}
			for _, p := range r.Packets() {
				if !p.Padding && !p.Whole {
					t.Fatalf("%s gets %s: packet %d of frame %d isn't what was sent", c.ID, track, p.Index, p.Frame)
				}
			}
		}
		for _, target := range []sfu.Target{sfu.Publisher, sfu.Subscriber} {
			if _, got := c.RemoteCandidate(target); got != protocol {
				t.Errorf("%s %v: over %s, want %s", c.ID, target, got, protocol)
			}
		}
	}
}

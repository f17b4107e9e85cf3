package sfutest

import (
	"fmt"
	"testing"
	"time"
)

// hd is what a layer of 1.7 Mbit/s sends.
var hd = Shape{Packets: 6, Keyframe: 30, Size: 1150}

// lossyRun is one subscriber behind a lossy link, in virtual time.
type lossyRun struct {
	seed   uint64
	oneWay time.Duration // of the subscriber's link
	loss   float64       // each way
	// toServer is the loss between publisher and server, on the way there.
	toServer float64
	rtt      time.Duration // what the viewer takes for the round trip, 0 for libwebrtc's default
	frames   int
	each     func(v *Viewer, frame int) // called every 30 frames
}

// lossyResult is what came of it.
type lossyResult struct {
	playback map[time.Duration]Playback // by playout delay
	viewer   ViewerStats
	keys     int64
	up, down LinkStats
	sub      uint64 // packets sent again
}

// playouts are the playout delays that are looked at. libwebrtc takes the lateness of what is sent again for jitter, so that
// its jitter buffer comes to hold two or three of its retries.
var playouts = []time.Duration{200 * time.Millisecond, 300 * time.Millisecond, 350 * time.Millisecond, 400 * time.Millisecond}

func (r lossyRun) run(t *testing.T) (out lossyResult) {
	t.Helper()
	Simulate(t, nil, func(t *testing.T, n *Network) {
		a := n.Join(t, "room", "PA_a")
		src, err := a.VideoOf(hd, "TR_v")
		must(t, err)
		link, v := n.Link(t, r.seed), NewViewer()
		if r.rtt != 0 {
			v.RTT = r.rtt
		}
		link.Impair(Impairment{Delay: r.oneWay}, Impairment{Delay: r.oneWay})
		b := n.JoinWith(t, n.Server, "room", "PA_b", Options{Net: link, Viewer: v})
		subscribe(t, b, "TR_v")
		_, err = b.AwaitPackets("TR_v", 60)
		must(t, err)
		n.Lose(r.toServer, 0)
		link.Impair(Impairment{Delay: r.oneWay, Loss: r.loss}, Impairment{Delay: r.oneWay, Loss: r.loss})
		_, err = b.AwaitPackets("TR_v", 30*hd.Packets) // let it settle
		must(t, err)
		from := time.Now()
		for i := 0; i < r.frames; i += 30 {
			_, err = b.AwaitPackets("TR_v", 30*hd.Packets)
			must(t, err)
			if r.each != nil {
				r.each(v, i)
			}
		}
		to := time.Now()
		link.Impair(Impairment{Delay: r.oneWay}, Impairment{Delay: r.oneWay})
		n.Lose(0, 0)
		_, err = b.AwaitPackets("TR_v", 60*hd.Packets)
		must(t, err)
		out.playback = map[time.Duration]Playback{}
		for _, d := range playouts {
			out.playback[d], err = v.Playback(from, to.Add(-r.oneWay), d)
			must(t, err)
		}
		out.viewer, out.keys = v.Stats(), src.Keyframes.Load()
		out.up, out.down = link.Stats()
		out.sub = b.Participant.Stats().Subscriptions[0].Resent
	})
	return out
}

// TestRepairOfTenPercentLoss: 10 % of the packets lost each way between server and subscriber.
func TestRepairOfTenPercentLoss(t *testing.T) {
	seed := Seed(t)
	const frames, runs = 900, 5
	for _, x := range []struct {
		oneWay, rtt time.Duration
		playout     time.Duration
		share       float64
	}{
		{oneWay: 30 * time.Millisecond, playout: 350 * time.Millisecond, share: 0.99},
		{oneWay: 30 * time.Millisecond, rtt: 65 * time.Millisecond, playout: 300 * time.Millisecond, share: 0.99},
		{oneWay: 50 * time.Millisecond, playout: 400 * time.Millisecond, share: 0.97},
	} {
		t.Run(fmt.Sprintf("%v one way, asks every %v", x.oneWay, x.rtt), func(t *testing.T) {
			var all Playback
			calm := 0
			for i := range runs {
				r := lossyRun{seed: seed + uint64(i), oneWay: x.oneWay, rtt: x.rtt, loss: 0.1, frames: frames}.run(t)
				p := r.playback[x.playout]
				t.Logf("playout %v: %v; %+v, %d keyframes, %d sent again", x.playout, p, r.viewer, r.keys, r.sub)
				all.Frames, all.InTime = all.Frames+p.Frames, all.InTime+p.InTime
				if p.Freeze <= 500*time.Millisecond {
					calm++
				}
			}
			t.Logf("%.2f %% of the frames in time at a playout delay of %v (target %.0f %%); %d of %d runs without a freeze above 500 ms (target %d)",
				100*all.Share(), x.playout, 100*x.share, calm, runs, runs-runs/5)
			if all.Share() < x.share {
				t.Errorf("%.2f %% of the frames in time, want %.0f %%", 100*all.Share(), 100*x.share)
			}
			if calm < runs-runs/5 {
				t.Errorf("%d of %d runs without a freeze above 500 ms", calm, runs)
			}
		})
	}
}

// TestRepairOfPublisherLoss: what a publisher's link loses is asked for by the server.
func TestRepairOfPublisherLoss(t *testing.T) {
	r := lossyRun{seed: Seed(t), toServer: 0.05, frames: 600}.run(t)
	p := r.playback[200*time.Millisecond]
	t.Logf("%v, %+v", p, r.viewer)
	if p.Share() < 0.999 || p.Freeze > 300*time.Millisecond {
		t.Errorf("%v", p)
	}
}

// TestKeyframeRequestsDontStopRepair: a subscriber that asks for keyframes every second is still sent what it lost.
func TestKeyframeRequestsDontStopRepair(t *testing.T) {
	r := lossyRun{seed: Seed(t), oneWay: 30 * time.Millisecond, loss: 0.1, frames: 600,
		each: func(v *Viewer, _ int) { v.RequestKeyframe() }}.run(t)
	p := r.playback[400*time.Millisecond]
	t.Logf("%v, %+v, %d keyframes", p, r.viewer, r.keys)
	if p.Share() < 0.98 || p.Freeze > 700*time.Millisecond {
		t.Errorf("%v", p)
	}
	if r.keys > 16 { // five at once, one every two seconds
		t.Errorf("%d keyframes", r.keys)
	}
}

package forward

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestNTP(t *testing.T) {
	// RFC 5905 appendix: 1 January 1970 is 2208988800 s after the prime epoch.
	if got := NTP(time.Unix(0, 0)); got != 2208988800<<32 {
		t.Errorf("1970: %#x", got)
	}
	if got := NTP(time.Unix(1, 500_000_000)); got != 2208988801<<32|1<<31 {
		t.Errorf("1.5 s later: %#x", got)
	}
	for _, d := range []time.Duration{0, time.Nanosecond * 1000, time.Second, -time.Second, 90*time.Minute + 123456*time.Microsecond, -36 * time.Hour} {
		// The era ends on 7 February 2036.
		a := time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC)
		if got := ntpSince(NTP(a), NTP(a.Add(d))); got < d-time.Nanosecond || got > d+time.Nanosecond {
			t.Errorf("difference %v, want %v", got, d)
		}
	}
}

// reports simulates the sender reports of one participant whose clock runs at drift parts per million, on a path with a
// least delay of 30 ms and jitter, and returns the error of each capture time.
func reports(c *SenderClock, r *rand.Rand, n int, drift float64, jitter time.Duration, step time.Duration) (errors []time.Duration) {
	base := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for i := range n {
		now := time.Duration(i) * time.Second // true time, the server's clock
		wall := base.Add(time.Duration(float64(now) * (1 + drift/1e6)))
		if i >= n/2 {
			wall = wall.Add(step)
		}
		arrival := now + 30*time.Millisecond + time.Duration(r.Float64()*r.Float64()*float64(jitter))
		capture, ok := c.Observe(NTP(wall), arrival)
		if !ok {
			panic("no capture time")
		}
		errors = append(errors, capture-now)
	}
	return errors
}

func TestSenderClock(t *testing.T) {
	if _, ok := (&SenderClock{}).Observe(0, time.Second); ok {
		t.Error("a capture time from a sender without a clock")
	}
	for _, test := range []struct {
		name   string
		drift  float64
		jitter time.Duration
		step   time.Duration
	}{
		{"clean", 0, 0, 0},
		{"jitter", 0, 200 * time.Millisecond, 0},
		{"fast clock and jitter", 100, 200 * time.Millisecond, 0},
		{"slow clock and jitter", -100, 200 * time.Millisecond, 0},
		{"clock set ahead", 0, 50 * time.Millisecond, time.Hour},
		{"clock set back", 0, 50 * time.Millisecond, -time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			errors := reports(&SenderClock{}, rand.New(rand.NewPCG(1, 2)), 600, test.drift, test.jitter, test.step)
			for i, e := range errors {
				if i < 30 || test.step != 0 && i >= 300 && i < 330 {
					continue // settling
				}
				// The shortest way is 30 ms; what jitter and drift leave is small beside the 45 ms at which people notice.
				if e < 29*time.Millisecond || e > 45*time.Millisecond {
					t.Fatalf("report %d: capture time is off by %v, want 30 ms", i, e)
				}
			}
		})
	}
}

func TestLine(t *testing.T) {
	l := Line{At: 10 * time.Second, RTP: 100, Rate: 48000}
	for _, test := range []struct {
		rtp uint32
		at  time.Duration
	}{
		{100, 10 * time.Second}, {48100, 11 * time.Second}, {100 + 960, 10*time.Second + 20*time.Millisecond},
		{^uint32(0) - 47999 + 100, 9 * time.Second}, {100 + 48000*3600, time.Hour + 10*time.Second},
	} {
		if got := l.Capture(test.rtp); got != test.at {
			t.Errorf("Capture(%d) = %v, want %v", test.rtp, got, test.at)
		}
		if got := l.Timestamp(test.at); got != test.rtp {
			t.Errorf("Timestamp(%v) = %d, want %d", test.at, got, test.rtp)
		}
	}
	if (Line{}).Known() || (Line{}).Capture(5) != 0 || (Line{}).Timestamp(time.Second) != 0 {
		t.Error("an unknown line maps something")
	}
}

func TestTimeline(t *testing.T) {
	tl := NewTimeline(90000)
	if tl.Line(0).Known() || tl.Line(200).Known() {
		t.Error("a line before its report")
	}
	tl.Report(1, 500, time.Second)
	tl.Report(200, 500, time.Second)
	if got := tl.Line(1); got != (Line{At: time.Second, RTP: 500, Rate: 90000}) || tl.Line(0).Known() {
		t.Errorf("%+v", got)
	}
	tl.Reset(1)
	tl.Reset(200)
	if tl.Line(1).Known() {
		t.Error("a line after the reset")
	}
}

// TestLipSync has audio and video of one participant, video switching layers, and checks that the sender reports of both
// subscriptions give one instant the timestamps that the packets of that instant had.
func TestLipSync(t *testing.T) {
	var clock SenderClock
	base := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	sr := func(tl *Timeline, layer uint8, rtp uint32, at, delay time.Duration) {
		capture, _ := clock.Observe(NTP(base.Add(at)), at+delay)
		tl.Report(layer, rtp, capture)
	}
	video, sound := NewTimeline(90000), NewTimeline(48000)
	sr(sound, 0, 48000, time.Second, 30*time.Millisecond)
	sr(video, 0, 1_090_000, time.Second, 35*time.Millisecond)
	sr(video, 1, 4_000_090_000, time.Second, 40*time.Millisecond)
	fv, fa := newVideo(), newFed(Config{Kind: 2, Sequence: 1, Timestamp: 77})
	packet := func(layer uint8, sequence uint64, rtp uint32, at time.Duration) *Packet {
		p := videoAt(layer, sequence, rtp, at)
		p.Capture, p.CaptureKnown = video.Line(layer).Capture(rtp), true
		return p
	}
	fv.SetTarget(0, AllTemporal)
	fv.Forward(packet(0, 10, 1_090_000, time.Second+50*time.Millisecond))
	fv.SetTarget(1, AllTemporal)
	switched := fv.Forward(packet(1, 20, 4_000_180_000, 2*time.Second+90*time.Millisecond)) // captured at 2 s
	heard := fa.Forward(audio(5, 96000, 2*time.Second+40*time.Millisecond))                 // captured at 2 s
	if !switched.Started || !heard.Started {
		t.Fatal("nothing was sent")
	}
	// Both reports name the same server time; the receiver computes both packets' time from them.
	now := 5 * time.Second
	rv, _ := fv.SenderReport(video.Line(1), now)
	ra, _ := fa.SenderReport(sound.Line(0), now)
	tv := time.Duration(int64(int32(switched.Timestamp-rv))) * time.Second / 90000
	ta := time.Duration(int64(int32(heard.Timestamp-ra))) * time.Second / 48000
	if d := tv - ta; d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("video is %v off from the audio of the same instant", d)
	}
}

func videoAt(layer uint8, sequence uint64, rtp uint32, at time.Duration) *Packet {
	p := video(layer, sequence, rtp, true)
	p.Arrival = at
	return p
}

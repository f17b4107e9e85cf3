package load

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"anytime/signaling/client"
)

func TestCheck(t *testing.T) {
	good := Config{URL: "ws://127.0.0.1:1", Key: "k", Secret: "s", Rooms: 1, Publishers: 1, Subscribers: 1, Video: true, Duration: time.Second}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"url:":             func(c *Config) { c.URL = "ftp://x" },
		"API key":          func(c *Config) { c.Key = "" },
		"rooms:":           func(c *Config) { c.Rooms = 0 },
		"nobody sends":     func(c *Config) { c.Publishers = 0 },
		"nothing is sent":  func(c *Config) { c.Video = false },
		"participants:":    func(c *Config) { c.Subscribers = maxParticipants },
		"received tracks:": func(c *Config) { c.Publishers, c.Subscribers = 1000, 1000 },
		"nobody receives":  func(c *Config) { c.Subscribers = 0 },
		"codec:":           func(c *Config) { c.Codec = "h263" },
		"duration:":        func(c *Config) { c.Duration = 0 },
		"warm-up:":         func(c *Config) { c.WarmUp = -1 },
		"join rate:":       func(c *Config) { c.JoinRate = 1e9 },
		"server pid:":      func(c *Config) { c.ServerPID = -1 },
	} {
		c := good
		change(&c)
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestExplain(t *testing.T) {
	if got := explain(context.DeadlineExceeded, true); !strings.Contains(got.Error(), "TURN") {
		t.Errorf("%q doesn't tell of the relay", got)
	}
	for want, err := range map[string]error{
		"the server refused the token: no such key": &client.UpgradeError{Status: 401, Text: "no such key"},
		"no more joins at this rate":                &client.UpgradeError{Status: 429, Text: "slow down"},
		"no room signaling":                         &client.UpgradeError{Status: 404},
		"media port":                                context.DeadlineExceeded,
		"plain":                                     errors.New("plain"),
	} {
		if got := explain(err, false); !strings.Contains(got.Error(), want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestReport(t *testing.T) {
	g := &generator{cfg: Config{Rooms: 1, Publishers: 1, Subscribers: 2, Video: true, ServerPID: 1}, joined: 3}
	var began, end totals
	began.at, end.at = 10*time.Second, 20*time.Second
	began.packets, end.packets = 100, 2100
	began.video = Counts{Expected: 50, Received: 50, Frames: 10}
	end.video = Counts{Expected: 2050, Received: 2030, Repaired: 20, Frames: 610, Bytes: 2_500_000, Freezes: 1, FrozenMS: 300}
	end.videoTracks = 2
	began.videoLatency.add(time.Second) // before the measuring
	end.videoLatency = began.videoLatency
	for range 100 {
		end.videoLatency.add(time.Millisecond)
	}
	began.server, end.server = Usage{User: time.Second, System: time.Second}, Usage{User: 3 * time.Second, System: 2 * time.Second, Memory: 5e7, Threads: 9}
	r := g.report(end, began)
	if v := r.Video; v.Lost != 20 || v.LossPercent != 1 || v.WirePercent != 2 || v.FramesPerSecond != 30 || v.Kbps != 1000 || v.Latency.Count != 100 || v.Latency.P99 > 1.1 {
		t.Errorf("video: %+v", v)
	}
	if s := r.Server; r.PacketsPerSecond != 200 || s == nil || s.UserCores != 0.2 || s.SystemCores != 0.1 || s.PerPacket != 1500 || s.Threads != 9 {
		t.Errorf("%+v, server %+v", r, s)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 of 3", "loss 1.000 %", "30.0 frames per second, 1 freezes", "1500.00 µs per packet", "50 MB"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &text)
		}
	}
	r.FailedJoins, r.Failures = 1, []string{"why"}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a failed join: %v", err)
	}
	if err := (&Report{}).Err(); err == nil {
		t.Error("nothing was received, and that is fine")
	}
}

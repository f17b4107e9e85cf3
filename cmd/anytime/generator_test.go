package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"anytime/load"
	"anytime/signaling"
	"anytime/signaling/wire"
	"anytime/turn"
)

// TestLoad loads rooms with publishers and subscribers and looks at the report: nothing lost, nothing changed. That nothing is
// left the rooms see to at their end.
func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*load.Config)
	}{
		{"dual", nil},
		{"single", func(c *load.Config) { c.Single = true }},
		{"h264 single in bursts", func(c *load.Config) { c.Codec, c.Single, c.Burst = load.H264, true, true }},
		{"members", func(c *load.Config) { c.Publishers, c.Subscribers, c.Members = 0, 0, 3 }},
		{"relay", func(c *load.Config) { c.Relay = true }},
		{"relay single", func(c *load.Config) { c.Relay, c.Single = true, true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := load.Config{
				Key: roomKey, Secret: roomSecret, Rooms: 1, Publishers: 2, Subscribers: 6, Video: true, Audio: true,
				WarmUp: 500 * time.Millisecond, Duration: 3 * time.Second, JoinRate: 100,
			}
			if test.change != nil {
				test.change(&cfg)
			}
			var r *testRooms
			var relay *turn.Server
			if cfg.Relay {
				r, relay = newRelayedRooms(t)
			} else {
				r = newTestRooms(t, unhurried)
			}
			cfg.URL = r.url
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var told []load.Progress
			report, err := load.Run(ctx, cfg, func(p load.Progress) { told = append(told, p) })
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Err(); err != nil {
				t.Error(err)
			}
			checkReport(t, report, cfg)
			if relay == nil {
				return
			}
			if s := relay.Stats(); s.PacketsDown < report.Received {
				t.Errorf("%d packets were relayed, %d received", s.PacketsDown, report.Received)
			}
			if len(told) < 2 || told[len(told)-1].Live == nil {
				t.Errorf("progress was told %d times", len(told))
			}
		})
	}
}

// newRelayedRooms is a server with a TURN relay to its SFU.
func newRelayedRooms(t *testing.T) (*testRooms, *turn.Server) {
	t.Helper()
	const secret = "secret of the relay"
	var relay *turn.Server
	r := newTestRooms(t, func(c *signaling.Config) {
		unhurried(c)
		c.ICEServers = func(identity string) []*wire.ICEServer {
			username, password := turn.Credentials(secret, identity, time.Now(), time.Minute)
			to := relay.UDPAddrs()[0].String()
			return []*wire.ICEServer{{Urls: []string{"turn:" + to, "turn:" + to + "?transport=tcp"}, Username: username, Credential: password}}
		}
	})
	relay, err := turn.New(turn.Config{
		UDP: []string{"127.0.0.1:0"}, Secret: secret, Log: slog.New(slog.DiscardHandler),
		Peers: func() []netip.AddrPort {
			return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.sfu.UDPAddr().Port())}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Errorf("close the relay: %v", err)
		}
	})
	return r, relay
}

func checkReport(t *testing.T, r *load.Report, cfg load.Config) {
	t.Helper()
	receivers, each := cfg.Subscribers, cfg.Publishers
	if cfg.Members > 0 {
		receivers, each = cfg.Members, cfg.Members-1
	}
	for name, m := range map[string]load.Media{"video": r.Video, "audio": r.Audio} {
		if m.Tracks != receivers*each || m.ExpectedTracks != m.Tracks {
			t.Errorf("%s: %d tracks of %d, want %d", name, m.Tracks, m.ExpectedTracks, receivers*each)
		}
		if m.Expected == 0 || m.Lost > 0 || m.Duplicates > 0 {
			t.Errorf("%s: %d of %d packets were lost, %d came twice", name, m.Lost, m.Expected, m.Duplicates)
		}
		if m.Latency.Count == 0 || m.Latency.P50 <= 0 || m.Latency.P50 > 2000 || m.Latency.P99 < m.Latency.P50 {
			t.Errorf("%s: the latency is %+v", name, m.Latency)
		}
	}
	if v := r.Video; v.FramesPerSecond < 15 || v.FramesPerSecond > 40 || v.Kbps < 100 {
		t.Errorf("video: %.1f frames per second, %.0f kbit/s", v.FramesPerSecond, v.Kbps)
	}
	// 50 packets a second of each microphone.
	if want := 50 * r.Seconds * float64(receivers*each); float64(r.Audio.Received) < want*0.6 || float64(r.Audio.Received) > want*1.4 {
		t.Errorf("audio: %d packets in %.1f s, want about %.0f", r.Audio.Received, r.Seconds, want)
	}
	if c := r.Content; c.Checked < r.Audio.Received/2 || c.Wrong > 0 || c.Locked > 0 {
		t.Errorf("content: %+v", c)
	}
	if r.Join.Count != uint64(r.Participants) || r.Join.P50 <= 0 {
		t.Errorf("join: %+v", r.Join)
	}
	if cfg.Members == 0 && r.Keyframe.Count != uint64(receivers) {
		t.Errorf("first keyframes: %+v, want %d", r.Keyframe, receivers)
	}
	if !strings.Contains(r.SRTP, "GCM") {
		t.Errorf("SRTP uses %q", r.SRTP)
	}
}

// interrupting is an output that interrupts, as Ctrl-C does, once it says something.
type interrupting struct {
	bytes.Buffer
	at        *regexp.Regexp
	interrupt func()
}

func (w *interrupting) Write(b []byte) (int, error) {
	if w.at.Match(b) {
		w.interrupt()
	}
	return w.Buffer.Write(b)
}

// TestLoadCommand runs the subcommand: Ctrl-C ends it with a report, and what can't be run is explained.
func TestLoadCommand(t *testing.T) {
	r := newTestRooms(t, unhurried)
	file := filepath.Join(t.TempDir(), "report.json")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stdout := interrupting{at: regexp.MustCompile(`measuring +[1-9]`), interrupt: cancel} // when some of it is over
	var stderr bytes.Buffer
	code := run(ctx, []string{
		"load", "--url", r.url, "--api-key", roomKey, "--api-secret", roomSecret, "--preset", "a", "--subscribers", "2", "--audio",
		"--warm-up", "500ms", "--duration", "30s", "--join-rate", "100", "--json", file, "--server-pid", "0",
	}, nil, &stdout, &stderr)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{"measuring", "3 of 3", "interrupted", "2 of 2 tracks", "latency"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, stdout.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report load.Report
	if err := json.Unmarshal(text, &report); err != nil || !report.Interrupted || report.Received == 0 || report.Audio.ExpectedTracks != 2 {
		t.Errorf("%v: %s", err, text)
	}

	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--api-key", "nobody", "--api-secret", "nothing", "--preset", "a", "--url", r.url}, "the server refused the token"},
		{[]string{"--api-key", roomKey, "--api-secret", roomSecret, "--preset", "e"}, "expected a, b, c or d"},
		{[]string{"--api-key", roomKey, "--api-secret", roomSecret}, "nobody sends"},
		{[]string{"--preset", "a", "--data", t.TempDir()}, "--api-key"},
		{[]string{"--nothing"}, "anytime load --help"},
		{[]string{"a"}, "unexpected argument"},
	} {
		stderr.Reset()
		if code := run(t.Context(), append([]string{"load"}, test.args...), nil, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("load %v: exit code %d, %s; want %q", test.args, code, &stderr, test.want)
		}
	}
	stdout.Reset()
	if code := run(t.Context(), []string{"load", "--help"}, nil, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "warm-up") {
		t.Errorf("help: exit code %d, %s", code, stdout.String())
	}
}

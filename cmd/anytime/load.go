package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"anytime/load"
)

// presets are the loads of which we compare servers: a and d one camera, b five microphones, c a conference.
var presets = map[string]load.Config{
	"a": {Rooms: 1, Publishers: 1, Subscribers: 20, Video: true},
	"b": {Rooms: 1, Publishers: 5, Subscribers: 20, Audio: true},
	"c": {Rooms: 1, Members: 6, Video: true, Audio: true},
	"d": {Rooms: 1, Publishers: 1, Subscribers: 150, Video: true},
}

// loadConfig is what the command line says.
type loadConfig struct {
	load.Config
	preset, json, data string
}

func (c *loadConfig) flags() *flag.FlagSet {
	f := flag.NewFlagSet("anytime load", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.URL, "url", "ws://127.0.0.1:7880", "`URL` of the server")
	f.StringVar(&c.Key, "api-key", "", "API `key` that signs the tokens; empty: that of --data")
	f.StringVar(&c.Secret, "api-secret", "", "its `secret`; empty: that of --data")
	f.StringVar(&c.data, "data", "./data", "`folder` of the keys of a server of ours on this machine")
	f.StringVar(&c.preset, "preset", "", "a: 1 camera to 20; b: 5 microphones to 20; c: 6 people with both; d: 1 camera to 150. Other flags change it")
	f.StringVar(&c.Room, "room", "load", "beginning of the rooms' `names`")
	f.IntVar(&c.Rooms, "rooms", 1, "how `many` rooms; the next three are for each of them")
	f.IntVar(&c.Publishers, "publishers", 0, "how `many` only send")
	f.IntVar(&c.Subscribers, "subscribers", 0, "how `many` only receive")
	f.IntVar(&c.Members, "members", 0, "how `many` do both")
	f.BoolVar(&c.Video, "video", false, "send video: 720p at 30 frames per second and 1.7 Mbit/s, with two smaller simulcast layers of 610 kbit/s")
	f.BoolVar(&c.Audio, "audio", false, "send audio: 20 ms packets, 32 kbit/s")
	f.StringVar(&c.Codec, "codec", load.VP8, "codec of video: vp8 or h264")
	f.BoolVar(&c.Single, "single", false, "one peer connection per participant, not two")
	f.BoolVar(&c.Relay, "relay", false, "send and receive through the server's TURN relay, over UDP")
	f.BoolVar(&c.Burst, "burst", false, "send a frame's packets at once, not over a third of the time to the next")
	f.DurationVar(&c.WarmUp, "warm-up", 10*time.Second, "how long to wait after the last join before measuring")
	f.DurationVar(&c.Duration, "duration", 30*time.Second, "how long to measure")
	f.Float64Var(&c.JoinRate, "join-rate", 20, "how `many` join per second")
	f.IntVar(&c.ServerPID, "server-pid", 0, "process `id` of the server on this machine, whose CPU time is measured; 0: none")
	f.StringVar(&c.json, "json", "", "`file` for the report as JSON; -: the standard output, in place of the text")
	return f
}

// parseLoad reads the command line: first the preset, then what else is set.
func parseLoad(args []string) (loadConfig, error) {
	var c loadConfig
	f := c.flags()
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fmt.Errorf("%w (anytime load --help lists the settings)", err)
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: settings begin with --", f.Arg(0))
	}
	if c.preset != "" {
		p, ok := presets[c.preset]
		if !ok {
			return c, fmt.Errorf("preset: expected a, b, c or d, got %q", c.preset)
		}
		given := map[string]string{}
		f.Visit(func(x *flag.Flag) { given[x.Name] = x.Value.String() })
		c.Rooms, c.Publishers, c.Subscribers, c.Members, c.Video, c.Audio = p.Rooms, p.Publishers, p.Subscribers, p.Members, p.Video, p.Audio
		for name, value := range given {
			if err := f.Set(name, value); err != nil {
				return c, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if c.Key == "" && c.Secret == "" {
		folder := config{data: c.data}
		if _, err := os.Stat(folder.path(keysFile)); err != nil {
			return c, fmt.Errorf("set --api-key and --api-secret, or --data: %s has no keys", shown(c.data))
		}
		k, err := loadKeys(folder.path(keysFile))
		if err != nil {
			return c, err
		}
		c.Key, c.Secret = k.APIKey, k.APISecret
	}
	return c, nil
}

// runLoad is the load generator.
func runLoad(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseLoad(args)
	if errors.Is(err, flag.ErrHelp) {
		f := c.flags()
		f.SetOutput(stdout)
		f.PrintDefaults()
	}
	if err != nil {
		return err
	}
	live := stderr
	if c.json != "-" {
		live = stdout
	}
	screen := newLoadScreen(live)
	report, err := load.Run(ctx, c.Config, screen.show)
	screen.clear()
	if err != nil {
		return err
	}
	if c.json != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if c.json == "-" {
			_, err = stdout.Write(text)
		} else {
			err = os.WriteFile(c.json, text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if c.json != "-" {
		if err := report.Write(stdout); err != nil {
			return err
		}
	}
	return report.Err()
}

// loadScreen shows the progress: a bar and a table on a terminal, a line every few seconds elsewhere.
type loadScreen struct {
	w        io.Writer
	terminal bool
	lines    int // on the terminal
	shown    int // seconds since the last line elsewhere
	phase    load.Phase
}

func newLoadScreen(w io.Writer) *loadScreen {
	s := &loadScreen{w: w}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			s.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return s
}

const (
	// plainEvery is how many seconds lie between lines.
	plainEvery = 5
	barWidth   = 30
)

func (s *loadScreen) show(p load.Progress) {
	if !s.terminal {
		if s.shown++; s.shown < plainEvery && p.Phase == s.phase {
			return
		}
		s.shown, s.phase = 0, p.Phase
		fmt.Fprintf(s.w, "%s %3.0f %%, %d of %d joined", p.Phase, 100*p.Share, p.Joined, p.Participants)
		if p.Failed > 0 {
			fmt.Fprintf(s.w, ", %d failed", p.Failed)
		}
		if l := p.Live; l != nil && l.Received > 0 {
			fmt.Fprintf(s.w, ", %.0f packets/s, loss %.3f %%, latency p99 %.1f ms", l.PacketsPerSecond, loss(l), max(l.Video.Latency.P99, l.Audio.Latency.P99))
			if l.Server != nil {
				fmt.Fprintf(s.w, ", server %.2f cores", l.Server.UserCores+l.Server.SystemCores)
			}
		}
		fmt.Fprintln(s.w)
		return
	}
	var b bytes.Buffer
	full := int(p.Share * barWidth)
	fmt.Fprintf(&b, "[%s%s] %s %.0f %%\n", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), p.Phase, 100*p.Share)
	fmt.Fprintf(&b, "joined       %d of %d, %d failed\n", p.Joined, p.Participants, p.Failed)
	if l := p.Live; l != nil {
		fmt.Fprintf(&b, "received     %.0f packets/s\n", l.PacketsPerSecond)
		for _, m := range []struct {
			name string
			load.Media
		}{{"video", l.Video}, {"audio", l.Audio}} {
			if m.ExpectedTracks > 0 {
				fmt.Fprintf(&b, "%-12s %d of %d tracks, %.0f kbit/s each, loss %.3f %%, latency %.2f / %.2f ms, %d freezes\n",
					m.name, m.Tracks, m.ExpectedTracks, m.Kbps, m.LossPercent, m.Latency.P50, m.Latency.P99, m.Freezes)
			}
		}
		if l.Server != nil {
			fmt.Fprintf(&b, "server       %.2f cores, %.2f µs per packet, %.0f MB\n", l.Server.UserCores+l.Server.SystemCores, l.Server.PerPacket, float64(l.Server.Memory)/1e6)
		}
		fmt.Fprintf(&b, "generator    %.2f cores\n", l.Generator.UserCores+l.Generator.SystemCores)
	}
	s.clear()
	s.lines = bytes.Count(b.Bytes(), []byte("\n"))
	_, _ = s.w.Write(b.Bytes())
}

// clear takes the table from the terminal (ECMA-48: cursor up, erase to the end).
func (s *loadScreen) clear() {
	if s.lines > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.lines)
		s.lines = 0
	}
}

// loss of all media, in percent.
func loss(r *load.Report) float64 {
	expected := r.Video.Expected + r.Audio.Expected
	if expected == 0 {
		return 0
	}
	return 100 * float64(r.Video.Lost+r.Audio.Lost) / float64(expected)
}

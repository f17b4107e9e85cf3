package load

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Usage is what a process uses.
type Usage struct {
	User, System time.Duration
	Memory       uint64 // resident, in bytes
	Threads      int
}

// totals are all sums at one moment.
type totals struct {
	at                         time.Duration
	sent, late                 uint64
	packets, dropped           uint64
	video, audio               Counts
	videoTracks, audioTracks   int
	content                    Content
	videoLatency, audioLatency histogram
	joins, keyframes           histogram
	wrong                      error
	server, own                Usage
	serverError                error
}

// sum adds up all participants.
func (g *generator) sum() totals {
	g.mu.Lock()
	list := g.participants
	g.mu.Unlock()
	t := totals{at: g.now(), sent: g.sent.Load(), late: g.late.Load(), own: ownUsage()}
	if g.cfg.ServerPID > 0 {
		t.server, t.serverError = usageOf(g.cfg.ServerPID)
	}
	for _, p := range list {
		p.mu.Lock()
		lines := p.lines
		p.mu.Unlock()
		if took := time.Duration(p.connected.Load()); took > 0 {
			t.joins.add(took)
		}
		for _, l := range lines {
			t.dropped += uint64(l.dropped.Load())
			// Who sends may have been there before the others.
			if keyframe := l.take.sum(&t, t.at); keyframe > 0 && !p.publishes {
				t.keyframes.add(keyframe - p.started)
			}
		}
	}
	return t
}

// Report is what was measured.
type Report struct {
	// Interrupted: the run was ended before its time.
	Interrupted  bool `json:"interrupted"`
	Participants int  `json:"participants"`
	Joined       int  `json:"joined"`
	// Failures are the first reasons why joins failed, FailedJoins how many did.
	FailedJoins int      `json:"failed_joins"`
	Failures    []string `json:"failures,omitempty"`
	// Seconds that were measured.
	Seconds float64 `json:"seconds"`
	// Sent are the publishers' packets, Received the RTP packets that the subscribers' sockets got, of all kinds:
	// retransmissions, padding and duplicates included.
	Sent             uint64  `json:"sent"`
	Received         uint64  `json:"received"`
	PacketsPerSecond float64 `json:"packets_per_second"`
	Video            Media   `json:"video"`
	Audio            Media   `json:"audio"`
	// Dropped by the generator's own sockets because it was too slow: no fault of the server's.
	Dropped uint64 `json:"dropped_by_generator"`
	// Late are the frames that left a publisher more than 50 ms late, for the same reason: freezes and latency then say little
	// of the server.
	Late    uint64  `json:"late_by_generator"`
	Content Content `json:"content"`
	// Wrong tells of the first wrong content.
	Wrong string `json:"wrong,omitempty"`
	// Join is the time from dialling to the connected transport, Keyframe to the first complete keyframe of a subscriber; of
	// the whole run.
	Join     Spread `json:"join"`
	Keyframe Spread `json:"keyframe"`
	// Server is nil when it wasn't watched.
	Server    *Process `json:"server,omitempty"`
	Generator Process  `json:"generator"`
	// SRTP is the profile that protects what the server sends.
	SRTP string `json:"srtp,omitempty"`
}

// Media is what came of one kind.
type Media struct {
	// Tracks that came of those that should.
	Tracks         int `json:"tracks"`
	ExpectedTracks int `json:"expected_tracks"`
	Counts
	Lost uint64 `json:"lost"` // Expected, but neither came nor were repaired
	// LossPercent is of the packets that never came, WirePercent of those that had to be sent again too.
	LossPercent float64 `json:"loss_percent"`
	WirePercent float64 `json:"wire_loss_percent"`
	// Kbps is what one subscriber got of this kind on average, RTP without UDP and IP.
	Kbps float64 `json:"kbps_per_subscriber"`
	// FramesPerSecond of one track on average; video only.
	FramesPerSecond float64 `json:"frames_per_second"`
	// Latency from the publisher's socket to the subscriber's.
	Latency Spread `json:"latency"`
}

// Spread are percentiles, in milliseconds.
type Spread struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
}

func spread(h *histogram) Spread {
	ms := func(p float64) float64 { return float64(h.percentile(p).Microseconds()) / 1000 }
	return Spread{h.total, ms(0.5), ms(0.95), ms(0.99)}
}

// Process is what a process used while it was measured. Cores are seconds of CPU time per second.
type Process struct {
	UserCores   float64 `json:"user_cores"`
	SystemCores float64 `json:"system_cores"`
	// PerPacket is CPU time per packet that the subscribers received, in µs.
	PerPacket float64 `json:"us_per_packet"`
	// Memory in bytes and Threads at the end; 0 of the generator.
	Memory  uint64 `json:"memory_bytes,omitempty"`
	Threads int    `json:"threads,omitempty"`
}

func process(end, began Usage, seconds float64, packets uint64) Process {
	user, system := (end.User - began.User).Seconds(), (end.System - began.System).Seconds()
	p := Process{Memory: end.Memory, Threads: end.Threads}
	if seconds > 0 {
		p.UserCores, p.SystemCores = user/seconds, system/seconds
	}
	if packets > 0 {
		p.PerPacket = (user + system) * 1e6 / float64(packets)
	}
	return p
}

const maxFailures = 5

// report is what came from began to end.
func (g *generator) report(end, began totals) *Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	seconds := (end.at - began.at).Seconds()
	r := &Report{
		Participants: g.all(), Joined: g.joined, FailedJoins: len(g.failures), Seconds: seconds,
		Sent: end.sent - began.sent, Received: end.packets - began.packets, Dropped: end.dropped - began.dropped, Late: end.late - began.late,
		Join: spread(&end.joins), Keyframe: spread(&end.keyframes),
	}
	for _, err := range g.failures[:min(len(g.failures), maxFailures)] {
		r.Failures = append(r.Failures, err.Error())
	}
	if seconds > 0 {
		r.PacketsPerSecond = float64(r.Received) / seconds
	}
	c := &g.cfg
	receivers := c.Rooms * (c.Subscribers + c.Members)
	expected := c.Rooms * c.expected() / c.kinds()
	r.Video = media(end.video.less(began.video), end.videoTracks, expected*b2i(c.Video), receivers, seconds)
	r.Audio = media(end.audio.less(began.audio), end.audioTracks, expected*b2i(c.Audio), receivers, seconds)
	video, audio := end.videoLatency.less(&began.videoLatency), end.audioLatency.less(&began.audioLatency)
	r.Video.Latency, r.Audio.Latency = spread(&video), spread(&audio)
	r.Content = Content{
		end.content.Checked - began.content.Checked, end.content.Wrong - began.content.Wrong,
		end.content.Foreign - began.content.Foreign, end.content.Locked - began.content.Locked,
	}
	if end.wrong != nil {
		r.Wrong = end.wrong.Error()
	}
	r.Generator = process(end.own, began.own, seconds, r.Received)
	if c.ServerPID > 0 && end.serverError == nil {
		p := process(end.server, began.server, seconds, r.Received)
		r.Server = &p
	}
	r.SRTP, _ = g.profile.Load().(string)
	return r
}

func media(c Counts, tracks, expected, receivers int, seconds float64) Media {
	m := Media{Counts: c, Tracks: tracks, ExpectedTracks: expected, Lost: c.Lost()}
	if c.Expected > 0 {
		m.LossPercent = 100 * float64(m.Lost) / float64(c.Expected)
		m.WirePercent = 100 * float64(m.Lost+c.Repaired) / float64(c.Expected)
	}
	if seconds > 0 {
		m.Kbps = float64(c.Bytes) * 8 / 1000 / seconds / float64(receivers)
		if tracks > 0 {
			m.FramesPerSecond = float64(c.Frames) / seconds / float64(tracks)
		}
	}
	return m
}

// Err is nil when the run is good for something: everybody joined and something came, as it was sent.
func (r *Report) Err() error {
	switch {
	case r.FailedJoins > 0:
		return fmt.Errorf("%d of %d could not join: %s", r.FailedJoins, r.Participants, r.Failures[0])
	case r.Received == 0:
		return fmt.Errorf("nothing was received")
	case r.Content.Wrong > 0:
		return fmt.Errorf("%d packets had a content that nobody sent: %s", r.Content.Wrong, r.Wrong)
	}
	return nil
}

// Write writes the report as text.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, values ...any) {
		fmt.Fprintf(&b, "%-12s "+format+"\n", append([]any{name}, values...)...)
	}
	if r.Interrupted {
		line("interrupted", "the figures are of what was measured before")
	}
	line("joined", "%d of %d; connected after %.0f ms (p50), %.0f ms (p95)", r.Joined, r.Participants, r.Join.P50, r.Join.P95)
	for _, f := range r.Failures {
		line("", "%s", f)
	}
	if r.Keyframe.Count > 0 {
		line("", "first complete keyframe after %.0f ms (p50), %.0f ms (p95)", r.Keyframe.P50, r.Keyframe.P95)
	}
	line("measured", "%.1f s, %d packets received, %.0f per second, %d sent by publishers", r.Seconds, r.Received, r.PacketsPerSecond, r.Sent)
	r.Video.write(line, "video")
	r.Audio.write(line, "audio")
	line("content", "%d packets checked, %d wrong, %d not ours, %d not decrypted; %s", r.Content.Checked, r.Content.Wrong, r.Content.Foreign, r.Content.Locked, r.SRTP)
	if r.Dropped > 0 {
		line("dropped", "%d packets by this machine's own sockets: the generator is too slow, so the loss says nothing of the server", r.Dropped)
	}
	if r.Late > 0 {
		line("late", "%d frames left their publishers more than 50 ms late: this machine is too busy, so freezes and latency say little of the server", r.Late)
	}
	if s := r.Server; s != nil {
		line("server", "%.2f cores (%.2f user, %.2f system), %.2f µs per packet received, %.0f MB, %d threads", s.UserCores+s.SystemCores, s.UserCores, s.SystemCores, s.PerPacket, float64(s.Memory)/1e6, s.Threads)
	}
	line("generator", "%.2f cores (%.2f user, %.2f system)", r.Generator.UserCores+r.Generator.SystemCores, r.Generator.UserCores, r.Generator.SystemCores)
	_, err := io.WriteString(w, b.String())
	return err
}

func (m *Media) write(line func(string, string, ...any), name string) {
	if m.ExpectedTracks == 0 {
		return
	}
	line(name, "%d of %d tracks, %.0f kbit/s per receiver", m.Tracks, m.ExpectedTracks, m.Kbps)
	line("", "loss %.3f %% (%d of %d), %.3f %% before repair; %d twice, %d out of order", m.LossPercent, m.Lost, m.Expected, m.WirePercent, m.Duplicates, m.Reordered)
	line("", "latency %.2f ms (p50), %.2f ms (p95), %.2f ms (p99)", m.Latency.P50, m.Latency.P95, m.Latency.P99)
	if m.Frames > 0 || name == "video" {
		line("", "%.1f frames per second, %d freezes, %.1f s in all", m.FramesPerSecond, m.Freezes, float64(m.FrozenMS)/1000)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"

	"anytime/sfu"
	"anytime/sfu/sfutest"
	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These tests join signaling and the SFU as serve does, without the rest, and drive them with the
// Pion client over real sockets.

const (
	roomKey    = "APIroom"
	roomSecret = "secret of the room tests, long enough"
)

// testRooms is signaling over the SFU.
type testRooms struct {
	t    testing.TB
	url  string
	sig  *signaling.Server // nil in a process of its own
	sfu  *sfu.Server
	room string // that join joins
	log  *testLog
	// cpu is the CPU time so far of a server in a process of its own, nil otherwise.
	cpu func() time.Duration
}

// in returns r for a test that has a room of its own.
func (r *testRooms) in(t testing.TB, room string) *testRooms {
	if r.log != nil {
		r.log.tell(t, room)
	}
	return &testRooms{t: t, url: r.url, sig: r.sig, sfu: r.sfu, room: room, log: r.log}
}

func newTestRooms(t testing.TB, change func(*signaling.Config)) *testRooms {
	t.Helper()
	before := runtime.NumGoroutine()
	r := &testRooms{t: t, room: "room", log: &testLog{}}
	r.log.tell(t, "")
	log := slog.New(slog.NewTextHandler(r.log, nil))
	media, err := sfu.New(sfu.Config{
		UDPAddr: "127.0.0.1:0", TCPAddr: "127.0.0.1:0", Loopback: true, Log: log, UDPPath: sfutest.UDPPath(t),
		MinBitrate: 10_000_000, // what makes packets late here is a busy machine, not a narrow path
		Speakers:   func(room string, list []sfu.Speaker) { r.sig.SpeakersChanged(room, speaking(list)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.sfu = media
	cfg := signaling.Config{
		Media: mediaServer{media}, Log: log,
		Keys: func(k string) (string, bool) { return roomSecret, k == roomKey },
	}
	if change != nil {
		change(&cfg)
	}
	if r.sig, err = signaling.New(cfg); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r.sig.Handler())
	r.url = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.sig.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		server.Close()
		if err := media.Close(); err != nil {
			t.Errorf("close the SFU: %v", err)
		}
		if _, ok := t.(*testing.T); !ok {
			return // benchmarks and fuzzing have goroutines of their own
		}
		deadline := time.NewTimer(5 * time.Second)
		defer deadline.Stop()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			select {
			case <-deadline.C:
				stacks := make([]byte, 1<<20)
				t.Errorf("%d goroutines are left, %d were there\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
				return
			case <-tick.C:
			}
		}
	})
	return r
}

// testLog keeps what servers log, for a test that fails. A server with many rooms says thousands of lines,
// in which the failure itself would be lost: each test is told the last ones of its own room.
type testLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 10_000 {
		l.lines = slices.Clone(l.lines[5_000:])
	}
	l.lines = append(l.lines, strings.TrimSpace(string(b)))
	return len(b), nil
}

// tell logs the last lines that name a room, or of all rooms, once t has failed.
func (l *testLog) tell(t testing.TB, room string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		const most = 60
		l.mu.Lock()
		defer l.mu.Unlock()
		var told []string
		name := "room=" + room + " "
		if strings.Contains(room, " ") {
			name = fmt.Sprintf("room=%q ", room)
		}
		for _, line := range l.lines {
			if room == "" || strings.Contains(line, name) {
				told = append(told, line)
			}
		}
		t.Logf("the last of %d log lines:\n%s", len(told), strings.Join(told[max(0, len(told)-most):], "\n"))
	})
}

func (r *testRooms) join(ctx context.Context, identity string, change func(*client.Config, *wire.Claims)) *client.Client {
	r.t.Helper()
	claims := wire.Claims{Identity: identity, Name: identity, Video: wire.Grant{RoomJoin: true, Room: r.room}}
	cfg := client.Config{URL: r.url}
	if change != nil {
		change(&cfg, &claims)
	}
	var err error
	if cfg.Token, err = wire.Mint(roomKey, roomSecret, claims, 2*time.Minute); err != nil {
		r.t.Fatal(err)
	}
	c, err := client.Join(ctx, cfg)
	if err != nil {
		r.t.Fatalf("join as %s: %v", identity, err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// source writes numbered frames until it is stopped.
type source struct {
	*client.Publication
	tag byte
}

// publishSource publishes audio or VP8 whose frames carry a tag and a number.
func publishSource(ctx context.Context, t testing.TB, c *client.Client, tag byte, o client.PublishOptions) *source {
	t.Helper()
	p, err := c.Publish(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	s := &source{Publication: p, tag: tag}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	interval := 20 * time.Millisecond
	video := o.Codec.MimeType == client.VP8.MimeType
	if video {
		interval = 33 * time.Millisecond
	}
	wg.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for n := uint32(0); ; n++ {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			for layer := range max(len(o.Layers), 1) {
				frame := opusFrame(s.tag, n)
				if video {
					frame = vp8Frame(s.tag+byte(layer), n)
				}
				if s.WriteSample(layer, frame, interval) != nil {
					return
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
	return s
}

func opusFrame(tag byte, n uint32) []byte {
	return append([]byte{0xfc, tag}, binary.BigEndian.AppendUint32(nil, n)...)
}

// vp8Frame is a frame header (RFC 6386 §9.1), a keyframe's every 15th time, and the mark.
func vp8Frame(tag byte, n uint32) []byte {
	frame := []byte{0x11, 0, 0} // an interframe
	if n%15 == 0 {
		frame = []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00} // 320 × 180
	}
	frame = append(frame, bytes.Repeat([]byte{0xaa}, 1500)...) // two packets
	return append(frame, append([]byte{tag}, binary.BigEndian.AppendUint32(nil, n)...)...)
}

// hears reads frames of an audio track and checks that they are all of one source and in order. Once there may be a frame of
// silence among them: what waits to be read may reach back to a moment in which the source sent although it was muted.
func hears(ctx context.Context, t testing.TB, track *client.Track, tag byte, frames int) {
	t.Helper()
	last, silent := int64(-1), false
	for range frames {
		p, err := track.ReadRTP(ctx)
		for err == nil && (len(p.Payload) == 0 || len(p.Payload) == 1 && !silent) { // padding; silence
			silent = silent || len(p.Payload) == 1
			p, err = track.ReadRTP(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Payload) != 6 || p.Payload[1] != tag {
			t.Fatalf("heard % x, want the tag %x", p.Payload, tag)
		}
		if n := int64(binary.BigEndian.Uint32(p.Payload[2:])); n <= last {
			t.Fatalf("frame %d after %d", n, last)
		} else {
			last = n
		}
	}
}

// sees reads packets of a VP8 track until it has seen that many whole frames of a tag, the first of
// which follows a keyframe, and until every gap in the sequence numbers is filled: what a busy
// machine loses is sent again.
func sees(ctx context.Context, t testing.TB, track *client.Track, tag byte, frames int) {
	t.Helper()
	seesFrames(ctx, t, track, tag, frames, true)
}

// seesFrames is sees that may forgive gaps: what was on its way while a path changed may be too old
// to be sent again.
func seesFrames(ctx context.Context, t testing.TB, track *client.Track, tag byte, frames int, whole bool) {
	t.Helper()
	key, seen := false, 0
	var highest uint16
	missing := map[uint16]bool{}
	for first := true; seen < frames || whole && len(missing) > 0; first = false {
		p, err := track.ReadRTP(ctx)
		if err != nil {
			t.Fatalf("after %d frames of tag %x, missing %v: %v", seen, tag, missing, err)
		}
		switch ahead := p.SequenceNumber - highest; {
		case first:
			highest = p.SequenceNumber
		case ahead == 0 || ahead >= 1<<15:
			delete(missing, p.SequenceNumber)
		default:
			for n := highest + 1; n != p.SequenceNumber; n++ {
				missing[n] = true
			}
			highest = p.SequenceNumber
		}
		if len(p.Payload) == 0 {
			continue // padding
		}
		var d codecs.VP8Packet
		body, err := d.Unmarshal(p.Payload)
		if err != nil {
			t.Fatal(err)
		}
		key = key || d.S == 1 && d.PID == 0 && body[0]&1 == 0
		if p.Marker && key && body[len(body)-5] == tag {
			seen++
		}
	}
}

// byID takes the next tracks until it has those with the ids.
func byID(ctx context.Context, t testing.TB, c *client.Client, ids ...string) map[string]*client.Track {
	t.Helper()
	tracks := map[string]*client.Track{}
	for range ids {
		track, err := c.NextTrack(ctx)
		if err != nil {
			t.Fatalf("%s has %v of %v: %v", c.Identity(), slices.Collect(maps.Keys(tracks)), ids, err)
		}
		tracks[track.ID] = track
	}
	for _, id := range ids {
		if tracks[id] == nil {
			t.Fatalf("%s has %v, want %v", c.Identity(), tracks, ids)
		}
	}
	return tracks
}

func wait(ctx context.Context, t testing.TB, c *client.Client, what string, condition func(client.State) bool) {
	t.Helper()
	if err := c.Wait(ctx, condition); err != nil {
		t.Fatalf("%s waits for %s: %v", c.Identity(), what, err)
	}
}

func roomContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRoomCarriesMediaBothWays(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", nil)
	annAudio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	annVideo := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	bobAudio := publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})

	atBob := byID(ctx, t, bob, annAudio.ID(), annVideo.ID())
	atAnn := byID(ctx, t, ann, bobAudio.ID())
	if track := atBob[annAudio.ID()]; track.Participant != ann.ID() || track.Stream != "camera" {
		t.Errorf("the stream says participant %s, stream %s", track.Participant, track.Stream)
	}
	hears(ctx, t, atBob[annAudio.ID()], 'a', 50)
	sees(ctx, t, atBob[annVideo.ID()], 'A', 20)
	hears(ctx, t, atAnn[bobAudio.ID()], 'b', 50)
	wait(ctx, t, ann, "the first subscription to be told", func(s client.State) bool { return s.Subscribed[annVideo.ID()] })

	// One who comes late sees a whole picture soon. How soon is measured where no other test can
	// get in the way: in sfutest by the source's own frames, and in the browsers.
	eve := r.join(ctx, "eve", nil)
	if p := eve.State().Participants; len(p) != 2 || len(p["ann"].Tracks) != 2 || p["bob"].Tracks[0].MimeType != "audio/opus" {
		t.Errorf("eve was told of %v", p)
	}
	atEve := byID(ctx, t, eve, annAudio.ID(), annVideo.ID(), bobAudio.ID())
	sees(ctx, t, atEve[annVideo.ID()], 'A', 1)

	// Muting is seen; the track stays.
	if err := annAudio.SetMuted(true); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, bob, "ann's mute", func(s client.State) bool {
		for _, track := range s.Participants["ann"].Tracks {
			if track.Sid == annAudio.ID() {
				return track.Muted
			}
		}
		return false
	})

	// Unpublishing ends it for the others, and a new track may follow.
	if err := annVideo.Unpublish(ctx); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, bob, "the end of the video", func(s client.State) bool { return len(s.Participants["ann"].Tracks) == 1 })
	screen := publishSource(ctx, t, ann, 'S', client.PublishOptions{Codec: client.VP8, Source: wire.SourceScreenShare})
	track, err := bob.NextTrack(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if track.Participant != ann.ID() {
		t.Errorf("the new track is of %s", track.Participant)
	}
	sees(ctx, t, track, 'S', 5)
	_ = screen

	ann.Close()
	wait(ctx, t, bob, "ann's leave", func(s client.State) bool { return s.Participants["ann"] == nil })
	if infos := r.sig.Participants("room"); len(infos) != 2 {
		t.Errorf("in the room: %v", infos)
	}
}

func TestRoomResumes(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	var mu sync.Mutex
	var first string
	bob := r.join(ctx, "bob", func(c *client.Config, _ *wire.Claims) {
		c.OnMessage = func(m *wire.SignalResponse) {
			mu.Lock()
			defer mu.Unlock()
			if m.GetReconnect() != nil {
				first = "reconnect"
			}
		}
	})
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	bobAudio := publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	atBob := byID(ctx, t, bob, audio.ID())[audio.ID()]
	atAnn := byID(ctx, t, ann, bobAudio.ID())[bobAudio.ID()]
	hears(ctx, t, atBob, 'a', 5)

	bob.Cut()
	wait(ctx, t, bob, "the loss", func(s client.State) bool { return s.SignalLost })
	hears(ctx, t, atBob, 'a', 20) // media doesn't mind
	hears(ctx, t, atAnn, 'b', 20)
	// What happens meanwhile is told afterwards.
	video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})

	if err := bob.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if first != "reconnect" {
		t.Error("no reconnect response")
	}
	mu.Unlock()
	wait(ctx, t, bob, "the new track", func(s client.State) bool { return len(s.Participants["ann"].Tracks) == 2 })
	seesFrames(ctx, t, byID(ctx, t, bob, video.ID())[video.ID()], 'A', 10, false)
	hears(ctx, t, atBob, 'a', 20)
	hears(ctx, t, atAnn, 'b', 20)
	if ann.State().Qualities[bob.ID()] == wire.ConnectionLost {
		t.Error("ann was told that bob is lost, who was heard all the time")
	}
	if p := ann.State().Participants["bob"]; p == nil || p.Sid != bob.ID() || p.State != wire.StateActive {
		t.Errorf("ann sees %v", p)
	}

	// A session that is over can't be resumed.
	r.sig.RemoveParticipant("room", "bob", wire.ReasonParticipantRemoved)
	wait(ctx, t, bob, "the removal", func(s client.State) bool { return s.Left != nil })
	var leave *client.LeaveError
	if err := bob.Resume(ctx); !errors.As(err, &leave) || leave.Leave.Action != wire.LeaveReconnect || leave.Leave.Reason != wire.ReasonStateMismatch {
		t.Errorf("resumed after the removal: %v", err)
	}
}

func TestRoomCarriesData(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", nil)
	eve := r.join(ctx, "eve", nil)
	for _, reliable := range []bool{true, false} {
		if err := ann.SendText(ctx, reliable, "to all"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*client.Client{bob, eve} {
			d, err := c.NextData(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d.Reliable != reliable || string(d.Packet.GetUser().GetPayload()) != "to all" ||
				d.Packet.ParticipantIdentity != "ann" || d.Packet.ParticipantSid != ann.ID() {
				t.Errorf("%s received %v", c.Identity(), d)
			}
		}
	}
	if err := ann.SendText(ctx, true, strings.Repeat("x", 60_000), "eve"); err != nil {
		t.Fatal(err)
	}
	if err := ann.SendText(ctx, true, "last"); err != nil {
		t.Fatal(err)
	}
	if d, err := eve.NextData(ctx); err != nil || len(d.Packet.GetUser().GetPayload()) != 60_000 {
		t.Errorf("eve received %d bytes, %v", len(d.Packet.GetUser().GetPayload()), err)
	}
	if d, err := bob.NextData(ctx); err != nil || string(d.Packet.GetUser().GetPayload()) != "last" {
		t.Errorf("bob received %v, %v: not what was for eve", d, err)
	}
}

func TestRoomSubscribesByHand(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	layers := []*wire.VideoLayer{
		{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityMedium, Width: 640, Height: 360},
		{Quality: wire.QualityHigh, Width: 1280, Height: 720},
	}
	video := publishSource(ctx, t, ann, '0', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Layers: layers})
	bob := r.join(ctx, "bob", func(c *client.Config, _ *wire.Claims) { c.ManualSubscribe = true })
	wait(ctx, t, bob, "ann's track", func(s client.State) bool { return len(s.Participants["ann"].GetTracks()) == 1 })
	if err := bob.Subscribe(video.ID()); err != nil {
		t.Fatal(err)
	}
	track := byID(ctx, t, bob, video.ID())[video.ID()]
	// The layer follows what is shown, without a gap.
	for _, step := range []struct {
		width uint32
		tag   byte
	}{{320, '0'}, {1280, '2'}, {640, '1'}, {320, '0'}} {
		err := bob.Configure(&wire.UpdateTrackSettings{TrackSids: []string{video.ID()}, Width: step.width, Height: step.width * 9 / 16})
		if err != nil {
			t.Fatal(err)
		}
		sees(ctx, t, track, step.tag, 10)
	}
	if err := bob.Subscribe("TR_unknown"); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, bob, "the refusal", func(s client.State) bool { return s.Failed["TR_unknown"] == wire.SubscriptionTrackNotFound })
}

func TestRoomSpeakers(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", nil)
	_ = ann
	r.sig.SpeakersChanged(bob.JoinResponse().Room.Sid, []signaling.Speaker{{ParticipantID: ann.ID(), Level: 0.5}})
	wait(ctx, t, bob, "ann to speak", func(s client.State) bool { return s.Speakers[ann.ID()] == 0.5 })
	r.sig.SpeakersChanged(bob.JoinResponse().Room.Sid, nil)
	wait(ctx, t, bob, "ann to stop", func(s client.State) bool { return len(s.Speakers) == 0 })
}

func TestRoomSurvivesBadClients(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", nil)
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	track := byID(ctx, t, bob, audio.ID())[audio.ID()]
	bad := r.join(ctx, "bad", func(c *client.Config, _ *wire.Claims) { c.SignalOnly = true })
	for _, sdp := range []string{
		"", "v=0", "v=0\r\no=- 0 0 IN IP4 0\r\ns=-\r\nt=0 0\r\nm=audio 9 X 0\r\n", "v=0\r\n" + strings.Repeat("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", 2000),
	} {
		err := bad.Send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: sdp, Id: 9}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	wait(ctx, t, bad, "four refusals", func(s client.State) bool { return len(s.Refused) >= 4 })
	_ = bad.Send(&wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "answer", Sdp: "v=0\r\n", Id: 77}}})
	_ = bad.Send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: "{{{", Target: 9}}})
	hears(ctx, t, track, 'a', 20)

	// One who takes the identity of another puts it out.
	again := r.join(ctx, "bad", nil)
	wait(ctx, t, bad, "the eviction", func(s client.State) bool { return s.Left.GetReason() == wire.ReasonDuplicateIdentity })
	wait(ctx, t, ann, "the new one", func(s client.State) bool { return s.Participants["bad"].GetSid() == again.ID() })
}

package main

import (
	"context"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// bothModes runs a test with two peer connections and with one.
func bothModes(t *testing.T, run func(t *testing.T, mode func(*client.Config, *wire.Claims))) {
	t.Run("dual", func(t *testing.T) { run(t, func(*client.Config, *wire.Claims) {}) })
	t.Run("single", func(t *testing.T) {
		run(t, func(c *client.Config, _ *wire.Claims) { c.Single, c.Audio, c.Video = true, 1, 1 })
	})
}

// vp8Only restricts a client to Opus and VP8.
func vp8Only(m *webrtc.MediaEngine) error {
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: client.Opus}, webrtc.RTPCodecTypeAudio); err != nil {
		return err
	}
	return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: client.VP8}, webrtc.RTPCodecTypeVideo)
}

// publishH264 publishes H.264, or another codec of a track, whose frames are all keyframes.
func publishH264(ctx context.Context, t *testing.T, c *client.Client, o client.PublishOptions) *client.Publication {
	t.Helper()
	o.Codec = client.H264
	p, err := c.Publish(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(33 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			// ITU-T H.264 annex B: an IDR slice whose first macroblock is the picture's first.
			if p.WriteSample(0, []byte{0, 0, 0, 1, 0x65, 0x88, 1, 2, 3, 4}, 33*time.Millisecond) != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return p
}

// TestRoomTellsWhichLayersAreWanted: from what a subscriber shows to what the publisher is to send.
func TestRoomTellsWhichLayersAreWanted(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(*client.Config, *wire.Claims)) {
		ctx := roomContext(t)
		r := newTestRooms(t, func(c *signaling.Config) { c.Limits.Room.LayerDelay = 200 * time.Millisecond })
		ann := r.join(ctx, "ann", mode)
		video := publishSource(ctx, t, ann, '0', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Layers: []*wire.VideoLayer{
			{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityMedium, Width: 640, Height: 360},
			{Quality: wire.QualityHigh, Width: 1280, Height: 720},
		}})
		wanted := func(what string, layer int) {
			t.Helper()
			wait(ctx, t, ann, what, func(s client.State) bool {
				got, told := s.Wanted[video.ID()]["vp8"]
				return told && got == layer
			})
		}
		wanted("nobody to want it", -1)
		bob := r.join(ctx, "bob", mode)
		wanted("bob to want everything", 2)
		set := func(s *wire.UpdateTrackSettings) {
			t.Helper()
			s.TrackSids = []string{video.ID()}
			if err := bob.Configure(s); err != nil {
				t.Fatal(err)
			}
		}
		set(&wire.UpdateTrackSettings{Width: 200, Height: 100})
		wanted("a small view", 0)
		set(&wire.UpdateTrackSettings{Width: 640, Height: 360})
		wanted("a larger one", 1)
		set(&wire.UpdateTrackSettings{Disabled: true})
		wanted("none", -1)
		ann.Cut()
		wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
		set(&wire.UpdateTrackSettings{Quality: wire.QualityHigh})
		if err := ann.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		wanted("what changed meanwhile", 2)
		bob.Close()
		wanted("nobody again", -1)
	})
}

// TestRoomGivesTheBackupCodec: one who lacks the first codec has the publisher send the backup.
func TestRoomGivesTheBackupCodec(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(*client.Config, *wire.Claims)) {
		ctx := roomContext(t)
		r := newTestRooms(t, nil)
		ann := r.join(ctx, "ann", mode)
		first := publishH264(ctx, t, ann, client.PublishOptions{Source: wire.SourceCamera, Backups: []webrtc.RTPCodecCapability{client.VP8}})
		bob := r.join(ctx, "bob", mode)
		if track := byID(ctx, t, bob, first.ID())[first.ID()]; track.Codec().MimeType != webrtc.MimeTypeH264 {
			t.Errorf("bob has %s", track.Codec().MimeType)
		}
		eve := r.join(ctx, "eve", func(c *client.Config, claims *wire.Claims) { mode(c, claims); c.Codecs = vp8Only })
		wait(ctx, t, ann, "VP8 to be asked for", func(s client.State) bool { return s.Wanted[first.ID()]["vp8"] == 2 })
		second := publishSource(ctx, t, ann, 'B', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Of: first.ID()})
		if second.ID() != first.ID() || len(second.Info().Codecs) != 2 || second.Info().Codecs[1].Cid == "" {
			t.Errorf("the second codec is of %v", second.Info())
		}
		sees(ctx, t, byID(ctx, t, eve, first.ID())[first.ID()], 'B', 10)
		if failed := eve.State().Failed; len(failed) != 0 {
			t.Errorf("eve's subscriptions failed: %v", failed)
		}
		// The backup alone is withdrawn: the track stays.
		if err := second.Unpublish(ctx); err != nil {
			t.Fatal(err)
		}
		wait(ctx, t, bob, "the end of VP8", func(s client.State) bool {
			tracks := s.Participants["ann"].GetTracks()
			return len(tracks) == 1 && tracks[0].Codecs[1].Cid == ""
		})
	})
}

// TestRoomTellsWhoLacksTheCodec, and subscribes once there is another.
func TestRoomTellsWhoLacksTheCodec(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(*client.Config, *wire.Claims)) {
		ctx := roomContext(t)
		r := newTestRooms(t, nil)
		ann := r.join(ctx, "ann", mode)
		first := publishH264(ctx, t, ann, client.PublishOptions{Source: wire.SourceCamera})
		eve := r.join(ctx, "eve", func(c *client.Config, claims *wire.Claims) { mode(c, claims); c.Codecs = vp8Only })
		wait(ctx, t, eve, "the refusal", func(s client.State) bool { return s.Failed[first.ID()] == wire.SubscriptionCodecUnsupported })
		publishSource(ctx, t, ann, 'B', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Of: first.ID()})
		sees(ctx, t, byID(ctx, t, eve, first.ID())[first.ID()], 'B', 10)
	})
}

// TestRoomMutedTracks are known by padding before anything is sent, and flow when they are unmuted.
func TestRoomMutedTracks(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(*client.Config, *wire.Claims)) {
		ctx := roomContext(t)
		r := newTestRooms(t, nil)
		ann, bob := r.join(ctx, "ann", mode), r.join(ctx, "bob", mode)
		audio, err := ann.Publish(ctx, client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone, Muted: true})
		if err != nil {
			t.Fatal(err)
		}
		video, err := ann.Publish(ctx, client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Muted: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(ctx, t, bob, "muted tracks", func(s client.State) bool {
			tracks := s.Participants["ann"].GetTracks()
			return len(tracks) == 2 && tracks[0].Muted && tracks[1].Muted
		})
		tracks := byID(ctx, t, bob, audio.ID(), video.ID()) // Pion tells of a track by its first packet
		for _, p := range []*client.Publication{audio, video} {
			if err := p.SetMuted(false); err != nil {
				t.Fatal(err)
			}
		}
		wait(ctx, t, bob, "the unmute", func(s client.State) bool {
			tracks := s.Participants["ann"].GetTracks()
			return !tracks[0].Muted && !tracks[1].Muted
		})
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := uint32(0); ; n++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				_ = audio.WriteSample(0, opusFrame('a', n), 20*time.Millisecond)
				_ = video.WriteSample(0, vp8Frame('V', n), 20*time.Millisecond)
			}
		}()
		defer func() { close(stop); <-done }()
		hears(ctx, t, tracks[audio.ID()], 'a', 20)
		seesFrames(ctx, t, tracks[video.ID()], 'V', 20, false)
	})
}

// TestRoomSubscriptionPermissions change in mid-call, both ways: media follows.
func TestRoomSubscriptionPermissions(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(*client.Config, *wire.Claims)) {
		ctx := roomContext(t)
		r := newTestRooms(t, nil)
		ann, bob, eve := r.join(ctx, "ann", mode), r.join(ctx, "bob", mode), r.join(ctx, "eve", mode)
		one := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
		two := publishSource(ctx, t, ann, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceScreenShareAudio})
		atBob, atEve := byID(ctx, t, bob, one.ID(), two.ID()), byID(ctx, t, eve, one.ID(), two.ID())
		hears(ctx, t, atEve[one.ID()], 'a', 5)
		permit := func(p *wire.SubscriptionPermission) {
			t.Helper()
			if err := ann.Send(&wire.SignalRequest{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: p}}); err != nil {
				t.Fatal(err)
			}
		}
		permit(&wire.SubscriptionPermission{TrackPermissions: []*wire.TrackPermission{
			{ParticipantIdentity: "bob", AllTracks: true}, {ParticipantSid: eve.ID(), TrackSids: []string{two.ID()}},
		}})
		wait(ctx, t, eve, "the first track denied", func(s client.State) bool { return s.Denied[one.ID()] && !s.Denied[two.ID()] })
		for { // what was on its way still comes
			if _, err := atEve[one.ID()].ReadRTP(ctx); err != nil {
				break // the track has ended
			}
		}
		hears(ctx, t, atEve[two.ID()], 'b', 20)
		hears(ctx, t, atBob[one.ID()], 'a', 20)
		permit(&wire.SubscriptionPermission{AllParticipants: true})
		wait(ctx, t, eve, "the first track allowed", func(s client.State) bool { return !s.Denied[one.ID()] })
		hears(ctx, t, byID(ctx, t, eve, one.ID())[one.ID()], 'a', 20)
		if denied := bob.State().Denied; len(denied) != 0 {
			t.Errorf("bob was told %v", denied)
		}
	})
}

// TestRoomRepublishes: a track that is published after another has ended takes a section that there is.
func TestRoomRepublishes(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	single := func(c *client.Config, _ *wire.Claims) { c.Single, c.Audio, c.Video = true, 1, 1 }
	ann, bob := r.join(ctx, "ann", single), r.join(ctx, "bob", single)
	for i := range byte(3) {
		video := publishSource(ctx, t, ann, 'A'+i, client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
		track, err := bob.NextTrack(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if track.Participant != ann.ID() {
			t.Errorf("track %d is of %s", i, track.Participant)
		}
		sees(ctx, t, track, 'A'+i, 5)
		if err := video.Unpublish(ctx); err != nil {
			t.Fatal(err)
		}
		wait(ctx, t, bob, "the end of the track", func(s client.State) bool { return len(s.Participants["ann"].GetTracks()) == 0 })
	}
}

// TestRoomTellsConnectionQuality: a connection of which nothing bad is known is called excellent, to
// those who were here and to those who come.
func TestRoomTellsConnectionQuality(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann, bob := r.join(ctx, "ann", nil), r.join(ctx, "bob", nil)
	told := func(c, of *client.Client) {
		t.Helper()
		wait(ctx, t, c, "the quality of "+of.Identity(), func(s client.State) bool { return s.Qualities[of.ID()] == wire.ConnectionExcellent })
	}
	told(ann, bob)
	told(ann, ann)
	told(r.join(ctx, "eve", nil), bob)
}

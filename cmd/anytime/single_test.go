package main

import (
	"context"
	"strings"
	"testing"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These tests are of rooms in which clients with one peer connection are, alone and among those with two.

// single asks for one peer connection, with so many receiving sections at first.
func single(audio, video int) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, _ *wire.Claims) { c.Single, c.Audio, c.Video = true, audio, video }
}

// bundled does so with the first offer in the join request, as livekit-client does.
func bundled(c *client.Config, claims *wire.Claims) {
	single(3, 3)(c, claims)
	c.Bundle = true
}

func TestRoomSinglePeerConnection(t *testing.T) {
	for _, c := range []struct {
		name     string
		ann, bob func(*client.Config, *wire.Claims)
	}{
		{"single and dual", single(0, 0), nil},
		{"dual and single", nil, bundled},
		{"both single", bundled, single(0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann, bob := r.join(ctx, "ann", c.ann), r.join(ctx, "bob", c.bob)
			bothWays(ctx, t, r, ann, bob)
		})
	}
}

// bothWays lets two people talk in every way, and a third come late.
func bothWays(ctx context.Context, t *testing.T, r *testRooms, ann, bob *client.Client) {
	t.Helper()
	annAudio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	annVideo := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	bobAudio := publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	bobVideo := publishSource(ctx, t, bob, 'B', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})

	atBob := byID(ctx, t, bob, annAudio.ID(), annVideo.ID())
	atAnn := byID(ctx, t, ann, bobAudio.ID(), bobVideo.ID())
	if track := atBob[annAudio.ID()]; track.Participant != ann.ID() || track.Stream != "camera" {
		t.Errorf("the stream says participant %s, stream %s", track.Participant, track.Stream)
	}
	hears(ctx, t, atBob[annAudio.ID()], 'a', 50)
	seesNew(ctx, t, atBob[annVideo.ID()], 'A', 20)
	hears(ctx, t, atAnn[bobAudio.ID()], 'b', 50)
	seesNew(ctx, t, atAnn[bobVideo.ID()], 'B', 20)

	// One who comes late, with no section to receive on, gets all.
	eve := r.join(ctx, "eve", single(0, 0))
	atEve := byID(ctx, t, eve, annAudio.ID(), annVideo.ID(), bobAudio.ID(), bobVideo.ID())
	seesNew(ctx, t, atEve[annVideo.ID()], 'A', 5)
	hears(ctx, t, atEve[bobAudio.ID()], 'b', 5)

	// Unpublished and published again: the others use the section again.
	if err := annVideo.Unpublish(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{bob, eve} {
		wait(ctx, t, c, "the end of the video", func(s client.State) bool { return len(s.Participants["ann"].Tracks) == 1 })
	}
	screen := publishSource(ctx, t, ann, 'S', client.PublishOptions{Codec: client.VP8, Source: wire.SourceScreenShare})
	for _, c := range []*client.Client{bob, eve} {
		seesNew(ctx, t, byID(ctx, t, c, screen.ID())[screen.ID()], 'S', 5)
	}
	hears(ctx, t, atBob[annAudio.ID()], 'a', 20)

	// Data of both kinds, to all and to one.
	for _, reliable := range []bool{true, false} {
		for from, to := range map[*client.Client]*client.Client{ann: bob, bob: ann} {
			text := "from " + from.Identity()
			if err := from.SendText(ctx, reliable, text, to.Identity()); err != nil {
				t.Fatal(err)
			}
			if d, err := to.NextData(ctx); err != nil || d.Reliable != reliable || string(d.Packet.GetUser().GetPayload()) != text {
				t.Errorf("%s received %v, %v", to.Identity(), d, err)
			}
		}
	}

	// The connection breaks; what happens meanwhile is told afterwards.
	for _, c := range []*client.Client{ann, bob} {
		c.Cut()
		wait(ctx, t, c, "the loss", func(s client.State) bool { return s.SignalLost })
	}
	more := publishSource(ctx, t, eve, 'e', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	for _, c := range []*client.Client{ann, bob} {
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		hears(ctx, t, byID(ctx, t, c, more.ID())[more.ID()], 'e', 10)
	}
	hears(ctx, t, atAnn[bobAudio.ID()], 'b', 20)
	hears(ctx, t, atBob[annAudio.ID()], 'a', 20)
}

// seesNew is sees of a track that has just begun. On a single peer connection nothing tells the server that its answer was
// applied, and what comes before that is lost to Pion.
func seesNew(ctx context.Context, t *testing.T, track *client.Track, tag byte, frames int) {
	t.Helper()
	seesFrames(ctx, t, track, tag, 1, false)
	sees(ctx, t, track, tag, frames)
}

func TestRoomRefusesBadJoinRequests(t *testing.T) {
	r := newTestRooms(t, nil)
	for name, text := range map[string]string{
		"not base64": "!", "not protobuf": "////", "too long": strings.Repeat("A", wire.MaxJoinRequestBytes+1),
	} {
		_, err := client.Join(roomContext(t), client.Config{URL: r.url, Token: "x", Single: true, Query: map[string][]string{"join_request": {text}}})
		if err == nil || !strings.Contains(err.Error(), "join_request") {
			t.Errorf("%s: %v, want a reason that names join_request", name, err)
		}
	}
}

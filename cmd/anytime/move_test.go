package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// in joins another room than "room".
func in(name string, mode func(*client.Config, *wire.Claims)) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, claims *wire.Claims) {
		if mode != nil {
			mode(c, claims)
		}
		claims.Video.Room = name
	}
}

// api serves the server API of the rooms and returns its URL.
func (r *testRooms) api() string {
	server := httptest.NewServer(r.sig.API())
	r.t.Cleanup(server.Close)
	return server.URL
}

// TestRoomMoves: a participant with audio and video goes to another room and back. Its peer connections stay, media
// flows to and from whoever is there, and nothing to those it left.
func TestRoomMoves(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			api := r.api()
			ann, old, there := r.join(ctx, "ann", mode.change), r.join(ctx, "old", mode.change), r.join(ctx, "there", in("second", mode.change))
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			oldVideo := publishSource(ctx, t, old, 'O', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			newVideo := publishSource(ctx, t, there, 'N', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			atOld := byID(ctx, t, old, audio.ID(), video.ID())
			seesNew(ctx, t, atOld[video.ID()], 'A', 5)
			seesNew(ctx, t, byID(ctx, t, ann, oldVideo.ID())[oldVideo.ID()], 'O', 5)

			r.call(ctx, api, "MoveParticipant", wire.Grant{RoomAdmin: true, Room: "room", DestinationRoom: "second"},
				&wire.MoveParticipantRequest{Room: "room", Identity: "ann", DestinationRoom: "second"}, &wire.MoveParticipantResponse{})
			wait(ctx, t, ann, "the move", func(s client.State) bool {
				return s.Room.GetName() == "second" && s.Participants["there"] != nil && s.Participants["old"] == nil
			})
			wait(ctx, t, old, "her leaving", func(s client.State) bool { return s.Participants["ann"] == nil })
			wait(ctx, t, there, "her coming", func(s client.State) bool {
				p := s.Participants["ann"]
				return p != nil && p.Sid == ann.ID() && len(p.Tracks) == 2
			})
			atThere := byID(ctx, t, there, audio.ID(), video.ID())
			hears(ctx, t, atThere[audio.ID()], 'a', 20)
			seesNew(ctx, t, atThere[video.ID()], 'A', 10)
			seesNew(ctx, t, byID(ctx, t, ann, newVideo.ID())[newVideo.ID()], 'N', 10)
			if !ann.State().Connected[wire.TargetPublisher] {
				t.Error("her peer connection is not connected")
			}
			if err := ann.SendText(ctx, true, "hello"); err != nil {
				t.Fatal(err)
			}
			if d, err := there.NextData(ctx); err != nil || string(d.Packet.GetUser().GetPayload()) != "hello" {
				t.Errorf("there received %v, %v", d, err)
			}
			// The token of the new room resumes her session.
			ann.Cut()
			wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
			if err := ann.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			hears(ctx, t, atThere[audio.ID()], 'a', 20)

			r.call(ctx, api, "MoveParticipant", wire.Grant{RoomAdmin: true, Room: "second", DestinationRoom: "room"},
				&wire.MoveParticipantRequest{Room: "second", Identity: "ann", DestinationRoom: "room"}, &wire.MoveParticipantResponse{})
			wait(ctx, t, there, "her leaving", func(s client.State) bool { return s.Participants["ann"] == nil })
			again := byID(ctx, t, old, audio.ID(), video.ID())
			seesNew(ctx, t, again[video.ID()], 'A', 10)
			wait(ctx, t, ann, "the way back", func(s client.State) bool { return s.Room.GetName() == "room" && s.Participants["old"] != nil })
			seesNew(ctx, t, byID(ctx, t, ann, oldVideo.ID())[oldVideo.ID()], 'O', 10)
		})
	}
}

// TestRoomForwards: a participant is seen in a second room as well, which hears nothing more once it is removed there.
func TestRoomForwards(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			api := r.api()
			ann, same, there := r.join(ctx, "ann", mode.change), r.join(ctx, "same", mode.change), r.join(ctx, "there", in("second", mode.change))
			video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			r.call(ctx, api, "ForwardParticipant", wire.Grant{RoomAdmin: true, Room: "room", DestinationRoom: "second"},
				&wire.ForwardParticipantRequest{Room: "room", Identity: "ann", DestinationRoom: "second"}, &wire.ForwardParticipantResponse{})
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			for _, c := range []*client.Client{same, there} {
				tracks := byID(ctx, t, c, video.ID(), audio.ID())
				seesNew(ctx, t, tracks[video.ID()], 'A', 10)
				hears(ctx, t, tracks[audio.ID()], 'a', 20)
				if got := tracks[video.ID()].Participant; got != ann.ID() {
					t.Errorf("%s sees her video as %s's", c.Identity(), got)
				}
			}
			r.call(ctx, api, "RemoveParticipant", wire.Grant{RoomAdmin: true, Room: "second"},
				&wire.RoomParticipantIdentity{Room: "second", Identity: "ann"}, &wire.RemoveParticipantResponse{})
			wait(ctx, t, there, "her leaving", func(s client.State) bool { return s.Participants["ann"] == nil })
			if p := same.State().Participants["ann"]; p == nil || len(p.Tracks) != 2 {
				t.Errorf("in her own room: %v", p)
			}
		})
	}
}

// TestRoomChangesArePushed: metadata, attributes and permissions that the API changes, in both modes.
func TestRoomChangesArePushed(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			api := r.api()
			ann, bob := r.join(ctx, "ann", mode.change), r.join(ctx, "bob", mode.change)
			video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			seesNew(ctx, t, byID(ctx, t, bob, video.ID())[video.ID()], 'A', 5)
			admin := wire.Grant{RoomAdmin: true, Room: "room"}
			token := ann.Token()
			r.call(ctx, api, "UpdateParticipant", admin, &wire.UpdateParticipantRequest{Room: "room", Identity: "ann",
				Name: "Ann B.", Metadata: "m", Attributes: map[string]string{"k": "v"},
				Permission: &wire.ParticipantPermission{CanSubscribe: true, CanPublishData: true}}, &wire.ParticipantInfo{})
			wait(ctx, t, bob, "the change", func(s client.State) bool {
				p := s.Participants["ann"]
				return p.Name == "Ann B." && p.Metadata == "m" && p.Attributes["k"] == "v" && len(p.Tracks) == 0 && !p.Permission.CanPublish
			})
			wait(ctx, t, ann, "her own", func(s client.State) bool { return !s.Self.GetPermission().GetCanPublish() })
			wait(ctx, t, ann, "a token that says so", func(client.State) bool { return ann.Token() != token })
			claims, err := wire.Verify(ann.Token(), func(string) (string, bool) { return roomSecret, true })
			if err != nil || claims.Video.MayPublish() || claims.Name != "Ann B." {
				t.Errorf("the token says %+v, %v", claims, err)
			}
			r.call(ctx, api, "UpdateRoomMetadata", admin, &wire.UpdateRoomMetadataRequest{Room: "room", Metadata: "open"}, &wire.Room{})
			for _, c := range []*client.Client{ann, bob} {
				wait(ctx, t, c, "the room's metadata", func(s client.State) bool { return s.Room.GetMetadata() == "open" })
			}
		})
	}
}

// call calls a method of the server API.
func (r *testRooms) call(ctx context.Context, api, method string, grant wire.Grant, request, answer proto.Message) {
	r.t.Helper()
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Video: grant}, time.Minute)
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := proto.Marshal(request)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/twirp/livekit.RoomService/"+method, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/protobuf")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %d %s", method, resp.StatusCode, got)
	}
	if err == nil {
		err = proto.Unmarshal(got, answer)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

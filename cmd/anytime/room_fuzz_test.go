package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// FuzzRoomSignaling has a client send whatever the fuzzer makes of its messages into a room in which two others talk, and
// sees that they go on talking.
//
// The input is a flag (bit 0: one peer connection; bit 1: no permissions) and a list of messages: a kind, by its place in
// the schema, the length of its content in two bytes, and the content. Kind 255 is a frame as it is. The ids of the others'
// track and participant stand for TR_AAAAAAAAAAAA and PA_AAAAAAAAAAAA.
func FuzzRoomSignaling(f *testing.F) {
	ctx := f.Context()
	r := newTestRooms(f, func(c *signaling.Config) { c.Limits.JoinsPerSecond, c.Limits.JoinBurst = 1e6, 1e6 })
	ann, bob := r.join(ctx, "ann", nil), r.join(ctx, "bob", bundled)
	audio := publishSource(ctx, f, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	track := byID(ctx, f, bob, audio.ID())[audio.ID()]
	ids := strings.NewReplacer("TR_AAAAAAAAAAAA", audio.ID(), "PA_AAAAAAAAAAAA", ann.ID())

	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 || len(program) > 64<<10 {
			t.Skip()
		}
		misbehave(t, r, program[0], framesOf(program[1:], ids))
		talking(t, ann, bob, track)
	})
}

// misbehave joins, sends the frames and goes, without a word.
func misbehave(t *testing.T, r *testRooms, flags byte, frames [][]byte) {
	t.Helper()
	grant := wire.Grant{RoomJoin: true, Room: "room"}
	may := flags&2 == 0
	grant.CanPublish, grant.CanSubscribe, grant.CanUpdateOwnMetadata = &may, &may, &may
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Identity: "bad", Video: grant}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	target := "ws" + strings.TrimPrefix(r.url, "http") + "/rtc?protocol=16&access_token=" + token
	if flags&1 != 0 {
		target += "&join_request="
	}
	ws, _, err := websocket.DefaultDialer.Dial(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatalf("no join response: %v", err)
	}
	for _, frame := range frames {
		if ws.WriteMessage(websocket.BinaryMessage, frame) != nil {
			return // closed, for a reason
		}
	}
	// A marker tells that all was taken; or the connection is closed.
	frame, err := wire.EncodeRequest(requestMarker())
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.WriteMessage(websocket.BinaryMessage, frame)
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			if strings.Contains(err.Error(), "timeout") {
				t.Fatal("the server has stopped to answer")
			}
			return
		}
		m, err := wire.DecodeResponse(frame)
		if err != nil {
			t.Fatalf("the server sent what is no message: %v", err)
		}
		if m.GetRequestResponse().GetMute().GetSid() == "TR_marker" {
			return
		}
	}
}

// talking fails unless data goes both ways and media arrives.
func talking(t *testing.T, ann, bob *client.Client, track *client.Track) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	text := wire.NewID("still here ")
	for _, way := range [][2]*client.Client{{ann, bob}, {bob, ann}} {
		if err := way[0].SendText(ctx, true, text, way[1].Identity()); err != nil {
			t.Fatal(err)
		}
		d, err := way[1].NextData(ctx)
		if err != nil || string(d.Packet.GetUser().GetPayload()) != text {
			t.Fatalf("%s received %v, %v", way[1].Identity(), d, err)
		}
	}
	before, _ := track.Received()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for now := before; now == before; now, _ = track.Received() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("bob hears ann no more")
		}
	}
}

// framesOf reads a program.
func framesOf(program []byte, ids *strings.Replacer) (frames [][]byte) {
	fields := (&wire.SignalRequest{}).ProtoReflect().Descriptor().Fields()
	for len(program) >= 3 && len(frames) < 200 {
		kind, size := program[0], int(binary.BigEndian.Uint16(program[1:]))
		program = program[3:]
		size = min(size, len(program))
		content := []byte(ids.Replace(string(program[:size])))
		program = program[size:]
		if kind == 255 {
			frames = append(frames, content)
			continue
		}
		// A field with a length: its number and wire type 2, the length, the content.
		field := fields.Get(int(kind) % fields.Len())
		frame := binary.AppendUvarint(nil, uint64(field.Number())<<3|2)
		frame = binary.AppendUvarint(frame, uint64(len(content)))
		frames = append(frames, append(frame, content...))
	}
	return frames
}

// fuzzSeeds are sequences of well-formed messages.
func fuzzSeeds(f *testing.F) (seeds [][]byte) {
	f.Helper()
	pc := offerOf(f, 2)
	track := "TR_AAAAAAAAAAAA"
	messages := []*wire.SignalRequest{
		{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{Cid: "x", Type: wire.TrackVideo, Layers: []*wire.VideoLayer{{Width: 3}}, SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "vp8"}}}}},
		{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: pc, Id: 1}}},
		{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: strings.ReplaceAll(pc, "a=recvonly", "a=sendrecv\r\na=msid:x x"), Id: 2}}},
		{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "answer", Sdp: pc, Id: 1}}},
		{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: `{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0"}`}}},
		{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: track, Muted: true}}},
		{Message: &wire.RequestSubscription{Subscription: &wire.UpdateSubscription{TrackSids: []string{track}, Subscribe: true, ParticipantTracks: []*wire.ParticipantTracks{{ParticipantSid: "PA_AAAAAAAAAAAA", TrackSids: []string{track}}}}}},
		{Message: &wire.RequestTrackSetting{TrackSetting: &wire.UpdateTrackSettings{TrackSids: []string{track}, Width: 1, Fps: 1, Priority: 1}}},
		{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: &wire.SubscriptionPermission{TrackPermissions: []*wire.TrackPermission{{ParticipantIdentity: "ann", AllTracks: true}}}}},
		{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{Name: "n", Metadata: "m", Attributes: map[string]string{"k": "v"}, RequestId: 1}}},
		{Message: &wire.RequestUpdateAudioTrack{UpdateAudioTrack: &wire.UpdateLocalAudioTrack{TrackSid: track}}},
		{Message: &wire.RequestUpdateVideoTrack{UpdateVideoTrack: &wire.UpdateLocalVideoTrack{TrackSid: track, Width: 1}}},
		{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: 1}}},
		{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{PublishTracks: []*wire.TrackPublishedResponse{{Track: &wire.TrackInfo{Sid: track}}}, TrackSidsDisabled: []string{track}}}},
		{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}},
	}
	for _, flags := range []byte{0, 1, 2} {
		all := []byte{flags}
		for _, m := range messages {
			frame, err := wire.EncodeRequest(m)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, 255)
			all = binary.BigEndian.AppendUint16(all, uint16(len(frame)))
			all = append(all, frame...)
		}
		seeds = append(seeds, all)
	}
	for kind := range wire.RequestKinds() {
		seeds = append(seeds, bytes.Join([][]byte{{0, byte(kind), 0, 4, 0x0a, 2, 'T', 'R'}, {byte(kind), 0, 2, 8, 1}}, nil))
	}
	return seeds
}

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// simulcast publishes three layers, which ann chooses from.
func (m *matrix) simulcast() {
	m.t.Helper()
	if m.p.OwnCIDs {
		return // the ESP32 sends one layer
	}
	video := publishSource(m.ctx, m.t, m.bob, '0', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Layers: []*wire.VideoLayer{
		{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityMedium, Width: 640, Height: 360},
		{Quality: wire.QualityHigh, Width: 1280, Height: 720},
	}})
	track := byID(m.ctx, m.t, m.ann, video.ID())[video.ID()]
	for _, step := range []struct {
		quality wire.VideoQuality
		tag     byte
	}{{wire.QualityLow, '0'}, {wire.QualityHigh, '2'}} {
		if err := m.ann.Configure(&wire.UpdateTrackSettings{TrackSids: []string{video.ID()}, Quality: step.quality}); err != nil {
			m.t.Fatal(err)
		}
		seesNew(m.ctx, m.t, track, step.tag, 2)
	}
	if err := video.Unpublish(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	wait(m.ctx, m.t, m.ann, "the end of the simulcast track", func(s client.State) bool { return len(s.Participants["bob"].GetTracks()) == 2 })
}

// packets sends a packet of each kind that the schema has, and a byte stream of 1 MB; both pass through untouched but for
// the sender.
func (m *matrix) packets() {
	m.t.Helper()
	for _, way := range [][2]*client.Client{{m.ann, m.bob}, {m.bob, m.ann}} {
		from, to := way[0], way[1]
		fields := (&wire.DataPacket{}).ProtoReflect().Descriptor().Oneofs().ByName("value").Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			if name := field.Name(); name == "speaker" || name == "metrics" {
				continue // the server's to say; and for those alone who may subscribe to them
			}
			packet := &wire.DataPacket{DestinationIdentities: []string{to.Identity()}}
			value := packet.ProtoReflect().NewField(field)
			value.Message().SetUnknown([]byte{0xca, 0x3e, 3, 1, 2, 3}) // what a newer SDK adds
			packet.ProtoReflect().Set(field, value)
			if err := from.SendData(m.ctx, true, packet); err != nil {
				m.t.Fatal(err)
			}
			d, err := to.NextData(m.ctx)
			if err != nil {
				m.t.Fatalf("%s: %v", field.Name(), err)
			}
			got := d.Packet.ProtoReflect()
			if which := got.WhichOneof(field.ContainingOneof()); which != field || len(got.Get(field).Message().GetUnknown()) != 6 || d.Packet.ParticipantIdentity != from.Identity() {
				m.t.Errorf("%s became %v", field.Name(), d.Packet)
			}
		}
		m.stream(from, to)
	}
}

// stream sends 1 MB in chunks as SDKs cut them. A server that took them for packets of the user would break them.
func (m *matrix) stream(from, to *client.Client) {
	m.t.Helper()
	const chunks, size = 70, 15_000
	field := (&wire.DataPacket{}).ProtoReflect().Descriptor().Fields().ByName("stream_chunk")
	content := field.Message().Fields().ByName("content")
	index := field.Message().Fields().ByName("chunk_index")
	sent := make(chan error, 1)
	go func() {
		var failed error
		for i := range chunks {
			packet := &wire.DataPacket{}
			value := packet.ProtoReflect().NewField(field)
			value.Message().Set(content, protoreflect.ValueOfBytes(bytes.Repeat([]byte{byte(i)}, size)))
			value.Message().Set(index, protoreflect.ValueOfUint64(uint64(i)))
			packet.ProtoReflect().Set(field, value)
			if failed = from.SendData(m.ctx, true, packet); failed != nil {
				break
			}
		}
		sent <- failed
	}()
	for i := range chunks {
		d, err := to.NextData(m.ctx)
		if err != nil {
			m.t.Fatalf("chunk %d: %v", i, err)
		}
		chunk := d.Packet.ProtoReflect().Get(field).Message()
		if b := chunk.Get(content).Bytes(); len(b) != size || b[0] != byte(i) || chunk.Get(index).Uint() != uint64(i) {
			m.t.Fatalf("chunk %d is number %d of %d bytes", i, chunk.Get(index).Uint(), len(b))
		}
	}
	if err := <-sent; err != nil {
		m.t.Error(err)
	}
}

// metadata changes bob's own.
func (m *matrix) metadata() {
	m.t.Helper()
	if err := m.bob.Send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
		Name: "Bob B.", Metadata: "mine", Attributes: map[string]string{"hand": "up"}, RequestId: 3,
	}}}); err != nil {
		m.t.Fatal(err)
	}
	wait(m.ctx, m.t, m.ann, "bob's metadata", func(s client.State) bool {
		p := s.Participants["bob"]
		return p.GetName() == "Bob B." && p.GetMetadata() == "mine" && p.GetAttributes()["hand"] == "up"
	})
}

// permission takes bob's leave to publish away over the server API, and gives it back.
func (m *matrix) permission() {
	m.t.Helper()
	api := httptest.NewServer(m.r.sig.API())
	defer api.Close()
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Video: wire.Grant{RoomAdmin: true, Room: m.r.room}}, time.Minute)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, may := range []bool{false, true} {
		body := fmt.Sprintf(`{"room":%q,"identity":"bob","permission":{"canSubscribe":true,"canPublishData":true,"canUpdateMetadata":true,"canPublish":%v}}`, m.r.room, may)
		request, err := http.NewRequest(http.MethodPost, api.URL+"/twirp/livekit.RoomService/UpdateParticipant", strings.NewReader(body))
		if err != nil {
			m.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		request.Close = true
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			m.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			m.t.Fatalf("UpdateParticipant: %s", resp.Status)
		}
		wait(m.ctx, m.t, m.bob, "the permission", func(s client.State) bool { return s.Self.GetPermission().GetCanPublish() == may })
		wait(m.ctx, m.t, m.ann, "what follows from it", func(s client.State) bool {
			return may || len(s.Participants["bob"].GetTracks()) == 0
		})
	}
}

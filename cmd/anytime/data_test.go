package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// numbered is a reliable packet as SDKs send it, with a sequence of the sender's.
func numbered(sequence uint32, text string, to ...string) *wire.DataPacket {
	return &wire.DataPacket{Sequence: sequence, DestinationIdentities: to,
		Value: &wire.DataUser{User: &wire.UserPacket{Payload: []byte(text)}}}
}

// receiver takes reliable data as SDKs do: what is not above the last sequence of its sender is a
// repetition.
type receiver struct {
	*client.Client
	last  map[string]uint32
	texts []string
}

func (r *receiver) take(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for len(r.texts) < n {
		d, err := r.NextData(ctx)
		if err != nil {
			t.Fatalf("%s has %d of %d packets: %v", r.Identity(), len(r.texts), n, err)
		}
		p := d.Packet
		if p.Sequence != 0 && p.Sequence <= r.last[p.ParticipantSid] {
			continue
		}
		r.last[p.ParticipantSid] = p.Sequence
		r.texts = append(r.texts, string(p.GetUser().GetPayload()))
	}
}

func (r *receiver) inOrder(t *testing.T) {
	t.Helper()
	for i, text := range r.texts {
		if text != fmt.Sprint("m", i) {
			t.Fatalf("packet %d is %q", i, text)
		}
	}
}

// TestRoomDataSurvivesAbsences: a receiver whose signaling is away, then its data channel too, gets everything once
// and in order; a sender that repeats after a resume doubles nothing.
func TestRoomDataSurvivesAbsences(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann, bob := r.join(ctx, "ann", mode.change), &receiver{r.join(ctx, "bob", mode.change), map[string]uint32{}, nil}
			sent := 0
			send := func(n int) {
				for range n {
					if err := ann.SendData(ctx, true, numbered(uint32(sent+1), fmt.Sprint("m", sent))); err != nil {
						t.Fatal(err)
					}
					sent++
				}
			}
			send(10)
			bob.take(ctx, t, 10)
			bob.Cut()
			wait(ctx, t, bob.Client, "the loss", func(s client.State) bool { return s.SignalLost })
			send(50)
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if err := bob.SyncState(bob.last); err != nil {
				t.Fatal(err)
			}
			send(10)
			bob.take(ctx, t, sent)
			if mode.name == "single" {
				if err := bob.ReopenData(ctx, func() {
					send(50)
					if err := bob.SyncState(bob.last); err != nil {
						t.Error(err)
					}
				}); err != nil {
					t.Fatal(err)
				}
				send(10)
				bob.take(ctx, t, sent)
			}
			// The sender's turn: it repeats the last ones, and goes on.
			ann.Cut()
			wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
			if err := ann.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			sent -= 5
			send(15)
			bob.take(ctx, t, sent)
			bob.inOrder(t)
			if err := ann.SendData(ctx, true, numbered(uint32(sent+1), "last")); err != nil {
				t.Fatal(err)
			}
			bob.take(ctx, t, sent+1)
			if got := bob.texts[sent]; got != "last" {
				t.Errorf("after all: %q", got)
			}
		})
	}
}

// TestRoomPassesDataThrough: RPC, streams of text and of a megabyte, chat, transcription and encrypted packets arrive as
// they were sent, but for their sender.
func TestRoomPassesDataThrough(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann, bob := r.join(ctx, "ann", mode.change), r.join(ctx, "bob", mode.change)
			packets := []*wire.DataPacket{
				{Value: &wire.DataRPCRequest{RpcRequest: &wire.RPCRequest{Id: "1", Method: "m", Payload: "p", ResponseTimeoutMs: 10, Version: 2, CompressedPayload: []byte{1}}}},
				{Value: &wire.DataRPCAck{RpcAck: &wire.RPCAck{RequestId: "1"}}},
				{Value: &wire.DataRPCResponse{RpcResponse: &wire.RPCResponse{RequestId: "1", Value: &wire.RPCPayload{Payload: "r"}}}},
				{Value: &wire.DataChat{ChatMessage: &wire.ChatMessage{Id: "c", Message: "hello"}}},
				{Value: &wire.DataTranscription{Transcription: &wire.Transcription{TrackId: "TR_x", Segments: []*wire.TranscriptionSegment{{Text: "words"}}}}},
				{Value: &wire.DataEncrypted{EncryptedPacket: &wire.EncryptedPacket{Iv: []byte("iv"), KeyIndex: 3, EncryptedValue: []byte("sealed")}}},
				{Value: &wire.DataStreamHeader{StreamHeader: &wire.StreamHeader{StreamId: "text", Topic: "t",
					ContentHeader: &wire.StreamTextHeader{TextHeader: &wire.TextHeader{Version: 1}}}}},
				{Value: &wire.DataStreamChunk{StreamChunk: &wire.StreamChunk{StreamId: "text", Content: []byte("some text")}}},
				{Value: &wire.DataStreamTrailer{StreamTrailer: &wire.StreamTrailer{StreamId: "text", Attributes: map[string]string{"k": "v"}}}},
				{Value: &wire.DataStreamHeader{StreamHeader: &wire.StreamHeader{StreamId: "file", TotalLength: proto.Uint64(1 << 20),
					ContentHeader: &wire.StreamByteHeader{ByteHeader: &wire.ByteHeader{Name: "f"}}}}},
			}
			const chunk = 15_000
			file := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MB
			for i := 0; i*chunk < len(file); i++ {
				packets = append(packets, &wire.DataPacket{Value: &wire.DataStreamChunk{StreamChunk: &wire.StreamChunk{
					StreamId: "file", ChunkIndex: uint64(i), Content: file[i*chunk : min((i+1)*chunk, len(file))],
				}}})
			}
			started := time.Now()
			for i, p := range packets {
				p.Sequence = uint32(i + 1)
				if err := ann.SendData(ctx, true, p); err != nil {
					t.Fatal(err)
				}
			}
			var got bytes.Buffer
			for i, want := range packets {
				d, err := bob.NextData(ctx)
				if err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
				if d.Packet.ParticipantIdentity != "ann" || d.Packet.ParticipantSid != ann.ID() {
					t.Errorf("packet %d is of %s", i, d.Packet.ParticipantIdentity)
				}
				if d.Packet.GetStreamChunk().GetStreamId() == "file" {
					got.Write(d.Packet.GetStreamChunk().GetContent())
				}
				d.Packet.ParticipantIdentity, d.Packet.ParticipantSid = "", ""
				if !proto.Equal(d.Packet, want) {
					t.Errorf("packet %d is %v, want %v", i, d.Packet, want)
				}
			}
			if !bytes.Equal(got.Bytes(), file) {
				t.Errorf("%d bytes of the file came", got.Len())
			}
			t.Logf("%d packets in %v", len(packets), time.Since(started).Round(time.Millisecond))
		})
	}
}

// TestRoomStuckReceiver: one of three receivers stops reading. The others get everything at speed, memory is bounded,
// and the stuck one is told to join anew.
func TestRoomStuckReceiver(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann, stuck := r.join(ctx, "ann", mode.change), r.join(ctx, "stuck", mode.change)
			readers := []*receiver{
				{r.join(ctx, "bob", mode.change), map[string]uint32{}, nil}, {r.join(ctx, "eve", mode.change), map[string]uint32{}, nil},
			}
			// The client keeps 1024 packets for who doesn't read them; then SCTP's window closes.
			sequence := uint32(0)
			for range 1100 {
				sequence++
				if err := ann.SendData(ctx, true, numbered(sequence, "x", "stuck")); err != nil {
					t.Fatal(err)
				}
			}
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			text := string(make([]byte, 60_000))
			const messages = 200 // 12 MB
			for i := range messages {
				sequence++
				if err := ann.SendData(ctx, true, numbered(sequence, text)); err != nil {
					t.Fatal(err)
				}
				if i%10 == 9 { // no faster than those who read
					for _, who := range readers {
						who.take(ctx, t, i+1)
					}
				}
			}
			took := time.Since(started)
			wait(ctx, t, stuck, "its leave", func(s client.State) bool { return s.Left != nil })
			if left := stuck.State().Left; left.GetAction() != wire.LeaveReconnect || left.GetReason() != wire.ReasonMediaFailure {
				t.Errorf("the stuck one got %v", left)
			}
			var after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&after)
			t.Logf("12 MB to each of two in %v; the heap grew by %d MB", took.Round(time.Millisecond), (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
				t.Errorf("the heap grew by %d MB", grown>>20)
			}
			for _, who := range readers {
				if n := len(who.texts); n != messages {
					t.Errorf("%s has %d of %d", who.Identity(), n, messages)
				}
			}
		})
	}
}

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pion/webrtc/v4"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These tests do a room harm in every way that a client can think of, while two others talk in it.

// steady is a talk of two, which is watched for gaps.
type steady struct {
	ann, bob *client.Client
	stop     context.CancelFunc
	watched  sync.WaitGroup
	heard    [2]atomic.Uint32 // frames, by direction

	mu     sync.Mutex
	report []string
}

// talk has ann and bob hear each other until end is called.
func talk(ctx context.Context, t testing.TB, r *testRooms) *steady {
	t.Helper()
	s := &steady{ann: r.join(ctx, "ann", nil), bob: r.join(ctx, "bob", bundled)}
	a := publishSource(ctx, t, s.ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	b := publishSource(ctx, t, s.bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	tracks := []*client.Track{byID(ctx, t, s.bob, a.ID())[a.ID()], byID(ctx, t, s.ann, b.ID())[b.ID()]}
	hears(ctx, t, tracks[0], 'a', 5)
	hears(ctx, t, tracks[1], 'b', 5)
	watching, stop := context.WithCancel(ctx)
	s.stop = stop
	for i, track := range tracks {
		s.watched.Go(func() { s.watch(watching, track, &s.heard[i]) })
	}
	t.Cleanup(func() { stop(); s.watched.Wait() })
	return s
}

// maxSilence is what a busy machine may delay a packet by. The room itself delays none.
const maxSilence = 2 * time.Second

func (s *steady) watch(ctx context.Context, track *client.Track, count *atomic.Uint32) {
	complain := func(format string, args ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.report = append(s.report, track.ID+": "+fmt.Sprintf(format, args...))
	}
	var first, last, heard uint32
	for at := time.Now(); ; at = time.Now() {
		p, err := track.ReadRTP(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			complain("ended: %v", err)
			return
		}
		if silence := time.Since(at); silence > maxSilence {
			complain("silent for %v", silence)
		}
		if len(p.Payload) != 6 {
			continue
		}
		last = binary.BigEndian.Uint32(p.Payload[2:])
		if heard++; heard == 1 {
			first = last
		}
		count.Add(1)
	}
	// What the test itself is too busy to read is dropped by the client, and a busy machine loses a packet now and then.
	if said := last - first + 1; heard < said*9/10 {
		complain("%d of %d frames were heard", heard, said)
	}
}

// end stops the talk and complains about gaps in it; data has to go both ways still.
func (s *steady) end(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, way := range [][2]*client.Client{{s.ann, s.bob}, {s.bob, s.ann}} {
		if err := way[0].SendText(ctx, true, "still here", way[1].Identity()); err != nil {
			t.Fatal(err)
		}
		if d, err := way[1].NextData(ctx); err != nil || string(d.Packet.GetUser().GetPayload()) != "still here" {
			t.Errorf("%s received %v, %v", way[1].Identity(), d, err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range s.heard {
		for from := s.heard[i].Load(); s.heard[i].Load() < from+15 && ctx.Err() == nil; {
			<-tick.C
		}
	}
	s.stop()
	s.watched.Wait()
	for _, line := range s.report {
		t.Error(line)
	}
	for _, c := range []*client.Client{s.ann, s.bob} {
		if st := c.State(); st.Left != nil || st.SignalLost {
			t.Errorf("%s has lost its session: %v", c.Identity(), st.Left)
		}
	}
}

// intruder is a client that keeps to nothing: a WebSocket and what comes over it.
type intruder struct {
	t  *testing.T
	ws *websocket.Conn

	mu      sync.Mutex
	refused map[wire.RequestReason]int
	left    *wire.LeaveRequest
	closed  error // of reading
	changed chan struct{}
}

// intrude joins with one peer connection or two; nobody answers the server's offers.
func intrude(t *testing.T, r *testRooms, identity string, onePC bool) *intruder {
	t.Helper()
	yes := true
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Identity: identity, Video: wire.Grant{
		RoomJoin: true, Room: "room", CanUpdateOwnMetadata: &yes,
	}}, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	target := "ws" + strings.TrimPrefix(r.url, "http") + "/rtc?protocol=16&access_token=" + token
	if onePC {
		request, err := wire.EncodeJoinRequest(&wire.JoinRequest{}, true)
		if err != nil {
			t.Fatal(err)
		}
		target += "&join_request=" + request
	}
	ws, _, err := websocket.DefaultDialer.Dial(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &intruder{t: t, ws: ws, refused: map[wire.RequestReason]int{}, changed: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(i.read)
	t.Cleanup(func() { _ = ws.Close(); reading.Wait() })
	return i
}

func (i *intruder) read() {
	for {
		_, frame, err := i.ws.ReadMessage()
		m := &wire.SignalResponse{}
		if err == nil {
			m, _ = wire.DecodeResponse(frame)
		}
		i.mu.Lock()
		if r := m.GetRequestResponse(); r != nil {
			i.refused[r.Reason]++
		}
		if m.GetLeave() != nil {
			i.left = m.GetLeave()
		}
		i.closed = err
		close(i.changed)
		i.changed = make(chan struct{})
		i.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send sends a message; that the server has closed the connection meanwhile is for the test to see.
func (i *intruder) send(m *wire.SignalRequest) {
	frame, err := wire.EncodeRequest(m)
	if err != nil {
		i.t.Fatal(err)
	}
	i.raw(websocket.BinaryMessage, frame)
}

func (i *intruder) raw(kind int, frame []byte) {
	_ = i.ws.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_ = i.ws.WriteMessage(kind, frame)
}

// await waits until condition holds, with i.mu held.
func (i *intruder) await(ctx context.Context, what string, condition func() bool) {
	i.t.Helper()
	for {
		i.mu.Lock()
		done, changed := condition(), i.changed
		i.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			i.mu.Lock()
			defer i.mu.Unlock()
			i.t.Fatalf("waiting for %s: refused %v, left %v, closed %v", what, i.refused, i.left, i.closed)
		}
	}
}

func (i *intruder) awaitRefusals(ctx context.Context, reason wire.RequestReason, least int) {
	i.t.Helper()
	i.await(ctx, fmt.Sprintf("%d refusals with %v", least, reason), func() bool { return i.refused[reason] >= least })
}

// awaitClose waits for a close with one of the codes.
func (i *intruder) awaitClose(ctx context.Context, codes ...int) {
	i.t.Helper()
	i.await(ctx, "the close", func() bool { return i.closed != nil })
	if !websocket.IsCloseError(i.closed, codes...) {
		i.t.Errorf("closed with %v, want %v", i.closed, codes)
	}
}

func (i *intruder) offer(sdp string) {
	i.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: sdp, Id: 1}}})
}

// offerOf makes a real offer with so many receiving sections.
func offerOf(t testing.TB, sections int) string {
	t.Helper()
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for range sections {
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	return offer.SDP
}

// TestRoomIsUnharmed by a client that does its worst. Each attack is refused with its reason, and ann and bob hear each
// other all the time.
func TestRoomIsUnharmed(t *testing.T) {
	plain := offerOf(t, 2)
	parts := strings.SplitAfter(strings.ReplaceAll(plain, "m=video", "\x00m=video"), "\x00")
	head, section := strings.TrimSuffix(parts[0], "\x00"), strings.TrimSuffix(parts[1], "\x00")
	numbered := func(count int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range count {
			b.WriteString(strings.Replace(section, "a=mid:0", fmt.Sprintf("a=mid:%d", i), 1))
		}
		return b.String()
	}
	long := strings.Repeat("x", 1<<16)
	for _, c := range []struct {
		name   string
		attack func(ctx context.Context, t *testing.T, r *testRooms, i *intruder)
	}{
		{"an AddTrack flood", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for n := range 3000 {
				i.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{Cid: fmt.Sprint(n), Type: wire.TrackVideo}}})
			}
			i.awaitRefusals(ctx, wire.RequestLimitExceeded, 100)
			i.awaitClose(ctx, websocket.ClosePolicyViolation)
		}},
		{"endless renegotiation", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for range 400 {
				i.offer(plain)
			}
			i.awaitRefusals(ctx, wire.RequestLimitExceeded, 10)
		}},
		{"a thousand m-lines", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			short := head
			for n := range 1000 {
				short += fmt.Sprintf("m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:%d\r\na=sendrecv\r\na=rtpmap:96 VP8/90000\r\n", n)
			}
			i.offer(short)
			i.awaitRefusals(ctx, wire.RequestInvalid, 1)
			i.offer(numbered(60)) // a third of a megabyte, which is allowed
			i.offer(numbered(1) + strings.Repeat(long, wire.MaxSDPBytes/len(long)))
			i.awaitRefusals(ctx, wire.RequestLimitExceeded, 1)
		}},
		{"unknown codecs", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			i.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
				Cid: "x", Type: wire.TrackVideo, SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "realvideo", Cid: "x"}},
			}}})
			i.offer(strings.NewReplacer("VP8/90000", "RealVideo/90000", "H264/90000", "Sorenson/1", "a=recvonly", "a=sendrecv\r\na=msid:x x").Replace(plain))
			i.offer(strings.ReplaceAll(plain, "rtpmap:96 VP8/90000", "rtpmap:999999 VP8/99999999999"))
			i.send(requestMarker())
			i.awaitRefusals(ctx, wire.RequestNotFound, 1)
		}},
		{"mid collisions", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			i.offer(head + section + section)
			i.offer(strings.Replace(plain, "a=mid:0", "a=mid:"+long[:300], 1))
			i.offer(strings.ReplaceAll(plain, "a=mid:", "a=nothing:"))
			i.awaitRefusals(ctx, wire.RequestInvalid, 3)
		}},
		{"giant ids", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for _, m := range []*wire.AddTrackRequest{{Cid: long}, {Cid: "c", Name: long}, {Cid: "c", Stream: long}} {
				i.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: m}})
			}
			i.send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: long}}})
			i.send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{Name: long}}})
			i.awaitRefusals(ctx, wire.RequestLimitExceeded, 5)
			i.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: long}}})
			i.awaitRefusals(ctx, wire.RequestNotFound, 1)
			i.offer(strings.Replace(plain, "a=recvonly", "a=sendrecv\r\na=msid:"+long+" "+long, 1))
			i.send(requestMarker())
			i.awaitRefusals(ctx, wire.RequestNotFound, 2)
		}},
		{"invalid UTF-8", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			// SignalRequest{mute: {sid: "\xff\xfe"}}
			i.raw(websocket.BinaryMessage, []byte{0x2a, 4, 0x0a, 2, 0xff, 0xfe})
			i.awaitClose(ctx, websocket.CloseInvalidFramePayloadData)
		}},
		{"noise", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			noise := make([]byte, 4000)
			for n := range noise {
				noise[n] = byte(rand.Uint32())
			}
			noise[0] = 0xff // no tag
			i.raw(websocket.BinaryMessage, noise)
			i.awaitClose(ctx, websocket.CloseInvalidFramePayloadData)
		}},
		{"a text frame", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			i.raw(websocket.TextMessage, []byte(`{"leave":{}}`))
			i.awaitClose(ctx, websocket.CloseUnsupportedData)
		}},
		{"a frame beyond the limit", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			i.raw(websocket.BinaryMessage, make([]byte, wire.MaxFrameBytes+1))
			i.awaitClose(ctx, websocket.CloseMessageTooBig)
		}},
		{"metadata without end", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for n := range 30 {
				i.send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
					Metadata: fmt.Sprint(n) + long[:wire.MaxMetadataBytes-100], RequestId: uint32(n + 1),
				}}})
			}
			i.await(ctx, "a limit", func() bool { return i.refused[wire.RequestLimitExceeded] > 0 || i.closed != nil })
		}},
		{"subscriptions without end", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			u := &wire.UpdateSubscription{Subscribe: true, TrackSids: make([]string, wire.MaxSIDs)}
			for range 30 {
				i.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: u}})
			}
			for n := range u.TrackSids {
				u.TrackSids[n] = fmt.Sprint("TR_", n)
			}
			for range 30 {
				i.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: u}})
			}
			i.awaitClose(ctx, websocket.ClosePolicyViolation, websocket.CloseTryAgainLater)
		}},
		{"candidates without end", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for n := range 300 {
				i.send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{
					CandidateInit: fmt.Sprintf(`{"candidate":"candidate:1 1 udp 1 127.0.0.1 %d typ host","sdpMid":"0"}`, n+1), Target: wire.SignalTarget(n % 3),
				}}})
			}
			i.send(requestMarker())
			i.awaitRefusals(ctx, wire.RequestNotFound, 1)
		}},
		{"answers to nothing", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for n := range 100 {
				i.send(&wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "answer", Sdp: plain, Id: uint32(n)}}})
			}
			i.send(requestMarker())
			i.await(ctx, "the marker", func() bool { return i.refused[wire.RequestNotFound] > 0 })
		}},
		{"offers that make no sense", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			for range 5 {
				i.offer("v=0\r\nno sense\r\n")
			}
			i.await(ctx, "the leave", func() bool { return i.left != nil })
			if i.left.Reason != wire.ReasonMediaFailure || i.left.Action != wire.LeaveDisconnect {
				t.Errorf("the leave is %v", i.left)
			}
		}},
		{"joins without end", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			refused := 0
			for range 100 {
				status, _, _ := fetched(t, r.url+"/rtc/validate?access_token=nonsense", "")
				if status == http.StatusTooManyRequests {
					refused++
				} else if status != http.StatusUnauthorized {
					t.Fatalf("status %d", status)
				}
			}
			if refused == 0 {
				t.Error("no limit was met")
			}
		}},
		{"join requests that are too large", func(ctx context.Context, t *testing.T, r *testRooms, i *intruder) {
			bomb, err := wire.EncodeJoinRequest(&wire.JoinRequest{PublisherOffer: &wire.SessionDescription{Sdp: strings.Repeat("a", 40<<20)}}, true)
			if err != nil {
				t.Fatal(err)
			}
			flood, err := wire.EncodeJoinRequest(&wire.JoinRequest{AddTrackRequests: make([]*wire.AddTrackRequest, wire.MaxBundledTracks+1)}, true)
			if err != nil {
				t.Fatal(err)
			}
			for name, request := range map[string]string{
				"a bomb": bomb, "many tracks": flood, "too long": strings.Repeat("A", wire.MaxJoinRequestBytes+4), "noise": "gibberish",
			} {
				status, text, _ := fetched(t, r.url+"/rtc/v1/validate?join_request="+request, roomToken(t, "bad"))
				if status != http.StatusBadRequest || !strings.Contains(text, "join_request") {
					t.Errorf("%s: %d %s", name, status, text)
				}
			}
		}},
	} {
		for _, onePC := range []bool{false, true} {
			name := c.name + map[bool]string{false: "/dual", true: "/single"}[onePC]
			if onePC && slices.Contains([]string{"answers to nothing"}, c.name) {
				continue // refused there: TestEveryMessageInEveryState
			}
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				ctx := roomContext(t)
				r := newTestRooms(t, func(cfg *signaling.Config) { cfg.Limits.JoinsPerSecond, cfg.Limits.JoinBurst = 1, 60 })
				s := talk(ctx, t, r)
				c.attack(ctx, t, r, intrude(t, r, "bad", onePC))
				s.end(ctx, t)
			})
		}
	}
}

// requestMarker is refused with NOT_FOUND, once all that was sent before has been taken.
func requestMarker() *wire.SignalRequest {
	return &wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: "TR_marker"}}}
}

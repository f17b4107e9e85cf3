package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pion/rtp"

	"anytime/sfu"
	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These benchmarks are of what somebody waits for who joins: run them with -benchtime=20x and read the medians.

// benchRooms is signaling over the SFU on loopback.
func benchRooms(b *testing.B) string {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	media, err := sfu.New(sfu.Config{UDPAddr: "127.0.0.1:0", TCPAddr: "127.0.0.1:0", Loopback: true, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	sig, err := signaling.New(signaling.Config{
		Media: mediaServer{media}, Log: log, Keys: func(k string) (string, bool) { return roomSecret, k == roomKey },
		Limits: signaling.Limits{JoinsPerSecond: 10_000, JoinBurst: 10_000},
	})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(sig.Handler())
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = sig.Shutdown(ctx)
		server.Close()
		_ = media.Close()
	})
	return server.URL
}

func benchToken(b *testing.B, identity string) string {
	b.Helper()
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Identity: identity, Name: identity, Video: wire.Grant{RoomJoin: true, Room: "room"}}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	return token
}

func benchJoin(ctx context.Context, b *testing.B, base, identity string, change func(*client.Config, *wire.Claims)) *client.Client {
	b.Helper()
	cfg := client.Config{URL: base, Token: benchToken(b, identity)}
	if change != nil {
		change(&cfg, &wire.Claims{})
	}
	c, err := client.Join(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// median reports the middle of what was measured, and the worst.
func median(b *testing.B, name string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-ms/median")
	b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, name+"-ms/max")
}

// BenchmarkJoinResponse takes the time from the WebSocket's dialling to the join response, and on to the first offer of the
// server's or its answer to the bundled one.
func BenchmarkJoinResponse(b *testing.B) {
	for _, others := range []int{0, 20} {
		for _, mode := range modes {
			b.Run(fmt.Sprintf("%s/%d others", mode.name, others), func(b *testing.B) {
				base := benchRooms(b)
				ctx := b.Context()
				for i := range others {
					c := benchJoin(ctx, b, base, fmt.Sprint("other", i), func(c *client.Config, _ *wire.Claims) { c.SignalOnly = true })
					b.Cleanup(c.Close)
				}
				var offer string
				if mode.name == "single" {
					offer = bundledOffer(b, base)
				}
				var responses, descriptions []time.Duration
				for b.Loop() {
					response, description := joinOnce(b, base, offer)
					responses, descriptions = append(responses, response), append(descriptions, description)
				}
				median(b, "join", responses)
				median(b, "sdp", descriptions)
			})
		}
	}
}

// bundledOffer returns a join request with an offer such as the client makes.
func bundledOffer(b *testing.B, base string) string {
	b.Helper()
	var request string
	stop := fmt.Errorf("seen")
	_, err := client.Join(b.Context(), client.Config{URL: base, Token: "x", Single: true, Bundle: true, Audio: 3, Video: 3,
		Seen: func(u string) error {
			parsed, err := url.Parse(u)
			if err != nil {
				return err
			}
			request = parsed.Query().Get("join_request")
			return stop
		}})
	if request == "" {
		b.Fatal(err)
	}
	return request
}

func joinOnce(b *testing.B, base, request string) (response, description time.Duration) {
	b.Helper()
	q := url.Values{"access_token": {benchToken(b, "bench")}, "protocol": {"16"}, "auto_subscribe": {"1"}}
	path := "/rtc"
	if request != "" {
		q.Set("join_request", request)
		path = "/rtc/v1"
	}
	start := time.Now()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+path+"?"+q.Encode(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer ws.Close()
	for description == 0 {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			b.Fatal(err)
		}
		m, err := wire.DecodeResponse(frame)
		if err != nil {
			b.Fatal(err)
		}
		switch {
		case m.GetJoin() != nil:
			response = time.Since(start)
		case m.GetOffer() != nil, m.GetAnswer() != nil:
			description = time.Since(start)
		}
	}
	leave, err := wire.EncodeRequest(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	if err != nil {
		b.Fatal(err)
	}
	_ = ws.WriteMessage(websocket.BinaryMessage, leave)
	_, _, _ = ws.ReadMessage() // the close
	return response, description
}

// BenchmarkFirstKeyframe takes the time from dialling to the last packet of the first whole keyframe of a camera that is
// on already: 30 frames a second, a keyframe of 30 packets when asked for one. In a quiet room somebody comes every second,
// in a busy one at once after another. The one who joins nominates its path at once, as browsers do. On the way there:
// response is the join response, offered the first description of ours, connected when ICE and DTLS are done, which takes
// three round trips, and asked when the camera was first asked for a keyframe.
func BenchmarkFirstKeyframe(b *testing.B) {
	for _, mode := range modes {
		for _, room := range []struct {
			name    string
			between int
		}{{"quiet", 30}, {"busy", 0}} {
			b.Run(mode.name+"/"+room.name, func(b *testing.B) { firstKeyframe(b, mode.change, room.between) })
		}
	}
}

// firstKeyframe measures with so many frames between two joins.
func firstKeyframe(b *testing.B, change func(*client.Config, *wire.Claims), between int) {
	base := benchRooms(b)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ann := benchJoin(ctx, b, base, "ann", nil)
	defer ann.Close()
	camera, err := ann.Publish(ctx, client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	if err != nil {
		b.Fatal(err)
	}
	frames, asked, stop := film(camera)
	defer stop()
	var responses, offers, connected, asks, seen []time.Duration
	for b.Loop() {
		var response, offer atomic.Int64
		asked.Store(0)
		start := time.Now()
		bob := benchJoin(ctx, b, base, "bob", func(c *client.Config, claims *wire.Claims) {
			if change != nil {
				change(c, claims)
			}
			c.Eager = true
			c.OnMessage = func(m *wire.SignalResponse) {
				switch {
				case m.GetJoin() != nil:
					response.Store(int64(time.Since(start)))
				case m.GetOffer() != nil, m.GetAnswer() != nil:
					offer.CompareAndSwap(0, int64(time.Since(start)))
				}
			}
		})
		connected = append(connected, time.Since(start))
		track, err := bob.NextTrack(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := wholeKeyframe(ctx, track); err != nil {
			b.Fatal(err)
		}
		seen = append(seen, time.Since(start))
		b.StopTimer()
		responses, offers = append(responses, time.Duration(response.Load())), append(offers, time.Duration(offer.Load()))
		asks = append(asks, time.Unix(0, asked.Load()).Sub(start))
		bob.Close()
		for range between {
			<-frames
		}
		if between > 0 {
			<-time.After(time.Second / 30 * time.Duration(len(seen)%10) / 10) // at another moment between two frames each time
		}
		b.StartTimer()
	}
	for _, step := range []struct {
		name  string
		times []time.Duration
	}{{"response", responses}, {"offered", offers}, {"connected", connected}, {"asked", asks}, {"keyframe", seen}} {
		b.ReportMetric(percentile(step.times, 0.5).Seconds()*1e3, step.name+"-ms/p50")
	}
	b.ReportMetric(percentile(seen, 0.95).Seconds()*1e3, "keyframe-ms/p95")
	b.ReportMetric(0, "ns/op")
}

// film sends frames, and keyframes when asked. frames gets a mark for each, when it is read; asked is the time, in
// nanoseconds since 1970, of the frame before which a keyframe was first asked for since asked was set to 0.
func film(camera *client.Publication) (frames <-chan struct{}, asked *atomic.Int64, stop func()) {
	done, filmed, asked := make(chan struct{}), make(chan struct{}), new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for first := true; ; first = false {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			frame := append([]byte{0x11, 0, 0}, bytes.Repeat([]byte{0xaa}, 3000)...)
			if camera.KeyframeRequested(0) || first {
				asked.CompareAndSwap(0, time.Now().UnixNano())
				frame = append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00}, bytes.Repeat([]byte{0xaa}, 33_000)...)
			}
			if camera.WriteSample(0, frame, time.Second/30) != nil {
				return
			}
			select {
			case filmed <- struct{}{}:
			default:
			}
		}
	})
	return filmed, asked, func() { close(done); wg.Wait() }
}

// wholeKeyframe reads until all packets of a keyframe have come.
func wholeKeyframe(ctx context.Context, track *client.Track) error {
	var packets []*rtp.Packet
	for {
		p, err := track.ReadRTP(ctx)
		if err != nil {
			return err
		}
		if len(p.Payload) < 8 {
			continue
		}
		if len(packets) > 0 && packets[0].Timestamp != p.Timestamp {
			packets = nil // another frame has begun
		}
		if len(packets) == 0 && !startsKeyframe(p.Payload) {
			continue
		}
		packets = append(packets, p)
		if p.Marker && int(p.SequenceNumber-packets[0].SequenceNumber)+1 == len(packets) {
			return nil
		}
	}
}

// startsKeyframe reads the VP8 payload descriptor (RFC 7741 section 4.2) as our clients and the SFU write it.
func startsKeyframe(b []byte) bool {
	if b[0]&0x10 == 0 {
		return false
	}
	at := 1
	if b[0]&0x80 != 0 {
		x := b[1]
		at = 2
		if x&0x80 != 0 {
			at++
			if b[2]&0x80 != 0 {
				at++
			}
		}
		if x&0x40 != 0 {
			at++
		}
		if x&0x30 != 0 {
			at++
		}
	}
	return at < len(b) && b[at]&1 == 0
}

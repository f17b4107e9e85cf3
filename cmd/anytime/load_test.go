package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// joined is how long a join took from opening the WebSocket.
type joined struct {
	response, connected time.Duration // to the join response, and to media where there is any
}

// joinTime joins and measures it.
func joinTime(ctx context.Context, t testing.TB, r *testRooms, room, identity string, change func(*client.Config, *wire.Claims)) (joined, *client.Client) {
	t.Helper()
	claims := wire.Claims{Identity: identity, Video: wire.Grant{RoomJoin: true, Room: room}}
	cfg := client.Config{URL: r.url}
	if change != nil {
		change(&cfg, &claims)
	}
	var err error
	if cfg.Token, err = wire.Mint(roomKey, roomSecret, claims, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	var took joined
	start := time.Now()
	cfg.OnMessage = func(m *wire.SignalResponse) {
		if m.GetJoin() != nil {
			took.response = time.Since(start)
		}
	}
	c, err := client.Join(ctx, cfg)
	if err != nil {
		t.Fatalf("join as %s: %v", identity, err)
	}
	took.connected = time.Since(start)
	return took, c
}

// percentile of durations, 0 to 1.
func percentile(list []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// unhurried lets any number come from one address, without a log.
func unhurried(c *signaling.Config) {
	c.Log = slog.New(slog.DiscardHandler)
	c.Limits.JoinsPerSecond, c.Limits.JoinBurst = 1e6, 1e6
}

// BenchmarkJoin measures a join of an idle server, from opening the WebSocket to the join response.
func BenchmarkJoin(b *testing.B) {
	ctx := b.Context()
	r := newTestRooms(b, unhurried)
	var times []time.Duration
	for b.Loop() {
		took, c := joinTime(ctx, b, r, "idle", "ann", signalOnly)
		times = append(times, took.response)
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
	b.ReportMetric(percentile(times, 0.5).Seconds()*1e3, "p50-ms")
	b.ReportMetric(percentile(times, 0.95).Seconds()*1e3, "p95-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkJoinOf500 has 500 join one room within 10 s, in which one publishes audio, and reports the join times there and,
// before and meanwhile, those of another room. Their peer connections aren't made: this is the server's part.
func BenchmarkJoinOf500(b *testing.B) {
	for b.Loop() {
		crowd(b, newTestRooms(b, unhurried), 500, 10*time.Second, signalOnly)
	}
	b.ReportMetric(0, "ns/op")
}

// crowd has so many people join a room in that time, each as change says.
func crowd(t testing.TB, r *testRooms, size int, within time.Duration, change func(*client.Config, *wire.Claims)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within+2*time.Minute)
	defer cancel()
	speaker := r.join(ctx, "speaker", nil)
	audio := publishSource(ctx, t, speaker, 's', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	listener := r.join(ctx, "listener", nil)
	track := byID(ctx, t, listener, audio.ID())[audio.ID()]

	// One joins the other room again and again, before and meanwhile.
	var elsewhere [2][]time.Duration
	visit := func(phase int) {
		took, c := joinTime(ctx, t, r, "elsewhere", "visitor", signalOnly)
		elsewhere[phase] = append(elsewhere[phase], took.response)
		c.Close()
	}
	every := within / 50
	pace := time.NewTicker(every)
	defer pace.Stop()
	for range 50 {
		<-pace.C
		visit(0)
	}

	var mu sync.Mutex
	var responses, connected []time.Duration
	var clients []*client.Client
	var used time.Duration
	if r.cpu != nil {
		used = -r.cpu()
	}
	var joining sync.WaitGroup
	done := make(chan struct{})
	joining.Go(func() {
		for {
			select {
			case <-pace.C:
				visit(1)
			case <-done:
				return
			}
		}
	})
	var crowd sync.WaitGroup
	arrivals := time.NewTicker(within / time.Duration(size))
	defer arrivals.Stop()
	for i := range size {
		<-arrivals.C
		crowd.Go(func() {
			took, c := joinTime(ctx, t, r, "room", fmt.Sprint("guest ", i), change)
			mu.Lock()
			defer mu.Unlock()
			responses, connected, clients = append(responses, took.response), append(connected, took.connected), append(clients, c)
		})
	}
	crowd.Wait()
	if r.cpu != nil {
		used += r.cpu()
	}
	close(done)
	joining.Wait()

	// Everybody is there, has been told of everybody, and the speaker is still heard.
	wait(ctx, t, speaker, "the crowd", func(s client.State) bool { return len(s.Participants) == size+1 })
	wait(ctx, t, clients[0], "the crowd", func(s client.State) bool { return len(s.Participants) == size+1 })
	hears(ctx, t, track, 's', 20)
	if r.sig != nil {
		if n := len(r.sig.Participants("room")); n != size+2 {
			t.Errorf("%d are in the room, want %d", n, size+2)
		}
	}
	var leaving sync.WaitGroup
	for _, c := range clients {
		leaving.Go(c.Close)
	}
	leaving.Wait()
	wait(ctx, t, speaker, "the end of the crowd", func(s client.State) bool { return len(s.Participants) == 1 })

	report := func(name string, list []time.Duration) {
		for p, unit := range map[float64]string{0.5: "p50", 0.95: "p95"} {
			if b, ok := t.(*testing.B); ok {
				b.ReportMetric(percentile(list, p).Seconds()*1e3, name+"-"+unit+"-ms")
			}
		}
	}
	report("join", responses)
	report("connected", connected)
	report("before", elsewhere[0])
	report("meanwhile", elsewhere[1])
	if b, ok := t.(*testing.B); ok && used > 0 {
		b.ReportMetric(used.Seconds()*1e3/float64(size), "server-cpu-ms/join")
	}
}

// TestACrowdJoins: what the benchmark measures, for fewer and without the measuring.
func TestACrowdJoins(t *testing.T) {
	crowd(t, newTestRooms(t, unhurried), 60, 600*time.Millisecond, signalOnly)
}

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

// joinTime is how long it takes from opening the WebSocket to the join response.
func joinTime(ctx context.Context, t testing.TB, r *testRooms, room, identity string) (time.Duration, *client.Client) {
	t.Helper()
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Identity: identity, Video: wire.Grant{RoomJoin: true, Room: room}}, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c, err := client.Join(ctx, client.Config{URL: r.url, Token: token, SignalOnly: true})
	if err != nil {
		t.Fatalf("join as %s: %v", identity, err)
	}
	return time.Since(start), c
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
		took, c := joinTime(ctx, b, r, "idle", "ann")
		times = append(times, took)
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
		crowd(b, 500, 10*time.Second)
	}
	b.ReportMetric(0, "ns/op")
}

// crowd has so many people join a room in that time.
func crowd(t testing.TB, size int, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within+2*time.Minute)
	defer cancel()
	r := newTestRooms(t, unhurried)
	speaker := r.join(ctx, "speaker", nil)
	audio := publishSource(ctx, t, speaker, 's', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	listener := r.join(ctx, "listener", nil)
	track := byID(ctx, t, listener, audio.ID())[audio.ID()]

	// One joins the other room again and again, before and meanwhile.
	var elsewhere [2][]time.Duration
	visit := func(phase int) {
		took, c := joinTime(ctx, t, r, "elsewhere", "visitor")
		elsewhere[phase] = append(elsewhere[phase], took)
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
	var times []time.Duration
	var clients []*client.Client
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
			took, c := joinTime(ctx, t, r, "room", fmt.Sprint("guest ", i))
			mu.Lock()
			defer mu.Unlock()
			times, clients = append(times, took), append(clients, c)
		})
	}
	crowd.Wait()
	close(done)
	joining.Wait()

	// Everybody is there, has been told of everybody, and the speaker is still heard.
	wait(ctx, t, speaker, "the crowd", func(s client.State) bool { return len(s.Participants) == size+1 })
	wait(ctx, t, clients[0], "the crowd", func(s client.State) bool { return len(s.Participants) == size+1 })
	hears(ctx, t, track, 's', 20)
	if n := len(r.sig.Participants("room")); n != size+2 {
		t.Errorf("%d are in the room, want %d", n, size+2)
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
	report("join", times)
	report("before", elsewhere[0])
	report("meanwhile", elsewhere[1])
}

// TestACrowdJoins: what the benchmark measures, for fewer and without the measuring.
func TestACrowdJoins(t *testing.T) { crowd(t, 60, 600*time.Millisecond) }

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// TestRoundsLeaveNothingBehind: one after the other joins a room in which two talk, with one peer connection or two,
// publishes audio and video, watches, is watched, and goes; then the two go. Afterwards goroutines, sockets and memory are
// what they were.
func TestRoundsLeaveNothingBehind(t *testing.T) {
	rounds, warm := 500, 100
	if testing.Short() {
		rounds, warm = 40, 20
	}
	r := newTestRooms(t, unhurried)
	idle := runtime.NumGoroutine() + 1 // the room outlives its people for a while
	t.Run("warming up", func(t *testing.T) { r.rounds(t, warm) })
	before := settled(t, footprint{goroutines: idle})
	start := time.Now()
	t.Run("rounds", func(t *testing.T) { r.rounds(t, rounds) })
	after := settled(t, footprint{idle, before.files, before.heap + before.heap/20})
	t.Logf("before %v, after %d rounds in %v: %v", before, rounds, time.Since(start).Round(time.Second), after)
}

// rounds has so many visitors come and go, a few at a time.
func (r *testRooms) rounds(t *testing.T, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var hosts []*client.Client
	var watched [2]atomic.Int64
	var watching sync.WaitGroup
	defer watching.Wait()
	for i, name := range []string{"ann", "bob"} {
		c, err := r.enter(ctx, name, i == 1)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		hosts = append(hosts, c)
		watching.Go(func() {
			for _, err := c.NextTrack(ctx); err == nil; _, err = c.NextTrack(ctx) {
				watched[i].Add(1)
			}
		})
	}
	publishSource(ctx, t, hosts[0], 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	publishSource(ctx, t, hosts[0], 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})

	const together = 4
	left := atomic.Int64{}
	left.Store(int64(n))
	errs := make([]error, together)
	var wg sync.WaitGroup
	for i := range together {
		wg.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				errs[i] = r.round(ctx, hosts[0].ID(), fmt.Sprint("visitor ", i), i%2 == 0)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i := range watched {
		if watched[i].Load() == 0 { // Pion tells of a track once for each m-line
			t.Error("nobody watched the visitors")
		}
	}
}

func (r *testRooms) enter(ctx context.Context, identity string, single bool) (*client.Client, error) {
	claims := wire.Claims{Identity: identity, Video: wire.Grant{RoomJoin: true, Room: "room"}}
	cfg := client.Config{URL: r.url}
	if single {
		bundled(&cfg, &claims)
	}
	var err error
	if cfg.Token, err = wire.Mint(roomKey, roomSecret, claims, 2*time.Minute); err != nil {
		return nil, err
	}
	return client.Join(ctx, cfg)
}

// round is one visit.
func (r *testRooms) round(ctx context.Context, ann, identity string, single bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := r.enter(ctx, identity, single)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	defer c.Close()
	var sending sync.WaitGroup
	stop := make(chan struct{})
	defer sending.Wait()
	defer close(stop)
	for _, o := range []client.PublishOptions{{Codec: client.Opus, Source: wire.SourceMicrophone}, {Codec: client.VP8, Source: wire.SourceCamera}} {
		p, err := c.Publish(ctx, o)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		sending.Go(func() {
			t := time.NewTicker(20 * time.Millisecond)
			defer t.Stop()
			for n := uint32(0); ; n++ {
				frame := opusFrame('x', n)
				if o.Source == wire.SourceCamera {
					frame = vp8Frame('x', 0) // keyframes all
				}
				_ = p.WriteSample(0, frame, 20*time.Millisecond) // until it is closed
				select {
				case <-t.C:
				case <-stop:
					return
				}
			}
		})
	}
	for seen := 0; seen < 2; {
		track, err := c.NextTrack(ctx)
		if err != nil {
			return fmt.Errorf("ann's tracks: %w", err)
		}
		if track.Participant != ann {
			continue // another visitor's
		}
		seen++
		for media := 0; media < 5; {
			p, err := track.ReadRTP(ctx)
			if err != nil {
				return fmt.Errorf("ann's media: %w", err)
			}
			if len(p.Payload) > 0 {
				media++
			}
		}
	}
	return nil
}

// footprint is what a process has in use.
type footprint struct {
	goroutines, files int
	heap              uint64
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.2f MB", f.goroutines, f.files, float64(f.heap)/1e6)
}

// measure takes the footprint, after collections that empty pools.
func measure() (f footprint) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.goroutines, f.heap = runtime.NumGoroutine(), m.HeapAlloc
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		f.files = len(list)
	}
	return f
}

// settled waits until no more than most is in use, as far as most says, and returns what is.
func settled(t *testing.T, most footprint) footprint {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if runtime.NumGoroutine() <= most.goroutines {
			f := measure()
			if (most.files == 0 || f.files <= most.files) && (most.heap == 0 || f.heap <= most.heap) {
				return f
			}
		}
		if time.Now().After(deadline) {
			b := make([]byte, 1<<20)
			t.Fatalf("%v, at most %v was expected:\n%s", measure(), most, b[:runtime.Stack(b, true)])
		}
		<-tick.C
	}
}

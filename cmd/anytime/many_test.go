package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// TestManyTracksAtOnce: one who joins finds 60 tracks, and soon has them all. On a single peer connection the client is
// asked for sections a few times at most.
func TestManyTracksAtOnce(t *testing.T) {
	const publishers, each = 4, 15
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			var mu sync.Mutex
			var ids []string
			var wg sync.WaitGroup
			for i := range publishers {
				c := r.join(ctx, fmt.Sprint("p", i), func(c *client.Config, _ *wire.Claims) { c.ManualSubscribe = true })
				wg.Go(func() {
					for n := range each {
						o := client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone, Muted: true}
						if n%2 == 1 {
							o.Codec, o.Source = client.VP8, wire.SourceCamera
						}
						p, err := c.Publish(ctx, o)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						ids = append(ids, p.ID())
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			var messages record
			start := time.Now()
			bob := r.join(ctx, "bob", recorded(&messages, mode.change))
			byID(ctx, t, bob, ids...) // muted tracks are announced by padding
			took := time.Since(start)
			asked := 0
			named := map[string]string{}
			for _, m := range messages.from("join") {
				if m.GetMediaSectionsRequirement() != nil {
					asked++
				}
				if a := m.GetAnswer(); a != nil {
					named = a.GetMidToTrackId()
				}
			}
			t.Logf("%d tracks after %v, asked %d times", len(ids), took.Round(time.Millisecond), asked)
			if asked > 4 {
				t.Errorf("asked %d times", asked)
			}
			if mode.name == "single" && len(named) != len(ids) {
				t.Errorf("the last answer names %d of %d tracks", len(named), len(ids))
			}
			if took > 5*time.Second {
				t.Error("that is too long")
			}
		})
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// choir is a room's open microphones, of which some talk.
type choir struct {
	mics    []*client.Publication
	talking []atomic.Bool
}

// sing lets the microphones send until the context ends.
func (c *choir) sing(ctx context.Context, t *testing.T) (stopped func()) {
	const frame = 20 * time.Millisecond
	ctx, stop := context.WithCancel(ctx)
	var singing sync.WaitGroup
	singing.Go(func() {
		tick := time.NewTicker(frame)
		defer tick.Stop()
		payload := make([]byte, 80)
		payload[0] = 0xf8 // RFC 6716 table 2: 20 ms of CELT
		for k := 0; ; k++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for i, mic := range c.mics {
				level, voice := uint8(70), false
				if c.talking[i].Load() && k%50 < 43 { // they breathe
					level, voice = uint8(24+k%3), true
					if k%9 >= 6 { // between syllables
						level = 40
					}
				}
				if err := mic.WriteVoice(payload, level, voice, frame); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	return func() { stop(); singing.Wait() }
}

// TestOnlyTheLoudestAreForwarded: of twelve open microphones a listener gets those that talk, in whole streams, at most three
// and as few as it asks for; and is told of all tracks though most of them never send it anything.
func TestOnlyTheLoudestAreForwarded(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			c := &choir{talking: make([]atomic.Bool, 12)}
			var ids []string
			for i := range c.talking {
				p, err := r.join(ctx, fmt.Sprint("mic", i), func(c *client.Config, _ *wire.Claims) { c.ManualSubscribe = true }).
					Publish(ctx, client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
				if err != nil {
					t.Fatal(err)
				}
				c.mics = append(c.mics, p)
				ids = append(ids, p.ID())
			}
			stopped := c.sing(ctx, t)
			defer stopped()
			listener := r.join(ctx, "listener", func(cfg *client.Config, claims *wire.Claims) {
				if mode.change != nil {
					mode.change(cfg, claims)
				}
				yes := true
				claims.Video.CanUpdateOwnMetadata = &yes
			})
			tracks := byID(ctx, t, listener, ids...)
			heard := make([]atomic.Int64, len(ids))
			reading, stop := context.WithCancel(ctx)
			var readers sync.WaitGroup
			defer readers.Wait()
			defer stop()
			for i, id := range ids {
				readers.Go(func() {
					for {
						p, err := tracks[id].ReadRTP(reading)
						if err != nil {
							return
						}
						if len(p.Payload) > 1 { // neither padding nor the beginning of a pause
							heard[i].Add(1)
						}
					}
				})
			}
			// expect waits for a second in which so many of those that talk are heard, and at most so many in all: who has talked
			// keeps its place until it is wanted.
			expect := func(what string, right, most int, talking ...int) {
				t.Helper()
				for i := range c.talking {
					c.talking[i].Store(slices.Contains(talking, i))
				}
				deadline := time.After(15 * time.Second)
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				before := make([]int64, len(heard))
				for i := range heard {
					before[i] = heard[i].Load()
				}
				for {
					select {
					case <-tick.C:
					case <-deadline:
						t.Fatalf("%s: that doesn't arrive", what)
					}
					var flowing []int
					for i := range heard {
						n := heard[i].Load()
						if n-before[i] > 25 {
							flowing = append(flowing, i)
						}
						before[i] = n
					}
					wanted := slices.DeleteFunc(slices.Clone(flowing), func(i int) bool { return !slices.Contains(talking, i) })
					t.Logf("%s: %v arrive", what, flowing)
					if len(wanted) == right && len(flowing) <= most {
						return
					}
				}
			}
			expect("one talks", 1, 3, 4)
			expect("three talk", 3, 3, 9, 10, 11)
			if err := listener.Send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
				Attributes: map[string]string{wire.VoicesAttribute: "1"}}}}); err != nil {
				t.Fatal(err)
			}
			expect("three talk to one who takes one", 1, 1, 9, 10, 11)
			if v := r.sfu.Stats(); len(v.Voices) != 1 || !v.Voices[0].Gating || v.Voices[0].Open != len(ids) || v.HeldBack == 0 {
				t.Errorf("%+v, %d held back", v.Voices, v.HeldBack)
			}
		})
	}
}

package sfu

import (
	"fmt"
	"testing"
	"time"
)

// simulcast is a camera in three layers on a stage.
type simulcast struct {
	*stage
	pub   *publication
	subs  []*subscription
	sinks []*recorder
	feeds []*feed
	now   time.Duration
}

// newSimulcast has as many watch it, a third of them each layer.
func newSimulcast(t testing.TB, viewers int) *simulcast {
	c := &simulcast{stage: newStage(t)}
	c.now = c.server.now()
	c.pub = c.publish("TR_v", Video, videoSection("0", "q", "h", "f"))
	for i, rid := range []string{"q", "h", "f"} {
		c.feeds = append(c.feeds, &feed{ssrc: uint32(7 + i), pt: 96, mid: "0", rid: rid})
	}
	for i := range viewers {
		s, r := c.subscribe(c.pub, fmt.Sprintf("PA_%d", i), videoSection("0"), 0)
		s.configure(SubscriptionSettings{Quality: uint8(i % 3)}, c.now)
		c.subs, c.sinks = append(c.subs, s), append(c.sinks, r)
	}
	c.picture(true, 1)
	c.picture(true, 1)
	return c
}

// picture sends one of every layer, in so many packets.
func (c *simulcast) picture(key bool, packets int) {
	c.now += 33 * time.Millisecond
	for i := range c.feeds {
		c.layer(i, key, packets)
	}
}

// layer sends one layer's part of it.
func (c *simulcast) layer(i int, key bool, packets int) {
	v := c.feeds[i]
	v.timestamp += 3000
	v.picture++
	for n := range packets {
		c.in.rtp(v.packet(v.vp8(n == 0, key), n == packets-1), c.now)
	}
}

// BenchmarkSimulcast is three layers of a video to subscriptions of which each follows one.
func BenchmarkSimulcast(b *testing.B) {
	for _, viewers := range []int{3, 30, 100, 150} {
		b.Run(fmt.Sprint(viewers), func(b *testing.B) {
			c := newSimulcast(b, viewers)
			before := 0
			for _, r := range c.sinks {
				before += r.n
			}
			const packets = 4
			received := 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				c.picture(false, packets)
				received += len(c.feeds) * packets
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(received), "ns/packet-received")
			sent := -before
			for _, r := range c.sinks {
				sent += r.n
			}
			if sent != received/3*viewers {
				b.Fatalf("%d packets were sent of %d, to %d", sent, received, viewers)
			}
		})
	}
}

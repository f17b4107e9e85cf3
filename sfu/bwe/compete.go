package bwe

import "time"

const (
	competeAfter    = 3 * time.Second
	competeShort    = 40 * time.Millisecond // a queue that counts as drained
	competeShare    = 0.75                  // of the rate since the queue was short: so far it has been lowered in vain
	competeKeeps    = 0.8                   // of its length three seconds ago: the queue isn't draining
	competeFactor   = 0.9                   // for a window of loss
	competeFriendly = 1.5                   // times the rate of TCP
	competeLong     = 30 * time.Second      // then it is tried again whether the queue drains
)

// competition tells a queue that others fill from one of our own, after the idea of Copa's mode switching (Arun and
// Balakrishnan, NSDI 2018): our own drains when we send less than arrives. If it stays long although the rate has been
// lowered by a quarter and more, a flow that only loss stops (TCP) is filling it, and yielding to it further gains no
// delay and ends in starvation. Then loss decides until the queue has been short for two seconds.
type competition struct {
	short       time.Duration // when the queue was last short
	rate        float64       // highest since then
	least, most time.Duration // queue in this second
	minima      [3]time.Duration
	began       time.Duration // of this second
	any, on     bool
	onSince     time.Duration
	calm        int // seconds running with a short queue
}

// update takes the queueing delay and the rate when feedback arrives.
func (c *competition) update(now, queue time.Duration, rate float64) (competing bool) {
	if !c.any {
		*c = competition{any: true, short: now, began: now, rate: rate, least: queue}
	}
	if queue < competeShort {
		c.short, c.rate = now, rate
	}
	c.rate = max(c.rate, rate)
	c.least, c.most = min(c.least, queue), max(c.most, queue)
	if now-c.began >= time.Second {
		c.second(now, rate)
		c.began, c.least, c.most = now, queue, queue
	}
	return c.on
}

func (c *competition) second(now time.Duration, rate float64) {
	if c.most < competeShort {
		c.calm++
	} else {
		c.calm = 0
	}
	before := c.minima[0]
	c.minima = [3]time.Duration{c.minima[1], c.minima[2], c.least}
	switch {
	case c.on:
		if c.calm >= 2 || now-c.onSince > competeLong {
			c.on, c.short, c.rate = false, now, rate
		}
	case now-c.short >= competeAfter && rate < competeShare*c.rate &&
		c.least >= competeShort && float64(c.least) >= competeKeeps*float64(before):
		c.on, c.onSince = true, now
	}
}

package bwe

import "time"

const (
	// frameBurst of the target leaves at once where the path has room: libwebrtc's pacer has bursts of 40 ms of its rate
	// (PacingController::kDefaultBurstInterval), which is 2.5 times the target. A frame of 30 a second fits as long as no more
	// is sent than the target, with a fifth to spare.
	frameBurst = 40 * time.Millisecond
	// burstRoom is how much of the target may be sent: the link is idle for the rest, so that a frame is gone before the next.
	burstRoom = 0.85
	// burstAfter is for how long the path must have been calm, twice as long after each time that it didn't stay so for burstKept,
	// and burstLatest at most.
	burstAfter  = 4 * time.Second
	burstLatest = 64 * time.Second
	burstKept   = time.Minute
)

// calm tells whether a frame may leave in one piece.
//
// A burst is a queue at the bottleneck, for as long as the link takes to send it. Where less is sent than the link takes it does
// no harm: it is gone before the next frame, whose end comes no later than if the pacer had held it back; only audio may wait
// behind it, for some milliseconds. Where the link is full it adds to what waits there already, and overflows a short buffer. So
// bursts are short again as soon as there is a queue, or loss, or what is sent comes close to the target.
type calm struct {
	at, wait time.Duration // when the path was last full, and how long after that it counts as calm
	any      bool
}

// update takes whether the path shows signs of being full when feedback arrives, or stays away.
func (c *calm) update(now time.Duration, full bool) {
	if !c.any {
		*c = calm{at: now, wait: burstAfter, any: true}
	}
	if !full {
		return
	}
	switch spell := now - c.at - c.wait; { // for so long it has been calm
	case spell >= burstKept:
		c.wait = burstAfter
	case spell >= 0:
		c.wait = min(2*c.wait, burstLatest)
	}
	c.at = now
}

// holds reports whether it is calm at now.
func (c *calm) holds(now time.Duration) bool { return c.any && now-c.at >= c.wait }

package bwe

import "time"

// State is what the delay says about the link.
type State uint8

// The states of draft-ietf-rmcat-gcc-02 section 5.4.
const (
	Normal State = iota
	Overuse
	Underuse
)

func (s State) String() string {
	switch s {
	case Overuse:
		return "overuse"
	case Underuse:
		return "underuse"
	}
	return "normal"
}

// Config of an estimator. The zero value has defaults.
type Config struct {
	// Start, Min and Max of the target in bit/s; 0 means 500,000, 50,000 and 100,000,000. Min is at least 1,000, Max at
	// least Min; Start is brought between them.
	Start, Min, Max int64
	// History is how many sent packets are remembered until their feedback, 64–16384, rounded up to a power of two;
	// 0 means 2048, as far as the rate needs it. It takes 16 bytes each.
	History int
}

func (c Config) complete() Config {
	if c.Min <= 0 {
		c.Min = 50_000
	}
	c.Min = max(c.Min, 1000)
	if c.Max <= 0 {
		c.Max = 100_000_000
	}
	c.Max = max(c.Max, c.Min)
	if c.Start <= 0 {
		c.Start = 500_000
	}
	c.Start = min(max(c.Start, c.Min), c.Max)
	if c.History <= 0 {
		c.History = 2048
	}
	return c
}

// Estimate is what an estimator says.
type Estimate struct {
	// Target is what may be sent, in bit/s on the wire, retransmissions and padding included.
	Target int64
	// Pacing is the rate at which it leaves, in bit/s: above Target, so that a frame isn't late.
	Pacing int64
	// Burst is how many bytes may leave at once where nothing is left behind: 40 ms of Target while the path has room, 0 otherwise
	// and for [Reports], which don't show it.
	Burst int
	// Padding, in bit/s, is worth sending in all if media is less: only [Reports] wants some, where clusters can't be seen.
	Padding int64
	State   State
	// Loss is the share of packets lost lately, 0–1; Inherent what of it the link loses at any rate.
	Loss, Inherent float64
	// Queue is the delay that packets wait on the path: one way, above the least seen in the last two minutes.
	Queue time.Duration
	// RTT is the smoothed round trip, 0 until it is known.
	RTT time.Duration
	// Limited: less is sent than the target allows, so that it grows by probes only.
	Limited bool
}

// Counts are of what feedback told, and of what was wrong with it.
type Counts struct {
	// Received and Lost are packets by their fate: one that comes after it was called lost is no longer lost, and of one that left
	// again the first counts, which was lost.
	Received, Lost uint64
	// Unknown is feedback for packets that weren't sent or are forgotten, Duplicate for those known already.
	Unknown, Duplicate uint64
	// Absurd are arrival times that can't be, Malformed feedback that doesn't parse.
	Absurd, Malformed uint64
	// Silent are packets that feedback passed over.
	Silent uint64
	// Probes were evaluated, ProbesFailed brought nothing.
	Probes, ProbesFailed uint64
}

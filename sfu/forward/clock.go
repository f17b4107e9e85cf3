package forward

import "time"

// ntpSince returns b-a of two 64-bit NTP timestamps (RFC 3550 section 4: 32.32 fixed point seconds since 1900). The
// difference is right across the era's end in 2036, up to 68 years either way.
func ntpSince(a, b uint64) time.Duration {
	d := int64(b - a)
	return time.Duration(d>>32)*time.Second + time.Duration((d&0xffffffff)*int64(time.Second)>>32)
}

// NTP returns the 64-bit NTP timestamp of a wall-clock time, as sender reports carry it (RFC 3550 section 6.4.1).
func NTP(t time.Time) uint64 {
	const unixToNTP = 2208988800 // seconds from 1900-01-01 to 1970-01-01
	return uint64(t.Unix()+unixToNTP)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// Bounds of [SenderClock].
const (
	clockDrift     = 200                    // parts per million that two clocks may drift apart
	clockStep      = 500 * time.Millisecond // a larger difference, seen clockStepsSeen times in a row, is a step
	clockStepsSeen = 3
)

// SenderClock brings the NTP clock of one participant into server time. All tracks of the participant share one, so that
// their capture times keep the distance that the sender gave them; that they all lie the shortest transit time too late
// doesn't matter to anybody.
type SenderClock struct {
	started bool
	base    uint64        // NTP timestamp of the first report
	offset  time.Duration // server time minus time since base
	seen    time.Duration // arrival of the latest report
	steps   int
}

// Observe notes a sender report that arrived at arrival and returns the server time that its NTP timestamp stands for.
// ok is false for a sender without a clock: RFC 3550 section 6.4.1, "MAY set the NTP timestamp to zero".
func (c *SenderClock) Observe(ntp uint64, arrival time.Duration) (capture time.Duration, ok bool) {
	if ntp == 0 {
		return 0, false
	}
	if !c.started {
		*c = SenderClock{started: true, base: ntp, offset: arrival, seen: arrival}
		return arrival, true
	}
	since := ntpSince(c.base, ntp)
	// Reports are delayed by queues, never sent early: the least delay seen is nearest the truth. It may creep up with the
	// clocks' drift, and steps when the sender's clock was set.
	off := arrival - since - c.offset
	switch {
	case off > clockStep || off < -clockStep:
		c.steps++
		if c.steps >= clockStepsSeen {
			c.offset += off
			c.steps = 0
		}
	case off < 0:
		c.offset += off
		c.steps = 0
	default:
		c.offset += min(off, max(arrival-c.seen, 0)*clockDrift/1e6)
		c.steps = 0
	}
	c.seen = max(c.seen, arrival)
	return c.offset + since, true
}

// Line maps the RTP timestamps of one layer to server time.
type Line struct {
	// At is the server time of RTP.
	At  time.Duration
	RTP uint32
	// Rate is the RTP clock rate in Hz; 0 means that the line is unknown.
	Rate uint32
}

// Known reports whether the line maps anything.
func (l Line) Known() bool { return l.Rate != 0 }

// Capture returns the server time of an RTP timestamp within half the timestamp space of the line's point.
func (l Line) Capture(rtp uint32) time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return l.At + ticksToDuration(int64(int32(rtp-l.RTP)), l.Rate)
}

// Timestamp returns the RTP timestamp of a server time.
func (l Line) Timestamp(at time.Duration) uint32 {
	return l.RTP + uint32(durationToTicks(at-l.At, l.Rate))
}

func ticksToDuration(ticks int64, rate uint32) time.Duration {
	r := int64(rate)
	return time.Duration(ticks/r)*time.Second + time.Duration(ticks%r*int64(time.Second)/r)
}

func durationToTicks(d time.Duration, rate uint32) int64 {
	r := int64(rate)
	return int64(d/time.Second)*r + int64(d%time.Second)*r/int64(time.Second)
}

// Timeline is the capture-time mapping of one track: a line per layer, from the layers' sender reports.
type Timeline struct {
	rate  uint32
	lines [MaxLayers]Line
}

// NewTimeline returns an empty timeline of a track whose timestamps tick rate times a second.
func NewTimeline(rate uint32) *Timeline { return &Timeline{rate: max(rate, 1)} }

// Report notes a sender report of layer: RTP timestamp rtp was captured at capture, see [SenderClock.Observe].
func (t *Timeline) Report(layer uint8, rtp uint32, capture time.Duration) {
	if layer < MaxLayers {
		t.lines[layer] = Line{At: capture, RTP: rtp, Rate: t.rate}
	}
}

// Line returns the line of layer, which is unknown before its first report.
func (t *Timeline) Line(layer uint8) Line {
	if layer >= MaxLayers {
		return Line{}
	}
	return t.lines[layer]
}

// Reset forgets layer's line: its source restarted.
func (t *Timeline) Reset(layer uint8) {
	if layer < MaxLayers {
		t.lines[layer] = Line{}
	}
}

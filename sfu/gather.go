package sfu

import (
	"slices"
	"time"
)

// The packets of a frame go on together, as far as they are at hand: each subscriber is looked at once per frame, and what it
// gets of it can leave as one run.
//
//  1. A packet waits (deliver) until the frame's marker has come, or maxGathered packets have.
//  2. When the reader has nothing more at hand (rest), what was gathered goes on, as a rule. Where many follow and the rest of a
//     frame has come soon of late, it waits for that, but no longer than the batch delay.
//
// All of it happens with the plane's receiving held.

const (
	// maxGathered is how many packets of a frame go on together at most: what leaves as one run.
	maxGathered       = maxRun
	defaultBatchDelay = time.Millisecond // see Config.BatchDelay
	// lingerFollowers is how many subscribers make it worth to wait for a frame's rest: a timer costs as much as a few runs.
	lingerFollowers = 6
	// The rest is expected soon after it came soon lingerAfter times more often than not; a miss counts lingerMiss times.
	lingerAfter = 4
	lingerMost  = 8
	lingerMiss  = 2
)

// gather is what waits of one layer for the rest of a frame.
type gather struct {
	packets  []*packet
	audience int           // so many subscriptions took the latest
	since    time.Duration // when the first of packets came
	soon     int           // how often the rest of a frame came soon of late: see lingerAfter
	// rested is when the reader last had no more of a frame, which had this timestamp; 0 if that was its end.
	rested    time.Duration
	timestamp uint32
}

// gathering is what waits at one ingest.
type gathering struct {
	layers []*layer
	delay  time.Duration // the batch delay, negative for none
	timer  *time.Timer   // nil before it was first needed
	// expire has rest called with the plane's receiving held. nil: nothing lingers.
	expire func()
}

// learn notes how long after a rest another packet of the frame has come.
func (g *gather) learn(p *packet, delay time.Duration) {
	if g.rested == 0 {
		return
	}
	switch soon := p.forward.Arrival-g.rested <= delay; {
	case p.forward.Timestamp != g.timestamp: // the rest was lost, or wasn't to come
	case soon:
		g.soon = min(g.soon+1, lingerMost)
	default:
		g.soon = max(g.soon-lingerMiss, 0)
	}
	g.rested = 0
}

// deliver hands one received packet on: of audio at once, of video with the rest of its frame.
func (in *ingest) deliver(l *layer, p *packet) {
	if l.pub.cfg.Kind == Audio {
		l.pub.say(p)
		return
	}
	g := &l.gather
	g.learn(p, in.gathering.delay)
	if len(g.packets) == 0 {
		in.gathering.layers = append(in.gathering.layers, l)
		g.since = p.forward.Arrival
	}
	p.retain()
	g.packets = append(g.packets, p)
	if p.forward.Marker || len(g.packets) == maxGathered {
		in.gathering.layers = slices.DeleteFunc(in.gathering.layers, func(o *layer) bool { return o == l })
		l.pass()
	}
}

// gathers reports whether the rest of a frame is awaited.
func (in *ingest) gathers() bool { return len(in.gathering.layers) > 0 }

// rest is told that there is nothing more at hand at server time now.
func (in *ingest) rest(now time.Duration) {
	w := &in.gathering
	var due time.Duration
	w.layers = slices.DeleteFunc(w.layers, func(l *layer) bool {
		g := &l.gather
		if g.rested == 0 {
			g.rested, g.timestamp = now, g.packets[len(g.packets)-1].forward.Timestamp
		}
		at := g.since + w.delay
		if w.expire != nil && g.soon >= lingerAfter && now < at && len(*l.pub.started.Load()) >= lingerFollowers {
			if due == 0 || at < due {
				due = at
			}
			return false
		}
		l.pass()
		return true
	})
	if due == 0 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(due-now, w.expire)
	} else {
		w.timer.Reset(due - now)
	}
}

// stop ends the timer.
func (w *gathering) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// pass hands what was gathered to the subscriptions.
func (l *layer) pass() {
	g := &l.gather
	l.pub.deliver(l, g.packets)
	for i, p := range g.packets {
		p.release()
		g.packets[i] = nil
	}
	g.packets = g.packets[:0]
}

package sfu

import (
	"sync"
	"sync/atomic"
)

// A publisher's packets go to all its subscribers one after the other, on the goroutine that received them. With many of them the
// last one waits for all the others, and so does what comes meanwhile on the same socket. A crew of goroutines, one for each further
// core, shares that work:
//
//  1. Whoever has packets for a large audience (publication.deliver and say) opens a shift, wakes as many helpers as the work is
//     worth, and begins with it. If the crew has a shift already, it does its work alone: nobody waits for another one's.
//  2. The list of subscriptions is cut into one part for each of them, and a part is taken in chunks, by a counter. Each begins with
//     the part that it had the last time: what the subscriptions there have in memory, and the socket that they send on, are still
//     near its core. Then it takes what the others have left. A helper that comes late finds nothing left and goes back; where no
//     core is idle none comes in time, and nothing is lost but the wake-up.
//  3. The shift is closed when nothing is left, and over once the helpers have left it. So each subscription gets the packets
//     in order, and they are the caller's again.
//
// Subscriptions share no lock in [subscription.forward], so that it makes no difference who hands them their packets.
type crew struct {
	helpers int
	wake    chan struct{} // one for each helper that is to look
	left    chan struct{} // the last helper has left a closed shift
	done    sync.WaitGroup

	busy atomic.Bool // there is a shift
	// Of the shift. Written by whoever has it, before it is open.
	round fanOut
	chunk int
	parts []part // in use; there is room for all

	_     [64]byte     // what follows is written by all of them
	gate  atomic.Int64 // how many helpers are in the shift; plus shiftClosed
	_     [64]byte
	given atomic.Int64 // to so many subscriptions, by helpers
	stats crewCounters
}

// part is a stretch of the list of subscriptions.
type part struct {
	next atomic.Int64 // the first subscription that nobody has taken
	end  int64
	_    [112]byte // processors fetch cache lines in pairs
}

// shiftClosed keeps helpers out of a shift.
const shiftClosed = -1 << 32

// Work is counted in packets sent, about 0.8 µs each; a run costs as much as runWork of them. To share a round takes 50 to 100 µs of
// processor time beside it, for waking and for what the cores have in common: about a tenth of the least that is shared. All of
// this is by BenchmarkCrew.
const (
	runWork    = 3
	sharedWork = 2000
	helperWork = 400 // for each helper
	chunkWork  = 48  // in each chunk: the last one is waited for
	minChunk   = 2   // subscriptions
	maxChunk   = 16
)

// CrewStats counts the fan-out to large audiences.
type CrewStats struct {
	// Shifts were shared out, if others came in time; Helped are the chunks that others did. Busy counts those that found the
	// crew with another's.
	Shifts, Helped, Busy uint64
}

type crewCounters struct{ shifts, helped, busy atomic.Uint64 }

// newCrew starts so many helpers. They end when stop is closed; close waits for that.
func newCrew(helpers int, stop <-chan struct{}) *crew {
	c := &crew{helpers: helpers, wake: make(chan struct{}, helpers), left: make(chan struct{}, 1), parts: make([]part, helpers+1)}
	c.gate.Store(shiftClosed)
	for n := range helpers {
		c.done.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-c.wake:
					c.help(n + 1)
				}
			}
		})
	}
	return c
}

// close waits for the helpers, who have been told to stop. What comes from then on is done without them.
func (c *crew) close() { c.done.Wait() }

// help has the helper of that number, from 1, take part in the shift, if there is one.
func (c *crew) help(number int) {
	for {
		n := c.gate.Load()
		if n < 0 {
			return
		}
		if c.gate.CompareAndSwap(n, n+1) {
			break
		}
	}
	if given, chunks := c.work(number); chunks > 0 {
		c.given.Add(int64(given))
		c.stats.helped.Add(uint64(chunks))
	}
	if c.gate.Add(-1) == shiftClosed {
		c.left <- struct{}{}
	}
}

// work does chunks until there are none left, those of its own part first. It returns how many subscriptions got the packets, in how
// many chunks.
func (c *crew) work(number int) (given, chunks int) {
	for n := range c.parts {
		p := &c.parts[(number+n)%len(c.parts)]
		for {
			to := p.next.Add(int64(c.chunk))
			from := to - int64(c.chunk)
			if from >= p.end {
				break
			}
			given += c.round.hand(c.round.to[from:min(to, p.end)])
			chunks++
		}
	}
	return given, chunks
}

// cut makes the parts for so many.
func (c *crew) cut(n int) {
	c.parts = c.parts[:n]
	for i := range c.parts {
		c.parts[i].next.Store(int64(i * len(c.round.to) / n))
		c.parts[i].end = int64((i + 1) * len(c.round.to) / n)
	}
}

// deliver hands packets out and returns to how many subscriptions. audience is how many that may be; the crew may be nil.
func (c *crew) deliver(round fanOut, audience int) (given int) {
	each := runWork + len(round.packets)
	work := audience * each
	if c == nil || c.helpers == 0 || work < sharedWork {
		return round.hand(round.to)
	}
	if !c.busy.CompareAndSwap(false, true) {
		c.stats.busy.Add(1)
		return round.hand(round.to)
	}
	c.round, c.chunk = round, max(minChunk, min(chunkWork/each, maxChunk))
	helpers := min(c.helpers, work/helperWork-1)
	c.cut(helpers + 1)
	c.given.Store(0)
	c.gate.Store(0)
	for range helpers {
		select {
		case c.wake <- struct{}{}:
		default: // they are on their way
		}
	}
	given, _ = c.work(0)
	if c.gate.Add(shiftClosed) != shiftClosed {
		<-c.left
	}
	given += int(c.given.Load())
	c.stats.shifts.Add(1)
	c.round = fanOut{}
	c.busy.Store(false)
	return given
}

func (c *crew) snapshot() CrewStats {
	if c == nil {
		return CrewStats{}
	}
	return CrewStats{Shifts: c.stats.shifts.Load(), Helped: c.stats.helped.Load(), Busy: c.stats.busy.Load()}
}

// fanOut is what a publication hands to its subscriptions: packets of one layer of a video, or one of audio.
type fanOut struct {
	pub     *publication
	to      []*subscription
	packets []*packet
	layer   uint32  // the bit of the video's layer, see heed
	places  []place // the rooms that hear the audio
}

// hand hands it to some of its subscriptions, and returns how many of them took it.
func (f *fanOut) hand(to []*subscription) (given int) {
	if f.places != nil {
		return f.say(to)
	}
	for _, s := range to {
		if s.heeded.Load()&f.layer != 0 {
			s.forward(f.pub, f.packets, false)
			given++
		}
	}
	return given
}

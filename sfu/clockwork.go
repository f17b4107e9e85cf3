package sfu

import (
	priority "container/heap"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Every paced connection has something due many times a second. A timer of its own would start a goroutine each time, whose
// stack has to grow anew down to the system call; so a few goroutines of the server's run all that is due, one after the other.

const (
	// maxHands bounds these goroutines.
	maxHands = 8
	// momentsPerHand is how many moments one of them has before another is used: several that wake at the same time cost more than one.
	momentsPerHand = 1024
)

// handLinger is how long one waits for something to wait for before it ends.
const handLinger = time.Second

// clockwork runs functions at their times. Its zero value is ready for use.
type clockwork struct {
	hands [maxHands]hand
	work  sync.WaitGroup
}

// hand is one goroutine, there while something is due some time.
type hand struct {
	moments atomic.Int64 // there are, due or not

	mu      sync.Mutex
	due     dues
	running bool
	stopped bool
	start   time.Time
	timer   *time.Timer
	until   time.Duration // what the timer is set for
}

// moment is something that is due at most once at a time.
type moment struct {
	works *clockwork
	hand  *hand
	run   func() // on a goroutine that others wait for: it mustn't block
	due   time.Duration
	index int // in the hand's heap, -1 if it isn't there
	ended bool
}

// moment returns a new one. It belongs to the first hand that has room, else to the one with the fewest moments, until its end.
// GOMAXPROCS has no say in it: it may follow the load.
func (c *clockwork) moment(run func()) *moment {
	var h *hand
	least := int64(math.MaxInt64)
	for i := range min(runtime.NumCPU(), maxHands) {
		if n := c.hands[i].moments.Load(); n < least {
			h, least = &c.hands[i], n
		}
		if least < momentsPerHand {
			break
		}
	}
	h.moments.Add(1)
	return &moment{works: c, hand: h, run: run, index: -1}
}

// in makes m due after a time, in place of when it was due before.
func (m *moment) in(after time.Duration) {
	h := m.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || m.ended {
		return
	}
	if h.timer == nil {
		h.start, h.timer = time.Now(), time.NewTimer(time.Hour)
	}
	m.due = time.Since(h.start) + max(0, after)
	if m.index < 0 {
		priority.Push(&h.due, m)
	} else {
		priority.Fix(&h.due, m.index)
	}
	switch {
	case !h.running:
		h.running, h.until = true, 0
		m.works.work.Go(h.loop)
	case h.due[0] == m && m.due < h.until:
		h.until = m.due
		h.timer.Reset(max(0, after))
	}
}

// clear makes m not due. It may be running still.
func (m *moment) clear() {
	h := m.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.index >= 0 {
		priority.Remove(&h.due, m.index)
	}
}

// end makes m not due, now and from now on.
func (m *moment) end() {
	m.clear()
	m.hand.mu.Lock()
	defer m.hand.mu.Unlock()
	if !m.ended {
		m.ended = true
		m.hand.moments.Add(-1)
	}
}

// loop runs what is due.
func (h *hand) loop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.timer.Stop(); h.running = false }()
	for idle := false; !h.stopped; {
		now := time.Since(h.start)
		switch {
		case len(h.due) == 0 && idle:
			return
		case len(h.due) == 0:
			h.until = now + handLinger
		case h.due[0].due <= now:
			idle = false
			e := priority.Pop(&h.due).(*moment)
			h.mu.Unlock()
			e.run()
			h.mu.Lock()
			continue
		default:
			h.until = h.due[0].due
		}
		idle = len(h.due) == 0
		h.timer.Reset(h.until - now)
		h.mu.Unlock()
		<-h.timer.C
		h.mu.Lock()
	}
}

// stop ends the goroutines and waits for what is running. Nothing is run any more.
func (c *clockwork) stop() {
	for i := range c.hands {
		h := &c.hands[i]
		h.mu.Lock()
		h.stopped = true
		if h.running {
			h.timer.Reset(0)
		}
		h.mu.Unlock()
	}
	c.work.Wait()
}

// dues is a heap of moments, the earliest first.
type dues []*moment

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due < d[j].due }

func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push implements priority.Interface.
func (d *dues) Push(x any) {
	e := x.(*moment)
	e.index = len(*d)
	*d = append(*d, e)
}

// Pop implements priority.Interface.
func (d *dues) Pop() any {
	last := len(*d) - 1
	e := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	e.index = -1
	return e
}

package sfu

import (
	"sync"
	"time"
)

// alarm runs one function at the earliest time that anybody asked for, without a goroutine or a timer of its own.
type alarm struct {
	clock func() time.Duration
	f     func(now time.Duration) (next time.Duration) // next 0 = no more until asked

	mu      sync.Mutex
	moment  *moment
	due     time.Duration // 0 = not set
	stopped bool
	running sync.Mutex // held while f runs
}

func newAlarm(works *clockwork, clock func() time.Duration, f func(now time.Duration) time.Duration) *alarm {
	a := &alarm{clock: clock, f: f}
	a.moment = works.moment(a.fire)
	return a
}

// at asks for f to run at due, or earlier if asked for already.
func (a *alarm) at(due time.Duration) {
	a.mu.Lock()
	if !a.stopped && due > 0 && (a.due == 0 || due < a.due) {
		a.due = due
		a.moment.in(due - a.clock())
	}
	a.mu.Unlock()
}

func (a *alarm) fire() {
	a.running.Lock()
	defer a.running.Unlock()
	a.mu.Lock()
	a.due = 0
	stopped := a.stopped
	a.mu.Unlock()
	if stopped {
		return
	}
	a.at(a.f(a.clock()))
}

// stop prevents further runs and waits for one in progress. It must not be called from f.
func (a *alarm) stop() {
	a.mu.Lock()
	a.stopped = true
	a.moment.end()
	a.mu.Unlock()
	a.running.Lock()
	//lint:ignore SA2001 waiting is all that is wanted
	a.running.Unlock()
}

package signaling

import "sync"

// inbox is what a session's connection, worker and media have to say, in their order. The room that
// the session is in hears it; while it moves from one to another, it waits.
type inbox struct {
	mu      sync.Mutex
	home    *actor // nil between two rooms
	waiting []func(*actor)
}

// post queues a message for the session's room. It never blocks and works from any goroutine.
func (b *inbox) post(m func(*actor)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, m)
	if b.home != nil {
		b.home.post(b.one)
	}
}

// settle makes a the session's room, on a's goroutine.
func (b *inbox) settle(a *actor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.home = a
	if len(b.waiting) > 0 {
		a.post(b.all)
	}
}

// depart takes the session out of its room, on that room's goroutine.
func (b *inbox) depart() {
	b.mu.Lock()
	b.home = nil
	b.mu.Unlock()
}

// one runs the oldest message, unless the session has left the room meanwhile.
func (b *inbox) one(a *actor) {
	if m := b.next(a); m != nil {
		m(a)
	}
}

func (b *inbox) all(a *actor) {
	for m := b.next(a); m != nil; m = b.next(a) {
		m(a)
	}
}

func (b *inbox) next(a *actor) func(*actor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.home != a || len(b.waiting) == 0 {
		return nil
	}
	m := b.waiting[0]
	b.waiting[0] = nil
	b.waiting = b.waiting[1:]
	return m
}

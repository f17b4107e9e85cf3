package signaling

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// TestOffersThatWaitAreBounded: a client offers faster than its offers can be answered.
func TestOffersThatWaitAreBounded(t *testing.T) {
	w := newWorker(0)
	sdp := strings.Repeat("x", wire.MaxSDPBytes)
	var err error
	taken := 0
	for ; err == nil && taken < 100; taken++ {
		err = w.ask(sdp, func(Peer) {})
	}
	var refusal *room.Refusal
	if !errors.As(err, &refusal) || refusal.Code != room.LimitExceeded || taken < 3 {
		t.Errorf("%d offers of %d bytes wait, then: %v", taken, len(sdp), err)
	}
	for taken = 0; w.ask("", func(Peer) {}) == nil && taken < 100_000; taken++ {
	}
	if taken == 100_000 {
		t.Error("there is no end to small ones")
	}
	// Once they are done, there is room again.
	done := make(chan struct{})
	w.do(func(Peer) { close(done) })
	ended := make(chan struct{})
	w.start(newFakeMedia(), MediaConfig{ID: "PA_x", Notify: func(MediaEvent) {}}, func(error) {}, func() { close(ended) })
	<-done
	again := make(chan error, 1)
	w.do(func(Peer) { again <- w.ask(sdp, func(Peer) {}) })
	if err := <-again; err != nil {
		t.Errorf("an offer after all were done: %v", err)
	}
	w.close()
	<-ended
}

// TestWorkersWakeUp: whatever is queued is done, also by those who queue it while the worker's goroutine is
// about to end, one at a time and in each one's order.
func TestWorkersWakeUp(t *testing.T) {
	const producers, each = 16, 500
	media := newFakeMedia()
	w := newWorker(0)
	ended := make(chan struct{})
	w.start(media, MediaConfig{ID: "PA_x", Notify: func(MediaEvent) {}}, func(error) {}, func() { close(ended) })
	var last [producers]int // unguarded: the race detector sees two calls at a time
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				done := make(chan struct{})
				w.do(func(Peer) {
					if last[p] != i {
						t.Errorf("producer %d: call %d comes after %d", p, i, last[p])
					}
					last[p]++
					close(done)
				})
				if i%3 > 0 {
					<-done // the worker has nothing to do for a moment
				}
			}
		})
	}
	wg.Wait()
	done := make(chan struct{})
	w.do(func(Peer) { close(done) })
	<-done
	for p := range producers {
		if last[p] != each {
			t.Errorf("producer %d: %d calls were made", p, last[p])
		}
	}
	w.close()
	w.do(func(Peer) { t.Error("a call after the close") })
	<-ended
	if media.open != 0 {
		t.Error("the peer was not closed")
	}
}

// TestWorkerWithoutMedia: where joining fails, only those calls are made that must be.
func TestWorkerWithoutMedia(t *testing.T) {
	media := newFakeMedia()
	media.fail = errors.New("no ports are left")
	w := newWorker(0)
	failed, ended := make(chan error, 1), make(chan struct{})
	w.do(func(Peer) { t.Error("a call without media") })
	w.start(media, MediaConfig{ID: "PA_x"}, func(err error) { failed <- err }, func() { close(ended) })
	if err := <-failed; !errors.Is(err, media.fail) {
		t.Errorf("joining failed with %v", err)
	}
	given := make(chan Peer)
	w.always(func(p Peer) { given <- p })
	if p := <-given; p != nil {
		t.Errorf("there is media: %v", p)
	}
	w.close()
	<-ended
}

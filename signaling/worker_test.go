package signaling

import (
	"errors"
	"strings"
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
	go func() {
		defer close(ended)
		w.run(newFakeMedia(), MediaConfig{ID: "PA_x", Notify: func(MediaEvent) {}}, func(error) {})
	}()
	<-done
	again := make(chan error, 1)
	w.do(func(Peer) { again <- w.ask(sdp, func(Peer) {}) })
	if err := <-again; err != nil {
		t.Errorf("an offer after all were done: %v", err)
	}
	w.close()
	<-ended
}

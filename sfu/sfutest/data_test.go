package sfutest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"anytime/sfu"
)

// inOrder checks that the reliable messages m0 to m(n-1) have come, each once. Only m0 may come twice where its channel was
// replaced: if that closed before the message was acknowledged, the next brings it again, and SDKs tell by its number.
func inOrder(t *testing.T, c *Client, n int) {
	t.Helper()
	must(t, c.AwaitData(true, fmt.Sprint("m", n-1)))
	c.mu.Lock()
	replaced := len(c.receiving) > 2
	c.mu.Unlock()
	i := 0
	for _, d := range c.Data() {
		if !d.Reliable {
			continue
		}
		if replaced && i == 1 && string(d.Payload) == "m0" {
			continue
		}
		if want := fmt.Sprint("m", i); string(d.Payload) != want {
			t.Fatalf("message %d is %q", i, d.Payload)
		}
		i++
	}
	if i != n {
		t.Errorf("%d messages came, %d were sent", i, n)
	}
}

// TestReliableDataOutlivesTheNetwork: what is sent while a receiver's network is away arrives when it is back.
func TestReliableDataOutlivesTheNetwork(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	must(t, a.Participant.SendData(true, []byte("m0")))
	must(t, a.AwaitData(true, "m0"))
	restore := a.Cut()
	for i := range 200 {
		must(t, a.Participant.SendData(true, fmt.Append(nil, "m", i+1)))
	}
	must(t, a.AwaitState(sfu.Subscriber, sfu.Disconnected)) // it has been away for seconds
	restore()
	inOrder(t, a, 201)
}

// TestReliableDataOutlivesItsChannel: the client closes its channel, and gets another with all that came meanwhile.
func TestReliableDataOutlivesItsChannel(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	must(t, a.Participant.SendData(true, []byte("m0")))
	must(t, a.AwaitData(true, "m0"))
	must(t, a.CloseData())
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	channels := func() (reliable int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, dc := range a.receiving {
			if dc.Label() == "_reliable" {
				reliable++
			}
		}
		return reliable
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 1; channels() < 2; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the server opened no other channel")
		}
	}
	for i := range 100 {
		must(t, a.Participant.SendData(true, fmt.Append(nil, "m", i+1)))
	}
	inOrder(t, a, 101)
}

// TestStuckReceiverHarmsNobody: one of three receivers takes nothing. The others get everything at once, and what waits
// for the stuck one is bounded.
func TestStuckReceiverHarmsNobody(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	stuck, b, c := n.Join(t, "room", "PA_stuck"), n.Join(t, "room", "PA_b"), n.Join(t, "room", "PA_c")
	for _, who := range []*Client{stuck, b, c} {
		must(t, who.Participant.SendData(true, []byte("open")))
		must(t, who.AwaitData(true, "open"))
	}
	stuck.Cut()
	const messages, size = 200, 32 << 10 // 6.25 MB
	taken := 0
	var overflow error
	started := time.Now()
	for i := range messages {
		message := make([]byte, size)
		copy(message, fmt.Sprintf("%05d", i))
		for _, who := range []*Client{b, c} {
			must(t, who.Participant.SendData(true, message))
		}
		if overflow == nil {
			if overflow = stuck.Participant.SendData(true, message); overflow == nil {
				taken++
			}
		}
		if i%16 == 15 { // at the speed that the others take it
			for _, who := range []*Client{b, c} {
				must(t, who.await("data", func() bool { return len(who.data) >= i-15 }))
			}
		}
	}
	for _, who := range []*Client{b, c} {
		must(t, who.await("all data", func() bool { return len(who.data) == messages+1 }))
		for i, d := range who.Data()[1:] {
			if string(d.Payload[:5]) != fmt.Sprintf("%05d", i) {
				t.Fatalf("%s: message %d is %q", who.ID, i, d.Payload[:5])
			}
		}
	}
	t.Logf("%d MB to each of two in %v", messages*size>>20, time.Since(started).Round(time.Millisecond))
	if !errors.Is(overflow, sfu.ErrOverflow) || taken*size > 4<<20 {
		t.Errorf("%d bytes were taken for the stuck one, then: %v", taken*size, overflow)
	}
}

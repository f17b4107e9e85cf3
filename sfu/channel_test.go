package sfu

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fakeCarrier is a data channel of which the test says what has arrived.
type fakeCarrier struct {
	sent    []string
	waiting uint64
	broken  bool // closed, unknown to us
	small   int  // messages above it are refused
}

func (f *fakeCarrier) Send(b []byte) error {
	switch {
	case f.broken:
		return errors.New("closed")
	case f.small > 0 && len(b) > f.small:
		return errors.New("too large")
	}
	f.sent = append(f.sent, string(b))
	f.waiting += uint64(len(b))
	return nil
}

func (f *fakeCarrier) BufferedAmount() uint64 { return f.waiting }
func (f *fakeCarrier) Alive() bool            { return !f.broken }

func (f *fakeCarrier) want(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(f.sent, " "); got != strings.Join(want, " ") {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func clock(at *time.Duration) func() time.Duration { return func() time.Duration { return *at } }

// TestChannelOutlivesItsCarriers: what a closed channel had not delivered goes over the next one, first and in order.
func TestChannelOutlivesItsCarriers(t *testing.T) {
	now := time.Duration(0)
	c := newChannel(true, clock(&now))
	send := func(list ...string) {
		t.Helper()
		for _, s := range list {
			if err := c.send([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("early1", "early2")
	first := &fakeCarrier{}
	c.opened(first)
	send("a")
	first.want(t, "early1", "early2", "a")
	first.waiting = 0 // all has arrived
	send("b", "c")    // this hasn't
	c.closed(&fakeCarrier{})
	send("d")
	first.want(t, "early1", "early2", "a", "b", "c", "d")
	first.broken = true // and we aren't told
	send("e")
	c.closed(first)
	send("f")
	second := &fakeCarrier{}
	c.opened(second)
	send("g")
	second.want(t, "b", "c", "d", "e", "f", "g")
	third := &fakeCarrier{}
	second.waiting = 0
	send("h")
	c.opened(third) // a new one, before the old is told closed
	c.closed(second)
	send("i")
	third.want(t, "h", "i")
}

func TestChannelResends(t *testing.T) {
	now := time.Duration(0)
	c := newChannel(true, clock(&now))
	first := &fakeCarrier{}
	c.opened(first)
	var all [][]byte
	for i := range 6 {
		all = append(all, []byte(fmt.Sprint("m", i)))
	}
	for _, b := range all[:4] {
		if err := c.send(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.resend(all[2:4]); err != nil { // they are on their way
		t.Fatal(err)
	}
	first.want(t, "m0", "m1", "m2", "m3")
	first.waiting = 0 // acknowledged, but the client's channel went away before it read them
	if err := c.send(all[4]); err != nil {
		t.Fatal(err)
	}
	c.closed(first)
	if err := c.send(all[5]); err != nil {
		t.Fatal(err)
	}
	if err := c.resend(all[2:]); err != nil {
		t.Fatal(err)
	}
	second := &fakeCarrier{}
	c.opened(second)
	second.want(t, "m2", "m3", "m4", "m5")
	if err := c.resend(all[1:5]); err != nil { // not those that this one carries
		t.Fatal(err)
	}
	second.want(t, "m2", "m3", "m4", "m5", "m1")
	c.closed(second)
	big := make([]byte, maxReliableBuffered)
	if err := c.resend([][]byte{big}); !errors.Is(err, ErrOverflow) {
		t.Errorf("more than may wait: %v", err)
	}
}

func TestChannelIsBounded(t *testing.T) {
	now := time.Duration(0)
	message := make([]byte, 64<<10)
	t.Run("never opened", func(t *testing.T) {
		c := newChannel(true, clock(&now))
		for i := range 1000 {
			if err := c.send(message); err != nil {
				t.Fatalf("message %d to one without data channels: %v", i, err)
			}
		}
		if c.held.bytes > maxReliableBuffered || c.dropped == 0 {
			t.Errorf("%d bytes wait, %d were dropped", c.held.bytes, c.dropped)
		}
	})
	for _, open := range []bool{true, false} {
		t.Run(fmt.Sprint("stuck, open ", open), func(t *testing.T) {
			c := newChannel(true, clock(&now))
			stuck := &fakeCarrier{}
			c.opened(stuck)
			if !open {
				c.closed(stuck)
			}
			n := 0
			for ; c.send(message) == nil; n++ {
				if n > 100 {
					t.Fatal("no bound")
				}
			}
			if n != maxReliableBuffered/len(message) {
				t.Errorf("%d messages were taken", n)
			}
		})
	}
	t.Run("slow but steady", func(t *testing.T) {
		c := newChannel(true, clock(&now))
		f := &fakeCarrier{}
		c.opened(f)
		for range 1000 {
			if err := c.send(message); err != nil {
				t.Fatal(err)
			}
			f.sent = nil
			f.waiting = min(f.waiting, 100_000)
		}
		if kept := c.sent.bytes; kept > 100_000+ackMargin+2*len(message) {
			t.Errorf("%d bytes are kept", kept)
		}
	})
	t.Run("small receiver", func(t *testing.T) {
		c := newChannel(true, clock(&now))
		f := &fakeCarrier{small: 10}
		c.opened(f)
		for _, s := range []string{"one", "larger than it takes", "two"} {
			if err := c.send([]byte(s)); err != nil {
				t.Error(err)
			}
		}
		f.want(t, "one", "two")
	})
}

// TestLossyIsDroppedBeforeItIsStale: a queue that stands is not added to, a burst is.
func TestLossyIsDroppedBeforeItIsStale(t *testing.T) {
	now := time.Second
	c := newChannel(false, clock(&now))
	message := make([]byte, 1000)
	took := func(f *fakeCarrier) bool {
		n := len(f.sent)
		if err := c.send(message); err != nil {
			t.Fatal(err)
		}
		return len(f.sent) > n
	}
	f := &fakeCarrier{}
	if took(f) {
		t.Error("taken without a channel")
	}
	c.opened(f)
	for i := range 200 {
		if !took(f) {
			t.Fatalf("message %d of a burst was dropped", i)
		}
	}
	for took(f) {
	}
	if f.waiting > maxLossyBuffered || f.waiting < maxLossyBuffered-2000 {
		t.Errorf("%d bytes wait at most", f.waiting)
	}
	f.waiting = 100_000
	now += lossyPatience / 2
	if !took(f) {
		t.Error("dropped although the burst may yet pass")
	}
	now += lossyPatience
	if took(f) {
		t.Error("taken although the queue stands")
	}
	f.waiting = 10_000
	if !took(f) {
		t.Error("dropped although the queue has drained")
	}
	f.waiting = 100_000
	if !took(f) {
		t.Error("dropped at the begin of another burst")
	}
}

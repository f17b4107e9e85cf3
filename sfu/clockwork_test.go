package sfu

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockworkRunsInOrder: what is due runs at its time, once, and not when it was cleared or put off.
func TestClockworkRunsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clockwork
		began := time.Now()
		var mu sync.Mutex
		var got []string
		at := map[string]time.Duration{}
		make := func(name string) *moment {
			return c.moment(func() {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, name)
				at[name] = time.Since(began)
			})
		}
		a, b, gone, late, past := make("a"), make("b"), make("gone"), make("late"), make("past")
		b.in(20 * time.Millisecond)
		a.in(30 * time.Millisecond)
		a.in(10 * time.Millisecond) // earlier than what is waited for
		gone.in(5 * time.Millisecond)
		gone.clear()
		late.in(5 * time.Millisecond)
		late.in(time.Minute)
		past.in(-time.Hour)
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		mu.Lock()
		if !slices.Equal(got, []string{"past", "a", "b"}) || at["a"] != 10*time.Millisecond || at["b"] != 20*time.Millisecond {
			t.Errorf("ran %v, at %v", got, at)
		}
		mu.Unlock()
		c.stop()
		a.in(0)
		synctest.Wait()
		if len(got) != 3 {
			t.Errorf("%v ran after the end", got[3:])
		}
	})
}

// TestClockworkRests: its goroutines end when nothing is due for long, and come back.
func TestClockworkRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clockwork
		ran := 0
		m := c.moment(func() { ran++ })
		for range 3 {
			m.in(time.Millisecond)
			time.Sleep(2*handLinger + time.Second)
			synctest.Wait()
			m.hand.mu.Lock()
			if m.hand.running {
				t.Error("it waits for nothing")
			}
			m.hand.mu.Unlock()
		}
		if ran != 3 {
			t.Errorf("ran %d times, want 3", ran)
		}
	})
}

// TestClockworkUsesFewHands: another one only when the first has all that it takes.
func TestClockworkUsesFewHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clockwork
		defer c.stop()
		if runtime.NumCPU() == 1 {
			return // there is one hand
		}
		var all []*moment
		for range momentsPerHand + 1 {
			all = append(all, c.moment(func() {}))
		}
		if first, second := c.hands[0].moments.Load(), c.hands[1].moments.Load(); first != momentsPerHand || second != 1 {
			t.Errorf("%d are the first hand's, %d the second's; want %d and 1", first, second, momentsPerHand)
		}
		ran := false
		last := c.moment(func() { ran = true })
		last.in(time.Minute)
		for _, m := range append(all, last) {
			m.end()
			m.end()
			m.in(0)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if first, second := c.hands[0].moments.Load(), c.hands[1].moments.Load(); first+second != 0 || ran {
			t.Errorf("%d and %d are left, of which one ran: %v", first, second, ran)
		}
	})
}

// TestClockworkConcurrently: many set, put off and clear; nothing that is set last is lost.
func TestClockworkConcurrently(t *testing.T) {
	var c clockwork
	var done sync.WaitGroup
	for range 50 {
		ran := make(chan struct{}, 1000)
		m := c.moment(func() { ran <- struct{}{} })
		done.Go(func() {
			for i := range 200 {
				m.in(time.Duration(i%7) * 100 * time.Microsecond)
				if i%5 == 0 {
					m.clear()
				}
			}
			for len(ran) > 0 {
				<-ran
			}
			m.in(time.Millisecond)
			<-ran
		})
	}
	done.Wait()
	c.stop()
}

func BenchmarkClockwork(b *testing.B) {
	var c clockwork
	defer c.stop()
	ran := make(chan struct{}, 1)
	m := c.moment(func() { ran <- struct{}{} })
	b.ReportAllocs()
	for b.Loop() {
		m.in(0)
		<-ran
	}
}

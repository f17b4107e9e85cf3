package sfu

import (
	"testing"
	"time"
)

func TestRecent(t *testing.T) {
	t.Parallel()
	var r recent
	if got := r.since(counted{at: time.Second, packets: 5}); got != (Recent{}) {
		t.Errorf("before any mark: %+v", got)
	}
	// 100 packets of 125 bytes a second, four frames; from the tenth second on every fifth is lost.
	at := func(second int) counted {
		n := uint64(second)
		return counted{at: time.Duration(second) * time.Second, packets: 100 * n, bytes: 12500 * n, frames: 4 * n, lost: 25 * int64(max(second-10, 0))}
	}
	for second := 1; second <= 30; second++ {
		c := at(second)
		r.mark(c)
		got := r.since(c)
		if second == 1 {
			if got.Measured() || got.Bitrate() != 0 || got.FPS() != 0 {
				t.Errorf("at the first mark: %+v", got)
			}
			continue
		}
		if got.Bitrate() != 100_000 || got.FPS() != 4 || got.Packets != uint64(100*got.Span/time.Second) {
			t.Errorf("after %d s: %+v", second, got)
		}
		if second > 8 && (got.Span < recentSpan || got.Span > 2*recentSpan) {
			t.Errorf("after %d s the figures are of %v", second, got.Span)
		}
		if want := 0.2; second >= 17 && got.Loss() != want || second <= 10 && got.Loss() != 0 {
			t.Errorf("after %d s a loss of %.2f", second, got.Loss())
		}
	}
	// A source that begins anew counts from 0; what it had lost before isn't found again.
	if got := r.since(counted{at: 31 * time.Second, packets: 3, bytes: 9}); got.Packets != 0 || got.Lost != 0 || got.Bitrate() != 0 {
		t.Errorf("after counters began anew: %+v", got)
	}
	if got := (Recent{Span: time.Second, Packets: 4, Lost: 5}); got.Measured() || got.Loss() != 0 {
		t.Errorf("a loss of %.2f of nine packets", got.Loss())
	}
}

func TestFreezeMeter(t *testing.T) {
	t.Parallel()
	var m freezeMeter
	now := time.Minute // the first packet is late for nothing
	play := func(frames int) {
		for range frames {
			now += 33 * time.Millisecond
			m.packet(now)
		}
	}
	check := func(what string, runs bool, count uint64, frozen time.Duration) {
		t.Helper()
		if n, d := m.total(now, runs); n != count || d != frozen {
			t.Errorf("%s: %d freezes of %v, want %d of %v", what, n, d, count, frozen)
		}
	}
	check("before anything", true, 0, 0)
	play(30)
	now += freezeGap - 33*time.Millisecond
	play(1)
	check("a gap that is no freeze", true, 0, 0)
	now += 700 * time.Millisecond
	check("one that goes on", true, 1, 700*time.Millisecond)
	check("one that goes on while muted", false, 0, 0)
	play(10)
	check("one that is over", true, 1, 733*time.Millisecond)
	m.interrupt()
	now += time.Hour
	check("an hour of pause", true, 1, 733*time.Millisecond)
	play(10)
	check("after it", true, 1, 733*time.Millisecond)
	now += 2 * time.Second
	play(1)
	check("a second freeze", true, 2, 2766*time.Millisecond)
}

package sfu

import (
	"fmt"
	"testing"
	"time"
)

// TestFramesLinger: where many follow and the rest of a frame has come soon of late, it is waited for, and no longer than the
// batch delay.
func TestFramesLinger(t *testing.T) {
	const ms = time.Millisecond
	for _, x := range []struct {
		name      string
		followers int
		gap       time.Duration // between the halves of a frame
		delay     time.Duration
		lingers   bool
	}{
		{"many, soon", lingerFollowers, ms / 2, ms, true},
		{"few", lingerFollowers - 1, ms / 2, ms, false},
		{"late", lingerFollowers, 2 * ms, ms, false},
		{"no delay", lingerFollowers, ms / 2, -1, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			st := newStage(t)
			st.in.gathering.delay, st.in.gathering.expire = x.delay, func() {}
			video := st.publish("TR_v", Video, videoSection("0"))
			var first *recorder
			for i := range x.followers {
				_, r := st.subscribe(video, fmt.Sprint("PA_", i), videoSection("0"))
				if first == nil {
					first = r
				}
			}
			v := feed{ssrc: 7, pt: 96, mid: "0"}
			now := time.Second
			half := func(start, marker bool) int {
				before := first.n
				st.in.rtp(v.packet(v.vp8(start, start && v.timestamp == 3000), marker), now)
				st.in.rest(now)
				return first.n - before
			}
			for range 2 * lingerAfter {
				v.timestamp += 3000
				half(true, false)
				now += x.gap
				half(false, true)
				now += 33 * ms
			}
			v.timestamp += 3000
			if n := half(true, false); (n == 0) != x.lingers {
				t.Fatalf("%d packets of the first half left at once", n)
			}
			if !x.lingers {
				return
			}
			now += x.gap
			if n := half(false, true); n != 2 {
				t.Errorf("%d packets left with the second half, want both", n)
			}
			now += 33 * ms
			v.timestamp += 3000
			half(true, false)
			before := first.n
			st.in.rest(now + x.delay) // as the timer does
			if first.n != before+1 {
				t.Errorf("%d packets left when the rest didn't come, want 1", first.n-before)
			}
		})
	}
}

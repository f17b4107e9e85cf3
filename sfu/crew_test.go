package sfu

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// employ gives the server of a stage a crew.
func (st *stage) employ(helpers int) *crew {
	stop := make(chan struct{})
	c := newCrew(helpers, stop)
	st.server.crew = c
	st.t.Cleanup(func() {
		close(stop)
		c.close()
	})
	return c
}

// meeting is a sink in which the first packet waits until another goroutine sends something, too.
type meeting struct {
	first  *sync.Once
	other  chan struct{}
	others *atomic.Int32
	missed *atomic.Bool
}

func (m meeting) sendRun(run []segment) int {
	waits := false
	m.first.Do(func() { waits = true })
	switch {
	case !waits:
		if m.others.Add(1) == 1 {
			close(m.other)
		}
	default:
		select {
		case <-m.other:
		case <-time.After(10 * time.Second):
			m.missed.Store(true)
		}
	}
	return len(run)
}

// TestCrewShares: whoever has the first chunk waits in it until somebody else does another one.
func TestCrewShares(t *testing.T) {
	st := newStage(t)
	c := st.employ(1)
	video := st.publish("TR_v", Video, videoSection("0"))
	audio := st.publish("TR_a", Audio, audioSection("1"))
	const viewers, listeners = sharedWork / 8, sharedWork / (runWork + 1)
	v, a := feed{ssrc: 7, pt: 96, mid: "0"}, feed{ssrc: 8, pt: 111, mid: "1"}
	frame := func(key bool) {
		v.timestamp += 3000
		v.picture++
		for i := range 5 {
			st.in.rtp(v.packet(v.vp8(i == 0, key), i == 4), st.server.now())
		}
	}
	opus := func() {
		a.timestamp += 960
		st.in.one(a.packet(make([]byte, 80), false), st.server.now())
	}
	for i := range viewers {
		st.subscribe(video, fmt.Sprintf("PA_v%d", i), videoSection("0"))
	}
	for i := range listeners {
		st.subscribe(audio, fmt.Sprintf("PA_a%d", i), audioSection("1"))
	}
	frame(true) // before that nobody knows how many there will be
	opus()
	if s := c.snapshot(); s.Shifts != 0 {
		t.Errorf("%+v before the audience was known", s)
	}
	for what, x := range map[string]struct {
		pub  *publication
		send func()
	}{"video": {video, func() { frame(false) }}, "audio": {audio, opus}} {
		before := c.snapshot()
		m := meeting{first: new(sync.Once), other: make(chan struct{}), others: new(atomic.Int32), missed: new(atomic.Bool)}
		for _, s := range *x.pub.started.Load() {
			s.out.egress.sink = m
		}
		x.send()
		if m.missed.Load() {
			t.Errorf("%s: nobody helped", what)
		}
		if n, want := int(m.others.Load())+1, len(*x.pub.started.Load()); n != want {
			t.Errorf("%s: %d runs, want %d", what, n, want)
		}
		if s := c.snapshot(); s.Shifts != before.Shifts+1 || s.Helped == before.Helped {
			t.Errorf("%s: %+v, before %+v", what, s, before)
		}
	}
	// Where the crew has another's shift, nobody waits for its end.
	before := c.snapshot()
	c.busy.Store(true)
	frame(false)
	c.busy.Store(false)
	if s := c.snapshot(); s.Busy != before.Busy+1 || s.Shifts != before.Shifts || s.Helped != before.Helped {
		t.Errorf("%+v, before %+v", s, before)
	}
}

// TestCrewChangesNothing: two publishers at a time and 200 subscribers of each, of whom some leave, get with a crew what they get
// without: every packet in order.
func TestCrewChangesNothing(t *testing.T) {
	want := crowd(t, 0)
	got := crowd(t, 3)
	for i := range want {
		if !slices.EqualFunc(want[i], got[i], bytes.Equal) {
			t.Errorf("subscriber %d: %d packets without a crew, %d with one, or others", i, len(want[i]), len(got[i]))
		}
	}
}

// crowd returns what each of the subscribers got that stayed, as it was numbered from its first packet on.
func crowd(t *testing.T, helpers int) (got [][][]byte) {
	const subscribers, frames = 200, 30
	h := newHall(t)
	c := h.employ(helpers)
	var all []*recorder
	var publishing sync.WaitGroup
	for n := range 2 {
		_, in, sent := h.newcomer(fmt.Sprintf("PA_%d", n))
		pub := h.announce(in.p, in, PublicationConfig{ID: fmt.Sprintf("TR_%d", n), CID: "cid-0", Kind: Video}, videoSection("0"))
		var leaving []*subscription
		for i := range subscribers {
			s, r := h.subscribe(pub, fmt.Sprintf("PA_%d_%d", n, i), videoSection("0"))
			if r.keep = i%10 != 0; r.keep {
				all = append(all, r)
			} else {
				leaving = append(leaving, s)
			}
		}
		v := &feed{ssrc: uint32(7 + n), pt: 96, mid: "0", sequence: 65500, picture: 0x7ff0}
		publishing.Go(func() {
			now := time.Second
			for frame := range frames {
				now += 33 * time.Millisecond
				v.timestamp += 3000
				v.picture = (v.picture + 1) & 0x7fff
				packets := [...]int{1, 5, 40}[frame%3]
				for i := range packets {
					// The first frames come without a keyframe: everybody asks for one.
					b := v.vp8(i == 0, frame%10 == 2)[:50]
					b[4] = byte(v.picture) // TL0PICIDX
					b[48], b[49] = byte(frame), byte(i)
					in.rtp(v.packet(b, i == packets-1), now)
				}
				in.rest(0)
			}
		})
		publishing.Go(func() {
			for _, s := range leaving {
				s.end()
			}
		})
		t.Cleanup(func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(*sent) == 0 {
				t.Error("nobody asked for a keyframe")
			}
		})
	}
	publishing.Wait()
	if s := c.snapshot(); (s.Shifts > 0) != (helpers > 0) {
		t.Errorf("%d helpers: %+v", helpers, s)
	}
	for i, r := range all {
		packets := r.packets()
		if len(packets) == 0 {
			t.Fatalf("subscriber %d got nothing", i)
		}
		first := packets[0].header
		var list [][]byte
		for n, p := range packets {
			if v := p.header.Extension(p.bytes, 3); int(v[0])<<8|int(v[1]) != n {
				t.Errorf("subscriber %d: packet %d has transport-wide sequence number %x", i, n, v)
			}
			number := fmt.Appendf(nil, "%d %d %v ", p.header.Sequence-first.Sequence, p.header.Timestamp-first.Timestamp, p.header.Marker)
			list = append(list, append(number, p.header.Payload(p.bytes)...))
		}
		got = append(got, list)
	}
	return got
}

// held is a sink in which the first two runs wait to be let go: they are of two goroutines.
type held struct {
	runs *atomic.Int32
	let  *[2]chan struct{}
}

func (h held) sendRun(run []segment) int {
	if n := h.runs.Add(1); n <= 2 {
		<-h.let[n-1]
	}
	return len(run)
}

// TestCrewIsWaitedFor: whoever is done first waits for the other, also if that one is the helper.
func TestCrewIsWaitedFor(t *testing.T) {
	for first := range 2 {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t)
			st.employ(1)
			video := st.publish("TR_v", Video, videoSection("0"))
			for i := range sharedWork / runWork {
				st.subscribe(video, fmt.Sprintf("PA_%d", i), videoSection("0"))
			}
			v := feed{ssrc: 7, pt: 96, mid: "0"}
			st.in.one(v.packet(v.vp8(true, true), true), st.server.now())
			h := held{new(atomic.Int32), &[2]chan struct{}{make(chan struct{}), make(chan struct{})}}
			subscriptions := *video.started.Load()
			for _, s := range subscriptions {
				s.out.egress.sink = h
			}
			var returned atomic.Bool
			go func() {
				st.in.one(v.packet(v.vp8(true, true), true), st.server.now())
				returned.Store(true)
			}()
			synctest.Wait()
			close(h.let[first])
			synctest.Wait()
			if n := h.runs.Load(); int(n) <= len(subscriptions)-maxChunk || returned.Load() {
				t.Errorf("%d of %d runs have been begun, returned: %v", n, len(subscriptions), returned.Load())
			}
			close(h.let[1-first])
			synctest.Wait()
			if n := h.runs.Load(); int(n) != len(subscriptions) || !returned.Load() {
				t.Errorf("%d of %d runs, returned: %v", n, len(subscriptions), returned.Load())
			}
		})
	}
}

func TestCrewAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools at random")
	}
	st := newStage(t)
	c := st.employ(1)
	video := st.publish("TR_v", Video, videoSection("0"))
	for i := range 150 {
		st.subscribe(video, fmt.Sprintf("PA_%d", i), videoSection("0"))
	}
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	st.in.one(v.packet(v.vp8(true, true), true), 1)
	first, more, now := v.vp8(true, false), v.vp8(false, false), time.Second
	frame := func() {
		now += 33 * time.Millisecond
		v.timestamp += 3000
		v.picture++
		for _, b := range [][]byte{first, more} {
			b[2], b[3] = 0x80|byte(v.picture>>8)&0x7f, byte(v.picture)
		}
		st.in.rtp(v.packet(first, false), now)
		for i := range maxGathered - 1 {
			st.in.rtp(v.packet(more, i == maxGathered-2), now)
		}
	}
	for range 1000 { // fill histories and pools
		frame()
	}
	before := c.snapshot().Shifts
	if n := testing.AllocsPerRun(200, frame); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := c.snapshot().Shifts - before; n != 201 {
		t.Errorf("%d shifts, want 201", n)
	}
}

// TestCrewEnds: no goroutine is left, and what comes afterwards is done without.
func TestCrewEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		stop := make(chan struct{})
		c := newCrew(3, stop)
		st.server.crew = c
		video := st.publish("TR_v", Video, videoSection("0"))
		var sinks []*recorder
		for i := range sharedWork {
			_, r := st.subscribe(video, fmt.Sprintf("PA_%d", i), videoSection("0"))
			sinks = append(sinks, r)
		}
		v := feed{ssrc: 7, pt: 96, mid: "0"}
		for range 3 {
			st.in.one(v.packet(v.vp8(true, true), true), st.server.now())
		}
		close(stop)
		c.close()
		for range 20 { // more than there is room for wake-ups
			st.in.one(v.packet(v.vp8(true, true), true), st.server.now())
		}
		for i, r := range sinks {
			if r.n != 23 {
				t.Errorf("subscriber %d got %d packets, want 23", i, r.n)
			}
		}
		if s := c.snapshot(); s.Shifts != 22 {
			t.Errorf("%+v", s)
		}
	})
}

package speakers

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// room is a detector in simulated time: every track sends a packet each 20 ms.
type room struct {
	t       *testing.T
	d       *Detector
	now     time.Duration
	tracks  map[string]*Track
	order   []string
	levels  map[string]uint8
	list    []Speaker // as last told
	changes int
	told    time.Duration
}

func newRoom(t *testing.T, names ...string) *room {
	r := &room{t: t, d: New(Config{}), tracks: map[string]*Track{}, levels: map[string]uint8{}}
	for _, n := range names {
		r.tracks[n], r.levels[n] = r.d.Add(n), 127
		r.order = append(r.order, n)
	}
	return r
}

// run lets time pass with the present levels, updating every 20 ms, far more often than needed.
func (r *room) run(d time.Duration) {
	r.t.Helper()
	for end := r.now + d; r.now < end; {
		for _, n := range r.order {
			if t := r.tracks[n]; t != nil && r.levels[n] != 255 {
				t.Observe(r.levels[n], 20*ms)
			}
		}
		r.now += 20 * ms
		r.update()
	}
}

func (r *room) update() {
	r.t.Helper()
	list, changed := r.d.Update(r.now, nil)
	if !changed {
		if len(list) != 0 {
			r.t.Fatal("a list without a change")
		}
		return
	}
	if r.changes > 0 && r.now-r.told < Interval-slack {
		r.t.Fatalf("told %v after the last time", r.now-r.told)
	}
	r.list, r.told = list, r.now
	r.changes++
	inactive := false
	for _, s := range list {
		if s.Active && (inactive || s.Level <= 0 || s.Level > 1) || !s.Active && s.Level != 0 {
			r.t.Fatalf("list %+v", list)
		}
		inactive = inactive || !s.Active
	}
}

// want checks the last list: names in order, a minus before those who have stopped.
func (r *room) want(names string) {
	r.t.Helper()
	var got []string
	for _, s := range r.list {
		n := s.ID
		if !s.Active {
			n = "-" + n
		}
		got = append(got, n)
	}
	if strings.Join(got, " ") != names {
		r.t.Fatalf("at %v: speakers %q, want %q", r.now, strings.Join(got, " "), names)
	}
}

func TestConversation(t *testing.T) {
	r := newRoom(t, "ann", "bob", "eve")
	r.run(2 * time.Second)
	if r.changes != 0 {
		t.Fatalf("told of a silent room: %+v", r.list)
	}
	r.levels["ann"] = 20
	r.run(Interval + 60*ms)
	r.want("ann")
	r.run(5 * time.Second)
	if l := r.list[0].Level; math.Abs(l-0.1) > 0.02 { // −20 dBov is a tenth of full scale
		t.Errorf("level %v, want 0.1", l)
	}
	if r.changes > 3 {
		t.Errorf("%d changes while one voice was even", r.changes)
	}
	r.levels["bob"] = 10
	r.run(2 * time.Second)
	r.want("bob ann")
	r.levels["ann"] = 127
	r.run(2 * time.Second)
	r.want("bob -ann")
	r.levels["bob"] = 127
	r.run(2 * time.Second)
	r.want("-bob")
	n := r.changes
	r.run(5 * time.Second)
	if r.changes != n {
		t.Error("told of silence after silence")
	}
}

func TestFirstWordIsToldSoon(t *testing.T) {
	for offset := time.Duration(0); offset < Interval; offset += 20 * ms {
		r := newRoom(t, "ann")
		r.run(time.Second + offset)
		start := r.now
		r.levels["ann"] = 25
		for r.changes == 0 {
			r.run(20 * ms)
			if r.now-start > Interval+time.Duration(float64(Interval)*0.4)+20*ms {
				t.Fatalf("not told %v after the first word", r.now-start)
			}
		}
	}
}

func TestPausesAndNoise(t *testing.T) {
	t.Run("a breath between words", func(t *testing.T) {
		for offset := time.Duration(0); offset < Interval; offset += 20 * ms {
			r := newRoom(t, "ann")
			r.levels["ann"] = 20
			r.run(time.Second + offset)
			r.levels["ann"] = 127
			for end := r.now + 400*ms; r.now < end; {
				r.run(20 * ms)
				r.want("ann")
			}
			r.levels["ann"] = 20
			for end := r.now + time.Second; r.now < end; {
				r.run(20 * ms)
				r.want("ann")
			}
		}
	})
	t.Run("a click", func(t *testing.T) {
		r := newRoom(t, "ann")
		r.run(time.Second)
		r.levels["ann"] = 5
		r.run(60 * ms)
		r.levels["ann"] = 127
		r.run(time.Second)
		if r.changes != 0 {
			t.Errorf("a click of 60 ms made a speaker: %+v", r.list)
		}
	})
	t.Run("a fan", func(t *testing.T) {
		r := newRoom(t, "ann")
		r.levels["ann"] = 45
		r.run(5 * time.Second)
		if r.changes != 0 {
			t.Errorf("%+v", r.list)
		}
	})
	t.Run("equal voices don't take turns", func(t *testing.T) {
		r := newRoom(t, "ann", "bob")
		rnd := rand.New(rand.NewPCG(1, 1))
		r.levels["ann"], r.levels["bob"] = 20, 20
		r.run(time.Second)
		first := r.list[0].ID
		for range 500 {
			r.levels["ann"], r.levels["bob"] = uint8(19+rnd.IntN(3)), uint8(19+rnd.IntN(3))
			r.run(20 * ms)
			if r.list[0].ID != first {
				t.Fatal("they do")
			}
		}
	})
	t.Run("new ones come in their order", func(t *testing.T) {
		r := newRoom(t, "ann", "bob", "eve")
		r.levels["ann"], r.levels["bob"], r.levels["eve"] = 22, 20, 21
		r.run(Interval + 40*ms)
		r.want("bob eve ann")
	})
}

func TestJitter(t *testing.T) {
	// The same speech, delivered in bursts of 200 ms.
	d := New(Config{})
	track := d.Add("ann")
	changes := 0
	for now := time.Duration(0); now < 10*time.Second; now += 200 * ms {
		for range 10 {
			track.Observe(20, 20*ms)
		}
		if list, changed := d.Update(now, nil); changed {
			changes++
			if now > time.Second && (len(list) != 1 || !list[0].Active) {
				t.Fatalf("at %v: %+v", now, list)
			}
		}
	}
	if changes == 0 || changes > 4 {
		t.Errorf("%d changes", changes)
	}
}

func TestMuteRemoveAndSeveralTracks(t *testing.T) {
	t.Run("muted", func(t *testing.T) {
		r := newRoom(t, "ann", "bob")
		r.levels["ann"], r.levels["bob"] = 20, 20
		r.run(time.Second)
		r.levels["ann"] = 255 // sends nothing more
		r.tracks["ann"].Silence()
		r.run(Interval + 20*ms)
		r.want("bob -ann")
	})
	t.Run("no packets at all", func(t *testing.T) {
		r := newRoom(t, "ann")
		r.levels["ann"] = 20
		r.run(time.Second)
		r.levels["ann"] = 255
		r.run(time.Second)
		r.want("-ann")
	})
	t.Run("gone", func(t *testing.T) {
		r := newRoom(t, "ann")
		r.levels["ann"] = 20
		r.run(time.Second)
		r.d.Remove(r.tracks["ann"])
		r.d.Remove(r.tracks["ann"])
		r.tracks["ann"] = nil
		r.run(Interval + 20*ms)
		r.want("-ann")
	})
	t.Run("the loudest track of a participant counts, once", func(t *testing.T) {
		for _, levels := range [][2]uint8{{30, 10}, {10, 30}} {
			d := New(Config{})
			microphone, screen := d.Add("ann"), d.Add("ann")
			var list []Speaker
			for now := time.Duration(0); now < 3*time.Second; now += 20 * ms {
				microphone.Observe(levels[0], 0)
				screen.Observe(levels[1], 0)
				if l, changed := d.Update(now, nil); changed {
					list = l
				}
			}
			if len(list) != 1 || math.Abs(list[0].Level-0.316) > 0.06 {
				t.Errorf("%+v", list)
			}
		}
	})
}

func TestLevels(t *testing.T) {
	d := New(Config{ActiveLevel: 127})
	loud, silent, odd := d.Add("loud"), d.Add("silent"), d.Add("odd")
	var list []Speaker
	for now := time.Duration(0); now < 3*time.Second; now += 20 * ms {
		loud.Observe(0, 40*ms) // more than there is time for
		silent.Observe(127, 20*ms)
		odd.Observe(200, time.Hour) // out of range, both
		if l, changed := d.Update(now, nil); changed {
			list = l
		}
	}
	if len(list) != 1 || list[0].ID != "loud" || list[0].Level > 1 || list[0].Level < 0.9 {
		t.Errorf("%+v", list)
	}
	if odd.Observe(0, time.Hour); odd.loud != longestPacket {
		t.Errorf("a packet of %v", odd.loud)
	}
}

func TestNoAllocation(t *testing.T) {
	d := New(Config{})
	var tracks []*Track
	for i := range 50 {
		tracks = append(tracks, d.Add(fmt.Sprint(i)))
	}
	dst := make([]Speaker, 0, 100)
	now := time.Duration(0)
	level := uint8(0)
	round := func() {
		for i, tr := range tracks {
			tr.Observe(uint8(i+int(level))%60, 300*ms)
			tr.Observe(uint8(i+int(level))%60, 300*ms)
		}
		level += 7
		now += Interval
		dst, _ = d.Update(now, dst[:0])
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per update", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	t := New(Config{}).Add("ann")
	b.ReportAllocs()
	for b.Loop() {
		t.Observe(20, 20*ms)
	}
}

func BenchmarkUpdate(b *testing.B) {
	d := New(Config{})
	var tracks []*Track
	for i := range 100 {
		tracks = append(tracks, d.Add(fmt.Sprint(i)))
	}
	dst := make([]Speaker, 0, 200)
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		for i, t := range tracks[:10] {
			t.Observe(uint8(10+i), 300*ms)
		}
		now += Interval
		dst, _ = d.Update(now, dst[:0])
	}
}

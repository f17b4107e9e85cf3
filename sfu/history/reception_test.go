package history

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestReceptionVerdicts(t *testing.T) {
	const top = 2 << 16 // where the first cycle begins
	type step struct {
		sequence uint16
		want     Arrival
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"order", []step{{5, Arrival{top + 5, 0, Newest}}, {6, Arrival{top + 6, 0, Newest}}}},
		{"gap, late, duplicate", []step{{5, Arrival{top + 5, 0, Newest}}, {8, Arrival{top + 8, 0, Newest}}, {6, Arrival{top + 6, 0, Late}},
			{6, Arrival{top + 6, 0, Duplicate}}, {8, Arrival{top + 8, 0, Duplicate}}, {7, Arrival{top + 7, 0, Late}}}},
		{"wraparound", []step{{65534, Arrival{top + 65534, 0, Newest}}, {1, Arrival{top + 65537, 0, Newest}}, {65535, Arrival{top + 65535, 0, Late}},
			{0, Arrival{top + 65536, 0, Late}}, {0, Arrival{top + 65536, 0, Duplicate}}}},
		{"before the first", []step{{5, Arrival{top + 5, 0, Newest}}, {3, Arrival{top + 3, 0, Late}}, {3, Arrival{top + 3, 0, Duplicate}}, {4, Arrival{top + 4, 0, Late}}}},
		{"below zero before the first", []step{{0, Arrival{top, 0, Newest}}, {65535, Arrival{top - 1, 0, Late}}}},
		{"far before the first", []step{{500, Arrival{top + 500, 0, Newest}}, {300, Arrival{0, 0, Stray}}}},
		{"stray", []step{{5, Arrival{top + 5, 0, Newest}}, {30000, Arrival{0, 0, Stray}}, {6, Arrival{top + 6, 0, Newest}}, {30001, Arrival{0, 0, Stray}}}},
		{"restart", []step{{5, Arrival{top + 5, 0, Newest}}, {30000, Arrival{0, 0, Stray}}, {30001, Arrival{2*top + 30001, 1, Restarted}},
			{30002, Arrival{2*top + 30002, 1, Newest}}, {30000, Arrival{2*top + 30000, 1, Late}}, {7, Arrival{0, 1, Stray}}}},
		{"largest step taken", []step{{0, Arrival{top, 0, Newest}}, {3000, Arrival{top + 3000, 0, Newest}}, {6001, Arrival{0, 0, Stray}}}},
		{"oldest taken", []step{{0, Arrival{top, 0, Newest}}, {2000, Arrival{top + 2000, 0, Newest}}, {1001, Arrival{top + 1001, 0, Late}}, {1000, Arrival{0, 0, Stray}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := NewReception(90000)
			for i, s := range test.steps {
				if got := r.Packet(s.sequence, 0, 0); got != s.want {
					t.Fatalf("step %d, packet %d: %+v, want %+v", i, s.sequence, got, s.want)
				}
			}
		})
	}
}

func TestReceptionForgetsSeen(t *testing.T) {
	r := NewReception(90000)
	r.Packet(0, 0, 0)
	r.Packet(1, 0, 0)
	r.Packet(2, 0, 0)
	// A thousand numbers later the marks of 0–2 must not stand for others in the same place.
	r.Packet(1030, 0, 0)
	for s := uint16(1024); s < 1030; s++ {
		if a := r.Packet(s, 0, 0); a.Verdict != Late {
			t.Fatalf("packet %d: %+v", s, a)
		}
	}
	r.Packet(1030+2500, 0, 0)
	if a := r.Packet(1030+2499, 0, 0); a.Verdict != Late {
		t.Fatalf("after a jump beyond the window: %+v", a)
	}
}

func TestReceptionRestart(t *testing.T) {
	r := NewReception(90000)
	r.Restart() // nothing to restart
	if a := r.Packet(9, 0, 0); a.Verdict != Newest || a.Epoch != 0 {
		t.Fatalf("%+v", a)
	}
	first := r.Highest()
	r.Restart()
	if _, ok := r.Report(); ok {
		t.Error("a report between restart and first packet")
	}
	if a := r.Recovered(8); a.Verdict != Stray {
		t.Errorf("recovered a packet of nothing: %+v", a)
	}
	a := r.Packet(9, 0, 0)
	if a.Verdict != Restarted || a.Epoch != 1 || a.Sequence <= first+1<<16 {
		t.Fatalf("%+v after %d", a, first)
	}
	if rep, ok := r.Report(); !ok || rep.HighestSequence != 9 || rep.TotalLost != 0 {
		t.Errorf("%+v", rep)
	}
	if a := r.Recovered(7); a.Verdict != Stray {
		t.Errorf("recovered a packet from before the first: %+v", a)
	}
	r.Packet(12, 0, 0)
	r.Restart()
	r.Packet(12, 0, 0)
	if a := r.Packet(9, 0, 0); a.Verdict != Late {
		t.Errorf("a number of the time before counts as seen: %+v", a)
	}
	// Numbers from before the first are expected, too.
	r.Packet(10, 0, 0)
	if rep, _ := r.Report(); rep.TotalLost != 1 {
		t.Errorf("9, 10 and 12 came, and 11 is lost: %+v", rep)
	}
}

func TestReceptionReport(t *testing.T) {
	r := NewReception(90000)
	if _, ok := r.Report(); ok {
		t.Error("a report of nothing")
	}
	now := time.Duration(0)
	send := func(from, to int, lost func(int) bool) {
		for s := from; s < to; s++ {
			now += 20 * time.Millisecond
			if !lost(s) {
				r.Packet(uint16(s), uint32(s)*1800, now)
			}
		}
	}
	check := func(want Report) {
		t.Helper()
		if got, ok := r.Report(); !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	none := func(int) bool { return false }
	send(65500, 65600, none)
	check(Report{HighestSequence: 65599})
	send(65600, 65700, func(s int) bool { return s%4 == 1 })
	check(Report{FractionLost: 64, TotalLost: 25, HighestSequence: 65699})
	// RFC 4588: what came back over RTX is lost all the same.
	r.Recovered(uint16(65601 & 0xffff))
	check(Report{TotalLost: 25, HighestSequence: 65699})
	send(65700, 65800, none)
	check(Report{TotalLost: 25, HighestSequence: 65799})
	// Section 6.4.1: "the number of packets received includes any which are late or duplicates": the loss may be negative.
	for s := 65700; s < 65800; s++ {
		r.Packet(uint16(s), uint32(s)*1800, now)
	}
	check(Report{TotalLost: -75, HighestSequence: 65799})
	check(Report{TotalLost: -75, HighestSequence: 65799})
}

func TestReceptionJitter(t *testing.T) {
	// Even pace: none. Alternately 5 ms early and late: |D| is 10 ms = 480 ticks, to which the estimate converges.
	r := NewReception(48000)
	for s := range 500 {
		r.Packet(uint16(s), uint32(s)*960, time.Duration(s)*20*time.Millisecond)
	}
	if rep, _ := r.Report(); rep.Jitter != 0 {
		t.Errorf("jitter %d of an even stream", rep.Jitter)
	}
	for s := 500; s < 1000; s++ {
		r.Packet(uint16(s), uint32(s)*960, time.Duration(s)*20*time.Millisecond+time.Duration(s%2)*10*time.Millisecond)
	}
	rep, _ := r.Report()
	if rep.Jitter < 470 || rep.Jitter > 490 {
		t.Errorf("jitter %d, want about 480", rep.Jitter)
	}
	// The source's timestamps jump, and wrap: no jitter.
	for s := 1000; s < 1003; s++ {
		r.Packet(uint16(s), uint32(s)*960+0xfff00000, time.Duration(s)*20*time.Millisecond)
	}
	if rep, _ := r.Report(); rep.Jitter > 480 {
		t.Errorf("jitter %d after a jump", rep.Jitter)
	}
	// A packet that comes late says nothing new of the path.
	before, _ := r.Report()
	r.Packet(1005, 1005*960+0xfff00000, 1005*20*time.Millisecond)
	after, _ := r.Report()
	r.Packet(1004, 1004*960+0xfff00000, 1024*20*time.Millisecond)
	r.Packet(1006, 1006*960+0xfff00000, 1006*20*time.Millisecond)
	if rep, _ := r.Report(); rep.Jitter > after.Jitter || after.Jitter > before.Jitter {
		t.Errorf("jitter %d, then %d, and %d with a late packet", before.Jitter, after.Jitter, rep.Jitter)
	}
}

// TestReceptionModel feeds random reordering and duplication of a long stream and compares with what was sent.
func TestReceptionModel(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 0))
		rec := NewReception(90000)
		start := uint64(r.IntN(65536))
		var order []uint64
		for i := range uint64(70_000) {
			order = append(order, start+i)
		}
		for i := range order {
			if j := i + r.IntN(40); r.IntN(5) == 0 && j < len(order) && i > 0 {
				order[i], order[j] = order[j], order[i]
			}
		}
		seen := map[uint64]bool{}
		var base uint64
		for i, s := range order {
			if r.IntN(20) == 0 && i > 0 {
				s = order[i-1-r.IntN(min(i, 20))] // again
			}
			a := rec.Packet(uint16(s), 0, 0)
			if i == 0 {
				base = a.Sequence - s
			}
			if a.Sequence != base+s || a.Epoch != 0 || seen[s] != (a.Verdict == Duplicate) {
				t.Fatalf("packet %d (seen %v): %+v, want sequence %d", s, seen[s], a, base+s)
			}
			seen[s] = true
		}
	}
}

func FuzzReception(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 1, 0x80, 0, 0x80, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := NewReception(90000)
		seen := map[uint64]bool{}
		var epoch uint32
		for ; len(script) >= 2; script = script[2:] {
			sequence := uint16(script[0])<<8 | uint16(script[1])
			a := r.Packet(sequence, uint32(sequence), time.Duration(len(script)))
			switch a.Verdict {
			case Stray:
				continue
			case Duplicate:
				if !seen[a.Sequence] {
					t.Fatalf("%+v: a duplicate of nothing", a)
				}
			default:
				if seen[a.Sequence] || uint16(a.Sequence) != sequence || a.Epoch < epoch || a.Sequence > r.Highest() {
					t.Fatalf("%+v of %d", a, sequence)
				}
			}
			seen[a.Sequence], epoch = true, a.Epoch
			if rep, ok := r.Report(); !ok || uint16(rep.HighestSequence) != uint16(r.Highest()) {
				t.Fatalf("%+v", rep)
			}
		}
	})
}

func TestReceptionNoAllocation(t *testing.T) {
	r, m, sent, p := NewReception(90000), NewMissing(MissingConfig{}), NewSent(512, 2*time.Second), NewPackets[*int](PacketsConfig{MaxPackets: 512, MaxBytes: 1 << 20, MaxAge: time.Second})
	evicted, due := make([]*int, 0, 16), make([]uint64, 0, 512)
	v, s := new(int), uint16(0)
	now := time.Duration(0)
	step := func() {
		s += 2
		now += time.Millisecond
		a := r.Packet(s, 0, now)
		m.Packet(a.Sequence, now)
		due, _ = m.Due(now, 30*time.Millisecond, due[:0])
		evicted, _ = p.Put(a.Sequence, 1200, now, v, evicted[:0])
		sent.Put(SentPacket{Source: a.Sequence, Sequence: s}, now)
		sent.Resend(s, now, time.Millisecond)
	}
	for range 5000 { // grow
		step()
	}
	if n := testing.AllocsPerRun(3000, step); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkReception(b *testing.B) {
	r := NewReception(90000)
	s := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		s++
		r.Packet(s, uint32(s), time.Duration(s))
	}
}

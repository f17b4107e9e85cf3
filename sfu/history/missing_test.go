package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestMissing(t *testing.T) {
	m := NewMissing(MissingConfig{Size: 8, MaxTries: 3, MaxAge: 500 * ms, Reorder: 10 * ms, MinSpacing: 20 * ms})
	due := func(now, rtt time.Duration, lost int, want ...uint64) {
		t.Helper()
		got, l := m.Due(now, rtt, nil)
		if !slices.Equal(got, want) || l != lost {
			t.Fatalf("at %v: due %v, lost %d; want %v, %d", now, got, l, want, lost)
		}
	}
	m.Packet(100, 0)
	m.Packet(101, 0)
	due(0, 40*ms, 0)
	m.Packet(105, 0)
	due(9*ms, 40*ms, 0) // perhaps merely out of order
	m.Packet(103, 9*ms) // it was
	m.Packet(103, 9*ms)
	due(10*ms, 40*ms, 0, 102, 104)
	due(40*ms, 40*ms, 0)           // 1.25 round trips haven't passed
	due(60*ms, 40*ms, 0, 102, 104) // they have
	m.Packet(104, 61*ms)           // recovered
	due(110*ms, 0, 0, 102)         // an unknown round trip: the least spacing
	due(129*ms, 0, 0)              // the third try may still be answered
	due(130*ms, 0, 1)              // now it is lost
	if m.Len() != 0 {
		t.Fatalf("%d left", m.Len())
	}
	m.Packet(107, 200*ms)
	due(701*ms, 40*ms, 1) // nobody asked in time
}

func TestMissingOverflow(t *testing.T) {
	m := NewMissing(MissingConfig{Size: 8, Reorder: -1})
	m.Packet(10, 0)
	if m.Packet(15, 0) || m.Len() != 4 {
		t.Fatalf("%d missing", m.Len())
	}
	if !m.Packet(21, 0) || m.Len() != 0 {
		t.Fatalf("no overflow, %d missing", m.Len())
	}
	if m.Packet(23, 0) {
		t.Fatal("overflow by one")
	}
	if got, _ := m.Due(0, 0, nil); !slices.Equal(got, []uint64{22}) {
		t.Fatalf("due %v", got)
	}
}

func TestMissingForget(t *testing.T) {
	m := NewMissing(MissingConfig{})
	m.Packet(10, 0)
	m.Packet(14, 0)
	m.Packet(16, 0)
	if m.Len() != 4 {
		t.Fatalf("%d missing, want 4", m.Len())
	}
	m.Reset()
	m.Packet(5000, 0)
	if m.Len() != 0 {
		t.Fatalf("%d missing after a reset", m.Len())
	}
}

// TestMissingOverLossyLink has a lossy link both ways and checks that nearly everything comes, that nothing is asked for
// twice within a round trip, and that nothing that came is asked for.
func TestMissingOverLossyLink(t *testing.T) {
	for _, rtt := range []time.Duration{20 * ms, 100 * ms, 300 * ms} {
		r := rand.New(rand.NewPCG(7, uint64(rtt)))
		m := NewMissing(MissingConfig{})
		arrivals := map[time.Duration][]uint64{}
		got, asked := map[uint64]bool{}, map[uint64]time.Duration{}
		nacks, lostTotal := 0, 0
		const packets = 5000
		for s := range uint64(packets) {
			at := time.Duration(s) * 4 * ms
			if r.IntN(10) > 0 || s == 0 || s == packets-1 {
				at += rtt/2 + time.Duration(r.IntN(2)*r.IntN(8))*ms
				arrivals[at] = append(arrivals[at], s)
			}
		}
		for now := time.Duration(0); now < packets*4*ms+3*time.Second; now += ms {
			for _, s := range arrivals[now] {
				m.Packet(s, now)
				got[s] = true
			}
			due, lost := m.Due(now, rtt, nil)
			lostTotal += lost
			for _, s := range due {
				nacks++
				if got[s] {
					t.Fatalf("asked for %d, which came", s)
				}
				if last, again := asked[s]; again && now-last < rtt {
					t.Fatalf("asked for %d twice within %v", s, now-last)
				}
				asked[s] = now
				if r.IntN(10) > 0 {
					arrivals[now+rtt] = append(arrivals[now+rtt], s)
				}
			}
		}
		if m.Len() != 0 {
			t.Fatalf("rtt %v: %d neither came nor given up", rtt, m.Len())
		}
		if missing := packets - len(got); missing != lostTotal || missing > packets/200 {
			t.Errorf("rtt %v: %d missing in the end, %d told; %d NACKs", rtt, missing, lostTotal, nacks)
		}
	}
}

func FuzzMissing(f *testing.F) {
	f.Add([]byte{1, 1, 5, 1, 0x85, 30, 4, 200})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := NewMissing(MissingConfig{Size: 16})
		sequence, now := uint64(1000), time.Duration(0)
		for ; len(script) >= 2; script = script[2:] {
			sequence += uint64(int64(int8(script[0])))
			now += time.Duration(script[1]) * ms
			if sequence > 1<<40 {
				return
			}
			if script[1]%3 == 0 {
				if rtt, ok := m.Recovered(sequence, now); ok && rtt > m.cfg.MaxAge+m.cfg.MaxReorder+300*ms {
					t.Fatalf("round trip %v", rtt)
				}
			}
			m.Packet(sequence, now)
			due, lost := m.Due(now, 30*ms, nil)
			if at, ok := m.Next(30 * ms); ok != (m.Len() > 0) || ok && at <= now {
				t.Fatalf("at %v, next at %v, %v, with %d missing", now, at, ok, m.Len())
			}
			if m.reorder > m.cfg.MaxReorder {
				t.Fatalf("waits %v", m.reorder)
			}
			if !slices.IsSorted(due) || len(due) > 16 || m.Len() > 16 || lost < 0 || slices.Contains(due, sequence) {
				t.Fatalf("due %v, %d lost, %d missing", due, lost, m.Len())
			}
		}
	})
}

// TestMissingLearnsReordering: packets that come late by themselves are waited for, as long as they do.
func TestMissingLearnsReordering(t *testing.T) {
	m := NewMissing(MissingConfig{Reorder: 10 * ms, MaxReorder: 60 * ms})
	sequence, now := uint64(1), time.Duration(0)
	m.Packet(sequence, now)
	// late has a packet come so much after the one behind it, and returns whether it was asked for.
	late := func(by time.Duration) bool {
		sequence += 2
		now += time.Second
		m.Packet(sequence, now)
		asked := false
		for d := time.Duration(0); d < by; d += ms {
			due, _ := m.Due(now+d, 50*ms, nil)
			asked = asked || len(due) > 0
		}
		m.Packet(sequence-1, now+by)
		return asked
	}
	if !late(20 * ms) {
		t.Error("20 ms late, not asked for at first")
	}
	if late(20*ms) || late(24*ms) {
		t.Error("asked for what had come late before")
	}
	if !late(40 * ms) {
		t.Error("40 ms late, not asked for")
	}
	for range 10 { // later than a round trip: not reordering
		late(200 * ms)
	}
	if m.reorder > 60*ms {
		t.Errorf("waits %v", m.reorder)
	}
	// Losses shorten the wait again.
	for range 200 {
		sequence += 2
		now += time.Second
		m.Packet(sequence, now)
		m.Due(now+100*ms, 50*ms, nil)
		if rtt, ok := m.Recovered(sequence-1, now+150*ms); !ok || rtt != 50*ms {
			t.Fatalf("round trip %v, %v", rtt, ok)
		}
	}
	if m.reorder > 11*ms {
		t.Errorf("waits %v after losses alone", m.reorder)
	}
}

func TestMissingNext(t *testing.T) {
	m := NewMissing(MissingConfig{Size: 8, MaxTries: 2, MaxAge: 500 * ms})
	next := func(want time.Duration, some bool) {
		t.Helper()
		if at, ok := m.Next(100 * ms); ok != some || ok && at != want {
			t.Fatalf("next at %v, %v; want %v, %v", at, ok, want, some)
		}
	}
	next(0, false)
	m.Packet(1, 0)
	m.Packet(3, 0)
	m.Packet(5, 5*ms)
	next(10*ms, true)
	m.Due(10*ms, 100*ms, nil)
	next(15*ms, true)
	m.Due(15*ms, 100*ms, nil)
	next(135*ms, true)
	if _, ok := m.Recovered(2, 80*ms); !ok {
		t.Error("asked for once and come, but no round trip")
	}
	next(140*ms, true)
	m.Due(140*ms, 100*ms, nil)
	if _, ok := m.Recovered(99, 150*ms); ok {
		t.Error("a round trip of what wasn't missing")
	}
	next(265*ms, true)
	if _, lost := m.Due(265*ms, 100*ms, nil); lost != 1 {
		t.Error("not given up")
	}
	next(0, false)
}

func TestSent(t *testing.T) {
	s := NewSent(16, 2*time.Second)
	for i := range uint16(20) {
		s.Put(SentPacket{Sequence: 65530 + i, Source: uint64(i), PictureID: i}, 0)
	}
	if _, ok := s.Get(65533); ok {
		t.Error("an old packet is still there")
	}
	p, ok := s.Get(3) // 65530 + 9
	if !ok || p.Source != 9 || p.PictureID != 9 {
		t.Errorf("%+v, %v", p, ok)
	}
	if _, ok := s.Get(500); ok {
		t.Error("a packet that was never sent")
	}
	if _, ok := NewSent(16, 2*time.Second).Get(0); ok {
		t.Error("a packet in an empty ring")
	}
	resend := func(now, rtt time.Duration, want Answer) {
		t.Helper()
		if p, a := s.Resend(3, now, rtt); a != want || a <= ResendTwice && p.Source != 9 {
			t.Errorf("at %v: %+v, %v", now, p, a)
		}
	}
	resend(19*ms, 40*ms, Underway) // it has hardly left
	resend(40*ms, 40*ms, Resend)
	resend(69*ms, 40*ms, Underway)
	resend(70*ms, 40*ms, ResendTwice)
	resend(79*ms, ms, Underway)
	resend(80*ms, ms, ResendTwice)
	resend(119*ms, 0, Underway) // a round trip that isn't known
	resend(120*ms, 0, ResendTwice)
	for i := range time.Duration(maxResent - 4) {
		resend((130+10*i)*ms, ms, ResendTwice)
	}
	resend(time.Second, 0, Exhausted)
	if _, a := s.Resend(500, 0, 0); a != Unknown {
		t.Error("resent what was never sent")
	}
	s.Put(SentPacket{Sequence: 3, Source: 77}, time.Second)
	if p, a := s.Resend(3, time.Second+50*ms, 50*ms); a != Resend || p.Source != 77 {
		t.Errorf("a new packet inherits the old one's time: %+v, %v", p, a)
	}
	s.Clear()
	if _, ok := s.Get(3); ok {
		t.Error("not cleared")
	}
}

// TestSentGrows: the ring is as large as the rate needs, and no larger.
func TestSentGrows(t *testing.T) {
	for _, x := range []struct {
		rate, slots int
		kept        time.Duration
	}{{20, 64, 2 * time.Second}, {50, 128, 2 * time.Second}, {200, 512, 2 * time.Second}, {5000, 4096, 800 * ms}} {
		s := NewSent(4096, 2*time.Second)
		n := uint16(60000)
		now := time.Duration(0)
		for range 5 * x.rate {
			now += time.Second / time.Duration(x.rate)
			n++
			s.Put(SentPacket{Sequence: n, Source: uint64(n)}, now)
		}
		if len(s.slots) != x.slots {
			t.Errorf("%d packets a second: %d slots, want %d", x.rate, len(s.slots), x.slots)
		}
		for i := range uint16(x.kept * time.Duration(x.rate) / time.Second) {
			if p, ok := s.Get(n - i); !ok || p.Source != uint64(n-i) {
				t.Fatalf("%d packets a second: the one %d before the last is gone", x.rate, i)
			}
		}
	}
}

// TestSentPacks: what is kept of a packet is all of it.
func TestSentPacks(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	flag := func() bool { return r.IntN(2) == 0 }
	for range 1000 {
		extended := r.Uint32()
		p := SentPacket{
			Source: r.Uint64() >> 16, Timestamp: r.Uint32(), Sequence: uint16(extended), Extended: extended, PT: uint8(r.IntN(128)),
			PictureID: uint16(r.Uint32()), FrameOffset: uint16(r.Uint32()), TL0: uint8(r.Uint32()), Layer: uint8(r.Uint32()),
			Marker: flag(), Rewrite: flag(), Fill: flag(), Full: flag(), Hush: flag(),
		}
		s := NewSent(16, 2*time.Second)
		s.Put(p, 0)
		for i := range maxResent {
			if got, a := s.Resend(p.Sequence, time.Duration(i+1)*time.Second, ms); a > ResendTwice || got != p {
				t.Fatalf("%+v came out as %+v, %v", p, got, a)
			}
		}
		if _, a := s.Resend(p.Sequence, time.Minute, ms); a != Exhausted {
			t.Fatal("not exhausted")
		}
		if got, ok := s.Get(p.Sequence); !ok || got != p {
			t.Fatalf("%+v came out as %+v", p, got)
		}
	}
}

// TestSentWraps: the clock of a slot wraps every 71 minutes, and nothing comes of it.
func TestSentWraps(t *testing.T) {
	for _, start := range []time.Duration{sentWrap - 10*ms, sentWrap, 5*sentWrap - ms} {
		s := NewSent(16, 2*time.Second)
		s.Put(SentPacket{Sequence: 1}, start)
		for _, x := range []struct {
			after time.Duration
			want  Answer
		}{{-5 * ms, Underway}, {19 * ms, Underway}, {20 * ms, Resend}, {49 * ms, Underway}, {50 * ms, ResendTwice}} {
			if _, a := s.Resend(1, start+x.after, 40*ms); a != x.want {
				t.Errorf("sent at %v, asked for %v later: %v, want %v", start, x.after, a, x.want)
			}
		}
	}
	// A long pause: what was before is old, also when it is nearly a turn of the clock ago.
	for _, pause := range []time.Duration{time.Minute, sentWrap / 2, sentWrap - time.Minute, 3*sentWrap + 3*time.Second} {
		s := NewSent(4096, 2*time.Second)
		now := time.Hour
		for n := range uint16(1000) {
			if n == 500 {
				now += pause
			}
			s.Put(SentPacket{Sequence: n}, now)
			now += 50 * ms
		}
		if s.Size() != leastSlots {
			t.Errorf("%d slots after %v", s.Size(), pause)
		}
		if _, a := s.Resend(999, now, 40*ms); a != Resend {
			t.Errorf("%v after %v", a, pause)
		}
	}
}

// FuzzSent sends and asks in any order: what goes out again is what was sent, not too often and not too soon.
func FuzzSent(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 5, 2, 1, 30, 2, 200, 1, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := NewSent(256, 2*time.Second)
		next, now := uint16(65500), time.Duration(0)
		sent, at, resent := map[uint16]uint64{}, map[uint16]time.Duration{}, map[uint16]int{}
		for n := uint64(0); len(script) >= 2; script = script[2:] {
			now += time.Duration(script[1]) * ms
			if script[0]%2 == 0 {
				next += 1 + uint16(script[0])/64
				n++
				s.Put(SentPacket{Sequence: next, Source: n}, now)
				sent[next], at[next], resent[next] = n, now, 0
				continue
			}
			sequence := next - uint16(script[0])/2
			p, a := s.Resend(sequence, now, 40*ms)
			if a > ResendTwice {
				continue
			}
			if want, ok := sent[sequence]; !ok || p.Source != want || p.Sequence != sequence {
				t.Fatalf("%+v for %d, want %d", p, sequence, want)
			}
			if d := now - at[sequence]; d < 20*ms || resent[sequence] > 0 && d < 30*ms {
				t.Fatalf("again after %v", d)
			}
			if resent[sequence]++; resent[sequence] > maxResent {
				t.Fatalf("%d times", resent[sequence])
			}
			at[sequence] = now
		}
		if len(s.slots) > 256 {
			t.Fatalf("%d slots", len(s.slots))
		}
	})
}

func BenchmarkSent(b *testing.B) {
	s := NewSent(1024, 2*time.Second)
	n := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		s.Put(SentPacket{Sequence: n, Source: uint64(n)}, time.Second)
		if _, a := s.Resend(n, time.Second+ms, ms); a != Resend {
			b.Fatal("gone")
		}
	}
}

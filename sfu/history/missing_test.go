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
			m.Packet(sequence, now)
			due, lost := m.Due(now, 30*ms, nil)
			if !slices.IsSorted(due) || len(due) > 16 || m.Len() > 16 || lost < 0 || slices.Contains(due, sequence) {
				t.Fatalf("due %v, %d lost, %d missing", due, lost, m.Len())
			}
		}
	})
}

func TestSent(t *testing.T) {
	s := NewSent(16)
	for i := range uint16(20) {
		s.Put(SentPacket{Sequence: 65530 + i, Source: uint64(i), PictureID: i})
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
	if _, ok := NewSent(16).Get(0); ok {
		t.Error("a packet in an empty ring")
	}
	resend := func(now, rtt time.Duration, want bool) {
		t.Helper()
		if p, ok := s.Resend(3, now, rtt); ok != want || ok && p.Source != 9 {
			t.Errorf("at %v: %+v, %v", now, p, ok)
		}
	}
	resend(0, 50*ms, true)
	resend(49*ms, 50*ms, false)
	resend(50*ms, 50*ms, true)
	resend(59*ms, 0, false)
	resend(60*ms, 0, true)
	if _, ok := s.Resend(500, 0, 0); ok {
		t.Error("resent what was never sent")
	}
	s.Put(SentPacket{Sequence: 3, Source: 77})
	if p, ok := s.Resend(3, 61*ms, 50*ms); !ok || p.Source != 77 {
		t.Errorf("a new packet inherits the old one's time: %+v, %v", p, ok)
	}
	s.Clear()
	if _, ok := s.Get(3); ok {
		t.Error("not cleared")
	}
}

func BenchmarkSent(b *testing.B) {
	s := NewSent(1024)
	n := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		s.Put(SentPacket{Sequence: n, Source: uint64(n)})
		if _, ok := s.Resend(n, time.Second, ms); !ok {
			b.Fatal("gone")
		}
	}
}

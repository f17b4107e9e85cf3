package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestPackets(t *testing.T) {
	p := NewPackets[int](PacketsConfig{MaxPackets: 4, MaxBytes: 0})
	put := func(sequence uint64, stored bool, evicted ...int) {
		t.Helper()
		got, ok := p.Put(sequence, 1, 0, int(sequence), nil)
		if ok != stored || !slices.Equal(got, evicted) {
			t.Fatalf("Put(%d): stored %v, evicted %v; want %v, %v", sequence, ok, got, stored, evicted)
		}
	}
	put(10, true)
	put(12, true)
	put(11, true)  // late
	put(11, false) // again
	put(9, true)   // late, below the first
	put(8, false)  // outside the window
	put(13, true, 9)
	put(16, true, 10, 11, 12)
	if _, ok := p.Get(12); ok {
		t.Error("12 is still there")
	}
	if v, ok := p.Get(13); !ok || v != 13 {
		t.Error("13 is gone")
	}
	if _, ok := p.Get(17); ok {
		t.Error("17 is there, which shares its place with 13")
	}
	put(1000, true, 13, 16)
	if got := p.Clear(nil); !slices.Equal(got, []int{1000}) || p.Len() != 0 || p.Bytes() != 0 {
		t.Errorf("Clear gave %v, leaving %d packets, %d bytes", got, p.Len(), p.Bytes())
	}
	put(5, true) // an empty store takes any number
	put(6, true)
}

func TestPacketsBytes(t *testing.T) {
	p := NewPackets[int](PacketsConfig{MaxPackets: 16, MaxBytes: 100})
	put := func(sequence uint64, size int, stored bool, evicted ...int) {
		t.Helper()
		got, ok := p.Put(sequence, size, 0, int(sequence), nil)
		if ok != stored || !slices.Equal(got, evicted) {
			t.Fatalf("Put(%d): stored %v, evicted %v; want %v, %v", sequence, ok, got, stored, evicted)
		}
	}
	put(1, 101, false)
	put(1, 40, true)
	put(2, 40, true)
	put(4, 40, true, 1)
	put(1, 40, false) // late and no room
	put(3, 60, true, 2)
	put(5, 100, true, 3, 4)
	if p.Bytes() != 100 || p.Len() != 1 {
		t.Errorf("%d bytes in %d packets", p.Bytes(), p.Len())
	}
	put(4, 10, false) // must not push out 5
	put(6, 1, true, 5)
	put(8, 40, true)
	put(7, 90, false, 6) // late: 8 must not give way
}

// TestPacketsGrowAndExpire: the store is as large as the rate needs, holds what is young and nothing that is old.
func TestPacketsGrowAndExpire(t *testing.T) {
	for _, x := range []struct{ rate, slots, kept int }{{20, 64, 41}, {50, 128, 101}, {300, 1024, 601}, {5000, 2048, 2048}} {
		p := NewPackets[int](PacketsConfig{MaxPackets: 2048, MaxBytes: 1 << 20, MaxAge: 2 * time.Second})
		var evicted []int
		n := uint64(1 << 17)
		now := time.Duration(0)
		for range 5 * x.rate {
			now += time.Second / time.Duration(x.rate)
			n++
			evicted, _ = p.Put(n, 100, now, int(n), evicted)
		}
		if len(p.slots) != x.slots || p.Len() != x.kept || len(evicted) != 5*x.rate-x.kept {
			t.Errorf("%d packets a second: %d slots, %d packets, %d evicted", x.rate, len(p.slots), p.Len(), len(evicted))
		}
		for i := range uint64(x.kept) {
			if v, ok := p.Get(n - i); !ok || v != int(n-i) {
				t.Fatalf("%d packets a second: the one %d before the last is gone", x.rate, i)
			}
		}
	}
}

// TestPacketsOfALargePublisher: what counts is the sum of bytes, however large a frame is.
func TestPacketsOfALargePublisher(t *testing.T) {
	p := NewPackets[int](PacketsConfig{MaxPackets: 2048, MaxBytes: 100_000, MaxAge: time.Hour})
	for n := range uint64(3000) {
		p.Put(n, 1600, time.Duration(n)*ms, int(n), nil)
		if p.Bytes() > 100_000 {
			t.Fatalf("%d bytes", p.Bytes())
		}
	}
	if p.Len() != 62 {
		t.Errorf("%d packets kept", p.Len())
	}
}

// TestPacketsModel compares with a map, checking that nothing is lost without being told.
func TestPacketsModel(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := NewPackets[uint64](PacketsConfig{MaxPackets: 64, MaxBytes: 3000 * r.IntN(2)})
		model := map[uint64]int{}
		bytes := 0
		next := uint64(100_000)
		var evicted []uint64
		for range 3000 {
			next += uint64(r.IntN(3))
			sequence := next - uint64(r.IntN(4)*r.IntN(30))
			if r.IntN(300) == 0 {
				next += uint64(r.IntN(200))
			}
			size := 1 + r.IntN(200)
			var stored bool
			evicted, stored = p.Put(sequence, size, 0, sequence, evicted[:0])
			for _, e := range evicted {
				n, ok := model[e]
				if !ok {
					t.Fatalf("evicted %d, which wasn't there", e)
				}
				bytes -= n
				delete(model, e)
			}
			if stored {
				if _, twice := model[sequence]; twice {
					t.Fatalf("stored %d twice", sequence)
				}
				model[sequence] = size
				bytes += size
			}
			if p.Len() != len(model) || p.Bytes() != bytes || p.Len() > 64 || p.maxBytes > 0 && bytes > p.maxBytes {
				t.Fatalf("%d packets, %d bytes; want %d, %d", p.Len(), p.Bytes(), len(model), bytes)
			}
			for s := range model {
				if v, ok := p.Get(s); !ok || v != s {
					t.Fatalf("%d is gone", s)
				}
			}
			if _, ok := p.Get(next - 64); ok && p.next == next+1 {
				t.Fatalf("%d is there, outside the window", next-64)
			}
		}
		for i := range p.slots {
			if s := &p.slots[i]; !s.used && s.value != 0 {
				t.Fatalf("%d is held on to after its eviction", s.value)
			}
		}
		if got := p.Clear(nil); len(got) != len(model) || p.Len() != 0 || p.Bytes() != 0 {
			t.Fatalf("Clear gave %d of %d", len(got), len(model))
		}
	}
}

func FuzzPackets(f *testing.F) {
	f.Add([]byte{1, 10, 250, 3, 9, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		p := NewPackets[uint64](PacketsConfig{MaxPackets: 256, MaxBytes: 500, MaxAge: 200 * ms})
		sequence, in, out, now := uint64(1000), 0, 0, time.Duration(0)
		for len(script) >= 2 {
			sequence += uint64(int64(int8(script[0])))
			if sequence > 1<<40 {
				return
			}
			now += time.Duration(script[1]%16) * ms
			evicted, stored := p.Put(sequence, int(script[1]), now, sequence, nil)
			script = script[2:]
			out += len(evicted)
			if stored {
				in++
				if v, ok := p.Get(sequence); !ok || v != sequence {
					t.Fatal("just stored, not there")
				}
			}
			if p.Len() != in-out || p.Len() > 256 || p.Bytes() > 500 || p.Bytes() < 0 {
				t.Fatalf("%d packets of %d bytes after %d in, %d out", p.Len(), p.Bytes(), in, out)
			}
		}
		if out += len(p.Clear(nil)); in != out {
			t.Fatalf("%d in, %d out", in, out)
		}
	})
}

func BenchmarkPackets(b *testing.B) {
	p := NewPackets[*int](PacketsConfig{MaxPackets: 1024, MaxBytes: 1 << 20})
	evicted := make([]*int, 0, 16)
	v := new(int)
	sequence := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		sequence++
		evicted, _ = p.Put(sequence, 1200, 0, v, evicted[:0])
	}
}

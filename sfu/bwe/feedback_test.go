package bwe

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// sendSteady sends n packets of 1200 bytes, 10 ms apart, from sequence number first on.
func sendSteady(e *Estimator, first uint16, n int, from time.Duration) time.Duration {
	for i := range n {
		e.Sent(Packet{Sequence: first + uint16(i), Size: 1200, At: from + time.Duration(i)*10*milli})
	}
	return from + time.Duration(n)*10*milli
}

func TestTransportFeedbackWireFormat(t *testing.T) {
	e := New(Config{}, 0)
	now := sendSteady(e, 65530, 40, time.Second)
	// Base 65530, 30 packets, reference time 2 × 64 ms: a run of 10 received with small deltas, a vector of 14 one-bit
	// symbols with every second received, and one of 7 two-bit symbols: small, large, none, small, and three to spare.
	b := []byte{0xff, 0xfa, 0, 28, 0, 0, 2, 9}
	b = binary.BigEndian.AppendUint16(b, 1<<13|10)
	b = binary.BigEndian.AppendUint16(b, 0x8000|0b10101010101010)
	b = binary.BigEndian.AppendUint16(b, 0xc000|0b01_10_00_01_00_00_00)
	for range 17 {
		b = append(b, 40) // 10 ms
	}
	b = append(b, 40, 0xff, 0xf0, 60) // small, -4 ms, small
	if err := e.TransportFeedback(now, b); err != nil {
		t.Fatal(err)
	}
	arrived, gone := 0, 0
	for i := range 40 {
		switch e.sent.find(65530 + uint16(i)).fate {
		case received:
			arrived++
		case lost:
			gone++
		}
	}
	if c := e.Counts(); arrived != 20 || gone != 8 || c.Received != 20 || c.Lost != 8 {
		t.Errorf("%d received and %d lost, want 20 and 8; counted %d and %d", arrived, gone, c.Received, c.Lost)
	}
	e.Feedback(now, []Result{{Sequence: 5, Received: true, At: now}}) // it comes after all
	if c := e.Counts(); c.Received != 21 || c.Lost != 7 {
		t.Errorf("counted %d received and %d lost, want 21 and 7", c.Received, c.Lost)
	}
	for _, cut := range []int{0, 7, 8, 9, 13, len(b) - 1} {
		if err := e.TransportFeedback(now, b[:cut]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", cut, err)
		}
	}
	if got := e.Counts().Malformed; got != 6 {
		t.Errorf("%d malformed messages counted", got)
	}
	zero := []byte{0, 0, 0, 9, 0, 0, 0, 0, 0x20, 0}
	if err := e.TransportFeedback(now, zero); !errors.Is(err, ErrMalformed) {
		t.Errorf("a run of no packets: %v", err)
	}
	huge := []byte{0, 0, 0xff, 0xff, 0, 0, 0, 0, 0x1f, 0xff}
	if err := e.TransportFeedback(now, huge); !errors.Is(err, ErrMalformed) {
		t.Errorf("65,535 packets: %v", err)
	}
	reserved := []byte{0xff, 0xfa, 0, 1, 0, 0, 0, 0, 0x60, 1}
	if err := e.TransportFeedback(now, reserved); !errors.Is(err, ErrMalformed) {
		t.Errorf("the reserved symbol: %v", err)
	}
}

func TestReferenceTimeWraps(t *testing.T) {
	var u unwrapper
	at := u.extend(0xfffffe, 24)
	for _, v := range []uint32{0xffffff, 0, 1, 2} {
		next := u.extend(v, 24)
		if next != at+1 {
			t.Fatalf("%d follows %d", next, at)
		}
		at = next
	}
	if back := u.extend(0xffffff, 24); back != at-3 {
		t.Errorf("%d is three before %d", back, at)
	}
	var w unwrapper
	if a, b := w.extend(0xffffffff, 32), w.extend(3, 32); b-a != 4 {
		t.Errorf("32 bits: %d after %d", b, a)
	}
}

// TestCongestionFeedback: two streams in one message give the same estimate as transport-wide feedback of the same
// packets.
func TestCongestionFeedback(t *testing.T) {
	a, b := New(Config{}, 0), New(Config{}, 0)
	x := NewIndex(2048)
	const audio, video = 0x1111, 0xfffffff0
	sequence := uint16(65000)
	for message := range 40 {
		now := time.Second + time.Duration(message)*100*milli
		var results []Result
		var reports [2][]uint16
		first := [2]uint16{}
		stamp := uint32(1<<16) * uint32(10+message)
		arrivedAll := time.Duration(10+message) * time.Second
		for i := range 20 {
			at := now + time.Duration(i)*5*milli
			stream := 1
			if i%4 == 0 {
				stream = 0
			}
			rtp := uint16(65530) + uint16(message*20+i)/4
			if stream == 1 {
				rtp = uint16(message*15 + i - i/4 - 1)
			}
			if len(reports[stream]) == 0 {
				first[stream] = rtp
			}
			p := Packet{Sequence: sequence, Size: 1000, At: at}
			a.Sent(p)
			b.Sent(p)
			x.Put([]uint32{audio, video}[stream], rtp, sequence)
			gone := i == 7
			ago := time.Duration(1023-i*5) * time.Second / 1024
			metric := uint16(0)
			if !gone {
				metric = 0x8000 | uint16(1023-i*5)
			}
			reports[stream] = append(reports[stream], metric)
			results = append(results, Result{Sequence: sequence, Received: !gone, At: arrivedAll - ago + 1<<16*time.Second})
			sequence++
		}
		var wire []byte
		for s, ssrc := range []uint32{audio, video} {
			wire = binary.BigEndian.AppendUint32(wire, ssrc)
			wire = binary.BigEndian.AppendUint16(wire, first[s])
			wire = binary.BigEndian.AppendUint16(wire, uint16(len(reports[s])))
			for _, m := range reports[s] {
				wire = binary.BigEndian.AppendUint16(wire, m)
			}
			if len(reports[s])%2 == 1 {
				wire = append(wire, 0, 0)
			}
		}
		wire = binary.BigEndian.AppendUint32(wire, stamp)
		at := now + 150*milli
		a.Feedback(at, results)
		if err := b.CongestionFeedback(at, wire, x); err != nil {
			t.Fatal(err)
		}
		if a.Estimate() != b.Estimate() || a.Counts() != b.Counts() {
			t.Fatalf("message %d:\n%+v %+v\n%+v %+v", message, a.Estimate(), a.Counts(), b.Estimate(), b.Counts())
		}
		if message > 0 {
			continue
		}
		for _, cut := range []int{0, 3, 5, 11, 14} {
			if err := b.CongestionFeedback(at, wire[:cut], x); !errors.Is(err, ErrMalformed) {
				t.Errorf("cut to %d bytes: %v", cut, err)
			}
			a.counts.Malformed++
		}
		b.times, b.counts = unwrapper{}, a.counts
		b.times.extend(stamp, 32)
	}
	if a.Estimate().Loss < 0.04 {
		t.Errorf("loss %.2f: the messages weren't understood", a.Estimate().Loss)
	}
}

// TestLyingFeedback: whatever feedback says, the work is bounded, what is wrong is counted, and the estimate stays
// within its limits.
func TestLyingFeedback(t *testing.T) {
	e := New(Config{Min: 100_000, Max: 2_000_000}, 0)
	e.Want(5_000_000)
	now := sendSteady(e, 0, 100, time.Second)
	e.Feedback(now, []Result{{Sequence: 0, Received: true}})
	e.Feedback(now, []Result{{Sequence: 30_000, Received: true, At: time.Hour}, {Sequence: 99, Received: true, At: -time.Hour}})
	e.Feedback(now, []Result{{Sequence: 99, Received: true, At: time.Hour}, {Sequence: 98, Received: true, At: 1 << 62}})
	e.Feedback(now, []Result{{Sequence: 97, Received: true, At: -1 << 62}, {Sequence: 98}, {Sequence: 5, Received: true}})
	c := e.Counts()
	if c.Unknown != 1 || c.Duplicate != 1 || c.Absurd < 2 || c.Silent < 90 {
		t.Errorf("counted %+v", c)
	}
	for i := range 3000 {
		// All arrive at the same instant, or each an hour after the one before.
		sequence := uint16(100 + i)
		now += 10 * milli
		e.Sent(Packet{Sequence: sequence, Size: 1 << 30, At: now, Probe: uint16(i)})
		e.Feedback(now, []Result{{Sequence: sequence, Received: true, At: time.Duration(i%2*i) * time.Hour}})
		e.Update(now)
		if got := e.Estimate(); got.Target < 100_000 || got.Target > 2_000_000 || got.Queue < 0 || got.Loss < 0 || got.Loss > 1 {
			t.Fatalf("%+v", got)
		}
	}
}

// FuzzFeedback feeds both parsers and lies about everything else.
func FuzzFeedback(f *testing.F) {
	f.Add([]byte{0, 3, 0, 20, 0, 0, 1, 0, 0x20, 20, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}, int64(2e9), uint16(7), int64(1e9))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2, 0x80, 1, 0x80, 0, 0, 10, 0, 0}, int64(-1), uint16(65535), int64(-1<<60))
	f.Fuzz(func(t *testing.T, b []byte, at int64, sequence uint16, arrived int64) {
		e := New(Config{History: 64, Min: 10_000, Max: 10_000_000}, 0)
		x := NewIndex(64)
		e.Want(3_000_000)
		now := sendSteady(e, 0, 50, time.Second)
		for i := range uint16(50) {
			x.Put(uint32(i%3), i/3, i)
		}
		_ = e.TransportFeedback(now, b)
		_ = e.CongestionFeedback(now+milli, b, x)
		e.Sent(Packet{Sequence: sequence, Size: int(at), At: time.Duration(at), Probe: sequence})
		e.Feedback(time.Duration(at), []Result{{Sequence: sequence, Received: true, At: time.Duration(arrived)}, {Sequence: sequence + 1}})
		e.RTT(time.Duration(arrived))
		e.Update(now + time.Second)
		_ = e.TransportFeedback(now+time.Second, b)
		if got := e.Estimate(); got.Target < 10_000 || got.Target > 10_000_000 || got.Loss < 0 || got.Loss > 1 || got.RTT < 0 {
			t.Fatalf("%+v", got)
		}
	})
}

// A packet that is sent again under its own number counts as lost once, whatever is said of it afterwards.
func TestSentAgainUnderItsNumber(t *testing.T) {
	e := New(Config{}, 0)
	now := sendSteady(e, 100, 10, time.Second)
	var results []Result
	for i := range 8 {
		results = append(results, Result{Sequence: uint16(100 + i), Received: i != 3 && i != 5, At: now + time.Duration(i)*10*milli})
	}
	e.Feedback(now, results)
	e.Again(103) // known to be lost
	e.Again(105)
	e.Again(108) // nothing known yet
	e.Again(999) // never sent
	before := e.Estimate()
	e.Feedback(now+50*milli, []Result{{Sequence: 103, Received: true, At: now + time.Second}, {Sequence: 105}, {Sequence: 108, Received: true, At: now + time.Second}})
	if c := e.Counts(); c.Duplicate != 2 || c.Absurd != 0 || c.Received != 6 || c.Lost != 3 {
		t.Errorf("%+v", c)
	}
	if after := e.Estimate(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	fates := map[fate]int{}
	for i := range 10 {
		fates[e.sent.find(uint16(100+i)).fate]++
	}
	if fates[again] != 3 || fates[received] != 6 || fates[lost] != 0 {
		t.Errorf("%v", fates)
	}
}

// A probe that our own machine sent too slowly is repeated, not taken for one that the link refused.
func TestLateProbeIsNoFailure(t *testing.T) {
	for _, x := range []struct {
		gap    time.Duration
		spread time.Duration // what the link adds from packet to packet
		less   bool
	}{{30 * milli, 0, false}, {4 * milli, 30 * milli, true}} {
		e := New(Config{Start: 500_000}, 0)
		now := time.Second
		e.Want(4_000_000)
		e.Update(now)
		p, ok := e.Probe()
		if !ok {
			t.Fatal("no probe")
		}
		var results []Result
		for i := range 6 {
			at := now + time.Duration(i)*x.gap
			e.Sent(Packet{Sequence: uint16(i), Size: 800, At: at, Probe: p.ID})
			results = append(results, Result{Sequence: uint16(i), Received: true, At: at + time.Duration(i)*x.spread})
		}
		e.Feedback(now+300*milli, results)
		if less := e.probes.factor < probeFactor; less != x.less {
			t.Errorf("sent every %v, arriving %v later each: %+v", x.gap, x.spread, e.probes)
		}
	}
}

// TestNoAllocation: nothing is allocated for a packet sent, for feedback, or by the pacer.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := New(Config{}, 0)
	x := NewIndex(2048)
	var p Pacer
	p.Set(2_000_000, 0, 0)
	e.Want(5_000_000)
	now, sequence := time.Second, uint16(0)
	wire := append(make([]byte, 0, 64), 0, 0, 0, 20, 0, 0, 0, 0, 0x20, 20)
	for range 20 {
		wire = append(wire, 20)
	}
	ccfb := []byte{0, 0, 0, 9, 0, 0, 0, 2, 0x80, 1, 0x80, 0, 0, 10, 0, 0}
	results := make([]Result, 20)
	allocated := testing.AllocsPerRun(500, func() {
		for k := range 2 {
			for i := range 20 {
				now += 5 * milli
				g := p.Next(now, Queue{Packets: 1, Bytes: 1200})
				p.Sent(now, 1200, false)
				e.Sent(Packet{Sequence: sequence, Size: 1200, At: now, Probe: g.Probe})
				x.Put(9, sequence, sequence)
				results[i] = Result{Sequence: sequence, Received: i%9 != 0, At: now}
				sequence++
			}
			if k == 0 {
				binary.BigEndian.PutUint16(wire, sequence-20)
				reference := now / (64 * milli)
				wire[4], wire[5], wire[6] = byte(reference>>16), byte(reference>>8), byte(reference)
				if err := e.TransportFeedback(now, wire); err != nil {
					t.Fatal(err)
				}
			} else {
				e.Feedback(now, results)
			}
			binary.BigEndian.PutUint16(ccfb[4:], sequence-2)
			if err := e.CongestionFeedback(now, ccfb, x); err != nil {
				t.Fatal(err)
			}
			e.Update(now)
			if probe, ok := e.Probe(); ok {
				p.Start(probe)
			}
		}
	})
	if allocated != 0 {
		t.Errorf("%.1f allocations in 40 packets and 4 messages", allocated)
	}
	r := NewReports(Config{}, 0)
	if n := testing.AllocsPerRun(500, func() {
		now += 20 * milli
		r.Sent(Packet{Size: 1000, At: now})
		r.Report(now, 3, 50*milli)
		r.Update(now)
		_ = r.Estimate()
	}); n != 0 {
		t.Errorf("reports: %.1f allocations", n)
	}
}

func BenchmarkSent(b *testing.B) {
	e := New(Config{}, 0)
	for i := 0; b.Loop(); i++ {
		e.Sent(Packet{Sequence: uint16(i), Size: 1200, At: time.Duration(i) * milli})
	}
}

// BenchmarkFeedback is per packet that feedback tells of, 20 to a message, a tenth of them lost.
func BenchmarkFeedback(b *testing.B) {
	e := New(Config{}, 0)
	results := make([]Result, 0, 20)
	for i := 0; b.Loop(); i++ {
		now := time.Duration(i) * 5 * milli
		e.Sent(Packet{Sequence: uint16(i), Size: 1200, At: now})
		results = append(results, Result{Sequence: uint16(i), Received: i%10 != 0, At: now})
		if len(results) == 20 {
			e.Feedback(now+50*milli, results)
			results = results[:0]
		}
	}
}

func BenchmarkPacer(b *testing.B) {
	var p Pacer
	p.Set(5_000_000, 0, 0)
	for i := 0; b.Loop(); i++ {
		now := time.Duration(i) * milli
		p.Next(now, Queue{Packets: 5, Bytes: 6000})
		p.Sent(now, 1200, false)
	}
}

package bwe

import (
	"testing"
	"time"
)

// egress is a queue behind a pacer, in simulated time.
type egress struct {
	t     *testing.T
	pacer Pacer
	now   time.Duration
	queue []time.Duration // when each packet of 1200 bytes was queued
	left  []departure
}

type departure struct {
	at      time.Duration
	bytes   int
	probe   uint16
	padding bool
	waited  time.Duration
}

// pump takes one grant and returns when to ask again.
func (e *egress) pump() time.Duration {
	q := Queue{Packets: len(e.queue), Bytes: 1200 * len(e.queue)}
	if len(e.queue) > 0 {
		q.Oldest = e.now - e.queue[0]
	}
	g := e.pacer.Next(e.now, q)
	if g.Next != 0 && g.Next <= e.now {
		e.t.Fatalf("at %v: ask again at %v", e.now, g.Next)
	}
	sent := 0
	for i := 0; i < g.Packets && len(e.queue) > 0 && sent < g.Bytes; i++ {
		e.left = append(e.left, departure{e.now, 1200, g.Probe, false, e.now - e.queue[0]})
		e.queue = e.queue[1:]
		e.pacer.Sent(e.now, 1200, false)
		sent += 1200
	}
	for g.Padding > 0 && len(e.queue) == 0 && sent < g.Bytes {
		n := min(max(g.Bytes-sent, 60), 255)
		e.left = append(e.left, departure{e.now, n, g.Probe, true, 0})
		e.pacer.Sent(e.now, n, true)
		sent += n
	}
	return g.Next
}

// run pumps until end.
func (e *egress) run(end time.Duration) {
	for i := 0; e.now < end; i++ {
		if i > 1_000_000 {
			e.t.Fatal("it asks too often")
		}
		next := e.pump()
		if next == 0 {
			next = end
		}
		e.now = min(next, end)
	}
}

func (e *egress) put(packets int) {
	for range packets {
		e.queue = append(e.queue, e.now)
	}
}

func (e *egress) bytes(from, to time.Duration) (n int) {
	for _, d := range e.left {
		if d.at >= from && d.at < to {
			n += d.bytes
		}
	}
	return n
}

func TestPacerKeepsTheRate(t *testing.T) {
	for _, rate := range []int64{300_000, 2_000_000, 20_000_000, 80_000_000} {
		e := &egress{t: t, now: time.Second}
		e.pacer.Set(rate, 0, 0)
		e.put(int(rate / 8 / 1200 / 5)) // what takes 200 ms
		e.run(1100 * milli)
		got := float64(e.bytes(time.Second, 1100*milli)*8) / 0.1
		// A burst of 10 ms, or one packet, may be ahead.
		if want := float64(rate); got < 0.93*want || got > 1.06*want+2*9600/0.1 {
			t.Errorf("rate %d: %.0f bit/s in the first 100 ms", rate, got)
		}
		e.run(1300 * milli)
		if len(e.queue) > 0 {
			t.Errorf("rate %d: %d packets are still queued", rate, len(e.queue))
		}
	}
}

func TestPacerBoundsBursts(t *testing.T) {
	e := &egress{t: t, now: time.Second}
	e.pacer.Set(15_000_000, 0, 0)
	e.put(300)
	e.run(2 * time.Second)
	for i := range e.left {
		n := 0
		for j := i; j < len(e.left) && e.left[j].at < e.left[i].at+paceTick; j++ {
			n++
		}
		if n > paceSegments {
			t.Fatalf("%d packets within 5 ms at %v", n, e.left[i].at)
		}
	}
	if len(e.left) != 300 {
		t.Errorf("%d of 300 left", len(e.left))
	}
}

func TestPacerHurriesLongQueues(t *testing.T) {
	e := &egress{t: t, now: time.Second}
	e.pacer.Set(500_000, 0, 0)
	e.put(40) // 48 kB take 0.8 s at this rate
	e.run(1100 * milli)
	e.put(10)
	e.run(3 * time.Second)
	for _, d := range e.left {
		if d.waited > paceQueue+10*milli {
			t.Fatalf("a packet waited for %v", d.waited)
		}
	}
	if len(e.left) != 50 {
		t.Errorf("%d of 50 left", len(e.left))
	}
	// Afterwards the rate is the old one.
	e.left = nil
	e.put(10)
	e.run(3100 * milli)
	if got := e.bytes(3*time.Second, 3100*milli); got > 500_000/8/10+2*1200 {
		t.Errorf("%d bytes in 100 ms after the hurry", got)
	}
	// However much waits, it has its limit.
	for rate, most := range map[int64]int{300_000: paceLeastTop, 2_000_000: paceHurry * 2_000_000} {
		e := &egress{t: t, now: time.Second}
		e.pacer.Set(rate, 0, 0)
		e.put(2000)
		e.run(2 * time.Second)
		if got := 8 * e.bytes(time.Second, 2*time.Second); got > most+80*1200 || got < most*9/10 {
			t.Errorf("rate %d: %d bits in a second with 2.4 MB in the queue", rate, got)
		}
	}
}

func TestPacerAudioCounts(t *testing.T) {
	e := &egress{t: t, now: time.Second}
	e.pacer.Set(1_000_000, 0, 0)
	for i := range 50 {
		e.now = time.Second + time.Duration(i)*milli
		e.pacer.Sent(e.now, 1000, false) // audio left as it came: 8 Mbit/s, far above the rate
	}
	e.put(1)
	if next := e.pump(); len(e.left) != 0 || next < e.now+100*milli {
		t.Errorf("video left right after a burst of audio; next at %v", next-e.now)
	}
}

func TestPacerProbes(t *testing.T) {
	for _, c := range []struct {
		rate   int64
		queued int
	}{{300_000, 0}, {900_000, 0}, {3_000_000, 0}, {3_000_000, 40}, {20_000_000, 0}, {20_000_000, 3}} {
		e := &egress{t: t, now: time.Second}
		e.pacer.Set(1_000_000, 0, 0)
		e.put(c.queued)
		p := Probe{ID: 9, Rate: c.rate, Packets: probePackets, Bytes: int(float64(c.rate) / 8 * probeSpan.Seconds())}
		e.pacer.Start(p)
		if e.pacer.Probing() != 9 {
			t.Fatal("it isn't probing")
		}
		e.run(1200 * milli)
		if e.pacer.Probing() != 0 {
			t.Fatalf("%+v: still probing", c)
		}
		n, bytes, before, last := 0, 0, 0, time.Duration(0) // before: sent before the last departure's instant
		for _, d := range e.left {
			if d.probe == 9 {
				if d.at > last {
					last, before = d.at, bytes
				}
				n++
				bytes += d.bytes
			}
		}
		if n < p.Packets || bytes < p.Bytes || bytes > p.Bytes+1200+p.Bytes/2 {
			t.Errorf("%+v: %d packets, %d bytes of %d", c, n, bytes, p.Bytes)
		}
		rate := float64(before*8) / (last - time.Second).Seconds()
		if rate < 0.95*float64(c.rate) || rate > 1.1*float64(c.rate) {
			t.Errorf("%+v: sent at %.0f bit/s", c, rate)
		}
		if c.queued == 0 && e.left[0].padding == false {
			t.Errorf("%+v: no padding", c)
		}
		if c.queued == 40 && e.left[0].padding {
			t.Errorf("%+v: padding before media", c)
		}
	}
	var p Pacer
	p.Start(Probe{ID: 1})
	p.Start(Probe{Rate: 5})
	if p.Probing() != 0 {
		t.Error("probing at no rate, or without an ID")
	}
}

func TestPacerPads(t *testing.T) {
	e := &egress{t: t, now: time.Second}
	e.pacer.Set(1_000_000, 400_000, 0)
	e.run(2 * time.Second)
	if got := e.bytes(time.Second, 2*time.Second) * 8; got < 380_000 || got > 420_000 {
		t.Errorf("%d bit/s of padding", got)
	}
	e.pacer.Set(1_000_000, 0, 0)
	e.left = nil
	if next := e.pump(); next != 0 || len(e.left) != 0 {
		t.Error("it pads without being told")
	}
}

func TestProbeCountsWhatIsSeen(t *testing.T) {
	var p Pacer
	p.Set(500_000, 0, 0)
	p.Start(Probe{ID: 3, Rate: 1_000_000, Packets: 5, Bytes: 2500})
	now := time.Second
	for range 20 {
		p.Unseen(now, 1000, false)
	}
	for i := range 5 {
		if p.Probing() != 3 {
			t.Fatalf("the cluster ended after %d packets", i)
		}
		p.Sent(now, 500, i%2 == 0)
	}
	if p.Probing() != 0 {
		t.Error("the cluster goes on")
	}
}

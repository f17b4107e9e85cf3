package sfu

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A keyframe is spread over time; audio and what is sent again don't wait behind it.
func TestKeyframeIsSmoothed(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		audio := d.publish("TR_a", Audio, audioSection("1"))
		a := audioSection("1")
		listening := &subscription{p: d.p, pub: audio, room: d.room}
		audio.want(listening)
		if err := listening.establish(d.down.out, &a, 3000, 0); err != nil {
			t.Fatal(err)
		}
		listening.out.announced = true
		audio.feed(listening)
		d.feedback = true
		d.run(2*time.Second, 300_000)
		begin, first := d.server.now(), len(k.sent)
		d.v.timestamp += 3000
		d.v.picture++
		for i := range 40 { // 42 kB
			d.in.one(d.v.packet(d.v.vp8(i == 0, true), i == 39), begin)
		}
		if n := len(k.sent) - first; n == 0 || n > maxRun {
			t.Errorf("%d packets of the keyframe left at once", n)
		}
		waiting := d.down.out.snapshot()
		if waiting.Waiting < 20 || waiting.WaitingBytes < 20_000 {
			t.Errorf("%+v", waiting)
		}
		f := feed{ssrc: 8, pt: 111, mid: "1"}
		n := len(k.sent)
		d.in.one(f.packet([]byte("opus"), false), begin)
		if len(k.sent) != n+1 || !k.sent[n].audio {
			t.Error("audio waits")
		}
		again := k.sent[n-1].header.Sequence
		d.sub.nacked([]uint16{again}, begin+d.sub.p.knownRTT())
		time.Sleep(time.Second)
		synctest.Wait()
		var last time.Duration
		var position, repaired int
		for i, p := range k.sent[n+1:] {
			if p.header.SSRC == 2000 {
				repaired, position = repaired+1, i
			}
			last = p.at
		}
		if repaired != 1 || position > 1 {
			t.Errorf("%d packets sent again, after %d others", repaired, position)
		}
		if d := last - begin; d < 100*ms || d > 270*ms {
			t.Errorf("the keyframe took %v", d)
		}
		if s := d.down.out.snapshot(); s.Waiting != 0 || s.WaitingBytes != 0 || s.Shed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.feedback = true
		d.run(time.Second, 300_000)
		now := d.server.now()
		for range 3 * maxWaiting {
			d.in.one(d.v.packet(d.v.vp8(false, false), true), now)
			if s := d.down.out.snapshot(); s.Waiting > maxWaiting || s.WaitingBytes > maxWaitingBytes+2000 {
				t.Fatalf("%+v", s)
			}
		}
		s := d.down.out.snapshot()
		if s.Shed < 1000 || s.Waiting != 0 {
			t.Errorf("%d packets were shed, %d wait", s.Shed, s.Waiting)
		}
		if layer, waits := d.sub.out.forwarder.NeedsKeyframe(); !waits || layer != 0 {
			t.Error("it doesn't need a keyframe")
		}
		n := len(k.sent)
		d.sub.nacked([]uint16{d.sub.out.newest}, now)
		d.in.one(d.v.packet(d.v.vp8(true, true), true), now)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(k.sent) != n+1 || k.sent[n].header.SSRC != 1000 {
			t.Errorf("%d packets after the keyframe", len(k.sent)-n)
		}
	})
}

// TestOldPicturesAreShed: what has waited for two seconds isn't sent any more.
func TestOldPicturesAreShed(t *testing.T) {
	k := &narrow{rate: 100e6, delay: 10 * ms, queue: time.Second}
	withDownlink(t, pacedSection(true), k, func(t *testing.T, d *downlink) {
		d.run(100*ms, 100e6) // more than a megabyte, which leaves at 2 Mbit/s
		if s := d.down.out.snapshot(); s.Shed != 0 || s.WaitingBytes < 1_000_000 {
			t.Fatalf("%+v", s)
		}
		d.run(maxWaitingTime-200*ms, 100_000)
		if s := d.down.out.snapshot(); s.Shed != 0 {
			t.Errorf("shed early: %+v", s)
		}
		d.run(300*ms, 100_000)
		if s := d.down.out.snapshot(); s.Shed < 300 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFloodShedsItself: where too much waits, the stream that takes the most room is the one that is shed.
func TestFloodShedsItself(t *testing.T) {
	var f fifo
	var small, large atomic.Bool
	for i := range 30 {
		stream, size := &large, 1200
		if i%3 == 0 {
			stream, size = &small, 1000 // its packet is the first in the queue
		}
		f.push(&slot{shed: stream, size: size})
	}
	f.push(&slot{size: 100_000}) // padding that has to leave
	if got := f.heaviest(); got != &large {
		t.Fatalf("%p is to be shed, of %p and %p", got, &small, &large)
	}
	if n := f.remove(&large); n != 20 || f.n != 11 || f.heaviest() != &small {
		t.Errorf("%d removed, %d left", n, f.n)
	}
	for range 100 { // more streams than are looked at
		f.push(&slot{shed: new(atomic.Bool), size: 50})
	}
	if f.heaviest() != &small {
		t.Error("one of many small ones is to be shed")
	}
}

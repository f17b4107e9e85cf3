package forward

import (
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/history"
)

// video builds a one-packet VP8 frame. Its picture id is the sequence number's low bits.
func video(layer uint8, sequence uint64, timestamp uint32, key bool) *Packet {
	return &Packet{Layer: layer, Sequence: sequence, Timestamp: timestamp, Marker: true, Arrival: time.Duration(sequence) * 33 * time.Millisecond,
		Descriptor: codec.Descriptor{Kind: codec.VP8, FrameStart: true, Keyframe: key, HasPictureID: true, LongPictureID: true,
			PictureID: uint16(sequence) & 0x7fff, HasTL0: true, TL0: uint8(sequence), HeaderLength: 5}}
}

func audio(sequence uint64, timestamp uint32, at time.Duration) *Packet {
	return &Packet{Sequence: sequence, Timestamp: timestamp, Arrival: at, Descriptor: codec.Descriptor{Kind: codec.Opus, FrameStart: true, Keyframe: true}}
}

func newVideo() *fed { return newFed(Config{Kind: codec.VP8, Sequence: 100, Timestamp: 5000}) }

// want checks a decision's action and numbers.
func want(t *testing.T, d Decision, action Action, sequence uint16, timestamp uint32) {
	t.Helper()
	if d.Action != action || action != Drop && (d.Sequence != sequence || d.Timestamp != timestamp) {
		t.Fatalf("got %+v, want action %d, sequence %d, timestamp %d", d, action, sequence, timestamp)
	}
}

func TestVideoStartsAtKeyframe(t *testing.T) {
	f := newVideo()
	if d := f.Forward(video(0, 1000, 9000, true)); d.Action != Drop || d.NeedKeyframe {
		t.Fatalf("without a target: %+v", d)
	}
	f.SetTarget(0, AllTemporal)
	d := f.Forward(video(0, 1001, 12000, false))
	if d.Action != Drop || !d.NeedKeyframe || d.KeyframeLayer != 0 {
		t.Fatalf("before the keyframe: %+v", d)
	}
	d = f.Forward(video(0, 1002, 15000, true))
	want(t, d, Send, 100, 5000)
	if !d.Started || d.NeedKeyframe || !d.Marker || !d.Rewrite {
		t.Fatalf("at the keyframe: %+v", d)
	}
	d = f.Forward(video(0, 1003, 18000, false))
	want(t, d, Send, 101, 8000)
	if d.Started {
		t.Fatal("started twice")
	}
	if d := f.Forward(video(0, 1001, 12000, false)); d.Action != Drop {
		t.Fatalf("a packet from before the start: %+v", d)
	}
	if d := f.Forward(video(0, 1003, 18000, false)); d.Action != Drop {
		t.Fatalf("a duplicate: %+v", d)
	}
}

func TestVideoDoesNotStartAtLateKeyframe(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 11, 9000, false))
	if d := f.Forward(video(0, 10, 9000, true)); d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("started at a keyframe whose rest has been dropped: %+v", d)
	}
}

func TestVideoStartsBelowTarget(t *testing.T) {
	f := newVideo()
	f.SetTarget(1, AllTemporal)
	if d := f.Forward(video(2, 10, 9000, true)); d.Action != Drop {
		t.Fatalf("started above the target: %+v", d)
	}
	d := f.Forward(video(0, 10, 9000, true))
	if d.Action != Send || !d.NeedKeyframe || d.KeyframeLayer != 1 {
		t.Fatalf("start at a lower layer: %+v", d)
	}
	if d := f.Forward(video(1, 10, 9000, true)); !d.Started || d.NeedKeyframe || f.Current() != 1 {
		t.Fatalf("the target's keyframe: %+v", d)
	}
	if d := f.Forward(video(0, 11, 12000, true)); d.Action != Drop {
		t.Fatalf("went back to the lower layer: %+v", d)
	}
}

func TestAudioStartsAtOnce(t *testing.T) {
	f := newFed(Config{Kind: codec.Opus, Sequence: 7, Timestamp: 70})
	d := f.Forward(audio(500, 9600, 0))
	want(t, d, Send, 7, 70)
	if !d.Started || !d.Marker || d.Rewrite || d.NeedKeyframe {
		t.Fatalf("first packet: %+v", d)
	}
	d = f.Forward(audio(501, 10560, 20*time.Millisecond))
	want(t, d, Send, 8, 1030)
	if d.Marker {
		t.Fatal("marker without a talkspurt's start")
	}
	// Muted for a second, then on: no hole in the numbers, a second in the timestamps.
	f.SetMuted(true)
	want(t, f.Forward(audio(502, 11520, 40*time.Millisecond)), Drop, 0, 0)
	f.SetMuted(false)
	d = f.Forward(audio(551, 58560, 1020*time.Millisecond))
	want(t, d, Send, 9, 1030+48000)
	if !d.Marker {
		t.Fatal("no marker at the start of a talkspurt")
	}
	// The source begins again with other numbers, 20 ms later by the clock but at once by arrival.
	p := audio(1<<18, 123, 1021*time.Millisecond)
	p.Epoch = 1
	want(t, f.Forward(p), Send, 10, 1030+48000+960)
	want(t, f.Forward(audio(552, 59520, 1022*time.Millisecond)), Drop, 0, 0)
}

// Packets that were kept from the forwarder are a pause in a talk: no hole in the numbers, the source's own time, a marker.
func TestWithheldIsAPause(t *testing.T) {
	f := newFed(Config{Kind: codec.Opus, Sequence: 7, Timestamp: 70})
	want(t, f.Forward(audio(500, 9600, 0)), Send, 7, 70)
	want(t, f.Forward(audio(502, 11520, 40*time.Millisecond)), Send, 9, 1990)
	f.Withheld()
	// It comes 25 ms later than its time: that is jitter, and no business of the timestamps.
	d := f.Forward(audio(1002, 491520, 10065*time.Millisecond))
	want(t, d, Send, 10, 481990)
	if !d.Marker || d.Started {
		t.Fatalf("after the pause: %+v", d)
	}
	if d := f.Forward(audio(501, 10560, 10066*time.Millisecond)); d.Action != Drop {
		t.Fatalf("lost before the pause: %+v", d)
	}
	if d := f.Forward(audio(1001, 490560, 10067*time.Millisecond)); d.Action != Drop {
		t.Fatalf("withheld, and late: %+v", d)
	}
	// What is missing after the pause is a loss again.
	d = f.Forward(audio(1004, 493440, 10085*time.Millisecond))
	want(t, d, Send, 12, 483910)
	if d.Marker {
		t.Fatal("a second marker")
	}
	want(t, f.Forward(audio(1003, 492480, 10090*time.Millisecond)), Send, 11, 482950)
	// After hours the timestamps have gone round: the time that has passed decides.
	f.Withheld()
	d = f.Forward(audio(3_000_000, 493440+4_000_000_000, 10085*time.Millisecond+5*time.Hour))
	want(t, d, Send, 13, 483910+5*3600*48000)
	// Muted and withheld at a time, it starts anew once.
	f.SetMuted(true)
	f.Withheld()
	f.SetMuted(false)
	if d := f.Forward(audio(3_000_010, 493440+4_000_009_600, 10285*time.Millisecond+5*time.Hour)); !d.Started || d.Sequence != 14 {
		t.Fatalf("after a mute: %+v", d)
	}
	if d := f.Forward(audio(3_000_012, 493440+4_000_011_520, 10325*time.Millisecond+5*time.Hour)); d.Marker || d.Sequence != 16 {
		t.Fatalf("after that: %+v", d)
	}
}

func TestAnnouncedStreamGoesOn(t *testing.T) {
	f := newFed(Config{Kind: codec.Opus, Sequence: 65535, Timestamp: 70})
	for _, want := range []uint16{65535, 0} {
		if sequence, timestamp := f.Announce(); sequence != want || timestamp != 69 {
			t.Fatalf("announced by %d at %d, want %d at 69", sequence, timestamp, want)
		}
	}
	want(t, f.Forward(audio(500, 9600, 0)), Send, 1, 70)
}

func TestLossKeepsRoom(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	want(t, f.Forward(video(0, 65535, 0, true)), Send, 100, 5000)
	want(t, f.Forward(video(0, 65538, 9000, false)), Send, 103, 14000)
	d := f.Forward(video(0, 65536, 3000, false))
	want(t, d, Send, 101, 8000)
	if d.PictureID != 0 {
		t.Fatalf("picture id %d of a late frame", d.PictureID)
	}
	p := video(0, 65537, 6000, false)
	p.PaddingOnly = true
	want(t, f.Forward(p), Fill, 102, 11000)
	want(t, f.Forward(p), Drop, 0, 0)
}

func TestPaddingLeavesNoHole(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	for s := uint64(11); s < 14; s++ {
		want(t, f.Forward(&Packet{Sequence: s, PaddingOnly: true}), Drop, 0, 0)
	}
	// Lost between two paddings of one timestamp was padding.
	want(t, f.Forward(&Packet{Sequence: 20, PaddingOnly: true}), Drop, 0, 0)
	want(t, f.Forward(video(0, 21, 3000, false)), Send, 101, 8000)
	want(t, f.Forward(&Packet{Sequence: 15, PaddingOnly: true}), Drop, 0, 0)
}

func TestPadTakesANumber(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	want(t, f.Forward(video(0, 1000, 9000, true)), Send, 100, 5000)
	want(t, f.Forward(video(0, 1002, 15000, false)), Send, 102, 11000)
	if n := f.Pad(); n != 103 {
		t.Errorf("padding is number %d", n)
	}
	want(t, f.Forward(video(0, 1001, 12000, false)), Send, 101, 8000) // late: its place was kept
	want(t, f.Forward(video(0, 1003, 18000, false)), Send, 104, 14000)
}

func TestRestartWaitsForAKeyframe(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	want(t, f.Forward(video(0, 1000, 9000, true)), Send, 100, 5000)
	f.Restart()
	if d := f.Forward(video(0, 1001, 12000, false)); d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("%+v", d)
	}
	want(t, f.Forward(video(0, 1002, 15000, true)), Send, 101, 10940)
	a := newFed(Config{Kind: codec.Opus, Sequence: 7})
	want(t, a.Forward(audio(1, 960, 0)), Send, 7, 0)
	a.Restart()
	want(t, a.Forward(audio(2, 1920, 20*time.Millisecond)), Send, 8, 960)
}

func TestSwitchKeepsOldLayerUntilKeyframe(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	f.SetTarget(2, AllTemporal)
	want(t, f.Forward(video(2, 500, 70000, false)), Drop, 0, 0)
	d := f.Forward(video(0, 11, 3000, false))
	want(t, d, Send, 101, 8000)
	if !d.NeedKeyframe || d.KeyframeLayer != 2 {
		t.Fatalf("no wish for the target's keyframe: %+v", d)
	}
	// The new layer's numbers have nothing to do with the old one's; it comes 40 ms after the last frame.
	key := video(2, 502, 4_000_000_000, true)
	key.Arrival = 11*33*time.Millisecond + 40*time.Millisecond
	d = f.Forward(key)
	want(t, d, Send, 102, 8000+3600)
	if d.PictureID != 12 || d.TL0 != 12 || !d.Started {
		t.Fatalf("picture id and TL0 don't go on: %+v", d)
	}
	want(t, f.Forward(video(0, 12, 6000, false)), Drop, 0, 0)
	want(t, f.Forward(video(2, 501, 3_999_999_000, false)), Drop, 0, 0)
	next := video(2, 503, 4_000_003_000, false)
	if d = f.Forward(next); d.PictureID != 13 || d.TL0 != 13 {
		t.Fatalf("second frame: %+v", d)
	}
	want(t, d, Send, 103, 8000+3600+3000)
}

func TestSwitchBelievesCaptureOverArrival(t *testing.T) {
	at := func(p *Packet, capture, arrival time.Duration) *Packet {
		p.Capture, p.Arrival, p.CaptureKnown = capture, arrival, true
		return p
	}
	for _, test := range []struct {
		name            string
		capture, arrive time.Duration // of the new layer's keyframe; the last frame was 1 s, 1.02 s
		want            uint32        // ticks after the last frame
	}{
		{"capture", 1033 * time.Millisecond, 1150 * time.Millisecond, 33 * 90},
		{"the same instant", time.Second, 1030 * time.Millisecond, 1},
		{"captured before", 990 * time.Millisecond, 1030 * time.Millisecond, 1},
		{"capture time out of reason", 60 * time.Second, 1070 * time.Millisecond, 50 * 90},
		{"hours later", 9 * time.Hour, 9 * time.Hour, 1 << 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newVideo()
			f.SetTarget(0, AllTemporal)
			f.Forward(at(video(0, 10, 0, true), time.Second, 1020*time.Millisecond))
			f.SetTarget(1, AllTemporal)
			want(t, f.Forward(at(video(1, 99, 777, true), test.capture, test.arrive)), Send, 101, 5000+test.want)
		})
	}
}

func TestPauseResumesAtKeyframe(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	f.SetPaused(true)
	f.SetMuted(true)
	if d := f.Forward(video(0, 11, 3000, true)); d.Action != Drop || d.NeedKeyframe {
		t.Fatalf("paused: %+v", d)
	}
	f.SetPaused(false)
	if d := f.Forward(video(0, 12, 6000, true)); d.Action != Drop || d.NeedKeyframe {
		t.Fatalf("still muted: %+v", d)
	}
	f.SetMuted(false)
	if d := f.Forward(video(0, 13, 9000, false)); d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("resumed, no keyframe: %+v", d)
	}
	d := f.Forward(video(0, 14, 12000, true))
	want(t, d, Send, 101, 5000+4*33*90)
	if d.PictureID != 11 {
		t.Fatalf("picture id %d", d.PictureID)
	}
	f.SetTarget(-1, 0)
	if d := f.Forward(video(0, 15, 15000, true)); d.Action != Drop || f.Current() != -1 {
		t.Fatalf("without a target: %+v", d)
	}
}

func TestSourceRestart(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	p := video(0, 1<<18, 42, false)
	p.Epoch, p.Arrival = 1, 400*time.Millisecond
	if d := f.Forward(p); d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("restarted without a keyframe: %+v", d)
	}
	if d := f.Forward(video(0, 11, 3000, true)); d.Action != Drop {
		t.Fatalf("a packet of the old numbering: %+v", d)
	}
	p = video(0, 1<<18+1, 3042, true)
	p.Epoch, p.Arrival = 1, 430*time.Millisecond
	want(t, f.Forward(p), Send, 101, 5000+9000)
}

func TestGapTooLarge(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	want(t, f.Forward(video(0, 10+videoWindow, 3000*videoWindow, false)), Send, 100+videoWindow, 5000+3000*videoWindow)
	d := f.Forward(video(0, 11+2*videoWindow, 3000*(1+2*videoWindow), false))
	if d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("after a gap larger than the window: %+v", d)
	}
	if d = f.Forward(video(0, 12+2*videoWindow, 3000*(2+2*videoWindow), true)); d.Action != Send || d.Sequence != 101+videoWindow || !d.Started {
		t.Fatalf("at the keyframe: %+v", d)
	}

	a := newFed(Config{Kind: codec.Opus, Sequence: 1, Timestamp: 0})
	a.Forward(audio(10, 0, 0))
	want(t, a.Forward(audio(11+audioWindow, 960*(1+audioWindow), 20*time.Millisecond*(1+audioWindow))), Send, 2, 960*(1+audioWindow))
}

func TestTimestampJump(t *testing.T) {
	for _, test := range []struct {
		name      string
		timestamp uint32
		want      uint32
	}{
		{"back by seconds", ^uint32(5 * 90000), 5000 + 33*90},
		{"ahead by minutes", 300 * 90000, 5000 + 33*90},
		{"ahead by seconds is the source's own affair", 5 * 90000, 5000 + 5*90000},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newVideo()
			f.SetTarget(0, AllTemporal)
			f.Forward(video(0, 10, 0, true))
			want(t, f.Forward(video(0, 11, test.timestamp, false)), Send, 101, test.want)
			want(t, f.Forward(video(0, 12, test.timestamp+3000, false)), Send, 102, test.want+3000)
		})
	}
	t.Run("late packets of the time before", func(t *testing.T) {
		f := newVideo()
		f.SetTarget(0, AllTemporal)
		f.Forward(video(0, 10, 0, true))
		f.Forward(video(0, 13, 9000, false))
		want(t, f.Forward(video(0, 15, 900_000_000, false)), Send, 104, 14000+2*33*90)
		want(t, f.Forward(video(0, 12, 6000, false)), Drop, 0, 0)
		want(t, f.Forward(video(0, 14, 12000, false)), Drop, 0, 0)
	})
	t.Run("padding has no say", func(t *testing.T) {
		f := newVideo()
		f.SetTarget(0, AllTemporal)
		f.Forward(video(0, 10, 0, true))
		f.Forward(&Packet{Sequence: 11, Timestamp: 900_000_000, PaddingOnly: true})
		want(t, f.Forward(video(0, 12, 6000, false)), Send, 101, 11000)
	})
}

func TestLateBeyondWindow(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	for s := uint64(12); s < 13+videoWindow; s++ { // 11 is missing, and the number in whose place it would be
		if s != 11+videoWindow {
			f.Forward(video(0, s, uint32(s)*3000, false))
		}
	}
	want(t, f.Forward(video(0, 11, 3000, false)), Drop, 0, 0)
}

func TestShortPictureIDs(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	short := func(layer uint8, sequence uint64, key bool) Decision {
		p := video(layer, sequence, uint32(sequence)*3000, key)
		p.Descriptor.LongPictureID = false
		p.Descriptor.PictureID &= 0x7f
		return f.Forward(p)
	}
	for s := uint64(126); s < 131; s++ {
		if d := short(0, s, s == 126); d.PictureID != uint16(s)&0x7f {
			t.Fatalf("frame %d has picture id %d", s, d.PictureID)
		}
	}
	f.SetTarget(1, AllTemporal)
	if d := short(1, 300, true); d.PictureID != 131&0x7f {
		t.Fatalf("after the switch picture id %d, want %d", d.PictureID, 131&0x7f)
	}
}

func TestSenderReport(t *testing.T) {
	f := newVideo()
	line := Line{At: time.Second, RTP: 90000, Rate: 90000}
	f.SetTarget(0, AllTemporal)
	if _, ok := f.SenderReport(line, 0); ok {
		t.Error("a report before anything was sent")
	}
	f.Forward(video(0, 10, 90000, true))
	if ts, ok := f.SenderReport(line, 3*time.Second); !ok || ts != 5000+180000 {
		t.Errorf("timestamp %d, %v", ts, ok)
	}
	if _, ok := f.SenderReport(Line{}, 0); ok {
		t.Error("a report without a line")
	}
}

func TestDecisionSent(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	p := video(0, 70000, 0, true)
	d := f.Forward(p)
	got := d.Sent(p)
	if got != (history.SentPacket{Source: 70000, Timestamp: 5000, Sequence: 100, PictureID: 70000 & 0x7fff, TL0: 70000 & 0xff, Marker: true, Rewrite: true}) {
		t.Errorf("%+v", got)
	}
}

func TestNoAllocation(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	p := video(0, 10, 0, true)
	f.Forward(p)
	if n := testing.AllocsPerRun(1000, func() {
		p.Sequence += 2 // every second one lost
		p.Timestamp += 3000
		d := f.Forward(p)
		_ = d.Sent(p)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkForward(b *testing.B) {
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	p := video(0, 10, 0, true)
	b.ReportAllocs()
	for b.Loop() {
		p.Sequence++
		p.Timestamp += 3000
		if f.Forward(p).Action != Send {
			b.Fatal("dropped")
		}
	}
}

// FuzzForward feeds packets as the bytes say and checks that no outgoing number is used twice and none is skipped but
// for packets that were.
func FuzzForward(f *testing.F) {
	f.Add([]byte{0x80, 1, 0, 0, 2, 0, 0x41, 3, 0})
	f.Add([]byte{0x80, 1, 0, 0xc0, 200, 9, 0x20, 3, 0, 0x90, 1, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		fw := newVideo()
		fw.SetTarget(0, AllTemporal)
		var sequences [MaxLayers]uint64
		for i := range sequences {
			sequences[i] = 1 << 16
		}
		used := map[uint16]bool{}
		now := time.Duration(0)
		for n := 0; len(script) >= 3 && n < 4000; n++ {
			b, step, x := script[0], int(int8(script[1])), script[2]
			script = script[3:]
			layer := b & 0x03
			if b&0x0c == 0x0c {
				fw.SetTarget(int(x&3), int(x>>2&3))
				fw.SetPaused(x&0x10 != 0)
			}
			s := max(int64(sequences[layer])+int64(step), 1)
			sequences[layer] = max(sequences[layer], uint64(s))
			now += time.Duration(x) * time.Millisecond
			p := video(layer, uint64(s), uint32(s)*3000, b&0x80 != 0)
			p.Arrival, p.PaddingOnly, p.Epoch = now, b&0x20 != 0, uint32(x>>7)
			p.Descriptor.HasTemporal, p.Descriptor.Temporal, p.Descriptor.LayerSync = b&0x10 != 0, x&3, x&4 != 0
			d := fw.Forward(p)
			if d.NeedKeyframe && int(d.KeyframeLayer) != fw.Target() {
				t.Fatalf("wants a keyframe of layer %d, target %d", d.KeyframeLayer, fw.Target())
			}
			if d.Action == Drop {
				continue
			}
			if used[d.Sequence] {
				t.Fatalf("sequence number %d used twice", d.Sequence)
			}
			used[d.Sequence] = true
			delete(used, d.Sequence-0x8000)
			if len(used) > 0x8000 {
				return
			}
		}
	})
}

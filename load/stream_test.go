package load

import (
	"slices"
	"testing"
	"time"
)

// feed gives a stream packets: one frame each, the first of them keyframes, 33 ms apart.
func feed(s *stream, seqs ...int) {
	for i, seq := range seqs {
		flags := uint8(marked)
		if i == 0 {
			flags |= keyStart
		}
		s.packet(uint16(seq), uint32(i*3000), flags, false, time.Duration(i)*33*time.Millisecond)
	}
}

func videoStream() *stream {
	return &stream{codec: VP8, clockRate: videoRate, interval: time.Second / 30}
}

func TestStreamCounts(t *testing.T) {
	for _, test := range []struct {
		name string
		seqs []int
		want Counts
	}{
		{"in order", []int{1, 2, 3}, Counts{Expected: 3, Received: 3, Frames: 3}},
		{"wrap", []int{65534, 65535, 0, 1}, Counts{Expected: 4, Received: 4, Frames: 4}},
		{"lost at the wrap", []int{65534, 1}, Counts{Expected: 4, Received: 2, Frames: 1}},
		{"reordered", []int{1, 3, 2, 4}, Counts{Expected: 4, Received: 4, Reordered: 1, Frames: 4}},
		{"reordered over the wrap", []int{65535, 1, 0}, Counts{Expected: 3, Received: 3, Reordered: 1, Frames: 3}},
		{"twice", []int{1, 2, 2, 1, 3}, Counts{Expected: 3, Received: 3, Duplicates: 2, Frames: 3}},
		{"before the first", []int{5, 4, 6}, Counts{Expected: 2, Received: 2, Duplicates: 1, Frames: 2}},
		{"a long hole", []int{1, 2, 1000, 1001}, Counts{Expected: 1001, Received: 4, Frames: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := videoStream()
			feed(s, test.seqs...)
			if got := s.counts; got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestRepair(t *testing.T) {
	s := videoStream()
	feed(s, 1, 2, 5)
	now := 100 * time.Millisecond
	if got := s.wanted(nil, now, 100*time.Millisecond); !slices.Equal(got, []uint16{3, 4}) {
		t.Errorf("asks for %v", got)
	}
	if got := s.wanted(nil, now+50*time.Millisecond, 100*time.Millisecond); got != nil {
		t.Errorf("asks for %v again at once", got)
	}
	if got := s.sum(now); got.Expected != 3 || got.Lost() != 0 {
		t.Errorf("what was missed just now counts as lost: %+v", got)
	}
	if got := s.sum(now + time.Second); got.Expected != 5 || got.Lost() != 2 {
		t.Errorf("what was missed long ago doesn't count as lost: %+v", got)
	}
	s.packet(3, 0, marked, true, now)
	if got := s.wanted(nil, now+150*time.Millisecond, 100*time.Millisecond); !slices.Equal(got, []uint16{4}) {
		t.Errorf("asks for %v", got)
	}
	s.packet(4, 0, marked, true, now)
	if got := s.counts; got.Expected != 5 || got.Received != 5 || got.Repaired != 2 || got.Reordered != 0 || got.Frames != 5 {
		t.Errorf("repaired: %+v", got)
	}
}

// TestGivenUp: after a hole that nobody fills the picture stands still until a keyframe.
func TestGivenUp(t *testing.T) {
	s := videoStream()
	feed(s, 1, 2, 4, 5)
	if s.counts.Frames != 2 {
		t.Fatalf("%d frames before the hole", s.counts.Frames)
	}
	s.packet(6, 0, marked, false, 2*time.Second)
	if s.counts.Frames != 2 || !s.wantsKeyframe() {
		t.Errorf("%d frames without a keyframe after a hole", s.counts.Frames)
	}
	s.packet(7, 0, keyStart, false, 2*time.Second)
	s.packet(8, 0, marked, false, 2*time.Second)
	if s.counts.Frames != 3 || s.wantsKeyframe() || s.counts.Freezes != 1 || s.counts.FrozenMS != 1967 {
		t.Errorf("after the keyframe: %+v", s.counts)
	}
}

func TestFrames(t *testing.T) {
	s := videoStream()
	ms := time.Millisecond
	s.packet(1, 0, marked, false, 0)
	if s.counts.Frames != 0 || !s.wantsKeyframe() {
		t.Error("a picture before the first keyframe")
	}
	s.packet(2, 0, keyStart, false, 10*ms)
	s.packet(4, 0, marked, false, 12*ms)
	if s.keyframe != 0 {
		t.Error("a keyframe with a hole in it")
	}
	s.packet(3, 0, 0, false, 15*ms)
	if s.keyframe != 15*ms || s.counts.Frames != 1 {
		t.Errorf("the keyframe was there at %v", s.keyframe)
	}
	s.packet(5, 0, empty, false, 20*ms)
	s.packet(6, 0, marked, false, 30*ms)
	if s.counts.Frames != 2 {
		t.Errorf("%d frames: padding is none, and breaks none", s.counts.Frames)
	}
}

func TestFreezes(t *testing.T) {
	interval := time.Second / 30
	limit := interval + 150*time.Millisecond
	if freezeAfter(interval) != limit || freezeAfter(100*time.Millisecond) != 300*time.Millisecond {
		t.Fatal("the limits are wrong")
	}
	s := videoStream()
	at := time.Second
	for i, pause := range []time.Duration{0, interval, limit, limit + time.Millisecond, interval} {
		at += pause
		s.packet(uint16(i), 0, marked|keyStart, false, at)
	}
	if got := s.sum(at); got.Freezes != 1 || got.FrozenMS != 184 {
		t.Errorf("%+v, want one freeze of 184 ms", got)
	}
	if got := s.sum(at + time.Second); got.Freezes != 2 {
		t.Errorf("a picture that stands still isn't frozen: %+v", got)
	}
}

// TestBurstOfHoles: a stream that is nothing but holes stays within its bounds.
func TestBurstOfHoles(t *testing.T) {
	s := videoStream()
	for i := range 5_000 {
		s.packet(uint16(i*400), uint32(i), marked, false, time.Duration(i)*time.Millisecond)
		s.wanted(nil, time.Duration(i)*time.Millisecond, time.Second)
		if n := len(s.missing); n > maxMissing {
			t.Fatalf("%d are waited for", n)
		}
	}
	if c := s.counts; c.Received != 5_000 || c.Expected != 4_999*400+1 {
		t.Errorf("%+v", c)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if h.percentile(0.5) != 0 {
		t.Error("the percentile of nothing")
	}
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for _, test := range []struct {
		p    float64
		want time.Duration
	}{{0.001, time.Millisecond}, {0.5, 500 * time.Millisecond}, {0.95, 950 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		if got := h.percentile(test.p); max(got-test.want, test.want-got) > test.want*3/100 {
			t.Errorf("percentile %v is %v, want %v", test.p, got, test.want)
		}
	}
	earlier := h
	h.add(-time.Second)
	h.add(time.Hour)
	late := h.less(&earlier)
	if late.total != 2 || late.percentile(0.5) != 0 || late.percentile(1) < 58*time.Minute {
		t.Errorf("%d since then, from %v to %v", late.total, late.percentile(0.5), late.percentile(1))
	}
	for i := range len(h.counts) - 1 {
		if bucket(floor(i)) != i || bucket(floor(i+1)-time.Microsecond) != i {
			t.Fatalf("bucket %d begins at %v, which is in %d", i, floor(i), bucket(floor(i)))
		}
	}
}

func TestDescribe(t *testing.T) {
	d := describe("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=rtpmap:300 no/1\r\n" +
		"a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n" +
		"a=rtcp-fb:96 goog-remb\r\na=ssrc-group:FID 11 22\r\na=ssrc-group:SIM 1 2 3\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:\r\na=extmap\r\n")
	if d.payloads[96] != (payload{VP8, 90000}) || d.payloads[97] != (payload{rtx, 90000}) || d.payloads[111] != (payload{opus, 48000}) || len(d.payloads) != 3 {
		t.Errorf("payload types %v", d.payloads)
	}
	if d.transportCC != 5 || !d.remb || len(d.repairs) != 1 || d.repairs[22] != 11 {
		t.Errorf("extension %d, repairs %v", d.transportCC, d.repairs)
	}
}

func TestParseHead(t *testing.T) {
	base := []byte{0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1} // padded, extended, one contributing source
	one := append(append([]byte{}, base...), 0xbe, 0xde, 0, 2, 0x10, 0xaa, 0, 0x51, 0xab, 0xcd, 0, 0)
	two := append(append([]byte{}, base...), 0x10, 0, 0, 2, 1, 0, 5, 2, 0xab, 0xcd, 0, 0)
	for name, b := range map[string][]byte{"one-byte": one, "two-byte": two} {
		h, ok := parseHead(b, 5)
		want := rtpHead{padded: true, marker: true, pt: 0x60, seq: 0x1234, timestamp: 7, ssrc: 9, length: len(b), numbered: true, number: 0xabcd}
		if !ok || h != want {
			t.Errorf("%s: %+v, %v", name, h, ok)
		}
		for n := range b {
			if _, ok := parseHead(b[:n], 5); ok {
				t.Errorf("%s: %d bytes of %d are a header", name, n, len(b))
			}
		}
		if h, ok := parseHead(b, 6); !ok || h.numbered {
			t.Errorf("%s: another extension is taken for the number", name)
		}
	}
}

// FuzzDatagrams: what comes from the network may be anything.
func FuzzDatagrams(f *testing.F) {
	f.Add([]byte{0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x51, 0xab, 0xcd, 0}, uint8(5))
	f.Add([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, id uint8) {
		if h, ok := parseHead(b, id); ok && h.length > len(b) {
			t.Errorf("a header of %d bytes in %d", h.length, len(b))
		}
		var h handshake
		h.see(b, false)
		h.messages(b, true)
		describe(string(b))
	})
}

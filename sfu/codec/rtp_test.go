package codec

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// packet puts an RTP packet together from a first byte and what follows the fixed part.
func packet(first byte, rest ...byte) []byte {
	return append([]byte{first, 0x80 | 96, 0x12, 0x34, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef}, rest...)
}

func TestParseHeader(t *testing.T) {
	tests := []struct {
		name       string
		in         []byte
		payload    []byte
		extensions []byte
		err        error
	}{
		{"plain", packet(0x80, 1, 2, 3), []byte{1, 2, 3}, nil, nil},
		{"no payload", packet(0x80), nil, nil, nil},
		{"two CSRCs", packet(0x82, 0, 0, 0, 1, 0, 0, 0, 2, 9), []byte{9}, nil, nil},
		{"extension", packet(0x90, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0, 9), []byte{9}, []byte{0x10, 5, 0, 0}, nil},
		{"empty extension", packet(0x90, 0xbe, 0xde, 0, 0, 9), []byte{9}, []byte{}, nil},
		{"CSRC and extension", packet(0x91, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0, 9), []byte{9}, []byte{0x10, 5, 0, 0}, nil},
		{"padding", packet(0xa0, 9, 9, 0, 2), []byte{9, 9}, nil, nil},
		{"padding only", packet(0xa0, 0, 0, 3), nil, nil, nil},
		{"extension and padding only", packet(0xb0, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0, 1), nil, []byte{0x10, 5, 0, 0}, nil},
		{"short", packet(0x80)[:11], nil, nil, ErrTruncated},
		{"version 1", packet(0x40), nil, nil, ErrMalformed},
		{"CSRC cut", packet(0x81, 0, 0, 0), nil, nil, ErrTruncated},
		{"extension header cut", packet(0x90, 0xbe, 0xde, 0), nil, nil, ErrTruncated},
		{"extension cut", packet(0x90, 0xbe, 0xde, 0, 1, 0x10, 5, 0), nil, nil, ErrTruncated},
		{"padding count 0", packet(0xa0, 9, 0), nil, nil, ErrMalformed},
		{"padding into the header", packet(0xa0, 9, 3), nil, nil, ErrMalformed},
		{"padding without a byte", packet(0xa0), nil, nil, ErrMalformed},
		{"too large", make([]byte, MaxPacket+1), nil, nil, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, err := ParseHeader(test.in)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err != nil {
				return
			}
			if h.Sequence != 0x1234 || h.Timestamp != 0x01020304 || h.SSRC != 0xdeadbeef || !h.Marker || h.PayloadType != 96 {
				t.Errorf("fixed part %+v", h)
			}
			if !bytes.Equal(h.Payload(test.in), test.payload) || h.PaddingOnly() != (len(test.payload) == 0) {
				t.Errorf("payload %x, padding only %v", h.Payload(test.in), h.PaddingOnly())
			}
			if got := test.in[h.ExtensionStart:h.ExtensionEnd]; !bytes.Equal(got, test.extensions) {
				t.Errorf("extension %x, want %x", got, test.extensions)
			}
		})
	}
}

type element struct {
	id    uint8
	value string
}

func elements(h *Header, b []byte) (list []element) {
	for e := h.Extensions(b); ; {
		id, value, ok := e.Next()
		if !ok {
			return list
		}
		list = append(list, element{id, string(value)})
	}
}

func TestExtensions(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want []element
	}{
		{"none", packet(0x80), nil},
		{"one-byte", packet(0x90, 0xbe, 0xde, 0, 2, 0x10, 'a', 0x22, 'b', 'c', 'd', 0, 0), []element{{1, "a"}, {2, "bcd"}}},
		{"one-byte with padding between", packet(0x90, 0xbe, 0xde, 0, 2, 0, 0x10, 'a', 0, 0, 0x20, 'b', 0), []element{{1, "a"}, {2, "b"}}},
		{"one-byte id 15 ends", packet(0x90, 0xbe, 0xde, 0, 2, 0x10, 'a', 0xf0, 'x', 0x20, 'b', 0, 0), []element{{1, "a"}}},
		{"one-byte id 0 with a length is skipped", packet(0x90, 0xbe, 0xde, 0, 2, 0x01, 'x', 'x', 0x10, 'a', 0, 0, 0), []element{{1, "a"}}},
		{"one-byte cut", packet(0x90, 0xbe, 0xde, 0, 1, 0x10, 'a', 0x23, 'b'), []element{{1, "a"}}},
		{"two-byte", packet(0x90, 0x10, 0x00, 0, 2, 1, 0, 20, 3, 'a', 'b', 'c', 0), []element{{1, ""}, {20, "abc"}}},
		{"two-byte with application bits", packet(0x90, 0x10, 0x05, 0, 1, 15, 1, 'a', 0), []element{{15, "a"}}},
		{"two-byte cut in the length", packet(0x90, 0x10, 0x00, 0, 1, 1, 1, 'a', 2), []element{{1, "a"}}},
		{"two-byte cut in the value", packet(0x90, 0x10, 0x00, 0, 1, 1, 3, 'a', 'b'), nil},
		{"another profile", packet(0x90, 0xca, 0xfe, 0, 1, 0x10, 'a', 0, 0), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, err := ParseHeader(test.in)
			if err != nil {
				t.Fatal(err)
			}
			got := elements(&h, test.in)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("element %d: %q, want %q", i, got[i], test.want[i])
				}
				if v := h.Extension(test.in, got[i].id); string(v) != got[i].value {
					t.Errorf("Extension(%d) = %q", got[i].id, v)
				}
			}
			if h.Extension(test.in, 9) != nil {
				t.Error("found an element that isn't there")
			}
		})
	}
}

func TestAudioLevel(t *testing.T) {
	if l, v, ok := ParseAudioLevel([]byte{0x80 | 30}); l != 30 || !v || !ok {
		t.Error(l, v, ok)
	}
	if l, v, ok := ParseAudioLevel([]byte{127, 0}); l != 127 || v || !ok {
		t.Error(l, v, ok)
	}
	if _, _, ok := ParseAudioLevel(nil); ok {
		t.Error("a level out of nothing")
	}
}

func TestAbsSendTime(t *testing.T) {
	for _, test := range []struct {
		now  time.Duration
		want uint32
	}{
		{0, 0}, {time.Second, 1 << 18}, {500 * time.Millisecond, 1 << 17}, {63 * time.Second, 63 << 18}, {64 * time.Second, 0},
		{1000*64*time.Second + 250*time.Millisecond, 1 << 16}, {64*time.Second - 1, 1<<24 - 1},
	} {
		var v [3]byte
		PutAbsSendTime(v[:], test.now)
		if got := uint32(v[0])<<16 | uint32(v[1])<<8 | uint32(v[2]); got != test.want {
			t.Errorf("%v: %#x, want %#x", test.now, got, test.want)
		}
	}
}

func TestWriter(t *testing.T) {
	var b [64]byte
	for i := range b {
		b[i] = 0xff // what a pooled buffer held before must not show through
	}
	w := NewWriter(b[:], true, 111, 0xabcd, 0x01020304, 0xdeadbeef)
	at, ok := w.Extension(3, []byte{0, 0})
	if !ok {
		t.Fatal("no room for two bytes")
	}
	if _, ok := w.Extension(1, []byte("mid")); !ok {
		t.Fatal("no room for a mid")
	}
	n := w.Finish()
	n += copy(b[n:], "payload")
	PutTransportSequence(b[at:], 0x7788)
	h, err := ParseHeader(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	if !h.Marker || h.PayloadType != 111 || h.Sequence != 0xabcd || h.Timestamp != 0x01020304 || h.SSRC != 0xdeadbeef {
		t.Errorf("fixed part %+v", h)
	}
	if string(h.Payload(b[:n])) != "payload" || string(h.Extension(b[:n], 1)) != "mid" || string(h.Extension(b[:n], 3)) != "\x77\x88" {
		t.Errorf("packet %x", b[:n])
	}

	t.Run("without extensions", func(t *testing.T) {
		w := NewWriter(b[:], false, 96, 1, 2, 3)
		if n := w.Finish(); n != 12 || b[0] != 0x80 || b[1] != 96 {
			t.Errorf("%d bytes, %x", n, b[:2])
		}
	})
	t.Run("refusals", func(t *testing.T) {
		w := NewWriter(b[:], false, 96, 1, 2, 3)
		for _, e := range []element{{0, "a"}, {15, "a"}, {1, ""}, {1, "12345678901234567"}} {
			if _, ok := w.Extension(e.id, []byte(e.value)); ok {
				t.Errorf("one-byte form took id %d with %d bytes", e.id, len(e.value))
			}
		}
		if n := w.Finish(); n != 12 || b[0]&0x10 != 0 {
			t.Error("a refused element left an extension behind")
		}
		w = NewWriter(b[:20], false, 96, 1, 2, 3)
		if _, ok := w.Extension(1, []byte("12")); ok {
			t.Error("wrote without room for the padding")
		}
	})
	t.Run("two-byte", func(t *testing.T) {
		w := NewWriter(b[:], false, 96, 1, 2, 3)
		w.TwoByte()
		w.Extension(200, []byte("12345678901234567"))
		w.Extension(7, nil)
		n := w.Finish()
		h, err := ParseHeader(b[:n])
		if err != nil || h.Profile != 0x1000 || string(h.Extension(b[:n], 200)) != "12345678901234567" || h.Extension(b[:n], 7) == nil {
			t.Errorf("%+v, %v, %x", h, err, b[:n])
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(packet(0x91, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0, 9))
	f.Add(packet(0xb0, 0x10, 0x00, 0, 2, 1, 0, 20, 3, 'a', 'b', 'c', 0, 1, 2, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if h.PayloadStart < 12 || h.PayloadStart > h.PayloadEnd || int(h.PayloadEnd) > len(b) || h.ExtensionStart > h.ExtensionEnd || h.ExtensionEnd > h.PayloadStart {
			t.Fatalf("bounds %+v of %d bytes", h, len(b))
		}
		_ = h.Payload(b)
		list := elements(&h, b)
		// What was read can be written, and reads the same.
		out := make([]byte, 16+2*len(list)+len(b)+3)
		w := NewWriter(out, h.Marker, h.PayloadType, h.Sequence, h.Timestamp, h.SSRC)
		w.TwoByte()
		for _, e := range list {
			if _, ok := w.Extension(e.id, []byte(e.value)); !ok {
				t.Fatalf("refused element %d of %d bytes", e.id, len(e.value))
			}
		}
		n := w.Finish()
		n += copy(out[n:], h.Payload(b))
		again, err := ParseHeader(out[:n])
		if err != nil {
			t.Fatal(err)
		}
		if got := elements(&again, out[:n]); len(got) != len(list) {
			t.Fatalf("elements %q, want %q", got, list)
		} else {
			for i := range got {
				if got[i] != list[i] {
					t.Fatalf("element %q, want %q", got[i], list[i])
				}
			}
		}
		if !bytes.Equal(again.Payload(out[:n]), h.Payload(b)) || again.Sequence != h.Sequence || again.Timestamp != h.Timestamp ||
			again.SSRC != h.SSRC || again.Marker != h.Marker || again.PayloadType != h.PayloadType {
			t.Fatalf("got %+v, want %+v", again, h)
		}
	})
}

// hotPath is everything done to one packet on its way through.
func hotPath(in, out []byte) {
	h, err := ParseHeader(in)
	if err != nil {
		panic(err)
	}
	level := h.Extension(in, 1)
	d, err := Parse(VP8, h.Payload(in))
	if err != nil {
		panic(err)
	}
	w := NewWriter(out, h.Marker, 96, 7, 9, 11)
	at, _ := w.Extension(3, out[:2])
	w.Extension(1, level)
	w.Extension(4, level)
	n := w.Finish()
	n += copy(out[n:], h.Payload(in))
	Rewrite(out[n-len(h.Payload(in)):n], d, 99, 3)
	PutTransportSequence(out[at:], 5)
	PutAbsSendTime(out[at:], time.Hour)
}

var samplePacket = packet(0x90, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0, 0x90, 0xf0, 0x81, 0x02, 0x2a, 0xb5, 0x50)

func TestNoAllocation(t *testing.T) {
	out := make([]byte, 1500)
	if n := testing.AllocsPerRun(100, func() { hotPath(samplePacket, out) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkHotPath(b *testing.B) {
	out := make([]byte, 1500)
	b.ReportAllocs()
	for b.Loop() {
		hotPath(samplePacket, out)
	}
}

func BenchmarkParseHeader(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(samplePacket); err != nil {
			b.Fatal(err)
		}
	}
}

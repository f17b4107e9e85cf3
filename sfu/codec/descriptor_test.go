package codec

import (
	"errors"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		kind    Kind
		payload []byte
		want    Descriptor
		err     error
	}{
		{"empty", VP8, nil, Descriptor{}, ErrTruncated},
		{"opus", Opus, []byte{0x78, 1, 2}, Descriptor{FrameStart: true, Keyframe: true}, nil},
		{"audio", Audio, []byte{0}, Descriptor{FrameStart: true, Keyframe: true}, nil},
		{"unknown", Unknown, []byte{0}, Descriptor{FrameStart: true, Keyframe: true}, nil},

		{"vp8 minimal keyframe", VP8, []byte{0x10, 0x50}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 1}, nil},
		{"vp8 minimal interframe", VP8, []byte{0x10, 0x51}, Descriptor{FrameStart: true, HeaderLength: 1}, nil},
		{"vp8 keyframe bit of a continuation is payload", VP8, []byte{0x00, 0x50}, Descriptor{HeaderLength: 1}, nil},
		{"vp8 later partition isn't a frame's start", VP8, []byte{0x11, 0x50}, Descriptor{HeaderLength: 1}, nil},
		{"vp8 non-reference", VP8, []byte{0x30, 0x51}, Descriptor{FrameStart: true, NonReference: true, HeaderLength: 1}, nil},
		{"vp8 start without payload", VP8, []byte{0x10}, Descriptor{}, ErrTruncated},
		{"vp8 7-bit picture id", VP8, []byte{0x90, 0x80, 0x7f, 0x51},
			Descriptor{FrameStart: true, HasPictureID: true, PictureID: 127, HeaderLength: 3}, nil},
		{"vp8 15-bit picture id", VP8, []byte{0x90, 0x80, 0xff, 0xfe, 0x51},
			Descriptor{FrameStart: true, HasPictureID: true, LongPictureID: true, PictureID: 0x7ffe, HeaderLength: 4}, nil},
		{"vp8 all fields", VP8, []byte{0x90, 0xf0, 0x81, 0x02, 0x2a, 0xb5, 0x50},
			Descriptor{FrameStart: true, Keyframe: true, HasPictureID: true, LongPictureID: true, PictureID: 0x102, HasTL0: true, TL0: 42,
				HasTemporal: true, Temporal: 2, LayerSync: true, HasKeyIndex: true, KeyIndex: 21, HeaderLength: 6}, nil},
		{"vp8 temporal only", VP8, []byte{0x80, 0x20, 0x5f, 0x50}, Descriptor{HasTemporal: true, Temporal: 1, HeaderLength: 3}, nil},
		{"vp8 key index only: TID and Y mean nothing", VP8, []byte{0x80, 0x10, 0xff, 0x50}, Descriptor{HasKeyIndex: true, KeyIndex: 31, HeaderLength: 3}, nil},
		{"vp8 extension flags missing", VP8, []byte{0x80}, Descriptor{}, ErrTruncated},
		{"vp8 picture id missing", VP8, []byte{0x80, 0x80}, Descriptor{}, ErrTruncated},
		{"vp8 picture id half", VP8, []byte{0x80, 0x80, 0x80}, Descriptor{}, ErrTruncated},
		{"vp8 tl0 missing", VP8, []byte{0x80, 0x40}, Descriptor{}, ErrTruncated},
		{"vp8 tid missing", VP8, []byte{0x80, 0x20}, Descriptor{}, ErrTruncated},

		{"h264 sps", H264, []byte{0x67, 0x42}, Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HeaderLength: 1}, nil},
		{"h264 pps alone", H264, []byte{0x68, 0x42}, Descriptor{HeaderLength: 1}, nil},
		{"h264 idr, first slice", H264, []byte{0x65, 0x88}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 1}, nil},
		{"h264 idr, second slice", H264, []byte{0x65, 0x48}, Descriptor{HeaderLength: 1}, nil},
		{"h264 slice", H264, []byte{0x41, 0x9a}, Descriptor{FrameStart: true, HeaderLength: 1}, nil},
		{"h264 disposable slice", H264, []byte{0x01, 0x9a}, Descriptor{FrameStart: true, NonReference: true, HeaderLength: 1}, nil},
		{"h264 access unit delimiter", H264, []byte{0x09, 0x10}, Descriptor{FrameStart: true, HeaderLength: 1}, nil},
		{"h264 fu-a disposable slice middle", H264, []byte{0x1c, 0x01, 0x9a}, Descriptor{NonReference: true, HeaderLength: 2}, nil},
		{"h264 fu-a sei middle", H264, []byte{0x1c, 0x06, 0x9a}, Descriptor{HeaderLength: 2}, nil},
		{"h264 stap-a sps pps", H264, []byte{0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68},
			Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HeaderLength: 1}, nil},
		{"h264 stap-a sps second", H264, []byte{0x78, 0, 1, 0x06, 0, 2, 0x67, 0x42},
			Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HeaderLength: 1}, nil},
		{"h264 stap-a slices", H264, []byte{0x58, 0, 2, 0x41, 0x9a, 0, 2, 0x41, 0x1a}, Descriptor{FrameStart: true, HeaderLength: 1}, nil},
		{"h264 stap-a empty", H264, []byte{0x78}, Descriptor{}, ErrTruncated},
		{"h264 stap-a size beyond the end", H264, []byte{0x78, 0, 3, 0x67, 0x42}, Descriptor{}, ErrTruncated},
		{"h264 stap-a unit of no bytes", H264, []byte{0x78, 0, 0}, Descriptor{}, ErrMalformed},
		{"h264 stap-a trailing byte", H264, []byte{0x78, 0, 1, 0x68, 0}, Descriptor{}, ErrTruncated},
		{"h264 fu-a idr start", H264, []byte{0x7c, 0x85, 0x88}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 2}, nil},
		{"h264 fu-a idr middle", H264, []byte{0x7c, 0x05, 0x88}, Descriptor{HeaderLength: 2}, nil},
		{"h264 fu-a idr end", H264, []byte{0x7c, 0x45, 0x88}, Descriptor{HeaderLength: 2}, nil},
		{"h264 fu-a sps start", H264, []byte{0x7c, 0x87, 0x42}, Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HeaderLength: 2}, nil},
		{"h264 fu-a slice start", H264, []byte{0x5c, 0x81, 0x9a}, Descriptor{FrameStart: true, HeaderLength: 2}, nil},
		{"h264 fu-a start and end", H264, []byte{0x7c, 0xc5, 0x88}, Descriptor{}, ErrMalformed},
		{"h264 fu-a without its header", H264, []byte{0x7c}, Descriptor{}, ErrTruncated},
		{"h264 interleaved", H264, []byte{0x79, 0}, Descriptor{}, ErrMalformed},
		{"h264 type 0", H264, []byte{0x60, 0}, Descriptor{}, ErrMalformed},

		{"h265 vps", H265, []byte{0x40, 0x01, 0x0c}, Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HasTemporal: true, HeaderLength: 2}, nil},
		{"h265 idr", H265, []byte{0x26, 0x01, 0xaf}, Descriptor{FrameStart: true, Keyframe: true, HasTemporal: true, HeaderLength: 2}, nil},
		{"h265 cra fu start", H265, []byte{0x62, 0x01, 0x95, 0xaf}, Descriptor{FrameStart: true, Keyframe: true, HasTemporal: true, HeaderLength: 3}, nil},
		{"h265 cra fu middle", H265, []byte{0x62, 0x01, 0x15, 0xaf}, Descriptor{HasTemporal: true, HeaderLength: 3}, nil},
		{"h265 trail of temporal layer 1", H265, []byte{0x02, 0x02, 0xd0}, Descriptor{FrameStart: true, HasTemporal: true, Temporal: 1, HeaderLength: 2}, nil},
		{"h265 temporal sub-layer access", H265, []byte{0x06, 0x02, 0xd0}, Descriptor{FrameStart: true, LayerSync: true, HasTemporal: true, Temporal: 1, HeaderLength: 2}, nil},
		{"h265 aggregation", H265, []byte{0x60, 0x01, 0, 2, 0x40, 0x01, 0, 2, 0x42, 0x01},
			Descriptor{FrameStart: true, Keyframe: true, ParameterSets: true, HasTemporal: true, HeaderLength: 2}, nil},
		{"h265 aggregation cut", H265, []byte{0x60, 0x01, 0, 3, 0x40, 0x01}, Descriptor{}, ErrTruncated},
		{"h265 aggregation with a unit of one byte", H265, []byte{0x60, 0x01, 0, 1, 0x40}, Descriptor{}, ErrMalformed},
		{"h265 temporal id 0", H265, []byte{0x40, 0x00}, Descriptor{}, ErrMalformed},
		{"h265 one byte", H265, []byte{0x40}, Descriptor{}, ErrTruncated},
		{"h265 reserved type", H265, []byte{0x7e, 0x01}, Descriptor{}, ErrMalformed},

		{"vp9 keyframe, non-flexible", VP9, []byte{0xaa, 0x81, 0x02, 0x00, 0x07, 0},
			Descriptor{FrameStart: true, Keyframe: true, HasPictureID: true, LongPictureID: true, PictureID: 0x102, HasTemporal: true, HasTL0: true, TL0: 7, HeaderLength: 5}, nil},
		{"vp9 interframe", VP9, []byte{0xe8, 0x05, 0x50, 0x07, 0},
			Descriptor{FrameStart: true, Predicted: true, HasPictureID: true, PictureID: 5, HasTemporal: true, Temporal: 2, LayerSync: true, HasTL0: true, TL0: 7, HeaderLength: 4}, nil},
		{"vp9 end of a frame that nothing above refers to", VP9, []byte{0xe5, 0x05, 0x02, 0x07, 0},
			Descriptor{FrameEnd: true, Predicted: true, NotForAbove: true, HasPictureID: true, PictureID: 5, HasTemporal: true, Spatial: 1, HasTL0: true, TL0: 7, HeaderLength: 4}, nil},
		{"vp9 upper spatial layer of a keyframe", VP9, []byte{0xa8, 0x05, 0x03, 0x07, 0},
			Descriptor{FrameStart: true, FromBelow: true, HasPictureID: true, PictureID: 5, HasTemporal: true, Spatial: 1, HasTL0: true, TL0: 7, HeaderLength: 4}, nil},
		{"vp9 continuation", VP9, []byte{0x80, 0x05, 0}, Descriptor{HasPictureID: true, PictureID: 5, HeaderLength: 2}, nil},
		{"vp9 flexible has no tl0", VP9, []byte{0xb8, 0x05, 0x00, 0}, Descriptor{FrameStart: true, Keyframe: true, HasPictureID: true, PictureID: 5, HasTemporal: true, HeaderLength: 3}, nil},
		{"vp9 cut", VP9, []byte{0xa8, 0x05, 0x00}, Descriptor{}, ErrTruncated},

		{"av1 new sequence", AV1, []byte{0x18, 0x0a}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 1}, nil},
		{"av1 frame", AV1, []byte{0x10, 0x32}, Descriptor{FrameStart: true, HeaderLength: 1}, nil},
		{"av1 continuation", AV1, []byte{0x90, 0x32}, Descriptor{HeaderLength: 1}, nil},
		{"av1 new sequence in a continuation", AV1, []byte{0x98, 0x32}, Descriptor{}, ErrMalformed},

		{"red primary only", RED, []byte{111, 9, 9}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 1}, nil},
		{"red one redundant block", RED, []byte{0x80 | 111, 0x03, 0xc0, 2, 111, 1, 1, 9, 9}, Descriptor{FrameStart: true, Keyframe: true, HeaderLength: 7}, nil},
		{"red block beyond the end", RED, []byte{0x80 | 111, 0x03, 0xc0, 5, 111, 1, 1}, Descriptor{}, ErrTruncated},
		{"red headers cut", RED, []byte{0x80 | 111, 0x03}, Descriptor{}, ErrTruncated},
		{"red without a primary", RED, []byte{0x80 | 111, 0x03, 0xc0, 0}, Descriptor{}, ErrTruncated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse(test.kind, test.payload)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err != nil {
				return
			}
			test.want.Kind = test.kind
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestRewrite(t *testing.T) {
	tests := []struct {
		name      string
		kind      Kind
		in        []byte
		pictureID uint16
		tl0       uint8
		want      []byte
	}{
		{"15 bits and TL0", VP8, []byte{0x90, 0xf0, 0x81, 0x02, 0x2a, 0xb5, 0x50}, 0x7ffe, 9, []byte{0x90, 0xf0, 0xff, 0xfe, 9, 0xb5, 0x50}},
		{"15 bits holding a small number stay 15 bits", VP8, []byte{0x90, 0x80, 0x81, 0x02, 0x50}, 3, 9, []byte{0x90, 0x80, 0x80, 0x03, 0x50}},
		{"7 bits", VP8, []byte{0x90, 0xc0, 0x02, 0x2a, 0x50}, 0x7ffe, 9, []byte{0x90, 0xc0, 0x7e, 9, 0x50}},
		{"TL0 only", VP8, []byte{0x90, 0x60, 0x2a, 0x40, 0x50}, 1, 9, []byte{0x90, 0x60, 9, 0x40, 0x50}},
		{"vp9 15 bits and TL0", VP9, []byte{0xaa, 0x81, 0x02, 0x50, 0x07, 9}, 0x7ffe, 3, []byte{0xaa, 0xff, 0xfe, 0x50, 3, 9}},
		{"vp9 7 bits, flexible", VP9, []byte{0xb8, 0x05, 0x50, 9}, 0x81, 3, []byte{0xb8, 0x01, 0x50, 9}},
		{"vp9 without a picture id", VP9, []byte{0x28, 0x50, 0x07, 9}, 1, 3, []byte{0x28, 0x50, 3, 9}},
		{"nothing to write", VP8, []byte{0x10, 0x50}, 1, 9, []byte{0x10, 0x50}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := Parse(test.kind, test.in)
			if err != nil {
				t.Fatal(err)
			}
			Rewrite(test.in, d, test.pictureID, test.tl0)
			if string(test.in) != string(test.want) {
				t.Errorf("got %x, want %x", test.in, test.want)
			}
		})
	}
	t.Run("a descriptor of another payload", func(t *testing.T) {
		Rewrite([]byte{0x90}, Descriptor{Kind: VP8, HasPictureID: true, LongPictureID: true, HasTL0: true, HeaderLength: 5}, 1, 1)
	})
}

func TestREDPrimary(t *testing.T) {
	payload := []byte{0x80 | 63, 0, 0, 1, 0x80 | 63, 0, 0, 2, 111, 'a', 'b', 'b', 'p', 'q'}
	pt, at, err := REDPrimary(payload)
	if err != nil || pt != 111 || string(payload[at:]) != "pq" {
		t.Errorf("payload type %d, block %q, error %v", pt, payload[at:], err)
	}
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct {
		mime  string
		want  Kind
		audio bool
	}{
		{"video/VP8", VP8, false}, {"VIDEO/vp8", VP8, false}, {"video/H264", H264, false}, {"video/VP9", VP9, false},
		{"video/AV1", AV1, false}, {"video/H265", H265, false}, {"audio/opus", Opus, true}, {"audio/red", RED, true},
		{"audio/PCMU", Audio, true}, {"video/rtx", Unknown, false}, {"", Unknown, false}, {"audio/", Unknown, false},
	} {
		got := KindOf(test.mime)
		if got != test.want || got.IsAudio() != test.audio {
			t.Errorf("KindOf(%q) = %v (audio %v)", test.mime, got, got.IsAudio())
		}
	}
	if KindOf(VP8.String()) != VP8 || Kind(200).String() != "unknown" {
		t.Error("String isn't KindOf's inverse")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(uint8(VP8), []byte{0x90, 0xf0, 0x81, 0x02, 0x2a, 0xb5, 0x50}, uint16(0x7fff), uint8(7))
	f.Add(uint8(H264), []byte{0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68}, uint16(0), uint8(0))
	f.Add(uint8(H265), []byte{0x60, 0x01, 0, 2, 0x40, 0x01, 0, 2, 0x42, 0x01}, uint16(0), uint8(0))
	f.Add(uint8(VP9), []byte{0xaa, 0x81, 0x02, 0x00, 0x07, 0}, uint16(0), uint8(0))
	f.Add(uint8(AV1), []byte{0x18, 0x0a}, uint16(0), uint8(0))
	f.Add(uint8(RED), []byte{0x80 | 111, 0x03, 0xc0, 2, 111, 1, 1, 9, 9}, uint16(0), uint8(0))
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte, pictureID uint16, tl0 uint8) {
		if len(payload) > MaxPacket {
			return
		}
		k := Kind(kind)
		before := string(payload)
		d, err := Parse(k, payload)
		if string(payload) != before {
			t.Fatal("Parse wrote into the payload")
		}
		if err != nil {
			return
		}
		if d.Kind != k || int(d.HeaderLength) > len(payload) || d.Keyframe && !d.FrameStart || d.PictureID > 0x7fff || d.HasPictureID && !d.LongPictureID && d.PictureID > 0x7f {
			t.Fatalf("impossible descriptor %+v of %d bytes", d, len(payload))
		}
		Rewrite(payload, d, pictureID, tl0)
		if k != VP8 && k != VP9 {
			if string(payload) != before {
				t.Fatal("Rewrite touched another format")
			}
			return
		}
		want := d
		if d.HasPictureID {
			want.PictureID = pictureID & 0x7fff
			if !d.LongPictureID {
				want.PictureID = pictureID & 0x7f
			}
		}
		if d.HasTL0 {
			want.TL0 = tl0
		}
		if got, err := Parse(k, payload); err != nil || got != want {
			t.Fatalf("after rewriting: %+v, %v; want %+v", got, err, want)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		kind    Kind
		payload []byte
	}{
		{VP8, []byte{0x90, 0xf0, 0x81, 0x02, 0x2a, 0xb5, 0x50}},
		{H264, []byte{0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68}},
		{Opus, []byte{0x78, 1, 2}},
	} {
		b.Run(c.kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(c.kind, c.payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

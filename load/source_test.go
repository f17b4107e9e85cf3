package load

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"
)

func TestStamp(t *testing.T) {
	want := stamp{run: 1<<28 - 1, publisher: 1<<14 - 1, layer: audioLayer, frame: 1<<28 - 1, index: 1<<14 - 1, sent: math.MaxInt64}
	for _, size := range []int{stampSize, stampSize + 1, stampSize + 7, stampSize + 8, 1150} {
		b := make([]byte, size)
		want.body(b)
		want.size = uint16(size)
		got, err := verify(b)
		if err != nil || got != want {
			t.Fatalf("of %d bytes: %+v, %v, want %+v", size, got, err, want)
		}
		for i, x := range b {
			if x < 0x80 {
				t.Fatalf("byte %d of %d is %#x: it may look like a start code", i, size, x)
			}
		}
		for i := range b {
			b[i] ^= 0x10
			if _, err := verify(b); err == nil {
				t.Fatalf("byte %d of %d was changed, and nobody saw it", i, size)
			}
			b[i] ^= 0x10
		}
		if _, err := verify(b[:size-1]); err == nil {
			t.Fatalf("the last of %d bytes is gone, and nobody saw it", size)
		}
	}
	if _, err := verify(make([]byte, 100)); !errors.Is(err, errNoStamp) {
		t.Errorf("no stamp: %v", err)
	}
}

// TestVP8 reads the payloads with Pion's depacketizer, which isn't ours.
func TestVP8(t *testing.T) {
	for i, s := range simulcast {
		l := newLayer(VP8, 7, 3, uint8(i), s.width, s.height, s.bitrate, frameRate)
		var picture uint16
		for k := range 300 {
			key := k%100 == 0
			n := l.next(key)
			for at := range n {
				p := l.packet(make([]byte, maxPayload), at, time.Duration(k))
				if len(p) > maxPayload {
					t.Fatalf("a payload of %d bytes", len(p))
				}
				var d codecs.VP8Packet
				frame, err := d.Unmarshal(p)
				if err != nil {
					t.Fatal(err)
				}
				if (d.S == 1) != (at == 0) || d.PID != 0 || d.I != 1 || d.L != 1 || d.T != 1 || d.TID != 0 {
					t.Fatalf("packet %d of %d has the descriptor %+v", at, n, d)
				}
				if at == 0 && k > 0 && d.PictureID != (picture+1)&0x7fff {
					t.Fatalf("picture %d follows %d", d.PictureID, picture)
				}
				picture = d.PictureID
				if at == 0 {
					if (frame[0]&1 == 0) != key {
						t.Fatalf("frame %d: the header's first byte is %#x", k, frame[0])
					}
					if key && (frame[3] != 0x9d || frame[4] != 1 || frame[5] != 0x2a || uint16(frame[6])|uint16(frame[7])<<8 != s.width) {
						t.Fatalf("the keyframe's header is %x", frame[:10])
					}
				}
				checkBody(t, VP8, p, at == 0, key && at == 0, stamp{run: 7, publisher: 3, layer: uint8(i), frame: uint32(k + 1), index: uint16(at), sent: time.Duration(k)})
			}
		}
	}
}

func checkBody(t *testing.T, codec string, p []byte, first, key bool, want stamp) {
	t.Helper()
	body, gotFirst, gotKey, err := bodyOf(codec, p)
	if err != nil || gotFirst != first || gotKey != key {
		t.Fatalf("first %v, keyframe %v, %v: want %v, %v", gotFirst, gotKey, err, first, key)
	}
	got, err := verify(body)
	want.size = uint16(len(body))
	if err != nil || got != want {
		t.Fatalf("the body says %+v, %v, want %+v", got, err, want)
	}
}

// TestH264 puts the NAL units together again with Pion's depacketizer.
func TestH264(t *testing.T) {
	for i, s := range simulcast {
		l := newLayer(H264, 7, 3, uint8(i), s.width, s.height, s.bitrate, frameRate)
		for k := range 300 {
			key := k%100 == 0
			n := l.next(key)
			var d codecs.H264Packet
			var stream []byte // Annex B
			for at := range n {
				p := l.packet(make([]byte, maxPayload), at, 0)
				if len(p) > maxPayload {
					t.Fatalf("a payload of %d bytes", len(p))
				}
				units, err := d.Unmarshal(p)
				if err != nil {
					t.Fatal(err)
				}
				stream = append(stream, units...)
				index := at
				if key {
					if at == 0 {
						if body, first, keyframe, err := bodyOf(H264, p); body != nil || !first || !keyframe || err != nil {
							t.Fatalf("parameter sets: %x, %v, %v, %v", body, first, keyframe, err)
						}
						continue
					}
					index--
				}
				checkBody(t, H264, p, index == 0, key && index == 0, stamp{run: 7, publisher: 3, layer: uint8(i), frame: uint32(k + 1), index: uint16(index)})
			}
			var kinds []byte
			for at := 0; at+4 < len(stream); at++ {
				if stream[at] == 0 && stream[at+1] == 0 && stream[at+2] == 0 && stream[at+3] == 1 {
					kinds = append(kinds, stream[at+4]&0x1f)
				}
			}
			want := string([]byte{1})
			if key {
				want = string([]byte{7, 8, 5})
			}
			if string(kinds) != want {
				t.Fatalf("frame %d has NAL units of types %v, want %v", k, kinds, []byte(want))
			}
		}
	}
}

// TestParameterSets against a sequence parameter set worked out by hand: 1280 by 720 are 80 by 45 macroblocks.
func TestParameterSets(t *testing.T) {
	// 1 00110? The codes are ue(0)=1, ue(0)=1, ue(2)=011, ue(1)=010, 0, ue(79)=0000001010000, ue(44)=00000101101, 1, 1, 0, 0, 1.
	bits := "1" + "1" + "011" + "010" + "0" + "0000001010000" + "00000101101" + "1" + "1" + "0" + "0" + "1"
	for len(bits)%8 != 0 {
		bits += "0"
	}
	var want []byte
	for i := 0; i < len(bits); i += 8 {
		var x byte
		for _, c := range bits[i : i+8] {
			x = x<<1 | byte(c-'0')
		}
		want = append(want, x)
	}
	sets := parameterSets(1280, 720)
	if sets[0] != 0x78 || string(sets[3:7]) != "\x67\x42\xe0\x1f" || string(sets[7:7+len(want)]) != string(want) || int(sets[2]) != 4+len(want) {
		t.Errorf("%x, want the sequence parameter set 6742e01f%x", sets, want)
	}
}

// TestBitrate: keyframes are eight times as long as other frames, and the bitrate is what was asked for all the same.
func TestBitrate(t *testing.T) {
	for i, s := range simulcast {
		l := newLayer(VP8, 1, 1, uint8(i), s.width, s.height, s.bitrate, frameRate)
		const seconds = 60
		sum := 0
		for k := range seconds * frameRate {
			key := k%(20*frameRate) == 0
			l.next(key)
			if mean := s.bitrate / 8 / frameRate; key && (l.current.bytes < mean*6 || l.current.bytes > mean*10) {
				t.Errorf("a keyframe of %d bytes, the mean is %d", l.current.bytes, mean)
			}
			least, most := maxPayload, 0
			for _, n := range l.current.sizes {
				sum += n
				least, most = min(least, n), max(most, n)
			}
			if most-least > 1 {
				t.Fatalf("the parts are %v", l.current.sizes)
			}
		}
		if got := sum * 8 / seconds; math.Abs(float64(got-s.bitrate)) > 0.05*float64(s.bitrate) {
			t.Errorf("layer %d has %d bit/s, want %d", i, got, s.bitrate)
		}
	}
}

func TestOpus(t *testing.T) {
	p := opusPacket(make([]byte, maxPayload), 80, stamp{run: 1, publisher: 2, layer: audioLayer, frame: 3, sent: 4})
	if len(p) != 80 || p[0] != 0xf8 {
		t.Fatalf("%d bytes, %#x", len(p), p[0])
	}
	checkBody(t, opus, p, true, false, stamp{run: 1, publisher: 2, layer: audioLayer, frame: 3, sent: 4})
}

// FuzzBody: nothing that arrives may break the receiver.
func FuzzBody(f *testing.F) {
	l := newLayer(VP8, 1, 1, 0, 320, 180, 120_000, 30)
	l.next(true)
	f.Add(l.packet(make([]byte, maxPayload), 0, 0))
	f.Add([]byte{0x90, 0xff, 0xff})
	f.Add([]byte{28, 0x85})
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, codec := range []string{VP8, H264, opus, "vp9"} {
			body, _, _, err := bodyOf(codec, p)
			if err == nil {
				_, _ = verify(body)
			}
		}
	})
}

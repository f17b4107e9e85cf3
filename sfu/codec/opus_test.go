package codec

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name    string
		kind    Kind
		payload []byte
		want    time.Duration
	}{
		{"SILK 10 ms", Opus, []byte{0 << 3}, 10 * ms},
		{"SILK 60 ms", Opus, []byte{3 << 3}, 60 * ms},
		{"SILK wideband 40 ms", Opus, []byte{10 << 3}, 40 * ms},
		{"hybrid 10 ms", Opus, []byte{12 << 3}, 10 * ms},
		{"hybrid 20 ms", Opus, []byte{15 << 3}, 20 * ms},
		{"CELT 2.5 ms", Opus, []byte{16 << 3}, 2500 * time.Microsecond},
		{"CELT 20 ms, stereo", Opus, []byte{31<<3 | 4}, 20 * ms},
		{"two frames", Opus, []byte{31<<3 | 1, 9}, 40 * ms},
		{"two frames of other sizes", Opus, []byte{31<<3 | 2, 9}, 40 * ms},
		{"three frames", Opus, []byte{31<<3 | 3, 0xc0 | 3, 9}, 60 * ms},
		{"more than there may be", Opus, []byte{3<<3 | 3, 63}, 120 * ms},
		{"count missing", Opus, []byte{31<<3 | 3}, 0},
		{"empty", Opus, nil, 0},
		{"RED", RED, []byte{0x80 | 111, 0x03, 0xc0, 2, 111, 3 << 3, 1, 31 << 3, 9}, 20 * ms},
		{"RED with an empty primary", RED, []byte{111}, 0},
		{"RED cut", RED, []byte{0x80 | 111}, 0},
		{"another format", Audio, []byte{31 << 3}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Duration(test.kind, test.payload); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func FuzzDuration(f *testing.F) {
	f.Add(uint8(RED), []byte{0x80 | 111, 0x03, 0xc0, 2, 111, 3 << 3, 1, 31 << 3, 9})
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if d := Duration(Kind(kind), payload); d < 0 || d > longestOpus {
			t.Fatal(d)
		}
	})
}

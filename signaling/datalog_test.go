package signaling

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func texts(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

func TestDataLogGivesWhatWasMissed(t *testing.T) {
	var l dataLog
	t0 := time.Unix(1000, 0)
	add := func(seconds float64, sender string, sequence uint32, to ...string) {
		at := t0.Add(time.Duration(seconds * float64(time.Second)))
		l.add(at, sender, sequence, to, fmt.Append(nil, sender, sequence))
	}
	add(0, "ann", 1, "bob", "eve")
	add(1, "eve", 1, "bob")
	add(2, "ann", 2, "eve")
	add(3, "ann", 5, "bob")
	add(4, "eve", 2, "bob", "ann")
	for _, c := range []struct {
		who  string
		at   float64
		last map[string]uint32
		want []string
	}{
		{"bob", 5, nil, []string{"ann1", "eve1", "ann5", "eve2"}},
		{"bob", 5, map[string]uint32{"ann": 1}, []string{"eve1", "ann5", "eve2"}},
		{"bob", 5, map[string]uint32{"ann": 5, "eve": 2}, nil},
		{"bob", 5, map[string]uint32{"ann": 4, "eve": 1, "who": 9}, []string{"ann5", "eve2"}},
		{"eve", 5, map[string]uint32{"ann": 1}, []string{"ann2"}},
		{"zoe", 5, nil, nil},
		{"bob", 12.5, nil, []string{"ann5", "eve2"}},
		{"bob", 15, nil, nil},
	} {
		if got := texts(l.missed(t0.Add(time.Duration(c.at*float64(time.Second))), c.who, c.last)); !slices.Equal(got, c.want) {
			t.Errorf("%s at %v with %v misses %v, want %v", c.who, c.at, c.last, got, c.want)
		}
	}
}

func TestDataLogForgets(t *testing.T) {
	var l dataLog
	t0 := time.Unix(1000, 0)
	if !l.due.IsZero() {
		t.Error("an empty one is due")
	}
	l.add(t0, "ann", 1, []string{"bob"}, []byte("x"))
	l.add(t0.Add(4*time.Second), "ann", 2, []string{"bob"}, []byte("y"))
	if want := t0.Add(10 * time.Second); !l.due.Equal(want) {
		t.Errorf("due at %v, want %v", l.due, want)
	}
	l.expire(t0.Add(9 * time.Second))
	if l.bytes != 2 {
		t.Errorf("%d bytes are kept before their time", l.bytes)
	}
	l.expire(t0.Add(10 * time.Second))
	if want := t0.Add(14 * time.Second); l.bytes != 1 || !l.due.Equal(want) {
		t.Errorf("%d bytes, due at %v, want %v", l.bytes, l.due, want)
	}
	l.expire(t0.Add(14 * time.Second))
	if l.bytes != 0 || len(l.senders) != 0 || !l.due.IsZero() {
		t.Errorf("left: %+v", l)
	}
}

func TestDataLogIsBounded(t *testing.T) {
	t0 := time.Unix(1000, 0)
	sum := func(l *dataLog) (bytes, packets int) {
		for _, s := range l.senders {
			for _, p := range s.packets {
				bytes += len(p.payload)
				packets++
			}
		}
		return bytes, packets
	}
	t.Run("packets", func(t *testing.T) {
		var l dataLog
		for i := range uint32(3 * dataLogPackets) {
			l.add(t0, "ann", i+1, []string{"bob"}, []byte("x"))
		}
		bytes, packets := sum(&l)
		if packets != dataLogPackets || bytes != l.bytes {
			t.Errorf("%d packets, %d bytes, %d counted", packets, bytes, l.bytes)
		}
		if got := l.missed(t0, "bob", map[string]uint32{"ann": 3*dataLogPackets - 2}); len(got) != 2 {
			t.Errorf("the last ones: %d", len(got))
		}
	})
	t.Run("bytes", func(t *testing.T) {
		var l dataLog
		big := make([]byte, 64<<10)
		l.add(t0, "quiet", 1, []string{"bob"}, []byte("kept"))
		for sender := range 20 {
			for i := range uint32(100) {
				l.add(t0, fmt.Sprint("s", sender), i+1, []string{"bob"}, big)
			}
		}
		bytes, _ := sum(&l)
		if bytes != l.bytes || bytes > dataLogTotal || l.senders["s0"].bytes > dataLogBytes {
			t.Errorf("%d bytes, %d counted, %d of one", bytes, l.bytes, l.senders["s0"].bytes)
		}
		if got := l.missed(t0, "bob", nil); string(got[0]) != "kept" {
			t.Error("who sends little loses to who sends much")
		}
	})
}

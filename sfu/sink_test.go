package sfu

import (
	"bytes"
	"testing"

	"anytime/sfu/codec"
)

func TestRunsAreEqualised(t *testing.T) {
	for _, x := range []struct {
		lengths, pads []int
		not           int // which isn't to be padded, -1 for none
	}{
		{[]int{100}, []int{0}, -1},
		{[]int{100, 100, 100}, []int{0, 0, 0}, -1},
		{[]int{100, 100, 101, 101}, []int{1, 1, 0, 0}, -1}, // as libwebrtc makes them
		{[]int{103, 100, 100, 101}, []int{0, 3, 3, 0}, -1}, // the last may be shorter
		{[]int{103, 100, 100, 101}, []int{0, 0, 3, 0}, 1},
		{[]int{100, 100, 40}, []int{0, 0, 0}, -1},
		{[]int{100, 108, 100}, []int{8, 0, 0}, -1},
		{[]int{100, 109, 100}, []int{0, 0, 0}, -1},
		{[]int{100, 101, 300, 299, 301}, []int{1, 0, 1, 2, 0}, -1},
	} {
		var run []segment
		for i, n := range x.lengths {
			g := segmentOf(1, uint16(i), 12, 2, n-14)
			g.pads = i != x.not
			run = append(run, g)
		}
		pads := [maxRun]byte{1, 2, 3, 4, 5}
		equalise(run, &pads)
		for i, n := range x.pads {
			if int(pads[i]) != n {
				t.Errorf("%v: %v, want %v", x.lengths, pads[:len(run)], x.pads)
				break
			}
		}
	}
}

// TestPaddingIsTakenOff: what a receiver reads of a padded packet is what was to be sent.
func TestPaddingIsTakenOff(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	client := p.clientOpens(t)
	p.lead(addressOf(1), false)
	sink := &planeSink{plane: p.plane}
	var run []segment
	for i, n := range []int{1003, 1000, 1000, 1001, 1001, 500} {
		g := segmentOf(1, uint16(i), 24, 6, n)
		g.pads = true
		run = append(run, g)
	}
	if n := sink.sendRun(run); n != len(run) {
		t.Fatalf("%d packets left", n)
	}
	for i, d := range w.took() {
		b, err := client.DecryptRTP(nil, d.b, nil)
		must(t, err)
		h, err := codec.ParseHeader(b)
		must(t, err)
		if want := bytes.Join([][]byte{run[i].prefix, run[i].payload}, nil); !bytes.Equal(h.Payload(b), want) || h.Sequence != uint16(i) {
			t.Errorf("packet %d is another one", i)
		}
		if i < 5 && len(b) != 24+6+1003-b2i(i == 4)*2 {
			t.Errorf("packet %d has %d bytes", i, len(b))
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

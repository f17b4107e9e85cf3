package forward

import (
	"testing"
	"time"

	"anytime/sfu/codec"
)

func TestTemporalLayers(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, 0)
	send := func(sequence uint64, temporal uint8, sync, key bool) Decision {
		p := video(0, sequence, uint32(sequence)*3000, key)
		p.Descriptor.HasTemporal, p.Descriptor.Temporal, p.Descriptor.LayerSync = true, temporal, sync
		return f.Forward(p)
	}
	steps := []struct {
		temporal  uint8
		sync, key bool
		target    int
		picture   int // of ours, −1: dropped
	}{
		{0, false, true, 0, 1},
		{2, true, false, 0, -1},
		{1, true, false, 0, -1},
		{2, false, false, 0, -1},
		{0, false, false, 0, 2},
		{2, true, false, 2, -1}, // wanted from here, but layer 1 isn't there yet
		{1, false, false, 2, -1},
		{2, false, false, 2, -1},
		{0, false, false, 2, 3},
		{1, true, false, 2, 4}, // layer 1 joins
		{2, false, false, 2, -1},
		{2, true, false, 2, 5}, // layer 2 joins
		{1, false, false, 2, 6},
		{2, false, false, 1, -1},
		{1, false, false, 1, 7},
		{0, false, true, 2, 8},
		{2, false, false, 2, 9}, // a keyframe raises at once
	}
	out := uint16(100)
	for i, s := range steps {
		f.SetTarget(0, s.target)
		d := send(uint64(i+1), s.temporal, s.sync, s.key)
		if s.picture < 0 {
			if d.Action != Drop {
				t.Fatalf("step %d: %+v, want a drop", i, d)
			}
			continue
		}
		if d.Action != Send || d.Sequence != out || d.PictureID != uint16(s.picture) {
			t.Fatalf("step %d: %+v, want picture %d, sequence %d", i, d, s.picture, out)
		}
		out++
	}
}

func TestH264ParameterSets(t *testing.T) {
	frame := func(sequence uint64, sps, key bool) *Packet {
		return &Packet{Sequence: sequence, Timestamp: uint32(sequence) * 3000, Arrival: time.Duration(sequence) * 33 * time.Millisecond,
			Descriptor: codec.Descriptor{Kind: codec.H264, FrameStart: true, Keyframe: key, ParameterSets: sps, HeaderLength: 1}}
	}
	t.Run("out of band", func(t *testing.T) {
		f := newFed(Config{Kind: codec.H264, Sequence: 100, Timestamp: 5000})
		f.SetTarget(0, AllTemporal)
		if d := f.Forward(frame(1, false, true)); d.Action != Send || d.Rewrite {
			t.Fatalf("%+v", d)
		}
	})
	t.Run("in band", func(t *testing.T) {
		f := newFed(Config{Kind: codec.H264, Sequence: 100, Timestamp: 5000})
		f.Forward(frame(1, true, true)) // before the subscription wants anything
		f.SetTarget(0, AllTemporal)
		if d := f.Forward(frame(2, false, true)); d.Action != Drop || !d.NeedKeyframe {
			t.Fatalf("started at an IDR slice whose parameter sets are missing: %+v", d)
		}
		if d := f.Forward(frame(3, true, true)); d.Action != Send {
			t.Fatalf("%+v", d)
		}
	})
}

// TestTemporalTargetChangesInAGap lowers and raises the target at a frame whose predecessor's end is missing: the end has
// to share the fate of its own frame.
func TestTemporalTargetChangesInAGap(t *testing.T) {
	packet := func(f *fed, sequence uint64, frame uint16, temporal uint8, start, key bool) Decision {
		p := video(0, sequence, uint32(frame)*3000, key)
		d := &p.Descriptor
		d.PictureID, d.FrameStart, d.HasTemporal, d.Temporal, d.LayerSync = frame, start, true, temporal, true
		return f.Forward(p)
	}
	for _, test := range []struct {
		name         string
		before, then int
		late         Action
		picture      uint16 // of the third frame
	}{
		{"lowered", 1, 0, Send, 3},
		{"raised", 0, 1, Fill, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newVideo()
			f.SetTarget(0, test.before)
			packet(f, 10, 1, 0, true, true)
			packet(f, 11, 2, 1, true, false) // its second packet, 12, is lost
			f.SetTarget(0, test.then)
			if test.then == 0 {
				packet(f, 13, 3, 0, true, false)
			} else {
				packet(f, 13, 3, 1, true, false)
			}
			d := packet(f, 12, 2, 1, false, false)
			if d.Action != test.late {
				t.Fatalf("late: %+v, want action %d", d, test.late)
			}
			if d := packet(f, 14, 3, uint8(test.then), false, false); d.Action != Send || d.PictureID != test.picture {
				t.Fatalf("third frame: %+v", d)
			}
		})
	}
}

func TestVideoDoesNotStartAboveTemporalTarget(t *testing.T) {
	f := newVideo()
	f.SetTarget(0, 0)
	p := video(0, 10, 0, true)
	p.Descriptor.HasTemporal, p.Descriptor.Temporal = true, 1
	if d := f.Forward(p); d.Action != Drop || d.Started || !d.NeedKeyframe {
		t.Fatalf("%+v", d)
	}
}

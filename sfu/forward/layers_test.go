package forward

import (
	"math/rand/v2"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/codectest"
)

// svcStep is a stream of one mode fed picture by picture, without a network.
type svcStep struct {
	t      *testing.T
	source *svcSource
	f      *fed
	now    time.Duration
	in     ingest
	last   uint16 // outgoing sequence number
	sent   bool
}

func newSVCStep(t *testing.T, mode string, described bool) *svcStep {
	kind := codec.VP9
	if described {
		kind = codec.AV1
	}
	s := &svcStep{t: t, source: newSVCSource(codectest.ModeOf(mode), described, rand.New(rand.NewPCG(1, 1))), now: time.Second,
		f: newFed(Config{Kind: kind, Sequence: 7, Timestamp: 9})}
	s.f.SetTarget(0, AllTemporal)
	return s
}

// picture feeds one picture and returns the spatial layers of it that were sent, as bits, and the last decision.
func (s *svcStep) picture(key bool) (layers uint8, d Decision) {
	s.t.Helper()
	s.now += 33 * time.Millisecond
	s.source.wantKey = key
	marker := false
	for _, e := range s.source.picture(s.t, rand.New(rand.NewPCG(1, 2)), s.now, nil) {
		p, ok := s.in.packet(&e)
		if !ok {
			s.t.Fatal("not taken")
		}
		d = s.f.Forward(p)
		if d.Action == Drop {
			continue
		}
		if s.sent && d.Sequence != s.last+1 {
			s.t.Fatalf("sequence number %d after %d", d.Sequence, s.last)
		}
		s.last, s.sent, marker = d.Sequence, true, d.Marker
		layers |= 1 << s.source.frame(e.content.frame).Spatial
	}
	if layers != 0 && !marker {
		s.t.Fatalf("a picture without a marker, layers %b", layers)
	}
	return layers, d
}

func (s *svcStep) expect(what string, key bool, layers uint8, needKeyframe bool) {
	s.t.Helper()
	got, d := s.picture(key)
	if got != layers || d.NeedKeyframe != needKeyframe {
		s.t.Fatalf("%s: layers %b, keyframe needed %v; want %b, %v", what, got, d.NeedKeyframe, layers, needKeyframe)
	}
}

func TestSpatialSwitching(t *testing.T) {
	for _, by := range []bool{true, false} {
		name := map[bool]string{true: "descriptor", false: "indices"}[by]
		t.Run(name+"/L3T1 goes down at once, up at a keyframe", func(t *testing.T) {
			s := newSVCStep(t, "L3T1", by)
			s.expect("before a keyframe", true, 0b111, false)
			s.expect("all", false, 0b111, false)
			s.f.SetSpatial(1)
			s.expect("the next picture", false, 0b011, false)
			s.f.SetSpatial(0)
			s.expect("the next picture", false, 0b001, false)
			s.f.SetSpatial(2)
			s.expect("up, no keyframe yet", false, 0b001, true)
			s.expect("still none", false, 0b001, true)
			s.expect("the keyframe", true, 0b111, false)
			s.f.SetSpatial(1)
			s.expect("down", false, 0b011, false)
			s.f.SetSpatial(2)
			s.f.SetSpatial(1)
			s.expect("a change of mind", false, 0b011, false)
		})
		t.Run(name+"/L3T1_KEY needs a keyframe both ways", func(t *testing.T) {
			s := newSVCStep(t, "L3T1_KEY", by)
			s.expect("keyframe", true, 0b111, false)
			if !by {
				s.picture(false) // the mode shows
			}
			s.expect("the top layer alone", false, 0b100, false)
			s.f.SetSpatial(0)
			s.expect("down, no keyframe yet", false, 0b100, true)
			s.expect("the keyframe", true, 0b001, false)
			s.expect("the base", false, 0b001, false)
			s.f.SetSpatial(1)
			s.expect("up, no keyframe yet", false, 0b001, true)
			s.expect("the keyframe", true, 0b011, false)
			if !by {
				s.picture(false)
			}
			s.expect("the middle layer alone", false, 0b010, false)
		})
	}
	t.Run("S2T1 sends one of them", func(t *testing.T) {
		s := newSVCStep(t, "S2T1", true)
		s.expect("keyframe", true, 0b10, false)
		s.expect("the higher alone", false, 0b10, false)
		s.f.SetSpatial(0)
		s.expect("no keyframe yet", false, 0b10, true)
		s.expect("the keyframe", true, 0b01, false)
		s.f.SetSpatial(1)
		s.expect("no keyframe yet", false, 0b01, true)
		s.expect("the keyframe", true, 0b10, false)
		s.expect("the higher alone", false, 0b10, false)
	})
}

func TestTemporalSwitching(t *testing.T) {
	for _, by := range []bool{true, false} {
		s := newSVCStep(t, "L1T3", by)
		steps := []struct {
			key     bool
			target  int
			sent    bool
			pattern int // temporal layer of the picture
		}{
			{true, 2, true, 0}, {false, 2, true, 2}, {false, 2, true, 1},
			{false, 0, false, 2}, // down at once
			{false, 0, true, 0}, {false, 0, false, 2},
			{false, 2, true, 1}, // refers to layer 0 alone: all may come again
			{false, 2, true, 2}, {false, 2, true, 0},
			{false, 1, false, 2}, {false, 1, true, 1}, {false, 1, false, 2}, {false, 1, true, 0},
		}
		for i, x := range steps {
			s.f.SetTarget(0, x.target)
			layers, d := s.picture(x.key)
			got := s.source.frames[len(s.source.frames)-1].Temporal
			// VP9's U says that higher layers may follow, not that this picture can be decoded by itself.
			if !by && i == 6 {
				if layers != 0 && got != 1 {
					t.Fatalf("step %d", i)
				}
				continue
			}
			if !by && i == 7 {
				continue
			}
			if got != x.pattern || (layers != 0) != x.sent || d.NeedKeyframe {
				t.Fatalf("descriptor %v, step %d: T%d sent %v, keyframe needed %v; want T%d, %v", by, i, got, layers != 0, d.NeedKeyframe, x.pattern, x.sent)
			}
		}
	}
}

// While a _KEY mode waits for the keyframe that leads down, temporal layers are left out at once.
func TestTemporalGoesDownBeforeSpatial(t *testing.T) {
	s := newSVCStep(t, "L2T3_KEY", true)
	s.expect("keyframe", true, 0b11, false)
	for range 4 { // T2, T1, T2 and T0, whose lower half is left out
		s.expect("the top layer alone", false, 0b10, false)
	}
	s.f.SetTarget(0, 0)
	s.f.SetSpatial(0)
	s.expect("T2", false, 0, true)
	s.expect("T1", false, 0, true)
	s.expect("T2", false, 0, true)
	s.expect("T0", false, 0b10, true)
	s.expect("the keyframe", true, 0b01, false)
}

// The publisher stops its highest layer and says so.
func TestLayerThatIsNotActive(t *testing.T) {
	for mode, want := range map[string]struct {
		layers uint8
		stuck  bool
	}{"L2T1": {0b01, false}, "L2T1_KEY": {0, true}} {
		s := newSVCStep(t, mode, true)
		s.expect("keyframe", true, 0b11, false)
		s.expect("all", false, map[string]uint8{"L2T1": 0b11, "L2T1_KEY": 0b10}[mode], false)
		s.now += 33 * time.Millisecond
		events := s.source.picture(t, rand.New(rand.NewPCG(1, 2)), s.now, nil)
		var sent uint8
		var d Decision
		for _, e := range events {
			if s.source.frame(e.content.frame).Spatial > 0 {
				continue
			}
			e.packet.Dependency.Active = 0b01
			e.packet.Marker = e.packet.Dependency.Last
			p, _ := s.in.packet(&e)
			if d = s.f.Forward(p); d.Action == Send {
				sent |= 1
			}
		}
		if sent != want.layers || d.NeedKeyframe != want.stuck {
			t.Errorf("%s: sent %b, keyframe needed %v", mode, sent, d.NeedKeyframe)
		}
	}
}

// An indexed stream whose highest layer just stops.
func TestLayerThatIsGone(t *testing.T) {
	s := newSVCStep(t, "L2T1_KEY", false)
	s.expect("keyframe", true, 0b11, false)
	s.picture(false)
	s.expect("the upper alone", false, 0b10, false)
	var d Decision
	for range topMissing + 1 {
		s.now += 33 * time.Millisecond
		for _, e := range s.source.picture(t, rand.New(rand.NewPCG(1, 2)), s.now, nil) {
			if s.source.frame(e.content.frame).Spatial == 0 {
				p, _ := s.in.packet(&e)
				if d = s.f.Forward(p); d.Action != Drop {
					t.Fatalf("a frame whose reference was left out: %+v", d)
				}
			}
		}
	}
	if !d.NeedKeyframe {
		t.Error("no wish for a keyframe")
	}
}

// Frame numbers and VP9's picture ids go on after a pause and in another simulcast layer.
func TestNumbersGoOn(t *testing.T) {
	for _, by := range []bool{true, false} {
		var in ingest
		sources := []*svcSource{newSVCSource(codectest.ModeOf("L1T2"), by, rand.New(rand.NewPCG(1, 1))), newSVCSource(codectest.ModeOf("L1T2"), by, rand.New(rand.NewPCG(2, 1)))}
		sources[1].encoder.Number = 100
		sources[1].firstFrame = 100
		kind := map[bool]codec.Kind{true: codec.AV1, false: codec.VP9}[by]
		f := newFed(Config{Kind: kind, Sequence: 1, Timestamp: 1})
		f.SetTarget(0, AllTemporal)
		var frames, pictures []uint16
		step := func(n int, key bool) {
			for i, src := range sources {
				src.wantKey = key
				for _, e := range src.picture(t, rand.New(rand.NewPCG(1, 2)), time.Duration(n)*33*time.Millisecond+time.Second, nil) {
					e.layer, e.packet.Layer = i, uint8(i)
					p, _ := in.packet(&e)
					d := f.Forward(p)
					if d.Action != Send || !p.Descriptor.FrameStart && !p.Dependency.First {
						continue
					}
					frames = append(frames, p.Dependency.Frame+d.FrameOffset)
					pictures = append(pictures, d.PictureID)
					if d.Rewrite && by || !by && d.Rewrite != (d.PictureID != p.Descriptor.PictureID || d.TL0 != p.Descriptor.TL0) {
						t.Fatalf("%+v", d)
					}
				}
			}
		}
		for n := range 20 {
			if n == 6 {
				f.SetTarget(1, AllTemporal)
			}
			f.SetPaused(n >= 12 && n < 14)
			step(n, n == 0 || n == 8 || n == 15)
		}
		list := pictures
		if by {
			list = frames
		}
		// Three pictures fell into the pause; where both layers have a keyframe the lower one's is sent before the switch.
		if len(list) != 20-3+2 {
			t.Fatalf("%d frames", len(list))
		}
		for i := 1; i < len(list); i++ {
			if list[i] != list[i-1]+1 {
				t.Fatalf("descriptor %v: number %d after %d", by, list[i], list[i-1])
			}
		}
	}
}

func TestStructureGoesMissing(t *testing.T) {
	s := newSVCStep(t, "L1T1", true)
	s.expect("keyframe", true, 1, false)
	s.now += 33 * time.Millisecond
	e := s.source.picture(t, rand.New(rand.NewPCG(1, 2)), s.now, nil)[0]
	e.packet.Dependency = codec.Dependency{}
	p, _ := s.in.packet(&e)
	if d := s.f.Forward(p); d.Action != Drop || !d.NeedKeyframe {
		t.Fatalf("a packet of a described stream without a descriptor: %+v", d)
	}
}

func TestLayersOfStream(t *testing.T) {
	s := newSVCStep(t, "L3T3", true)
	if _, _, ok := s.f.Layers(); ok {
		t.Error("layers before anything came")
	}
	s.f.SetSpatial(1)
	s.f.SetTarget(0, 1)
	s.picture(true)
	if spatial, temporal, ok := s.f.Layers(); !ok || spatial != 1 || temporal != 1 {
		t.Errorf("S%d T%d, %v", spatial, temporal, ok)
	}
	f := newVideo()
	f.SetTarget(0, AllTemporal)
	f.Forward(video(0, 10, 0, true))
	if _, _, ok := f.Layers(); ok {
		t.Error("layers of a stream that doesn't tell them")
	}
}

func TestSVCAllocatesNothing(t *testing.T) {
	for _, by := range []bool{true, false} {
		s := newSVCStep(t, "L3T3", by)
		s.f.SetSpatial(1)
		var packets []*Packet
		for n := range 40 {
			s.now += 33 * time.Millisecond
			s.source.wantKey = n == 0
			for _, e := range s.source.picture(t, rand.New(rand.NewPCG(1, 2)), s.now, nil) {
				p, _ := s.in.packet(&e)
				packets = append(packets, p)
			}
		}
		sent, i := 0, 0
		if n := testing.AllocsPerRun(len(packets)-2, func() {
			if s.f.Forward(packets[i]).Action == Send {
				sent++
			}
			i++
		}); n != 0 || sent < 50 {
			t.Errorf("descriptor %v: %v allocations per packet, %d sent", by, n, sent)
		}
	}
}

func TestRates(t *testing.T) {
	for _, test := range []struct {
		mode      string
		described bool
		want      map[[2]uint8]float64 // share of what S0 T0 alone costs: a frame of each layer is a packet
	}{
		{"L1T3", true, map[[2]uint8]float64{{0, 0}: 1, {0, 1}: 2, {0, 2}: 4}},
		{"L3T1", true, map[[2]uint8]float64{{0, 0}: 1, {1, 0}: 2, {2, 0}: 3}},
		{"L3T1", false, map[[2]uint8]float64{{0, 0}: 1, {1, 0}: 2, {2, 0}: 3}},
		{"L3T1_KEY", true, map[[2]uint8]float64{{0, 0}: 1, {1, 0}: 1, {2, 0}: 1}},
		{"L3T1_KEY", false, map[[2]uint8]float64{{0, 0}: 1, {1, 0}: 1, {2, 0}: 1}},
		{"L2T2", true, map[[2]uint8]float64{{0, 0}: 1, {0, 1}: 2, {1, 0}: 2, {1, 1}: 4}},
	} {
		var r Rates
		s := newSVCStep(t, test.mode, test.described)
		for n := range 100 {
			at := time.Second + time.Duration(n)*50*time.Millisecond
			s.source.wantKey = n == 0
			frame := -1
			for _, e := range s.source.picture(t, rand.New(rand.NewPCG(1, 2)), at, nil) {
				if e.content.frame == frame {
					continue
				}
				frame = e.content.frame
				e.packet.Arrival = at
				r.Observe(&e.packet, 1000)
			}
		}
		now := 6 * time.Second
		base := float64(r.Bitrate(0, 0, now))
		if base == 0 {
			t.Fatalf("%s: the base costs nothing", test.mode)
		}
		for layer, share := range test.want {
			if got := float64(r.Bitrate(layer[0], layer[1], now)) / base; got < share*0.9 || got > share*1.1 {
				t.Errorf("%s, described %v: S%d T%d costs %.2f times the base, want %v", test.mode, test.described, layer[0], layer[1], got, share)
			}
		}
		if r.Bitrate(3, 0, now) != 0 && test.described {
			t.Errorf("%s: a layer that isn't there costs something", test.mode)
		}
		if got := r.Bitrate(0, 0, now+5*time.Second); got != 0 {
			t.Errorf("%s: %d bit/s after a silence", test.mode, got)
		}
	}
	var r Rates
	if r.Bitrate(0, 0, time.Second) != 0 {
		t.Error("a rate before the first packet")
	}
	for n := range 20 {
		r.Observe(&Packet{Arrival: time.Second + time.Duration(n)*100*time.Millisecond}, 1250)
	}
	if got := r.Bitrate(0, 0, 3*time.Second); got != 100_000 {
		t.Errorf("%d bit/s of 1250 bytes every 100 ms", got)
	}
	r.Observe(&Packet{Arrival: time.Millisecond}, 1250) // from long ago
	if got := r.Bitrate(0, 7, 3*time.Second); got != 100_000 {
		t.Errorf("%d bit/s after a packet from long ago", got)
	}
}

// FuzzSVC feeds packets of one mode in the order that the bytes say and changes targets meanwhile.
func FuzzSVC(f *testing.F) {
	f.Add(uint8(0), true, []byte{0, 0, 0, 0, 0, 0, 0x81, 0, 0})
	f.Add(uint8(20), false, []byte{0, 3, 0, 5, 0, 0x92, 0, 0, 0x40, 0})
	f.Fuzz(func(t *testing.T, mode uint8, described bool, script []byte) {
		kind := map[bool]codec.Kind{true: codec.AV1, false: codec.VP9}[described]
		fw := newFed(Config{Kind: kind, Sequence: 1, Timestamp: 1})
		fw.SetTarget(0, AllTemporal)
		r := rand.New(rand.NewPCG(1, 1))
		source := newSVCSource(codectest.Modes[int(mode)%len(codectest.Modes)], described, r)
		var in ingest
		var waiting []event
		used := map[uint16]bool{}
		left := map[int]bool{}
		stale := map[int]bool{} // came after a keyframe that is newer: nobody decodes them
		newestKey := -1
		reordered := false // so much that frames are lost for good
		now := time.Second
		for _, b := range script[:min(len(script), 600)] {
			switch {
			case b&0x80 != 0:
				fw.SetSpatial(int(b & 3))
				fw.SetTarget(0, int(b>>2&3))
			case b&0x40 != 0:
				source.wantKey = true
			default:
				now += 33 * time.Millisecond
				waiting = append(waiting, source.picture(t, r, now, nil)...)
				for n := 0; len(waiting) > int(b&7); n++ {
					i := (n * int(b>>3)) % len(waiting)
					e := waiting[i]
					waiting = append(waiting[:i], waiting[i+1:]...)
					e.at = now
					p, ok := in.packet(&e)
					if !ok {
						continue
					}
					source.frame(e.content.frame).delivered++
					if f := source.frame(e.content.frame); f.Key {
						newestKey = max(newestKey, f.Picture)
					} else if f.Picture < newestKey {
						stale[f.Number] = true
					}
					before := fw.seq.highest
					d := fw.Forward(p)
					reordered = reordered || before > p.Sequence+videoWindow
					if d.Action == Drop {
						continue
					}
					if used[d.Sequence] {
						t.Fatalf("sequence number %d used twice", d.Sequence)
					}
					used[d.Sequence] = true
					if d.Action == Send {
						left[e.content.frame] = true
					}
				}
			}
		}
		for number := range left {
			if stale[number] {
				continue
			}
			for _, r := range source.frame(number).References {
				if g := source.frame(r); !left[r] && g.delivered == g.packets && !reordered {
					t.Fatalf("frame %d refers to %d, which was left out", number, r)
				}
			}
		}
	})
}

package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"anytime/sfu/codec"
	"anytime/sfu/codectest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Chromium 156 sent for a camera of 1280 by 720, from the first keyframe on.
var recorded = []struct {
	mode     string
	targets  int
	spatial  uint8
	sizes    []codec.Size
	packets  []string
	expected []string
}{
	{"VP9 L3T3", 9, 2, []codec.Size{{Width: 320, Height: 180}, {Width: 640, Height: 360}, {Width: 1280, Height: 720}},
		[]string{"c1000180081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a0941b820ac1282503157f974000ca864330e222222eca8655304224230eca87753013f00b3027f016704ff02cf",
			"860002", "460002", "8b0003", "0b0003", "4b0003", "c30004", "c80005", "8d0006"},
		[]string{"1 first last S0 T0 []", "2 first S1 T0 [1]", "2 last S1 T0 [1]", "3 first S2 T0 [1]", "3 S2 T0 [1]", "3 last S2 T0 [1]",
			"4 first last S0 T2 [3]", "5 first last S1 T2 [3 1]", "6 first S2 T2 [3 1]"}},
	{"AV1 L3T3_KEY", 9, 2, []codec.Size{{Width: 320, Height: 180}, {Width: 640, Height: 360}, {Width: 1280, Height: 720}},
		[]string{"c0000480081485214eaaaaa8000600004000100002aa80a8000600004000100002a000a800060000400016d549241b5524906d54923157e001974ca864330e222396eca8655304224390eca87753013f00b3027f016704ff02cf",
			"850005", "8a0006", "c30007", "c80008", "cd0009", "c2000a", "c4000d"},
		[]string{"4 first last S0 T0 []", "5 first S1 T0 [1]", "6 first S2 T0 [1]", "7 first last S0 T2 [3]", "8 first last S1 T2 [3]",
			"9 first last S2 T2 [3]", "10 first last S0 T1 [6]", "13 first last S0 T2 [3]"}},
	{"VP9 L1T3", 3, 0, []codec.Size{{Width: 1280, Height: 720}},
		[]string{"800003800214eaa860414d141020842704ff02cf", "400003", "830004", "820005", "840006", "810007"},
		[]string{"3 first S0 T0 []", "3 last S0 T0 []", "4 first S0 T2 [1]", "5 first S0 T1 [2]", "6 first S0 T2 [1]", "7 first S0 T0 [4]"}},
}

func describe(d *codec.Dependency) string {
	s := fmt.Sprint(d.Frame)
	if d.First {
		s += " first"
	}
	if d.Last {
		s += " last"
	}
	return fmt.Sprintf("%s S%d T%d %v", s, d.Spatial, d.Temporal, d.References())
}

func TestDependencyDescriptorsOfChromium(t *testing.T) {
	for _, test := range recorded {
		t.Run(test.mode, func(t *testing.T) {
			var r codec.Dependencies
			for i, p := range test.packets {
				d, err := r.Read(unhex(t, p))
				if err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
				if got := describe(&d); got != test.expected[i] {
					t.Errorf("packet %d: %s, want %s", i, got, test.expected[i])
				}
				if d.Attached != (i == 0) || d.Active != 1<<test.targets-1 {
					t.Errorf("packet %d: structure %v, active targets %b", i, d.Attached, d.Active)
				}
				spatial, temporal := d.Structure.Highest()
				if len(d.Structure.Targets()) != test.targets || spatial != test.spatial || temporal != 2 {
					t.Fatalf("%d targets up to S%d T%d", len(d.Structure.Targets()), spatial, temporal)
				}
				for s, want := range test.sizes {
					if got, ok := d.Structure.Size(uint8(s)); !ok || got != want {
						t.Errorf("layer %d has size %v", s, got)
					}
				}
				if _, ok := d.Structure.Size(spatial + 1); ok {
					t.Error("a size of a layer that isn't there")
				}
			}
		})
	}
}

// Whatever the mode, what was written is read again.
func TestDependencyRoundTrip(t *testing.T) {
	for _, mode := range codectest.Modes {
		t.Run(mode.Name, func(t *testing.T) {
			e := codectest.Encoder{Mode: mode, Number: 65500, Offset: 60}
			var r codec.Dependencies
			for n := range 60 {
				for _, f := range e.Picture(n%25 == 0) {
					d, err := r.Read(f.Descriptor(true, false))
					if err != nil {
						t.Fatalf("frame %d: %v", f.Number, err)
					}
					var references []int
					for _, diff := range d.References() {
						references = append(references, f.Number-int(diff))
					}
					if d.Frame != uint16(f.Number) || int(d.Spatial) != f.Spatial || int(d.Temporal) != f.Temporal || !d.First || d.Last ||
						!slices.Equal(references, f.References) || d.Attached != (f.Key && f.Spatial == 0) {
						t.Fatalf("frame %+v was read as %+v", f, d)
					}
					for i, target := range d.Structure.Targets() {
						if int(target.Spatial) != i/mode.Temporal || int(target.Temporal) != i%mode.Temporal || int(target.Chain) != i/mode.Temporal {
							t.Fatalf("target %d is %+v", i, target)
						}
						if d.Indication(i) != f.Indication(i) {
							t.Fatalf("frame %d is %d to target %d, want %d", f.Number, d.Indication(i), i, f.Indication(i))
						}
					}
					for c := range mode.Spatial {
						if int(d.Chain(c)) != f.Chain(c) {
							t.Fatalf("frame %d: chain %d goes back by %d, want %d", f.Number, c, d.Chain(c), f.Chain(c))
						}
					}
				}
			}
		})
	}
}

func TestDependencyStructures(t *testing.T) {
	one, two := codectest.Encoder{Mode: codectest.ModeOf("L1T2"), Number: 100}, codectest.Encoder{Mode: codectest.ModeOf("L2T1"), Number: 200, Offset: 2}
	key, delta := one.Picture(true)[0], one.Picture(false)[0]
	after := two.Picture(true)
	var r codec.Dependencies
	if d, err := r.Read(delta.Descriptor(true, true)); !errors.Is(err, codec.ErrNoStructure) || d.Frame != 101 || !d.First || !d.Last {
		t.Fatalf("before the structure: %+v, %v", d, err)
	}
	first, err := r.Read(key.Descriptor(true, true))
	if err != nil || !first.Attached {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := r.Read(key.Descriptor(true, true))
	if err != nil || again.Structure != first.Structure {
		t.Fatalf("the same structure is another after a repetition: %v", err)
	}
	second, err := r.Read(after[0].Descriptor(true, true))
	if err != nil || second.Structure == first.Structure {
		t.Fatalf("a new structure: %v", err)
	}
	// A late packet of the time before is read by the structure of that time.
	late, err := r.Read(delta.Descriptor(true, true))
	if err != nil || late.Structure != first.Structure || late.Temporal != 1 {
		t.Fatalf("late: %+v, %v", late, err)
	}
	if now, err := r.Read(after[1].Descriptor(true, true)); err != nil || now.Structure != second.Structure || now.Spatial != 1 {
		t.Fatalf("%+v, %v", now, err)
	}
	// So is the late structure itself.
	if d, err := r.Read(key.Descriptor(true, true)); err != nil || d.Structure != first.Structure {
		t.Fatalf("the late structure: %v", err)
	}
	if d, err := r.Read(after[1].Descriptor(true, true)); err != nil || d.Structure != second.Structure {
		t.Fatalf("after it: %v", err)
	}
	r.Reset()
	if _, err := r.Read(after[1].Descriptor(true, true)); !errors.Is(err, codec.ErrNoStructure) {
		t.Fatalf("after a reset: %v", err)
	}
}

// The frame number wraps after eighteen minutes of 60 frames a second; the structure holds on.
func TestDependencyNumbersWrap(t *testing.T) {
	e := codectest.Encoder{Mode: codectest.ModeOf("L1T1"), Number: 5}
	var r codec.Dependencies
	key, err := r.Read(e.Picture(true)[0].Descriptor(true, true))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 150_000 {
		f := e.Picture(false)[0]
		if d, err := r.Read(f.Descriptor(true, true)); err != nil || d.Structure != key.Structure || d.Frame != uint16(f.Number) {
			t.Fatalf("frame %d: %+v, %v", n, d, err)
		}
	}
}

func TestActiveDecodeTargets(t *testing.T) {
	var r codec.Dependencies
	key := unhex(t, recorded[2].packets[0])
	if _, err := r.Read(key); err != nil {
		t.Fatal(err)
	}
	// Frame 4 says that targets 0 and 1 alone are sent: flags 01000, then the mask of three bits.
	d, err := r.Read([]byte{0xc3, 0, 4, 0b01000_011})
	if err != nil || d.Active != 0b011 {
		t.Fatalf("%b, %v", d.Active, err)
	}
	if d, err = r.Read([]byte{0xc2, 0, 5}); err != nil || d.Active != 0b011 {
		t.Fatalf("the next frame: %b, %v", d.Active, err)
	}
	if d, err = r.Read([]byte{0xc1, 0, 3}); err != nil || d.Active != 0b011 {
		t.Fatalf("a late frame: %b, %v", d.Active, err)
	}
	key[2] = 6
	if d, err = r.Read(key); err != nil || d.Active != 0b111 {
		t.Fatalf("the next keyframe: %b, %v", d.Active, err)
	}
}

func TestDependencyErrors(t *testing.T) {
	whole := unhex(t, recorded[0].packets[0])
	for n := range whole {
		var r codec.Dependencies
		if _, err := r.Read(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were read", n, len(whole))
		}
	}
	// 64 templates are the most: next_layer_idc 0 for ever.
	endless := append([]byte{0xc0, 0, 1, 0x80, 0}, make([]byte, 200)...)
	var r codec.Dependencies
	if _, err := r.Read(endless); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("endless templates: %v", err)
	}
	if _, err := r.Read(whole); err != nil {
		t.Fatal(err)
	}
	// custom_fdiffs_flag, and more references than any codec has.
	if _, err := r.Read(append([]byte{0xc6, 0, 2, 0b00010_111}, bytes.Repeat([]byte{0xff}, 30)...)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("endless references: %v", err)
	}
	if _, err := r.Read([]byte{0x30, 0, 2}); !errors.Is(err, codec.ErrNoStructure) {
		t.Errorf("an unknown template: %v", err)
	}
}

func TestAddFrameNumber(t *testing.T) {
	b := []byte{0xc1, 0xff, 0xfe, 7}
	codec.AddFrameNumber(b, 3)
	if !bytes.Equal(b, []byte{0xc1, 0, 1, 7}) {
		t.Errorf("%x", b)
	}
}

func TestDependenciesAllocateNothing(t *testing.T) {
	var r codec.Dependencies
	key, delta := unhex(t, recorded[0].packets[0]), []byte{0x8d, 0, 6}
	if _, err := r.Read(key); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = r.Read(key)
		_, _ = r.Read(delta)
	}); n != 0 {
		t.Errorf("%v allocations for a keyframe and a frame after it", n)
	}
}

func BenchmarkDependencies(b *testing.B) {
	var r codec.Dependencies
	if _, err := r.Read(unhex(b, recorded[0].packets[0])); err != nil {
		b.Fatal(err)
	}
	delta := []byte{0x8d, 0, 6}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(delta); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzDependencies reads descriptors one after the other, each led by its length, and checks that what comes out can be used.
func FuzzDependencies(f *testing.F) {
	for _, r := range recorded {
		var seed []byte
		for _, p := range r.packets {
			b := unhex(f, p)
			seed = append(append(seed, byte(len(b))), b...)
		}
		f.Add(seed)
	}
	e := codectest.Encoder{Mode: codectest.ModeOf("L3T3_KEY")}
	var seed []byte
	for n := range 5 {
		for _, frame := range e.Picture(n == 0) {
			b := frame.Descriptor(true, true)
			seed = append(append(seed, byte(len(b))), b...)
		}
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, script []byte) {
		var r codec.Dependencies
		for len(script) > 0 {
			n := min(int(script[0]), len(script)-1)
			b := script[1 : 1+n]
			script = script[1+n:]
			before := string(b)
			d, err := r.Read(b)
			if string(b) != before {
				t.Fatal("Read wrote into the descriptor")
			}
			if err != nil {
				continue
			}
			spatial, temporal := d.Structure.Highest()
			if d.Spatial > spatial || d.Temporal > temporal || spatial > codec.MaxSpatial || temporal > codec.MaxTemporal ||
				len(d.Structure.Targets()) > codec.MaxDecodeTargets || len(d.References()) > codec.MaxReferences {
				t.Fatalf("impossible: %+v", d)
			}
			for i, target := range d.Structure.Targets() {
				if target.Spatial > spatial || target.Temporal > temporal {
					t.Fatalf("impossible target %+v", target)
				}
				if target.Chain >= 0 {
					_ = d.Chain(int(target.Chain))
				}
				_ = d.Indication(i)
			}
			for _, diff := range d.References() {
				if diff == 0 {
					t.Fatal("a frame refers to itself")
				}
			}
			codec.AddFrameNumber(b, 1)
		}
	})
}

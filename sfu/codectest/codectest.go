// Package codectest is an encoder for tests: it makes the frames of the scalability modes that browsers offer (WebRTC SVC,
// section 6), with the dependency descriptors and the VP9 layer indices that belong to them. There is no picture in them.
package codectest

import (
	"cmp"
	"fmt"

	"anytime/sfu/codec"
)

// Mode is a scalability mode.
type Mode struct {
	Name              string
	Spatial, Temporal int // how many layers
	// Key: upper spatial layers refer to lower ones in keyframes alone. Separate: never.
	Key, Separate bool
}

// Modes are those that Chromium offers for VP9 and AV1, and the S modes.
var Modes = func() (list []Mode) {
	for s := 1; s <= 3; s++ {
		for t := 1; t <= 3; t++ {
			list = append(list, Mode{Name: fmt.Sprintf("L%dT%d", s, t), Spatial: s, Temporal: t})
			if s > 1 {
				list = append(list,
					Mode{Name: fmt.Sprintf("L%dT%d_KEY", s, t), Spatial: s, Temporal: t, Key: true},
					Mode{Name: fmt.Sprintf("S%dT%d", s, t), Spatial: s, Temporal: t, Separate: true})
			}
		}
	}
	return list
}()

// ModeOf returns the mode of that name; it panics if there is none.
func ModeOf(name string) Mode {
	for _, m := range Modes {
		if m.Name == name {
			return m
		}
	}
	panic("codectest: no mode " + name)
}

// Encoder makes frames. Number is the number of the next one.
type Encoder struct {
	Mode   Mode
	Number int
	// Offset is the id of the structure's first template.
	Offset uint8
	// Width is that of the highest layer, at 16 to 9; each lower one has half of it. 0 means 1280.
	Width int

	since   int       // pictures since the keyframe
	last    [3][3]int // latest frame by spatial and temporal layer, -1 for none
	chains  [3]int    // latest frame of each chain, -1 for none
	picture int
}

// Frame is one spatial layer of one picture.
type Frame struct {
	Spatial, Temporal int
	// Number counts frames, Picture pictures.
	Number, Picture int
	// Key: the picture is a keyframe's.
	Key bool
	// References are numbers of frames.
	References []int
	// Sync (VP9 U), FromBelow (D) and NotForAbove (Z) are what VP9's payload descriptor says; P is the opposite of Key.
	Sync, FromBelow, NotForAbove bool

	mode        Mode
	offset      uint8
	width       int
	attach      bool
	indications []codec.Indication
	chains      []int
}

var patterns = map[int][]int{1: {0}, 2: {0, 1}, 3: {0, 2, 1, 2}}

// Picture encodes the frames of one picture, from the lowest spatial layer up.
func (e *Encoder) Picture(key bool) []Frame {
	m := e.Mode
	if key {
		e.since = 0
		e.chains = [3]int{-1, -1, -1}
		for s := range e.last {
			e.last[s] = [3]int{-1, -1, -1}
		}
	}
	pattern := patterns[m.Temporal]
	t := pattern[e.since%len(pattern)]
	var out []Frame
	for s := range m.Spatial {
		f := Frame{Spatial: s, Temporal: t, Number: e.Number, Picture: e.picture, Key: key, mode: m, offset: e.Offset, width: cmp.Or(e.Width, 1280), attach: key && s == 0}
		if !key {
			from := 0
			if t == 2 && e.since%4 == 3 {
				from = 1 // the second frame of the highest layer refers to the middle one
			}
			f.References = append(f.References, e.last[s][from])
		}
		f.FromBelow = s > 0 && !m.Separate && (key || !m.Key)
		if f.FromBelow {
			f.References = append(f.References, e.Number-1)
		}
		f.NotForAbove = s == m.Spatial-1 || m.Separate || m.Key && !key
		f.Sync = t < 2
		for target := range m.Spatial * m.Temporal {
			f.indications = append(f.indications, m.indication(s, t, target/m.Temporal, target%m.Temporal, key))
		}
		for c := range m.Spatial {
			back := 0
			if e.chains[c] >= 0 {
				back = e.Number - e.chains[c]
			}
			f.chains = append(f.chains, back)
		}
		for c := range m.Spatial {
			if t == 0 && (c == s || c > s && !m.Separate && (key || !m.Key)) {
				e.chains[c] = e.Number
			}
		}
		e.last[s][t] = e.Number
		e.Number++
		out = append(out, f)
	}
	e.since++
	e.picture++
	return out
}

// indication is what a frame of layer s, t is to the target of layer ts, tt.
func (m Mode) indication(s, t, ts, tt int, key bool) codec.Indication {
	below := s < ts && !m.Separate && (key || !m.Key)
	switch {
	case t > tt || s != ts && !below:
		return codec.NotPresent
	case s == ts && t > 0 && t == tt:
		return codec.Discardable
	case s == ts || key:
		return codec.Switch
	}
	return codec.Required
}

// Descriptor returns the dependency descriptor of one packet of the frame: AV1 RTP specification, appendix A.
func (f *Frame) Descriptor(first, last bool) []byte {
	m := f.mode
	template := f.Spatial*m.Temporal + f.Temporal
	var w bits
	w.flag(first)
	w.flag(last)
	w.put((uint64(f.offset)+uint64(template))%64, 6)
	w.put(uint64(f.Number)&0xffff, 16)
	attach := f.attach && first
	custom := false
	for target, v := range f.indications {
		custom = custom || v != m.indication(f.Spatial, f.Temporal, target/m.Temporal, target%m.Temporal, false)
	}
	w.flag(attach)
	w.flag(false) // active_decode_targets_present_flag
	w.flag(custom)
	w.flag(true) // custom_fdiffs_flag
	w.flag(true) // custom_chains_flag
	if attach {
		w.structure(m, f.offset, f.width)
	}
	if custom {
		for _, v := range f.indications {
			w.put(uint64(v), 2)
		}
	}
	for _, r := range f.References {
		d := f.Number - r - 1
		if d < 16 {
			w.put(1, 2)
			w.put(uint64(d), 4)
		} else {
			w.put(2, 2)
			w.put(uint64(d), 8)
		}
	}
	w.put(0, 2)
	for _, back := range f.chains {
		w.put(uint64(back), 8)
	}
	return w.b
}

// structure writes the structure of a mode: a template for each layer, with what its frames are between keyframes.
func (w *bits) structure(m Mode, offset uint8, width int) {
	targets := m.Spatial * m.Temporal
	w.put(uint64(offset), 6)
	w.put(uint64(targets-1), 5)
	for i := range targets {
		switch {
		case i == targets-1:
			w.put(3, 2)
		case (i+1)%m.Temporal == 0:
			w.put(2, 2)
		default:
			w.put(1, 2)
		}
	}
	for i := range targets {
		for target := range targets {
			w.put(uint64(m.indication(i/m.Temporal, i%m.Temporal, target/m.Temporal, target%m.Temporal, false)), 2)
		}
	}
	for range targets {
		w.put(0, 1) // no frame differences
	}
	w.nonSymmetric(uint64(m.Spatial), uint64(targets+1))
	for target := range targets {
		w.nonSymmetric(uint64(target/m.Temporal), uint64(m.Spatial))
	}
	for range targets * m.Spatial {
		w.put(0, 4)
	}
	w.flag(true)
	for s := range m.Spatial {
		w.put(uint64(width>>(m.Spatial-1-s))-1, 16)
		w.put(uint64(width*9/16>>(m.Spatial-1-s))-1, 16)
	}
}

// VP9 returns the payload descriptor of one packet of the frame: RFC 9628 section 4.2, non-flexible, with a picture id of 15
// bits.
func (f *Frame) VP9(first, last bool, tl0 uint8) []byte {
	b := byte(0xa0) // I and L
	for _, x := range []struct {
		set bool
		bit byte
	}{{!f.Key, 0x40}, {first, 0x08}, {last, 0x04}, {f.NotForAbove, 0x01}} {
		if x.set {
			b |= x.bit
		}
	}
	layers := byte(f.Temporal<<5 | f.Spatial<<1)
	if f.Sync {
		layers |= 0x10
	}
	if f.FromBelow {
		layers |= 0x01
	}
	return []byte{b, 0x80 | byte(f.Picture>>8)&0x7f, byte(f.Picture), layers, tl0}
}

// bits writes bits, the most significant first.
type bits struct {
	b []byte
	n int
}

func (w *bits) put(v uint64, n int) {
	for n--; n >= 0; n-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>n&1) << (7 - w.n%8)
		w.n++
	}
}

func (w *bits) flag(set bool) {
	if set {
		w.put(1, 1)
	} else {
		w.put(0, 1)
	}
}

// nonSymmetric is ns(n).
func (w *bits) nonSymmetric(v, n uint64) {
	size := 0
	for x := n; x != 0; x >>= 1 {
		size++
	}
	m := uint64(1)<<size - n
	if v < m {
		w.put(v, size-1)
	} else {
		w.put(v+m, size)
	}
}

// Indication returns what the frame is to a decode target: spatial layer times the number of temporal layers, plus the
// temporal layer.
func (f *Frame) Indication(target int) codec.Indication { return f.indications[target] }

// Chain returns how many frames ago the frame before in a spatial layer's chain was, 0 for none.
func (f *Frame) Chain(spatial int) int { return f.chains[spatial] }

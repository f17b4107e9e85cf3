package codec

import (
	"encoding/binary"
	"errors"
)

// Bounds of a template dependency structure: the AV1 RTP specification, appendix A. Template ids take 6 bits, decode
// targets 5, spatial ids 2 and temporal ids 3.
const (
	// MaxDecodeTargets is the most decode targets of a structure.
	MaxDecodeTargets = 32
	// MaxSpatial and MaxTemporal are the highest layer ids.
	MaxSpatial  = 3
	MaxTemporal = 7
	// MaxReferences bounds the frames that one frame may refer to. AV1 has 7 reference frames, and a lower spatial layer.
	MaxReferences = 8

	maxTemplates = 64
)

// ErrNoStructure means that a dependency descriptor names a template of a structure that hasn't come yet.
var ErrNoStructure = errors.New("codec: dependency descriptor without its structure")

// Indication is a decode target indication: what a frame is to a decode target.
type Indication uint8

// The indications, with the numbers that appendix A.6 gives them.
const (
	// NotPresent: the frame isn't part of the target.
	NotPresent Indication = iota
	// Discardable: nothing of the target depends on it.
	Discardable
	// Switch: whoever can decode the frame can decode the target from here on.
	Switch
	// Required: something of the target depends on it.
	Required
)

// DecodeTarget is a set of frames that can be decoded by itself: all of a spatial and temporal layer, and what they need.
type DecodeTarget struct {
	Spatial, Temporal uint8
	// Chain is the chain that protects it, -1 without chains.
	Chain int8
}

// Template is what many frames have in common.
type Template struct {
	Spatial, Temporal uint8
	references        uint8
	indications       uint64 // 2 bits for each decode target
	diffs             [MaxReferences]uint8
	chains            [MaxDecodeTargets]uint8
}

// Size is a picture's size in pixels.
type Size struct{ Width, Height uint32 }

// Structure is a template dependency structure. It doesn't change once it has been read.
type Structure struct {
	offset    uint8
	templates uint8
	targets   uint8
	chains    uint8
	hasSizes  bool
	spatial   uint8 // the highest id
	temporal  uint8
	template  [maxTemplates]Template
	target    [MaxDecodeTargets]DecodeTarget
	sizes     [MaxSpatial + 1]Size
}

// Targets returns the decode targets, in the order of their bits and indications. The caller doesn't write to them.
func (s *Structure) Targets() []DecodeTarget { return s.target[:s.targets] }

// Templates returns the templates. The caller doesn't write to them.
func (s *Structure) Templates() []Template { return s.template[:s.templates] }

// Highest returns the highest spatial and temporal layer.
func (s *Structure) Highest() (spatial, temporal uint8) { return s.spatial, s.temporal }

// Size returns the largest size of a spatial layer's pictures; ok is false where the structure doesn't say.
func (s *Structure) Size(spatial uint8) (size Size, ok bool) {
	if !s.hasSizes || spatial > s.spatial {
		return Size{}, false
	}
	return s.sizes[spatial], true
}

// Indication returns what the template's frames are to a decode target.
func (t *Template) Indication(target int) Indication {
	return Indication(t.indications >> (2 * target) & 3)
}

// Dependency is a dependency descriptor: what one packet's frame depends on, and who depends on it.
type Dependency struct {
	// Structure is the structure that it is read by; nil stands for no descriptor.
	Structure *Structure
	// Attached: the packet carries the structure. That begins a coded video sequence.
	Attached bool
	// First and Last packet of the frame.
	First, Last bool
	// Frame is the frame's number, modulo 2^16.
	Frame             uint16
	Spatial, Temporal uint8
	references        uint8
	// Active has a bit for each decode target that is being sent.
	Active      uint32
	indications uint64
	diffs       [MaxReferences]uint16
	chains      [MaxDecodeTargets]uint8
}

// Indication returns what the frame is to a decode target.
func (d *Dependency) Indication(target int) Indication {
	return Indication(d.indications >> (2 * target) & 3)
}

// References returns the frames that the frame is predicted from, as differences of frame numbers (1–4096).
func (d *Dependency) References() []uint16 { return d.diffs[:d.references] }

// Chain returns how many frames ago the frame before in a chain was; 0 means that there is none, as at a keyframe.
func (d *Dependency) Chain(chain int) uint8 { return d.chains[chain] }

// Independent reports whether the frame refers to no other.
func (d *Dependency) Independent() bool { return d.references == 0 }

// Dependencies reads the dependency descriptors of one source. Structures are kept: after each new one, nothing is
// allocated. The zero value has seen nothing.
type Dependencies struct {
	begun             bool
	highest           int64 // frame number, extended
	current, previous *Structure
	since             int64 // the frame that brought current
	active            uint32
	activeSince       int64
}

// Reset forgets everything: the source began anew.
func (r *Dependencies) Reset() { *r = Dependencies{} }

// Read reads the value of a descriptor. Where its structure is missing the error is [ErrNoStructure]; it can be read again
// once that has come. The other errors are [ErrTruncated] and [ErrMalformed].
func (r *Dependencies) Read(b []byte) (d Dependency, err error) {
	// Appendix A.2: mandatory_descriptor_fields are start_of_frame(1), end_of_frame(1), frame_dependency_template_id(6) and
	// frame_number(16).
	if len(b) < 3 {
		return d, ErrTruncated
	}
	d.First, d.Last = b[0]&0x80 != 0, b[0]&0x40 != 0
	id := b[0] & 0x3f
	d.Frame = uint16(b[1])<<8 | uint16(b[2])
	number := int64(d.Frame)
	if r.begun {
		number = r.highest + int64(int16(d.Frame-uint16(r.highest)))
	}
	in := bitReader{b: b, at: 24}
	var hasActive, customIndications, customDiffs, customChains bool
	structure, active := r.current, r.active
	if number < r.since && r.previous != nil {
		structure = r.previous
	}
	// "if (sz > 3) extended_descriptor_fields()"
	if len(b) > 3 {
		d.Attached = in.flag()
		hasActive = in.flag()
		customIndications, customDiffs, customChains = in.flag(), in.flag(), in.flag()
		if d.Attached {
			var s Structure
			if err := s.read(&in); err != nil {
				return d, err
			}
			structure = r.keep(&s, number)
			active = s.all()
		}
		if hasActive {
			if structure == nil {
				return d, ErrNoStructure
			}
			active = in.bits(int(structure.targets))
		}
	}
	if structure == nil {
		return d, ErrNoStructure
	}
	index := (id - structure.offset) & 0x3f
	if index >= structure.templates {
		return d, ErrNoStructure
	}
	t := &structure.template[index]
	d.Spatial, d.Temporal = t.Spatial, t.Temporal
	d.indications = t.indications
	if customIndications {
		d.indications = in.indications(int(structure.targets))
	}
	if customDiffs {
		// frame_fdiffs(): next_fdiff_size(2), then as many times four bits of fdiff_minus_one; a size of 0 ends the list.
		for size := in.bits(2); size != 0 && !in.bad; size = in.bits(2) {
			if d.references == MaxReferences {
				return d, ErrMalformed
			}
			d.diffs[d.references] = uint16(in.bits(int(4*size))) + 1
			d.references++
		}
	} else {
		d.references = t.references
		for i, v := range t.diffs[:t.references] {
			d.diffs[i] = uint16(v)
		}
	}
	if customChains {
		for i := range int(structure.chains) {
			d.chains[i] = uint8(in.bits(8))
		}
	} else {
		d.chains = t.chains
	}
	if in.bad {
		return d, ErrTruncated
	}
	d.Structure, d.Active = structure, active
	if !r.begun || number > r.highest {
		r.begun, r.highest = true, number
	}
	if (d.Attached || hasActive) && number >= r.activeSince {
		r.active, r.activeSince = active, number
	}
	return d, nil
}

// AddFrameNumber raises the frame number of the descriptor in b, which has been read, by n modulo 2^16.
func AddFrameNumber(b []byte, n uint16) {
	number := binary.BigEndian.Uint16(b[1:]) + n // appendix A.2: it takes the second and third byte
	binary.BigEndian.PutUint16(b[1:], number)
}

// keep notes the structure that frame number brought and returns the copy to share: the one there is, if it is the same.
func (r *Dependencies) keep(s *Structure, number int64) *Structure {
	same := func(have *Structure) bool { return have != nil && *have == *s }
	switch {
	case same(r.current) && number >= r.since:
		return r.current
	case r.current == nil || number >= r.since:
		c := *s
		r.previous, r.current, r.since = r.current, &c, number
		return r.current
	case same(r.previous):
		return r.previous
	default: // late: it comes after the one that replaced it
		c := *s
		r.previous = &c
		return r.previous
	}
}

// all is the mask of all decode targets.
func (s *Structure) all() uint32 { return uint32(1<<s.targets - 1) }

// read reads template_dependency_structure().
func (s *Structure) read(in *bitReader) error {
	s.offset = uint8(in.bits(6))
	s.targets = uint8(in.bits(5)) + 1 // dt_cnt_minus_one
	// template_layers(): next_layer_idc tells each template's layer from the one before: 0 the same, 1 the next temporal
	// layer, 2 the next spatial layer, 3 no more templates.
	spatial, temporal := uint8(0), uint8(0)
	for {
		if in.bad {
			return ErrTruncated
		}
		if s.templates == maxTemplates || spatial > MaxSpatial || temporal > MaxTemporal {
			return ErrMalformed
		}
		t := &s.template[s.templates]
		t.Spatial, t.Temporal = spatial, temporal
		s.temporal = max(s.temporal, temporal)
		s.templates++
		next := in.bits(2)
		if next == 3 {
			break
		}
		if next == 1 {
			temporal++
		} else if next == 2 {
			temporal = 0
			spatial++
		}
	}
	s.spatial = spatial
	templates := s.template[:s.templates]
	for i := range templates { // template_dtis()
		templates[i].indications = in.indications(int(s.targets))
	}
	for i := range templates { // template_fdiffs(): fdiff_follows_flag(1), fdiff_minus_one(4)
		for t := &templates[i]; in.flag(); t.references++ {
			if t.references == MaxReferences {
				return ErrMalformed
			}
			t.diffs[t.references] = uint8(in.bits(4)) + 1
		}
	}
	// template_chains()
	s.chains = uint8(in.nonSymmetric(uint32(s.targets) + 1))
	for i := range s.targets {
		s.target[i].Chain = -1
		if s.chains > 0 {
			s.target[i].Chain = int8(in.nonSymmetric(uint32(s.chains)))
		}
	}
	for i := range templates {
		for c := range s.chains {
			templates[i].chains[c] = uint8(in.bits(4))
		}
	}
	// decode_target_layers(): a target's layer is the highest of the templates that are part of it.
	for i := range int(s.targets) {
		t := &s.target[i]
		for j := range templates {
			if templates[j].Indication(i) != NotPresent {
				t.Spatial, t.Temporal = max(t.Spatial, templates[j].Spatial), max(t.Temporal, templates[j].Temporal)
			}
		}
	}
	if s.hasSizes = in.flag(); s.hasSizes { // resolutions_present_flag, render_resolutions()
		for i := range int(s.spatial) + 1 {
			s.sizes[i] = Size{Width: in.bits(16) + 1, Height: in.bits(16) + 1}
		}
	}
	if in.bad {
		return ErrTruncated
	}
	return nil
}

// bitReader reads bits, the most significant first. Beyond the end it reads zeros and is bad.
type bitReader struct {
	b   []byte
	at  int
	bad bool
}

// bits returns the next n bits, at most 32.
func (r *bitReader) bits(n int) (v uint32) {
	if r.at+n > 8*len(r.b) {
		r.bad = true
		return 0
	}
	for ; n > 0; n-- {
		v = v<<1 | uint32(r.b[r.at/8]>>(7-r.at%8)&1)
		r.at++
	}
	return v
}

func (r *bitReader) flag() bool { return r.bits(1) != 0 }

// nonSymmetric is ns(n) of appendix A.1: a value below n, the small ones one bit shorter.
func (r *bitReader) nonSymmetric(n uint32) uint32 {
	w := 0
	for x := n; x != 0; x >>= 1 {
		w++
	}
	m := uint32(1)<<w - n
	v := r.bits(w - 1)
	if v < m {
		return v
	}
	return v<<1 - m + r.bits(1)
}

// indications reads two bits for each of n decode targets.
func (r *bitReader) indications(n int) (v uint64) {
	for i := range n {
		v |= uint64(r.bits(2)) << (2 * i)
	}
	return v
}

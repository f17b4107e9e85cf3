package forward

import "anytime/sfu/codec"

// AllSpatial as a spatial target forwards every spatial layer.
const AllSpatial = 7

// layering is what tells the layers of a stream apart.
type layering uint8

const (
	// flat: nothing does, or VP8 or H.265's temporal ids, which temporalFilter goes by.
	flat layering = iota
	// described: a dependency descriptor.
	described
	// indexed: the layer indices of VP9's payload descriptor.
	indexed
)

// layeringOf returns what tells the layers of p's stream apart. Padding has no say.
func layeringOf(p *Packet) layering {
	switch d := &p.Descriptor; {
	case d.Kind == codec.VP8:
		return flat
	case p.Dependency.Structure != nil:
		return described
	case d.Kind == codec.VP9 && d.HasTemporal:
		return indexed
	}
	return flat
}

// Sizes of the selector's memory, powers of two.
const (
	recentPictures = 32
	recentFrames   = 128
)

// topMissing is how many pictures in a row may lack the spatial layer that is followed before it counts as stopped.
const topMissing = 3

// operating says which layers pass: of a described stream the decode target, of an indexed one spatial<<3 | temporal.
type operating uint8

// selector chooses from a stream that holds several spatial and temporal layers. A picture is all frames of one timestamp,
// and a frame is one spatial layer of it.
//
//   - What passes changes between pictures alone, so that the marker, which ends a picture, stands where it belongs.
//   - A change needs a place where the new layers can be decoded from what has been sent: a keyframe, a frame that the
//     descriptor calls a switching point, VP9's U, or a chain that is whole. Going down there is none to wait for, unless
//     lower layers were left out because nothing above depends on them (the _KEY modes): then it needs a keyframe too.
//   - A frame never passes when one that it refers to was left out.
type selector struct {
	by layering
	// Wanted.
	spatial, temporal uint8
	// In force.
	now operating
	// stuck: the wanted spatial layer can't be reached without a keyframe.
	stuck    bool
	pictures []picture // recentPictures of them, from the first start on
	newest   uint8     // index of the latest

	// Described streams.
	structure *codec.Structure
	highest   int64   // frame number, extended
	joined    int64   // the frame at which layers came in last
	frames    []frame // recentFrames of them

	// Indexed streams.
	keyframe uint32 // timestamp of the latest one
	group    group  // since it
	before   group  // the one before
	top      uint8  // the highest spatial layer that is being sent
	seen     uint8  // the highest one in the latest picture
	topShort uint8  // pictures in a row that lack top
}

// group is what is known of the pictures from one keyframe to the next.
type group struct {
	broken uint8     // by spatial layer: a frame was left out …
	since  [8]uint32 // … at this timestamp
	passed uint8     // by spatial layer: a frame passed …
	newest [8]uint32 // … the newest at this timestamp
	apart  bool      // spatial layers don't depend on each other but in the keyframe (the _KEY modes)
}

// picture is what was decided on the frames of one timestamp.
type picture struct {
	timestamp     uint32
	used          bool
	in            operating
	sent, dropped uint8 // by spatial layer
}

// frame is what was decided on one frame of a described stream.
type frame struct {
	number int64
	fate   fate
}

type fate uint8

const (
	fateUnknown fate = iota // not seen, or long ago
	fateSent
	fateDropped
	fateNeeded // not seen, but a frame that refers to it was sent: it passes when it comes
)

// canStart reports whether a receiver that has nothing can begin with p, the first packet of its frame.
func (s *selector) canStart(p *Packet) bool {
	if layeringOf(p) != described {
		return true // the payload descriptor says so
	}
	d := &p.Dependency
	return d.First && d.Independent() && d.Indication(s.best(d)) == codec.Switch
}

// start begins to follow a stream with p.
func (s *selector) start(p *Packet) {
	pictures, frames := s.pictures, s.frames
	*s = selector{by: layeringOf(p), spatial: s.spatial, temporal: s.temporal}
	if s.by == flat {
		return
	}
	if pictures == nil {
		pictures = make([]picture, recentPictures)
	}
	clear(pictures)
	s.pictures = pictures
	if s.by == described {
		if frames == nil {
			frames = make([]frame, recentFrames)
		}
		clear(frames)
		s.frames = frames
	}
	switch s.by {
	case described:
		d := &p.Dependency
		s.structure, s.highest = d.Structure, int64(d.Frame)+1<<16
		s.joined = s.highest
		s.now = operating(s.best(d))
	case indexed:
		s.now = operating(s.spatial<<3 | s.temporal)
		s.keyframe = p.Timestamp
	}
	s.begin(p.Timestamp)
}

// layers returns the highest spatial and temporal layer in force.
func (s *selector) layers(in operating) (spatial, temporal uint8) {
	if s.by == described {
		if targets := s.structure.Targets(); int(in) < len(targets) {
			return targets[in].Spatial, targets[in].Temporal
		}
		return 0, 0
	}
	return uint8(in) >> 3, uint8(in) & 7
}

// best returns the decode target to have: the highest within the wanted layers of those that are sent, else the lowest.
func (s *selector) best(d *codec.Dependency) int {
	rank := func(t codec.DecodeTarget) int { return int(t.Spatial)<<3 | int(t.Temporal) }
	targets, active := d.Structure.Targets(), d.Active
	if active == 0 {
		active = ^active
	}
	best, lowest := -1, -1
	for i, t := range targets {
		if active>>i&1 == 0 {
			continue
		}
		if lowest < 0 || rank(t) < rank(targets[lowest]) {
			lowest = i
		}
		if t.Spatial <= s.spatial && t.Temporal <= s.temporal && (best < 0 || rank(t) > rank(targets[best])) {
			best = i
		}
	}
	if best < 0 {
		best = max(lowest, 0)
	}
	return best
}

// find returns the picture with that timestamp, nil if it isn't known.
func (s *selector) find(timestamp uint32) *picture {
	for i := range uint8(recentPictures) {
		if p := &s.pictures[(s.newest-i)%recentPictures]; p.used && p.timestamp == timestamp {
			return p
		}
	}
	return nil
}

// begin remembers a new picture, for which what is in force now holds.
func (s *selector) begin(timestamp uint32) *picture {
	s.newest = (s.newest + 1) % recentPictures
	p := &s.pictures[s.newest]
	*p = picture{timestamp: timestamp, used: true, in: s.now}
	return p
}

// next decides on p, which is newer than all before it: whether it passes, and whether it ends the picture.
func (s *selector) next(p *Packet) (pass, marker bool) {
	pic := s.find(p.Timestamp)
	if pic == nil {
		s.change(p)
		pic = s.begin(p.Timestamp)
	}
	return s.decide(p, pic)
}

// late decides on p, which comes after newer ones; in was in force at its place.
func (s *selector) late(p *Packet, in operating) (pass, marker bool) {
	pic := s.find(p.Timestamp)
	if pic == nil {
		now := s.now
		s.now = in
		pic = s.begin(p.Timestamp)
		s.now = now
	}
	return s.decide(p, pic)
}

// decide passes or drops a packet as the rest of its frame.
func (s *selector) decide(p *Packet, pic *picture) (pass, marker bool) {
	layer := s.spatialOf(p)
	bit := uint8(1) << layer
	switch {
	case pic.sent&bit != 0:
		pass = true
	case pic.dropped&bit != 0:
	default:
		if s.by == described {
			pass = s.admit(&p.Dependency, int(pic.in))
		} else {
			pass = s.admitIndexed(p, pic.in)
		}
		if pass {
			pic.sent |= bit
		} else {
			pic.dropped |= bit
		}
	}
	if !pass {
		return false, false
	}
	// RFC 9628 section 4.1: the marker is set on "the final RTP packet for the picture": where upper layers are left out,
	// that of the highest one that isn't.
	top, _ := s.layers(pic.in)
	last := p.Descriptor.FrameEnd
	if s.by == described {
		last = p.Dependency.Last
	}
	return true, p.Marker || last && layer == top
}

func (s *selector) spatialOf(p *Packet) uint8 {
	if s.by == described {
		return p.Dependency.Spatial
	}
	return p.Descriptor.Spatial
}

// between reports whether nothing that passes can lie between two packets of one picture, both left out, of spatial layers
// a and b.
func (s *selector) between(a, b uint8) bool {
	top, _ := s.layers(s.now)
	return a == b || b == a+1 || a > top && b > top
}

// change brings what is in force nearer to what is wanted, at p, the first packet of a picture.
func (s *selector) change(p *Packet) {
	if s.by == indexed {
		s.changeIndexed(p)
		return
	}
	d := &p.Dependency
	if d.Structure != s.structure {
		// A new structure comes with a keyframe; decode targets have other numbers now. None is in force until one is joined.
		s.structure = d.Structure
		s.now = operating(s.best(d))
		s.joined, s.stuck = s.first(d), false
		return
	}
	best := s.best(d)
	if operating(best) == s.now {
		s.stuck = false
		return
	}
	if s.joinable(d, best) {
		if !s.contains(int(s.now), best) {
			s.joined = s.first(d)
		}
		s.now, s.stuck = operating(best), false
		return
	}
	from, to := s.structure.Targets()[s.now], s.structure.Targets()[best]
	s.stuck = from.Spatial != to.Spatial
	if from.Spatial != to.Spatial && from.Temporal > to.Temporal {
		s.lower(d, from.Spatial, to.Temporal)
	}
}

// lower leaves out temporal layers of the spatial layer in force while the wanted one can't be reached.
func (s *selector) lower(d *codec.Dependency, spatial, temporal uint8) {
	for i, t := range s.structure.Targets() {
		if t.Spatial == spatial && t.Temporal == temporal && d.Active>>i&1 != 0 && s.joinable(d, i) {
			s.now = operating(i)
		}
	}
}

// joinable reports whether the decode target can be decoded from the picture on that begins with d's frame.
func (s *selector) joinable(d *codec.Dependency, target int) bool {
	lower := s.contains(int(s.now), target)
	indication := d.Indication(target)
	if indication == codec.NotPresent && d.Attached && d.Independent() {
		return true // a keyframe that isn't the target's: its own follows, as in the S modes
	}
	if indication != codec.NotPresent && !s.referencesSent(d, lower) {
		return false
	}
	if indication == codec.Switch {
		// "Switch: … subsequent frames of the decode target are decodable if this frame is".
		return true
	}
	chain := s.structure.Targets()[target].Chain
	if chain < 0 {
		return lower
	}
	// A chain holds what a target can't do without. It is whole if the frame before this one in it was sent.
	back := d.Chain(int(chain))
	if back == 0 {
		return false
	}
	switch s.fateOf(s.extend(d.Frame) - int64(back)) {
	case fateSent:
		return true
	case fateUnknown, fateNeeded:
		return lower // what is missing will be sent when it comes, as it is part of what is in force
	}
	return false
}

// contains reports whether all frames of decode target b are part of a.
func (s *selector) contains(a, b int) bool {
	for i := range s.structure.Templates() {
		t := &s.structure.Templates()[i]
		if t.Indication(b) != codec.NotPresent && t.Indication(a) == codec.NotPresent {
			return false
		}
	}
	return true
}

// referencesSent reports whether all frames that d's refers to were sent; those that are missing count if pending is set,
// or if the picture refers to no other: the lower layers of a keyframe may be on their way.
func (s *selector) referencesSent(d *codec.Dependency, pending bool) bool {
	number := s.extend(d.Frame)
	within := true
	for _, diff := range d.References() {
		within = within && int(diff) <= int(d.Spatial)
	}
	for _, diff := range d.References() {
		r := number - int64(diff)
		switch s.fateOf(r) {
		case fateDropped:
			return false
		case fateUnknown, fateNeeded:
			if !pending && !within {
				return false
			}
		}
	}
	return true
}

// admit decides on a frame of a described stream.
func (s *selector) admit(d *codec.Dependency, target int) bool {
	number := s.extend(d.Frame)
	s.highest = max(s.highest, number)
	needed := s.fateOf(number) == fateNeeded
	pass := needed || target < len(d.Structure.Targets()) && d.Indication(target) != codec.NotPresent
	if pass && !needed {
		for _, diff := range d.References() {
			// A reference that is missing was either lost, and then passes when it comes, or came before the target was joined.
			r := number - int64(diff)
			if f := s.fateOf(r); f == fateDropped || f == fateUnknown && r < s.joined && number >= s.joined && number-r < recentFrames {
				pass = false
			}
		}
	}
	if !pass {
		s.note(number, fateDropped)
		return false
	}
	s.note(number, fateSent)
	for _, diff := range d.References() {
		if r := number - int64(diff); s.fateOf(r) == fateUnknown {
			s.note(r, fateNeeded)
		}
	}
	return true
}

// first returns the number of the first frame of d's picture, which has a frame for each spatial layer.
func (s *selector) first(d *codec.Dependency) int64 { return s.extend(d.Frame) - int64(d.Spatial) }

func (s *selector) extend(number uint16) int64 {
	return s.highest + int64(int16(number-uint16(s.highest)))
}

// note remembers what was decided on a frame, unless a newer one has its place.
func (s *selector) note(number int64, what fate) {
	if number >= 0 && s.frames[number%recentFrames].number <= number {
		s.frames[number%recentFrames] = frame{number: number, fate: what}
	}
}

func (s *selector) fateOf(number int64) fate {
	if number < 0 {
		return fateUnknown
	}
	if f := s.frames[number%recentFrames]; f.number == number {
		return f.fate
	}
	return fateUnknown
}

// changeIndexed is change for a stream that has layer indices alone.
func (s *selector) changeIndexed(p *Packet) {
	d := &p.Descriptor
	spatial, temporal := s.layers(s.now)
	wanted := s.spatial
	if !d.Predicted {
		// RFC 9628 section 4.2: P is 0 in all frames of a keyframe's picture.
		s.keyframe, s.before, s.group = p.Timestamp, s.group, group{}
		s.top, s.seen, s.topShort, s.stuck = d.Spatial, d.Spatial, 0, false
		s.now = operating(wanted<<3 | s.temporal)
		return
	}
	switch {
	case s.seen >= s.top:
		s.top, s.topShort = s.seen, 0
	case s.topShort < topMissing:
		s.topShort++
	}
	s.stuck = false
	if s.topShort == topMissing {
		s.top, s.topShort = s.seen, 0
	}
	s.seen = d.Spatial
	if s.group.broken>>min(wanted, spatial, s.top)&1 == 0 && wanted <= spatial {
		spatial = wanted
	} else {
		// Up, or down to a layer that was left out; or the publisher stopped the highest one, and the one below was.
		s.stuck = true
	}
	// U: "switching up point": what follows in higher temporal layers depends on nothing above this one that went before.
	if s.temporal < temporal || d.LayerSync && d.Temporal <= temporal {
		temporal = s.temporal
	}
	s.now = operating(spatial<<3 | temporal)
}

// admitIndexed decides on a frame of an indexed stream.
func (s *selector) admitIndexed(p *Packet, in operating) bool {
	d := &p.Descriptor
	spatial, temporal := s.layers(in)
	g := &s.group
	if int32(p.Timestamp-s.keyframe) < 0 {
		g = &s.before
	}
	if d.Predicted && d.Spatial > 0 {
		g.apart = !d.FromBelow
	}
	s.seen = max(s.seen, d.Spatial)
	s.top = max(s.top, d.Spatial)
	if d.Temporal > temporal {
		return false
	}
	l, bit := d.Spatial, uint8(1)<<d.Spatial
	broken := d.Predicted && g.broken&bit != 0 && int32(p.Timestamp-g.since[l]) >= 0
	// Z: nothing above refers to it, nor will it between keyframes. But newer frames of its own layer may.
	spare := g.apart && d.Predicted && d.NotForAbove && l < min(spatial, s.top) &&
		(g.passed&bit == 0 || int32(p.Timestamp-g.newest[l]) > 0)
	if l > spatial || broken || spare {
		if g.broken&bit == 0 || int32(p.Timestamp-g.since[l]) < 0 {
			g.broken |= bit
			g.since[l] = p.Timestamp
		}
		return false
	}
	if g.passed&bit == 0 || int32(p.Timestamp-g.newest[l]) > 0 {
		g.passed |= bit
		g.newest[l] = p.Timestamp
	}
	return true
}

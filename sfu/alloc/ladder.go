package alloc

// rung is one target of a ladder.
type rung struct {
	cost    int64 // bits per second, rising
	quality int32 // 1 to maxQuality, rising: how much of what is wanted it is
	target  Target
}

const (
	// areaScale is the quality of the whole picture wanted; temporal layers count within areaStep of it.
	areaScale  = 1000
	areaStep   = 8
	maxQuality = areaScale*areaStep + MaxSpatial*MaxTemporal

	// motion is the frame rate below which a camera's higher resolution isn't worth having.
	motion = 12
	// assumedFPS is the frame rate of the highest temporal layer when none is known.
	assumedFPS = 30
	// enough: a layer of nine tenths of the size displayed is as good as one of all of it.
	enoughOf, enough = 10, 9
)

// exists reports whether the cell is, or is announced to be, sent at times.
func (c *Cell) exists() bool { return c.Bitrate > 0 || c.FPS > 0 }

func (c *Cell) live() bool { return c.Live && c.Bitrate > 0 }

// exists reports whether the publication has the layer, sent or not.
func (l *Layer) exists() bool {
	for i := range l.Temporal {
		if l.Temporal[i].exists() {
			return true
		}
	}
	return l.sized()
}

func (l *Layer) live() bool {
	for i := range l.Temporal {
		if l.Temporal[i].live() {
			return true
		}
	}
	return false
}

func (l *Layer) sized() bool { return l.Width > 0 && l.Height > 0 }

func (l *Layer) area() uint64 { return uint64(l.Width) * uint64(l.Height) }

// covers reports whether the layer is large enough to be displayed at a size. Sizes turn with the device, so the longer
// and the shorter sides are compared.
func (l *Layer) covers(width, height uint32) bool {
	return uint64(max(l.Width, l.Height))*enoughOf >= uint64(max(width, height))*enough &&
		uint64(min(l.Width, l.Height))*enoughOf >= uint64(min(width, height))*enough
}

// Wish returns what the subscriber's wishes ask for, see [Result.Wanted]; Disabled and Muted don't matter.
func (in *Input) Wish() Target {
	top, covering, sized := -1, -1, -1
	for i := range in.Layers {
		l := &in.Layers[i]
		if !l.exists() {
			continue
		}
		top = i
		if l.sized() {
			sized = i
			if covering < 0 && l.covers(in.Width, in.Height) {
				covering = i
			}
		}
	}
	s := min(int(in.Quality), MaxSpatial-1)
	switch {
	case top < 0:
	case in.Width == 0 || in.Height == 0 || sized < 0:
		s = min(s, top)
	case covering >= 0:
		s = covering
	default:
		s = sized
	}
	return Target{int8(s), int8(in.temporal(s))}
}

// temporal returns the temporal layer wanted of spatial layer s: the lowest with the frame rate wanted, else the highest
// there is, else the highest there can be.
func (in *Input) temporal(s int) int {
	best := -1
	for t := range in.Layers[s].Temporal {
		c := &in.Layers[s].Temporal[t]
		if !c.exists() {
			continue
		}
		best = t
		if in.FPS > 0 && uint64(c.FPS)*enoughOf >= uint64(in.FPS)*enough {
			break
		}
	}
	if best < 0 {
		return MaxTemporal - 1
	}
	return best
}

// constrain makes the ladder of a video, and finds the rung that it holds.
func (s *Subscription) constrain() {
	s.rungs, s.held, s.rung = 0, -1, -1
	in := &s.input
	s.result.Wanted = None
	if in.Disabled || in.Muted {
		return
	}
	if in.Kind == Audio {
		s.result.Wanted = Target{}
		return
	}
	s.result.Wanted = in.Wish()
	low, high := s.span(int(s.result.Wanted.Spatial))
	if high < 0 {
		return
	}
	if s.ladder == nil {
		s.ladder = new([MaxSpatial * MaxTemporal]rung)
	}
	s.climbable(low, high)
	s.dearerIsBetter()
	s.rate(high)
	s.findHeld()
}

// span returns the lowest and the highest spatial layer to choose from: those sent up to the one wanted, else the lowest
// sent above it. high is negative when none is.
func (s *Subscription) span(wanted int) (low, high int) {
	low, high = -1, -1
	for i := range s.input.Layers {
		if !s.input.Layers[i].live() || i > wanted && high >= 0 {
			continue
		}
		if low < 0 {
			low = i
		}
		high = i
	}
	return low, high
}

// climbable puts the live cells onto the ladder, the picture before the frame rate. Above the lowest resolution a camera
// needs enough motion; a shared screen is read, and needs none.
func (s *Subscription) climbable(low, high int) {
	for i := low; i <= high; i++ {
		cells := &s.input.Layers[i].Temporal
		top := -1
		for t := 0; t <= s.input.temporal(i); t++ {
			if cells[t].live() {
				top = t
			}
		}
		if top < 0 {
			// Only frame rates above the one wanted are sent: take the lowest.
			for t := MaxTemporal - 1; t >= 0; t-- {
				if cells[t].live() {
					top = t
				}
			}
		}
		for t := 0; t <= top; t++ {
			c := &cells[t]
			if !c.live() || i > low && t < top && s.input.Source != ScreenShare && fps(c, top-t) < motion {
				continue
			}
			s.ladder[s.rungs] = rung{cost: int64(c.Bitrate), target: Target{int8(i), int8(t)}}
			s.rungs++
		}
	}
}

// fps returns the frame rate of a cell that many temporal layers below the highest: each usually halves it.
func fps(c *Cell, below int) uint32 {
	if c.FPS > 0 {
		return c.FPS
	}
	return assumedFPS >> below
}

// dearerIsBetter takes out what costs no less than something better.
func (s *Subscription) dearerIsBetter() {
	n := int8(0)
	for i := range s.rungs {
		r := s.ladder[i]
		for n > 0 && s.ladder[n-1].cost >= r.cost {
			n--
		}
		s.ladder[n] = r
		n++
	}
	s.rungs = n
}

// rate gives each rung its quality: its share of the best picture on the ladder, then its frame rate.
func (s *Subscription) rate(high int) {
	sizes := true
	for i := range s.rungs {
		sizes = sizes && s.input.Layers[s.ladder[i].target.Spatial].sized()
	}
	last := int32(0)
	for i := range s.rungs {
		r := &s.ladder[i]
		share := uint64(areaScale)
		switch {
		case sizes:
			share = min(share, s.input.Layers[r.target.Spatial].area()/max(s.input.Layers[high].area()/areaScale, 1))
		default:
			// Layers whose size isn't known usually double each side.
			share >>= 2 * (high - int(r.target.Spatial))
		}
		// A publisher may lie about sizes; a higher layer is better all the same.
		r.quality = max(int32(share)*areaStep+int32(r.target.Temporal)+1, last+1)
		last = r.quality
	}
}

// findHeld finds the rung of the target that the subscription has. Where it is gone, the one below holds, or the lowest:
// what plays goes on.
func (s *Subscription) findHeld() {
	had := s.result.Target
	if had == None || s.rungs == 0 {
		return
	}
	s.held = 0
	for i := range s.rungs {
		if !s.ladder[i].target.above(had) {
			s.held = i
		}
	}
	// Something better that costs no more than what was had has pushed it off the ladder.
	if c := &s.input.Layers[had.Spatial].Temporal[had.Temporal]; s.ladder[s.held].target != had && c.live() &&
		s.held+1 < s.rungs && s.ladder[s.held+1].cost <= int64(c.Bitrate) {
		s.held++
	}
}

// cost returns the bitrate of a rung, 0 of none.
func (s *Subscription) cost(i int8) int64 {
	if i < 0 {
		return 0
	}
	return s.ladder[i].cost
}

package forward

// Source is what the owner of a layer keeps of its packets for all who follow it, or may begin to. The zero value is a layer
// that has sent nothing.
type Source struct {
	seen    bool
	inBand  bool // see Packet.InBand
	epoch   uint32
	highest uint64
}

// Note fills in what p, which has just come, is among its layer's packets. Each is to be noted once, in the order in which they
// are handed to the forwarders.
func (s *Source) Note(p *Packet) {
	if !s.seen || int32(p.Epoch-s.epoch) > 0 {
		*s = Source{seen: true, epoch: p.Epoch}
		p.Newest = true // of a new numbering
	} else {
		p.Newest = p.Epoch == s.epoch && p.Sequence > s.highest
	}
	if p.Newest {
		s.highest = p.Sequence
	}
	if p.Descriptor.ParameterSets && !p.PaddingOnly {
		s.inBand = true
	}
	p.InBand = s.inBand
}

package sfu

import "anytime/sfu/forward"

// Of a video in several layers a subscription follows one, and perhaps waits for a keyframe of another. A packet of the others
// would cost it a lock and a look at its memory, to no end. So it keeps a mask of the layers that concern it, for the fan-out to
// look at, which is brought up to date whenever that may have changed ([subscription.heed]). A packet that meets the mask of a
// moment ago is as if it had come a moment earlier. It is never missing in what is being sent: a layer is begun while its
// packets are handed out, and heeded from then on until it is left.

// heeded has a bit for every layer of every codec.
const _ = uint(32 - maxCodecs*forward.MaxLayers)

// bit is that of one of the codec's layers.
func (pub *publication) bit(layer uint8) uint32 {
	return 1 << (pub.index*forward.MaxLayers + int(layer))
}

// heed notes which packets are to be handed to the subscription. Called with s.mu held, after every change of the stream or
// of its forwarders.
func (s *subscription) heed() {
	layers := uint32(0)
	if st := s.out; st != nil && !s.ended {
		if st.source != nil {
			layers |= uint32(st.forwarder.Heeds()) * st.source.bit(0)
		}
		if st.next != nil {
			layers |= uint32(st.nextForwarder.Heeds()) * st.next.bit(0)
		}
	}
	if s.heeded.Load() != layers {
		s.heeded.Store(layers)
	}
}

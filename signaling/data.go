package signaling

import (
	"errors"
	"slices"

	"anytime/signaling/wire"
)

// onData passes a data packet of a participant on. The sender's word about itself is overwritten;
// the rest is opaque.
func (a *actor) onData(s *session, e DataReceived) {
	if a.sessions[s.id] != s {
		return
	}
	packet, err := wire.DecodeData(e.Payload)
	if err != nil {
		s.log.Debug("data packet dropped", "err", err)
		return
	}
	if wire.TellsSpeakers(packet) {
		return // who speaks is the server's to say
	}
	wire.SetReliable(packet, e.Reliable)
	if a.answersCall(s, packet) {
		return
	}
	if e.Reliable && packet.Sequence != 0 {
		// After a resume a client repeats what may have been lost.
		if packet.Sequence <= s.lastSeq {
			return
		}
		s.lastSeq = packet.Sequence
	}
	to, err := a.room.DataRecipients(s.id, destinations(a, packet))
	if err != nil {
		s.log.Debug("data packet dropped", "err", err)
		return
	}
	if len(to) == 0 {
		return
	}
	wire.StampSender(packet, s.id, s.identity)
	payload, err := wire.EncodeData(packet)
	if err != nil {
		s.log.Error("cannot encode a data packet", "err", err)
		return
	}
	for _, id := range to {
		a.sendData(id, e.Reliable, payload)
	}
}

// sendData queues a packet for a participant. A lossy packet may be dropped; a receiver that can't
// take reliable ones has to join anew.
func (a *actor) sendData(id string, reliable bool, payload []byte) {
	s := a.sessions[id]
	if s == nil {
		return
	}
	const slow = "receives data more slowly than it arrives"
	queued := s.worker.sendData(reliable, payload, func(err error) {
		s.log.Debug("cannot send data", "reliable", reliable, "err", err)
		if reliable && errors.Is(err, ErrOverflow) {
			a.post(func(a *actor) { a.resetSlow(s, slow) })
		}
	})
	if !queued && reliable {
		a.resetSlow(s, slow)
	}
}

// destinations returns the identities a packet is for; none means everybody.
func destinations(a *actor, p *wire.DataPacket) []string {
	identities, ids := wire.Destinations(p)
	to := slices.Clone(identities)
	for _, id := range ids {
		if info, ok := a.room.Participant(id); ok {
			to = append(to, info.Identity)
		} else {
			to = append(to, id) // unknown: for nobody, which is not for everybody
		}
	}
	return to
}

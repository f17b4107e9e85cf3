package signaling

import (
	"errors"

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
	if packet.GetSpeaker() != nil {
		return // who speaks is the server's to say
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
	packet.ParticipantSid, packet.ParticipantIdentity = s.id, s.identity
	if u := packet.GetUser(); u != nil {
		u.ParticipantSid, u.ParticipantIdentity = s.id, s.identity //nolint:staticcheck // older SDKs read these
	}
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

// destinations returns the identities a packet is for; none means everybody. Older SDKs put them,
// or participant ids, into the user packet.
func destinations(a *actor, p *wire.DataPacket) []string {
	if len(p.DestinationIdentities) > 0 {
		return p.DestinationIdentities
	}
	u := p.GetUser()
	if u == nil {
		return nil
	}
	to := append([]string(nil), u.DestinationIdentities...) //nolint:staticcheck // older SDKs
	for _, id := range u.DestinationSids {                  //nolint:staticcheck // older SDKs
		if info, ok := a.room.Participant(id); ok {
			to = append(to, info.Identity)
		} else {
			to = append(to, id) // unknown: for nobody, which is not for everybody
		}
	}
	return to
}

package signaling

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"anytime/signaling/room"
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
		a.refuseData(s, err)
		return
	}
	if wire.TellsSpeakers(packet) {
		return // who speaks is the server's to say
	}
	wire.SetReliable(packet, e.Reliable)
	if a.answersCall(s, packet) {
		return
	}
	if e.Reliable && !s.number(packet) {
		return // after a resume a client repeats what may have been lost
	}
	to, err := a.room.DataRecipients(s.id, destinations(a, packet))
	if err != nil {
		a.refuseData(s, err)
		return
	}
	if wire.IsMetrics(packet) {
		to = slices.DeleteFunc(to, func(id string) bool { return !a.measures(id) })
	}
	if len(to) == 0 {
		return
	}
	wire.Sender{
		SID: s.id, Identity: s.identity, Hidden: a.room.Hidden(s.id), Agent: wire.KindOf(s.claims.Kind) == wire.KindAgent,
	}.Stamp(packet)
	payload, err := wire.EncodeData(packet)
	if err != nil {
		s.log.Error("cannot encode a data packet", "err", err)
		return
	}
	if e.Reliable && packet.Sequence != 0 {
		a.data.add(time.Now(), s.id, packet.Sequence, to, payload)
	}
	for _, id := range to {
		a.sendData(id, e.Reliable, payload)
	}
}

// number takes the number that the client has given a reliable packet, and reports false for one that
// came before. Packets of clients that count none are counted here, so that their receivers too can say
// what they have.
func (s *session) number(p *wire.DataPacket) bool {
	switch {
	case p.Sequence != 0:
		if p.Sequence <= s.lastSeq {
			return false
		}
		s.lastSeq = p.Sequence
	case s.lastSeq == 0:
		s.counted++
		p.Sequence = s.counted
	}
	return true
}

// measures reports whether a participant may receive the measurements of others.
func (a *actor) measures(id string) bool {
	s := a.sessions[id]
	return s != nil && s.claims.Video.CanSubscribeMetrics != nil && *s.claims.Video.CanSubscribeMetrics
}

// refusalPause is the least time between two refusals of a participant's data: it may send thousands
// of packets a second.
const refusalPause = time.Second

// refuseData tells a client that its data packet is not passed on.
func (a *actor) refuseData(s *session, err error) {
	s.log.Debug("data packet refused", "err", err)
	now := time.Now()
	if now.Sub(s.dataRefused) < refusalPause {
		return
	}
	s.dataRefused = now
	answer := &wire.RequestResponse{Reason: wire.RequestInvalid, Message: err.Error()}
	var refusal *room.Refusal
	switch {
	case errors.Is(err, wire.ErrTooLarge):
		answer.Reason = wire.RequestLimitExceeded
	case errors.As(err, &refusal) && refusal.Code == room.NotAllowed:
		answer.Reason = wire.RequestNotAllowed
	}
	a.send(s, &wire.SignalResponse{Message: &wire.ResponseRequestResponse{RequestResponse: answer}})
}

// resendData gives a client that has resumed what it says it has not received. Its media sends what
// is not on its way anyway.
func (a *actor) resendData(s *session, states []*wire.DataReceiveState) error {
	if len(states) > wire.MaxSIDs {
		return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("at most %d receive states", wire.MaxSIDs)}
	}
	last := make(map[string]uint32, len(states))
	for _, state := range states {
		last[state.GetPublisherSid()] = max(last[state.GetPublisherSid()], state.GetLastSeq())
	}
	missed := a.data.missed(time.Now(), s.id, last)
	if len(missed) == 0 {
		return nil
	}
	s.worker.do(func(p Peer) {
		if err := p.ResendData(missed); errors.Is(err, ErrOverflow) {
			s.post(func(a *actor) { a.resetSlow(s, slowReceiver) })
		}
	})
	return nil
}

const slowReceiver = "receives data more slowly than it arrives"

// sendData queues a packet for a participant. A lossy packet may be dropped; a receiver that can't
// take reliable ones has to join anew.
func (a *actor) sendData(id string, reliable bool, payload []byte) {
	s := a.sessions[id]
	if s == nil {
		return
	}
	log := s.log
	queued := s.worker.sendData(reliable, payload, func(err error) {
		log.Debug("cannot send data", "reliable", reliable, "err", err)
		if reliable && errors.Is(err, ErrOverflow) {
			s.post(func(a *actor) { a.resetSlow(s, slowReceiver) })
		}
	})
	if !queued && reliable {
		a.resetSlow(s, slowReceiver)
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

package signaling

import (
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// apply carries out effects in order. Carrying one out may cause another event (a session ends, a
// room finishes); its effects follow those that are already there.
func (a *actor) apply(effects []room.Effect) {
	a.queue = append(a.queue, effects...)
	if a.applying {
		return
	}
	a.applying = true
	for len(a.queue) > 0 {
		e := a.queue[0]
		a.queue = a.queue[1:]
		if !a.applyMessage(e) {
			a.applyMedia(e)
		}
	}
	a.applying, a.queue = false, nil
}

// applyMessage carries out the effects that send something.
func (a *actor) applyMessage(e room.Effect) bool {
	switch e := e.(type) {
	case room.SendJoin:
		if s := a.sessions[e.To]; s != nil {
			a.send(s, a.joinResponse(s, e))
		}
	case room.SendMoved:
		if s := a.sessions[e.To]; s != nil {
			a.send(s, a.roomMoved(s, e))
		}
	case room.SendReconnect:
		if s := a.sessions[e.To]; s != nil {
			a.send(s, &wire.SignalResponse{Message: &wire.ResponseReconnect{Reconnect: &wire.ReconnectResponse{
				IceServers:          a.iceServers(s),
				ClientConfiguration: &wire.ClientConfiguration{},
				ServerInfo:          a.serverInfo(),
				LastMessageSeq:      s.lastSeq,
			}}})
		}
	case room.SendUpdate:
		a.broadcast(e.To, &wire.SignalResponse{Message: &wire.ResponseUpdate{
			Update: &wire.ParticipantUpdate{Participants: participantInfos(e.Participants)},
		}})
	case room.SendRoom:
		a.broadcast(e.To, &wire.SignalResponse{Message: &wire.ResponseRoomUpdate{
			RoomUpdate: &wire.RoomUpdate{Room: roomInfo(e.Room)},
		}})
	case room.SendTrackPublished:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseTrackPublished{
			TrackPublished: &wire.TrackPublishedResponse{Cid: e.CID, Track: trackInfo(e.Track)},
		}})
	case room.SendTrackUnpublished:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseTrackUnpublished{
			TrackUnpublished: &wire.TrackUnpublishedResponse{TrackSid: e.TrackID},
		}})
	case room.SendMute:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseMute{
			Mute: &wire.MuteTrackRequest{Sid: e.TrackID, Muted: e.Muted},
		}})
	case room.SendTrackSubscribed:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseTrackSubscribed{
			TrackSubscribed: &wire.TrackSubscribed{TrackSid: e.TrackID},
		}})
	case room.SendSpeakers:
		a.broadcast(e.To, &wire.SignalResponse{Message: &wire.ResponseSpeakersChanged{
			SpeakersChanged: &wire.SpeakersChanged{Speakers: speakerInfos(e.Speakers)},
		}})
	case room.SendQuality:
		a.broadcast(e.To, &wire.SignalResponse{Message: &wire.ResponseConnectionQuality{
			ConnectionQuality: &wire.ConnectionQualityUpdate{Updates: qualityInfos(e.Qualities)},
		}})
	case room.SendSubscriptionPermission:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseSubscriptionPermissionUpdate{
			SubscriptionPermissionUpdate: &wire.SubscriptionPermissionUpdate{
				ParticipantSid: e.Owner, TrackSid: e.TrackID, Allowed: e.Allowed,
			},
		}})
	case room.SendSubscriptionError:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseSubscriptionResponse{
			SubscriptionResponse: &wire.SubscriptionResponse{
				TrackSid: e.TrackID, Err: wire.SubscriptionError(e.Failure),
			},
		}})
	case room.SendLayers:
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseSubscribedQuality{SubscribedQualityUpdate: qualityUpdate(e)}})
	case room.SendStreamState:
		state := wire.StreamActive
		if e.Paused {
			state = wire.StreamPaused
		}
		a.sendTo(e.To, &wire.SignalResponse{Message: &wire.ResponseStreamState{StreamStateUpdate: &wire.StreamStateUpdate{
			StreamStates: []*wire.StreamStateInfo{{ParticipantSid: e.Owner, TrackSid: e.TrackID, State: state}},
		}}})
	case room.AskToResume:
		// Older ones know no action, and would join anew.
		if s := a.sessions[e.To]; s != nil && s.query.Client.GetProtocol() >= wire.ProtocolWithActions {
			s.log.Info("media is away, the client is asked to resume")
			a.send(s, wire.Leave(wire.LeaveResume, wire.ReasonMediaFailure))
		}
	case room.SendLeave:
		if s := a.sessions[e.To]; s != nil {
			a.send(s, wire.Leave(wire.LeaveAction(e.Action), reasonToWire(e.Reason)))
			if s.conn != nil {
				s.conn.close(closeNormal, "")
				s.conn = nil
			}
		}
	default:
		return false
	}
	return true
}

// applyMedia carries out the effects on media, and those for observers.
func (a *actor) applyMedia(e room.Effect) {
	switch e := e.(type) {
	case room.OpenMedia:
		if s := a.sessions[e.ID]; s != nil {
			a.openMedia(s)
		}
	case room.CloseMedia:
		if s := a.sessions[e.ID]; s != nil {
			s.worker.close()
		}
	case room.PublishTrack:
		a.publish(e)
	case room.PublishCodec:
		a.publishCodec(e)
	case room.UnpublishTrack:
		a.work(e.Owner, func(p Peer) { p.Unpublish(e.TrackID) })
	case room.MuteTrack:
		a.work(e.Owner, func(p Peer) { p.SetMuted(e.TrackID, e.Muted) })
	case room.Subscribe:
		a.subscribe(e)
	case room.Unsubscribe:
		a.work(e.Subscriber, func(p Peer) { p.Unsubscribe(e.TrackID) })
	case room.Configure:
		settings := settingsToMedia(e.Settings)
		a.work(e.Subscriber, func(p Peer) { p.Configure(e.TrackID, settings) })
	case room.RestartICE:
		a.work(e.ID, func(p Peer) { p.RestartICE(Subscriber) })
	case room.ParticipantJoined:
		a.observeParticipant(ParticipantJoined, e.Participant)
	case room.ParticipantActive:
		a.observeParticipant(ParticipantActive, e.Participant)
	case room.ParticipantLost:
		a.observeParticipant(ParticipantLost, e.Participant)
	case room.ParticipantBack:
		a.observeParticipant(ParticipantBack, e.Participant)
	case room.ParticipantLeft:
		a.gone(e)
	case room.RemoteLeft:
		a.guestLeft(e)
	case room.TrackPublished:
		a.observeTrack(TrackPublished, e.Track)
	case room.TrackUnpublished:
		a.observeTrack(TrackUnpublished, e.Track)
	case room.Finished:
		a.over = true
		a.observe(RoomEvent{Kind: RoomFinished, EndReason: a.ends})
	}
}

// gone ends a departed participant's session.
func (a *actor) gone(e room.ParticipantLeft) {
	if s := a.sessions[e.Participant.ID]; s != nil && s.moving {
		delete(a.sessions, s.id)
	} else if s != nil {
		delete(a.sessions, s.id)
		a.dropCalls(s.id)
		a.hideAll(s, e.Participant.Reason)
		s.log.Info("participant left", "reason", reasonToWire(e.Participant.Reason))
		if s.conn != nil {
			s.conn.close(closeNormal, "")
			s.conn = nil
		}
	}
	a.observeParticipant(ParticipantLeft, e.Participant)
}

func (a *actor) observeParticipant(kind RoomEventKind, p room.Info) {
	if a.srv.cfg.Observe != nil {
		a.observe(RoomEvent{
			Kind: kind, Identity: p.Identity, ParticipantID: p.ID, Participant: participantInfo(p),
			Reason: reasonToWire(p.Reason), NeverActive: !p.Activated,
		})
	}
}

func (a *actor) observeTrack(kind RoomEventKind, t room.Track) {
	if a.srv.cfg.Observe == nil {
		return
	}
	e := RoomEvent{Kind: kind, TrackID: t.ID, ParticipantID: t.Owner, Track: trackInfo(t)}
	if s := a.sessions[t.Owner]; s != nil {
		e.Identity = s.identity
	}
	// A participant that is leaving is out of the room before its tracks' ends are told.
	e.Participant = &wire.ParticipantInfo{Sid: t.Owner, Identity: e.Identity}
	if p, ok := a.room.Participant(t.Owner); ok {
		e.Participant = participantInfo(p)
	}
	a.observe(e)
}

// work queues a media call for a participant.
func (a *actor) work(id string, run func(Peer)) {
	if s := a.sessions[id]; s != nil {
		s.worker.do(run)
	}
}

func (a *actor) publish(e room.PublishTrack) {
	s := a.sessions[e.Track.Owner]
	if s == nil {
		return
	}
	publication := publicationOf(e.Track)
	publication.Exempt = !publication.Video && isExempt(e.Track, s.claims)
	s.worker.do(func(p Peer) {
		if err := p.Publish(publication); err != nil {
			s.post(func(a *actor) {
				s.log.Error("cannot publish track", "track", publication.ID, "err", err)
				effects, err := a.room.Unpublish(time.Now(), publication.ID)
				if err == nil {
					a.apply(effects)
				}
			})
		}
	})
}

func (a *actor) publishCodec(e room.PublishCodec) {
	s := a.sessions[e.Owner]
	if s == nil {
		return
	}
	codec, log := codecToMedia(e.Codec), s.log
	s.worker.do(func(p Peer) {
		if err := p.AddCodec(e.TrackID, codec); err != nil {
			log.Warn("cannot add a codec to a track", "track", e.TrackID, "codec", codec.MimeType, "err", err)
		}
	})
}

func (a *actor) subscribe(e room.Subscribe) {
	s := a.sessions[e.Subscriber]
	if s == nil {
		return
	}
	s.worker.do(func(p Peer) {
		err := p.Subscribe(e.TrackID)
		s.post(func(a *actor) {
			switch {
			case a.sessions[s.id] != s:
			case err != nil:
				s.log.Warn("cannot subscribe", "track", e.TrackID, "err", err)
				a.apply(a.room.SubscriptionFailed(time.Now(), s.id, e.TrackID, failureOf(err)))
			default:
				a.apply(a.room.Subscribed(time.Now(), s.id, e.TrackID))
			}
		})
	})
}

// send writes a message to a session's connection, if it has one.
func (a *actor) send(s *session, m *wire.SignalResponse) {
	if s.conn == nil {
		return
	}
	frame, err := wire.EncodeResponse(m)
	if err != nil {
		s.log.Error("cannot encode a message", "kind", wire.ResponseKind(m), "err", err)
		return
	}
	s.conn.send(frame)
}

func (a *actor) sendTo(id string, m *wire.SignalResponse) {
	if s := a.sessions[id]; s != nil {
		a.send(s, m)
	}
}

// broadcast encodes a message once for all its recipients.
func (a *actor) broadcast(to []string, m *wire.SignalResponse) {
	frame, err := wire.EncodeResponse(m)
	if err != nil {
		a.log.Error("cannot encode a message", "kind", wire.ResponseKind(m), "err", err)
		return
	}
	for _, id := range to {
		if s := a.sessions[id]; s != nil && s.conn != nil {
			s.conn.send(frame)
		}
	}
}

package signaling

import (
	"context"
	"slices"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// apiMethods are the methods of RoomService with what each needs of the token.
func (s *Server) apiMethods() map[string]twirp.Method {
	return map[string]twirp.Method{
		"CreateRoom": granted(func(*wire.CreateRoomRequest) need { return need{create: true} }, s.createRoom),
		"DeleteRoom": granted(func(*wire.DeleteRoomRequest) need { return need{create: true} }, s.deleteRoom),
		"ListRooms":  granted(func(*wire.ListRoomsRequest) need { return need{list: true} }, s.listRooms),

		"UpdateRoomMetadata": granted(func(m *wire.UpdateRoomMetadataRequest) need { return adminOf(m.GetRoom()) }, s.updateRoomMetadata),
		"SendData":           granted(func(m *wire.SendDataRequest) need { return adminOf(m.GetRoom()) }, s.sendRoomData),
		"ListParticipants":   granted(func(m *wire.ListParticipantsRequest) need { return adminOf(m.GetRoom()) }, s.listParticipants),

		"GetParticipant":      granted(func(m *wire.RoomParticipantIdentity) need { return adminOf(m.GetRoom()) }, s.getParticipant),
		"RemoveParticipant":   granted(func(m *wire.RoomParticipantIdentity) need { return adminOf(m.GetRoom()) }, s.removeParticipant),
		"UpdateParticipant":   granted(func(m *wire.UpdateParticipantRequest) need { return adminOf(m.GetRoom()) }, s.updateParticipant),
		"MutePublishedTrack":  granted(func(m *wire.MuteRoomTrackRequest) need { return adminOf(m.GetRoom()) }, s.mutePublishedTrack),
		"UpdateSubscriptions": granted(func(m *wire.UpdateSubscriptionsRequest) need { return adminOf(m.GetRoom()) }, s.updateSubscriptions),
		"PerformRpc":          granted(func(m *wire.PerformRPCRequest) need { return adminOf(m.GetRoom()) }, s.performRPC),

		"ForwardParticipant": granted(func(m *wire.ForwardParticipantRequest) need {
			return need{admin: true, room: m.GetRoom(), forward: true, destination: m.GetDestinationRoom()}
		}, s.forwardParticipant),
		"MoveParticipant": granted(func(m *wire.MoveParticipantRequest) need {
			return need{admin: true, room: m.GetRoom(), forward: true, destination: m.GetDestinationRoom()}
		}, s.moveParticipant),
	}
}

// createRoom makes a room with settings, or changes the settings of one that exists: what the
// request leaves out stays.
func (s *Server) createRoom(_ context.Context, m *wire.CreateRoomRequest) (*wire.Room, error) {
	if err := wire.CheckRoomName(m.GetName()); err != nil {
		return nil, badArgument(err)
	}
	if err := wire.CheckRoomSettings(m.GetEmptyTimeout(), m.GetDepartureTimeout(), m.GetMaxParticipants(), m.GetMetadata()); err != nil {
		return nil, badArgument(err)
	}
	switch {
	case m.GetEgress() != nil:
		return nil, twirp.Errorf(twirp.Unimplemented, "%s", absentServices["livekit.Egress"])
	case len(m.GetAgents()) > 0:
		return nil, twirp.Errorf(twirp.Unimplemented, "%s", absentServices["livekit.AgentDispatchService"])
	case m.GetRoomPreset() != "":
		return nil, twirp.Errorf(twirp.InvalidArgument, "there is no room preset %.80q: this server has none", m.GetRoomPreset())
	}
	return s.create(m.GetName(), policyOf(m), m.GetMetadata())
}

// policyOf is what a request, or a token, says of a room.
func policyOf(m interface {
	GetEmptyTimeout() uint32
	GetDepartureTimeout() uint32
	GetMaxParticipants() uint32
}) room.Policy {
	return room.Policy{
		EmptyTimeout:     time.Duration(m.GetEmptyTimeout()) * time.Second,
		DepartureTimeout: time.Duration(m.GetDepartureTimeout()) * time.Second,
		Participants:     int(m.GetMaxParticipants()),
	}
}

func (s *Server) deleteRoom(_ context.Context, m *wire.DeleteRoomRequest) (*wire.DeleteRoomResponse, error) {
	err := s.visit(m.GetRoom(), func(a *actor) error {
		a.ends = wire.RoomEndDeleted
		a.apply(a.room.Close(time.Now(), room.RoomDeleted, room.Disconnect))
		return nil
	})
	return &wire.DeleteRoomResponse{}, err
}

func (s *Server) listRooms(_ context.Context, m *wire.ListRoomsRequest) (*wire.ListRoomsResponse, error) {
	return &wire.ListRoomsResponse{Rooms: s.describeRooms(m.GetNames())}, nil
}

func (s *Server) updateRoomMetadata(_ context.Context, m *wire.UpdateRoomMetadataRequest) (*wire.Room, error) {
	if err := wire.CheckMetadata(m.GetMetadata(), nil); err != nil {
		return nil, badArgument(err)
	}
	var info *wire.Room
	err := s.visit(m.GetRoom(), func(a *actor) error {
		a.apply(a.room.SetRoomMetadata(time.Now(), m.GetMetadata()))
		info = roomInfo(a.room.Describe())
		return nil
	})
	return info, err
}

// sendRoomData sends a packet that has no sender.
func (s *Server) sendRoomData(_ context.Context, m *wire.SendDataRequest) (*wire.SendDataResponse, error) {
	packet := wire.ServerData(m)
	payload, err := wire.EncodeData(packet)
	switch {
	case err != nil:
		return nil, twirp.Errorf(twirp.InvalidArgument, "texts must be UTF-8")
	case len(payload) > wire.MaxDataPacketBytes:
		return nil, twirp.Errorf(twirp.InvalidArgument, "a data packet may take %d bytes", wire.MaxDataPacketBytes)
	case m.GetKind() != wire.DataReliable && m.GetKind() != wire.DataLossy:
		return nil, twirp.Errorf(twirp.InvalidArgument, "kind must be RELIABLE or LOSSY")
	}
	err = s.visit(m.GetRoom(), func(a *actor) error {
		for _, id := range a.room.Audience(destinations(a, packet)) {
			a.sendData(id, m.GetKind() == wire.DataReliable, payload)
		}
		return nil
	})
	return &wire.SendDataResponse{}, err
}

// listParticipants answers an empty list for a room that doesn't exist, as callers who poll expect.
func (s *Server) listParticipants(_ context.Context, m *wire.ListParticipantsRequest) (*wire.ListParticipantsResponse, error) {
	return &wire.ListParticipantsResponse{Participants: s.Participants(m.GetRoom())}, nil
}

func (s *Server) getParticipant(_ context.Context, m *wire.RoomParticipantIdentity) (*wire.ParticipantInfo, error) {
	var info *wire.ParticipantInfo
	err := s.visit(m.GetRoom(), func(a *actor) error {
		id, _ := a.room.IDOf(m.GetIdentity())
		p, ok := a.room.Participant(id)
		if !ok {
			return noParticipant(m.GetIdentity(), m.GetRoom())
		}
		info = participantInfo(p)
		return nil
	})
	return info, err
}

// participant is how the API shows a participant.
func (a *actor) participant(p *session) (*wire.ParticipantInfo, error) {
	info, ok := a.room.Participant(p.id)
	if !ok {
		return nil, &room.Refusal{Code: room.NotFound, Text: "this participant is not in the room"}
	}
	return participantInfo(info), nil
}

// removeParticipant takes a participant out; one that is forwarded here is shown no longer. Tokens made before do not let it in again while the
// room lasts; a new one does.
func (s *Server) removeParticipant(_ context.Context, m *wire.RoomParticipantIdentity) (*wire.RemoveParticipantResponse, error) {
	guest := false
	if err := s.visit(m.GetRoom(), func(a *actor) error {
		guest = a.removeGuest(m.GetIdentity())
		return nil
	}); guest || err != nil {
		return &wire.RemoveParticipantResponse{}, err
	}
	err := s.call(m.GetRoom(), m.GetIdentity(), func(a *actor, p *session) error {
		now := time.Now()
		before := now.Truncate(time.Second) // tokens count in seconds
		if ts := m.GetRevokeTokenTs(); ts > 0 {
			before = time.Unix(ts, 0)
		}
		a.revoke(p.identity, before)
		a.apply(a.room.Remove(now, p.id, room.Removed, room.Disconnect))
		return nil
	})
	return &wire.RemoveParticipantResponse{}, err
}

// updateParticipant changes what the request sets; an attribute set to "" is deleted.
func (s *Server) updateParticipant(_ context.Context, m *wire.UpdateParticipantRequest) (*wire.ParticipantInfo, error) {
	if err := wire.CheckName(m.GetName()); err != nil {
		return nil, badArgument(err)
	}
	if err := wire.CheckMetadata(m.GetMetadata(), m.GetAttributes()); err != nil {
		return nil, badArgument(err)
	}
	permission, err := permissionFromWire(m.GetPermission())
	if err != nil {
		return nil, err
	}
	change := room.Metadata{Attributes: m.GetAttributes()}
	if m.GetName() != "" {
		change.Name = &m.Name
	}
	if m.GetMetadata() != "" {
		change.Metadata = &m.Metadata
	}
	var info *wire.ParticipantInfo
	err = s.call(m.GetRoom(), m.GetIdentity(), func(a *actor, p *session) error {
		now := time.Now()
		if change.Name != nil || change.Metadata != nil || len(change.Attributes) > 0 {
			if err := a.updateMetadata(p, change, true); err != nil {
				return err
			}
		}
		if m.GetPermission() != nil {
			effects, err := a.room.SetPermission(now, p.id, permission)
			if err != nil {
				return err
			}
			a.apply(effects)
		}
		if !p.refreshAt.IsZero() { // else one is being made
			p.refreshAt = now // the next token carries the change
		}
		info, err = a.participant(p)
		return err
	})
	return info, err
}

func permissionFromWire(p *wire.ParticipantPermission) (room.Permission, error) {
	out := room.Permission{
		Publish: p.GetCanPublish(), Subscribe: p.GetCanSubscribe(), PublishData: p.GetCanPublishData(),
		UpdateMetadata: p.GetCanUpdateMetadata(), Hidden: p.GetHidden(), Recorder: wire.IsRecorder(p),
	}
	for _, source := range p.GetCanPublishSources() {
		if source <= wire.SourceUnknown || source > wire.SourceScreenShareAudio {
			return out, twirp.Errorf(twirp.InvalidArgument, "unknown track source %d in can_publish_sources", source)
		}
		if !slices.Contains(out.Sources, room.Source(source)) {
			out.Sources = append(out.Sources, room.Source(source))
		}
	}
	return out, nil
}

// mutePublishedTrack mutes. It does not unmute: that a microphone or a camera opens is its owner's
// to decide.
func (s *Server) mutePublishedTrack(_ context.Context, m *wire.MuteRoomTrackRequest) (*wire.MuteRoomTrackResponse, error) {
	var info *wire.TrackInfo
	err := s.call(m.GetRoom(), m.GetIdentity(), func(a *actor, p *session) error {
		track, ok := a.room.Track(m.GetTrackSid())
		switch {
		case !ok || track.Owner != p.id:
			return twirp.Errorf(twirp.NotFound, "the participant %.80q has no track %.80q", m.GetIdentity(), m.GetTrackSid())
		case track.Muted && !m.GetMuted():
			return twirp.Errorf(twirp.FailedPrecondition, "a track is unmuted by its owner alone: remote unmute is not enabled on this server")
		}
		if track.Muted != m.GetMuted() {
			effects, err := a.room.SetMuted(time.Now(), p.id, track.ID, true, true)
			if err != nil {
				return err
			}
			a.apply(effects)
			track, _ = a.room.Track(track.ID)
		}
		info = trackInfo(track)
		return nil
	})
	return &wire.MuteRoomTrackResponse{Track: info}, err
}

func (s *Server) updateSubscriptions(_ context.Context, m *wire.UpdateSubscriptionsRequest) (*wire.UpdateSubscriptionsReply, error) {
	err := s.call(m.GetRoom(), m.GetIdentity(), func(a *actor, p *session) error {
		return a.updateSubscription(p, &wire.UpdateSubscription{
			TrackSids: m.GetTrackSids(), Subscribe: m.GetSubscribe(), ParticipantTracks: m.GetParticipantTracks(),
		})
	})
	return &wire.UpdateSubscriptionsReply{}, err
}

func badArgument(err error) error { return twirp.Errorf(twirp.InvalidArgument, "%v", err) }

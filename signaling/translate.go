package signaling

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// ContractVersion is the version that server_info carries. SDKs gate features on it (livekit-client
// refuses RPC below 1.8.0, for one), so it says which behaviour we have, not who we are.
const ContractVersion = "1.8.0"

// contractProtocol is the newest signal protocol whose server side we speak.
const contractProtocol = 16

// profileOf makes a participant of a client's claims, admission and query.
func profileOf(j joining) room.Profile {
	c, g := j.claims, j.claims.Video
	p := room.Profile{
		ID: wire.NewParticipantID(), Identity: c.Identity, Name: c.Name, Metadata: c.Metadata,
		Attributes:     maps.Clone(c.Attributes),
		Permission:     permissionOf(g),
		AutoSubscribe:  j.query.AutoSubscribe,
		Kind:           int32(wire.KindOf(c.Kind)),
		ClientProtocol: j.query.Client.GetClientProtocol(),
	}
	// Dual mode: the subscriber transport is primary "when protocol ≥ 3 and the token may subscribe".
	// A single one has the publisher's role.
	p.SubscriberPrimary = !j.query.Single && j.query.Client.GetProtocol() >= 3 && p.Permission.Subscribe
	if p.Attributes == nil {
		p.Attributes = map[string]string{}
	}
	if p.Permission.UpdateMetadata {
		maps.Copy(p.Attributes, j.query.Attributes)
		if j.query.Metadata != "" {
			p.Metadata = j.query.Metadata
		}
	}
	if j.admission.Name != "" {
		p.Name = j.admission.Name
	}
	if j.admission.Metadata != "" {
		p.Metadata = j.admission.Metadata
	}
	maps.Copy(p.Attributes, j.admission.Attributes)
	if _, err := wire.Voices(p.Attributes); err != nil {
		delete(p.Attributes, wire.VoicesAttribute) // the application's: tokens made from it would be refused
	}
	return p
}

func permissionOf(g wire.Grant) room.Permission {
	p := room.Permission{
		Publish: g.MayPublish(), Subscribe: g.MaySubscribe(), PublishData: g.MayPublishData(),
		UpdateMetadata: g.MayUpdateOwnMetadata(), Hidden: g.Hidden, Recorder: g.Recorder,
	}
	for _, name := range g.CanPublishSources {
		if i := slices.Index(wire.SourceNames, name); i >= 0 {
			p.Sources = append(p.Sources, room.Source(i+1)) // the names are in the order of the sources
		}
	}
	return p
}

// grantWith is permissionOf's inverse, for refreshed tokens.
func grantWith(g wire.Grant, p room.Permission) wire.Grant {
	g.CanPublish, g.CanSubscribe, g.CanPublishData = &p.Publish, &p.Subscribe, &p.PublishData
	g.CanUpdateOwnMetadata = &p.UpdateMetadata
	g.Hidden, g.Recorder = p.Hidden, p.Recorder
	g.CanPublishSources = nil
	for _, s := range p.Sources {
		if i := int(s) - 1; i >= 0 && i < len(wire.SourceNames) {
			g.CanPublishSources = append(g.CanPublishSources, wire.SourceNames[i])
		}
	}
	return g
}

// joinResponse is the first message to a client that joined.
func (a *actor) joinResponse(s *session, e room.SendJoin) *wire.SignalResponse {
	limits := a.srv.cfg.Limits
	return &wire.SignalResponse{Message: &wire.ResponseJoin{Join: &wire.JoinResponse{
		Room:                 roomInfo(e.Room),
		Participant:          participantInfo(e.Self),
		OtherParticipants:    participantInfos(e.Others),
		ServerVersion:        ContractVersion,
		IceServers:           a.iceServers(s),
		SubscriberPrimary:    e.Self.SubscriberPrimary,
		ClientConfiguration:  &wire.ClientConfiguration{},
		PingTimeout:          int32(limits.PingTimeout / time.Second),
		PingInterval:         int32(limits.PingInterval / time.Second),
		ServerInfo:           a.serverInfo(),
		EnabledPublishCodecs: a.srv.cfg.Codecs,
		// The client may connect its publisher at once instead of on its first track.
		FastPublish: e.Self.Permission.Publish,
	}}}
}

func (a *actor) serverInfo() *wire.ServerInfo {
	return &wire.ServerInfo{
		Version: ContractVersion, Protocol: contractProtocol, NodeId: a.srv.nodeID,
		DebugInfo: "anytime " + a.srv.cfg.Version,
	}
}

func (a *actor) iceServers(s *session) []*wire.ICEServer {
	if a.srv.cfg.ICEServers == nil {
		return nil
	}
	return a.srv.cfg.ICEServers(s.identity)
}

func roomInfo(d room.Description) *wire.Room {
	return &wire.Room{
		Sid: d.ID, Name: d.Name, Metadata: d.Metadata,
		CreationTime: d.CreatedAt.Unix(), CreationTimeMs: d.CreatedAt.UnixMilli(),
		EmptyTimeout: uint32(d.EmptyTimeout / time.Second), DepartureTimeout: uint32(d.DepartureTimeout / time.Second),
		MaxParticipants: uint32(d.Max), NumParticipants: uint32(d.Participants), NumPublishers: uint32(d.Publishers),
	}
}

func participantInfos(list []room.Info) []*wire.ParticipantInfo {
	out := make([]*wire.ParticipantInfo, len(list))
	for i, p := range list {
		out[i] = participantInfo(p)
	}
	return out
}

func participantInfo(p room.Info) *wire.ParticipantInfo {
	state := map[room.State]wire.ParticipantState{
		room.Joined: wire.StateJoined, room.Active: wire.StateActive, room.Departed: wire.StateDisconnected,
	}[p.State]
	info := &wire.ParticipantInfo{
		Sid: p.ID, Identity: p.Identity, Name: p.Name, Metadata: p.Metadata, Attributes: p.Attributes,
		State: state, JoinedAt: p.JoinedAt.Unix(), JoinedAtMs: p.JoinedAt.UnixMilli(), Version: p.Version,
		IsPublisher: p.Publisher, Kind: wire.ParticipantKind(p.Kind), ClientProtocol: p.ClientProtocol,
		DisconnectReason: reasonToWire(p.Reason),
		Permission: &wire.ParticipantPermission{
			CanSubscribe: p.Permission.Subscribe, CanPublish: p.Permission.Publish,
			CanPublishData: p.Permission.PublishData, CanUpdateMetadata: p.Permission.UpdateMetadata,
			Hidden: p.Permission.Hidden,
		},
	}
	if p.Forwarded {
		info.KindDetails = append(info.KindDetails, wire.KindForwarded)
	}
	for _, s := range p.Permission.Sources {
		info.Permission.CanPublishSources = append(info.Permission.CanPublishSources, wire.TrackSource(s))
	}
	for _, t := range p.Tracks {
		info.Tracks = append(info.Tracks, trackInfo(t))
	}
	return info
}

func trackInfo(t room.Track) *wire.TrackInfo {
	info := &wire.TrackInfo{
		Sid: t.ID, Name: t.Name, Type: wire.TrackType(t.Kind), Source: wire.TrackSource(t.Source),
		Muted: t.Muted, Width: t.Width, Height: t.Height, Stream: t.Stream, MimeType: t.MimeType,
		Encryption: wire.EncryptionType(t.Encryption), BackupCodecPolicy: wire.BackupCodecPolicy(t.BackupPolicy),
		DisableRed: t.DisableRED,
	}
	wire.FillOlder(info, t.Stereo, t.DisableDTX, layersToWire(t.Layers))
	for _, f := range t.Features {
		info.AudioFeatures = append(info.AudioFeatures, wire.AudioTrackFeature(f))
	}
	for _, c := range t.Codecs {
		layers := c.Layers
		if len(layers) == 0 {
			layers = t.Layers
		}
		info.Codecs = append(info.Codecs, &wire.SimulcastCodecInfo{
			MimeType: c.MimeType, Cid: c.CID, Layers: layersToWire(layers), VideoLayerMode: wire.VideoLayerMode(c.LayerMode),
		})
	}
	return info
}

func layersToWire(layers []room.Layer) []*wire.VideoLayer {
	var out []*wire.VideoLayer
	for _, l := range layers {
		out = append(out, &wire.VideoLayer{
			Quality: wire.VideoQuality(l.Quality), Width: l.Width, Height: l.Height, Bitrate: l.Bitrate,
			Ssrc: l.SSRC, SpatialLayer: l.SpatialLayer, Rid: l.RID,
		})
	}
	return out
}

func layersFromWire(layers []*wire.VideoLayer) []room.Layer {
	var out []room.Layer
	for _, l := range layers {
		out = append(out, room.Layer{
			Quality: int32(l.GetQuality()), Width: l.GetWidth(), Height: l.GetHeight(), Bitrate: l.GetBitrate(),
			SSRC: l.GetSsrc(), SpatialLayer: l.GetSpatialLayer(), RID: l.GetRid(),
		})
	}
	return out
}

// trackFromRequest checks what a client announces.
func trackFromRequest(r *wire.AddTrackRequest) (room.Track, error) {
	tooLong := func(what string) error {
		return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("a track's %s may take %d bytes", what, wire.MaxTrackNameBytes)}
	}
	switch {
	case r.GetType() != wire.TrackAudio && r.GetType() != wire.TrackVideo:
		return room.Track{}, &room.Refusal{Code: room.Unsupported, Text: "a track must be audio or video"}
	case r.GetCid() == "":
		return room.Track{}, invalid("a track needs a cid, the id of its media in the session description")
	case len(r.GetCid()) > wire.MaxTrackNameBytes:
		return room.Track{}, tooLong("cid")
	case len(r.GetName()) > wire.MaxTrackNameBytes:
		return room.Track{}, tooLong("name")
	case len(r.GetStream()) > wire.MaxTrackNameBytes:
		return room.Track{}, tooLong("stream")
	case len(r.GetLayers()) > wire.MaxLayers || len(r.GetSimulcastCodecs()) > wire.MaxLayers:
		return room.Track{}, &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("a track has at most %d layers and codecs", wire.MaxLayers)}
	case len(r.GetAudioFeatures()) > 32:
		return room.Track{}, invalid("a track has at most 32 features")
	case r.GetSource() < wire.SourceUnknown || r.GetSource() > wire.SourceScreenShareAudio:
		return room.Track{}, invalid("unknown track source %d", r.GetSource())
	}
	t := room.Track{
		ID: wire.NewTrackID(), CID: r.GetCid(), Name: r.GetName(),
		Kind: room.Kind(r.GetType()), Source: room.Source(r.GetSource()),
		Stream: r.GetStream(), Muted: r.GetMuted(), Width: r.GetWidth(), Height: r.GetHeight(),
		Layers: layersFromWire(r.GetLayers()), DisableRED: r.GetDisableRed(),
		Encryption: int32(r.GetEncryption()), BackupPolicy: int32(r.GetBackupCodecPolicy()),
	}
	if t.BackupPolicy < 0 || t.BackupPolicy > int32(OneCodec) {
		t.BackupPolicy = int32(PreferOneCodec)
	}
	t.Stereo, t.DisableDTX = wire.AudioFlags(r)
	for _, f := range r.GetAudioFeatures() {
		t.Features = append(t.Features, int32(f))
	}
	if t.Stream == "" {
		t.Stream = streamOf(t.Source)
	}
	for _, c := range r.GetSimulcastCodecs() {
		codec, err := codecFromWire(t.Kind, c)
		if err != nil {
			return room.Track{}, err
		}
		t.Codecs = append(t.Codecs, codec)
	}
	if t.Kind == room.Audio {
		t.MimeType = "audio/opus"
	} else if len(t.Codecs) > 0 {
		t.MimeType = t.Codecs[0].MimeType
	}
	return t, nil
}

func codecFromWire(k room.Kind, c *wire.SimulcastCodec) (room.Codec, error) {
	if len(c.GetCodec()) > 32 || len(c.GetCid()) > wire.MaxTrackNameBytes || len(c.GetLayers()) > wire.MaxLayers {
		return room.Codec{}, invalid("a track's codecs hold a name, a cid and at most %d layers each", wire.MaxLayers)
	}
	return room.Codec{
		MimeType: mimeOf(k, c.GetCodec()), CID: c.GetCid(),
		Layers: layersFromWire(c.GetLayers()), LayerMode: int32(c.GetVideoLayerMode()),
	}, nil
}

// codecFromRequest checks what a client announces of a further codec. livekit-client names the one in
// simulcast_codecs, and its layers beside it, as if it were a track of its own.
func codecFromRequest(r *wire.AddTrackRequest) (room.Codec, error) {
	switch {
	case r.GetType() != wire.TrackVideo:
		return room.Codec{}, &room.Refusal{Code: room.Unsupported, Text: "only a video track may have further codecs"}
	case len(r.GetSimulcastCodecs()) != 1:
		return room.Codec{}, invalid("an add_track with a sid names one codec")
	case len(r.GetCid()) > wire.MaxTrackNameBytes || len(r.GetLayers()) > wire.MaxLayers:
		return room.Codec{}, invalid("a codec holds a cid of %d bytes and at most %d layers", wire.MaxTrackNameBytes, wire.MaxLayers)
	}
	c, err := codecFromWire(room.Video, r.GetSimulcastCodecs()[0])
	if err != nil {
		return c, err
	}
	if c.CID == "" {
		c.CID = r.GetCid()
	}
	if len(c.Layers) == 0 {
		c.Layers = layersFromWire(r.GetLayers())
	}
	return c, nil
}

// streamOf groups a client's tracks for synchronisation where it doesn't say: camera with
// microphone, screen with its sound.
func streamOf(s room.Source) string {
	switch s {
	case room.Camera, room.Microphone:
		return "camera"
	case room.ScreenShare, room.ScreenShareAudio:
		return "screen_share"
	}
	return ""
}

func mimeOf(k room.Kind, codec string) string {
	if codec == "" {
		return ""
	}
	if k == room.Audio {
		return "audio/" + codec
	}
	return "video/" + codec
}

func publicationOf(t room.Track) Publication {
	p := Publication{
		ID: t.ID, CID: t.CID, Video: t.Kind == room.Video, Stream: t.Stream, Muted: t.Muted,
		Layers: layersToMedia(t.Layers), Policy: BackupPolicy(t.BackupPolicy), Encrypted: t.Encryption != 0,
		Still: t.Source == room.ScreenShare,
	}
	if t.Kind == room.Audio {
		p.Stereo, p.DTX, p.RED = t.Stereo, !t.DisableDTX, !t.DisableRED
		return p
	}
	p.MimeType = t.MimeType
	if len(t.Codecs) > 0 {
		if first := t.Codecs[0]; len(first.Layers) > 0 {
			p.Layers = layersToMedia(first.Layers)
		}
		for _, c := range t.Codecs[1:] {
			p.Backups = append(p.Backups, codecToMedia(c))
		}
	}
	return p
}

func codecToMedia(c room.Codec) PublicationCodec {
	return PublicationCodec{MimeType: c.MimeType, CID: c.CID, Layers: layersToMedia(c.Layers)}
}

func layersToMedia(layers []room.Layer) []PublicationLayer {
	var out []PublicationLayer
	for _, l := range layers {
		out = append(out, PublicationLayer{
			Quality: uint8(min(max(l.Quality, 0), 2)), Width: l.Width, Height: l.Height, Bitrate: l.Bitrate, RID: l.RID,
		})
	}
	return out
}

func settingsFromWire(t *wire.UpdateTrackSettings) room.Settings {
	s := room.Settings{
		Disabled: t.GetDisabled() || t.GetQuality() == wire.QualityOff,
		Quality:  int32(t.GetQuality()), Width: t.GetWidth(), Height: t.GetHeight(),
		FPS: t.GetFps(), Priority: t.GetPriority(),
	}
	s.Quality = min(max(s.Quality, 0), 2)
	return s
}

func settingsToMedia(s room.Settings) SubscriptionSettings {
	return SubscriptionSettings{
		Disabled: s.Disabled, Quality: uint8(s.Quality), Width: s.Width, Height: s.Height, FPS: s.FPS, Priority: s.Priority,
	}
}

func grantsFromWire(p *wire.SubscriptionPermission) (room.SubscriptionGrants, error) {
	g := room.SubscriptionGrants{Everybody: p.GetAllParticipants()}
	ids := 0
	for _, t := range p.GetTrackPermissions() {
		ids += 1 + len(t.GetTrackSids())
		g.Grants = append(g.Grants, room.SubscriptionGrant{
			Participant: t.GetParticipantSid(), Identity: t.GetParticipantIdentity(),
			AllTracks: t.GetAllTracks(), Tracks: slices.Clone(t.GetTrackSids()),
		})
		if ids > wire.MaxSIDs {
			return g, &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("at most %d grants in one message", wire.MaxSIDs)}
		}
	}
	return g, nil
}

func speakerInfos(list []room.Speaker) []*wire.SpeakerInfo {
	out := make([]*wire.SpeakerInfo, len(list))
	for i, s := range list {
		out[i] = &wire.SpeakerInfo{Sid: s.Participant, Level: s.Level, Active: s.Active}
	}
	return out
}

func qualityInfos(list []room.ParticipantQuality) []*wire.ConnectionQualityInfo {
	out := make([]*wire.ConnectionQualityInfo, len(list))
	for i, q := range list {
		quality := map[room.Quality]wire.ConnectionQuality{
			room.Lost: wire.ConnectionLost, room.Poor: wire.ConnectionPoor,
			room.Good: wire.ConnectionGood, room.Excellent: wire.ConnectionExcellent,
		}[q.Quality]
		out[i] = &wire.ConnectionQualityInfo{ParticipantSid: q.Participant, Quality: quality, Score: q.Score}
	}
	return out
}

// qualityUpdate tells a publisher which layers are wanted. Codecs go by the names that SDKs give them,
// "vp8" and the like.
func qualityUpdate(e room.SendLayers) *wire.SubscribedQualityUpdate {
	u := &wire.SubscribedQualityUpdate{TrackSid: e.TrackID}
	for _, c := range e.Codecs {
		_, name, _ := strings.Cut(strings.ToLower(c.MimeType), "/")
		codec := &wire.SubscribedCodec{Codec: name}
		for q := range 3 {
			codec.Qualities = append(codec.Qualities, &wire.SubscribedQuality{Quality: wire.VideoQuality(q), Enabled: q <= c.Highest})
		}
		u.SubscribedCodecs = append(u.SubscribedCodecs, codec)
	}
	if len(u.SubscribedCodecs) > 0 {
		wire.FillOlderQualities(u, u.SubscribedCodecs[0].Qualities)
	}
	return u
}

func targetToWire(t Target) wire.SignalTarget {
	if t == Subscriber {
		return wire.TargetSubscriber
	}
	return wire.TargetPublisher
}

func targetFromWire(t wire.SignalTarget) Target {
	if t == wire.TargetSubscriber {
		return Subscriber
	}
	return Publisher
}

var wireReasons = map[room.Reason]wire.DisconnectReason{
	room.ReasonUnknown:     wire.ReasonUnknown,
	room.ClientLeft:        wire.ReasonClientInitiated,
	room.DuplicateIdentity: wire.ReasonDuplicateIdentity,
	room.ServerShutdown:    wire.ReasonServerShutdown,
	room.Removed:           wire.ReasonParticipantRemoved,
	room.RoomDeleted:       wire.ReasonRoomDeleted,
	room.StateMismatch:     wire.ReasonStateMismatch,
	room.JoinFailed:        wire.ReasonJoinFailure,
	room.SignalLost:        wire.ReasonSignalClose,
	room.MediaLost:         wire.ReasonMediaFailure,
}

func reasonToWire(r room.Reason) wire.DisconnectReason { return wireReasons[r] }

func reasonFromWire(r wire.DisconnectReason) room.Reason {
	for ours, theirs := range wireReasons {
		if theirs == r {
			return ours
		}
	}
	return room.ReasonUnknown
}

package wire

import (
	lk "github.com/livekit/protocol/livekit"
)

// The two envelopes: what a client sends, what the server sends.
type (
	SignalRequest  = lk.SignalRequest
	SignalResponse = lk.SignalResponse
)

// Messages of both directions.
type (
	SessionDescription = lk.SessionDescription
	TrickleRequest     = lk.TrickleRequest
	MuteTrackRequest   = lk.MuteTrackRequest
	LeaveRequest       = lk.LeaveRequest
	Ping               = lk.Ping
	Pong               = lk.Pong
	DataPacket         = lk.DataPacket
	UserPacket         = lk.UserPacket
)

// Messages of clients.
type (
	AddTrackRequest           = lk.AddTrackRequest
	UpdateSubscription        = lk.UpdateSubscription
	UpdateTrackSettings       = lk.UpdateTrackSettings
	SubscriptionPermission    = lk.SubscriptionPermission
	TrackPermission           = lk.TrackPermission
	SyncState                 = lk.SyncState
	DataReceiveState          = lk.DataChannelReceiveState
	UpdateParticipantMetadata = lk.UpdateParticipantMetadata
	UpdateLocalAudioTrack     = lk.UpdateLocalAudioTrack
	UpdateLocalVideoTrack     = lk.UpdateLocalVideoTrack
	SimulcastCodec            = lk.SimulcastCodec
	JoinRequest               = lk.JoinRequest
	WrappedJoinRequest        = lk.WrappedJoinRequest
	ConnectionSettings        = lk.ConnectionSettings
	ParticipantTracks         = lk.ParticipantTracks
)

// Messages of the server.
type (
	JoinResponse                 = lk.JoinResponse
	ReconnectResponse            = lk.ReconnectResponse
	TrackPublishedResponse       = lk.TrackPublishedResponse
	TrackUnpublishedResponse     = lk.TrackUnpublishedResponse
	ParticipantUpdate            = lk.ParticipantUpdate
	SpeakersChanged              = lk.SpeakersChanged
	RoomUpdate                   = lk.RoomUpdate
	ConnectionQualityUpdate      = lk.ConnectionQualityUpdate
	ConnectionQualityInfo        = lk.ConnectionQualityInfo
	SubscriptionPermissionUpdate = lk.SubscriptionPermissionUpdate
	SubscriptionResponse         = lk.SubscriptionResponse
	RequestResponse              = lk.RequestResponse
	TrackSubscribed              = lk.TrackSubscribed
	MediaSectionsRequirement     = lk.MediaSectionsRequirement
	RoomMoved                    = lk.RoomMovedResponse
	SubscribedQualityUpdate      = lk.SubscribedQualityUpdate
	SubscribedCodec              = lk.SubscribedCodec
	SubscribedQuality            = lk.SubscribedQuality
	StreamStateUpdate            = lk.StreamStateUpdate
	StreamStateInfo              = lk.StreamStateInfo
)

// Things that messages describe.
type (
	Room                  = lk.Room
	ParticipantInfo       = lk.ParticipantInfo
	ParticipantPermission = lk.ParticipantPermission
	TrackInfo             = lk.TrackInfo
	VideoLayer            = lk.VideoLayer
	SimulcastCodecInfo    = lk.SimulcastCodecInfo
	SpeakerInfo           = lk.SpeakerInfo
	ICEServer             = lk.ICEServer
	Codec                 = lk.Codec
	ClientInfo            = lk.ClientInfo
	ClientConfiguration   = lk.ClientConfiguration
	ServerInfo            = lk.ServerInfo
)

// Enumerations.
type (
	SignalTarget      = lk.SignalTarget
	TrackType         = lk.TrackType
	TrackSource       = lk.TrackSource
	VideoQuality      = lk.VideoQuality
	VideoLayerMode    = lk.VideoLayer_Mode
	EncryptionType    = lk.Encryption_Type
	AudioTrackFeature = lk.AudioTrackFeature
	BackupCodecPolicy = lk.BackupCodecPolicy
	ParticipantState  = lk.ParticipantInfo_State
	ParticipantKind   = lk.ParticipantInfo_Kind
	DisconnectReason  = lk.DisconnectReason
	LeaveAction       = lk.LeaveRequest_Action
	ReconnectReason   = lk.ReconnectReason
	ConnectionQuality = lk.ConnectionQuality
	SubscriptionError = lk.SubscriptionError
	RequestReason     = lk.RequestResponse_Reason
	SDK               = lk.ClientInfo_SDK
)

const (
	TargetPublisher  = lk.SignalTarget_PUBLISHER
	TargetSubscriber = lk.SignalTarget_SUBSCRIBER

	TrackAudio = lk.TrackType_AUDIO
	TrackVideo = lk.TrackType_VIDEO
	TrackData  = lk.TrackType_DATA

	SourceUnknown          = lk.TrackSource_UNKNOWN
	SourceCamera           = lk.TrackSource_CAMERA
	SourceMicrophone       = lk.TrackSource_MICROPHONE
	SourceScreenShare      = lk.TrackSource_SCREEN_SHARE
	SourceScreenShareAudio = lk.TrackSource_SCREEN_SHARE_AUDIO

	QualityLow    = lk.VideoQuality_LOW
	QualityMedium = lk.VideoQuality_MEDIUM
	QualityHigh   = lk.VideoQuality_HIGH
	QualityOff    = lk.VideoQuality_OFF

	StateJoining      = lk.ParticipantInfo_JOINING
	StateJoined       = lk.ParticipantInfo_JOINED
	StateActive       = lk.ParticipantInfo_ACTIVE
	StateDisconnected = lk.ParticipantInfo_DISCONNECTED

	LeaveDisconnect = lk.LeaveRequest_DISCONNECT
	LeaveResume     = lk.LeaveRequest_RESUME
	LeaveReconnect  = lk.LeaveRequest_RECONNECT

	ReasonUnknown            = lk.DisconnectReason_UNKNOWN_REASON
	ReasonClientInitiated    = lk.DisconnectReason_CLIENT_INITIATED
	ReasonDuplicateIdentity  = lk.DisconnectReason_DUPLICATE_IDENTITY
	ReasonServerShutdown     = lk.DisconnectReason_SERVER_SHUTDOWN
	ReasonParticipantRemoved = lk.DisconnectReason_PARTICIPANT_REMOVED
	ReasonRoomDeleted        = lk.DisconnectReason_ROOM_DELETED
	ReasonStateMismatch      = lk.DisconnectReason_STATE_MISMATCH
	ReasonJoinFailure        = lk.DisconnectReason_JOIN_FAILURE
	ReasonSignalClose        = lk.DisconnectReason_SIGNAL_CLOSE
	ReasonConnectionTimeout  = lk.DisconnectReason_CONNECTION_TIMEOUT
	ReasonMediaFailure       = lk.DisconnectReason_MEDIA_FAILURE

	BackupPreferRegression = lk.BackupCodecPolicy_PREFER_REGRESSION
	BackupSimulcast        = lk.BackupCodecPolicy_SIMULCAST
	BackupRegression       = lk.BackupCodecPolicy_REGRESSION

	StreamActive = lk.StreamState_ACTIVE
	StreamPaused = lk.StreamState_PAUSED

	ConnectionPoor      = lk.ConnectionQuality_POOR
	ConnectionGood      = lk.ConnectionQuality_GOOD
	ConnectionExcellent = lk.ConnectionQuality_EXCELLENT
	ConnectionLost      = lk.ConnectionQuality_LOST

	SubscriptionUnknown          = lk.SubscriptionError_SE_UNKNOWN
	SubscriptionCodecUnsupported = lk.SubscriptionError_SE_CODEC_UNSUPPORTED
	SubscriptionTrackNotFound    = lk.SubscriptionError_SE_TRACK_NOTFOUND

	RequestOK              = lk.RequestResponse_OK
	RequestNotFound        = lk.RequestResponse_NOT_FOUND
	RequestNotAllowed      = lk.RequestResponse_NOT_ALLOWED
	RequestLimitExceeded   = lk.RequestResponse_LIMIT_EXCEEDED
	RequestUnsupportedType = lk.RequestResponse_UNSUPPORTED_TYPE
	RequestFailed          = lk.RequestResponse_UNCLASSIFIED_ERROR
	RequestInvalid         = lk.RequestResponse_INVALID_REQUEST

	JoinPlain = lk.WrappedJoinRequest_NONE
	JoinGZIP  = lk.WrappedJoinRequest_GZIP

	DataReliable = lk.DataPacket_RELIABLE
	DataLossy    = lk.DataPacket_LOSSY

	SDKUnknown     = lk.ClientInfo_UNKNOWN
	SDKJS          = lk.ClientInfo_JS
	SDKSwift       = lk.ClientInfo_SWIFT
	SDKAndroid     = lk.ClientInfo_ANDROID
	SDKFlutter     = lk.ClientInfo_FLUTTER
	SDKGo          = lk.ClientInfo_GO
	SDKUnity       = lk.ClientInfo_UNITY
	SDKReactNative = lk.ClientInfo_REACT_NATIVE
	SDKRust        = lk.ClientInfo_RUST
	SDKPython      = lk.ClientInfo_PYTHON
	SDKCpp         = lk.ClientInfo_CPP
	SDKUnityWeb    = lk.ClientInfo_UNITY_WEB
	SDKNode        = lk.ClientInfo_NODE
	SDKUnreal      = lk.ClientInfo_UNREAL
	SDKESP32       = lk.ClientInfo_ESP32
	SDKDotNet      = lk.ClientInfo_DOTNET
)

// participantKinds are the values of a token's kind claim.
var participantKinds = map[string]ParticipantKind{
	"":         lk.ParticipantInfo_STANDARD,
	"standard": lk.ParticipantInfo_STANDARD,
	"ingress":  lk.ParticipantInfo_INGRESS,
	"egress":   lk.ParticipantInfo_EGRESS,
	"sip":      lk.ParticipantInfo_SIP,
	"agent":    lk.ParticipantInfo_AGENT,
}

// KindForwarded is the kind detail of a participant of another room.
const KindForwarded = lk.ParticipantInfo_FORWARDED

// KindOf returns the participant kind a token's kind claim names, STANDARD when it names none.
func KindOf(claim string) ParticipantKind { return participantKinds[claim] }

// The payloads of the request envelope, to switch on and to build requests with.
type (
	RequestOffer                  = lk.SignalRequest_Offer
	RequestAnswer                 = lk.SignalRequest_Answer
	RequestTrickle                = lk.SignalRequest_Trickle
	RequestAddTrack               = lk.SignalRequest_AddTrack
	RequestMute                   = lk.SignalRequest_Mute
	RequestSubscription           = lk.SignalRequest_Subscription
	RequestTrackSetting           = lk.SignalRequest_TrackSetting
	RequestLeave                  = lk.SignalRequest_Leave
	RequestSubscriptionPermission = lk.SignalRequest_SubscriptionPermission
	RequestSyncState              = lk.SignalRequest_SyncState
	RequestPing                   = lk.SignalRequest_Ping
	RequestPingReq                = lk.SignalRequest_PingReq
	RequestUpdateMetadata         = lk.SignalRequest_UpdateMetadata
	RequestUpdateAudioTrack       = lk.SignalRequest_UpdateAudioTrack
	RequestUpdateVideoTrack       = lk.SignalRequest_UpdateVideoTrack
)

// The payloads of the response envelope, to switch on and to build responses with.
type (
	ResponseJoin                         = lk.SignalResponse_Join
	ResponseReconnect                    = lk.SignalResponse_Reconnect
	ResponseAnswer                       = lk.SignalResponse_Answer
	ResponseOffer                        = lk.SignalResponse_Offer
	ResponseTrickle                      = lk.SignalResponse_Trickle
	ResponseUpdate                       = lk.SignalResponse_Update
	ResponseTrackPublished               = lk.SignalResponse_TrackPublished
	ResponseTrackUnpublished             = lk.SignalResponse_TrackUnpublished
	ResponseLeave                        = lk.SignalResponse_Leave
	ResponseMute                         = lk.SignalResponse_Mute
	ResponseSpeakersChanged              = lk.SignalResponse_SpeakersChanged
	ResponseRoomUpdate                   = lk.SignalResponse_RoomUpdate
	ResponseConnectionQuality            = lk.SignalResponse_ConnectionQuality
	ResponseSubscriptionPermissionUpdate = lk.SignalResponse_SubscriptionPermissionUpdate
	ResponseRefreshToken                 = lk.SignalResponse_RefreshToken
	ResponsePong                         = lk.SignalResponse_Pong
	ResponsePongResp                     = lk.SignalResponse_PongResp
	ResponseSubscriptionResponse         = lk.SignalResponse_SubscriptionResponse
	ResponseRequestResponse              = lk.SignalResponse_RequestResponse
	ResponseTrackSubscribed              = lk.SignalResponse_TrackSubscribed
	ResponseRoomMoved                    = lk.SignalResponse_RoomMoved
	ResponseMediaSections                = lk.SignalResponse_MediaSectionsRequirement
	ResponseSubscribedQuality            = lk.SignalResponse_SubscribedQualityUpdate
	ResponseStreamState                  = lk.SignalResponse_StreamStateUpdate
)

// The payloads a RequestResponse may echo, to tell the client which request it answers.
type (
	EchoTrickle          = lk.RequestResponse_Trickle
	EchoAddTrack         = lk.RequestResponse_AddTrack
	EchoMute             = lk.RequestResponse_Mute
	EchoUpdateMetadata   = lk.RequestResponse_UpdateMetadata
	EchoUpdateAudioTrack = lk.RequestResponse_UpdateAudioTrack
	EchoUpdateVideoTrack = lk.RequestResponse_UpdateVideoTrack
)

// The payload of a DataPacket that carries an application's bytes.
type DataUser = lk.DataPacket_User

// ProtocolWithActions is the first protocol whose clients look at a leave's action; older ones look at
// can_reconnect.
const ProtocolWithActions = 13

// Leave makes the message that ends a session, or has the client resume it.
func Leave(action LeaveAction, reason DisconnectReason) *SignalResponse {
	return &SignalResponse{Message: &ResponseLeave{Leave: &LeaveRequest{
		CanReconnect: action != LeaveDisconnect,
		Action:       action,
		Reason:       reason,
	}}}
}

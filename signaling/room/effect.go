package room

import "time"

// Effect is something for the caller to do. To and Subscriber name local participants by id.
type Effect interface{ effect() }

// Effects that send a message.
type (
	// SendJoin is the first message to a participant that joined.
	SendJoin struct {
		To     string
		Self   Info
		Others []Info
		Room   Description
	}
	// SendMoved tells a participant that it is in another room now.
	SendMoved struct {
		To     string
		Self   Info
		Others []Info
		Room   Description
	}
	// SendReconnect is the first message to a participant that resumed.
	SendReconnect struct{ To string }
	// AskToResume asks a client whose media is away to connect anew and to restart ICE. Its connection
	// stays until it does.
	AskToResume struct{ To string }
	// SendUpdate tells what changed about participants.
	SendUpdate struct {
		To           []string
		Participants []Info
	}
	// SendRoom tells what changed about the room.
	SendRoom struct {
		To   []string
		Room Description
	}
	// SendTrackPublished answers AddTrack.
	SendTrackPublished struct {
		To    string
		CID   string
		Track Track
	}
	// SendTrackUnpublished tells a publisher that the server ended its track.
	SendTrackUnpublished struct{ To, TrackID string }
	// SendMute asks a publisher to mute its track.
	SendMute struct {
		To, TrackID string
		Muted       bool
	}
	// SendTrackSubscribed tells a publisher of the first subscription to its track.
	SendTrackSubscribed struct{ To, TrackID string }
	// SendSpeakers tells who speaks, and who stopped.
	SendSpeakers struct {
		To       []string
		Speakers []Speaker
	}
	// SendQuality tells the connection quality of participants.
	SendQuality struct {
		To        []string
		Qualities []ParticipantQuality
	}
	// SendSubscriptionPermission tells a subscriber that a publisher allows, or no longer allows, it.
	SendSubscriptionPermission struct {
		To, Owner, TrackID string
		Allowed            bool
	}
	// SendSubscriptionError tells a subscriber that no media will come.
	SendSubscriptionError struct {
		To, TrackID string
		Failure     SubscriptionFailure
	}
	// SendLayers tells a publisher what is wanted of its video track.
	SendLayers struct {
		To, TrackID string
		Codecs      []CodecDemand
	}
	// SendStreamState tells a subscriber that nothing comes of a track, or that it comes again.
	SendStreamState struct {
		To, Owner, TrackID string
		Paused             bool
	}
	// SendLeave ends a participant's connection: the last message, then close.
	SendLeave struct {
		To     string
		Action LeaveAction
		Reason Reason
	}
)

// Effects on media.
type (
	// OpenMedia makes a participant's transports.
	OpenMedia struct{ ID string }
	// CloseMedia ends them.
	CloseMedia struct{ ID string }
	// PublishTrack announces a track to the SFU before its media arrives.
	PublishTrack struct{ Track Track }
	// PublishCodec announces a further codec of a track, or that one which was only named comes.
	PublishCodec struct {
		Owner, TrackID string
		Codec          Codec
	}
	// UnpublishTrack ends it.
	UnpublishTrack struct{ Owner, TrackID string }
	// MuteTrack tells the SFU that a track is silent or dark on purpose.
	MuteTrack struct {
		Owner, TrackID string
		Muted          bool
	}
	// Subscribe forwards a track to a participant.
	Subscribe struct{ Subscriber, TrackID string }
	// Unsubscribe stops it.
	Unsubscribe struct{ Subscriber, TrackID string }
	// Configure says how a track is to be forwarded.
	Configure struct {
		Subscriber, TrackID string
		Settings            Settings
	}
	// RestartICE makes a new subscriber offer with fresh ICE credentials.
	RestartICE struct{ ID string }
)

// Effects for observers.
type (
	// ParticipantJoined and ParticipantLeft come once each per participant.
	ParticipantJoined struct{ Participant Info }
	ParticipantLeft   struct{ Participant Info }
	// RemoteLeft: a participant that lives elsewhere is no longer shown here.
	RemoteLeft struct{ Participant Info }
	// ParticipantActive: its media connected for the first time.
	ParticipantActive struct{ Participant Info }
	// ParticipantLost: its connection broke and its media is away; it has the departure grace to come
	// back; then ParticipantBack or ParticipantLeft follows.
	ParticipantLost struct{ Participant Info }
	ParticipantBack struct{ Participant Info }
	// TrackPublished and TrackUnpublished come once each per track that carried media.
	TrackPublished   struct{ Track Track }
	TrackUnpublished struct{ Track Track }
	// Finished: the room has been empty long enough; nothing follows.
	Finished struct{}
)

func (SendJoin) effect()                   {}
func (SendMoved) effect()                  {}
func (SendReconnect) effect()              {}
func (AskToResume) effect()                {}
func (SendUpdate) effect()                 {}
func (SendRoom) effect()                   {}
func (SendTrackPublished) effect()         {}
func (SendTrackUnpublished) effect()       {}
func (SendMute) effect()                   {}
func (SendTrackSubscribed) effect()        {}
func (SendSpeakers) effect()               {}
func (SendQuality) effect()                {}
func (SendSubscriptionPermission) effect() {}
func (SendSubscriptionError) effect()      {}
func (SendLayers) effect()                 {}
func (SendStreamState) effect()            {}
func (SendLeave) effect()                  {}
func (OpenMedia) effect()                  {}
func (CloseMedia) effect()                 {}
func (PublishTrack) effect()               {}
func (PublishCodec) effect()               {}
func (UnpublishTrack) effect()             {}
func (MuteTrack) effect()                  {}
func (Subscribe) effect()                  {}
func (Unsubscribe) effect()                {}
func (Configure) effect()                  {}
func (RestartICE) effect()                 {}
func (ParticipantJoined) effect()          {}
func (ParticipantLeft) effect()            {}
func (RemoteLeft) effect()                 {}
func (ParticipantActive) effect()          {}
func (ParticipantLost) effect()            {}
func (ParticipantBack) effect()            {}
func (TrackPublished) effect()             {}
func (TrackUnpublished) effect()           {}
func (Finished) effect()                   {}

// LeaveAction is what a client should do after a leave; the values are the contract's.
type LeaveAction uint8

const (
	Disconnect LeaveAction = 0
	Reconnect  LeaveAction = 2 // join anew; for 1, to resume, see AskToResume
)

// Description is what the room shows of itself.
type Description struct {
	ID, Name     string
	Metadata     string
	CreatedAt    time.Time
	Participants int // visible ones
	Publishers   int
	Max          int // 0 is no limit
	// EmptyTimeout and DepartureTimeout are how long it stays while nobody has come, and after the
	// last has left.
	EmptyTimeout, DepartureTimeout time.Duration
}

// Speaker is a participant whose voice is heard.
type Speaker struct {
	Participant string
	Level       float32 // 0 to 1
	Active      bool
}

// ParticipantQuality is one line of SendQuality.
type ParticipantQuality struct {
	Participant string
	Quality     Quality
	// Score is the mean opinion score, 1 to 4.5; 0 where the connection is lost.
	Score float32
}

// CodecDemand is what is wanted of one codec of a track: all layers up to Highest (0 low, 1 medium,
// 2 high), none where it is negative.
type CodecDemand struct {
	MimeType string
	Highest  int
}

// SubscriptionFailure says why no media comes; the values are the contract's.
type SubscriptionFailure uint8

const (
	FailureUnknown SubscriptionFailure = iota
	CodecUnsupported
	TrackNotFound
)

// Settings are a subscriber's wishes for one track.
type Settings struct {
	// Disabled pauses the track.
	Disabled bool
	// Quality is 0 low, 1 medium, 2 high; used when Width and Height are 0.
	Quality       int32
	Width, Height uint32
	FPS           uint32
	// Priority: 1 is the highest, 0 is unset.
	Priority uint32
}

// Refusal is an error of an event that a participant caused, with a sentence for it.
type Refusal struct {
	Code RefusalCode
	Text string
}

func (r *Refusal) Error() string { return r.Text }

// RefusalCode classifies a Refusal.
type RefusalCode uint8

const (
	Invalid RefusalCode = iota + 1
	NotFound
	NotAllowed
	LimitExceeded
	Unsupported
	NotConnected
)

func refuse(code RefusalCode, text string) error { return &Refusal{Code: code, Text: text} }

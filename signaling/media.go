package signaling

// Media makes the media side of participants: the SFU, seen from here.
type Media interface {
	// Join makes a participant's transports. In dual mode the first subscriber offer follows at
	// once as an OfferReady event, which may precede Join's return; in single mode the client's
	// offer is awaited.
	Join(MediaConfig) (Peer, error)
}

// MediaConfig says for whom.
type MediaConfig struct {
	// Room and ID are keys: the room's id (RM_…), the participant's id (PA_…).
	Room, ID string
	// Single asks for one transport in the publisher's role that also carries subscriptions.
	Single bool
	// FixedCodec: the client doesn't follow a track that changes its codec in mid-stream.
	FixedCodec bool
	// FullICE asks for full ICE instead of ICE-lite on our side.
	FullICE bool
	// Voices is as in Subscriptions.SetVoices.
	Voices int
	// Notify takes the participant's events, in order. It never blocks.
	Notify func(MediaEvent)
}

// Peer is a participant's media. A participant's worker calls it, one call at a time, from
// changing goroutines; a call may take milliseconds.
type Peer interface {
	Transports
	Publications
	Subscriptions
	DataChannels
	Rooms
	// Close ends everything; it is idempotent and no event follows it.
	Close()
}

// Target names one of a participant's transports, as the contract's SignalTarget does.
type Target uint8

const (
	Publisher Target = iota
	Subscriber
)

// Transports negotiates.
type Transports interface {
	// Offer takes the client's offer on the publisher transport and returns the answer.
	Offer(sdp string) (Answer, error)
	// Answer takes the client's answer to OfferReady{ID: id}.
	Answer(id uint32, sdp string) error
	// Candidate takes a trickled candidate, the JSON of RTCIceCandidateInit.
	Candidate(t Target, init string) error
	// RestartICE renews the ICE credentials of the subscriber with a new offer; an offer that is
	// still unanswered is void.
	RestartICE(t Target)
}

// Answer is an answer to the client's offer.
type Answer struct {
	SDP string
	// MidToTrack maps the sections' mids to the ids of the tracks that they carry to the client; it is
	// empty in dual mode.
	MidToTrack map[string]string
}

// Publications announces tracks.
type Publications interface {
	// Publish announces a track before its media arrives, AddCodec a further codec of it, or that one
	// which Publish only named comes.
	Publish(Publication) error
	AddCodec(trackID string, c PublicationCodec) error
	Unpublish(trackID string)
	SetMuted(trackID string, muted bool)
}

// Publication is a track to come.
type Publication struct {
	ID     string // TR_…
	CID    string // the track id in the session description's msid
	Video  bool
	Stream string // groups tracks for synchronisation
	Muted  bool
	Layers []PublicationLayer
	// MimeType is the codec as announced; "" when it isn't. Backups are further ones, in the
	// publisher's order of preference.
	MimeType string
	Backups  []PublicationCodec
	Policy   BackupPolicy
	// Stereo, DTX and RED are how an audio track is to be sent.
	Stereo, DTX, RED bool
	// Encrypted: the payload is encrypted end to end.
	Encrypted bool
	// Still: the picture may not change for a while, so that silence is no fault.
	Still bool
	// Exempt: sound that isn't one microphone among others.
	Exempt bool
}

// PublicationCodec is a further codec of a track. CID is empty while the publisher doesn't send it.
type PublicationCodec struct {
	MimeType, CID string
	Layers        []PublicationLayer
}

// BackupPolicy says how several codecs are shared out; the values are the contract's.
type BackupPolicy uint8

const (
	PreferOneCodec BackupPolicy = iota // one for all, if there is one that all take
	EveryCodec                         // to each the best that it takes
	OneCodec                           // one for all
)

// PublicationLayer is one announced simulcast layer.
type PublicationLayer struct {
	Quality       uint8 // 0 low, 1 medium, 2 high
	Width, Height uint32
	Bitrate       uint32 // bit/s
	RID           string
}

// Subscriptions forwards tracks of the same room.
type Subscriptions interface {
	Subscribe(trackID string) error
	Unsubscribe(trackID string)
	Configure(trackID string, s SubscriptionSettings)
	// SetVoices sets how many microphones come at a time where only the loudest do, 1 to 16; 0 means as
	// many as the room forwards.
	SetVoices(n int)
}

// SubscriptionSettings are the subscriber's wishes for one track.
type SubscriptionSettings struct {
	Disabled      bool
	Quality       uint8 // 0 low, 1 medium, 2 high; used when Width and Height are 0
	Width, Height uint32
	FPS, Priority uint32
}

// DataChannels carries data packets to the participant.
type DataChannels interface {
	// SendData sends one message on the _reliable or _lossy channel. It gives ErrOverflow when a
	// reliable message could not be queued: the receiver then misses it for good. The message is kept
	// until it has arrived: nobody changes it.
	SendData(reliable bool, payload []byte) error
	// ResendData sends reliable messages again, the very slices, that the client says it lacks, unless
	// they are still on their way. ErrOverflow as above.
	ResendData(payloads [][]byte) error
}

// Rooms moves a participant between rooms, by their ids.
type Rooms interface {
	// Move brings the participant and its publications into another room. Its subscriptions end, and
	// those that others have to its tracks.
	Move(room string) error
	// Show lets participants of a further room subscribe to the tracks, those to come included; Hide
	// undoes it, and ends their subscriptions.
	Show(room string) error
	Hide(room string)
}

// MediaEvent is something that happened to a participant's media: OfferReady, SectionsNeeded,
// CandidateFound, TransportChanged, PublicationStarted, PublicationEnded, CodecStarted, CodecEnded, LayersWanted,
// StreamPaused, ConnectionScored, DataReceived, DataRefused, SubscriptionFailed or SubscriptionStalled.
type MediaEvent interface{ mediaEvent() }

type (
	// OfferReady is an offer of the subscriber transport for the client. One is outstanding at most.
	OfferReady struct {
		ID  uint32
		SDP string
		// MidToTrack maps the sections' mids to the ids of the tracks they carry.
		MidToTrack map[string]string
	}
	// SectionsNeeded asks a client in single mode for a new offer, with so many receiving sections
	// more than it has.
	SectionsNeeded struct{ Audio, Video int }
	// CandidateFound is an ICE candidate of ours that came after the description.
	CandidateFound struct {
		Target Target
		Init   string
	}
	// TransportChanged is a new state of a transport.
	TransportChanged struct {
		Target Target
		State  TransportState
	}
	// PublicationStarted: an announced track's media is negotiated, so that it can be subscribed.
	// MimeType is empty where it is not the first codec's.
	PublicationStarted struct{ TrackID, MimeType string }
	// PublicationEnded: the client took the track out of its offer.
	PublicationEnded struct{ TrackID string }
	// CodecStarted: the media of one of a track's codecs, by its place among them, is negotiated.
	CodecStarted struct {
		TrackID  string
		Codec    int
		MimeType string
	}
	// CodecEnded: the client no longer sends it, while others go on.
	CodecEnded struct {
		TrackID string
		Codec   int
	}
	// LayersWanted: the highest layer of each codec of the participant's track that subscribers want,
	// negative for none.
	LayersWanted struct {
		TrackID string
		Layers  []int8
	}
	// StreamPaused: nothing comes of a track that the participant is subscribed to, or it comes again.
	StreamPaused struct {
		TrackID string
		Paused  bool
	}
	// ConnectionScored: the participant's connection has this mean opinion score, 1 to 4.5.
	ConnectionScored struct{ Score float64 }
	// DataReceived is a message that the client sent on a data channel. The receiver owns Payload.
	DataReceived struct {
		Reliable bool
		Payload  []byte
	}
	// DataRefused: the client sent a message that no data channel carries, and is heard no more on it.
	DataRefused struct{ Err error }
	// SubscriptionFailed: no media of this track will come any more.
	SubscriptionFailed struct {
		TrackID string
		Err     error
	}
	// SubscriptionStalled: a client in single mode has no section for the track and offers none. Its
	// media comes if one becomes free.
	SubscriptionStalled struct{ TrackID string }
)

func (OfferReady) mediaEvent()         {}
func (SectionsNeeded) mediaEvent()     {}
func (CandidateFound) mediaEvent()     {}
func (TransportChanged) mediaEvent()   {}
func (PublicationStarted) mediaEvent() {}
func (PublicationEnded) mediaEvent()   {}
func (CodecStarted) mediaEvent()       {}
func (CodecEnded) mediaEvent()         {}
func (LayersWanted) mediaEvent()       {}
func (StreamPaused) mediaEvent()       {}
func (ConnectionScored) mediaEvent()   {}
func (DataReceived) mediaEvent()       {}
func (DataRefused) mediaEvent()        {}
func (SubscriptionFailed) mediaEvent() {}

func (SubscriptionStalled) mediaEvent() {}

// TransportState of a peer connection.
type TransportState uint8

const (
	Connected TransportState = iota + 1
	Disconnected
	Failed
)

// Sentinels that media errors may wrap, so that the client learns why.
type mediaError string

func (e mediaError) Error() string { return string(e) }

const (
	// ErrCodecUnsupported: the subscriber can't decode the track's codec.
	ErrCodecUnsupported = mediaError("the subscriber does not support the track's codec")
	// ErrTrackNotFound: the track is gone.
	ErrTrackNotFound = mediaError("there is no such track")
	// ErrOverflow: a reliable data packet found the receiver's queue full.
	ErrOverflow = mediaError("the receiver takes data too slowly")
)

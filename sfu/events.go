package sfu

import "fmt"

// Target names one of a participant's peer connections, with the numbers of the room contract's SignalTarget.
type Target uint8

const (
	// Publisher is the peer connection that the client offers.
	Publisher Target = iota
	// Subscriber is the one that the server offers.
	Subscriber
)

func (t Target) String() string {
	switch t {
	case Publisher:
		return "publisher"
	case Subscriber:
		return "subscriber"
	}
	return fmt.Sprintf("target %d", uint8(t))
}

// State is the state of a peer connection.
type State uint8

const (
	// Connected: media flows.
	Connected State = iota + 1
	// Disconnected: nothing has been heard for 5 s; it may recover by itself.
	Disconnected
	// Failed: it needs an ICE restart, or a new session.
	Failed
)

func (s State) String() string {
	switch s {
	case Connected:
		return "connected"
	case Disconnected:
		return "disconnected"
	case Failed:
		return "failed"
	}
	return "new"
}

// Event is one of the types below.
type Event interface{ event() }

// OfferReady carries the server's offer for the subscriber peer connection. The next one comes only after its answer.
type OfferReady struct {
	ID  uint32
	SDP string
	// Tracks are the ids of the tracks in the offer by the mids of their m-lines. Firefox makes up its own track ids, so
	// that the mid is all a client there has to go by. The receiver only reads it.
	Tracks map[string]string
}

// SectionsNeeded asks a client with a single peer connection for a new offer: with so many more m-lines on which it
// receives than it has, or, with none, as it is, for a change on those it has. It may be told again.
type SectionsNeeded struct{ Audio, Video int }

// CandidateFound carries a candidate that is in no description. Candidates on the shared ports are gathered before a
// description leaves, so there is none for now.
type CandidateFound struct {
	Target   Target
	InitJSON string
}

// TransportState tells a change of a peer connection.
type TransportState struct {
	Target Target
	State  State
}

// PublicationStarted tells that an announced track has its m-line: subscribers are now offered it. Its media may come a
// moment later, or when it is unmuted.
type PublicationStarted struct {
	TrackID string
	// MimeType is the first codec's; empty where the m-line is that of another.
	MimeType string
	// Layers is how many simulcast layers were negotiated, 1 without simulcast.
	Layers int
}

// PublicationEnded tells that the publisher's description no longer sends the track, without Unpublish having been
// called. It is gone, and its subscriptions with it.
type PublicationEnded struct{ TrackID string }

// CodecStarted tells that a further codec of a track, or the first one once more, has its m-line. Codec is its place in the
// publisher's order.
type CodecStarted struct {
	TrackID  string
	Codec    int
	MimeType string
}

// CodecEnded tells that the publisher no longer sends one of a track's codecs. The track goes on with the others.
type CodecEnded struct {
	TrackID string
	Codec   int
}

// LayersWanted tells the publisher of a video track what is wanted of it: for each codec, in the publisher's order, the
// highest simulcast layer that anybody wants, -1 for none. Layers below it are wanted too.
type LayersWanted struct {
	TrackID string
	Layers  []int8
}

// StreamPaused tells a subscriber that nothing comes of a track which it wants and which isn't muted, or that it comes
// again.
type StreamPaused struct {
	TrackID string
	Paused  bool
}

// ConnectionScored tells how good the participant's connection is, from 1 (unusable) to 4.5 (excellent): see [score].
type ConnectionScored struct{ Score float64 }

// DataReceived carries a message of the client's data channels. Payload is the receiver's.
type DataReceived struct {
	Reliable bool
	Payload  []byte
}

// DataRefused tells that the client has sent a data message that can't be taken, and that no more will be taken from that
// channel.
type DataRefused struct{ Err error }

// SubscriptionFailed tells that a subscription has ended because of Err, such as [ErrCodec].
type SubscriptionFailed struct {
	TrackID string
	Err     error
}

// SubscriptionStalled tells that a client with a single peer connection has no m-line for a subscription and doesn't
// offer one. It is told once; the subscription stays, and takes an m-line that becomes free.
type SubscriptionStalled struct{ TrackID string }

func (SubscriptionStalled) event() {}

func (OfferReady) event()         {}
func (SectionsNeeded) event()     {}
func (CandidateFound) event()     {}
func (TransportState) event()     {}
func (PublicationStarted) event() {}
func (PublicationEnded) event()   {}
func (CodecStarted) event()       {}
func (CodecEnded) event()         {}
func (LayersWanted) event()       {}
func (StreamPaused) event()       {}
func (ConnectionScored) event()   {}
func (DataReceived) event()       {}
func (DataRefused) event()        {}
func (SubscriptionFailed) event() {}

package room

import (
	"maps"
	"slices"
	"time"
)

// State is how far a participant has come.
type State uint8

const (
	// Joined: in the room, media not connected yet.
	Joined State = iota + 1
	// Active: the primary transport was connected at least once.
	Active
	// Departed: out of the room. Seen only in the last update about a participant.
	Departed
)

// Reason is why a participant left.
type Reason uint8

const (
	ReasonUnknown Reason = iota
	ClientLeft
	DuplicateIdentity
	ServerShutdown
	Removed
	RoomDeleted
	StateMismatch
	JoinFailed
	SignalLost
	MediaLost
)

// Permission is what a participant may do.
type Permission struct {
	Publish, Subscribe, PublishData, UpdateMetadata bool
	// Sources are the sources that may be published; none means all.
	Sources []Source
	// Hidden participants are never shown to others, and their tracks are not forwarded.
	Hidden   bool
	Recorder bool
}

func (p Permission) equal(q Permission) bool {
	return p.Publish == q.Publish && p.Subscribe == q.Subscribe && p.PublishData == q.PublishData &&
		p.UpdateMetadata == q.UpdateMetadata && p.Hidden == q.Hidden && p.Recorder == q.Recorder &&
		slices.Equal(p.Sources, q.Sources)
}

// mayPublish reports whether the permission covers a source.
func (p Permission) mayPublish(s Source) bool {
	return p.Publish && (len(p.Sources) == 0 || slices.Contains(p.Sources, s))
}

// Profile is what a participant brings along when joining.
type Profile struct {
	// ID is the session's id (PA_…), fresh for every join; Identity is who it is.
	ID, Identity string
	Name         string
	Metadata     string
	Attributes   map[string]string
	Permission   Permission
	// AutoSubscribe subscribes to every track that isn't unsubscribed by hand.
	AutoSubscribe bool
	// SubscriberPrimary: the subscriber transport is the one whose connection makes the participant
	// Active; otherwise it is the publisher's.
	SubscriberPrimary bool
	// Kind and ClientProtocol are passed on to the others as they are.
	Kind           int32
	ClientProtocol int32
	// Forwarded: this participant is in another room, and its tracks are shown here.
	Forwarded bool
}

// Info is what the others are told about a participant. Version grows with every change.
type Info struct {
	Profile
	State     State
	JoinedAt  time.Time
	Version   uint32
	Publisher bool // has at least one track
	Activated bool // was Active at least once
	Tracks    []Track
	Reason    Reason // when Departed
}

// Quality of a participant's connection as the others are told.
type Quality uint8

const (
	Lost Quality = iota + 1
	Poor
	Good
	Excellent
)

// participant is the room's record of one participant.
type participant struct {
	Profile
	state State
	// activated: it was Active at least once.
	activated bool
	joinedAt  time.Time
	version   uint32
	quality   Quality
	// measured and score are what media measured last.
	measured Quality
	score    float32
	scored   bool
	tracks   []*track // in the order of publication
	// taken are the tracks that were taken away from it last: its client may not know yet.
	taken []string

	// remote participants live on another node: no connection, no media here.
	remote bool
	// attached: there is a connection to write to. deadline is when a detached participant, or one
	// whose media does not connect, is given up; zero is never.
	attached  bool
	deadline  time.Time
	onExpired Reason
	// media is the latest state of the primary transport, 0 before it was connected. resumeAt is when its
	// client is asked to resume for want of media: once each time that it goes away.
	media    Transport
	resumeAt time.Time

	subs subscriptions
	// grants say who may subscribe to this participant's tracks; nil means everybody.
	grants *GrantIndex
}

// mediaAway reports whether the primary transport has lost its connection.
func (p *participant) mediaAway() bool { return p.media != 0 && p.media != TransportConnected }

func (p *participant) info() Info {
	i := Info{
		Profile:   p.Profile,
		State:     p.state,
		JoinedAt:  p.joinedAt,
		Version:   p.version,
		Publisher: len(p.tracks) > 0,
		Activated: p.activated,
	}
	i.Attributes = maps.Clone(p.Attributes)
	for _, t := range p.tracks {
		if t.started {
			i.Tracks = append(i.Tracks, t.Track.clone())
		}
	}
	return i
}

func (p *participant) visible() bool { return !p.Permission.Hidden }

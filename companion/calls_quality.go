package companion

import (
	"context"
	"net/http"
	"slices"
	"time"

	"anytime/signaling/call"
)

// defaultQualityRate is more than an app asks that shows the quality of its call all the time.
var defaultQualityRate = Rate{10, time.Second}

// CallQuality is what the server measured of a call over the last seconds, as one of those in it may know it: everything
// of their own connection and, of the others, what makes them be seen and heard badly. No address is in it.
type CallQuality struct {
	Me     OwnQuality     `json:"me"`
	Others []OtherQuality `json:"others" doc:"Those who are connected"`
}

// OwnQuality is one's own connection.
type OwnQuality struct {
	Quality string  `json:"quality" enum:"excellent,good,poor,lost,unknown"`
	RTTms   float64 `json:"rttMs" doc:"Round trip to the server in milliseconds; 0 while unknown"`
	Up      Link    `json:"up" doc:"From me to the server"`
	Down    Link    `json:"down" doc:"From the server to me"`
}

// Link is one direction of a connection.
type Link struct {
	Loss        *float64 `json:"loss,omitempty" minimum:"0" maximum:"1" doc:"Share of packets lost, before repair; absent while too few were sent"`
	JitterMs    float64  `json:"jitterMs"`
	BitrateBps  uint64   `json:"bitrateBps"`
	EstimateBps uint64   `json:"estimateBps,omitempty" doc:"What the way is thought to take; absent while unknown"`
	Path        string   `json:"path,omitempty" enum:"udp,tcp,relay" doc:"How packets travel, as the server sees it; mine alone"`
}

// OtherQuality is somebody else in the call.
type OtherQuality struct {
	Identity string         `json:"identity" doc:"account:device"`
	Quality  string         `json:"quality" enum:"excellent,good,poor,lost,unknown"`
	RTTms    float64        `json:"rttMs" doc:"Round trip between them and the server in milliseconds; 0 while unknown"`
	Up       Link           `json:"up" doc:"From them to the server"`
	Tracks   []TrackQuality `json:"tracks" doc:"What I get of them"`
}

// TrackQuality is a track of somebody else's on its way to me.
type TrackQuality struct {
	ID         string   `json:"id"`
	Source     string   `json:"source" enum:"camera,microphone,screen_share,screen_share_audio,unknown"`
	Muted      bool     `json:"muted"`
	Paused     bool     `json:"paused" doc:"Nothing comes though it should"`
	Layer      int      `json:"layer" doc:"What is sent to me: 0 low, 1 medium, 2 high, -1 nothing; -1 for sound"`
	Wanted     int      `json:"wanted" doc:"What the size on my screen asks for"`
	Why        string   `json:"why,omitempty" doc:"Why the two differ" enum:"muted,disabled,no_media,starting,not_sent,bandwidth"`
	Width      uint32   `json:"width,omitempty"`
	Height     uint32   `json:"height,omitempty"`
	Loss       *float64 `json:"loss,omitempty" doc:"On the whole way from them to me"`
	JitterMs   float64  `json:"jitterMs"`
	BitrateBps uint64   `json:"bitrateBps"`
	FPS        float64  `json:"fps"`
	Freezes    uint64   `json:"freezes" doc:"Gaps of more than 500 ms in what the server had to send, since I get it"`
	FrozenMs   float64  `json:"frozenMs" doc:"Their length added up, in milliseconds"`
}

// callQuality answers only devices that are in the call, and tells nothing of a participant of its room who isn't.
func (s *Server) callQuality(ctx context.Context, sess Session, in *callInput) (*output[CallQuality], error) {
	if wait, ok := s.calls.quality.take(sess.Device.ID, s.now()); !ok {
		return nil, tooMany(wait, "This device asks for the quality of its call too often. Please wait a moment and try again.")
	}
	c, err := s.store.Call(ctx, in.ID)
	if err == nil {
		err = mayJoin(c, sess)
	}
	if err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	q, ok := s.calls.rooms.Quality(c.ID, sess.Identity())
	if !ok {
		return nil, problem(http.StatusConflict, "not_connected", "This device is not connected to the call's room.")
	}
	q.Others = slices.DeleteFunc(q.Others, func(o OtherQuality) bool { return !partOf(c, o.Identity) })
	return &output[CallQuality]{q}, nil
}

// partOf reports whether an identity is one of the devices in the call.
func partOf(c call.Call, identity string) bool {
	account, device, ok := splitIdentity(identity)
	if !ok {
		return false
	}
	p := c.Person(account)
	return p != nil && p.State == call.PersonJoined && p.Device == device
}

// mayJoin says why the session's device may not be in the room of the call, or nil.
func mayJoin(c call.Call, sess Session) error {
	p := c.Person(sess.Account.ID)
	switch {
	case p == nil || p.Hidden:
		return call.ErrStranger
	case p.Over() || p.Outcome != call.NoOutcome:
		return call.ErrOver
	case p.State != call.PersonJoined:
		return call.ErrNotIn
	case p.Device != sess.Device.ID:
		return call.ErrElsewhere
	}
	return nil
}

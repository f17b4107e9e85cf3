package signaling

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"anytime/signaling/wire"
)

// What becomes of each message in each state. PROTOCOL.md has the same table in words.

// requestOf makes a well-formed message of a kind, about a track; nil means that the kind is new here.
func requestOf(kind, track string) *wire.SignalRequest {
	switch kind {
	case "offer":
		return &wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: "v=0\r\nown", Id: 9}}}
	case "answer":
		return &wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "answer", Sdp: "v=0\r\n", Id: 77}}}
	case "trickle":
		return &wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: "{}"}}}
	case "add_track":
		return &wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{Cid: "fresh"}}}
	case "mute":
		return &wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: track, Muted: true}}}
	case "subscription":
		return &wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: &wire.UpdateSubscription{TrackSids: []string{"TR_unknown"}, Subscribe: true}}}
	case "track_setting":
		return &wire.SignalRequest{Message: &wire.RequestTrackSetting{TrackSetting: &wire.UpdateTrackSettings{TrackSids: []string{track}}}}
	case "leave":
		return &wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}}
	case "update_layers":
		return withField(kind)
	case "subscription_permission":
		return &wire.SignalRequest{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: &wire.SubscriptionPermission{
			TrackPermissions: []*wire.TrackPermission{{ParticipantIdentity: "nobody", TrackSids: []string{track}}},
		}}}
	case "sync_state":
		return &wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
			PublishTracks: []*wire.TrackPublishedResponse{{Track: &wire.TrackInfo{Sid: track}}},
		}}}
	case "simulate":
		return withField(kind)
	case "ping":
		return &wire.SignalRequest{Message: &wire.RequestPing{Ping: 5}}
	case "ping_req":
		return &wire.SignalRequest{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: 5}}}
	case "update_metadata":
		return &wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{Name: "new", RequestId: 4}}}
	case "update_audio_track":
		return &wire.SignalRequest{Message: &wire.RequestUpdateAudioTrack{UpdateAudioTrack: &wire.UpdateLocalAudioTrack{TrackSid: track}}}
	case "update_video_track":
		return &wire.SignalRequest{Message: &wire.RequestUpdateVideoTrack{UpdateVideoTrack: &wire.UpdateLocalVideoTrack{TrackSid: track}}}
	case "publish_data_track_request", "unpublish_data_track_request", "update_data_subscription", "store_data_blob_request", "get_data_blob_request":
		return withField(kind)
	}
	return nil
}

// withField makes a message of a kind that holds nothing.
func withField(kind string) *wire.SignalRequest {
	m := &wire.SignalRequest{}
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		if f := r.Descriptor().Fields().Get(i); string(f.Name()) == kind {
			r.Set(f, r.NewField(f))
		}
	}
	return m
}

// The outcomes.
const (
	silent   = "nothing" // carried out, or ignored: nothing is said to the sender
	accepted = "OK"
	invalidR = "INVALID_REQUEST"
	notFound = "NOT_FOUND"
	notAllow = "NOT_ALLOWED"
	noType   = "UNSUPPORTED_TYPE"
	mismatch = "leave RECONNECT STATE_MISMATCH"
	goodbye  = "closed"
)

// row is what becomes of one kind of message.
type row struct {
	dual, single string // in a session with every permission, about its own track
	forbidden    string // in one that has none
	others       string // about a track of somebody else
	empty        string // when the message holds nothing
}

var states = map[string]row{
	"offer":                   {"answer", "answer", "answer", "answer", invalidR},
	"answer":                  {silent, invalidR, silent, silent, invalidR},
	"trickle":                 {silent, silent, silent, silent, silent},
	"add_track":               {"track_published", "track_published", notAllow, "track_published", invalidR},
	"mute":                    {silent, silent, notFound, notFound, notFound},
	"subscription":            {"subscription_response", "subscription_response", notAllow, "subscription_response", silent},
	"track_setting":           {silent, silent, silent, silent, silent},
	"leave":                   {goodbye, goodbye, goodbye, goodbye, goodbye},
	"update_layers":           {silent, silent, silent, silent, silent},
	"subscription_permission": {silent, silent, silent, silent, silent},
	"sync_state":              {silent, silent, mismatch, mismatch, silent},
	"simulate":                {silent, silent, silent, silent, silent},
	"ping":                    {"pong", "pong", "pong", "pong", "pong"},
	"ping_req":                {"pong_resp", "pong_resp", "pong_resp", "pong_resp", "pong_resp"},
	"update_metadata":         {accepted, accepted, notAllow, accepted, silent},
	"update_audio_track":      {silent, silent, notFound, notFound, notFound},
	"update_video_track":      {silent, silent, notFound, notFound, notFound},

	"publish_data_track_request":   {noType, noType, noType, noType, noType},
	"unpublish_data_track_request": {noType, noType, noType, noType, noType},
	"update_data_subscription":     {noType, noType, noType, noType, noType},
	"store_data_blob_request":      {noType, noType, noType, noType, noType},
	"get_data_blob_request":        {noType, noType, noType, noType, noType},
}

// outcome reads until it is known what became of a message.
func (p *peer) outcome(want string) string {
	p.t.Helper()
	if want == silent {
		p.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: "TR_sync"}}})
	}
	for {
		m, err := p.receive()
		switch {
		case err != nil && strings.Contains(err.Error(), "1000"):
			return goodbye
		case err != nil:
			return err.Error()
		case m.GetRequestResponse().GetMute().GetSid() == "TR_sync":
			return silent
		case m.GetRequestResponse() != nil:
			return m.GetRequestResponse().GetReason().String()
		case m.GetLeave() != nil:
			return fmt.Sprint("leave ", m.GetLeave().GetAction(), " ", m.GetLeave().GetReason())
		}
		switch kind := wire.ResponseKind(m); kind {
		case "answer", "track_published", "pong", "pong_resp", "subscription_response":
			return kind
		}
	}
}

// TestEveryMessageInEveryState: none is without an answer that is written down, and none disturbs the others.
func TestEveryMessageInEveryState(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.JoinBurst = 100_000 })
	witness := w.join("r", "witness", nil, nil)
	track := witness.publish("theirs", wire.TrackAudio, wire.SourceMicrophone)
	allow := func(c *wire.Claims) { c.Video.CanUpdateOwnMetadata = ptr(true) }
	forbid := func(c *wire.Claims) {
		c.Video.CanPublish, c.Video.CanSubscribe, c.Video.CanUpdateOwnMetadata = ptr(false), ptr(false), ptr(false)
	}
	// ready joins and, where it may, publishes.
	ready := func(t *testing.T, change func(*wire.Claims), single bool) (*peer, string) {
		var query url.Values
		if single {
			request, err := wire.EncodeJoinRequest(&wire.JoinRequest{}, true)
			if err != nil {
				t.Fatal(err)
			}
			query = url.Values{"join_request": {request}}
		}
		p := w.join("r", "subject", change, query)
		p.t = t
		own := "TR_none"
		if !strings.Contains(t.Name(), "forbidden") {
			own = p.publish("own", wire.TrackVideo, wire.SourceCamera).Sid
		}
		return p, own
	}
	for _, kind := range wire.RequestKinds() {
		want, known := states[kind]
		if !known || requestOf(kind, "") == nil {
			t.Errorf("%s is a new message: decide what becomes of it in each state", kind)
			continue
		}
		check := func(state, want string, change func(*wire.Claims), single bool, message func(own string) *wire.SignalRequest) {
			t.Run(kind+"/"+state, func(t *testing.T) {
				p, own := ready(t, change, single)
				p.send(message(own))
				if got := p.outcome(want); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
		about := func(track string) func(string) *wire.SignalRequest {
			return func(own string) *wire.SignalRequest {
				if track != "" {
					own = track
				}
				return requestOf(kind, own)
			}
		}
		check("dual", want.dual, allow, false, about(""))
		check("single", want.single, allow, true, about(""))
		check("forbidden", want.forbidden, forbid, false, about(""))
		check("others", want.others, allow, false, about(track.Sid))
		check("empty", want.empty, allow, false, func(string) *wire.SignalRequest { return withField(kind) })

		// Sent before the first frame is read, it is carried out after it.
		t.Run(kind+"/early", func(t *testing.T) {
			ws, _, err := w.dial(token(t, "r", "subject", allow), nil)
			if err != nil {
				t.Fatal(err)
			}
			p := &peer{t: t, w: w, ws: ws}
			t.Cleanup(func() { _ = ws.Close() })
			p.send(requestOf(kind, "TR_none"))
			early := map[string]string{
				"mute": notFound, "update_audio_track": notFound, "update_video_track": notFound, "sync_state": mismatch,
			}[kind]
			if early == "" {
				early = want.dual
			}
			if first := p.read(); first.GetJoin() == nil {
				t.Errorf("the first frame is %s", wire.ResponseKind(first))
			}
			if got := p.outcome(early); got != early {
				t.Errorf("%s, want %s", got, early)
			}
		})

		// What comes over a connection that a newer one of the session has replaced is ignored.
		t.Run(kind+"/replaced", func(t *testing.T) {
			p, own := ready(t, allow, false)
			newer := w.resume(p)
			newer.t = t
			frame, err := wire.EncodeRequest(requestOf(kind, own))
			if err != nil {
				t.Fatal(err)
			}
			_ = p.ws.WriteMessage(2, frame)
			for { // the older one closes
				if _, err := p.receive(); err != nil {
					break
				}
			}
			newer.until("the state", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
			if got := newer.outcome(silent); got != silent {
				t.Errorf("%s, want nothing", got)
			}
		})

		// Nothing follows a leave.
		t.Run(kind+"/left", func(t *testing.T) {
			p, own := ready(t, allow, false)
			p.send(requestOf("leave", ""))
			frame, err := wire.EncodeRequest(requestOf(kind, own))
			if err != nil {
				t.Fatal(err)
			}
			_ = p.ws.WriteMessage(2, frame)
			if got := p.outcome(goodbye); got != goodbye && got != "pong" && got != "pong_resp" {
				t.Errorf("%s, want a close", got)
			}
		})
	}
	if info := w.srv.Participants("r"); len(info) == 0 || info[0].Identity != "witness" || len(info[0].Tracks) != 1 || info[0].Tracks[0].Muted {
		t.Errorf("the witness has come to harm: %v", info)
	}
}

package signaling

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// mode is how a session's transports are laid out; a message may belong to one of them only.
type mode uint8

const (
	dual mode = 1 << iota
	single
	anyMode = dual | single
)

// handler of one kind of message, with the modes it is allowed in.
type handler struct {
	modes mode
	run   func(*actor, *session, *wire.SignalRequest) error
}

// handlers by the message's name in the schema. Pings never come here: conn answers them. What is
// not listed is refused; what this server has never heard of is ignored.
var handlers = map[string]handler{
	"offer":                   {anyMode, (*actor).onOffer},
	"answer":                  {dual, (*actor).onAnswer},
	"trickle":                 {anyMode, (*actor).onTrickle},
	"add_track":               {anyMode, (*actor).onAddTrack},
	"mute":                    {anyMode, (*actor).onMute},
	"subscription":            {anyMode, (*actor).onSubscription},
	"track_setting":           {anyMode, (*actor).onTrackSetting},
	"subscription_permission": {anyMode, (*actor).onSubscriptionPermission},
	"sync_state":              {anyMode, (*actor).onSyncState},
	"update_metadata":         {anyMode, (*actor).onUpdateMetadata},
	"update_audio_track":      {anyMode, (*actor).onUpdateAudioTrack},
	"update_video_track":      {anyMode, (*actor).onUpdateVideoTrack},
	"leave":                   {anyMode, (*actor).onLeave},
	"simulate":                {anyMode, (*actor).ignore},
	"update_layers":           {anyMode, (*actor).ignore}, // deprecated: layers come from the media
}

// told are the messages that change what the others know of a participant.
var told = map[string]bool{"mute": true, "update_metadata": true, "update_audio_track": true, "update_video_track": true}

// onRequest takes one message of a client.
func (a *actor) onRequest(s *session, c *conn, m *wire.SignalRequest) {
	if a.sessions[s.id] != s || s.conn != c {
		return // left, or an older connection's echo
	}
	kind := wire.RequestKind(m)
	if kind == "" {
		return // a message of a newer SDK
	}
	h, ok := handlers[kind]
	var err error
	switch here := s.mode(); {
	case !ok:
		err = &room.Refusal{Code: room.Unsupported, Text: kind + " is not supported by this server"}
	case h.modes&here == 0:
		err = &room.Refusal{Code: room.Invalid, Text: kind + " does not belong to this connection's mode"}
	case told[kind] && !a.mayTell(s):
		err = &room.Refusal{Code: room.LimitExceeded, Text: "too many changes that the others have to be told of: slow down"}
	default:
		err = h.run(a, s, m)
	}
	if err != nil {
		s.log.Debug("request refused", "kind", kind, "err", err)
		a.answerRefusal(s, m, err)
	}
}

// mayTell takes what the others will have to read from a participant's allowance: an update carries all of it, whatever
// little has changed.
func (a *actor) mayTell(s *session) bool {
	p, _ := a.room.Participant(s.id)
	size := 256 + len(p.Metadata) + 256*len(p.Tracks)
	for k, v := range p.Attributes {
		size += len(k) + len(v)
	}
	return s.told.AllowN(time.Now(), size)
}

func (s *session) mode() mode {
	if s.single {
		return single
	}
	return dual
}

func (a *actor) ignore(*session, *wire.SignalRequest) error { return nil }

// maxBadOffers is how many offers in a row may be refused before the session ends.
const maxBadOffers = 5

func (a *actor) onOffer(s *session, m *wire.SignalRequest) error {
	offer := m.GetOffer()
	if err := checkSDP(offer, "offer"); err != nil {
		return err
	}
	if !s.offers.Allow() {
		return &room.Refusal{Code: room.LimitExceeded, Text: "too many offers: slow down"}
	}
	id := offer.GetId()
	err := s.worker.ask(offer.GetSdp(), func(p Peer) {
		answer, err := p.Offer(offer.GetSdp())
		s.post(func(a *actor) { a.onAnswered(s, id, answer, err) })
	})
	if err == nil {
		s.asked++
	}
	return err
}

// onAnswered passes the answer to a client's offer on. "Echo the offer's id": clients drop answers
// to offers that they have replaced.
func (a *actor) onAnswered(s *session, id uint32, answer Answer, err error) {
	if a.sessions[s.id] != s {
		return
	}
	s.asked--
	defer a.askForSections(s)
	if err == nil {
		s.badOffers = 0
		a.send(s, &wire.SignalResponse{Message: &wire.ResponseAnswer{Answer: &wire.SessionDescription{
			Type: "answer", Sdp: answer.SDP, Id: id, MidToTrackId: answer.MidToTrack,
		}}})
		return
	}
	s.badOffers++
	s.log.Warn("offer refused", "err", err, "in a row", s.badOffers)
	if s.badOffers >= maxBadOffers {
		a.apply(a.room.Remove(time.Now(), s.id, room.MediaLost, room.Disconnect))
		return
	}
	a.send(s, &wire.SignalResponse{Message: &wire.ResponseRequestResponse{RequestResponse: &wire.RequestResponse{
		Reason: wire.RequestInvalid, Message: "this offer cannot be answered",
	}}})
}

func (a *actor) onAnswer(s *session, m *wire.SignalRequest) error {
	answer := m.GetAnswer()
	if err := checkSDP(answer, "answer"); err != nil {
		return err
	}
	id, log := answer.GetId(), s.log
	return s.worker.ask(answer.GetSdp(), func(p Peer) {
		if err := p.Answer(id, answer.GetSdp()); err != nil {
			// A late answer to an offer that an ICE restart has voided is no fault.
			log.Warn("answer refused", "id", id, "err", err)
		}
	})
}

func checkSDP(d *wire.SessionDescription, want string) error {
	switch sdp := d.GetSdp(); {
	case d.GetType() != "" && d.GetType() != want:
		return invalid("the description's type is %.20q: expected %s", d.GetType(), want)
	case len(sdp) > wire.MaxSDPBytes:
		return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("a session description may take %d bytes", wire.MaxSDPBytes)}
	case !strings.HasPrefix(sdp, "v=0"):
		return invalid("this is not a session description (RFC 8866): it must begin with v=0")
	}
	return nil
}

func (a *actor) onTrickle(s *session, m *wire.SignalRequest) error {
	t := m.GetTrickle()
	init := t.GetCandidateInit()
	switch {
	case len(init) > wire.MaxCandidateBytes:
		return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("a candidate may take %d bytes", wire.MaxCandidateBytes)}
	case init == "" || init == "null":
		return nil // end of candidates
	}
	target, log := targetFromWire(t.GetTarget()), s.log
	return s.worker.ask(init, func(p Peer) {
		if err := p.Candidate(target, init); err != nil {
			log.Debug("candidate refused", "err", err)
		}
	})
}

func (a *actor) onAddTrack(s *session, m *wire.SignalRequest) error {
	if m.GetAddTrack().GetSid() != "" {
		return a.onAddCodec(s, m.GetAddTrack())
	}
	track, err := trackFromRequest(m.GetAddTrack())
	if err != nil {
		return err
	}
	effects, err := a.room.AddTrack(time.Now(), s.id, track)
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

// onAddCodec takes the add_track that names a published track: a further codec of it.
func (a *actor) onAddCodec(s *session, r *wire.AddTrackRequest) error {
	codec, err := codecFromRequest(r)
	if err != nil {
		return err
	}
	effects, err := a.room.AddCodec(time.Now(), s.id, r.GetSid(), codec)
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

func (a *actor) onMute(s *session, m *wire.SignalRequest) error {
	effects, err := a.room.SetMuted(time.Now(), s.id, m.GetMute().GetSid(), m.GetMute().GetMuted(), false)
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

func (a *actor) onSubscription(s *session, m *wire.SignalRequest) error {
	return a.updateSubscription(s, m.GetSubscription())
}

func (a *actor) updateSubscription(s *session, u *wire.UpdateSubscription) error {
	byParticipant := 0
	for _, p := range u.GetParticipantTracks() {
		byParticipant += max(1, len(p.GetTrackSids()))
	}
	if len(u.GetTrackSids()) > wire.MaxSIDs || byParticipant > wire.MaxSIDs {
		return tooManyTracks()
	}
	ids := make([]string, 0, len(u.GetTrackSids()))
	known := make(map[string]bool, len(u.GetTrackSids())) // livekit-client names a track in both lists
	add := func(list []string) {
		for _, id := range list {
			if !known[id] {
				known[id] = true
				ids = append(ids, id)
			}
		}
	}
	add(u.GetTrackSids())
	for _, p := range u.GetParticipantTracks() {
		add(p.GetTrackSids())
	}
	if len(ids) > wire.MaxSIDs {
		return tooManyTracks()
	}
	effects, err := a.room.UpdateSubscription(time.Now(), s.id, ids, u.GetSubscribe())
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

func tooManyTracks() error {
	return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("at most %d tracks in one message", wire.MaxSIDs)}
}

func (a *actor) onTrackSetting(s *session, m *wire.SignalRequest) error {
	t := m.GetTrackSetting()
	if len(t.GetTrackSids()) > wire.MaxSIDs {
		return tooManyTracks()
	}
	a.apply(a.room.Configure(time.Now(), s.id, t.GetTrackSids(), settingsFromWire(t)))
	return nil
}

func (a *actor) onSubscriptionPermission(s *session, m *wire.SignalRequest) error {
	grants, err := grantsFromWire(m.GetSubscriptionPermission())
	if err != nil {
		return err
	}
	effects, err := a.room.SetSubscriptionPermission(time.Now(), s.id, grants)
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

// onSyncState takes the client's view after a resume. Tracks that it believes published and that are
// unknown here can't be healed by negotiation: it has to join anew. Of those that were taken away from
// it, it is told again.
func (a *actor) onSyncState(s *session, m *wire.SignalRequest) error {
	state := m.GetSyncState()
	for _, p := range state.GetPublishTracks() {
		if sid := p.GetTrack().GetSid(); a.room.Took(s.id, sid) {
			a.apply([]room.Effect{room.SendTrackUnpublished{To: s.id, TrackID: sid}})
		} else if !a.room.Owns(s.id, sid) {
			s.log.Warn("resumed with a track that is unknown here", "track", sid)
			a.apply(a.room.Remove(time.Now(), s.id, room.StateMismatch, room.Reconnect))
			return nil
		}
	}
	u := state.GetSubscription()
	if !u.GetSubscribe() && s.query.Client.GetSdk() == wire.SDKSwift {
		// Swift lists every track that it has not attached yet, which a resume may simply have been too
		// quick for: unsubscribing would silence it for good. What was said by hand is known here anyway.
		u = &wire.UpdateSubscription{TrackSids: slices.DeleteFunc(slices.Clone(u.GetTrackSids()), func(id string) bool {
			return !a.room.Unwanted(s.id, id)
		})}
	}
	if len(u.GetTrackSids()) > 0 || len(u.GetParticipantTracks()) > 0 {
		if err := a.updateSubscription(s, u); err != nil {
			return err
		}
	}
	if off := state.GetTrackSidsDisabled(); len(off) > 0 && len(off) <= wire.MaxSIDs {
		a.apply(a.room.Configure(time.Now(), s.id, off, room.Settings{Disabled: true}))
	}
	return a.resendData(s, state.GetDatachannelReceiveStates())
}

func (a *actor) onUpdateMetadata(s *session, m *wire.SignalRequest) error {
	u := m.GetUpdateMetadata()
	if len(u.GetName()) > wire.MaxNameBytes {
		return &room.Refusal{Code: room.LimitExceeded, Text: fmt.Sprintf("a name may take %d bytes", wire.MaxNameBytes)}
	}
	if _, err := wire.Voices(u.GetAttributes()); err != nil {
		return invalid("%v", err)
	}
	if err := wire.CheckMetadata(u.GetMetadata(), u.GetAttributes()); err != nil {
		return &room.Refusal{Code: room.LimitExceeded, Text: err.Error()}
	}
	// The schema can't tell an empty text from none: SDKs send what they have with each change.
	change := room.Metadata{Attributes: u.GetAttributes()}
	if u.GetName() != "" {
		change.Name = &u.Name
	}
	if u.GetMetadata() != "" {
		change.Metadata = &u.Metadata
	}
	if err := a.updateMetadata(s, change, false); err != nil {
		return err
	}
	s.refreshAt = time.Now() // the next token carries the change
	if u.GetRequestId() != 0 {
		a.send(s, &wire.SignalResponse{Message: &wire.ResponseRequestResponse{RequestResponse: &wire.RequestResponse{
			RequestId: u.GetRequestId(), Reason: wire.RequestOK,
		}}})
	}
	return nil
}

func (a *actor) onUpdateAudioTrack(s *session, m *wire.SignalRequest) error {
	u := m.GetUpdateAudioTrack()
	if len(u.GetFeatures()) > 32 {
		return invalid("a track has at most 32 features")
	}
	features := []int32{}
	for _, f := range u.GetFeatures() {
		features = append(features, int32(f))
	}
	effects, err := a.room.UpdateTrack(time.Now(), s.id, u.GetTrackSid(), room.TrackChange{Features: features})
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

func (a *actor) onUpdateVideoTrack(s *session, m *wire.SignalRequest) error {
	u := m.GetUpdateVideoTrack()
	effects, err := a.room.UpdateTrack(time.Now(), s.id, u.GetTrackSid(),
		room.TrackChange{Width: &u.Width, Height: &u.Height})
	if err != nil {
		return err
	}
	a.apply(effects)
	return nil
}

func (a *actor) onLeave(s *session, _ *wire.SignalRequest) error {
	a.apply(a.room.Leave(time.Now(), s.id))
	return nil
}

// answerRefusal tells a client what of its request was refused, with the request where the schema
// has a place for it.
func (a *actor) answerRefusal(s *session, m *wire.SignalRequest, err error) {
	answer := &wire.RequestResponse{Reason: wire.RequestFailed, Message: err.Error()}
	var refusal *room.Refusal
	if errors.As(err, &refusal) {
		answer.Reason = map[room.RefusalCode]wire.RequestReason{
			room.Invalid: wire.RequestInvalid, room.NotFound: wire.RequestNotFound,
			room.NotAllowed: wire.RequestNotAllowed, room.LimitExceeded: wire.RequestLimitExceeded,
			room.Unsupported: wire.RequestUnsupportedType,
		}[refusal.Code]
	}
	switch r := m.Message.(type) {
	case *wire.RequestAddTrack:
		answer.Request = &wire.EchoAddTrack{AddTrack: r.AddTrack}
	case *wire.RequestMute:
		answer.Request = &wire.EchoMute{Mute: r.Mute}
	case *wire.RequestUpdateMetadata:
		answer.RequestId = r.UpdateMetadata.GetRequestId()
		answer.Request = &wire.EchoUpdateMetadata{UpdateMetadata: r.UpdateMetadata}
	case *wire.RequestUpdateAudioTrack:
		answer.Request = &wire.EchoUpdateAudioTrack{UpdateAudioTrack: r.UpdateAudioTrack}
	case *wire.RequestUpdateVideoTrack:
		answer.Request = &wire.EchoUpdateVideoTrack{UpdateVideoTrack: r.UpdateVideoTrack}
	}
	a.send(s, &wire.SignalResponse{Message: &wire.ResponseRequestResponse{RequestResponse: answer}})
}

func invalid(format string, args ...any) error {
	return &room.Refusal{Code: room.Invalid, Text: fmt.Sprintf(format, args...)}
}

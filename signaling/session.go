package signaling

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// session is one participant's presence on this node, from join to departure, across connections.
// It belongs to the room's goroutine, but for the fields marked otherwise.
type session struct {
	id, identity string
	log          *slog.Logger
	claims       wire.Claims
	query        wire.JoinQuery
	single       bool

	conn   *conn // nil while the participant has no connection
	worker *worker

	refreshAt  time.Time // when the next token is due; zero while one is being made
	lastSeq    uint32    // sequence of the last reliable data packet from this participant
	counted    uint32    // of those that its client gave no sequence
	dataQueued atomic.Int64
	badOffers  int
	asked      int             // offers that are being answered
	sections   *SectionsNeeded // what is to be asked for after their answers

	voices      int        // as its media was told
	dataRefused time.Time  // when it was last told that a data packet is not passed on
	moving      bool       // it is on its way to another room
	shown       []*showing // further rooms in which its tracks are shown
	inbox

	offers *rate.Limiter // how many may come
	told   *rate.Limiter // bytes that its changes of itself may make others read
}

// joining is what the HTTP handler knows about a client that wants in.
type joining struct {
	conn      *conn
	claims    wire.Claims
	admission Admission
	query     wire.JoinQuery
	moved     bool // a resume that was sought in the room that the session has left
}

// onJoin lets a client in, or tells it why not.
func (a *actor) onJoin(j joining) {
	now := time.Now()
	if a.over {
		a.reopen(room.Policy{}, "")
		a.configure(j.claims)
	}
	if a.tokenRevoked(j.claims) {
		a.turnAway(j.conn, wire.LeaveDisconnect, wire.ReasonParticipantRemoved, "removed from this room: ask for a new token")
		return
	}
	profile := profileOf(j)
	if _, here := a.room.IDOf(profile.Identity); !here && a.expected > 0 && a.room.Full(a.expected) {
		a.turnAway(j.conn, wire.LeaveDisconnect, wire.ReasonJoinFailure, "the room is full")
		return
	}
	s := &session{
		id: profile.ID, identity: profile.Identity, claims: j.claims, query: j.query, single: j.query.Single, conn: j.conn,
		log:       a.log.With("participant", profile.ID, "identity", profile.Identity),
		worker:    newWorker(a.srv.cfg.Limits.QueuedData),
		refreshAt: a.firstRefresh(now, j.claims),
		offers:    rate.NewLimiter(rate.Limit(a.srv.cfg.Limits.OffersPerSecond), a.srv.cfg.Limits.OfferBurst),
		told:      rate.NewLimiter(rate.Limit(a.srv.cfg.Limits.ToldPerSecond), a.srv.cfg.Limits.ToldBurst),
	}
	s.settle(a)
	a.sessions[s.id] = s
	effects, err := a.room.Join(now, profile)
	if err != nil {
		delete(a.sessions, s.id)
		s.log.Warn("join refused", "err", err)
		a.turnAway(j.conn, wire.LeaveDisconnect, wire.ReasonJoinFailure, err.Error())
		return
	}
	s.log.Info("participant joins", "sdk", j.query.Client.GetSdk(), "version", j.query.Client.GetVersion(),
		"protocol", j.query.Client.GetProtocol(), "single", s.single)
	a.apply(effects)
	a.recheck(s)
	a.bundled(s, j)
	a.listen(s, j.conn)
}

// onResume attaches a new connection to a participant that lost its own.
func (a *actor) onResume(j joining) {
	now := time.Now()
	s := a.sessions[j.query.SID]
	if s == nil && a.followMove(j) {
		return
	}
	if s == nil || s.identity != j.claims.Identity || s.single != j.query.Single {
		a.turnAway(j.conn, wire.LeaveReconnect, wire.ReasonStateMismatch, "unknown session: join anew")
		return
	}
	if old := s.conn; old != nil {
		old.close(closeNormal, "replaced by a newer connection of this session")
	}
	s.conn, s.claims = j.conn, j.claims
	s.refreshAt = a.firstRefresh(now, j.claims)
	effects, ok := a.room.Resume(now, s.id, s.identity)
	if !ok {
		s.conn = nil
		a.turnAway(j.conn, wire.LeaveReconnect, wire.ReasonStateMismatch, "unknown session: join anew")
		return
	}
	s.log.Info("participant resumes", "reason", j.query.ReconnectReason)
	a.apply(effects)
	if moved, ok := a.room.Moved(s.id); ok && j.moved {
		a.send(s, a.roomMoved(s, moved))
	}
	a.bundled(s, j)
	a.listen(s, j.conn)
}

// bundled carries out the requests that came with the join request: tracks before the offer that carries
// them. They count as sent after the first message.
func (a *actor) bundled(s *session, j joining) {
	for _, m := range j.query.Bundled {
		a.onRequest(s, j.conn, m)
	}
	s.query.Bundled = nil
}

// turnAway answers a client that doesn't get in: a leave as the first and last message.
func (a *actor) turnAway(c *conn, action wire.LeaveAction, reason wire.DisconnectReason, text string) {
	a.srv.turnAway(c, action, reason, text)
}

func (s *Server) turnAway(c *conn, action wire.LeaveAction, reason wire.DisconnectReason, text string) {
	if frame, err := wire.EncodeResponse(wire.Leave(action, reason)); err == nil {
		c.send(frame)
	}
	c.close(closeNormal, text)
	s.running.Go(func() { c.read(func(_ *wire.SignalRequest, done func()) { done() }) })
}

// listen starts to read a session's connection; its first frame is already queued.
func (a *actor) listen(s *session, c *conn) {
	a.srv.running.Go(func() {
		c.read(func(m *wire.SignalRequest, done func()) {
			s.post(func(a *actor) {
				defer done()
				a.onRequest(s, c, m)
			})
		})
		s.post(func(a *actor) { a.onClosed(s, c) })
	})
}

// onClosed detaches the participant when its present connection ended.
func (a *actor) onClosed(s *session, c *conn) {
	if s.conn != c {
		return
	}
	s.conn = nil
	s.log.Info("connection lost, the participant may resume", "reason", c.closeReason())
	a.apply(a.room.Detach(time.Now(), s.id))
}

// openMedia starts the participant's worker, for which Shutdown waits.
func (a *actor) openMedia(s *session) {
	s.voices = a.voicesOf(s)
	cfg := MediaConfig{
		Room: a.room.ID(), ID: s.id, Single: s.single, FullICE: s.query.DisableICELite, Voices: s.voices,
		FixedCodec: fixedCodec(s.query.Client.GetSdk()),
		Notify:     func(e MediaEvent) { a.notify(s, e) },
	}
	a.srv.running.Add(1)
	s.worker.start(a.srv.cfg.Media, cfg, func(err error) {
		s.post(func(a *actor) {
			s.log.Error("cannot set up media", "err", err)
			a.apply(a.room.Remove(time.Now(), s.id, room.JoinFailed, room.Reconnect))
		})
	}, a.srv.running.Done)
}

// fixedCodec reports whether an SDK can't take a track whose codec changes in mid-stream: the Go SDK's
// readers keep the first one, and of others nothing is known.
func fixedCodec(sdk wire.SDK) bool { return sdk == wire.SDKGo || sdk == wire.SDKUnknown }

// notify takes an event of a participant's media into the mailbox.
func (a *actor) notify(s *session, e MediaEvent) {
	data, ok := e.(DataReceived)
	if !ok {
		s.post(func(a *actor) { a.onMedia(s, e) })
		return
	}
	size := int64(len(data.Payload))
	if s.dataQueued.Add(size) > int64(a.srv.cfg.Limits.QueuedData) {
		s.dataQueued.Add(-size)
		if data.Reliable {
			s.post(func(a *actor) { a.resetSlow(s, "sends data faster than it can be passed on") })
		}
		return
	}
	s.post(func(a *actor) {
		s.dataQueued.Add(-size)
		a.onData(s, data)
	})
}

// onMedia takes what the media says.
func (a *actor) onMedia(s *session, e MediaEvent) {
	if a.sessions[s.id] != s {
		return
	}
	now := time.Now()
	switch e := e.(type) {
	case OfferReady:
		a.send(s, &wire.SignalResponse{Message: &wire.ResponseOffer{Offer: &wire.SessionDescription{
			Type: "offer", Sdp: e.SDP, Id: e.ID, MidToTrackId: e.MidToTrack,
		}}})
	case SectionsNeeded:
		s.sections = &e
		a.askForSections(s)
	case CandidateFound:
		a.send(s, &wire.SignalResponse{Message: &wire.ResponseTrickle{Trickle: &wire.TrickleRequest{
			CandidateInit: e.Init, Target: targetToWire(e.Target),
		}}})
	case TransportChanged:
		a.apply(a.room.TransportChanged(now, s.id, e.Target == Publisher, room.Transport(e.State)))
	case PublicationStarted:
		a.apply(a.room.TrackStarted(now, s.id, e.TrackID, e.MimeType))
	case PublicationEnded:
		a.apply(a.room.TrackEnded(now, s.id, e.TrackID))
	case SubscriptionStalled:
		s.log.Info("subscription waits for a section of the client's", "track", e.TrackID)
		a.apply(a.room.SubscriptionStalled(now, s.id, e.TrackID))
	case DataRefused:
		a.refuseData(s, fmt.Errorf("%w: %w", wire.ErrTooLarge, e.Err))
		a.resetSlow(s, "sent a data message that no channel carries")
	case CodecStarted:
		a.apply(a.room.CodecStarted(now, s.id, e.TrackID, e.Codec, e.MimeType))
	case CodecEnded:
		a.apply(a.room.CodecEnded(now, s.id, e.TrackID, e.Codec))
	case LayersWanted:
		a.apply(a.room.LayersWanted(now, s.id, e.TrackID, e.Layers))
	case StreamPaused:
		a.apply(a.room.StreamState(now, s.id, e.TrackID, e.Paused))
	case ConnectionScored:
		a.apply(a.room.Score(now, s.id, float32(e.Score)))
	case SubscriptionFailed:
		s.log.Warn("subscription failed", "track", e.TrackID, "err", e.Err)
		a.apply(a.room.SubscriptionFailed(now, s.id, e.TrackID, failureOf(e.Err)))
	}
}

// askForSections asks for an offer with more sections, if that is needed, but not before the answer to the last one: the Rust
// SDK (0.12) deadlocks when it has to offer anew before the answer to its first offer.
func (a *actor) askForSections(s *session) {
	if s.sections == nil || s.asked > 0 {
		return
	}
	a.send(s, &wire.SignalResponse{Message: &wire.ResponseMediaSections{MediaSectionsRequirement: &wire.MediaSectionsRequirement{
		NumAudios: uint32(s.sections.Audio), NumVideos: uint32(s.sections.Video),
	}}})
	s.sections = nil
}

// resetSlow cuts the connection of a participant whose data overflows and has it join anew: what was
// dropped can't be made up for in this session.
func (a *actor) resetSlow(s *session, why string) {
	if a.sessions[s.id] != s {
		return
	}
	s.log.Warn("participant has to reconnect: it " + why)
	a.apply(a.room.Remove(time.Now(), s.id, room.MediaLost, room.Reconnect))
}

func failureOf(err error) room.SubscriptionFailure {
	switch {
	case errors.Is(err, ErrCodecUnsupported):
		return room.CodecUnsupported
	case errors.Is(err, ErrTrackNotFound):
		return room.TrackNotFound
	}
	return room.FailureUnknown
}

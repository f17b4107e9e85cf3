package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/signaling/wire"
)

// leaveCase is one way in which a session ends: what its client is told, and what the others are.
type leaveCase struct {
	name   string
	config func(*Config)
	// end brings it about. It returns the connection on which the leave comes.
	end    func(w *world, ann *peer) *peer
	action wire.LeaveAction
	reason wire.DisconnectReason
	// others is the reason that the others see; unknown when ann stays, or everybody leaves.
	others wire.DisconnectReason
}

func (w *world) badResume(ann *peer, room string, query url.Values) *peer {
	w.t.Helper()
	query.Set("reconnect", "1")
	ws, _, err := w.dial(token(w.t, room, "ann", nil), query)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: w.t, w: w, ws: ws}
}

var leaveCases = []leaveCase{
	{name: "the same identity elsewhere", end: func(w *world, ann *peer) *peer { w.join("r", "ann", nil, nil); return ann },
		action: wire.LeaveDisconnect, reason: wire.ReasonDuplicateIdentity, others: wire.ReasonDuplicateIdentity},
	{name: "removed", end: func(w *world, ann *peer) *peer {
		w.srv.RemoveParticipant("r", "ann", wire.ReasonParticipantRemoved)
		return ann
	}, action: wire.LeaveDisconnect, reason: wire.ReasonParticipantRemoved, others: wire.ReasonParticipantRemoved},
	{name: "refused by a refresh", config: func(c *Config) {
		c.TokenLifetime = 100 * time.Millisecond
		c.Authorize = func(_ context.Context, claims wire.Claims, o Occasion) (Admission, error) {
			if o == Refresh && claims.Identity == "ann" {
				return Admission{}, &Refusal{Text: "not any more"}
			}
			return Admission{}, nil
		}
	}, action: wire.LeaveDisconnect, reason: wire.ReasonParticipantRemoved, others: wire.ReasonParticipantRemoved},
	{name: "the API key is gone", config: func(c *Config) {
		c.TokenLifetime = 100 * time.Millisecond
		var mu sync.Mutex
		asked := 0
		c.Keys = func(key string) (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			asked++ // two joins verify their tokens
			return testSecret, key == testKey && asked <= 2
		}
	}, action: wire.LeaveDisconnect, reason: wire.ReasonParticipantRemoved},
	{name: "room deleted", end: func(w *world, ann *peer) *peer { w.srv.CloseRoom("r", wire.ReasonRoomDeleted); return ann },
		action: wire.LeaveDisconnect, reason: wire.ReasonRoomDeleted},
	{name: "server stops", end: func(w *world, ann *peer) *peer {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		w.t.Cleanup(cancel)
		go func() { _ = w.srv.Shutdown(ctx) }()
		return ann
	}, action: wire.LeaveReconnect, reason: wire.ReasonServerShutdown},
	{name: "resume of an unknown session", end: func(w *world, ann *peer) *peer {
		return w.badResume(ann, "r", url.Values{"sid": {"PA_unknown"}})
	}, action: wire.LeaveReconnect, reason: wire.ReasonStateMismatch},
	{name: "resume in a room that is over", end: func(w *world, ann *peer) *peer {
		return w.badResume(ann, "over", url.Values{"sid": {ann.id}})
	}, action: wire.LeaveReconnect, reason: wire.ReasonStateMismatch},
	{name: "resume after the departure grace", config: func(c *Config) { c.Limits.Room.DepartureGrace = 20 * time.Millisecond },
		end: func(w *world, ann *peer) *peer {
			_ = ann.ws.UnderlyingConn().Close()
			eventually(w.t, "the departure", func() bool { return len(w.srv.Participants("r")) == 1 })
			return w.badResume(ann, "r", url.Values{"sid": {ann.id}})
		}, action: wire.LeaveReconnect, reason: wire.ReasonStateMismatch, others: wire.ReasonSignalClose},
	{name: "sync_state with an unknown track", end: func(_ *world, ann *peer) *peer {
		ann.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
			PublishTracks: []*wire.TrackPublishedResponse{{Cid: "x", Track: &wire.TrackInfo{Sid: "TR_lost"}}},
		}}})
		return ann
	}, action: wire.LeaveReconnect, reason: wire.ReasonStateMismatch, others: wire.ReasonStateMismatch},
	{name: "room full", config: func(c *Config) { c.Limits.Room.Participants = 2 }, end: func(w *world, _ *peer) *peer {
		ws, _, err := w.dial(token(w.t, "r", "eve", nil), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = ws.Close() })
		return &peer{t: w.t, w: w, ws: ws}
	}, action: wire.LeaveDisconnect, reason: wire.ReasonJoinFailure},
	{name: "too many rooms", config: func(c *Config) { c.Limits.Rooms = 1 }, end: func(w *world, _ *peer) *peer {
		ws, _, err := w.dial(token(w.t, "another", "ann", nil), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = ws.Close() })
		return &peer{t: w.t, w: w, ws: ws}
	}, action: wire.LeaveDisconnect, reason: wire.ReasonJoinFailure},
	{name: "media that doesn't connect", config: func(c *Config) { c.Limits.Room.MediaTimeout = 150 * time.Millisecond },
		action: wire.LeaveReconnect, reason: wire.ReasonJoinFailure},
	{name: "media that can't be set up", end: func(w *world, _ *peer) *peer {
		w.media.mu.Lock()
		w.media.fail = errors.New("no")
		w.media.mu.Unlock()
		eve := w.join("r", "ann", nil, nil)
		return eve
	}, action: wire.LeaveReconnect, reason: wire.ReasonJoinFailure},
	{name: "media gone", config: func(c *Config) { c.Limits.Room.MediaTimeout = 500 * time.Millisecond }, end: func(w *world, ann *peer) *peer {
		for _, p := range w.media.all() {
			p.cfg.Notify(TransportChanged{Subscriber, Connected})
		}
		w.media.peer(ann.id).cfg.Notify(TransportChanged{Subscriber, Disconnected})
		return ann
	}, action: wire.LeaveReconnect, reason: wire.ReasonMediaFailure, others: wire.ReasonMediaFailure},
	{name: "reliable data overflows", end: func(w *world, ann *peer) *peer {
		media := w.media.peer(ann.id)
		media.mu.Lock()
		media.failData = fmt.Errorf("full: %w", ErrOverflow)
		media.mu.Unlock()
		b, _ := wire.EncodeData(&wire.DataPacket{Value: &wire.DataUser{User: &wire.UserPacket{Payload: []byte("x")}}})
		for _, p := range w.media.all() {
			if p != media {
				p.cfg.Notify(DataReceived{Reliable: true, Payload: b})
			}
		}
		return ann
	}, action: wire.LeaveReconnect, reason: wire.ReasonMediaFailure, others: wire.ReasonMediaFailure},
	{name: "endless bad offers", end: func(_ *world, ann *peer) *peer {
		for range maxBadOffers {
			ann.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: "v=0 garbage"}}})
		}
		return ann
	}, action: wire.LeaveDisconnect, reason: wire.ReasonMediaFailure, others: wire.ReasonMediaFailure},
}

// reasonsElsewhere are the contract's other reasons: SIGNAL_CLOSE and CLIENT_INITIATED are told to the others alone
// (see below), the rest belongs to features that this server doesn't have.
var reasonsElsewhere = []string{"UNKNOWN_REASON", "CLIENT_INITIATED", "SIGNAL_CLOSE", "MIGRATION", "ROOM_CLOSED",
	"USER_UNAVAILABLE", "USER_REJECTED", "SIP_TRUNK_FAILURE", "CONNECTION_TIMEOUT", "AGENT_ERROR"}

// TestLeaves ends sessions in every way that there is here, for SDKs of today and for those that look at can_reconnect.
func TestLeaves(t *testing.T) {
	covered := map[string]bool{}
	for _, r := range reasonsElsewhere {
		covered[r] = true
	}
	for _, c := range leaveCases {
		covered[c.reason.String()] = true
		for _, protocol := range []string{"16", "12"} {
			t.Run(c.name+", protocol "+protocol, func(t *testing.T) {
				w := newWorld(t, c.config)
				bob := w.join("r", "bob", nil, nil)
				ann := w.join("r", "ann", nil, url.Values{"protocol": {protocol}})
				for _, p := range []*peer{bob, ann} {
					p.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
				}
				told := ann
				if c.end != nil {
					told = c.end(w, ann)
				}
				code, _, leave := told.closed()
				if leave.GetAction() != c.action || leave.GetReason() != c.reason {
					t.Errorf("told %v, want %v, %v", leave, c.action, c.reason)
				}
				if leave.GetCanReconnect() != (c.action != wire.LeaveDisconnect) {
					t.Errorf("can_reconnect is %v with %v", leave.GetCanReconnect(), leave.GetAction())
				}
				if code != closeNormal {
					t.Errorf("closed with %d", code)
				}
				if c.others != wire.ReasonUnknown {
					gone := bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
					if gone.DisconnectReason != c.others {
						t.Errorf("the others are told %v, want %v", gone.DisconnectReason, c.others)
					}
				}
			})
		}
	}
	for i := range wire.DisconnectReason(64) {
		if name := i.String(); strings.ContainsAny(name, "_") && !covered[name] {
			t.Errorf("%s is neither tested nor said not to occur", name)
		}
	}
}

// TestOwnLeaveIsTold: a client that says goodbye is gone at once, one that is silent after the departure grace.
func TestOwnLeaveIsTold(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.DepartureGrace = 20 * time.Millisecond })
	bob := w.join("r", "bob", nil, nil)
	for end, reason := range map[string]wire.DisconnectReason{"leave": wire.ReasonClientInitiated, "cut": wire.ReasonSignalClose} {
		ann := w.join("r", "ann", nil, nil)
		if end == "leave" {
			ann.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
		} else {
			_ = ann.ws.UnderlyingConn().Close()
		}
		gone := bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
		if gone.DisconnectReason != reason || gone.Sid != ann.id {
			t.Errorf("%s: told %v", end, gone)
		}
	}
}

// TestClientWithoutMediaIsAskedToResume: an ICE restart often finds another way long before a browser gives the old one up.
// Clients that know no action are left alone, since they would start over.
func TestClientWithoutMediaIsAskedToResume(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.ResumeAfter = time.Millisecond })
	bob := w.join("r", "bob", nil, url.Values{"protocol": {"12"}})
	ann := w.join("r", "ann", nil, nil)
	for _, p := range []*peer{bob, ann} {
		for _, state := range []TransportState{Connected, Disconnected} {
			p.media().cfg.Notify(TransportChanged{Subscriber, state})
		}
	}
	leave := ann.until("a leave", func(m *wire.SignalResponse) bool { return m.GetLeave() != nil }).GetLeave()
	if leave.GetAction() != wire.LeaveResume || leave.GetReason() != wire.ReasonMediaFailure || !leave.GetCanReconnect() {
		t.Errorf("told %v", leave)
	}
	ann.sync() // the connection stays until the client makes another
	if again := w.resume(ann); again.id != ann.id {
		t.Errorf("resumed as %s", again.id)
	}
	bob.send(&wire.SignalRequest{Message: &wire.RequestPing{Ping: 7}})
	bob.until("the answer to a ping", func(m *wire.SignalResponse) bool {
		if m.GetLeave() != nil {
			t.Errorf("a client of protocol 12 is told %v", m)
		}
		_, answered := m.Message.(*wire.ResponsePong)
		return answered
	})
}

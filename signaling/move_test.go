package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

func move(identity string) *wire.MoveParticipantRequest {
	return &wire.MoveParticipantRequest{Room: "r", Identity: identity, DestinationRoom: "other"}
}

func left(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected }

// TestAPIMovesParticipants: with connection, media and tracks, told to all, and the token follows.
func TestAPIMovesParticipants(t *testing.T) {
	events := make(chan RoomEvent, 256)
	w := newAPIWorld(t, func(c *Config) { c.Observe = func(e RoomEvent) { events <- e } })
	old, ann := w.withMedia("r", "old", nil), w.withMedia("r", "ann", func(c *wire.Claims) {
		c.Metadata, c.Video.CanPublishSources = "m", []string{"microphone", "camera"}
	})
	there := w.withMedia("other", "new", nil)
	ann.media().cfg.Notify(TransportChanged{Target: Subscriber, State: Connected})
	track := ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera)
	oldTrack := old.publish("cid-o", wire.TrackVideo, wire.SourceCamera)
	newTrack := there.publish("cid-n", wire.TrackVideo, wire.SourceCamera)
	eventually(t, "old watches ann", func() bool { return old.media().did("subscribe " + track.Sid) })

	w.ok("MoveParticipant", move("ann"), &wire.MoveParticipantResponse{})
	moved := ann.until("room_moved", func(m *wire.SignalResponse) bool { return m.GetRoomMoved() != nil }).GetRoomMoved()
	claims, err := wire.Verify(moved.Token, testKeys)
	switch {
	case err != nil || claims.Video.Room != "other" || claims.Identity != "ann" || claims.Metadata != "m" || !claims.Video.RoomJoin ||
		!slices.Equal(claims.Video.CanPublishSources, []string{"microphone", "camera"}):
		t.Errorf("the token is %+v, %v", claims, err)
	case moved.Room.Name != "other" || moved.Room.Sid != there.joined.Room.Sid:
		t.Errorf("the room is %v", moved.Room)
	case moved.Participant.Sid != ann.id || moved.Participant.Identity != "ann" || len(moved.Participant.Tracks) != 1:
		t.Errorf("she is %v", moved.Participant)
	case len(moved.OtherParticipants) != 1 || moved.OtherParticipants[0].Identity != "new":
		t.Errorf("the others are %v", moved.OtherParticipants)
	}
	if gone := old.update("ann", left); gone.Sid != ann.id || gone.DisconnectReason != wire.ReasonParticipantRemoved {
		t.Errorf("old saw %v", gone)
	}
	if came := there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 }); came.Sid != ann.id || came.Version <= moved.Participant.Version-1 {
		t.Errorf("new saw %v", came)
	}
	media := ann.media()
	eventually(t, "subscriptions of the new room", func() bool {
		return there.media().did("subscribe "+track.Sid) && media.did("subscribe "+newTrack.Sid)
	})
	media.mu.Lock()
	if media.room != there.joined.Room.Sid || media.closed || media.subs[oldTrack.Sid] {
		t.Errorf("her media is in %s, closed %v, has %v", media.room, media.closed, media.subs)
	}
	media.mu.Unlock()

	// Her connection is the new room's: what she sends is heard there, what happens there she is told.
	ann.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: "cid-later", Type: wire.TrackAudio, Source: wire.SourceMicrophone,
	}}})
	later := ann.until("track_published", func(m *wire.SignalResponse) bool { return m.GetTrackPublished() != nil }).GetTrackPublished().GetTrack()
	ann.offer("cid-a", "cid-later")
	there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 2 })
	media.cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, 1, "hello")})
	if p := there.media().received(t, 1)[0]; p.ParticipantSid != ann.id {
		t.Errorf("new received %v", p)
	}
	old.sync()
	if old.media().did("data") || old.media().did("subscribe "+later.Sid) {
		t.Error("the old room still hears her")
	}
	if n := len(w.srv.Participants("r")); n != 1 {
		t.Errorf("%d participants in the old room", n)
	}
	// And she resumes there, with the token she got.
	ann.ws.UnderlyingConn().Close()
	media.cfg.Notify(TransportChanged{Target: Subscriber, State: Disconnected})
	there.until("her loss", func(m *wire.SignalResponse) bool {
		updates := m.GetConnectionQuality().GetUpdates()
		return len(updates) == 1 && updates[0].ParticipantSid == ann.id && updates[0].Quality == wire.ConnectionLost
	})
	ann.tok = moved.Token
	again := w.resume(ann)
	again.update("new", func(p *wire.ParticipantInfo) bool { return true })
	again.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	there.update("ann", left)

	var told []string
	for e := range events {
		m := e.WebhookEvent()
		if m != nil && m.Participant.GetIdentity() == "ann" {
			told = append(told, fmt.Sprint(e.Room, " ", m.Event))
			if e.Kind == ParticipantLeft && e.Room == "other" {
				break
			}
		}
	}
	want := []string{
		"r participant_joined", "r track_published", "r track_unpublished", "r participant_left",
		"other participant_joined", "other track_published", "other track_published",
		"other track_unpublished", "other track_unpublished", "other participant_left",
	}
	if !slices.Equal(told, want) {
		t.Errorf("webhooks are told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// TestMoveOfAnUnawareClient: one that lost its connection before it heard of the move finds its session.
func TestMoveOfAnUnawareClient(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann, _ := w.withMedia("r", "ann", nil), w.withMedia("r", "old", nil)
	w.withMedia("other", "new", nil)
	w.ok("MoveParticipant", move("ann"), &wire.MoveParticipantResponse{})
	ann.ws.UnderlyingConn().Close()
	back := w.resume(ann) // with the token of the old room
	m := back.until("room_moved", func(m *wire.SignalResponse) bool { return m.GetRoomMoved() != nil }).GetRoomMoved()
	claims, err := wire.Verify(m.Token, testKeys)
	if err != nil || claims.Video.Room != "other" || m.Room.GetName() != "other" || len(m.OtherParticipants) != 1 {
		t.Errorf("told %v with %+v, %v", m, claims, err)
	}
	back.sync()

	// Back again, and gone: rooms don't send whoever looks for it to and fro.
	if code := w.call("MoveParticipant", wire.Grant{RoomAdmin: true, Room: "other", DestinationRoom: "r"},
		&wire.MoveParticipantRequest{Room: "other", Identity: "ann", DestinationRoom: "r"}, &wire.MoveParticipantResponse{}); code != "" {
		t.Fatalf("back: %q", code)
	}
	back.until("room_moved", func(m *wire.SignalResponse) bool { return m.GetRoomMoved().GetRoom().GetName() == "r" })
	back.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	back.closed()
	for _, room := range []string{"r", "other"} {
		ws, _, err := w.dial(token(t, room, "ann", nil), url.Values{"reconnect": {"1"}, "sid": {ann.id}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		if leave := (&peer{t: t, w: w.world, ws: ws}).read().GetLeave(); leave.GetReason() != wire.ReasonStateMismatch {
			t.Errorf("resumed in %s: %v", room, leave)
		}
	}
}

// TestMovesThatFail leave everything as it was.
func TestMovesThatFail(t *testing.T) {
	refuse := map[string]error{}
	w := newAPIWorld(t, func(c *Config) {
		c.Authorize = func(_ context.Context, c wire.Claims, o Occasion) (Admission, error) {
			if c.Video.Room == "other" && o == Join {
				return Admission{}, refuse[c.Identity]
			}
			return Admission{}, nil
		}
	})
	ann, old := w.withMedia("r", "ann", nil), w.withMedia("r", "old", nil)
	track := ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera)
	eventually(t, "old watches ann", func() bool { return old.media().did("subscribe " + track.Sid) })
	both := []string{"MoveParticipant", "ForwardParticipant"}
	fails := func(what, identity string, want twirp.Code) {
		t.Helper()
		for _, method := range both {
			if code := w.call(method, admin("r"), move(identity), &wire.MoveParticipantResponse{}); code != want {
				t.Errorf("%s, %s: %q, want %q", method, what, code, want)
			}
		}
	}
	fails("no such room", "ann", twirp.NotFound)
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "other", MaxParticipants: 1}, &wire.Room{})
	fails("no such participant", "nobody", twirp.NotFound)
	refuse["ann"] = &Refusal{Text: "not in this call"}
	fails("the application says no", "ann", twirp.PermissionDenied)
	refuse["ann"] = &Refusal{Status: http.StatusNotFound, Text: "the call is over"}
	fails("the application knows no such room", "ann", twirp.NotFound)
	refuse["ann"] = errors.New("the database is away")
	fails("the application cannot tell", "ann", twirp.Internal)
	refuse["ann"] = nil
	other := w.withMedia("other", "new", nil)
	fails("it is full", "ann", twirp.ResourceExhausted)
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "other", MaxParticipants: 9}, &wire.Room{})
	twin := w.withMedia("other", "ann", nil)
	fails("the identity is there", "ann", twirp.FailedPrecondition)
	if code := w.call("MoveParticipant", wire.Grant{RoomAdmin: true, Room: "r", DestinationRoom: "r"},
		&wire.MoveParticipantRequest{Room: "r", Identity: "ann", DestinationRoom: "r"}, &wire.MoveParticipantResponse{}); code != twirp.InvalidArgument {
		t.Errorf("to its own room: %q", code)
	}
	ann.ws.UnderlyingConn().Close()
	old.until("her loss", func(m *wire.SignalResponse) bool { return m.GetConnectionQuality() != nil })
	twin.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	other.update("ann", left)
	both = both[:1]
	fails("she has no connection", "ann", twirp.FailedPrecondition)

	back := w.resume(ann)
	back.update("old", func(*wire.ParticipantInfo) bool { return true })
	infos := w.srv.Participants("r")
	if len(infos) != 2 || infos[0].Sid != ann.id || len(infos[0].Tracks) != 1 {
		t.Errorf("in her room: %v", infos)
	}
	for _, call := range []string{"move " + other.joined.Room.Sid, "show " + other.joined.Room.Sid, "unpublish " + track.Sid} {
		if ann.media().did(call) {
			t.Errorf("her media was told: %s", call)
		}
	}
	if old.media().did("unsubscribe " + track.Sid) {
		t.Error("old's subscription ended")
	}
	// No place is kept for those who didn't come.
	w.srv.ask("other", func(a *actor) {
		if a.expected != 0 {
			t.Errorf("%d are expected", a.expected)
		}
	})
}

// TestMediaThatDoesNotFollow: the client starts over.
func TestMediaThatDoesNotFollow(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann := w.withMedia("r", "ann", nil)
	there := w.withMedia("other", "new", nil)
	media := ann.media()
	media.mu.Lock()
	media.failMove = errors.New("no ports")
	media.mu.Unlock()
	if code := w.call("MoveParticipant", admin("r"), move("ann"), &wire.MoveParticipantResponse{}); code != twirp.Internal {
		t.Errorf("moved: %q", code)
	}
	if _, _, leave := ann.closed(); leave.GetAction() != wire.LeaveReconnect {
		t.Errorf("ann got %v", leave)
	}
	there.update("ann", left)
	ann.media().isClosed(t)
}

// TestPlacesAreKept: whoever is on the way has a place that nobody else gets.
func TestPlacesAreKept(t *testing.T) {
	w := newAPIWorld(t, nil)
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "other", MaxParticipants: 1}, &wire.Room{})
	w.withMedia("r", "ann", nil)
	d, err := w.srv.destine(t.Context(), "r", "ann", "other")
	if err != nil {
		t.Fatal(err)
	}
	join := func() *wire.LeaveRequest {
		ws, _, err := w.dial(token(t, "other", "bob", nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		return (&peer{t: t, w: w.world, ws: ws}).read().GetLeave()
	}
	if leave := join(); leave.GetReason() != wire.ReasonJoinFailure {
		t.Errorf("bob, while ann's place is kept, got %v", leave)
	}
	d.release()
	if leave := join(); leave != nil {
		t.Errorf("bob, once it is given back, got %v", leave)
	}
}

// TestMovesAndShutdown: a session between two rooms when the server stops is told, and nothing is left.
func TestMovesAndShutdown(t *testing.T) {
	for range 20 {
		w := newAPIWorld(t, nil)
		peers := []*peer{w.withMedia("other", "new", nil)}
		for i := range 3 {
			peers = append(peers, w.withMedia("r", fmt.Sprint("p", i), nil))
		}
		var reading sync.WaitGroup
		for _, p := range peers {
			reading.Go(func() {
				for {
					if _, err := p.receive(); err != nil {
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				_, _ = w.srv.moveParticipant(ctx, move(fmt.Sprint("p", i)))
				cancel()
			}
		}()
		if err := w.srv.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-done
		reading.Wait()
	}
}

// TestMovingStorm moves many back and forth while they publish and send. Run with -race.
func TestMovingStorm(t *testing.T) {
	w := newAPIWorld(t, nil)
	w.withMedia("other", "new", nil)
	w.withMedia("r", "old", nil)
	done := make(chan struct{})
	for i := range 6 {
		go func() {
			defer func() { done <- struct{}{} }()
			who := fmt.Sprint("p", i)
			p := w.withMedia("r", who, nil)
			at, to := "r", "other"
			for n := range 6 {
				p.publish(fmt.Sprint("cid", n), wire.TrackVideo, wire.SourceCamera)
				p.media().cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, uint32(n+1), "x")})
				if _, err := w.srv.moveParticipant(t.Context(), &wire.MoveParticipantRequest{Room: at, Identity: who, DestinationRoom: to}); err != nil {
					t.Errorf("%s: %v", who, err)
				}
				at, to = to, at
			}
			p.sync()
		}()
	}
	for range 6 {
		<-done
	}
	if a, b := len(w.srv.Participants("r")), len(w.srv.Participants("other")); a != 7 || b != 1 {
		t.Errorf("%d in the one, %d in the other", a, b)
	}
	for _, name := range []string{"r", "other"} {
		w.srv.ask(name, func(a *actor) {
			if a.expected != 0 {
				t.Errorf("%s expects %d", name, a.expected)
			}
			for _, p := range a.room.Participants() {
				if p.State == room.Departed || p.Identity[0] == 'p' && len(p.Tracks) != 1 {
					t.Errorf("%s in %s has %d tracks", p.Identity, name, len(p.Tracks))
				}
			}
		})
	}
}

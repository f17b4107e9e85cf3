package signaling

import (
	"slices"
	"testing"

	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

func forward(identity string) *wire.ForwardParticipantRequest {
	return &wire.ForwardParticipantRequest{Room: "r", Identity: identity, DestinationRoom: "other"}
}

// hides waits until a participant's media is told that its tracks are shown in a room no longer.
func (p *peer) hides(room *peer) {
	p.t.Helper()
	media, call := p.media(), "hide "+room.joined.Room.Sid
	eventually(p.t, "the tracks are hidden", func() bool { return media.did(call) })
}

// TestAPIForwardsParticipants: shown in a second room with all that changes, as one that is forwarded.
func TestAPIForwardsParticipants(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann, old, there := w.withMedia("r", "ann", nil), w.withMedia("r", "old", nil), w.withMedia("other", "new", nil)
	track := ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera)
	w.ok("ForwardParticipant", forward("ann"), &wire.ForwardParticipantResponse{})
	if !ann.media().did("show " + there.joined.Room.Sid) {
		t.Error("her media doesn't show her tracks there")
	}
	seen := there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
	if seen.Sid != ann.id || seen.Tracks[0].Sid != track.Sid || !slices.Contains(seen.KindDetails, wire.KindForwarded) {
		t.Errorf("new sees %v", seen)
	}
	media := there.media()
	eventually(t, "new is subscribed", func() bool { return media.did("subscribe " + track.Sid) })
	var got wire.ParticipantInfo
	w.ok("GetParticipant", &wire.RoomParticipantIdentity{Room: "other", Identity: "ann"}, &got)
	if got.Sid != ann.id || len(got.KindDetails) != 1 {
		t.Errorf("GetParticipant: %v", &got)
	}
	if infos := w.srv.Participants("r"); len(infos) != 2 || len(infos[0].KindDetails) != 0 {
		t.Errorf("in her own room: %v", infos)
	}
	if code := w.call("ForwardParticipant", admin("r"), forward("ann"), &wire.ForwardParticipantResponse{}); code != twirp.FailedPrecondition {
		t.Errorf("forwarded twice: %q", code)
	}
	// What is hers is changed in her own room.
	if code := w.call("UpdateParticipant", admin("other"), &wire.UpdateParticipantRequest{Room: "other", Identity: "ann", Name: "x"}, &got); code != twirp.FailedPrecondition {
		t.Errorf("changed where she is forwarded: %q", code)
	}
	w.ok("UpdateParticipant", &wire.UpdateParticipantRequest{Room: "r", Identity: "ann", Name: "New name"}, &got)
	there.update("ann", func(p *wire.ParticipantInfo) bool { return p.Name == "New name" })
	ann.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: track.Sid, Muted: true}}})
	there.update("ann", func(p *wire.ParticipantInfo) bool { return p.Tracks[0].Muted })
	ann.offer() // unpublished
	there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 0 })
	again := ann.publish("cid-b", wire.TrackVideo, wire.SourceCamera)
	there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 && p.Tracks[0].Sid == again.Sid })
	eventually(t, "subscribed again", func() bool { return media.did("subscribe " + again.Sid) })
	// Who she lets have her tracks holds here too.
	ann.send(&wire.SignalRequest{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: &wire.SubscriptionPermission{}}})
	there.until("the denial", func(m *wire.SignalResponse) bool {
		u := m.GetSubscriptionPermissionUpdate()
		return u != nil && u.ParticipantSid == ann.id && !u.Allowed
	})
	eventually(t, "unsubscribed", func() bool { return media.did("unsubscribe " + again.Sid) })

	ann.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	there.update("ann", left)
	old.update("ann", left)
}

// TestForwardingEnds when she is removed where she is forwarded, when somebody of her identity comes there, when that
// room ends, and when she moves; each time her own room is as it was.
func TestForwardingEnds(t *testing.T) {
	for name, end := range map[string]func(w *apiWorld, there *peer){
		"removed": func(w *apiWorld, there *peer) {
			w.ok("RemoveParticipant", &wire.RoomParticipantIdentity{Room: "other", Identity: "ann"}, &wire.RemoveParticipantResponse{})
			there.update("ann", left)
		},
		"evicted": func(w *apiWorld, there *peer) {
			twin := w.join("other", "ann", nil, nil)
			there.update("ann", func(p *wire.ParticipantInfo) bool { return p.Sid == twin.id && len(p.KindDetails) == 0 })
		},
		"room deleted": func(w *apiWorld, there *peer) {
			w.ok("DeleteRoom", &wire.DeleteRoomRequest{Room: "other"}, &wire.DeleteRoomResponse{})
			there.closed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAPIWorld(t, nil)
			ann, there := w.withMedia("r", "ann", nil), w.withMedia("other", "new", nil)
			track := ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera)
			w.ok("ForwardParticipant", forward("ann"), &wire.ForwardParticipantResponse{})
			there.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
			end(w, there)
			ann.hides(there)
			ann.sync()
			if infos := w.srv.Participants("r"); len(infos) != 1 || len(infos[0].Tracks) != 1 || infos[0].Tracks[0].Sid != track.Sid {
				t.Errorf("in her own room: %v", infos)
			}
			w.srv.ask("r", func(a *actor) {
				if n := len(a.sessions[ann.id].shown); n != 0 {
					t.Errorf("%d showings are left", n)
				}
				if a.showings != 0 {
					t.Errorf("%d showings are counted", a.showings)
				}
			})
		})
	}
	t.Run("moved", func(t *testing.T) {
		w := newAPIWorld(t, nil)
		ann, there := w.withMedia("r", "ann", nil), w.withMedia("other", "new", nil)
		w.withMedia("third", "x", nil)
		w.ok("ForwardParticipant", forward("ann"), &wire.ForwardParticipantResponse{})
		there.update("ann", func(*wire.ParticipantInfo) bool { return true })
		if code := w.call("MoveParticipant", wire.Grant{RoomAdmin: true, Room: "r", DestinationRoom: "third"},
			&wire.MoveParticipantRequest{Room: "r", Identity: "ann", DestinationRoom: "third"}, &wire.MoveParticipantResponse{}); code != "" {
			t.Fatalf("the move: %q", code)
		}
		there.update("ann", left)
		ann.hides(there)
		ann.until("room_moved", func(m *wire.SignalResponse) bool { return m.GetRoomMoved().GetRoom().GetName() == "third" })
	})
}

// TestForwardedAreTold: newcomers see them, webhooks hear of them, the room stays for them.
func TestForwardedAreTold(t *testing.T) {
	events := make(chan RoomEvent, 100)
	w := newAPIWorld(t, func(c *Config) {
		c.Observe = func(e RoomEvent) {
			if e.Room == "other" && e.Identity == "ann" {
				events <- e
			}
		}
	})
	ann := w.withMedia("r", "ann", nil)
	ann.media().cfg.Notify(TransportChanged{Target: Subscriber, State: Connected})
	ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera)
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "other", EmptyTimeout: 60}, &wire.Room{})
	w.ok("ForwardParticipant", forward("ann"), &wire.ForwardParticipantResponse{})
	late := w.join("other", "late", nil, nil)
	if list := late.joined.OtherParticipants; len(list) != 1 || list[0].Sid != ann.id || len(list[0].Tracks) != 1 {
		t.Errorf("who comes late sees %v", list)
	}
	late.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	late.closed()
	if infos := w.srv.Participants("other"); len(infos) != 1 {
		t.Errorf("in the second room: %v", infos)
	}
	ann.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	for _, kind := range []RoomEventKind{ParticipantJoined, ParticipantActive, ParticipantLeft} {
		if e := <-events; e.Kind != kind || e.ParticipantID != ann.id || len(e.Participant.KindDetails) != 1 {
			t.Errorf("observed %+v, want kind %d", e, kind)
		}
	}
}

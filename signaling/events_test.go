package signaling

import (
	"slices"
	"testing"

	"anytime/signaling/wire"
)

// TestWebhookEvents: who never got media is told as aborted, everybody else as joined and left, each
// with what there is to know.
func TestWebhookEvents(t *testing.T) {
	events := make(chan RoomEvent, 100)
	w := newWorld(t, func(c *Config) { c.Observe = func(e RoomEvent) { events <- e } })
	ann := w.join("r", "ann", nil, nil)
	ann.media().cfg.Notify(TransportChanged{Target: Subscriber, State: Connected})
	ann.update("ann", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateActive })
	track := ann.publish("cid-a", wire.TrackAudio, wire.SourceMicrophone)
	bob := w.join("r", "bob", nil, nil)
	bob.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
	ann.update("bob", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
	ann.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})

	var told []string
	for e := range events {
		m := e.WebhookEvent()
		if m == nil {
			continue
		}
		told = append(told, m.Event+" "+m.Participant.GetIdentity())
		if m.Room.GetName() != "r" || m.Room.GetSid() != e.RoomID {
			t.Errorf("%s is of %v", m.Event, m.Room)
		}
		if m.Track != nil && m.Track.Sid != track.Sid || (m.Track != nil) != (e.TrackID != "") {
			t.Errorf("%s is of %v", m.Event, m.Track)
		}
		if m.Participant != nil && m.Participant.Sid != e.ParticipantID {
			t.Errorf("%s is of %v", m.Event, m.Participant)
		}
		if e.Kind == RoomFinished {
			if m.RoomEndReason != wire.RoomEndIdle {
				t.Errorf("ended by %v", m.RoomEndReason)
			}
			break
		}
	}
	want := []string{
		"room_started ", "participant_joined ann", "track_published ann", "participant_connection_aborted bob",
		"track_unpublished ann", "participant_left ann", "room_finished ",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q\nwant %q", told, want)
	}
}

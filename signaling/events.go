package signaling

import "anytime/signaling/wire"

// webhookEvents are the names that the contract's webhooks have for what happens in rooms.
var webhookEvents = map[RoomEventKind]string{
	RoomStarted:       "room_started",
	RoomFinished:      "room_finished",
	ParticipantActive: "participant_joined",
	ParticipantLeft:   "participant_left",
	TrackPublished:    "track_published",
	TrackUnpublished:  "track_unpublished",
}

// WebhookEvent returns what a webhook is told of an event, nil when nothing. As in the contract, a
// participant has joined when its media connects; one that leaves before that had its connection
// aborted.
func (e RoomEvent) WebhookEvent() *wire.WebhookEvent {
	name := webhookEvents[e.Kind]
	if name == "" {
		return nil
	}
	if e.Kind == ParticipantLeft && e.NeverActive {
		name = "participant_connection_aborted"
	}
	return &wire.WebhookEvent{
		Event: name, Room: e.RoomInfo, Participant: e.Participant, Track: e.Track, RoomEndReason: e.EndReason,
	}
}

package room

import (
	"errors"
	"testing"
)

// two rooms, with ann in the first, whom old watches, and new in the second.
func twoRooms(t *testing.T) (from, to *script) {
	from, to = newScript(t, Limits{}), newScript(t, Limits{})
	to.Room = New("RM_2", "second", Limits{Participants: 3}, t0)
	from.join("ann")
	from.join("old")
	to.join("new")
	from.publish("ann", "a")
	from.publish("old", "o")
	to.publish("new", "n")
	from.ok(from.AddTrack(t0, "PA_ann", Track{ID: "TR_later", CID: "later", Kind: Audio}))
	from.ok(from.TransportChanged(t0, "PA_ann", false, TransportConnected), nil)
	return from, to
}

func TestMoveBetweenRooms(t *testing.T) {
	from, to := twoRooms(t)
	before, _ := from.Participant("PA_ann")
	moving, effects, err := from.MoveOut(at(1), "PA_ann")
	from.ok(effects, err)
	from.want("unsubscribe PA_old TR_a", "trackunpublished TR_a", "left ann 4",
		"update>PA_old ann:departed", "room>PA_old 1/1")
	if _, there := from.IDOf("ann"); there || from.IsSubscribed("PA_old", "TR_a") || from.Owns("PA_ann", "TR_a") {
		t.Error("she is still in the first room")
	}
	to.ok(to.MoveIn(at(1), moving))
	to.want("moved>PA_ann to second others=new:joined+TR_n", "joined ann", "active ann", "trackpublished TR_a",
		"subscribe PA_ann TR_n", "update>PA_new,PA_ann ann:active+TR_a", "room>PA_new,PA_ann 2/2", "subscribe PA_new TR_a")
	after, ok := to.Participant("PA_ann")
	if !ok || after.Version <= before.Version || after.State != Active || after.JoinedAt != at(1) {
		t.Errorf("in the second room: %+v", after)
	}
	// What was announced and not sent yet comes along.
	to.last = to.TrackStarted(at(2), "PA_ann", "TR_later", "audio/opus")
	to.want("trackpublished TR_later", "update>PA_new,PA_ann ann:active+TR_a+TR_later", "subscribe PA_new TR_later")
	// And the connection's fate is the second room's.
	to.last = to.Detach(at(3), "PA_ann")
	to.want()
	to.last = to.TransportChanged(at(4), "PA_ann", false, TransportDisconnected)
	to.want("lost ann", "quality>PA_new [{PA_ann 1}]")
}

func TestMoveNeedsAConnection(t *testing.T) {
	from, _ := twoRooms(t)
	from.Detach(t0, "PA_ann")
	before := len(from.Participants())
	for id, code := range map[string]RefusalCode{"PA_ann": NotConnected, "PA_nobody": NotFound} {
		_, effects, err := from.MoveOut(t0, id)
		from.refused(code, effects, err)
	}
	if len(from.Participants()) != before || !from.Owns("PA_ann", "TR_a") {
		t.Error("a refused move changed the room")
	}
}

func TestMoveIn(t *testing.T) {
	from, to := twoRooms(t)
	if to.Full(1) || !to.Full(2) {
		t.Error("one is in a room for three")
	}
	moving, _, err := from.MoveOut(t0, "PA_ann")
	if err != nil {
		t.Fatal(err)
	}
	to.join("ann", func(p *Profile) { p.ID = "PA_other" })
	to.ok(to.MoveIn(t0, moving))
	if id, _ := to.IDOf("ann"); id != "PA_ann" {
		t.Errorf("the identity is %s's", id)
	}
	again, _, err := to.MoveOut(t0, "PA_ann")
	if err != nil {
		t.Fatal(err)
	}
	to.Close(t0, RoomDeleted, Disconnect)
	var refusal *Refusal
	if _, err := to.MoveIn(t0, again); !errors.As(err, &refusal) || refusal.Code != NotFound {
		t.Errorf("moved into a room that is over: %v", err)
	}
}

// TestMirrorsKeepGrants: a publisher's word on who may subscribe holds where it is mirrored.
func TestMirrorsKeepGrants(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.Mirror(t0, Info{Profile: Profile{ID: "PA_far", Identity: "far", Permission: everything}, State: Active, Version: 7})
	none := IndexGrants(SubscriptionGrants{})
	s.last = s.MirrorGrants(t0, "PA_far", none)
	s.last = s.Mirror(t0, Info{Profile: Profile{ID: "PA_far", Identity: "far", Permission: everything}, State: Active, Version: 8,
		Tracks: []Track{{ID: "TR_f"}}})
	s.want("update>PA_ann far:active+TR_f", "sendsubscriptionpermission PA_ann PA_far TR_f false")
	s.last = s.MirrorGrants(t0, "PA_far", nil)
	s.want("sendsubscriptionpermission PA_ann PA_far TR_f true", "subscribe PA_ann TR_f")
	if s.last = s.MirrorGrants(t0, "PA_ann", none); s.last != nil || s.Grants("PA_ann") != nil {
		t.Error("a local participant's grants were mirrored")
	}
}

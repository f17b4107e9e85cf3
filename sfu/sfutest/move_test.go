package sfutest

import (
	"context"
	"errors"
	"testing"

	"anytime/sfu"
)

// TestMove: a publisher and subscriber changes rooms with its peer connections and its tracks.
func TestMove(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, old, other := n.Join(t, "one", "PA_a"), n.Join(t, "one", "PA_old"), n.Join(t, "two", "PA_new")
	video, err := a.Video("TR_video")
	must(t, err)
	audio, err := a.Audio("TR_audio")
	must(t, err)
	there, err := other.Audio("TR_there")
	must(t, err)
	here, err := old.Audio("TR_here")
	must(t, err)
	_, _ = there, here
	subscribe(t, old, "TR_video")
	subscribe(t, a, "TR_here")
	_, err = old.AwaitPackets("TR_video", 5)
	must(t, err)
	_, err = a.AwaitPackets("TR_here", 5)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	here.Level(127)
	audio.Level(10)
	must(t, n.AwaitSpeaker(ctx, "one", "PA_a"))

	must(t, a.Participant.Move("two"))
	subscribe(t, other, "TR_video")
	subscribe(t, a, "TR_there")
	_, err = other.AwaitPackets("TR_video", 20)
	must(t, err)
	_, err = a.AwaitPackets("TR_there", 20)
	must(t, err)
	must(t, n.AwaitSpeaker(ctx, "one", ""))
	there.Level(127)
	must(t, n.AwaitSpeaker(ctx, "two", "PA_a"))
	for what, err := range map[string]error{
		"the old room finds a track that has moved": old.Participant.Subscribe("TR_video"),
		"who has moved finds the old room's tracks": a.Participant.Subscribe("TR_here"),
	} {
		if !errors.Is(err, sfu.ErrUnknownTrack) {
			t.Errorf("%s: %v", what, err)
		}
	}
	stats := old.Participant.Stats()
	if len(stats.Subscriptions) != 0 {
		t.Errorf("the old room is still subscribed: %+v", stats.Subscriptions)
	}
	if got := a.Participant.Stats(); got.Room != "two" || len(got.Subscriptions) != 1 || len(got.Publications) != 2 {
		t.Errorf("after the move: %+v", got)
	}
	video.Stop()

	again, err := n.Server.Join(sfu.ParticipantConfig{Room: "one", ID: "PA_new"})
	must(t, err)
	if err := again.Move("two"); !errors.Is(err, sfu.ErrExists) {
		t.Errorf("moved to where that id is: %v", err)
	}
	must(t, again.Move("one")) // it is there
	again.Close()
	if err := again.Move("three"); !errors.Is(err, sfu.ErrClosed) {
		t.Errorf("moved after Close: %v", err)
	}
}

// TestShow: a publisher's tracks are found in a second room too, those that come later included, until they aren't.
func TestShow(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, same := n.Join(t, "one", "PA_a"), n.Join(t, "one", "PA_same")
	_, err := a.Video("TR_video")
	must(t, err)
	must(t, a.Participant.Show("two")) // nobody is there yet
	other := n.Join(t, "two", "PA_other")
	audio, err := a.Audio("TR_audio")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	audio.Level(10)
	must(t, n.AwaitSpeaker(ctx, "one", "PA_a"))
	must(t, n.AwaitSpeaker(ctx, "two", "PA_a"))
	for _, who := range []*Client{same, other} {
		for _, id := range []string{"TR_video", "TR_audio"} {
			subscribe(t, who, id)
			_, err := who.AwaitPackets(id, 10)
			must(t, err)
		}
	}
	if err := a.Participant.Show("two"); !errors.Is(err, sfu.ErrExists) {
		t.Errorf("shown twice: %v", err)
	}
	if err := a.Participant.Move("two"); !errors.Is(err, sfu.ErrExists) {
		t.Errorf("moved to where it is shown: %v", err)
	}
	a.Participant.Hide("two")
	must(t, n.AwaitSpeaker(ctx, "two", ""))
	if len(other.Participant.Stats().Subscriptions) != 0 || len(same.Participant.Stats().Subscriptions) != 2 {
		t.Errorf("after hiding: %+v and %+v", other.Participant.Stats().Subscriptions, same.Participant.Stats().Subscriptions)
	}
	if err := other.Participant.Subscribe("TR_audio"); !errors.Is(err, sfu.ErrUnknownTrack) {
		t.Errorf("subscribed to what is hidden: %v", err)
	}
	must(t, a.Participant.Show("two"))
	a.Close()
	if len(other.Participant.Stats().Subscriptions) != 0 {
		t.Error("subscriptions outlive their publisher")
	}
	other.Close()
	if rooms := n.Server.Stats().Rooms; rooms != 1 {
		t.Errorf("%d rooms are left", rooms)
	}
}

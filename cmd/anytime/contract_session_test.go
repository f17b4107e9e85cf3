package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// What SDKs rely on when sessions break, resume and end.

// TestContractLeaveActions: the action from protocol 13 on, can_reconnect for those before.
func TestContractLeaveActions(t *testing.T) {
	for _, protocol := range []int{1, 12, 13, 17} {
		ctx := roomContext(t)
		r := newTestRooms(t, nil)
		join := func() *client.Client {
			return r.join(ctx, "ann", func(c *client.Config, _ *wire.Claims) { c.SignalOnly, c.Protocol = true, protocol })
		}
		for _, c := range []struct {
			name   string
			do     func(*client.Client)
			action wire.LeaveAction
			reason wire.DisconnectReason
		}{
			{"removed", func(*client.Client) { r.sig.RemoveParticipant("room", "ann", wire.ReasonParticipantRemoved) }, wire.LeaveDisconnect, wire.ReasonParticipantRemoved},
			{"the room is deleted", func(*client.Client) { r.sig.CloseRoom("room", wire.ReasonRoomDeleted) }, wire.LeaveDisconnect, wire.ReasonRoomDeleted},
			{"joined elsewhere", func(*client.Client) { join() }, wire.LeaveDisconnect, wire.ReasonDuplicateIdentity},
			{"a state that can't be healed", func(ann *client.Client) {
				_ = ann.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
					PublishTracks: []*wire.TrackPublishedResponse{{Cid: "x", Track: &wire.TrackInfo{Sid: "TR_x"}}},
				}}})
			}, wire.LeaveReconnect, wire.ReasonStateMismatch},
		} {
			ann := join()
			c.do(ann)
			wait(ctx, t, ann, "the leave", func(s client.State) bool { return s.Left != nil })
			left := ann.State().Left
			if left.Action != c.action || left.Reason != c.reason || left.CanReconnect != (c.action != wire.LeaveDisconnect) {
				t.Errorf("protocol %d, %s: %v", protocol, c.name, left)
			}
		}
	}
}

// TestContractUnknownResume: join anew.
func TestContractUnknownResume(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	for _, name := range []string{"js", "js dual"} {
		ann := r.join(ctx, "ann", as(profile(t, name)))
		r.sig.RemoveParticipant("room", "ann", wire.ReasonParticipantRemoved)
		wait(ctx, t, ann, "the removal", func(s client.State) bool { return s.Left != nil })
		var leave *client.LeaveError
		if err := ann.Resume(ctx); !errors.As(err, &leave) || leave.Leave.Action != wire.LeaveReconnect || !leave.Leave.CanReconnect || leave.Leave.Reason != wire.ReasonStateMismatch {
			t.Errorf("%s: the resume of nothing gets %v", name, err)
		}
	}
}

// TestContractAResumeKeepsItsMode: a session of two peer connections is not resumed as one with a single one.
func TestContractAResumeKeepsItsMode(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", signalOnly)
	_, err := client.Join(ctx, client.Config{URL: r.url, Token: roomToken(t, "ann"), Single: true, SignalOnly: true,
		Query: map[string][]string{"join_request": {resumeRequest(t, ann.ID())}}})
	var leave *client.LeaveError
	if !errors.As(err, &leave) || leave.Leave.Action != wire.LeaveReconnect {
		t.Errorf("resumed in another mode: %v", err)
	}
}

func resumeRequest(t *testing.T, sid string) string {
	t.Helper()
	text, err := wire.EncodeJoinRequest(&wire.JoinRequest{Reconnect: true, ParticipantSid: sid}, true)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestContractDuplicateIdentity: the newer session stays.
func TestContractDuplicateIdentity(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(nil))
	for _, name := range []string{"js", "js dual"} {
		first := r.join(ctx, "ann", as(profile(t, name)))
		second := r.join(ctx, "ann", as(profile(t, name)))
		wait(ctx, t, first, "the eviction", func(s client.State) bool { return s.Left != nil })
		if left := first.State().Left; left.Reason != wire.ReasonDuplicateIdentity || left.Action != wire.LeaveDisconnect || left.CanReconnect {
			t.Errorf("%s: the older session is told %v", name, left)
		}
		wait(ctx, t, bob, "the newer one", func(s client.State) bool { return s.Participants["ann"].GetSid() == second.ID() })
		// Whoever is told of the newer one before the end of the older takes the latter for the former's.
		gone, _ := rec.await(ctx, t, "the end of the older", 0, func(m *wire.SignalResponse) bool {
			return slices.ContainsFunc(m.GetUpdate().GetParticipants(), func(p *wire.ParticipantInfo) bool {
				return p.Sid == first.ID() && p.State == wire.StateDisconnected && p.DisconnectReason == wire.ReasonDuplicateIdentity
			})
		})
		come, _ := rec.await(ctx, t, "the newer", 0, func(m *wire.SignalResponse) bool {
			return slices.ContainsFunc(m.GetUpdate().GetParticipants(), func(p *wire.ParticipantInfo) bool { return p.Sid == second.ID() })
		})
		if come < gone {
			t.Errorf("%s: message %d tells of the newer, message %d of the older's end", name, come, gone)
		}
	}
}

var ufrag = regexp.MustCompile(`a=ice-ufrag:(\S+)`)

// TestContractResume: peer connections stay; first reconnect, then everybody, then the room; ICE restarts on both sides.
func TestContractResume(t *testing.T) {
	for _, name := range []string{"js", "js dual"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			rec := newRecorder()
			ann := r.join(ctx, "ann", nil)
			bob := r.join(ctx, "bob", rec.record(as(profile(t, name))))
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			mine := publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			atBob := byID(ctx, t, bob, audio.ID())[audio.ID()]
			atAnn := byID(ctx, t, ann, mine.ID())[mine.ID()]
			bob.Cut()
			wait(ctx, t, bob, "the loss", func(s client.State) bool { return s.SignalLost })
			before := len(rec.all())
			if err := bob.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			hears(ctx, t, atBob, 'a', 20) // on the track that it had
			hears(ctx, t, atAnn, 'b', 20)
			kinds := rec.kinds()[before:]
			if len(kinds) < 3 || !slices.Equal(kinds[:3], []string{"reconnect", "update", "room_update"}) {
				t.Errorf("a resume begins with %v", kinds)
			}
			if told := rec.all()[before+1].GetUpdate().GetParticipants(); len(told) != 2 || told[0].Sid != bob.ID() || told[1].Sid != ann.ID() || len(told[1].Tracks) != 1 {
				t.Errorf("the update tells of %v", told)
			}
			if m := rec.all()[before].GetReconnect(); m.GetServerInfo().GetVersion() == "" {
				t.Errorf("the reconnect response is %v", m)
			}
			// Fresh credentials: in the server's offer, or in its answer to the client's. An answer to an offer that crossed
			// the resume may come before.
			said := map[string]bool{}
			for _, m := range rec.all()[:before] {
				said[ufrag.FindString(m.GetOffer().GetSdp()+m.GetAnswer().GetSdp())] = true
			}
			fresh := func(sdp string) bool { return sdp != "" && !said[ufrag.FindString(sdp)] }
			rec.await(ctx, t, "an answer with fresh credentials", before, func(m *wire.SignalResponse) bool { return fresh(m.GetAnswer().GetSdp()) })
			if name == "js dual" {
				rec.await(ctx, t, "an offer with fresh credentials", before, func(m *wire.SignalResponse) bool { return fresh(m.GetOffer().GetSdp()) })
			}
		})
	}
}

// TestContractAnswersLostWithTheConnectionComeAgain: track_published of a track whose media isn't there yet.
func TestContractAnswersLostWithTheConnectionComeAgain(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", rec.record(signalOnly))
	if err := ann.Send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{Cid: "mic", Type: wire.TrackAudio}}}); err != nil {
		t.Fatal(err)
	}
	rec.await(ctx, t, "track_published", 0, func(m *wire.SignalResponse) bool { return m.GetTrackPublished() != nil })
	ann.Cut()
	wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
	before := len(rec.all())
	if err := ann.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	rec.await(ctx, t, "track_published again", before, func(m *wire.SignalResponse) bool { return m.GetTrackPublished().GetCid() == "mic" })
}

// TestContractOwnQualityIsNeverLost: JavaScript reconnects from scratch when it hears that of itself for 10 s.
func TestContractOwnQualityIsNeverLost(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", rec.record(signalOnly)) // without media, which would speak for it
	bob.Cut()
	wait(ctx, t, ann, "bob's loss", func(s client.State) bool { return s.Qualities[bob.ID()] == wire.ConnectionLost })
	if err := bob.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, ann, "bob to be well", func(s client.State) bool { return s.Qualities[bob.ID()] != wire.ConnectionLost })
	answered(ctx, t, bob, rec)
	for _, m := range rec.all() {
		for _, q := range m.GetConnectionQuality().GetUpdates() {
			if q.ParticipantSid == bob.ID() && q.Quality == wire.ConnectionLost {
				t.Errorf("bob is told that its own connection is lost")
			}
		}
	}
}

// TestContractTokensAreRefreshed: before they end, and when what they say changes; a resume needs a valid one.
func TestContractTokensAreRefreshed(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, func(c *signaling.Config) { c.TokenLifetime = 2 * time.Second })
	rec := newRecorder()
	yes := true
	ann := r.join(ctx, "ann", rec.record(func(c *client.Config, claims *wire.Claims) {
		c.SignalOnly, claims.Video.CanUpdateOwnMetadata = true, &yes
	}))
	began := time.Now()
	at, m := rec.await(ctx, t, "a token", 0, func(m *wire.SignalResponse) bool { return m.GetRefreshToken() != "" })
	if took := time.Since(began); took < 500*time.Millisecond || took > 10*time.Second {
		t.Errorf("a token that lives 2 s is refreshed after %v", took)
	}
	claims, err := wire.Verify(m.GetRefreshToken(), func(string) (string, bool) { return roomSecret, true })
	if err != nil || claims.Identity != "ann" || claims.Video.Room != "room" || !claims.ExpiresAt.After(time.Now()) {
		t.Errorf("the token says %+v, %v", claims, err)
	}
	if err := ann.Send(&wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{Name: "Ann the Great"}}}); err != nil {
		t.Fatal(err)
	}
	rec.await(ctx, t, "a token with the change", at+1, func(m *wire.SignalResponse) bool {
		claims, err := wire.Verify(m.GetRefreshToken(), func(string) (string, bool) { return roomSecret, true })
		return err == nil && claims.Name == "Ann the Great"
	})
	ann.Cut()
	wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
	if err := ann.Resume(ctx); err != nil { // with the newest
		t.Error(err)
	}
}

// TestContractServerShutdown: the clients look for another server.
func TestContractServerShutdown(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	if err := r.sig.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, ann, "the leave", func(s client.State) bool { return s.Left != nil })
	if left := ann.State().Left; left.Action != wire.LeaveReconnect || left.Reason != wire.ReasonServerShutdown || !left.CanReconnect {
		t.Errorf("the leave is %v", left)
	}
}

// TestContractIdleSectionsServeGoClientsAgain: one that was inactive in two offers running would be lost to Pion's receiver,
// so an idle one is recvonly.
func TestContractIdleSectionsServeGoClientsAgain(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(as(profile(t, "go"))))
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	byID(ctx, t, bob, audio.ID(), video.ID())
	for idle, p := range []*source{video, audio} {
		before := len(rec.all())
		if err := p.Unpublish(ctx); err != nil {
			t.Fatal(err)
		}
		rec.await(ctx, t, "the offer without it", before, func(m *wire.SignalResponse) bool {
			offer := m.GetOffer().GetSdp()
			return strings.Count(offer, "\r\na=recvonly\r\n") == idle+1 && !strings.Contains(offer, "a=inactive")
		})
	}
	for i := range 3 {
		video := publishSource(ctx, t, ann, 'B', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
		seesNew(ctx, t, byID(ctx, t, bob, video.ID())[video.ID()], 'B', 3)
		if i == 2 {
			break
		}
		if err := video.Unpublish(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContractReusedSectionsKeepTheirExtensions: the next track on an m-line has what the one before had, transport-wide
// numbers and feedback among them, though the answer in between, for an m-line that sends nothing, has none.
func TestContractReusedSectionsKeepTheirExtensions(t *testing.T) {
	const transportWide = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n"
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	for _, p := range []string{"js dual", "go"} {
		rec := newRecorder()
		bob := r.join(ctx, "bob of "+p, rec.record(as(profile(t, p))))
		for range 3 {
			before := len(rec.all())
			video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
			seesNew(ctx, t, byID(ctx, t, bob, video.ID())[video.ID()], 'A', 1)
			rec.await(ctx, t, "an offer of it with transport-wide numbers", before, func(m *wire.SignalResponse) bool {
				_, section, found := strings.Cut(m.GetOffer().GetSdp(), "\r\nm=video")
				return found && strings.Contains(section, "a=sendonly") && strings.Contains(section, transportWide) &&
					strings.Contains(section, "a=rtcp-fb:96 nack\r\n") && strings.Contains(section, "a=rtcp-fb:96 transport-cc\r\n")
			})
			if err := video.Unpublish(ctx); err != nil {
				t.Fatal(err)
			}
			wait(ctx, t, bob, "its end", func(s client.State) bool { return len(s.Participants["ann"].GetTracks()) == 0 })
		}
		bob.Close()
	}
}

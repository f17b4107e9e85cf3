package signaling

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	"anytime/signaling/wire"
)

// TestRevocationThatCrossesAJoin: the right to be in a room is lost after a join was authorized and before it took
// effect. Removing finds nobody then, so the join itself must notice.
func TestRevocationThatCrossesAJoin(t *testing.T) {
	var mu sync.Mutex
	revoked := false
	var w *world
	w = newWorld(t, func(c *Config) {
		c.Authorize = func(_ context.Context, claims wire.Claims, o Occasion) (Admission, error) {
			mu.Lock()
			defer mu.Unlock()
			if claims.Identity != "ann" {
				return Admission{}, nil
			}
			if revoked {
				return Admission{}, &Refusal{Text: "not any more"}
			}
			if o == Join {
				revoked = true // a moment after it was looked up
				if w.srv.RemoveParticipant("r", "ann", wire.ReasonParticipantRemoved) {
					t.Error("ann was there before she joined")
				}
			}
			return Admission{}, nil
		}
	})
	bob := w.join("r", "bob", nil, nil)
	start := time.Now()
	ann := w.join("r", "ann", nil, nil)
	_, _, leave := ann.closed()
	if leave.GetReason() != wire.ReasonParticipantRemoved || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("got %v", leave)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
}

// TestRecheckThatCannotBeDecided lets the participant stay and brings the next refresh forward.
func TestRecheckThatCannotBeDecided(t *testing.T) {
	asked := make(chan Occasion, 16)
	w := newWorld(t, func(c *Config) {
		c.TokenLifetime = time.Hour
		c.Authorize = func(_ context.Context, _ wire.Claims, o Occasion) (Admission, error) {
			asked <- o
			if o == Joined {
				return Admission{}, errors.New("the database is away")
			}
			return Admission{}, nil
		}
	})
	ann := w.join("r", "ann", nil, nil)
	for _, want := range []Occasion{Join, Joined} {
		if got := <-asked; got != want {
			t.Errorf("asked on %v, want %v", got, want)
		}
	}
	due := func() (at time.Time) {
		w.srv.ask("r", func(a *actor) { at = a.sessions[ann.id].refreshAt })
		return at
	}
	eventually(t, "an early refresh", func() bool { return time.Until(due()) <= refreshRetry })
	ann.sync()
}

// TestTokensAreRefreshedAfterAResume: the new connection gets them.
func TestTokensAreRefreshedAfterAResume(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TokenLifetime = 400 * time.Millisecond })
	ann := w.join("r", "ann", nil, nil)
	_ = ann.ws.UnderlyingConn().Close()
	ann = w.resume(ann)
	m := ann.until("a token", func(m *wire.SignalResponse) bool { return m.GetRefreshToken() != "" })
	c, err := wire.Verify(m.GetRefreshToken(), testKeys)
	if err != nil || c.Identity != "ann" || c.Video.Room != "r" {
		t.Errorf("claims are %+v, %v", c, err)
	}
	ann.tok = m.GetRefreshToken()
	_ = ann.ws.UnderlyingConn().Close()
	w.resume(ann).sync()
}

// TestStalledSubscriptionIsToldAndStays: the place for it may yet come.
func TestStalledSubscriptionIsToldAndStays(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	track := ann.publish("one", wire.TrackVideo, wire.SourceCamera)
	media := w.media.peer(bob.id)
	eventually(t, "the subscription", func() bool { return media.did("subscribe " + track.Sid) })
	media.cfg.Notify(SubscriptionStalled{TrackID: "TR_other"})
	media.cfg.Notify(SubscriptionStalled{TrackID: track.Sid})
	r := bob.until("the news", func(m *wire.SignalResponse) bool { return m.GetSubscriptionResponse() != nil }).GetSubscriptionResponse()
	if r.TrackSid != track.Sid || r.Err != wire.SubscriptionUnknown {
		t.Errorf("got %v", r)
	}
	subscribed := false
	w.srv.ask("r", func(a *actor) { subscribed = a.room.IsSubscribed(bob.id, track.Sid) })
	if !subscribed || media.did("unsubscribe "+track.Sid) {
		t.Error("it was given up")
	}
}

// TestSwiftListsTracksThatItHasNotAttachedYet in the sync_state of a resume; that must not silence them.
func TestSwiftListsTracksThatItHasNotAttachedYet(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, url.Values{"sdk": {"swift"}})
	unsubscribe := func(id string) *wire.UpdateSubscription { return &wire.UpdateSubscription{TrackSids: []string{id}} }
	fresh := ann.publish("one", wire.TrackAudio, wire.SourceMicrophone)
	unwanted := w.join("r", "eve", nil, nil).publish("two", wire.TrackVideo, wire.SourceCamera)
	media := w.media.peer(bob.id)
	for _, track := range []*wire.TrackInfo{fresh, unwanted} {
		eventually(t, "the subscription", func() bool { return media.did("subscribe " + track.Sid) })
	}
	bob.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: unsubscribe(unwanted.Sid)}})
	bob.sync()
	_ = bob.ws.UnderlyingConn().Close()
	bob = w.resume(bob)
	both := unsubscribe(fresh.Sid)
	both.TrackSids = append(both.TrackSids, unwanted.Sid)
	bob.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{Subscription: both}}})
	bob.sync()
	w.srv.ask("r", func(a *actor) {
		if !a.room.IsSubscribed(bob.id, fresh.Sid) || a.room.IsSubscribed(bob.id, unwanted.Sid) {
			t.Errorf("subscribed to the new track %v, to the unwanted one %v",
				a.room.IsSubscribed(bob.id, fresh.Sid), a.room.IsSubscribed(bob.id, unwanted.Sid))
		}
	})
}

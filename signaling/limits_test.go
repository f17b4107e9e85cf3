package signaling

import (
	"context"
	"strings"
	"testing"
	"time"

	"anytime/signaling/wire"
)

// TestOffersAreLimited: each costs milliseconds.
func TestOffersAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.OffersPerSecond, c.Limits.OfferBurst = 0.001, 3 })
	ann := w.join("r", "ann", nil, nil)
	for range 3 {
		ann.offer("one")
	}
	ann.send(requestOf("offer", ""))
	if got := ann.outcome(""); got != "LIMIT_EXCEEDED" {
		t.Errorf("the fourth offer of three: %s", got)
	}
	ann.sync() // the session goes on
}

// TestWhatTheOthersAreToldIsLimited: an update carries all metadata, however little has changed.
func TestWhatTheOthersAreToldIsLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits.ToldPerSecond, c.Limits.ToldBurst = 1, 3*wire.MaxMetadataBytes
		c.Authorize = func(_ context.Context, claims wire.Claims, _ Occasion) (Admission, error) {
			if claims.Identity == "bob" {
				return Admission{}, nil
			}
			return Admission{Metadata: strings.Repeat("x", wire.MaxMetadataBytes-1000)}, nil
		}
	})
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	for _, c := range []struct {
		who     *peer
		refused int
	}{{ann, 97}, {bob, 0}} { // bob's changes are 100 times 256 bytes and a track's
		track := c.who.publish("own", wire.TrackAudio, wire.SourceMicrophone)
		refused := 0
		for i := range 100 {
			c.who.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: track.Sid, Muted: i%2 == 0}}})
			c.who.send(requestOf("publish_data_track_request", "")) // refused as a kind, after the other
			c.who.until("the marker", func(m *wire.SignalResponse) bool {
				if m.GetRequestResponse().GetReason() == wire.RequestLimitExceeded {
					refused++
				}
				return m.GetRequestResponse().GetReason() == wire.RequestUnsupportedType
			})
		}
		if refused != c.refused {
			t.Errorf("%d of 100 changes were refused, want %d", refused, c.refused)
		}
	}
}

// TestLongMessagesCountForMore than one.
func TestLongMessagesCountForMore(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MessagesPerSecond, c.Limits.MessageBurst = 0.001, 40 })
	ann := w.join("r", "ann", nil, nil)
	for range 20 {
		ann.send(requestOf("simulate", ""))
	}
	ann.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Sdp: strings.Repeat("x", 100<<10)}}}) // has limits of its own
	ann.until("the refusal", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil })
	ann.send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{CandidateInit: strings.Repeat("x", 100<<10)}}}) // as 26
	if code, reason, _ := ann.closed(); code != 1008 || !strings.Contains(reason, "too many") {
		t.Errorf("closed with %d %q", code, reason)
	}
}

// TestManyTrackIDsTakeNoTimeOfTheRoom: two lists of ids are joined in time that grows with their length alone.
func TestManyTrackIDsTakeNoTimeOfTheRoom(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MessageBurst, c.Limits.QueuedMessages = 100_000, 100_000 })
	ann := w.join("r", "ann", nil, nil)
	u := &wire.UpdateSubscription{Subscribe: true}
	for range wire.MaxSIDs {
		id := wire.NewTrackID()
		u.TrackSids = append(u.TrackSids, id)
		u.ParticipantTracks = append(u.ParticipantTracks, &wire.ParticipantTracks{TrackSids: []string{id}})
	}
	start := time.Now()
	ann.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: u}})
	last := u.TrackSids[wire.MaxSIDs-1]
	ann.until("the last answer", func(m *wire.SignalResponse) bool { return m.GetSubscriptionResponse().GetTrackSid() == last })
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("%d ids took %v", wire.MaxSIDs, took)
	}
	u.TrackSids = append(u.TrackSids, "TR_one_more")
	ann.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: u}})
	if got := ann.until("the refusal", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil }).GetRequestResponse().Reason; got != wire.RequestLimitExceeded {
		t.Errorf("one more: %v", got)
	}
}

package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// These tests speak as the SDK families do (client.Profiles). PROTOCOL.md's table names them.

// as joins as the SDKs of a profile do.
func as(p client.Profile) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, _ *wire.Claims) { c.Profile = &p }
}

// profile returns a profile by its name.
func profile(t *testing.T, name string) client.Profile {
	t.Helper()
	p, err := client.ProfileOf(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mayUpdate is as for one who may change its own metadata.
func mayUpdate(p client.Profile) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, claims *wire.Claims) {
		yes := true
		as(p)(c, claims)
		claims.Video.CanUpdateOwnMetadata = &yes
	}
}

// TestProfiles has every family do everything that PROTOCOL.md's table lists, with one who speaks as our own client.
func TestProfiles(t *testing.T) {
	few := []string{"js", "js dual", "swift single", "go"}
	rooms := newTestRooms(t, nil)
	for _, p := range client.Profiles() {
		t.Run(strings.ReplaceAll(p.Name, " ", "_"), func(t *testing.T) {
			if testing.Short() && !slices.Contains(few, p.Name) {
				t.Skip("short: a profile of each mode and order of messages is enough")
			}
			t.Parallel() // they mostly wait
			ctx := roomContext(t)
			r := rooms.in(t, p.Name)
			m := &matrix{ctx: ctx, t: t, r: r, p: p, ann: r.join(ctx, "ann", nil), bob: r.join(ctx, "bob", mayUpdate(p))}
			m.publish()
			m.mute()
			m.data()
			m.packets()
			m.metadata()
			m.republish()
			m.simulcast()
			m.resume()
			m.permission()
			if refused := m.bob.State().Refused; len(refused) > 0 {
				t.Errorf("the server refused %v", refused)
			}
			m.reconnect()
			m.leave()
		})
	}
}

// matrix is one family in a room with ann.
type matrix struct {
	ctx      context.Context
	t        *testing.T
	r        *testRooms
	p        client.Profile
	ann, bob *client.Client

	annAudio, annVideo, bobAudio, bobVideo *source
	atBob, atAnn                           map[string]*client.Track
}

// takes returns tracks that bob is subscribed to; who subscribes by hand does so first.
func (m *matrix) takes(ids ...string) map[string]*client.Track {
	m.t.Helper()
	if m.p.ManualSubscribe {
		for _, id := range ids {
			wait(m.ctx, m.t, m.bob, "the track "+id, func(s client.State) bool {
				for _, track := range s.Participants["ann"].GetTracks() {
					if track.Sid == id {
						return true
					}
				}
				return false
			})
		}
		if err := m.bob.Subscribe(ids...); err != nil {
			m.t.Fatal(err)
		}
	}
	return byID(m.ctx, m.t, m.bob, ids...)
}

func (m *matrix) publish() {
	m.t.Helper()
	m.annAudio = publishSource(m.ctx, m.t, m.ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	m.annVideo = publishSource(m.ctx, m.t, m.ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	m.bobPublishes()
	m.atBob = m.takes(m.annAudio.ID(), m.annVideo.ID())
	hears(m.ctx, m.t, m.atBob[m.annAudio.ID()], 'a', 20)
	seesNew(m.ctx, m.t, m.atBob[m.annVideo.ID()], 'A', 5)
}

func (m *matrix) bobPublishes() {
	m.t.Helper()
	m.bobAudio = publishSource(m.ctx, m.t, m.bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	m.bobVideo = publishSource(m.ctx, m.t, m.bob, 'B', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	m.atAnn = byID(m.ctx, m.t, m.ann, m.bobAudio.ID(), m.bobVideo.ID())
	hears(m.ctx, m.t, m.atAnn[m.bobAudio.ID()], 'b', 20)
	seesNew(m.ctx, m.t, m.atAnn[m.bobVideo.ID()], 'B', 5)
	info := m.ann.State().Participants["bob"]
	if info.ClientProtocol != int32(m.p.ClientProtocol) {
		m.t.Errorf("bob's client_protocol is told as %d, want %d", info.ClientProtocol, m.p.ClientProtocol)
	}
}

func (m *matrix) mute() {
	m.t.Helper()
	for _, muted := range []bool{true, false} {
		if err := m.bobAudio.SetMuted(muted); err != nil {
			m.t.Fatal(err)
		}
		wait(m.ctx, m.t, m.ann, "bob's mute", func(s client.State) bool {
			for _, track := range s.Participants["bob"].GetTracks() {
				if track.Sid == m.bobAudio.ID() {
					return track.Muted == muted
				}
			}
			return false
		})
	}
	hears(m.ctx, m.t, m.atAnn[m.bobAudio.ID()], 'b', 5)
}

func (m *matrix) data() {
	m.t.Helper()
	for _, reliable := range []bool{true, false} {
		for _, way := range [][2]*client.Client{{m.ann, m.bob}, {m.bob, m.ann}} {
			text := "from " + way[0].Identity()
			if err := way[0].SendText(m.ctx, reliable, text, way[1].Identity()); err != nil {
				m.t.Fatal(err)
			}
			d, err := way[1].NextData(m.ctx)
			if err != nil || d.Reliable != reliable || string(d.Packet.GetUser().GetPayload()) != text ||
				d.Packet.ParticipantIdentity != way[0].Identity() || d.Packet.ParticipantSid != way[0].ID() {
				m.t.Errorf("%s received %v, %v", way[1].Identity(), d, err)
			}
		}
	}
}

func (m *matrix) republish() {
	m.t.Helper()
	if err := m.bobVideo.Unpublish(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	wait(m.ctx, m.t, m.ann, "the end of bob's video", func(s client.State) bool { return len(s.Participants["bob"].GetTracks()) == 1 })
	m.bobVideo = publishSource(m.ctx, m.t, m.bob, 'C', client.PublishOptions{Codec: client.VP8, Source: wire.SourceScreenShare})
	seesNew(m.ctx, m.t, byID(m.ctx, m.t, m.ann, m.bobVideo.ID())[m.bobVideo.ID()], 'C', 5)

	if err := m.annVideo.Unpublish(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	wait(m.ctx, m.t, m.bob, "the end of ann's video", func(s client.State) bool { return len(s.Participants["ann"].GetTracks()) == 1 })
	m.annVideo = publishSource(m.ctx, m.t, m.ann, 'D', client.PublishOptions{Codec: client.VP8, Source: wire.SourceScreenShare})
	seesNew(m.ctx, m.t, m.takes(m.annVideo.ID())[m.annVideo.ID()], 'D', 5)
}

// resume breaks bob's connection; what happens meanwhile is told afterwards, and media doesn't mind.
func (m *matrix) resume() {
	m.t.Helper()
	if m.p.NoResume {
		return
	}
	m.bob.Cut()
	wait(m.ctx, m.t, m.bob, "the loss", func(s client.State) bool { return s.SignalLost })
	sound := publishSource(m.ctx, m.t, m.ann, 's', client.PublishOptions{Codec: client.Opus, Source: wire.SourceScreenShareAudio})
	if err := m.bob.Resume(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	hears(m.ctx, m.t, m.takes(sound.ID())[sound.ID()], 's', 5)
	hears(m.ctx, m.t, m.atBob[m.annAudio.ID()], 'a', 20)
	hears(m.ctx, m.t, m.atAnn[m.bobAudio.ID()], 'b', 20)
	m.data()
	if err := sound.Unpublish(m.ctx); err != nil {
		m.t.Fatal(err)
	}
}

// reconnect lets the server ask for a fresh start, which the client makes at once.
func (m *matrix) reconnect() {
	m.t.Helper()
	if err := m.bob.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
		PublishTracks: []*wire.TrackPublishedResponse{{Cid: "lost", Track: &wire.TrackInfo{Sid: "TR_lost"}}},
	}}}); err != nil {
		m.t.Fatal(err)
	}
	wait(m.ctx, m.t, m.bob, "the leave", func(s client.State) bool { return s.Left != nil })
	if left := m.bob.State().Left; left.Action != wire.LeaveReconnect || !left.CanReconnect || left.Reason != wire.ReasonStateMismatch {
		m.t.Errorf("the leave is %v", left)
	}
	old := m.bob.ID()
	m.bob = m.r.join(m.ctx, "bob", as(m.p))
	wait(m.ctx, m.t, m.ann, "bob to be back", func(s client.State) bool { return s.Participants["bob"].GetSid() == m.bob.ID() })
	if m.bob.ID() == old {
		m.t.Error("the new session has the old one's id")
	}
	m.bobPublishes()
	m.atBob = m.takes(m.annAudio.ID(), m.annVideo.ID())
	hears(m.ctx, m.t, m.atBob[m.annAudio.ID()], 'a', 5)
}

func (m *matrix) leave() {
	m.t.Helper()
	m.bob.Close()
	wait(m.ctx, m.t, m.ann, "bob's leave", func(s client.State) bool { return s.Participants["bob"] == nil })
}

// recorder keeps what a client receives, in order.
type recorder struct {
	mu       sync.Mutex
	messages []*wire.SignalResponse
	changed  chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) take(m *wire.SignalResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
	close(r.changed)
	r.changed = make(chan struct{})
}

// record has a client's messages recorded.
func (r *recorder) record(change func(*client.Config, *wire.Claims)) func(*client.Config, *wire.Claims) {
	return func(c *client.Config, claims *wire.Claims) {
		if change != nil {
			change(c, claims)
		}
		c.OnMessage = r.take
	}
}

// all returns the messages that were received so far.
func (r *recorder) all() []*wire.SignalResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[:len(r.messages):len(r.messages)]
}

func (r *recorder) kinds() (list []string) {
	for _, m := range r.all() {
		list = append(list, wire.ResponseKind(m))
	}
	return list
}

// await returns the place and the first message from a place on that satisfies want.
func (r *recorder) await(ctx context.Context, t *testing.T, what string, from int, want func(*wire.SignalResponse) bool) (int, *wire.SignalResponse) {
	t.Helper()
	for {
		r.mu.Lock()
		messages, changed := r.messages, r.changed
		r.mu.Unlock()
		for ; from < len(messages); from++ {
			if want(messages[from]) {
				return from, messages[from]
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v; there were %v", what, ctx.Err(), r.kinds())
		}
	}
}

// answered returns when everything that c has sent was taken by the room: it asks for something that is refused.
func answered(ctx context.Context, t *testing.T, c *client.Client, r *recorder) {
	t.Helper()
	marker := wire.NewID("TR_marker_")
	if err := c.Send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: marker}}}); err != nil {
		t.Fatal(err)
	}
	r.await(ctx, t, "the marker", 0, func(m *wire.SignalResponse) bool {
		return m.GetRequestResponse().GetMute().GetSid() == marker
	})
}

// signalOnly makes no peer connections.
func signalOnly(c *client.Config, _ *wire.Claims) { c.SignalOnly = true }

// near reports whether a time in milliseconds is now, give or take a minute.
func near(ms int64) bool {
	d := time.Since(time.UnixMilli(ms))
	return d > -time.Minute && d < time.Minute
}

package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"anytime/signaling/wire"
)

// Config says whom to be and where to go.
type Config struct {
	// URL of the server: ws://, wss://, http:// or https://; "/rtc" or "/rtc/v1" is appended.
	URL string
	// Single asks for one peer connection, over /rtc/v1. Its first offer follows the join.
	Single bool
	// Bundle sends the first offer with the join request, as livekit-client does. ICE servers, which
	// come with the join response, are then not used.
	Bundle bool
	// Audio and Video are the receiving sections of the first offer of a single peer connection; more
	// are added as the server asks for them.
	Audio, Video int
	// Token is the access token.
	Token string
	// ManualSubscribe asks the server not to subscribe to everything.
	ManualSubscribe bool
	// FullICE asks the server not to be ICE-lite.
	FullICE bool
	// Protocol is the signal protocol version to claim; 0 is 16.
	Protocol int
	// SDK is the SDK to claim; "" is "go".
	SDK string
	// Profile, when set, speaks as the SDKs of a family do; it takes the place of SDK, Protocol, Single, Bundle, Audio and
	// Video.
	Profile *Profile
	// Query holds further parameters of the upgrade request; they win over the others.
	Query url.Values
	// SignalOnly makes no peer connections: offers are left unanswered.
	SignalOnly bool
	// RelayOnly lets ICE use relay candidates alone.
	RelayOnly bool
	// Eager nominates a path within milliseconds once a check of it has succeeded, as browsers do, instead of after Pion's
	// 200 ms, and goes on to check it as often: for measurements of joins.
	Eager bool
	// Codecs registers what the client supports; nil: what Pion does by default.
	Codecs func(*webrtc.MediaEngine) error
	// Interceptors registers Pion's interceptors, their feedback and header extensions; nil: what Pion does by default.
	Interceptors func(*webrtc.MediaEngine, *interceptor.Registry) error
	// Engine may change Pion's settings, for a virtual network for instance.
	Engine func(*webrtc.SettingEngine)
	// Answered, if set, tells which addresses have answered a connectivity check: a path is nominated at once then. It is for
	// an Engine whose network sees the answers, and spares what Eager costs later on.
	Answered <-chan netip.AddrPort
	// OnMessage sees every message of the server before it has an effect, on the reading goroutine.
	OnMessage func(*wire.SignalResponse)
	// Seen, if set, is shown each URL before it is dialled, and may refuse it.
	Seen func(url string) error
	// Packets is how many received packets of a track wait for ReadRTP; more are dropped. 0 is 512.
	Packets int
	// Log receives what goes wrong in the background. nil: nowhere.
	Log *slog.Logger
}

// State is the client's view of the room at one moment. Treat it as read-only.
type State struct {
	Room         *wire.Room
	Self         *wire.ParticipantInfo
	Participants map[string]*wire.ParticipantInfo // the others, by identity
	Speakers     map[string]float32               // levels, by participant id
	Qualities    map[string]wire.ConnectionQuality
	// Connected holds the transports that are connected now.
	Connected map[wire.SignalTarget]bool
	// SignalLost: the WebSocket is gone and Resume was not called yet.
	SignalLost bool
	// Left is the server's leave, when it sent one.
	Left *wire.LeaveRequest
	// Denied are the tracks that their publishers don't let us have, and Failed those whose
	// subscription failed.
	Denied map[string]bool
	Failed map[string]wire.SubscriptionError
	// Subscribed are own tracks that somebody subscribed to.
	Subscribed map[string]bool
	// Wanted are the highest layers of own tracks that somebody wants, by track and codec ("vp8"): -1 for
	// none. Paused are the tracks of others of which nothing comes.
	Wanted map[string]map[string]int
	Paused map[string]bool
	// Refused are the answers to requests that the server did not carry out.
	Refused []*wire.RequestResponse
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the client is closed")

// LeaveError is returned when the server ends the session.
type LeaveError struct{ Leave *wire.LeaveRequest }

func (e *LeaveError) Error() string {
	return fmt.Sprintf("the server ended the session: %v, %v", e.Leave.GetReason(), e.Leave.GetAction())
}

// Client is one participant in one room.
type Client struct {
	cfg  Config
	log  *slog.Logger
	api  *webrtc.API
	join *wire.JoinResponse

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	state     State
	changed   chan struct{} // closed and replaced at every change of state
	token     string
	signal    *signal
	waiting   map[string]chan *wire.TrackPublishedResponse // answers to AddTrack, by cid
	published map[string]*wire.TrackPublishedResponse      // own tracks, by track id
	offers    offers
	// unanswered are the server's offers in their order; answerAll runs while there are any.
	unanswered []*wire.SessionDescription
	bundled    *wire.SessionDescription // the first offer, while it goes out with the join request

	publisher, subscriber *transport    // one and the same in single mode
	out                   [2]outChannel // lossy, reliable

	tracks chan *Track
	data   chan Data
}

// offers are those of the publisher that wait for their answer. Guarded by the client's mu, but for
// turn.
type offers struct {
	turn    chan struct{} // capacity 1: who may negotiate
	last    uint32
	answers map[uint32]chan *wire.SessionDescription // by offer id
}

// Join joins the room that the token names. It returns when the primary peer connection is
// connected or, with SignalOnly, when the join response is in.
func Join(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Packets == 0 {
		cfg.Packets = 512
	}
	if cfg.Profile != nil {
		cfg.Profile.apply(&cfg)
	}
	c := &Client{
		cfg: cfg, log: cfg.Log, token: cfg.Token,
		changed: make(chan struct{}),
		waiting: map[string]chan *wire.TrackPublishedResponse{}, published: map[string]*wire.TrackPublishedResponse{},
		offers: offers{turn: make(chan struct{}, 1), answers: map[uint32]chan *wire.SessionDescription{}},
		tracks: make(chan *Track, 1024), data: make(chan Data, 1024),
		state: State{
			Participants: map[string]*wire.ParticipantInfo{}, Speakers: map[string]float32{},
			Qualities: map[string]wire.ConnectionQuality{}, Connected: map[wire.SignalTarget]bool{},
			Denied: map[string]bool{}, Failed: map[string]wire.SubscriptionError{}, Subscribed: map[string]bool{},
			Wanted: map[string]map[string]int{}, Paused: map[string]bool{},
		},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if cfg.Answered != nil {
		c.wg.Go(c.hasten)
	}
	if err := c.start(ctx); err != nil {
		c.Close()
		if c.needsDual(ctx, err) {
			dual := c.profile().Dual()
			cfg.Profile = &dual
			return Join(ctx, cfg)
		}
		return nil, err
	}
	return c, nil
}

func (c *Client) start(ctx context.Context) error {
	bundle := c.cfg.Single && c.cfg.Bundle && !c.cfg.SignalOnly
	var answered <-chan *wire.SessionDescription
	if bundle {
		if err := c.makeTransports(); err != nil {
			return err
		}
		c.offers.turn <- struct{}{} // nobody else has it yet
		var err error
		if c.bundled, answered, err = c.offer(false); err != nil {
			return err
		}
	}
	s, first, err := c.dial(ctx, "")
	if err != nil {
		return err
	}
	if first.GetJoin() == nil {
		s.close()
		return fmt.Errorf("expected a join response first, got %s", wire.ResponseKind(first))
	}
	c.join = first.GetJoin()
	c.update(func(st *State) {
		st.Room, st.Self = c.join.Room, c.join.Participant
		for _, p := range c.join.OtherParticipants {
			st.Participants[p.Identity] = p
		}
	})
	if !c.cfg.SignalOnly && !bundle {
		if err := c.makeTransports(); err != nil {
			s.close()
			return err
		}
	}
	c.attach(s, time.Duration(c.join.PingInterval)*time.Second)
	if c.cfg.SignalOnly {
		return nil
	}
	if bundle {
		err := c.settle(ctx, c.bundled.GetId(), answered)
		<-c.offers.turn
		if err != nil {
			return err
		}
	}
	primary := wire.TargetPublisher
	if c.join.SubscriberPrimary {
		primary = wire.TargetSubscriber
	}
	if !bundle && (!c.join.SubscriberPrimary || c.join.FastPublish) {
		if err := c.negotiate(ctx, false); err != nil {
			return err
		}
	}
	return c.Wait(ctx, func(st State) bool { return st.Connected[primary] })
}

// JoinResponse returns the server's first message.
func (c *Client) JoinResponse() *wire.JoinResponse { return c.join }

// ID returns the participant id (PA_…), Identity the identity.
func (c *Client) ID() string { return c.join.GetParticipant().GetSid() }

// Identity returns the participant's identity.
func (c *Client) Identity() string { return c.join.GetParticipant().GetIdentity() }

// Token returns the newest access token.
func (c *Client) Token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// State returns the client's view of the room.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot()
}

func (c *Client) snapshot() State {
	st := c.state
	st.Participants = maps.Clone(st.Participants)
	st.Speakers = maps.Clone(st.Speakers)
	st.Qualities = maps.Clone(st.Qualities)
	st.Connected = maps.Clone(st.Connected)
	st.Denied = maps.Clone(st.Denied)
	st.Failed = maps.Clone(st.Failed)
	st.Subscribed = maps.Clone(st.Subscribed)
	st.Wanted, st.Paused = maps.Clone(st.Wanted), maps.Clone(st.Paused)
	return st
}

// update changes the view and wakes whoever waits for it.
func (c *Client) update(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
	close(c.changed)
	c.changed = make(chan struct{})
}

// Wait waits until the view satisfies a condition. It fails when the server ends the session first,
// the client closes, or ctx is done.
func (c *Client) Wait(ctx context.Context, condition func(State) bool) error {
	for {
		c.mu.Lock()
		st, changed := c.snapshot(), c.changed
		c.mu.Unlock()
		if condition(st) {
			return nil
		}
		if st.Left != nil {
			return &LeaveError{st.Left}
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Cut breaks the WebSocket without a word, as a lost network does. Media goes on.
func (c *Client) Cut() {
	c.mu.Lock()
	s := c.signal
	c.mu.Unlock()
	if s != nil {
		s.cut()
	}
}

// Resume connects the WebSocket again and renews ICE on both transports. The session, its tracks and
// subscriptions stay. A *LeaveError tells that the server wants a fresh join.
func (c *Client) Resume(ctx context.Context) error {
	c.Cut()
	s, first, err := c.dial(ctx, c.ID())
	if err != nil {
		return err
	}
	if first.GetReconnect() == nil {
		s.close()
		return fmt.Errorf("expected a reconnect response first, got %s", wire.ResponseKind(first))
	}
	c.update(func(st *State) { st.SignalLost = false })
	c.attach(s, time.Duration(c.join.PingInterval)*time.Second)
	if c.profile().SyncState {
		if err := c.syncState(); err != nil {
			return err
		}
	}
	if c.publisher == nil || !c.publisher.used() {
		return nil
	}
	return c.negotiate(ctx, true)
}

// run starts f, which Close waits for, unless the client is closed.
func (c *Client) run(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.wg.Go(f)
	return true
}

// Close leaves the room and ends everything. It may be called more than once.
func (c *Client) Close() {
	c.mu.Lock()
	s := c.signal
	c.signal = nil
	c.mu.Unlock()
	if s != nil {
		_ = s.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{
			Reason: wire.ReasonClientInitiated, Action: wire.LeaveDisconnect,
		}}})
		s.close()
	}
	c.mu.Lock()
	c.cancel()
	late := c.signal // of a resume that was under way
	c.signal = nil
	c.mu.Unlock()
	if late != nil {
		late.cut()
	}
	for _, t := range []*transport{c.publisher, c.subscriber} {
		if t != nil {
			if err := t.pc.GracefulClose(); err != nil {
				c.log.Debug("close peer connection", "err", err)
			}
		}
	}
	c.wg.Wait()
}

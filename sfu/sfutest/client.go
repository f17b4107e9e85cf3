package sfutest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/sdp/v3"
	pion "github.com/pion/transport/v4"
	"github.com/pion/webrtc/v4"
)

// Client is a participant with two peer connections, as the room contract has it. What signaling would carry passes
// through method calls.
type Client struct {
	t           testing.TB
	network     *Network
	ID, IP      string
	Participant *sfu.Participant

	pub, sub *webrtc.PeerConnection

	mu       sync.Mutex
	events   []sfu.Event
	received map[string]*Received
	news     chan struct{} // closed and replaced whenever something happened
	wake     chan struct{}
	queue    []sfu.Event
	stop     chan struct{}
	done     sync.WaitGroup
	err      error
	data     []sfu.DataReceived // by our own subscriber channels
	sending  map[bool]*webrtc.DataChannel
	// receiving are the server's data channels, in the order in which it opened them.
	receiving []*webrtc.DataChannel
	offer     sync.Mutex
	sources   []*Source
	viewer    *Viewer
	offered   func(sdp string) string
	closed    bool
}

// Options changes a client.
type Options struct {
	// Codecs restricts what the client supports; nil means Pion's defaults and audio RED.
	Codecs func(*webrtc.MediaEngine) error
	// Interceptors registers what sends feedback; nil means Pion's defaults, transport-wide feedback among them.
	Interceptors func(*webrtc.MediaEngine, *interceptor.Registry) error
	// Settings changes the setting engine.
	Settings func(*webrtc.SettingEngine)
	// Net is the client's network; nil means a host of its own in the virtual network.
	Net     pion.Net
	FullICE bool
	// Viewer, if set, takes the place of Pion's NACK generator.
	Viewer *Viewer
	// Offered, if set, changes the server's offers before the client sees them.
	Offered func(sdp string) string
	// FixedCodec: it doesn't follow a track into another codec.
	FixedCodec bool
}

// Join adds a client to a room and waits until its subscriber connection is up.
func (n *Network) Join(t testing.TB, room, id string) *Client {
	t.Helper()
	return n.JoinWith(t, n.Server, room, id, Options{})
}

// JoinWith is Join with options, also for a server outside of the network.
func (n *Network) JoinWith(t testing.TB, server *sfu.Server, room, id string, o Options) *Client {
	t.Helper()
	c := &Client{t: t, network: n, ID: id, received: map[string]*Received{}, news: make(chan struct{}),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), sending: map[bool]*webrtc.DataChannel{}, viewer: o.Viewer,
		offered: o.Offered}
	if o.Net == nil {
		o.Net, c.IP = n.host()
	}
	if l, ok := o.Net.(*Link); ok {
		c.IP = l.ip
	}
	for _, pc := range []**webrtc.PeerConnection{&c.pub, &c.sub} {
		p, err := newPeer(o, pc == &c.sub)
		if err != nil {
			t.Fatal(err)
		}
		*pc = p
	}
	c.sub.OnTrack(c.track)
	c.sub.OnDataChannel(func(dc *webrtc.DataChannel) {
		reliable := dc.Label() == "_reliable"
		c.mu.Lock()
		c.receiving = append(c.receiving, dc)
		c.mu.Unlock()
		dc.OnMessage(func(m webrtc.DataChannelMessage) {
			c.mu.Lock()
			c.data = append(c.data, sfu.DataReceived{Reliable: reliable, Payload: m.Data})
			c.told()
			c.mu.Unlock()
		})
	})
	for reliable, label := range map[bool]string{true: "_reliable", false: "_lossy"} {
		init := &webrtc.DataChannelInit{Ordered: &reliable}
		if !reliable {
			none := uint16(0)
			init.MaxRetransmits = &none
		}
		dc, err := c.pub.CreateDataChannel(label, init)
		if err != nil {
			t.Fatal(err)
		}
		c.sending[reliable] = dc
	}
	p, err := server.Join(sfu.ParticipantConfig{Room: room, ID: id, FullICE: o.FullICE, FixedCodec: o.FixedCodec, Notify: c.notify})
	if err != nil {
		t.Fatal(err)
	}
	c.Participant = p
	c.done.Add(1)
	go c.run()
	t.Cleanup(c.Close)
	if err := c.AwaitState(sfu.Subscriber, sfu.Connected); err != nil {
		t.Fatal(err)
	}
	return c
}

func newPeer(o Options, subscriber bool) (*webrtc.PeerConnection, error) {
	m := &webrtc.MediaEngine{}
	codecs := o.Codecs
	if codecs == nil {
		codecs = func(m *webrtc.MediaEngine) error {
			if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 63, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: "audio/red", ClockRate: 48000, Channels: 2, SDPFmtpLine: "111/111"}}, webrtc.RTPCodecTypeAudio); err != nil {
				return err
			}
			return m.RegisterDefaultCodecs()
		}
	}
	if err := codecs(m); err != nil {
		return nil, err
	}
	for _, uri := range []string{sdp.SDESMidURI, sdp.AudioLevelURI} {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	r := &interceptor.Registry{}
	interceptors := o.Interceptors
	if interceptors == nil {
		interceptors = func(m *webrtc.MediaEngine, r *interceptor.Registry) error {
			if o.Viewer != nil && subscriber {
				m.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack"}, webrtc.RTPCodecTypeVideo)
				m.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack", Parameter: "pli"}, webrtc.RTPCodecTypeVideo)
				r.Add(o.Viewer)
				if err := errors.Join(webrtc.ConfigureRTCPReports(r), webrtc.ConfigureTWCCSender(m, r)); err != nil {
					return err
				}
			} else if err := webrtc.RegisterDefaultInterceptors(m, r); err != nil {
				return err
			}
			return webrtc.ConfigureTWCCHeaderExtensionSender(m, r)
		}
	}
	if err := interceptors(m, r); err != nil {
		return nil, err
	}
	e := webrtc.SettingEngine{LoggerFactory: quiet()}
	e.SetNet(o.Net)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if o.Settings != nil {
		o.Settings(&e)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(r), webrtc.WithSettingEngine(e)).
		NewPeerConnection(webrtc.Configuration{})
}

// told wakes those who wait. Called with c.mu held.
func (c *Client) told() {
	close(c.news)
	c.news = make(chan struct{})
}

// notify is the participant's callback: it only queues.
func (c *Client) notify(e sfu.Event) {
	c.mu.Lock()
	c.queue = append(c.queue, e)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run is the client's half of signaling.
func (c *Client) run() {
	defer c.done.Done()
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
		}
		for {
			c.mu.Lock()
			if len(c.queue) == 0 {
				c.mu.Unlock()
				break
			}
			e := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			if o, ok := e.(sfu.OfferReady); ok {
				if err := c.answer(o); err != nil {
					c.mu.Lock()
					c.err = errors.Join(c.err, err)
					c.mu.Unlock()
				}
			}
			c.mu.Lock()
			c.events = append(c.events, e)
			c.told()
			c.mu.Unlock()
		}
	}
}

func (c *Client) answer(o sfu.OfferReady) error {
	if c.viewer != nil {
		c.viewer.describe(o.SDP)
	}
	if c.offered != nil {
		o.SDP = c.offered(o.SDP)
	}
	if err := c.sub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}); err != nil {
		return fmt.Errorf("applying offer %d: %w", o.ID, err)
	}
	d, err := c.sub.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(c.sub)
	if err := c.sub.SetLocalDescription(d); err != nil {
		return err
	}
	<-gathered
	if err := c.Participant.Answer(o.ID, c.sub.LocalDescription().SDP); err != nil && !errors.Is(err, sfu.ErrClosed) {
		return fmt.Errorf("answering offer %d: %w", o.ID, err)
	}
	return nil
}

// Negotiate sends the publisher's offer.
func (c *Client) Negotiate(restart bool) error {
	c.offer.Lock()
	defer c.offer.Unlock()
	d, err := c.pub.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(c.pub)
	if err := c.pub.SetLocalDescription(d); err != nil {
		return err
	}
	<-gathered
	answer, _, err := c.Participant.Offer(c.pub.LocalDescription().SDP)
	if err != nil {
		return err
	}
	return c.pub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// OfferText returns the SDP that the publisher would offer now.
func (c *Client) OfferText() (string, error) {
	d, err := c.pub.CreateOffer(nil)
	return d.SDP, err
}

// Trickle passes a candidate of ours to the server.
func (c *Client) Trickle(target sfu.Target, candidate webrtc.ICECandidateInit) error {
	b, err := json.Marshal(candidate)
	if err != nil {
		return err
	}
	return c.Participant.Candidate(target, string(b))
}

// Timeout is how long anything may take to happen.
const Timeout = 15 * time.Second

// await waits until ok holds; it is called with c.mu held.
func (c *Client) await(what string, ok func() bool) error {
	t := time.NewTimer(Timeout)
	defer t.Stop()
	for {
		c.mu.Lock()
		done, news, err := ok(), c.news, c.err
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if done {
			return nil
		}
		select {
		case <-news:
		case <-t.C:
			return fmt.Errorf("%s: %s did not happen within %v", c.ID, what, Timeout)
		}
	}
}

// AwaitState waits until the latest state that the server told of a peer connection is s.
func (c *Client) AwaitState(target sfu.Target, s sfu.State) error {
	return c.await(fmt.Sprintf("%v %v", target, s), func() bool {
		last := sfu.State(0)
		for _, e := range c.events {
			if ts, ok := e.(sfu.TransportState); ok && ts.Target == target {
				last = ts.State
			}
		}
		return last == s
	})
}

// AwaitEvent waits for an event for which is holds.
func (c *Client) AwaitEvent(what string, is func(sfu.Event) bool) error {
	return c.await(what, func() bool {
		for _, e := range c.events {
			if is(e) {
				return true
			}
		}
		return false
	})
}

// AwaitData waits for a message on the subscriber's data channels.
func (c *Client) AwaitData(reliable bool, payload string) error {
	return c.await("data "+payload, func() bool {
		for _, d := range c.data {
			if d.Reliable == reliable && string(d.Payload) == payload {
				return true
			}
		}
		return false
	})
}

// SendData sends on the publisher's data channels, once they are open.
func (c *Client) SendData(ctx context.Context, reliable bool, b []byte) error {
	dc := c.sending[reliable]
	opened := make(chan struct{})
	dc.OnOpen(func() { close(opened) })
	if dc.ReadyState() != webrtc.DataChannelStateOpen {
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return dc.Send(b)
}

// CloseData closes the server's reliable data channel, as far as it is open, from the client's side.
func (c *Client) CloseData() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, dc := range c.receiving {
		if dc.Label() == "_reliable" && dc.ReadyState() == webrtc.DataChannelStateOpen {
			if err := dc.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Data returns the messages that have come on the subscriber's data channels so far.
func (c *Client) Data() []sfu.DataReceived {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]sfu.DataReceived(nil), c.data...)
}

// Cut drops all packets of the client; restore lets them pass again.
func (c *Client) Cut() (restore func()) {
	c.network.cut.Store(c.IP, true)
	return func() { c.network.cut.Delete(c.IP) }
}

// RemoteCandidate returns the server's address and protocol on the nominated pair of a peer connection.
func (c *Client) RemoteCandidate(target sfu.Target) (address, protocol string) {
	pc := c.pub
	if target == sfu.Subscriber {
		pc = c.sub
	}
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return "", ""
	}
	return net.JoinHostPort(pair.Remote.Address, strconv.Itoa(int(pair.Remote.Port))), pair.Remote.Protocol.String()
}

// Close leaves and ends the client's own peer connections.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	sources := c.sources
	c.mu.Unlock()
	for _, s := range sources {
		s.Stop()
	}
	if c.network.virtual {
		// Pion's SCTP may hold a lock and wait for a timer while the other side's abort comes in, which waits for the lock. In
		// virtual time that would be for ever.
		c.Cut()
	}
	c.Participant.Close()
	close(c.stop)
	c.done.Wait()
	for _, pc := range []*webrtc.PeerConnection{c.pub, c.sub} {
		if err := pc.GracefulClose(); err != nil {
			c.t.Logf("closing a client's peer connection: %v", err)
		}
	}
}

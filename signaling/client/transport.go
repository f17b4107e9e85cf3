package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"anytime/signaling/wire"
)

// transport is one of the two peer connections.
type transport struct {
	target wire.SignalTarget
	pc     *webrtc.PeerConnection

	mu      sync.Mutex
	pending []webrtc.ICECandidateInit // until there is a remote description
}

// eagerChecks is how often a client that is Eager looks at its checks.
const eagerChecks = 5 * time.Millisecond

// Labels of the data channels, fixed by the contract.
const (
	reliableLabel = "_reliable"
	lossyLabel    = "_lossy"
)

func (c *Client) makeTransports() error {
	media := &webrtc.MediaEngine{}
	codecs := c.cfg.Codecs
	if codecs == nil {
		codecs = (*webrtc.MediaEngine).RegisterDefaultCodecs
	}
	if err := codecs(media); err != nil {
		return fmt.Errorf("register codecs: %w", err)
	}
	// RFC 8852 §3.3: the ids by which simulcast layers are told apart.
	for _, uri := range []string{midURI, ridURI, repairedURI} {
		if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			return fmt.Errorf("register header extension: %w", err)
		}
	}
	for _, uri := range []string{midURI, audioLevelURI} {
		if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeAudio); err != nil {
			return fmt.Errorf("register header extension: %w", err)
		}
	}
	interceptors := &interceptor.Registry{}
	interceptors.Add(&declaredOnly{})
	register := c.cfg.Interceptors
	if register == nil {
		register = webrtc.RegisterDefaultInterceptors
	}
	if err := register(media, interceptors); err != nil {
		return fmt.Errorf("register interceptors: %w", err)
	}
	engine := webrtc.SettingEngine{}
	if c.cfg.Eager {
		// Pion's agent looks at its checks as often as the shortest of its times says. One that is not answered in time fails
		// after so many.
		engine.SetICETimeouts(5*time.Second, eagerChecks, 2*time.Second)
		engine.SetICEMaxBindingRequests(uint16(5 * time.Second / eagerChecks))
	}
	if c.cfg.Engine != nil {
		c.cfg.Engine(&engine)
	}
	c.api = webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(interceptors), webrtc.WithSettingEngine(engine))

	var err error
	if c.publisher, err = c.newTransport(wire.TargetPublisher); err != nil {
		return err
	}
	if c.cfg.Single {
		c.subscriber = c.publisher
		if err := c.receiveOn(c.cfg.Audio, c.cfg.Video); err != nil {
			return err
		}
	} else if c.subscriber, err = c.newTransport(wire.TargetSubscriber); err != nil {
		return err
	}
	if err := c.makeDataChannels(); err != nil {
		return err
	}
	c.subscriber.pc.OnTrack(c.onTrack)
	c.subscriber.pc.OnDataChannel(func(d *webrtc.DataChannel) { c.receiveData(d) })
	return nil
}

// declaredOnly leaves the packets of a stream to the receiver that the server's description makes for it. Where media
// overtakes the answer that declares it (RFC 3264 §5.1), Pion looks into the first packets for a simulcast layer's id, which
// the server never sends, while the receiver already reads: packets were lost to it, and the two readers race.
type declaredOnly struct{ interceptor.NoOp }

var errUndeclared = errors.New("no description declares this stream yet")

// NewInterceptor implements [interceptor.Factory].
func (d *declaredOnly) NewInterceptor(string) (interceptor.Interceptor, error) { return d, nil }

// BindRemoteStream implements [interceptor.Interceptor]. Pion gives the payload type
// only of what it found in a packet (of PCMU it is 0, too: that would be read as before).
func (*declaredOnly) BindRemoteStream(info *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	if info.PayloadType == 0 {
		return reader
	}
	return interceptor.RTPReaderFunc(func([]byte, interceptor.Attributes) (int, interceptor.Attributes, error) {
		return 0, nil, errUndeclared
	})
}

// Header extensions.
const (
	midURI        = "urn:ietf:params:rtp-hdrext:sdes:mid"                    // RFC 9143
	ridURI        = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"          // RFC 8852
	repairedURI   = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" // RFC 8852
	audioLevelURI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"            // RFC 6464
)

func (c *Client) newTransport(target wire.SignalTarget) (*transport, error) {
	cfg := webrtc.Configuration{}
	for _, s := range c.join.GetIceServers() {
		cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: s.Urls, Username: s.Username, Credential: s.Credential})
	}
	if c.cfg.RelayOnly {
		cfg.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	pc, err := c.api.NewPeerConnection(cfg)
	if err != nil {
		return nil, fmt.Errorf("make peer connection: %w", err)
	}
	t := &transport{target: target, pc: pc}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		c.update(func(st *State) { st.Connected[target] = s == webrtc.PeerConnectionStateConnected })
	})
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate == nil {
			return
		}
		init, err := json.Marshal(candidate.ToJSON())
		if err != nil {
			return
		}
		_ = c.Send(&wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{
			CandidateInit: string(init), Target: target,
		}}})
	})
	return t, nil
}

// used reports whether the transport was ever negotiated.
func (t *transport) used() bool { return t.pc.LocalDescription() != nil }

// addCandidate adds a candidate of the server, when there is a description to add it to.
func (t *transport) addCandidate(text string) {
	var init webrtc.ICECandidateInit
	if json.Unmarshal([]byte(text), &init) != nil || init.Candidate == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pc.RemoteDescription() == nil {
		t.pending = append(t.pending, init)
		return
	}
	_ = t.pc.AddICECandidate(init)
}

func (t *transport) setRemote(d webrtc.SessionDescription) error {
	if err := t.pc.SetRemoteDescription(d); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, init := range t.pending {
		_ = t.pc.AddICECandidate(init)
	}
	t.pending = nil
	return nil
}

// hasten has Pion's agent look at its checks when one was answered, instead of within 200 ms: it does when it learns of a
// candidate, so the address is told again as one of another kind, with another base each time.
func (c *Client) hasten() {
	for base := 1; ; base++ {
		select {
		case a := <-c.cfg.Answered:
			kind := fmt.Sprintf("candidate:1 1 udp 1 %v %d typ srflx raddr %v rport %d", a.Addr(), a.Port(), a.Addr(), base)
			for _, t := range []*transport{c.publisher, c.subscriber} { // there are answers only once these are
				if t != nil && t.pc.RemoteDescription() != nil {
					_ = t.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: kind})
				}
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// Negotiate offers what the publisher has now and waits for the answer.
func (c *Client) Negotiate(ctx context.Context) error { return c.negotiate(ctx, false) }

func (c *Client) negotiate(ctx context.Context, restart bool) error {
	select {
	case c.offers.turn <- struct{}{}:
		defer func() { <-c.offers.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if pc := c.publisher.pc; pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
		// An earlier negotiation was given up, or its answer was lost. Pion can't roll an offer back (RFC 8829
		// §4.1.10.2), so it is told again.
		offer, answered := c.number(pc.LocalDescription().SDP)
		if err := c.exchange(ctx, offer, answered); err != nil {
			return err
		}
	}
	offer, answered, err := c.offer(restart)
	if err != nil {
		return err
	}
	return c.exchange(ctx, offer, answered)
}

// exchange sends an offer and applies its answer.
func (c *Client) exchange(ctx context.Context, offer *wire.SessionDescription, answered <-chan *wire.SessionDescription) error {
	if err := c.Send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: offer}}); err != nil {
		c.forget(offer.GetId())
		return fmt.Errorf("send offer: %w", err)
	}
	return c.settle(ctx, offer.GetId(), answered)
}

// offer makes an offer and a channel for its answer. The caller has the turn.
func (c *Client) offer(restart bool) (*wire.SessionDescription, <-chan *wire.SessionDescription, error) {
	pc := c.publisher.pc
	offer, err := pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return nil, nil, fmt.Errorf("make offer: %w", err)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return nil, nil, fmt.Errorf("set own offer: %w", err)
	}
	d, answered := c.number(pc.LocalDescription().SDP)
	return d, answered, nil
}

// number gives an offer an id, by which its answer is known.
func (c *Client) number(sdp string) (*wire.SessionDescription, <-chan *wire.SessionDescription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.profile().Unnumbered {
		c.offers.last++
	}
	id, answered := c.offers.last, make(chan *wire.SessionDescription, 1)
	c.offers.answers[id] = answered
	return &wire.SessionDescription{Type: "offer", Sdp: sdp, Id: id}, answered
}

func (c *Client) forget(offer uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.offers.answers, offer)
}

// settle waits for the answer to an offer and applies it.
func (c *Client) settle(ctx context.Context, id uint32, answered <-chan *wire.SessionDescription) error {
	defer c.forget(id)
	select {
	case answer := <-answered:
		err := c.publisher.setRemote(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.GetSdp()})
		if err != nil {
			return fmt.Errorf("set the server's answer: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for an answer: %w", ctx.Err())
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// receiveOn adds receiving sections to the single peer connection.
func (c *Client) receiveOn(audio, video int) error {
	for i := range audio + video {
		kind := webrtc.RTPCodecTypeAudio
		if i >= audio {
			kind = webrtc.RTPCodecTypeVideo
		}
		init := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := c.publisher.pc.AddTransceiverFromKind(kind, init); err != nil {
			return fmt.Errorf("add a receiving section: %w", err)
		}
	}
	return nil
}

// addSections makes the offer that the server asks for.
func (c *Client) addSections(m *wire.MediaSectionsRequirement) {
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	err := c.receiveOn(int(m.GetNumAudios()), int(m.GetNumVideos()))
	if err == nil {
		err = c.negotiate(ctx, false)
	}
	if err != nil && !errors.Is(err, ErrClosed) && c.ctx.Err() == nil {
		c.log.Warn("cannot offer the sections that the server needs", "err", err)
	}
}

// answerAll answers the server's offers in their order, until none waits. After a resume the server may tell an offer twice,
// and make the next one after the first answer.
func (c *Client) answerAll() {
	for {
		c.mu.Lock()
		offer := c.unanswered[0]
		c.mu.Unlock()
		c.answer(offer)
		c.mu.Lock()
		c.unanswered = c.unanswered[1:]
		done := len(c.unanswered) == 0
		c.mu.Unlock()
		if done {
			return
		}
	}
}

// answer answers the server's offer for the subscriber.
func (c *Client) answer(offer *wire.SessionDescription) {
	err := func() error {
		pc := c.subscriber.pc
		if err := c.subscriber.setRemote(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.GetSdp()}); err != nil {
			return fmt.Errorf("set the server's offer: %w", err)
		}
		answer, err := pc.CreateAnswer(nil)
		if err != nil {
			return fmt.Errorf("make answer: %w", err)
		}
		if err := pc.SetLocalDescription(answer); err != nil {
			return fmt.Errorf("set own answer: %w", err)
		}
		return c.Send(&wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{
			Type: "answer", Sdp: pc.LocalDescription().SDP, Id: offer.GetId(),
		}}})
	}()
	if err != nil && !errors.Is(err, ErrClosed) {
		c.log.Warn("cannot answer", "err", err)
	}
}

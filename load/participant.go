package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// participant is one client of the server under load.
type participant struct {
	load                  *generator
	room, identity        string
	number                uint16
	publishes, subscribes bool

	client      atomic.Pointer[client.Client]
	description atomic.Pointer[description] // of what the server sends
	answered    chan netip.AddrPort
	started     time.Duration // of its join
	connected   atomic.Int64  // how long it took, ns; 0: not yet

	mu     sync.Mutex
	lines  []*line
	closed bool
	stop   context.CancelFunc // of its publisher
}

// headStart is how long publishers send before subscribers join.
const headStart = 1500 * time.Millisecond

// tokenLife is how long a token may be used to join.
const tokenLife = 5 * time.Minute

// joinAll has everybody join: first who sends, then who receives. Only the first failure of all ends the run; others are
// counted.
func (g *generator) joinAll(ctx context.Context) error {
	var list []*participant
	add := func(each int, role string, publishes, subscribes bool) {
		for i := range each {
			for room := range g.cfg.Rooms {
				list = append(list, &participant{
					load: g, room: g.cfg.Room + "-" + strconv.Itoa(room+1), identity: fmt.Sprintf("%s-%d", role, i+1),
					number: uint16(len(list) & 0x3fff), publishes: publishes, subscribes: subscribes, answered: make(chan netip.AddrPort, 4),
				})
			}
		}
	}
	add(g.cfg.Publishers, "publisher", true, false)
	add(g.cfg.Members, "member", true, true)
	add(g.cfg.Subscribers, "subscriber", false, true)

	pace := time.NewTicker(time.Duration(float64(time.Second) / g.cfg.JoinRate))
	defer pace.Stop()
	gate := make(chan struct{}, joining)
	var under sync.WaitGroup
	defer under.Wait()
	senders := g.cfg.Rooms * (g.cfg.Publishers + g.cfg.Members)
	for i, p := range list {
		if i > 0 {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return nil
			}
		}
		if i == senders {
			// Who joins later finds what is sent, and servers that have just asked for keyframes ask again.
			under.Wait()
			pause(ctx, headStart)
		}
		if ctx.Err() != nil {
			return nil
		}
		g.mu.Lock()
		g.participants = append(g.participants, p)
		g.mu.Unlock()
		if i == 0 {
			if err := p.join(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			continue
		}
		gate <- struct{}{}
		under.Go(func() {
			defer func() { <-gate }()
			_ = p.join(ctx) // counted
		})
	}
	return nil
}

// join joins, and begins to send where that is its part.
func (p *participant) join(ctx context.Context) error {
	g := p.load
	within, cancel := context.WithTimeout(ctx, g.cfg.JoinTimeout)
	defer cancel()
	err := p.enter(within)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.joined++
		return nil
	case ctx.Err() != nil: // the run was ended
		return ctx.Err()
	}
	err = explain(err, g.cfg.Relay)
	g.failures = append(g.failures, fmt.Errorf("%s in %s: %w", p.identity, p.room, err))
	return err
}

func (p *participant) enter(ctx context.Context) error {
	g := p.load
	token, err := wire.Mint(g.cfg.Key, g.cfg.Secret, wire.Claims{
		Identity: p.identity, Name: p.identity, Video: wire.Grant{RoomJoin: true, Room: p.room},
	}, tokenLife)
	if err != nil {
		return err
	}
	local, err := newNetwork(p, g.local)
	if err != nil {
		return err
	}
	cfg := client.Config{
		URL: g.cfg.URL, Token: token, ManualSubscribe: !p.subscribes, Single: g.cfg.Single, RelayOnly: g.cfg.Relay,
		Bundle:       g.cfg.Single && !g.cfg.Relay, // a relay is named by the join response
		Interceptors: interceptors, Answered: p.answered, OnMessage: p.message, Packets: 1, Log: g.cfg.Log,
		Engine: func(e *webrtc.SettingEngine) { p.settings(e, local) },
	}
	if p.subscribes {
		cfg.Audio, cfg.Video = 3*b2i(g.cfg.Audio), 3*b2i(g.cfg.Video) // as livekit-client
	}
	p.started = g.now()
	c, err := client.Join(ctx, cfg)
	if err != nil {
		return err
	}
	connected := g.now()
	p.client.Store(c)
	p.connected.Store(int64(connected - p.started))
	if !p.publishes {
		return nil
	}
	out := &publisher{load: g, number: p.number, burst: g.cfg.Burst}
	if err := out.publish(ctx, c); err != nil {
		return err
	}
	return p.send(out)
}

// send starts the publisher, until the run ends.
func (p *participant) send(out *publisher) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return client.ErrClosed
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.load.work.Go(func() {
		if err := out.send(ctx); err != nil && ctx.Err() == nil {
			p.load.cfg.Log.Warn("a publisher stopped", "identity", p.identity, "room", p.room, "err", err)
		}
	})
	return nil
}

// settings are those of a browser, as far as they matter here, on lines of ours.
func (p *participant) settings(e *webrtc.SettingEngine, local *network) {
	e.SetNet(local)
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	e.SetSrflxAcceptanceMinWait(0) // what hastens the nomination looks like one
	if p.load.cfg.Relay {
		e.SetRelayAcceptanceMinWait(0) // nothing better will come
	}
	e.SetDTLSKeyLogWriter(&p.load.secrets)
	e.SetDTLSInsecureSkipHelloVerify(true)
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
}

// interceptors are those of who sends: history for retransmissions, sender reports, transport-wide numbers. The receiving
// side's feedback comes from [receiver], but is announced here.
func interceptors(media *webrtc.MediaEngine, registry *interceptor.Registry) error {
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.ABSSendTimeURI}, kind); err != nil {
			return err
		}
		media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}, kind)
	}
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBGoogREMB}, webrtc.RTPCodecTypeVideo)
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBNACK}, webrtc.RTPCodecTypeVideo)
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBNACK, Parameter: "pli"}, webrtc.RTPCodecTypeVideo)
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBCCM, Parameter: "fir"}, webrtc.RTPCodecTypeVideo)
	responder, err := nack.NewResponderInterceptor()
	if err != nil {
		return err
	}
	reports, err := report.NewSenderInterceptor()
	if err != nil {
		return err
	}
	registry.Add(responder)
	registry.Add(reports)
	return webrtc.ConfigureTWCCHeaderExtensionSender(media, registry)
}

// message looks for the description of what the server sends.
func (p *participant) message(m *wire.SignalResponse) {
	if text := m.GetAnswer().GetSdp(); p.load.cfg.Single && text != "" {
		p.description.Store(describe(text))
	}
	if text := m.GetOffer().GetSdp(); !p.load.cfg.Single && text != "" {
		p.description.Store(describe(text))
	}
}

// add takes a line and starts its reader, unless the participant is gone.
func (p *participant) add(l *line) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.lines = append(p.lines, l)
	p.load.work.Go(l.read)
	return true
}

// close leaves.
func (p *participant) close() {
	p.mu.Lock()
	p.closed = true
	lines, stop := p.lines, p.stop
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	if c := p.client.Load(); c != nil {
		c.Close()
	}
	for _, l := range lines {
		_ = l.Close() // Pion has closed them but for those of a join that failed
	}
}

// explain says what a failed join means.
func explain(err error, relay bool) error {
	var upgrade *client.UpgradeError
	if errors.As(err, &upgrade) {
		switch upgrade.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("the server refused the token: %s", upgrade.Text)
		case http.StatusTooManyRequests:
			return fmt.Errorf("the server takes no more joins at this rate: %s", upgrade.Text)
		case http.StatusNotFound:
			return fmt.Errorf("there is no room signaling at this URL: %w", err)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if relay {
			return fmt.Errorf("not connected in time (does the server name a TURN server, and is its UDP port open?): %w", err)
		}
		return fmt.Errorf("not connected in time (is the media port open?): %w", err)
	}
	return err
}

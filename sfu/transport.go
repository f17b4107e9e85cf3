package sfu

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// gatherTimeout bounds the gathering of candidates, which on shared ports waits for nothing outside.
const gatherTimeout = 3 * time.Second

// transport is one peer connection of a participant, and everything that knows of Pion. Media passes through two seams:
// packets that its plane has opened go up to ingest and returns; runs come down from egress to [planeSink].
type transport struct {
	p       *Participant
	target  Target
	pc      *webrtc.PeerConnection
	in      *ingest  // nil if the peer doesn't publish here
	back    *returns // nil if it doesn't subscribe here
	out     *egress
	plane   *plane
	channel [2]*channel // by reliability: lossy, reliable; nil if none
	trunk   trunk

	candidates chan struct{} // told when all of ours are known
	up         atomic.Bool   // connected
	closed     atomic.Bool
	bitrate    atomic.Int64   // of the latest REMB, in bit/s
	readers    sync.WaitGroup // of data channels; added to with mu held

	mu       sync.Mutex
	state    State
	trickled int
	measured measuredTransport
	quieted  []quietChannel

	received, sent, reported recent // used by the sweep alone; reported: by feedback on single packets
}

// TransportFeedback is what a subscriber tells about the whole transport.
type TransportFeedback struct {
	// Received and Lost count packets by feedback on single packets; see [bwe.Counts].
	Received, Lost uint64
	// Bitrate is the latest REMB in bits per second, 0 if there was none.
	Bitrate float64
}

func newTransport(p *Participant, target Target, publishes, subscribes bool) (*transport, error) {
	t := &transport{p: p, target: target, candidates: make(chan struct{}, 1)}
	t.plane = newPlane(p.server.mux, t)
	if publishes {
		t.in = newIngest(p, t.writeRTCP)
		t.in.gathering.expire = func() { t.plane.rest(p.server.now()) }
	}
	if subscribes {
		t.out = newEgress(&planeSink{plane: t.plane}, p.server.now)
		t.out.owner, t.out.socket = p, t.plane.sends()
		t.back = &returns{find: p.subscriptionOf, bitrate: t.estimated, out: t.out, stray: func() { p.strayRTCP.Add(1) }}
	}
	pc, err := p.server.newPeer(p.cfg.FullICE, t.plane)
	if err != nil {
		t.release()
		return nil, fmt.Errorf("making a peer connection: %w", err)
	}
	t.pc = pc
	handshake := pc.SCTP().Transport()
	t.plane.secured = func() bool { return handshake.State() == webrtc.DTLSTransportStateConnected }
	handshake.ICETransport().OnSelectedCandidatePairChange(t.selected)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			select {
			case t.candidates <- struct{}{}:
			default:
			}
		}
	})
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { t.changed() })
	pc.OnDataChannel(t.accepted)
	return t, nil
}

// changed is told that the connection's state changed, from goroutines that may overtake each other.
func (t *transport) changed() {
	t.mu.Lock()
	up := t.advance()
	t.mu.Unlock()
	if !up {
		return
	}
	t.plane.start() // hands up what came early, so mu mustn't be held
	t.plane.endSessions()
	if t.out != nil {
		t.out.start()
	}
	t.p.transportUp(t)
}

// advance notes and tells the state, and reports whether the connection is up for the first time.
func (t *transport) advance() (up bool) {
	var s State
	switch t.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected:
		s = t.liveness(t.p.server.now())
		t.plane.hold(s == Failed)
	case webrtc.PeerConnectionStateDisconnected:
		s = Disconnected
	case webrtc.PeerConnectionStateFailed:
		s = Failed
		t.plane.hold(true)
	default:
		return false
	}
	if s == t.state || t.closed.Load() {
		return false
	}
	t.state = s
	if s == Connected && !t.up.Swap(true) {
		up = true
	}
	t.p.notify(TransportState{Target: t.target, State: s})
	return up
}

// close ends the peer connection and waits for its goroutines.
func (t *transport) close() {
	t.mu.Lock()
	was := t.closed.Swap(true)
	t.mu.Unlock()
	if was {
		return
	}
	if err := t.pc.GracefulClose(); err != nil {
		t.p.log.Debug("closing a peer connection", "target", t.target, "err", err)
	}
	t.readers.Wait()
	t.endQuiet()
	t.release()
}

func (t *transport) release() {
	t.plane.close()
	if t.in != nil {
		t.in.close()
	}
	if t.out != nil {
		t.out.close()
	}
}

// awaitCandidates waits until the local description has its candidates.
func (t *transport) awaitCandidates() error {
	timeout := time.NewTimer(gatherTimeout)
	defer timeout.Stop()
	for t.pc.ICEGatheringState() != webrtc.ICEGatheringStateComplete {
		select {
		case <-t.candidates:
		case <-timeout.C:
			return errors.New("gathering candidates took too long")
		}
	}
	t.consent()
	return nil
}

// consent lets the plane answer checks to the credentials of the local description, unless the agent makes checks of its own.
func (t *transport) consent() {
	if t.p.cfg.FullICE {
		return
	}
	text := t.pc.LocalDescription().SDP
	value := func(key string) string {
		_, rest, _ := strings.Cut(text, "a="+key+":")
		v, _, _ := strings.Cut(rest, "\r\n")
		return v
	}
	t.plane.consent(value("ice-ufrag"), value("ice-pwd"))
}

// answer applies the peer's offer, of which sections are the m-lines, and returns our answer.
func (t *transport) answer(offer string, sections []section) (string, error) {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(offer); err != nil {
		return "", refuse("%v", err)
	}
	shown, err := t.trunk.show(webrtc.SDPTypeOffer, &parsed, sections)
	if err != nil {
		return "", err
	}
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: shown}); err != nil {
		return "", refuse("%v", err)
	}
	d, err := t.pc.CreateAnswer(nil)
	if err != nil {
		return "", refuse("%v", err)
	}
	if err := t.pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("answering: %w", err)
	}
	if err := t.awaitCandidates(); err != nil {
		return "", err
	}
	return answerText(t.pc.LocalDescription().SDP, &parsed, sections)
}

// offer offers the m-lines, with new ICE credentials if restart is set.
func (t *transport) offer(restart bool, mlines []*mline) (string, error) {
	d, err := t.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return "", fmt.Errorf("offering: %w", err)
	}
	if err := t.pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("offering: %w", err)
	}
	if err := t.awaitCandidates(); err != nil {
		return "", err
	}
	t.trunk.data = "0" // Pion's first
	return offerText(t.pc.LocalDescription().SDP, mlines)
}

// answered applies the peer's answer to our offer, of which sections are the m-lines.
func (t *transport) answered(answer string, sections []section) error {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(answer); err != nil {
		return refuse("%v", err)
	}
	shown, err := t.trunk.show(webrtc.SDPTypeAnswer, &parsed, sections)
	if err != nil {
		return err
	}
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: shown}); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// candidate checks one of the peer's candidates, as RTCIceCandidate's toJSON writes it, and forgets it: see
// [trunk.show].
func (t *transport) candidate(text string) error {
	if len(text) > 4096 {
		return fmt.Errorf("%w: a candidate of %d bytes", ErrDescription, len(text))
	}
	var c webrtc.ICECandidateInit
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return refuse("candidate: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trickled++; t.trickled > maxCandidates {
		return fmt.Errorf("more than %d candidates: %w", maxCandidates, ErrLimit)
	}
	return nil
}

// forgetCandidates lets a restart trickle as many again.
func (t *transport) forgetCandidates() {
	t.mu.Lock()
	t.trickled = 0
	t.mu.Unlock()
}

func (t *transport) writeRTCP(pkts []rtcp.Packet) {
	if !t.up.Load() || t.closed.Load() {
		return
	}
	// It fails without keys alone; feedback is repeated anyway.
	_ = t.plane.report(pkts)
}

// told returns what feedback on single packets has said so far.
func (t *transport) told() (f TransportFeedback) {
	if t.out != nil {
		counts := t.out.congestion(t.p.server.now()).Counts
		f.Received, f.Lost = counts.Received, counts.Lost
	}
	f.Bitrate = float64(t.bitrate.Load())
	return f
}

// maxBitrate bounds what is believed of a REMB, in bit/s.
const maxBitrate = 1e12

func (t *transport) estimated(bps float64) {
	t.bitrate.Store(int64(min(bps, maxBitrate)))
}

// rtp implements ascending.
func (t *transport) rtp(b []byte, at time.Duration) (gathers bool) {
	if t.in == nil {
		return false
	}
	t.in.rtp(b, at)
	return t.in.gathers()
}

// rest implements ascending.
func (t *transport) rest(at time.Duration) {
	if t.in != nil {
		t.in.rest(at)
	}
}

// flooded implements ascending.
func (t *transport) flooded(why error) {
	t.p.log.Warn("a peer connection is abused: closing the participant", "target", t.target, "error", why)
	t.p.notify(TransportState{Target: t.target, State: Failed})
	go t.p.Close()
}

// rtcp implements ascending.
func (t *transport) rtcp(b []byte, at time.Duration) {
	if t.back != nil && t.back.alone(b, at) {
		return
	}
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		t.p.badRTCP.Add(1)
		return
	}
	var told [maxToldSSRCs]uint32
	n := 0
	for _, p := range pkts {
		for _, ssrc := range p.DestinationSSRC() {
			if n < len(told) && !slices.Contains(told[:n], ssrc) {
				told[n] = ssrc
				n++
				t.rtcpOn(ssrc, pkts, b, at)
			}
		}
	}
}

// maxToldSSRCs is how many sources one datagram of RTCP may concern: as many reports as fit into one.
const maxToldSSRCs = 64

// rtcpOn takes the parts of a datagram of RTCP that concern one source: b, which are pkts.
func (t *transport) rtcpOn(ssrc uint32, pkts []rtcp.Packet, b []byte, at time.Duration) {
	if t.in != nil {
		t.in.rtcp(ssrc, pkts, at)
	}
	if t.back != nil {
		t.back.rtcp(ssrc, pkts, at, time.Now())
		t.back.raw(ssrc, b, at)
	}
}

// outTrack is what descriptions say of a subscription. repair is the SSRC of its RTX.
type outTrack struct {
	id, stream   string
	ssrc, repair uint32
}

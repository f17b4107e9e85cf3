package sfu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
)

// gatherTimeout bounds the gathering of candidates, which on shared ports waits for nothing outside.
const gatherTimeout = 3 * time.Second

// transport is one peer connection of a participant, and everything that knows of Pion. Media passes through two seams:
// packets that Pion's sessions have decrypted go up to ingest and returns by its buffer factory; runs come down from
// egress to [pionSink]. A media plane of our own replaces what is in this file and media.go.
type transport struct {
	p       *Participant
	target  Target
	pc      *webrtc.PeerConnection
	in      *ingest  // nil if the peer doesn't publish here
	back    *returns // nil if it doesn't subscribe here
	out     *egress
	sink    pionSink
	sender  *webrtc.RTPSender // see openSender; nil where m-lines have senders of their own
	channel [2]*channel       // by reliability: lossy, reliable; nil if none
	// extensions is guarded by the negotiation.
	extensions extensionMemory

	stubs    map[string]bool // m-lines that Pion was shown with one codec, by mid; see lean. Guarded by the negotiation
	gathered chan struct{}
	profile  atomic.Value // string
	up       atomic.Bool  // connected
	closed   atomic.Bool
	readers  sync.WaitGroup // of data channels; added to with mu held
	streams  atomic.Int64   // sources seen below the seam

	mu       sync.Mutex
	state    State
	trickled int
	bitrate  float64 // of the latest REMB
	measured measuredTransport

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
	t := &transport{p: p, target: target, gathered: make(chan struct{}, 1), extensions: extensionMemory{}}
	t.profile.Store("")
	if publishes {
		t.in = newIngest(p, t.writeRTCP)
	}
	if subscribes {
		t.out = newEgress(&t.sink, p.server.cfg.BatchDelay, p.server.now)
		t.out.owner = p
		t.back = &returns{find: p.subscriptionOf, bitrate: t.estimated, out: t.out, stray: func() { p.strayRTCP.Add(1) }}
	}
	pc, api, err := p.server.newPeer(target, p.cfg.FullICE, peerHooks{
		buffers: t.buffer,
		profile: func(name string) { t.profile.Store(name) },
	})
	if err != nil {
		t.release()
		return nil, fmt.Errorf("making a peer connection: %w", err)
	}
	t.pc = pc
	if publishes && subscribes {
		if err := t.openSender(api); err != nil {
			t.close()
			return nil, fmt.Errorf("making a sender: %w", err)
		}
	}
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			select {
			case t.gathered <- struct{}{}:
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
	if up {
		t.p.transportUp(t)
	}
}

// advance notes and tells the state, and reports whether the connection is up for the first time.
func (t *transport) advance() (up bool) {
	var s State
	switch t.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected:
		s = Connected
	case webrtc.PeerConnectionStateDisconnected:
		s = Disconnected
	case webrtc.PeerConnectionStateFailed:
		s = Failed
	default:
		return false
	}
	if s == t.state || t.closed.Load() {
		return false
	}
	t.state = s
	if s == Connected && !t.up.Swap(true) {
		up = true
		if t.out != nil {
			t.out.start()
		}
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
	if t.sender != nil {
		_ = t.sender.Stop() // it fails where nothing was ever sent
	}
	if err := t.pc.GracefulClose(); err != nil {
		t.p.log.Debug("closing a peer connection", "target", t.target, "err", err)
	}
	t.readers.Wait()
	t.release()
}

func (t *transport) release() {
	if t.in != nil {
		t.in.close()
	}
	if t.out != nil {
		t.out.close()
	}
}

// gather waits until the local description has its candidates.
func (t *transport) gather() error {
	timeout := time.NewTimer(gatherTimeout)
	defer timeout.Stop()
	for t.pc.ICEGatheringState() != webrtc.ICEGatheringStateComplete {
		select {
		case <-t.gathered:
		case <-timeout.C:
			return errors.New("gathering candidates took too long")
		}
	}
	return nil
}

// answer applies the peer's offer and returns our answer.
func (t *transport) answer(offer string) (string, error) {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(offer); err != nil {
		return "", refuse("%v", err)
	}
	if err := stripCandidates(&parsed); err != nil {
		return "", err
	}
	kept := lean(&parsed)
	b, err := parsed.Marshal()
	if err != nil {
		return "", refuse("%v", err)
	}
	offer = string(b)
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", refuse("%v", err)
	}
	t.widen(&parsed, kept.stubs)
	d, err := t.pc.CreateAnswer(nil)
	if err != nil {
		return "", refuse("%v", err)
	}
	if err := t.pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("answering: %w", err)
	}
	if err := t.gather(); err != nil {
		return "", err
	}
	answer, err := kept.restore(t.pc.LocalDescription().SDP)
	if err != nil {
		return "", fmt.Errorf("writing an answer: %w", err)
	}
	return answer, nil
}

// widen lets m-lines that Pion was shown with one codec, and on which the client sends now, have all codecs of its offer:
// Pion keeps to those of an m-line's first offer.
func (t *transport) widen(offer *sdp.SessionDescription, stubs map[string]stub) {
	for _, m := range offer.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		_, isStub := stubs[mid]
		wasStub := t.stubs[mid]
		if isStub == wasStub {
			continue
		}
		if t.stubs == nil {
			t.stubs = map[string]bool{}
		}
		if isStub {
			t.stubs[mid] = true
			continue
		}
		s, err := parseSection(m, "", new(int))
		if err != nil || s.rejected {
			continue
		}
		delete(t.stubs, mid)
		for _, tr := range t.pc.GetTransceivers() {
			if tr.Mid() == mid {
				_ = prefer(tr, s.codecs()) // without them the answer has the one codec still
			}
		}
	}
}

// codecs returns the payload types of an m-line as Pion has them.
func (s *section) codecs() []webrtc.RTPCodecParameters {
	out := make([]webrtc.RTPCodecParameters, 0, len(s.payloads))
	for _, p := range s.payloads {
		mime := p.kind.String()
		if p.rtx {
			mime = webrtc.MimeTypeRTX
		}
		out = append(out, webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(p.pt), RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mime, ClockRate: p.clock, Channels: uint16(p.channels), SDPFmtpLine: p.fmtp}})
	}
	return out
}

// offer makes an offer, with new ICE credentials if restart is set.
func (t *transport) offer(restart bool) (string, error) {
	d, err := t.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return "", fmt.Errorf("offering: %w", err)
	}
	if err := t.pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("offering: %w", err)
	}
	if err := t.gather(); err != nil {
		return "", err
	}
	offer := allowMixed(t.pc.LocalDescription().SDP)
	t.extensions.note(offer)
	return offer, nil
}

// answered applies the peer's answer to our offer.
func (t *transport) answered(answer string) error {
	answer, err := withoutCandidates(answer, t.extensions.restore)
	if err != nil {
		return err
	}
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// candidate checks one of the peer's candidates, as RTCIceCandidate's toJSON writes it, and forgets it: see
// [stripCandidates].
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
	// Pion fails here only before the session or after its end; feedback is repeated anyway.
	_ = t.pc.WriteRTCP(pkts)
}

// told returns what feedback on single packets has said so far.
func (t *transport) told() (f TransportFeedback) {
	if t.out != nil {
		counts := t.out.congestion(t.p.server.now()).Counts
		f.Received, f.Lost = counts.Received, counts.Lost
	}
	t.mu.Lock()
	f.Bitrate = t.bitrate
	t.mu.Unlock()
	return f
}

func (t *transport) estimated(bps float64) {
	t.mu.Lock()
	t.bitrate = bps
	t.mu.Unlock()
}

// maxStreams bounds the SSRCs, those of RTCP included, that a peer may make Pion keep state for at a time. One that
// exceeds it is up to no good.
const maxStreams = 4096

// buffer is Pion's buffer factory: instead of queueing what a session has decrypted for a reader, the buffer hands it up
// on the session's own goroutine. Its reading side is always at its end, so Pion's readers return at once.
func (t *transport) buffer(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	if n := t.streams.Add(1); n == maxStreams {
		t.p.log.Warn("too many sources on one peer connection: closing the participant", "target", t.target)
		t.p.notify(TransportState{Target: t.target, State: Failed})
		go t.p.Close()
	}
	return &upward{t: t, ssrc: ssrc, rtcp: kind == packetio.RTCPBufferPacket}
}

// upward is the buffer of one SSRC. RTCP that concerns several SSRCs comes once for each.
type upward struct {
	t      *transport
	ssrc   uint32
	rtcp   bool
	closed atomic.Bool
}

func (u *upward) Write(b []byte) (int, error) {
	t := u.t
	now := t.p.server.now()
	if !u.rtcp {
		if t.in != nil {
			t.in.rtp(b, now)
		}
		return len(b), nil
	}
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		t.p.badRTCP.Add(1)
		return len(b), nil
	}
	if t.in != nil {
		t.in.rtcp(u.ssrc, pkts, now)
	}
	if t.back != nil {
		t.back.rtcp(u.ssrc, pkts, now, time.Now())
		t.back.raw(u.ssrc, b, now)
	}
	return len(b), nil
}

func (u *upward) Read([]byte) (int, error) { return 0, io.EOF }

func (u *upward) Close() error {
	if !u.closed.Swap(true) {
		u.t.streams.Add(-1)
	}
	return nil
}

// pionSink sends runs through Pion's SRTP session. All senders of a peer connection write into the same session, so any
// one that is bound will do for every SSRC.
type pionSink struct {
	mu      sync.Mutex
	writers []*outTrack
	current atomic.Pointer[outTrack]

	// Scratch; sendRun is called by one goroutine at a time.
	header rtp.Header
	body   [largePacket + maxPrefix]byte
}

func (k *pionSink) sendRun(run []segment) (sent int) {
	w := k.current.Load()
	if w == nil {
		return 0
	}
	for i := range run {
		g := &run[i]
		if _, err := k.header.Unmarshal(g.header); err != nil {
			continue // not one of ours
		}
		body := g.payload
		if len(g.prefix) > 0 {
			n := copy(k.body[:], g.prefix)
			n += copy(k.body[n:], g.payload)
			body = k.body[:n]
		}
		if n, err := w.writer.WriteRTP(&k.header, body); err == nil && n > 0 {
			sent++
		}
	}
	return sent
}

func (k *pionSink) add(w *outTrack) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writers = append(k.writers, w)
	if k.current.Load() == nil {
		k.current.Store(w)
	}
}

func (k *pionSink) remove(w *outTrack) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, o := range k.writers {
		if o == w {
			k.writers = append(k.writers[:i], k.writers[i+1:]...)
			break
		}
	}
	if k.current.Load() == w {
		k.current.Store(nil)
		if len(k.writers) > 0 {
			k.current.Store(k.writers[0])
		}
	}
}

// outTrack is what Pion's session description and sender see of a subscription: ids and the SSRCs it was given.
type outTrack struct {
	sink       *pionSink
	id, stream string
	kind       webrtc.RTPCodecType

	writer       webrtc.TrackLocalWriter // set by Bind
	ssrc, repair uint32
}

func (o *outTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	o.writer, o.ssrc, o.repair = c.WriteStream(), uint32(c.SSRC()), uint32(c.SSRCRetransmission())
	o.sink.add(o)
	// What is sent is told by the negotiated description, not by this; Pion only wants to know one.
	if all := c.CodecParameters(); len(all) > 0 {
		return all[0], nil
	}
	return webrtc.RTPCodecParameters{}, nil
}

func (o *outTrack) Unbind(webrtc.TrackLocalContext) error {
	o.sink.remove(o)
	return nil
}

func (o *outTrack) ID() string                { return o.id }
func (o *outTrack) RID() string               { return "" }
func (o *outTrack) StreamID() string          { return o.stream }
func (o *outTrack) Kind() webrtc.RTPCodecType { return o.kind }

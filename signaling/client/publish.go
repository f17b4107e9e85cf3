package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"anytime/signaling/wire"
)

// Codecs to publish with.
var (
	Opus = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}
	VP8  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	H264 = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}
)

// PublishOptions describe a track.
type PublishOptions struct {
	// Codec is one of the codecs above.
	Codec  webrtc.RTPCodecCapability
	Source wire.TrackSource
	Name   string
	Muted  bool
	// Layers makes a simulcast track, from the lowest to the highest: rids q, h and f.
	Layers []*wire.VideoLayer
	// Backups are further codecs that the track may come in, once the server asks for them: see Of.
	Backups []webrtc.RTPCodecCapability
	// Of is the id of a published track that this is a further codec of.
	Of string
	// Own gives the track a section of its own, as browsers do. Otherwise Pion takes one that only receives, if there is one.
	Own bool
	// CID, when set, is announced instead of the track's own id, as clients do whose session
	// description carries another one.
	CID string
}

// Publication is an own track.
type Publication struct {
	client *Client
	info   *wire.TrackInfo
	sender *webrtc.RTPSender
	layers []*webrtc.TrackLocalStaticRTP
	// keyframes hold a mark each while somebody wants a keyframe of a layer.
	keyframes []chan struct{}

	mu          sync.Mutex
	packetizers []rtp.Packetizer

	// What marks a simulcast packet's layer: Pion leaves these header extensions to the writer.
	mid          string
	midID, ridID uint8
	levelID      uint8 // of audio: see WriteVoice
}

// rids are the simulcast layers' names, from the lowest.
var rids = []string{"q", "h", "f"}

// Publish announces a track, adds it to the publisher and negotiates. When it returns, the server
// has answered, and packets can be written.
func (c *Client) Publish(ctx context.Context, o PublishOptions) (*Publication, error) {
	if c.publisher == nil {
		return nil, errors.New("publish: this client has no transports")
	}
	video := o.Codec.MimeType != webrtc.MimeTypeOpus
	id := wire.NewID("track-")
	p := &Publication{client: c}
	count := max(len(o.Layers), 1)
	for i := range count {
		var options []func(*webrtc.TrackLocalStaticRTP)
		if count > 1 {
			options = append(options, webrtc.WithRTPStreamID(rids[i]))
		}
		layer, err := webrtc.NewTrackLocalStaticRTP(o.Codec, id, "stream-"+id, options...)
		if err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
		p.layers = append(p.layers, layer)
		p.keyframes = append(p.keyframes, make(chan struct{}, 1))
	}
	request := &wire.AddTrackRequest{
		Cid: id, Name: o.Name, Source: o.Source, Muted: o.Muted, Layers: o.Layers, Type: wire.TrackAudio,
	}
	if video {
		request.Type, request.Width, request.Height = wire.TrackVideo, 1280, 720
		if len(o.Layers) > 0 {
			top := o.Layers[len(o.Layers)-1]
			request.Width, request.Height = top.Width, top.Height
		}
	}
	if c.profile().OwnCIDs {
		request.Cid = map[bool]string{false: "a0", true: "v0"}[video]
	}
	if o.CID != "" {
		request.Cid = o.CID
	}
	if video {
		request.Sid = o.Of
		request.SimulcastCodecs = []*wire.SimulcastCodec{{Codec: codecName(o.Codec), Cid: request.Cid}}
		for _, b := range o.Backups {
			request.SimulcastCodecs = append(request.SimulcastCodecs, &wire.SimulcastCodec{Codec: codecName(b)})
		}
	}
	defer c.forgetAnnouncement(request)
	published, err := c.announce(request)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	eager := c.profile().Eager
	if !eager {
		if p.info, err = c.accepted(ctx, published); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	if p.sender, err = c.sender(p.layers[0], o.Own); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if video {
		if err := c.prefer(p.sender, o.Codec); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	for _, layer := range p.layers[1:] {
		if err := p.sender.AddEncoding(layer); err != nil {
			return nil, fmt.Errorf("publish: add simulcast layer: %w", err)
		}
	}
	if err := c.negotiate(ctx, false); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if eager {
		if p.info, err = c.accepted(ctx, published); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	p.readExtensions()
	c.run(func() { p.readRTCP(0, p.sender.ReadRTCP) })
	for i, layer := range p.layers[1:] {
		c.run(func() {
			p.readRTCP(i+1, func() ([]rtcp.Packet, interceptor.Attributes, error) { return p.sender.ReadSimulcastRTCP(layer.RID()) })
		})
	}
	return p, nil
}

// sender adds a track to the publisher.
func (c *Client) sender(track webrtc.TrackLocal, own bool) (*webrtc.RTPSender, error) {
	if !own {
		return c.publisher.pc.AddTrack(track)
	}
	t, err := c.publisher.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return nil, err
	}
	return t.Sender(), nil
}

// codecName is what the contract calls a codec: "vp8".
func codecName(c webrtc.RTPCodecCapability) string {
	_, name, _ := strings.Cut(strings.ToLower(c.MimeType), "/")
	return name
}

// prefer has the sender's section offer that codec first: the server takes the first for the one that
// is sent.
func (c *Client) prefer(sender *webrtc.RTPSender, codec webrtc.RTPCodecCapability) error {
	for _, t := range c.publisher.pc.GetTransceivers() {
		if t.Sender() != sender {
			continue
		}
		list := sender.GetParameters().Codecs
		other := func(p webrtc.RTPCodecParameters) int {
			if p.MimeType == codec.MimeType && p.SDPFmtpLine == codec.SDPFmtpLine {
				return 0
			}
			return 1
		}
		slices.SortStableFunc(list, func(a, b webrtc.RTPCodecParameters) int { return other(a) - other(b) })
		return t.SetCodecPreferences(list)
	}
	return nil
}

// announcement is an AddTrack that waits for its answer.
type announcement struct {
	request       *wire.AddTrackRequest
	answered      chan *wire.TrackPublishedResponse
	refusedBefore int
}

// announce sends AddTrack.
func (c *Client) announce(request *wire.AddTrackRequest) (announcement, error) {
	a := announcement{request: request, answered: make(chan *wire.TrackPublishedResponse, 1)}
	c.mu.Lock()
	c.waiting[request.Cid] = a.answered
	a.refusedBefore = len(c.state.Refused)
	c.mu.Unlock()
	return a, c.Send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: request}})
}

func (c *Client) forgetAnnouncement(request *wire.AddTrackRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, request.Cid)
}

// accepted waits for the answer to AddTrack.
func (c *Client) accepted(ctx context.Context, a announcement) (*wire.TrackInfo, error) {
	for {
		c.mu.Lock()
		changed, refused := c.changed, c.state.Refused[a.refusedBefore:]
		c.mu.Unlock()
		for _, r := range refused {
			if r.GetAddTrack().GetCid() == a.request.Cid {
				return nil, fmt.Errorf("%v: %s", r.Reason, r.Message)
			}
		}
		select {
		case response := <-a.answered:
			c.mu.Lock()
			c.published[response.GetTrack().GetSid()] = response
			c.mu.Unlock()
			return response.GetTrack(), nil
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// readExtensions learns the negotiated ids of the header extensions.
func (p *Publication) readExtensions() {
	for _, t := range p.client.publisher.pc.GetTransceivers() {
		if t.Sender() == p.sender {
			p.mid = t.Mid()
		}
	}
	for _, e := range p.sender.GetParameters().HeaderExtensions {
		switch e.URI {
		case midURI:
			p.midID = uint8(e.ID)
		case ridURI:
			p.ridID = uint8(e.ID)
		case audioLevelURI:
			p.levelID = uint8(e.ID)
		}
	}
}

// mark puts the layer's names on a simulcast packet (RFC 8852 §3).
func (p *Publication) mark(layer int, packet *rtp.Packet) error {
	if len(p.layers) == 1 || p.midID == 0 || p.ridID == 0 {
		return nil
	}
	if err := packet.SetExtension(p.midID, []byte(p.mid)); err != nil {
		return err
	}
	return packet.SetExtension(p.ridID, []byte(rids[layer]))
}

// readRTCP lets Pion's interceptors see a layer's feedback, and notes requests for a keyframe.
func (p *Publication) readRTCP(layer int, read func() ([]rtcp.Packet, interceptor.Attributes, error)) {
	for {
		packets, _, err := read()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				select {
				case p.keyframes[layer] <- struct{}{}:
				default:
				}
			}
		}
	}
}

// KeyframeRequested reports whether a keyframe of a layer was asked for (RFC 4585 §6.3.1, RFC 5104 §4.3.1) since the last call.
func (p *Publication) KeyframeRequested(layer int) bool {
	select {
	case <-p.keyframes[layer]:
		return true
	default:
		return false
	}
}

// ID returns the track id (TR_…).
func (p *Publication) ID() string { return p.info.GetSid() }

// Info returns what the server answered.
func (p *Publication) Info() *wire.TrackInfo { return p.info }

// WriteRTP sends a packet on a layer (0 where there is one). SSRC and payload type are set here.
func (p *Publication) WriteRTP(layer int, packet *rtp.Packet) error {
	if err := p.mark(layer, packet); err != nil {
		return err
	}
	return p.layers[layer].WriteRTP(packet)
}

// WriteSample packetises a frame, an Opus packet or an encoded picture, of the given duration and
// sends it on a layer.
func (p *Publication) WriteSample(layer int, frame []byte, duration time.Duration) error {
	packets, err := p.packetize(layer, frame, duration)
	if err != nil {
		return err
	}
	for _, packet := range packets {
		if err := p.WriteRTP(layer, packet); err != nil {
			return err
		}
	}
	return nil
}

// WriteVoice sends an Opus packet with what it sounds like (RFC 6464): its level in -dBov, 0 the loudest and 127 silence, and
// whether it is a voice. Nothing is sent of an empty frame, but its time passes: discontinuous transmission.
func (p *Publication) WriteVoice(frame []byte, level uint8, voice bool, duration time.Duration) error {
	if len(frame) == 0 {
		p.skip(duration)
		return nil
	}
	packets, err := p.packetize(0, frame, duration)
	if err != nil {
		return err
	}
	for _, packet := range packets {
		if err := p.WriteVoiceRTP(packet, level, voice); err != nil {
			return err
		}
	}
	return nil
}

// WriteVoiceRTP sends a packet of audio as WriteRTP does, with its level as of WriteVoice.
func (p *Publication) WriteVoiceRTP(packet *rtp.Packet, level uint8, voice bool) error {
	if voice {
		level |= 0x80
	}
	if p.levelID != 0 {
		if err := packet.SetExtension(p.levelID, []byte{level}); err != nil {
			return err
		}
	}
	return p.WriteRTP(0, packet)
}

func (p *Publication) ticks(layer int, duration time.Duration) uint32 {
	return uint32(duration.Seconds() * float64(p.layers[layer].Codec().ClockRate))
}

func (p *Publication) skip(duration time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packetizers != nil {
		p.packetizers[0].SkipSamples(p.ticks(0, duration))
	}
}

func (p *Publication) packetize(layer int, frame []byte, duration time.Duration) ([]*rtp.Packet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packetizers == nil {
		for _, l := range p.layers {
			packetizer, err := packetizerFor(l.Codec())
			if err != nil {
				return nil, err
			}
			p.packetizers = append(p.packetizers, packetizer)
		}
	}
	return p.packetizers[layer].Packetize(frame, p.ticks(layer, duration)), nil
}

func packetizerFor(codec webrtc.RTPCodecCapability) (rtp.Packetizer, error) {
	var payloader rtp.Payloader
	switch codec.MimeType {
	case webrtc.MimeTypeOpus:
		payloader = &codecs.OpusPayloader{}
	case webrtc.MimeTypeVP8:
		payloader = &codecs.VP8Payloader{EnablePictureID: true}
	case webrtc.MimeTypeH264:
		payloader = &codecs.H264Payloader{}
	default:
		return nil, fmt.Errorf("cannot packetise %s: write RTP instead", codec.MimeType)
	}
	return rtp.NewPacketizer(1150, 0, 0, payloader, rtp.NewRandomSequencer(), codec.ClockRate), nil
}

// SetMuted tells the server that the track is muted or not.
func (p *Publication) SetMuted(muted bool) error {
	return p.client.Send(&wire.SignalRequest{Message: &wire.RequestMute{
		Mute: &wire.MuteTrackRequest{Sid: p.ID(), Muted: muted},
	}})
}

// Unpublish takes the track out of the publisher's offer, as SDKs do.
func (p *Publication) Unpublish(ctx context.Context) error {
	if err := p.client.publisher.pc.RemoveTrack(p.sender); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	p.client.mu.Lock()
	delete(p.client.published, p.ID())
	p.client.mu.Unlock()
	if err := p.client.negotiate(ctx, false); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	return nil
}

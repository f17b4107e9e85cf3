package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pion/rtp"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// simulcast are the layers of a generated video, from the lowest, as the SDKs of the contract choose them for 720p.
var simulcast = []struct {
	width, height uint16
	bitrate       int
}{
	{320, 180, 160_000},
	{640, 360, 450_000},
	{1280, 720, 1_700_000},
}

const (
	frameRate = 30
	// audioBitrate in bits per second.
	audioBitrate = 32_000
	// behind is how late a publisher may be before it leaves out what it missed.
	behind = time.Second
	// lateFrame is how late a frame may begin before it says that the generator is short of CPU.
	lateFrame = 50 * time.Millisecond
)

// publisher sends one participant's media.
type publisher struct {
	load   *generator
	number uint16
	burst  bool

	camera *client.Publication
	layers []*layer
	// sent since the beginning, by layer.
	streams []rtpOut

	microphone *client.Publication
	voice      rtpOut
	spoken     uint32

	payload [maxPayload]byte
	plan    []planned
	shown   int // of the plan
}

// rtpOut is where a stream's numbers are.
type rtpOut struct {
	seq       uint16
	timestamp uint32
}

// planned is a packet that waits for its time.
type planned struct {
	due           time.Duration
	layer, packet int
	last          bool
}

// publish announces the tracks that are to be sent.
func (p *publisher) publish(ctx context.Context, c *client.Client) error {
	cfg := &p.load.cfg
	var err error
	if cfg.Audio {
		p.microphone, err = c.Publish(ctx, client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone, Name: "microphone", Own: true})
		if err != nil {
			return err
		}
		p.voice = rtpOut{uint16(rand.Uint32()), rand.Uint32()}
	}
	if !cfg.Video {
		return nil
	}
	options := client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Name: "camera", Own: true}
	if cfg.Codec == H264 {
		options.Codec = client.H264
	}
	for i, l := range simulcast {
		p.layers = append(p.layers, newLayer(cfg.Codec, p.load.run, p.number, uint8(i), l.width, l.height, l.bitrate, frameRate))
		p.streams = append(p.streams, rtpOut{uint16(rand.Uint32()), rand.Uint32()})
		options.Layers = append(options.Layers, &wire.VideoLayer{
			Quality: wire.QualityLow + wire.VideoQuality(i), Width: uint32(l.width), Height: uint32(l.height), Bitrate: uint32(l.bitrate),
		})
	}
	p.camera, err = c.Publish(ctx, options)
	return err
}

// send sends until the context ends. Publishers don't all begin at once.
func (p *publisher) send(ctx context.Context) error {
	const interval = time.Second / frameRate
	now := p.load.now
	nextFrame := now() + rand.N(interval)
	nextVoice := now() + rand.N(audioFrame)
	first := true
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := now()
		if p.microphone != nil && at >= nextVoice {
			if err := p.speak(); err != nil {
				return err
			}
			nextVoice = after(nextVoice, audioFrame, at)
		}
		if p.camera != nil && at >= nextFrame && p.shown == len(p.plan) {
			if at-nextFrame > lateFrame {
				p.load.late.Add(1)
			}
			p.look(nextFrame, interval, first)
			first = false
			nextFrame = after(nextFrame, interval, at)
		}
		for p.shown < len(p.plan) && p.plan[p.shown].due <= at {
			if err := p.show(p.plan[p.shown]); err != nil {
				return err
			}
			p.shown++
		}
		timer.Reset(max(p.next(nextFrame, nextVoice)-now(), 0))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// next is when there is something to send.
func (p *publisher) next(frame, voice time.Duration) time.Duration {
	switch {
	case p.camera == nil:
		return voice
	case p.shown < len(p.plan):
		frame = p.plan[p.shown].due
	}
	if p.microphone == nil {
		return frame
	}
	return min(frame, voice)
}

// after is the time after due, or what lies ahead when too much was missed.
func after(due, interval, now time.Duration) time.Duration {
	if due += interval; now-due > behind {
		return now
	}
	return due
}

// look begins a frame of every layer and plans its packets: over a third of the interval, or all at once.
func (p *publisher) look(due, interval time.Duration, first bool) {
	p.plan, p.shown = p.plan[:0], 0
	total := 0
	for i, l := range p.layers {
		n := l.next(p.camera.KeyframeRequested(i) || first)
		p.streams[i].timestamp += videoRate / frameRate
		for k := range n {
			p.plan = append(p.plan, planned{layer: i, packet: k, last: k == n-1})
		}
		total += n
	}
	for i := range p.plan {
		p.plan[i].due = due
		if !p.burst {
			p.plan[i].due += interval / 3 * time.Duration(i) / time.Duration(total)
		}
	}
}

// show sends a packet of video.
func (p *publisher) show(k planned) error {
	out := &p.streams[k.layer]
	out.seq++
	packet := rtp.Packet{Header: rtp.Header{Version: 2, Marker: k.last, SequenceNumber: out.seq, Timestamp: out.timestamp}}
	packet.Payload = p.layers[k.layer].packet(p.payload[:], k.packet, p.load.now())
	p.load.sent.Add(1)
	if err := p.camera.WriteRTP(k.layer, &packet); err != nil {
		return fmt.Errorf("send video: %w", err)
	}
	return nil
}

// speak sends a packet of audio; the level goes up and down as in speech.
func (p *publisher) speak() error {
	p.voice.seq++
	p.voice.timestamp += audioRate / uint32(time.Second/audioFrame)
	p.spoken++
	level := uint8(25 + (p.spoken/7+uint32(p.number))%15)
	s := stamp{run: p.load.run, publisher: p.number, layer: audioLayer, frame: p.spoken, sent: p.load.now()}
	packet := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: p.voice.seq, Timestamp: p.voice.timestamp, Marker: p.spoken == 1}}
	packet.Payload = opusPacket(p.payload[:], audioBitrate/8/int(time.Second/audioFrame), s)
	p.load.sent.Add(1)
	if err := p.microphone.WriteVoiceRTP(&packet, level, true); err != nil {
		return fmt.Errorf("send audio: %w", err)
	}
	return nil
}

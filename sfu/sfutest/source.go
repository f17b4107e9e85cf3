package sfutest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

const (
	opusInterval  = 20 * time.Millisecond
	frameInterval = time.Second / 30
	// PacketsOfLayer is how many packets a frame of layer 0, 1 and 2 has.
	filler = 300
)

// PacketsOfLayer returns how many packets a frame of a layer has.
func PacketsOfLayer(layer int) int { return layer + 1 }

// Source sends synthetic media from a client until it is stopped.
type Source struct {
	c      *Client
	ID     string
	sender *webrtc.RTPSender
	layers []*layerSource
	shape  Shape

	mu     sync.Mutex
	paused bool

	// Frames counts the ticks, each of which sends one frame of every layer; Keyframes the keyframes sent, PLIs the
	// requests received.
	Frames, Keyframes, PLIs atomic.Int64
	level                   atomic.Int32
	fill                    atomic.Int32

	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

type layerSource struct {
	track     *webrtc.TrackLocalStaticRTP
	rid       string
	sequence  uint16
	timestamp uint32
	picture   uint16
	tl0       uint8
	frame     uint32
	force     atomic.Bool
	off       atomic.Bool
}

// Audio publishes an Opus track and sends a packet every 20 ms, at -30 dBov.
func (c *Client) Audio(id string) (*Source, error) {
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2},
		"cid-"+id, "stream-"+c.ID)
	if err != nil {
		return nil, err
	}
	s := c.source(id)
	s.level.Store(30)
	s.layers = []*layerSource{newLayerSource(track, "")}
	return s, s.publish(sfu.PublicationConfig{ID: id, CID: "cid-" + id, Kind: sfu.Audio, Stream: "stream-" + c.ID})
}

// Shape is how large the frames of a source are. The zero value is small: see [PacketsOfLayer].
type Shape struct {
	// Packets is how many packets a frame has, Keyframe how many a keyframe, Size how many bytes each payload at least.
	Packets, Keyframe, Size int
}

// Video publishes a VP8 track with a layer per rid, a plain one without any, and sends 30 frames a second.
func (c *Client) Video(id string, rids ...string) (*Source, error) {
	return c.VideoOf(Shape{}, id, rids...)
}

// VideoOf is Video with frames of a shape.
func (c *Client) VideoOf(shape Shape, id string, rids ...string) (*Source, error) {
	s := c.source(id)
	s.shape = shape
	cfg := sfu.PublicationConfig{ID: id, CID: "cid-" + id, Kind: sfu.Video, Stream: "stream-" + c.ID}
	if len(rids) == 0 {
		rids = []string{""}
	}
	for i, rid := range rids {
		var opts []func(*webrtc.TrackLocalStaticRTP)
		if rid != "" {
			opts = append(opts, webrtc.WithRTPStreamID(rid))
		}
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000},
			"cid-"+id, "stream-"+c.ID, opts...)
		if err != nil {
			return nil, err
		}
		s.layers = append(s.layers, newLayerSource(track, rid))
		cfg.Layers = append(cfg.Layers, sfu.Layer{Quality: uint8(i), Width: 320 << i, Height: 180 << i})
	}
	return s, s.publish(cfg)
}

func newLayerSource(t *webrtc.TrackLocalStaticRTP, rid string) *layerSource {
	return &layerSource{track: t, rid: rid, sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(), picture: uint16(rand.Uint32()) & 0x7fff}
}

func (c *Client) source(id string) *Source {
	s := &Source{c: c, ID: id, stop: make(chan struct{})}
	s.fill.Store(filler)
	c.mu.Lock()
	c.sources = append(c.sources, s)
	c.mu.Unlock()
	return s
}

// publish announces the track, negotiates it and starts to send.
func (s *Source) publish(cfg sfu.PublicationConfig) error {
	if err := s.c.Participant.Publish(cfg); err != nil {
		return err
	}
	tr, err := s.c.pub.AddTransceiverFromTrack(s.layers[0].track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return err
	}
	s.sender = tr.Sender()
	for _, l := range s.layers[1:] {
		if err := s.sender.AddEncoding(l.track); err != nil {
			return err
		}
	}
	if err := s.c.Negotiate(false); err != nil {
		return err
	}
	for _, l := range s.layers {
		s.done.Add(1)
		go s.readRTCP(l)
	}
	if err := s.c.AwaitState(sfu.Publisher, sfu.Connected); err != nil {
		return err
	}
	s.done.Add(1)
	go s.send(tr.Mid(), cfg.Kind)
	return nil
}

func (s *Source) readRTCP(l *layerSource) {
	defer s.done.Done()
	for {
		var pkts []rtcp.Packet
		var err error
		if l.rid == "" {
			pkts, _, err = s.sender.ReadRTCP()
		} else {
			var n int
			b := make([]byte, 1500)
			var a interceptor.Attributes
			if n, a, err = s.sender.ReadSimulcast(b, l.rid); err == nil {
				_ = a
				pkts, err = rtcp.Unmarshal(b[:n])
			}
		}
		if err != nil {
			return
		}
		for _, p := range pkts {
			if _, ok := p.(*rtcp.PictureLossIndication); ok {
				s.PLIs.Add(1)
				l.force.Store(true)
			}
		}
	}
}

// send writes packets in time until the source is stopped.
func (s *Source) send(mid string, kind sfu.Kind) {
	defer s.done.Done()
	ids := map[string]uint8{}
	for _, e := range s.sender.GetParameters().HeaderExtensions {
		ids[e.URI] = uint8(e.ID)
	}
	interval := opusInterval
	if kind == sfu.Video {
		interval = frameInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		if !s.paused {
			s.Frames.Add(1)
			for i, l := range s.layers {
				if l.off.Load() {
					l.timestamp += uint32(90000 / 30)
					continue
				}
				if kind == sfu.Video {
					s.frame(l, i, mid, ids)
				} else {
					s.voice(l, ids)
				}
			}
		}
		s.mu.Unlock()
	}
}

func (s *Source) voice(l *layerSource, ids map[string]uint8) {
	p := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: l.sequence, Timestamp: l.timestamp, Marker: l.frame == 0}}
	if id := ids[sdp.AudioLevelURI]; id != 0 {
		_ = p.SetExtension(id, []byte{0x80 | byte(s.level.Load())})
	}
	p.Payload = payloadOf(s.ID, 0, l.frame, 0, []byte{0x78}, 60)
	_ = l.track.WriteRTP(&p)
	l.sequence++
	l.timestamp += 960
	l.frame++
}

// frame sends one VP8 frame: RFC 7741 descriptors with a 15-bit picture id, TL0PICIDX and a temporal layer of 0.
func (s *Source) frame(l *layerSource, index int, mid string, ids map[string]uint8) {
	key := l.force.Swap(false) || l.frame == 0
	if key {
		s.Keyframes.Add(1)
	}
	l.picture = (l.picture + 1) & 0x7fff
	l.tl0++
	n, fill := PacketsOfLayer(index), int(s.fill.Load())
	if s.shape.Packets > 0 {
		n, fill = s.shape.Packets, s.shape.Size
		if key {
			n = s.shape.Keyframe
		}
	}
	for i := range n {
		first := byte(0x80)
		if i == 0 {
			first |= 0x10
		}
		d := []byte{first, 0x80 | 0x40 | 0x20, 0x80 | byte(l.picture>>8), byte(l.picture), l.tl0, 0x00}
		head := byte(1)
		if key {
			head = 0
		}
		d = append(d, head)
		p := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: l.sequence, Timestamp: l.timestamp, Marker: i == n-1}}
		if id := ids[sdp.SDESMidURI]; id != 0 {
			_ = p.SetExtension(id, []byte(mid))
		}
		if id := ids[sdp.SDESRTPStreamIDURI]; id != 0 && l.rid != "" {
			_ = p.SetExtension(id, []byte(l.rid))
		}
		p.Payload = payloadOf(s.ID, index, l.frame, i, d, fill)
		_ = l.track.WriteRTP(&p)
		l.sequence++
	}
	l.timestamp += 90000 / 30
	l.frame++
}

// payloadOf puts behind a codec header what [Packet] reads again.
func payloadOf(id string, layer int, frame uint32, index int, header []byte, fill int) []byte {
	return append(append([]byte{}, header...), bodyOf(id, layer, frame, index, time.Since(epoch), fill)...)
}

// bodyOf is what stands behind the codec header; its last fill bytes are other ones in each packet.
func bodyOf(id string, layer int, frame uint32, index int, sent time.Duration, fill int) []byte {
	b := append(make([]byte, 0, 16+len(id)+fill), 0xa5, byte(layer), byte(index), byte(len(id)))
	b = binary.BigEndian.AppendUint32(b, frame)
	b = append(b, id...)
	b = binary.BigEndian.AppendUint64(b, uint64(sent))
	for i := range fill {
		b = append(b, byte(i)^byte(frame)^byte(index<<5))
	}
	return b
}

// epoch is the beginning of the times in payloads.
var epoch = time.Now()

// Pause stops sending, as a muted track does; Resume goes on.
func (s *Source) Pause()  { s.mu.Lock(); s.paused = true; s.mu.Unlock() }
func (s *Source) Resume() { s.mu.Lock(); s.paused = false; s.mu.Unlock() }

// Level sets the audio level, in -dBov.
func (s *Source) Level(l int) { s.level.Store(int32(l)) }

// Fill sets how many bytes each packet of video carries without a meaning, 0–1100.
func (s *Source) Fill(bytes int) { s.fill.Store(int32(bytes)) }

// Layer switches one simulcast layer on or off.
func (s *Source) Layer(index int, on bool) {
	s.layers[index].off.Store(!on)
	if on {
		s.layers[index].force.Store(true)
	}
}

// Stop ends sending. The track stays published.
func (s *Source) Stop() {
	s.once.Do(func() {
		close(s.stop)
		if s.sender != nil {
			_ = s.sender.Stop()
		}
	})
	s.done.Wait()
}

// Remove withdraws the track from the client's description and negotiates that.
func (s *Source) Remove() error {
	s.Stop()
	if err := s.c.pub.RemoveTrack(s.sender); err != nil {
		return fmt.Errorf("removing %s: %w", s.ID, err)
	}
	return s.c.Negotiate(false)
}

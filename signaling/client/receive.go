package client

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"anytime/signaling/wire"
)

// Track is a subscribed track of somebody else.
type Track struct {
	client *Client
	remote *webrtc.TrackRemote

	// ID is the track id (TR_…), Participant the publisher's id (PA_…), Stream the stream's name.
	ID, Participant, Stream string

	packets  chan *rtp.Packet
	received atomic.Uint64
	bytes    atomic.Uint64
}

// onTrack takes a track of the subscriber. The contract: the stream's id is PA_x|stream, the
// track's id is TR_x.
func (c *Client) onTrack(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	participant, stream, _ := strings.Cut(remote.StreamID(), "|")
	t := &Track{
		client: c, remote: remote, ID: remote.ID(), Participant: participant, Stream: stream,
		packets: make(chan *rtp.Packet, c.cfg.Packets),
	}
	if !c.run(t.read) {
		return
	}
	c.run(func() {
		buf := make([]byte, 1500)
		for {
			if _, _, err := receiver.Read(buf); err != nil {
				return
			}
		}
	})
	select {
	case c.tracks <- t:
	default:
		c.log.Warn("track dropped: nobody takes them", "track", t.ID)
	}
}

func (t *Track) read() {
	defer close(t.packets)
	for {
		packet, _, err := t.remote.ReadRTP()
		if err != nil {
			return
		}
		t.received.Add(1)
		t.bytes.Add(uint64(len(packet.Payload)))
		select {
		case t.packets <- packet:
		default:
		}
	}
}

// NextTrack returns the next track that the client was subscribed to and that has sent a packet.
func (c *Client) NextTrack(ctx context.Context) (*Track, error) {
	select {
	case t := <-c.tracks:
		return t, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a track: %w", ctx.Err())
	case <-c.ctx.Done():
		return nil, ErrClosed
	}
}

// Codec returns the track's codec.
func (t *Track) Codec() webrtc.RTPCodecParameters { return t.remote.Codec() }

// SSRC returns the stream's SSRC.
func (t *Track) SSRC() uint32 { return uint32(t.remote.SSRC()) }

// Received returns how many packets and payload bytes have arrived, whether read or not.
func (t *Track) Received() (packets, bytes uint64) { return t.received.Load(), t.bytes.Load() }

// ReadRTP returns the next packet that waits.
func (t *Track) ReadRTP(ctx context.Context) (*rtp.Packet, error) {
	select {
	case p, ok := <-t.packets:
		if !ok {
			return nil, fmt.Errorf("track %s has ended", t.ID)
		}
		return p, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a packet of %s: %w", t.ID, ctx.Err())
	}
}

// RequestKeyframe sends a picture loss indication (RFC 4585 §6.3.1).
func (t *Track) RequestKeyframe() error {
	return t.client.subscriber.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: t.SSRC()}})
}

// SendFeedback sends RTCP packets to the server on the peer connection that receives, as one compound packet. It fails before
// that is connected.
func (c *Client) SendFeedback(packets ...rtcp.Packet) error {
	return c.subscriber.pc.WriteRTCP(packets)
}

// Subscribe and Unsubscribe by hand.
func (c *Client) Subscribe(trackIDs ...string) error { return c.subscription(true, trackIDs) }

// Unsubscribe ends subscriptions.
func (c *Client) Unsubscribe(trackIDs ...string) error { return c.subscription(false, trackIDs) }

func (c *Client) subscription(on bool, ids []string) error {
	return c.Send(&wire.SignalRequest{Message: &wire.RequestSubscription{
		Subscription: &wire.UpdateSubscription{TrackSids: ids, Subscribe: on},
	}})
}

// Configure sends settings for tracks.
func (c *Client) Configure(settings *wire.UpdateTrackSettings) error {
	return c.Send(&wire.SignalRequest{Message: &wire.RequestTrackSetting{TrackSetting: settings}})
}

// Data is a received data packet.
type Data struct {
	Reliable bool
	Packet   *wire.DataPacket
}

func (c *Client) makeDataChannels() error {
	// The contract's channels: _reliable is ordered, _lossy is unordered and never retransmitted.
	ordered, unordered, none := true, false, uint16(0)
	if _, err := c.dataChannel(reliableLabel, &webrtc.DataChannelInit{Ordered: &ordered}); err != nil {
		return err
	}
	_, err := c.dataChannel(lossyLabel, &webrtc.DataChannelInit{Ordered: &unordered, MaxRetransmits: &none})
	return err
}

func (c *Client) dataChannel(label string, init *webrtc.DataChannelInit) (*webrtc.DataChannel, error) {
	d, err := c.publisher.pc.CreateDataChannel(label, init)
	if err != nil {
		return nil, fmt.Errorf("make data channel: %w", err)
	}
	if c.cfg.Single {
		c.receiveData(d) // the server sends on our own channels
	}
	opened := make(chan struct{})
	d.OnOpen(func() { close(opened) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[index(label == reliableLabel)] = outChannel{d, opened}
	return d, nil
}

func index(reliable bool) int {
	if reliable {
		return 1
	}
	return 0
}

type outChannel struct {
	channel *webrtc.DataChannel
	opened  chan struct{}
}

// SendData sends a data packet; it waits for the channel to open.
func (c *Client) SendData(ctx context.Context, reliable bool, packet *wire.DataPacket) error {
	payload, err := wire.EncodeData(packet)
	if err != nil {
		return err
	}
	c.mu.Lock()
	out := c.out[index(reliable)]
	c.mu.Unlock()
	select {
	case <-out.opened:
		return out.channel.Send(payload)
	case <-ctx.Done():
		return fmt.Errorf("wait for the data channel: %w", ctx.Err())
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// SendText sends a user packet to the identities, or to everybody.
func (c *Client) SendText(ctx context.Context, reliable bool, text string, identities ...string) error {
	return c.SendData(ctx, reliable, &wire.DataPacket{
		DestinationIdentities: identities,
		Value:                 &wire.DataUser{User: &wire.UserPacket{Payload: []byte(text)}},
	})
}

// NextData returns the next data packet.
func (c *Client) NextData(ctx context.Context) (Data, error) {
	select {
	case d := <-c.data:
		return d, nil
	case <-ctx.Done():
		return Data{}, fmt.Errorf("wait for data: %w", ctx.Err())
	case <-c.ctx.Done():
		return Data{}, ErrClosed
	}
}

func (c *Client) receiveData(d *webrtc.DataChannel) {
	reliable := d.Label() == reliableLabel
	d.OnMessage(func(m webrtc.DataChannelMessage) {
		packet, err := wire.DecodeData(m.Data)
		if err != nil {
			c.log.Warn("data packet cannot be read", "err", err)
			return
		}
		select {
		case c.data <- Data{Reliable: reliable, Packet: packet}:
		case <-c.ctx.Done():
		case <-time.After(5 * time.Second):
			c.log.Warn("data packet dropped: nobody takes them")
		}
	})
}

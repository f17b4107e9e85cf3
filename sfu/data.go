package sfu

import (
	"errors"
	"fmt"
	"io"

	"github.com/pion/webrtc/v4"
)

// Labels of the data channels, by the room contract.
const (
	labelReliable = "_reliable"
	labelLossy    = "_lossy"
)

const (
	// maxChannels bounds the data channels that a client may have open on one peer connection.
	maxChannels = 8
	// maxReopened bounds how often we open a channel again that the client has closed.
	maxReopened = 8
)

var (
	// ErrOverflow means that a receiver is too slow for reliable data: what was not sent is lost, so it must resynchronise.
	ErrOverflow = errors.New("sfu: the receiver is too slow for reliable data")
	// ErrTooLarge means that a data message exceeds [MaxData].
	ErrTooLarge = fmt.Errorf("sfu: a data message may have at most %d bytes", MaxData)
)

// pionChannel is a data channel of Pion as [channel] knows it.
type pionChannel struct{ *webrtc.DataChannel }

func (p pionChannel) Alive() bool { return p.ReadyState() == webrtc.DataChannelStateOpen }

// openChannels makes the data channels that the contract has the server create, before the first offer.
func (t *transport) openChannels() error {
	for i, label := range []string{labelLossy, labelReliable} {
		t.channel[i] = newChannel(i == 1, t.p.server.now)
		if err := t.openChannel(t.channel[i], label, maxReopened); err != nil {
			return err
		}
	}
	return nil
}

// openChannel makes one of them. It is made again if the client closes it, so many times.
func (t *transport) openChannel(c *channel, label string, again int) error {
	ordered, none := c.reliable, uint16(0)
	init := &webrtc.DataChannelInit{Ordered: &ordered}
	if !c.reliable {
		init.MaxRetransmits = &none
	}
	dc, err := t.pc.CreateDataChannel(label, init)
	if err != nil {
		return fmt.Errorf("making data channel %s: %w", label, err)
	}
	dc.OnOpen(func() { c.opened(pionChannel{dc}) })
	dc.OnClose(func() {
		c.closed(pionChannel{dc})
		if again == 0 || t.closed.Load() {
			return
		}
		if err := t.openChannel(c, label, again-1); err != nil {
			t.p.log.Debug("data channel not opened again", "err", err)
		}
	})
	t.listen(dc, c.reliable)
	return nil
}

// awaitChannels has data wait for the channels that the client opens on its one peer connection.
func (t *transport) awaitChannels() {
	for i := range t.channel {
		t.channel[i] = newChannel(i == 1, t.p.server.now)
	}
}

// accepted takes a data channel that the client opened.
func (t *transport) accepted(dc *webrtc.DataChannel) {
	label := dc.Label()
	if n := t.p.channels.Add(1); n > maxChannels {
		t.p.channels.Add(-1)
		t.p.log.Debug("data channel refused", "label", label[:min(len(label), 40)], "channels", n)
		_ = dc.Close()
		return
	}
	var c *channel
	switch label {
	case labelLossy:
		c = t.channel[0]
	case labelReliable:
		c = t.channel[1]
	default:
		// Newer SDKs open channels for features that we lack (_data_track) and take a closed one for a fault.
		dc.OnClose(func() { t.p.channels.Add(-1) })
		return
	}
	if c != nil {
		// With one peer connection our data goes over the client's own channels.
		dc.OnOpen(func() { c.opened(pionChannel{dc}) })
	}
	dc.OnClose(func() {
		t.p.channels.Add(-1)
		if c != nil {
			c.closed(pionChannel{dc})
		}
	})
	t.listen(dc, label == labelReliable)
}

// listen takes what the client sends on a channel.
func (t *transport) listen(dc *webrtc.DataChannel, reliable bool) {
	dc.OnMessage(func(m webrtc.DataChannelMessage) { t.p.dataReceived(reliable, m.Data) })
	// A message above the size that our description allows ends Pion's reading, and with it the channel.
	dc.OnError(func(err error) {
		if errors.Is(err, io.ErrShortBuffer) {
			t.p.notify(DataRefused{Err: ErrTooLarge})
		}
	})
}

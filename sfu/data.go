package sfu

import (
	"errors"
	"fmt"
	"sync"

	"github.com/pion/webrtc/v4"
)

// Labels of the data channels, by the room contract.
const (
	labelReliable = "_reliable"
	labelLossy    = "_lossy"
)

const (
	// maxChannels bounds the data channels that a client may open on one peer connection.
	maxChannels = 8
	// What may wait for a slow receiver, in bytes: lossy messages beyond it are dropped, a reliable one is an error.
	maxLossyBuffered    = 256 << 10
	maxReliableBuffered = 4 << 20
	// What may wait for the channel to open.
	maxEarlyMessages = 256
	maxEarlyBytes    = 1 << 20
)

var (
	// ErrOverflow means that a receiver is too slow for reliable data: what was not sent is lost, so it must resynchronise.
	ErrOverflow = errors.New("sfu: the receiver is too slow for reliable data")
	// ErrTooLarge means that a data message exceeds [MaxData].
	ErrTooLarge = fmt.Errorf("sfu: a data message may have at most %d bytes", MaxData)
)

// channel is one of the data channels on which we send.
type channel struct {
	reliable bool

	mu      sync.Mutex
	dc      *webrtc.DataChannel // the one that opened last
	open    bool
	early   [][]byte
	bytes   int
	dropped uint64
}

// openChannels makes the data channels that the contract has the server create, before the first offer.
func (t *transport) openChannels() error {
	ordered, unordered := true, false
	none := uint16(0)
	for i, init := range []struct {
		label string
		*webrtc.DataChannelInit
	}{
		{labelLossy, &webrtc.DataChannelInit{Ordered: &unordered, MaxRetransmits: &none}},
		{labelReliable, &webrtc.DataChannelInit{Ordered: &ordered}},
	} {
		dc, err := t.pc.CreateDataChannel(init.label, init.DataChannelInit)
		if err != nil {
			return fmt.Errorf("making data channel %s: %w", init.label, err)
		}
		c := &channel{reliable: init.label == labelReliable}
		dc.OnOpen(func() { c.opened(dc) })
		dc.OnMessage(func(m webrtc.DataChannelMessage) { t.p.dataReceived(c.reliable, m.Data) })
		t.channel[i] = c
	}
	return nil
}

// awaitChannels has data wait for the channels that the client opens on its one peer connection.
func (t *transport) awaitChannels() {
	for i := range t.channel {
		t.channel[i] = &channel{reliable: i == 1}
	}
}

// opened sends what came before the channel was open.
func (c *channel) opened(dc *webrtc.DataChannel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dc, c.open = dc, true
	for _, b := range c.early {
		if c.dc.Send(b) != nil {
			c.dropped++
		}
	}
	c.early, c.bytes = nil, 0
}

// send sends b, which the channel keeps until it is open. Lossy messages are dropped rather than refused.
func (c *channel) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := uint64(maxLossyBuffered)
	if c.reliable {
		limit = maxReliableBuffered
	}
	switch {
	case !c.open && c.reliable:
		if len(c.early) >= maxEarlyMessages || c.bytes+len(b) > maxEarlyBytes {
			return ErrOverflow
		}
		c.early = append(c.early, b)
		c.bytes += len(b)
		return nil
	case !c.open:
		c.dropped++
		return nil
	case c.dc.BufferedAmount()+uint64(len(b)) > limit:
		c.dropped++
		if c.reliable {
			return ErrOverflow
		}
		return nil
	}
	if err := c.dc.Send(b); err != nil {
		c.dropped++
		if c.reliable {
			return fmt.Errorf("sending reliable data: %w", err)
		}
	}
	return nil
}

// accepted takes a data channel that the client opened.
func (t *transport) accepted(dc *webrtc.DataChannel) {
	label := dc.Label()
	if n := t.p.channels.Add(1); n > maxChannels {
		t.p.log.Debug("data channel refused", "label", label[:min(len(label), 40)], "channels", n)
		_ = dc.Close()
		return
	}
	if label != labelReliable && label != labelLossy {
		// Newer SDKs open channels for features that we lack (_data_track) and take a closed one for a fault.
		return
	}
	reliable := label == labelReliable
	dc.OnMessage(func(m webrtc.DataChannelMessage) { t.p.dataReceived(reliable, m.Data) })
	i := 0
	if reliable {
		i = 1
	}
	if c := t.channel[i]; c != nil {
		// With one peer connection our data goes over the client's own channels.
		dc.OnOpen(func() { c.opened(dc) })
	}
}

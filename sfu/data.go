package sfu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

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

// pionChannel is a data channel of Pion as [channel] knows it. It is detached: Pion would keep a buffer of 64 KB to read each
// channel with, and nearly all messages are small.
type pionChannel struct {
	*webrtc.DataChannel
	ended atomic.Bool // the client has closed it
}

// Alive reports whether it has neither closed nor begun to.
func (p *pionChannel) Alive() bool {
	return !p.ended.Load() && p.ReadyState() == webrtc.DataChannelStateOpen
}

// smallMessage is how large a message can be, in bytes, that is read without a buffer from largeMessages.
const smallMessage = 1024

var largeMessages = sync.Pool{New: func() any { return new([MaxData]byte) }}

var smallMessages = sync.Pool{New: func() any { return new([smallMessage]byte) }}

// readMessages hands each message on, as a slice of its own, until the channel ends or there were so many. It returns
// [io.ErrShortBuffer] for a message above [MaxData].
func readMessages(from io.Reader, most int, message func([]byte)) error {
	small := smallMessages.Get().(*[smallMessage]byte)
	defer smallMessages.Put(small)
	for range most {
		n, err := from.Read(small[:])
		if err == nil {
			message(bytes.Clone(small[:n]))
			continue
		}
		if !errors.Is(err, io.ErrShortBuffer) {
			return err
		}
		// What doesn't fit stays where it is.
		large := largeMessages.Get().(*[MaxData]byte)
		if n, err = from.Read(large[:]); err == nil {
			message(bytes.Clone(large[:n]))
		}
		largeMessages.Put(large)
		if err != nil {
			return err
		}
	}
	return nil
}

// quietChannel is an open channel of ours, on which clients send nothing: they do so on channels of their own, with another
// peer connection. So nobody waits for it to bring something; what does come is read by the sweep.
type quietChannel struct {
	raw     io.Reader // whose reads don't wait
	message func([]byte)
	end     func(error)
}

// maxQuiet is how many messages are read from such a channel at a time. The receive window of SCTP bounds what waits.
const maxQuiet = 64

// quiet has the sweep read from a channel. It reports false when the transport is closed.
func (t *transport) quiet(c quietChannel) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.quieted = append(t.quieted, c)
	return true
}

// poll reads from the quiet channels.
func (t *transport) poll() {
	if !t.begin() {
		return
	}
	defer t.readers.Done()
	t.mu.Lock()
	list := t.quieted // only poll takes something out
	t.mu.Unlock()
	var ended []func()
	left := make([]quietChannel, 0, len(list))
	for _, c := range list {
		switch err := readMessages(c.raw, maxQuiet, c.message); {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
			left = append(left, c)
		default:
			ended = append(ended, func() { c.end(err) })
		}
	}
	if len(ended) == 0 {
		return
	}
	t.mu.Lock()
	t.quieted = append(left, t.quieted[len(list):]...)
	t.mu.Unlock()
	for _, end := range ended {
		end()
	}
}

// endQuiet ends the quiet channels of a transport that is closed.
func (t *transport) endQuiet() {
	t.mu.Lock()
	list := t.quieted
	t.quieted = nil
	t.mu.Unlock()
	for _, c := range list {
		c.end(io.EOF)
	}
}

// serve has a channel of Pion's read from when it opens until it ends, one of ours by the sweep. opened may be nil; closed is called in any case, but
// for a transport that is closed before the channel opens.
func (t *transport) serve(dc *webrtc.DataChannel, ours bool, opened func(carrier), message func([]byte), closed func(carrier)) {
	p := &pionChannel{DataChannel: dc}
	dc.OnOpen(func() {
		if !t.begin() {
			return
		}
		defer t.readers.Done()
		raw, err := dc.DetachWithDeadline()
		if err != nil {
			t.p.log.Debug("data channel not detached", "err", err)
			return
		}
		if opened != nil {
			// RFC 8832 section 6: who opens a channel may not send out of order before it is acknowledged.
			if ack, ok := raw.(interface{ OnOpen(func()) }); ok && ours {
				ack.OnOpen(func() {
					opened(p)
					_ = raw.SetReadDeadline(time.Unix(1, 0)) // reads wait no more
				})
			} else {
				opened(p)
			}
		}
		end := func(err error) {
			p.ended.Store(true)
			if errors.Is(err, io.ErrShortBuffer) {
				t.p.notify(DataRefused{Err: ErrTooLarge})
			}
			_ = raw.Close() // the client has closed it already, or sends what nobody reads
			closed(p)
		}
		err = readMessages(raw, math.MaxInt, message)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !t.quiet(quietChannel{raw, message, end}) {
			end(err)
		}
	})
}

// begin counts one more reader. It reports false when the transport is closed.
func (t *transport) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.readers.Add(1)
	return true
}

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
	t.serve(dc, true, c.opened, t.take(c.reliable), func(p carrier) {
		c.closed(p)
		if again == 0 || t.closed.Load() {
			return
		}
		if err := t.openChannel(c, label, again-1); err != nil {
			t.p.log.Debug("data channel not opened again", "err", err)
		}
	})
	return nil
}

// take returns what becomes of the client's messages on a channel.
func (t *transport) take(reliable bool) func([]byte) {
	return func(b []byte) { t.p.dataReceived(reliable, b) }
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
	message := t.take(label == labelReliable)
	switch label {
	case labelLossy:
		c = t.channel[0]
	case labelReliable:
		c = t.channel[1]
	default:
		// Newer SDKs open channels for features that we lack (_data_track) and take a closed one for a fault.
		message = func([]byte) {}
	}
	var opened func(carrier)
	if c != nil {
		// With one peer connection our data goes over the client's own channels.
		opened = c.opened
	}
	t.serve(dc, false, opened, message, func(p carrier) {
		t.p.channels.Add(-1)
		if c != nil {
			c.closed(p)
		}
	})
}

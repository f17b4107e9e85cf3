package sfu

import (
	"sync"
	"time"
)

// What may wait for a receiver. Bytes that were handed to a data channel and have not been acknowledged count as waiting.
const (
	// maxReliableBuffered bounds the bytes of reliable messages, and maxHeld the messages that wait for a channel; one more
	// is [ErrOverflow].
	maxReliableBuffered = 4 << 20
	maxHeld             = 8192
	// Lossy messages are dropped beyond maxLossyBuffered bytes, and while more than lossyStanding bytes have been waiting
	// for longer than lossyPatience: what is sent then would only come late.
	maxLossyBuffered = 256 << 10
	lossyStanding    = 64 << 10
	lossyPatience    = 300 * time.Millisecond
	// ackMargin is how many acknowledged bytes are kept beside the unacknowledged: SCTP acknowledges out of order
	// (RFC 9260 section 3.3.4, gap ack blocks), and only the sum is known.
	ackMargin = 256 << 10
)

// carrier is a data channel that has opened.
type carrier interface {
	Send([]byte) error
	BufferedAmount() uint64
	// Alive reports whether it has neither closed nor begun to.
	Alive() bool
}

// channel is one of the two data channels on which we send, across the channels of Pion that carry it in turn. A client
// may close its channel and open another: nothing reliable is lost by that, and the order stays.
type channel struct {
	reliable bool
	now      func() time.Duration

	mu       sync.Mutex
	dc       carrier // nil while none is open
	opens    int     // how many have been opened
	sent     queue   // reliable: handed to dc and not known to have arrived
	held     queue   // reliable: waiting for a channel
	standing time.Duration
	dropped  uint64
}

func newChannel(reliable bool, now func() time.Duration) *channel {
	return &channel{reliable: reliable, now: now}
}

// opened sends what waited for a channel.
func (c *channel) opened(dc carrier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !dc.Alive() {
		return // it was closed meanwhile
	}
	if c.dc != nil {
		c.lost() // replaced without having been closed
	}
	c.dc, c.standing = dc, 0
	c.opens++
	for c.dc != nil && len(c.held.list) > 0 {
		c.hand(c.held.pop())
	}
}

// closed is told that a channel is gone.
func (c *channel) closed(dc carrier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dc == dc {
		c.lost()
	}
}

// lost takes back what the channel has not delivered. Called with c.mu held.
func (c *channel) lost() {
	c.trim(c.dc.BufferedAmount())
	c.dc = nil
	c.sent.append(&c.held)
	c.held, c.sent = c.sent, queue{}
}

// send sends b, which the channel keeps. Lossy messages are dropped rather than refused.
func (c *channel) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reliable {
		c.sendLossy(b)
		return nil
	}
	switch {
	case c.dc != nil:
		waiting := c.dc.BufferedAmount()
		c.trim(waiting)
		if waiting+uint64(len(b)) > maxReliableBuffered {
			c.dropped++
			return ErrOverflow
		}
		c.hand(b)
	case c.opens == 0:
		// Whoever never opens a channel takes no data, and is not to be thrown out for it.
		c.held.push(b)
		for c.held.bytes > maxReliableBuffered || len(c.held.list) > maxHeld {
			c.held.pop()
			c.dropped++
		}
	case c.held.bytes+len(b) > maxReliableBuffered || len(c.held.list) >= maxHeld:
		c.dropped++
		return ErrOverflow
	default:
		c.held.push(b)
	}
	return nil
}

// hand gives a reliable message to the open channel. One that has closed meanwhile loses nothing. Called with c.mu held.
func (c *channel) hand(b []byte) {
	if err := c.dc.Send(b); err != nil {
		if c.dc.Alive() {
			c.dropped++ // larger than this receiver takes
			return
		}
		rest := c.held
		c.held = queue{}
		c.lost()
		c.held.push(b)
		c.held.append(&rest)
		return
	}
	c.sent.push(b)
}

func (c *channel) sendLossy(b []byte) {
	if c.dc == nil {
		c.dropped++
		return
	}
	waiting, now := c.dc.BufferedAmount(), c.now()
	switch {
	case waiting <= lossyStanding:
		c.standing = 0
	case c.standing == 0:
		c.standing = max(now, 1)
	case now-c.standing > lossyPatience:
		c.dropped++
		return
	}
	if waiting+uint64(len(b)) > maxLossyBuffered || c.dc.Send(b) != nil {
		c.dropped++
	}
}

// resend sends reliable messages again that the client says it lacks. As long as the first channel lives they are on
// their way, for it loses nothing.
func (c *channel) resend(list [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.reliable || c.opens == 0 || c.opens == 1 && c.dc != nil:
		return nil
	case c.dc != nil:
		c.trim(c.dc.BufferedAmount())
		for _, b := range list {
			if !c.sent.has(b) && c.dc != nil {
				c.hand(b)
			}
		}
		return nil
	}
	// What is held follows what was sent before it.
	var all queue
	for _, b := range list {
		if !c.held.has(b) {
			all.push(b)
		}
	}
	if all.bytes+c.held.bytes > maxReliableBuffered || len(all.list)+len(c.held.list) > maxHeld {
		return ErrOverflow
	}
	all.append(&c.held)
	c.held = all
	return nil
}

// trim forgets what has arrived, given how many bytes have not. Called with c.mu held.
func (c *channel) trim(waiting uint64) {
	if waiting == 0 {
		c.sent = queue{}
		return
	}
	for len(c.sent.list) > 0 && c.sent.bytes-len(c.sent.list[0]) >= int(waiting)+ackMargin {
		c.sent.pop()
	}
}

// queue holds messages in order.
type queue struct {
	list  [][]byte
	bytes int
}

func (q *queue) push(b []byte) {
	q.list = append(q.list, b)
	q.bytes += len(b)
}

func (q *queue) pop() []byte {
	b := q.list[0]
	q.list[0] = nil
	q.list = q.list[1:]
	q.bytes -= len(b)
	return b
}

func (q *queue) append(o *queue) {
	q.list = append(q.list, o.list...)
	q.bytes += o.bytes
}

// has reports whether the very message is in the queue, not one like it.
func (q *queue) has(b []byte) bool {
	for _, o := range q.list {
		if len(b) > 0 && len(o) == len(b) && &o[0] == &b[0] {
			return true
		}
	}
	return false
}

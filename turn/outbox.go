package turn

import (
	"crypto/tls"
	"errors"
	"os"
	"sync"

	"anytime/sfu/udp"
)

const (
	// chunkSize is how much is written to a connection at once, in bytes: what a TLS record carries at most.
	chunkSize = 16 << 10
	// outboxMedia bounds what waits for a client that takes it in more slowly than it comes, in bytes. It is about a third of
	// a second of a good picture; more would only arrive later.
	outboxMedia = 256 << 10
	// outboxAnswers is how much of Pion's answers may wait besides. A client that lets more of them lie is cut off.
	outboxAnswers = 64 << 10
)

// outbox is what waits to be written to a connection. Anyone adds to it without waiting; one goroutine writes.
type outbox struct {
	mu      sync.Mutex
	chunks  []*chunk // in order; the last one has room
	waiting int      // bytes that were added and not yet written
	wake    chan struct{}
	writer  bool // there is a goroutine
}

type chunk struct {
	n int
	b [chunkSize]byte
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// room returns n bytes to fill at the end, at most chunkSize. The caller holds mu.
func (o *outbox) room(n int) []byte {
	if len(o.chunks) == 0 || o.chunks[len(o.chunks)-1].n+n > chunkSize {
		c := chunks.Get().(*chunk)
		c.n = 0
		o.chunks = append(o.chunks, c)
	}
	last := o.chunks[len(o.chunks)-1]
	b := last.b[last.n : last.n+n]
	last.n += n
	o.waiting += n
	return b
}

// take moves what waits to the end of an empty list. It still counts as waiting until wrote.
func (o *outbox) take(list []*chunk) []*chunk {
	o.mu.Lock()
	defer o.mu.Unlock()
	list = append(list, o.chunks...)
	clear(o.chunks)
	o.chunks = o.chunks[:0]
	return list
}

// wrote takes a chunk back.
func (o *outbox) wrote(c *chunk) {
	o.mu.Lock()
	o.waiting -= c.n
	o.mu.Unlock()
	chunks.Put(c)
}

// send implements outlet: a run's datagrams, as far as there is room for them.
func (c *stream) send(e envelope, run udp.Run) {
	o := &c.out
	dropped := 0
	o.mu.Lock()
	for at := 0; at < len(run.Buffer); {
		packet := next(run, at)
		at += len(packet)
		size := e.size(len(packet), true)
		if size > chunkSize || o.waiting+size > outboxMedia {
			dropped++
			continue
		}
		e.put(o.room(size), packet, true)
	}
	c.rouse()
	o.mu.Unlock()
	if dropped > 0 {
		c.l.s.stats.congested.Add(uint64(dropped))
	}
}

// Write implements net.Conn: an answer of Pion's, which is sent whole, or the connection ends.
func (c *stream) Write(p []byte) (int, error) {
	out := c.l.s.announce(p)
	o := &c.out
	o.mu.Lock()
	fits := len(out) <= chunkSize && o.waiting+len(out) <= outboxMedia+outboxAnswers
	if fits {
		copy(o.room(len(out)), out)
		c.rouse()
	}
	o.mu.Unlock()
	if !fits {
		c.l.s.stats.timedOut.Add(1)
		c.abort()
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

// rouse has the writer look, and starts it for the first message: a connection that says nothing needs none. The caller
// holds the outbox.
func (c *stream) rouse() {
	if !c.out.writer {
		if !c.l.s.goReader(c.write) {
			return
		}
		c.out.writer = true
	}
	select {
	case c.out.wake <- struct{}{}:
	default:
	}
}

// write writes what waits until the connection ends. A message that takes longer than Limits.Message ends it: what follows
// half a message can't be read.
func (c *stream) write() {
	var list []*chunk
	for {
		select {
		case <-c.done:
			return
		case <-c.out.wake:
		}
		list = c.out.take(list)
		for _, chunk := range list {
			if err := c.writeChunk(chunk); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					c.l.s.stats.timedOut.Add(1)
				}
				c.abort()
				return
			}
			c.out.wrote(chunk)
		}
		clear(list)
		list = list[:0]
	}
}

func (c *stream) writeChunk(chunk *chunk) error {
	// A TLS record for each message: coturn's client takes what a record has for one.
	_, records := c.Conn.(interface{ ConnectionState() tls.ConnectionState })
	for rest := chunk.b[:chunk.n]; len(rest) > 0; {
		n := len(rest)
		if records {
			if size, more, err := messageSize(rest); err == nil && !more {
				n = min(size, n)
			}
		}
		if err := c.writeAll(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (c *stream) writeAll(b []byte) error {
	patience := c.l.s.limits.Message
	if by := c.l.s.now().Add(patience); by.Sub(c.writeBy) >= patience/8 {
		c.writeBy = by
		if err := c.Conn.SetWriteDeadline(by); err != nil {
			return err
		}
	}
	_, err := c.Conn.Write(b)
	return err
}

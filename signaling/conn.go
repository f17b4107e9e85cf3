package signaling

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"anytime/signaling/wire"
)

// Close codes (RFC 6455 §7.4.1) and the reasons that go with them. A participant whose connection
// closes with one of them stays for the departure grace: the client may resume.
const (
	closeNormal      = websocket.CloseNormalClosure
	closeUnsupported = websocket.CloseUnsupportedData
	closeMalformed   = websocket.CloseInvalidFramePayloadData
	closePolicy      = websocket.ClosePolicyViolation
	closeTooBig      = websocket.CloseMessageTooBig
	closeOverflow    = websocket.CloseTryAgainLater
)

const (
	writeTimeout = 10 * time.Second
	// linger is how long a closing connection waits for the peer's half of the closing handshake.
	linger = 2 * time.Second
	// countedBytes of a message count as one message: long ones take as long to carry out as many short ones.
	countedBytes = 4 << 10
	// countedTracks of the tracks that settings are for count as one message.
	countedTracks = 16
	// inFlight is how many of a client's messages may wait in its room's mailbox; then the client
	// is read no further.
	inFlight = 64
)

// conn is one WebSocket. One goroutine reads it; another one writes, but only while something waits
// to be written. Everybody else calls send and close, which never block.
type conn struct {
	ws      *websocket.Conn
	limits  Limits
	credits chan struct{} // one for each message in the room's mailbox
	gone    func()        // called once, when nothing of the connection runs any more

	mu      sync.Mutex
	queue   [][]byte
	bytes   int
	ask     bool // a ping is to be written
	closed  bool // nothing more is queued; code and reason follow the queue
	code    int
	reason  string
	writing bool        // the writing goroutine runs
	written bool        // its work is over: the close frame is out, or writing failed
	ended   bool        // read has returned
	heard   time.Time   // when the peer last said anything
	quiet   *time.Timer // when it is asked to
}

// newConn takes a connection, which the caller has to read. gone is called when it is over.
func newConn(ws *websocket.Conn, limits Limits, gone func()) *conn {
	c := &conn{ws: ws, limits: limits, credits: make(chan struct{}, inFlight), gone: gone, heard: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = time.AfterFunc(limits.silence(), c.onQuiet)
	return c
}

// silence is how long a peer may say nothing before it is asked to. A client that pings at PingInterval never does, though
// its pings come late now and then; one that has nothing to say still has time to answer.
func (l Limits) silence() time.Duration {
	return min(l.PingInterval+l.PingInterval/2, l.PingTimeout*2/3)
}

// send queues a frame. When the queue overflows, the peer reads too slowly: it is cut off and may
// resume, which brings it the state as it is then.
func (c *conn) send(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed || c.written:
		return
	case len(c.queue) >= c.limits.QueuedMessages || c.bytes+len(frame) > c.limits.QueuedBytes:
		c.queue, c.bytes = nil, 0
		c.finish(closeOverflow, "this connection reads too slowly: resume the session")
	default:
		c.queue = append(c.queue, frame)
		c.bytes += len(frame)
		c.start()
	}
}

// close ends the connection after what is queued has been written.
func (c *conn) close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.finish(code, reason)
	}
}

// closeReason returns why the connection was closed from our side, "" when it wasn't.
func (c *conn) closeReason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// cut ends the connection at once.
func (c *conn) cut() { _ = c.ws.Close() }

func (c *conn) finish(code int, reason string) {
	c.closed, c.code, c.reason = true, code, reason
	c.start()
}

// start has somebody write what waits, with mu held. Whether somebody does is settled under mu, here and
// in next: what is queued while the writer is about to stop keeps it, or starts another.
func (c *conn) start() {
	if !c.writing && !c.written {
		c.writing = true
		go c.write()
	}
}

// outgoing is what the writing goroutine takes at a time.
type outgoing struct {
	frames [][]byte
	ping   bool
	last   bool // the close frame follows
}

// next takes what waits. It reports false when that is nothing, and then the writer is no more.
func (c *conn) next() (outgoing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := outgoing{frames: c.queue, ping: c.ask, last: c.closed}
	if len(w.frames) == 0 && !w.ping && !w.last {
		c.writing = false
		return w, false
	}
	c.queue, c.bytes, c.ask = nil, 0, false
	return w, true
}

// write is the writing goroutine.
func (c *conn) write() {
	for {
		w, ok := c.next()
		if !ok {
			return
		}
		err := c.put(w)
		if err != nil {
			c.cut() // read ends of it
		}
		if err != nil || w.last {
			c.over(func() { c.writing, c.written, c.queue = false, true, nil })
			return
		}
	}
}

func (c *conn) put(w outgoing) error {
	for _, frame := range w.frames {
		_ = c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := c.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
			return err
		}
	}
	if w.last {
		deadline := time.Now().Add(linger)
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(c.code, c.reason), deadline)
		// RFC 6455 §7.1.1: the server closes the TCP connection, once the peer's Close frame is in.
		_ = c.ws.SetReadDeadline(deadline)
	} else if w.ping {
		_ = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
	}
	return nil
}

// over notes the end of the reader, or of the writer's work. The second of the two leaves nothing behind.
func (c *conn) over(note func()) {
	c.mu.Lock()
	note()
	gone := c.ended && c.written
	c.mu.Unlock()
	if gone {
		c.quiet.Stop()
		c.cut()
		c.gone()
	}
}

// onQuiet asks the peer for a sign of life once it has said nothing for a while: there are clients that don't ping by
// themselves, and middleboxes that forget connections.
func (c *conn) onQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.written {
		return
	}
	wait := c.limits.silence() - time.Since(c.heard)
	if wait <= 0 {
		c.ask = true
		c.start()
		wait = c.limits.PingInterval
	}
	c.quiet.Reset(wait)
}

// hear notes a sign of life, which puts off the deadline. While closing, the deadline is the writer's.
func (c *conn) hear() (closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = time.Now()
	if !c.closed {
		_ = c.ws.SetReadDeadline(c.heard.Add(c.limits.PingTimeout))
	}
	return c.closed
}

// read takes the client's messages until the connection ends. handle gets each with a function to
// call when it is done with it.
func (c *conn) read(handle func(*wire.SignalRequest, func())) {
	defer c.over(func() { c.ended = true })
	c.hear()
	answerPing := c.ws.PingHandler()
	c.ws.SetPingHandler(func(text string) error {
		c.hear()
		return answerPing(text)
	})
	c.ws.SetPongHandler(func(string) error {
		c.hear()
		return nil
	})
	allowance := rate.NewLimiter(rate.Limit(c.limits.MessagesPerSecond), c.limits.MessageBurst)
	for {
		kind, message, err := c.ws.NextReader()
		if err != nil {
			c.readFailed(err)
			return
		}
		if c.hear() {
			continue // only waiting for the close frame, until the deadline that the writer has set
		}
		frame, err := io.ReadAll(io.LimitReader(message, wire.MaxFrameBytes+1))
		if err != nil {
			c.readFailed(err)
			return
		}
		if len(frame) > wire.MaxFrameBytes {
			c.close(closeTooBig, fmt.Sprintf("message too large: at most %d bytes are allowed", wire.MaxFrameBytes))
			continue
		}
		if !allowance.Allow() {
			c.close(closePolicy, "too many messages: slow down, then resume the session")
			continue
		}
		if kind != websocket.BinaryMessage {
			c.close(closeUnsupported, "text frames are not spoken here: send binary protobuf")
			continue
		}
		m, err := wire.DecodeRequest(frame)
		if err != nil {
			c.close(closeMalformed, err.Error())
			continue
		}
		if !allowance.AllowN(time.Now(), moreThanOne(m, frame)) {
			c.close(closePolicy, "too many long messages: slow down, then resume the session")
			continue
		}
		if c.pong(m) {
			continue
		}
		c.credits <- struct{}{}
		handle(m, func() { <-c.credits })
	}
}

// moreThanOne is what a message counts for beside itself. Session descriptions are long by nature and have limits of their
// own.
func moreThanOne(m *wire.SignalRequest, frame []byte) int {
	if m.GetOffer() != nil || m.GetAnswer() != nil {
		return 0
	}
	return max(len(frame)/countedBytes, len(m.GetTrackSetting().GetTrackSids())/countedTracks)
}

func (c *conn) readFailed(err error) {
	var netErr net.Error
	switch {
	case errors.As(err, &netErr) && netErr.Timeout():
		c.close(closePolicy, "no ping for too long: resume the session")
	default:
		c.close(closeNormal, "")
	}
}

// pong answers both kinds of ping, in milliseconds since 1970, and reports whether m was one.
func (c *conn) pong(m *wire.SignalRequest) bool {
	var answer *wire.SignalResponse
	now := time.Now().UnixMilli()
	switch p := m.Message.(type) {
	case *wire.RequestPing:
		answer = &wire.SignalResponse{Message: &wire.ResponsePong{Pong: now}}
	case *wire.RequestPingReq:
		answer = &wire.SignalResponse{Message: &wire.ResponsePongResp{PongResp: &wire.Pong{
			LastPingTimestamp: p.PingReq.GetTimestamp(), Timestamp: now,
		}}}
	default:
		return false
	}
	if frame, err := wire.EncodeResponse(answer); err == nil {
		c.send(frame)
	}
	return true
}

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

// conn is one WebSocket. read runs on the HTTP handler's goroutine, write on its own; everybody
// else calls send and close, which never block.
type conn struct {
	ws      *websocket.Conn
	limits  Limits
	credits chan struct{} // one for each message in the room's mailbox

	mu     sync.Mutex
	queue  [][]byte
	bytes  int
	closed bool // nothing more is queued; code and reason follow the queue
	code   int
	reason string
	wake   chan struct{} // capacity 1
	ended  chan struct{} // closed when read has returned
}

func newConn(ws *websocket.Conn, limits Limits) *conn {
	return &conn{
		ws: ws, limits: limits, credits: make(chan struct{}, inFlight),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// send queues a frame. When the queue overflows, the peer reads too slowly: it is cut off and may
// resume, which brings it the state as it is then.
func (c *conn) send(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return
	case len(c.queue) >= c.limits.QueuedMessages || c.bytes+len(frame) > c.limits.QueuedBytes:
		c.queue, c.bytes = nil, 0
		c.finish(closeOverflow, "this connection reads too slowly: resume the session")
	default:
		c.queue = append(c.queue, frame)
		c.bytes += len(frame)
		c.signal()
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
	c.signal()
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write is the writing goroutine. It ends after the close frame, or when reading has ended.
func (c *conn) write() {
	ping := time.NewTicker(c.limits.PingInterval)
	defer ping.Stop()
	defer c.cut()
	for {
		c.mu.Lock()
		frames, closed := c.queue, c.closed
		c.queue, c.bytes = nil, 0
		c.mu.Unlock()
		for _, frame := range frames {
			_ = c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err := c.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
				return
			}
		}
		if closed {
			deadline := time.Now().Add(linger)
			_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(c.code, c.reason), deadline)
			// RFC 6455 §7.1.1: the server closes the TCP connection, once the peer's Close frame is in.
			_ = c.ws.SetReadDeadline(deadline)
			<-c.ended
			return
		}
		select {
		case <-c.wake:
		case <-c.ended:
			return
		case <-ping.C:
			// For clients that don't ping by themselves, and to keep middleboxes from forgetting us.
			_ = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
		}
	}
}

// read takes the client's messages until the connection ends. handle gets each with a function to
// call when it is done with it.
func (c *conn) read(handle func(*wire.SignalRequest, func())) {
	defer close(c.ended)
	// While closing, the deadline is write's.
	alive := func() (closing bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			_ = c.ws.SetReadDeadline(time.Now().Add(c.limits.PingTimeout))
		}
		return c.closed
	}
	alive()
	c.ws.SetPongHandler(func(string) error {
		alive()
		return nil
	})
	allowance := rate.NewLimiter(rate.Limit(c.limits.MessagesPerSecond), c.limits.MessageBurst)
	for {
		kind, message, err := c.ws.NextReader()
		if err != nil {
			c.readFailed(err)
			return
		}
		if alive() {
			continue // only waiting for the close frame, until the deadline that write has set
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

package companion

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/gorilla/websocket"
)

// Event is something a client must hear of.
type Event struct {
	Type string // "call", "contacts", "account", …

	// Key names what the event is about, such as a call's id. An event that still
	// waits for a slow socket is replaced by a newer one of the same Type and Key,
	// for each event carries the whole state of its subject. "" replaces nothing.
	Key string

	// Data is sent as JSON. When Load is set it is called instead, when the event
	// is about to be written, with the session of the socket: what it returns is
	// then never older than what the client has already seen. Load must not block
	// for long; nil sends nothing, and an error closes the socket, whose client
	// comes back for a snapshot.
	Data any
	Load func(context.Context, Session) (any, error)
}

// Codes with which an event socket is closed, beside the standard ones (RFC 6455,
// section 7.4.2, leaves 4000–4999 to applications).
const (
	closeBadMessage = 4000 // the client sent what the server doesn't know; the reason says what
	closeSignedOut  = 4001 // the session is over: sign in before coming back
	closeTooSlow    = 4008 // the client reads too slowly: come back for a snapshot
)

// Hub passes events to the event sockets of this process. Each socket has a
// bounded queue, which its own goroutine drains in order; one that is full closes
// that socket and holds up nobody else.
type Hub struct {
	generation string // tells the cursors of this process from another's
	queueLimit int

	mu       sync.Mutex
	count    uint64
	sockets  map[string]map[*queue]struct{} // by account
	shutdown bool
	joined   sync.WaitGroup // sockets that have not left
}

// queue is what waits for one socket.
type queue struct {
	deviceID string
	wake     chan struct{} // has something when the queue has

	mu     sync.Mutex
	events []queued
	closed *websocket.CloseError // why the socket must end, once it must
	final  *queued               // a last event before that
}

type queued struct {
	Event
	cursor string
}

func newHub(generation string, queueLimit int) *Hub {
	return &Hub{generation: generation, queueLimit: queueLimit, sockets: make(map[string]map[*queue]struct{})}
}

// Publish sends an event to all sockets of an account, or to those of one of its
// devices if deviceID isn't "". It never blocks.
func (h *Hub) Publish(accountID, deviceID string, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ev := queued{e, h.next()}
	for q := range h.sockets[accountID] {
		if deviceID == "" || deviceID == q.deviceID {
			q.add(ev, h.queueLimit)
		}
	}
}

// next returns the cursor of the next event. h.mu is held.
func (h *Hub) next() string {
	h.count++
	return h.generation + "." + strconv.FormatUint(h.count, 10)
}

// cursor returns where the stream of events is now.
func (h *Hub) cursor() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.generation + "." + strconv.FormatUint(h.count, 10)
}

// join adds a socket of the device and returns its queue, or false if the account
// has limit sockets already or the hub is closed.
func (h *Hub) join(accountID, deviceID string, limit int) (*queue, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shutdown || len(h.sockets[accountID]) >= limit {
		return nil, false
	}
	q := &queue{deviceID: deviceID, wake: make(chan struct{}, 1)}
	if h.sockets[accountID] == nil {
		h.sockets[accountID] = make(map[*queue]struct{})
	}
	h.sockets[accountID][q] = struct{}{}
	h.joined.Add(1)
	return q, true
}

// leave removes a socket that has ended.
func (h *Hub) leave(accountID string, q *queue) {
	defer h.joined.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets[accountID], q)
	if len(h.sockets[accountID]) == 0 {
		delete(h.sockets, accountID)
	}
}

// drop tells the sockets of a device that it is signed out, and closes them.
func (h *Hub) drop(accountID, deviceID, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ev := queued{Event{Type: "signed_out", Data: map[string]string{"reason": reason}}, h.next()}
	for q := range h.sockets[accountID] {
		if q.deviceID == deviceID {
			q.close(closeSignedOut, reason, &ev)
		}
	}
}

// close closes every socket, lets no more in, and returns when all have left.
func (h *Hub) close() {
	h.closeAll()
	h.joined.Wait()
}

func (h *Hub) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shutdown = true
	for _, sockets := range h.sockets {
		for q := range sockets {
			q.close(websocket.CloseGoingAway, "the server is restarting", nil)
		}
	}
}

func (q *queue) add(ev queued, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return
	}
	if ev.Key != "" {
		q.events = slices.DeleteFunc(q.events, func(old queued) bool { return old.Type == ev.Type && old.Key == ev.Key })
	}
	if len(q.events) >= limit {
		q.shut(closeTooSlow, "too many events wait; come back", nil)
		return
	}
	q.events = append(q.events, ev)
	q.signal()
}

func (q *queue) close(code int, reason string, final *queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.shut(code, reason, final)
	}
}

// shut decides the socket's end; what waits is given up. q.mu is held.
func (q *queue) shut(code int, reason string, final *queued) {
	q.closed, q.final, q.events = &websocket.CloseError{Code: code, Text: reason}, final, nil
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the oldest event that waits, or nil; and why the socket must end,
// once nothing is left to be sent before.
func (q *queue) take() (*queued, *websocket.CloseError) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.final != nil {
		ev := q.final
		q.final = nil
		return ev, nil
	}
	if q.closed != nil {
		return nil, q.closed
	}
	if len(q.events) == 0 {
		return nil, nil
	}
	ev := q.events[0]
	q.events = slices.Delete(q.events, 0, 1)
	return &ev, nil
}

package companion

import (
	"context"
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
	// for long; an error closes the socket, whose client comes back for a snapshot.
	Data any
	Load func(context.Context, Session) (any, error)
}

// Hub passes events to the sockets of this process.
type Hub struct{}

// Publish sends an event to all sockets of an account, or to those of one of its
// devices if deviceID isn't "". It never blocks.
func (h *Hub) Publish(accountID, deviceID string, e Event) {}

package companion

import (
	"fmt"
	"testing"

	"github.com/gorilla/websocket"
)

// drain takes what waits in a queue, as "type key data".
func drain(q *queue) (got []string, end *websocket.CloseError) {
	for {
		ev, end := q.take()
		if ev == nil {
			return got, end
		}
		got = append(got, fmt.Sprint(ev.Type, " ", ev.Key, " ", ev.Data))
	}
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func join(t *testing.T, h *Hub, account, device string) *queue {
	t.Helper()
	q, ok := h.join(account, device, 20)
	if !ok {
		t.Fatal("the hub lets nobody in")
	}
	return q
}

func TestPublish(t *testing.T) {
	h := newHub("g", 10)
	phone, tablet, other := join(t, h, "ac_1", "dv_1"), join(t, h, "ac_1", "dv_2"), join(t, h, "ac_2", "dv_3")
	h.Publish("ac_1", "", Event{Type: "a", Data: 1})
	h.Publish("ac_1", "dv_2", Event{Type: "b", Data: 2})
	h.Publish("ac_1", "dv_3", Event{Type: "c", Data: 3}) // the device of someone else
	h.Publish("ac_9", "", Event{Type: "d", Data: 4})
	got, _ := drain(phone)
	equal(t, got, "a  1")
	got, _ = drain(tablet)
	equal(t, got, "a  1", "b  2")
	got, _ = drain(other)
	equal(t, got)
	h.leave("ac_1", phone)
	h.Publish("ac_1", "", Event{Type: "a", Data: 5})
	got, _ = drain(phone)
	equal(t, got)
}

// A newer event about the same thing takes the place of an older one, at the end
// of the queue; others keep their order.
func TestEventsOfOneKeyMerge(t *testing.T) {
	h := newHub("g", 3)
	q := join(t, h, "ac_1", "dv_1")
	for i := range 10 {
		h.Publish("ac_1", "", Event{Type: "call", Key: "x", Data: i})
		h.Publish("ac_1", "", Event{Type: "call", Key: "y", Data: i})
		h.Publish("ac_1", "", Event{Type: "contacts", Key: "x", Data: i})
	}
	got, end := drain(q)
	equal(t, got, "call x 9", "call y 9", "contacts x 9")
	if end != nil {
		t.Errorf("the socket ends with %v", end)
	}
}

// A full queue ends that socket alone, with a code that asks to come back.
func TestSlowSocketEnds(t *testing.T) {
	h := newHub("g", 3)
	slow, quick := join(t, h, "ac_1", "dv_1"), join(t, h, "ac_1", "dv_2")
	for i := range 4 {
		h.Publish("ac_1", "", Event{Type: "a", Data: i})
		got, end := drain(quick)
		equal(t, got, fmt.Sprint("a  ", i))
		if end != nil {
			t.Errorf("the quick socket ends with %v", end)
		}
	}
	h.Publish("ac_1", "", Event{Type: "a", Data: 5})
	got, end := drain(slow)
	equal(t, got)
	if end == nil || end.Code != closeTooSlow {
		t.Errorf("the slow socket ends with %v", end)
	}
}

func TestDrop(t *testing.T) {
	h := newHub("g", 10)
	gone, stays := join(t, h, "ac_1", "dv_1"), join(t, h, "ac_1", "dv_2")
	h.Publish("ac_1", "", Event{Type: "a"})
	h.drop("ac_1", "dv_1", "signed out")
	h.drop("ac_1", "dv_1", "signed out")
	h.Publish("ac_1", "", Event{Type: "b"})
	got, end := drain(gone)
	equal(t, got, "signed_out  map[reason:signed out]")
	if end == nil || end.Code != closeSignedOut {
		t.Errorf("the dropped socket ends with %v", end)
	}
	got, end = drain(stays)
	equal(t, got, "a  <nil>", "b  <nil>")
	if end != nil {
		t.Errorf("the other socket ends with %v", end)
	}
}

func TestSocketsPerAccount(t *testing.T) {
	h := newHub("g", 10)
	q, _ := h.join("ac_1", "dv_1", 2)
	h.join("ac_1", "dv_2", 2)
	if _, ok := h.join("ac_1", "dv_3", 2); ok {
		t.Error("a third socket joined")
	}
	if _, ok := h.join("ac_2", "dv_4", 2); !ok {
		t.Error("another account could not join")
	}
	h.leave("ac_1", q)
	if _, ok := h.join("ac_1", "dv_3", 2); !ok {
		t.Error("no room after one left")
	}
}

func FuzzClientMessage(f *testing.F) {
	f.Add(websocket.TextMessage, []byte(`{"type":"pong"}`))
	f.Add(websocket.TextMessage, []byte(`{"type":"hello"}`))
	f.Add(websocket.BinaryMessage, []byte(`{"type":"pong"}`))
	f.Add(websocket.TextMessage, []byte(`[[[[`))
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		err := readClientMessage(kind, b)
		// A closing frame's reason has at most 123 bytes (RFC 6455, section 5.5).
		if err != nil && (err.Error() == "" || len(err.Error()) > 123) {
			t.Fatalf("%q is refused with %q", b, err)
		}
		if err == nil && kind != websocket.TextMessage {
			t.Fatalf("a message of kind %d is taken", kind)
		}
	})
}

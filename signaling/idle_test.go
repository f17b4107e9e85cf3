package signaling

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

// TestIdleParticipantsCostOneGoroutine: it reads the connection. Nobody writes, and nobody waits for media calls.
func TestIdleParticipantsCostOneGoroutine(t *testing.T) {
	w := newWorld(t, nil)
	first := w.join("r", "first", nil, nil)
	first.sync()
	var before int
	eventually(t, "the first is at rest", func() bool {
		before = runtime.NumGoroutine()
		return w.atRest()
	})
	const more = 30
	for i := range more {
		w.join("r", fmt.Sprint("p", i), nil, nil).sync()
	}
	eventually(t, fmt.Sprintf("%d more take a goroutine each", more), func() bool {
		return w.atRest() && runtime.NumGoroutine() <= before+more
	})
}

// atRest reports whether nothing is being written, and no media call is made.
func (w *world) atRest() bool {
	rest := true
	w.srv.mu.Lock()
	for c := range w.srv.conns {
		c.mu.Lock()
		rest = rest && !c.writing
		c.mu.Unlock()
	}
	w.srv.mu.Unlock()
	w.srv.ask("r", func(a *actor) {
		for _, s := range a.sessions {
			s.worker.mu.Lock()
			rest = rest && !s.worker.running
			s.worker.mu.Unlock()
		}
	})
	return rest
}

// connPair is a conn that nobody reads yet, and its peer, over a pipe in memory.
func connPair(t *testing.T, limits Limits) (c *conn, gone <-chan struct{}, peer *websocket.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	conns, over := make(chan *conn, 1), make(chan struct{})
	go func() {
		rw := bufio.NewReadWriter(bufio.NewReader(ours), bufio.NewWriter(ours))
		r, err := http.ReadRequest(rw.Reader)
		if err != nil {
			t.Error(err)
			return
		}
		ws, err := upgrader.Upgrade(hijacked{httptest.NewRecorder(), ours, rw}, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		conns <- newConn(ws, limits.withDefaults(), func() { close(over) })
	}()
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return theirs, nil }}
	peer, _, err := dialer.Dial("ws://test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	return <-conns, over, peer
}

// hijacked is what Upgrade needs of an HTTP server.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

// TestNoFrameIsLeft: many send at once, and pause, so that the writer ends again and again. Every frame is written, in each
// one's order, and then the close frame.
func TestNoFrameIsLeft(t *testing.T) {
	const producers, each = 16, 400
	c, gone, peer := connPair(t, Limits{QueuedMessages: producers * each})
	go c.read(func(_ *wire.SignalRequest, done func()) { done() })
	received := make(chan [producers]int, 1)
	seen := make([]chan int, producers)
	for p := range seen {
		seen[p] = make(chan int, each)
	}
	go func() {
		var last [producers]int
		defer func() { received <- last }()
		for {
			_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, frame, err := peer.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, closeNormal) {
					t.Errorf("the connection ends with %v", err)
				}
				return
			}
			p, i := binary.BigEndian.Uint16(frame), int(binary.BigEndian.Uint16(frame[2:]))
			if last[p] != i {
				t.Errorf("producer %d: frame %d comes after %d", p, i, last[p])
			}
			last[p]++
			seen[p] <- i
		}
	}()
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				c.send(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(p)), uint16(i)))
				if i%3 == 0 {
					continue
				}
				for got := -1; got < i; { // the writer has nothing to do for a moment
					select {
					case got = <-seen[p]:
					case <-time.After(10 * time.Second):
						t.Errorf("producer %d: frame %d is not written", p, i)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	c.close(closeNormal, "")
	for p, n := range <-received {
		if n != each {
			t.Errorf("producer %d: %d frames arrived", p, n)
		}
	}
	<-gone
	c.send([]byte("too late"))
	if c.writing || c.queue != nil {
		t.Error("something is left")
	}
}

// TestOnlyTheSilentArePinged: a client that pings by itself is not asked to. One that only answers stays, and one that
// doesn't is gone when PingTimeout is over.
func TestOnlyTheSilentArePinged(t *testing.T) {
	const long = 55 * time.Second
	frame, err := wire.EncodeRequest(&wire.SignalRequest{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: 5}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		every time.Duration // between two pings of the client
		ping  func(*websocket.Conn) error
		mute  bool // it answers no ping
		asked int  // so many times
		lasts time.Duration
	}{
		{"ping_req", 6 * time.Second, func(ws *websocket.Conn) error { return ws.WriteMessage(websocket.BinaryMessage, frame) }, false, 0, long},
		{"WebSocket pings", 6 * time.Second, func(ws *websocket.Conn) error {
			return ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		}, false, 0, long},
		{"answers", time.Hour, nil, false, 7, long},
		{"says nothing", time.Hour, nil, true, 2, 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, gone, peer := connPair(t, Limits{})
				began := time.Now()
				go conn.read(func(_ *wire.SignalRequest, done func()) { done() })
				asked := 0
				answer := peer.PingHandler()
				peer.SetPingHandler(func(text string) error {
					asked++
					if c.mute {
						return nil
					}
					return answer(text)
				})
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for {
						if _, _, err := peer.ReadMessage(); err != nil {
							return
						}
					}
				}()
				tick := time.NewTicker(c.every)
				defer tick.Stop()
				enough := time.After(long)
				for over := false; !over; {
					select {
					case <-enough:
						over = true
					case <-ended:
						over = true
					case <-tick.C:
						if err := c.ping(peer); err != nil {
							t.Error(err)
						}
					}
				}
				lasted := time.Since(began)
				_ = peer.Close()
				<-ended
				<-gone
				if asked != c.asked || lasted != c.lasts {
					t.Errorf("asked %d times in %v: want %d in %v", asked, lasted, c.asked, c.lasts)
				}
			})
		})
	}
}

// TestPeersThatFail: whichever of reading and writing fails first, the connection is over, and nothing more is queued.
func TestPeersThatFail(t *testing.T) {
	read := func(c *conn) { c.read(func(_ *wire.SignalRequest, done func()) { done() }) }
	for _, c := range []struct {
		name  string
		run   func(*conn, *websocket.Conn)
		lasts time.Duration
		says  string
	}{
		{"vanishes while nothing is written", func(c *conn, peer *websocket.Conn) {
			go read(c)
			synctest.Wait()
			_ = peer.Close()
		}, 0, ""},
		{"vanishes before it is read", func(c *conn, peer *websocket.Conn) {
			_ = peer.Close()
			c.send([]byte("hello"))
			synctest.Wait()
			c.send([]byte("anybody?"))
			go read(c)
		}, 0, ""},
		{"takes nothing", func(c *conn, _ *websocket.Conn) {
			go read(c)
			c.send([]byte("hello"))
		}, writeTimeout, ""},
		{"takes too little", func(c *conn, _ *websocket.Conn) {
			go read(c)
			c.send([]byte("taken by the writer"))
			synctest.Wait()
			for range 9 {
				c.send([]byte("queued, and the last one too much"))
			}
		}, writeTimeout, "this connection reads too slowly: resume the session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, gone, peer := connPair(t, Limits{QueuedMessages: 8})
				began := time.Now()
				c.run(conn, peer)
				<-gone
				if lasted := time.Since(began); lasted != c.lasts || conn.closeReason() != c.says {
					t.Errorf("over after %v because %q, want %v and %q", lasted, conn.closeReason(), c.lasts, c.says)
				}
				conn.send([]byte("too late"))
				conn.close(closeNormal, "")
				synctest.Wait()
				if conn.writing || conn.queue != nil {
					t.Error("something is left")
				}
			})
		})
	}
}

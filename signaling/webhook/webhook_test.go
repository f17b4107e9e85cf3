package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anytime/signaling/wire"
)

// receiver answers requests in memory, in the bubble's time.
type receiver struct {
	mu       sync.Mutex
	requests []request
	answer   func(n int, e *wire.WebhookEvent) (status int, err error)
	running  int
	most     int
	takes    time.Duration
}

type request struct {
	at    time.Time
	event *wire.WebhookEvent
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	e, err := wire.DecodeWebhook(body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	n := len(r.requests)
	r.requests = append(r.requests, request{time.Now(), e})
	r.running++
	r.most = max(r.most, r.running)
	r.mu.Unlock()
	if r.takes > 0 {
		select {
		case <-time.After(r.takes):
		case <-q.Context().Done():
			err = q.Context().Err()
		}
	}
	r.mu.Lock()
	r.running--
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if r.answer != nil {
		if status, err = r.answer(n, e); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("ok")), Request: q}, nil
}

// metadata of the rooms in the requests, which the tests number events by.
func (r *receiver) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, q := range r.requests {
		out = append(out, q.event.Room.Metadata)
	}
	return out
}

func newSender(t *testing.T, r *receiver, change func(*Config)) *Sender {
	t.Helper()
	cfg := Config{
		URLs: []string{"https://hook.example/secret"}, APIKey: "APIkey", Secret: "a secret long enough",
		Client: &http.Client{Transport: r}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Sender) say(room, mark string) {
	s.Send(&wire.WebhookEvent{Event: "room_started", Room: &wire.Room{Name: room, Metadata: mark}})
}

func TestDeliversInOrderPerRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{takes: time.Second}
		s := newSender(t, r, func(c *Config) { c.Concurrent = 3 })
		for n := range 4 {
			for room := range 5 {
				s.say(fmt.Sprint("room", room), fmt.Sprint(room, n))
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := r.seen()
		if len(seen) != 20 || r.most != 3 {
			t.Errorf("%d requests, %d at a time", len(seen), r.most)
		}
		for room := range 5 {
			var of []string
			for _, mark := range seen {
				if strings.HasPrefix(mark, fmt.Sprint(room)) {
					of = append(of, mark)
				}
			}
			if !slices.IsSorted(of) {
				t.Errorf("room %d: %v", room, of)
			}
		}
		if got := s.Stats(); got != (Stats{Delivered: 20}) {
			t.Errorf("%+v", got)
		}
		s.say("room", "late")
		if got := s.Stats().Dropped; got != 1 {
			t.Errorf("after Close %d were dropped", got)
		}
	})
}

func TestTriesAgainWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := []func() (int, error){
			func() (int, error) { return 500, nil }, func() (int, error) { return 0, errors.New("reset") },
			func() (int, error) { return 429, nil }, func() (int, error) { return 503, nil },
		}
		r := &receiver{}
		r.answer = func(n int, _ *wire.WebhookEvent) (int, error) {
			if n < len(failures) {
				return failures[n]()
			}
			return 200, nil
		}
		s := newSender(t, r, nil)
		s.say("room", "1")
		s.say("room", "2") // waits behind it
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.seen(); !slices.Equal(got, []string{"1", "1", "1", "1", "1", "2"}) {
			t.Errorf("sent %v", got)
		}
		for n, longest := range []time.Duration{500, 1000, 2000, 4000} {
			wait := r.requests[n+1].at.Sub(r.requests[n].at)
			if longest *= time.Millisecond; wait < longest/2 || wait > longest {
				t.Errorf("wait %d is %v, want %v to %v", n, wait, longest/2, longest)
			}
		}
		if id := r.requests[0].event.Id; id != r.requests[4].event.Id || id == r.requests[5].event.Id || !strings.HasPrefix(id, "EV_") {
			t.Errorf("ids %v", id)
		}
		if got := s.Stats(); got != (Stats{Delivered: 2, Retried: 4}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(_ int, e *wire.WebhookEvent) (int, error) {
			return map[string]int{"away": 500, "wrong": 404, "moved": 302}[e.Room.Name], nil
		}}
		s := newSender(t, r, func(c *Config) { c.Attempts = 3 })
		for _, room := range []string{"away", "wrong", "moved"} {
			s.say(room, room)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats(); got != (Stats{Retried: 2, Failed: 3}) || len(r.requests) != 5 {
			t.Errorf("%+v in %d requests", got, len(r.requests))
		}
	})
}

func TestOverflowDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, change := range map[string]func(*Config){
			"events": func(c *Config) { c.Queue = 5 },
			"bytes":  func(c *Config) { c.QueueBytes = 2700 },
		} {
			r := &receiver{takes: time.Second}
			s := newSender(t, r, func(c *Config) { change(c); c.Concurrent = 1 })
			pad := strings.Repeat(" ", 400)
			s.say("a", "0"+pad)
			synctest.Wait() // it is on its way: not waiting any more
			for n, room := range []string{"a", "b", "a", "b", "a"} {
				s.say(room, fmt.Sprint(n+1)+pad)
				if n == 1 {
					synctest.Wait() // b's first has left its lane too, for a slot
				}
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, mark := range r.seen() {
				got = append(got, strings.TrimSpace(mark))
			}
			slices.Sort(got)
			if stats := s.Stats(); stats.Dropped != 1 || stats.Delivered != 5 || stats.Waiting != 0 || !slices.Equal(got, []string{"0", "2", "3", "4", "5"}) {
				t.Errorf("%s: %+v, delivered %v", name, stats, got)
			}
		}
	})
}

// TestOverflowOfRooms: what is being sent counts, or each new room would add to it.
func TestOverflowOfRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{takes: time.Second}
		s := newSender(t, r, func(c *Config) { c.Queue = 3 })
		for n := range 5 {
			s.say(fmt.Sprint("room", n), fmt.Sprint(n))
			synctest.Wait()
		}
		if stats := s.Stats(); stats.Waiting != 3 || stats.Dropped != 2 {
			t.Errorf("%+v", stats)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if stats := s.Stats(); stats != (Stats{Delivered: 3, Dropped: 2}) {
			t.Errorf("%+v", stats)
		}
	})
}

func TestCloseDropsWhatDoesNotArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{takes: time.Hour}
		s := newSender(t, r, nil)
		s.say("a", "1")
		s.say("a", "2")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed with %v", err)
		}
		if took := time.Since(began); took != 3*time.Second || s.Stats() != (Stats{Dropped: 2}) {
			t.Errorf("after %v: %+v", took, s.Stats())
		}
	})
}

// TestSignature reads a request over real HTTP as receivers do.
func TestSignature(t *testing.T) {
	got := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			got <- err
			return
		}
		claims, err := wire.Verify(r.Header.Get("Authorization"), func(k string) (string, bool) { return "a secret long enough", k == "APIkey" })
		sum := sha256.Sum256(body)
		event, decodeErr := wire.DecodeWebhook(body)
		switch {
		case err != nil:
		case decodeErr != nil:
			err = decodeErr
		case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/webhook+json":
			err = fmt.Errorf("%s %v", r.Method, r.Header)
		case claims.SHA256 != base64.StdEncoding.EncodeToString(sum[:]):
			err = fmt.Errorf("sha256 is %q", claims.SHA256)
		case event.Event != "room_started" || event.Room.GetName() != "room" || event.CreatedAt == 0:
			err = fmt.Errorf("event is %v", event)
		}
		got <- err
	}))
	defer server.Close()
	s := newSender(t, nil, func(c *Config) { c.URLs, c.Client = []string{server.URL}, server.Client() })
	s.say("room", "1")
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

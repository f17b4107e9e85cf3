// Package webhook tells HTTP servers what happens in rooms: events as the contract's JSON, signed
// with the API secret.
//
//  1. Send numbers an event, encodes it once and queues it for each URL. It never blocks.
//  2. Each URL has a lane per room: the events of one room arrive in order, one after the other;
//     those of different rooms side by side, up to Config.Concurrent requests at a time.
//  3. A delivery that fails is tried again after a time that doubles (with jitter); the room's later
//     events wait behind it. An answer 4xx (but for 408, 425 and 429) is final.
//  4. What has not arrived is bounded per URL. When it overflows, the oldest event that isn't being
//     sent is dropped: a receiver that was away for long is told of the present rather than of the
//     past.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"anytime/signaling/wire"
)

// Config of a Sender. URLs, APIKey, Secret and Client must be set.
type Config struct {
	URLs []string
	// APIKey and Secret sign what is sent.
	APIKey, Secret string
	// Client sends. Its Timeout bounds each attempt; it decides which addresses may be reached.
	Client *http.Client
	// Queue and QueueBytes bound the events per URL that have not arrived yet. 0 is 1000, and 16 MB.
	Queue, QueueBytes int
	// Concurrent is how many requests run at a time per URL. 0 is 8.
	Concurrent int
	// Attempts is how often an event is sent at most. 0 is 10: with the default back-off that is
	// over a span of 2 to 4 minutes.
	Attempts int
	// Backoff is the longest wait after the first failure; it doubles with each, up to MaxBackoff.
	// The wait is at least half of it. 0 is 0.5 s, and 1 min.
	Backoff, MaxBackoff time.Duration
	// Log receives what operators need. nil: slog.Default().
	Log *slog.Logger
}

// tokenLife is how long the signature of an attempt is valid.
const tokenLife = 5 * time.Minute

// Stats of a Sender since it was made.
type Stats struct {
	// Delivered events, Retried attempts, and events that were given up: Failed after their last
	// attempt or a final answer, Dropped because too many waited or the server stopped.
	Delivered, Retried, Failed, Dropped uint64
	// Waiting is how many events wait now.
	Waiting int
}

// Sender delivers events.
type Sender struct {
	cfg     Config
	log     *slog.Logger
	targets []*target
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	delivered, retried, failed, dropped atomic.Uint64
}

// target is one URL.
type target struct {
	url, host string // host is what logs say: the rest of a URL may be a secret
	slots     chan struct{}

	mu      sync.Mutex
	lanes   map[string]*lane // by room; each has a goroutine
	waiting int              // events, in lanes and being sent
	bytes   int              // of those
	next    uint64           // number of the next event
	closed  bool
	warned  time.Time
}

// lane holds what waits for one room. The event being sent isn't in it any more.
type lane struct{ events []event }

type event struct {
	number   uint64
	name, id string
	body     []byte
}

// New returns a Sender. Close stops it.
func New(cfg Config) (*Sender, error) {
	if cfg.Client == nil || cfg.APIKey == "" || cfg.Secret == "" {
		return nil, errors.New("webhook: Client, APIKey and Secret must be set")
	}
	cfg.Queue = cmp.Or(cfg.Queue, 1000)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 16<<20)
	cfg.Concurrent = cmp.Or(cfg.Concurrent, 8)
	cfg.Attempts = cmp.Or(cfg.Attempts, 10)
	cfg.Backoff = cmp.Or(cfg.Backoff, 500*time.Millisecond)
	cfg.MaxBackoff = cmp.Or(cfg.MaxBackoff, time.Minute)
	s := &Sender{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default())}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, errors.New("webhook: a URL cannot be read")
		}
		s.targets = append(s.targets, &target{
			url: text, host: u.Host, slots: make(chan struct{}, cfg.Concurrent), lanes: map[string]*lane{},
		})
	}
	return s, nil
}

// Send queues an event for every URL. It sets the event's id and time and does not keep it.
func (s *Sender) Send(e *wire.WebhookEvent) {
	e.Id, e.CreatedAt = wire.NewEventID(), time.Now().Unix()
	body, err := wire.EncodeWebhook(e)
	if err != nil {
		s.log.Error("cannot encode a webhook event", "event", e.GetEvent(), "err", err)
		return
	}
	for _, t := range s.targets {
		t.put(s, e.GetRoom().GetName(), event{name: e.GetEvent(), id: e.GetId(), body: body})
	}
}

// Stats returns what has happened so far.
func (s *Sender) Stats() Stats {
	out := Stats{
		Delivered: s.delivered.Load(), Retried: s.retried.Load(), Failed: s.failed.Load(), Dropped: s.dropped.Load(),
	}
	for _, t := range s.targets {
		t.mu.Lock()
		out.Waiting += t.waiting
		t.mu.Unlock()
	}
	return out
}

// Close takes no more events and delivers those that wait, until ctx is done; the rest is dropped.
func (s *Sender) Close(ctx context.Context) error {
	for _, t := range s.targets {
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("webhook events were not delivered: %w", ctx.Err())
	}
	s.cancel()
	<-done
	s.cfg.Client.CloseIdleConnections()
	return err
}

// put queues an event, and starts its room's lane when none runs.
func (t *target) put(s *Sender, room string, e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(e.body) > s.cfg.QueueBytes {
		s.dropped.Add(1)
		return
	}
	for t.waiting >= s.cfg.Queue || t.bytes+len(e.body) > s.cfg.QueueBytes {
		s.dropped.Add(1)
		t.warn(s)
		if !t.dropOldest() {
			return
		}
	}
	e.number = t.next
	t.next++
	t.waiting++
	t.bytes += len(e.body)
	l := t.lanes[room]
	if l == nil {
		l = &lane{}
		t.lanes[room] = l
		s.running.Go(func() { t.run(s, room, l) })
	}
	l.events = append(l.events, e)
}

// dropOldest makes place, and reports false when every event is being sent. Overflow is rare, so it
// looks at every lane.
func (t *target) dropOldest() bool {
	var oldest *lane
	for _, l := range t.lanes {
		if len(l.events) > 0 && (oldest == nil || l.events[0].number < oldest.events[0].number) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	t.done(oldest.take())
	return true
}

// warn logs an overflow, once a minute.
func (t *target) warn(s *Sender) {
	if now := time.Now(); now.Sub(t.warned) > time.Minute {
		t.warned = now
		s.log.Warn("webhook events are dropped: too many wait", "to", t.host, "dropped", s.dropped.Load())
	}
}

// done forgets an event that has arrived or was given up.
func (t *target) done(e event) {
	t.waiting--
	t.bytes -= len(e.body)
}

func (l *lane) take() event {
	e := l.events[0]
	l.events = l.events[1:]
	return e
}

// run delivers the events of a room until none is left.
func (t *target) run(s *Sender, room string, l *lane) {
	for {
		t.mu.Lock()
		if len(l.events) == 0 {
			delete(t.lanes, room)
			t.mu.Unlock()
			return
		}
		e := l.take()
		t.mu.Unlock()
		t.deliver(s, e)
		t.mu.Lock()
		t.done(e)
		t.mu.Unlock()
	}
}

// errFinal wraps an answer that trying again would not change.
var errFinal = errors.New("refused")

// deliver sends one event until it arrives or is given up.
func (t *target) deliver(s *Sender, e event) {
	backoff := s.cfg.Backoff
	for attempt := 1; ; attempt++ {
		err := t.attempt(s, e)
		switch {
		case err == nil:
			s.delivered.Add(1)
			return
		case s.ctx.Err() != nil:
			s.dropped.Add(1)
			return
		case attempt >= s.cfg.Attempts || errors.Is(err, errFinal):
			s.failed.Add(1)
			s.log.Warn("webhook event was not delivered", "to", t.host, "event", e.name, "id", e.id, "attempts", attempt, "err", err)
			return
		}
		s.retried.Add(1)
		// At least half of the back-off, so that it stays one; the rest by chance, so that rooms
		// that failed together don't come back together.
		timer := time.NewTimer(backoff/2 + rand.N(backoff/2+1))
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
		}
		backoff = min(2*backoff, s.cfg.MaxBackoff)
	}
}

// attempt sends an event once. Errors hold no URL.
func (t *target) attempt(s *Sender, e event) error {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	sum := sha256.Sum256(e.body)
	token, err := wire.Mint(s.cfg.APIKey, s.cfg.Secret, wire.Claims{SHA256: base64.StdEncoding.EncodeToString(sum[:])}, tokenLife)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(s.ctx, http.MethodPost, t.url, bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/webhook+json")
	r.Header.Set("Authorization", token) // bare: what receivers of the contract expect
	r.Header.Set("User-Agent", "anytime")
	answer, err := s.cfg.Client.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL
		}
		return err
	}
	// Reading what is short lets the connection be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	_ = answer.Body.Close()
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests || code >= 500:
		return fmt.Errorf("answered %d", code)
	default:
		return fmt.Errorf("%w with %d", errFinal, code)
	}
}

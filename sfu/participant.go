package sfu

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/forward"

	"github.com/pion/rtcp"
)

// ParticipantConfig describes one who joins.
type ParticipantConfig struct {
	// Room is the key of the room; ID is the participant's session id, unique in the room.
	Room, ID string
	// Single asks for one peer connection for both directions.
	Single bool
	// FullICE makes the server a full ICE agent instead of a lite one.
	FullICE bool
	// Notify is called for each event, one at a time and in order. It must neither block nor call the participant.
	Notify func(Event)
}

// defaultRTT is assumed before a round trip has been measured.
const defaultRTT = 100 * time.Millisecond

// Participant is one session in a room. Its methods are safe for concurrent use.
type Participant struct {
	server *Server
	cfg    ParticipantConfig
	room   *room
	log    *slog.Logger

	channels  atomic.Int64 // data channels the client opened
	badRTCP   atomic.Uint64
	roundTrip atomic.Int64 // smoothed, 0 = unknown

	// transports by target; the publisher's is made by the first offer.
	transports [2]atomic.Pointer[transport]

	nego negotiation

	mu           sync.Mutex
	publications map[string]*publication
	order        []*publication          // as announced
	bound        map[string]*publication // by mid
	claimed      map[string]string       // by mid: the msid track id that was bound last
	sections     []section               // of the publisher, as last negotiated
	subs         map[string]*subscription
	bySSRC       map[uint32]*subscription
	closed       bool

	events    sync.Mutex
	silent    bool
	closeOnce sync.Once
	done      chan struct{} // closed by Close
	work      sync.WaitGroup

	reports *alarm

	clockMu sync.Mutex
	clock   forward.SenderClock
}

// Join adds a participant to its room and starts the subscriber peer connection: its first [OfferReady] follows at once.
func (s *Server) Join(cfg ParticipantConfig) (*Participant, error) {
	switch {
	case cfg.Room == "" || cfg.ID == "":
		return nil, errors.New("sfu: joining needs a room and an id")
	case cfg.Single:
		return nil, errors.New("sfu: a single peer connection is not supported yet; join with two")
	case cfg.Notify == nil:
		cfg.Notify = func(Event) {}
	}
	p := &Participant{server: s, cfg: cfg, log: s.log.With("room", cfg.Room, "participant", cfg.ID),
		publications: map[string]*publication{}, bound: map[string]*publication{}, claimed: map[string]string{}, subs: map[string]*subscription{},
		bySSRC: map[uint32]*subscription{}, done: make(chan struct{})}
	p.nego.p = p
	p.reports = newAlarm(s.now, p.sendReports)
	if err := s.enter(p); err != nil {
		return nil, err
	}
	t, err := newTransport(p, Subscriber, false, true)
	if err == nil {
		p.transports[Subscriber].Store(t)
		err = t.openChannels()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	p.nego.kick()
	return p, nil
}

// notify tells an event.
func (p *Participant) notify(e Event) {
	p.events.Lock()
	defer p.events.Unlock()
	if !p.silent {
		p.cfg.Notify(e)
	}
}

// Close ends the session. Nothing of it runs any more when it returns. It must not be called from Notify.
func (p *Participant) Close() {
	p.closeOnce.Do(func() {
		p.events.Lock()
		p.silent = true
		p.events.Unlock()
		p.mu.Lock()
		p.closed = true
		pubs := slices.Clone(p.order)
		subs := make([]*subscription, 0, len(p.subs))
		for _, s := range p.subs {
			subs = append(subs, s)
		}
		p.mu.Unlock()
		close(p.done)
		for _, pub := range pubs {
			p.endPublication(pub)
		}
		for _, s := range subs {
			s.end()
		}
		p.server.leave(p)
		p.reports.stop()
		p.work.Wait()
		for i := range p.transports {
			if t := p.transports[i].Load(); t != nil {
				t.close()
			}
		}
	})
}

func (p *Participant) ingest() *ingest {
	if t := p.transports[Publisher].Load(); t != nil {
		return t.in
	}
	return nil
}

// rtt returns the round trip to the participant.
func (p *Participant) rtt() time.Duration {
	if v := p.roundTrip.Load(); v != 0 {
		return time.Duration(v)
	}
	return defaultRTT
}

func (p *Participant) observeRTT(rtt time.Duration) {
	rtt = max(rtt, time.Microsecond)
	if old := p.roundTrip.Load(); old != 0 {
		rtt = (time.Duration(old)*7 + rtt) / 8
	}
	p.roundTrip.Store(int64(rtt))
}

// captured brings the NTP time of one of the participant's sender reports into server time.
func (p *Participant) captured(ntp uint64, arrival time.Duration) (time.Duration, bool) {
	p.clockMu.Lock()
	defer p.clockMu.Unlock()
	return p.clock.Observe(ntp, arrival)
}

// Candidate takes one of the client's ICE candidates, as JSON of RTCIceCandidateInit. It may come before the offer.
func (p *Participant) Candidate(target Target, candidateInitJSON string) error {
	if target > Subscriber {
		return fmt.Errorf("sfu: no such peer connection: %v", target)
	}
	if target == Publisher {
		if _, err := p.publisher(); err != nil {
			return err
		}
	}
	t := p.transports[target].Load()
	if t == nil {
		return ErrClosed
	}
	return guard(p.log, func() error { return t.candidate(candidateInitJSON) })
}

// publisher returns the transport on which the client publishes, which it makes on first use.
func (p *Participant) publisher() (*transport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.transports[Publisher].Load(); t != nil {
		return t, nil
	}
	if p.closed {
		return nil, ErrClosed
	}
	t, err := newTransport(p, Publisher, true, false)
	if err != nil {
		return nil, err
	}
	p.transports[Publisher].Store(t)
	return t, nil
}

// Publish announces a track. Its media is taken once the client's description has an m-line for it.
func (p *Participant) Publish(cfg PublicationConfig) error {
	if cfg.ID == "" {
		return errors.New("sfu: publishing needs a track id")
	}
	b, err := p.announce(cfg)
	if err != nil {
		return err
	}
	p.follow(b)
	return nil
}

func (p *Participant) announce(cfg PublicationConfig) (b bindings, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return b, ErrClosed
	case p.publications[cfg.ID] != nil:
		return b, fmt.Errorf("track %s: %w", cfg.ID, ErrExists)
	case len(p.publications) >= p.server.cfg.Limits.Publications:
		return b, fmt.Errorf("%w: %d tracks published", ErrLimit, len(p.publications))
	}
	pub := newPublication(p, cfg)
	if !p.room.addPublication(pub) {
		pub.end()
		return b, fmt.Errorf("track %s: %w", cfg.ID, ErrExists)
	}
	p.publications[cfg.ID] = pub
	p.order = append(p.order, pub)
	return p.bind(), nil // the m-line may have come first
}

// Unpublish withdraws a track.
func (p *Participant) Unpublish(trackID string) {
	p.mu.Lock()
	pub := p.publications[trackID]
	p.mu.Unlock()
	if pub != nil {
		p.endPublication(pub)
	}
}

// endPublication ends pub and everybody's subscription to it.
func (p *Participant) endPublication(pub *publication) {
	p.mu.Lock()
	delete(p.publications, pub.id)
	p.order = slices.DeleteFunc(p.order, func(o *publication) bool { return o == pub })
	for mid, o := range p.bound {
		if o == pub {
			delete(p.bound, mid)
			if in := p.ingest(); in != nil {
				in.bind(mid, nil)
			}
		}
	}
	p.mu.Unlock()
	for _, s := range pub.end() {
		s.p.drop(s)
	}
}

// SetMuted stops or resumes the forwarding of a track of the participant's.
func (p *Participant) SetMuted(trackID string, muted bool) {
	p.mu.Lock()
	pub := p.publications[trackID]
	p.mu.Unlock()
	if pub != nil {
		pub.setMuted(muted)
	}
}

// bindings is what follows from tying tracks to m-lines. It is done without the participant's lock, as it concerns
// others.
type bindings struct {
	ended   []*publication       // their m-lines have stopped
	started []PublicationStarted // their m-lines have come
	waiting []*subscription      // to be offered now
}

func (p *Participant) follow(b bindings) {
	for _, pub := range b.ended {
		p.endPublication(pub)
		p.notify(PublicationEnded{TrackID: pub.id})
	}
	for _, e := range b.started {
		p.notify(e)
	}
	for _, s := range b.waiting {
		s.p.nego.kick()
	}
}

// bind ties announced tracks to negotiated m-lines: by the msid's track id, else the first of the kind. Called with p.mu
// held.
func (p *Participant) bind() (b bindings) {
	for i := range p.sections {
		s := &p.sections[i]
		// The m-line was stopped, or passed on to another track.
		if old := p.bound[s.mid]; old != nil && (!s.sending || old.cfg.CID != s.track && p.announced(s, true) != nil) {
			delete(p.bound, s.mid)
			b.ended = append(b.ended, old)
		}
	}
	for _, exact := range []bool{true, false} {
		for i := range p.sections {
			s := &p.sections[i]
			if !s.sending || p.bound[s.mid] != nil || s.kind != "audio" && s.kind != "video" {
				continue
			}
			// An m-line whose track was withdrawn, but which still sends it, is not for the next track that comes along.
			if !exact && p.claimed[s.mid] == s.track {
				continue
			}
			pub := p.announced(s, exact)
			if pub == nil {
				continue
			}
			for mid, o := range p.bound {
				if o == pub { // it was tied to another for want of the right one
					delete(p.bound, mid)
				}
			}
			p.bound[s.mid], p.claimed[s.mid] = pub, s.track
		}
	}
	in := p.ingest()
	for i := range p.sections {
		s := &p.sections[i]
		pub := p.bound[s.mid]
		if pub == nil || in == nil {
			continue
		}
		in.bind(s.mid, pub)
		waiting, first := pub.bind(s)
		b.waiting = append(b.waiting, waiting...)
		if first {
			b.started = append(b.started, PublicationStarted{TrackID: pub.id, MimeType: pub.format.kind.String(), Layers: max(1, len(s.rids))})
		}
	}
	return b
}

// announced returns the publication that could be the one of m-line s: by the exact track id, or the first of its kind
// that has no m-line yet. Called with p.mu held.
func (p *Participant) announced(s *section, exact bool) *publication {
	for _, pub := range p.order {
		if pub.cfg.Kind.String() != s.kind || exact && (pub.cfg.CID == "" || pub.cfg.CID != s.track) {
			continue
		}
		taken := false
		for mid, o := range p.bound {
			taken = taken || o == pub && (!exact || p.claimed[mid] == pub.cfg.CID)
		}
		if !taken {
			return pub
		}
	}
	return nil
}

// Subscribe begins to receive a track that is published in the room. Its media follows when it, and the subscriber's
// m-line for it, are ready; failure later on is told by [SubscriptionFailed].
func (p *Participant) Subscribe(trackID string) error {
	pub := p.room.publication(trackID)
	if pub == nil {
		return fmt.Errorf("track %s: %w", trackID, ErrUnknownTrack)
	}
	s := &subscription{p: p, pub: pub, settings: SubscriptionSettings{Quality: 2}}
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return ErrClosed
	case p.subs[trackID] != nil:
		p.mu.Unlock()
		return nil
	case len(p.subs) >= p.server.cfg.Limits.Subscriptions:
		p.mu.Unlock()
		return fmt.Errorf("%w: %d tracks subscribed", ErrLimit, p.server.cfg.Limits.Subscriptions)
	}
	p.subs[trackID] = s
	p.mu.Unlock()
	if !pub.want(s) {
		p.drop(s)
		return fmt.Errorf("track %s: %w", trackID, ErrUnknownTrack)
	}
	if pub.isReady() {
		p.nego.kick()
	}
	return nil
}

// Unsubscribe ends the receiving of a track.
func (p *Participant) Unsubscribe(trackID string) {
	p.mu.Lock()
	s := p.subs[trackID]
	p.mu.Unlock()
	if s != nil {
		p.drop(s)
	}
}

// drop ends a subscription of p's; its m-line is given back by the next offer.
func (p *Participant) drop(s *subscription) {
	s.end()
	p.mu.Lock()
	if p.subs[s.pub.id] == s {
		delete(p.subs, s.pub.id)
	}
	for ssrc, o := range p.bySSRC {
		if o == s {
			delete(p.bySSRC, ssrc)
		}
	}
	p.mu.Unlock()
	p.nego.kick()
}

// Configure sets the subscriber's wishes for one of its tracks.
func (p *Participant) Configure(trackID string, settings SubscriptionSettings) {
	if s := p.subscription(trackID); s != nil {
		s.configure(settings, p.server.now())
	}
}

func (p *Participant) subscription(trackID string) *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subs[trackID]
}

func (p *Participant) subscriptionOf(ssrc uint32) *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bySSRC[ssrc]
}

// SendData sends a message over the subscriber's data channels. Lossy messages to a slow receiver are dropped; a reliable
// one gives [ErrOverflow], after which the receiver has a hole and should be closed.
func (p *Participant) SendData(reliable bool, b []byte) error {
	if len(b) > MaxData {
		return ErrTooLarge
	}
	t := p.transports[Subscriber].Load()
	if t == nil || t.closed.Load() {
		return ErrClosed
	}
	i := 0
	if reliable {
		i = 1
	}
	return t.channel[i].send(b)
}

func (p *Participant) dataReceived(reliable bool, b []byte) {
	if len(b) > MaxData {
		return
	}
	p.notify(DataReceived{Reliable: reliable, Payload: b})
}

// RestartICE restarts the ICE of the subscriber's peer connection with a new offer. The publisher's is restarted by the
// client's own offer, so for it there is nothing to do.
func (p *Participant) RestartICE(target Target) {
	if target == Subscriber {
		p.nego.restart()
	}
}

// transportUp feeds the subscriptions that waited for the transport.
func (p *Participant) transportUp(t *transport) {
	if t.out == nil {
		return
	}
	p.mu.Lock()
	subs := make([]*subscription, 0, len(p.subs))
	for _, s := range p.subs {
		subs = append(subs, s)
	}
	p.mu.Unlock()
	for _, s := range subs {
		s.mu.Lock()
		ready := s.out != nil && !s.ended
		s.mu.Unlock()
		if ready {
			p.feed(s)
		}
	}
}

func (p *Participant) feed(s *subscription) {
	s.pub.feed(s)
	p.reports.at(p.server.now() + senderReportInterval/4)
}

// sendReports is the alarm of sender reports.
func (p *Participant) sendReports(now time.Duration) time.Duration {
	t := p.transports[Subscriber].Load()
	if t == nil {
		return 0
	}
	p.mu.Lock()
	subs := make([]*subscription, 0, len(p.subs))
	for _, s := range p.subs {
		subs = append(subs, s)
	}
	p.mu.Unlock()
	if len(subs) == 0 {
		return 0
	}
	var out []rtcp.Packet
	wall := time.Now()
	for _, s := range subs {
		if r, ok := s.report(now, wall); ok {
			out = append(out, r...)
		}
		if len(out) >= 16 {
			t.writeRTCP(out) // stay below the MTU
			out = out[:0]
		}
	}
	if len(out) > 0 {
		t.writeRTCP(out)
	}
	return now + senderReportInterval
}

// guard turns a panic over outside input into an error: Pion parses it too, and a room must survive that.
func guard(log *slog.Logger, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic over a session description", "panic", r)
			err = refuse("it cannot be processed")
		}
	}()
	return f()
}

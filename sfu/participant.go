package sfu

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/forward"
)

// ParticipantConfig describes one who joins.
type ParticipantConfig struct {
	// Room is the key of the room to begin in; ID is the participant's session id, unique in the room.
	Room, ID string
	// Single asks for one peer connection, in the publisher's role, for both directions.
	Single bool
	// FullICE makes the server a full ICE agent instead of a lite one.
	FullICE bool
	// FixedCodec: the participant doesn't follow a track into another codec on the same m-line; it gets a new one.
	FixedCodec bool
	// Voices is how many microphones it takes at a time: see [Participant.SetVoices].
	Voices int
	// Notify is called for each event, one at a time and in order. It must neither block nor call the participant.
	Notify func(Event)
}

// defaultRTT is assumed before a round trip has been measured.
const defaultRTT = 100 * time.Millisecond

// maxRTT is the largest round trip that is believed.
const maxRTT = 10 * time.Second

// Participant is one session in a room. Its methods are safe for concurrent use.
type Participant struct {
	server *Server
	cfg    ParticipantConfig
	log    *slog.Logger

	channels  atomic.Int64 // data channels the client opened
	badRTCP   atomic.Uint64
	strayRTCP atomic.Uint64
	roundTrip atomic.Int64 // smoothed, 0 = unknown
	// estimatedRTT is that of the estimator, 0 = unknown. wanted is what the allocation told it, in bit/s.
	estimatedRTT, wanted atomic.Int64
	voices               atomic.Int32 // see SetVoices

	// transports by target; the publisher's is made by the first offer.
	transports [2]atomic.Pointer[transport]

	nego negotiation

	mu     sync.Mutex // guards the fields below it
	room   *room
	shown  map[string]*room // further rooms in which its tracks are found, by name
	tracks announced
	subs   map[string]*subscription
	bySSRC map[uint32]*subscription
	// subscribed counts the subscriptions there ever were.
	subscribed int
	closed     bool

	events    sync.Mutex
	silent    bool
	closeOnce sync.Once
	done      chan struct{} // closed by Close
	work      sync.WaitGroup

	reports *alarm
	// reportsSoon is how many sender reports are still to follow a senderReportInterval after the one before.
	reportsSoon atomic.Int32
	sharing     *allocation
	// speaking: the room's loudest speaker, or the last one.
	speaking atomic.Bool
	asking   *alarm          // see negotiation.unanswered; nil with two peer connections
	quality  connectionMeter // used by the sweep alone
	links    atomic.Pointer[Links]

	clockMu sync.Mutex
	clock   forward.SenderClock
}

// Join adds a participant to its room. With two peer connections it starts the subscriber's, whose first [OfferReady]
// follows at once; with a single one it waits for the client's offer.
func (s *Server) Join(cfg ParticipantConfig) (*Participant, error) {
	switch {
	case cfg.Room == "" || cfg.ID == "":
		return nil, errors.New("sfu: joining needs a room and an id")
	case cfg.Notify == nil:
		cfg.Notify = func(Event) {}
	}
	p := &Participant{server: s, cfg: cfg, log: s.log.With("room", cfg.Room, "participant", cfg.ID),
		tracks: newAnnounced(), subs: map[string]*subscription{}, bySSRC: map[uint32]*subscription{}, done: make(chan struct{})}
	p.nego.p = p
	p.SetVoices(cfg.Voices)
	p.reports = newAlarm(&s.works, s.now, p.sendReports)
	p.sharing = newAllocation(p)
	if err := s.enter(p); err != nil {
		return nil, err
	}
	if cfg.Single {
		p.asking = newAlarm(&s.works, s.now, p.nego.unanswered)
		if _, err := p.publisher(); err != nil {
			p.Close()
			return nil, err
		}
		return p, nil
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
		pubs := slices.Clone(p.tracks.order)
		subs := slices.Collect(maps.Values(p.subs))
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
		p.sharing.alarm.stop()
		if p.asking != nil {
			p.asking.stop()
		}
		p.work.Wait()
		for i := range p.transports {
			if t := p.transports[i].Load(); t != nil {
				t.close()
			}
		}
	})
}

// downlink returns the transport that carries the subscriptions, nil if there is none yet.
func (p *Participant) downlink() *transport {
	if p.cfg.Single {
		return p.transports[Publisher].Load()
	}
	return p.transports[Subscriber].Load()
}

func (p *Participant) ingest() *ingest {
	if t := p.transports[Publisher].Load(); t != nil {
		return t.in
	}
	return nil
}

// rtt returns the round trip to the participant.
func (p *Participant) rtt() time.Duration {
	if v := p.knownRTT(); v != 0 {
		return v
	}
	return defaultRTT
}

// knownRTT is the round trip as far as it is known: of reports, or of feedback, which waits up to 100 ms, so that the shorter
// one counts. 0 = unknown.
func (p *Participant) knownRTT() time.Duration {
	reported, estimated := p.roundTrip.Load(), p.estimatedRTT.Load()
	if reported == 0 || estimated != 0 && estimated < reported {
		return time.Duration(estimated)
	}
	return time.Duration(reported)
}

// observeRTT takes a round trip that a report shows. It may be too long, if the report had to wait, and is followed down at
// once: what is taken for longer than it is has packets refused that are asked for again.
func (p *Participant) observeRTT(rtt time.Duration) {
	switch old := time.Duration(p.roundTrip.Load()); {
	case old == 0:
		p.setRTT(rtt)
	case old > rtt:
		p.setRTT((old + 3*rtt) / 4)
	default:
		p.repairedRTT(rtt)
	}
}

// repairedRTT takes a round trip that a repair shows: too short if the packet was sent again unasked, as padding. So the first
// one isn't believed in full either.
func (p *Participant) repairedRTT(rtt time.Duration) {
	old := time.Duration(p.roundTrip.Load())
	if old == 0 {
		old = defaultRTT
	}
	p.setRTT((7*old + rtt) / 8)
}

func (p *Participant) setRTT(rtt time.Duration) {
	p.roundTrip.Store(int64(max(rtt, time.Microsecond)))
}

// subscriptions returns what the participant is subscribed to, in no order.
func (p *Participant) subscriptions() []*subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.subs))
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
	t, err := newTransport(p, Publisher, true, p.cfg.Single)
	if err != nil {
		return nil, err
	}
	if p.cfg.Single {
		t.awaitChannels()
	}
	p.transports[Publisher].Store(t)
	return t, nil
}

// SendData sends a message over the data channels: the subscriber's, or the client's own on a single peer connection.
// Lossy messages to a slow receiver are dropped; a reliable one gives [ErrOverflow], after which the receiver has a hole
// and should be closed. The message is kept until it has arrived: the caller doesn't change it.
func (p *Participant) SendData(reliable bool, b []byte) error {
	if len(b) > MaxData {
		return ErrTooLarge
	}
	t := p.downlink()
	if t == nil || t.closed.Load() {
		return ErrClosed
	}
	i := 0
	if reliable {
		i = 1
	}
	return t.channel[i].send(b)
}

// ResendData sends reliable messages again that the client says it lacks: the very slices that SendData was given. Those
// that are still on their way are left alone.
func (p *Participant) ResendData(list [][]byte) error {
	t := p.downlink()
	if t == nil || t.closed.Load() {
		return ErrClosed
	}
	return t.channel[1].resend(list)
}

func (p *Participant) dataReceived(reliable bool, b []byte) {
	if len(b) > MaxData {
		return
	}
	p.notify(DataReceived{Reliable: reliable, Payload: b})
}

// RestartICE restarts the ICE of the subscriber's peer connection with a new offer. The publisher's is restarted by the
// client's own offer, so for it there is nothing to do; on a single peer connection what was asked of the client, and may
// have been lost, is asked again.
func (p *Participant) RestartICE(target Target) {
	if target == Subscriber {
		p.nego.restart()
	}
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

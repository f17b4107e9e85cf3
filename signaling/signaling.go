package signaling

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// Config of a Server. Media and Keys must be set.
type Config struct {
	Media Media
	// Keys returns the secret of an API key.
	Keys func(apiKey string) (secret string, ok bool)
	// Authorize is asked, with a verified token that may join its room, on every join, resume and
	// refresh, and again once a join took effect; it may query a database. An error that is a *Refusal
	// ends or prevents the session with its status and text; any other error prevents joins and
	// resumes as a fault of ours, and lets the others be tried again. nil: the token alone decides.
	Authorize func(context.Context, wire.Claims, Occasion) (Admission, error)
	// ICEServers returns the TURN servers, with credentials, for an identity. nil: none.
	ICEServers func(identity string) []*wire.ICEServer
	// Measure returns what the media side knows of a participant's connection, by room id and participant id
	// (MediaConfig), and what it receives only if that is asked for. nil: nothing is known.
	Measure func(roomID, participantID string, received bool) Measured
	// Observe learns what happens in rooms. It must not block. nil: nobody does.
	Observe func(RoomEvent)
	// ClientAddr returns the address that join limits count. nil: the connection's.
	ClientAddr func(*http.Request) netip.Addr
	// Version of this server, for people. It does not gate features in SDKs: see ContractVersion.
	Version string
	// Codecs are the codecs a client may publish, video's preferred one first.
	// nil: audio/opus, audio/red, video/VP8, video/H264, video/VP9, video/AV1, video/H265.
	Codecs []*wire.Codec
	// TokenLifetime is the life of refreshed tokens; one is sent when half of it is over. A client
	// whose own token lives longer keeps that end. 0 is 2 minutes.
	TokenLifetime time.Duration
	Limits        Limits
	// Log receives what operators need. nil: slog.Default().
	Log *slog.Logger
}

// Limits of a Server. Zero values take the default named beside them.
type Limits struct {
	// Room bounds each room.
	Room room.Limits
	// Rooms at a time. 0 is 10,000.
	Rooms int
	// JoinsPerSecond and JoinBurst bound joins and resumes per client address (IPv6: per /64).
	// 0 is 50 per second and bursts of 200.
	JoinsPerSecond float64
	JoinBurst      int
	// CallsPerSecond and CallBurst bound calls of the server API per client address. 0 is 200 per
	// second and bursts of 1000.
	CallsPerSecond float64
	CallBurst      int
	// MessagesPerSecond and MessageBurst bound a client's messages, of which each counts once for every 4 KB begun, but for
	// session descriptions. 0 is 100 and 500.
	MessagesPerSecond float64
	MessageBurst      int
	// OffersPerSecond and OfferBurst bound a client's offers, each of which costs milliseconds. 0 is 30 and 100.
	OffersPerSecond float64
	OfferBurst      int
	// ToldPerSecond and ToldBurst bound, in bytes, what a participant's changes of itself make the server tell each of the
	// others. 0 is 256 KB and 1 MB.
	ToldPerSecond float64
	ToldBurst     int
	// QueuedMessages and QueuedBytes bound what waits to be written to one connection.
	// 0 is 1024 messages and 4 MB.
	QueuedMessages, QueuedBytes int
	// QueuedData bounds the bytes of data packets that wait for one participant, in each direction.
	// 0 is 4 MB.
	QueuedData int
	// PingInterval is how often clients are asked to ping, PingTimeout how long a connection may be
	// silent. 0 is 5 s and 15 s. Who is silent for one and a half intervals, or two thirds of the timeout
	// if that is less, gets a WebSocket ping.
	PingInterval, PingTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	count := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	rate := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	count(&l.Rooms, 10_000)
	rate(&l.JoinsPerSecond, 50)
	count(&l.JoinBurst, 200)
	rate(&l.CallsPerSecond, 200)
	count(&l.CallBurst, 1000)
	rate(&l.MessagesPerSecond, 100)
	count(&l.MessageBurst, 500)
	rate(&l.OffersPerSecond, 30)
	count(&l.OfferBurst, 100)
	rate(&l.ToldPerSecond, 256<<10)
	count(&l.ToldBurst, 1<<20)
	count(&l.QueuedMessages, 1024)
	count(&l.QueuedBytes, 4<<20)
	count(&l.QueuedData, 4<<20)
	span(&l.PingInterval, 5*time.Second)
	span(&l.PingTimeout, 15*time.Second)
	return l
}

// Occasion is why Authorize is asked.
type Occasion uint8

const (
	Join Occasion = iota + 1
	Resume
	Refresh
	// Joined: the participant is in the room now. Who lost the right to be there while it joined was
	// not there yet to be removed.
	Joined
)

func (o Occasion) String() string {
	switch o {
	case Join:
		return "join"
	case Resume:
		return "resume"
	case Refresh:
		return "refresh"
	case Joined:
		return "joined"
	}
	return "unknown"
}

// Admission is what Authorize knows better than the token. Empty fields leave the token's word.
type Admission struct {
	Name       string
	Metadata   string
	Attributes map[string]string // added to the token's; wire.VoicesAttribute only with a value that is one
}

// Refusal is Authorize's no.
type Refusal struct {
	// Status is an HTTP status: 403 when the bearer may not be in the room, 404 when there is no
	// such room (any more). 0 is 403.
	Status int
	// Text is for the person: one sentence.
	Text string
}

func (r *Refusal) Error() string { return r.Text }

// RoomEvent is something that happened in a room.
type RoomEvent struct {
	Kind          RoomEventKind
	Room          string // name
	RoomID        string // RM_…
	Identity      string // of the participant concerned
	ParticipantID string // PA_…
	TrackID       string // TR_…
	Reason        wire.DisconnectReason
	At            time.Time

	// What the API tells of the room, the participant and the track concerned, as they were then; nil
	// where none is. Receivers don't change them.
	RoomInfo    *wire.Room
	Participant *wire.ParticipantInfo
	Track       *wire.TrackInfo
	// NeverActive: this participant left before its media ever connected.
	NeverActive bool
	// EndReason of a room that finished.
	EndReason wire.RoomEndReason
}

// RoomEventKind says what happened.
type RoomEventKind uint8

const (
	RoomStarted RoomEventKind = iota + 1
	RoomFinished
	ParticipantJoined
	// ParticipantLost: the connection broke and the media is away; ParticipantBack or, after the
	// departure grace, ParticipantLeft follows.
	ParticipantLost
	ParticipantBack
	ParticipantLeft
	TrackPublished
	TrackUnpublished
	// ParticipantActive: the participant's media connected for the first time.
	ParticipantActive
)

// Speaker is a participant whose voice is heard, by participant id (MediaConfig.ID).
type Speaker struct {
	ParticipantID string
	Level         float32 // 0 to 1
}

// Server serves rooms.
type Server struct {
	cfg    Config
	log    *slog.Logger
	nodeID string
	joins  *addressLimiter
	calls  *addressLimiter
	// refreshing bounds the Authorize calls of refreshes that run at a time.
	refreshing chan struct{}

	mu      sync.Mutex
	rooms   map[string]*actor // by name
	byID    map[string]*actor // by room id
	conns   map[*conn]struct{}
	closing bool

	running sync.WaitGroup // actors, workers, connections, refreshes
}

// New returns a Server. Shutdown stops it.
func New(cfg Config) (*Server, error) {
	if cfg.Media == nil || cfg.Keys == nil {
		return nil, errors.New("signaling: Media and Keys must be set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.TokenLifetime <= 0 {
		cfg.TokenLifetime = 2 * time.Minute
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.Codecs == nil {
		cfg.Codecs = []*wire.Codec{{Mime: "audio/opus"}, {Mime: "audio/red"}, {Mime: "video/VP8"}, {Mime: "video/H264"},
			{Mime: "video/VP9"}, {Mime: "video/AV1"}, {Mime: "video/H265"}}
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return &Server{
		cfg: cfg, log: cfg.Log, nodeID: wire.NewNodeID(),
		joins:      newAddressLimiter(cfg.Limits.JoinsPerSecond, cfg.Limits.JoinBurst),
		calls:      newAddressLimiter(cfg.Limits.CallsPerSecond, cfg.Limits.CallBurst),
		refreshing: make(chan struct{}, 16),
		rooms:      map[string]*actor{}, byID: map[string]*actor{}, conns: map[*conn]struct{}{},
	}, nil
}

// errClosing and errRoomLimit are why post refuses to make a room.
var (
	errClosing   = errors.New("the server is shutting down")
	errRoomLimit = errors.New("the server has as many rooms as it may")
)

// post puts a message into the mailbox of a room, which is made when create is set. Finding the room
// and posting to it are one step, so that a room that ends in between takes the message along.
func (s *Server) post(name string, create bool, message func(*actor)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.rooms[name]
	switch {
	case a != nil:
		a.post(message)
		return nil
	case !create:
		return nil
	}
	return s.add(name, func(*actor) {}, message)
}

// enter takes a client to its room. A room that is made for it is as its token says.
func (s *Server) enter(j joining) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	message := func(a *actor) { a.onJoin(j) }
	if a := s.rooms[j.claims.Video.Room]; a != nil {
		a.post(message)
		return nil
	}
	return s.add(j.claims.Video.Room, func(a *actor) { a.configure(j.claims) }, message)
}

// tell posts a message to a room, if there is one of that name.
func (s *Server) tell(name string, message func(*actor)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.rooms[name]
	if a != nil {
		a.post(message)
	}
	return a != nil
}

// stopping reports whether the server shuts down.
func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// add makes a room, with s.mu held. arrange sees it before it runs.
func (s *Server) add(name string, arrange, message func(*actor)) error {
	switch {
	case s.closing:
		return errClosing
	case len(s.rooms) >= s.cfg.Limits.Rooms:
		return errRoomLimit
	}
	a := newActor(s, name)
	arrange(a)
	s.rooms[name] = a
	s.byID[a.room.ID()] = a
	a.post(message) // before it runs, or the empty room might end first
	s.running.Go(a.run)
	return nil
}

// retire ends an actor whose room is over, unless messages have arrived meanwhile.
func (s *Server) retire(a *actor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.box.empty() {
		return false
	}
	delete(s.rooms, a.name)
	delete(s.byID, a.room.ID())
	return true
}

// reopened tells the server that an actor has a new room.
func (s *Server) reopened(a *actor, oldID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, oldID)
	s.byID[a.room.ID()] = a
}

// ask runs f on a room's goroutine and waits for it. It reports whether there is such a room.
func (s *Server) ask(name string, f func(*actor)) bool {
	done := make(chan struct{})
	found := false
	s.mu.Lock()
	if a := s.rooms[name]; a != nil {
		found = true
		a.post(func(a *actor) { defer close(done); f(a) })
	}
	s.mu.Unlock()
	if found {
		<-done
	}
	return found
}

// Participants returns everybody in a room, hidden ones included, in the order of joining; nil when
// there is no such room.
func (s *Server) Participants(roomName string) []*wire.ParticipantInfo {
	var out []*wire.ParticipantInfo
	s.ask(roomName, func(a *actor) { out = participantInfos(a.room.Participants()) })
	return out
}

// Connected returns the identities in a room of whom anything is heard now, messages or media: not of
// those who are lost and may yet come back.
func (s *Server) Connected(roomName string) []string {
	var out []string
	s.ask(roomName, func(a *actor) { out = a.room.Connected() })
	return out
}

// Rooms returns the names of the rooms that exist now.
func (s *Server) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.rooms))
	for name := range s.rooms {
		names = append(names, name)
	}
	return names
}

// RemoveParticipant takes an identity out of a room; its client hears the reason and does not come
// back by itself. It reports whether the identity was there.
func (s *Server) RemoveParticipant(roomName, identity string, reason wire.DisconnectReason) bool {
	removed := false
	s.ask(roomName, func(a *actor) {
		if id, ok := a.room.IDOf(identity); ok {
			removed = true
			a.apply(a.room.Remove(time.Now(), id, reasonFromWire(reason), room.Disconnect))
		}
	})
	return removed
}

// CloseRoom takes everybody out and ends the room. It reports whether there was one.
func (s *Server) CloseRoom(roomName string, reason wire.DisconnectReason) bool {
	return s.ask(roomName, func(a *actor) {
		a.ends = wire.RoomEndDeleted
		a.apply(a.room.Close(time.Now(), reasonFromWire(reason), room.Disconnect))
	})
}

// SpeakersChanged tells a room, by its id (MediaConfig.Room), who speaks now, loudest first. It does
// not block.
func (s *Server) SpeakersChanged(roomID string, speakers []Speaker) {
	list := make([]room.Speaker, len(speakers))
	for i, sp := range speakers {
		list[i] = room.Speaker{Participant: sp.ParticipantID, Level: min(max(sp.Level, 0), 1), Active: true}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.byID[roomID]; a != nil {
		a.post(func(a *actor) { a.apply(a.room.Speakers(time.Now(), list)) })
	}
}

// Shutdown ends all rooms, telling clients to reconnect, and waits until nothing of them runs any
// more or ctx is done. New joins are refused with 503.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for _, a := range s.rooms {
		a.post(func(a *actor) {
			a.ends = wire.RoomEndShutdown
			a.apply(a.room.Close(time.Now(), room.ServerShutdown, room.Reconnect))
		})
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	// The rest are sockets whose peers don't read: cut them.
	s.mu.Lock()
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	return ctx.Err()
}

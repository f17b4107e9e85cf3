package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to load and how.
type Config struct {
	// URL of the server: ws, wss, http or https.
	URL string
	// Key and Secret sign the tokens.
	Key, Secret string
	// Room is the beginning of the rooms' names; "" is "load".
	Room string
	// Rooms is how many rooms there are, 1 at least. The following are for each of them.
	Rooms int
	// Publishers only send, Subscribers only receive, Members do both.
	Publishers, Subscribers, Members int
	// Video and Audio are what is sent: a camera in three simulcast layers, a microphone.
	Video, Audio bool
	// Codec of video, VP8 or H264; "" is VP8.
	Codec string
	// Single uses one peer connection per participant, not two.
	Single bool
	// Relay sends and receives through the TURN server that the server names, over UDP.
	Relay bool
	// Burst sends the packets of a frame at once, not over a third of the time to the next.
	Burst bool
	// WarmUp passes after the last join before the measuring, which takes Duration.
	WarmUp, Duration time.Duration
	// JoinRate is how many join per second; 0 is 20.
	JoinRate float64
	// JoinTimeout bounds one join; 0 is 15 s.
	JoinTimeout time.Duration
	// ServerPID is the server's process on this machine; 0: its CPU isn't measured.
	ServerPID int
	// Log receives what goes wrong in the background. nil: nowhere.
	Log *slog.Logger
}

// Most of what may be asked for: one generator on one machine.
const (
	maxRooms        = 10_000
	maxParticipants = 20_000
	maxTracks       = 200_000 // received, of all
	maxDuration     = 24 * time.Hour
	maxJoinRate     = 1000
	defaultJoinRate = 20
	defaultTimeout  = 15 * time.Second
	// joining bounds the joins under way.
	joining = 100
)

// check fills in defaults and returns what is wrong.
func (c *Config) check() error {
	if c.Room == "" {
		c.Room = "load"
	}
	if c.Codec == "" {
		c.Codec = VP8
	}
	if c.JoinRate == 0 {
		c.JoinRate = defaultJoinRate
	}
	if c.JoinTimeout == 0 {
		c.JoinTimeout = defaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("url: expected ws://host:port or wss://host, got %q", c.URL)
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return fmt.Errorf("url: expected ws://host:port or wss://host, got %q", c.URL)
	}
	each := c.Publishers + c.Members + c.Subscribers
	tracks := c.Rooms * c.expected()
	switch {
	case c.Key == "" || c.Secret == "":
		return errors.New("the API key and secret are required: they sign the participants' tokens")
	case len(c.Room) > 100:
		return errors.New("room: expected 100 characters at most")
	case c.Rooms < 1 || c.Rooms > maxRooms:
		return fmt.Errorf("rooms: expected 1 to %d, got %d", maxRooms, c.Rooms)
	case c.Publishers < 0 || c.Members < 0 || c.Subscribers < 0:
		return errors.New("publishers, members and subscribers: expected 0 or more")
	case c.Publishers+c.Members == 0:
		return errors.New("nobody sends: set publishers or members")
	case !c.Video && !c.Audio:
		return errors.New("nothing is sent: set video or audio")
	case each > maxParticipants/c.Rooms:
		return fmt.Errorf("participants: expected %d at most in all rooms, got %d in each of %d", maxParticipants, each, c.Rooms)
	case tracks > maxTracks:
		return fmt.Errorf("received tracks: expected %d at most, got %d", maxTracks, tracks)
	case tracks == 0:
		return errors.New("nobody receives: set subscribers, or more than one member")
	case c.Codec != VP8 && c.Codec != H264:
		return fmt.Errorf("codec: expected %s or %s, got %q", VP8, H264, c.Codec)
	case c.Duration <= 0 || c.Duration > maxDuration:
		return fmt.Errorf("duration: expected more than 0 and %v at most, got %v", maxDuration, c.Duration)
	case c.WarmUp < 0 || c.WarmUp > maxDuration:
		return fmt.Errorf("warm-up: expected 0 to %v, got %v", maxDuration, c.WarmUp)
	case !(c.JoinRate > 0 && c.JoinRate <= maxJoinRate):
		return fmt.Errorf("join rate: expected more than 0 and %d per second at most, got %v", maxJoinRate, c.JoinRate)
	case c.ServerPID < 0:
		return fmt.Errorf("server pid: expected a process id, got %d", c.ServerPID)
	}
	return nil
}

// kinds is how many tracks each one who sends has.
func (c *Config) kinds() int { return b2i(c.Video) + b2i(c.Audio) }

// expected is how many tracks are received in a room, by all together.
func (c *Config) expected() int {
	senders := c.Publishers + c.Members
	return c.kinds() * (c.Subscribers*senders + c.Members*(senders-1))
}

// generator is one run.
type generator struct {
	cfg      Config
	run      uint32
	base     time.Time
	interval time.Duration
	local    netip.Addr
	secrets  secrets
	sent     atomic.Uint64 // packets of all publishers
	late     atomic.Uint64 // frames that left late
	profile  atomic.Value  // of SRTP, a string

	work sync.WaitGroup // readers of lines and publishers

	mu           sync.Mutex
	participants []*participant
	joined       int
	failures     []error
	phase        Phase
	began        totals        // when the measuring began
	since        time.Duration // when that was
	until        time.Duration // when it shall end
}

// now is the generator's monotonic clock.
func (g *generator) now() time.Duration { return time.Since(g.base) }

// Phase is what a run is at.
type Phase string

// The phases, in their order.
const (
	Joining   Phase = "joining"
	WarmingUp Phase = "warming up"
	Measuring Phase = "measuring"
	Leaving   Phase = "leaving"
)

// Progress tells where a run is.
type Progress struct {
	Phase Phase
	// Share of the phase that is over, 0 to 1.
	Share float64
	// Joined of Participants, and how many could not.
	Joined, Participants, Failed int
	// Live is what the last second was like; nil in the first.
	Live *Report
}

// Run loads the server and returns what was measured. progress, if set, is called every second, on one goroutine. A canceled
// context ends the run early: the report then tells of what was measured so far. An error means that there is no report.
func Run(ctx context.Context, cfg Config, progress func(Progress)) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	g := &generator{
		cfg: cfg, run: rand.Uint32() & (1<<28 - 1), base: time.Now(), interval: time.Second / frameRate,
		secrets: secrets{by: map[[32]byte][]byte{}}, phase: Joining,
	}
	if g.local, err = localAddress(u.Hostname()); err != nil {
		return nil, err
	}
	if cfg.ServerPID > 0 {
		if _, err := usageOf(cfg.ServerPID); err != nil {
			return nil, err
		}
	}
	inner, cancel := context.WithCancel(ctx)
	defer g.close(cancel)
	if progress != nil {
		stop := make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() { g.watch(stop, progress) })
		defer watching.Wait()
		defer close(stop)
	}
	if err := g.joinAll(inner); err != nil {
		return nil, err
	}
	g.enter(WarmingUp, cfg.WarmUp)
	pause(inner, cfg.WarmUp)
	interrupted := inner.Err() != nil
	if !interrupted {
		began := g.sum()
		g.mu.Lock()
		g.began = began
		g.mu.Unlock()
		g.enter(Measuring, cfg.Duration)
		pause(inner, cfg.Duration)
		interrupted = inner.Err() != nil
	}
	end := g.sum()
	report := g.report(end, g.began)
	report.Interrupted = interrupted
	g.enter(Leaving, 0)
	return report, nil
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (g *generator) enter(p Phase, takes time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase, g.since = p, g.now()
	g.until = g.since + takes
}

// watch tells of the progress until stop.
func (g *generator) watch(stop <-chan struct{}, progress func(Progress)) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last := g.sum()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		current := g.sum()
		p := g.progress()
		p.Live = g.report(current, last)
		last = current
		progress(p)
	}
}

func (g *generator) progress() Progress {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := Progress{Phase: g.phase, Joined: g.joined, Participants: g.all(), Failed: len(g.failures), Share: 1}
	switch takes := g.until - g.since; {
	case g.phase == Joining:
		p.Share = float64(p.Joined+p.Failed) / float64(p.Participants)
	case takes > 0:
		p.Share = min(float64(g.now()-g.since)/float64(takes), 1)
	}
	return p
}

// all is how many participants there shall be.
func (g *generator) all() int {
	return g.cfg.Rooms * (g.cfg.Publishers + g.cfg.Members + g.cfg.Subscribers)
}

// close ends everything that the run began.
func (g *generator) close(cancel context.CancelFunc) {
	cancel() // publishers stop
	g.mu.Lock()
	list := g.participants
	g.mu.Unlock()
	var leaving sync.WaitGroup
	gate := make(chan struct{}, joining)
	for _, p := range list {
		gate <- struct{}{}
		leaving.Go(func() {
			defer func() { <-gate }()
			p.close()
		})
	}
	leaving.Wait()
	g.work.Wait()
}

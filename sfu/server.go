package sfu

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"anytime/sfu/speakers"
	"anytime/sfu/udp"

	pion "github.com/pion/transport/v4"
	"github.com/pion/webrtc/v4"
)

// Config configures a [Server]. The zero value listens on the default ports and announces every address of the host.
type Config struct {
	// UDPAddr and TCPAddr are the media ports, host:port; empty means ":7882" and ":7881". TCPAddr "off" means no ICE-TCP.
	UDPAddr, TCPAddr string
	// NodeIPs are the addresses to announce, for a host behind NAT; empty means those of the host's interfaces.
	NodeIPs []netip.Addr
	// Loopback announces 127.0.0.1 and ::1 too. They are announced anyway when there is nothing else.
	Loopback bool
	// BatchDelay is the most that packets of a video wait for the rest of their frame when nothing more is at hand: only where
	// several follow and the rest has come soon of late. 0 means 1 ms, negative none.
	BatchDelay time.Duration
	// StartBitrate, MinBitrate and MaxBitrate are of the estimate of what the path to a subscriber takes, in bit/s: where it
	// begins, and its bounds. 0 means 500,000, 50,000 and 100,000,000.
	StartBitrate, MinBitrate, MaxBitrate int64
	// UDPPath is the best way of passing datagrams to the kernel that is used; 0 is the best that there is.
	UDPPath udp.Path
	// Net replaces the operating system's network, without TCP; nil means the operating system.
	Net pion.Net
	// Speakers, if set, is called when the active speakers of a room change, at most every 300 ms: those active, the loudest
	// first, then those who have just stopped. It must not block.
	Speakers func(room string, list []Speaker)
	// Voices chooses, in rooms of many open microphones, those that are forwarded.
	Voices Voices
	// Limits bounds what one participant may do.
	Limits Limits
	// Log is nil for slog.Default().
	Log *slog.Logger
}

// Limits bounds what one participant may do. Zero values mean the defaults.
type Limits struct {
	// Publications per participant; 0 means 16.
	Publications int
	// Subscriptions per participant; 0 means 190, which leaves room in the 200 m-lines of a session description.
	Subscriptions int
}

// Speaker is an active speaker, or one who has just stopped.
type Speaker = speakers.Speaker

// Voices tunes the choice of microphones in large rooms; every zero value has a default.
type Voices = speakers.LoudestConfig

// Errors that callers may branch on.
var (
	// ErrClosed means that the server or the participant has been closed.
	ErrClosed = errors.New("sfu: closed")
	// ErrExists means that the participant or track id is in use.
	ErrExists = errors.New("sfu: id is in use")
	// ErrUnknownTrack means that no such track is published in the room.
	ErrUnknownTrack = errors.New("sfu: no such track in this room")
	// ErrLimit is matched by errors about a limit; they say which.
	ErrLimit = errors.New("sfu: limit reached")
	// ErrStaleAnswer means that the answer isn't to the outstanding offer. It can be ignored.
	ErrStaleAnswer = errors.New("sfu: the answer is not to the outstanding offer")
	// ErrCodec means that the subscriber can't receive the track's codec.
	ErrCodec = errors.New("sfu: the subscriber does not support the codec of the track")
)

// Server forwards media between the participants of rooms.
type Server struct {
	cfg         Config
	log         *slog.Logger
	pionLog     pionLog
	mux         *mux
	host        pion.Net
	certificate webrtc.Certificate
	media       *webrtc.MediaEngine
	start       time.Time
	totals      totals
	works       clockwork
	crew        *crew

	mu     sync.Mutex
	rooms  map[string]*room
	closed bool
	// heldBack counts the packets that were held back in rooms that have ended.
	heldBack uint64

	stop chan struct{}
	done sync.WaitGroup
}

// New opens the media ports and starts serving.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Limits.Publications <= 0 {
		cfg.Limits.Publications = 16
	}
	if cfg.Limits.Subscriptions <= 0 || cfg.Limits.Subscriptions > maxSections-10 {
		cfg.Limits.Subscriptions = maxSections - 10
	}
	certificate, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("making the DTLS certificate: %w", err)
	}
	media, err := mediaEngine()
	if err != nil {
		return nil, fmt.Errorf("telling Pion the codec of a stub: %w", err)
	}
	s := &Server{cfg: cfg, media: media, log: cfg.Log, pionLog: pionLog{log: cfg.Log}, certificate: certificate, start: time.Now(),
		rooms: map[string]*room{}, stop: make(chan struct{})}
	if s.mux, s.host, err = listen(cfg, s.now); err != nil {
		return nil, err
	}
	s.crew = newCrew(runtime.GOMAXPROCS(0)-1, s.stop)
	s.done.Add(2)
	go s.watchSpeakers()
	go s.watchStreams()
	return s, nil
}

// now is server time: monotonic, since New.
func (s *Server) now() time.Duration { return time.Since(s.start) }

// UDPAddr returns the address of the media port.
func (s *Server) UDPAddr() netip.AddrPort { return s.mux.port.Addr() }

// TCPAddr returns the address of the ICE-TCP port; it isn't valid when there is none.
func (s *Server) TCPAddr() netip.AddrPort {
	if s.mux.tcp == nil {
		return netip.AddrPort{}
	}
	return addrPort(s.mux.tcp.Addr())
}

// Addrs returns the addresses that candidates announce. A TURN server may restrict its relays to them.
func (s *Server) Addrs() []netip.Addr { return slices.Clone(s.mux.addrs) }

func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		p = a.AddrPort()
	case *net.TCPAddr:
		p = a.AddrPort()
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Close ends all rooms and closes the ports. Nothing runs any more when it returns.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var all []*Participant
	for _, r := range s.rooms {
		all = append(all, r.list()...)
	}
	s.mu.Unlock()
	close(s.stop)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(p.Close)
	}
	wg.Wait()
	s.done.Wait()
	s.crew.close()
	err := s.mux.Close()
	s.works.stop()
	return err
}

// enter adds p to its room, which is made if need be.
func (s *Server) enter(p *Participant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	r := s.named(p.cfg.Room)
	if !r.add(p) {
		return fmt.Errorf("participant %s: %w", p.cfg.ID, ErrExists)
	}
	s.rooms[p.cfg.Room] = r
	p.room = r
	return nil
}

// leave takes p out of its room, which ends with its last participant, and its tracks out of others.
func (s *Server) leave(p *Participant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.forsake(p.room, p.room.remove(p))
	for name, r := range p.shown {
		delete(p.shown, name)
		s.forsake(r, r.remove(p))
	}
}

// watchSpeakers closes the intervals of all rooms' speaker detection.
func (s *Server) watchSpeakers() {
	defer s.done.Done()
	t := time.NewTicker(speakers.Interval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		s.mu.Lock()
		rooms := make([]*room, 0, len(s.rooms))
		for _, r := range s.rooms {
			rooms = append(rooms, r)
		}
		s.mu.Unlock()
		now := s.now()
		for _, r := range rooms {
			if list, changed := r.speakersAt(now); changed {
				r.attend(list, now)
				if s.cfg.Speakers != nil {
					s.cfg.Speakers(r.name, list)
				}
			}
		}
	}
}

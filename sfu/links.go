package sfu

import (
	"net/netip"
	"time"

	"anytime/sfu/alloc"
)

// Link is what was measured of one direction of a participant's connection over the last seconds.
type Link struct {
	// Measured: there were enough packets for Loss to mean something.
	Measured bool
	// Loss is the share of packets that were lost, 0 to 1, before any repair.
	Loss float64
	// Jitter is that of RFC 3550 section 6.4.1, the worst of the audio streams; 0 where there is none.
	Jitter time.Duration
	// Bitrate is in bits per second, RTP headers included.
	Bitrate uint64
}

// Links are both directions of a participant's connection. Up is from the participant to the server.
type Links struct {
	// RTT is the smoothed round trip, 0 while unknown: only who receives something tells it.
	RTT      time.Duration
	Up, Down Link
}

// Path is how the packets of a peer connection travel now, as the server sees it.
type Path struct {
	// TCP: over ICE-TCP.
	TCP bool
	// Remote is where the peer's packets come from, and not valid while there is no way. It serves to tell relays from
	// clients, and is shown to nobody.
	Remote netip.AddrPort
}

// Recent is how counters grew over the last seconds: recentSpan to twice that, and less in the beginning.
type Recent struct {
	// Span is how far back the figures reach, 0 while there are none.
	Span                         time.Duration
	Packets, Bytes, Frames, Lost uint64
}

// Measured reports whether there were enough packets for Loss to mean something.
func (r Recent) Measured() bool { return r.Packets+r.Lost >= measuredPackets }

// Loss is the share of packets that were lost, 0 to 1; 0 where too few were sent.
func (r Recent) Loss() float64 {
	if !r.Measured() {
		return 0
	}
	return float64(r.Lost) / float64(r.Packets+r.Lost)
}

// Bitrate is in bits per second.
func (r Recent) Bitrate() uint64 {
	if r.Span <= 0 {
		return 0
	}
	return uint64(float64(r.Bytes) * 8 / r.Span.Seconds())
}

// FPS is how many frames a second there were.
func (r Recent) FPS() float64 {
	if r.Span <= 0 {
		return 0
	}
	return float64(r.Frames) / r.Span.Seconds()
}

// recentSpan is how far apart the marks of [recent] lie.
const recentSpan = 3 * time.Second

// counted are counters at one moment, which is never 0.
type counted struct {
	at                     time.Duration
	packets, bytes, frames uint64
	lost                   int64
}

// recent remembers counters as they were a few seconds ago. It is pure.
type recent struct{ older, newer counted }

// follow marks the counters as they are now, every second or so, and returns how they grew.
func (r *recent) follow(now counted) Recent {
	r.mark(now)
	return r.since(now)
}

// mark takes the counters as they are now. It is to be called every second or so.
func (r *recent) mark(now counted) {
	switch {
	case r.newer.at == 0:
		r.older, r.newer = now, now
	case now.at-r.newer.at >= recentSpan:
		r.older, r.newer = r.newer, now
	}
}

// since returns how the counters grew up to now. Counters that began anew give 0.
func (r *recent) since(now counted) Recent {
	if r.older.at == 0 || now.at <= r.older.at {
		return Recent{}
	}
	grown := func(now, then uint64) uint64 {
		if now < then {
			return 0
		}
		return now - then
	}
	return Recent{
		Span: now.at - r.older.at, Packets: grown(now.packets, r.older.packets), Bytes: grown(now.bytes, r.older.bytes),
		Frames: grown(now.frames, r.older.frames), Lost: uint64(max(now.lost-r.older.lost, 0)),
	}
}

// add counts the packets of one stream in.
func (t *tally) add(r Recent) {
	if r.Packets > 0 {
		t.packets += int64(r.Packets + r.Lost)
		t.lost += int64(r.Lost)
	}
}

func (t *tally) link(bitrate uint64) Link {
	p := t.path(0)
	return Link{Measured: t.packets >= measuredPackets, Loss: p.loss, Jitter: p.jitter, Bitrate: bitrate}
}

// Links returns what was measured of the participant's connection, which is renewed every second.
func (p *Participant) Links() Links {
	if l := p.links.Load(); l != nil {
		return *l
	}
	return Links{}
}

// watchLinks renews what [Participant.Links] tells.
func (p *Participant) watchLinks(now time.Duration, pubs []*publication, subs []*subscription) {
	var up, down tally
	for _, pub := range pubs {
		for i := range pub.layers {
			if l := pub.layers[i].Load(); l != nil {
				l.watch(now, &up)
			}
		}
	}
	for _, s := range subs {
		s.watch(now, &down)
	}
	var in, out uint64 // bits per second
	for i := range p.transports {
		if t := p.transports[i].Load(); t != nil {
			received, sent := t.watch(now, &down)
			in, out = in+received, out+sent
		}
	}
	p.links.Store(&Links{RTT: p.knownRTT(), Up: up.link(in), Down: down.link(out)})
}

func (l *layer) watch(now time.Duration, up *tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recent.follow(l.counted(now))
	up.add(r)
	if l.pub.cfg.Kind == Audio && r.Packets > 0 {
		up.jitter = max(up.jitter, l.stats.Jitter)
	}
}

// counted returns the layer's counters. Called with l.mu held.
func (l *layer) counted(now time.Duration) counted {
	return counted{at: now, packets: l.stats.Packets, bytes: l.stats.Bytes, lost: l.stats.TotalLost}
}

func (s *subscription) watch(now time.Duration, down *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.recent.follow(s.counted(now))
	down.add(r)
	if s.pub.cfg.Kind == Audio && r.Packets > 0 {
		down.jitter = max(down.jitter, s.ownJitter())
	}
}

// counted returns the subscription's counters. Called with s.mu held.
func (s *subscription) counted(now time.Duration) counted {
	return counted{at: now, packets: s.stats.Packets, bytes: s.stats.Bytes, frames: s.frames, lost: s.stats.Lost}
}

// ownJitter is what the way from here adds to the jitter that the publisher's way has caused. Called with s.mu held.
func (s *subscription) ownJitter() time.Duration {
	if s.out == nil || s.out.source == nil {
		return 0
	}
	return max(s.stats.Jitter-s.out.source.jitter(), 0)
}

// watch returns the bits per second that the peer connection received and sent. Its transport-wide feedback takes the
// place of the streams' own reports: those count what their publishers' packets lost before they came here, too.
func (t *transport) watch(now time.Duration, down *tally) (received, sent uint64) {
	if t.in != nil {
		t.in.mu.Lock()
		c := counted{at: now, packets: t.in.stats.Packets, bytes: t.in.stats.Bytes}
		t.in.mu.Unlock()
		received = t.received.follow(c).Bitrate()
	}
	if t.out != nil {
		stats := t.out.snapshot()
		sent = t.sent.follow(counted{at: now, packets: stats.Packets, bytes: stats.Bytes}).Bitrate()
	}
	told := t.told()
	if r := t.reported.follow(counted{at: now, packets: told.Received, lost: int64(told.Lost)}); r.Measured() {
		down.packets, down.lost = int64(r.Packets+r.Lost), int64(r.Lost)
	}
	return received, sent
}

// Delivery is how a subscribed track fares on its way to one participant.
type Delivery struct {
	// Recent is what was sent of the track, and Lost on its way as the receiver reports it, its publisher's loss included.
	Recent Recent
	// Freezes counts the gaps of more than half a second in a video that was neither muted, disabled nor a still screen,
	// and FrozenFor adds them up.
	Freezes   uint64
	FrozenFor time.Duration
	// Muted by its publisher; Disabled by the subscriber; Paused: nothing comes though it should, as the subscriber was
	// told.
	Muted, Disabled, Paused bool
	// Starved: it would be more if the path to the subscriber took more.
	Starved bool
	// Sent is the layer of a video being sent, Wish the one that the subscriber's settings ask for, and Best the highest
	// that the publisher sends now: simulcast layers, or spatial layers of a stream that holds several. -1 for none, and for
	// audio.
	Sent, Wish, Best int
	// Width and Height are the size of the layer being sent as the publisher announced it, 0 where it didn't.
	Width, Height uint32
}

// delivery describes the subscription.
func (s *subscription) delivery(now time.Duration) Delivery {
	s.mu.Lock()
	out := Delivery{
		Recent: s.recent.since(s.counted(now)), Muted: s.pub.muted.Load(), Disabled: s.settings.Disabled, Paused: s.pause.told,
		Starved: s.allotted.Why == alloc.Bandwidth,
		Sent:    -1, Wish: -1, Best: -1,
	}
	out.Freezes, out.FrozenFor = s.freeze.total(now, !out.Muted && !out.Disabled && !s.starved)
	if s.pub.cfg.Kind == Video && s.out != nil && s.out.source != nil {
		o := s.out.source.offer(now)
		out.Sent, _ = o.forwarded(s.out.forwarder, s.out.temporal)
		out.Wish = int(s.allotted.Wanted.Spatial)
		for i := range o.layers {
			if o.layers[i].Temporal[0].Live {
				out.Best = i
			}
		}
		if out.Sent >= 0 {
			out.Width, out.Height = o.layers[out.Sent].Width, o.layers[out.Sent].Height
		}
	}
	s.mu.Unlock()
	return out
}

// Participant returns a participant of a room by their keys.
func (s *Server) Participant(room, id string) (*Participant, bool) {
	s.mu.Lock()
	r := s.rooms[room]
	s.mu.Unlock()
	if r == nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.participants[id]
	return p, p != nil
}

package speakers

import "time"

// Limits of [LoudestConfig].
const (
	// MaxLoudest bounds LoudestConfig.Forwarded.
	MaxLoudest = 16
	// MaxExempt bounds LoudestConfig.Exempt and LoudestConfig.Unlevelled.
	MaxExempt = 64
	// MaxOwned is how many of one owner's microphones are forwarded at a time, among the loudest and among those without
	// levels. Of its exempt tracks it is half of the places: an agent may speak several languages.
	MaxOwned = 2
)

// LoudestConfig tunes the selection; every zero value has a default.
type LoudestConfig struct {
	// Forwarded is how many microphones are forwarded at a time, 1 to [MaxLoudest]; 0 means 3.
	Forwarded int
	// Above is how many open microphones a room may have before any is held back; 0 means 8. It begins above that number, and
	// ends when a quarter fewer are open.
	Above int
	// Exempt is how many exempt tracks are forwarded at a time in such a room, at most [MaxExempt]; 0 means 8.
	Exempt int
	// Unlevelled is how many microphones that send no level are forwarded at a time, besides the loudest; at most
	// [MaxExempt], 0 means 3.
	Unlevelled int
}

// Loudest chooses, in a room of many microphones, the few that are forwarded. Every packet is decided when it comes, so
// that a new speaker needn't wait for a timer; what is held back are packets, not subscriptions.
//
// Each microphone is judged by itself (microphone.go): whether it sounds like speech at all, for how long, how loud, and
// whether it has spoken before. The chosen ones stand in slots, the strongest first; a microphone takes a slot when it
// [beats] the weakest of them. A packet costs at most a look at each slot, however many microphones there are.
//
// Its owner calls [Loudest.Add] for each audio track and [Loudest.Packet] for each packet, and serialises the calls. It
// allocates nothing per packet.
type Loudest struct {
	cfg        LoudestConfig
	slots      []*Microphone // the strongest first
	exempt     pool
	unlevelled pool
	gating     bool
	counts     LoudestCounts
}

// LoudestCounts is what [Loudest.Counts] reports.
type LoudestCounts struct {
	// Open counts the microphones that aren't muted, Exempt the exempt tracks.
	Open, Exempt int
	// Gating: microphones are being held back.
	Gating bool
	// Gated counts packets held back, Refused those among them of tracks that are exempt or have no level, Swaps slots that
	// a microphone took from another.
	Gated, Refused, Swaps uint64
}

// Packet is one packet of audio.
type Packet struct {
	// Level is in -dBov, 0 the loudest and 127 silence (RFC 6464 section 3), if HasLevel.
	Level    uint8
	HasLevel bool
	// Voice is the V bit beside the level. It counts if HasVoice: the extension was negotiated with vad=on (section 4).
	Voice, HasVoice bool
	// Length is the length of audio, as codec.Duration has it; 0 means 20 ms.
	Length time.Duration
	// Size is the length of the payload in bytes (of RED, that of the primary block); 0 means unknown.
	Size int
}

// Decision is what becomes of a packet.
type Decision struct {
	// Forward says that some subscriber gets it.
	Forward bool
	// Rank is its microphone's place among those chosen, from 0 for the strongest; 0 for what isn't subject to choice.
	Rank int
}

// For reports whether a subscriber who takes at most n microphones gets the packet; 0 means all that the room forwards.
func (d Decision) For(n int) bool { return d.Forward && (n <= 0 || d.Rank < n) }

// NewLoudest returns a selection without microphones.
func NewLoudest(cfg LoudestConfig) *Loudest {
	limit := func(v *int, zero, most int) {
		if *v <= 0 {
			*v = zero
		}
		*v = min(*v, most)
	}
	limit(&cfg.Forwarded, 3, MaxLoudest)
	limit(&cfg.Above, 8, 1<<30)
	limit(&cfg.Exempt, 8, MaxExempt)
	limit(&cfg.Unlevelled, 3, MaxExempt)
	return &Loudest{cfg: cfg, slots: make([]*Microphone, 0, cfg.Forwarded),
		exempt: newPool(cfg.Exempt, max(cfg.Exempt/2, 1)), unlevelled: newPool(cfg.Unlevelled, MaxOwned)}
}

// Add follows one more audio track. Exempt are agents, recorders, and the sound of a shared screen: they are forwarded
// whatever their level, up to a limit of their own that holds while microphones are held back. Tracks of one owner
// share its limits; without a name it is this track's alone.
func (l *Loudest) Add(owner string, exempt bool) *Microphone {
	m := &Microphone{owner: owner, exempt: exempt}
	if exempt {
		l.counts.Exempt++
	} else {
		l.open(1)
	}
	return m
}

// Remove forgets a track. Its packets are held back from now on.
func (l *Loudest) Remove(m *Microphone) {
	if m.removed {
		return
	}
	m.removed = true
	l.release(m)
	switch {
	case m.exempt:
		l.counts.Exempt--
	case !m.muted:
		l.open(-1)
	}
}

// SetMuted notes that a track was muted, which frees its slot at once, or unmuted.
func (l *Loudest) SetMuted(m *Microphone, muted bool) {
	if m.muted == muted || m.removed {
		return
	}
	m.muted = muted
	if muted {
		l.release(m)
		m.silence()
	}
	switch {
	case m.exempt:
	case muted:
		l.open(-1)
	default:
		l.open(1)
	}
}

// open counts microphones that come and go.
func (l *Loudest) open(n int) {
	l.counts.Open += n
	switch {
	case l.counts.Open > l.cfg.Above:
		l.gating = true
	case l.counts.Open <= l.cfg.Above-l.cfg.Above/4:
		l.gating = false
	}
}

// Counts returns what has been counted.
func (l *Loudest) Counts() LoudestCounts {
	c := l.counts
	c.Gating = l.gating
	return c
}

// Packet decides on one packet that came at server time now. Retransmissions, duplicates and padding are not to be passed.
// Packets of a muted track are held back.
func (l *Loudest) Packet(m *Microphone, p Packet, now time.Duration) Decision {
	d := l.decide(m, &p, now)
	if !d.Forward {
		l.counts.Gated++
	}
	return d
}

func (l *Loudest) decide(m *Microphone, p *Packet, now time.Duration) Decision {
	if m.muted || m.removed {
		return Decision{}
	}
	if m.exempt {
		return l.pooled(&l.exempt, m, p, now)
	}
	if m.levelless(p, now) {
		l.leave(m)
		return l.pooled(&l.unlevelled, m, p, now)
	}
	l.unlevelled.leave(m)
	if p.HasLevel && m.hear(p, now) {
		l.challenge(m, now)
	}
	if !l.gating {
		return Decision{Forward: true}
	}
	if i := l.slot(m); i >= 0 {
		return Decision{Forward: true, Rank: i}
	}
	return Decision{}
}

func (l *Loudest) pooled(pool *pool, m *Microphone, p *Packet, now time.Duration) Decision {
	if pool.take(m, !p.soundless(), now) || !l.gating {
		return Decision{Forward: true}
	}
	l.counts.Refused++
	return Decision{}
}

// challenge gives m, which has just been heard to speak, the slot that is its due.
func (l *Loudest) challenge(m *Microphone, now time.Duration) {
	i := l.slot(m)
	if i < 0 {
		if i = l.enter(m, now); i < 0 {
			return
		}
	}
	// Upwards past whom it beats, so that those who take fewer than all get the strongest.
	for ; i > 0 && beats(m, l.slots[i-1], now); i-- {
		l.slots[i], l.slots[i-1] = l.slots[i-1], m
	}
}

// sameOwner reports whether both tracks have the same owner.
func sameOwner(m, o *Microphone) bool { return m.owner != "" && m.owner == o.owner }

// enter gives m a slot, if one is free or it beats the weakest: of its owner's, if that has as many as it may. It returns -1 if
// not.
func (l *Loudest) enter(m *Microphone, now time.Duration) int {
	owned := 0
	for _, o := range l.slots {
		if sameOwner(m, o) {
			owned++
		}
	}
	full := owned >= MaxOwned
	if !full && len(l.slots) < cap(l.slots) {
		l.slots = append(l.slots, m)
		return len(l.slots) - 1
	}
	weakest := -1
	for i, o := range l.slots {
		if (!full || sameOwner(m, o)) && (weakest < 0 || weaker(o, l.slots[weakest], now)) {
			weakest = i
		}
	}
	if !beats(m, l.slots[weakest], now) {
		return -1
	}
	l.slots[weakest].lost = now
	l.counts.Swaps++
	last := len(l.slots) - 1
	copy(l.slots[weakest:], l.slots[weakest+1:])
	l.slots[last] = m
	return last
}

// slot returns the slot that m has, -1 if none.
func (l *Loudest) slot(m *Microphone) int {
	for i, o := range l.slots {
		if o == m {
			return i
		}
	}
	return -1
}

// leave frees m's slot.
func (l *Loudest) leave(m *Microphone) {
	if i := l.slot(m); i >= 0 {
		l.slots = append(l.slots[:i], l.slots[i+1:]...)
	}
}

func (l *Loudest) release(m *Microphone) {
	l.leave(m)
	l.exempt.leave(m)
	l.unlevelled.leave(m)
}

// pool is a number of places for tracks that can't be compared: who has one keeps it while it sounds.
type pool struct {
	places []place
	owned  int // of one owner at most
}

type place struct {
	m     *Microphone
	heard time.Duration
}

// vacant is how long a place may be without sound before another takes it.
const vacant = 2 * time.Second

func newPool(n, owned int) pool { return pool{places: make([]place, 0, n), owned: owned} }

// take gives m a place, or keeps it. It reports whether m has one.
func (p *pool) take(m *Microphone, sounds bool, now time.Duration) bool {
	own, free, owned := -1, -1, 0
	for i := range p.places {
		o := &p.places[i]
		idle := now-o.heard >= vacant
		switch {
		case o.m == m:
			own = i
		case idle && (free < 0 || o.heard < p.places[free].heard):
			free = i
		case !idle && sameOwner(m, o.m):
			owned++
		}
	}
	if own >= 0 && owned >= p.owned { // its owner's others have taken over
		p.leave(m)
		return false
	}
	switch {
	case own >= 0:
		if sounds {
			p.places[own].heard = max(p.places[own].heard, now)
		}
	case !sounds, owned >= p.owned:
		return false
	case len(p.places) < cap(p.places):
		p.places = append(p.places, place{m, now})
	case free >= 0:
		p.places[free] = place{m, now}
	default:
		return false
	}
	return true
}

func (p *pool) leave(m *Microphone) {
	for i := range p.places {
		if p.places[i].m == m {
			last := len(p.places) - 1
			p.places[i] = p.places[last]
			p.places[last] = place{}
			p.places = p.places[:last]
			return
		}
	}
}

package history

import "time"

// MissingConfig bounds [Missing].
type MissingConfig struct {
	// Size is the most sequence numbers kept at once; 0 means 512. When a gap doesn't fit, all is forgotten and the caller
	// is told to ask for a keyframe.
	Size int
	// MaxTries is how often one number is NACKed; 0 means 10, as libwebrtc does.
	MaxTries int
	// MaxAge is how long one number is waited for; 0 means 1.5 s.
	MaxAge time.Duration
	// Reorder is how long to wait before the first NACK, for packets that are merely out of order; 0 means 10 ms,
	// negative none. Where packets come later than that by themselves, the wait grows to MaxReorder; 0 means 60 ms.
	Reorder, MaxReorder time.Duration
	// MinSpacing is the least time between NACKs of one number, when the round trip is shorter; 0 means 20 ms.
	MinSpacing time.Duration
}

// Missing is the set of sequence numbers of one received stream that haven't come, and when to NACK them.
type Missing struct {
	cfg     MissingConfig
	entries []missingEntry // ascending by sequence
	highest uint64
	started bool
	reorder time.Duration // the wait before the first NACK
	rtt     time.Duration // as given last
}

type missingEntry struct {
	sequence    uint64
	since, last time.Duration
	tries       int32
}

// NewMissing returns an empty set.
func NewMissing(cfg MissingConfig) *Missing {
	if cfg.Size <= 0 {
		cfg.Size = 512
	}
	if cfg.MaxTries <= 0 {
		cfg.MaxTries = 10
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 1500 * time.Millisecond
	}
	if cfg.Reorder == 0 {
		cfg.Reorder = 10 * time.Millisecond
	}
	if cfg.MaxReorder == 0 {
		cfg.MaxReorder = 60 * time.Millisecond
	}
	if cfg.MinSpacing <= 0 {
		cfg.MinSpacing = 20 * time.Millisecond
	}
	return &Missing{cfg: cfg, reorder: max(cfg.Reorder, 0)}
}

// Packet notes the arrival of an extended sequence number (see [Reception]). overflow reports that a gap was too large to
// repair: everything was forgotten, and video needs a keyframe.
func (m *Missing) Packet(sequence uint64, now time.Duration) (overflow bool) {
	if !m.started {
		m.started, m.highest = true, sequence
		return false
	}
	if sequence <= m.highest {
		if e, ok := m.remove(sequence); ok && m.cfg.Reorder >= 0 {
			m.late(&e, now)
		}
		return false
	}
	gap := sequence - m.highest - 1
	if gap > uint64(m.cfg.Size-len(m.entries)) {
		m.entries = m.entries[:0]
		m.highest = sequence
		return true
	}
	for s := m.highest + 1; s < sequence; s++ {
		m.entries = append(m.entries, missingEntry{sequence: s, since: now})
	}
	m.highest = sequence
	return false
}

// late learns from a packet that filled a gap without RTX: it was out of order, unless there was time for an answer.
func (m *Missing) late(e *missingEntry, now time.Duration) {
	if e.tries > 1 || e.tries == 1 && now-e.last > m.rtt/2 {
		return
	}
	if late := now - e.since; late > m.reorder {
		m.reorder = min(late+late/4, m.cfg.MaxReorder)
	}
}

// Recovered notes that a sequence number has come over RTX. rtt is how long after the only NACK of it; ok is false where
// that isn't known, because there were none or several.
func (m *Missing) Recovered(sequence uint64, now time.Duration) (rtt time.Duration, ok bool) {
	e, found := m.remove(sequence)
	if !found {
		return 0, false
	}
	// It was lost and not late: the wait was in vain.
	if least := max(m.cfg.Reorder, 0); m.reorder > least {
		m.reorder -= (m.reorder-least)/16 + 1
	}
	return now - e.last, e.tries == 1
}

func (m *Missing) remove(sequence uint64) (e missingEntry, ok bool) {
	lo, hi := 0, len(m.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if m.entries[mid].sequence < sequence {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(m.entries) || m.entries[lo].sequence != sequence {
		return e, false
	}
	e = m.entries[lo]
	m.entries = append(m.entries[:lo], m.entries[lo+1:]...)
	return e, true
}

// spacing is the time between two NACKs of one number: a retransmission needs a round trip, and asking again earlier only
// doubles it. A quarter more allows for its jitter.
func (m *Missing) spacing(rtt time.Duration) time.Duration { return max(rtt+rtt/4, m.cfg.MinSpacing) }

// Due appends to dst the sequence numbers to NACK now, ascending, and counts them as asked for. Numbers too old or asked
// for too often are given up; lost is how many: when it isn't zero, video needs a keyframe unless the loss was in a
// frame nobody depends on.
func (m *Missing) Due(now, rtt time.Duration, dst []uint64) (_ []uint64, lost int) {
	m.rtt = rtt
	spacing := m.spacing(rtt)
	kept := m.entries[:0]
	for _, e := range m.entries {
		switch {
		case now-e.since > m.cfg.MaxAge, int(e.tries) >= m.cfg.MaxTries && now-e.last >= spacing:
			lost++
			continue
		case int(e.tries) >= m.cfg.MaxTries:
		case e.tries == 0 && now-e.since >= m.reorder, e.tries > 0 && now-e.last >= spacing:
			e.tries++
			e.last = now
			dst = append(dst, e.sequence)
		}
		kept = append(kept, e)
	}
	m.entries = kept
	return dst, lost
}

// Next returns when [Missing.Due] has something to say next, in the past if it is overdue. ok is false when nothing is
// missing.
func (m *Missing) Next(rtt time.Duration) (at time.Duration, ok bool) {
	spacing := m.spacing(rtt)
	for i := range m.entries {
		e := &m.entries[i]
		due := e.since + m.reorder
		if e.tries > 0 {
			due = e.last + spacing
		}
		if due = min(due, e.since+m.cfg.MaxAge+1); !ok || due < at {
			at, ok = due, true
		}
	}
	return at, ok
}

// Reset forgets everything: the source restarted, or a keyframe made the past irrelevant.
func (m *Missing) Reset() { m.entries, m.started = m.entries[:0], false }

// Len returns how many sequence numbers are missing.
func (m *Missing) Len() int { return len(m.entries) }

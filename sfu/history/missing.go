package history

import "time"

// MissingConfig bounds [Missing].
type MissingConfig struct {
	// Size is the most sequence numbers kept at once; 0 means 512. When a gap doesn't fit, all is forgotten and the caller
	// is told to ask for a keyframe.
	Size int
	// MaxTries is how often one number is NACKed; 0 means 8.
	MaxTries int
	// MaxAge is how long one number is waited for; 0 means 1.5 s.
	MaxAge time.Duration
	// Reorder is how long to wait before the first NACK, for packets that are merely out of order; 0 means 10 ms,
	// negative none.
	Reorder time.Duration
	// MinSpacing is the least time between NACKs of one number, when the round trip is shorter; 0 means 20 ms.
	MinSpacing time.Duration
}

// Missing is the set of sequence numbers of one received stream that haven't come, and when to NACK them.
type Missing struct {
	cfg     MissingConfig
	entries []missingEntry // ascending by sequence
	highest uint64
	started bool
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
		cfg.MaxTries = 8
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 1500 * time.Millisecond
	}
	if cfg.Reorder == 0 {
		cfg.Reorder = 10 * time.Millisecond
	}
	if cfg.MinSpacing <= 0 {
		cfg.MinSpacing = 20 * time.Millisecond
	}
	return &Missing{cfg: cfg, entries: make([]missingEntry, 0, cfg.Size)}
}

// Packet notes the arrival of an extended sequence number (see [Reception]), recovered ones too. overflow reports that a
// gap was too large to repair: everything was forgotten, and video needs a keyframe.
func (m *Missing) Packet(sequence uint64, now time.Duration) (overflow bool) {
	if !m.started {
		m.started, m.highest = true, sequence
		return false
	}
	if sequence <= m.highest {
		m.remove(sequence)
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

func (m *Missing) remove(sequence uint64) {
	lo, hi := 0, len(m.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if m.entries[mid].sequence < sequence {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(m.entries) && m.entries[lo].sequence == sequence {
		m.entries = append(m.entries[:lo], m.entries[lo+1:]...)
	}
}

// Due appends to dst the sequence numbers to NACK now, ascending, and counts them as asked for. Numbers too old or asked
// for too often are given up; lost is how many: when it isn't zero, video needs a keyframe unless the loss was in a
// frame nobody depends on.
func (m *Missing) Due(now, rtt time.Duration, dst []uint64) (_ []uint64, lost int) {
	// A retransmission needs a round trip; asking again earlier only doubles it. A quarter more allows for its jitter.
	spacing := max(rtt+rtt/4, m.cfg.MinSpacing)
	kept := m.entries[:0]
	for _, e := range m.entries {
		switch {
		case now-e.since > m.cfg.MaxAge, int(e.tries) >= m.cfg.MaxTries && now-e.last >= spacing:
			lost++
			continue
		case int(e.tries) >= m.cfg.MaxTries:
		case e.tries == 0 && now-e.since >= m.cfg.Reorder, e.tries > 0 && now-e.last >= spacing:
			e.tries++
			e.last = now
			dst = append(dst, e.sequence)
		}
		kept = append(kept, e)
	}
	m.entries = kept
	return dst, lost
}

// Reset forgets everything: the source restarted, or a keyframe made the past irrelevant.
func (m *Missing) Reset() { m.entries, m.started = m.entries[:0], false }

// Len returns how many sequence numbers are missing.
func (m *Missing) Len() int { return len(m.entries) }

// Package speakers tells who is talking in a room from the audio levels that packets carry (RFC 6464), without touching
// a payload. It is pure: levels and the time go in, decisions come out. There are two, which don't depend on each other:
//
//   - [Detector] (this file) makes the list of active speakers that people are shown. The owner calls [Detector.Add] for
//     each audio track, [Track.Observe] for each packet with a level, and [Detector.Update] about every [Interval]. Tracks
//     that are muted or send no level simply fall silent.
//   - [Loudest] (loudest.go, microphone.go) chooses the few microphones of a large room that are forwarded. The owner calls
//     [Loudest.Add] for each audio track and [Loudest.Packet] for each packet, and does as the [Decision] says.
//
// The owner serialises the calls of one detector, and of one selection.
package speakers

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Interval is the cadence at which [Detector.Update] does something.
const Interval = 300 * time.Millisecond

// Config tunes a detector; every zero value has a default.
type Config struct {
	// ActiveLevel in -dBov (1–127): packets at least as loud count as speech; 0 means 35.
	ActiveLevel uint8
	// ActiveShare is the least share of an interval with speech to become a speaker, 0–1; 0 means 0.4.
	ActiveShare float64
	// Hold is how long a speaker stays listed after falling silent; 0 means 500 ms.
	Hold time.Duration
}

const (
	stayShare     = 0.1                   // share of an interval with speech that keeps a speaker listed
	attack        = 0.7                   // weight of an interval louder than the smoothed level …
	decay         = 0.4                   // … and of one quieter
	orderRatio    = 1.4                   // a speaker moves up past one who is this factor (3 dB) quieter
	levelRatio    = 1.25                  // a level that changed by this factor …
	levelStep     = 0.02                  // … and by this much is worth telling
	packetLength  = 20 * time.Millisecond // RFC 7587 section 6.1: the default of "ptime"
	longestPacket = 120 * time.Millisecond
	slack         = 20 * time.Millisecond // by which a ticker may come early after having come late
)

// Speaker is one active speaker, or one who has just stopped.
type Speaker struct {
	// ID is the participant as given to [Detector.Add].
	ID string
	// Level is the smoothed amplitude, 0 (silence) to 1 (full scale): 10^(-L/20) of a level of L -dBov.
	Level float64
	// Active is false, and Level 0, for one who has stopped since the list before.
	Active bool
}

// Detector follows the audio tracks of one room.
type Detector struct {
	cfg      Config
	tracks   []*Track
	last     time.Duration
	started  bool
	reported []Speaker // the list that the caller has
	current  []Speaker
}

// Track is one audio track. Of a participant with several, the loudest counts.
type Track struct {
	id        string
	amplitude float64       // of loud packets since the last update, times their seconds
	loud      time.Duration // their duration
	level     float64       // smoothed over intervals
	active    bool
	lastLoud  time.Duration
	threshold uint8
}

// New returns a detector without tracks.
func New(cfg Config) *Detector {
	if cfg.ActiveLevel == 0 {
		cfg.ActiveLevel = 35
	}
	if cfg.ActiveShare == 0 {
		cfg.ActiveShare = 0.4
	}
	if cfg.Hold == 0 {
		cfg.Hold = 500 * time.Millisecond
	}
	return &Detector{cfg: cfg}
}

// Add follows one more track of participant id.
func (d *Detector) Add(id string) *Track {
	t := &Track{id: id, threshold: d.cfg.ActiveLevel}
	d.tracks = append(d.tracks, t)
	return t
}

// Remove forgets a track. Its participant, if listed and without another, is told as stopped by the next Update.
func (d *Detector) Remove(t *Track) {
	if i := slices.Index(d.tracks, t); i >= 0 {
		d.tracks = slices.Delete(d.tracks, i, i+1)
	}
}

// Observe notes the level of one packet in -dBov (0 the loudest, 127 silence) and the length of audio in it, as
// codec.Duration has it; 0 means 20 ms. Order and arrival within an interval don't matter.
func (t *Track) Observe(level uint8, length time.Duration) {
	if level > t.threshold || level >= 127 { // RFC 6464 section 3: 127 is digital silence
		return
	}
	if length <= 0 {
		length = packetLength
	}
	length = min(length, longestPacket)
	t.loud += length
	t.amplitude += amplitudes[level] * length.Seconds()
}

// Silence forgets what has been heard since the last update: the track was muted.
func (t *Track) Silence() { t.loud, t.amplitude, t.level, t.lastLoud = 0, 0, 0, -time.Hour }

// amplitudes is 10^(-L/20) for every level.
var amplitudes = func() (a [128]float64) {
	for l := range a[:127] {
		a[l] = math.Pow(10, -float64(l)/20)
	}
	return a
}()

// Update closes an interval, if one is over at server time now. When the speakers have changed in a way worth telling it
// appends to dst those active, the loudest first, then those who have stopped since the list before, and returns true.
// A speaker gives way to another only when clearly quieter, so that two equal voices don't take turns.
func (d *Detector) Update(now time.Duration, dst []Speaker) (_ []Speaker, changed bool) {
	if !d.started {
		d.started, d.last = true, now
		return dst, false
	}
	elapsed := now - d.last
	if elapsed < Interval-slack {
		return dst, false
	}
	d.last = now
	d.current = d.current[:0]
	// Those listed already come first and in their order: only a clear difference moves them, see order.
	for _, s := range d.reported {
		d.current = append(d.current, Speaker{ID: s.ID})
	}
	listed := len(d.current)
	for _, t := range d.tracks {
		t.close(now, elapsed, &d.cfg)
		if t.active {
			d.merge(t)
		}
	}
	slices.SortStableFunc(d.current[listed:], func(a, b Speaker) int { return cmp.Compare(b.Level, a.Level) })
	d.current = slices.DeleteFunc(d.current, func(s Speaker) bool { return !s.Active })
	order(d.current)
	if !d.worthTelling() {
		return dst, false
	}
	dst = append(dst, d.current...)
	for _, s := range d.reported {
		if !slices.ContainsFunc(d.current, func(c Speaker) bool { return c.ID == s.ID }) {
			dst = append(dst, Speaker{ID: s.ID})
		}
	}
	d.reported, d.current = d.current, d.reported
	return dst, true
}

// close takes the interval that ended into the smoothed level.
func (t *Track) close(now, elapsed time.Duration, cfg *Config) {
	share := min(t.loud.Seconds()/elapsed.Seconds(), 1)
	level := 0.0
	if t.loud > 0 {
		level = t.amplitude / t.loud.Seconds() * share
	}
	weight := decay
	if level > t.level {
		weight = attack
	}
	t.level += (level - t.level) * weight
	t.loud, t.amplitude = 0, 0
	switch {
	case share >= cfg.ActiveShare:
		t.active, t.lastLoud = true, now
	case t.active && share >= stayShare:
		t.lastLoud = now
	case t.active && now-t.lastLoud >= cfg.Hold:
		t.active, t.level = false, 0
	}
}

// merge adds an active track to the current list.
func (d *Detector) merge(t *Track) {
	for i := range d.current {
		if s := &d.current[i]; s.ID == t.id {
			s.Active, s.Level = true, max(s.Level, t.level)
			return
		}
	}
	d.current = append(d.current, Speaker{ID: t.id, Level: t.level, Active: true})
}

// order sorts by level, the loudest first, moving one up only past those clearly quieter.
func order(list []Speaker) {
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && list[j].Level > list[j-1].Level*orderRatio; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

// worthTelling reports whether the current list differs from the reported one in who, in which order, or how loud.
func (d *Detector) worthTelling() bool {
	if len(d.current) != len(d.reported) {
		return true
	}
	for i, s := range d.current {
		r := d.reported[i]
		low, high := min(s.Level, r.Level), max(s.Level, r.Level)
		if s.ID != r.ID || high > low*levelRatio && high-low > levelStep {
			return true
		}
	}
	return false
}

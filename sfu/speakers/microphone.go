package speakers

import "time"

// How a microphone is judged. Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing"
// (Computer Speech & Language 27, 2013), look at speech on three scales: the immediate (is this frame speech?), the medium
// (is it a word?) and the long (is it a speaker?); a new speaker must win on each. Here it is the packet, the run and the
// standing. Levels are those of RFC 6464 (a client's own), the same that RFC 6465 lets a mixer pass on; they are claims.
// What defends against false ones is comparison of each microphone with itself:
//
//   - Speech stands out from the microphone's own floor, the quietest level of its last seconds: between words every voice
//     falls back. A level that doesn't vary, however loud, is its own floor and stands out by nothing.
//   - Beyond loudEnough it doesn't help to be louder.
//   - Who speaks pauses to breathe. What has gone on for longer than endless without a pause isn't a speaker (music, a
//     machine, or a level made up) and yields to every one.
//   - Speech doesn't fit into the payload of silence (RFC 6716 section 2.1.1: Opus needs 6 kbit/s for it).
//   - No more audio is believed than there is time for.
//
// A level made up to look like speech, pauses included, with payloads to match, can't be told from speech without
// decoding it: it costs one slot. So does any false level for its first seconds.
const (
	speechLevel = 50 // -dBov: whatever is quieter isn't speech
	standsOut   = 10 // dB above the floor: speech begins
	stillOut    = 6  // dB above the floor: speech goes on
	unvoicedOut = 20 // dB above the floor, where the V bit says that it isn't voice
	loudEnough  = 20 // -dBov
	clearly     = 6  // dB by which one is louder than another
	deepest     = 75 // -dBov: no floor counts as quieter …
	assumed     = 50 // … and none as louder, in the first second

	floorSpan = 750 * time.Millisecond // of audio, of which the floor looks at the last floorSpans
	warmUp    = time.Second            // of audio

	silentRate = 4000 // bit/s: less isn't speech

	burst = 300 * time.Millisecond // of audio that may come at once
	stall = 40 * time.Millisecond  // without a packet: less is jitter

	// The medium scale. A run rises with speech and falls without.
	longestRun = 200 * time.Millisecond
	click      = 60 * time.Millisecond // of it: less may be a key being pressed
	sustained  = 100 * time.Millisecond

	// The long scale. Standing rises with sustained speech, and fades in standingFade times as long.
	mostStanding = 4 * time.Second
	standing     = 800 * time.Millisecond // more isn't a cough
	standingFade = 15
	cough        = 400 * time.Millisecond // rarely longer

	breath  = 250 * time.Millisecond
	endless = 10 * time.Second
	// unproven takes the place of endless until the first breath was heard.
	unproven = 3 * time.Second

	// Pauses of who has a slot.
	shortPause = 110 * time.Millisecond  // less is between two words
	lately     = time.Second             // who lost its slot since may take it back at once
	longPause  = 1500 * time.Millisecond // more is the end of a turn
	coughPause = 250 * time.Millisecond  // more is the end, of one without standing

	levelLost = 5 * time.Second // without any level
)

const floorSpans = 4

// Microphone is one audio track of a [Loudest].
type Microphone struct {
	owner                  string // empty: this track's alone
	exempt, muted, removed bool

	levelled  bool
	lastLevel time.Duration

	// The immediate scale.
	heard      bool
	last       time.Duration // latest packet
	credit     time.Duration // of audio that is believed
	audio      time.Duration // received in all, up to warmUp
	quietest   [floorSpans]uint8
	span       time.Duration // of audio in quietest[0]
	active     bool
	voiced     bool // it has sent V bits of 1
	lastActive time.Duration
	lost       time.Duration // its slot, to another

	run      time.Duration // medium
	loudness int32         // of speech, smoothed, in 1/16 -dBov
	speech   time.Duration // long, at speechAt
	speechAt time.Duration
	gap      time.Duration // without speech
	unbroken time.Duration // since the last breath
	breathed bool          // there has been one
}

// soundless reports that the payload is too small for speech.
func (p *Packet) soundless() bool {
	return p.Size > 0 && int64(p.Size)*8*int64(time.Second) < silentRate*int64(p.length())
}

func (p *Packet) length() time.Duration {
	if p.Length <= 0 {
		return packetLength
	}
	return min(p.Length, longestPacket)
}

// levelless reports whether the microphone sends no levels.
func (m *Microphone) levelless(p *Packet, now time.Duration) bool {
	switch {
	case p.HasLevel:
		m.levelled, m.lastLevel = true, now
	case m.levelled && now-m.lastLevel > levelLost:
		m.levelled = false
		m.silence()
	}
	return !m.levelled
}

// silence forgets the speech that was going on. The floor and the standing stay.
func (m *Microphone) silence() {
	m.active, m.run, m.gap, m.unbroken = false, 0, 0, 0
	m.lastActive, m.lost = -time.Hour, -time.Hour
}

// floor returns the microphone's own floor in -dBov.
func (m *Microphone) floor() uint8 {
	floor := uint8(0)
	for _, q := range m.quietest {
		floor = max(floor, q)
	}
	if m.audio < warmUp {
		floor = max(floor, assumed)
	}
	return min(floor, deepest)
}

// hear takes the level of a packet in and reports whether it is speech.
func (m *Microphone) hear(p *Packet, now time.Duration) bool {
	elapsed := max(now-m.last, 0)
	if !m.heard {
		m.heard, m.last, m.speechAt = true, now, now
		m.credit = burst
		m.silence()
		elapsed = 0
	}
	m.last = max(m.last, now)
	m.credit = min(m.credit+elapsed, burst)
	length := min(p.length(), m.credit)
	m.credit -= length
	if length <= 0 {
		return false
	}
	if idle := elapsed - length; idle > stall {
		m.run = max(m.run-idle, 0)
		if idle >= breath {
			m.breathe()
		}
	}
	level := p.Level & 0x7f
	m.sink(level, length)
	need := standsOut
	switch {
	case m.voiced && p.HasVoice && !p.Voice:
		need = unvoicedOut
	case m.active:
		need = stillOut
	}
	m.voiced = m.voiced || p.HasVoice && p.Voice
	m.active = level <= speechLevel && int(m.floor())-int(level) >= need && !p.soundless()
	m.unbroken = min(m.unbroken+length, endless)
	if !m.active {
		m.quiet(length)
		return false
	}
	m.speak(level, length, now)
	return true
}

// sink takes a level into the floor.
func (m *Microphone) sink(level uint8, length time.Duration) {
	if m.span >= floorSpan {
		copy(m.quietest[1:], m.quietest[:])
		m.quietest[0], m.span = 0, 0
	}
	m.quietest[0] = max(m.quietest[0], level)
	m.span += length
	m.audio = min(m.audio+length, warmUp)
}

// quiet notes time without speech.
func (m *Microphone) quiet(d time.Duration) {
	m.run = max(m.run-d, 0)
	if m.gap = min(m.gap+d, breath); m.gap == breath {
		m.breathe()
	}
}

func (m *Microphone) breathe() { m.unbroken, m.breathed = 0, true }

// speak notes a packet of speech.
func (m *Microphone) speak(level uint8, length, now time.Duration) {
	loudness := int32(max(level, loudEnough)) * 16
	if m.run > 0 {
		// That of syllables, not of what lies between them.
		weight := int32(64)
		if loudness < m.loudness {
			weight = 2
		}
		loudness = m.loudness + (loudness-m.loudness)/weight
	}
	m.loudness = loudness
	m.run = min(m.run+length, longestRun)
	m.gap = 0
	m.lastActive = max(m.lastActive, now)
	switch {
	case m.endless():
		m.speech = 0
	case m.run >= sustained && m.breathed:
		m.speech = min(m.lasting(now)+length, mostStanding)
		m.speechAt = max(m.speechAt, now)
	}
}

// lasting returns what is left of the speech that was heard.
func (m *Microphone) lasting(now time.Duration) time.Duration {
	return max(m.speech-max(now-m.speechAt, 0)/standingFade, 0)
}

// stands reports whether the microphone is known for speech.
func (m *Microphone) stands(now time.Duration) bool { return m.lasting(now) >= standing }

func (m *Microphone) endless() bool {
	return m.unbroken >= endless || !m.breathed && m.unbroken >= unproven
}

// beats reports whether m, which is being heard, takes the place of o.
func beats(m, o *Microphone, now time.Duration) bool {
	known, pause := m.stands(now), now-o.lastActive
	switch strengthOf(o, now) {
	case idle:
		return (!m.endless() || pause >= longPause) && (known || m.run >= click)
	case faint:
		return !m.endless() && (known || m.run >= min(o.run, click)+click)
	case pausing:
		return !m.endless() && m.run >= click
	case rising:
		switch {
		case m.endless():
			return false
		case known && (m.run >= click || now-m.lost < lately), m.run >= o.run-2*pause+click:
			return true
		}
		// Either may be a cough. What goes on for longer than one is speech; of two that haven't yet, the newer is heard, as the
		// older will be over sooner if it is one.
		return o.unbroken <= cough && (m.run >= click && m.unbroken < o.unbroken || m.run >= sustained && m.unbroken > cough)
	}
	// Of several who are known to speak, and do, one gives way only to one clearly louder.
	return known && m.run >= sustained && m.loudness+clearly*16 <= o.loudness
}

// strength is how firmly a microphone has its slot.
type strength uint8

const (
	idle     strength = iota // its turn is over, or it is endless
	faint                    // without standing, and hardly more than a click
	pausing                  // known for speech, in a pause
	rising                   // without standing, and sounding: a new speaker, or a cough
	speaking                 // known for speech, and sounding
)

func strengthOf(m *Microphone, now time.Duration) strength {
	pause := now - m.lastActive
	switch known := m.stands(now); {
	case m.endless(), pause >= longPause, !known && pause >= coughPause:
		return idle
	case known && pause >= shortPause:
		return pausing
	case known:
		return speaking
	case m.run-2*pause <= click:
		return faint
	}
	return rising
}

// weaker reports whether a is to lose its slot before b: by strength, then who has been silent for longer, then who is
// quieter.
func weaker(a, b *Microphone, now time.Duration) bool {
	if x, y := strengthOf(a, now), strengthOf(b, now); x != y {
		return x < y
	}
	if a.lastActive != b.lastActive {
		return a.lastActive < b.lastActive
	}
	return a.loudness > b.loudness
}

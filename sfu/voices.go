package sfu

import (
	"sync/atomic"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/speakers"
)

// In a room of many open microphones only the loudest few are forwarded ([speakers.Loudest]). Everybody stays subscribed to
// all of them; what is held back are packets:
//
//  1. ingest has each packet of audio judged in the rooms in which its track is found: hear.
//  2. say hands it to those subscriptions whose participants take as many microphones. One that nobody gets costs no
//     look at them.
//  3. A subscription notices by the packets' count that some were held back before the one it gets, and has its numbers go on
//     as over a pause: stream.hears. The pause begins with a frame that has nothing in it, so that the receiver's decoder
//     makes silence and doesn't conceal a loss: stream.hush.

// voice is what a publication of audio counts. Written by the goroutine that receives its packets.
type voice struct {
	heard    uint64        // fresh packets
	heldBack atomic.Uint64 // of them, those that nobody got
	packet   [1]*packet    // that is being handed out
	audience int           // so many subscriptions took the latest
}

// ear is what a room has on an audio track.
type ear struct {
	track *speakers.Track
	mic   *speakers.Microphone
	// now is what became of the latest fresh packet, before of the one before it. Written by the goroutine that receives the
	// packets, with the room's levels held.
	now, before speakers.Decision
}

func (r *room) listen(pub *publication) *ear {
	r.levels.Lock()
	defer r.levels.Unlock()
	return &ear{track: r.detector.Add(pub.owner.cfg.ID), mic: r.loudest.Add(pub.owner.cfg.ID, pub.cfg.Exempt)}
}

func (r *room) unlisten(e *ear) {
	r.levels.Lock()
	defer r.levels.Unlock()
	r.detector.Remove(e.track)
	r.loudest.Remove(e.mic)
}

// heed takes in whether the track is muted.
func (r *room) heed(e *ear, pub *publication) {
	r.levels.Lock()
	defer r.levels.Unlock()
	muted := pub.muted.Load() // of two calls at a time the later one sees the latest
	if muted {
		e.track.Silence()
	}
	r.loudest.SetMuted(e.mic, muted)
}

// observe judges a packet that came at server time now.
func (r *room) observe(e *ear, p *speakers.Packet, fresh, muted bool, now time.Duration) {
	r.levels.Lock()
	if p.HasLevel && !muted {
		e.track.Observe(p.Level, p.Length)
	}
	if fresh {
		e.before = e.now
		if e.now = (speakers.Decision{}); !muted {
			e.now = r.loudest.Packet(e.mic, *p, now)
		}
	}
	r.levels.Unlock()
}

func (r *room) voices() speakers.LoudestCounts {
	r.levels.Lock()
	defer r.levels.Unlock()
	return r.loudest.Counts()
}

// hear has a packet of audio that came at server time now judged, and counts it. late: it isn't the newest; vad: the V bit
// beside its level counts (RFC 6464 section 4).
func (pub *publication) hear(p *packet, late, vad bool, now time.Duration) {
	p.fresh = !late && !p.forward.PaddingOnly
	if p.fresh {
		pub.voice.heard++
	}
	p.heard = pub.voice.heard
	q := speakers.Packet{Length: pub.length(p.kind, p.payload()), Size: pub.audioSize(p)}
	if p.hasLevel {
		q.Level, q.Voice, q.HasLevel = codec.ParseAudioLevel(levelBytes[p.level][:])
		q.HasVoice = vad
	}
	muted := pub.muted.Load()
	for _, at := range pub.codecs.first().rooms() {
		at.room.observe(at.ear, &q, p.fresh, muted, now)
	}
}

// audioSize returns the bytes of audio that aren't a repetition, 0 if that is hidden.
func (pub *publication) audioSize(p *packet) int {
	b := p.payload()
	if p.kind != codec.RED {
		return len(b)
	}
	if _, at, err := codec.REDPrimary(b); err == nil && !pub.cfg.Encrypted {
		return len(b) - at
	}
	return 0
}

// say hands a packet of audio to those who are to hear it.
func (pub *publication) say(p *packet) {
	places := pub.codecs.first().rooms()
	goes, ends := false, false
	for _, at := range places {
		goes = goes || at.ear.now.Forward
		ends = ends || p.fresh && at.ear.before.Forward
	}
	if p.fresh && !goes && !pub.muted.Load() {
		pub.voice.heldBack.Add(1)
	}
	if !goes && !ends {
		return
	}
	v := &pub.voice
	v.packet[0] = p
	round := fanOut{pub: pub, to: *pub.started.Load(), packets: v.packet[:], places: places}
	v.audience = pub.owner.server.crew.deliver(round, v.audience)
	v.packet[0] = nil
}

// say hands the packet to those of some subscriptions that are to hear it, and returns how many they are.
func (f *fanOut) say(to []*subscription) (given int) {
	fresh := f.packets[0].fresh
	for _, s := range to {
		e := earOf(f.places, s.room)
		if e == nil {
			continue // its room has just lost the track
		}
		hush := !e.now.For(int(s.p.voices.Load()))
		if hush && !(fresh && e.before.Forward) {
			continue
		}
		s.forward(f.pub, f.packets, hush)
		given++
	}
	return given
}

func earOf(places []place, r *room) *ear {
	for i := range places {
		if places[i].room == r {
			return places[i].ear
		}
	}
	return nil
}

// heldBack reports whether the subscription gets nothing of the track just now.
func (pub *publication) heldBack(s *subscription) bool {
	e := earOf(pub.codecs.first().rooms(), s.room)
	if pub.cfg.Kind != Audio || e == nil {
		return false
	}
	s.room.levels.Lock()
	defer s.room.levels.Unlock()
	return !e.now.For(int(s.p.voices.Load()))
}

// hears decides whether a packet of audio concerns the stream, and tells the forwarder if some were held back before it. hush
// is set for the first one that is held back. Called with the subscription's mu held.
func (st *stream) hears(p *packet, hush bool) bool {
	switch {
	case !p.fresh:
		return st.heard == p.heard // it belongs to what is being heard
	case hush:
		if st.heard == 0 || st.heard+1 != p.heard || st.forwarder.Current() < 0 {
			return false
		}
		if st.source.cfg.Encrypted || p.kind != codec.Opus && p.kind != codec.RED {
			return false // what the decoder would take for silence can't be made
		}
		st.heard = 0
		return true
	case st.heard+1 != p.heard:
		st.forwarder.Withheld()
	}
	st.heard = p.heard
	return true
}

// hush puts a frame with nothing in it in the place of the payload. RFC 6716 section 3.1: the first byte of an Opus packet says
// what is in it; with its low bits 0 that is one frame, the rest of the packet. Section 3.2.1: one without a byte means
// "discontinuous transmission". The decoder goes over to silence, and waits.
func (st *stream) hush(p *packet, f format) bool {
	o := &st.packet
	b := o.payload
	o.prefix = st.prefix[rtxHeader:rtxHeader]
	if p.kind == codec.RED {
		pt, at, err := codec.REDPrimary(b)
		if err != nil || at == len(b) {
			return false
		}
		b = b[at:]
		if !f.unwrap {
			o.prefix = append(o.prefix, pt) // RFC 2198 section 3: the header of the last block is its payload type
		}
	}
	o.prefix = append(o.prefix, b[0]&^3)
	o.packet, o.payload = nil, nil
	return true
}

// SetVoices sets how many microphones the participant takes at a time in rooms where not all are forwarded, 1 to
// [speakers.MaxLoudest]; 0 means all that the room forwards.
func (p *Participant) SetVoices(n int) { p.voices.Store(int32(max(0, min(n, speakers.MaxLoudest)))) }

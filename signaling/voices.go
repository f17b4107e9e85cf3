package signaling

import (
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// voicesOf is how many microphones a participant takes, by its attributes, which have been checked where they came from: 0 where
// they don't say.
func (a *actor) voicesOf(s *session) int {
	p, _ := a.room.Participant(s.id)
	n, err := wire.Voices(p.Attributes)
	if err != nil {
		return 0
	}
	return n
}

// updateMetadata changes a participant's name, metadata and attributes, and what follows from those. admin skips the permission
// check.
func (a *actor) updateMetadata(s *session, change room.Metadata, admin bool) error {
	effects, err := a.room.UpdateMetadata(time.Now(), s.id, change, admin, wire.MaxMetadataBytes)
	if err != nil {
		return err
	}
	a.apply(effects)
	if n := a.voicesOf(s); n != s.voices {
		s.voices = n
		s.worker.do(func(p Peer) { p.SetVoices(n) })
	}
	return nil
}

// isExempt reports whether a track of a participant with such a token is no microphone to be chosen among: the sound of a shared
// screen, and what agents, recorders and brought-in programmes send. Who calls by telephone is a person like others.
func isExempt(t room.Track, c wire.Claims) bool {
	switch wire.KindOf(c.Kind) {
	case wire.KindAgent, wire.KindEgress, wire.KindIngress:
		return true
	}
	return t.Source == room.ScreenShareAudio || c.Video.Recorder
}

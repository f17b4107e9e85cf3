package wire

import "crypto/rand"

// Prefixes of the ids in the contract. SDKs test for them: a media stream whose id does not start
// with ParticipantPrefix, or a track whose id does not start with TrackPrefix, is ignored by some.
const (
	RoomPrefix        = "RM_"
	ParticipantPrefix = "PA_"
	TrackPrefix       = "TR_"
	NodePrefix        = "ND_"
)

// idLength is the number of random base62 characters behind the prefix: 71 bits.
const idLength = 12

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewID returns prefix followed by 12 random base62 characters.
func NewID(prefix string) string {
	// Rejection sampling keeps the distribution even: 248 is the largest multiple of 62 in a byte.
	const limit = 248
	id := make([]byte, 0, len(prefix)+idLength)
	id = append(id, prefix...)
	var buf [16]byte
	for len(id) < len(prefix)+idLength {
		_, _ = rand.Read(buf[:]) // crypto/rand.Read never fails, it ends the process instead
		for _, b := range buf {
			if b < limit && len(id) < len(prefix)+idLength {
				id = append(id, base62[int(b)%len(base62)])
			}
		}
	}
	return string(id)
}

// NewRoomID returns a fresh room id (RM_…).
func NewRoomID() string { return NewID(RoomPrefix) }

// NewParticipantID returns a fresh participant id (PA_…), one per connection of a participant.
func NewParticipantID() string { return NewID(ParticipantPrefix) }

// NewTrackID returns a fresh track id (TR_…).
func NewTrackID() string { return NewID(TrackPrefix) }

// NewNodeID returns a fresh node id (ND_…).
func NewNodeID() string { return NewID(NodePrefix) }

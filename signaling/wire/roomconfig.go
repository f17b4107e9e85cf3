package wire

import (
	"errors"
	"fmt"

	lk "github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/encoding/protojson"
)

// RoomConfiguration is the token's word on a room that does not exist yet.
type RoomConfiguration = lk.RoomConfiguration

// RoomEgress is what would be recorded.
type RoomEgress = lk.RoomEgress

// MaxTimeoutSeconds is the longest empty and departure timeout of a room: a week.
const MaxTimeoutSeconds = 7 * 24 * 3600

// CheckRoomSettings refuses what no room can have. Zero values are no settings.
func CheckRoomSettings(emptyTimeout, departureTimeout, maxParticipants uint32, metadata string) error {
	switch {
	case emptyTimeout > MaxTimeoutSeconds || departureTimeout > MaxTimeoutSeconds:
		return fmt.Errorf("a timeout may take %d s", MaxTimeoutSeconds)
	case maxParticipants > 1<<30:
		return errors.New("max_participants is too large")
	}
	return CheckMetadata(metadata, nil)
}

// roomConfig is the claim's JSON: protobuf's own, whose names may be in either case.
type roomConfig struct{ *RoomConfiguration }

func (c *roomConfig) MarshalJSON() ([]byte, error) { return protojson.Marshal(c.RoomConfiguration) }

func (c *roomConfig) UnmarshalJSON(b []byte) error {
	c.RoomConfiguration = &RoomConfiguration{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, c.RoomConfiguration); err != nil {
		return errors.New("roomConfig is not a RoomConfiguration")
	}
	return nil
}

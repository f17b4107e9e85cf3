package wire

import (
	"fmt"
	"unicode/utf8"
)

// Limits of the contract's texts and frames. Those that a server may configure are in
// signaling.Limits; these protect the decoders themselves.
const (
	// MaxFrameBytes is the largest WebSocket message a client may send. An offer of a client that
	// publishes and receives a hundred tracks is about 200 KB.
	MaxFrameBytes = 512 << 10
	// MaxJoinRequestBytes is the longest join_request parameter, in characters of base64url, and
	// MaxJoinRequestUnpacked what it may hold once decoded and unpacked.
	MaxJoinRequestBytes    = 64 << 10
	MaxJoinRequestUnpacked = MaxFrameBytes
	// MaxBundledTracks is the number of tracks that a join request may add.
	MaxBundledTracks = 64
	// MaxSDPBytes is the longest session description.
	MaxSDPBytes = 384 << 10
	// MaxCandidateBytes is the longest trickled ICE candidate (the JSON of RTCIceCandidateInit).
	MaxCandidateBytes = 4 << 10
	// MaxDataPacketBytes is the largest data packet of a client: the JavaScript SDK sends up to 64,000
	// bytes. With the sender's names, which are added here, it stays below 64 KiB.
	MaxDataPacketBytes = 64<<10 - 1<<10
	// MaxIdentityBytes, MaxNameBytes and MaxRoomNameBytes bound the names of participants and rooms.
	MaxIdentityBytes = 256
	MaxNameBytes     = 512
	MaxRoomNameBytes = 256
	// MaxMetadataBytes bounds a participant's metadata, and its attributes' keys and values together.
	MaxMetadataBytes = 64 << 10
	// MaxTrackNameBytes bounds a track's name, stream name and cid each.
	MaxTrackNameBytes = 256
	// MaxLayers is the number of layers, and of codecs, one track may announce.
	MaxLayers = 8
	// MaxSIDs is the number of track ids in one subscription or track settings message.
	MaxSIDs = 4096
)

// CheckMetadata refuses metadata and attributes beyond MaxMetadataBytes each, or not UTF-8, and an attribute of ours that says
// nothing we know.
func CheckMetadata(metadata string, attributes map[string]string) error {
	if err := checkText("metadata", metadata, 0, MaxMetadataBytes); err != nil {
		return err
	}
	size := 0
	for k, v := range attributes {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("attributes are not valid UTF-8")
		}
		size += len(k) + len(v)
	}
	if size > MaxMetadataBytes {
		return fmt.Errorf("attributes take %d bytes: at most %d are allowed", size, MaxMetadataBytes)
	}
	_, err := Voices(attributes)
	return err
}

func checkText(what, s string, least, most int) error {
	switch {
	case len(s) < least:
		return fmt.Errorf("%s is empty", what)
	case len(s) > most:
		return fmt.Errorf("%s takes %d bytes: at most %d are allowed", what, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	return nil
}

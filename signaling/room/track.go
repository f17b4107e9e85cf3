package room

import "slices"

// Kind of a track.
type Kind uint8

const (
	Audio Kind = iota
	Video
)

// Source says what a track shows or sounds; the values are the contract's.
type Source uint8

const (
	SourceUnknown Source = iota
	Camera
	Microphone
	ScreenShare
	ScreenShareAudio
)

// Layer is one simulcast or spatial layer of a video track.
type Layer struct {
	// Quality is 0 low, 1 medium, 2 high.
	Quality       int32
	Width, Height uint32
	Bitrate       uint32 // bit/s, the publisher's target
	SSRC          uint32
	SpatialLayer  int32
	RID           string
}

// Codec is one encoding of a track.
type Codec struct {
	MimeType string
	// Announced is the MimeType that the publisher gave it, which stays its name between the two of them
	// even where its media turns out to be another: a browser may lack the encoder that it was asked for.
	Announced string
	CID       string
	Layers    []Layer
	LayerMode int32
	// Started: its media is known to the SFU. One without a CID is only named: the publisher sends it
	// once somebody wants it.
	Started bool
}

// Track describes a published track as the others see it.
type Track struct {
	ID, CID       string
	Owner         string // participant id
	Name          string
	Kind          Kind
	Source        Source
	Stream        string
	Muted         bool
	Width, Height uint32
	MimeType      string
	Layers        []Layer
	Codecs        []Codec

	Stereo, DisableDTX, DisableRED bool
	// Encryption, Features and BackupPolicy are passed on as they are.
	Encryption   int32
	BackupPolicy int32
	Features     []int32
}

func (t Track) clone() Track {
	t.Layers = slices.Clone(t.Layers)
	t.Codecs = slices.Clone(t.Codecs)
	t.Features = slices.Clone(t.Features)
	return t
}

// track is the room's record of one publication.
type track struct {
	Track
	owner *participant
	// started: its media is known to the SFU, so that it can be shown and subscribed.
	started bool
	// announced: the publisher has been told that somebody subscribed.
	announced bool
	// muteAsked: the publisher was told to mute, and has not said yet that it did.
	muteAsked bool
	dynacast  dynacast
}

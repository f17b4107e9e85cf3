package forward

import (
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/history"
)

// MaxLayers is the most simulcast layers of a publication.
const MaxLayers = 4

// EveryLayer has the bits of all of them, see [Forwarder.Heeds].
const EveryLayer = 1<<MaxLayers - 1

// AllTemporal as a temporal target forwards every temporal layer.
const AllTemporal = 7

// Packet is one received packet as the forwarders see it. They only read it.
type Packet struct {
	// Sequence and Epoch are from [history.Reception].
	Sequence  uint64
	Epoch     uint32
	Timestamp uint32
	// Arrival is the server time at which it came. Capture is the server time at which it was captured, as
	// [Line.Capture] of the layer's line has it, and is used only if CaptureKnown, which needs a sender report.
	Arrival, Capture time.Duration
	CaptureKnown     bool
	Marker           bool
	// PaddingOnly: there is no payload; Descriptor isn't looked at.
	PaddingOnly bool
	// Newest and InBand are from [Source.Note]: no later packet of the layer has come before; and the layer sends parameter
	// sets among its packets.
	Newest, InBand bool
	// Layer is the simulcast layer, 0 the lowest.
	Layer      uint8
	Descriptor codec.Descriptor
	// Dependency is what the packet's dependency descriptor says; without one its Structure is nil.
	Dependency codec.Dependency
}

// Action is what to do with a packet.
type Action uint8

const (
	// Drop: nothing is sent.
	Drop Action = iota
	// Send: the payload is sent under the decision's numbers.
	Send
	// Fill: a padding-only packet is sent under the decision's sequence number and timestamp. It fills a hole that was
	// left for a lost packet which, now that it has come, turns out not to be wanted.
	Fill
)

// Decision is what [Forwarder.Forward] answers.
type Decision struct {
	Action Action
	// Marker, Sequence and Timestamp go into the RTP header.
	Marker    bool
	Sequence  uint16
	Timestamp uint32
	// Rewrite: the payload needs PictureID and TL0, see [codec.Rewrite].
	Rewrite   bool
	TL0       uint8
	PictureID uint16
	// FrameOffset is what the frame number of the dependency descriptor must be raised by, modulo 2^16.
	FrameOffset uint16
	// Started: with this packet the subscription began to follow the packet's layer (start, resume, switch).
	Started bool
	// NeedKeyframe: the subscription waits for a keyframe of KeyframeLayer; the owner asks the publisher for one, all
	// subscriptions' wishes coalesced, and repeats while packets keep answering so.
	NeedKeyframe  bool
	KeyframeLayer uint8
}

// Sent returns the entry for the subscription's [history.Sent]. d.Action must not be Drop.
func (d *Decision) Sent(p *Packet) history.SentPacket {
	return history.SentPacket{Source: p.Sequence, Timestamp: d.Timestamp, Sequence: d.Sequence, PictureID: d.PictureID,
		TL0: d.TL0, FrameOffset: d.FrameOffset, Layer: p.Layer, Marker: d.Marker, Rewrite: d.Rewrite, Fill: d.Action == Fill}
}

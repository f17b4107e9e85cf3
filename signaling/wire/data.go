package wire

import lk "github.com/livekit/protocol/livekit"

// What data packets carry beside an application's bytes.
type (
	ChatMessage          = lk.ChatMessage
	EncryptedPacket      = lk.EncryptedPacket
	MetricsBatch         = lk.MetricsBatch
	StreamHeader         = lk.DataStream_Header
	StreamChunk          = lk.DataStream_Chunk
	StreamTrailer        = lk.DataStream_Trailer
	TextHeader           = lk.DataStream_TextHeader
	ByteHeader           = lk.DataStream_ByteHeader
	StreamTextHeader     = lk.DataStream_Header_TextHeader
	StreamByteHeader     = lk.DataStream_Header_ByteHeader
	Transcription        = lk.Transcription
	TranscriptionSegment = lk.TranscriptionSegment

	DataChat          = lk.DataPacket_ChatMessage
	DataEncrypted     = lk.DataPacket_EncryptedPacket
	DataMetrics       = lk.DataPacket_Metrics
	DataStreamHeader  = lk.DataPacket_StreamHeader
	DataStreamChunk   = lk.DataPacket_StreamChunk
	DataStreamTrailer = lk.DataPacket_StreamTrailer
	DataTranscription = lk.DataPacket_Transcription
)

// Sender is who sends a data packet, as the server knows.
type Sender struct {
	SID, Identity string
	// Hidden senders stay unnamed.
	Hidden bool
	// Agents may write chat messages and text streams in another's name, whose speech they have turned
	// into text; such a text is marked as generated.
	Agent bool
}

// KindAgent is the kind of a participant that is a program serving the others, KindIngress that of one that brings a programme
// in, KindEgress of one that takes the room out.
const (
	KindAgent   = lk.ParticipantInfo_AGENT
	KindIngress = lk.ParticipantInfo_INGRESS
	KindEgress  = lk.ParticipantInfo_EGRESS
)

// Stamp overwrites what a data packet says about its sender. What a hidden one sends carries no
// sequence either, since receivers keep one per sender.
func (s Sender) Stamp(p *DataPacket) {
	claimed := p.ParticipantIdentity
	if s.Hidden {
		StampSender(p, "", "")
		p.Sequence = 0
		return
	}
	StampSender(p, s.SID, s.Identity)
	if !s.Agent || claimed == "" || claimed == s.Identity {
		return
	}
	switch v := p.Value.(type) {
	case *lk.DataPacket_ChatMessage:
		v.ChatMessage.Generated = true
	case *lk.DataPacket_StreamHeader:
		text := v.StreamHeader.GetTextHeader()
		if text == nil {
			return
		}
		text.Generated = true
	default:
		return
	}
	p.ParticipantIdentity = claimed
}

// IsMetrics reports whether a packet carries a client's measurements, which are for those alone whose
// token says canSubscribeMetrics.
func IsMetrics(p *DataPacket) bool { return p.GetMetrics() != nil }

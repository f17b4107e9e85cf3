package sfu

import (
	"sync/atomic"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
	"anytime/sfu/speakers"
	"anytime/sfu/udp"
)

// Stats is a snapshot of a server.
type Stats struct {
	Rooms        int
	Participants []ParticipantStats
	Totals       Totals
	Crew         CrewStats
	Ports        PortStats
	// Voices are the rooms in which microphones are open. HeldBack counts the packets of microphones that were held back, in
	// rooms that have ended too.
	Voices   []VoicesStats
	HeldBack uint64
}

// VoicesStats tells of the choice of microphones in one room.
type VoicesStats struct {
	Room string
	speakers.LoudestCounts
}

// Totals count since the server began, those who have left included.
type Totals struct {
	// Shed are video packets dropped because too much waited for their subscriber; PaddingBytes were sent to probe links.
	Shed, PaddingBytes uint64
	// Probes found out something, ProbesFailed nothing.
	Probes, ProbesFailed uint64
}

// PortStats counts what passed the media ports, and what was dropped there, since the server began.
type PortStats struct {
	UDP udp.Stats
	// Unknown are packets from or for nobody known, Other those that are neither STUN nor DTLS nor SRTP, and Full those of STUN
	// and DTLS that found too many waiting.
	Unknown, Other, Full uint64
	// TCPOpen are the ICE-TCP connections now, TCPRefused those that were too many, TCPDropped the packets that a connection
	// took in too slowly.
	TCPOpen                int
	TCPRefused, TCPDropped uint64
}

func (m *mux) snapshot() PortStats {
	s := PortStats{UDP: m.port.Stats(), Unknown: m.stats.unknown.Load(), Other: m.stats.other.Load(), Full: m.stats.full.Load()}
	if m.tcp != nil {
		c := m.tcp.counts()
		s.TCPOpen, s.TCPRefused, s.TCPDropped = c.open, c.refused, c.dropped
	}
	return s
}

// totals are the counters behind Totals.
type totals struct{ shed, padding, probes, failed atomic.Uint64 }

// ParticipantStats is a snapshot of one participant.
type ParticipantStats struct {
	Room, ID string
	// RTT is the smoothed round trip, 0 while unknown.
	RTT time.Duration
	// MalformedRTCP counts RTCP packets that couldn't be parsed.
	MalformedRTCP uint64
	// StrayRTCP counts requests about streams that aren't sent to the participant.
	StrayRTCP     uint64
	Links         Links
	Transports    []TransportStats
	Publications  []PublicationStats
	Subscriptions []SubscriptionStats
	Bandwidth     BandwidthStats
}

// BandwidthStats says how a participant's bandwidth is shared out among its subscriptions, in bits per second.
type BandwidthStats struct {
	// Estimate is what the path takes, 0 while that isn't known.
	Estimate int64
	// Used is what the targets of all subscriptions cost, Wanted what the best of what is sent and wished for would.
	Used, Wanted int64
	// Need is by how much the estimate must grow for anything to improve, 0 if nothing would.
	Need int64
	// Paused counts the subscriptions that are paused for want of bandwidth.
	Paused int
}

// TransportStats is a snapshot of one peer connection.
type TransportStats struct {
	Target Target
	State  State
	// SRTPProfile is the negotiated protection profile, such as "AEAD_AES_128_GCM"; empty until the keys are known.
	SRTPProfile string
	Ingest      IngestStats
	Egress      EgressStats
	Feedback    TransportFeedback
	// Congestion is about the path to the participant.
	Congestion CongestionStats
	Path       Path
}

// PublicationStats is a snapshot of one published track.
type PublicationStats struct {
	TrackID, MimeType string
	Kind              Kind
	Muted             bool
	// HeldBack counts packets of audio that nobody got because others were louder.
	HeldBack uint64
	// Layers holds the layers that have been received, by index; the others are zero.
	Layers [forward.MaxLayers]LayerStats
}

// LayerStats counts one received stream.
type LayerStats struct {
	// SSRC is 0 for a layer that never came.
	SSRC           uint32
	Packets, Bytes uint64
	// Repaired came over RTX; Lost were given up.
	Repaired, Lost uint64
	// TotalLost and FractionLost are as in the latest receiver report: before repair.
	TotalLost    int64
	FractionLost float64
	Jitter       time.Duration
	// NACKs and PLIs count the requests that we sent.
	NACKs, PLIs uint64
	// Spatial is how many spatial layers the stream holds, 0 where it doesn't say.
	Spatial int
	// Bitrate is what a subscription of a spatial and temporal layer costs, in bits per second of the last second. A stream
	// that tells no layers has everything in [0][0].
	Bitrate [codec.MaxSpatial + 1][codec.MaxTemporal + 1]uint64
	Live    bool
	// Recent counts what came in the last seconds; Lost is before repair.
	Recent Recent
}

// SubscriptionStats counts one forwarded track.
type SubscriptionStats struct {
	TrackID string
	// MimeType is the codec being forwarded, empty while there is none.
	MimeType       string
	Packets, Bytes uint64
	// Layer is the simulcast layer being forwarded, -1 for none; Target the one wanted.
	Layer, Target int
	// Spatial and Temporal are the highest layers being forwarded of a stream that holds several, -1 for none.
	Spatial, Temporal int
	// WantedSpatial and WantedTemporal are the layers that the subscriber's wishes ask for, -1 for none: simulcast layers, or
	// spatial layers of a stream that holds several.
	WantedSpatial, WantedTemporal int
	// Why says in a word why it gets no more than it does, as [anytime/sfu/alloc.Reason] has it; it is empty before the
	// transport is up. Need is by how many bits per second the estimate must grow for the next better layer, 0 if that isn't
	// what it lacks.
	Why  string
	Need int64
	// Switches counts starts and changes of layer.
	Switches uint64
	Delivery Delivery
	// NACKs and PLIs count the requests that the subscriber sent; Resent the packets sent again, Gone those no longer stored,
	// Forsaken those of a layer that was stopped because the path takes less.
	NACKs, PLIs, Resent, Gone, Forsaken uint64
	// Unknown counts packets asked for that were never sent or are forgotten, Refused those that had been sent again a moment
	// ago or often enough, PLIsRefused requests for keyframes beyond the subscription's share.
	Unknown, Refused, PLIsRefused uint64
	// Lost, FractionLost and Jitter are as in the subscriber's latest receiver report.
	Lost         int64
	FractionLost float64
	Jitter       time.Duration
}

// Stats returns a snapshot of everything. It is meant for logs and metrics, every few seconds at most.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	rooms := make([]*room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rooms = append(rooms, r)
	}
	out := Stats{Rooms: len(rooms), HeldBack: s.heldBack, Crew: s.crew.snapshot()}
	s.mu.Unlock()
	out.Ports = s.mux.snapshot()
	out.Totals = Totals{Shed: s.totals.shed.Load(), PaddingBytes: s.totals.padding.Load(),
		Probes: s.totals.probes.Load(), ProbesFailed: s.totals.failed.Load()}
	for _, r := range rooms {
		if v := r.voices(); v.Open+v.Exempt > 0 || v.Gated > 0 {
			out.Voices = append(out.Voices, VoicesStats{Room: r.name, LoudestCounts: v})
			out.HeldBack += v.Gated
		}
		for _, p := range r.list() {
			out.Participants = append(out.Participants, p.Stats())
		}
	}
	return out
}

// Stats returns a snapshot of the participant.
func (p *Participant) Stats() ParticipantStats {
	out := p.Overview()
	subs := p.subscriptions()
	now := p.server.now()
	for _, s := range subs {
		stats := s.snapshot()
		stats.Delivery = s.delivery(now)
		out.Subscriptions = append(out.Subscriptions, stats)
	}
	return out
}

// Overview is Stats without the subscriptions, of which a room has as many as the square of its participants.
func (p *Participant) Overview() ParticipantStats {
	out := ParticipantStats{Room: p.whereabouts().name, ID: p.cfg.ID, RTT: p.knownRTT(), MalformedRTCP: p.badRTCP.Load(),
		StrayRTCP: p.strayRTCP.Load(), Links: p.Links()}
	for i := range p.transports {
		if t := p.transports[i].Load(); t != nil {
			out.Transports = append(out.Transports, t.snapshot())
		}
	}
	p.mu.Lock()
	pubs := append([]*publication(nil), p.tracks.order...)
	p.mu.Unlock()
	now := p.server.now()
	for _, pub := range pubs {
		if pub.index > 0 && !pub.isBound() {
			continue // a codec that was only named
		}
		out.Publications = append(out.Publications, pub.snapshot(now))
	}
	out.Bandwidth = p.sharing.snapshot()
	return out
}

func (t *transport) snapshot() TransportStats {
	out := TransportStats{Target: t.target, Feedback: t.told()}
	t.mu.Lock()
	out.State = t.state
	t.mu.Unlock()
	if profile := t.plane.profile.Load(); profile != nil {
		out.SRTPProfile = *profile
	}
	out.Path = t.path()
	if t.in != nil {
		t.in.mu.Lock()
		out.Ingest = t.in.stats
		t.in.mu.Unlock()
	}
	if t.out != nil {
		out.Egress = t.out.snapshot()
		out.Congestion = t.out.congestion(t.p.server.now())
	}
	return out
}

func (pub *publication) snapshot(now time.Duration) PublicationStats {
	pub.mu.Lock()
	out := PublicationStats{TrackID: pub.id, Kind: pub.cfg.Kind, Muted: pub.muted.Load(), HeldBack: pub.voice.heldBack.Load()}
	if pub.ready {
		out.MimeType = pub.format.kind.String()
	}
	pub.mu.Unlock()
	for i := range pub.layers {
		if l := pub.layers[i].Load(); l != nil {
			l.mu.Lock()
			out.Layers[i] = l.stats
			out.Layers[i].SSRC = l.ssrc
			out.Layers[i].Recent = l.recent.since(l.counted(now))
			l.mu.Unlock()
			out.Layers[i].Live = l.live(now)
			out.Layers[i].Spatial = int(l.spatial.Load())
			for s := range out.Layers[i].Bitrate {
				for t := range out.Layers[i].Bitrate[s] {
					out.Layers[i].Bitrate[s][t] = l.bitrate(uint8(s), uint8(t), now)
				}
			}
		}
	}
	return out
}

func (s *subscription) snapshot() SubscriptionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.TrackID, out.Layer, out.Target, out.Spatial, out.Temporal = s.pub.id, -1, -1, -1, -1
	out.WantedSpatial, out.WantedTemporal = -1, -1
	if s.fed {
		out.WantedSpatial, out.WantedTemporal = int(s.allotted.Wanted.Spatial), int(s.allotted.Wanted.Temporal)
		out.Why, out.Need = s.allotted.Why.String(), s.allotted.Need
	}
	if s.out != nil && s.out.source != nil {
		out.MimeType = s.out.source.kind().String()
		out.Layer, out.Target = s.out.forwarder.Current(), s.out.forwarder.Target()
		if spatial, temporal, ok := s.out.forwarder.Layers(); ok {
			out.Spatial, out.Temporal = int(spatial), int(temporal)
		}
	}
	return out
}

// IngestStats counts what came in on one peer connection.
type IngestStats struct {
	Packets, Bytes uint64
	// Malformed couldn't be parsed; Unrouted belong to no negotiated m-line, layer or announced track.
	Malformed, Unrouted uint64
	// Repaired came over RTX; Duplicates came twice.
	Repaired, Duplicates uint64
	// Oversized were larger than any packet that WebRTC sends.
	Oversized uint64
	// Strays had sequence numbers far away from the rest of their stream.
	Strays uint64
}

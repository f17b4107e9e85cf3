package sfu

import (
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/forward"
)

// Stats is a snapshot of a server.
type Stats struct {
	Rooms        int
	Participants []ParticipantStats
}

// ParticipantStats is a snapshot of one participant.
type ParticipantStats struct {
	Room, ID string
	// RTT is the smoothed round trip, 0 while unknown.
	RTT time.Duration
	// MalformedRTCP counts RTCP packets that couldn't be parsed.
	MalformedRTCP uint64
	Links         Links
	Transports    []TransportStats
	Publications  []PublicationStats
	Subscriptions []SubscriptionStats
}

// TransportStats is a snapshot of one peer connection.
type TransportStats struct {
	Target Target
	State  State
	// SRTPProfile is the negotiated protection profile, such as "AEAD_AES_128_GCM"; empty before DTLS, or where the server is
	// the DTLS client.
	SRTPProfile string
	Ingest      IngestStats
	Egress      EgressStats
	Feedback    TransportFeedback
	Path        Path
}

// PublicationStats is a snapshot of one published track.
type PublicationStats struct {
	TrackID, MimeType string
	Kind              Kind
	Muted             bool
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
	// Switches counts starts and changes of layer.
	Switches uint64
	Delivery Delivery
	// NACKs and PLIs count the requests that the subscriber sent; Resent the packets sent again, Gone those no longer stored.
	NACKs, PLIs, Resent, Gone uint64
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
	s.mu.Unlock()
	out := Stats{Rooms: len(rooms)}
	for _, r := range rooms {
		for _, p := range r.list() {
			out.Participants = append(out.Participants, p.Stats())
		}
	}
	return out
}

// Stats returns a snapshot of the participant.
func (p *Participant) Stats() ParticipantStats {
	out := p.Overview()
	p.mu.Lock()
	subs := make([]*subscription, 0, len(p.subs))
	for _, s := range p.subs {
		subs = append(subs, s)
	}
	p.mu.Unlock()
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
	out := ParticipantStats{Room: p.whereabouts().name, ID: p.cfg.ID, RTT: time.Duration(p.roundTrip.Load()), MalformedRTCP: p.badRTCP.Load(),
		Links: p.Links()}
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
	return out
}

func (t *transport) snapshot() TransportStats {
	t.mu.Lock()
	out := TransportStats{Target: t.target, State: t.state, Feedback: t.feedback}
	t.mu.Unlock()
	out.SRTPProfile, _ = t.profile.Load().(string)
	out.Path = t.path()
	if t.in != nil {
		t.in.mu.Lock()
		out.Ingest = t.in.stats
		t.in.mu.Unlock()
	}
	if t.out != nil {
		out.Egress = t.out.snapshot()
	}
	return out
}

func (pub *publication) snapshot(now time.Duration) PublicationStats {
	pub.mu.Lock()
	out := PublicationStats{TrackID: pub.id, Kind: pub.cfg.Kind, Muted: pub.muted.Load()}
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
	if s.out != nil && s.out.source != nil {
		out.MimeType = s.out.source.kind().String()
		out.Layer, out.Target = s.out.forwarder.Current(), s.out.forwarder.Target()
		if spatial, temporal, ok := s.out.forwarder.Layers(); ok {
			out.Spatial, out.Temporal = int(spatial), int(temporal)
		}
	}
	return out
}

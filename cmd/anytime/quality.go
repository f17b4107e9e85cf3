package main

import (
	"net/netip"
	"time"

	"anytime/companion"
	"anytime/sfu"
	"anytime/signaling"
)

// measure is what the SFU knows of a participant's connection, in signaling's words.
func (n *node) measure(roomID, participantID string, received bool) signaling.Measured {
	relays := func(netip.AddrPort) bool { return false }
	if n.turn != nil {
		relays = n.turn.Relays
	}
	return measured(n.sfu, relays, roomID, participantID, received)
}

// measured asks an SFU. relays tells the addresses of relays from those of clients; the addresses go no further.
func measured(media *sfu.Server, relays func(netip.AddrPort) bool, roomID, participantID string, received bool) signaling.Measured {
	p, ok := media.Participant(roomID, participantID)
	if !ok {
		return signaling.Measured{Published: []signaling.MeasuredTrack{}}
	}
	var stats sfu.ParticipantStats
	if received {
		stats = p.Stats()
	} else {
		stats = p.Overview()
	}
	out := signaling.Measured{
		RTTms: milliseconds(stats.Links.RTT), Up: measuredLink(stats.Links.Up), Down: measuredLink(stats.Links.Down),
		Published: make([]signaling.MeasuredTrack, 0, len(stats.Publications)),
	}
	for _, t := range stats.Transports {
		path := pathOf(t.Path, relays)
		// One peer connection may carry both directions.
		if t.Target == sfu.Publisher || out.Up.Path == "" {
			out.Up.Path = path
		}
		if t.Target == sfu.Subscriber || out.Down.Path == "" {
			out.Down.Path = path
		}
		out.Down.EstimateBps = max(out.Down.EstimateBps, estimateOf(t))
	}
	for _, pub := range stats.Publications {
		out.Published = append(out.Published, measuredTrack(pub))
	}
	for _, s := range stats.Subscriptions {
		out.Received = append(out.Received, measuredDelivery(s))
	}
	return out
}

// estimateOf is what the way to the peer is thought to take, in bits per second, 0 while unknown.
func estimateOf(t sfu.TransportStats) uint64 {
	if t.Congestion.Source == sfu.NoEstimate {
		return 0
	}
	return uint64(t.Congestion.Target)
}

func pathOf(p sfu.Path, relays func(netip.AddrPort) bool) string {
	switch {
	case !p.Remote.IsValid():
		return ""
	case relays(p.Remote):
		return "relay"
	case p.TCP:
		return "tcp"
	}
	return "udp"
}

func measuredLink(l sfu.Link) signaling.MeasuredLink {
	return signaling.MeasuredLink{Loss: lossOf(l.Measured, l.Loss), JitterMs: milliseconds(l.Jitter), BitrateBps: l.Bitrate}
}

func measuredTrack(pub sfu.PublicationStats) signaling.MeasuredTrack {
	out := signaling.MeasuredTrack{TrackID: pub.TrackID, MimeType: pub.MimeType, Muted: pub.Muted, Layers: []signaling.MeasuredLayer{}}
	for i, l := range pub.Layers {
		if l.SSRC != 0 {
			out.Layers = append(out.Layers, signaling.MeasuredLayer{
				Layer: i, Live: l.Live, Loss: lossOf(l.Recent.Measured(), l.Recent.Loss()), JitterMs: milliseconds(l.Jitter),
				BitrateBps: l.Recent.Bitrate(),
			})
		}
	}
	return out
}

func measuredDelivery(s sfu.SubscriptionStats) signaling.MeasuredDelivery {
	d := s.Delivery
	return signaling.MeasuredDelivery{
		TrackID: s.TrackID, MimeType: s.MimeType, Muted: d.Muted, Paused: d.Paused,
		Layer: d.Sent, Wanted: d.Wish, Why: whyOf(d), Width: d.Width, Height: d.Height,
		Loss: lossOf(d.Recent.Measured(), d.Recent.Loss()), JitterMs: milliseconds(s.Jitter),
		BitrateBps: d.Recent.Bitrate(), FPS: d.Recent.FPS(), Freezes: d.Freezes, FrozenMs: milliseconds(d.FrozenFor),
	}
}

// whyOf says why a track isn't sent as its subscriber's settings ask for, "" where it is: the words of
// [signaling.MeasuredDelivery].
func whyOf(d sfu.Delivery) string {
	switch {
	case d.Muted:
		return "muted"
	case d.Disabled:
		return "disabled"
	case d.Starved && (d.Paused || d.Sent < d.Wish):
		return "bandwidth"
	case d.Paused:
		return "no_media"
	case d.Wish < 0 || d.Sent >= d.Wish:
		return ""
	case d.Best >= 0 && d.Best < d.Wish && d.Sent == d.Best:
		return "not_sent"
	}
	return "starting"
}

// lossOf is a share, or nil where it means nothing.
func lossOf(measured bool, loss float64) *float64 {
	if !measured {
		return nil
	}
	return &loss
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Quality implements companion.Rooms.
func (r callRooms) Quality(room, identity string) (companion.CallQuality, bool) {
	list, _ := r.n.signaling.Qualities(room, identity)
	return callQuality(list, identity)
}

// callQuality is what one participant of a room may know of it.
func callQuality(list []signaling.ParticipantQuality, identity string) (companion.CallQuality, bool) {
	out, found := companion.CallQuality{Others: []companion.OtherQuality{}}, false
	tracks := map[string][]companion.TrackQuality{} // by publisher
	for _, p := range list {
		if p.Identity != identity {
			continue
		}
		found = true
		m := p.Measured
		out.Me = companion.OwnQuality{Quality: p.Quality, RTTms: m.RTTms, Up: callLink(m.Up), Down: callLink(m.Down)}
		for _, t := range m.Received {
			tracks[t.Publisher] = append(tracks[t.Publisher], companion.TrackQuality{
				ID: t.TrackID, Source: t.Source, Muted: t.Muted, Paused: t.Paused, Layer: t.Layer, Wanted: t.Wanted, Why: t.Why,
				Width: t.Width, Height: t.Height, Loss: t.Loss, JitterMs: t.JitterMs, BitrateBps: t.BitrateBps, FPS: t.FPS,
				Freezes: t.Freezes, FrozenMs: t.FrozenMs,
			})
		}
	}
	for _, p := range list {
		if p.Identity == identity {
			continue
		}
		up := callLink(p.Measured.Up)
		up.Path = "" // how others reach the server is their own business
		other := companion.OtherQuality{Identity: p.Identity, Quality: p.Quality, RTTms: p.Measured.RTTms, Up: up, Tracks: tracks[p.Identity]}
		if other.Tracks == nil {
			other.Tracks = []companion.TrackQuality{}
		}
		out.Others = append(out.Others, other)
	}
	return out, found
}

func callLink(l signaling.MeasuredLink) companion.Link {
	return companion.Link{Loss: l.Loss, JitterMs: l.JitterMs, BitrateBps: l.BitrateBps, EstimateBps: l.EstimateBps, Path: l.Path}
}

package main

import (
	"errors"
	"fmt"

	"anytime/sfu"
	"anytime/signaling"
)

// mediaServer is the SFU as signaling knows it.
type mediaServer struct{ *sfu.Server }

// Join implements signaling.Media.
func (m mediaServer) Join(c signaling.MediaConfig) (signaling.Peer, error) {
	p, err := m.Server.Join(sfu.ParticipantConfig{
		Room: c.Room, ID: c.ID, Single: c.Single, FullICE: c.FullICE, FixedCodec: c.FixedCodec, Voices: c.Voices,
		Notify: func(e sfu.Event) { c.Notify(mediaEvent(e)) },
	})
	if err != nil {
		return nil, err
	}
	return peer{p}, nil
}

// peer is a participant of the SFU as signaling knows it.
type peer struct{ *sfu.Participant }

// Offer implements signaling.Transports.
func (p peer) Offer(sdp string) (signaling.Answer, error) {
	answer, tracks, err := p.Participant.Offer(sdp)
	return signaling.Answer{SDP: answer, MidToTrack: tracks}, err
}

// Candidate implements signaling.Transports.
func (p peer) Candidate(t signaling.Target, init string) error {
	return p.Participant.Candidate(sfu.Target(t), init)
}

// RestartICE implements signaling.Transports.
func (p peer) RestartICE(t signaling.Target) { p.Participant.RestartICE(sfu.Target(t)) }

// Publish implements signaling.Publications.
func (p peer) Publish(c signaling.Publication) error {
	return p.Participant.Publish(publicationConfig(c))
}

// publicationConfig says what a track is in the SFU's words.
func publicationConfig(c signaling.Publication) sfu.PublicationConfig {
	kind := sfu.Audio
	if c.Video {
		kind = sfu.Video
	}
	var backups []sfu.CodecConfig
	for _, b := range c.Backups {
		backups = append(backups, codecConfig(b))
	}
	return sfu.PublicationConfig{
		ID: c.ID, CID: c.CID, Kind: kind, Stream: c.Stream, Muted: c.Muted, Layers: layersOf(c.Layers),
		MimeType: c.MimeType, Stereo: c.Stereo, DTX: c.DTX, RED: c.RED,
		Backups: backups, Policy: sfu.BackupPolicy(c.Policy), Encrypted: c.Encrypted, Still: c.Still, Exempt: c.Exempt,
	}
}

// AddCodec implements signaling.Publications.
func (p peer) AddCodec(trackID string, c signaling.PublicationCodec) error {
	return mediaError(p.Participant.AddCodec(trackID, codecConfig(c)))
}

func codecConfig(c signaling.PublicationCodec) sfu.CodecConfig {
	return sfu.CodecConfig{MimeType: c.MimeType, CID: c.CID, Layers: layersOf(c.Layers)}
}

func layersOf(list []signaling.PublicationLayer) []sfu.Layer {
	layers := make([]sfu.Layer, len(list))
	for i, l := range list {
		layers[i] = sfu.Layer{Quality: l.Quality, Width: l.Width, Height: l.Height, Bitrate: l.Bitrate}
	}
	return layers
}

// Subscribe implements signaling.Subscriptions.
func (p peer) Subscribe(trackID string) error { return mediaError(p.Participant.Subscribe(trackID)) }

// Configure implements signaling.Subscriptions.
func (p peer) Configure(trackID string, s signaling.SubscriptionSettings) {
	p.Participant.Configure(trackID, sfu.SubscriptionSettings(s))
}

// SendData implements signaling.DataChannels.
func (p peer) SendData(reliable bool, payload []byte) error {
	return mediaError(p.Participant.SendData(reliable, payload))
}

// ResendData implements signaling.DataChannels.
func (p peer) ResendData(payloads [][]byte) error {
	return mediaError(p.Participant.ResendData(payloads))
}

// mediaEvent says what happened in signaling's words.
func mediaEvent(e sfu.Event) signaling.MediaEvent {
	switch e := e.(type) {
	case sfu.OfferReady:
		return signaling.OfferReady{ID: e.ID, SDP: e.SDP, MidToTrack: e.Tracks}
	case sfu.SectionsNeeded:
		return signaling.SectionsNeeded(e)
	case sfu.CandidateFound:
		return signaling.CandidateFound{Target: signaling.Target(e.Target), Init: e.InitJSON}
	case sfu.TransportState:
		return signaling.TransportChanged{Target: signaling.Target(e.Target), State: signaling.TransportState(e.State)}
	case sfu.PublicationStarted:
		return signaling.PublicationStarted{TrackID: e.TrackID, MimeType: e.MimeType}
	case sfu.PublicationEnded:
		return signaling.PublicationEnded(e)
	case sfu.CodecStarted:
		return signaling.CodecStarted(e)
	case sfu.CodecEnded:
		return signaling.CodecEnded(e)
	case sfu.LayersWanted:
		return signaling.LayersWanted(e)
	case sfu.StreamPaused:
		return signaling.StreamPaused(e)
	case sfu.ConnectionScored:
		return signaling.ConnectionScored(e)
	case sfu.DataReceived:
		return signaling.DataReceived(e)
	case sfu.DataRefused:
		return signaling.DataRefused(e)
	case sfu.SubscriptionFailed:
		return signaling.SubscriptionFailed{TrackID: e.TrackID, Err: mediaError(e.Err)}
	case sfu.SubscriptionStalled:
		return signaling.SubscriptionStalled(e)
	}
	panic(fmt.Sprintf("media: an event of type %T that has no counterpart", e))
}

// mediaError adds signaling's sentinel to the SFU's.
func mediaError(err error) error {
	switch {
	case errors.Is(err, sfu.ErrCodec):
		return fmt.Errorf("%w (%w)", err, signaling.ErrCodecUnsupported)
	case errors.Is(err, sfu.ErrUnknownTrack):
		return fmt.Errorf("%w (%w)", err, signaling.ErrTrackNotFound)
	case errors.Is(err, sfu.ErrOverflow):
		return fmt.Errorf("%w (%w)", err, signaling.ErrOverflow)
	}
	return err
}

// speaking says who is heard in signaling's words, the loudest first.
func speaking(list []sfu.Speaker) []signaling.Speaker {
	var active []signaling.Speaker
	for _, s := range list {
		if s.Active {
			active = append(active, signaling.Speaker{ParticipantID: s.ID, Level: float32(s.Level)})
		}
	}
	return active
}

package signaling

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// Measured is what the media side knows of a participant's connection over the last seconds. No address is in it.
type Measured struct {
	// RTTms is the smoothed round trip in milliseconds, 0 while unknown.
	RTTms float64 `json:"rtt_ms"`
	// Up is from the participant to the server.
	Up   MeasuredLink `json:"up"`
	Down MeasuredLink `json:"down"`
	// Published are the tracks that come from the participant, Received those that go to it. Received is filled only
	// where it is asked for.
	Published []MeasuredTrack    `json:"published"`
	Received  []MeasuredDelivery `json:"received,omitempty"`
}

// MeasuredLink is one direction of a connection.
type MeasuredLink struct {
	// Loss is the share of packets lost, 0 to 1, before repair; nil while too few were sent.
	Loss *float64 `json:"loss"`
	// JitterMs is in milliseconds.
	JitterMs float64 `json:"jitter_ms"`
	// BitrateBps is what is sent, EstimateBps what the way is thought to take, in bits per second; an estimate of 0 is
	// unknown.
	BitrateBps  uint64 `json:"bitrate_bps"`
	EstimateBps uint64 `json:"estimate_bps,omitempty"`
	// Path is how packets travel: "udp", "tcp", "relay", or "" while nothing is connected.
	Path string `json:"path"`
}

// MeasuredTrack is one published track.
type MeasuredTrack struct {
	TrackID string `json:"sid"`
	// Source is "camera", "microphone", "screen_share", "screen_share_audio" or "unknown"; the media side leaves it empty.
	Source   string          `json:"source"`
	MimeType string          `json:"mime_type"`
	Muted    bool            `json:"muted"`
	Layers   []MeasuredLayer `json:"layers"`
}

// MeasuredLayer is one stream of a published track.
type MeasuredLayer struct {
	Layer int `json:"layer"`
	// Live: packets come.
	Live       bool     `json:"live"`
	Loss       *float64 `json:"loss"`
	JitterMs   float64  `json:"jitter_ms"`
	BitrateBps uint64   `json:"bitrate_bps"`
}

// MeasuredDelivery is one track on its way to a participant.
type MeasuredDelivery struct {
	TrackID string `json:"sid"`
	// Publisher is an identity; the media side leaves it and Source empty.
	Publisher string `json:"publisher"`
	Source    string `json:"source"`
	MimeType  string `json:"mime_type"`
	Muted     bool   `json:"muted"`
	Paused    bool   `json:"paused"`
	// Layer is the one being sent, Wanted the one that the participant's settings ask for; -1 for none, and for audio. Why
	// says in a word why they differ: "muted", "disabled", "no_media", "starting", "not_sent" by the publisher, "bandwidth".
	Layer  int    `json:"layer"`
	Wanted int    `json:"wanted"`
	Why    string `json:"why"`
	Width  uint32 `json:"width"`
	Height uint32 `json:"height"`
	// Loss counts what the publisher's way lost, too.
	Loss       *float64 `json:"loss"`
	JitterMs   float64  `json:"jitter_ms"`
	BitrateBps uint64   `json:"bitrate_bps"`
	FPS        float64  `json:"fps"`
	// Freezes counts gaps of more than 500 ms since the subscription began; FrozenMs adds them up, in milliseconds.
	Freezes  uint64  `json:"freezes"`
	FrozenMs float64 `json:"frozen_ms"`
}

// ParticipantQuality is what is known of a participant's connection. Quality is "excellent", "good", "poor" or "lost",
// "unknown" at first; Score is the mean opinion score, 1 to 4.5, 0 while it is unknown or lost.
type ParticipantQuality struct {
	Identity      string   `json:"identity"`
	ParticipantID string   `json:"sid"`
	Name          string   `json:"name"`
	Quality       string   `json:"quality"`
	Score         float64  `json:"score"`
	Measured      Measured `json:"measured"`
}

var qualityNames = map[room.Quality]string{room.Lost: "lost", room.Poor: "poor", room.Good: "good", room.Excellent: "excellent"}

// Qualities returns what is known of the connections of everybody in a room, hidden ones included, in the order of joining,
// and of the identity named also what it receives. false: there is no such room.
func (s *Server) Qualities(roomName, identity string) ([]ParticipantQuality, bool) {
	type track struct{ publisher, source string }
	var roomID string
	var list []ParticipantQuality
	tracks := map[string]track{}
	if s.visit(roomName, func(a *actor) error {
		roomID = a.room.ID()
		for _, p := range a.room.Participants() {
			q := ParticipantQuality{Identity: p.Identity, ParticipantID: p.ID, Name: p.Name, Quality: "unknown"}
			if told, ok := a.room.QualityOf(p.ID); ok {
				q.Quality, q.Score = qualityNames[told.Quality], float64(told.Score)
			}
			for _, t := range p.Tracks {
				source := "unknown"
				if i := int(t.Source) - 1; i >= 0 && i < len(wire.SourceNames) {
					source = wire.SourceNames[i]
				}
				tracks[t.ID] = track{p.Identity, source}
			}
			list = append(list, q)
		}
		return nil
	}) != nil {
		return nil, false
	}
	if s.cfg.Measure == nil {
		return list, true
	}
	// Outside of the room's goroutine, which waits for nothing.
	for i := range list {
		m := s.cfg.Measure(roomID, list[i].ParticipantID, list[i].Identity == identity)
		for j := range m.Published {
			m.Published[j].Source = tracks[m.Published[j].TrackID].source
		}
		for j, r := range m.Received {
			m.Received[j].Publisher, m.Received[j].Source = tracks[r.TrackID].publisher, tracks[r.TrackID].source
		}
		list[i].Measured = m
	}
	return list, true
}

// ourMethods are those of the API that the contract doesn't have. They answer in JSON or as google.protobuf.Struct, so that
// no schema of our own is needed.
func (s *Server) ourMethods() map[string]twirp.Method {
	return map[string]twirp.Method{
		"GetQuality": granted(func(m *wire.RoomParticipantIdentity) need { return adminOf(m.GetRoom()) }, s.getQuality),
	}
}

// getQuality answers with everybody's links, or with those of one participant and all that it receives: what everybody
// receives would grow with the square of the room.
func (s *Server) getQuality(_ context.Context, m *wire.RoomParticipantIdentity) (*structpb.Struct, error) {
	list, ok := s.Qualities(m.GetRoom(), m.GetIdentity())
	if !ok {
		return nil, noRoom(m.GetRoom())
	}
	answer := struct {
		Room         string               `json:"room"`
		Participants []ParticipantQuality `json:"participants"`
	}{Room: m.GetRoom(), Participants: []ParticipantQuality{}}
	for _, p := range list {
		if m.GetIdentity() == "" || p.Identity == m.GetIdentity() {
			answer.Participants = append(answer.Participants, p)
		}
	}
	if m.GetIdentity() != "" && len(answer.Participants) == 0 {
		return nil, noParticipant(m.GetIdentity(), m.GetRoom())
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode the quality of a room: %w", err)
	}
	out := &structpb.Struct{}
	if err := protojson.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("encode the quality of a room: %w", err)
	}
	return out, nil
}

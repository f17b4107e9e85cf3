package sfu

import (
	"sync"
	"time"

	"anytime/sfu/speakers"
)

// room is the set of participants that may subscribe to each other. Locks are taken in the order server, participant
// (negotiation), room, allocation (of a participant), subscription, offers (of a publication), publication, layer, egress;
// nothing below calls upwards.
type room struct {
	name string

	mu           sync.Mutex
	participants map[string]*Participant
	guests       map[*Participant]bool // who are elsewhere and whose tracks are shown here
	publications map[string]*publication
	speaker      *Participant  // the loudest, or who was it last …
	spoke        time.Duration // … since then

	levels   sync.Mutex // guards what follows, its tracks and its microphones; it is taken last
	detector *speakers.Detector
	loudest  *speakers.Loudest
}

func newRoom(name string, v Voices) *room {
	return &room{name: name, participants: map[string]*Participant{}, guests: map[*Participant]bool{}, publications: map[string]*publication{},
		detector: speakers.New(speakers.Config{}), loudest: speakers.NewLoudest(v)}
}

func (r *room) add(p *Participant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.participants[p.cfg.ID] != nil {
		return false
	}
	r.participants[p.cfg.ID] = p
	return true
}

// host has the room stay while p's tracks are shown in it.
func (r *room) host(p *Participant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guests[p] = true
}

// remove takes p out, as participant and as guest, and returns how many are left.
func (r *room) remove(p *Participant) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.participants[p.cfg.ID] == p {
		delete(r.participants, p.cfg.ID)
	}
	delete(r.guests, p)
	if r.speaker == p {
		r.speaker = nil
		p.speaking.Store(false)
	}
	return len(r.participants) + len(r.guests)
}

func (r *room) list() []*Participant {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Participant, 0, len(r.participants))
	for _, p := range r.participants {
		out = append(out, p)
	}
	return out
}

func (r *room) addPublication(p *publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.publications[p.id] != nil {
		return false
	}
	r.publications[p.id] = p
	return true
}

func (r *room) removePublication(p *publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.publications[p.id] == p {
		delete(r.publications, p.id)
	}
}

func (r *room) publication(id string) *publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.publications[id]
}

func (r *room) speakersAt(now time.Duration) ([]Speaker, bool) {
	r.levels.Lock()
	defer r.levels.Unlock()
	return r.detector.Update(now, nil)
}

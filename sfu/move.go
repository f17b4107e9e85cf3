package sfu

import (
	"fmt"
	"maps"
	"slices"
)

// place is a room in which a publication is found, and the ear that the room has on it.
type place struct {
	room *room
	ear  *ear // audio only
}

// Move brings the participant into another room, which is made if need be. Its peer connections and its publications
// stay. Its subscriptions end, as do those that participants of the old room have to its tracks.
func (p *Participant) Move(roomName string) error {
	pubs, err := p.server.move(p, roomName)
	if err != nil {
		return err
	}
	for _, s := range p.subscriptions() {
		p.drop(s)
	}
	for _, pub := range pubs {
		pub.dropStrangers()
	}
	return nil
}

// Show lists the participant's tracks, those to come included, in a further room too: its participants may subscribe to
// them, until Hide or Close.
func (p *Participant) Show(roomName string) error { return p.server.show(p, roomName) }

// Hide undoes Show. Subscriptions of that room's participants end.
func (p *Participant) Hide(roomName string) {
	for _, pub := range p.server.hide(p, roomName) {
		pub.dropStrangers()
	}
}

// move takes p from its room into another. It returns the publications that came along.
func (s *Server) move(p *Participant, name string) ([]*publication, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.room
	switch {
	case s.closed || p.closed:
		return nil, ErrClosed
	case name == "":
		return nil, fmt.Errorf("sfu: moving needs a room")
	case from.name == name:
		return nil, nil
	case p.shown[name] != nil:
		return nil, fmt.Errorf("participant %s: its tracks are shown in that room: %w", p.cfg.ID, ErrExists)
	}
	to := s.named(name)
	if !to.add(p) {
		return nil, fmt.Errorf("participant %s: %w", p.cfg.ID, ErrExists)
	}
	s.rooms[name], p.room = to, to
	for _, pub := range p.tracks.byID {
		pub.vanish(from)
		pub.appear(to)
	}
	s.forsake(from, from.remove(p))
	return slices.Collect(maps.Values(p.tracks.byID)), nil
}

func (s *Server) show(p *Participant, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.closed || p.closed:
		return ErrClosed
	case name == "" || p.room.name == name || p.shown[name] != nil:
		return fmt.Errorf("participant %s in the room %q: %w", p.cfg.ID, name, ErrExists)
	}
	r := s.named(name)
	r.host(p)
	s.rooms[name] = r
	if p.shown == nil {
		p.shown = map[string]*room{}
	}
	p.shown[name] = r
	for _, pub := range p.tracks.byID {
		pub.appear(r)
	}
	return nil
}

func (s *Server) hide(p *Participant, name string) []*publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.shown[name]
	if r == nil {
		return nil
	}
	delete(p.shown, name)
	for _, pub := range p.tracks.byID {
		pub.vanish(r)
	}
	s.forsake(r, r.remove(p))
	return slices.Collect(maps.Values(p.tracks.byID))
}

// named returns the room of that name, or a new one, which is not served yet. Called with s.mu held.
func (s *Server) named(name string) *room {
	if r := s.rooms[name]; r != nil {
		return r
	}
	return newRoom(name, s.cfg.Voices)
}

// forsake ends a room in which nobody is left. Called with s.mu held.
func (s *Server) forsake(r *room, left int) {
	if left == 0 && s.rooms[r.name] == r {
		delete(s.rooms, r.name)
		s.heldBack += r.voices().Gated
	}
}

// whereabouts returns the room that the participant is in.
func (p *Participant) whereabouts() *room {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room
}

// rooms are the places in which the publication is found.
func (pub *publication) rooms() []place {
	if list := pub.places.Load(); list != nil {
		return *list
	}
	return nil
}

// appear shows the publication in a room. The owner's lock is held.
func (pub *publication) appear(r *room) bool {
	if !r.addPublication(pub) {
		return false
	}
	at := place{room: r}
	if pub.cfg.Kind == Audio {
		at.ear = r.listen(pub)
	}
	list := append(slices.Clone(pub.rooms()), at)
	pub.places.Store(&list)
	if pub.cfg.Kind == Audio {
		r.heed(at.ear, pub) // it may have been muted meanwhile
	}
	return true
}

// vanish takes it out of a room. The owner's lock is held.
func (pub *publication) vanish(r *room) {
	old := pub.rooms()
	list := slices.DeleteFunc(slices.Clone(old), func(at place) bool { return at.room == r })
	pub.places.Store(&list)
	for _, at := range old {
		if at.room == r {
			at.leave(pub)
		}
	}
}

func (at place) leave(pub *publication) {
	at.room.removePublication(pub)
	if at.ear != nil {
		at.room.unlisten(at.ear)
	}
}

// dropStrangers ends the subscriptions of participants that are in none of the publication's rooms.
func (pub *publication) dropStrangers() {
	pub.mu.Lock()
	subs := slices.Clone(pub.wanted)
	pub.mu.Unlock()
	for _, s := range subs {
		in := s.p.whereabouts()
		if !slices.ContainsFunc(pub.rooms(), func(at place) bool { return at.room == in }) {
			s.p.drop(s)
		}
	}
}

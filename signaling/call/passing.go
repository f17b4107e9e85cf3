package call

import "time"

// What happens to a call without anybody asking for it: the room, time, blocks, the end.

func (m *machine) mediaJoined(e MediaJoined) {
	p := m.Person(e.Account)
	if p == nil || p.State != PersonJoined || p.Device != e.Device {
		// Admitted a moment before its part ended, or it never had one: the disconnection that went with the end may have come
		// before the room knew the device.
		m.changed = true
		m.evict = append(m.evict, Effect{Kind: Disconnect, Account: e.Account, Device: e.Device, Reason: ReasonNotIn})
		return
	}
	if p.Link != Connected {
		p.Link, p.DueAt = Connected, time.Time{}
		m.GoneAt = time.Time{}
		m.changed = true
	}
}

func (m *machine) mediaGone(account, device string, within time.Duration) {
	p := m.Person(account)
	if p == nil || p.State != PersonJoined || p.Device != device || p.Link == Connecting {
		return
	}
	due := m.now.Add(within)
	if p.Link == Lost && !due.Before(p.DueAt) {
		return
	}
	p.Link, p.DueAt = Lost, due
	m.changed = true
}

func (m *machine) roomGone(e RoomGone) {
	for i := range m.People {
		p := &m.People[i]
		if p.State != PersonJoined || p.Link == Connecting && p.DueAt.IsZero() {
			continue // a caller who has not connected yet waits for the ring
		}
		if p.Link == Connected {
			p.Link, m.changed = Lost, true
		}
		if due := m.now.Add(ConnectWithin); !due.Equal(p.DueAt) {
			p.DueAt, m.changed = due, true
		}
	}
	if !m.changed || !m.GoneAt.IsZero() {
		return
	}
	m.GoneAt = m.now
	if since := e.Since.UTC().Truncate(time.Millisecond); !e.Since.IsZero() && since.Before(m.now) {
		m.GoneAt = later(since, m.UpdatedAt) // whoever changed the call was well then
	}
}

func (m *machine) timerFired() {
	if !m.GoneAt.IsZero() {
		m.last = m.GoneAt
	}
	due := func(p *Person) bool { return !p.DueAt.IsZero() && !p.DueAt.After(m.now) }
	for i := range m.People {
		switch p := &m.People[i]; {
		case !due(p):
		case p.State == PersonRinging:
			m.changed = true
			p.finish(PersonTimedOut, OutcomeMissed, m.now)
		case p.Link == Connecting:
			m.changed = true
			p.finish(PersonFailed, OutcomeFailed, m.now)
		}
	}
	for i := range m.People {
		switch p := &m.People[i]; {
		case !due(p): // everybody above is not any more
		case m.State == Ringing:
			m.changed = true
			m.remove(p)
		default:
			m.changed = true
			m.finishTalk(p)
		}
	}
}

// blocked ends what the two have with each other in this call, without letting either throw out somebody else's guest.
func (m *machine) blocked(e Blocked) {
	p, target := m.Person(e.Account), m.Person(e.Target)
	if p == nil || target == nil || p == target || p.Over() || target.Over() {
		return
	}
	switch {
	case p.Rings() && p.InvitedBy == e.Target:
		// The devices stop at once; whoever calls hears it ring on.
		p.Silent, p.Outcome, p.EndedAt = true, OutcomeDeclined, m.now
		p.stopDevices(PersonCancelled)
	case target.State == PersonRinging && target.InvitedBy == e.Account:
		target.finish(PersonCancelled, OutcomeMissed, m.now)
	case p.State == PersonJoined && target.State == PersonJoined && target.InvitedBy == e.Account:
		m.remove(target)
	case p.State == PersonJoined && target.State == PersonJoined:
		m.remove(p)
	default:
		return
	}
	m.changed = true
}

func (m *machine) signedOut(e SignedOut) {
	p := m.Person(e.Account)
	if p == nil {
		return
	}
	if p.State == PersonJoined && p.Device == e.Device {
		m.remove(p)
		m.changed = true
		return
	}
	for i := range p.Devices {
		if d := &p.Devices[i]; d.ID == e.Device && d.State.rings() {
			d.State = DeviceSignedOut
			m.changed = true
		}
	}
}

func (m *machine) failed() {
	for i := range m.People {
		switch p := &m.People[i]; {
		case p.Over():
		case p.State == PersonRinging:
			m.changed = true
			p.finish(PersonCancelled, OutcomeMissed, m.now)
		case m.State == Ringing || p.Link == Connecting:
			m.changed = true
			p.finish(PersonFailed, OutcomeFailed, m.now)
		}
	}
	for i := range m.People {
		if p := &m.People[i]; !p.Over() {
			m.changed = true
			m.finishTalk(p)
		}
	}
}

// settle ends the call when nobody is left to talk to or to wait for, and works out when the next timer is due.
func (m *machine) settle() {
	joined, ringing := m.count(PersonJoined), m.count(PersonRinging)
	if m.State != Ended && (joined == 0 || joined == 1 && ringing == 0) {
		m.end()
	}
	m.DueAt = time.Time{}
	for i := range m.People {
		m.DueAt = earlier(m.DueAt, m.People[i].DueAt)
	}
}

func (m *machine) end() {
	answered := m.State == Active
	m.State, m.EndedAt, m.GoneAt = Ended, m.now, time.Time{}
	for i := range m.People {
		if p := &m.People[i]; p.State == PersonRinging {
			p.finish(PersonCancelled, OutcomeMissed, m.now)
		}
	}
	for i := range m.People {
		p := &m.People[i]
		switch {
		case p.State != PersonJoined:
		case !answered:
			p.finish(PersonLeft, m.refusal(), m.now)
		default:
			m.finishTalk(p)
		}
	}
}

// finishTalk ends the part of a person in an answered call who does not go of their own will.
func (m *machine) finishTalk(p *Person) {
	if m.nobodyCame(p) {
		p.finish(PersonFailed, OutcomeFailed, m.now)
		return
	}
	p.finish(PersonLeft, OutcomeAnswered, later(m.last, p.JoinedAt))
}

// nobodyCame reports whether everybody else who answered failed to connect: p waited, but never talked.
func (m *machine) nobodyCame(p *Person) bool {
	failed := false
	for i := range m.People {
		switch q := &m.People[i]; {
		case q == p:
		case q.State == PersonFailed:
			failed = true
		case q.State == PersonLeft || q.Talked > 0:
			return false
		}
	}
	return failed
}

// refusal is the outcome for a caller whom nobody answered: what all of them did, or just that it ended.
func (m *machine) refusal() Outcome {
	o := NoOutcome
	for i := 1; i < len(m.People); i++ {
		this := OutcomeEnded
		switch m.People[i].State {
		case PersonDeclined:
			this = OutcomeDeclined
		case PersonBusy:
			this = OutcomeBusy
		case PersonTimedOut:
			this = OutcomeTimedOut
		case PersonCancelled:
			this = OutcomeCancelled // withdrawn by blocking the person
		}
		if o != NoOutcome && o != this {
			return OutcomeEnded
		}
		o = this
	}
	return o
}

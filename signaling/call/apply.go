package call

import (
	"errors"
	"fmt"
	"time"
)

// The reasons for which an event is refused. Events that come twice, or late, are not refused: they change nothing.
var (
	// ErrInvalid: the event makes no sense for any call (a call to oneself, an unknown medium, nobody to ring).
	ErrInvalid = errors.New("not a valid call")
	// ErrNotPlaced: the call does not exist yet.
	ErrNotPlaced = errors.New("the call has not been placed")
	// ErrPlaced: the call exists already.
	ErrPlaced = errors.New("the call has been placed already")
	// ErrStranger: the account has no part in the call, or must not know of it.
	ErrStranger = errors.New("not in this call")
	// ErrOver: the call, or the person's part in it, has ended.
	ErrOver = errors.New("the call is over")
	// ErrElsewhere: another device of the person took the call.
	ErrElsewhere = errors.New("answered on another device")
	// ErrNotIn: the device is not in the call.
	ErrNotIn = errors.New("this device is not in the call")
	// ErrNotCaller: only the caller can cancel.
	ErrNotCaller = errors.New("only the caller can cancel")
	// ErrFull: the call would pass MaxPeople.
	ErrFull = errors.New("the call is full")
)

// Apply returns the call after an event, and what has to be done to get there.
//
// An event that changes nothing (it came twice, or too late to matter) returns the call as it was, with the same version and no
// effects. An error also leaves the call as it was. Otherwise the version is one higher, even where only effects come out of it.
//
// now is used to the millisecond and never runs backwards within a call.
func Apply(c Call, e Event, now time.Time) (Call, []Effect, error) {
	now = now.UTC().Truncate(time.Millisecond)
	if now.Before(c.UpdatedAt) {
		now = c.UpdatedAt
	}
	if p, ok := e.(Placed); ok {
		return place(c, p, now)
	}
	if c.Version == 0 {
		return c, nil, ErrNotPlaced
	}
	m := machine{Call: c.clone(), now: now, last: now}
	if err := m.handle(e); err != nil {
		return c, nil, err
	}
	if !m.changed {
		return c, nil, nil
	}
	m.settle()
	n := m.Call
	n.Version++
	n.UpdatedAt = now
	return n, effects(&c, &n, m.evict), nil
}

// machine is a call in the middle of an event.
type machine struct {
	Call
	now     time.Time
	last    time.Time // until when those whose part ends have talked: now, or when the room went away
	changed bool
	evict   []Effect // devices found in the room that have no business there
}

func (m *machine) handle(e Event) error {
	switch e := e.(type) {
	case Delivered:
		return m.delivered(e)
	case Answered:
		return m.answered(e)
	case Declined:
		return m.declined(e)
	case Cancelled:
		return m.cancelled(e)
	case HungUp:
		return m.hungUp(e)
	case Invited:
		return m.invited(e)
	case MediaJoined:
		m.mediaJoined(e)
	case MediaLost:
		m.mediaGone(e.Account, e.Device, ReconnectWithin)
	case MediaLeft:
		m.mediaGone(e.Account, e.Device, ReturnWithin)
	case RoomGone:
		m.roomGone(e)
	case TimerFired:
		m.timerFired()
	case Blocked:
		m.blocked(e)
	case SignedOut:
		m.signedOut(e)
	case Failed:
		m.failed()
	default:
		return fmt.Errorf("%w: unknown event %T", ErrInvalid, e)
	}
	return nil
}

func place(c Call, e Placed, now time.Time) (Call, []Effect, error) {
	if c.Version != 0 {
		return c, nil, ErrPlaced
	}
	if e.ID == "" || e.Account == "" || e.Device == "" || !e.Media.Valid() {
		return c, nil, ErrInvalid
	}
	m := machine{now: now, last: now, Call: Call{
		ID: e.ID, Media: e.Media, State: Ringing, Caller: e.Account, CreatedAt: now,
		People: []Person{{
			Account: e.Account, State: PersonJoined, Device: e.Device, Link: Connecting, Media: e.Media,
			Devices: []Device{{ID: e.Device, State: DeviceAnswered}},
		}},
	}}
	if err := m.ring(e.Account, e.People); err != nil {
		return c, nil, err
	}
	m.settle()
	n := m.Call
	n.Version = 1
	n.UpdatedAt = now
	return n, effects(&Call{}, &n, nil), nil
}

// ring adds people to the call, or rings those again whose part was over.
func (m *machine) ring(by string, people []Invitee) error {
	if len(people) == 0 {
		return ErrInvalid
	}
	for _, in := range people {
		if in.Account == "" || in.Account == by {
			return ErrInvalid
		}
		p := m.Person(in.Account)
		if p != nil && !p.Over() {
			continue
		}
		n := Person{Account: in.Account, InvitedBy: by, State: PersonRinging, RungAt: m.now, DueAt: m.now.Add(RingFor)}
		switch {
		case in.Silent: // nothing else about the person may show
			n.Silent, n.Hidden = true, true
		case in.Busy:
			n.finish(PersonBusy, OutcomeMissed, m.now)
		default:
			n.Waiting = in.Waiting
			for _, d := range in.Devices {
				n.addDevice(d, DeviceRinging)
			}
		}
		m.changed = true
		if p == nil {
			if len(m.People) >= MaxPeople {
				return ErrFull
			}
			m.People = append(m.People, n)
			continue
		}
		n.Talked = p.Length()
		n.Hidden = n.Hidden && p.Hidden // who has seen the call once keeps it in the history
		if in.Silent && !n.Hidden {
			n.Outcome, n.EndedAt = p.Outcome, p.EndedAt
		}
		*p = n
	}
	return nil
}

func (p *Person) addDevice(id string, s DeviceState) {
	for i := range p.Devices {
		if p.Devices[i].ID == id {
			p.Devices[i].State = s
			return
		}
	}
	if id != "" && len(p.Devices) < MaxDevices {
		p.Devices = append(p.Devices, Device{ID: id, State: s})
	}
}

// finish ends a person's part. The outcome stays the first that was set.
func (p *Person) finish(s PersonState, o Outcome, now time.Time) {
	if p.Outcome == NoOutcome {
		p.Outcome = o
		p.EndedAt = now
	}
	p.State, p.Link, p.DueAt = s, NoLink, time.Time{}
	p.stopDevices(s)
}

// stopDevices gives every device that still rings the state that says why it stopped.
func (p *Person) stopDevices(why PersonState) {
	s, own := DeviceCancelled, DeviceCancelled
	switch why {
	case PersonJoined:
		s, own = DeviceAnsweredElsewhere, DeviceAnswered
	case PersonDeclined, PersonBusy:
		s, own = DeviceDeclinedElsewhere, DeviceDeclined
	case PersonTimedOut:
		s, own = DeviceTimedOut, DeviceTimedOut
	}
	for i := range p.Devices {
		d := &p.Devices[i]
		switch {
		case !d.State.rings():
		case d.ID == p.Device:
			d.State = own
		default:
			d.State = s
		}
	}
}

// insider returns the person, or ErrStranger when the account has no part in the call that it may know of.
func (m *machine) insider(account string) (*Person, error) {
	p := m.Person(account)
	if p == nil || p.Hidden {
		return nil, ErrStranger
	}
	return p, nil
}

func (m *machine) delivered(e Delivered) error {
	p, err := m.insider(e.Account)
	if err != nil {
		return err
	}
	if !p.Rings() {
		return nil
	}
	for i := range p.Devices {
		if p.Devices[i].ID == e.Device && p.Devices[i].State == DeviceRinging {
			p.Devices[i].State = DeviceDelivered
			m.changed = true
		}
	}
	return nil
}

func (m *machine) answered(e Answered) error {
	p, err := m.insider(e.Account)
	switch {
	case err != nil:
		return err
	case e.Device == "" || e.Media != "" && !e.Media.Valid():
		return ErrInvalid
	case p.State == PersonJoined && p.Device == e.Device:
		return nil
	case p.State == PersonJoined:
		return ErrElsewhere
	case !p.Rings():
		return ErrOver
	}
	m.changed = true
	p.State, p.Device, p.Link, p.Media = PersonJoined, e.Device, Connecting, e.Media
	if p.Media == "" {
		p.Media = m.Media
	}
	p.addDevice(e.Device, DeviceRinging) // it may have signed in after the ring began
	p.stopDevices(PersonJoined)
	p.JoinedAt, p.DueAt = m.now, m.now.Add(ConnectWithin)
	if m.State == Ringing {
		m.State, m.AnsweredAt = Active, m.now
		caller := &m.People[0] // the only one who is joined while a call rings
		caller.JoinedAt = m.now
		if caller.Link == Connecting {
			caller.DueAt = m.now.Add(ConnectWithin)
		}
	}
	return nil
}

func (m *machine) declined(e Declined) error {
	p, err := m.insider(e.Account)
	switch {
	case err != nil:
		return err
	case p.State == PersonJoined && p.Device == e.Device:
		return ErrInvalid
	case p.State == PersonJoined:
		return ErrElsewhere
	case !p.Rings():
		return nil
	}
	m.changed = true
	p.Device = e.Device
	s := PersonDeclined
	if e.Busy {
		s = PersonBusy
	}
	p.finish(s, OutcomeDeclined, m.now)
	return nil
}

func (m *machine) cancelled(e Cancelled) error {
	p, err := m.insider(e.Account)
	if err != nil {
		return err
	}
	if m.State == Ringing && e.Account != m.Caller {
		return ErrNotCaller
	}
	return m.leave(p, e.Device)
}

func (m *machine) hungUp(e HungUp) error {
	p, err := m.insider(e.Account)
	if err != nil {
		return err
	}
	return m.leave(p, e.Device)
}

func (m *machine) leave(p *Person, device string) error {
	switch {
	case p.Over(), p.State == PersonRinging && p.Silent:
		return nil
	case p.State != PersonJoined || p.Device != device:
		return ErrNotIn
	}
	m.changed = true
	m.remove(p)
	return nil
}

// remove takes a joined person out of the call. A caller who goes before the first answer cancels.
func (m *machine) remove(p *Person) {
	if m.State == Ringing {
		p.finish(PersonCancelled, OutcomeCancelled, m.now)
		return
	}
	p.finish(PersonLeft, OutcomeAnswered, later(m.last, p.JoinedAt))
}

func (m *machine) invited(e Invited) error {
	p, err := m.insider(e.Account)
	switch {
	case err != nil:
		return err
	case m.State == Ended || p.Over():
		return ErrOver
	case p.State != PersonJoined || p.Device != e.Device:
		return ErrNotIn
	}
	return m.ring(e.Account, e.People)
}

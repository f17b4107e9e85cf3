package call

import "time"

// Direction of a call for its reader.
type Direction string

// A call goes out from its caller and comes in for everybody else.
const (
	Outgoing Direction = "outgoing"
	Incoming Direction = "incoming"
)

// View is a call as one device of one person sees it.
type View struct {
	ID        string
	Version   int64
	Media     Media
	Caller    string // account
	Direction Direction
	// State is ringing while the reader is rung, even if others talk already, and ended once the reader's part is over, even if
	// others go on.
	State   State
	MyState PersonState
	Outcome Outcome // empty until the reader's part is over
	Waiting bool
	// Here: the reader's device is, or was, the one in the call.
	Here bool
	// Stopped is why the reader's device stopped ringing, empty if it never rang or still does.
	Stopped    DeviceState
	CreatedAt  time.Time
	AnsweredAt time.Time // when the reader began to talk; zero if never
	EndedAt    time.Time // when the reader's part ended
	Length     time.Duration
	People     []PersonView
}

// PersonView is one person as the others see them.
type PersonView struct {
	Account string
	State   PersonState
	// Device is the one in the call; empty for a person who is not.
	Device string
	Media  Media
}

// shown is the person's state as the others see it.
func (p *Person) shown() PersonState {
	if p.State == PersonJoined && p.Link == Lost {
		return Reconnecting
	}
	return p.State
}

// asLeft is where the person stood when they blocked whoever rings them: what happens
// to the ring that only the others see is none of theirs.
func (p *Person) asLeft() PersonState {
	switch p.Outcome {
	case OutcomeDeclined:
		return PersonDeclined
	case OutcomeMissed:
		return PersonTimedOut
	case OutcomeCancelled:
		return PersonCancelled
	case OutcomeFailed:
		return PersonFailed
	}
	return PersonLeft
}

// View returns the call as a device of an account sees it; false if the account must not know of the call.
func (c *Call) View(account, device string) (View, bool) {
	me := c.Person(account)
	if me == nil || me.Hidden {
		return View{}, false
	}
	v := View{
		ID: c.ID, Version: c.Version, Media: c.Media, Caller: c.Caller, Direction: Incoming, State: c.State,
		MyState: me.shown(), Outcome: me.Outcome, Waiting: me.Waiting,
		CreatedAt: c.CreatedAt, AnsweredAt: me.JoinedAt, EndedAt: me.EndedAt,
		People: make([]PersonView, 0, len(c.People)),
	}
	if me.InvitedBy == "" { // a caller who left and was invited back is rung like anybody else
		v.Direction = Outgoing
	}
	switch {
	case overFor(me):
		v.State, v.Length = Ended, me.Length()
	case me.Rings():
		v.State = Ringing
	}
	if me.Silent {
		v.MyState = me.asLeft()
	}
	for _, d := range me.Devices {
		if d.ID != device {
			continue
		}
		switch d.State {
		case DeviceRinging, DeviceDelivered, DeviceAnswered:
		default:
			v.Stopped = d.State
		}
	}
	v.Here = device != "" && me.Device == device && (me.State == PersonJoined || me.State == PersonLeft || me.State == PersonFailed ||
		me.State == PersonCancelled && account == c.Caller)
	for i := range c.People {
		p := &c.People[i]
		pv := PersonView{Account: p.Account, State: p.shown()}
		if p == me {
			pv.State = v.MyState
		}
		if p.State == PersonJoined {
			pv.Device, pv.Media = p.Device, p.Media
		}
		v.People = append(v.People, pv)
	}
	return v, true
}

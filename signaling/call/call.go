package call

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits and times of a call.
const (
	// MaxPeople is how many people one call may have, its caller included, counting those who left.
	MaxPeople = 50
	// MaxDevices is how many devices of one person ring; a person's further devices see the call but are not rung.
	MaxDevices = 20
	// RingFor is how long a person is rung before the call counts as missed.
	RingFor = 45 * time.Second
	// ReconnectWithin is how long a person who lost the network stays in the call.
	ReconnectWithin = 30 * time.Second
	// ReturnWithin is how long a person stays in the call whose client left the room without hanging up: a page that reloads
	// comes back in time, a closed one does not keep the others waiting.
	ReturnWithin = 10 * time.Second
	// ConnectWithin is how long an answered call waits for a person's first media, and how long a call waits for everybody to
	// come back after the server that held its room went away.
	ConnectWithin = 60 * time.Second
)

// Media is what a call was placed as. Everybody may switch a camera on or off later.
type Media string

// The kinds of call.
const (
	Audio Media = "audio"
	Video Media = "video"
)

// Valid reports whether m is a known kind.
func (m Media) Valid() bool { return m == Audio || m == Video }

// State of a whole call.
type State string

// A call rings until its first answer, is active until it ends, and never leaves Ended.
const (
	Ringing State = "ringing"
	Active  State = "active"
	Ended   State = "ended"
)

// PersonState is where one person stands, as the others see it.
type PersonState string

// The states of a person. All but the first two are final, unless the person is invited again.
const (
	PersonRinging   PersonState = "ringing"
	PersonJoined    PersonState = "joined"
	PersonDeclined  PersonState = "declined"
	PersonBusy      PersonState = "busy"
	PersonTimedOut  PersonState = "timed_out"
	PersonLeft      PersonState = "left"
	PersonCancelled PersonState = "cancelled"
	PersonFailed    PersonState = "failed"
)

// Reconnecting is how [Call.View] shows a joined person whose link is lost. It is not a state of its own.
const Reconnecting PersonState = "reconnecting"

// Link is a joined person's connection to the room.
type Link string

// The states of a link. NoLink is that of everybody who is not joined.
const (
	NoLink     Link = ""
	Connecting Link = "connecting"
	Connected  Link = "connected"
	Lost       Link = "lost"
)

// Outcome is how the call went for one person, in that person's own eyes.
type Outcome string

// The outcomes. A call that nobody took is timed_out (declined, busy) for its caller and missed for those it rang.
// OutcomeEnded is that of a caller whom several people turned down in different ways.
const (
	NoOutcome        Outcome = ""
	OutcomeAnswered  Outcome = "answered"
	OutcomeDeclined  Outcome = "declined"
	OutcomeBusy      Outcome = "busy"
	OutcomeCancelled Outcome = "cancelled"
	OutcomeTimedOut  Outcome = "timed_out"
	OutcomeMissed    Outcome = "missed"
	OutcomeFailed    Outcome = "failed"
	OutcomeEnded     Outcome = "ended"
)

// DeviceState is what one device of a rung person does.
type DeviceState string

// The states of a device. A device rings until one of the others is reached.
const (
	DeviceRinging           DeviceState = "ringing"
	DeviceDelivered         DeviceState = "delivered" // rings, and is known to have shown it
	DeviceAnswered          DeviceState = "answered"
	DeviceAnsweredElsewhere DeviceState = "answered_elsewhere"
	DeviceDeclined          DeviceState = "declined"
	DeviceDeclinedElsewhere DeviceState = "declined_elsewhere"
	DeviceTimedOut          DeviceState = "timed_out"
	DeviceCancelled         DeviceState = "cancelled"
	DeviceSignedOut         DeviceState = "signed_out"
)

func (s DeviceState) rings() bool { return s == DeviceRinging || s == DeviceDelivered }

// Device is one device of a person in a call.
type Device struct {
	ID    string      `json:"id"`
	State DeviceState `json:"state"`
}

// Person is one person's part in a call.
type Person struct {
	Account   string      `json:"account"`
	InvitedBy string      `json:"invitedBy,omitempty"` // account; empty for the caller
	State     PersonState `json:"state"`
	// Device is the one that is, or was last, in the call, or the one that declined.
	Device string `json:"device,omitempty"`
	Link   Link   `json:"link,omitempty"`
	// Media is what the person answered with: a video call may be answered without a camera.
	Media   Media    `json:"media,omitempty"`
	Devices []Device `json:"devices,omitempty"`
	// Waiting: the call rings behind another one that the person is in, or that already rings.
	Waiting bool `json:"waiting,omitempty"`
	// Silent: nothing rings, because the person blocked whoever calls; the others see it ring until it times out.
	Silent bool `json:"silent,omitempty"`
	// Hidden: silent from the start, so the person must never learn of the call.
	Hidden bool `json:"hidden,omitempty"`
	// Outcome is set once, when the person's part is over in their own eyes.
	Outcome Outcome `json:"outcome,omitempty"`

	RungAt   time.Time `json:"rungAt,omitzero"`
	JoinedAt time.Time `json:"joinedAt,omitzero"` // since when the person talks; for the caller, since the first answer
	EndedAt  time.Time `json:"endedAt,omitzero"`
	// DueAt is when this person's patience ends: the ring, the reconnection or the first connection. Zero is never.
	DueAt time.Time `json:"dueAt,omitzero"`
	// Talked is what earlier stays in the same call lasted, in nanoseconds (the person left and was invited again).
	Talked time.Duration `json:"talked,omitempty"`
}

// Over reports whether the person's part is over for the others too.
func (p *Person) Over() bool { return p.State != PersonRinging && p.State != PersonJoined }

// Rings reports whether the person's devices ring.
func (p *Person) Rings() bool { return p.State == PersonRinging && !p.Silent }

// Length is how long the person talked, never negative. It is zero until the person's part is over, and for a call that failed.
func (p *Person) Length() time.Duration {
	if p.Outcome == OutcomeFailed {
		return max(p.Talked, 0)
	}
	d := p.Talked
	if !p.JoinedAt.IsZero() && p.EndedAt.After(p.JoinedAt) {
		d += p.EndedAt.Sub(p.JoinedAt)
	}
	return max(d, 0)
}

// Call is one call. The zero value is a call that has not been placed. Values returned by [Apply] share no memory with its input.
type Call struct {
	ID      string `json:"id"`
	Version int64  `json:"version"` // 1 when placed, one more with every change
	Media   Media  `json:"media"`
	State   State  `json:"state"`
	Caller  string `json:"caller"` // account; also People[0]
	// People in the order in which they were called, the caller first.
	People     []Person  `json:"people"`
	CreatedAt  time.Time `json:"createdAt"`
	AnsweredAt time.Time `json:"answeredAt,omitzero"` // the first answer
	EndedAt    time.Time `json:"endedAt,omitzero"`
	UpdatedAt  time.Time `json:"updatedAt"`
	// GoneAt is when the room went away, until the first person comes back; zero if it did not.
	GoneAt time.Time `json:"goneAt,omitzero"`
	// DueAt is the earliest DueAt of the people; zero when nothing is due, always so once the call has ended.
	DueAt time.Time `json:"dueAt,omitzero"`
}

// Person returns the part of an account in the call, nil if it has none.
func (c *Call) Person(account string) *Person {
	for i := range c.People {
		if c.People[i].Account == account {
			return &c.People[i]
		}
	}
	return nil
}

func (c *Call) clone() Call {
	n := *c
	n.People = slices.Clone(c.People)
	for i := range n.People {
		n.People[i].Devices = slices.Clone(n.People[i].Devices)
	}
	return n
}

func (c *Call) count(s PersonState) int {
	n := 0
	for i := range c.People {
		if c.People[i].State == s {
			n++
		}
	}
	return n
}

// Encode returns the stored form of a call.
func (c Call) Encode() ([]byte, error) { return json.Marshal(c) }

// Decode reads the stored form of a call and checks that it could have come from [Apply]. Unknown fields are ignored, so that a
// process of an earlier version can read what a later one wrote.
func Decode(b []byte) (Call, error) {
	var c Call
	if err := json.Unmarshal(b, &c); err != nil {
		return Call{}, fmt.Errorf("stored call: %w", err)
	}
	if err := c.Check(); err != nil {
		return Call{}, fmt.Errorf("stored call %q: %w", c.ID, err)
	}
	return c, nil
}

// Check reports the first broken rule of a call: what is true of every call that [Apply] returns.
func (c *Call) Check() error {
	switch {
	case c.ID == "":
		return errors.New("no id")
	case c.Version < 1:
		return fmt.Errorf("version %d below 1", c.Version)
	case !c.Media.Valid():
		return fmt.Errorf("unknown media %q", c.Media)
	case c.State != Ringing && c.State != Active && c.State != Ended:
		return fmt.Errorf("unknown state %q", c.State)
	case c.CreatedAt.Unix() <= 0 || c.UpdatedAt.Before(c.CreatedAt):
		return fmt.Errorf("created %v, changed %v", c.CreatedAt, c.UpdatedAt)
	case len(c.People) < 2 || len(c.People) > MaxPeople:
		return fmt.Errorf("%d people, want 2 to %d", len(c.People), MaxPeople)
	case c.People[0].Account != c.Caller:
		return errors.New("the caller is not the first person")
	case (c.State == Ended) != !c.EndedAt.IsZero():
		return errors.New("an end without the time, or the time without an end")
	case c.State == Ended && !c.GoneAt.IsZero():
		return errors.New("its room is gone after the end")
	case c.State == Active && c.AnsweredAt.IsZero():
		return errors.New("active without an answer")
	case c.State == Ringing && !c.AnsweredAt.IsZero():
		return errors.New("ringing after an answer")
	case c.State != Ended && c.count(PersonJoined) == 0:
		return errors.New("goes on with nobody in it")
	case c.State != Ended && c.count(PersonJoined) == 1 && c.count(PersonRinging) == 0:
		return errors.New("goes on with one person, and nobody to wait for")
	}
	due := time.Time{}
	for i := range c.People {
		p := &c.People[i]
		if err := p.check(c.State); err != nil {
			return fmt.Errorf("person %q: %w", p.Account, err)
		}
		for j := range i {
			if c.People[j].Account == p.Account {
				return fmt.Errorf("person %q: twice in the call", p.Account)
			}
		}
		due = earlier(due, p.DueAt)
	}
	if !due.Equal(c.DueAt) {
		return fmt.Errorf("due %v, but the people say %v", c.DueAt, due)
	}
	return nil
}

var knownStates = map[PersonState]bool{PersonRinging: true, PersonJoined: true, PersonDeclined: true, PersonBusy: true,
	PersonTimedOut: true, PersonLeft: true, PersonCancelled: true, PersonFailed: true}

func (p *Person) check(s State) error {
	joined := p.State == PersonJoined
	switch {
	case p.Account == "":
		return errors.New("no account")
	case !knownStates[p.State]:
		return fmt.Errorf("unknown state %q", p.State)
	case s == Ended && !p.Over():
		return fmt.Errorf("%s after the end", p.State)
	case p.Over() && p.Outcome == NoOutcome:
		return fmt.Errorf("%s without an outcome", p.State)
	case !p.Over() && p.Outcome != NoOutcome && !p.Silent:
		return fmt.Errorf("%s with the outcome %q", p.State, p.Outcome)
	case (p.Outcome == NoOutcome) != p.EndedAt.IsZero():
		return fmt.Errorf("%s with an outcome but no time of it, or the time without an outcome", p.State)
	case joined && p.Device == "":
		return errors.New("joined without a device")
	case joined && p.Link != Connecting && p.Link != Connected && p.Link != Lost:
		return fmt.Errorf("joined with the link %q", p.Link)
	case !joined && p.Link != NoLink:
		return fmt.Errorf("%s with the link %q", p.State, p.Link)
	case p.Over() && !p.DueAt.IsZero():
		return fmt.Errorf("%s with a timer", p.State)
	case p.State == PersonRinging && p.DueAt.IsZero():
		return errors.New("rings for ever")
	case p.Link == Lost && p.DueAt.IsZero():
		return errors.New("lost for ever")
	case p.Hidden && !p.Silent:
		return errors.New("hidden but not silent")
	case joined && p.Silent:
		return errors.New("joined but silent")
	case p.Talked < 0:
		return errors.New("a negative length")
	}
	rings := false
	for i, d := range p.Devices {
		if d.ID == "" {
			return errors.New("a device without an id")
		}
		rings = rings || d.State.rings()
		for _, e := range p.Devices[:i] {
			if e.ID == d.ID {
				return fmt.Errorf("device %q twice", d.ID)
			}
		}
	}
	if rings && !p.Rings() {
		return errors.New("a device rings for a person who is not rung")
	}
	return nil
}

// earlier returns the earlier of two moments; a zero moment is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two moments; a zero moment is before all others.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

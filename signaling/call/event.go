package call

import "time"

// Event is something that happened to a call. The types below are all there are.
type Event interface{ event() }

// Invitee is somebody to be rung, with what only the database can tell about them at that moment.
type Invitee struct {
	Account string
	Devices []string // those to ring; at most MaxDevices are used
	Busy    bool     // cannot be rung: a call waits already, or the person wants no second one
	Waiting bool     // is in another call, or is being rung by one
	Silent  bool     // blocked the one who calls: rings for everybody else, never for this person
}

// The events. Account and Device name who acts; a device belongs to exactly one account.
type (
	// Placed begins a call. It is the only event that the zero Call accepts. The caller is in the call at once.
	Placed struct {
		ID              string
		Account, Device string
		Media           Media
		People          []Invitee
	}
	// Delivered says that a device is known to ring. Optional: nothing depends on it.
	Delivered struct{ Account, Device string }
	// Answered takes the call on one device; the person's other devices stop.
	Answered struct {
		Account, Device string
		Media           Media // empty is as placed
	}
	// Declined refuses the call on all devices of the person.
	Declined struct {
		Account, Device string
		Busy            bool // "busy" instead of "declined"
	}
	// Cancelled withdraws a call before its first answer. If an answer was faster it hangs up.
	Cancelled struct{ Account, Device string }
	// HungUp takes one person out of the call.
	HungUp struct{ Account, Device string }
	// Invited rings more people. Those already in the call or ringing stay as they are; those whose part was over ring again.
	Invited struct {
		Account, Device string
		People          []Invitee
	}
	// MediaJoined says that the room has the device.
	MediaJoined struct{ Account, Device string }
	// MediaLost says that the device's connection to the room broke.
	MediaLost struct{ Account, Device string }
	// MediaLeft says that the device's client left the room of its own will.
	MediaLeft struct{ Account, Device string }
	// RoomGone says that the server which held the room went away with it, so that everybody has to come back. If nobody does,
	// the call ended at Since, when the server was last known to be well; zero is now.
	RoomGone struct{ Since time.Time }
	// TimerFired ends what is due. Early, late or twice does no harm.
	TimerFired struct{}
	// Blocked says that one person blocked another.
	Blocked struct{ Account, Target string }
	// SignedOut says that a device lost its session: it signed out, was removed or was suspended.
	SignedOut struct{ Account, Device string }
	// Failed ends the call for everybody because the server could not carry it.
	Failed struct{}
)

func (Placed) event()      {}
func (Delivered) event()   {}
func (Answered) event()    {}
func (Declined) event()    {}
func (Cancelled) event()   {}
func (HungUp) event()      {}
func (Invited) event()     {}
func (MediaJoined) event() {}
func (MediaLost) event()   {}
func (MediaLeft) event()   {}
func (RoomGone) event()    {}
func (TimerFired) event()  {}
func (Blocked) event()     {}
func (SignedOut) event()   {}
func (Failed) event()      {}

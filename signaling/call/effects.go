package call

import (
	"encoding/json"
	"fmt"
)

// EffectKind says what an effect does.
type EffectKind string

// The effects. ClaimSlot and ReleaseSlot belong into the transaction that saves the call; the others are stored there and done
// afterwards. The history needs no effect: it is made of the people's outcomes, and the timer of [Call.DueAt].
const (
	// ClaimSlot makes the call the one that the device is in. If the device is in another one, the event must not be saved.
	ClaimSlot EffectKind = "claim_slot"
	// ReleaseSlot frees the device for another call.
	ReleaseSlot EffectKind = "release_slot"
	// Ring makes a device ring, waking it if it sleeps.
	Ring EffectKind = "ring"
	// StopRing makes a device stop; Reason is a DeviceState.
	StopRing EffectKind = "stop_ring"
	// Notify shows the call to every device of an account, as each of them sees it.
	Notify EffectKind = "notify"
	// Disconnect removes a device from the room.
	Disconnect EffectKind = "disconnect"
	// CloseRoom removes everybody from the room.
	CloseRoom EffectKind = "close_room"
)

// ReasonNotIn is the Reason of a Disconnect of a device that has no part in the call.
const ReasonNotIn = "not_in_call"

// Effect is one thing to be done. Doing it twice is the same as doing it once.
type Effect struct {
	// ID is the same whenever the same event is applied to the same call: "call/version/number".
	ID      string     `json:"id"`
	Kind    EffectKind `json:"kind"`
	Account string     `json:"account,omitempty"`
	Device  string     `json:"device,omitempty"`
	Reason  string     `json:"reason,omitempty"`
}

// InTransaction reports whether the effect belongs into the transaction that saves the call.
func (e Effect) InTransaction() bool { return e.Kind == ClaimSlot || e.Kind == ReleaseSlot }

// EncodeEffects returns the stored form of a list of effects.
func EncodeEffects(e []Effect) ([]byte, error) { return json.Marshal(e) }

var knownEffects = map[EffectKind]bool{ClaimSlot: true, ReleaseSlot: true, Ring: true, StopRing: true, Notify: true,
	Disconnect: true, CloseRoom: true}

// DecodeEffects reads the stored form. Kinds that this version does not know are refused: skipping one would lose it.
func DecodeEffects(b []byte) ([]Effect, error) {
	var list []Effect
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("stored effects: %w", err)
	}
	for _, e := range list {
		if !knownEffects[e.Kind] {
			return nil, fmt.Errorf("stored effects: unknown kind %q", e.Kind)
		}
	}
	return list, nil
}

// effects is the way from one version of a call to the next. As it only compares the two, no transition can forget to stop a
// ring or to free a slot. Slots come first, then rings that stop, rings that begin, disconnections, and what people see.
func effects(old, n *Call, evict []Effect) []Effect {
	var list []Effect
	add := func(k EffectKind, account, device, reason string) {
		list = append(list, Effect{Kind: k, Account: account, Device: device, Reason: reason})
	}
	each := func(f func(was, is *Person)) {
		for i := range n.People {
			was := &Person{}
			if i < len(old.People) { // people are only ever appended
				was = &old.People[i]
			}
			f(was, &n.People[i])
		}
	}
	each(func(was, is *Person) {
		if holds(was) && !(holds(is) && is.Device == was.Device) {
			add(ReleaseSlot, was.Account, was.Device, "")
		}
	})
	each(func(was, is *Person) {
		if holds(is) && !(holds(was) && is.Device == was.Device) {
			add(ClaimSlot, is.Account, is.Device, "")
		}
	})
	each(func(was, is *Person) {
		for _, d := range was.Devices {
			if d.State.rings() && !is.ringing(d.ID) {
				add(StopRing, is.Account, d.ID, string(is.device(d.ID)))
			}
		}
	})
	each(func(was, is *Person) {
		for _, d := range is.Devices {
			if d.State.rings() && !was.ringing(d.ID) {
				add(Ring, is.Account, d.ID, "")
			}
		}
	})
	if n.State == Ended && old.State != Ended {
		add(CloseRoom, "", "", "")
	} else {
		each(func(was, is *Person) {
			if holds(was) && !(holds(is) && is.Device == was.Device) {
				add(Disconnect, was.Account, was.Device, string(is.State))
			}
		})
	}
	shown := !samePublic(old, n)
	each(func(was, is *Person) {
		switch {
		case is.Hidden:
		case overFor(was) && overFor(is) && was.Outcome == is.Outcome: // heard the last of it
		case shown, !samePrivate(was, is):
			add(Notify, is.Account, "", "")
		}
	})
	list = append(list, evict...)
	for i := range list {
		list[i].ID = fmt.Sprintf("%s/%d/%d", n.ID, n.Version, i)
	}
	return list
}

func holds(p *Person) bool { return p.State == PersonJoined }

func overFor(p *Person) bool { return p.Account != "" && (p.Outcome != NoOutcome || p.Over()) }

func (p *Person) device(id string) DeviceState {
	for _, d := range p.Devices {
		if d.ID == id {
			return d.State
		}
	}
	return DeviceCancelled
}

func (p *Person) ringing(id string) bool { return p.device(id).rings() }

// samePublic compares what everybody in the call sees of it.
func samePublic(a, b *Call) bool {
	if a.State != b.State || len(a.People) != len(b.People) {
		return false
	}
	for i := range a.People {
		p, q := &a.People[i], &b.People[i]
		if p.shown() != q.shown() || p.Device != q.Device {
			return false
		}
	}
	return true
}

// samePrivate compares what a person sees of their own part alone.
func samePrivate(a, b *Person) bool {
	return a.Account == b.Account && a.State == b.State && a.Outcome == b.Outcome && a.Rings() == b.Rings()
}

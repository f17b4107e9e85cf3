package call

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// seen is a call as a device sees it, in one line.
func seen(c *Call, account, device string) string {
	v, ok := c.View(account, device)
	if !ok {
		return "nothing"
	}
	s := fmt.Sprintf("%s %s, me %s", v.Direction, v.State, v.MyState)
	if v.Outcome != "" {
		s += ", " + string(v.Outcome)
	}
	if v.Waiting {
		s += ", waiting"
	}
	if v.Here {
		s += ", here"
	}
	if v.Stopped != "" {
		s += ", stopped " + string(v.Stopped)
	}
	if v.Length > 0 {
		s += ", " + v.Length.String()
	}
	s += ";"
	for _, p := range v.People {
		s += " " + p.Account + " " + string(p.State)
		if p.Device != "" {
			s += "@" + p.Device
		}
	}
	return s
}

func TestViews(t *testing.T) {
	busy := invite("B")
	busy[0].Busy = true
	waiting := invite("B")
	waiting[0].Waiting = true
	hidden := invite("B")
	hidden[0].Silent = true
	place := func(p []Invitee) Placed { return Placed{ID: "ca", Account: "A", Device: "a1", Media: Audio, People: p} }
	tests := []struct {
		name   string
		events []Event // one second apart
		want   map[string]string
	}{
		{"ringing", []Event{placed("B")}, map[string]string{
			"A a1": "outgoing ringing, me joined, here; A joined@a1 B ringing",
			"A a2": "outgoing ringing, me joined; A joined@a1 B ringing",
			"B b1": "incoming ringing, me ringing; A joined@a1 B ringing",
			"X x1": "nothing"}},
		{"answered on one device", []Event{placed("B"), Answered{"B", "b1", ""}}, map[string]string{
			"A a1": "outgoing active, me joined, here; A joined@a1 B joined@b1",
			"B b1": "incoming active, me joined, here; A joined@a1 B joined@b1",
			"B b2": "incoming active, me joined, stopped answered_elsewhere; A joined@a1 B joined@b1"}},
		{"a third still rings", []Event{placed("B", "C"), Answered{"B", "b1", ""}}, map[string]string{
			"C c1": "incoming ringing, me ringing; A joined@a1 B joined@b1 C ringing"}},
		{"hung up", []Event{placed("B"), Answered{"B", "b1", ""}, HungUp{"B", "b1"}}, map[string]string{
			"A a1": "outgoing ended, me left, answered, here, 1s; A left B left",
			"B b1": "incoming ended, me left, answered, here, 1s; A left B left",
			"B b2": "incoming ended, me left, answered, stopped answered_elsewhere, 1s; A left B left"}},
		{"declined", []Event{placed("B"), Declined{"B", "b1", false}}, map[string]string{
			"A a1": "outgoing ended, me left, declined, here; A left B declined",
			"B b1": "incoming ended, me declined, declined, stopped declined; A left B declined",
			"B b2": "incoming ended, me declined, declined, stopped declined_elsewhere; A left B declined"}},
		{"said busy", []Event{placed("B"), Declined{"B", "b1", true}}, map[string]string{
			"A a1": "outgoing ended, me left, busy, here; A left B busy",
			"B b1": "incoming ended, me busy, declined, stopped declined; A left B busy"}},
		{"was busy", []Event{place(busy)}, map[string]string{
			"A a1": "outgoing ended, me left, busy, here; A left B busy",
			"B b1": "incoming ended, me busy, missed; A left B busy"}},
		{"cancelled", []Event{placed("B"), Cancelled{"A", "a1"}}, map[string]string{
			"A a1": "outgoing ended, me cancelled, cancelled, here; A cancelled B cancelled",
			"B b1": "incoming ended, me cancelled, missed, stopped cancelled; A cancelled B cancelled"}},
		{"no answer", []Event{placed("B"), timerDue{}}, map[string]string{
			"A a1": "outgoing ended, me left, timed_out, here; A left B timed_out",
			"B b1": "incoming ended, me timed_out, missed, stopped timed_out; A left B timed_out"}},
		{"call waiting", []Event{place(waiting)}, map[string]string{
			"B b1": "incoming ringing, me ringing, waiting; A joined@a1 B ringing"}},
		{"reconnecting", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"B", "b1"}, MediaLost{"B", "b1"}}, map[string]string{
			"A a1": "outgoing active, me joined, here; A joined@a1 B reconnecting@b1",
			"B b1": "incoming active, me reconnecting, here; A joined@a1 B reconnecting@b1"}},
		{"blocked the caller before", []Event{place(hidden)}, map[string]string{
			"A a1": "outgoing ringing, me joined, here; A joined@a1 B ringing",
			"B b1": "nothing"}},
		{"blocked the caller before, no answer", []Event{place(hidden), timerDue{}}, map[string]string{
			"A a1": "outgoing ended, me left, timed_out, here; A left B timed_out",
			"B b1": "nothing"}},
		{"blocked the caller while it rang", []Event{placed("B"), Blocked{"B", "A"}}, map[string]string{
			"A a1": "outgoing ringing, me joined, here; A joined@a1 B ringing",
			"B b1": "incoming ended, me declined, declined, stopped cancelled; A joined@a1 B declined"}},
		{"blocked the caller while it rang, no answer", []Event{placed("B"), Blocked{"B", "A"}, timerDue{}}, map[string]string{
			"A a1": "outgoing ended, me left, timed_out, here; A left B timed_out",
			"B b1": "incoming ended, me declined, declined, stopped cancelled; A left B declined"}},
		{"left a group that goes on", []Event{placed("B", "C"), Answered{"B", "b1", ""}, Answered{"C", "c1", ""}, HungUp{"A", "a1"}}, map[string]string{
			"A a1": "outgoing ended, me left, answered, here, 2s; A left B joined@b1 C joined@c1",
			"C c1": "incoming active, me joined, here; A left B joined@b1 C joined@c1"}},
		{"the caller is invited back", []Event{placed("B", "C"), Answered{"B", "b1", ""}, Answered{"C", "c1", ""}, HungUp{"A", "a1"},
			Invited{"C", "c1", invite("A")}}, map[string]string{
			"A a2": "incoming ringing, me ringing; A ringing B joined@b1 C joined@c1"}},
		{"never connected", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, timerDue{}}, map[string]string{
			"A a1": "outgoing ended, me failed, failed, here; A failed B failed",
			"B b1": "incoming ended, me failed, failed, here; A failed B failed"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, now := Call{}, t0
			for _, e := range test.events {
				if _, ok := e.(timerDue); ok {
					e, now = TimerFired{}, c.DueAt
				}
				var err error
				if c, _, err = Apply(c, e, now); err != nil {
					t.Fatal(err)
				}
				now = now.Add(time.Second)
			}
			for who, want := range test.want {
				account, device, _ := strings.Cut(who, " ")
				if got := seen(&c, account, device); got != want {
					t.Errorf("%s sees\n\t%s\nwant\n\t%s", who, got, want)
				}
			}
		})
	}
}

// The people on hold for 44.999 s are still rung; at 45 s they are not.
func TestRingTime(t *testing.T) {
	c, _, err := Apply(Call{}, placed("B"), t0)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, _ := Apply(c, TimerFired{}, t0.Add(RingFor-time.Millisecond)); n.Version != c.Version {
		t.Errorf("rang for less than %v", RingFor)
	}
	if n, _, _ := Apply(c, TimerFired{}, t0.Add(RingFor)); n.State != Ended {
		t.Errorf("rings for more than %v", RingFor)
	}
}

// Whoever comes back within 30 s stays in the call; the clock starts anew with each loss.
func TestReconnecting(t *testing.T) {
	c, _ := situations[11].call(t)
	lost := c.UpdatedAt
	n, _, _ := Apply(c, TimerFired{}, lost.Add(ReconnectWithin-time.Millisecond))
	if n.State != Active || n.Person("B").Link != Lost {
		t.Fatalf("gave up before %v: %s", ReconnectWithin, describe(&n))
	}
	n, _, _ = Apply(n, MediaJoined{"B", "b1"}, lost.Add(ReconnectWithin-time.Millisecond))
	if !n.DueAt.IsZero() {
		t.Fatalf("came back, and is still due: %s", describe(&n))
	}
	n, _, _ = Apply(n, MediaLost{"B", "b1"}, lost.Add(time.Minute))
	if want := lost.Add(time.Minute + ReconnectWithin); !n.DueAt.Equal(want) {
		t.Errorf("the second loss is due %v, want %v", n.DueAt, want)
	}
}

func TestFull(t *testing.T) {
	var all []Invitee
	for i := range MaxPeople - 1 {
		all = append(all, Invitee{Account: fmt.Sprintf("P%d", i), Devices: []string{fmt.Sprintf("p%d", i)}})
	}
	c, _, err := Apply(Call{}, Placed{ID: "ca", Account: "A", Device: "a1", Media: Audio, People: all}, t0)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := Apply(c, Invited{"A", "a1", invite("Z")}, t0)
	if !errors.Is(err, ErrFull) || n.Version != c.Version || len(n.People) != MaxPeople {
		t.Errorf("one more than %d people: %v, %d in the call", MaxPeople, err, len(n.People))
	}
	if _, _, err := Apply(c, Invited{"A", "a1", []Invitee{{Account: "P1"}}}, t0); err != nil {
		t.Errorf("somebody who is rung already needs no place: %v", err)
	}
	if _, _, err := Apply(Call{}, Placed{ID: "ca", Account: "A", Device: "a1", Media: Audio, People: append(all, invite("Z")...)}, t0); !errors.Is(err, ErrFull) {
		t.Errorf("placed with %d people: %v", MaxPeople+1, err)
	}
}

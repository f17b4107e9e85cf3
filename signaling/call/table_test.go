package call

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The table in testdata/transitions.txt says what every event does in every situation. It is read and checked by people; run
// the test with -update to have it written, then read what changed.
var update = flag.Bool("update", false, "write testdata/transitions.txt")

const tableFile = "testdata/transitions.txt"

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// Everybody in the tests: A calls B, C is the third, X has no part. Devices are the small letters.
func invite(accounts ...string) []Invitee {
	var list []Invitee
	for _, a := range accounts {
		d := strings.ToLower(a)
		list = append(list, Invitee{Account: a, Devices: []string{d + "1", d + "2"}})
	}
	return list
}

func placed(accounts ...string) Placed {
	return Placed{ID: "ca", Account: "A", Device: "a1", Media: Video, People: invite(accounts...)}
}

// A situation is a call that events led to, one second apart.
type situation struct {
	name   string
	events []Event
}

var situations = []situation{
	{"not placed", nil},
	{"ringing", []Event{placed("B")}},
	{"ringing, caller connected", []Event{placed("B"), MediaJoined{"A", "a1"}}},
	{"ringing, caller lost", []Event{placed("B"), MediaJoined{"A", "a1"}, MediaLost{"A", "a1"}}},
	{"ringing, callee hidden", []Event{Placed{ID: "ca", Account: "A", Device: "a1", Media: Video,
		People: []Invitee{{Account: "B", Devices: []string{"b1"}, Silent: true}}}}},
	{"ringing, callee blocked since", []Event{placed("B"), Blocked{"B", "A"}}},
	{"ringing two", []Event{placed("B", "C")}},
	{"ringing two, one declined", []Event{placed("B", "C"), Declined{"B", "b1", false}}},
	{"active, one still rings", []Event{placed("B", "C"), Answered{"B", "b1", Audio}}},
	{"active, connecting", []Event{placed("B"), Answered{"B", "b1", ""}}},
	{"active", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, MediaJoined{"B", "b1"}}},
	{"active, callee lost", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, MediaJoined{"B", "b1"}, MediaLost{"B", "b1"}}},
	{"active, callee left the room", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, MediaJoined{"B", "b1"}, MediaLeft{"B", "b1"}}},
	{"group", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, MediaJoined{"B", "b1"},
		Invited{"B", "b1", invite("C")}, Answered{"C", "c1", ""}, MediaJoined{"C", "c1"}}},
	{"active, room gone", []Event{placed("B"), Answered{"B", "b1", ""}, MediaJoined{"A", "a1"}, MediaJoined{"B", "b1"}, RoomGone{Since: t0.Add(3 * time.Second)}}},
	{"group, callee left", []Event{placed("B", "C"), Answered{"B", "b1", ""}, Answered{"C", "c1", ""}, MediaJoined{"A", "a1"},
		MediaJoined{"B", "b1"}, MediaJoined{"C", "c1"}, HungUp{"B", "b1"}}},
	{"group, caller left", []Event{placed("B", "C"), Answered{"B", "b1", ""}, Answered{"C", "c1", ""}, MediaJoined{"A", "a1"},
		MediaJoined{"B", "b1"}, MediaJoined{"C", "c1"}, HungUp{"A", "a1"}}},
	{"ended, answered", []Event{placed("B"), Answered{"B", "b1", ""}, HungUp{"A", "a1"}}},
	{"ended, declined", []Event{placed("B"), Declined{"B", "b2", false}}},
	{"ended, busy", []Event{Placed{ID: "ca", Account: "A", Device: "a1", Media: Audio, People: []Invitee{{Account: "B", Busy: true}}}}},
	{"ended, cancelled", []Event{placed("B"), Cancelled{"A", "a1"}}},
}

// Every kind of event, by those for whom it may differ.
var tableEvents = []Event{
	placed("B"),
	Delivered{"B", "b1"},
	Answered{"B", "b1", ""}, Answered{"B", "b2", ""}, Answered{"B", "b3", ""}, Answered{"C", "c1", ""}, Answered{"A", "a2", ""}, Answered{"X", "x1", ""},
	Declined{"B", "b1", false}, Declined{"B", "b2", true}, Declined{"X", "x1", false},
	Cancelled{"A", "a1"}, Cancelled{"A", "a2"}, Cancelled{"B", "b1"}, Cancelled{"X", "x1"},
	HungUp{"A", "a1"}, HungUp{"A", "a2"}, HungUp{"B", "b1"}, HungUp{"C", "c1"}, HungUp{"X", "x1"},
	Invited{"A", "a1", invite("C")}, Invited{"B", "b1", invite("C")}, Invited{"B", "b2", invite("C")}, Invited{"C", "c1", invite("A", "B")}, Invited{"X", "x1", invite("C")},
	MediaJoined{"A", "a1"}, MediaJoined{"A", "a2"}, MediaJoined{"B", "b1"}, MediaJoined{"X", "x1"},
	MediaLost{"A", "a1"}, MediaLost{"B", "b1"}, MediaLost{"B", "b2"},
	MediaLeft{"A", "a1"}, MediaLeft{"B", "b1"},
	RoomGone{}, RoomGone{Since: t0}, TimerFired{}, timerDue{},
	Blocked{"A", "B"}, Blocked{"B", "A"}, Blocked{"C", "A"}, Blocked{"B", "X"},
	SignedOut{"A", "a1"}, SignedOut{"A", "a2"}, SignedOut{"B", "b1"}, SignedOut{"B", "b2"}, SignedOut{"X", "x1"},
	Failed{},
}

// timerDue is the timer at the moment when it is due, and not before.
type timerDue struct{ TimerFired }

func (s situation) call(t testing.TB) (Call, time.Time) {
	t.Helper()
	var c Call
	now := t0
	for _, e := range s.events {
		var err error
		was := c.Version
		if c, _, err = Apply(c, e, now); err != nil || c.Version != was+1 {
			t.Fatalf("%s: %#v: version %d after %d, %v", s.name, e, c.Version, was, err)
		}
		now = now.Add(time.Second)
	}
	return c, now
}

func TestTable(t *testing.T) {
	want := readTable(t)
	var got strings.Builder
	for _, s := range situations {
		c, now := s.call(t)
		fmt.Fprintf(&got, "\n# %s\n# %s\n", s.name, describe(&c))
		for _, e := range tableEvents {
			key := s.name + " | " + nameOf(e)
			result := outcomeOf(t, c, e, now)
			fmt.Fprintf(&got, "%s | %s\n", key, result)
			if w, ok := want[key]; !*update && !ok {
				t.Errorf("%s: not in the table; it does: %s", key, result)
			} else if !*update && w != result {
				t.Errorf("%s:\n got %s\nwant %s", key, result, w)
			}
			delete(want, key)
		}
	}
	if *update {
		head := "# situation | event | what it does; written by go test -update, see table_test.go\n"
		if err := os.WriteFile(tableFile, []byte(head+got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for key := range want {
		t.Errorf("in the table, but not tried: %s", key)
	}
}

func readTable(t *testing.T) map[string]string {
	f, err := os.Open(tableFile)
	if err != nil {
		if *update {
			return map[string]string{}
		}
		t.Fatal(err)
	}
	defer f.Close()
	table := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if line := sc.Text(); line != "" && line[0] != '#' {
			part := strings.SplitN(line, " | ", 3)
			if len(part) != 3 {
				t.Fatalf("%s: not three parts: %q", tableFile, line)
			}
			table[part[0]+" | "+part[1]] = part[2]
		}
	}
	return table
}

func nameOf(e Event) string {
	switch e := e.(type) {
	case timerDue:
		return "timer when due"
	case Placed:
		return "placed by " + e.Account
	case Delivered:
		return "delivered " + e.Device
	case Answered:
		return "answered " + e.Device
	case Declined:
		if e.Busy {
			return "declined as busy " + e.Device
		}
		return "declined " + e.Device
	case Cancelled:
		return "cancelled " + e.Device
	case HungUp:
		return "hung up " + e.Device
	case Invited:
		var who []string
		for _, p := range e.People {
			who = append(who, p.Account)
		}
		return "invited " + strings.Join(who, " ") + " by " + e.Device
	case MediaJoined:
		return "media joined " + e.Device
	case MediaLost:
		return "media lost " + e.Device
	case MediaLeft:
		return "media left " + e.Device
	case RoomGone:
		if !e.Since.IsZero() {
			return "room gone long since"
		}
		return "room gone"
	case TimerFired:
		return "timer now"
	case Blocked:
		return e.Account + " blocked " + e.Target
	case SignedOut:
		return "signed out " + e.Device
	case Failed:
		return "failed"
	}
	panic(fmt.Sprintf("%T", e))
}

func outcomeOf(t *testing.T, c Call, e Event, now time.Time) string {
	if _, ok := e.(timerDue); ok {
		e = TimerFired{}
		if !c.DueAt.IsZero() {
			now = c.DueAt
		}
	}
	n, eff, err := Apply(c, e, now)
	for _, named := range []struct {
		err  error
		name string
	}{{ErrInvalid, "invalid"}, {ErrNotPlaced, "not placed"}, {ErrPlaced, "placed already"}, {ErrStranger, "stranger"}, {ErrOver, "over"},
		{ErrElsewhere, "answered elsewhere"}, {ErrNotIn, "not in the call"}, {ErrNotCaller, "not the caller"}, {ErrFull, "full"}} {
		if errors.Is(err, named.err) {
			return "refused: " + named.name
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if n.Version == c.Version {
		return "nothing"
	}
	parts := []string{describe(&n)}
	notify := ""
	for _, e := range eff {
		switch e.Kind {
		case Notify:
			notify += " " + e.Account
		case CloseRoom:
			parts = append(parts, "close room")
		default:
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, e.Device, e.Reason)))
		}
	}
	if notify != "" {
		parts = append(parts, "notify"+notify)
	}
	return strings.Join(parts, "; ")
}

// describe is a call in one line: its state, then each person's, "=" before the outcome, "+" before when something is due.
func describe(c *Call) string {
	if c.Version == 0 {
		return "no call"
	}
	s := string(c.State)
	if !c.GoneAt.IsZero() {
		s += " gone " + c.GoneAt.Sub(t0).String()
	}
	for i := range c.People {
		p := &c.People[i]
		s += " " + p.Account + ":" + string(p.State)
		if p.Link != "" {
			s += "/" + string(p.Link)
		}
		if p.State == PersonJoined {
			s += "@" + p.Device
		}
		if p.Hidden {
			s += "/hidden"
		} else if p.Silent {
			s += "/silent"
		}
		if p.Outcome != "" {
			s += "=" + string(p.Outcome)
		}
		if p.Outcome == OutcomeAnswered {
			s += "(" + p.Length().String() + ")"
		}
		if !p.DueAt.IsZero() {
			s += "+" + p.DueAt.Sub(t0).String()
		}
	}
	return s
}

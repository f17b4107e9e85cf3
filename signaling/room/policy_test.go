package room

import (
	"slices"
	"testing"
	"time"
)

func TestPolicyOfEmptyRooms(t *testing.T) {
	r := New("RM_1", "room", Limits{EmptyTimeout: 20 * time.Second}, t0)
	r.SetPolicy(t0, Policy{EmptyTimeout: time.Minute, DepartureTimeout: 5 * time.Second})
	if due := r.NextDeadline(); due != at(60) {
		t.Errorf("a room that nobody came to ends at %v", due)
	}
	if effects, err := r.Join(at(50), who("ann")); err != nil || len(effects) == 0 {
		t.Fatal(err)
	}
	r.Leave(at(100), "PA_ann")
	if r.Tick(at(104)); r.Finished() {
		t.Error("ended before the departure timeout")
	}
	if r.Tick(at(105)); !r.Finished() {
		t.Error("stays beyond the departure timeout")
	}
}

func TestPolicyKeepsWhatIsNotSet(t *testing.T) {
	r := New("RM_1", "room", Limits{Participants: 10, EmptyTimeout: 20 * time.Second}, t0)
	r.SetPolicy(t0, Policy{DepartureTimeout: time.Minute, Participants: 2})
	r.SetPolicy(t0, Policy{EmptyTimeout: time.Hour})
	d := r.Describe()
	if d.EmptyTimeout != time.Hour || d.DepartureTimeout != time.Minute || d.Max != 2 {
		t.Errorf("%+v", d)
	}
	r.SetPolicy(t0, Policy{Participants: 1000})
	if d := r.Describe(); d.Max != 10 {
		t.Errorf("a policy raises the server's limit to %d", d.Max)
	}
}

func TestPolicyBoundsParticipants(t *testing.T) {
	s := newScript(t, Limits{})
	s.SetPolicy(t0, Policy{Participants: 1})
	s.join("ann")
	_, err := s.Join(t0, who("bob"))
	s.refused(LimitExceeded, nil, err)
	s.join("ann", func(p *Profile) { p.ID = "PA_ann2" }) // takes its own place
}

func TestPolicyChangesAreTold(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	effects := s.SetPolicy(t0, Policy{Participants: 7})
	if len(effects) != 1 || effects[0].(SendRoom).Room.Max != 7 {
		t.Errorf("told %v", effects)
	}
	if effects := s.SetPolicy(t0, Policy{Participants: 7}); len(effects) != 0 {
		t.Errorf("no change, yet told %v", effects)
	}
}

func TestAudience(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("eve", func(p *Profile) { p.Permission.Hidden = true })
	s.Mirror(t0, Info{Profile: who("far"), State: Active, Version: 1})
	if to := s.Audience(nil); !slices.Equal(to, []string{"PA_ann", "PA_eve"}) {
		t.Errorf("to all: %v", to)
	}
	if to := s.Audience([]string{"eve", "nobody", "far"}); !slices.Equal(to, []string{"PA_eve"}) {
		t.Errorf("to some: %v", to)
	}
}

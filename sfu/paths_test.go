package sfu

import (
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
)

// heardCandidate is a path that was last heard of a while ago.
type heardCandidate struct {
	ice.Candidate
	ago time.Duration
}

func (c *heardCandidate) LastReceived() time.Time { return time.Now().Add(-c.ago) }

func TestPaths(t *testing.T) {
	check := func(username string, nominates bool) *stun.Message {
		setters := []stun.Setter{stun.BindingRequest, stun.TransactionID, stun.NewUsername(username)}
		if nominates {
			setters = append(setters, ice.UseCandidate())
		}
		m, err := stun.Build(setters...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	wlan, mobile, third := &heardCandidate{}, &heardCandidate{}, &heardCandidate{}
	var unheard time.Duration
	p := paths{lite: true, unheard: func() time.Duration { return unheard }}
	for i, step := range []struct {
		username  string
		nominates bool
		from      *heardCandidate
		silent    time.Duration // of wlan
		want      bool
	}{
		{"a:b", false, wlan, 0, false}, // checks come first: nothing is taken before the client has decided
		{"a:b", false, mobile, time.Minute, false},
		{"a:b", true, wlan, 0, false}, // Pion takes it
		{"a:b", false, mobile, pathSilence / 2, false},
		{"a:b", false, wlan, 2 * pathSilence, false},
		{"a:b", false, mobile, 2 * pathSilence, true},
		{"a:b", false, mobile, 2 * pathSilence, false}, // it is in use
		{"a:b", true, third, 2 * pathSilence, false},
		{"c:d", false, mobile, 2 * pathSilence, true}, // a restart: the first will do until the client decides anew
		{"c:d", false, third, 0, false},
		{"c:d", true, wlan, 0, false},
		{"c:d", false, mobile, 2 * pathSilence, true},
	} {
		wlan.ago, unheard = step.silent, time.Minute
		if step.silent > pathSilence && !step.nominates && step.want {
			unheard = 0
			if p.nominated == ice.Candidate(wlan) && p.request(check(step.username, false), step.from) {
				t.Errorf("step %d: switched while media comes", i)
			}
			unheard = time.Minute
		}
		if got := p.request(check(step.username, step.nominates), step.from); got != step.want {
			t.Errorf("step %d: switched %v, want %v", i, got, step.want)
		}
	}
	full := paths{}
	full.request(check("a:b", true), wlan)
	if full.request(check("c:d", false), mobile) {
		t.Error("a full agent sends to an address that it hasn't checked")
	}
}

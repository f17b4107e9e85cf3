package companion

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCallAnsweredOnOneDevice(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ben2 := s.signIn(t, "benben")
		annEvents, benEvents, ben2Events := ann.events(nil), ben.events(nil), ben2.events(nil)

		placed := ann.place(201, "@benben")
		c := placed.Call
		if c.State != "ringing" || c.Direction != "outgoing" || c.MyState != "joined" || !c.Here || c.Outcome != "" || stateOf(c, "benben") != "ringing" || c.Caller.Name != "annann" {
			t.Errorf("placed: %+v", c)
		}
		if want := fmt.Sprintf("token of %s (annann) for %s", ann.Session.Identity(), c.ID); placed.Join == nil || placed.Join.Token != want ||
			placed.Join.URL != "wss://"+strings.TrimPrefix(s.http.URL, "https://") || !placed.Join.ExpiresAt.Equal(s.clock.now().Add(2*time.Minute)) {
			t.Errorf("join: %+v", placed.Join)
		}
		for _, e := range []*events{benEvents, ben2Events} {
			if in := e.call("ringing ringing"); in.ID != c.ID || in.Direction != "incoming" || in.Caller.Name != "annann" || in.Waiting || in.Here {
				t.Errorf("rings: %+v", in)
			}
		}
		s.clock.advance(5 * time.Second)
		answered := ben.act(c.ID, "answer")
		if answered.Call.State != "active" || !answered.Call.Here || answered.Join == nil || answered.Call.AnsweredAt == nil {
			t.Errorf("answered: %+v", answered)
		}
		if other := ben2Events.call("active joined"); other.Here || other.Stopped != "answered_elsewhere" {
			t.Errorf("ben's other device: %+v", other)
		}
		if got := annEvents.call("active joined"); stateOf(got, "benben") != "joined" || got.People[1].Identity != ben.Session.Identity() {
			t.Errorf("ann: %+v", got)
		}
		ben2.refused("POST", "/v1/calls/"+c.ID+"/answer", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/decline", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/join", nil, 409, "answered_elsewhere")
		ben2.refused("POST", "/v1/calls/"+c.ID+"/hangup", nil, 409, "not_in_call")
		if again := ben.act(c.ID, "answer"); again.Call.Version != answered.Call.Version || again.Join == nil {
			t.Errorf("answered twice: %+v", again)
		}
		if fresh := ben.act(c.ID, "join"); fresh.Join == nil || fresh.Join.Token == "" {
			t.Errorf("a new token: %+v", fresh)
		}
		s.clock.advance(61 * time.Second)
		if hung := ann.act(c.ID, "hangup"); hung.Call.State != "ended" || hung.Call.Outcome != "answered" || hung.Call.Length != 61 {
			t.Errorf("hung up: %+v", hung.Call)
		}
		benEvents.call("ended left answered")
		ben2Events.call("ended left answered")
		s.rooms.wait(t, c.ID+" closed")
		agree(t, ann, ben, "answered", "answered", 61)
		ann.act(c.ID, "hangup") // once more does no harm
		ann.refused("POST", "/v1/calls/"+c.ID+"/join", nil, 409, "call_over")
		ben.refused("POST", "/v1/calls/"+c.ID+"/answer", nil, 409, "call_over")
		ann.refused("POST", "/v1/calls/"+c.ID+"/invite", map[string]any{"to": []string{"benben"}}, 409, "call_over")
	})
}

func TestCallNotAnswered(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben := s.signUp(t, "annann"), s.signUp(t, "benben")
		ben2 := s.signIn(t, "benben")
		annEvents, benEvents, ben2Events := ann.events(nil), ben.events(nil), ben2.events(nil)
		ring := func() string {
			t.Helper()
			s.clock.advance(time.Second) // the history's order
			id := ann.place(201, "benben").Call.ID
			annEvents.call("ringing joined")
			benEvents.call("ringing ringing")
			ben2Events.call("ringing ringing")
			return id
		}

		id := ring()
		if got := ben.act(id, "decline"); got.Call.Outcome != "declined" {
			t.Errorf("declined: %+v", got.Call)
		}
		annEvents.call("ended left declined")
		if got := ben2Events.call("ended declined declined"); got.Stopped != "declined_elsewhere" {
			t.Errorf("the other device: %+v", got)
		}
		benEvents.call("ended declined declined")
		agree(t, ann, ben, "declined", "declined", 0)

		id = ring()
		ben.do("POST", "/v1/calls/"+id+"/decline", map[string]any{"reason": "busy"}, 200, nil)
		annEvents.call("ended left busy")
		benEvents.call("ended busy declined")
		ben2Events.call("ended busy declined")
		agree(t, ann, ben, "busy", "declined", 0)

		id = ring()
		ben.refused("POST", "/v1/calls/"+id+"/cancel", nil, 409, "not_caller")
		ann.act(id, "cancel")
		annEvents.call("ended cancelled cancelled")
		benEvents.call("ended cancelled missed")
		ben2Events.call("ended cancelled missed")
		agree(t, ann, ben, "cancelled", "missed", 0)

		id = ring()
		s.elapse(45*time.Second - time.Millisecond)
		var still Call
		ann.do("GET", "/v1/calls/"+id, nil, 200, &still)
		if still.State != "ringing" {
			t.Errorf("before 45 s: %+v", still)
		}
		s.elapse(time.Millisecond)
		annEvents.call("ended left timed_out")
		benEvents.call("ended timed_out missed")
		ben2Events.call("ended timed_out missed")
		agree(t, ann, ben, "timed_out", "missed", 0)
		if h := ben.history(); len(h) != 4 {
			t.Errorf("ben's history has %d calls, want 4", len(h))
		}
	})
}

func TestCallBusyAndWaiting(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo, dora := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo"), s.signUp(t, "doradora")
		benEvents, cleoEvents := ben.events(nil), cleo.events(nil)
		first := ann.place(201, "benben").Call.ID
		if got := benEvents.call("ringing ringing"); got.ID != first || got.Waiting {
			t.Errorf("the first call: %+v", got)
		}
		ben.act(first, "answer")

		s.clock.advance(time.Second)
		second := cleo.place(201, "benben").Call.ID
		if got := benEvents.call("ringing ringing"); got.ID != second || !got.Waiting {
			t.Errorf("a second call: %+v", got)
		}
		third := dora.place(201, "benben")
		if third.Call.State != "ended" || third.Call.Outcome != "busy" || third.Join != nil {
			t.Errorf("a third call: %+v", third)
		}
		if got := benEvents.call("ended busy missed"); got.ID != third.Call.ID {
			t.Errorf("the call that found ben busy: %+v", got)
		}
		agree(t, dora, ben, "busy", "missed", 0)

		ben.refused("POST", "/v1/calls", map[string]any{"to": []string{"doradora"}, "media": "audio", "clientId": "x"}, 409, "in_call")

		// Taking the second call ends the first, in one step.
		ben.act(second, "answer")
		cleoEvents.call("active joined")
		if got := ann.history(); len(got) != 1 || got[0].ID != first || got[0].Outcome != "answered" {
			t.Errorf("ann's history: %+v", got)
		}
		s.rooms.wait(t, first+" closed")
		ben.act(second, "hangup")

		ben.do("PATCH", "/v1/account", map[string]any{"callWaiting": false}, 200, nil)
		fourth := ben.place(201, "annann").Call.ID
		if got := cleo.place(201, "benben"); got.Call.Outcome != "busy" {
			t.Errorf("ben wants no second call: %+v", got.Call)
		}
		ben.act(fourth, "cancel")
	})
}

// Two people press "call" at the same moment, many times.
func TestCallGlare(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		who := [2]*browser{s.signUp(t, "annann"), s.signUp(t, "benben")}
		names := [2]string{"benben", "annann"}
		for round := range 50 {
			var out [2]entered
			var status [2]int
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range who {
				wg.Go(func() {
					<-start
					status[i] = who[i].try("/v1/calls", map[string]any{"to": []string{names[i]}, "media": "video", "clientId": fmt.Sprint(round)}, &out[i])
				})
			}
			close(start)
			wg.Wait()
			if slices.Sort(status[:]); status != [2]int{200, 201} || out[0].Call.ID != out[1].Call.ID || out[0].Join == nil || out[1].Join == nil {
				t.Fatalf("round %d: %v\n%+v\n%+v", round, status, out[0], out[1])
			}
			var now Call
			who[0].do("GET", "/v1/calls/"+out[0].Call.ID, nil, 200, &now)
			if now.State != "active" || now.MyState != "joined" || stateOf(now, "benben") != "joined" {
				t.Fatalf("round %d: %+v", round, now)
			}
			who[round%2].act(out[0].Call.ID, "hangup")
		}
		if h := who[0].history(); len(h) != 50 {
			t.Errorf("%d calls in the history, want 50", len(h))
		}
	})
}

func TestCallRetriedAndResumed(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann := s.signUp(t, "annann")
		s.signUp(t, "benben")
		body := map[string]any{"to": []string{"benben"}, "media": "audio", "clientId": "one"}
		var first, second entered
		ann.do("POST", "/v1/calls", body, 201, &first)
		ann.do("POST", "/v1/calls", body, 200, &second)
		if first.Call.ID != second.Call.ID || second.Join == nil {
			t.Errorf("the same client id: %+v, %+v", first, second)
		}
		// After a reload of the page: the device is still in that call.
		if again := ann.place(200, "benben"); again.Call.ID != first.Call.ID {
			t.Errorf("the same person: %+v", again)
		}
		var snap struct{ Calls []Call }
		ann.events(&snap)
		if len(snap.Calls) != 1 || snap.Calls[0].ID != first.Call.ID || !snap.Calls[0].Here {
			t.Errorf("snapshot: %+v", snap)
		}
	})
}

func TestCallBlocked(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo")
		annEvents, benEvents := ann.events(nil), ben.events(nil)
		block := func() { ben.do("PUT", "/v1/contacts/"+ann.Session.Account.ID+"/block", nil, 204, nil) }
		unblock := func() { ben.do("DELETE", "/v1/contacts/"+ann.Session.Account.ID+"/block", nil, 204, nil) }

		// Blocked before: it rings for ann alone.
		block()
		id := ann.place(201, "benben").Call.ID
		if got := annEvents.call("ringing joined"); stateOf(got, "benben") != "ringing" {
			t.Errorf("ann sees %+v", got)
		}
		for _, action := range []string{"answer", "decline", "cancel", "hangup", "join"} {
			ben.refused("POST", "/v1/calls/"+id+"/"+action, nil, 404, "call_not_found")
		}
		ben.refused("GET", "/v1/calls/"+id, nil, 404, "call_not_found")
		ben.refused("POST", "/v1/calls/"+id+"/invite", map[string]any{"to": []string{"cleocleo"}}, 404, "call_not_found")
		ben.refused("POST", "/v1/calls", map[string]any{"to": []string{"annann"}, "media": "audio", "clientId": "x"}, 409, "person_blocked")
		var snap struct{ Calls []Call }
		ben.events(&snap)
		if len(snap.Calls) != 0 {
			t.Errorf("ben's snapshot: %+v", snap)
		}
		s.elapse(45 * time.Second)
		annEvents.call("ended left timed_out")
		if h := ben.history(); len(h) != 0 {
			t.Errorf("ben's history: %+v", h)
		}

		// Blocked while it rings: it stops for ben alone.
		unblock()
		id = ann.place(201, "benben").Call.ID
		annEvents.call("ringing joined")
		if got := benEvents.call("ringing ringing"); got.ID != id {
			t.Errorf("ben was shown another call than his first: %+v", got)
		}
		block()
		benEvents.call("ended declined declined")
		var now Call
		ann.do("GET", "/v1/calls/"+id, nil, 200, &now)
		if now.State != "ringing" || stateOf(now, "benben") != "ringing" {
			t.Errorf("ann sees %+v", now)
		}
		s.elapse(45 * time.Second)
		annEvents.call("ended left timed_out")

		// Blocked in a call: it is over.
		unblock()
		id = ann.place(201, "benben").Call.ID
		annEvents.call("ringing joined")
		ben.act(id, "answer")
		annEvents.call("active joined")
		block()
		annEvents.call("ended left answered")
		s.rooms.wait(t, id+" closed")

		// Contacts only: the same answer for a stranger and for a blocked one.
		ben.do("PATCH", "/v1/account", map[string]any{"callsFrom": "contacts"}, 200, nil)
		body := map[string]any{"to": []string{"benben"}, "media": "audio", "clientId": "y"}
		_, p1 := ann.refused("POST", "/v1/calls", body, 403, "contacts_only")
		_, p2 := cleo.refused("POST", "/v1/calls", body, 403, "contacts_only")
		if p1.Detail != p2.Detail {
			t.Errorf("%q and %q tell a block", p1.Detail, p2.Detail)
		}
	})
}

func TestCallGrows(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, cleo := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "cleocleo")
		annEvents, cleoEvents := ann.events(nil), cleo.events(nil)
		id := ann.place(201, "benben").Call.ID
		ben.act(id, "answer")
		s.clock.advance(10 * time.Second)
		to := map[string]any{"to": []string{"@cleocleo"}}
		cleo.refused("POST", "/v1/calls/"+id+"/invite", map[string]any{"to": []string{"annann"}}, 404, "call_not_found")
		cleo.refused("GET", "/v1/calls/"+id, nil, 404, "call_not_found")
		var grown struct{ Call Call }
		ben.do("POST", "/v1/calls/"+id+"/invite", to, 200, &grown)
		if stateOf(grown.Call, "cleocleo") != "ringing" || grown.Call.State != "active" || len(grown.Call.People) != 3 {
			t.Errorf("invited: %+v", grown.Call)
		}
		if in := cleoEvents.call("ringing ringing"); in.Direction != "incoming" || len(in.People) != 3 || in.AnsweredAt != nil {
			t.Errorf("cleo sees %+v", in)
		}
		cleo.act(id, "answer")
		for stateOf(annEvents.call("active joined"), "cleocleo") != "joined" {
		}
		s.clock.advance(20 * time.Second)
		if got := ann.act(id, "hangup").Call; got.State != "ended" || got.Length != 30 {
			t.Errorf("ann left: %+v", got)
		}
		s.rooms.wait(t, id+" "+ann.Session.Identity()+" left")
		if got := cleoEvents.call("active joined"); got.ID != id {
			t.Errorf("goes on: %+v", got)
		}
		s.clock.advance(5 * time.Second)
		cleo.act(id, "hangup")
		if got := ben.history(); len(got) != 1 || got[0].Length != 35 || got[0].Outcome != "answered" {
			t.Errorf("ben's history: %+v", got)
		}
		if got := cleo.history(); len(got) != 1 || got[0].Length != 25 || got[0].Direction != "incoming" {
			t.Errorf("cleo's history: %+v", got)
		}
		// A group from the start, where one of two declines.
		id = ann.place(201, "benben", "cleocleo", "benben").Call.ID
		ben.act(id, "decline")
		cleo.act(id, "answer")
		cleo.act(id, "hangup")
		if got := ann.history(); len(got) != 2 || got[0].Outcome != "answered" || stateOf(got[0], "benben") != "declined" {
			t.Errorf("ann's history: %+v", got)
		}
	})
}

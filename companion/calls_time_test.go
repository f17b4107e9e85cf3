package companion

import (
	"testing"
	"time"

	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
	"anytime/signaling/call"
)

// TestTimekeeperSleepsUntilDue: a process dies after it placed a call, then one with the call's timer in hand. The other one
// takes over at the very moment, and looks at the store no more than it must.
func TestTimekeeperSleepsUntilDue(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		w := newCrashWorld(t, url)
		w.depth = 100 // nothing beside
		w.forget()
		w.signUp("ann")
		w.signUp("ben")
		dies, takesOver := w.processes[0], w.processes[1]
		began := w.now
		look := func(at, want time.Duration) {
			t.Helper()
			w.now = began.Add(at)
			if wait := takesOver.look(w.ctx); wait != want {
				t.Errorf("after %v the next look is in %v, want %v", at, wait, want)
			}
		}
		const lease = sqlstore.CallLease
		state := func() call.State {
			t.Helper()
			c, err := takesOver.store.Call(w.ctx, w.calls[0])
			if err != nil {
				t.Fatal(err)
			}
			return c.State
		}

		look(0, lookEvery)
		ann := w.people[0]
		w.place(dies, ann, w.devices[ann][0], w.people[1])
		look(time.Second, lookEvery)
		look(lease-2*time.Second, 2*time.Second)
		told := w.repeated
		look(lease, lookEvery)
		if w.repeated == told {
			t.Error("nobody was told of what the process left")
		}
		look(call.RingFor-time.Second, time.Second)
		w.now = began.Add(call.RingFor)
		if ids, err := dies.store.ClaimDueCalls(w.ctx, w.now, 1); err != nil || len(ids) != 1 {
			t.Fatal(ids, err)
		}
		look(call.RingFor, lookEvery)
		look(call.RingFor+lease-3*time.Second, 3*time.Second)
		if s := state(); s != call.Ringing {
			t.Errorf("the call is %s while the other process ends it", s)
		}
		look(call.RingFor+lease, lookEvery)
		if s := state(); s != call.Ended {
			t.Errorf("the call is %s after its time", s)
		}
		w.finish(takesOver)
		look(call.RingFor+3*lease, lookEvery)
	})
}

// TestTimersOutlastALook: whatever waits is seen before it is due, also by processes that did not save it.
func TestTimersOutlastALook(t *testing.T) {
	for _, d := range []time.Duration{call.RingFor, call.ReconnectWithin, call.ReturnWithin, call.ConnectWithin, sqlstore.CallLease} {
		if d < 2*lookEvery {
			t.Errorf("something waits for %v, and others look every %v", d, lookEvery)
		}
	}
}

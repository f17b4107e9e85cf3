package companion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/companion/sqlstore/sqltest"
	"anytime/signaling/call"
)

// Two processes serve the same people. What they do is interleaved at random, also
// in the middle of what one of them does after it saved a call; and one is killed
// there now and then, and started again with nothing in its memory. The clock is
// virtual. At the end nothing may be lost, and nothing may have happened twice to
// the people.
func TestCallsSurviveKills(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		w := newCrashWorld(t, url)
		runs := 25
		if strings.HasPrefix(url, "postgres") {
			runs = 6 // each start of a process takes a while
		}
		if testing.Short() {
			runs = 5
		}
		for seed := range runs {
			w.run(uint64(seed))
		}
		if w.kills == 0 || w.adopted == 0 || w.repeated == 0 {
			t.Errorf("%d kills, %d events adopted, %d repeated: this shows nothing", w.kills, w.adopted, w.repeated)
		}
		t.Logf("%d kills, %d events adopted, %d repeated and not shown again", w.kills, w.adopted, w.repeated)
	})
}

// errKilled is what a process dies of.
var errKilled = errors.New("killed")

// crashWorld is two processes, a database, and people with devices that watch.
type crashWorld struct {
	t         *testing.T
	ctx       context.Context
	url       string
	now       time.Time
	rand      *rand.Rand
	processes [2]*crashProcess
	depth     int // of steps within steps
	killAt    time.Time

	// Of one run.
	people  []string            // accounts
	devices map[string][]string // by account
	calls   []string
	room    map[string][]string          // identities by call
	shown   map[string]map[string]*watch // by device and call
	rings   map[string]int               // times that a person was rung, by account+call
	closed  map[string]bool
	log     []string

	kills, adopted, repeated int
}

// watch is what a device has shown of a call.
type watch struct {
	view    call.View
	ringing int // times that it began to ring
}

// crashProcess is one process.
type crashProcess struct {
	name  string
	store *sqlstore.Store
	*callWorker
	world *crashWorld
	fuse  int // effects until it dies; negative: lives
}

func newCrashWorld(t *testing.T, url string) *crashWorld {
	w := &crashWorld{t: t, ctx: t.Context(), url: url, now: newClock().now(), killAt: newClock().now()}
	for i := range w.processes {
		w.processes[i] = w.start(fmt.Sprintf("process %d", i))
	}
	if _, err := w.processes[0].store.Prepare(w.ctx, people.RegistrationOpen, "none", w.now); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *crashWorld) start(name string) *crashProcess {
	store, err := sqlstore.Open(w.ctx, w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { store.Close() })
	p := &crashProcess{name: name, store: store, world: w, fuse: -1}
	p.callWorker = newCallWorker(store, p, p.deliver, func() time.Time { return w.now }, slog.New(crashLog{w}))
	return p
}

// crashLog makes everything that a process complains of an error of the test.
type crashLog struct{ w *crashWorld }

func (l crashLog) Enabled(context.Context, slog.Level) bool { return true }
func (l crashLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l crashLog) WithGroup(string) slog.Handler            { return l }
func (l crashLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.w.fail("a process complains: %s", text)
	return nil
}

func (w *crashWorld) note(format string, args ...any) {
	w.log = append(w.log, w.now.Format("04:05 ")+fmt.Sprintf(format, args...))
}

func (w *crashWorld) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", strings.Join(w.log, "\n"), fmt.Sprintf(format, args...))
}

// effect is a moment in which a process may die, and others may do something.
func (p *crashProcess) effect() {
	if p.fuse == 0 {
		panic(errKilled)
	}
	if p.fuse > 0 {
		p.fuse--
	}
	w := p.world
	if w.depth < 3 && w.rand.IntN(4) == 0 {
		for _, other := range w.processes {
			if other != p && w.rand.IntN(2) == 0 {
				w.step(other)
			}
		}
	}
}

// deliver is the event sockets: each device shows the call as it then is, and no
// version twice.
func (p *crashProcess) deliver(accountID, deviceID, callID string) {
	p.effect()
	w := p.world
	c, err := p.store.Call(w.ctx, callID)
	if err != nil {
		w.fail("%v", err)
	}
	for _, d := range w.devices[accountID] {
		if deviceID != "" && deviceID != d {
			continue
		}
		v, ok := c.View(accountID, d)
		if !ok {
			w.fail("%s was told of a call that it must not know of", w.short(d))
		}
		if w.shown[d] == nil {
			w.shown[d] = map[string]*watch{}
		}
		was := w.shown[d][callID]
		if was == nil {
			was = &watch{}
			w.shown[d][callID] = was
		}
		if was.view.Version >= v.Version {
			w.repeated++
			continue
		}
		if rang, rings := was.view.MyState == call.PersonRinging, v.MyState == call.PersonRinging; rings && !rang {
			was.ringing++
		}
		was.view = v
		w.note("%s: %s shows %s version %d: %s %s %s", p.name, w.short(d), w.short(callID), v.Version, v.State, v.MyState, v.Outcome)
	}
}

// The process is its own room service.

func (p *crashProcess) Token(string, string, string) (string, time.Time, error) {
	return "", time.Time{}, nil
}
func (p *crashProcess) Participants(room string) []string { return slices.Clone(p.world.room[room]) }

func (p *crashProcess) Disconnect(room, identity, reason string) {
	w := p.world
	c, err := p.store.Call(w.ctx, room)
	if err != nil {
		w.fail("%v", err)
	}
	account, device, _ := strings.Cut(identity, ":")
	if q := c.Person(account); q != nil && q.State == call.PersonJoined && q.Device == device {
		w.fail("%s is thrown out of a call that it is in", w.short(device))
	}
	w.room[room] = slices.DeleteFunc(w.room[room], func(id string) bool { return id == identity })
	p.effect()
}

func (p *crashProcess) Quality(string, string) (CallQuality, bool) { return CallQuality{}, false }

func (p *crashProcess) CloseRoom(room string) {
	p.world.closed[room] = true
	p.world.room[room] = nil
	p.effect()
}

// try runs f as the process, which may die of it.
func (w *crashWorld) try(p *crashProcess, f func()) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case error(errKilled):
			w.note("%s is killed", p.name)
			w.kills++
			for i := range w.processes {
				if w.processes[i] == p {
					w.processes[i] = w.start(p.name)
				}
			}
		default:
			panic(r)
		}
	}()
	f()
}

// step is one thing that a process does.
func (w *crashWorld) step(p *crashProcess) {
	w.depth++
	defer func() { w.depth-- }()
	// One at a time dies: with both gone nobody is left to make it good in time.
	if w.depth == 1 && !w.now.Before(w.killAt) && w.rand.IntN(3) == 0 {
		p.fuse = w.rand.IntN(4)
		w.killAt = w.now.Add(time.Minute)
	}
	w.try(p, func() {
		if w.rand.IntN(3) == 0 {
			w.tick(p)
			return
		}
		w.act(p)
		if w.rand.IntN(2) == 0 {
			w.finish(p)
		}
	})
}

// tick is a turn of the process's own loops.
func (w *crashWorld) tick(p *crashProcess) {
	before := len(w.log) + w.repeated
	p.adopt(w.ctx)
	w.adopted += len(w.log) + w.repeated - before
	p.fire(w.ctx)
	w.finish(p)
}

func (w *crashWorld) finish(p *crashProcess) {
	select {
	case work := <-p.own:
		p.callWorker.finish(w.ctx, p.drain(work))
	default:
	}
}

// act is something that a person does, whether it makes sense or not.
func (w *crashWorld) act(p *crashProcess) {
	account := w.people[w.rand.IntN(len(w.people))]
	device := w.devices[account][w.rand.IntN(2)]
	other := w.people[w.rand.IntN(len(w.people))]
	if len(w.calls) == 0 || w.rand.IntN(6) == 0 {
		if other == account {
			return
		}
		w.place(p, account, device, other)
		return
	}
	id := w.calls[w.rand.IntN(len(w.calls))]
	if w.rand.IntN(3) > 0 {
		id = w.calls[len(w.calls)-1]
	}
	var e call.Event
	switch w.rand.IntN(12) {
	case 0, 1, 2, 3:
		e = call.Answered{Account: account, Device: device}
	case 4:
		e = call.Declined{Account: account, Device: device}
	case 5:
		e = call.Cancelled{Account: account, Device: device}
	case 6:
		e = call.HungUp{Account: account, Device: device}
	case 7:
		w.invite(p, id, account, device, other)
		return
	case 8:
		e = call.SignedOut{Account: account, Device: device}
	case 9:
		e = call.Blocked{Account: account, Target: other}
	default:
		w.enter(p, id, account, device)
		return
	}
	w.note("%s: %s %T %s", p.name, w.short(device), e, w.short(id))
	if _, err := p.change(w.ctx, id, e); err != nil && !expectedRefusal(err) {
		w.fail("%T: %v", e, err)
	}
}

func expectedRefusal(err error) bool {
	for _, e := range []error{call.ErrOver, call.ErrElsewhere, call.ErrNotIn, call.ErrNotCaller, call.ErrStranger, call.ErrInvalid, sqlstore.ErrInCall} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (w *crashWorld) place(p *crashProcess, account, device, to string) {
	change, placing, err := p.store.PlaceCall(w.ctx, sqlstore.NewCall{ID: people.NewID("ca_"), Account: account, Device: device,
		Media: call.Audio, To: []string{to}, ClientID: people.NewID("")}, w.now)
	if err != nil && !expectedRefusal(err) {
		w.fail("place: %v", err)
	}
	if err != nil {
		return
	}
	w.note("%s: %s calls %s: %s, %d", p.name, w.short(device), w.short(to), w.short(change.Call.ID), placing)
	if placing == sqlstore.CallPlaced {
		w.calls = append(w.calls, change.Call.ID)
		w.rings[to+change.Call.ID]++
	}
	p.follow(change)
}

func (w *crashWorld) invite(p *crashProcess, id, account, device, to string) {
	if to == account {
		return
	}
	before, err := p.store.Call(w.ctx, id)
	if err != nil {
		w.fail("%v", err)
	}
	change, err := p.store.InviteToCall(w.ctx, id, account, device, []string{to}, w.now)
	if err != nil && !expectedRefusal(err) {
		w.fail("invite: %v", err)
	}
	if q := before.Person(to); err == nil && change.Changed && (q == nil || q.Over()) {
		w.note("%s: %s invites %s to %s", p.name, w.short(device), w.short(to), w.short(id))
		w.rings[to+id]++
	}
	p.follow(change)
}

// enter has the device join the room, or lose it.
func (w *crashWorld) enter(p *crashProcess, id, account, device string) {
	identity := account + ":" + device
	var e call.Event = call.MediaJoined{Account: account, Device: device}
	if slices.Contains(w.room[id], identity) {
		w.room[id] = slices.DeleteFunc(w.room[id], func(in string) bool { return in == identity })
		e = call.MediaLost{Account: account, Device: device}
	} else {
		w.room[id] = append(w.room[id], identity)
	}
	if _, err := p.change(w.ctx, id, e); err != nil {
		w.fail("%T: %v", e, err)
	}
}

// forget begins anew, with nobody.
func (w *crashWorld) forget() {
	w.people, w.calls, w.log = nil, nil, nil
	w.devices, w.room, w.shown = map[string][]string{}, map[string][]string{}, map[string]map[string]*watch{}
	w.rings, w.closed = map[string]int{}, map[string]bool{}
}

func (w *crashWorld) run(seed uint64) {
	w.rand = rand.New(rand.NewPCG(seed, 6))
	w.forget()
	w.log = []string{fmt.Sprintf("seed %d", seed)}
	w.now = w.now.Add(time.Hour)
	for _, n := range []string{"ann", "ben", "cleo"} {
		w.signUp(fmt.Sprintf("%s.%d", n, seed))
	}
	for range 60 {
		if w.rand.IntN(3) == 0 {
			w.now = w.now.Add(time.Duration(w.rand.IntN(15_000)) * time.Millisecond)
		}
		w.step(w.processes[w.rand.IntN(2)])
	}
	w.settle()
	w.check()
}

func (w *crashWorld) signUp(typed string) {
	name, err := people.ParseName(typed)
	if err != nil {
		w.t.Fatal(err)
	}
	account := people.NewID("ac_")
	session := func(n string) sqlstore.NewSession {
		d := people.Device{ID: people.NewID("dv_"), Name: n, Kind: "browser"}
		w.devices[account] = append(w.devices[account], d.ID)
		return sqlstore.NewSession{Hash: people.NewSecret(), Device: d, ExpiresAt: w.now.Add(10_000 * time.Hour)}
	}
	store := w.processes[0].store
	a := sqlstore.NewAccount{ID: account, Name: name, DisplayName: typed, Password: "none"}
	if _, err := store.CreateAccount(w.ctx, a, session("1"), w.now); err != nil {
		w.t.Fatal(err)
	}
	if _, _, err := store.CreateSession(w.ctx, account, session("2"), "", 10, w.now); err != nil {
		w.t.Fatal(err)
	}
	w.people = append(w.people, account)
}

// settle lets everybody lose the network, and time pass, until all is over.
func (w *crashWorld) settle() {
	w.depth = 100 // nothing more within
	for _, p := range w.processes {
		p.fuse = -1
		w.finish(p)
	}
	clear(w.room)
	for range 20 {
		w.now = w.now.Add(2 * sqlstore.CallLease)
		for _, p := range w.processes {
			p.tidy(w.ctx)
			w.tick(p)
		}
	}
	w.depth = 0
}

func (w *crashWorld) check() {
	store := w.processes[0].store
	if left, err := store.ClaimCallWork(w.ctx, w.now.Add(time.Hour), 1000); err != nil || len(left) > 0 {
		w.fail("work is left: %+v, %v", left, err)
	}
	for _, id := range w.calls {
		c, err := store.Call(w.ctx, id)
		if err != nil {
			w.fail("%v", err)
		}
		if c.State != call.Ended || !w.closed[id] {
			w.fail("%s is %s, its room closed %t", w.short(id), c.State, w.closed[id])
		}
		for i := range c.People {
			for _, d := range w.devices[c.People[i].Account] {
				w.checkDevice(&c, &c.People[i], d)
			}
		}
	}
	for _, devices := range w.devices {
		for _, d := range devices {
			if id, err := store.CallSlot(w.ctx, d); err != nil || id != "" {
				w.fail("%s is still in %s, %v", w.short(d), w.short(id), err)
			}
		}
	}
}

func (w *crashWorld) checkDevice(c *call.Call, p *call.Person, device string) {
	v, ok := c.View(p.Account, device)
	shown := w.shown[device][c.ID]
	switch {
	case !ok && shown == nil:
		return
	case !ok || shown == nil:
		w.fail("%s in %s: should see it %t, saw it %t", w.short(device), w.short(c.ID), ok, shown != nil)
	}
	if s := shown.view; s.State != v.State || s.MyState != v.MyState || s.Outcome != v.Outcome || s.Length != v.Length {
		w.fail("%s shows %s as %s %s %s, but it is %s %s %s", w.short(device), w.short(c.ID),
			s.State, s.MyState, s.Outcome, v.State, v.MyState, v.Outcome)
	}
	// Who was rung to the end has heard it, and each ring once.
	rung := w.rings[p.Account+c.ID]
	if p.State == call.PersonTimedOut && shown.ringing == 0 {
		w.fail("%s was rung in %s until it timed out, and never rang", w.short(device), w.short(c.ID))
	}
	if shown.ringing > rung {
		w.fail("%s rang %d times in %s for %d rings", w.short(device), shown.ringing, w.short(c.ID), rung)
	}
}

// short names an id in the log.
func (w *crashWorld) short(id string) string {
	for i, account := range w.people {
		name := string(rune('a' + i))
		if account == id {
			return name
		}
		if n := slices.Index(w.devices[account], id); n >= 0 {
			return fmt.Sprint(name, n+1)
		}
	}
	return fmt.Sprint("call ", slices.Index(w.calls, id))
}

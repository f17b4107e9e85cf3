package companion

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/signaling/call"
)

const (
	lookEvery    = 5 * time.Second  // most between two looks for timers and work that other processes left
	retryEvery   = time.Second      // between two looks when the last one failed
	tidyEvery    = 30 * time.Second // between two comparisons of calls with rooms and sessions
	claimAtOnce  = 100              // most timers or pieces of work claimed at a time
	workQueue    = 256              // pieces of this process's own work in line
	forgetRoomAt = 100_000          // news of rooms in line; beyond it the oldest half is dropped, and tidying makes up for it
)

// callWorker changes calls and carries out what follows. All of it is done at
// least once, by this process or another, and nothing is harmed by twice.
type callWorker struct {
	store   *sqlstore.Store
	rooms   Rooms
	publish func(accountID, deviceID, callID string) // must not block
	now     func() time.Time
	log     *slog.Logger

	own    chan sqlstore.CallWork // saved by this process, events published, the rest to be done
	sooner chan struct{}          // a timer may be due earlier than was known

	mu       sync.Mutex
	news     []roomNews
	newsWake chan struct{}
}

func newCallWorker(store *sqlstore.Store, rooms Rooms, publish func(accountID, deviceID, callID string), now func() time.Time, log *slog.Logger) *callWorker {
	return &callWorker{store: store, rooms: rooms, publish: publish, now: now, log: log,
		own: make(chan sqlstore.CallWork, workQueue), sooner: make(chan struct{}, 1), newsWake: make(chan struct{}, 1)}
}

// change applies an event to a call and has its effects carried out. People hear
// of the change before it returns.
func (w *callWorker) change(ctx context.Context, id string, e call.Event) (call.Call, error) {
	change, err := w.store.ChangeCall(ctx, id, e, w.now())
	if err != nil {
		return call.Call{}, err
	}
	w.follow(change)
	return change.Call, nil
}

// follow begins the effects of a change that was saved.
func (w *callWorker) follow(change sqlstore.CallChange) {
	for _, work := range change.Work {
		w.tell(work)
		select {
		case w.own <- work:
		default: // the store keeps it; whoever finds its lease at an end does it
		}
	}
	if change.Changed && !change.Call.DueAt.IsZero() {
		select {
		case w.sooner <- struct{}{}:
		default:
		}
	}
}

// tell publishes the call to those whose view of it changed. A device that rings
// or stops is one of them; when devices can be woken, that is done here too.
func (w *callWorker) tell(work sqlstore.CallWork) {
	told := map[string]bool{}
	for _, e := range work.Effects {
		if e.Kind == call.Notify && !told[e.Account] {
			told[e.Account] = true
			w.publish(e.Account, "", work.CallID)
		}
	}
	for _, e := range work.Effects {
		if (e.Kind == call.Ring || e.Kind == call.StopRing) && !told[e.Account] {
			w.publish(e.Account, e.Device, work.CallID)
		}
	}
}

// perform does the rest of the effects: it takes devices out of the room.
func (w *callWorker) perform(ctx context.Context, work sqlstore.CallWork) error {
	for _, e := range work.Effects {
		switch e.Kind {
		case call.CloseRoom:
			w.rooms.CloseRoom(work.CallID)
		case call.Disconnect:
			// The device may be back meanwhile: invited again, it answered.
			c, err := w.store.Call(ctx, work.CallID)
			if err != nil {
				return err
			}
			if p := c.Person(e.Account); p == nil || p.State != call.PersonJoined || p.Device != e.Device {
				w.rooms.Disconnect(work.CallID, e.Account+":"+e.Device, e.Reason)
			}
		}
	}
	return nil
}

// carryOut performs what this process saved, and removes it from the store.
func (w *callWorker) carryOut(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case work := <-w.own:
			w.finish(ctx, w.drain(work))
		}
	}
}

// drain returns everything that waits in line: one commit removes it all.
func (w *callWorker) drain(first sqlstore.CallWork) []sqlstore.CallWork {
	list := []sqlstore.CallWork{first}
	for {
		select {
		case work := <-w.own:
			list = append(list, work)
		default:
			return list
		}
	}
}

func (w *callWorker) finish(ctx context.Context, list []sqlstore.CallWork) {
	var done []sqlstore.CallWork
	for _, work := range list {
		if err := w.perform(ctx, work); err != nil {
			w.complain(ctx, "carry out the effects of a call", err, "call", work.CallID, "version", work.Version)
			continue
		}
		done = append(done, work)
	}
	if err := w.store.CallWorkDone(ctx, done...); err != nil {
		w.complain(ctx, "remove the carried out effects of calls", err)
	}
}

// keepTime ends what is due, and does what other processes left undone.
//
// It sleeps until the store has something to claim. What this process saves wakes
// it; what others save it finds at its next look, which matters only if they die:
// a lease, and each of package call's timers, takes 10 s at least, so a look each
// lookEvery comes before its end. Only a timer that a sooner one hid from all looks
// is late, by lookEvery at most. While nothing happens a look is one query.
func (w *callWorker) keepTime(ctx context.Context) {
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tidy.C:
			w.tidy(ctx)
		case <-w.sooner:
		case <-wait.C:
		}
		wait.Reset(w.look(ctx))
	}
}

// look does what is left and due, and returns how long to wait for the next look.
func (w *callWorker) look(ctx context.Context) time.Duration {
	wait := w.idle(ctx)
	if wait > 0 {
		return wait
	}
	if w.adopt(ctx)+w.fire(ctx) == 0 {
		return retryEvery // another process was faster, or the store takes no change now
	}
	return max(w.idle(ctx), 0)
}

// idle returns how long nothing is to be done, as far as the store knows.
func (w *callWorker) idle(ctx context.Context) time.Duration {
	next, err := w.store.NextCallWork(ctx)
	switch {
	case err != nil:
		w.complain(ctx, "look for the next timer of a call", err)
		return retryEvery
	case next.IsZero():
		return lookEvery
	}
	return min(next.Sub(w.now()), lookEvery)
}

// adopt carries out work whose process died, or was too slow. It returns how much it found.
func (w *callWorker) adopt(ctx context.Context) int {
	list, err := w.store.ClaimCallWork(ctx, w.now(), claimAtOnce)
	if err != nil {
		w.complain(ctx, "claim effects of calls", err)
	}
	for _, work := range list {
		w.tell(work)
	}
	if len(list) > 0 {
		w.finish(ctx, list)
	}
	return len(list)
}

// fire applies the timers that are due. It returns how many it found.
func (w *callWorker) fire(ctx context.Context) int {
	ids, err := w.store.ClaimDueCalls(ctx, w.now(), claimAtOnce)
	if err != nil {
		w.complain(ctx, "claim timers of calls", err)
	}
	for _, id := range ids {
		if err := w.fireOne(ctx, id); err != nil {
			w.complain(ctx, "end what is due in a call", err, "call", id)
		}
	}
	return len(ids)
}

// fireOne believes the room before the clock: whoever is there has not failed to come.
func (w *callWorker) fireOne(ctx context.Context, id string) error {
	c, err := w.store.Call(ctx, id)
	if err != nil {
		return err
	}
	if err := w.compare(ctx, &c); err != nil {
		return err
	}
	_, err = w.change(ctx, id, call.TimerFired{})
	return err
}

// compare brings a call in line with its room.
func (w *callWorker) compare(ctx context.Context, c *call.Call) error {
	var there []string
	for i := range c.People {
		p := &c.People[i]
		if p.State != call.PersonJoined {
			continue
		}
		if there == nil {
			there = append(w.rooms.Participants(c.ID), "")
		}
		var e call.Event
		switch in := slices.Contains(there, p.Account+":"+p.Device); {
		case in && p.Link != call.Connected:
			e = call.MediaJoined{Account: p.Account, Device: p.Device}
		case !in && p.Link == call.Connected:
			e = call.MediaLost{Account: p.Account, Device: p.Device}
		default:
			continue
		}
		if _, err := w.change(ctx, c.ID, e); err != nil {
			return err
		}
	}
	return nil
}

// tidy makes up for news that never came: of rooms, and of sessions that ended. It
// also leaves word of when the calls were last looked after: should this process
// die, a call that nobody comes back to ended about then.
func (w *callWorker) tidy(ctx context.Context) {
	ids, err := w.store.AllOngoingCalls(ctx)
	if err != nil {
		w.complain(ctx, "list calls", err)
	}
	if len(ids) > 0 {
		if err := w.store.KeepCallsAlive(ctx, w.now()); err != nil {
			w.complain(ctx, "write down that calls go on", err)
		}
	}
	for _, id := range ids {
		c, err := w.store.Call(ctx, id)
		if err == nil {
			err = w.compare(ctx, &c)
		}
		if err != nil {
			w.complain(ctx, "compare a call with its room", err, "call", id)
		}
	}
	gone, err := w.store.SignedOutSlots(ctx, w.now())
	if err != nil {
		w.complain(ctx, "look for signed-out devices in calls", err)
	}
	for _, d := range gone {
		w.signedOut(ctx, d.AccountID, d.DeviceID)
	}
}

// roomsGone is called at the start: nobody is in a room that this process did not
// serve yet, so everybody has to come back.
func (w *callWorker) roomsGone(ctx context.Context) error {
	ids, err := w.store.AllOngoingCalls(ctx)
	if err != nil {
		return err
	}
	since, err := w.store.CallsAliveAt(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if len(w.rooms.Participants(id)) > 0 {
			continue
		}
		if _, err := w.change(ctx, id, call.RoomGone{Since: since}); err != nil {
			return err
		}
	}
	return nil
}

// signedOut takes a device out of its call and stops its ringing.
func (w *callWorker) signedOut(ctx context.Context, accountID, deviceID string) {
	list, err := w.store.OngoingCalls(ctx, accountID)
	if err != nil {
		w.complain(ctx, "find the calls of a signed-out device", err, "account", accountID, "device", deviceID)
	}
	for _, c := range list {
		if _, err := w.change(ctx, c.ID, call.SignedOut{Account: accountID, Device: deviceID}); err != nil {
			w.complain(ctx, "take a signed-out device out of a call", err, "call", c.ID, "account", accountID, "device", deviceID)
		}
	}
}

// blocked ends what two people have with each other in calls.
func (w *callWorker) blocked(ctx context.Context, accountID, blockedID string) {
	list, err := w.store.SharedCalls(ctx, accountID, blockedID)
	if err != nil {
		w.complain(ctx, "find the calls of a person and one they blocked", err, "account", accountID)
	}
	for _, c := range list {
		if _, err := w.change(ctx, c.ID, call.Blocked{Account: accountID, Target: blockedID}); err != nil {
			w.complain(ctx, "end a call with a blocked person", err, "call", c.ID, "account", accountID)
		}
	}
}

func (w *callWorker) complain(ctx context.Context, what string, err error, args ...any) {
	if ctx.Err() == nil {
		w.log.ErrorContext(ctx, what, append(args, "err", err)...)
	}
}

// roomNews is what the room service told.
type roomNews struct {
	room, identity string
	what           roomChange
}

type roomChange uint8

const (
	roomJoined roomChange = iota
	roomLeft
	roomLost
)

// heardOf puts news of a room in line. Rooms that are no calls don't concern us.
func (w *callWorker) heardOf(room, identity string, what roomChange) {
	if !people.ValidID("ca_", room) {
		return
	}
	w.mu.Lock()
	if len(w.news) >= forgetRoomAt {
		w.news = slices.Delete(w.news, 0, len(w.news)/2)
	}
	w.news = append(w.news, roomNews{room, identity, what})
	w.mu.Unlock()
	select {
	case w.newsWake <- struct{}{}:
	default:
	}
}

// followRooms applies the news of rooms in their order.
func (w *callWorker) followRooms(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.newsWake:
			w.readNews(ctx)
		}
	}
}

func (w *callWorker) readNews(ctx context.Context) {
	w.mu.Lock()
	news := w.news
	w.news = nil
	w.mu.Unlock()
	for _, n := range news {
		if err := w.hear(ctx, n); err != nil {
			w.complain(ctx, "follow a room", err, "call", n.room, "participant", n.identity)
		}
	}
}

func (w *callWorker) hear(ctx context.Context, n roomNews) error {
	account, device, ok := splitIdentity(n.identity)
	if !ok {
		return nil // a guest of another program's making; nobody of ours
	}
	var e call.Event
	switch n.what {
	case roomJoined:
		e = call.MediaJoined{Account: account, Device: device}
	default:
		// A device that connects anew is in the room before its old connection has left it.
		if slices.Contains(w.rooms.Participants(n.room), n.identity) {
			return nil
		}
		e = call.MediaLeft{Account: account, Device: device}
		if n.what == roomLost {
			e = call.MediaLost{Account: account, Device: device}
		}
	}
	_, err := w.change(ctx, n.room, e)
	return err
}

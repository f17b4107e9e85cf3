package sfu

import (
	"slices"
	"sync"
	"time"

	"anytime/sfu/alloc"
)

// What the path to a participant takes is shared out among its subscriptions:
//
//  1. Whoever estimates the path calls [Participant.budget]. What changes what is wanted or what there is (settings, mute,
//     a layer that starts or stops) calls share at once; the alarm calls it a few times per second.
//  2. offer.go: each publication tells its layers with their measured bitrates, once for all its subscribers.
//  3. [anytime/sfu/alloc.Allocator] gives each subscription its target.
//  4. The forwarders follow (share.go). Who gets nothing is told so by [StreamPaused]. Keyframes are asked for where a target
//     needs one.
//  5. [Participant.want] tells how much more would be of use, so that probes look for it.
//
// What publishers are asked to send doesn't depend on it: a layer is sent while anybody wishes it, whatever the estimates
// are (follow.go). Otherwise a layer couldn't be had at the moment when there is room for it.
const (
	// shareInterval is how often the shares are looked at when nothing else calls for it.
	shareInterval = 250 * time.Millisecond
	// calmInterval is that while everybody has the best there is, and the path takes a quarter more.
	calmInterval = time.Second
	// maxShares is how often that is done in a shareWindow, whatever changes.
	shareWindow = 20 * time.Millisecond
	maxShares   = 32
	// descentCheck is when it is looked at whether a stream of several layers has gone down as told, or needs a keyframe.
	descentCheck = 50 * time.Millisecond
	// A participant of whose path nothing is known gets each video in the lowest layer, whatever that takes, so that the first
	// pictures come at once. Where the estimate begins says nothing: that ends when it has grown and covers them, when it has
	// fallen by startFall percent, and after startTime. Who hasn't got an estimate by then has no limit.
	startTime = 1500 * time.Millisecond
	startFall = 10
	// startSpare is what must be left of the estimate then, in percent: what a climb leaves, too.
	startSpare = 15
	// eagerTime is how long a subscription climbs as fast as the estimate grows.
	eagerTime = 5 * time.Second
	// A path on which the least of a single video doesn't fit takes it for shortTime all the same: estimates fall for a moment
	// at any change of the path, and a pause is longer than that. Where it takes twice what there is, for badTime.
	shortTime = 4 * time.Second
	badTime   = 2 * time.Second
	// speakerTime is how long a speaker stays who still speaks.
	speakerTime = 2 * time.Second
	// unlimited is more than any path takes, in bits per second.
	unlimited = 1 << 40
	// moreWanted is by how much more than is wanted is asked for, in percent.
	moreWanted = 10
)

// allocation is a participant's bandwidth and who gets how much of it.
type allocation struct {
	p     *Participant
	alarm *alarm

	mu        sync.Mutex
	allocator *alloc.Allocator
	shares    []*share
	videos    int
	now       time.Duration
	window    time.Duration // when runs began to count
	runs      int
	began     time.Duration // the first video came
	started   bool
	short     time.Duration // since when no video fits, 0 = one does
	known     bool          // the estimate counts
	first     int64         // estimate, 0 for none yet
	estimate  int64
	sending   int64 // what the layers that are being forwarded cost
	summary   alloc.Summary
	changed   []*alloc.Subscription // scratch
}

func newAllocation(p *Participant) *allocation {
	a := &allocation{p: p, allocator: alloc.New(alloc.Config{Eager: eagerTime})}
	a.alarm = newAlarm(&p.server.works, p.server.now, a.tick)
	return a
}

// budget sets the estimate of what the path to the participant takes, in bits per second at server time now. The first one
// may be a guess.
func (p *Participant) budget(now time.Duration, target int64) {
	a := p.sharing
	a.mu.Lock()
	urgent := !a.known || target < max(a.summary.Used, a.sending)
	a.estimate = max(target, 0)
	if a.first == 0 {
		a.first = max(target, 1)
	}
	a.known = a.known || a.estimate < a.first-a.first*startFall/100
	a.mu.Unlock()
	if urgent { // a higher one can wait for the next time
		a.share(now)
	}
}

// add takes a subscription that is fed; one that is known already stays.
func (a *allocation) add(s *subscription, now time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.share != nil {
		return
	}
	s.mu.Lock()
	ready := s.fed && !s.ended && s.out != nil
	s.mu.Unlock()
	if !ready {
		return
	}
	sub, err := a.allocator.Add(alloc.Input{Kind: alloc.Kind(s.pub.cfg.Kind)})
	if err != nil { // there can't be as many subscriptions
		a.p.log.Error("sharing bandwidth out", "track", s.pub.id, "error", err)
		return
	}
	s.share = &share{s: s, sub: sub}
	a.shares = append(a.shares, s.share)
	if s.pub.cfg.Kind == Video {
		s.share.offer = &offer{}
		if a.videos++; !a.started {
			a.started, a.began = true, max(now, a.now)
		}
		a.alarm.at(now + shareInterval)
	}
}

// remove forgets a subscription.
func (a *allocation) remove(s *subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, sh := range a.shares {
		if sh.s == s {
			a.allocator.Remove(sh.sub)
			a.shares = slices.Delete(a.shares, i, i+1)
			if s.pub.cfg.Kind == Video {
				a.videos--
				a.alarm.at(a.now + 1) // what it had is for the others
			}
			return
		}
	}
}

// tick is the alarm.
func (a *allocation) tick(now time.Duration) (next time.Duration) {
	a.share(now)
	a.mu.Lock()
	videos, more, calm := a.videos, a.more(now), a.calm(now)
	a.mu.Unlock()
	a.p.want(more)
	switch {
	case videos == 0:
		return 0
	case calm:
		return now + calmInterval
	}
	return now + shareInterval
}

// budgetAt returns what there is to share out. Called with a.mu held.
func (a *allocation) budgetAt(now time.Duration) (bits int64, starting bool) {
	switch late := a.started && now-a.began >= startTime; {
	case a.known || late && a.first > 0:
		return a.estimate, false
	case late:
		return unlimited, false
	}
	return unlimited, a.started
}

// calm reports whether nothing is scarce. Called with a.mu held.
func (a *allocation) calm(now time.Duration) bool {
	budget, starting := a.budgetAt(now)
	return !starting && a.summary.Used >= a.summary.Wanted && budget >= a.summary.Used+a.summary.Used/4
}

// more returns what the allocation would use if it could, 0 if that is no more than it does. Called with a.mu held.
func (a *allocation) more(now time.Duration) (bits int64) {
	if _, starting := a.budgetAt(now); starting {
		for _, sh := range a.shares {
			if r := sh.sub.Result(); sh.offer != nil && r.Wanted != alloc.None {
				cost, _ := sh.offer.best(r.Wanted.Spatial)
				bits += cost
			}
		}
	} else if bits = a.summary.Wanted; bits <= a.summary.Used && (!a.known || bits <= a.estimate) {
		return 0
	}
	return bits + bits*moreWanted/100
}

// share shares out what there is, and has the forwarders follow. It is called without locks.
func (a *allocation) share(now time.Duration) {
	var buffer [8]needed
	keyframes := buffer[:0]
	a.mu.Lock()
	a.now = max(a.now, now)
	now = a.now
	if now-a.window >= shareWindow {
		a.window, a.runs = now, 0
	}
	if a.runs++; a.runs > maxShares {
		next := a.window + shareWindow
		a.mu.Unlock()
		a.alarm.at(next)
		return
	}
	budget, starting := a.budgetAt(now)
	a.look(now, starting)
	if starting && a.covered() {
		a.known, budget = true, a.estimate
		a.look(now, false)
	}
	budget = a.forbear(now, budget)
	a.changed = a.allocator.Update(now, budget, a.changed[:0])
	a.summary = a.allocator.Summary()
	d := descent{congested: a.sending > budget+budget*congestedBy/100, spare: budget - a.summary.Used}
	for _, sh := range a.shares {
		keyframes = sh.apply(now, &d, keyframes)
	}
	a.mu.Unlock()
	if d.pending {
		a.alarm.at(now + descentCheck)
	}
	for _, k := range keyframes {
		k.request(now)
	}
}

// forbear returns the budget, for a while at least what audio and the least of one of the videos being sent takes. Called
// with a.mu held.
func (a *allocation) forbear(now time.Duration, budget int64) int64 {
	var audio, video int64
	for _, sh := range a.shares {
		if sh.offer == nil {
			audio += sh.cost
		} else if sh.cost > 0 {
			if least := sh.offer.least(); video == 0 || least < video {
				video = least
			}
		}
	}
	least := audio + video
	if video == 0 || budget >= least {
		a.short = 0
		return budget
	}
	if a.short == 0 {
		a.short = now
	}
	patience := shortTime
	if least > 2*budget {
		patience = badTime
	}
	if now-a.short < patience {
		return least
	}
	return budget
}

// attend notes the room's active speakers, the loudest first: the video of the loudest is the last to suffer. Who spoke
// last counts as long as nobody else does. While both speak, another takes over after speakerTime at the earliest, so that
// layers don't change with every word.
func (r *room) attend(list []Speaker, now time.Duration) {
	if len(list) == 0 || !list[0].Active {
		return
	}
	r.mu.Lock()
	old, speaker := r.speaker, r.participants[list[0].ID]
	both := old != nil && now-r.spoke < speakerTime && slices.ContainsFunc(list, func(s Speaker) bool { return s.Active && s.ID == old.cfg.ID })
	if speaker == nil || speaker == old || both {
		r.mu.Unlock()
		return
	}
	r.speaker, r.spoke = speaker, now
	speaker.speaking.Store(true)
	if old != nil {
		old.speaking.Store(false)
	}
	r.mu.Unlock()
	speaker.regard(now)
	if old != nil {
		old.regard(now)
	}
}

// regard has the subscribers of the participant's videos share anew soon.
func (p *Participant) regard(now time.Duration) {
	p.mu.Lock()
	pubs := append([]*publication(nil), p.tracks.order...)
	p.mu.Unlock()
	for _, pub := range pubs {
		if pub.cfg.Kind != Video || pub.index > 0 {
			continue
		}
		for _, s := range pub.subscriptions() {
			s.p.sharing.alarm.at(now)
		}
	}
}

// look gathers what the allocator is to know. Called with a.mu held.
func (a *allocation) look(now time.Duration, starting bool) {
	a.sending = 0
	for _, sh := range a.shares {
		sh.sub.Set(sh.look(now, starting))
		a.sending += sh.cost
	}
}

// covered reports whether the estimate has grown and covers the lowest layers of all videos. Called with a.mu held.
func (a *allocation) covered() bool {
	need := int64(0)
	for _, sh := range a.shares {
		if sh.offer == nil {
			need += sh.cost
		} else if !sh.unasked {
			_, lowest := sh.offer.best(0)
			need += sh.offer.cost(int(lowest), alloc.MaxTemporal)
		}
	}
	return a.first > 0 && a.estimate > a.first && a.estimate-a.estimate*startSpare/100 >= need
}

func (a *allocation) snapshot() BandwidthStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return BandwidthStats{Estimate: a.estimate, Used: a.summary.Used, Wanted: a.summary.Wanted, Need: a.summary.Need, Paused: a.summary.Paused}
}

package sfu

import (
	"time"

	"anytime/sfu/alloc"
	"anytime/sfu/forward"
)

const (
	// congestedBy is by how many percent more must be sent than there is for a layer to be stopped at once: in the time that a
	// keyframe takes, less does little.
	congestedBy = 25
	// drainTime is for how long the lowest layer is sent after another was stopped: its keyframe comes through a queue soonest.
	drainTime = time.Second
	// audioOverhead is what an audio packet has on the wire around its payload, in bytes: RTP with its extensions besides.
	audioOverhead = packetOverhead + 24
)

// share is one subscription's part in it. Guarded by the allocation.
type share struct {
	s       *subscription
	sub     *alloc.Subscription
	pub     *publication // whose layers the offer has, nil for none
	offer   *offer       // nil for audio
	unasked bool         // disabled or muted
	cost    int64        // of what is being forwarded
	audio   audioRate
}

// look gathers what the allocator is to know. Of a participant that is starting only the lowest layers count.
func (sh *share) look(now time.Duration, starting bool) (in alloc.Input) {
	s := sh.s
	s.mu.Lock()
	set, st := s.settings, s.out
	sh.pub = nil
	if st != nil && !s.ended {
		if sh.pub = st.source; sh.pub == nil {
			sh.pub = st.next
		}
	}
	sent := uint64(0)
	if st != nil {
		sent = s.stats.Bytes + s.stats.Packets*audioOverhead
	}
	s.mu.Unlock()
	in.Kind, in.Disabled, in.Muted = alloc.Kind(s.pub.cfg.Kind), set.Disabled, s.pub.muted.Load()
	sh.unasked = in.Disabled || in.Muted
	if s.pub.cfg.Kind == Audio {
		sh.cost = sh.audio.observe(now, sent)
		in.Layers[0].Temporal[0] = alloc.Cell{Bitrate: uint32(max(sh.cost, 1)), Live: true}
		return in
	}
	in.Priority, in.Width, in.Height, in.FPS = set.Priority, set.Width, set.Height, set.FPS
	in.Source = alloc.SourceOf(s.pub.cfg.Still, s.pub.owner.speaking.Load(), set.Width, set.Height)
	sh.cost = 0
	if sh.pub == nil {
		in.Quality = min(set.Quality, 2)
		return in
	}
	*sh.offer = sh.pub.offer(now)
	in.Quality = min(set.Quality, 2)
	if n := sh.offer.spatials; n > 0 {
		in.Quality = uint8(max(int(in.Quality)+int(n)-3, 0))
	}
	in.Layers = sh.offer.layers
	if starting {
		if _, lowest := sh.offer.best(0); lowest >= 0 {
			only := *sh.offer
			only.only(lowest)
			in.Layers = only.layers
		}
	}
	s.mu.Lock()
	if st := s.out; st != nil && st.source == sh.pub && st.forwarder != nil {
		sh.cost = sh.offer.cost(sh.offer.forwarded(st.forwarder, st.temporal))
	}
	s.mu.Unlock()
	return in
}

// descent is what the way down needs to know when more is being sent than there is.
type descent struct {
	congested bool
	// spare is what the targets leave of the budget, in bits per second.
	spare int64
	// pending: a stream of several layers goes down, if it can do so without a keyframe.
	pending bool
}

// apply has the subscription follow its target, and appends the keyframes that this takes.
func (sh *share) apply(now time.Duration, d *descent, keyframes []needed) []needed {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	if st == nil || s.ended {
		return keyframes
	}
	defer s.heed()
	r := sh.sub.Result()
	s.allotted = r
	if s.pub.cfg.Kind == Audio {
		return keyframes
	}
	s.starve(r.Paused(), now)
	if sh.pub == nil || st.source != sh.pub && st.next != sh.pub {
		return keyframes // another codec has taken over meanwhile
	}
	if st.source == sh.pub && st.forwarder != nil {
		if n := sh.aim(st.forwarder, r, d, now); n.layer != nil {
			keyframes = append(keyframes, n)
		}
	}
	if st.next != nil {
		if n := st.aimNext(s.settings, r, now); n.layer != nil {
			keyframes = append(keyframes, n)
		}
	}
	return keyframes
}

// starve pauses and resumes the stream for want of bandwidth, and tells the subscriber of a pause. That the stream flows
// again is told by its first packet. Called with s.mu held.
func (s *subscription) starve(paused bool, now time.Duration) {
	if paused == s.starved {
		return
	}
	s.starved = paused
	s.freeze.interrupt()
	s.out.each(func(f *forward.Forwarder) { f.SetPaused(s.settings.Disabled || paused) })
	if !paused {
		s.pause.expect(now)
		return
	}
	s.out.forsaken.all = true
	if !s.pause.told {
		s.tellPaused(true)
	}
}

// aim sets the target of the codec that is being forwarded, and returns the keyframe that this takes. Called with s.mu
// held.
func (sh *share) aim(f *forward.Forwarder, r alloc.Result, d *descent, now time.Duration) needed {
	st, o := sh.s.out, sh.offer
	t := r.Target
	if t == alloc.None {
		if r.Why != alloc.Unsent || f.Current() >= 0 {
			return needed{} // what has fallen silent may go on where it was
		}
		t = r.Wanted // it waits for that
	}
	if now < st.drained {
		if _, lowest := o.best(0); lowest >= 0 && t.Spatial > lowest {
			t = alloc.Target{Spatial: lowest, Temporal: alloc.MaxTemporal - 1}
		}
	}
	was, told := o.forwarded(f, st.temporal)
	st.temporal = o.temporal(t.Spatial, t.Temporal)
	f.SetTarget(o.target(t.Spatial, st.temporal))
	f.SetSpatial(sh.spatial(t.Spatial))
	layer, waits := f.NeedsKeyframe()
	if was >= 0 && was != int(t.Spatial) && r.Target != alloc.None && sh.cost > r.Bitrate {
		if sh.descend(f, r, d, was, told, waits) {
			st.forsaken.all, st.drained = true, now+drainTime
			return sh.aim(f, r, d, now)
		}
	}
	if !waits || !sh.s.mayAsk(now) {
		return needed{}
	}
	n := needed{layer: sh.pub.layers[layer].Load(), newcomer: f.Current() < 0}
	for ; n.layer == nil && layer > 0 && n.newcomer; layer-- {
		n.layer = sh.pub.layers[layer-1].Load() // it begins with any up to its target
	}
	return n
}

// descend decides what is sent of the layer before, which costs more, until the lower one has come. While much more is
// being sent than the path takes its queue grows: then the layer before goes on with as few of its frames as there is room
// for, or stops at once. What is in the queue is still shown meanwhile, and the keyframe that follows, of the lowest layer,
// doesn't wait behind more of the same. Otherwise it goes on. stopped reports that it doesn't.
//
// Measured by TestTheWayDownIsShort, 1.7 Mbit/s over a link that falls to 0.5 with a queue of 300 ms, noticed after 100, 200
// and 400 ms: the picture stands still for 0.3, 0.4 and 0.6 s; 0.8, 0.8 and 1.3 s with the keyframe of the target's layer;
// 0.6, 1.9 and 2.7 s if what was lost before is sent again, too; 1.9, 2.2 and 3.2 s if the layer before goes on.
func (sh *share) descend(f *forward.Forwarder, r alloc.Result, d *descent, was, told int, waits bool) (stopped bool) {
	st, o := sh.s.out, sh.offer
	switch {
	case !waits:
		d.pending = d.pending || o.spatials > 0
		return false
	case d.congested:
		for ; told >= 0; told = min(told, alloc.MaxTemporal) - 1 {
			if more := o.cost(was, told) - r.Bitrate; more <= d.spare {
				d.spare -= max(more, 0)
				break
			}
		}
	}
	if told < 0 {
		f.SetTarget(-1, 0)
		return true
	}
	st.temporal = told
	f.SetTarget(o.target(r.Target.Spatial, st.temporal))
	return false
}

// forsaken are the packets of a stream that aren't sent again: those of a layer that was stopped because the path takes
// less. It would be busy with them for as long as the picture stands still, and the keyframe that follows does without.
type forsaken struct {
	all     bool // all that has been sent
	some    bool // all before next
	next    uint16
	packets uint32 // sent before next
}

// until says that a stream begins anew with a packet of that sequence number, after so many packets.
func (f *forsaken) until(sequence uint16, packets uint32) {
	if f.all {
		*f = forsaken{some: true, next: sequence, packets: packets}
	}
}

// has reports whether a packet is forsaken; packets have been sent in all.
func (f *forsaken) has(sequence uint16, packets uint32) bool {
	return f.all || f.some && packets-f.packets <= sentVideoPackets && int16(sequence-f.next) < 0
}

// target returns what layer i of the offer is to [forward.Forwarder.SetTarget].
func (o *offer) target(i int8, temporal int) (layer, limit int) {
	if o.spatials > 0 {
		return int(o.stream), temporal
	}
	return int(i), temporal
}

// spatial returns what layer i of the offer is to [forward.Forwarder.SetSpatial].
func (sh *share) spatial(i int8) int {
	if sh.offer.spatials > 0 {
		return int(i)
	}
	return sh.pub.spatialWish(int(i), sh.s.settings)
}

// aimNext sets the target of the codec that is to take over: where bandwidth is scarce, what costs no more than the one
// before does. Called with s.mu held.
func (st *stream) aimNext(set SubscriptionSettings, r alloc.Result, now time.Duration) needed {
	pub, f := st.next, st.nextForwarder
	o := pub.offer(now)
	in := alloc.Input{Width: set.Width, Height: set.Height, Quality: min(set.Quality, 2), Layers: o.layers}
	_, to := o.best(0)
	for i := to + 1; i > 0 && i <= in.Wish().Spatial; i++ {
		if c := &o.layers[i].Temporal[0]; c.Live && (r.Why != alloc.Bandwidth || o.cost(int(i), forward.AllTemporal) <= r.Bitrate) {
			to = i
		}
	}
	if to < 0 {
		to = in.Wish().Spatial
	}
	f.SetTarget(o.target(to, forward.AllTemporal))
	f.SetSpatial(forward.AllSpatial)
	if o.spatials > 0 {
		f.SetSpatial(int(to))
	}
	if layer, waits := f.NeedsKeyframe(); waits {
		return needed{layer: pub.layers[layer].Load(), newcomer: f.Current() < 0}
	}
	return needed{}
}

// audioRate measures what an audio subscription is sent: gating, silence and redundancy are in it.
type audioRate struct {
	at   time.Duration
	sent uint64
	bits int64
	any  bool
}

// observe takes how many bytes have been sent in all, and returns the bits per second of the last second or so.
func (r *audioRate) observe(now time.Duration, sent uint64) int64 {
	switch elapsed := now - r.at; {
	case !r.any || sent < r.sent:
		*r = audioRate{at: now, sent: sent, any: true}
	case elapsed >= shareInterval/2:
		bits := int64(sent-r.sent) * 8 * int64(time.Second/time.Millisecond) / int64(elapsed/time.Millisecond)
		r.bits += (bits - r.bits) * int64(elapsed/time.Millisecond) / int64((elapsed+time.Second)/time.Millisecond)
		r.at, r.sent = now, sent
	}
	return r.bits
}

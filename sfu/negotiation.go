package sfu

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/webrtc/v4"
)

// coalesce is how long the offer for a change waits for further changes. Changes while an offer is outstanding wait for
// its answer anyway.
const coalesce = 3 * time.Millisecond

// negotiation serialises the session descriptions of one participant. Offers of ours are made by a goroutine that lives
// only while there is something to offer: subscriptions change from the goroutines of other participants, which must
// not wait for ours.
type negotiation struct {
	p *Participant

	// mu is held while a description is made or applied; the fields below it belong to it.
	mu          sync.Mutex
	lines       []*line
	mlines      []*mline          // the m-lines of our offers, in their order; none on a single peer connection
	offered     []section         // in the offer that is outstanding
	text        string            // of it
	tracks      map[string]string // what it offers, by mid
	offerID     uint32
	publishable bool // an offer of the client's has been answered
	single      singleState

	wish        sync.Mutex
	dirty       bool
	restarting  bool
	resend      bool // the outstanding offer may have been lost
	outstanding bool
	running     bool
	first       bool // the first offer has been made
}

// line is an m-line in use by a subscription. On a single peer connection it is the client's, else one of ours.
type line struct {
	sub         *subscription
	mid         string
	track       outTrack
	established bool
}

// kick has the subscriptions' state offered.
func (n *negotiation) kick() { n.ask(false) }

// restart asks for an offer with new ICE credentials. An outstanding offer, which may have been lost with the
// connection, is told again first: RFC 8829 section 5.2.1 knows no new offer before its answer.
func (n *negotiation) restart() { n.ask(true) }

func (n *negotiation) ask(restart bool) {
	p := n.p
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.work.Add(1)
	}
	p.mu.Unlock()
	if closed {
		return
	}
	n.wish.Lock()
	defer n.wish.Unlock()
	n.dirty = true
	n.restarting = n.restarting || restart
	n.resend = n.resend || restart && n.outstanding
	if n.running || n.outstanding && !n.resend {
		p.work.Done()
		return
	}
	n.running = true
	go n.run()
}

// run makes offers until there is nothing to offer or one is outstanding.
func (n *negotiation) run() {
	p := n.p
	defer p.work.Done()
	for {
		n.wish.Lock()
		// The first offer of ours brings the connection up; a client's own has done that before it is asked for more.
		wait := (n.first || p.cfg.Single) && !n.restarting
		n.wish.Unlock()
		if wait {
			t := time.NewTimer(coalesce)
			select {
			case <-t.C:
			case <-p.done:
				t.Stop()
			}
		}
		n.wish.Lock()
		select {
		case <-p.done:
			n.running = false
			n.wish.Unlock()
			return
		default:
		}
		if n.outstanding && n.resend {
			n.resend = false
			if t := p.downlink(); t == nil || !t.up.Load() {
				n.restarting = false // there is nothing to restart: the answer to come is the beginning
			}
			n.wish.Unlock()
			n.again()
			continue
		}
		if !n.dirty || n.outstanding {
			n.running = false
			n.wish.Unlock()
			return
		}
		restart := n.restarting
		n.dirty, n.restarting, n.resend = false, false, false
		n.wish.Unlock()
		if p.cfg.Single {
			n.require(restart)
		} else if err := n.offer(restart); err != nil {
			p.log.Warn("the server's offer failed", "err", err)
			p.notify(TransportState{Target: Subscriber, State: Failed})
		}
	}
}

// again tells the outstanding offer, or what is asked of the client, once more.
func (n *negotiation) again() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wish.Lock()
	outstanding := n.outstanding
	n.wish.Unlock()
	switch {
	case !outstanding:
	case n.p.cfg.Single:
		n.single.asks = 0
		n.question()
	default:
		n.p.notify(OfferReady{ID: n.offerID, SDP: n.text, Tracks: n.tracks})
	}
}

// offer brings the m-lines in line with the subscriptions and offers the change.
func (n *negotiation) offer(restart bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.p
	t := p.downlink()
	changed, failed := n.reconcile()
	for s, err := range failed {
		p.drop(s)
		p.notify(SubscriptionFailed{TrackID: s.pub.id, Err: err})
	}
	if !changed && !restart && n.offerID > 0 {
		return nil
	}
	if restart && n.offerID == 0 {
		restart = false
	}
	if restart {
		t.forgetCandidates()
	}
	text, err := t.offer(restart, n.mlines)
	if err != nil {
		return err
	}
	if n.offered, err = parseDescription(text); err != nil {
		return fmt.Errorf("reading our own offer: %w", err)
	}
	if len(n.offered) != len(n.mlines)+1 { // besides that of the data channels
		return fmt.Errorf("our own offer has %d m-lines, not %d", len(n.offered), len(n.mlines)+1)
	}
	n.offerID++
	n.text = text
	n.tracks = make(map[string]string, len(n.lines))
	for _, l := range n.lines {
		n.tracks[l.mid] = l.sub.pub.id
	}
	n.wish.Lock()
	n.outstanding, n.first = true, true
	n.wish.Unlock()
	p.notify(OfferReady{ID: n.offerID, SDP: text, Tracks: n.tracks})
	return nil
}

// reconcile takes the m-lines of ended subscriptions back and gives new ones their own. m-lines never go away
// (RFC 3264 section 8), so one that was taken back is used again.
func (n *negotiation) reconcile() (changed bool, failed map[*subscription]error) {
	failed = map[*subscription]error{}
	keep := n.lines[:0]
	for _, l := range n.lines {
		if !l.sub.isEnded() {
			keep = append(keep, l)
			continue
		}
		changed = true
		n.vacate(l)
	}
	clear(n.lines[len(keep):])
	n.lines = keep

	for _, s := range n.waiting() {
		l := &line{sub: s, track: outTrack{id: s.pub.id, stream: s.pub.streamID(), ssrc: n.p.freshSSRC()}}
		if s.pub.cfg.Kind == Video {
			l.track.repair = n.p.freshSSRC()
		}
		if err := n.assign(l); err != nil {
			failed[s] = err
			continue
		}
		s.line = l
		n.lines = append(n.lines, l)
		changed = true
	}
	return changed, failed
}

// waiting are the subscriptions that need an m-line and whose publication can be offered, the oldest first. Called with
// n.mu held.
func (n *negotiation) waiting() (list []*subscription) {
	n.p.mu.Lock()
	for _, s := range n.p.subs {
		if s.line == nil {
			list = append(list, s)
		}
	}
	n.p.mu.Unlock()
	slices.SortFunc(list, func(a, b *subscription) int { return a.order - b.order })
	return slices.DeleteFunc(list, func(s *subscription) bool { return !s.pub.isReady() })
}

func (pub *publication) isStereo() bool {
	return pub.cfg.Stereo || slices.ContainsFunc(pub.known(), func(f payload) bool {
		return f.kind == codec.Opus && strings.Contains(f.fmtp, "stereo=1")
	})
}

// known are the formats that the publisher may send, as far as they are negotiated.
func (pub *publication) known() []payload {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.formats
}

// Answer takes the client's answer to the offer of that id; 0 stands for the outstanding one. An answer to another offer
// is [ErrStaleAnswer]; any other error leaves the subscriber's peer connection unusable.
func (p *Participant) Answer(id uint32, sdp string) error {
	n := &p.nego
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wish.Lock()
	outstanding := n.outstanding
	n.wish.Unlock()
	t := p.transports[Subscriber].Load()
	if t == nil || t.closed.Load() {
		return ErrClosed
	}
	if !outstanding || id != 0 && id != n.offerID {
		return ErrStaleAnswer
	}
	sections, err := parseDescription(sdp)
	if err != nil {
		return err
	}
	if err := guard(p.log, func() error { return t.answered(sdp, sections) }); err != nil {
		return err
	}
	n.settle(t, sections)
	n.offered, n.text, n.tracks = nil, "", nil // of many m-lines it is long
	n.wish.Lock()
	n.outstanding = false
	again := n.dirty
	n.wish.Unlock()
	if again {
		n.kick()
	}
	return nil
}

// settle brings the answered m-lines into use.
func (n *negotiation) settle(t *transport, answer []section) {
	p := n.p
	offered := make(map[string]*section, len(n.offered))
	for i := range n.offered {
		offered[n.offered[i].mid] = &n.offered[i]
	}
	answered := make(map[string]*section, len(answer))
	for i := range answer {
		answered[answer[i].mid] = &answer[i]
	}
	for _, pl := range n.mlines {
		a := answered[pl.mid]
		pl.free = pl.line == nil && a != nil && !a.rejected
	}
	for _, l := range n.lines {
		o, a := offered[l.mid], answered[l.mid]
		if l.established || o == nil {
			continue // not part of this offer
		}
		var err error
		if a == nil {
			err = ErrCodec
		} else if agreed := negotiated(o, a); !agreed.sending {
			err = ErrCodec
		} else {
			err = l.sub.establish(t.out, &agreed, l.track.ssrc, l.track.repair)
		}
		if err != nil {
			p.drop(l.sub)
			if !errors.Is(err, ErrClosed) {
				p.notify(SubscriptionFailed{TrackID: l.sub.pub.id, Err: err})
			}
			continue
		}
		l.established = true
		p.enlist(l.track.ssrc, l.sub)
		if t.up.Load() {
			p.feed(l.sub)
		}
	}
}

// Offer takes the client's offer for the publisher's peer connection, an ICE restart included, and returns the answer and,
// on a single peer connection, the ids of the tracks in it by the mids of their m-lines.
// Errors that match [ErrDescription] are the client's fault. What was negotiated before keeps working.
func (p *Participant) Offer(sdp string) (answer string, tracks map[string]string, err error) {
	sections, err := parseDescription(sdp)
	if err != nil {
		return "", nil, err
	}
	n := &p.nego
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := p.publisher()
	if err != nil {
		return "", nil, err
	}
	t.forgetCandidates()
	err = guard(p.log, func() error {
		answer, err = t.answer(sdp, sections)
		return err
	})
	if err != nil {
		n.recoverFrom(t)
		return "", nil, err
	}
	ours, err := parseDescription(answer)
	if err != nil {
		return "", nil, fmt.Errorf("reading our own answer: %w", err)
	}
	n.publishable = true
	if p.cfg.Single {
		if answer, tracks, err = n.lend(t, sections, ours, answer); err != nil {
			return "", nil, err
		}
		if ours, err = parseDescription(answer); err != nil {
			return "", nil, fmt.Errorf("reading our own answer: %w", err)
		}
	}
	byMid := make(map[string]*section, len(ours))
	for i := range ours {
		byMid[ours[i].mid] = &ours[i]
	}
	// With a single peer connection most m-lines are for what we send: those on which the client has never sent don't matter.
	sent := p.sentOn()
	var agreed []section
	for i := range sections {
		if a := byMid[sections[i].mid]; a != nil && (sections[i].sending || sent[sections[i].mid]) {
			s := negotiated(&sections[i], a)
			// See tune: the answer that the client gets follows its own order.
			slices.SortStableFunc(s.payloads, func(a, b payload) int { return sections[i].rank(a.pt) - sections[i].rank(b.pt) })
			agreed = append(agreed, s)
		}
	}
	t.in.describe(agreed)
	p.mu.Lock()
	p.tracks.sections = agreed
	b := p.bind()
	configs := make(map[string]PublicationConfig, len(p.tracks.bound))
	for mid, pub := range p.tracks.bound {
		configs[mid] = pub.cfg
	}
	p.mu.Unlock()
	p.follow(b)
	if answer, err = tune(answer, sections, configs); err != nil {
		return "", nil, err
	}
	return answer, tracks, nil
}

// recoverFrom makes the publisher's peer connection take offers again after one that it choked on halfway.
func (n *negotiation) recoverFrom(t *transport) {
	if t.pc.SignalingState() == webrtc.SignalingStateStable {
		return
	}
	if !n.publishable {
		// Nothing was connected: begin anew.
		n.p.transports[Publisher].CompareAndSwap(t, nil)
		t.close()
		return
	}
	// Finish the exchange, whatever it was: only a stable connection takes the next offer.
	_ = guard(n.p.log, func() error {
		d, err := t.pc.CreateAnswer(nil)
		if err != nil {
			return err
		}
		return t.pc.SetLocalDescription(d)
	})
}

package sfu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
)

// A client with a single peer connection makes every offer. Our half of one, the m-lines of its subscriptions, is then:
//
//  1. A change of subscriptions kicks the negotiation, as it does with two peer connections. Instead of an offer, require
//     tells [SectionsNeeded].
//  2. The client's next offer, made for whatever reason, comes to lend: subscriptions that wait take the m-lines on which
//     the client receives and nobody sends; those that ended give theirs back.
//  3. The offer is answered as a publisher's is (answer.go), with nothing in it of what we send. lend writes into the answer
//     what we do.

// singleState is the negotiation's state for a single peer connection. Guarded by the negotiation's mu.
type singleState struct {
	sections []section      // of the client's latest offer
	needed   SectionsNeeded // what was asked last
	crossed  bool           // an offer came that may have crossed with what was asked
	asks     int            // how often it was asked without an offer since
	due      time.Duration  // when to ask again
}

// answerDelay is what a client is given to apply an answer before the media that it tells of is sent: unlike an answer of
// its own, it isn't acknowledged. Packets that come earlier are lost, and Firefox may count their stream to another m-line
// from then on; a busy one takes 50 ms and more.
const answerDelay = 120 * time.Millisecond

// require asks the client for an offer if there is something to change. Before its first offer there is nothing to ask:
// it comes by itself. resumed: the client may have missed what it was told before.
func (n *negotiation) require(resumed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.publishable {
		return
	}
	waiting := n.waiting()
	for _, s := range waiting {
		s.stalled = s.stalled && !resumed
	}
	needed, changed := n.shortage(waiting)
	if !changed && needed == (SectionsNeeded{}) {
		n.stall(waiting)
		return
	}
	n.wish.Lock()
	n.outstanding = true
	n.wish.Unlock()
	n.single.needed, n.single.crossed, n.single.asks = needed, false, 0
	n.question()
}

// shortage returns how many m-lines there are too few for the subscriptions that wait, but no more than a description may
// have, and whether those that exist change hands.
func (n *negotiation) shortage(waiting []*subscription) (needed SectionsNeeded, changed bool) {
	taken := map[string]bool{}
	for _, l := range n.lines {
		if l.sub.isEnded() {
			changed = true
		} else {
			taken[l.mid] = true
		}
	}
	free := map[string]int{}
	for i := range n.single.sections {
		if s := &n.single.sections[i]; s.lendable() && !taken[s.mid] {
			free[s.kind]++
		}
	}
	// The client's own tracks need m-lines too.
	room := maxSections - n.p.server.cfg.Limits.Publications - len(n.single.sections)
	for _, s := range waiting {
		kind := s.pub.cfg.Kind
		if free[kind.String()] > 0 {
			free[kind.String()]--
			changed = true
		} else if room--; room < 0 {
			continue
		} else if kind == Video {
			needed.Video++
		} else {
			needed.Audio++
		}
	}
	return needed, changed
}

// lendable reports whether the author of an offer receives on the m-line.
func (s *section) lendable() bool {
	return s.receiving && !s.rejected && (s.kind == "audio" || s.kind == "video")
}

// lend distributes the m-lines of the client's offer among the subscriptions and writes what we send on them into the
// answer, of which ours are the m-lines. Called with n.mu held.
func (n *negotiation) lend(t *transport, offered, ours []section, answer string) (string, map[string]string, error) {
	p := n.p
	grown := len(offered) > len(n.single.sections)
	n.single.sections = offered
	byMid := make(map[string]*section, len(offered))
	for i := range offered {
		if offered[i].lendable() {
			byMid[offered[i].mid] = &offered[i]
		}
	}
	used, vacated := map[string]*line{}, map[string]string{} // vacated: the stream that goes
	n.lines = slices.DeleteFunc(n.lines, func(l *line) bool {
		if l.sub.isEnded() {
			vacated[l.mid] = l.track.stream
			return true
		}
		if s := byMid[l.mid]; s == nil || s.kind != l.sub.pub.cfg.Kind.String() {
			l.sub.line = nil // the client has withdrawn the m-line: it waits for another
			return true
		}
		used[l.mid] = l
		return false
	})
	var begun []*subscription
	for _, s := range n.waiting() {
		l, err := n.borrow(t, s, offered, ours, used, vacated)
		switch {
		case errors.Is(err, ErrClosed):
		case err != nil:
			p.drop(s)
			p.notify(SubscriptionFailed{TrackID: s.pub.id, Err: err})
		case l != nil:
			used[l.mid], s.line, s.stalled = l, l, false
			n.lines = append(n.lines, l)
			begun = append(begun, s)
		}
	}
	n.asked(grown)
	text, err := n.write(answer, byMid, used)
	if err != nil {
		return "", nil, err
	}
	if t.up.Load() && len(begun) > 0 {
		p.feedSoon(begun)
	}
	tracks := make(map[string]string, len(used))
	for mid, l := range used {
		tracks[mid] = l.sub.pub.id
	}
	return text, tracks, nil
}

// borrow gives s a free m-line, nil if there is none: rather one on which the client only receives, and rather not one
// that another subscription leaves in this very answer.
func (n *negotiation) borrow(t *transport, s *subscription, offered, ours []section, used map[string]*line, vacated map[string]string) (*line, error) {
	kind := s.pub.cfg.Kind.String()
	var free *section
	better := func(o *section) bool {
		return free == nil || free.sending && !o.sending || free.sending == o.sending && vacated[free.mid] != "" && vacated[o.mid] == ""
	}
	for i := range offered {
		if o := &offered[i]; o.lendable() && o.kind == kind && used[o.mid] == nil && better(o) {
			free = o
		}
	}
	if free == nil {
		return nil, nil
	}
	i := slices.IndexFunc(ours, func(a section) bool { return a.mid == free.mid })
	if i < 0 || ours[i].rejected {
		return nil, ErrCodec
	}
	own := ours[i]
	own.sending = true
	agreed := negotiated(&own, free)
	l := &line{sub: s, mid: free.mid, track: outTrack{id: s.pub.id, stream: s.pub.streamID(), ssrc: n.p.freshSSRC()}, established: true}
	// A client whose m-line goes on receiving fires a track event only for a stream that the m-line hadn't before (W3C
	// WebRTC, section 4.4.1.5), and the tracks of one publisher often share theirs.
	for _, other := range []string{s.pub.id, "again-" + s.pub.id} {
		if l.track.stream == vacated[free.mid] {
			l.track.stream = s.pub.owner.cfg.ID + "|" + other
		}
	}
	if s.pub.cfg.Kind == Video {
		l.track.repair = n.p.freshSSRC()
	}
	if err := s.establish(t.out, &agreed, l.track.ssrc, l.track.repair); err != nil {
		return nil, err
	}
	n.p.enlist(l.track.ssrc, s)
	return l, nil
}

// freshSSRC returns an SSRC that no subscription of the participant has.
func (p *Participant) freshSSRC() uint32 {
	for {
		if v := rand.Uint32(); v != 0 && p.subscriptionOf(v) == nil {
			return v
		}
	}
}

// asked follows the exchange that was asked for. An offer that brings nothing of what was asked may have crossed with the
// question, so the next one counts; a client that still brings nothing isn't asked again before something changes.
func (n *negotiation) asked(grown bool) {
	waiting := n.waiting()
	needed, _ := n.shortage(waiting)
	n.wish.Lock()
	was := n.outstanding
	if was && needed != (SectionsNeeded{}) && !grown && !n.single.crossed {
		n.single.crossed = true
		n.wish.Unlock()
		return
	}
	n.outstanding = false
	again := n.dirty || needed != (SectionsNeeded{}) && (grown || !was)
	n.wish.Unlock()
	if again {
		n.kick()
	} else {
		n.stall(waiting)
	}
}

// feedSoon begins to forward to the subscriptions once the client has had time to apply the answer.
func (p *Participant) feedSoon(subs []*subscription) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.work.Add(1)
	}
	p.mu.Unlock()
	if closed {
		return
	}
	go func() {
		defer p.work.Done()
		wait := time.NewTimer(answerDelay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-p.done:
			return
		}
		for _, s := range subs {
			p.feed(s)
			if s.isEnded() {
				s.pub.forget(s) // it ended meanwhile
			}
		}
	}()
}

// write brings what we send into an answer that is a publisher's so far.
func (n *negotiation) write(answer string, lendable map[string]*section, used map[string]*line) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return "", fmt.Errorf("reading our own answer: %w", err)
	}
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		if m.MediaName.Port.Value == 0 || m.MediaName.Media != "audio" && m.MediaName.Media != "video" {
			continue
		}
		l := used[mid]
		// RFC 3264 section 6.1: an answer to recvonly is sendonly or inactive.
		receiving := direction(m.Attributes)
		takes := receiving == "recvonly" || receiving == "sendrecv"
		if s := lendable[mid]; s != nil && !s.sending {
			takes = false
		}
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
			switch a.Key {
			case "sendrecv", "sendonly", "recvonly", "inactive", "msid", "ssrc", "ssrc-group":
				return true
			}
			return false
		})
		m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute(map[[2]bool]string{
			{true, true}: "sendrecv", {true, false}: "sendonly", {false, true}: "recvonly", {false, false}: "inactive",
		}[[2]bool{l != nil, takes}]))
		if l != nil {
			l.describe(m)
		}
	}
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("writing an answer: %w", err)
	}
	return string(b), nil
}

// describe writes what is sent on the m-line: its msid (RFC 8830) and its sources (RFC 5576).
func (l *line) describe(m *sdp.MediaDescription) {
	msid := l.track.stream + " " + l.track.id
	m.Attributes = append(m.Attributes, sdp.NewAttribute("msid", msid))
	sources := []uint32{l.track.ssrc}
	if l.track.repair != 0 {
		sources = append(sources, l.track.repair)
		m.Attributes = append(m.Attributes, sdp.NewAttribute("ssrc-group", fmt.Sprintf("FID %d %d", l.track.ssrc, l.track.repair)))
	}
	for _, ssrc := range sources {
		id := strconv.FormatUint(uint64(ssrc), 10)
		m.Attributes = append(m.Attributes, sdp.NewAttribute("ssrc", id+" cname:"+l.track.stream), sdp.NewAttribute("ssrc", id+" msid:"+msid))
	}
	if l.sub.pub.isStereo() {
		announceStereo(m)
	}
}

// announceStereo tells that what is sent is stereo: RFC 7587 section 6.1, sprop-stereo.
func announceStereo(m *sdp.MediaDescription) {
	opus := map[string]bool{}
	for _, a := range m.Attributes {
		if pt, name, _ := strings.Cut(a.Value, " "); a.Key == "rtpmap" && codec.KindOf("audio/"+strings.Split(name, "/")[0]) == codec.Opus {
			opus[pt] = true
		}
	}
	for i, a := range m.Attributes {
		if pt, _, _ := strings.Cut(a.Value, " "); a.Key == "fmtp" && opus[pt] && !strings.Contains(a.Value, "sprop-stereo") {
			if !strings.Contains(a.Value, "stereo=1") {
				m.Attributes[i].Value += ";stereo=1"
			}
			m.Attributes[i].Value += ";sprop-stereo=1"
		}
	}
}

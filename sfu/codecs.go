package sfu

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anytime/sfu/codec"
)

// A video track may come in several codecs, so that a receiver that lacks the first gets another:
//
//  1. Publish names them all in the publisher's order. The first has a track id of the session description (CID); the
//     others often get theirs later, by AddCodec, since publishers encode another codec only once somebody wants it.
//  2. Each codec is a [publication] with its own m-line (publish.go), its own layers and its own fan-out.
//  3. A subscription has one m-line, on which it takes some of the codecs. settle gives each the best one that is there,
//     and tells the publisher, by [LayersWanted], what is wanted of each.
//  4. A subscription that moves stays with its codec until a keyframe of the other has come (subscription.go). Its
//     stream's numbers go on; the payload type tells the receiver. One that can't follow that ([ParticipantConfig.FixedCodec])
//     gets a new m-line instead.

// maxCodecs bounds the codecs of one track.
const maxCodecs = 8

// CodecConfig announces a further codec of a track.
type CodecConfig struct {
	// MimeType is the codec, such as "video/VP8".
	MimeType string
	// CID is the track id of its m-line's msid; empty while the publisher doesn't send it.
	CID string
	// Layers, if known; sizes that are zero are those of the first codec.
	Layers []Layer
}

// BackupPolicy says how several codecs of a track are shared out. The values are those of the room contract.
type BackupPolicy uint8

const (
	// PreferOneCodec gives all subscribers the first codec that all of them take, if there is one; otherwise each its own.
	PreferOneCodec BackupPolicy = iota
	// EveryCodec gives each subscriber the first codec that it takes.
	EveryCodec
	// OneCodec gives all subscribers the codec that most of them take: the publisher sends no second one.
	OneCodec
)

// codecBits is a set of codecs of a track, by their place in the publisher's order.
type codecBits uint16

func (b codecBits) has(i int) bool { return b>>i&1 != 0 }

// first returns the lowest place in the set, -1 if it is empty.
func (b codecBits) first() int {
	if b == 0 {
		return -1
	}
	return bits.TrailingZeros16(uint16(b))
}

// common returns the one codec that all subscriptions are to have, -1 if each is to have its own. takes are the codecs that
// each can have.
func (p BackupPolicy) common(takes []codecBits) int {
	if len(takes) == 0 || p == EveryCodec {
		return -1
	}
	all := ^codecBits(0)
	var count [16]int
	for _, t := range takes {
		all &= t
		for ; t != 0; t &= t - 1 {
			count[t.first()]++
		}
	}
	if all != 0 {
		return all.first()
	}
	if p == PreferOneCodec {
		return -1
	}
	most := 0
	for i, n := range count {
		if n > count[most] {
			most = i
		}
	}
	if count[most] == 0 {
		return -1
	}
	return most
}

// choose returns the codec that a subscription should have, and the one to forward until that is there; -1 is none. takes
// are those that it can have, bound those that are being published, common as [BackupPolicy.common] has it.
func choose(policy BackupPolicy, takes, bound codecBits, common int) (want, have int) {
	want = takes.first()
	if common >= 0 {
		want = common
		if !takes.has(common) {
			if policy == OneCodec {
				return -1, -1
			}
			want = takes.first()
		}
	}
	if want >= 0 && bound.has(want) {
		return want, want
	}
	return want, (takes & bound).first()
}

// codecSet is what the codecs of one track share.
type codecSet struct {
	policy BackupPolicy
	list   atomic.Pointer[[]*publication] // copied on write; it never shrinks

	mu     sync.Mutex // serialises settle
	common int
	told   []int8 // what the publisher was told is wanted, by codec
}

func newCodecSet(first *publication, policy BackupPolicy) *codecSet {
	c := &codecSet{policy: policy, common: -1}
	c.list.Store(&[]*publication{first})
	return c
}

func (c *codecSet) all() []*publication { return *c.list.Load() }

func (c *codecSet) first() *publication { return c.all()[0] }

// add appends a codec. Called with the owner's lock held.
func (c *codecSet) add(p *Participant, cfg CodecConfig) *publication {
	first := c.first()
	pub := newCodec(p, PublicationConfig{ID: first.id, CID: cfg.CID, Kind: first.cfg.Kind, Stream: first.cfg.Stream,
		Muted: first.muted.Load(), Layers: cfg.Layers, MimeType: cfg.MimeType, Encrypted: first.cfg.Encrypted, Still: first.cfg.Still})
	list := slices.Clone(c.all())
	pub.codecs, pub.index = c, len(list)
	list = append(list, pub)
	c.list.Store(&list)
	return pub
}

// bound are the codecs that have an m-line now.
func (c *codecSet) bound() (b codecBits) {
	for i, pub := range c.all() {
		if pub.isBound() {
			b |= 1 << i
		}
	}
	return b
}

// settle gives every subscription its codec and tells the publisher what is wanted. It is called after every change of the
// codecs or the subscriptions, without any lock.
func (c *codecSet) settle(now time.Duration) {
	for _, s := range c.distribute(now) {
		s.renew()
	}
}

// settleFor is settle after a change of one subscription, or of its settings. Where there is one codec, it concerns no other.
func (c *codecSet) settleFor(s *subscription, now time.Duration) {
	if len(c.all()) > 1 {
		c.settle(now)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.first()
	if first.isEnded() {
		return
	}
	bound := c.bound()
	if _, ok := s.codecs(bound); ok {
		s.follow(bound, -1, now)
	}
	if first.cfg.Kind == Video && bound != 0 {
		c.tell(first.subscriptions(), bound)
	}
}

// distribute returns the subscriptions that need a new m-line for their codec.
func (c *codecSet) distribute(now time.Duration) (renew []*subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.first()
	if first.isEnded() {
		return nil
	}
	subs, bound := first.subscriptions(), c.bound()
	var takes []codecBits
	for _, s := range subs {
		if b, ok := s.codecs(bound); ok {
			takes = append(takes, b)
		}
	}
	c.common = c.policy.common(takes)
	for _, s := range subs {
		if s.follow(bound, c.common, now) {
			renew = append(renew, s)
		}
	}
	if first.cfg.Kind == Video && bound != 0 {
		c.tell(subs, bound)
	}
	return renew
}

// tell has the publisher know what is wanted, if that has changed. Called with c.mu held.
func (c *codecSet) tell(subs []*subscription, bound codecBits) {
	list := c.all()
	wanted := make([]int8, len(list))
	for i := range wanted {
		wanted[i] = -1
	}
	for _, s := range subs {
		s.demand(bound, c.common, wanted)
	}
	if slices.Equal(wanted, c.told) {
		return
	}
	c.told = wanted
	first := list[0]
	first.owner.notify(LayersWanted{TrackID: first.id, Layers: slices.Clone(wanted)})
}

// AddCodec announces a further codec of a track of the participant's, or that one which was announced before is now going
// to be sent.
func (p *Participant) AddCodec(trackID string, cfg CodecConfig) error {
	p.mu.Lock()
	first := p.tracks.byID[trackID]
	if first == nil {
		p.mu.Unlock()
		return fmt.Errorf("track %s: %w", trackID, ErrUnknownTrack)
	}
	b, err := p.addCodec(first, cfg)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("track %s: %w", trackID, err)
	}
	p.follow(b)
	first.codecs.settle(p.server.now())
	return nil
}

// addCodec does it. Called with p.mu held.
func (p *Participant) addCodec(first *publication, cfg CodecConfig) (b bindings, err error) {
	kind := codec.KindOf(cfg.MimeType)
	if first.cfg.Kind != Video || kind == codec.Unknown || kind.IsAudio() {
		return b, errors.New("sfu: a further codec must be a video codec of a video track")
	}
	list := first.codecs.all()
	i := slices.IndexFunc(list, func(pub *publication) bool { return pub.announcedKind() == kind })
	switch {
	case i >= 0 && list[i].isBound():
		return b, fmt.Errorf("codec %v: %w", kind, ErrExists)
	case i >= 0:
		pub := list[i]
		pub.mu.Lock()
		pub.cfg.CID, pub.cfg.Layers = cfg.CID, sortedLayers(cfg.Layers)
		pub.mu.Unlock()
	case len(list) >= maxCodecs:
		return b, fmt.Errorf("%w: %d codecs", ErrLimit, len(list))
	default:
		p.enrol(first.codecs.add(p, cfg))
	}
	return p.bind(), nil
}

// enrol puts a codec where m-lines look for it. Called with p.mu held.
func (p *Participant) enrol(pub *publication) { p.tracks.order = append(p.tracks.order, pub) }

// codecEnded takes the m-line from a codec. It reports false when the track has none left.
func (p *Participant) codecEnded(pub *publication) bool {
	p.mu.Lock()
	left := false
	for _, o := range p.tracks.bound {
		left = left || o.codecs == pub.codecs
	}
	if left {
		pub.cfg.CID = "" // the publisher announces it anew before it sends it again
	}
	p.mu.Unlock()
	if left {
		pub.unbind()
		pub.codecs.settle(p.server.now())
	}
	return left
}

package alloc

import (
	"errors"
	"slices"
	"time"
)

// Limits.
const (
	// MaxSpatial and MaxTemporal bound the layers of a publication.
	MaxSpatial  = 4
	MaxTemporal = 4
	// MaxSubscriptions bounds the subscriptions of one subscriber.
	MaxSubscriptions = 500
	// maxEstimate is in bits per second: more than any link has.
	maxEstimate = 1 << 45
)

// ErrFull is returned by [Allocator.Add] beyond [MaxSubscriptions].
var ErrFull = errors.New("alloc: a subscriber has at most 500 subscriptions")

// Kind is the kind of a track.
type Kind uint8

// The kinds.
const (
	Audio Kind = iota
	Video
)

// Source is what a video shows. Without a priority it gives the class.
type Source uint8

// The sources. Under pressure thumbnails are the first to suffer, then cameras, then the speaker, then the screen share.
const (
	Camera Source = iota
	Thumbnail
	Speaker
	ScreenShare
)

// thumbnail is the longer side of a thumbnail in pixels, at most.
const thumbnail = 320

// steady is the time over which an estimate must cover a climb: the present span of that length and the one before.
const steady = time.Second

// SourceOf returns the source of a video from what is known of it: whether it shares a screen, whether its publisher is
// the active speaker (or pinned), and the size in pixels at which it is displayed (0 = unknown).
func SourceOf(screenShare, speaking bool, width, height uint32) Source {
	switch {
	case screenShare:
		return ScreenShare
	case speaking:
		return Speaker
	case width > 0 && height > 0 && max(width, height) <= thumbnail:
		return Thumbnail
	}
	return Camera
}

// Target is what is to be forwarded: the spatial (or simulcast) layer and the highest temporal layer, both from 0.
type Target struct {
	Spatial, Temporal int8
}

// None is the target of what isn't to be forwarded.
var None = Target{Spatial: -1, Temporal: -1}

// above reports whether t is better than u: the picture before the frame rate.
func (t Target) above(u Target) bool {
	return t.Spatial > u.Spatial || t.Spatial == u.Spatial && t.Temporal > u.Temporal
}

// Cell is one temporal layer of one spatial layer, with all that it depends on.
type Cell struct {
	// Bitrate in bits per second is what forwarding costs when this cell is the target. So it is cumulative: the lower
	// temporal layers and, for SVC, the lower spatial layers are in it. It should be measured over a second or more, or be
	// what the publisher announced as long as there is no measurement. 0 means that the cell doesn't exist.
	Bitrate uint32
	// FPS is frames per second with this temporal layer; 0 means unknown.
	FPS uint32
	// Live: packets of it are being received.
	Live bool
}

// Layer is one spatial layer of SVC, or one simulcast layer.
type Layer struct {
	// Width and Height are in pixels; 0 means unknown.
	Width, Height uint32
	// Temporal layers from the lowest. A stream without temporal layers, or whose aren't measured apart, has the first only.
	Temporal [MaxTemporal]Cell
}

// Layers are the layers of a publication from the lowest. Of audio only the first cell counts.
type Layers [MaxSpatial]Layer

// Input is what is known of one subscription.
type Input struct {
	Kind   Kind
	Source Source
	// Priority is the subscriber's: 1 is the highest, 0 unset. Unset it is 2 for a screen share, 3 for the speaker, 4 for a
	// camera, 5 for a thumbnail; above 255 counts as 255.
	Priority uint32
	// Width and Height are the size in pixels at which the video is displayed. While either is 0, or no layer's size is
	// known, Quality counts.
	Width, Height uint32
	// Quality is the highest spatial layer wanted.
	Quality uint8
	// FPS is the frame rate wanted; 0 means all there is.
	FPS uint32
	// Disabled by the subscriber, or Muted by the publisher: nothing is forwarded.
	Disabled, Muted bool
	Layers          Layers
}

// Reason says why a subscription gets no more than it does.
type Reason uint8

// The reasons.
const (
	// Full: there is nothing better.
	Full Reason = iota
	// Bandwidth: the estimate covers no more. With target [None] the allocation has paused it, which the subscriber is to be
	// told.
	Bandwidth
	// Size: a better layer is sent, but the size, quality or frame rate wanted doesn't ask for it.
	Size
	// Unsent: nobody sends the layer wanted. With target [None], nobody sends any.
	Unsent
	// Disabled by the subscriber.
	Disabled
	// Muted by the publisher.
	Muted
)

// String returns the reason in a word.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "unknown"
}

var reasons = [...]string{"full", "bandwidth", "size", "unsent", "disabled", "muted"}

// Result is what a subscription is given.
type Result struct {
	// Target is what to forward, or [None]. For audio that isn't disabled or muted it is always the first cell.
	Target Target
	// Wanted is what the subscriber's wishes ask for, whatever the estimate and whether or not it is being sent; [None] when
	// disabled or muted. A publisher must send what some subscriber wants. Where Why is Unsent a forwarder may wait for it.
	Wanted Target
	Why    Reason
	// Bitrate in bits per second is the cost of Target.
	Bitrate int64
	// Need in bits per second is by how much the estimate must grow for the next better target, if nothing that goes before
	// improves first. It is 0 when there is none better, or when it waits for time alone; [Summary.Waiting] tells.
	Need int64
}

// Paused reports whether the allocation has paused the subscription for want of bandwidth.
func (r *Result) Paused() bool { return r.Target == None && r.Why == Bandwidth }

// Summary is the outcome for the subscriber.
type Summary struct {
	// Used in bits per second is the cost of all targets, Audio that of audio alone. Used is never above the estimate unless
	// audio alone is.
	Used, Audio int64
	// Wanted in bits per second is the cost if everybody got the best that they want and that is sent.
	Wanted int64
	// Need in bits per second is by how much the estimate must grow for anything to improve, headroom included: what a probe
	// should show. 0 means that no estimate would change anything.
	Need int64
	// Paused counts subscriptions paused for want of bandwidth, Waiting those whose next target fits and waits for time alone.
	Paused, Waiting int
}

// Config tunes an allocator; every zero value has a default.
type Config struct {
	// Headroom is the part of the estimate, in percent, that a climb must leave free, 1–90; 0 means 15. Noise in estimate and
	// bitrates together that stays below it changes nothing.
	Headroom int
	// Wait is the time from a descent to the next climb; 0 means 2 s.
	Wait time.Duration
	// MaxWait bounds Wait's doubling when climbs fail; 0 means 30 s.
	MaxWait time.Duration
	// Proof is how long a climb must last not to have failed; 0 means 10 s.
	Proof time.Duration
	// Eager is how long a new subscription climbs as soon as the estimate has room for it, without waiting for the estimate
	// to last, as it grows fast when somebody joins. Its first descent ends that. 0 means not at all.
	Eager time.Duration
}

// Allocator is the allocation of one subscriber.
type Allocator struct {
	cfg     Config
	subs    []*Subscription
	heap    []entry
	hold    time.Duration // nobody climbs before
	recent  recent
	summary Summary
}

// recent is the lowest estimate of the present span of time, and of the one before.
type recent struct {
	span        int64 // now / steady
	low, before int64
	known       bool
}

// note takes an estimate in and returns the lowest of late.
func (r *recent) note(now time.Duration, estimate int64) int64 {
	span := int64(now / steady)
	switch {
	case !r.known || span > r.span+1 || span < r.span:
		*r = recent{span: span, low: estimate, before: estimate, known: true}
	case span == r.span+1:
		r.span, r.before, r.low = span, r.low, estimate
	default:
		r.low = min(r.low, estimate)
	}
	return min(r.low, r.before)
}

// Subscription is one subscription of a subscriber.
type Subscription struct {
	input  Input
	result Result
	// wishes: what is wanted has changed since the last update. Then the past doesn't hold it back.
	wishes bool
	// eager ends at the first descent, or Config.Eager after born, the first update.
	eager, begun bool
	born         time.Duration

	ladder *[MaxSpatial * MaxTemporal]rung // nil until a video is sent
	rungs  int8                            // of ladder
	held   int8                            // the rung that it has, -1 none
	rung   int8                            // while improving, and after it
	told   told

	climbed   bool
	lastClimb time.Duration
	wait      time.Duration // after the next descent
	hold      time.Duration // it doesn't climb before
	tried     int64         // the estimate at the latest climb …
	failed    int64         // … that the latest descent took back, 0 if it came long after
	resumed   time.Duration // when it was last shown again after a pause
	rest      time.Duration // the length of its latest pause, at least
	still     time.Duration // it isn't shown again before
}

// told is what the caller has been told.
type told struct {
	target, wanted Target
	why            Reason
}

// New returns an allocator without subscriptions.
func New(cfg Config) *Allocator {
	if cfg.Headroom <= 0 {
		cfg.Headroom = 15
	}
	cfg.Headroom = min(cfg.Headroom, 90)
	if cfg.Wait <= 0 {
		cfg.Wait = 2 * time.Second
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 30 * time.Second
	}
	if cfg.Proof <= 0 {
		cfg.Proof = 10 * time.Second
	}
	return &Allocator{cfg: cfg}
}

// Add takes one more subscription. Among equals who was added first goes first. The error is [ErrFull].
func (a *Allocator) Add(in Input) (*Subscription, error) {
	if len(a.subs) >= MaxSubscriptions {
		return nil, ErrFull
	}
	s := &Subscription{input: in, wishes: true, result: Result{Target: None, Wanted: None, Why: Unsent},
		told: told{None, None, Unsent}}
	a.subs = append(a.subs, s)
	return s, nil
}

// Remove forgets a subscription.
func (a *Allocator) Remove(s *Subscription) {
	if i := slices.Index(a.subs, s); i >= 0 {
		a.subs = slices.Delete(a.subs, i, i+1)
	}
}

// Set replaces what is known of the subscription, from the next Update on. A new wish (anything but Layers) may be
// granted at once: what happened before it doesn't hold it back.
func (s *Subscription) Set(in Input) {
	before := s.input
	s.input = in
	before.Layers = in.Layers
	s.wishes = s.wishes || before != in
}

// SetLayers replaces what is known of the publication's layers.
func (s *Subscription) SetLayers(l *Layers) { s.input.Layers = *l }

// Result returns what the last Update gave.
func (s *Subscription) Result() Result { return s.result }

// Summary returns the outcome of the last Update.
func (a *Allocator) Summary() Summary { return a.summary }

// class orders videos: those of a lower class get all they want before those of a higher one get anything.
func (in *Input) class() uint8 {
	if in.Priority > 0 {
		return uint8(min(in.Priority, 255))
	}
	switch in.Source {
	case ScreenShare:
		return 2
	case Speaker:
		return 3
	case Thumbnail:
		return 5
	}
	return 4
}

// Update splits estimate, in bits per second, at server time now. It appends to changed the subscriptions whose target,
// wish or reason have changed, in the order in which they were added, and returns it. It should be called when the
// estimate or an input has changed, and a few times per second, as climbs wait for time.
func (a *Allocator) Update(now time.Duration, estimate int64, changed []*Subscription) []*Subscription {
	estimate = min(max(estimate, 0), maxEstimate)
	a.summary = Summary{}
	held := int64(0)
	for _, s := range a.subs {
		s.age(now, a.cfg.Eager)
		s.constrain()
		switch {
		case s.input.Kind == Audio:
			a.summary.Audio += s.audio()
		case s.rungs > 0:
			a.summary.Wanted += s.cost(s.rungs - 1)
			held += s.cost(s.held)
		}
	}
	a.summary.Used = a.summary.Audio
	a.summary.Wanted += a.summary.Audio
	if a.summary.Audio+held > estimate {
		// The queue on the way must drain before anybody takes more.
		a.hold = now + a.cfg.Wait
	}
	a.improve(now, estimate, a.recent.note(now, estimate))
	for _, s := range a.subs {
		if s.commit(now, &a.cfg, estimate, &a.summary) {
			changed = append(changed, s)
		}
	}
	return changed
}

// age notes how long the subscription has been there.
func (s *Subscription) age(now, eager time.Duration) {
	if !s.begun {
		s.begun, s.born, s.eager = true, now, true
	}
	s.eager = s.eager && now-s.born < eager
}

// audio returns the cost of an audio subscription.
func (s *Subscription) audio() int64 {
	if c := &s.input.Layers[0].Temporal[0]; !s.input.Disabled && !s.input.Muted && c.Live {
		return int64(c.Bitrate)
	}
	return 0
}

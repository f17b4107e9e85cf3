package sfu

import (
	"sync"
	"time"
)

const (
	// keyframeSpacing is the least time between two requests for a keyframe of one layer: encoders answer each with a
	// frame many times the usual size.
	keyframeSpacing = 500 * time.Millisecond
	// keyframeBackoff is the most time between requests that nobody answers.
	keyframeBackoff = 3 * time.Second
	// Somebody who sees nothing yet is not made to wait that long: newcomerSpacing is enough, as long as the newcomers of a
	// layer, newcomerBurst of them at first and one more every newcomerRefill, have not used that up.
	newcomerSpacing = 100 * time.Millisecond
	newcomerBurst   = 6
	newcomerRefill  = time.Second
	// A subscriber's PLIs and changes of settings bring allowedKeyframes keyframes at once and one more every allowedRefill,
	// besides those that are on their way anyway.
	allowedKeyframes = 5
	allowedRefill    = 2 * time.Second
	// keyframeTries is how often an unanswered wish is repeated without being renewed.
	keyframeTries = 20
)

// A keyframe that came a moment ago is not kept and sent to newcomers from the history: all pictures since would have to go
// along in a burst, and a receiver that begins with old pictures takes their lateness for the network's delay, which it
// then keeps adding.

// keyframeRequests coalesces the wishes of all subscriptions for a keyframe of one layer: the first is passed on at
// once, the others wait for its answer; it is repeated until a keyframe comes. It is pure but for its lock.
type keyframeRequests struct {
	mu     sync.Mutex
	wanted bool
	asked  bool // a request has gone out at all: last is set
	last   time.Duration
	tries  int

	newcomer bool // one waits
	used     int  // of newcomerBurst
	refilled time.Duration
}

// want notes a wish at now, of a newcomer who sees nothing yet or of one who sees something. It returns when a request may
// be sent: send now, or else call due at the returned time.
func (k *keyframeRequests) want(now, rtt time.Duration, newcomer bool) (send bool, due time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wanted {
		k.tries = min(k.tries, keyframeTries/2) // renewed: keep trying
		if k.newcomer || !newcomer || k.tries > 0 {
			return false, 0
		}
		k.newcomer = true // none has gone out yet: it may go sooner
		return k.next(now, rtt)
	}
	k.wanted, k.tries, k.newcomer = true, 0, newcomer
	return k.next(now, rtt)
}

// due is called when a time returned before has come.
func (k *keyframeRequests) due(now, rtt time.Duration) (send bool, due time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.wanted {
		return false, 0
	}
	if k.tries >= keyframeTries {
		k.wanted = false
		return false, 0
	}
	return k.next(now, rtt)
}

func (k *keyframeRequests) next(now, rtt time.Duration) (send bool, due time.Duration) {
	// The answer to the last request may still be on its way: a round trip, and the time of one frame.
	spacing := max(keyframeSpacing, rtt+rtt/2)
	for range min(k.tries/2, 4) {
		spacing = min(spacing*3/2, keyframeBackoff)
	}
	wait := spacing
	if refills := int((now - k.refilled) / newcomerRefill); refills > 0 {
		k.used, k.refilled = max(0, k.used-refills), now
	}
	early := k.newcomer && k.tries == 0 && k.used < newcomerBurst
	if early {
		wait = max(newcomerSpacing, rtt+rtt/2)
	}
	if k.asked && now < k.last+wait {
		return false, k.last + wait
	}
	if early && k.asked && now < k.last+spacing {
		k.used++
	}
	k.asked, k.last, k.newcomer = true, now, false
	k.tries++
	return true, now + spacing
}

// awaited reports whether a keyframe has been asked for that hasn't come yet.
func (k *keyframeRequests) awaited() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wanted
}

// came notes that a keyframe of the layer has arrived.
func (k *keyframeRequests) came() {
	k.mu.Lock()
	k.wanted = false
	k.mu.Unlock()
}

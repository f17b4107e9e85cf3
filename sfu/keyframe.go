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
	// keyframeTries is how often an unanswered wish is repeated without being renewed.
	keyframeTries = 20
)

// keyframeRequests coalesces the wishes of all subscriptions for a keyframe of one layer: the first is passed on at
// once, the others wait for its answer; it is repeated until a keyframe comes. It is pure but for its lock.
type keyframeRequests struct {
	mu     sync.Mutex
	wanted bool
	asked  bool // a request has gone out at all: last is set
	last   time.Duration
	tries  int
}

// want notes a wish at now. It returns when a request may be sent: send now, or else call due at the returned time.
func (k *keyframeRequests) want(now, rtt time.Duration) (send bool, due time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wanted {
		k.tries = min(k.tries, keyframeTries/2) // renewed: keep trying
		return false, 0
	}
	k.wanted, k.tries = true, 0
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
	if k.asked && now < k.last+spacing {
		return false, k.last + spacing
	}
	k.asked, k.last = true, now
	k.tries++
	return true, now + spacing
}

// came notes that a keyframe of the layer has arrived.
func (k *keyframeRequests) came() {
	k.mu.Lock()
	k.wanted = false
	k.mu.Unlock()
}

package turn

import (
	"net/netip"
	"sync"
	"time"
)

// quota counts allocations per user, per address and in total, and holds each user's buckets.
// Safe for concurrent use.
type quota struct {
	perUser   int
	bandwidth int
	requests  int

	mu      sync.Mutex
	address *counted
	users   map[string]*user
}

// user is one identity's share.
type user struct {
	allocations int
	idle        time.Time // since when there is no allocation

	up, down *bucket // bytes
	requests *bucket // with an allocation
}

func newQuota(l Limits) *quota {
	return &quota{
		perUser:   l.AllocationsPerUser,
		bandwidth: l.Bandwidth,
		requests:  l.Requests,
		address:   newCounted(l.Allocations, l.AllocationsPerAddress),
		users:     make(map[string]*user),
	}
}

// has reports whether the user may make an allocation. It reserves nothing: acquire decides.
func (q *quota) has(c client) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u := q.users[c.identity]; u != nil && u.allocations >= q.perUser {
		return false
	}
	a := q.address
	return a.now < a.total && a.by[network(c.from.Addr())] < a.perAddress
}

// acquire counts an allocation, unless that would be one too many. Each success is paired with
// a release.
func (q *quota) acquire(c client) (*user, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.users[c.identity]
	if u != nil && u.allocations >= q.perUser || !q.address.acquire(c.from.Addr()) {
		return nil, false
	}
	if u == nil {
		// Half a second's worth may pass at once, and at least what one keyframe takes.
		burst := max(q.bandwidth/2, 64<<10)
		u = &user{
			up:       newBucket(q.bandwidth, burst),
			down:     newBucket(q.bandwidth, burst),
			requests: newBucket(q.requests, 4*q.requests),
		}
		q.users[c.identity] = u
	}
	u.allocations++
	return u, true
}

func (q *quota) release(c client, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.address.release(c.from.Addr())
	if u := q.users[c.identity]; u != nil {
		u.allocations--
		u.idle = now
	}
}

// sweep forgets users who have had no allocation for ten seconds: by then their buckets are
// full, so that forgetting gives nothing away.
func (q *quota) sweep(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for identity, u := range q.users {
		if u.allocations == 0 && now.Sub(u.idle) > 10*time.Second {
			delete(q.users, identity)
		}
	}
}

// counts returns the numbers of allocations and of the users who hold them.
func (q *quota) counts() (allocations, users int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range q.users {
		if u.allocations > 0 {
			users++
		}
	}
	return q.address.now, users
}

// gate is an admission or a count that goroutines share.
type gate struct {
	mu       sync.Mutex
	requests *admission
	conns    *counted
}

func (g *gate) allow(from netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests.allow(from, now)
}

func (g *gate) connect(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns.acquire(from)
}

func (g *gate) disconnect(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns.release(from)
}

func (g *gate) connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns.now
}

func (g *gate) sweep(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests.sweep(now)
}

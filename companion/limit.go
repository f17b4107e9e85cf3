package companion

import (
	"net/netip"
	"sync"
	"time"
)

// Rate is how often something may happen: Burst times at once, and once more each
// Every. The zero Rate in a Config means its default.
type Rate struct {
	Burst int
	Every time.Duration
}

// Limits bounds what people and programs may ask of the companion. Each zero value
// means the default in defaultLimits.
type Limits struct {
	SignInPerAddress Rate // wrong passwords from one address (or IPv6 /64)
	SignInPerName    Rate // wrong passwords for one name, from anywhere
	SignUp           Rate // sign-ups from one address
	Lookup           Rate // look-ups of names by one account
	ContactRequest   Rate // contact requests by one account
	Requests         Rate // requests of one signed-in device, all told

	Devices     int // signed in per account; beyond it the longest unused is signed out
	Sockets     int // event sockets per account
	EventQueue  int // events that wait for one slow socket
	Relations   int // contacts and requests per account, and blocks as many again
	Invitations int // open invitations per account
}

func defaultLimits() Limits {
	return Limits{
		SignInPerAddress: Rate{20, 10 * time.Second},
		SignInPerName:    Rate{10, 30 * time.Second},
		SignUp:           Rate{30, 30 * time.Second},
		Lookup:           Rate{60, 2 * time.Second},
		ContactRequest:   Rate{30, time.Minute},
		Requests:         Rate{200, 50 * time.Millisecond},
		Devices:          50,
		Sockets:          20,
		EventQueue:       256,
		Relations:        5000,
		Invitations:      50,
	}
}

// filled returns the limits with every zero value replaced by its default.
func (l Limits) filled() Limits {
	d := defaultLimits()
	for _, r := range []struct{ have, def *Rate }{
		{&l.SignInPerAddress, &d.SignInPerAddress}, {&l.SignInPerName, &d.SignInPerName}, {&l.SignUp, &d.SignUp},
		{&l.Lookup, &d.Lookup}, {&l.ContactRequest, &d.ContactRequest}, {&l.Requests, &d.Requests},
	} {
		if r.have.Burst <= 0 || r.have.Every <= 0 {
			*r.have = *r.def
		}
	}
	for _, n := range []struct{ have, def *int }{
		{&l.Devices, &d.Devices}, {&l.Sockets, &d.Sockets}, {&l.EventQueue, &d.EventQueue},
		{&l.Relations, &d.Relations}, {&l.Invitations, &d.Invitations},
	} {
		if *n.have <= 0 {
			*n.have = *n.def
		}
	}
	return l
}

// maxKeys is how many keys a limiter remembers. Beyond it, it forgets some at
// random, most of which are those of whoever fills it.
const maxKeys = 100_000

// limiter holds a Rate for each of many keys. For each it keeps one moment, at
// which the key will have its whole burst again (the generic cell rate algorithm,
// as ITU-T I.371 defines it).
type limiter struct {
	rate Rate

	mu   sync.Mutex
	full map[string]time.Time
}

func newLimiter(r Rate) *limiter {
	return &limiter{rate: r, full: make(map[string]time.Time)}
}

// take uses one turn of the key. If there is none, it returns how long to wait.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full, known := l.full[key]
	if !known && len(l.full) >= maxKeys {
		l.forget(now)
	}
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.rate.Every)
	if wait := full.Sub(now) - time.Duration(l.rate.Burst)*l.rate.Every; wait > 0 {
		return wait, false
	}
	l.full[key] = full
	return 0, true
}

// giveBack returns a turn that take gave.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if full, ok := l.full[key]; ok {
		l.full[key] = full.Add(-l.rate.Every)
	}
}

// sweep forgets the keys that have their whole burst.
func (l *limiter) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, full := range l.full {
		if !full.After(now) {
			delete(l.full, key)
		}
	}
}

// forget makes room for at least one key, without looking at all of them: a
// hundred keys in the map's random order, those that are full and one that isn't.
func (l *limiter) forget(now time.Time) {
	seen, gone := 0, 0
	for key, full := range l.full {
		if seen++; !full.After(now) || seen > 100 {
			delete(l.full, key)
			gone++
		}
		if seen > 100 && gone > 0 {
			return
		}
	}
}

// limiters are all the server's limiters.
type limiters struct {
	signInAddress, signInName, signUp, lookup, contactRequest, requests *limiter
}

func newLimiters(l Limits) *limiters {
	return &limiters{
		signInAddress: newLimiter(l.SignInPerAddress), signInName: newLimiter(l.SignInPerName),
		signUp: newLimiter(l.SignUp), lookup: newLimiter(l.Lookup),
		contactRequest: newLimiter(l.ContactRequest), requests: newLimiter(l.Requests),
	}
}

func (l *limiters) sweep(now time.Time) {
	for _, one := range []*limiter{l.signInAddress, l.signInName, l.signUp, l.lookup, l.contactRequest, l.requests} {
		one.sweep(now)
	}
}

// addressKey is what limits per address are kept for: an IPv4 address, or the /64
// network of an IPv6 address, of which one person has every address.
func addressKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Masked().String()
		}
	}
	return a.String()
}

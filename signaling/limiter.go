package signaling

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// addressLimiter bounds how often one client address may do something.
type addressLimiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[netip.Prefix]*rate.Limiter
	swept   time.Time
}

// maxAddresses bounds the table; beyond it, buckets that are full again are forgotten early.
const maxAddresses = 100_000

func newAddressLimiter(perSecond float64, burst int) *addressLimiter {
	return &addressLimiter{rate: rate.Limit(perSecond), burst: burst, buckets: map[netip.Prefix]*rate.Limiter{}}
}

// allow takes one token of the address. An IPv6 customer has a /64 at least (RFC 6177 §2), so that
// is what counts as an address.
func (l *addressLimiter) allow(addr netip.Addr, now time.Time) bool {
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	key, err := addr.Prefix(bits)
	if err != nil {
		key = netip.Prefix{} // an unknown address shares one bucket with the others
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// A full table is swept once a second: looking through all of it at each request would help
	// whoever fills it.
	if since := now.Sub(l.swept); since > time.Minute || since > time.Second && len(l.buckets) > maxAddresses {
		l.swept = now
		for k, b := range l.buckets {
			if b.TokensAt(now) >= float64(l.burst) {
				delete(l.buckets, k)
			}
		}
	}
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) > 2*maxAddresses {
			return false // under attack from everywhere
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.buckets[key] = b
	}
	return b.AllowN(now, 1)
}

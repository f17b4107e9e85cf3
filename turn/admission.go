package turn

import (
	"net/netip"
	"time"
)

// admission bounds the rate of messages per address: a token bucket for each, kept as the time
// at which it will be full again (the generic cell rate algorithm). It holds at most size
// addresses; when more than that ask at once (forged senders), those that aren't known share one
// bucket. It reads no clock and is not safe for concurrent use.
type admission struct {
	interval time.Duration // between messages at the allowed rate
	burst    time.Duration // how far ahead of now a bucket may run
	size     int
	full     map[netip.Addr]time.Time
	others   time.Time
}

// newAdmission allows rate messages per second and address, and four seconds' worth at once.
func newAdmission(rate, size int) *admission {
	interval := time.Second / time.Duration(min(rate, int(time.Second)))
	return &admission{
		interval: interval,
		burst:    4 * time.Second,
		size:     size,
		full:     make(map[netip.Addr]time.Time),
	}
}

// allow reports whether a message from the address may pass, and counts it if so.
func (a *admission) allow(from netip.Addr, now time.Time) bool {
	key := network(from)
	full, known := a.full[key]
	if !known && len(a.full) >= a.size {
		ok := a.take(&a.others, now)
		return ok
	}
	ok := a.take(&full, now)
	a.full[key] = full
	return ok
}

func (a *admission) take(full *time.Time, now time.Time) bool {
	if full.Before(now) {
		*full = now
	}
	next := full.Add(a.interval)
	if next.Sub(now) > a.burst {
		return false
	}
	*full = next
	return true
}

// sweep forgets the addresses whose bucket is full.
func (a *admission) sweep(now time.Time) {
	for key, full := range a.full {
		if !full.After(now) {
			delete(a.full, key)
		}
	}
}

// network is what counts as one address: an IPv4 address, or an IPv6 /64, which is what a
// single subscriber gets at the least.
func network(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ip
	}
	return prefix.Addr()
}

// counted bounds how many of something each address has at one time, and in total. It is not
// safe for concurrent use.
type counted struct {
	total, perAddress int
	now               int
	by                map[netip.Addr]int
}

func newCounted(total, perAddress int) *counted {
	return &counted{total: total, perAddress: perAddress, by: make(map[netip.Addr]int)}
}

func (c *counted) acquire(from netip.Addr) bool {
	key := network(from)
	if c.now >= c.total || c.by[key] >= c.perAddress {
		return false
	}
	c.now++
	c.by[key]++
	return true
}

func (c *counted) release(from netip.Addr) {
	key := network(from)
	c.now--
	if c.by[key]--; c.by[key] <= 0 {
		delete(c.by, key)
	}
}

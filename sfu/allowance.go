package sfu

import "time"

// allowance bounds how often something is done that a peer asks for. The zero value is full.
type allowance struct {
	used  int
	since time.Duration // when the next of those used is given back, less the refill
}

// take reports whether one more is allowed at now: so many at once, and one more every refill.
func (a *allowance) take(now time.Duration, most int, refill time.Duration) bool {
	if back := int((now - a.since) / refill); a.used == 0 || back >= a.used {
		a.used, a.since = 0, now
	} else if back > 0 {
		a.used -= back
		a.since += time.Duration(back) * refill
	}
	if a.used >= most {
		return false
	}
	a.used++
	return true
}

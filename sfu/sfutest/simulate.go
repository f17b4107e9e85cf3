package sfutest

import (
	"testing"
	"testing/synctest"

	"anytime/sfu"
)

// Simulate runs a test on a network in virtual time: hours of a call take as long as their computation, and how busy the
// machine is changes nothing. configure is as for [New].
func Simulate(t *testing.T, configure func(*sfu.Config), run func(t *testing.T, n *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(t, configure)
		n.virtual = true
		run(t, n)
	})
}

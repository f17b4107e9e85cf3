package sfutest

import (
	"os"
	"testing"

	"anytime/sfu/udp"
)

// UDPPath is how servers on real sockets pass datagrams to the kernel in this run of the tests: what the environment variable
// ANYTIME_TEST_UDP_PATH says, segmented, batched or plain; unset means the best that there is.
func UDPPath(t testing.TB) udp.Path {
	t.Helper()
	p, err := udp.ParsePath(os.Getenv("ANYTIME_TEST_UDP_PATH"))
	if err != nil {
		t.Fatalf("ANYTIME_TEST_UDP_PATH: %v", err)
	}
	return p
}

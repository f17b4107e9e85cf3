//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// The server of a benchmark in a process of its own, so that its CPU time can be told from that of the clients: this
// program again, which runs TestServeApart alone.

const (
	// serveApart makes this program that process, when it is set.
	serveApart = "ANYTIME_TEST_SERVE_APART"
	// profileApart names the file for its CPU profile, if one is wanted.
	profileApart = "ANYTIME_TEST_SERVE_PROFILE"
)

// newRoomsApart is newTestRooms in a process of its own.
func newRoomsApart(b *testing.B) *testRooms {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeApart$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), serveApart+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	answers := bufio.NewReader(out)
	line := func() string {
		text, err := answers.ReadString('\n')
		if err != nil {
			b.Fatalf("the server's process says nothing: %v", err)
		}
		return strings.TrimSpace(text)
	}
	b.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_, _ = io.Copy(io.Discard, answers)
		if err := cmd.Wait(); err != nil {
			b.Errorf("the server's process: %v", err)
		}
	})
	return &testRooms{t: b, url: line(), room: "room", cpu: func() time.Duration {
		if _, err := fmt.Fprintln(in); err != nil {
			b.Fatal(err)
		}
		d, err := time.ParseDuration(line())
		if err != nil {
			b.Fatal(err)
		}
		return d
	}}
}

// TestServeApart is the server's process: it tells its URL, answers each line with its CPU time so far, user and system, and
// serves until its input ends.
func TestServeApart(t *testing.T) {
	if os.Getenv(serveApart) == "" {
		t.Skip("benchmarks run it in a process of its own")
	}
	r := newTestRooms(t, unhurried)
	if path := os.Getenv(profileApart); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			t.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println(r.url)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		fmt.Println(time.Duration(u.Utime.Nano() + u.Stime.Nano()))
	}
}

// BenchmarkCrowdApart is BenchmarkJoinOf500 with the server in a process of its own, whose CPU time it reports per join,
// and with peer connections that come up: then connected is the time until media flows, of which Pion's client takes 200 ms.
// In the last two nobody subscribes to what is published, so that the CPU time is that of the joins alone.
func BenchmarkCrowdApart(b *testing.B) {
	unsubscribed := func(change func(*client.Config, *wire.Claims)) func(*client.Config, *wire.Claims) {
		return func(c *client.Config, claims *wire.Claims) {
			if change != nil {
				change(c, claims)
			}
			c.ManualSubscribe = true
		}
	}
	for _, mode := range []struct {
		name   string
		change func(*client.Config, *wire.Claims)
	}{{"signal", signalOnly}, {"dual", nil}, {"single", bundled}, {"dual/unsubscribed", unsubscribed(nil)}, {"single/unsubscribed", unsubscribed(bundled)}} {
		b.Run(mode.name, func(b *testing.B) {
			for b.Loop() {
				crowd(b, newRoomsApart(b), 500, 10*time.Second, mode.change)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

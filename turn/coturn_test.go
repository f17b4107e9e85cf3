package turn

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// uclient runs coturn's own client and returns how many messages it sent and got back.
func uclient(t *testing.T, args ...string) (sent, received int, output string) {
	t.Helper()
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Fatal("turnutils_uclient isn't installed: run scripts/install-test-tools")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, program, args...).CombinedOutput() // its exit code says nothing
	output = string(out)
	if ctx.Err() != nil {
		t.Fatalf("uclient %s: no end\n%s", strings.Join(args, " "), output)
	}
	all := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllStringSubmatch(output, -1)
	if len(all) > 0 {
		last := all[len(all)-1]
		sent, _ = strconv.Atoi(last[1])
		received, _ = strconv.Atoi(last[2])
	}
	return sent, received, output
}

// Another implementation's client agrees with what we serve: channels and send indications, over
// each transport, several clients at once.
func TestCoturnClient(t *testing.T) { eachWay(t, testCoturnClient) }

func testCoturnClient(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	for _, test := range []struct {
		name, network string
		flags         []string
	}{
		{"channels over UDP", "udp", nil},
		{"indications over UDP", "udp", []string{"-s"}},
		{"channels over TCP", "tcp", []string{"-t"}},
		{"indications over TLS", "tls", []string{"-t", "-S", "-s"}},
		{"channels over TLS", "tls", []string{"-t", "-S"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, at, _ := w.all(t, Config{}, peer)
			sent, received, output := uclient(t, append(test.flags, "-c", "-n", "20", "-m", "3", "-l", "170", "-z", "5",
				"-u", name, "-w", password, "-p", fmt.Sprint(at[test.network].Port()),
				"-e", "127.0.0.1", "-r", fmt.Sprint(peer.Port()), "127.0.0.1")...)
			if sent != 60 || received != 60 {
				t.Errorf("sent %d, got back %d of 60\n%s", sent, received, output)
			}
			if now := s.Stats(); now.AllocationsMade < 3 || now.PacketsUp != 60 || now.PacketsDown != 60 {
				t.Errorf("stats %+v", now)
			}
		})
	}
}

func TestCoturnClientIsRefused(t *testing.T) { eachWay(t, testCoturnClientIsRefused) }

func testCoturnClientIsRefused(t *testing.T, w way) {
	peer := w.echo(t, "127.0.0.1:0")
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Minute)
	oldName, oldPassword := Credentials(testSecret, "ac_1:dv_1", time.Now(), -time.Minute)
	for _, test := range []struct {
		what, name, password string
		peer                 string
		limits               Limits
		count                func(Stats) uint64
	}{
		{"expired", oldName, oldPassword, "127.0.0.1", Limits{}, func(s Stats) uint64 { return s.RefusedCredentials }},
		{"wrong password", name, "wrong", "127.0.0.1", Limits{}, func(s Stats) uint64 { return s.RefusedCredentials }},
		{"forbidden peer", name, password, "169.254.169.254", Limits{}, func(s Stats) uint64 { return s.ForbiddenPeers }},
		{"over quota", name, password, "127.0.0.1", Limits{AllocationsPerUser: 1}, func(s Stats) uint64 { return s.OverQuota }},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			s, at, _ := w.all(t, Config{Limits: test.limits}, peer)
			_, received, output := uclient(t, "-c", "-t", "-n", "3", "-m", "2",
				"-u", test.name, "-w", test.password, "-p", fmt.Sprint(at["tcp"].Port()),
				"-e", test.peer, "-r", fmt.Sprint(peer.Port()), "127.0.0.1")
			if received != 0 {
				t.Errorf("%d messages came back\n%s", received, output)
			}
			if now := s.Stats(); test.count(now) == 0 || now.PacketsUp != 0 {
				t.Errorf("stats %+v\n%s", now, output)
			}
		})
	}
}

// With -W the client makes credentials itself, from the shared secret: ours have the common form.
func TestCoturnMakesTheSameCredentials(t *testing.T) { eachWay(t, testCoturnMakesTheSameCredentials) }

func testCoturnMakesTheSameCredentials(t *testing.T, w way) {
	t.Parallel()
	peer := w.echo(t, "127.0.0.1:0")
	_, at, _ := w.all(t, Config{}, peer)
	sent, received, output := uclient(t, "-c", "-n", "5", "-W", testSecret, "-u", "ac_1", "-p", fmt.Sprint(at["udp"].Port()),
		"-e", "127.0.0.1", "-r", fmt.Sprint(peer.Port()), "127.0.0.1")
	if sent != 5 || received != 5 {
		t.Errorf("sent %d, got back %d\n%s", sent, received, output)
	}
}

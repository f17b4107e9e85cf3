package turn

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCoturnLoad is the processor time of a server per packet that it relays, up or down, under the load of coturn's own
// client: 20 clients, each a message of 170 bytes every 5 ms, which come back. The servers are coturn itself, ours with a
// socket for each relay, to coturn's peer like coturn, and ours with relays inside, where the answer of the SFU costs nothing.
// What the clients and the peer cost isn't in it. scripts/bench-turn runs it.
func BenchmarkCoturnLoad(b *testing.B) {
	for _, program := range []string{"turnserver", "turnutils_uclient", "turnutils_peer"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skip(program, "isn't installed: run scripts/install-test-tools")
		}
	}
	b.Run("server=coturn", func(b *testing.B) {
		peer := coturnPeer(b)
		port := freeUDPPort(b)
		server := launch(b, port, "turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--allow-loopback-peers", "--listening-ip=127.0.0.1",
			"--relay-ip=127.0.0.1", fmt.Sprint("--listening-port=", port), "--use-auth-secret", "--static-auth-secret="+testSecret,
			"--realm=anytime", "--log-file=stdout", "--pidfile="+b.TempDir()+"/pid", "--db="+b.TempDir()+"/db")
		coturnLoad(b, port, peer, func() time.Duration { return cpuOf(b, server.Pid) })
	})
	b.Run("server=ours/relays=sockets", func(b *testing.B) {
		peer := coturnPeer(b)
		s := way{}.serve(b, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{Bandwidth: -1}}, peer)
		coturnLoad(b, s.UDPAddrs()[0].Port(), peer, func() time.Duration { return cpu(b) })
	})
	b.Run("server=ours/relays=inside", func(b *testing.B) {
		w := newInside(b)
		peer := w.echo(b, "127.0.0.1:0")
		s := w.serve(b, Config{UDP: []string{"127.0.0.1:0"}, Limits: Limits{Bandwidth: -1}}, peer)
		coturnLoad(b, s.UDPAddrs()[0].Port(), peer, func() time.Duration { return cpu(b) })
	})
}

func coturnLoad(b *testing.B, port uint16, peer netip.AddrPort, spent func() time.Duration) {
	const messages, clients = 2000, 20
	name, password := Credentials(testSecret, "ac_1:dv_1", time.Now(), time.Hour)
	var used time.Duration
	packets := 0
	for range b.N {
		before := spent()
		out, _ := exec.CommandContext(b.Context(), "turnutils_uclient", "-c", "-n", fmt.Sprint(messages), "-m", fmt.Sprint(clients), "-l", "170", "-z", "5",
			"-u", name, "-w", password, "-p", fmt.Sprint(port), "-e", "127.0.0.1", "-r", fmt.Sprint(peer.Port()), "127.0.0.1").CombinedOutput()
		used += spent() - before
		totals := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllSubmatch(out, -1)
		if len(totals) == 0 {
			b.Fatalf("no load:\n%s", out)
		}
		last := totals[len(totals)-1]
		up, _ := strconv.Atoi(string(last[1]))
		down, _ := strconv.Atoi(string(last[2]))
		if down < messages*clients*9/10 {
			b.Fatalf("%d of %d messages came back:\n%s", down, messages*clients, out)
		}
		packets += up + down
	}
	b.ReportMetric(float64(used)/float64(packets), "cpu-ns/packet")
}

// coturnPeer starts coturn's peer, which sends back what it gets.
func coturnPeer(b *testing.B) netip.AddrPort {
	port := freeUDPPort(b)
	launch(b, port, "turnutils_peer", "-L", "127.0.0.1", "-p", fmt.Sprint(port))
	return netip.AddrPortFrom(loopback4, port)
}

// launch runs a program until the benchmark ends, and returns once its UDP port is taken.
func launch(b *testing.B, port uint16, program string, args ...string) *os.Process {
	c := exec.Command(program, args...)
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Process.Kill(); c.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		conn, err := net.ListenPacket("udp4", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			return c.Process
		}
		conn.Close()
		<-tick.C
	}
	b.Fatal(program, "doesn't listen")
	return nil
}

func freeUDPPort(b *testing.B) uint16 {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	return addrPort(conn.LocalAddr()).Port()
}

// cpuOf is the processor time of another process so far: proc(5), utime and stime, in hundredths of a second.
func cpuOf(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	ticks := 0
	for _, f := range strings.Fields(fields)[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

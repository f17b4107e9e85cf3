package turn

import (
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anytime/sfu/udp"
)

// cpu is the processor time of this process so far, user and system.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRelay is the processor time per packet between a UDP client on the loopback interface and an SFU, by the relay and
// directly: what the relay costs is the difference. The client's system calls are part of both; what it receives it never
// reads. A run of one is a voice's packet, a run of eight a picture's.
func BenchmarkRelay(b *testing.B) {
	for _, relayed := range []bool{false, true} {
		name := map[bool]string{false: "direct", true: "relayed"}[relayed]
		for _, size := range []int{170, 1100} {
			b.Run(name+"/up/"+sized(size), func(b *testing.B) { benchmarkUp(b, relayed, size) })
			for _, packets := range []int{1, 8} {
				b.Run(name+"/down/"+sized(size)+"/run="+string(rune('0'+packets)), func(b *testing.B) { benchmarkDown(b, relayed, size, packets) })
			}
		}
	}
}

func sized(n int) string { return map[int]string{170: "170B", 1100: "1100B"}[n] }

// sink is an SFU that counts.
type sink struct {
	got     atomic.Uint64
	deliver func(netip.AddrPort, udp.Run)
}

func (k *sink) inside(_ netip.AddrPort, deliver func(netip.AddrPort, udp.Run)) (func([]byte, netip.AddrPort), func(), error) {
	k.deliver = deliver
	return func([]byte, netip.AddrPort) { k.got.Add(1) }, func() {}, nil
}

// benchRelay serves one client, and returns its connection and the port that it talks to.
func benchRelay(b *testing.B, k *sink, relayed bool) (net.Conn, *udp.Port, netip.AddrPort) {
	peer := netip.MustParseAddrPort("127.0.0.1:7882")
	if !relayed {
		port, err := udp.Listen(udp.Config{
			Addr: "127.0.0.1:0", Buffer: kernelBuffer, Log: slog.New(slog.DiscardHandler),
			Reader: func(int) udp.Reader {
				return udp.ReceiveFunc(func([]byte, netip.AddrPort, time.Duration) { k.got.Add(1) })
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { port.Close() })
		return reach(b, "udp", port.Addr(), nil), port, peer
	}
	s := way{}.serve(b, Config{UDP: []string{"127.0.0.1:0"}, Inside: k.inside, Limits: Limits{Bandwidth: -1}}, peer)
	conn := reach(b, "udp", s.UDPAddrs()[0], nil)
	bound(b, s, conn, peer)
	return conn, s.ports[0], peer
}

func benchmarkUp(b *testing.B, relayed bool, size int) {
	var k sink
	conn, _, _ := benchRelay(b, &k, relayed)
	packet := make([]byte, size)
	if relayed {
		packet = channelMessage(testChannel, packet)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		if _, err := conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		for k.got.Load()+200 < uint64(i) { // let it catch up
			time.Sleep(50 * time.Microsecond)
		}
	}
	for k.got.Load() < uint64(b.N) {
		time.Sleep(50 * time.Microsecond)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/packet")
}

func benchmarkDown(b *testing.B, relayed bool, size, packets int) {
	var k sink
	conn, port, peer := benchRelay(b, &k, relayed)
	run := udp.Run{Buffer: make([]byte, size*packets), Size: size}
	send := func() { k.deliver(peer, run) }
	if !relayed {
		run.To = addrPort(conn.LocalAddr())
		send = func() { port.Send(0, run) }
	}
	for range 5000 { // fill the client's buffer
		send()
	}
	b.ReportAllocs()
	b.ResetTimer()
	before, sent := cpu(b), port.Stats().Sent
	for range b.N {
		send()
	}
	if n := port.Stats().Sent - sent; n != uint64(b.N*packets) {
		b.Errorf("%d of %d packets left", n, b.N*packets)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N*packets), "cpu-ns/packet")
}

package udp

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process so far, user and system.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSend is the processor time per packet sent over the loopback interface, for each path and for frames of several
// lengths. Delivery is part of it: to a socket that nobody reads, where the kernel drops what doesn't fit any more, or to one
// that is read without UDP_GRO in this process, which then is part of it too.
func BenchmarkSend(b *testing.B) {
	for _, read := range []bool{false, true} {
		for _, path := range []Path{Plain, Batched, Segmented} {
			for _, packets := range []int{1, 3, 8, 20} {
				b.Run(fmt.Sprintf("read=%v/path=%v/packets=%d", read, path, packets), func(b *testing.B) {
					benchmarkSend(b, read, path, packets)
				})
			}
		}
	}
}

func benchmarkSend(b *testing.B, read bool, path Path, packets int) {
	log := slog.New(slog.DiscardHandler)
	from, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Path: path, Buffer: 4 << 20, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	if from.Path() != path {
		b.Skip("this kernel lacks it")
	}
	run := Run{Buffer: make([]byte, packets*1200), Size: 1200}
	if read {
		to, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Path: Batched, Buffer: 4 << 20, Log: log})
		if err != nil {
			b.Fatal(err)
		}
		defer to.Close()
		run.To = to.Addr()
	} else {
		sink, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer sink.Close()
		run.To = addrPort(sink.LocalAddr())
		for range 1000 { // fill it
			from.Send(0, run)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before, sent := cpu(b), 0
	for range b.N {
		sent += from.Send(0, run)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(sent), "cpu-ns/packet")
	if sent != b.N*packets {
		b.Errorf("%d of %d packets left", sent, b.N*packets)
	}
}

// switches is how often a thread of this process has waited so far.
func switches(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return int64(u.Nvcsw)
}

// BenchmarkWakeUps is how often a thread waits per datagram sent every millisecond, of which the ticks are one. Nothing is
// received.
func BenchmarkWakeUps(b *testing.B) {
	p, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	sink, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	for name, runs := range map[string][]Run{"idle": nil, "sending": {{To: addrPort(sink.LocalAddr()), Buffer: make([]byte, 1200)}}} {
		b.Run(name, func(b *testing.B) {
			ticks := time.NewTicker(time.Millisecond)
			defer ticks.Stop()
			before, used := switches(b), cpu(b)
			for range b.N {
				<-ticks.C
				p.Send(0, runs...)
			}
			b.ReportMetric(float64(switches(b)-before)/float64(b.N), "switches/op")
			b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkEcho is a datagram that is received and answered, and the answer, which is too.
func BenchmarkEcho(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	var echo *Port
	ready := make(chan struct{})
	echo, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Log: log, Reader: every(func(d []byte, from netip.AddrPort, _ time.Duration) {
		<-ready
		echo.Send(0, Run{To: from, Buffer: d})
	})})
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	close(ready)
	back := make(chan struct{}, 1)
	p, err := Listen(Config{Addr: "127.0.0.1:0", Sockets: 1, Log: log, Reader: every(func([]byte, netip.AddrPort, time.Duration) { back <- struct{}{} })})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	run := Run{To: echo.Addr(), Buffer: make([]byte, 1200)}
	b.ResetTimer()
	before, used := switches(b), cpu(b)
	for range b.N {
		p.Send(0, run)
		<-back
	}
	b.ReportMetric(float64(switches(b)-before)/float64(b.N), "switches/op")
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
}

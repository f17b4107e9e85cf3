package sfu

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"anytime/sfu/udp"
)

// processorTime is that of this process so far, user and system.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSendRun is the processor time per packet that a subscriber gets over the loopback interface, from the plaintext on:
// put together, protected where it lies, and sent, for each path and for frames of several lengths. udp.BenchmarkSend is the
// same without SRTP. Delivery is part of it: to a socket that nobody reads, or to one that is read in this process.
func BenchmarkSendRun(b *testing.B) {
	for _, read := range []bool{false, true} {
		for _, path := range []udp.Path{udp.Plain, udp.Batched, udp.Segmented} {
			for _, packets := range []int{1, 3, 8, 20} {
				b.Run(fmt.Sprintf("read=%v/path=%v/packets=%d", read, path, packets), func(b *testing.B) {
					benchmarkSendRun(b, read, path, packets)
				})
			}
		}
	}
}

func benchmarkSendRun(b *testing.B, read bool, path udp.Path, packets int) {
	log := slog.New(slog.DiscardHandler)
	m := newMux(func() time.Duration { return 0 })
	var err error
	m.port, err = udp.Listen(udp.Config{Addr: "127.0.0.1:0", Sockets: 1, Path: path, Buffer: socketBuffer, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	if m.port.Path() != path {
		b.Skip("this kernel lacks it")
	}
	p := newMuxPeer(b, m, "us")
	p.start()
	sink := &planeSink{plane: p.plane}
	frame := make([]segment, packets)
	for i := range frame {
		frame[i] = segmentOf(1, 0, 24, 6, 1170-gcmTag) // 1184 bytes, 1200 with the tag
	}
	sequence := uint16(0)
	send := func() (sent int) {
		for i := range frame {
			sequence++
			binary.BigEndian.PutUint16(frame[i].header[2:], sequence)
		}
		for rest := frame; len(rest) > 0; rest = rest[min(maxRun, len(rest)):] {
			sent += sink.sendRun(rest[:min(maxRun, len(rest))])
		}
		return sent
	}
	if read {
		to, err := udp.Listen(udp.Config{Addr: "127.0.0.1:0", Sockets: 1, Path: udp.Batched, Buffer: socketBuffer, Log: log})
		if err != nil {
			b.Fatal(err)
		}
		defer to.Close()
		p.lead(to.Addr(), false)
	} else {
		nobody, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer nobody.Close()
		p.lead(addrPort(nobody.LocalAddr()), false)
		for range 1000 { // fill it
			send()
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before, sent := processorTime(b), 0
	for range b.N {
		sent += send()
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(sent), "cpu-ns/packet")
	if sent != b.N*packets {
		b.Errorf("%d of %d packets left", sent, b.N*packets)
	}
}

package sfu

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"anytime/sfu/udp"

	"github.com/pion/dtls/v3"
)

// used is the processor time of this process so far, user and system.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCrew is the fan-out of frames of a video, protected and sent over the loopback interface to a socket that nobody reads:
// how long until the last subscriber has a frame (the median and the 99th percentile), and the processor time per packet. There is a
// pause after each frame, as there is between those of a camera, so that the helpers sleep when the next one comes.
func BenchmarkCrew(b *testing.B) {
	for _, subscribers := range []int{10, 24, 40, 75, 150, 1000} {
		for _, packets := range []int{1, 5, 16, 60} {
			for _, helpers := range []int{0, 1} {
				b.Run(fmt.Sprintf("subscribers=%d/packets=%d/helpers=%d", subscribers, packets, helpers), func(b *testing.B) {
					benchmarkCrew(b, subscribers, packets, helpers)
				})
			}
		}
	}
}

func benchmarkCrew(b *testing.B, subscribers, packets, helpers int) {
	port, err := udp.Listen(udp.Config{Addr: "127.0.0.1:0", Buffer: socketBuffer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer port.Close()
	nobody, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer nobody.Close()
	st := newStage(b)
	st.employ(helpers)
	m := newMux(st.server.now)
	m.port = port
	video := st.publish("TR_v", Video, videoSection("0"))
	for i := range subscribers {
		s, _ := st.subscribe(video, fmt.Sprintf("PA_%d", i), videoSection("0"))
		p := newPlane(m, nil)
		seal, err := newSealer(dtls.SRTP_AEAD_AES_128_GCM, masterKeys{make([]byte, 16), make([]byte, 12)})
		if err != nil {
			b.Fatal(err)
		}
		p.seal.Store(seal)
		p.way.Store(&way{to: addrPort(nobody.LocalAddr())})
		s.out.egress.sink = &planeSink{plane: p}
	}
	v := feed{ssrc: 7, pt: 96, mid: "0"}
	first, more := v.vp8(true, false), v.vp8(false, false)
	now := time.Second
	st.in.one(v.packet(v.vp8(true, true), true), now)
	frame := func() time.Duration {
		v.timestamp += 3000
		now += 33 * time.Millisecond
		begin := time.Now()
		for i := range packets {
			payload := more
			if i == 0 {
				payload = first
			}
			st.in.rtp(v.packet(payload, i == packets-1), now)
		}
		return time.Since(begin)
	}
	for range 50 {
		frame()
	}
	var took []time.Duration
	pause := time.NewTicker(3 * time.Millisecond)
	defer pause.Stop()
	before := used(b)
	for b.Loop() {
		took = append(took, frame())
		<-pause.C
	}
	cost := used(b) - before
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(cost.Nanoseconds())/float64(len(took)*subscribers*packets), "cpu-ns/packet")
	stats := st.server.crew.snapshot()
	b.ReportMetric(float64(stats.Helped)/float64(max(stats.Shifts, 1)), "helped/shift")
}

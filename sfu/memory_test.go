package sfu

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMemory tells what a subscriber takes of the heap above the seam: its subscriptions and what they have sent, without
// its peer connections, and without pacing. B/subscriber is the figure; the time says nothing.
func BenchmarkMemory(b *testing.B) {
	for _, x := range []struct {
		name                 string
		cameras, microphones int
	}{{"1 camera, 20 microphones", 1, 20}, {"10 cameras, 10 microphones", 10, 10}} {
		b.Run(x.name, func(b *testing.B) {
			const viewers = 50
			var each float64
			for b.Loop() {
				h := newHall(b)
				var pubs []*publication
				for i := range x.cameras {
					pubs = append(pubs, h.camera(fmt.Sprint("c", i), false, 120, 400, 1200).pub)
				}
				for i := range x.microphones {
					pubs = append(pubs, h.microphone(fmt.Sprint("m", i)).pub)
				}
				watch := func(id string) {
					v := h.viewer(id)
					for _, pub := range pubs {
						v.watch(pub, large)
					}
				}
				watch("first") // the publishers' own histories are full before it is measured
				h.pass(4 * time.Second)
				before := heap()
				for i := range viewers {
					watch(fmt.Sprint(i))
				}
				h.pass(4 * time.Second)
				each = float64(heap()-before) / viewers
				runtime.KeepAlive(h)
			}
			b.ReportMetric(each, "B/subscriber")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// mostOfDescriptions is what a participant may take, in bytes, who has offered 20 m-lines and isn't connected yet: a peer
// connection of Pion's, its ICE agent and what we keep of the m-lines.
const mostOfDescriptions = 100 << 10

// TestMemoryOfDescriptions: m-lines cost next to nothing, since Pion isn't shown them.
func TestMemoryOfDescriptions(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	server, err := New(Config{UDPAddr: "127.0.0.1:0", TCPAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	offer := browserOffer(20)
	join := func(id string) {
		p, err := server.Join(ParticipantConfig{Room: "room", ID: id, Single: true})
		if err == nil {
			_, _, err = p.Offer(offer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	join("first") // what is made once
	const participants = 20
	before := heap()
	for i := range participants {
		join(fmt.Sprint(i))
	}
	if each := (heap() - before) / participants; each > mostOfDescriptions {
		t.Errorf("%d bytes for each participant, want %d at most", each, mostOfDescriptions)
	} else {
		t.Logf("%d bytes for each participant", each)
	}
}

package sfutest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// impairments is one of each kind, and a little of all. lost is whether packets go missing, so that they are asked for.
var impairments = []struct {
	name string
	link Impairment
	// inTime is the share of frames in time at a playout delay of 400 ms: of one run, whose losses may come together (TestRepair
	// has the medians). nacks and plis are the most that the receiver of the impaired stream may ask for in 600 frames.
	inTime      float64
	nacks, plis uint64
}{
	{"none", Impairment{}, 1, 0, 2},
	{"loss", Impairment{Loss: 0.1, Delay: 20 * time.Millisecond}, 0.97, 1800, 6},
	{"delay", Impairment{Delay: 150 * time.Millisecond}, 1, 0, 2},
	{"jitter", Impairment{Delay: 20 * time.Millisecond, Jitter: 60 * time.Millisecond}, 1, 0, 2},
	{"reordering", Impairment{Delay: 20 * time.Millisecond, Reorder: 0.05, ReorderBy: 30 * time.Millisecond}, 1, 100, 2},
	{"duplication", Impairment{Delay: 20 * time.Millisecond, Duplicate: 0.2}, 1, 0, 2},
	{"rate limit", Impairment{Delay: 20 * time.Millisecond, Rate: 2_500_000}, 1, 0, 2},
	{"a little of all", Impairment{Delay: 30 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.03, Reorder: 0.02,
		ReorderBy: 20 * time.Millisecond, Duplicate: 0.05, Rate: 4_000_000}, 0.98, 900, 6},
}

const impairedFrames = 600

// TestImpairedPublisher: whatever the link of a publisher does, a subscriber gets one unbroken stream, each packet once.
func TestImpairedPublisher(t *testing.T) {
	for _, x := range impairments {
		t.Run(x.name, func(t *testing.T) {
			seed := Seed(t)
			Simulate(t, nil, func(t *testing.T, n *Network) {
				link, v := n.Link(t, seed), NewViewer()
				a := n.JoinWith(t, n.Server, "room", "PA_a", Options{Net: link})
				b := n.JoinWith(t, n.Server, "room", "PA_b", Options{Viewer: v})
				src, err := a.VideoOf(hd, "TR_v")
				must(t, err)
				subscribe(t, b, "TR_v")
				_, err = b.AwaitPackets("TR_v", 60)
				must(t, err)
				link.Impair(x.link, x.link)
				from := src.Frames.Load()
				awaitFrames(t, b, src, from+30)
				begin := time.Now()
				awaitFrames(t, b, src, from+30+impairedFrames)
				end := time.Now().Add(-x.link.Delay - x.link.Jitter - 100*time.Millisecond)
				link.Impair(Impairment{}, Impairment{})
				awaitFrames(t, b, src, from+30+impairedFrames+60)
				r, err := b.AwaitPackets("TR_v", 1)
				must(t, err)
				p, err := v.Playback(begin, end, 400*time.Millisecond)
				must(t, err)
				l := a.Participant.Stats().Publications[0].Layers[0]
				in := a.Participant.Stats().Transports[0].Ingest
				up, _ := link.Stats()
				t.Logf("%v; %d NACKs, %d PLIs, %d repaired, %d given up, %d duplicates; %+v", p, l.NACKs, l.PLIs, l.Repaired, l.Lost, in.Duplicates, up)
				if p.Share() < x.inTime {
					t.Errorf("%.2f %% of the frames in time, want %.0f %%", 100*p.Share(), 100*x.inTime)
				}
				checkStream(t, r.Packets())
				if twice := v.Stats().Twice; twice > 0 {
					t.Errorf("%d packets were forwarded twice", twice)
				}
				if l.NACKs > x.nacks || l.PLIs > x.plis {
					t.Errorf("%d NACKs, %d PLIs were sent, at most %d and %d are due", l.NACKs, l.PLIs, x.nacks, x.plis)
				}
				if l.Lost > 0 {
					t.Errorf("%d packets given up", l.Lost)
				}
			})
		})
	}
}

// TestImpairedSubscriber: whatever the link of a subscriber does, it gets what it needs, and another one notices nothing.
func TestImpairedSubscriber(t *testing.T) {
	for _, x := range impairments {
		t.Run(x.name, func(t *testing.T) {
			seed := Seed(t)
			Simulate(t, nil, func(t *testing.T, n *Network) {
				link, v := n.Link(t, seed), NewViewer()
				// A path that takes longer all of a sudden looks like one whose queue has filled: it does from the start.
				link.Impair(x.link, x.link)
				a := n.Join(t, "room", "PA_a")
				b := n.JoinWith(t, n.Server, "room", "PA_b", Options{Net: link, Viewer: v})
				c := n.Join(t, "room", "PA_c")
				src, err := a.VideoOf(hd, "TR_v")
				must(t, err)
				for _, s := range []*Client{b, c} {
					subscribe(t, s, "TR_v")
					_, err = s.AwaitPackets("TR_v", 60)
					must(t, err)
				}
				before := src.Keyframes.Load()
				from := src.Frames.Load()
				awaitFrames(t, c, src, from+30)
				begin := time.Now()
				awaitFrames(t, c, src, from+30+impairedFrames)
				end := time.Now().Add(-x.link.Delay - x.link.Jitter - 100*time.Millisecond)
				link.Impair(Impairment{}, Impairment{})
				awaitFrames(t, c, src, from+30+impairedFrames+60)
				p, err := v.Playback(begin, end, 400*time.Millisecond)
				must(t, err)
				s := b.Participant.Stats().Subscriptions[0]
				_, down := link.Stats()
				t.Logf("%v; %+v; resent %d, refused %d; %+v, round trip %v", p, v.Stats(), s.Resent, s.Refused, down, b.Participant.Stats().RTT)
				if p.Share() < x.inTime {
					t.Errorf("%.2f %% of the frames in time, want %.0f %%", 100*p.Share(), 100*x.inTime)
				}
				if most := uint64(down.Lost+down.Dropped+down.Reordered) * 3 / 2; s.Resent > most {
					t.Errorf("%d packets sent again, at most %d are due", s.Resent, most)
				}
				r, err := c.AwaitPackets("TR_v", 1)
				must(t, err)
				checkStream(t, r.Packets())
				if k := src.Keyframes.Load() - before; k > int64(x.plis) {
					t.Errorf("%d keyframes for a bad link, at most %d are due", k, x.plis)
				}
				if other := c.Participant.Stats().Subscriptions[0]; other.Resent > 0 {
					t.Errorf("%d packets were sent again to the other subscriber", other.Resent)
				}
			})
		})
	}
}

// awaitFrames waits until a subscriber has a packet of a frame that was sent after so many.
func awaitFrames(t *testing.T, c *Client, src *Source, frame int64) {
	t.Helper()
	for have := int64(0); have < frame; have = src.Frames.Load() {
		_, err := c.AwaitPackets(src.ID, 60)
		must(t, err)
	}
}

// checkStream fails the test unless the packets have every sequence number but at the end, and timestamps that rise with
// the frames.
func checkStream(t *testing.T, list []Packet) {
	t.Helper()
	if len(list) == 0 {
		t.Fatal("no packets")
	}
	seen := map[int64]Packet{}
	first := int64(list[0].Sequence)
	highest := first
	var all []int64
	for _, p := range list {
		n := highest + int64(int16(p.Sequence-uint16(highest)))
		highest = max(highest, n)
		if _, again := seen[n]; again {
			continue
		}
		seen[n] = p
		all = append(all, n)
	}
	slices.Sort(all)
	for i, n := range all[1:] {
		a, b := seen[all[i]], seen[n]
		if n != all[i]+1 && n < highest-50 {
			t.Errorf("%d packets are missing before sequence number %d", n-all[i]-1, uint16(n))
		}
		if !a.Padding && !b.Padding && n == all[i]+1 && b.Frame != a.Frame && int32(b.Timestamp-a.Timestamp) != 3000*int32(b.Frame-a.Frame) {
			t.Errorf("timestamp steps by %d between frames %d and %d", b.Timestamp-a.Timestamp, a.Frame, b.Frame)
		}
	}
}

// TestPipe: each impairment is what it says, and follows from the seed.
func TestPipe(t *testing.T) {
	run := func(seed uint64, i Impairment) (arrivals [][]time.Duration, s LinkStats) {
		p := pipe{Impairment: i, random: rand.New(rand.NewPCG(seed, 0))}
		for n := range 20000 {
			at, k := p.take(time.Duration(n)*time.Millisecond, 972)
			arrivals = append(arrivals, slices.Clone(at[:k]))
		}
		return arrivals, p.stats
	}
	all := Impairment{Loss: 0.1, Duplicate: 0.05, Reorder: 0.02, ReorderBy: 30 * time.Millisecond, Delay: 40 * time.Millisecond,
		Jitter: 10 * time.Millisecond, Rate: 10_000_000}
	a, stats := run(1, all)
	b, _ := run(1, all)
	c, _ := run(2, all)
	if !slices.EqualFunc(a, b, slices.Equal) || slices.EqualFunc(a, c, slices.Equal) {
		t.Error("the choices don't follow from the seed")
	}
	about := func(what string, got int, want float64) {
		t.Helper()
		if float64(got) < want*0.85 || float64(got) > want*1.15 {
			t.Errorf("%s: %d, want about %.0f", what, got, want)
		}
	}
	about("lost", stats.Lost, 2000)
	about("duplicated", stats.Duplicated, 900)
	about("reordered", stats.Reordered, 360)
	last := time.Duration(0)
	overtaken := 0
	for n, at := range a {
		for _, x := range at {
			if d := x - time.Duration(n)*time.Millisecond; d < 40*time.Millisecond || d > 82*time.Millisecond {
				t.Fatalf("datagram %d took %v", n, d)
			}
			if x < last {
				overtaken++
			}
			last = max(last, x)
		}
	}
	if overtaken == 0 || overtaken > stats.Reordered*40 {
		t.Errorf("%d were overtaken", overtaken)
	}
	// 1000 bytes a millisecond are 8 Mbit/s: half of it fits, after the queue has filled.
	full, stats := run(3, Impairment{Rate: 4_000_000})
	about("dropped", stats.Dropped, 10000)
	for n, at := range full {
		if len(at) > 0 && at[0]-time.Duration(n)*time.Millisecond > 303*time.Millisecond {
			t.Fatalf("datagram %d waited %v", n, at[0]-time.Duration(n)*time.Millisecond)
		}
	}
}

package forward

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/codectest"
)

// svcSource sends all layers of one mode as one stream, told by dependency descriptors or by VP9's layer indices.
type svcSource struct {
	encoder    codectest.Encoder
	reader     codec.Dependencies
	described  bool
	sequence   uint16
	frames     []svcFrame
	firstFrame int
	wantKey    bool
}

type svcFrame struct {
	codectest.Frame
	packets   int
	delivered int // packets that reached the forwarder
}

func newSVCSource(mode codectest.Mode, described bool, r *rand.Rand) *svcSource {
	s := &svcSource{described: described, sequence: uint16(r.Uint32()), wantKey: true}
	s.encoder = codectest.Encoder{Mode: mode, Number: 60000 + r.IntN(8000), Offset: uint8(r.IntN(64))}
	s.firstFrame = s.encoder.Number
	return s
}

func (s *svcSource) frame(number int) *svcFrame { return &s.frames[number-s.firstFrame] }

// picture encodes one picture and appends its packets.
func (s *svcSource) picture(t testing.TB, r *rand.Rand, capture time.Duration, events []event) []event {
	frames := s.encoder.Picture(s.wantKey)
	s.wantKey = false
	at := capture + 20*time.Millisecond
	for i, f := range frames {
		n := 1 + r.IntN(3) + f.Spatial
		s.frames = append(s.frames, svcFrame{Frame: f, packets: n})
		for k := range n {
			first, last := k == 0, k == n-1
			p := Packet{Timestamp: uint32(capture * 90 / time.Millisecond), Marker: last && i == len(frames)-1}
			if s.described {
				d, err := s.reader.Read(f.Descriptor(first, last))
				if err != nil {
					t.Fatalf("frame %d: %v", f.Number, err)
				}
				p.Dependency = d
				p.Descriptor = codec.Descriptor{Kind: codec.AV1, FrameStart: first, Keyframe: first && d.Independent()}
			} else {
				d, err := codec.Parse(codec.VP9, append(f.VP9(first, last, uint8(f.Picture)), 0))
				if err != nil {
					t.Fatalf("frame %d: %v", f.Number, err)
				}
				p.Descriptor = d
			}
			at += time.Duration(r.IntN(800)) * time.Microsecond
			events = append(events, event{at: at, sequence: s.sequence, packet: p, content: content{frame: f.Number, packet: k}})
			s.sequence++
		}
	}
	return events
}

// svcSent is one packet that left.
type svcSent struct {
	out      int64
	content  content
	marker   bool
	decision Decision
}

// svcRun simulates a subscription and returns what left, in outgoing order.
type svcRun struct {
	mode      codectest.Mode
	described bool
	net       network
	changes   bool // of the target
	length    time.Duration

	source *svcSource
	sent   []svcSent
	fills  int
	keys   int
	f      *fed
}

func (x *svcRun) run(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	x.source = newSVCSource(x.mode, x.described, r)
	kind := codec.VP9
	if x.described {
		kind = codec.AV1
	}
	x.f = newFed(Config{Kind: kind, Sequence: uint16(r.Uint32()), Timestamp: r.Uint32()})
	x.f.SetTarget(0, AllTemporal)
	in := &ingest{}
	used, highest := map[int64]content{}, int64(0)
	var pending []event
	var keyAt time.Duration
	deliver := func(until time.Duration) {
		n := 0
		for ; n < len(pending) && pending[n].at <= until; n++ {
			e := &pending[n]
			p, ok := in.packet(e)
			if !ok {
				continue
			}
			x.source.frame(e.content.frame).delivered++
			d := x.f.Forward(p)
			if d.NeedKeyframe && keyAt == 0 {
				keyAt = e.at + 80*time.Millisecond
			}
			if d.Action == Drop {
				continue
			}
			out := int64(d.Sequence) + 1<<20
			if len(used) > 0 {
				out = highest + int64(int16(d.Sequence-uint16(highest)))
			}
			highest = max(highest, out)
			if o, twice := used[out]; twice {
				t.Fatalf("sequence number %d stands for %+v and %+v", d.Sequence, o, e.content)
			}
			used[out] = e.content
			if d.Action == Fill {
				x.fills++
				continue
			}
			x.sent = append(x.sent, svcSent{out, e.content, d.Marker, d})
		}
		pending = slices.Delete(pending, 0, n)
	}
	begin := time.Second
	for now := begin; now < begin+x.length; now += 33333 * time.Microsecond {
		if keyAt != 0 && now >= keyAt {
			x.source.wantKey, keyAt = true, 0
			x.keys++
		}
		pending = append(pending, x.net.carry(r, x.source.picture(t, r, now, nil))...)
		slices.SortStableFunc(pending, func(a, b event) int { return cmp.Compare(a.at, b.at) })
		if x.changes && now < begin+x.length-3*time.Second && r.IntN(15) == 0 {
			x.f.SetTarget(0, r.IntN(3))
			x.f.SetSpatial(r.IntN(3))
		}
		deliver(now)
	}
	deliver(time.Hour)
	slices.SortFunc(x.sent, func(a, b svcSent) int { return cmp.Compare(a.out, b.out) })
	if x.net.loss == 0 || x.net.recover {
		numbers := make([]int64, 0, len(used))
		for n := range used {
			numbers = append(numbers, n)
		}
		slices.Sort(numbers)
		for i := 1; i < len(numbers); i++ {
			if numbers[i] != numbers[i-1]+1 {
				t.Fatalf("hole between %d (%+v) and %d (%+v)", numbers[i-1], used[numbers[i-1]], numbers[i], used[numbers[i]])
			}
		}
	}
}

// check proves what must hold of everything that left.
func (x *svcRun) check(t *testing.T) {
	t.Helper()
	lossless := x.net.loss == 0 || x.net.recover
	count := map[int]int{}
	for _, s := range x.sent {
		count[s.content.frame]++
	}
	if len(count) < 20 {
		t.Fatalf("only %d frames left", len(count))
	}
	for number, n := range count {
		f := x.source.frame(number)
		if n != f.delivered && (lossless || n > f.delivered) {
			t.Fatalf("%d of %d packets of frame %d (S%d T%d) left, %d came", n, f.packets, number, f.Spatial, f.Temporal, f.delivered)
		}
		for _, r := range f.References {
			if g := x.source.frame(r); count[r] == 0 && g.delivered > 0 {
				t.Fatalf("frame %d (S%d T%d) refers to %d (S%d T%d), which was left out", number, f.Spatial, f.Temporal, r, g.Spatial, g.Temporal)
			}
		}
	}
	for i := 0; i < len(x.sent); {
		j := i
		picture := x.source.frame(x.sent[i].content.frame).Picture
		for ; j < len(x.sent) && x.source.frame(x.sent[j].content.frame).Picture == picture; j++ {
			if last := j+1 == len(x.sent) || x.source.frame(x.sent[j+1].content.frame).Picture != picture; x.sent[j].marker && !last {
				t.Fatalf("marker inside picture %d", picture)
			}
		}
		if lossless && !x.sent[j-1].marker {
			f := x.source.frame(x.sent[j-1].content.frame)
			t.Fatalf("no marker at the end of picture %d, S%d T%d", picture, f.Spatial, f.Temporal)
		}
		if j < len(x.sent) && x.source.frame(x.sent[j].content.frame).Picture < picture {
			t.Fatalf("picture %d after %d", x.source.frame(x.sent[j].content.frame).Picture, picture)
		}
		i = j
	}
	if !lossless {
		return
	}
	// After the last change all that was wanted comes, and nothing else.
	end := x.source.frames[len(x.source.frames)-1].Picture
	spatial, temporal := int(x.f.svc.spatial), int(x.f.svc.temporal)
	top := min(spatial, x.mode.Spatial-1)
	for i := range x.source.frames {
		f := &x.source.frames[i]
		if f.Picture < end-30 || f.Picture > end-2 {
			continue
		}
		wanted := f.Temporal <= temporal && (f.Spatial == top || f.Spatial < top && !f.NotForAbove)
		if (count[f.Number] > 0) != wanted {
			t.Fatalf("S%d T%d wanted; frame S%d T%d of picture %d, %d before the end: %d packets left, stuck %v, keyframes %d",
				spatial, temporal, f.Spatial, f.Temporal, f.Picture, end-f.Picture, count[f.Number], x.f.svc.stuck, x.keys)
		}
	}
}

func TestScalabilityModes(t *testing.T) {
	nets := []struct {
		name string
		net  network
	}{
		{"perfect", network{}},
		{"recovered", network{loss: 0.05, reorder: 0.1, duplicate: 0.02, recover: true}},
		{"lossy", network{loss: 0.05, reorder: 0.1, duplicate: 0.02}},
	}
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	for _, mode := range codectest.Modes {
		for _, by := range []string{"descriptor", "indices"} {
			for _, n := range nets {
				t.Run(fmt.Sprintf("%s/%s/%s", mode.Name, by, n.name), func(t *testing.T) {
					for seed := range seeds {
						if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
							x := &svcRun{mode: mode, described: by == "descriptor", net: n.net, changes: true, length: 12 * time.Second}
							x.run(t, seed)
							x.check(t)
							if n.name == "perfect" && x.fills > 0 {
								t.Fatalf("%d fills on a perfect network", x.fills)
							}
						}) {
							return
						}
					}
				})
			}
		}
	}
}

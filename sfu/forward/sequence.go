package forward

// slotState is what became of one source sequence number.
type slotState uint8

const (
	slotNone    slotState = iota
	slotGap               // not seen: its outgoing number is kept free for it
	slotSent              // sent, or filled
	slotDropped           // dropped deliberately: it has no outgoing number
)

// slot remembers one source sequence number, and for a gap the numbering that was in force there.
type slot struct {
	out     uint16
	picture uint16 // source picture id minus ours
	state   slotState
	layers  operating // what was forwarded; of a flat stream the highest temporal layer
}

// sequencer gives outgoing sequence numbers to the packets of one layer, from a starting point on. It begins small and grows
// where the place kept for a packet would be lost.
type sequencer struct {
	slots   []slot // of the latest source numbers, by their low bits
	highest uint64 // highest source number seen
	next    uint16 // outgoing number of the next packet
	window  int    // how many slots there are at most
}

// leastWindow is how many slots a sequencer begins with.
const leastWindow = 32

func newSequencer(window int, first uint16) sequencer {
	n := 16
	for n < window {
		n <<= 1
	}
	return sequencer{window: n, next: first}
}

func (q *sequencer) at(source uint64) *slot { return &q.slots[source&uint64(len(q.slots)-1)] }

// put fills the slot of source, the one after the highest that has one.
func (q *sequencer) put(source uint64, s slot) {
	for len(q.slots) < q.window && q.at(source).state == slotGap {
		q.grow(source)
	}
	*q.at(source) = s
}

// grow doubles the slots, which are of the numbers before source.
func (q *sequencer) grow(source uint64) {
	old := *q
	q.slots = make([]slot, 2*len(old.slots))
	for back := range uint64(len(old.slots)) {
		s := source - 1 - back
		*q.at(s) = *old.at(s)
	}
}

// begin starts over at source: everything before belongs to another time.
func (q *sequencer) begin(source uint64) {
	if q.slots == nil { // many streams never begin
		q.slots = make([]slot, min(leastWindow, q.window))
	}
	clear(q.slots)
	q.highest = source - 1
}

// advance notes that source, above the highest, has been seen. The numbers skipped become gaps with room kept for them,
// unless they are known to be dropped.
func (q *sequencer) advance(source uint64, gapsDropped bool, picture uint16, layers operating) {
	for s := q.highest + 1; s < source; s++ {
		g := slot{state: slotDropped, picture: picture, layers: layers}
		if !gapsDropped {
			g.state, g.out = slotGap, q.next
			q.next++
		}
		q.put(s, g)
	}
	q.highest = source
}

// take gives source, the highest, the next outgoing number.
func (q *sequencer) take(source uint64) uint16 {
	out := q.next
	q.next++
	q.put(source, slot{out: out, state: slotSent})
	return out
}

// skip drops source, the highest, leaving no hole.
func (q *sequencer) skip(source uint64) {
	q.put(source, slot{state: slotDropped})
}

// late returns the slot of a number below the highest if room has been kept for it.
func (q *sequencer) late(source uint64) *slot {
	if q.highest-source >= uint64(len(q.slots)) {
		return nil
	}
	if s := q.at(source); s.state == slotGap {
		return s
	}
	return nil
}

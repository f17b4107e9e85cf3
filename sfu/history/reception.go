package history

import "time"

// Verdict is what a packet's sequence number says.
type Verdict uint8

const (
	// Newest: the highest so far, in order or after a gap.
	Newest Verdict = iota
	// Late: below the highest and not seen before: reordered, or recovered.
	Late
	// Duplicate: seen before. Drop it.
	Duplicate
	// Restarted: the source began a new numbering; the epoch has gone up. Forget what was missing.
	Restarted
	// Stray: far away from the rest, and not yet confirmed by a successor. Drop it.
	Stray
)

const (
	maxDropout  = 3000 // RFC 3550 A.1 MAX_DROPOUT: larger forward jumps need confirmation
	maxMisorder = 1000 // MAX_MISORDER; RFC 3550 suggests 100, RTX recovers later than that on fast video
	seenWindow  = 1024 // packets remembered to tell duplicates, a power of two

	maxJitterSeconds = 5 // a larger difference is a jump of the source's timestamps, not jitter
)

// Arrival is the outcome of [Reception.Packet].
type Arrival struct {
	// Sequence is the extended sequence number. It never repeats: a restart continues above everything before.
	Sequence uint64
	// Epoch counts restarts of the source, so that forwarding can tell packets of different numberings apart.
	Epoch   uint32
	Verdict Verdict
}

// Reception follows one received SSRC: it extends sequence numbers (RFC 3550 A.1) and keeps the statistics of receiver
// reports (A.3, A.8). The zero value isn't usable; see [NewReception].
type Reception struct {
	clockRate uint32
	started   bool
	epoch     uint32
	highest   uint64 // extended
	base      uint64 // first sequence number of this epoch
	cycles    uint64 // what to take off for the 32 bits of a receiver report
	stray     uint16 // RFC 3550 A.1 bad_seq: the number that would confirm a restart
	hasStray  bool
	seen      [seenWindow / 64]uint64

	received      uint64 // packets counted as received in this epoch, duplicates included (A.3)
	priorExpected uint64
	priorReceived uint64

	hasTransit bool
	transit    int64  // relative transit time in timestamp units
	jitter     uint64 // A.8, scaled by 16
}

// NewReception returns the reception of a stream whose timestamps tick clockRate times a second.
func NewReception(clockRate uint32) *Reception { return &Reception{clockRate: max(clockRate, 1)} }

// Packet notes a packet of the stream itself that arrived at now.
func (r *Reception) Packet(sequence uint16, timestamp uint32, now time.Duration) Arrival {
	a := r.place(sequence)
	if a.Verdict == Stray {
		return a
	}
	r.received++
	// RFC 3550 A.8: J(i) = J(i-1) + (|D(i-1,i)| - J(i-1))/16, in integer form. Late packets would count the reordering
	// twice, so only packets that advance are taken, as A.8's "arrival" presumes order.
	if a.Verdict == Newest || a.Verdict == Restarted {
		arrival := int64(now/time.Second)*int64(r.clockRate) + int64(now%time.Second)*int64(r.clockRate)/int64(time.Second)
		transit := int64(int32(uint32(arrival) - timestamp))
		if r.hasTransit && a.Verdict == Newest {
			d := int64(int32(uint32(transit) - uint32(r.transit)))
			if d < 0 {
				d = -d
			}
			if d <= int64(r.clockRate)*maxJitterSeconds {
				r.jitter = uint64(int64(r.jitter) + d - int64((r.jitter+8)>>4))
			}
		}
		r.transit, r.hasTransit = transit, true
	}
	return a
}

// Recovered notes a packet that came back over RTX or FEC. It is placed like any other but counted in no statistics:
// RFC 4588 section 6.2 has receiver reports of the original stream tell the loss before retransmission.
func (r *Reception) Recovered(sequence uint16) Arrival {
	if !r.started {
		return Arrival{Verdict: Stray}
	}
	delta := int64(int16(sequence - uint16(r.highest)))
	if delta > maxDropout || delta < -maxMisorder || (delta < 0 && uint64(-delta) > r.highest-r.base) {
		return Arrival{Epoch: r.epoch, Verdict: Stray}
	}
	return r.place(sequence)
}

func (r *Reception) place(sequence uint16) Arrival {
	if !r.started {
		r.started = true
		r.restart(sequence)
		if r.epoch > 0 {
			return Arrival{Sequence: r.highest, Epoch: r.epoch, Verdict: Restarted}
		}
		return Arrival{Sequence: r.highest, Epoch: r.epoch, Verdict: Newest}
	}
	delta := int64(int16(sequence - uint16(r.highest)))
	switch {
	case delta > 0 && delta <= maxDropout:
		r.hasStray = false
		for range min(delta, seenWindow) { // forget what stood in the slots of the numbers skipped
			r.highest++
			r.seen[r.highest%seenWindow/64] &^= 1 << (r.highest % 64)
		}
		r.highest += uint64(max(0, delta-seenWindow))
		r.mark(r.highest)
		return Arrival{Sequence: r.highest, Epoch: r.epoch, Verdict: Newest}
	case delta <= 0 && delta > -maxMisorder:
		s := r.highest - uint64(-delta)
		if s < r.base {
			if r.base-s > 64 {
				break
			}
			r.base = s // reordered across the very first packet
		}
		if r.seen[s%seenWindow/64]&(1<<(s%64)) != 0 {
			return Arrival{Sequence: s, Epoch: r.epoch, Verdict: Duplicate}
		}
		r.mark(s)
		return Arrival{Sequence: s, Epoch: r.epoch, Verdict: Late}
	}
	// RFC 3550 A.1: "Two sequential packets -- assume that the other side restarted without telling us so just re-sync".
	if r.hasStray && sequence == r.stray {
		r.epoch++
		r.restart(sequence)
		return Arrival{Sequence: r.highest, Epoch: r.epoch, Verdict: Restarted}
	}
	r.stray, r.hasStray = sequence+1, true
	return Arrival{Epoch: r.epoch, Verdict: Stray}
}

func (r *Reception) mark(s uint64) { r.seen[s%seenWindow/64] |= 1 << (s % 64) }

// restart begins a numbering at sequence, above and well apart from everything before.
func (r *Reception) restart(sequence uint16) {
	r.cycles = (r.highest>>16 + 2) << 16
	r.highest = r.cycles | uint64(sequence)
	r.base = r.highest
	r.hasStray, r.hasTransit = false, false
	r.seen = [seenWindow / 64]uint64{}
	r.mark(r.highest)
	r.received, r.priorExpected, r.priorReceived = 0, 0, 0
}

// Restart makes the next packet begin a new epoch whatever its number: the source has a new SSRC.
func (r *Reception) Restart() {
	if !r.started {
		return
	}
	r.epoch++
	r.started = false
}

// Report is what a receiver report block says (RFC 3550 section 6.4.1).
type Report struct {
	// FractionLost is the share lost since the report before, in 1/256.
	FractionLost uint8
	// TotalLost is the number of packets lost in all, −0x800000 to 0x7fffff.
	TotalLost int32
	// HighestSequence is the extended highest sequence number received, 32 bits.
	HighestSequence uint32
	// Jitter is the interarrival jitter in timestamp units.
	Jitter uint32
}

// Report returns the values for the next receiver report and begins a new interval. ok is false before the first packet.
func (r *Reception) Report() (rep Report, ok bool) {
	if !r.started {
		return Report{}, false
	}
	// RFC 3550 A.3: "expected = extended_max - s->base_seq + 1; lost = expected - s->received", clamped to 24 bits.
	expected := r.highest - r.base + 1
	lost := min(max(int64(expected)-int64(r.received), -0x800000), 0x7fffff)
	interval := int64(expected - r.priorExpected)
	lostNow := interval - int64(r.received-r.priorReceived)
	r.priorExpected, r.priorReceived = expected, r.received
	if interval > 0 && lostNow > 0 {
		rep.FractionLost = uint8(min(lostNow<<8/interval, 255))
	}
	rep.TotalLost = int32(lost)
	rep.HighestSequence = uint32(r.highest - r.cycles)
	rep.Jitter = uint32(r.jitter >> 4)
	return rep, true
}

// Highest returns the highest extended sequence number so far, 0 before the first packet.
func (r *Reception) Highest() uint64 { return r.highest }

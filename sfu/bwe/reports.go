package bwe

import (
	"math"
	"time"
)

const (
	reportsQueue    = 30 * time.Millisecond  // of round trip above its least: the link isn't full
	reportsFull     = 60 * time.Millisecond  // with loss: it is
	reportsLong     = 120 * time.Millisecond // even without, in two reports running
	reportsExcess   = 0.05                   // loss above the usual, beyond the noise of the sample
	reportsUsual    = 0.15                   // more than this isn't taken for the usual
	reportsGrowth   = 1.08                   // per second
	reportsFollow   = 1.5                    // per second, up to what the receiver estimates
	rembLife        = 6 * time.Second
	reportsSilence  = 6 * time.Second
	searchSoonest   = 4 * time.Second // after congestion, then twice as long each time
	searchLatest    = time.Minute
	reportsInterval = 5 * time.Second
)

// Reports is the estimate for a subscriber without transport-wide feedback: from the loss and the round trip of receiver
// reports (RFC 3550 section 6.4.1), and from REMB where it sends some (draft-alvestrand-rmcat-remb-03), which is the
// receiver's own estimate by delay and then leads.
//
// Loss that comes with a longer round trip, or well above the usual, is congestion: the target falls to what arrived of
// what was sent. Other loss, up to a quarter, is the link's. Growth is 8 % a second, no further than half above what is
// sent, so that a source with large steps needs Padding to climb; after congestion it is offered again later and later.
// Beyond a quarter the target halves by the loss as in draft-ietf-rmcat-gcc-02 section 6, but not below what TCP would
// have (RFC 5348 section 3.1).
type Reports struct {
	cfg     Config
	now     time.Duration
	bits    float64
	want    float64
	sending meter
	packets int // since the report before

	base      baseline
	rtt       time.Duration
	queue     time.Duration
	long      int // reports running with a long round trip
	usual     float64
	fraction  float64
	state     State
	any       bool
	heard     time.Duration // latest report
	last      time.Duration // latest report that was used for growth
	remb      float64
	rembAt    time.Duration
	congested time.Duration
	ever      bool // congested ever
	searching bool
	patience  time.Duration
	limited   bool
}

// NewReports returns an estimator that knows nothing yet; now is server time. Config.History is not used.
func NewReports(cfg Config, now time.Duration) *Reports {
	cfg = cfg.complete()
	return &Reports{
		cfg: cfg, now: now, bits: float64(cfg.Start), heard: now, last: now, patience: searchSoonest,
		sending: newMeter(2*slowWidth, slowSpan), searching: true,
	}
}

// Sent notes a packet that left; only its size and time matter.
func (r *Reports) Sent(p Packet) {
	r.now = max(r.now, p.At)
	if r.packets == 0 && r.now-r.heard > reportsSilence/2 {
		r.heard = r.now // silence counts while something is sent
	}
	r.packets++
	r.sending.add(r.now, min(max(p.Size, 0), maxSize))
}

// Want tells what the allocator would send if it could, in bit/s.
func (r *Reports) Want(bits int64) { r.want = float64(max(bits, 0)) }

// Report takes a receiver report's loss fraction, in 1/256, and the round trip measured by it, 0 if unknown. Of several
// streams, give the reports of the one with the most packets.
func (r *Reports) Report(now time.Duration, fraction uint8, rtt time.Duration) {
	r.now = max(r.now, now)
	p := float64(fraction) / 256
	if rtt > 0 && rtt < 10*time.Second {
		if r.rtt == 0 {
			r.rtt = rtt
		}
		r.rtt += (rtt - r.rtt) / 4
		r.queue = r.base.add(r.now, rtt)
	}
	if r.queue > reportsLong {
		r.long++
	} else {
		r.long = 0
	}
	if !r.any {
		r.any, r.fraction = true, p
	}
	r.fraction += 0.3 * (p - r.fraction)
	passed := min(max(r.now-r.last, 0), reportsInterval)
	r.last, r.heard = r.now, r.now
	packets := r.packets
	r.packets = 0
	sent, _ := r.sending.rate(r.now)
	if sent > 0 {
		r.limited = sent < limitedBelow*r.bits
	}
	noise := 2 * math.Sqrt(p*(1-p)/float64(max(packets, 1)))
	excess := p - r.usual
	switch {
	case r.queue > reportsFull && p > lossNegligible, r.long >= 2, excess > reportsExcess+noise:
		r.decrease(sent, p, excess)
	case p > maxInherent:
		r.state = Overuse
		r.bits = max(r.bits*(1-p/2), min(r.bits, tcpRate(p, r.rtt)))
		r.lower()
	case r.queue <= reportsQueue:
		r.state = Normal
		r.usual = min(r.usual+0.2*(p-r.usual), reportsUsual)
		r.increase(sent, passed)
	default:
		r.state = Normal
	}
	r.bound()
}

// decrease lowers the target to what arrives: of the packets sent, 1-p did; what is usual counts as arrived.
func (r *Reports) decrease(sent, p, excess float64) {
	r.state = Overuse
	to := decreaseFactor * r.bits
	if sent > 0 {
		to = min(to, decreaseFactor*sent*(1-max(excess, 0)))
	}
	if r.queue <= reportsFull {
		// Loss alone: no queue to drain.
		to = r.bits * (1 - max(excess, 0))
		r.usual = min(r.usual+0.1*(p-r.usual), reportsUsual)
	}
	r.bits = min(r.bits, to)
	r.lower()
}

func (r *Reports) lower() {
	if r.ever && r.searching {
		r.patience = min(2*r.patience, searchLatest)
	}
	r.ever, r.congested, r.searching, r.long = true, r.now, false, 0
}

func (r *Reports) increase(sent float64, passed time.Duration) {
	factor := reportsGrowth
	if r.fresh() {
		factor = reportsFollow
	}
	to := r.bits * math.Pow(factor, passed.Seconds())
	if !r.fresh() {
		to = min(to, aboveMeasured*sent+slack)
	}
	r.bits = max(r.bits, to)
}

func (r *Reports) fresh() bool { return r.remb > 0 && r.now-r.rembAt < rembLife }

// REMB takes the receiver's estimate, in bit/s.
func (r *Reports) REMB(now time.Duration, bits int64) {
	r.now = max(r.now, now)
	r.remb = min(max(float64(bits), float64(r.cfg.Min)), float64(r.cfg.Max))
	r.rembAt, r.heard = r.now, r.now
	if r.remb < r.bits {
		if sent, ok := r.sending.rate(r.now); ok && r.remb < 0.9*sent {
			r.lower()
		}
		r.bits = r.remb
	}
	r.bound()
}

func (r *Reports) bound() {
	high := float64(r.cfg.Max)
	if r.fresh() {
		high = min(high, r.remb)
	}
	r.bits = max(min(r.bits, high), float64(r.cfg.Min))
}

// Update lowers the target when no reports come. Call it every 25–100 ms while packets leave.
func (r *Reports) Update(now time.Duration) {
	r.now = max(r.now, now)
	if r.packets > 0 && r.now-r.heard > reportsSilence {
		r.heard += time.Second
		r.bits *= silenceFactor
		r.bound()
	}
	if !r.searching && r.ever && r.now-r.congested > r.patience {
		r.searching = true
	}
	if r.searching && r.ever && r.now-r.congested > 4*r.patience {
		r.patience = searchSoonest
	}
}

// Probe never asks for a cluster: reports can't show what came of one. It makes Reports and [Estimator] exchangeable.
func (r *Reports) Probe() (Probe, bool) { return Probe{}, false }

// maxPadding, in bit/s, is the most that is spent on padding where nothing but the receiver's word says that it arrives.
const maxPadding = 5_000_000

// Estimate returns what is known now.
func (r *Reports) Estimate() Estimate {
	factor := pacingFactor
	if r.ever && r.now-r.congested < drainTime {
		factor = pacingDrain
	}
	e := Estimate{
		Target: int64(r.bits), Pacing: int64(factor * r.bits), State: r.state, Loss: r.fraction, Inherent: r.usual,
		Queue: r.queue, RTT: r.rtt, Limited: r.limited,
	}
	if r.searching && r.want > 1.02*r.bits {
		e.Padding = min(e.Target, int64(r.want), maxPadding)
	}
	return e
}

// tcpRate is the throughput equation of TFRC, in bit/s (RFC 5348 section 3.1, b = 1, t_RTO = 4·R).
func tcpRate(p float64, rtt time.Duration) float64 {
	if rtt <= 0 || p <= 0 {
		return 0
	}
	r := rtt.Seconds()
	return packetBits / (r*math.Sqrt(2*p/3) + 4*r*3*math.Sqrt(3*p/8)*p*(1+32*p*p))
}

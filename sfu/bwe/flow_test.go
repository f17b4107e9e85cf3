package bwe

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// sender is an estimator of either kind.
type sender interface {
	Sent(Packet)
	Want(int64)
	Update(time.Duration)
	Probe() (Probe, bool)
	Estimate() Estimate
}

// source is what a flow sends.
type source interface {
	// frame returns the bytes of the next video frame for this target, and what the source would send if it could.
	frame(now time.Duration, target float64, random *rand.Rand) (bytes int, want float64)
}

// greedy is an encoder that follows the target.
type greedy struct{ min, max float64 }

const framesPerSecond = 30

func (g greedy) frame(_ time.Duration, target float64, random *rand.Rand) (int, float64) {
	rate := min(max(target-audioRate, g.min), g.max)
	return int(rate / framesPerSecond / 8 * (0.8 + 0.4*random.Float64())), g.max + audioRate
}

// layered is simulcast of 150, 500 and 1700 kbit/s, with headers.
type layered struct {
	layer int
	since time.Duration
}

var layerRates = [...]float64{150_000 * 1.066, 500_000 * 1.066, 1_700_000 * 1.066}

// 50 packets of 60 bytes and headers
const (
	voiceSize = 126
	audioRate = 50 * voiceSize * 8
)

func (s *layered) frame(now time.Duration, target float64, random *rand.Rand) (int, float64) {
	best := 0
	for i, r := range layerRates {
		room := 1.0
		if i > s.layer {
			room = 1.05
		}
		if (r+audioRate)*room <= target {
			best = i
		}
	}
	if best > s.layer && now-s.since < 500*milli {
		best = s.layer
	}
	factor := 0.8 + 0.4*random.Float64()
	if best != s.layer {
		s.layer, s.since = best, now
		factor = 4 // keyframe
	}
	return int(layerRates[s.layer] / framesPerSecond / 8 * factor), (layerRates[2] + audioRate) * 1.1
}

// onOff sends from time to time.
type onOff struct {
	source
	on, off time.Duration
}

func (s onOff) frame(now time.Duration, target float64, random *rand.Rand) (int, float64) {
	n, want := s.source.frame(now, target, random)
	if now%(s.on+s.off) >= s.on {
		n = 0
	}
	return n, want
}

// flow is a subscriber: source, estimator and pacer at the server, feedback from the other end.
type flow struct {
	*sim
	out, back    *link
	estimator    sender
	transport    *Estimator // nil when the receiver has no transport-wide feedback
	reports      *Reports
	pacer        Pacer
	source       source
	paused       bool
	stopped      bool
	extra        time.Duration // one-way delay besides the link's
	feedbackLoss float64
	offset       time.Duration // of the receiver's clock
	remb         func(now time.Duration, received float64) int64

	sequence uint16
	video    []int // sizes queued
	videoAt  []time.Duration
	bytes    int
	wake     uint64

	// receiver
	seen       map[uint16]time.Duration
	base, high uint16
	anySeen    bool
	fbCount    uint8
	received   bins
	sentBins   bins
	targets    series
	queues     series
	delays     series // one-way, queueing in ms at the flow's own packets
	rrGot      int
	rrHigh     uint16
	recentGot  int
	runs       int    // of video, sent at one instant each
	frames     int    // queued
	voice      series // one-way, queueing in ms of audio
	feedbacks  int
	probes     int
	check      func(f *flow)
}

func newFlow(s *sim, out, back *link, src source, cfg Config) *flow {
	f := &flow{sim: s, out: out, back: back, source: src, seen: map[uint16]time.Duration{}, offset: 5 * time.Hour}
	f.transport = New(cfg, s.now)
	f.estimator = f.transport
	return f
}

func newReportsFlow(s *sim, out, back *link, src source, cfg Config) *flow {
	f := &flow{sim: s, out: out, back: back, source: src, seen: map[uint16]time.Duration{}}
	f.reports = NewReports(cfg, s.now)
	f.estimator = f.reports
	return f
}

// start begins at a time and stops at another.
func (f *flow) start(at, until time.Duration) {
	f.at(at, func() {
		f.media()
		f.audio()
		f.tick()
		if f.transport != nil {
			f.feedback()
		} else {
			f.report()
		}
	})
	f.at(until, func() { f.stopped = true })
}

func (f *flow) media() {
	if f.stopped {
		return
	}
	target := float64(f.estimator.Estimate().Target)
	n, want := f.source.frame(f.now, target, f.random)
	f.estimator.Want(int64(want))
	if !f.paused {
		for n > 0 {
			size := min(n, payload+overhead)
			f.video, f.videoAt = append(f.video, max(size, overhead+10)), append(f.videoAt, f.now)
			f.bytes += max(size, overhead+10)
			n -= size
		}
		f.frames++
		f.pump()
	}
	// Cameras aren't in step: a millisecond of jitter lets the frames of two flows drift past each other.
	f.after(time.Second/framesPerSecond+time.Duration(f.random.Int64N(int64(2*milli)))-milli, f.media)
}

func (f *flow) audio() {
	if f.stopped {
		return
	}
	if !f.paused {
		f.send(voiceSize, f.pacer.Probing(), false)
	}
	f.after(20*milli, f.audio)
}

func (f *flow) tick() {
	if f.stopped {
		return
	}
	f.estimator.Update(f.now)
	est := f.estimator.Estimate()
	f.pacer.Set(est.Pacing, est.Padding, est.Burst)
	if p, ok := f.estimator.Probe(); ok {
		f.pacer.Start(p)
		f.probes++
		f.pump()
	} else if est.Padding > 0 {
		f.pump()
	}
	f.targets.add(f.now, float64(est.Target))
	f.queues.add(f.now, ms(est.Queue))
	if f.check != nil {
		f.check(f)
	}
	f.after(25*milli, f.tick)
}

// pump does what an egress does with a pacer.
func (f *flow) pump() {
	q := Queue{Packets: len(f.video), Bytes: f.bytes}
	if len(f.video) > 0 {
		q.Oldest = f.now - f.videoAt[0]
	}
	g := f.pacer.Next(f.now, q)
	sent := 0
	for i := 0; i < g.Packets && len(f.video) > 0 && sent < g.Bytes; i++ {
		size := f.video[0]
		f.video, f.videoAt, f.bytes = f.video[1:], f.videoAt[1:], f.bytes-size
		f.send(size, g.Probe, false)
		sent += size
	}
	if sent > 0 {
		f.runs++
	}
	for g.Padding > 0 && len(f.video) == 0 && sent < g.Bytes {
		size := min(max(g.Bytes-sent, 80), 300)
		f.send(size, g.Probe, true)
		sent += size
	}
	f.wake++
	if g.Next > 0 {
		wake := f.wake
		f.at(max(g.Next, f.now+time.Microsecond), func() {
			if wake == f.wake && !f.stopped {
				f.pump()
			}
		})
	}
}

func (f *flow) send(size int, probe uint16, padding bool) {
	sequence := f.sequence
	f.sequence++
	f.pacer.Sent(f.now, size, padding)
	f.estimator.Sent(Packet{Sequence: sequence, Size: size, At: f.now, Probe: probe})
	f.sentBins.add(f.now, size)
	at := f.now
	f.out.send(size, func() {
		f.after(f.extra, func() {
			f.rrGot++
			f.recentGot += size
			f.received.add(f.now, size)
			waited := ms(f.now - at - f.out.delay - f.extra)
			f.delays.add(f.now, waited)
			if size == voiceSize {
				f.voice.add(f.now, waited)
			}
			if !f.anySeen {
				f.anySeen, f.base, f.high = true, sequence, sequence
			}
			if newer(sequence, f.high) {
				f.high = sequence
			}
			f.seen[sequence] = f.now
		})
	})
}

// feedback is what a browser sends: 544 bit take 5 % of what arrives, every 50–250 ms.
func (f *flow) feedback() {
	if f.stopped {
		return
	}
	rate := f.received.rate(max(f.now-500*milli, 0), f.now)
	interval := min(max(time.Duration(544/(0.05*max(rate, 1))*float64(time.Second)), 50*milli), 250*milli)
	if f.anySeen && len(f.seen) > 0 {
		b := f.encode()
		f.feedbacks++
		if f.random.Float64() >= f.feedbackLoss {
			f.back.send(len(b)+60, func() {
				f.after(f.extra, func() {
					if err := f.transport.TransportFeedback(f.now, b); err != nil {
						panic(err)
					}
				})
			})
		}
	}
	f.after(interval, f.feedback)
}

// encode writes the wire format, with status vectors of two-bit symbols.
func (f *flow) encode() []byte {
	count := int(f.high-f.base) + 1
	b := binary.BigEndian.AppendUint16(nil, f.base)
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	var first time.Duration
	for i := range count {
		if at, ok := f.seen[f.base+uint16(i)]; ok {
			first = at + f.offset
			break
		}
	}
	reference := first / (64 * milli)
	b = append(b, byte(reference>>16), byte(reference>>8), byte(reference), f.fbCount)
	f.fbCount++
	last := reference * 64 * milli
	var deltas []byte
	for i := 0; i < count; i += 7 {
		chunk := uint16(0xc000)
		for k := range min(7, count-i) {
			at, ok := f.seen[f.base+uint16(i+k)]
			if !ok {
				continue
			}
			d := (at + f.offset - last) / (250 * time.Microsecond)
			last += d * 250 * time.Microsecond
			if d >= 0 && d < 256 {
				chunk |= 1 << (12 - 2*k)
				deltas = append(deltas, byte(d))
			} else {
				chunk |= 2 << (12 - 2*k)
				deltas = binary.BigEndian.AppendUint16(deltas, uint16(int16(d)))
			}
		}
		b = binary.BigEndian.AppendUint16(b, chunk)
	}
	clear(f.seen)
	f.base = f.high + 1
	return append(b, deltas...)
}

// report is a receiver report every second, and a REMB where the receiver has one.
func (f *flow) report() {
	if f.stopped {
		return
	}
	if f.rrGot > 0 {
		// RFC 3550 section 6.4.1: of the packets expected by the highest sequence number.
		expected := int(f.high - f.rrHigh)
		fraction := uint8(min(max(expected-f.rrGot, 0)*256/max(expected, 1), 255))
		f.rrHigh, f.rrGot = f.high, 0
		received, remb := f.now, int64(0)
		if f.remb != nil {
			remb = f.remb(f.now, float64(f.recentGot*8))
		}
		f.recentGot = 0
		// The round trip that a report shows: a sender report's way there, with the queue, and the report's back.
		there := time.Duration(f.delays.v[len(f.delays.v)-1]*float64(milli)) + f.out.delay + f.extra
		if f.random.Float64() >= f.feedbackLoss {
			f.back.send(100, func() {
				f.after(f.extra, func() {
					f.reports.Report(f.now, fraction, there+f.now-received)
					if remb > 0 {
						f.reports.REMB(f.now, remb)
					}
				})
			})
		}
	}
	f.after(time.Second, f.report)
}

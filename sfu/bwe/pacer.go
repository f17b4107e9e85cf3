package bwe

import "time"

const (
	paceTick     = 5 * time.Millisecond
	paceSegments = 16 // per tick at most
	paceBurst    = 10 * time.Millisecond
	paceQueue    = 250 * time.Millisecond
	paceLeast    = 50_000    // bit/s, whatever the estimate says
	paceBytes    = 1200      // of a typical packet
	paceDebt     = 200_000   // bytes, so that nothing is owed for ever
	paceHurry    = 4         // times the rate, at most …
	paceLeastTop = 2_000_000 // … but this, in bit/s
)

// Queue is what waits at the egress besides audio.
type Queue struct {
	Packets, Bytes int
	// Oldest is how long its first packet has waited.
	Oldest time.Duration
}

// Grant says what may leave now.
type Grant struct {
	// Packets from the queue, and Bytes: the packet that reaches Bytes is the last. 0 Packets: none now.
	Packets, Bytes int
	// Padding bytes to add when the queue is empty before Bytes is reached; 0 for none.
	Padding int
	// Probe is the cluster that all packets of this grant belong to, 0 for none.
	Probe uint16
	// Next is when to ask again, in server time; 0 means not before something is queued.
	Next time.Duration
}

// Pacer spreads a subscriber's packets over time: a leaky bucket whose level is the debt in bytes. It holds no packets.
// The egress asks [Pacer.Next] when something is queued and when a grant says so, sends within the grant, and tells each
// packet by [Pacer.Sent]. Audio never waits: it is told when it leaves, and counts.
//
// A burst is at most 10 ms of the rate (5 ms of a hurried one), and 16 packets in 5 ms: what one run of segmentation offload takes
// and a router's buffer swallows. Where the path has room, all that waits leaves at once, as long as it is one burst of
// [Estimate] (burst.go): a frame in one piece, without a timer, costs a fraction of what it does in several. A keyframe is more
// than that: it is paced from its first packet to its last, and what comes behind it too. When the queue would keep a packet
// waiting for more than 250 ms, the rate rises to what empties it by then, up to four times what it is, at least 2 Mbit/s: who
// queues more than the link takes must shed it elsewhere.
type Pacer struct {
	rate    float64 // bit/s
	padding float64 // bit/s in all, when there is less media
	whole   float64 // bytes that may leave at once when nothing is left behind
	waits   int     // bytes that were queued at the latest grant, less what has left since
	behind  bool    // they were too many to leave at once, and aren't gone yet
	now     time.Duration
	debt    float64 // bytes; packets leave while it is below the burst
	padDebt float64
	hurry   float64 // bit/s that empties the queue in time, kept until it is empty

	tick    time.Duration // when the current one began
	inTick  int
	started bool

	probe   Probe
	probing bool
	begun   time.Duration // when the cluster was first looked at, -1 before
	since   time.Duration // first packet of the cluster
	bytes   int
	packets int
}

// Set changes the rate and the padding rate, both in bit/s, and what may leave at once, in bytes: Pacing, Padding and Burst of an
// [Estimate].
func (p *Pacer) Set(rate, padding int64, burst int) {
	p.rate, p.padding = float64(max(rate, paceLeast)), float64(max(padding, 0))
	p.whole = float64(min(max(burst, 0), paceSegments*paceBytes))
}

// Start begins a cluster. One that is under way ends.
func (p *Pacer) Start(probe Probe) {
	if probe.Rate <= 0 || probe.ID == 0 {
		return
	}
	p.probe, p.probing, p.begun, p.bytes, p.packets = probe, true, -1, 0, 0
}

// Probing returns the ID of the cluster under way, which every packet that leaves belongs to, audio included; 0 if none.
func (p *Pacer) Probing() uint16 {
	if p.probing {
		return p.probe.ID
	}
	return 0
}

func (p *Pacer) advance(now time.Duration) {
	if !p.started {
		p.started, p.now, p.tick = true, now, now-paceTick
		p.rate = max(p.rate, paceLeast)
	}
	if now <= p.now {
		return
	}
	passed := min(now-p.now, 10*time.Second).Seconds()
	p.now = now
	p.debt = max(0, p.debt-max(p.rate, p.hurry)/8*passed)
	p.padDebt = max(0, p.padDebt-p.padding/8*passed)
}

// Next says what may leave at now.
func (p *Pacer) Next(now time.Duration, q Queue) Grant {
	p.advance(now)
	p.behind = p.behind && p.waits > 0
	if p.waits = q.Bytes; q.Packets <= 0 {
		p.hurry = 0
	} else {
		p.hurry = max(p.hurry, float64(q.Bytes*8)/max(paceQueue-q.Oldest, paceTick).Seconds())
		p.hurry = min(p.hurry, max(paceHurry*p.rate, paceLeastTop))
	}
	if p.probing && p.begun < 0 {
		p.begun = p.now
	}
	if p.probing = p.probing && p.now-p.begun < probeTimeout; p.probing {
		return p.cluster(q)
	}
	rate := max(p.rate, p.hurry)
	tick := min(paceTick, time.Duration(paceSegments*paceBytes*8/rate*float64(time.Second)))
	if p.now-p.tick >= tick {
		p.tick, p.inTick = p.now, 0
	}
	if q.Packets <= 0 {
		return p.pad(tick)
	}
	if p.inTick >= paceSegments {
		return Grant{Next: p.tick + tick}
	}
	burst := max(rate/8*tick.Seconds(), min(p.rate/8*paceBurst.Seconds(), paceSegments*paceBytes), 1)
	if all := p.debt + float64(q.Bytes); p.behind || all > p.whole {
		p.behind = p.behind || all > burst
	} else {
		burst = max(burst, p.whole)
	}
	if p.debt >= burst {
		// Ask again when half the burst is free, so that packets leave in runs.
		return Grant{Next: p.now + after(p.debt-burst/2, rate)}
	}
	g := Grant{Packets: paceSegments - p.inTick, Bytes: max(int(burst-p.debt), 1)}
	g.Next = p.now + max(after(p.debt+min(float64(g.Bytes), float64(q.Bytes))-burst/2, rate), time.Millisecond)
	return g
}

// pad keeps the rate up with padding while nothing is queued.
func (p *Pacer) pad(tick time.Duration) Grant {
	if p.padding <= 0 {
		return Grant{}
	}
	burst := max(p.padding/8*tick.Seconds(), 1)
	if p.padDebt >= burst || p.inTick >= paceSegments {
		return Grant{Next: p.now + max(after(p.padDebt-burst/2, p.padding), time.Millisecond)}
	}
	n := max(int(burst-p.padDebt), 1)
	return Grant{Padding: n, Bytes: n, Next: p.now + tick}
}

// cluster grants what is due of the probe by now.
func (p *Pacer) cluster(q Queue) Grant {
	if p.packets == 0 {
		p.since = p.now
	}
	rate := float64(p.probe.Rate) / 8
	due := rate*(p.now-p.since).Seconds() - float64(p.bytes)
	if due < 0 {
		return Grant{Probe: p.probe.ID, Next: p.now + max(time.Duration(-due/rate*float64(time.Second)), time.Microsecond)}
	}
	// A packet leaves when what came before it has had its time: as small as it takes for the least number of packets, and
	// no more at once than a packet or a millisecond's worth, or the last ones would seem to have met a queue.
	n := min(p.probe.Bytes/max(p.probe.Packets, 1), max(paceBytes, int(rate/1000)))
	n = min(max(int(due), n, 1), paceSegments*paceBytes)
	g := Grant{Probe: p.probe.ID, Bytes: n, Padding: n}
	expected := float64(n)
	if q.Packets > 0 {
		g.Packets = max(1, min(n/paceBytes, paceSegments))
		expected = min(expected, float64(g.Packets)*float64(q.Bytes)/float64(q.Packets))
	}
	g.Next = p.now + max(time.Duration(expected/rate*float64(time.Second)), time.Microsecond)
	return g
}

// Sent tells that a packet left, of audio, of the queue or of padding.
func (p *Pacer) Sent(now time.Duration, bytes int, padding bool) {
	p.left(now, bytes, padding)
	if p.probing {
		if p.packets == 0 {
			p.since = p.now
		}
		p.packets++
		p.bytes += bytes
		if p.packets >= p.probe.Packets && p.bytes >= p.probe.Bytes {
			p.probing = false
		}
	}
}

// Unseen tells that a packet left of which no feedback will tell, so that it is no part of a cluster.
func (p *Pacer) Unseen(now time.Duration, bytes int, padding bool) { p.left(now, bytes, padding) }

func (p *Pacer) left(now time.Duration, bytes int, padding bool) {
	p.advance(now)
	if !padding {
		p.waits -= bytes
		p.debt = min(p.debt+float64(bytes), paceDebt) // media doesn't wait for padding that went before it
	}
	p.padDebt = min(p.padDebt+float64(bytes), paceDebt)
	p.inTick++
}

func after(bytes, rate float64) time.Duration {
	return time.Duration(max(bytes, 0) * 8 / rate * float64(time.Second))
}

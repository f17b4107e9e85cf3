package sfu

import (
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"anytime/sfu/codec"
	"anytime/sfu/udp"

	"github.com/pion/dtls/v3"
)

// BenchmarkFlatness is the processor time per packet handled, those that come and those that leave, of streams of a low rate: each
// speaker sends a small packet every 20 ms (audio) or 33 ms (video, paced), in simulated time. A packet is taken from the mux on as
// it came from the network, and followed until it has left, protected, for each subscriber. What is behind the port is either
// nothing, so that our own work is seen alone ("counted"), or the kernel with sockets that nobody reads ("udp").
//
// Everybody has a peer connection with keys, an egress and histories of its own, and who is in which room and where in the fan-out
// doesn't follow the order in memory. One room of 1,000 people and 200 rooms of 5 handle the same number of packets.
//
// A loop leaves a small room in the processor's nearest cache, from which at such a rate a server's other work would have driven it.
// "cold" lets a walk over other memory, which isn't counted, go ahead of each round of packets. That is what a server sees.
func BenchmarkFlatness(b *testing.B) {
	for _, kind := range []Kind{Audio, Video} {
		for _, way := range []string{"counted", "udp"} {
			for _, cold := range []bool{false, true} {
				for _, x := range []struct{ rooms, people int }{{1, 11}, {1, 101}, {1, 1001}, {1, 1000}, {200, 5}} {
					b.Run(fmt.Sprintf("%v/%s/cold=%v/rooms=%d/people=%d", kind, way, cold, x.rooms, x.people), func(b *testing.B) {
						benchmarkFlatness(newTown(b, kind, way == "udp", x.rooms, x.people), cold)
					})
				}
			}
		}
	}
}

// town is rooms of people, of whom one each speaks.
type town struct {
	*hall
	b        *testing.B
	kind     Kind
	mux      *mux
	intake   udp.Reader
	nobodies []netip.AddrPort // take what leaves; none where it is counted alone
	clock    atomic.Int64     // simulated, of all
	speakers []*speaker
	sinks    []*turnstile
}

// speaker is a publisher as the network shows it.
type speaker struct {
	feed
	address netip.AddrPort
	client  *sealer
	payload []byte
	step    uint32   // of the timestamp, between packets
	sealed  [][]byte // what is to come
}

// turnstile counts what leaves for one subscriber.
type turnstile struct {
	packets atomic.Int64
	egress  *egress
}

func newTown(b *testing.B, kind Kind, sends bool, rooms, people int) *town {
	w := &town{hall: newHall(b), b: b, kind: kind}
	w.clock.Store(int64(time.Second))
	w.server.cfg.StartBitrate = 100_000_000
	w.employ(runtime.GOMAXPROCS(0) - 1)
	w.mux = newMux(w.time)
	w.intake = w.mux.reader(0)
	if sends {
		port, err := udp.Listen(udp.Config{Addr: "127.0.0.1:0", Buffer: socketBuffer, Log: slog.New(slog.DiscardHandler)})
		must(b, err)
		b.Cleanup(func() { must(b, port.Close()) })
		w.mux.port = port
		// One for each of ours: cores don't meet in them, as they don't on a network, and the receivers' side costs the same for all.
		for range port.Sockets() {
			nobody, err := net.ListenPacket("udp4", "127.0.0.1:0")
			must(b, err)
			b.Cleanup(func() { must(b, nobody.Close()) })
			w.nobodies = append(w.nobodies, addrPort(nobody.LocalAddr()))
		}
	}
	// Peer connections are made in one order, and subscribe in another.
	names := make([]*plane, rooms*people)
	for i := range names {
		names[i] = w.connect(i, nil)
	}
	random := rand.New(rand.NewPCG(1, 2))
	order := random.Perm(len(names))
	publications := make([]*publication, rooms)
	for n := range rooms {
		i := order[n]
		w.room = newRoom(fmt.Sprint("room ", n), Voices{})
		publications[n] = w.speak(names[i], i)
	}
	for n, i := range order[rooms:] {
		pub := publications[n%rooms]
		w.room = pub.owner.room
		w.listen(names[i], pub, i)
	}
	for range 100 { // histories and pools are filled
		w.prepare(1)
		w.round(0)
	}
	return w
}

func (w *town) time() time.Duration { return time.Duration(w.clock.Load()) }

// keysOfTheirOwn are what a handshake would give.
func (w *town) keysOfTheirOwn() masterKeys {
	k := masterKeys{make([]byte, 16), make([]byte, 12)}
	crand.Read(k.key)
	crand.Read(k.salt)
	return k
}

// connect makes a peer connection, to which a relay leads where nothing is sent.
func (w *town) connect(i int, up ascending) *plane {
	p := newPlane(w.mux, up)
	seal, err := newSealer(dtls.SRTP_AEAD_AES_128_GCM, w.keysOfTheirOwn())
	must(w.b, err)
	p.seal.Store(seal)
	if len(w.nobodies) > 0 {
		p.way.Store(&way{to: w.nobodies[p.sends()]})
	}
	p.prove(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + i>>8), byte(i)}), uint16(20000+i*7)))
	return p
}

// speak makes the peer connection that of a publisher.
func (w *town) speak(p *plane, i int) *publication {
	who, in, _ := w.newcomer(fmt.Sprint("PA_", i))
	in.alarm.stop() // real time isn't the packets'
	t := &transport{p: who, in: in, plane: p}
	who.transports[Publisher].Store(t)
	p.up = t
	theirs := w.keysOfTheirOwn()
	var err error
	p.open, err = newOpener(dtls.SRTP_AEAD_AES_128_GCM, theirs)
	must(w.b, err)
	s := &speaker{feed: feed{ssrc: 7, mid: "0"}, address: p.addresses[0]}
	s.client, err = newSealer(dtls.SRTP_AEAD_AES_128_GCM, theirs)
	must(w.b, err)
	line := audioSection("0")
	s.pt, s.payload, s.step = 111, make([]byte, 80), 960
	if w.kind == Video {
		line = videoSection("0")
		s.pt, s.payload, s.step = 96, s.vp8(true, true)[:200], 2970
	}
	w.speakers = append(w.speakers, s)
	return w.announce(who, in, PublicationConfig{ID: fmt.Sprint("TR_", i), CID: "cid-0", Kind: w.kind}, line)
}

// listen makes the peer connection that of a subscriber.
func (w *town) listen(p *plane, pub *publication, i int) {
	who, to := w.participant(fmt.Sprint("PA_", i)), &turnstile{}
	w.room.add(who)
	w.b.Cleanup(who.reports.stop)
	if w.nobodies == nil {
		relay := &inside{mux: w.mux, receiver: func(_ netip.AddrPort, run udp.Run) { to.packets.Add(int64(run.Datagrams())) }}
		relay.choose(addressOf(1))
		p.way.Store(&way{inside: relay})
	}
	e := newEgress(&planeSink{plane: p}, w.time)
	if e.owner, to.egress = who, e; w.nobodies != nil {
		e.socket = p.sends()
	}
	w.b.Cleanup(e.close)
	line := audioSection("0")
	if w.kind == Video {
		line = pacedSection(true)
	}
	s := &subscription{p: who, pub: pub, room: w.room, settings: SubscriptionSettings{Quality: 2}}
	pub.want(s)
	must(w.b, s.establish(e, &line, uint32(1000+2*i), uint32(1001+2*i)))
	s.out.announced = true
	e.start()
	if e.control != nil {
		e.control.alarm.stop() // real time would find that no feedback comes
	}
	pub.feed(s)
	w.sinks = append(w.sinks, to)
}

// prepare seals what everybody will send in so many rounds.
func (w *town) prepare(rounds int) {
	for _, s := range w.speakers {
		for n := range rounds {
			if n == len(s.sealed) {
				s.sealed = append(s.sealed, make([]byte, 0, 512))
			}
			plain := s.packet(s.payload, w.kind == Video)
			s.timestamp += s.step
			s.picture++
			if w.kind == Video {
				s.payload[2], s.payload[3], s.payload[4], s.payload[6] = 0x80|byte(s.picture>>8)&0x7f, byte(s.picture), byte(s.picture), 1
			}
			h, err := codec.ParseHeader(plain)
			must(w.b, err)
			b := append(s.sealed[n][:0], plain...)
			s.sealed[n], err = s.client.seal(b, int(h.PayloadStart))
			must(w.b, err)
		}
	}
}

// round lets everybody send the packet of that number.
func (w *town) round(n int) {
	now := time.Duration(w.clock.Add(int64(time.Duration(w.speakers[0].step) * time.Second / map[Kind]time.Duration{Audio: 48000, Video: 90000}[w.kind])))
	for _, s := range w.speakers {
		w.intake.Receive(s.sealed[n], s.address, now)
		w.intake.Rest(now)
	}
}

// left is how many packets have left.
func (w *town) left() (n int64) {
	for _, to := range w.sinks {
		if n += to.packets.Load(); w.nobodies != nil {
			n += int64(to.egress.snapshot().Packets)
		}
	}
	return n
}

// elsewhere is more memory than the nearer caches hold.
var elsewhere [8 << 20]byte

func benchmarkFlatness(w *town, cold bool) {
	b := w.b
	batch := max(400/len(w.speakers), 1)
	if cold {
		batch = 1
	}
	w.prepare(batch)
	var cost time.Duration
	before := w.left()
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		rounds := min(batch, b.N-done)
		w.prepare(rounds)
		if cold {
			for i := 0; i < len(elsewhere); i += 64 {
				elsewhere[i]++
			}
		}
		at := used(b)
		for n := range rounds {
			w.round(n)
		}
		cost += used(b) - at
		done += rounds
	}
	b.StopTimer()
	left := w.left() - before
	if want := int64(b.N * len(w.sinks)); left != want {
		b.Errorf("%d packets left, want %d", left, want)
	}
	b.ReportMetric(float64(cost.Nanoseconds())/float64(left+int64(b.N*len(w.speakers))), "cpu-ns/packet")
}

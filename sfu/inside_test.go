package sfu

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"anytime/sfu/udp"

	"github.com/pion/stun/v4"
)

// relayed is what a relay in this process was given.
type relayed struct {
	from netip.AddrPort
	to   netip.AddrPort
	b    []byte
	size int
}

// ours returns one of our own addresses.
func ours(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 7882)
}

// insideOf attaches a relay at an address to a mux.
func insideOf(t testing.TB, m *mux, relay netip.AddrPort) (send func([]byte, netip.AddrPort), detach func(), got func() []relayed) {
	t.Helper()
	var list []relayed
	send, detach, err := (&Server{mux: m}).Inside(relay, func(from netip.AddrPort, run udp.Run) {
		list = append(list, relayed{from, run.To, bytes.Clone(run.Buffer), run.Size})
	})
	must(t, err)
	return send, detach, func() []relayed {
		was := list
		list = nil
		return was
	}
}

// transactionOf makes a message the answer to a request.
func transactionOf(request []byte) stun.Setter {
	var id [12]byte
	copy(id[:], request[8:])
	return stun.NewTransactionIDSetter(id)
}

// TestInsideAnswersComeFromWhereItWasAsked: a client that pings several of our addresses gets each answer from the right one,
// whichever was nominated.
func TestInsideAnswersComeFromWhereItWasAsked(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	relay := addressOf(9)
	send, detach, got := insideOf(t, m, relay)
	defer detach()
	var requests [][]byte
	for i := range 3 {
		requests = append(requests, checkFor(t, "us"))
		send(bytes.Clone(requests[i]), ours(i))
	}
	if p.waiting() != 3 {
		t.Fatalf("%d checks came, want 3", p.waiting())
	}
	for _, class := range []stun.MessageType{stun.BindingSuccess, stun.BindingError} {
		for _, i := range []int{2, 0, 1} {
			answer, err := stun.Build(transactionOf(requests[i]), class)
			must(t, err)
			_, err = p.agent.WriteToAddrPort(answer.Raw, relay)
			must(t, err)
			if list := got(); len(list) != 1 || list[0].from != ours(i) || list[0].to != relay || !bytes.Equal(list[0].b, answer.Raw) {
				t.Errorf("%v to what went to %v came as %v", class, ours(i), list)
			}
		}
	}
	if sent := w.took(); len(sent) != 0 {
		t.Errorf("%d packets left over the socket", len(sent))
	}
	// Many questions later the old ones are forgotten; what isn't known comes from where the client has settled.
	for range 2 * len(inside{}.asked) {
		send(checkFor(t, "us"), ours(1))
	}
	old, err := stun.Build(transactionOf(requests[2]), stun.BindingSuccess)
	must(t, err)
	_, err = p.agent.WriteToAddrPort(old.Raw, relay)
	must(t, err)
	if list := got(); len(list) != 1 || list[0].from != ours(0) {
		t.Errorf("an answer to something forgotten came as %v", list)
	}
}

// TestInsideNomination: media, DTLS and our own checks come from the address that the client nominated last, before that from the
// first that it asked.
func TestInsideNomination(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	relay := addressOf(9)
	send, detach, got := insideOf(t, m, relay)
	defer detach()
	p.answers(t, relay)
	p.lead(relay, false)
	if len(got()) != 0 || p.send([]udp.Run{{Buffer: []byte{0x80}}}) != 0 {
		t.Error("something is sent before the client has asked any of our addresses")
	}
	nominate := func(to netip.AddrPort) {
		send(stunOf(t, stun.BindingRequest, stun.NewUsername("us:them"), stun.RawAttribute{Type: stun.AttrUseCandidate},
			stun.NewShortTermIntegrity("password")), to)
	}
	expect := func(what string, want netip.AddrPort) {
		t.Helper()
		for _, b := range [][]byte{aDTLS, stunOf(t, stun.BindingRequest)} {
			_, err := p.agent.WriteToAddrPort(b, relay)
			must(t, err)
		}
		if n := p.send([]udp.Run{{Buffer: []byte{0x80, 1, 2, 3, 4}, Size: 2}, {Buffer: []byte{0x80}}}); n != 4 {
			t.Errorf("%s: %d packets sent, want 4", what, n)
		}
		list := got()
		if len(list) != 4 || slices.ContainsFunc(list, func(r relayed) bool { return r.from != want || r.to != relay }) || list[2].size != 2 {
			t.Errorf("%s: given %v, want all from %v", what, list, want)
		}
	}
	send(checkFor(t, "us"), ours(1))
	expect("asked", ours(1))
	send(checkFor(t, "us"), ours(2))
	expect("asked elsewhere too", ours(1))
	nominate(ours(2))
	expect("nominated", ours(2))
	send(checkFor(t, "us"), ours(1))
	expect("asked again", ours(2))
	nominate(ours(3))
	expect("nominated anew", ours(3))
	before := p.waiting()
	send([]byte{0, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, ours(4)) // malformed
	if p.waiting() != before {
		t.Error("a malformed message came through")
	}
	expect("malformed", ours(3))
}

// TestInsideMedia: media from a relay passes once its address is proven, and a relay is nobody else's way in.
func TestInsideMedia(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	relay := addressOf(9)
	send, detach, _ := insideOf(t, m, relay)
	defer detach()
	p.up.gathers = true
	if send(p.packet(t), ours(1)); len(p.up.media) != 0 {
		t.Error("media from an unproven relay")
	}
	p.answers(t, relay)
	if send(p.packet(t), ours(1)); len(p.up.media) != 1 || p.up.rests != 2 { // one of them as the keys came
		t.Errorf("%d packets, %d rests", len(p.up.media), p.up.rests)
	}
	other, detachOther, _ := insideOf(t, m, addressOf(8))
	defer detachOther()
	if other(p.packet(t), ours(1)); len(p.up.media) != 1 {
		t.Error("media from another relay")
	}
}

func TestInsideDetach(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	relay := addressOf(9)
	s := &Server{mux: m}
	entered, release := make(chan struct{}), make(chan struct{})
	var given, ended atomic.Int32
	send, detach, err := s.Inside(relay, func(netip.AddrPort, udp.Run) {
		if given.Add(1) == 1 {
			close(entered)
			<-release
		}
		ended.Add(1)
	})
	must(t, err)
	if _, _, err := s.Inside(relay, func(netip.AddrPort, udp.Run) {}); err == nil {
		t.Error("an address is given twice")
	}
	send(checkFor(t, "us"), ours(1))
	p.answers(t, netip.AddrPortFrom(relay.Addr(), relay.Port()+1)) // over the socket
	if given.Load() != 0 || len(w.took()) != 1 {
		t.Error("what is for another port of the host goes to the relay")
	}
	p.lead(relay, false)
	delivered, detached := make(chan struct{}), make(chan struct{})
	go func() {
		p.send([]udp.Run{{Buffer: []byte{0x80}}})
		close(delivered)
	}()
	<-entered
	i := m.insides.at(relay)
	go func() {
		detach()
		close(detached)
	}()
	for i.mu.TryRLock() { // until detach waits for the lock
		i.mu.RUnlock()
		runtime.Gosched()
	}
	select {
	case <-detached:
		t.Error("detach didn't wait for deliver")
	default:
	}
	close(release)
	<-detached
	if ended.Load() != 1 {
		t.Error("deliver hasn't returned")
	}
	<-delivered

	waiting := p.waiting()
	send(checkFor(t, "us"), ours(1))
	if p.waiting() != waiting {
		t.Error("something came in after detach")
	}
	if n := p.send([]udp.Run{{Buffer: []byte{0x80}}}); n != 0 || given.Load() != 1 {
		t.Errorf("%d packets were sent after detach, %d given", n, given.Load())
	}
	detach() // again
	if m.at(relay) != nil {
		t.Error("the relay's address leads somewhere still")
	}
	if err := m.write(checkFor(t, "us"), relay); err != nil || len(w.took()) != 0 {
		t.Errorf("what was to go to the relay went elsewhere, or %v", err)
	}
	_, detach, err = s.Inside(relay, func(netip.AddrPort, udp.Run) {})
	must(t, err)
	detach()
}

func TestInsideMakesNoGarbage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	p.up.silent = true
	relay := addressOf(9)
	given := 0
	send, detach, err := (&Server{mux: m}).Inside(relay, func(_ netip.AddrPort, run udp.Run) { given += run.Datagrams() })
	must(t, err)
	defer detach()
	send(checkFor(t, "us"), ours(1))
	p.answers(t, relay)
	p.lead(relay, false)
	to, b, sequence := ours(1), make([]byte, 1200, maxSegment), uint16(0)
	b[0], b[1] = 0x80, 96
	runs := [2]udp.Run{{Buffer: make([]byte, 3600), Size: 1200}, {Buffer: make([]byte, 100)}}
	if n := testing.AllocsPerRun(1000, func() {
		sequence++
		binary.BigEndian.PutUint16(b[2:], sequence)
		packet, err := p.client.seal(b[:1200], 12)
		must(t, err)
		send(packet, to)
		p.send(runs[:])
	}); n != 0 {
		t.Errorf("%v allocations for a packet in and four out", n)
	}
	if p.up.packets != 1001 || given != 1+4*1001 {
		t.Errorf("%d packets came in, %d went out", p.up.packets, given)
	}
}

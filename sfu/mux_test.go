package sfu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/sfu/udp"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
)

// muxWire is a conn that keeps what is sent; nothing comes in.
type muxWire struct {
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	sent []sentDatagram
}

type sentDatagram struct {
	to netip.AddrPort
	b  []byte
}

func (w *muxWire) ReadFrom([]byte) (int, net.Addr, error) {
	<-w.closed
	return 0, nil, net.ErrClosed
}

func (w *muxWire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, sentDatagram{addrPort(to), bytes.Clone(b)})
	return len(b), nil
}

// took returns what was sent since the last time.
func (w *muxWire) took() []sentDatagram {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func (w *muxWire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (w *muxWire) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:7882"))
}
func (w *muxWire) SetDeadline(time.Time) error      { return nil }
func (w *muxWire) SetReadDeadline(time.Time) error  { return nil }
func (w *muxWire) SetWriteDeadline(time.Time) error { return nil }

// wiredMux is a mux on a wire.
func wiredMux(t testing.TB) (*mux, *muxWire) {
	w := &muxWire{closed: make(chan struct{})}
	m := newMux(func() time.Duration { return time.Second })
	m.port = udp.Over(w, udp.Config{Clock: m.clock, Reader: m.reader, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { must(t, m.Close()) })
	return m, w
}

// upper keeps what a plane hands up.
type upper struct {
	media, control   [][]byte
	packets          int
	rests            int
	revivals, floods int
	gathers          bool
	silent           bool // keep nothing
}

func (u *upper) rtp(b []byte, _ time.Duration) bool {
	u.packets++
	if !u.silent {
		u.media = append(u.media, bytes.Clone(b))
	}
	return u.gathers
}
func (u *upper) rest(time.Duration)             { u.rests++ }
func (u *upper) rtcp(b []byte, _ time.Duration) { u.control = append(u.control, bytes.Clone(b)) }
func (u *upper) revived()                       { u.revivals++ }
func (u *upper) flooded(error)                  { u.floods++ }

// muxPeer is a peer connection under test: its plane, what its agent reads and writes, and what its client seals with.
type muxPeer struct {
	*plane
	up      *upper
	agent   *pionConn
	client  *sealer
	control *srtp.Context // the client's RTCP
	next    uint16
	shaken  atomic.Bool // the handshake is over
}

func newMuxPeer(t testing.TB, m *mux, fragment string) *muxPeer {
	t.Helper()
	up := &upper{}
	p := &muxPeer{plane: newPlane(m, up), up: up}
	p.agent = p.conn(t, fragment)
	// The client of the handshake is the client.
	keys := &handshakeKeys{}
	for _, k := range []*handshakeKeys{&p.keys, keys} {
		_, err := k.Write([]byte("CLIENT_RANDOM " + strings.Repeat("01", 32) + " " + strings.Repeat(fmt.Sprintf("%02x", len(fragment)), 48)))
		must(t, err)
		k.received(serverHello(t, 1, dtls.SRTP_AEAD_AES_128_GCM))
	}
	p.keys.serves = true
	profile, ours, _, err := keys.derive()
	must(t, err)
	p.client, err = newSealer(profile, ours)
	must(t, err)
	p.control, err = srtp.CreateContext(ours.key, ours.salt, srtp.ProtectionProfile(profile))
	must(t, err)
	p.shaken.Store(true)
	p.plane.secured = p.shaken.Load
	t.Cleanup(p.plane.close)
	return p
}

func (p *muxPeer) conn(t testing.TB, fragment string) *pionConn {
	t.Helper()
	c, err := p.GetConn(fragment, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7882})
	must(t, err)
	return c.(*pionConn)
}

// packet is the client's next packet.
func (p *muxPeer) packet(t testing.TB) []byte {
	p.next++
	return sealed(t, p.client, 5, p.next)
}

// waiting returns how many packets wait for the agent.
func (p *muxPeer) waiting() int {
	p.agent.mu.Lock()
	defer p.agent.mu.Unlock()
	return len(p.agent.waiting)
}

// answers lets the agent answer a check from an address.
func (p *muxPeer) answers(t testing.TB, to netip.AddrPort) {
	t.Helper()
	_, err := p.agent.WriteToAddrPort(stunOf(t, stun.BindingSuccess), to)
	must(t, err)
}

func addressOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), uint16(5000+n))
}

var aDTLS = []byte{dtlsHandshakeRecord, 0xfe, 0xfd, 1, 2, 3}

// TestUnprovenAddresses: nothing is taken from an address but checks, until the agent has answered one from there.
func TestUnprovenAddresses(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	tries := func(from netip.AddrPort) (media, handshake bool) {
		packets, waiting := len(p.up.media), p.waiting()
		m.receive(p.packet(t), from, 0)
		m.receive(bytes.Clone(aDTLS), from, 0)
		return len(p.up.media) > packets, p.waiting() > waiting
	}
	refused := func(why string, from netip.AddrPort) {
		t.Helper()
		before := m.stats.unknown.Load()
		if media, handshake := tries(from); media || handshake || m.stats.unknown.Load() != before+2 {
			t.Errorf("%s: media %v, DTLS %v are taken; %d are counted", why, media, handshake, m.stats.unknown.Load()-before)
		}
	}
	refused("at first", addressOf(1))
	m.receive(checkFor(t, "us"), addressOf(1), 0)
	if p.waiting() != 1 {
		t.Fatalf("%d packets wait for the agent, want the check", p.waiting())
	}
	var b [maxControl]byte
	n, from, err := p.agent.ReadFromAddrPort(b[:])
	if err != nil || from != addressOf(1) || kindOf(b[:n]) != kindSTUN {
		t.Fatalf("the agent reads %x from %v: %v", b[:n], from, err)
	}
	refused("checked", addressOf(1))
	_, err = p.agent.WriteToAddrPort(stunOf(t, stun.BindingError), addressOf(1))
	must(t, err)
	refused("refused by the agent", addressOf(1))
	_, err = p.agent.WriteToAddrPort(stunOf(t, stun.BindingRequest), addressOf(1))
	must(t, err)
	refused("asked by the agent", addressOf(1))
	p.answers(t, addressOf(1))
	if sent := w.took(); len(sent) != 3 || sent[2].to != addressOf(1) {
		t.Errorf("sent %v", sent)
	}
	if media, handshake := tries(addressOf(1)); !media || !handshake {
		t.Errorf("proven: media %v, DTLS %v", media, handshake)
	}
	refused("its neighbour", netip.AddrPortFrom(addressOf(1).Addr(), 1))
	refused("another host's same port", netip.AddrPortFrom(addressOf(2).Addr(), addressOf(1).Port()))
	before := m.stats.other.Load()
	for _, b := range [][]byte{nil, {5}, {19}, {64, 1, 2}, {100}, {192, 0}, {255}, {0, 1, 0, 0}} {
		m.receive(b, addressOf(1), 0)
	}
	if n := m.stats.other.Load() - before; n != 8 {
		t.Errorf("%d of 8 strange packets are counted", n)
	}
	control, err := p.control.EncryptRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, 9}, nil)
	must(t, err)
	m.receive(bytes.Clone(control), addressOf(2), 0)
	if len(p.up.control) != 0 {
		t.Error("RTCP is taken from anywhere")
	}
	if m.receive(control, addressOf(1), 0); len(p.up.control) != 1 {
		t.Error("RTCP isn't taken")
	}
}

// TestMappedAddresses: Pion may name an IPv4 address as an IPv6 one.
func TestMappedAddresses(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	p.answers(t, netip.AddrPortFrom(netip.AddrFrom16(addressOf(1).Addr().As16()), addressOf(1).Port()))
	if m.receive(p.packet(t), addressOf(1), 0); len(p.up.media) != 1 {
		t.Error("not proven")
	}
	p.lead(netip.AddrPortFrom(netip.AddrFrom16(addressOf(1).Addr().As16()), addressOf(1).Port()), false)
	w.took()
	p.send([]udp.Run{{Buffer: []byte{1}}})
	if sent := w.took(); len(sent) != 1 || sent[0].to != addressOf(1) {
		t.Errorf("sent %v", sent)
	}
}

// TestAnAddressIsTheLatests: who is proven at an address has it, be it another's so far, and gets it back the same way; but not
// while media comes from there.
func TestAnAddressIsTheLatests(t *testing.T) {
	m, _ := wiredMux(t)
	now := time.Second
	m.clock = func() time.Duration { return now }
	silence := func() { now += speechLife }
	a, b := newMuxPeer(t, m, "us"), newMuxPeer(t, m, "others")
	whose := func() string {
		was := [2]int{len(a.up.media), len(b.up.media)}
		m.receive(a.packet(t), addressOf(1), now)
		m.receive(b.packet(t), addressOf(1), now)
		switch [2]int{len(a.up.media) - was[0], len(b.up.media) - was[1]} {
		case [2]int{1, 0}:
			return "a"
		case [2]int{0, 1}:
			return "b"
		case [2]int{0, 0}:
			return ""
		}
		return "both"
	}
	for step, x := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { a.answers(t, addressOf(1)) }, "a"},
		{func() { m.receive(checkFor(t, "others"), addressOf(1), 0) }, "a"},
		{func() { b.answers(t, addressOf(1)) }, "a"},
		{func() { silence(); b.answers(t, addressOf(1)) }, "b"},
		{func() { silence(); a.answers(t, addressOf(1)) }, "a"},
		{func() { b.plane.close() }, "a"}, // it had it before
		{func() { a.plane.close() }, ""},
	} {
		x.do()
		if got := whose(); got != x.want {
			t.Errorf("step %d: the address is %q's, want %q's", step, got, x.want)
		}
	}
}

func TestAddressesAreBounded(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	p.answers(t, addressOf(0))
	p.lead(addressOf(0), false)
	for i := 1; i < 3*maxAddresses; i++ {
		p.answers(t, addressOf(i))
		p.answers(t, addressOf(i)) // again is nothing new
	}
	var left []int
	for i := range 3 * maxAddresses {
		if m.at(addressOf(i)) == p.plane {
			left = append(left, i)
		}
	}
	want := []int{0}
	for i := 2*maxAddresses + 1; i < 3*maxAddresses; i++ {
		want = append(want, i)
	}
	if !slices.Equal(left, want) {
		t.Errorf("it has the addresses %v, want the one in use and the latest: %v", left, want)
	}
	if bound(m) != maxAddresses {
		t.Errorf("%d addresses are bound", bound(m))
	}
}

// bound is how many addresses lead anywhere.
func bound(m *mux) (n int) {
	for i := range m.addresses {
		n += len(m.addresses[i].planes)
	}
	return n
}

func TestCloseLetsGoOfEverything(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	second := p.conn(t, "us2") // after a restart
	for i := range 5 {
		p.answers(t, addressOf(i))
	}
	p.lead(addressOf(0), false)
	p.plane.close()
	if n := bound(m); n != 0 || len(m.generations) != 0 {
		t.Errorf("%d addresses and %d fragments lead somewhere", n, len(m.generations))
	}
	w.took()
	before := m.stats.unknown.Load()
	m.receive(checkFor(t, "us"), addressOf(1), 0)
	m.receive(checkFor(t, "us2"), addressOf(1), 0)
	m.receive(p.packet(t), addressOf(0), 0)
	if n := m.stats.unknown.Load() - before; n != 3 {
		t.Errorf("%d of 3 packets for who has gone are counted", n)
	}
	if p.media(p.packet(t), addressOf(0), 0); len(p.up.media) != 0 {
		t.Error("handed up after close")
	}
	if n := p.send([]udp.Run{{Buffer: []byte{1}}}); n != 0 || len(w.took()) != 0 {
		t.Errorf("%d packets sent after close", n)
	}
	for _, c := range []*pionConn{p.agent, second} {
		if _, err := c.WriteToAddrPort([]byte{1}, addressOf(0)); err == nil {
			t.Error("an agent's conn writes after close")
		}
		if _, _, err := c.ReadFromAddrPort(make([]byte, 10)); err == nil {
			t.Error("an agent's conn reads after close")
		}
	}
}

// TestGenerations: a restart's credentials take checks beside those before, until these are removed; what names nobody goes to
// the latest.
func TestGenerations(t *testing.T) {
	m, _ := wiredMux(t)
	p, other := newMuxPeer(t, m, "us"), newMuxPeer(t, m, "others")
	again, err := p.GetConn("us", &net.UDPAddr{IP: net.IPv4zero})
	must(t, err)
	if c, ok := again.(unread); !ok || c.pionConn != p.agent {
		t.Error("another conn for the same credentials")
	}
	if _, err := p.GetConn("others", &net.UDPAddr{IP: net.IPv4zero}); err == nil {
		t.Error("another's fragment is given away")
	}
	p.RemoveConnByUfrag("others")
	second := p.conn(t, "us2")
	p.answers(t, addressOf(1))
	expect := func(what string, first, latest int) {
		t.Helper()
		if len(p.agent.waiting) != first || len(second.waiting) != latest || other.waiting() != 0 {
			t.Errorf("%s: %d, %d and %d packets wait, want %d, %d and 0", what, len(p.agent.waiting), len(second.waiting), other.waiting(), first, latest)
		}
	}
	m.receive(checkFor(t, "us"), addressOf(1), 0)
	expect("a check of before", 1, 0)
	m.receive(checkFor(t, "us2"), addressOf(1), 0)
	expect("a check of now", 1, 1)
	m.receive(stunOf(t, stun.BindingSuccess), addressOf(1), 0)
	expect("an answer", 1, 2)
	m.receive(bytes.Clone(aDTLS), addressOf(1), 0)
	expect("DTLS", 1, 3)
	p.RemoveConnByUfrag("us")
	before := m.stats.unknown.Load()
	m.receive(checkFor(t, "us"), addressOf(1), 0)
	if m.stats.unknown.Load() != before+1 {
		t.Error("a removed fragment leads somewhere")
	}
	m.receive(checkFor(t, "others"), addressOf(2), 0)
	if other.waiting() != 1 {
		t.Error("another's fragment was removed")
	}
	if m.owner("us") != nil || m.owner("us2") == nil {
		t.Error("ICE-TCP finds who has gone, or not who is there")
	}
}

// TestAgentsQueuesAreBounded: what doesn't fit is dropped and counted, and nothing waits.
func TestAgentsQueuesAreBounded(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	check := checkFor(t, "us")
	for range waitingPackets + 10 {
		m.receive(check, addressOf(1), 0)
	}
	if p.waiting() != waitingPackets || m.stats.full.Load() != 10 {
		t.Errorf("%d wait, %d were too many", p.waiting(), m.stats.full.Load())
	}
	p.agent.next()
	p.answers(t, addressOf(1))
	long := make([]byte, maxControl+1)
	long[0] = dtlsHandshakeRecord
	if m.receive(long, addressOf(1), 0); p.waiting() != waitingPackets-1 {
		t.Error("a packet that is too long waits")
	}
}

// TestEarlyMedia: what comes before the handshake is over waits, bounded, and is handed up in order when it is.
func TestEarlyMedia(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	p.shaken.Store(false)
	p.answers(t, addressOf(1))
	for range maxEarly + 10 {
		m.receive(p.packet(t), addressOf(1), 0)
	}
	if len(p.up.media) != 0 {
		t.Fatal("handed up before the handshake is over")
	}
	if err := p.report(nil); !errors.Is(err, errNoKeys) {
		t.Errorf("RTCP without keys: %v", err)
	}
	p.shaken.Store(true)
	p.start()
	if len(p.up.media) != maxEarly || p.up.rests != 1 {
		t.Fatalf("%d packets and %d rests, want %d and 1", len(p.up.media), p.up.rests, maxEarly)
	}
	for i, b := range p.up.media {
		if n := binary.BigEndian.Uint16(b[2:]); int(n) != i+1 {
			t.Fatalf("place %d has packet %d", i, n)
		}
	}
}

// TestUnheard: only media over the way in use says that it works.
func TestUnheard(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	p.answers(t, addressOf(1))
	p.answers(t, addressOf(2))
	now := m.clock()
	for step, x := range []struct {
		do   func()
		want time.Duration
	}{
		{func() {}, math.MaxInt64},
		{func() { m.receive(p.packet(t), addressOf(1), now) }, math.MaxInt64}, // there is no way yet
		{func() { p.lead(addressOf(1), false) }, math.MaxInt64},
		{func() { m.receive(p.packet(t), addressOf(1), now-10) }, 10},
		{func() { m.receive(p.packet(t), addressOf(2), now) }, 10},
		{func() { m.receive(make([]byte, 100), addressOf(1), now) }, 10},
		{func() { b := p.packet(t); b[20]++; m.receive(b, addressOf(1), now) }, 10}, // forged
		{func() { p.lead(addressOf(1), false) }, 10},
		{func() { m.receive(p.packet(t), addressOf(1), now-5) }, 5},
		{func() { p.lead(addressOf(2), false) }, math.MaxInt64},
		{func() { m.receive(p.packet(t), addressOf(2), now-3) }, 3},
	} {
		if x.do(); p.unheard() != x.want {
			t.Errorf("step %d: unheard for %v, want %v", step, p.unheard(), x.want)
		}
	}
}

// TestHold: nothing is sent while the peer is gone for long, until there is a sign of life or another way.
func TestHold(t *testing.T) {
	m, w := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	send := func() (n int) {
		p.send([]udp.Run{{Buffer: []byte{1}}})
		return len(w.took())
	}
	p.answers(t, addressOf(1))
	p.lead(addressOf(1), false)
	w.took()
	for step, x := range []struct {
		do   func()
		want int
	}{
		{func() {}, 1},
		{func() { p.hold(true) }, 0},
		{func() { p.hold(true) }, 0},
		{func() { p.hold(false) }, 1},
		{func() { p.hold(true); p.lead(addressOf(2), false) }, 1},
		{func() { p.hold(false) }, 1},
		{func() { p.hold(true); p.plane.close(); p.hold(false) }, 0},
	} {
		if x.do(); send() != x.want {
			t.Errorf("step %d: want %d sent", step, x.want)
		}
	}
}

// TestAConnectionIsChosenBeforeItIsProven: the ICE agent chooses a pair before it answers the check that nominates it; and one
// that the client makes anew from the same address is no other pair to the agent.
func TestAConnectionIsChosenBeforeItIsProven(t *testing.T) {
	m, _ := wiredMux(t)
	p := newMuxPeer(t, m, "us")
	g := p.plane.generation()
	connect := func() *tcpConn {
		c := &tcpConn{from: addressOf(1), done: make(chan struct{})}
		g.mu.Lock()
		g.tcp[addressOf(1)] = c
		g.mu.Unlock()
		return c
	}
	first := connect()
	p.lead(addressOf(1), true)
	if !p.uses(first) {
		t.Fatal("nothing leaves over the connection that was chosen")
	}
	close(first.done)
	second := connect()
	p.proveStream(second)
	if !p.uses(second) || p.proven(first) {
		t.Error("what leaves goes to the connection that has ended")
	}
	close(second.done)
	g.mu.Lock()
	delete(g.tcp, addressOf(1))
	g.mu.Unlock()
	p.gone(second)
	p.plane.mu.Lock()
	p.plane.way.Store(nil) // these have no socket to close
	p.plane.mu.Unlock()
}

// TestFeedbackNeedsNoLockOfTheTransport: it comes with the plane's held, which the transport takes with its own.
func TestFeedbackNeedsNoLockOfTheTransport(t *testing.T) {
	st := newStage(t)
	p := st.participant("PA_a")
	e := newEgress(&recorder{}, st.server.now)
	defer e.close()
	tr := &transport{p: p, target: Subscriber, plane: &plane{}, out: e}
	tr.back = &returns{find: p.subscriptionOf, bitrate: tr.estimated, out: e, stray: func() {}}
	b, err := (&rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: 1, Bitrate: 123_000, SSRCs: []uint32{5}}).Marshal()
	must(t, err)
	tr.mu.Lock()
	tr.rtcp(b, 1)
	tr.mu.Unlock()
	if got := tr.told().Bitrate; got < 122_000 || got > 123_000 {
		t.Errorf("the estimate is %v", got)
	}
}

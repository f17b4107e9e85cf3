package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

const (
	// receiveBuffer is the kernel's buffer asked for, in bytes per socket.
	receiveBuffer = 1 << 20
	// nap is how long media may gather in the kernel, which notes when it came, before it is read: a wake-up for each packet
	// would cost more than all else.
	nap = 8 * time.Millisecond
	// forPion bounds the datagrams that wait for Pion.
	forPion = 128
)

// line is the UDP socket of one peer connection. Its reader keeps RTP to itself and hands everything else to Pion, whose
// packets, RTCP included, it sends.
type line struct {
	*net.UDPConn
	of     *participant
	turn   bool // it leads to a TURN server: what is looked at is inside of what is sent and received
	reader *reader
	take   *receiver

	rest    chan datagram
	closed  chan struct{}
	closing sync.Once

	mu        sync.Mutex
	handshake handshake
	keys      *srtp.Context
	keyError  error
	opened    atomic.Bool // keys are there: no need to watch

	answer   netip.AddrPort // who answered a connectivity check
	answered bool           // the client was told

	deadline time.Duration
	dropped  atomic.Uint32
}

// datagram is one for Pion.
type datagram struct {
	b    []byte
	from netip.AddrPort
}

func newLine(network string, of *participant, turn bool) (*line, error) {
	conn, err := net.ListenUDP(network, &net.UDPAddr{})
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(receiveBuffer) // the kernel may grant less
	l := &line{UDPConn: conn, of: of, turn: turn, rest: make(chan datagram, forPion), closed: make(chan struct{})}
	l.take = newReceiver(of.load.run, of.load.interval, of.description.Load)
	if err = prepare(conn); err == nil {
		l.reader, err = newReader(conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open a socket for media: %w", err)
	}
	return l, nil
}

// read is the line's goroutine: it ends with Close.
func (l *line) read() {
	now := l.of.load.now
	var media int
	deliver := func(datagram []byte, from netip.AddrPort, at time.Duration) {
		b := l.inside(datagram)
		// RFC 7983 §7.
		switch {
		case len(b) == 0:
			l.hand(datagram, from)
		case b[0] >= 128 && b[0] <= 191 && len(b) > 1 && b[1] >= 192 && b[1] <= 223: // RFC 5761 §4
			l.take.rtcp(b, at)
			l.hand(datagram, from)
		case b[0] >= 128 && b[0] <= 191:
			media++
			l.take.rtp(b, at, l.key)
		default:
			l.watch(b, false)
			l.hand(datagram, from)
		}
	}
	for {
		media = 0
		n, err := l.reader.read(now, deliver)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-l.closed:
				return
			default:
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(nap) // the kernel is short of something
		}
		l.dropped.Store(l.reader.dropped)
		if l.opened.Load() {
			l.tell(now())
		}
		if napped && media > 0 && n < batchFull && l.take.settled() {
			time.Sleep(nap)
		}
	}
}

// tell sends the feedback that is due, and sees to it that the reader wakes up for the next.
func (l *line) tell(now time.Duration) {
	if out := l.take.feedback(now); len(out) > 0 {
		l.of.feedback(out)
	}
	if l.deadline-now < feedbackEvery/2 {
		l.deadline = now + feedbackEvery
		_ = l.UDPConn.SetReadDeadline(time.Now().Add(feedbackEvery))
	}
}

func (p *participant) feedback(out []rtcp.Packet) {
	if c := p.client.Load(); c != nil {
		_ = c.SendFeedback(out...) // it closes
	}
}

// inside is what a datagram carries for the peer connection: nothing, where it is between us and a TURN server.
func (l *line) inside(datagram []byte) []byte {
	if l.turn {
		return relayed(datagram)
	}
	return datagram
}

// hand gives a datagram to Pion.
func (l *line) hand(b []byte, from netip.AddrPort) {
	if len(b) == 0 {
		return
	}
	select {
	case l.rest <- datagram{append([]byte(nil), b...), from}:
	default: // Pion is behind by more than it would catch up with
	}
}

// watch looks at the handshake until there are keys.
func (l *line) watch(b []byte, outgoing bool) {
	if l.opened.Load() || b[0] != recordHandshake {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshake.see(b, outgoing)
}

// key returns the context to decrypt with, nil as long as there is none.
func (l *line) key() *srtp.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil && l.keyError == nil {
		l.keys, l.keyError = l.handshake.keyed(&l.of.load.secrets)
		if l.keys != nil {
			l.of.load.profile.Store(l.handshake.profile.String())
		}
	}
	if l.keys != nil || l.keyError != nil {
		l.opened.Store(true)
	}
	return l.keys
}

// ReadFromAddrPort implements [ice.AddrPortReaderWriter].
func (l *line) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	if l.answer.IsValid() && !l.answered {
		// Pion has taken the answer to a connectivity check, and would look at it within 200 ms.
		l.answered = true
		select {
		case l.of.answered <- l.answer:
		default:
		}
	}
	select {
	case d := <-l.rest:
		const bindingSuccess = 0x0101 // RFC 8489 §6
		if !l.answered && !l.turn && len(d.b) >= 20 && binary.BigEndian.Uint16(d.b) == bindingSuccess {
			l.answer = d.from
		}
		return copy(b, d.b), d.from, nil
	case <-l.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// WriteToAddrPort implements [ice.AddrPortReaderWriter].
func (l *line) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if carried := l.inside(b); len(carried) > 0 {
		l.watch(carried, true)
	}
	return l.WriteToUDPAddrPort(b, to)
}

// ReadFrom implements [net.PacketConn].
func (l *line) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := l.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements [net.PacketConn].
func (l *line) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%v is no UDP address", to)
	}
	ap := a.AddrPort()
	return l.WriteToAddrPort(b, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
}

// SetDeadline and the others do nothing: the reader has deadlines of its own, and Close ends what waits.
func (l *line) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: see SetDeadline.
func (l *line) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: see SetDeadline.
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// Close ends the line. What it counted stays.
func (l *line) Close() error {
	err := net.ErrClosed
	l.closing.Do(func() {
		close(l.closed)
		err = l.UDPConn.Close()
	})
	return err
}

// network gives Pion lines for sockets, and one address: that from which the server is reached. Where media is relayed, relays
// are reached over UDP alone: Pion would make allocations over TCP and TLS as well, and use the one that is there first.
type network struct {
	transport.Net
	of    *participant
	local netip.Addr
}

var errNoTCP = errors.New("relays are reached over UDP")

func newNetwork(of *participant, local netip.Addr) (*network, error) {
	host, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("read the network interfaces: %w", err)
	}
	return &network{Net: host, of: of, local: local}, nil
}

// Interfaces implements [transport.Net].
func (n *network) Interfaces() ([]*transport.Interface, error) {
	i := transport.NewInterface(net.Interface{Index: 1, MTU: 1500, Name: "load", Flags: net.FlagUp})
	i.AddAddress(&net.IPNet{IP: n.local.AsSlice(), Mask: net.CIDRMask(n.local.BitLen(), n.local.BitLen())})
	return []*transport.Interface{i}, nil
}

// DialTCP implements [transport.Net].
func (n *network) DialTCP(family string, local, remote *net.TCPAddr) (transport.TCPConn, error) {
	if n.of.load.cfg.Relay {
		return nil, errNoTCP
	}
	return n.Net.DialTCP(family, local, remote)
}

// ListenPacket implements [transport.Net]: a line to a TURN server, or a mere socket where it will carry nothing.
func (n *network) ListenPacket(family, address string) (net.PacketConn, error) {
	if n.of.load.cfg.Relay {
		return n.listen(family, true)
	}
	return n.Net.ListenPacket(family, address)
}

// ListenUDP implements [transport.Net]: a line on any address.
func (n *network) ListenUDP(string, *net.UDPAddr) (transport.UDPConn, error) {
	family := "udp4"
	if n.local.Is6() {
		family = "udp6"
	}
	return n.listen(family, false)
}

func (n *network) listen(family string, turn bool) (*line, error) {
	l, err := newLine(family, n.of, turn)
	if err != nil {
		return nil, err
	}
	if !n.of.add(l) {
		_ = l.Close()
		return nil, net.ErrClosed
	}
	return l, nil
}

// localAddress is the address from which a host is reached.
func localAddress(host string) (netip.Addr, error) {
	// Connecting a UDP socket sends nothing.
	conn, err := net.Dial("udp", net.JoinHostPort(host, "9"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find a way to the server: %w", err)
	}
	defer conn.Close()
	a, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("find a way to %s: %v is no UDP address", host, conn.LocalAddr())
	}
	return a.AddrPort().Addr().Unmap().WithZone(""), nil
}

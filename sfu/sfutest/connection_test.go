package sfutest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anytime/sfu"
	"anytime/sfu/udp"

	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

func TestDataChannels(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a := n.Join(t, "room", "PA_a")
	_, err := a.Audio("TR_a") // brings the publisher's peer connection up
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	for _, reliable := range []bool{true, false} {
		text := fmt.Sprintf("hello %v", reliable)
		must(t, a.SendData(ctx, reliable, []byte(text)))
		must(t, a.AwaitEvent(text, func(e sfu.Event) bool {
			d, ok := e.(sfu.DataReceived)
			return ok && d.Reliable == reliable && string(d.Payload) == text
		}))
		must(t, a.Participant.SendData(true, []byte("open")))
		must(t, a.AwaitData(true, "open"))
		must(t, a.Participant.SendData(reliable, []byte(text)))
		must(t, a.AwaitData(reliable, text))
	}
	if err := a.Participant.SendData(true, make([]byte, sfu.MaxData+1)); !errors.Is(err, sfu.ErrTooLarge) {
		t.Errorf("a message that is too large: %v", err)
	}
	big := strings.Repeat("x", sfu.MaxData)
	must(t, a.Participant.SendData(true, []byte(big)))
	must(t, a.AwaitData(true, big))

	// A receiver that has vanished: lossy data is dropped silently, reliable data becomes an error.
	a.Cut()
	for range 200 {
		must(t, a.Participant.SendData(false, make([]byte, sfu.MaxData)))
	}
	for range 200 {
		if err = a.Participant.SendData(true, make([]byte, sfu.MaxData)); err != nil {
			break
		}
	}
	if !errors.Is(err, sfu.ErrOverflow) {
		t.Errorf("reliable data to one who has vanished: %v", err)
	}
}

func TestReliableDataBeforeTheChannelIsOpen(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	p, err := n.Server.Join(sfu.ParticipantConfig{Room: "room", ID: "PA_x"})
	must(t, err)
	must(t, p.SendData(false, []byte("dropped")))
	// A client that never opens a channel is not thrown out for it: what waits is bounded, the oldest goes.
	for range 10000 {
		must(t, p.SendData(true, []byte("kept")))
	}
	p.Close()
	if err := p.SendData(true, []byte("x")); err == nil {
		t.Error("data after Close was taken")
	}
}

func TestICERestart(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_a")
	_, err = b.AwaitPackets("TR_a", 10)
	must(t, err)

	// The network of both goes away and comes back; each side restarts its own direction.
	restoreA, restoreB := a.Cut(), b.Cut()
	must(t, a.AwaitState(sfu.Publisher, sfu.Disconnected))
	must(t, b.AwaitState(sfu.Subscriber, sfu.Disconnected))
	restoreA()
	restoreB()
	must(t, a.Negotiate(true))
	before := b.offers()
	b.Participant.RestartICE(sfu.Subscriber)
	must(t, b.await("restart offer", func() bool { return len(b.offersLocked()) > len(before) }))
	after := b.offers()
	if ufrag(after[len(after)-1]) == ufrag(before[len(before)-1]) {
		t.Error("the restart's offer has the old ICE credentials")
	}
	must(t, a.AwaitState(sfu.Publisher, sfu.Connected))
	must(t, b.AwaitState(sfu.Subscriber, sfu.Connected))
	r, err := b.AwaitPackets("TR_a", 50)
	must(t, err)
	if _, err := r.Check("TR_a", 0); err != nil {
		t.Error(err)
	}
}

func (c *Client) offersLocked() (out []string) {
	for _, e := range c.events {
		if o, ok := e.(sfu.OfferReady); ok {
			out = append(out, o.SDP)
		}
	}
	return out
}

func (c *Client) offers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offersLocked()
}

func ufrag(text string) string {
	_, rest, _ := strings.Cut(text, "a=ice-ufrag:")
	v, _, _ := strings.Cut(rest, "\r\n")
	return v
}

// loopback starts a server on the operating system's loopback.
func loopback(t *testing.T, cfg sfu.Config) *sfu.Server {
	t.Helper()
	if cfg.UDPAddr == "" {
		cfg.UDPAddr = "127.0.0.1:0"
	}
	if cfg.TCPAddr == "" {
		cfg.TCPAddr = "127.0.0.1:0"
	}
	if cfg.UDPPath == udp.Auto {
		cfg.UDPPath = UDPPath(t)
	}
	s, err := sfu.New(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func osNet(t *testing.T) *stdnet.Net {
	t.Helper()
	n, err := stdnet.NewNet()
	must(t, err)
	return n
}

func TestTransports(t *testing.T) {
	for _, x := range []struct {
		name, host, protocol string
		network              webrtc.NetworkType
	}{
		{"tcp4", "127.0.0.1:0", "tcp", webrtc.NetworkTypeTCP4},
		// No TCP over ::1: Pion takes it for an IPv4-compatible address and gathers no TCP candidate of it.
		{"udp4", "127.0.0.1:0", "udp", webrtc.NetworkTypeUDP4},
		{"udp6", "[::1]:0", "udp", webrtc.NetworkTypeUDP6},
	} {
		check := CheckGoroutines(t)
		t.Run(x.name, func(t *testing.T) { testTransport(t, x.host, x.protocol, x.network) })
		check()
	}
}

func testTransport(t *testing.T, host, protocol string, network webrtc.NetworkType) {
	if l, err := net.Listen("tcp", host); err != nil {
		t.Skipf("this host has no such address: %v", err)
	} else {
		_ = l.Close()
	}
	n := New(t, nil)
	s := loopback(t, sfu.Config{UDPAddr: host, TCPAddr: host})
	o := Options{Net: osNet(t), Settings: func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{network})
		e.SetIncludeLoopbackCandidate(true)
	}}
	want := s.UDPAddr()
	if protocol == "tcp" {
		want = s.TCPAddr()
	}
	a, b := n.JoinWith(t, s, "room", "PA_a", o), n.JoinWith(t, s, "room", "PA_b", o)
	_, err := a.Video("TR_v")
	must(t, err)
	subscribe(t, b, "TR_v")
	r, err := b.AwaitPackets("TR_v", 60)
	must(t, err)
	if sum, err := r.Check("TR_v", 0); err != nil || sum.Missing != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	for c, target := range map[*Client]sfu.Target{a: sfu.Publisher, b: sfu.Subscriber} {
		address, got := c.RemoteCandidate(target)
		if got != protocol || address != want.String() {
			t.Errorf("%s %v: connected to %s over %s, want %v over %s", c.ID, target, address, got, want, protocol)
		}
		for _, stats := range c.Participant.Overview().Transports {
			if stats.Target != target {
				continue
			}
			if stats.Path.TCP != (protocol == "tcp") || !stats.Path.Remote.IsValid() || stats.Path.Remote == want {
				t.Errorf("%s %v: the server sees a path %+v over %s", c.ID, target, stats.Path, protocol)
			}
		}
	}
}

func TestAnnouncedAddresses(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		cfg  sfu.Config
		want []string
	}{
		{"configured", sfu.Config{UDPAddr: ":0", TCPAddr: ":0", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.7"),
			netip.MustParseAddr("2001:db8::7")}}, []string{"192.0.2.7", "2001:db8::7"}},
		{"with loopback", sfu.Config{UDPAddr: "0.0.0.0:0", TCPAddr: "off", Loopback: true,
			NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, []string{"192.0.2.7", "127.0.0.1"}},
		{"bound", sfu.Config{UDPAddr: "127.0.0.1:0", TCPAddr: "off"}, []string{"127.0.0.1"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s, err := sfu.New(x.cfg)
			must(t, err)
			defer s.Close()
			offer := make(chan string, 1)
			_, err = s.Join(sfu.ParticipantConfig{Room: "r", ID: "PA_x", Notify: func(e sfu.Event) {
				if o, ok := e.(sfu.OfferReady); ok {
					offer <- o.SDP
				}
			}})
			must(t, err)
			text := <-offer
			for _, ip := range x.want {
				if !strings.Contains(text, fmt.Sprintf(" %s %d typ host", ip, s.UDPAddr().Port())) {
					t.Errorf("no UDP candidate of %s in\n%s", ip, text)
				}
				if x.cfg.TCPAddr != "off" && !strings.Contains(text, fmt.Sprintf(" %s %d typ host tcptype passive", ip, s.TCPAddr().Port())) {
					t.Errorf("no TCP candidate of %s in\n%s", ip, text)
				}
			}
			if c := strings.Count(text, "a=candidate:"); x.cfg.TCPAddr == "off" && c > 2*len(x.want) {
				t.Errorf("%d candidates in\n%s", c, text)
			}
			if strings.Contains(text, ".local") || !strings.Contains(text, "a=ice-lite") {
				t.Errorf("want ICE-lite and no mDNS name in\n%s", text)
			}
		})
	}
}

func TestFullICE(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	o := Options{FullICE: true}
	a, b := n.JoinWith(t, n.Server, "room", "PA_a", o), n.JoinWith(t, n.Server, "room", "PA_b", o)
	_, err := a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_a")
	_, err = b.AwaitPackets("TR_a", 20)
	must(t, err)
	for _, text := range b.offers() {
		if strings.Contains(text, "a=ice-lite") {
			t.Error("ICE-lite although full ICE was asked for")
		}
	}
}

// TestNothingIsSentWhereNobodyAsked names a bystander's address in every way that signaling has.
func TestNothingIsSentWhereNobodyAsked(t *testing.T) {
	t.Parallel()
	server, err := sfu.New(sfu.Config{UDPAddr: "127.0.0.1:0", TCPAddr: "off", Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer func() { must(t, server.Close()) }()
	for name, full := range map[string]bool{"lite": false, "full": true} {
		bystander, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(t, err)
		defer bystander.Close()
		port := bystander.LocalAddr().(*net.UDPAddr).Port
		offers := make(chan sfu.OfferReady, 1)
		p, err := server.Join(sfu.ParticipantConfig{Room: "room", ID: "PA_" + name, FullICE: full, Notify: func(e sfu.Event) {
			if o, ok := e.(sfu.OfferReady); ok {
				offers <- o
			}
		}})
		must(t, err)
		defer p.Close()
		candidate := fmt.Sprintf("candidate:1 1 udp 2130706431 127.0.0.1 %d typ host", port)
		description := func(session string) string {
			return "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" + session + "a=group:BUNDLE 0\r\n" +
				"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\n" +
				"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:passive\r\na=" + candidate + "\r\n" +
				"a=fingerprint:sha-256 AB" + strings.Repeat(":AB", 31) + "\r\n"
		}
		for _, session := range []string{"a=ice-lite\r\n", ""} {
			_, _, err = p.Offer(description(session))
			if refused := errors.Is(err, sfu.ErrDescription); refused != (session != "") {
				t.Errorf("%s: offer with %q: %v", name, session, err)
			}
			if session != "" {
				if err := p.Answer(0, description(session)); !errors.Is(err, sfu.ErrStaleAnswer) && !errors.Is(err, sfu.ErrDescription) {
					t.Errorf("%s: answer of a lite peer: %v", name, err)
				}
			}
		}
		must(t, p.Answer((<-offers).ID, description("")))
		for _, target := range []sfu.Target{sfu.Publisher, sfu.Subscriber} {
			must(t, p.Candidate(target, fmt.Sprintf(`{"candidate":%q,"sdpMid":"0","sdpMLineIndex":0}`, candidate)))
		}
		// Checks begin at once and are repeated every 200 ms.
		must(t, bystander.SetReadDeadline(time.Now().Add(700*time.Millisecond)))
		if n, from, err := bystander.ReadFrom(make([]byte, 1500)); err == nil {
			t.Errorf("%s: a bystander got %d bytes from %v", name, n, from)
		}
	}
}

func TestManyRoundsLeaveNothing(t *testing.T) {
	defer CheckGoroutines(t)()
	t.Run("rounds", func(t *testing.T) {
		n := New(t, nil)
		stay := n.Join(t, "room", "PA_stay")
		_, err := stay.Audio("TR_stay")
		must(t, err)
		check := func() {}
		for i := range 30 {
			if i == 1 {
				check = CheckGoroutines(t) // the first round may have started what stays
			}
			id := fmt.Sprintf("PA_%d", i)
			c := n.Join(t, "room", id)
			subscribe(t, c, "TR_stay")
			if i%3 == 0 {
				_, err := c.Video("TR_v"+id, "q", "h", "f")
				must(t, err)
				subscribe(t, stay, "TR_v"+id)
				_, err = stay.AwaitPackets("TR_v"+id, 5)
				must(t, err)
			}
			if i%5 != 4 { // else it leaves in the middle of the negotiation
				_, err = c.AwaitPackets("TR_stay", 3)
				must(t, err)
			}
			c.Close()
		}
		check()
		if p := n.Server.Stats().Participants; len(p) != 1 || len(p[0].Subscriptions) != 0 {
			t.Errorf("after all have left: %+v", p)
		}
		stay.Close()
		if r := n.Server.Stats().Rooms; r != 0 {
			t.Errorf("%d rooms left", r)
		}
	})
}

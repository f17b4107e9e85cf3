package sfu

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"testing"

	"anytime/sfu/udp"

	"github.com/pion/stun/v4"
)

// tcpPeer is a peer connection of which a client has a TCP connection.
type tcpPeer struct {
	*muxPeer
	m      *mux
	agent  *pionConn
	client net.Conn
}

func newTCPPeer(t *testing.T) *tcpPeer {
	t.Helper()
	m, _ := wiredMux(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	m.tcp = newTCPPort(l, m.owner, slog.New(slog.DiscardHandler))
	p := &tcpPeer{muxPeer: newMuxPeer(t, m, "us"), m: m}
	p.agent = p.credentials(t, "us")
	p.client = p.dial(t)
	return p
}

// credentials returns the agent's conn for TCP of a user fragment.
func (p *tcpPeer) credentials(t *testing.T, fragment string) *pionConn {
	t.Helper()
	c, err := p.GetConnByUfrag(fragment, false, nil)
	must(t, err)
	return c.(*pionConn)
}

func (p *tcpPeer) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.m.tcp.Addr().String())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sends sends packets and a check behind them, and returns when an agent has read that: so the packets have been taken.
func (p *tcpPeer) sends(t *testing.T, client net.Conn, agent *pionConn, packets ...[]byte) {
	t.Helper()
	check := checkFor(t, agent.g.fragment)
	mustWrite(t, client, framed(append(packets, check)...))
	b := make([]byte, maxControl)
	for {
		n, from, err := agent.ReadFromAddrPort(b)
		must(t, err)
		if from != addrPort(client.LocalAddr()) {
			t.Fatalf("a packet from %v", from)
		}
		if bytes.Equal(b[:n], check) {
			return
		}
	}
}

// TestUnprovenConnections: over TCP, too, media is taken only once the agent has answered a check.
func TestUnprovenConnections(t *testing.T) {
	p := newTCPPeer(t)
	p.sends(t, p.client, p.agent)
	p.sends(t, p.client, p.agent, p.packet(t))
	if p.up.packets != 0 {
		t.Error("media of an unproven connection")
	}
	to := addrPort(p.client.LocalAddr())
	p.lead(to, true) // the agent chooses it before it answers
	_, err := p.agent.WriteToAddrPort(stunOf(t, stun.BindingSuccess), to)
	must(t, err)
	if b := readFrame(t, p.client); !isSuccess(b) {
		t.Errorf("the client reads %x", b)
	}
	p.up.gathers = true
	p.sends(t, p.client, p.agent, p.packet(t), p.packet(t))
	if p.up.packets != 2 || p.up.rests != 3 { // one as the keys came
		t.Errorf("%d packets, %d rests", p.up.packets, p.up.rests)
	}
	other := p.dial(t)
	p.sends(t, other, p.agent)
	if p.sends(t, other, p.agent, p.packet(t)); p.up.packets != 2 {
		t.Error("media of another connection, which isn't proven")
	}
	if _, err := p.agent.WriteToAddrPort([]byte{1}, addressOf(1)); err == nil {
		t.Error("sent to where no connection is from")
	}
	p.lead(to, true)
	if n := p.send([]udp.Run{{Buffer: []byte{0x80, 1, 0x80, 2, 0x80}, Size: 2}}); n != 3 {
		t.Errorf("%d packets sent", n)
	}
	for _, want := range [][]byte{{0x80, 1}, {0x80, 2}, {0x80}} {
		if got := readFrame(t, p.client); !bytes.Equal(got, want) {
			t.Errorf("the client reads %x, want %x", got, want)
		}
	}
}

// TestConnectionsOutliveTheirCredentials: after an ICE restart the connection that media leaves over goes on until there is
// another way; the others end at once.
func TestConnectionsOutliveTheirCredentials(t *testing.T) {
	p := newTCPPeer(t)
	idle := p.dial(t)
	for _, c := range []net.Conn{p.client, idle} {
		p.sends(t, c, p.agent)
		_, err := p.agent.WriteToAddrPort(stunOf(t, stun.BindingSuccess), addrPort(c.LocalAddr()))
		must(t, err)
		readFrame(t, c)
	}
	p.lead(addrPort(p.client.LocalAddr()), true)
	latest := p.credentials(t, "us2")
	p.RemoveConnByUfrag("us")
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the connection without media goes on")
	}
	if _, err := p.agent.WriteToAddrPort([]byte{1}, addrPort(p.client.LocalAddr())); err == nil {
		t.Error("the agent's conn of before sends")
	}
	// An echo says that the media was taken.
	echo := func() {
		t.Helper()
		if n := p.send([]udp.Run{{Buffer: []byte{0x80, 1}}}); n != 1 {
			t.Errorf("%d packets sent", n)
		}
		readFrame(t, p.client)
	}
	echo()
	for range 3 {
		mustWrite(t, p.client, framed(p.packet(t), checkFor(t, "us")))
	}
	eventually(t, "media of before the restart is taken", func() bool {
		p.receiving.Lock()
		defer p.receiving.Unlock()
		return p.up.packets == 3
	})
	echo()

	fresh := p.dial(t)
	p.sends(t, fresh, latest)
	_, err := latest.WriteToAddrPort(stunOf(t, stun.BindingSuccess), addrPort(fresh.LocalAddr()))
	must(t, err)
	readFrame(t, fresh)
	p.lead(addrPort(fresh.LocalAddr()), true)
	mustWrite(t, p.client, framed(p.packet(t)))
	if _, err := io.Copy(io.Discard, p.client); err != nil {
		t.Logf("the end of the old connection: %v", err)
	}
	p.sends(t, fresh, latest, p.packet(t))
	p.plane.close()
	if _, err := io.Copy(io.Discard, fresh); err != nil {
		t.Logf("the end of the new connection: %v", err)
	}
}

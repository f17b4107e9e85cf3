package sfutest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"anytime/sfu"
)

// tap stands between a client and the ports of a server on loopback. It keeps what the server sends, as it is on the wire, and
// may lose some of it or keep a protocol from passing.
type tap struct {
	server *sfu.Server
	udp    *net.UDPConn
	tcp    net.Listener
	done   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	blocked [2]bool // UDP, TCP
	lossy   bool
	lost    int
	clients map[netip.AddrPort]*net.UDPConn // to the server, by the client's address
	streams map[net.Conn]bool
	media   []tapped
	news    chan struct{} // closed and replaced with each packet
}

// tapped is a packet of SRTP or SRTCP from the server.
type tapped struct {
	tcp bool
	b   []byte
}

func (p tapped) rtcp() bool { return p.b[1] >= 192 && p.b[1] <= 223 } // RFC 5761 section 4

func newTap(t *testing.T, s *sfu.Server) *tap {
	t.Helper()
	p := &tap{server: s, clients: map[netip.AddrPort]*net.UDPConn{}, streams: map[net.Conn]bool{}, news: make(chan struct{})}
	var err error
	p.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	must(t, err)
	p.tcp, err = net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	p.done.Go(p.fromClients)
	p.done.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		_ = p.udp.Close()
		_ = p.tcp.Close()
		for _, c := range p.clients {
			_ = c.Close()
		}
		for c := range p.streams {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.done.Wait()
	})
	return p
}

// offered has the client talk to the tap.
func (p *tap) offered(sdp string) string {
	for _, x := range []struct {
		protocol string
		from, to int
	}{
		{"udp", int(p.server.UDPAddr().Port()), p.udp.LocalAddr().(*net.UDPAddr).Port},
		{"tcp", int(p.server.TCPAddr().Port()), p.tcp.Addr().(*net.TCPAddr).Port},
	} {
		lines := strings.Split(sdp, "\r\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "a=candidate:") && strings.Contains(line, " "+x.protocol+" ") {
				lines[i] = strings.Replace(line, fmt.Sprintf(" %d typ", x.from), fmt.Sprintf(" %d typ", x.to), 1)
			}
		}
		sdp = strings.Join(lines, "\r\n")
	}
	return sdp
}

// block keeps protocols from passing: connections over TCP end.
func (p *tap) block(udp, tcp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = [2]bool{udp, tcp}
	if tcp {
		for c := range p.streams {
			_ = c.Close()
		}
	}
}

// lose has every tenth packet of RTP lost.
func (p *tap) lose(on bool) {
	p.mu.Lock()
	p.lossy = on
	p.mu.Unlock()
}

// passes notes a packet of the server's and reports whether it gets through.
func (p *tap) passes(b []byte, tcp bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(b) > 12 && b[0]>>6 == 2 {
		packet := tapped{tcp, append([]byte{}, b...)}
		p.media = append(p.media, packet)
		close(p.news)
		p.news = make(chan struct{})
		if p.lossy && !packet.rtcp() && len(p.media)%10 == 0 {
			p.lost++
			return false
		}
	}
	if tcp {
		return !p.blocked[1]
	}
	return !p.blocked[0]
}

// await waits until n more packets for which is holds have come from the server.
func (p *tap) await(ctx context.Context, what string, n int, is func(tapped) bool) error {
	p.mu.Lock()
	seen := len(p.media)
	p.mu.Unlock()
	for {
		p.mu.Lock()
		for ; seen < len(p.media); seen++ {
			if is(p.media[seen]) {
				n--
			}
		}
		news := p.news
		p.mu.Unlock()
		if n <= 0 {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d more packets of %s: %w", n, what, ctx.Err())
		}
	}
}

func (p *tap) packets() []tapped {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]tapped{}, p.media...)
}

func (p *tap) fromClients() {
	b := make([]byte, 2048)
	for {
		n, from, err := p.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		c := p.clients[from]
		if c == nil && !p.closed {
			if c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.server.UDPAddr())); err == nil {
				p.clients[from] = c
				p.done.Go(func() { p.fromServer(c, from) })
			}
		}
		blocked := p.blocked[0]
		p.mu.Unlock()
		if c != nil && !blocked {
			_, _ = c.Write(b[:n])
		}
	}
}

func (p *tap) fromServer(c *net.UDPConn, client netip.AddrPort) {
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if p.passes(b[:n], false) {
			_, _ = p.udp.WriteToUDPAddrPort(b[:n], client)
		}
	}
}

func (p *tap) accept() {
	for {
		client, err := p.tcp.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp4", p.server.TCPAddr().String())
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.closed || p.blocked[1] {
			p.mu.Unlock()
			_, _ = client.Close(), server.Close()
			continue
		}
		p.streams[client], p.streams[server] = true, true
		p.mu.Unlock()
		p.done.Go(func() {
			_, _ = io.Copy(server, client)
			_, _ = client.Close(), server.Close()
		})
		p.done.Go(func() {
			p.frames(server, client)
			_, _ = client.Close(), server.Close()
			p.mu.Lock()
			delete(p.streams, client)
			delete(p.streams, server)
			p.mu.Unlock()
		})
	}
}

// frames passes the server's packets on: RFC 4571 section 2.
func (p *tap) frames(from io.Reader, to io.Writer) {
	for b := make([]byte, 2+65535); ; {
		if _, err := io.ReadFull(from, b[:2]); err != nil {
			return
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		if _, err := io.ReadFull(from, b[2:n]); err != nil {
			return
		}
		if p.passes(b[2:n], true) {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

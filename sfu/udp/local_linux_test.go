package udp

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// localFunc is a LocalReader that says zero where it isn't told.
type localFunc func(b []byte, from netip.AddrPort, local netip.Addr, at time.Duration)

func (f localFunc) ReceiveAt(b []byte, from netip.AddrPort, local netip.Addr, at time.Duration) {
	f(b, from, local, at)
}
func (f localFunc) Receive(b []byte, from netip.AddrPort, at time.Duration) {
	f(b, from, netip.Addr{}, at)
}
func (localFunc) Rest(time.Duration) {}

// On a port of every address, an answer leaves from the one that was asked: single datagrams and runs, over each path.
func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	for _, path := range []Path{Segmented, Batched, Plain} {
		for _, host := range []string{"", "0.0.0.0"} {
			for _, asked := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
				if host != "" && asked == "::1" {
					continue
				}
				t.Run(path.String()+" "+host+" "+asked, func(t *testing.T) { answered(t, path, host, asked) })
			}
		}
	}
}

func answered(t *testing.T, path Path, host, asked string) {
	var port *Port
	opened := make(chan struct{})
	port, err := Listen(Config{
		Addr: net.JoinHostPort(host, "0"), Sockets: 2, Path: path, Log: slog.New(slog.DiscardHandler),
		Reader: func(int) Reader {
			return localFunc(func(b []byte, from netip.AddrPort, local netip.Addr, _ time.Duration) {
				<-opened
				if local != netip.MustParseAddr(asked) {
					t.Errorf("came to %v", local)
				}
				port.Send(0, Run{To: from, Buffer: b, From: local}, Run{To: from, Buffer: b, Size: 2, From: local})
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	close(opened)
	defer port.Close()
	// A connected socket takes datagrams from the asked address only.
	to := netip.AddrPortFrom(netip.MustParseAddr(asked), port.Addr().Port())
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Skip("no such address here:", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patienceOfTests)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	for _, want := range []string{"hello", "he", "ll", "o"} {
		if n, err := conn.Read(b); err != nil || !bytes.Equal(b[:n], []byte(want)) {
			t.Fatalf("got %q, %v; want %q", b[:n], err, want)
		}
	}
}

// What is bound to one address isn't told, and who answers through it needs no source.
func TestOneAddressNeedsNotBeTold(t *testing.T) {
	came := make(chan netip.Addr, 1)
	port, err := Listen(Config{
		Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
		Reader: func(int) Reader {
			return localFunc(func(_ []byte, _ netip.AddrPort, local netip.Addr, _ time.Duration) { came <- local })
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if _, err := port.WriteTo([]byte("hello"), port.Addr()); err != nil {
		t.Fatal(err)
	}
	select {
	case local := <-came:
		if local.IsValid() {
			t.Errorf("told %v", local)
		}
	case <-time.After(patienceOfTests):
		t.Fatal("nothing came")
	}
}

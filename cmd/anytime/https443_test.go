package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"anytime/turn"

	"github.com/gorilla/websocket"
)

// split starts a splitter on loopback, with HTTPS served behind it, and returns what a client
// needs. Whatever comes to TURN is sent back after "turn ".
func split(t *testing.T, limits splitLimits) (s *splitter, address string) {
	t.Helper()
	s, address = splitOnly(t, limits)
	up := websocket.Upgrader{}
	server := httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if websocket.IsWebSocketUpgrade(r) {
			if conn, err := up.Upgrade(w, r, nil); err == nil {
				kind, message, _ := conn.ReadMessage()
				conn.WriteMessage(kind, message)
				conn.Close()
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s tls=%t %s", r.Proto, r.TLS != nil, body)
	}))
	done := make(chan struct{}, 2)
	go func() { server.Serve(s.HTTPS); done <- struct{}{} }()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			conn, err := s.TURN.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 20)
				n, _ := io.ReadFull(conn, b)
				conn.Write(append([]byte("turn "), b[:n]...))
			}()
		}
	}()
	t.Cleanup(func() { server.Close(); s.Close(); <-done; <-done })
	return s, address
}

// splitOnly starts a splitter with nobody behind it.
func splitOnly(t *testing.T, limits splitLimits) (*splitter, string) {
	t.Helper()
	certs, err := newCertificates(tlsConfig{selfSigned: true, folder: t.TempDir(), log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := splitTLS(l, certs.shared(), limits, quiet())
	t.Cleanup(func() { s.Close() })
	return s, l.Addr().String()
}

func secure(t *testing.T, address string, protocols ...string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.NetConn().Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func binding() []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 1, 0, 0}, 0x2112A442)
	return append(b, "transaction!"...)
}

func TestSplitHTTP(t *testing.T) {
	_, address := split(t, splitLimits{})
	for version, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		transport := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		response, err := (&http.Client{Transport: transport}).Post("https://"+address, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(version, err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		transport.CloseIdleConnections()
		if string(body) != version+" tls=true hello" {
			t.Errorf("got %q", body)
		}
	}
}

func TestSplitWebSocket(t *testing.T) {
	_, address := split(t, splitLimits{})
	for _, protocols := range [][]string{nil, {protoHTTP1}} {
		dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}}
		conn, _, err := dialer.Dial("wss://"+address, nil)
		if err != nil {
			t.Fatal(protocols, err)
		}
		conn.WriteMessage(websocket.TextMessage, []byte("hello"))
		if _, message, err := conn.ReadMessage(); err != nil || string(message) != "hello" {
			t.Errorf("%v: %q, %v", protocols, message, err)
		}
		conn.Close()
	}
}

// What a client says first decides where there is no ALPN, in whatever pieces it comes.
func TestSplitByFirstBytes(t *testing.T) {
	s, address := split(t, splitLimits{})
	request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	stranger := []byte("\x00\x01\x00\x00\x01\x02\x03\x04 / HTTP/1.1\r\n") // all that it takes to be refused
	for _, test := range []struct {
		what      string
		protocols []string
		sent      []byte
		want      string
	}{
		{"HTTP", nil, []byte(request), "HTTP/1.1 200"},
		{"STUN", nil, binding(), "turn " + string(binding())},
		{"no STUN for all its zeroes", nil, stranger, "HTTP/1.1 400"},
		{"TURN by ALPN, whatever it says", []string{protoTURN}, []byte(request[:20]), "turn " + request[:20]},
		{"TURN by the better ALPN of two", []string{protoHTTP1, protoTURN}, binding(), "turn " + string(binding())},
		{"STUN by ALPN", []string{protoSTUN}, binding(), "turn " + string(binding())},
		{"HTTP by ALPN", []string{protoHTTP1}, []byte(request), "HTTP/1.1 200"},
	} {
		for _, pieces := range []int{len(test.sent), 1, 3} {
			conn := secure(t, address, test.protocols...)
			for rest := test.sent; len(rest) > 0; rest = rest[min(pieces, len(rest)):] {
				if _, err := conn.Write(rest[:min(pieces, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			got := make([]byte, len(test.want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != test.want {
				t.Errorf("%s, %d at a time: got %q, %v", test.what, pieces, got, err)
			}
			conn.Close()
		}
	}
	// HTTP that was told by its first bytes knows that it came over TLS.
	conn := secure(t, address)
	io.WriteString(conn, request)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), "tls=true") {
		t.Errorf("got %q", body)
	}
	conn.Close()
	waitFor(t, "all connections to be forgotten", func() bool { return s.stats().Open == 0 && len(s.byIP) == 0 })
}

func TestSplitRefusesOtherProtocols(t *testing.T) {
	_, address := split(t, splitLimits{})
	if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"smtp"}}); err == nil {
		conn.Close()
		t.Error("smtp is agreed on")
	}
}

func TestSplitDeadlines(t *testing.T) {
	s, address := split(t, splitLimits{handshake: 1500 * time.Millisecond, firstBytes: 1500 * time.Millisecond})
	raw := func(b ...byte) net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
		return conn
	}
	for what, conn := range map[string]net.Conn{
		"silence":              raw(),
		"half a handshake":     raw(22, 3, 1, 2, 0),
		"silence after it":     secure(t, address),
		"four bytes of a STUN": func() net.Conn { c := secure(t, address); c.Write(binding()[:4]); return c }(),
		"plain HTTP":           func() net.Conn { c := raw(); io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); return c }(),
	} {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, errTimeout(err)) {
			t.Errorf("%s: stays open", what)
		}
		conn.Close()
	}
	waitFor(t, "nothing to be open", func() bool { return s.stats().Open == 0 })
	if now := s.stats(); now.TimedOut != 4 || now.Failed != 1 {
		t.Errorf("stats %+v", now)
	}
}

// errTimeout returns the error if it is a timeout of ours.
func errTimeout(err error) error {
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return err
	}
	return errors.New("another")
}

// With ALPN a connection may be silent: browsers open some ahead of need.
func TestSplitLeavesPreconnectsOpen(t *testing.T) {
	s, address := split(t, splitLimits{firstBytes: 300 * time.Millisecond})
	conn := secure(t, address, protoHTTP1)
	waitFor(t, "the handover", func() bool { now := s.stats(); return now.Open == 1 && now.Pending == 0 })
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); errTimeout(err) != err {
		t.Fatalf("got %v, want silence", err)
	}
}

func TestSplitCaps(t *testing.T) {
	for what, limits := range map[string]splitLimits{
		"pending":             {pending: 3},
		"pending per address": {pendingPerAddress: 3},
		"open":                {open: 3},
		"open per address":    {openPerAddress: 3},
	} {
		t.Run(what, func(t *testing.T) {
			s, address := split(t, limits)
			var held []net.Conn
			for range 3 {
				if strings.HasPrefix(what, "open") {
					held = append(held, secure(t, address, protoTURN))
					continue
				}
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, conn)
			}
			waitFor(t, "three connections", func() bool { return s.stats().Open == 3 })
			if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}); err == nil {
				conn.Close()
				t.Error("a fourth is served")
			}
			if n := s.stats().Refused; n != 1 {
				t.Errorf("%d refused", n)
			}
			for _, conn := range held {
				conn.Close()
			}
			waitFor(t, "none", func() bool { return s.stats().Open == 0 })
			conn := secure(t, address, protoTURN)
			conn.Write(binding())
			if _, err := io.ReadFull(conn, make([]byte, 25)); err != nil {
				t.Error("afterwards:", err)
			}
		})
	}
}

func TestSplitClose(t *testing.T) {
	s, address := splitOnly(t, splitLimits{})
	before := runtime.NumGoroutine()
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	waiting := secure(t, address, protoTURN) // whom nobody accepts
	waitFor(t, "two connections", func() bool { return s.stats().Pending == 2 })
	s.HTTPS.Close()
	if _, err := s.HTTPS.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a closed listener: %v", err)
	}
	// TURN goes on.
	conn, err := s.TURN.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.TURN.Close() // the second ends the port
	if another, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		another.Close()
		t.Error("the port is still open")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a pending connection stays open")
	}
	// What was handed over belongs to its taker.
	go conn.Write([]byte("x"))
	if _, err := waiting.Read(make([]byte, 1)); err != nil {
		t.Error("a connection handed over is closed:", err)
	}
	conn.Close()
	if err := s.Close(); err != nil {
		t.Error("closing again:", err)
	}
	waitFor(t, "no goroutine", func() bool { return runtime.NumGoroutine() <= before })
}

// coturn's client reaches our relay over the port it shares with HTTPS, which is what a client
// behind a strict firewall does.
func TestTURNOverTheSharedPort(t *testing.T) {
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Fatal("turnutils_uclient isn't installed: run scripts/install-test-tools")
	}
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := peer.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			peer.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	sfu := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	s, address := splitOnly(t, splitLimits{})
	relay, err := turn.New(turn.Config{
		TLS: []net.Listener{s.TURN}, Secret: "secret", Log: quiet(),
		Peers: func() []netip.AddrPort { return []netip.AddrPort{sfu} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	name, password := turn.Credentials("secret", "ac_1:dv_1", time.Now(), time.Minute)
	port := netip.MustParseAddrPort(address).Port()
	out, err := exec.CommandContext(t.Context(), program, "-t", "-S", "-c", "-n", "5", "-u", name, "-w", password,
		"-p", fmt.Sprint(port), "-e", "127.0.0.1", "-r", fmt.Sprint(sfu.Port()), "127.0.0.1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "tot_send_msgs=5, tot_recv_msgs=5") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := relay.Stats().PacketsDown; n != 5 {
		t.Errorf("%d packets relayed", n)
	}
}

func FuzzSniff(f *testing.F) {
	f.Add(binding(), 1)
	f.Add([]byte("GET / HTTP/1.1\r\n"), 3)
	f.Add([]byte{0}, 1)
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			for rest := sent; len(rest) > 0; {
				n := min(max(piece, 1), len(rest))
				if _, err := client.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		first, isTURN, err := sniff(server)
		defer server.Close()
		if err != nil {
			return
		}
		if len(first) == 0 || !strings.HasPrefix(string(sent), string(first)) {
			t.Fatalf("%x read of %x", first, sent)
		}
		if want := len(sent) >= 8 && sent[0] < 0x40 && binary.BigEndian.Uint32(sent[4:]) == 0x2112A442; isTURN != want {
			t.Fatalf("%x: TURN %t", sent, isTURN)
		}
	})
}

// waitFor waits for what will become true by itself.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("waited in vain for: " + what)
		case <-tick.C:
		}
	}
}

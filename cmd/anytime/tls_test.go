package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// presented connects to a TLS server on loopback with the given configuration and returns the
// certificate that it shows for the name.
func presented(t *testing.T, config *tls.Config, name string) *x509.Certificate {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestOwnCertificate(t *testing.T) {
	folder := t.TempDir()
	c := tlsConfig{selfSigned: true, folder: folder, nodeIPs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}, log: quiet()}
	certs, err := newCertificates(c)
	if err != nil {
		t.Fatal(err)
	}
	first := presented(t, certs.shared(), "localhost")

	// It stands on its own: a client that trusts it is content with any of its names.
	roots := x509.NewCertPool()
	roots.AddCert(first)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "203.0.113.7"} {
		if _, err := first.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ip := range machineAddresses() {
		if err := first.VerifyHostname(ip.String()); err != nil {
			t.Errorf("this machine's %v: %v", ip, err)
		}
	}
	file := filepath.Join(folder, "self-signed.pem")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}

	// A second start shows the same one.
	if certs, err = newCertificates(c); err != nil {
		t.Fatal(err)
	}
	if !presented(t, certs.shared(), "localhost").Equal(first) {
		t.Error("a second start made another certificate")
	}

	// A new address needs a new certificate; the key stays.
	c.nodeIPs = append(c.nodeIPs, netip.MustParseAddr("2001:db8::7"))
	if certs, err = newCertificates(c); err != nil {
		t.Fatal(err)
	}
	second := presented(t, certs.shared(), "localhost")
	if second.Equal(first) || second.VerifyHostname("2001:db8::7") != nil {
		t.Error("the certificate doesn't name the new address")
	}
	if !bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("the key has changed")
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "*")); len(left) != 1 {
		t.Errorf("the folder holds %v", left)
	}
}

func TestOwnCertificateIsRenewedInTime(t *testing.T) {
	own := &ownCertificate{file: filepath.Join(t.TempDir(), "own.pem"), log: quiet()}
	now := time.Now()
	if err := own.load(now); err != nil {
		t.Fatal(err)
	}
	first := own.current.Leaf
	if life := first.NotAfter.Sub(first.NotBefore); life > 398*24*time.Hour {
		t.Errorf("lives %v: more than browsers accept", life)
	}
	if err := own.load(first.NotAfter.Add(-31 * 24 * time.Hour)); err != nil || !own.current.Leaf.Equal(first) {
		t.Errorf("renewed too early, %v", err)
	}
	if err := own.load(first.NotAfter.Add(-29 * 24 * time.Hour)); err != nil || own.current.Leaf.Equal(first) {
		t.Errorf("not renewed, %v", err)
	}
	// A running server renews during a handshake.
	own.looked = now.Add(-ownLookAt)
	own.nodeIPs = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	cert, err := own.get(nil)
	if err != nil || cert.Leaf.VerifyHostname("203.0.113.9") != nil {
		t.Errorf("the address isn't named, %v", err)
	}
}

func TestOwnCertificateThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "self-signed.pem")
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := newCertificates(tlsConfig{selfSigned: true, folder: folder, log: quiet()})
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("got %v, want the file and what to do", err)
	}
}

// writePair writes a certificate for a name as two files.
func writePair(t *testing.T, certificate, key, name string) {
	t.Helper()
	both := filepath.Join(t.TempDir(), "both.pem")
	if _, err := makeOwn(both, nil, []string{name}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(both)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("-----BEGIN PRIVATE KEY"))
	for file, part := range map[string][]byte{certificate: text[:at], key: text[at:]} {
		if file == "" {
			continue
		}
		// As certificate tools do: a new file in the place of the former.
		if err := os.WriteFile(file+".new", part, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateFilesAreReadAgain(t *testing.T) {
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	writePair(t, cert, key, "one.example")
	files := &certificateFiles{certificate: cert, key: key, log: quiet()}
	if err := files.load(); err != nil {
		t.Fatal(err)
	}
	shows := func(want string) {
		t.Helper()
		files.looked = time.Now().Add(-lookEvery)
		config := (&certificates{get: files.get}).turn()
		if got := presented(t, config, "x.example").DNSNames[0]; got != want {
			t.Errorf("shows %s, want %s", got, want)
		}
	}
	shows("one.example")
	writePair(t, cert, key, "two.example")
	shows("two.example")
	// Half replaced: the former pair stays in force until the key follows.
	writePair(t, cert, "", "three.example")
	shows("two.example")
	os.Remove(key)
	shows("two.example")
	writePair(t, cert, key, "four.example")
	shows("four.example")
}

// TestHostIsCovered pins that a TURN URL over TLS names what the certificate stands for, or clients refuse the relay.
func TestHostIsCovered(t *testing.T) {
	folder := t.TempDir()
	pair := func(names ...string) tlsConfig {
		both := filepath.Join(folder, strings.Join(names, "+"))
		if _, err := makeOwn(both, nil, names, []netip.Addr{netip.MustParseAddr("203.0.113.7")}, time.Now()); err != nil {
			t.Fatal(err)
		}
		return tlsConfig{certificate: both, key: both, log: quiet()}
	}
	domain := pair("calls.example.org")
	domain.domain = "other.example.org"
	for _, c := range []struct {
		what          string
		config        tlsConfig
		address, want string
	}{
		{"a name for an address that isn't covered", pair("calls.example.org"), "198.51.100.1", "calls.example.org"},
		{"a wildcard is no name", pair("*.example.org", "calls.example.org"), "198.51.100.1", "calls.example.org"},
		{"nothing but a wildcard", pair("*.example.org"), "198.51.100.1", "198.51.100.1"},
		{"an address that is covered", pair("calls.example.org"), "203.0.113.7", "203.0.113.7"},
		{"the domain", domain, "203.0.113.7", "other.example.org"},
		{"our own certificate", tlsConfig{selfSigned: true, folder: folder, log: quiet()}, "198.51.100.1", "198.51.100.1"},
	} {
		certificates, err := newCertificates(c.config)
		if err != nil {
			t.Fatal(err)
		}
		if got := certificates.host(c.address); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestCertificateErrorsSayWhatToDo(t *testing.T) {
	folder := t.TempDir()
	one, other := filepath.Join(folder, "one"), filepath.Join(folder, "other")
	writePair(t, one+".crt", one+".key", "one.example")
	writePair(t, other+".crt", other+".key", "other.example")
	for want, c := range map[string]tlsConfig{
		"--self-signed":  {},
		"missing.crt":    {certificate: filepath.Join(folder, "missing.crt"), key: one + ".key"},
		"--tls-key":      {certificate: one + ".crt", key: other + ".key"},
		"without https":  {domain: "https://calls.example.org"},
		"without https:": {domain: "calls.example.org:443"},
		"public host":    {domain: "192.0.2.1"},
		"local names":    {domain: "localhost"},
	} {
		c.log, c.folder = quiet(), folder
		if _, err := newCertificates(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %s", err, want)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	certs, err := newCertificates(tlsConfig{selfSigned: true, folder: t.TempDir(), log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", certs.shared())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

func TestRedirect(t *testing.T) {
	own, domain := &certificates{}, &certificates{domain: "calls.example.org"}
	for _, test := range []struct {
		certs      *certificates
		port       int
		host, path string
		want       string // "": 400
	}{
		{own, 443, "server.local", "/", "https://server.local/"},
		{own, 443, "server.local:80", "/a/b?c=d&e=%2F", "https://server.local/a/b?c=d&e=%2F"},
		{own, 8443, "192.0.2.1:8080", "/%2e%2e/x", "https://192.0.2.1:8443/%2e%2e/x"},
		{own, 443, "[2001:db8::1]:80", "/", "https://[2001:db8::1]/"},
		{own, 443, "[2001:db8::1]", "/", "https://[2001:db8::1]/"},
		{own, 443, "evil.example/@server", "/", ""},
		{own, 443, "user@evil.example", "/", ""},
		{own, 443, "", "/", ""},
		{own, 443, "a b", "/", ""},
		{domain, 443, "evil.example", "/x", "https://calls.example.org/x"},
		{domain, 443, "192.0.2.1", "//evil.example", "https://calls.example.org//evil.example"},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://placeholder"+test.path, nil)
		r.Host = test.host
		w := httptest.NewRecorder()
		test.certs.redirect(test.port).ServeHTTP(w, r)
		if test.want == "" {
			if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
				t.Errorf("%q: %d to %q", test.host, w.Code, w.Header().Get("Location"))
			}
		} else if got := w.Header().Get("Location"); w.Code != http.StatusPermanentRedirect || got != test.want {
			t.Errorf("%q%s: %d to %q, want %q", test.host, test.path, w.Code, got, test.want)
		}
	}
}

// The certificate comes over the port that it is for: the CA asks there, with ALPN acme-tls/1.
func TestACMEOverTheSharedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca := newTestCA(t, "tls-alpn-01", l.Addr().String())
	folder := t.TempDir()
	config := tlsConfig{domain: "Calls.Example.org", acmeDirectory: ca.directory(), folder: folder, log: quiet()}
	certs, err := newCertificates(config)
	if err != nil {
		t.Fatal(err)
	}
	s := splitTLS(l, certs.shared(), splitLimits{}, quiet())
	defer s.Close()
	server := httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	go server.Serve(s.HTTPS)
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := certs.obtain(ctx); err != nil {
		t.Fatal(err)
	}
	if ca.asked.Load() == 0 || ca.issued.Load() != 1 {
		t.Fatalf("asked %d times, issued %d", ca.asked.Load(), ca.issued.Load())
	}
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: ca.roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
		},
	}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://calls.example.org/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if string(body) != "HTTP/2.0" {
		t.Errorf("spoke %s", body)
	}
	// A name that isn't ours gets no certificate, and the CA isn't asked for one.
	if conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "other.example", InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("a certificate for another name")
	}
	// A client that names no server is shown the only certificate there is.
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoTURN}})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != "calls.example.org" {
		t.Errorf("shown %s", got)
	}
	conn.Close()

	// Kept in the data folder, for its owner alone: a second start asks the CA for nothing.
	filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if info, _ := entry.Info(); err != nil || path != folder && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
		return nil
	})
	again, err := newCertificates(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.obtain(ctx); err != nil {
		t.Fatal(err)
	}
	if ca.issued.Load() != 1 || ca.asked.Load() != 1 {
		t.Errorf("asked %d times, issued %d", ca.asked.Load(), ca.issued.Load())
	}
}

// Where port 443 isn't ours at the time, port 80 does.
func TestACMEOverPlainHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca := newTestCA(t, "http-01", l.Addr().String())
	certs, err := newCertificates(tlsConfig{domain: "calls.example.org", acmeDirectory: ca.directory(), folder: t.TempDir(), log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	server := httpServer(certs.redirect(443))
	go server.Serve(l)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := certs.obtain(ctx); err != nil {
		t.Fatal(err)
	}
	if leaf := presented(t, certs.shared(), "calls.example.org"); leaf.VerifyHostname("calls.example.org") != nil {
		t.Error("not the domain's certificate")
	}
}

func TestACMEFailureSaysWhatToDo(t *testing.T) {
	// Nobody listens where the CA asks.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ca := newTestCA(t, "tls-alpn-01", l.Addr().String())
	certs, err := newCertificates(tlsConfig{domain: "calls.example.org", acmeDirectory: ca.directory(), folder: t.TempDir(), log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := certs.obtain(ctx); err == nil || !strings.Contains(err.Error(), "DNS") {
		t.Errorf("got %v", err)
	}
}

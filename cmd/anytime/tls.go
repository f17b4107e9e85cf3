package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/idna"
)

// tlsConfig says where the certificate comes from: from files, from ACME for a domain, or from
// ourselves. The first that is set counts.
type tlsConfig struct {
	certificate, key string // PEM files
	domain           string
	acmeDirectory    string // "": Let's Encrypt
	selfSigned       bool

	folder  string       // the data folder
	nodeIPs []netip.Addr // what a certificate of our own names besides this machine's addresses
	log     *slog.Logger // nil: slog.Default()
}

// certificates yields the certificate for every TLS listener of ours. There is no goroutine:
// whatever may have changed is looked at during handshakes.
type certificates struct {
	get    func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	domain string            // "": none
	files  *certificateFiles // nil: not from files
	acme   *autocert.Manager // nil: no ACME
	log    *slog.Logger
}

// newCertificates reads or makes the certificate, so that what is wrong shows at start. With a
// domain it is obtained later, by obtain or at the first handshake.
func newCertificates(c tlsConfig) (*certificates, error) {
	log := c.log
	if log == nil {
		log = slog.Default()
	}
	switch {
	case c.certificate != "":
		files := &certificateFiles{certificate: c.certificate, key: c.key, log: log}
		if err := files.load(); err != nil {
			return nil, err
		}
		return &certificates{get: files.get, domain: c.domain, files: files, log: log}, nil
	case c.domain != "":
		domain, err := cleanDomain(c.domain)
		if err != nil {
			return nil, err
		}
		manager := &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(filepath.Join(c.folder, "acme")),
			HostPolicy: autocert.HostWhitelist(domain),
		}
		if c.acmeDirectory != "" {
			manager.Client = &acme.Client{DirectoryURL: c.acmeDirectory}
		}
		get := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			// A client that names no server means the only one there is.
			if hello.ServerName == "" {
				named := *hello
				named.ServerName = domain
				hello = &named
			}
			return manager.GetCertificate(hello)
		}
		return &certificates{get: get, domain: domain, acme: manager, log: log}, nil
	case c.selfSigned:
		own := &ownCertificate{file: filepath.Join(c.folder, "self-signed.pem"), nodeIPs: c.nodeIPs, log: log}
		if err := own.load(time.Now()); err != nil {
			return nil, err
		}
		return &certificates{get: own.get, log: log}, nil
	}
	return nil, errors.New("HTTPS needs a certificate: give --tls-cert and --tls-key, --domain, or --self-signed")
}

// host is how a URL names this server so that the certificate stands for it: the domain, or a name in the certificate's
// file where that doesn't cover the address given.
func (c *certificates) host(address string) string {
	if c.domain != "" {
		return c.domain
	}
	if c.files != nil {
		if certificate, err := c.files.get(nil); err == nil && certificate.Leaf.VerifyHostname(address) != nil {
			for _, name := range certificate.Leaf.DNSNames {
				if hostOnly(name) == name { // no wildcard
					return name
				}
			}
		}
	}
	return address
}

// The application protocols by which one port tells what a client wants (RFC 7301).
const (
	protoHTTP2 = "h2"
	protoHTTP1 = "http/1.1"
	protoTURN  = "stun.turn"          // RFC 7443
	protoSTUN  = "stun.nat-discovery" // RFC 7443
)

// shared is the configuration of a port that serves HTTPS and TURN: see splitTLS. The first that
// the client knows is agreed on: coturn's client offers http/1.1 too, browsers no TURN.
func (c *certificates) shared() *tls.Config {
	return c.config(protoTURN, protoSTUN, protoHTTP2, protoHTTP1)
}

// turn is the configuration of a port that serves TURN alone.
func (c *certificates) turn() *tls.Config {
	return c.config(protoTURN, protoSTUN)
}

func (c *certificates) config(protocols ...string) *tls.Config {
	if c.acme != nil {
		protocols = append(protocols, acme.ALPNProto)
	}
	return &tls.Config{GetCertificate: c.get, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// obtain gets the domain's certificate now rather than at the first visit, and logs the outcome.
// Call it once the listeners that ACME will ask are up: port 443, or redirect's on port 80. It
// returns nil at once where there is no ACME.
func (c *certificates) obtain(ctx context.Context) error {
	if c.acme == nil {
		return nil
	}
	// What today's browsers offer: an ECDSA certificate is what they'll ask for.
	hello := &tls.ClientHelloInfo{
		ServerName:        c.domain,
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13},
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.acme.GetCertificate(hello) // it has a time limit of its own
		done <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		if err != nil {
			err = fmt.Errorf("no certificate for %s: %w (its DNS name must lead here, and ports 80 or 443 be reachable from the internet)", c.domain, err)
			c.log.Error("obtaining the certificate", "error", err)
			return err
		}
		c.log.Info("certificate ready", "domain", c.domain)
		return nil
	}
}

// redirect sends plain HTTP to HTTPS at the given port, and answers ACME's HTTP-01 challenges.
// With a domain, that is where every request is sent, whatever host it names.
func (c *certificates) redirect(port int) http.Handler {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := c.domain
		if host == "" {
			host = hostOnly(r.Host)
		}
		if host == "" {
			http.Error(w, "This server speaks HTTPS: use an https:// address.", http.StatusBadRequest)
			return
		}
		to := "https://" + host
		if port != 443 {
			to += fmt.Sprintf(":%d", port)
		}
		// The request line as it came, which holds neither host nor line breaks.
		path := r.URL.EscapedPath()
		if !strings.HasPrefix(path, "/") {
			path = "/"
		}
		if r.URL.RawQuery != "" {
			path += "?" + r.URL.RawQuery
		}
		// RFC 9110, 15.4.9: 308 keeps method and body.
		w.Header().Set("Location", to+path)
		w.Header().Set("Cache-Control", "max-age=3600")
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	if c.acme != nil {
		h = c.acme.HTTPHandler(h)
	}
	return h
}

// hostOnly takes the host out of a Host header: a name or an address, as it stands in a URL. ""
// stands for none that a browser would accept.
func hostOnly(header string) string {
	if a, err := netip.ParseAddrPort(header); err == nil {
		return bracketed(a.Addr().WithZone("").String())
	}
	if a, err := netip.ParseAddr(strings.Trim(header, "[]")); err == nil {
		return bracketed(a.WithZone("").String())
	}
	name, port, found := strings.Cut(header, ":")
	if found && strings.Trim(port, "0123456789") != "" || len(name) > 253 || name == "" {
		return ""
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_') {
			return ""
		}
	}
	return name
}

// cleanDomain returns the name as it stands in certificates.
func cleanDomain(domain string) (string, error) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || hostOnly(name) != name || name == "" {
		return "", fmt.Errorf("--domain %q: expected a host name such as calls.example.org, without https:// and port", domain)
	}
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
		return "", fmt.Errorf("--domain %q: a certificate is issued for a public host name such as calls.example.org; for addresses and local names use --self-signed", domain)
	}
	return name, nil
}

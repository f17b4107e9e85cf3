package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// certificateFiles is a certificate and key in PEM files, read again when they change.
type certificateFiles struct {
	certificate, key string
	log              *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	read    [2]fs.FileInfo // as they were when last read, or tried
	looked  time.Time
}

// lookEvery is how often handshakes look at the files.
const lookEvery = 5 * time.Second

func (f *certificateFiles) load() error {
	now := time.Now()
	f.looked = now
	var err error
	f.read, err = f.stat()
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s and --tls-key %s: %w", f.certificate, f.key, err)
	}
	f.current = &pair
	if left := pair.Leaf.NotAfter.Sub(now); left < 7*24*time.Hour {
		f.log.Warn("the certificate ends soon: replace the file, it is read again by itself", "file", f.certificate, "ends", pair.Leaf.NotAfter)
	}
	return nil
}

func (f *certificateFiles) stat() (info [2]fs.FileInfo, err error) {
	for i, name := range []string{f.certificate, f.key} {
		if info[i], err = os.Stat(name); err != nil {
			return info, err
		}
	}
	return info, nil
}

// get returns the certificate in force. Files that don't fit together, being replaced perhaps,
// leave the former one in force and are tried again once they change.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookEvery {
		f.look(now)
	}
	return f.current, nil
}

func (f *certificateFiles) look(now time.Time) {
	f.looked = now
	info, err := f.stat()
	if err == nil && same(info[0], f.read[0]) && same(info[1], f.read[1]) {
		return
	}
	if err == nil {
		if err = f.load(); err == nil {
			f.log.Info("certificate read again", "file", f.certificate, "ends", f.current.Leaf.NotAfter)
			return
		}
	}
	f.log.Error("the certificate can't be read again; the former one stays in force", "error", err)
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// ownCertificate is a certificate that vouches for itself: browsers warn about it once. It names
// this machine, its addresses and those announced for media, and is made anew when it doesn't
// name one of them, or ends within a month. Its key stays.
type ownCertificate struct {
	file    string
	nodeIPs []netip.Addr
	log     *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
}

const (
	// ownLife is what browsers and phones accept of a certificate that was trusted by hand.
	ownLife   = 397 * 24 * time.Hour
	ownRenew  = 30 * 24 * time.Hour
	ownLookAt = 10 * time.Minute
)

func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); now.Sub(o.looked) >= ownLookAt {
		if err := o.load(now); err != nil {
			o.log.Error("renewing our own certificate; the former one stays in force", "error", err)
		}
	}
	return o.current, nil
}

// load reads the certificate, or makes one if there is none that will do.
func (o *ownCertificate) load(now time.Time) error {
	o.looked = now
	names, must, may := o.subjects()
	kept, err := readOwn(o.file)
	switch {
	case err == nil && covers(kept.Leaf, names, must) && now.Add(ownRenew).Before(kept.Leaf.NotAfter):
		o.current = kept
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("our own certificate %s can't be read (%w): delete it and it is made anew", o.file, err)
	}
	var key *ecdsa.PrivateKey
	if kept != nil {
		key, _ = kept.PrivateKey.(*ecdsa.PrivateKey)
	}
	made, err := makeOwn(o.file, key, names, append(must, may...), now)
	if err != nil {
		return fmt.Errorf("making our own certificate: %w", err)
	}
	o.current = made
	o.log.Info("made a certificate of our own", "file", o.file, "ends", made.Leaf.NotAfter)
	return nil
}

// subjects are the names and addresses that the certificate must cover. may are this machine's
// IPv6 addresses: they are named too, but as some change every day they are no reason for a new
// certificate, about which everyone would be warned again.
func (o *ownCertificate) subjects() (names []string, must, may []netip.Addr) {
	names = []string{"localhost"}
	if host, err := os.Hostname(); err == nil && hostOnly(host) == host && host != "localhost" && host != "" {
		names = append(names, host)
		if !strings.Contains(host, ".") {
			names = append(names, host+".local")
		}
	}
	must = append(must, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	for _, ip := range o.nodeIPs {
		must = append(must, ip.Unmap().WithZone(""))
	}
	for _, ip := range machineAddresses() {
		if ip.Is4() {
			must = append(must, ip)
		} else {
			may = append(may, ip)
		}
	}
	return names, must, may
}

// covers reports whether the certificate names all of them.
func covers(leaf *x509.Certificate, names []string, ips []netip.Addr) bool {
	for _, name := range names {
		if !slices.Contains(leaf.DNSNames, name) {
			return false
		}
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(leaf.IPAddresses, func(has net.IP) bool { return has.Equal(ip.AsSlice()) }) {
			return false
		}
	}
	return true
}

func readOwn(file string) (*tls.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// makeOwn makes a certificate, with a key of its own if none is given, and keeps both in the file.
func makeOwn(file string, key *ecdsa.PrivateKey, names []string, ips []netip.Addr, now time.Time) (*tls.Certificate, error) {
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Anytime on " + names[len(names)-1]},
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.Add(ownLife - time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
	}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := writeSecret(file, text); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	return &pair, err
}

// writeSecret replaces a file that only its owner may read. A crash leaves the former one or the
// new one, never half of it.
func writeSecret(file string, text []byte) error {
	next, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	err = errors.Join(err, next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		os.Remove(next.Name())
	}
	return err
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// testCA is a certificate authority that speaks enough ACME (RFC 8555) for one order at a time. It
// proves control of the name by really connecting to the given address.
type testCA struct {
	t         *testing.T
	challenge string
	address   string
	server    *httptest.Server
	key       *ecdsa.PrivateKey
	root      *x509.Certificate

	asked, issued atomic.Int32

	mu         sync.Mutex
	thumbprint string
	name       string
	proven     string // the authorization's status
	chain      []byte
}

const testToken = "a-token-of-the-test-authority"

func newTestCA(t *testing.T, challenge, address string) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 24 * 100), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca := &testCA{t: t, challenge: challenge, address: address, key: key}
	if ca.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.server = httptest.NewServer(http.HandlerFunc(ca.serve))
	t.Cleanup(ca.server.Close)
	return ca
}

func (ca *testCA) directory() string { return ca.server.URL + "/directory" }

func (ca *testCA) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.root)
	return pool
}

// signed is a JWS, whose signature we don't check: that is the real authority's business.
type signed struct{ Protected, Payload string }

func (s signed) decode(header, payload any) error {
	for text, to := range map[string]any{s.Protected: header, s.Payload: payload} {
		if text == "" || to == nil {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, to); err != nil {
			return err
		}
	}
	return nil
}

func (ca *testCA) serve(w http.ResponseWriter, r *http.Request) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	url := ca.server.URL
	w.Header().Set("Replay-Nonce", "nonce")
	reply := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(v)
	}
	var body signed
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			reply(http.StatusBadRequest, map[string]string{"detail": err.Error()})
			return
		}
	}
	order := func() map[string]any {
		o := map[string]any{
			"status": "pending", "identifiers": []any{map[string]string{"type": "dns", "value": ca.name}},
			"authorizations": []string{url + "/authorization"}, "finalize": url + "/finalize",
		}
		switch {
		case ca.chain != nil:
			o["status"], o["certificate"] = "valid", url+"/certificate"
		case ca.proven == "valid":
			o["status"] = "ready"
		case ca.proven == "invalid":
			o["status"] = "invalid"
		}
		return o
	}
	switch r.URL.Path {
	case "/directory":
		reply(http.StatusOK, map[string]string{
			"newNonce": url + "/nonce", "newAccount": url + "/account", "newOrder": url + "/new-order",
			"revokeCert": url + "/revoke", "keyChange": url + "/key",
		})
	case "/nonce":
		w.WriteHeader(http.StatusOK)
	case "/account":
		var header struct{ JWK struct{ X, Y string } }
		if err := body.decode(&header, nil); err != nil {
			ca.t.Error(err)
		}
		ca.thumbprint = thumbprint(ca.t, header.JWK.X, header.JWK.Y)
		w.Header().Set("Location", url+"/account/1")
		reply(http.StatusCreated, map[string]string{"status": "valid"})
	case "/new-order":
		var payload struct{ Identifiers []struct{ Value string } }
		if err := body.decode(nil, &payload); err != nil || len(payload.Identifiers) != 1 {
			ca.t.Error("an order for", payload, err)
			return
		}
		ca.name, ca.proven, ca.chain = payload.Identifiers[0].Value, "pending", nil
		w.Header().Set("Location", url+"/order")
		reply(http.StatusCreated, order())
	case "/order":
		w.Header().Set("Location", url+"/order")
		reply(http.StatusOK, order())
	case "/authorization":
		reply(http.StatusOK, map[string]any{
			"status": ca.proven, "identifier": map[string]string{"type": "dns", "value": ca.name},
			"challenges": []any{map[string]string{"type": ca.challenge, "url": url + "/challenge", "token": testToken, "status": ca.proven}},
		})
	case "/challenge":
		ca.asked.Add(1)
		ca.proven = "valid"
		if err := ca.prove(); err != nil {
			ca.t.Log("the authority finds:", err)
			ca.proven = "invalid"
		}
		reply(http.StatusOK, map[string]string{"type": ca.challenge, "url": url + "/challenge", "token": testToken, "status": ca.proven})
	case "/finalize":
		var payload struct{ CSR string }
		if err := body.decode(nil, &payload); err != nil || ca.proven != "valid" {
			ca.t.Error("finalized while", ca.proven, err)
			return
		}
		ca.issue(payload.CSR)
		w.Header().Set("Location", url+"/order")
		reply(http.StatusOK, order())
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(ca.chain)
	default:
		reply(http.StatusNotFound, map[string]string{"detail": r.URL.Path})
	}
}

func thumbprint(t *testing.T, x, y string) string {
	bytes := []byte{4} // an uncompressed point
	for _, text := range []string{x, y} {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Error(err)
		}
		bytes = append(bytes, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), bytes)
	if err != nil {
		t.Error(err)
		return ""
	}
	print, err := acme.JWKThumbprint(key)
	if err != nil {
		t.Error(err)
	}
	return print
}

// prove connects as the authority does, and checks that whoever answers has the account's key.
func (ca *testCA) prove() error {
	want := testToken + "." + ca.thumbprint
	if ca.challenge == "http-01" { // RFC 8555, section 8.3
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, ca.address)
			},
		}}
		response, err := client.Get("http://" + ca.name + "/.well-known/acme-challenge/" + testToken)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); strings.TrimSpace(string(body)) != want {
			return fmt.Errorf("got %q, want %q", body, want)
		}
		return nil
	}
	// RFC 8737, section 3.
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", ca.address,
		&tls.Config{ServerName: ca.name, NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != acme.ALPNProto {
		return fmt.Errorf("agreed on %q", state.NegotiatedProtocol)
	}
	sum := sha256.Sum256([]byte(want))
	expected, err := asn1.Marshal(sum[:])
	if err != nil {
		return err
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != ca.name {
		return fmt.Errorf("a certificate for %v", leaf.DNSNames)
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
			if string(e.Value) == string(expected) {
				return nil
			}
			return errors.New("another account's proof")
		}
	}
	return errors.New("no proof in the certificate")
}

func (ca *testCA) issue(text string) {
	der, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		ca.t.Error(err)
		return
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		ca.t.Error(err)
		return
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: request.DNSNames, Subject: pkix.Name{CommonName: ca.name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 24 * 90),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, ca.root, request.PublicKey, ca.key)
	if err != nil {
		ca.t.Error(err)
		return
	}
	ca.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	ca.issued.Add(1)
}

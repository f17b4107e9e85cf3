package sfu

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	dtlsnet "github.com/pion/dtls/v3/pkg/net"
	"github.com/pion/dtls/v3/pkg/protocol"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/transport/v4/dpipe"
)

// overheard is a conn whose owner shows what it receives.
type overheard struct {
	net.Conn
	received func(b []byte)
}

func (c *overheard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received(b[:n])
	return n, err
}

// dtlsPeers shake hands over a pipe, one of the two with our keys, and return the two ends.
func dtlsPeers(t *testing.T, keys *handshakeKeys, isClient bool, certificate tls.Certificate, suite dtls.CipherSuiteID, profile dtls.SRTPProtectionProfile) (ours, theirs *dtls.Conn) {
	t.Helper()
	one, other := dpipe.Pipe()
	here := &overheard{one, keys.received}
	common := []dtls.Option{dtls.WithCertificates(certificate), dtls.WithCipherSuites(suite), dtls.WithSRTPProtectionProfiles(profile),
		dtls.WithInsecureSkipVerify(true)}
	var serverOptions []dtls.ServerOption
	var clientOptions []dtls.ClientOption
	for _, o := range common {
		serverOptions, clientOptions = append(serverOptions, o), append(clientOptions, o)
	}
	log := dtls.WithKeyLogWriter(keys)
	serverEnd, clientEnd := net.Conn(here), other
	if isClient {
		serverEnd, clientEnd = other, here
		clientOptions = append(clientOptions, log)
	} else {
		serverOptions = append(serverOptions, log, dtls.WithServerHelloMessageHook(func(h handshake.MessageServerHello) handshake.Message {
			keys.hello(&h, false)
			return &h
		}))
	}
	server, err := dtls.ServerWithOptions(dtlsnet.PacketConnFromConn(serverEnd), serverEnd.RemoteAddr(), serverOptions...)
	must(t, err)
	client, err := dtls.ClientWithOptions(dtlsnet.PacketConnFromConn(clientEnd), clientEnd.RemoteAddr(), clientOptions...)
	must(t, err)
	t.Cleanup(func() {
		_ = server.Close()
		_ = client.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = server.HandshakeContext(ctx) })
	wg.Go(func() { errs[1] = client.HandshakeContext(ctx) })
	wg.Wait()
	must(t, errors.Join(errs[:]...))
	if isClient {
		return client, server
	}
	return server, client
}

// TestKeysAreThoseOfTheHandshake: in both roles, with every cipher suite of DTLS and every profile of SRTP.
func TestKeysAreThoseOfTheHandshake(t *testing.T) {
	ec, err := selfsign.GenerateSelfSigned()
	must(t, err)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	of, err := selfsign.SelfSign(crypto.PrivateKey(private))
	must(t, err)
	for _, x := range []struct {
		suite       dtls.CipherSuiteID
		certificate tls.Certificate
		profile     dtls.SRTPProtectionProfile
	}{
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ec, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ec, dtls.SRTP_AEAD_AES_256_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ec, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, ec, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, ec, dtls.SRTP_AEAD_AES_256_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, ec, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, ec, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, ec, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, of, dtls.SRTP_AEAD_AES_128_GCM},
		{dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, of, dtls.SRTP_AEAD_AES_256_GCM},
	} {
		for role, isClient := range map[string]bool{"server": false, "client": true} {
			t.Run(x.suite.String()+"/"+profileName(x.profile)+"/"+role, func(t *testing.T) {
				keys := &handshakeKeys{}
				if _, _, _, err := keys.derive(); !errors.Is(err, errNoKeys) {
					t.Errorf("before the handshake: %v", err)
				}
				ours, theirs := dtlsPeers(t, keys, isClient, x.certificate, x.suite, x.profile)
				profile, send, receive, err := keys.derive()
				must(t, err)
				if agreed, ok := theirs.SelectedSRTPProtectionProfile(); !ok || profile != agreed || profile != x.profile {
					t.Errorf("profile %#x, the peer has %#x", profile, agreed)
				}
				want := testKeys(profile, 0)
				n := len(want.key) + len(want.salt)
				for who, conn := range map[string]*dtls.Conn{"ours": ours, "the peer's": theirs} {
					state, ok := conn.ConnectionState()
					if !ok {
						t.Fatal("no state")
					}
					b, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*n)
					must(t, err)
					client, server := send, receive
					if !isClient {
						client, server = receive, send
					}
					if got := bytes.Join([][]byte{client.key, server.key, client.salt, server.salt}, nil); !bytes.Equal(got, b) {
						t.Errorf("%s keys are others", who)
					}
				}
				if len(send.key) != len(want.key) || len(send.salt) != len(want.salt) {
					t.Errorf("a key of %d bytes, a salt of %d", len(send.key), len(send.salt))
				}
				if keys.master != nil {
					t.Error("the master secret is kept")
				}
				if _, _, _, err := keys.derive(); !errors.Is(err, errNoKeys) {
					t.Errorf("derived a second time: %v", err)
				}
			})
		}
	}
}

// serverHello is a datagram with a ServerHello.
func serverHello(t testing.TB, random byte, profiles ...dtls.SRTPProtectionProfile) []byte {
	t.Helper()
	suite := uint16(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	h := handshake.MessageServerHello{CipherSuiteID: &suite, CompressionMethod: &protocol.CompressionMethod{},
		Extensions: []extension.Extension{&extension.UseSRTP{ProtectionProfiles: profiles}}}
	h.Version.Major, h.Version.Minor = 0xfe, 0xfd
	h.Random.RandomBytes[0] = random
	body, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	n := byte(len(body)) // fewer than 256
	message := append([]byte{dtlsServerHello, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, n}, body...)
	return append([]byte{dtlsHandshakeRecord, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(message))}, message...)
}

func TestServerHellosAreFound(t *testing.T) {
	hello := serverHello(t, 77, dtls.SRTP_AEAD_AES_128_GCM)
	alert := []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0}
	change := func(at int, to byte) []byte {
		b := bytes.Clone(hello)
		b[at] = to
		return b
	}
	for name, x := range map[string]struct {
		b     []byte
		found bool
	}{
		"alone":                {hello, true},
		"behind another":       {append(bytes.Clone(alert), hello...), true},
		"before another":       {append(bytes.Clone(hello), alert...), true},
		"cut off":              {hello[:len(hello)-1], false},
		"of a later epoch":     {change(4, 1), false},
		"of another type":      {change(dtlsRecordHeader, 1), false},
		"no handshake":         {change(0, 23), false},
		"the second part":      {change(dtlsRecordHeader+8, 9), false},
		"part of a longer one": {change(dtlsRecordHeader+3, 255), false},
		"nothing":              {nil, false},
	} {
		keys := &handshakeKeys{}
		keys.received(x.b)
		if found := keys.server != nil; found != x.found {
			t.Errorf("%s: found %v", name, found)
		}
		if x.found && (keys.serves || keys.server[4] != 77 || keys.profile != dtls.SRTP_AEAD_AES_128_GCM) {
			t.Errorf("%s: %+v", name, keys)
		}
	}
}

// TestWhoServesDecides: where we are the server, no ServerHello of the peer's counts.
func TestWhoServesDecides(t *testing.T) {
	keys := &handshakeKeys{}
	suite := uint16(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	keys.hello(&handshake.MessageServerHello{CipherSuiteID: &suite,
		Extensions: []extension.Extension{&extension.UseSRTP{ProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_256_GCM}}}}, false)
	keys.received(serverHello(t, 77, dtls.SRTP_AEAD_AES_128_GCM))
	if !keys.serves || keys.server[4] != 0 || keys.profile != dtls.SRTP_AEAD_AES_256_GCM {
		t.Errorf("%+v", keys)
	}
}

func TestKeyLogLines(t *testing.T) {
	secret := strings.Repeat("ab", 48)
	for line, taken := range map[string]bool{
		"CLIENT_RANDOM " + strings.Repeat("01", 32) + " " + secret + "\n": true,
		"SERVER_TRAFFIC_SECRET_0 01 " + secret:                            false,
		"CLIENT_RANDOM 01":                                                false,
		"CLIENT_RANDOM zz " + secret:                                      false,
		"CLIENT_RANDOM 01 zz":                                             false,
		"":                                                                false,
	} {
		keys := &handshakeKeys{}
		if n, err := keys.Write([]byte(line)); err == nil && n != len(line) {
			t.Errorf("%q: %d bytes without an error", line, n)
		}
		if (keys.master != nil) != taken {
			t.Errorf("%q: taken %v", line, !taken)
		}
	}
}

// TestUnofferedProfile: a profile that we didn't offer makes no keys.
func TestUnofferedProfile(t *testing.T) {
	for _, profiles := range [][]dtls.SRTPProtectionProfile{{dtls.SRTP_AES128_CM_HMAC_SHA1_32}, {}, {dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM}} {
		keys := &handshakeKeys{}
		_, err := keys.Write([]byte("CLIENT_RANDOM " + strings.Repeat("01", 32) + " " + strings.Repeat("ab", 48)))
		must(t, err)
		keys.received(serverHello(t, 1, profiles...))
		if _, _, _, err := keys.derive(); err == nil || keys.server == nil {
			t.Errorf("%v: %v", profiles, err)
		}
	}
}

// FuzzServerHello: whatever DTLS comes doesn't panic, and brings in what a ServerHello has alone.
func FuzzServerHello(f *testing.F) {
	hello := serverHello(f, 1, dtls.SRTP_AEAD_AES_128_GCM)
	f.Add(hello)
	f.Add(append(bytes.Clone(hello), hello...))
	f.Add(hello[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		keys := &handshakeKeys{}
		before := bytes.Clone(b)
		keys.received(b)
		if !bytes.Equal(b, before) {
			t.Error("changed what Pion reads after it")
		}
		if keys.server != nil && (len(keys.server) != handshake.RandomLength || keys.serves || !bytes.Contains(b, keys.server)) {
			t.Errorf("found %+v", keys)
		}
		if _, _, _, err := keys.derive(); !errors.Is(err, errNoKeys) {
			t.Errorf("keys without a secret: %v", err)
		}
	})
}

package sfu

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
)

// handshakeKeys gathers what the keys of SRTP follow from, as Pion's DTLS makes it: the master secret and the client's random
// from its key log, the server's random, the cipher suite and the SRTP profile from the ServerHello. It must be DTLS 1.2, which
// is what Pion speaks. What it holds is forgotten with [handshakeKeys.derive], and never logged.
type handshakeKeys struct {
	mu             sync.Mutex
	master         []byte
	client, server []byte // randoms
	suite          uint16
	profile        dtls.SRTPProtectionProfile
	serves         bool // we are the server of the handshake
	done           bool
}

var errNoKeys = errors.New("the DTLS handshake hasn't got that far")

// Write takes a line of Pion's key log: "CLIENT_RANDOM", the client's random and the master secret, in hex.
func (k *handshakeKeys) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fields := bytes.Fields(line)
	if len(fields) != 3 || string(fields[0]) != "CLIENT_RANDOM" || k.done {
		return len(line), nil
	}
	client, err := hex.AppendDecode(nil, fields[1])
	if err != nil {
		return 0, err
	}
	master, err := hex.AppendDecode(nil, fields[2])
	if err != nil {
		return 0, err
	}
	k.client, k.master = client, master
	return len(line), nil
}

// hello takes the ServerHello of the handshake: our own, or else the peer's. Once we serve, the peer has none.
func (k *handshakeKeys) hello(h *handshake.MessageServerHello, isClient bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done || h.CipherSuiteID == nil || isClient && k.serves {
		return
	}
	k.serves = !isClient
	random := h.Random.MarshalFixed()
	k.server, k.suite = random[:], *h.CipherSuiteID
	for _, x := range h.Extensions {
		if u, ok := x.(*extension.UseSRTP); ok && len(u.ProtectionProfiles) == 1 {
			k.profile = u.ProtectionProfiles[0]
		}
	}
}

// What stands in front of a ServerHello on the wire.
const (
	dtlsRecordHeader    = 13 // RFC 6347 section 4.1
	dtlsHandshakeHeader = 12 // section 4.2.2
	dtlsHandshakeRecord = 22
	dtlsServerHello     = 2
)

// received looks for a ServerHello in a DTLS datagram of the peer's: Pion tells of its own alone. Others that pretend to be
// the server can only bring in what yields other keys than the server has.
func (k *handshakeKeys) received(b []byte) {
	k.mu.Lock()
	done := k.done
	k.mu.Unlock()
	for !done && len(b) >= dtlsRecordHeader+dtlsHandshakeHeader {
		length := int(b[11])<<8 | int(b[12])
		if length > len(b)-dtlsRecordHeader {
			return
		}
		record := b[dtlsRecordHeader : dtlsRecordHeader+length]
		epoch := int(b[3])<<8 | int(b[4])
		if b[0] == dtlsHandshakeRecord && epoch == 0 && length > dtlsHandshakeHeader && record[0] == dtlsServerHello {
			size := int(record[1])<<16 | int(record[2])<<8 | int(record[3])
			offset := int(record[6])<<16 | int(record[7])<<8 | int(record[8])
			body := record[dtlsHandshakeHeader:]
			var h handshake.MessageServerHello
			if offset == 0 && size <= len(body) && h.Unmarshal(body[:size]) == nil {
				k.hello(&h, true)
			}
		}
		b = b[dtlsRecordHeader+length:]
	}
}

// derive returns the master keys of what we send and of what the peer sends. It must not be called before the handshake is
// over, and succeeds once.
func (k *handshakeKeys) derive() (profile dtls.SRTPProtectionProfile, ours, theirs masterKeys, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done || k.master == nil || k.server == nil {
		return 0, ours, theirs, errNoKeys
	}
	// RFC 5764 section 4.1.2.
	keyLength, saltLength := 16, 14
	switch k.profile {
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
	case dtls.SRTP_AEAD_AES_128_GCM: // RFC 7714 section 14.2
		saltLength = 12
	case dtls.SRTP_AEAD_AES_256_GCM:
		keyLength, saltLength = 32, 12
	default:
		return 0, ours, theirs, fmt.Errorf("DTLS settled on the SRTP profile %#04x, which wasn't offered", uint16(k.profile))
	}
	// RFC 5705 section 4: PRF(master_secret, label, client_random + server_random).
	seed := bytes.Join([][]byte{[]byte("EXTRACTOR-dtls_srtp"), k.client, k.server}, nil)
	b, err := prf.PHash(k.master, seed, 2*(keyLength+saltLength), suiteHash(k.suite))
	if err != nil {
		return 0, ours, theirs, fmt.Errorf("deriving the SRTP keys: %w", err)
	}
	// RFC 5764 section 4.2: client_write_SRTP_master_key, server_write_SRTP_master_key, then the salts in that order.
	cut := func(n int) (part []byte) {
		part, b = b[:n:n], b[n:]
		return part
	}
	client, server := masterKeys{key: cut(keyLength)}, masterKeys{key: cut(keyLength)}
	client.salt, server.salt = cut(saltLength), cut(saltLength)
	clear(k.master)
	k.master, k.done = nil, true
	if k.serves {
		return k.profile, server, client, nil
	}
	return k.profile, client, server, nil
}

// suiteHash is the hash of a cipher suite's pseudorandom function: SHA-256, but for those that name SHA-384 (RFC 5289
// section 3).
func suiteHash(suite uint16) func() hash.Hash {
	switch dtls.CipherSuiteID(suite) {
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return sha512.New384
	}
	return sha256.New
}

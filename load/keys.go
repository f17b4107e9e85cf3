package load

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/srtp/v3"
)

// secrets holds the master secrets of the generator's own DTLS connections, by client random, as Pion's key log tells them.
// Each is taken once.
type secrets struct {
	mu sync.Mutex
	by map[[32]byte][]byte
}

// Write takes a line of the key log: CLIENT_RANDOM, the random and the master secret in hexadecimal.
func (s *secrets) Write(line []byte) (int, error) {
	if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "CLIENT_RANDOM" {
		random, err := hex.DecodeString(string(f[1]))
		master, err2 := hex.DecodeString(string(f[2]))
		if err == nil && err2 == nil && len(random) == 32 {
			s.mu.Lock()
			s.by[[32]byte(random)] = master
			s.mu.Unlock()
		}
	}
	return len(line), nil
}

func (s *secrets) take(random [32]byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	master := s.by[random]
	delete(s.by, random)
	return master
}

// handshake watches the clear part of a DTLS 1.2 handshake (RFC 6347 §4) for what the SRTP keys are made of besides the
// master secret (RFC 5764 §4.2).
type handshake struct {
	client, server       [32]byte
	haveClient, haveHere bool
	isClient             bool // we are
	suite                uint16
	profile              srtp.ProtectionProfile
}

const (
	recordHandshake = 22
	helloClient     = 1
	helloServer     = 2
	extUseSRTP      = 14 // RFC 5764 §4.1.1
)

// see takes a datagram in either direction.
func (h *handshake) see(datagram []byte, outgoing bool) {
	for len(datagram) >= 13 { // RFC 6347 §4.1: type, version, epoch, sequence number, length
		length := int(binary.BigEndian.Uint16(datagram[11:]))
		if len(datagram) < 13+length {
			return
		}
		if epoch := binary.BigEndian.Uint16(datagram[3:]); datagram[0] == recordHandshake && epoch == 0 {
			h.messages(datagram[13:13+length], outgoing)
		}
		datagram = datagram[13+length:]
	}
}

// messages reads the handshake messages of a record (RFC 6347 §4.2.2). Hellos are never in fragments.
func (h *handshake) messages(b []byte, outgoing bool) {
	for len(b) >= 12 {
		kind := b[0]
		total := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		length := int(b[9])<<16 | int(b[10])<<8 | int(b[11])
		if len(b) < 12+length {
			return
		}
		body := b[12 : 12+length]
		b = b[12+length:]
		if length != total || length < 34 {
			continue
		}
		switch kind {
		case helloClient:
			h.client, h.haveClient, h.isClient = [32]byte(body[2:34]), true, outgoing
		case helloServer:
			h.serverHello(body)
		}
	}
}

// serverHello reads RFC 5246 §7.4.1.3: version, random, session id, cipher suite, compression, extensions.
func (h *handshake) serverHello(b []byte) {
	random := [32]byte(b[2:34])
	b = b[34:]
	if len(b) < 1 || len(b) < 1+int(b[0])+5 {
		return
	}
	b = b[1+int(b[0]):]
	h.suite = binary.BigEndian.Uint16(b)
	extensions := b[5:]
	for len(extensions) >= 4 {
		kind, length := binary.BigEndian.Uint16(extensions), int(binary.BigEndian.Uint16(extensions[2:]))
		if len(extensions) < 4+length {
			return
		}
		if e := extensions[4 : 4+length]; kind == extUseSRTP && length >= 4 {
			h.profile = srtp.ProtectionProfile(binary.BigEndian.Uint16(e[2:]))
			h.server, h.haveHere = random, true
		}
		extensions = extensions[4+length:]
	}
}

// keyed returns a context that reads what the other side protects, nil when the handshake isn't that far. It only ever
// reads: Pion's own session protects what we send.
func (h *handshake) keyed(s *secrets) (*srtp.Context, error) {
	if !h.haveClient || !h.haveHere {
		return nil, nil
	}
	master := s.take(h.client)
	if master == nil {
		return nil, nil
	}
	keyLen, err := h.profile.KeyLen()
	if err != nil {
		return nil, fmt.Errorf("the server's SRTP profile: %w", err)
	}
	saltLen, err := h.profile.SaltLen()
	if err != nil {
		return nil, fmt.Errorf("the server's SRTP profile: %w", err)
	}
	// RFC 5246 §5: SHA-256 unless the cipher suite names another.
	hashed := func() hash.Hash { return sha256.New() }
	if h.suite == 0xc02c || h.suite == 0xc030 {
		hashed = sha512.New384
	}
	// RFC 5705 §4 without a context; RFC 5764 §4.2: client's key, server's key, client's salt, server's salt.
	seed := append([]byte("EXTRACTOR-dtls_srtp"), h.client[:]...)
	seed = append(seed, h.server[:]...)
	material, err := prf.PHash(master, seed, 2*(keyLen+saltLen), hashed)
	if err != nil {
		return nil, fmt.Errorf("derive SRTP keys: %w", err)
	}
	key, salt := material[:keyLen], material[2*keyLen:2*keyLen+saltLen]
	if h.isClient {
		key, salt = material[keyLen:2*keyLen], material[2*keyLen+saltLen:]
	}
	c, err := srtp.CreateContext(key, salt, h.profile)
	if err != nil {
		return nil, fmt.Errorf("derive SRTP keys: %w", err)
	}
	return c, nil
}

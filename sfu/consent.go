package sfu

import (
	"crypto/hmac"
	"crypto/sha1" // #nosec: what STUN's message integrity is made of, RFC 8489 section 14.5
	"encoding/binary"
	"hash"
	"hash/crc32"
	"net/netip"
	"sync"
)

// Most checks only ask whether we are still there (RFC 7675): they come every few seconds over the pair that is in use. Where the
// agent is a lite one they are answered on the goroutine of the reader; through Pion's agent each costs two goroutines' wake-up.
// The agent gets all others: from elsewhere, to other credentials, or with a role that isn't a client's.

// consent lets checks to our latest ICE credentials be answered here, where they ask for nothing new.
func (p *plane) consent(fragment, password string) {
	p.mux.mu.RLock()
	g := p.mux.generations[fragment]
	p.mux.mu.RUnlock()
	if g != nil && g.p == p && g.consenter.Load() == nil {
		g.consenter.Store(newConsenter(password))
	}
}

// consents answers a check that asks for nothing new: over the UDP pair in use, which the agent has chosen with these credentials.
func (g *generation) consents(b []byte, m stunMessage, from netip.AddrPort) bool {
	c := g.consenter.Load()
	if c == nil {
		return false
	}
	g.mu.Lock()
	chosen := g.nominated == from && !g.closed
	g.mu.Unlock()
	if w := g.p.way.Load(); !chosen || w == nil || w.stream != nil || w.to != from || g.p.mux.at(from) != g.p {
		return false // the address may have become another one's: the agent's answer takes it back
	}
	return c.answer(b, m, from, func(reply []byte) {
		now := g.p.mux.clock()
		g.p.alive(now)
		g.p.heard.Store(int64(max(now, 1)))
		_ = g.p.mux.write(reply, from) // one that is lost is asked for again
	})
}

// consenter answers checks for one set of ICE credentials.
type consenter struct {
	mu     sync.Mutex
	mac    hash.Hash
	header [stunHeader]byte
	sum    [sha1.Size]byte
	reply  [maxConsentReply]byte
}

const (
	stunXORMappedAddress = 0x0020
	stunFingerprint      = 0x8028
	stunFingerprintXOR   = 0x5354554e // RFC 8489 section 14.7
	integrityLength      = 4 + sha1.Size
	fingerprintLength    = 4 + 4
	// maxConsentReply: header, an IPv6 address, integrity, fingerprint.
	maxConsentReply = stunHeader + 4 + 20 + integrityLength + fingerprintLength
)

func newConsenter(password string) *consenter {
	return &consenter{mac: hmac.New(sha1.New, []byte(password))}
}

// answer hands the answer to a check from an address to send, if m, which b was parsed to, is a request with our password and
// asks nothing but that. It reports whether it was. The answer is the consenter's again when send returns.
func (c *consenter) answer(b []byte, m stunMessage, from netip.AddrPort, send func([]byte)) bool {
	if binary.BigEndian.Uint16(b) != stunBindingRequest || m.controlled || m.integrity == 0 || len(b) < m.integrity+integrityLength {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sign(b[:m.integrity])
	if !hmac.Equal(c.sum[:], b[m.integrity+4:][:sha1.Size]) {
		return false
	}
	r := append(c.reply[:0], b[:stunHeader]...)
	binary.BigEndian.PutUint16(r, stunBindingSuccess)
	// RFC 8489 section 14.2.
	a, port := from.Addr().Unmap(), from.Port()^uint16(stunCookie>>16)
	r = binary.BigEndian.AppendUint16(r, stunXORMappedAddress)
	at := stunHeader + 8
	if a.Is4() {
		ip := a.As4()
		r = append(r, 0, 8, 0, 1, byte(port>>8), byte(port))
		r = append(r, ip[:]...)
	} else {
		ip := a.As16()
		r = append(r, 0, 20, 0, 2, byte(port>>8), byte(port))
		r = append(r, ip[:]...)
	}
	for i := range r[at:] {
		r[at+i] ^= b[4+i] // the cookie and the transaction's id
	}
	c.sign(r)
	r = binary.BigEndian.AppendUint16(r, stunIntegrity)
	r = binary.BigEndian.AppendUint16(r, sha1.Size)
	r = append(r, c.sum[:]...)
	// Section 14.7: over all before it, with the length that includes it.
	setSTUNLength(r, len(r)+fingerprintLength)
	crc := crc32.ChecksumIEEE(r) ^ stunFingerprintXOR
	r = binary.BigEndian.AppendUint16(r, stunFingerprint)
	r = binary.BigEndian.AppendUint16(r, 4)
	r = binary.BigEndian.AppendUint32(r, crc)
	send(r)
	return true
}

// sign writes the message integrity of what comes before it in a message into sum: RFC 8489 section 14.5, "the length … of the
// message up to, and including, the MESSAGE-INTEGRITY attribute".
func (c *consenter) sign(b []byte) {
	copy(c.header[:], b)
	setSTUNLength(c.header[:], len(b)+integrityLength)
	c.mac.Reset()
	c.mac.Write(c.header[:])
	c.mac.Write(b[stunHeader:])
	c.mac.Sum(c.sum[:0])
}

// setSTUNLength writes the length of a message of so many bytes, header included.
func setSTUNLength(b []byte, n int) { binary.BigEndian.PutUint16(b[2:], uint16(n-stunHeader)) }

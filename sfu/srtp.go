package sfu

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"anytime/sfu/codec"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// A peer connection has one owner of its SRTP, which is here: both directions, all paths. Packets are protected in the buffer
// in which they leave, and opened in the one in which they came. AES-GCM is our own code on the standard library's cipher
// (RFC 7714); other ciphers, and all RTCP, go through Pion's contexts, which hold keys of their own (RFC 3711 section 4.3.1).

const (
	// gcmTag is the length of AES-GCM's authentication tag in bytes (RFC 7714 section 13.2), maxTag that of the longest.
	gcmTag = 16
	maxTag = gcmTag
	// maxProtected bounds the SSRCs, those of RTCP included, that a peer may have us keep state for: only authentic packets make
	// one. Who exceeds it is up to no good.
	maxProtected = 4096
	// maxIndex is how many packets there may be under one key: RFC 3711 section 9.2.
	maxIndex = 1 << 48
)

var (
	errReplayed  = errors.New("a packet that came before")
	errForged    = errors.New("a packet that isn't authentic")
	errExhausted = errors.New("too many packets under one key")
	errSources   = fmt.Errorf("more than %d sources: %w", maxProtected, ErrLimit)
)

// masterKeys are what DTLS-SRTP gives for one direction (RFC 5764 section 4.2).
type masterKeys struct{ key, salt []byte }

// gcmKeys are the session key and salt of SRTP under AES-GCM.
type gcmKeys struct {
	aead  cipher.AEAD
	salt  [12]byte
	nonce [12]byte // scratch: a local one would be moved to the heap
}

func newGCM(m masterKeys) (*gcmKeys, error) {
	// RFC 7714 section 11, after RFC 3711 section 4.3: label 0 makes the key, label 2 the salt.
	key, err := deriveKey(m, 0, len(m.key))
	if err != nil {
		return nil, err
	}
	salt, err := deriveKey(m, 2, 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	k := &gcmKeys{aead: aead}
	copy(k.salt[:], salt)
	return k, nil
}

// deriveKey is RFC 3711 section 4.3.3 with a key derivation rate of 0: AES in counter mode, its input the salt with the
// label's bits inverted.
func deriveKey(m masterKeys, label byte, length int) ([]byte, error) {
	block, err := aes.NewCipher(m.key)
	if err != nil {
		return nil, err
	}
	var iv [aes.BlockSize]byte
	copy(iv[:14], m.salt)
	iv[7] ^= label
	out := make([]byte, length)
	cipher.NewCTR(block, iv[:]).XORKeyStream(out, out)
	return out, nil
}

// initialise makes the nonce of a packet. RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter and sequence number,
// exclusive-or the salt.
func (k *gcmKeys) initialise(ssrc uint32, index uint64) {
	salt := &k.salt
	k.nonce[0], k.nonce[1] = salt[0], salt[1]
	binary.BigEndian.PutUint32(k.nonce[2:], ssrc^binary.BigEndian.Uint32(salt[2:]))
	binary.BigEndian.PutUint32(k.nonce[6:], uint32(index>>16)^binary.BigEndian.Uint32(salt[6:]))
	binary.BigEndian.PutUint16(k.nonce[10:], uint16(index)^binary.BigEndian.Uint16(salt[10:]))
}

// rollover follows the packet index of one SSRC: RFC 3711 section 3.3.1.
type rollover struct {
	highest uint64
	begun   bool
}

// index returns the index of a sequence number: of those that it may have, the nearest to the highest so far. There is none
// before the first cycle. Of two that are half a cycle away, appendix A takes the one of the same cycle.
func (r *rollover) index(sequence uint16) uint64 {
	if !r.begun {
		return uint64(sequence)
	}
	d := int64(int16(sequence - uint16(r.highest)))
	switch {
	case d < 0 && uint64(-d) > r.highest:
		return uint64(sequence)
	case d == -1<<15 && uint16(r.highest) < 1<<15:
		d = 1 << 15
	}
	return r.highest + uint64(d)
}

func (r *rollover) reach(index uint64) {
	if !r.begun || index > r.highest {
		r.begun, r.highest = true, index
	}
}

// sealer protects the RTP that we send on one peer connection. Guarded by the egress. RTCP has a context of its own.
type sealer struct {
	gcm     *gcmKeys      // nil for other ciphers, which context has
	context *srtp.Context // nil with gcm
	rtp     map[uint32]*rollover
	latest  *rollover
	ssrc    uint32     // of latest
	header  rtp.Header // scratch of context, as is the next
	scratch []byte
}

func newSealer(profile dtls.SRTPProtectionProfile, m masterKeys) (*sealer, error) {
	s := &sealer{rtp: map[uint32]*rollover{}}
	var err error
	if isGCM(profile) {
		s.gcm, err = newGCM(m)
	} else {
		s.context, err = srtp.CreateContext(m.key, m.salt, srtp.ProtectionProfile(profile))
	}
	return s, err
}

func isGCM(p dtls.SRTPProtectionProfile) bool {
	return p == dtls.SRTP_AEAD_AES_128_GCM || p == dtls.SRTP_AEAD_AES_256_GCM
}

// seal protects an RTP packet of ours where it lies and returns it with its tag, for which b must have the capacity.
func (s *sealer) seal(b []byte, header int) ([]byte, error) {
	if s.gcm == nil {
		var err error
		if s.scratch, err = s.context.EncryptRTP(s.scratch[:0], b, &s.header); err != nil {
			return nil, err
		}
		return append(b[:0], s.scratch...), nil
	}
	sequence, ssrc := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])
	if s.latest == nil || s.ssrc != ssrc {
		if s.latest = s.rtp[ssrc]; s.latest == nil {
			s.latest = &rollover{}
			s.rtp[ssrc] = s.latest
		}
		s.ssrc = ssrc
	}
	index := s.latest.index(sequence)
	if index >= maxIndex {
		return nil, errExhausted
	}
	s.latest.reach(index)
	s.gcm.initialise(ssrc, index)
	return s.gcm.aead.Seal(b[:header], s.gcm.nonce[:], b[header:], b[:header]), nil
}

// opener takes the protection off what a peer sends. Guarded by the plane.
type opener struct {
	gcm     *gcmKeys // nil for other ciphers, which context has
	context *srtp.Context
	rtp     map[uint32]*replay // nil values: of context
	rtcp    map[uint32]bool
	latest  *replay
	ssrc    uint32
	header  rtp.Header // scratch of context
}

func newOpener(profile dtls.SRTPProtectionProfile, m masterKeys) (*opener, error) {
	context, err := srtp.CreateContext(m.key, m.salt, srtp.ProtectionProfile(profile),
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		return nil, err
	}
	o := &opener{context: context, rtp: map[uint32]*replay{}, rtcp: map[uint32]bool{}}
	if isGCM(profile) {
		if o.gcm, err = newGCM(m); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// open opens an RTP packet where it lies and returns the plaintext packet.
func (o *opener) open(b []byte) ([]byte, error) {
	h, err := codec.ParseClear(b)
	start := int(h.PayloadStart)
	if err != nil || len(b) < start+gcmTag && o.gcm != nil {
		return nil, errForged
	}
	if o.gcm == nil {
		if _, known := o.rtp[h.SSRC]; !known && o.full() {
			return nil, errSources
		}
		if b, err = o.context.DecryptRTP(b[:0:len(b)], b, &o.header); err == nil {
			o.rtp[h.SSRC] = nil
		}
		return b, err
	}
	r := o.latest
	if r == nil || o.ssrc != h.SSRC {
		r = o.rtp[h.SSRC]
	}
	fresh := r == nil
	if fresh {
		if o.full() {
			return nil, errSources
		}
		r = &replay{}
	}
	index := r.index(h.Sequence)
	if r.came(index) {
		return nil, errReplayed
	}
	o.gcm.initialise(h.SSRC, index)
	plain, err := o.gcm.aead.Open(b[:start], o.gcm.nonce[:], b[start:], b[:start])
	if err != nil {
		return nil, errForged
	}
	// RFC 3711 section 3.3: only now is anything noted.
	r.note(index)
	if fresh {
		o.rtp[h.SSRC] = r
	}
	o.latest, o.ssrc = r, h.SSRC
	return plain, nil
}

func (o *opener) full() bool { return len(o.rtp)+len(o.rtcp) >= maxProtected }

// openRTCP opens a packet of RTCP where it lies.
func (o *opener) openRTCP(b []byte) ([]byte, error) {
	if len(b) < 8 {
		return nil, errForged
	}
	ssrc := binary.BigEndian.Uint32(b[4:])
	if !o.rtcp[ssrc] && o.full() {
		return nil, errSources
	}
	plain, err := o.context.DecryptRTCP(b[:0:len(b)], b, nil)
	if err == nil && !o.rtcp[ssrc] {
		o.rtcp[ssrc] = true
	}
	return plain, err
}

// replay is the replay list of one SSRC (RFC 3711 section 3.3.2): which of the last replayWindow packets came.
type replay struct {
	rollover
	window [replayWindow / 64]uint64 // a bit for each index, modulo the window
}

// came reports whether the packet came before, or is too old to tell.
func (r *replay) came(index uint64) bool {
	switch {
	case !r.begun || index > r.highest:
		return false
	case r.highest-index >= replayWindow:
		return true
	}
	return r.window[index%replayWindow/64]&(1<<(index%64)) != 0
}

func (r *replay) note(index uint64) {
	if r.begun && index > r.highest {
		if index-r.highest >= replayWindow {
			r.window = [replayWindow / 64]uint64{}
		} else {
			for i := r.highest + 1; i < index; i++ {
				r.window[i%replayWindow/64] &^= 1 << (i % 64)
			}
		}
	}
	r.reach(index)
	r.window[index%replayWindow/64] |= 1 << (index % 64)
}

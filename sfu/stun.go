package sfu

import (
	"bytes"
	"crypto/sha1" // #nosec: the length of STUN's message integrity
	"encoding/binary"
)

// packetKind is what a packet's first byte says it is: RFC 7983 section 7.
type packetKind uint8

const (
	kindOther packetKind = iota
	kindSTUN
	kindDTLS
	kindMedia // SRTP and SRTCP
)

func kindOf(b []byte) packetKind {
	switch {
	case len(b) == 0:
	case b[0] <= 3:
		return kindSTUN
	case b[0] >= 20 && b[0] <= 63:
		return kindDTLS
	case b[0] >= 128 && b[0] <= 191:
		return kindMedia
	}
	return kindOther
}

// isRTCP tells RTCP from RTP. RFC 5761 section 4: by the packet type, 192 to 223.
func isRTCP(b []byte) bool { return len(b) > 1 && b[1] >= 192 && b[1] <= 223 }

// stunMessage is what we look at in a STUN message. What it says is checked by the consenter (consent.go) or by the ICE agent.
type stunMessage struct {
	fragment  []byte // the receiver's user fragment, nil if it names none
	nominates bool
	// controlled: its sender doesn't take the controlling role.
	controlled bool
	integrity  int // where MESSAGE-INTEGRITY begins, in bytes from the start; 0 if there is none
}

const (
	stunHeader         = 20         // bytes
	stunCookie         = 0x2112a442 // RFC 8489 section 5
	stunBindingRequest = 0x0001
	stunBindingSuccess = 0x0101
	stunUsername       = 0x0006
	stunIntegrity      = 0x0008
	stunIntegrity256   = 0x001c
	stunUseCandidate   = 0x0025 // RFC 8445 section 16.1
	stunIceControlled  = 0x8029 // the same
	// maxFragment is of an ICE user fragment, in bytes: RFC 8839 section 5.4.
	maxFragment = 256
)

// parseSTUN reads a STUN message: RFC 8489 sections 5 and 14.
func parseSTUN(b []byte) (m stunMessage, ok bool) {
	if len(b) < stunHeader || binary.BigEndian.Uint32(b[4:]) != stunCookie || int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeader {
		return m, false
	}
	named := false
	for rest := b[stunHeader:]; len(rest) >= 4; {
		kind, length := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := 4 + (length+3)&^3
		if padded > len(rest) {
			return m, false
		}
		switch value := rest[4 : 4+length]; kind {
		case stunUsername:
			// RFC 8445 section 7.2.2: "the username fragment of the receiver … a colon … the sender's".
			if named {
				break // section 14: of several the first counts
			}
			named = true
			if fragment, _, found := bytes.Cut(value, colon); found && len(fragment) <= maxFragment {
				m.fragment = fragment
			}
		case stunUseCandidate:
			m.nominates = true
		case stunIceControlled:
			m.controlled = true
		case stunIntegrity, stunIntegrity256: // section 14.5: what follows it is ignored
			if kind == stunIntegrity && length == sha1.Size {
				m.integrity = len(b) - len(rest)
			}
			return m, true
		}
		rest = rest[padded:]
	}
	return m, true
}

var colon = []byte{':'}

// checkedFragment returns the user fragment that a connectivity check names as its receiver's, "" of anything else.
func checkedFragment(b []byte) string {
	m, ok := parseSTUN(b)
	if !ok || binary.BigEndian.Uint16(b) != stunBindingRequest {
		return ""
	}
	return string(m.fragment)
}

// isSuccess reports whether an ICE agent answers a check by saying that it was well.
func isSuccess(b []byte) bool {
	return len(b) >= stunHeader && binary.BigEndian.Uint16(b) == stunBindingSuccess
}

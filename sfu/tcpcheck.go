package sfu

import (
	"bytes"
	"encoding/binary"
)

const (
	stunHeader         = 20 // bytes
	stunBindingRequest = 0x0001
	stunCookie         = 0x2112a442
	stunUsername       = 0x0006
	stunIntegrity      = 0x0008
	stunIntegrity256   = 0x001c
	// maxFragment is of an ICE user fragment, in bytes: RFC 8839 section 5.4.
	maxFragment = 256
)

// checkedFragment returns the user fragment that a connectivity check names as its receiver's: what stands before the colon of
// the USERNAME (RFC 8445 section 7.2.2) of a STUN binding request (RFC 8489 section 5). It is "" of anything else.
func checkedFragment(b []byte) string {
	if len(b) < stunHeader || binary.BigEndian.Uint16(b) != stunBindingRequest || binary.BigEndian.Uint32(b[4:]) != stunCookie {
		return ""
	}
	// Attributes are padded to four bytes, so their length as a whole is a multiple of it.
	if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b)-stunHeader || n%4 != 0 {
		return ""
	}
	for b = b[stunHeader:]; len(b) >= 4; {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
		if n > len(b) {
			return ""
		}
		switch kind {
		case stunUsername:
			ufrag, _, ok := bytes.Cut(b[:n], []byte{':'})
			if !ok || len(ufrag) > maxFragment {
				return ""
			}
			return string(ufrag) // RFC 8489 section 14: of several attributes of a type the first counts
		case stunIntegrity, stunIntegrity256: // RFC 8489 section 14.5: what follows it is ignored
			return ""
		}
		b = b[(n+3)&^3:] // len(b) is a multiple of four
	}
	return ""
}

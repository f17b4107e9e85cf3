package turn

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Types of messages and attributes that carry data (RFC 8656, sections 17 and 18).
const (
	sendIndication = 0x0016
	dataIndication = 0x0017
	attrPeer       = 0x0012 // XOR-PEER-ADDRESS
	attrData       = 0x0013
	// attrOptional is set in the types of attributes that a receiver may ignore (RFC 8489, section 14).
	attrOptional = 0x8000
)

// envelope is the form in which a peer's packets go to a client: ChannelData, or for channel 0 a Data indication.
type envelope struct {
	channel uint16
	peer    netip.AddrPort
}

// size is that of a packet of n bytes in the envelope. padded is for streams, where ChannelData is padded to a multiple of
// four bytes (RFC 8656, section 12.5).
func (e envelope) size(n int, padded bool) int {
	switch {
	case e.channel == 0:
		return e.head() + (n+3)&^3
	case padded:
		return channelHeader + (n+3)&^3
	}
	return channelHeader + n
}

// head is what comes before the packet in a Data indication: the header, XOR-PEER-ADDRESS, and the header of DATA.
func (e envelope) head() int {
	if e.peer.Addr().Is4() {
		return stunHeader + 12 + 4
	}
	return stunHeader + 24 + 4
}

// put writes a packet in its envelope to the beginning of b, which has room for it, and returns the size.
func (e envelope) put(b, packet []byte, padded bool) int {
	size := e.size(len(packet), padded)
	b = b[:size]
	at := channelHeader
	if e.channel != 0 {
		// RFC 8656, section 12.4: the length "doesn't include any padding".
		binary.BigEndian.PutUint16(b, e.channel)
		binary.BigEndian.PutUint16(b[2:], uint16(len(packet)))
	} else {
		at = e.putHead(b, len(packet))
	}
	clear(b[at+copy(b[at:], packet):])
	return size
}

// putHead writes a Data indication up to the packet itself: RFC 8656, section 11.3.
func (e envelope) putHead(b []byte, packet int) int {
	binary.BigEndian.PutUint16(b, dataIndication)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeader))
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	binary.BigEndian.PutUint32(b[8:], rand.Uint32())
	binary.BigEndian.PutUint64(b[12:], rand.Uint64())

	at := e.head() - 4
	binary.BigEndian.PutUint16(b[stunHeader:], attrPeer)
	binary.BigEndian.PutUint16(b[stunHeader+2:], uint16(at-stunHeader-4))
	putXORAddress(b[stunHeader+4:at], b[4:stunHeader], e.peer)
	binary.BigEndian.PutUint16(b[at:], attrData)
	binary.BigEndian.PutUint16(b[at+2:], uint16(packet))
	return at + 4
}

// putXORAddress writes the value of an XOR-PEER-ADDRESS. key is the cookie and the transaction (RFC 8489, section 14.2).
func putXORAddress(b, key []byte, a netip.AddrPort) {
	b[0], b[1] = 0, 2
	if a.Addr().Is4() {
		b[1] = 1
	}
	binary.BigEndian.PutUint16(b[2:], a.Port()^uint16(magicCookie>>16))
	if a.Addr().Is4() {
		ip := a.Addr().As4()
		copy(b[4:], ip[:])
	} else {
		ip := a.Addr().As16()
		copy(b[4:], ip[:])
	}
	for i := range b[4:] {
		b[4+i] ^= key[i]
	}
}

// xorAddress reads the value of an XOR-PEER-ADDRESS.
func xorAddress(b, key []byte) (netip.AddrPort, bool) {
	if len(b) != 8 && len(b) != 20 || len(b) == 8 != (b[1] == 1) || len(b) == 20 != (b[1] == 2) {
		return netip.AddrPort{}, false
	}
	var ip [16]byte
	n := copy(ip[:], b[4:])
	for i := range ip[:n] {
		ip[i] ^= key[i]
	}
	port := binary.BigEndian.Uint16(b[2:]) ^ uint16(magicCookie>>16)
	if n == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port), true
	}
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port), true
}

// parseSend returns what a Send indication carries, and for whom: RFC 8656, section 11.2. b is a whole STUN message. Of any
// other message, and of a Send indication that has more to it than the two attributes, ok is false: Pion may judge it.
func parseSend(b []byte) (peer netip.AddrPort, packet []byte, ok bool) {
	if binary.BigEndian.Uint16(b) != sendIndication {
		return netip.AddrPort{}, nil, false
	}
	var hasPeer, hasData bool
	for rest := b[stunHeader:]; len(rest) > 0; {
		if len(rest) < 4 {
			return netip.AddrPort{}, nil, false
		}
		typ, n := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if 4+n > len(rest) {
			return netip.AddrPort{}, nil, false
		}
		value := rest[4 : 4+n]
		rest = rest[min(4+(n+3)&^3, len(rest)):]
		switch {
		case typ == attrPeer && !hasPeer:
			if peer, hasPeer = xorAddress(value, b[4:stunHeader]); !hasPeer {
				return netip.AddrPort{}, nil, false
			}
		case typ == attrData && !hasData:
			packet, hasData = value, true
		case typ&attrOptional == 0:
			return netip.AddrPort{}, nil, false
		}
	}
	return peer, packet, hasPeer && hasData
}

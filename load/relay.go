package load

import "encoding/binary"

// What of TURN (RFC 8656) a line looks at. Pion's client asks for the relay; a line only sees what is inside of what it sends
// and gets.
const (
	indicationSend  = 0x0016 // §18.2, RFC 8489 §5
	indicationData  = 0x0017
	attributeData   = 0x0013 // §18.3
	firstChannel    = 0x4000 // §12
	lastChannel     = 0x4fff
	stunHeader      = 20
	attributeHeader = 4
)

// relayed returns what a TURN server relays in a datagram: the data of a channel, or of a Send or Data indication before there
// is one; nil when that is nothing. It is a part of the datagram.
func relayed(datagram []byte) []byte {
	if len(datagram) < 4 {
		return nil
	}
	kind, length := binary.BigEndian.Uint16(datagram), int(binary.BigEndian.Uint16(datagram[2:]))
	if kind >= firstChannel && kind <= lastChannel {
		// §12.4: channel number, length, data; what follows over UDP is padding.
		if data := datagram[4:]; length <= len(data) {
			return data[:length]
		}
		return nil
	}
	if kind != indicationSend && kind != indicationData || len(datagram) < stunHeader+length {
		return nil
	}
	// RFC 8489 §14: type, length and value, padded to 4 bytes.
	for rest := datagram[stunHeader : stunHeader+length]; len(rest) >= attributeHeader; {
		size := int(binary.BigEndian.Uint16(rest[2:]))
		value := rest[attributeHeader:]
		if size > len(value) {
			return nil
		}
		if binary.BigEndian.Uint16(rest) == attributeData {
			return value[:size]
		}
		rest = value[min((size+3)&^3, len(value)):]
	}
	return nil
}

package sfu

import (
	"slices"

	"anytime/sfu/codec"
)

// format is how a publisher's payload type is sent to one subscriber.
type format struct {
	in      uint8 // the publisher's
	pt, rtx uint8 // pt 0 = can't be sent
	// unwrap: the subscriber doesn't take RED; it gets the primary block.
	unwrap bool
}

// formats are what can be sent of a track. There are few, and the first of a codec is the one that comes.
type formats []format

// of returns how a payload type of the publisher's is sent.
func (l formats) of(pt uint8) format {
	for i := range l {
		if l[i].in == pt {
			return l[i]
		}
	}
	return format{}
}

// with returns the formats with one more, or another in its place.
func (l formats) with(f format) formats {
	for i := range l {
		if l[i].in == f.in {
			l[i] = f
			return l
		}
	}
	return append(l, f)
}

// takes returns which codecs the subscriber's m-line has a place for, and notes the payload types of those that are bound.
func (st *stream) takes(codecs *codecSet, bound codecBits) (b codecBits) {
	for i, pub := range codecs.all() {
		if !bound.has(i) {
			if kind := pub.kind(); kind == codec.Unknown && pub.index == 0 || st.line.takes(kind) {
				b |= 1 << i
			}
			continue
		}
		pub.mu.Lock()
		formats, main := pub.formats, pub.format
		pub.mu.Unlock()
		for _, in := range formats {
			f, sendable := formatFor(st.line, in, formats, pub.cfg.Encrypted)
			if !sendable {
				continue
			}
			f.in = in.pt
			st.formats = st.formats.with(f)
			if in.pt == main.pt {
				b |= 1 << i
			}
		}
	}
	return b
}

// takes reports whether the m-line has the codec at all.
func (l payloads) takes(kind codec.Kind) bool {
	return slices.ContainsFunc(l, func(p payload) bool { return !p.rtx && p.kind == kind && kind != codec.Unknown })
}

// formatFor maps one of the publisher's formats.
func formatFor(line payloads, in payload, all []payload, encrypted bool) (format, bool) {
	if in.kind == codec.RED {
		// The blocks of RED carry the publisher's payload type of Opus (RFC 2198 section 3). Where the subscriber knows Opus
		// by another one, it gets the primary block alone.
		opus, found := payload{}, false
		for _, p := range all {
			if p.kind == codec.Opus {
				opus, found = p, true
			}
		}
		if !found {
			return format{}, false
		}
		pt, _, ok := outgoingPayload(line, opus)
		if !ok {
			return format{}, false
		}
		if red, _, ok := outgoingPayload(line, in); ok && pt == opus.pt {
			return format{pt: red}, true
		}
		if encrypted {
			return format{}, false // what stands where the block headers would mean nothing
		}
		return format{pt: pt, unwrap: true}, true
	}
	pt, rtx, ok := outgoingPayload(line, in)
	return format{pt: pt, rtx: rtx}, ok
}

package sfu

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unique"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
)

// Limits on a session description that comes from outside.
const (
	maxDescription   = 1 << 20 // bytes
	maxSections      = 200     // m-lines
	maxCandidates    = 100     // in one description, and trickled per transport; none is used
	maxAttributes    = 2000    // per m-line
	maxStreamsPerSec = 32      // a=ssrc ids per m-line
	maxRids          = 4       // simulcast layers per m-line
	maxMid           = 16      // bytes; the header extension of RFC 9143 section 15.1 has room for no more
)

// ErrDescription is matched by every error that a session description from outside causes.
var ErrDescription = errors.New("session description refused")

// refuse keeps to a line's length: Pion's errors quote what they don't understand, whatever its size, and end in logs.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %.200s", ErrDescription, fmt.Sprintf(format, args...))
}

// section is what the media plane needs of one m-line. Where an SDP offer and its answer both speak of something, see
// [negotiated].
type section struct {
	mid  string
	kind string // "audio", "video", "application", or what else the peer offered
	// sending and receiving are the direction as the description's author means it.
	sending, receiving bool
	rejected           bool // port 0, of its own accord
	payloads           payloads
	extensions         map[string]uint8 // URI → id
	mixed              bool             // a=extmap-allow-mixed
	noVoice            bool             // the audio level extension's V bit isn't used
	stream, track      string           // msid
	ssrcs              []uint32
	groups             []ssrcGroup
	rids               []string // a=rid … send, in the order of a=simulcast
	ccfb               bool     // RFC 8888 section 6: a=rtcp-fb:* ack ccfb
}

// payload is one payload type of an m-line.
type payload struct {
	pt    uint8
	kind  codec.Kind
	rtx   bool
	apt   uint8 // rtx: the payload type it repairs
	clock uint32
	fmtp  string
	nack  bool
	// transportCC: a=rtcp-fb … transport-cc.
	transportCC bool
}

// payloads are those of an m-line, in the order of preference.
type payloads []payload

// ccfb is congestion control feedback as RFC 8888 has it.
const ccfb = "ack ccfb"

type ssrcGroup struct {
	semantics string
	ssrcs     []uint32
}

func (s *section) payload(pt uint8) (payload, bool) {
	for _, p := range s.payloads {
		if p.pt == pt {
			return p, true
		}
	}
	return payload{}, false
}

// rtxOf returns the payload type that repairs pt, 0 if none.
func (l payloads) rtxOf(pt uint8) uint8 {
	for _, p := range l {
		if p.rtx && p.apt == pt {
			return p.pt
		}
	}
	return 0
}

// intern returns a text that doesn't keep the whole description of which s is a part, and that all share who say the same.
func intern(s string) string { return unique.Make(s).Value() }

// parseDescription reads a session description and applies the limits. Errors match [ErrDescription].
func parseDescription(text string) ([]section, error) {
	if len(text) > maxDescription {
		return nil, refuse("%d bytes, at most %d are taken", len(text), maxDescription)
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, refuse("%v", err)
	}
	if len(d.MediaDescriptions) == 0 {
		return nil, refuse("no media section")
	}
	if len(d.MediaDescriptions) > maxSections {
		return nil, refuse("%d media sections, at most %d are taken", len(d.MediaDescriptions), maxSections)
	}
	print, fingerprint := d.Attribute("fingerprint")
	prints := []string{print}
	_, ufrag := d.Attribute("ice-ufrag")
	_, pwd := d.Attribute("ice-pwd")
	session := direction(d.Attributes)
	_, mixed := d.Attribute("extmap-allow-mixed")
	mids := make(map[string]bool, len(d.MediaDescriptions))
	sections := make([]section, 0, len(d.MediaDescriptions))
	candidates := 0
	for _, m := range d.MediaDescriptions {
		s, err := parseSection(m, session, &candidates)
		if err != nil {
			return nil, err
		}
		s.mixed = s.mixed || mixed
		if s.mid != "" && mids[s.mid] { // an m-line that is rejected may have none
			return nil, refuse("mid %q used twice", s.mid)
		}
		mids[s.mid] = true
		for _, a := range m.Attributes {
			switch a.Key {
			case "fingerprint":
				fingerprint = true
				prints = append(prints, a.Value)
			case "ice-ufrag":
				ufrag = true
			case "ice-pwd":
				pwd = true
			}
		}
		sections = append(sections, s)
	}
	if !fingerprint || !ufrag || !pwd {
		return nil, refuse("no DTLS fingerprint or no ICE credentials")
	}
	for _, v := range prints {
		if v != "" && !fingerprintForm.MatchString(v) {
			return nil, refuse("malformed DTLS fingerprint")
		}
	}
	return sections, nil
}

// fingerprintForm is RFC 8122 section 5: a hash function, and two hexadecimal digits for each byte.
var fingerprintForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,16} [0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,63}$`)

func direction(attributes []sdp.Attribute) string {
	for _, a := range attributes {
		switch a.Key {
		case "sendrecv", "sendonly", "recvonly", "inactive":
			return a.Key
		}
	}
	return ""
}

func parseSection(m *sdp.MediaDescription, session string, candidates *int) (section, error) {
	s := section{kind: intern(m.MediaName.Media), rejected: m.MediaName.Port.Value == 0, extensions: map[string]uint8{}}
	// RFC 9143 section 6: an offered m-line that is to be used only within its bundle has port 0 and says so. Firefox
	// offers every m-line but the first of its kind in this way.
	if _, only := m.Attribute("bundle-only"); only {
		s.rejected = false
	}
	if len(m.Attributes) > maxAttributes {
		return s, refuse("%d attributes in one media section, at most %d are taken", len(m.Attributes), maxAttributes)
	}
	mid, ok := m.Attribute("mid")
	// RFC 9143 section 5.1 has every m-line of a bundle carry a mid; without it nothing can be told apart.
	if (!ok || mid == "") && !s.rejected {
		return s, refuse("media section without mid")
	}
	// RFC 5888 section 4 has a token. A carriage return within would not survive being written again.
	if len(mid) > maxMid || strings.ContainsFunc(mid, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return s, refuse("mid of %d bytes: at most %d are taken, of visible ASCII characters", len(mid), maxMid)
	}
	s.mid = intern(mid)
	dir := direction(m.Attributes)
	if dir == "" {
		dir = session
	}
	// RFC 8866 section 6.7: without any of the four attributes sendrecv is to be assumed.
	s.sending = dir == "sendrecv" || dir == "sendonly" || dir == ""
	s.receiving = dir == "sendrecv" || dir == "recvonly" || dir == ""

	for _, f := range m.MediaName.Formats {
		if pt, err := strconv.ParseUint(f, 10, 7); err == nil && len(s.payloads) < 128 {
			s.payloads = append(s.payloads, payload{pt: uint8(pt)})
		}
	}
	for _, a := range m.Attributes {
		switch a.Key {
		case "rtpmap", "fmtp", "rtcp-fb":
			s.payloadAttribute(a.Key, a.Value)
		case "extmap":
			s.extmap(a.Value)
		case "extmap-allow-mixed":
			s.mixed = true // RFC 8285 section 6
		case "msid":
			if f := strings.Fields(a.Value); len(f) == 2 {
				s.stream, s.track = intern(f[0]), intern(f[1])
			}
		case "ssrc":
			if err := s.ssrc(a.Value); err != nil {
				return s, err
			}
		case "ssrc-group":
			f := strings.Fields(a.Value)
			if len(f) < 2 || len(f) > 8 {
				return s, refuse("malformed ssrc-group")
			}
			g := ssrcGroup{semantics: intern(f[0])}
			for _, v := range f[1:] {
				id, err := strconv.ParseUint(v, 10, 32)
				if err != nil {
					return s, refuse("malformed ssrc-group")
				}
				g.ssrcs = append(g.ssrcs, uint32(id))
			}
			if len(s.groups) >= maxStreamsPerSec {
				return s, refuse("more than %d ssrc-groups in one media section", maxStreamsPerSec)
			}
			s.groups = append(s.groups, g)
		case "rid":
			f := strings.Fields(a.Value)
			// RFC 8851 section 4: a=rid:<rid-id> <direction> …
			if len(f) >= 2 && f[1] == "send" {
				if len(f[0]) > maxMid || len(s.rids) >= maxRids {
					return s, refuse("more than %d layers, or a rid of more than %d bytes", maxRids, maxMid)
				}
				s.rids = append(s.rids, intern(f[0]))
			}
		case "candidate":
			if *candidates++; *candidates > maxCandidates {
				return s, refuse("more than %d candidates", maxCandidates)
			}
		}
	}
	return s, nil
}

func (s *section) payloadAttribute(key, value string) {
	head, rest, ok := strings.Cut(value, " ")
	if !ok {
		return
	}
	if key == "rtcp-fb" && strings.TrimSpace(rest) == ccfb {
		s.ccfb = true // for "*", as it should be, or for each payload type
		return
	}
	pt, err := strconv.ParseUint(head, 10, 7)
	if err != nil {
		return // a=rtcp-fb:* among them: other feedback types we need only where they are said per payload type
	}
	for i := range s.payloads {
		p := &s.payloads[i]
		if p.pt != uint8(pt) {
			continue
		}
		switch key {
		case "rtpmap":
			// RFC 8866 section 6.6: a=rtpmap:<payload type> <encoding name>/<clock rate>[/<encoding parameters>]
			f := strings.Split(rest, "/")
			if len(f) < 2 {
				return
			}
			clock, err := strconv.ParseUint(f[1], 10, 31)
			if err != nil {
				return
			}
			p.clock = uint32(clock)
			p.rtx = strings.EqualFold(f[0], "rtx")
			p.kind = codec.KindOf(s.kind + "/" + f[0])
		case "fmtp":
			p.fmtp = intern(rest)
			// RFC 4588 section 8.1: "apt" names the payload type of the original stream.
			for f := range strings.SplitSeq(rest, ";") {
				if v, ok := strings.CutPrefix(strings.TrimSpace(f), "apt="); ok {
					if apt, err := strconv.ParseUint(v, 10, 7); err == nil {
						p.apt = uint8(apt)
					}
				}
			}
		case "rtcp-fb":
			switch strings.TrimSpace(rest) {
			case "nack":
				p.nack = true
			case "transport-cc":
				p.transportCC = true
			}
		}
		return
	}
}

func (s *section) extmap(value string) {
	// RFC 8285 section 5: a=extmap:<value>["/"<direction>] <URI> …
	f := strings.Fields(value)
	if len(f) < 2 {
		return
	}
	id, _, _ := strings.Cut(f[0], "/")
	n, err := strconv.ParseUint(id, 10, 8)
	// Section 4.3: ids take a byte; [negotiated] knows whether those above 14 can be used.
	if err != nil || n < 1 {
		return
	}
	s.extensions[intern(f[1])] = uint8(n)
	// RFC 6464 section 4: "vad=on" or "vad=off" may follow; "if it is not specified, the default is vad=on".
	if f[1] == codec.URIAudioLevel {
		s.noVoice = slices.Contains(f[2:], "vad=off")
	}
}

func (s *section) ssrc(value string) error {
	head, rest, _ := strings.Cut(value, " ")
	id, err := strconv.ParseUint(head, 10, 32)
	if err != nil {
		return refuse("malformed ssrc")
	}
	known := false
	for _, have := range s.ssrcs {
		known = known || have == uint32(id)
	}
	if !known {
		if len(s.ssrcs) >= maxStreamsPerSec {
			return refuse("more than %d sources in one media section", maxStreamsPerSec)
		}
		s.ssrcs = append(s.ssrcs, uint32(id))
	}
	if s.track == "" {
		if v, ok := strings.CutPrefix(rest, "msid:"); ok {
			if f := strings.Fields(v); len(f) == 2 {
				s.stream, s.track = intern(f[0]), intern(f[1])
			}
		}
	}
	return nil
}

// negotiated is an m-line as offer and answer agree on it: payload types and extension ids that both name, and the
// sources that the sender declared.
func negotiated(sender, receiver *section) section {
	out := *sender
	out.rejected = sender.rejected || receiver.rejected
	out.sending = sender.sending && receiver.receiving && !out.rejected
	out.receiving = sender.receiving && receiver.sending && !out.rejected
	// The order of the answer's author is its preference (RFC 3264 section 6.1), so take the receiver's list.
	out.payloads = nil
	for _, p := range receiver.payloads {
		if own, ok := sender.payload(p.pt); ok && own.clock != 0 {
			own.nack = own.nack && p.nack
			own.transportCC = own.transportCC && p.transportCC
			out.payloads = append(out.payloads, own)
		}
	}
	out.extensions = make(map[string]uint8, len(receiver.extensions))
	out.mixed = sender.mixed && receiver.mixed
	out.ccfb = sender.ccfb && receiver.ccfb
	out.noVoice = sender.noVoice || receiver.noVoice
	for uri, id := range receiver.extensions {
		// RFC 8285 section 4.2: the one-byte form has room for ids up to 14.
		if sender.extensions[uri] == id && (id <= maxOneByteID || out.mixed) {
			out.extensions[uri] = id
		}
	}
	return out
}

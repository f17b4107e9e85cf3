package sfu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// Pion's peer connections do ICE, DTLS and SCTP for us, and know nothing of media. All m-lines of a description share one
// transport (RFC 9143), so Pion is shown the one of the data channels alone: the trunk. The others we read and write
// ourselves: answer.go answers those of a client, mlines.go offers ours. Pion would keep each of them four times over, as text
// and parsed, and a transceiver and a sender for it.

// trunk is what Pion knows of the m-lines of one peer connection. Guarded by the negotiation.
type trunk struct {
	data string // the mid of the data channels' m-line, empty if there is none so far
	stub bool   // Pion was first shown a description without one, and a stub instead, which stays (RFC 3264 section 8)
}

// What Pion is shown where there are no data channels: an m-line of audio that nobody uses. 111 is ptOpus.
const (
	stubMid  = "stub"
	stubLine = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:" + stubMid + "\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"
)

// show writes what Pion gets to see of a peer's description, of which sections are the m-lines.
//
// No candidates are among it. Nothing is ever sent to an address that a peer merely names, or anybody in a call could have us
// knock on the doors of our own network, or of others' (RFC 8445 section 19.4). We don't need them: clients can reach us, or
// there would be no media, and their connectivity checks, which prove that they know our password, show their addresses as
// peer-reflexive candidates (section 7.3.1.3).
func (c *trunk) show(kind webrtc.SDPType, d *sdp.SessionDescription, sections []section) (string, error) {
	peer, err := transportOf(d)
	if err != nil {
		return "", err
	}
	if kind == webrtc.SDPTypeOffer && !bundles(d) {
		return "", refuse("the bundle names an m-line that is missing")
	}
	data := slices.IndexFunc(sections, func(s section) bool { return s.kind == "application" && !s.rejected })
	refused := kind == webrtc.SDPTypeAnswer && data < 0
	if data >= 0 && kind == webrtc.SDPTypeOffer {
		c.data = sections[data].mid
	}
	c.stub = c.stub || c.data == ""
	var mids []string
	if c.stub {
		mids = append(mids, stubMid)
	}
	if c.data != "" {
		mids = append(mids, c.data)
	}
	var b strings.Builder
	b.WriteString("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE " + strings.Join(mids, " ") + "\r\n" +
		"a=ice-ufrag:" + peer.fragment + "\r\na=ice-pwd:" + peer.password + "\r\na=fingerprint:" + peer.fingerprint + "\r\n")
	setup := ""
	if peer.setup != "" {
		setup = "a=setup:" + peer.setup + "\r\n"
	}
	if c.stub {
		b.WriteString(stubLine + setup)
	}
	if c.data != "" {
		port := "9"
		if refused {
			port = "0"
		}
		b.WriteString("m=application " + port + " UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:" + c.data + "\r\na=sctp-port:5000\r\n" + setup)
		if data >= 0 && data < len(d.MediaDescriptions) {
			v, _ := d.MediaDescriptions[data].Attribute("max-message-size")
			if n, err := strconv.ParseUint(v, 10, 32); err == nil {
				b.WriteString("a=max-message-size:" + strconv.FormatUint(n, 10) + "\r\n")
			}
		}
	}
	return b.String(), nil
}

// peerTransport is what a description says of its author's ICE and DTLS.
type peerTransport struct{ fragment, password, fingerprint, setup string }

// transportOf reads it where it counts: of the session, else of the m-line that stands for its bundle (RFC 9143 section 7.3.1),
// else of the first that has it. It refuses an ICE-lite agent.
func transportOf(d *sdp.SessionDescription) (p peerTransport, err error) {
	isLite := func(a sdp.Attribute) bool { return strings.TrimSpace(a.Key) == sdp.AttrKeyICELite }
	if slices.ContainsFunc(d.Attributes, isLite) {
		// Two lite agents check nothing (RFC 8445 section 6.1.1): we would send wherever the description says.
		return p, refuse("an ICE-lite peer: the server needs one that checks connectivity")
	}
	where := [][]sdp.Attribute{d.Attributes}
	tag := ""
	mids := bundle(d)
	if len(mids) > 0 {
		tag = mids[0]
	}
	for _, m := range d.MediaDescriptions {
		if mid, _ := m.Attribute(sdp.AttrKeyMID); tag != "" && mid == tag {
			where = append(where, m.Attributes)
		}
	}
	for _, m := range d.MediaDescriptions {
		where = append(where, m.Attributes)
	}
	find := func(list []sdp.Attribute, key string) string {
		for _, a := range list {
			if a.Key == key {
				return a.Value
			}
		}
		return ""
	}
	for _, list := range where {
		if p.fragment == "" {
			p.fragment, p.password = find(list, "ice-ufrag"), find(list, "ice-pwd")
		}
		if p.fingerprint == "" {
			p.fingerprint = find(list, "fingerprint")
		}
		if p.setup == "" {
			p.setup = find(list, "setup")
		}
	}
	switch {
	case !isCredential(p.fragment, 4) || !isCredential(p.password, 22): // RFC 8839 section 5.4
		return p, refuse("malformed ICE credentials")
	case !fingerprintForm.MatchString(p.fingerprint):
		return p, refuse("malformed DTLS fingerprint")
	}
	switch p.setup { // RFC 8842 section 5.1
	case "", "active", "passive", "actpass":
	default:
		return p, refuse("an unknown DTLS role")
	}
	return p, nil
}

// isCredential reports whether s has from least to 256 visible ASCII characters, as ICE credentials do.
func isCredential(s string, least int) bool {
	return len(s) >= least && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// bundle returns the mids of a description's bundle.
func bundle(d *sdp.SessionDescription) []string {
	for _, a := range d.Attributes {
		if rest, is := strings.CutPrefix(a.Value, "BUNDLE"); a.Key == sdp.AttrKeyGroup && is {
			return strings.Fields(rest)
		}
	}
	return nil
}

// bundles reports whether all that the bundle names is there, RFC 5888 section 6: a description that was cut short lacks some.
func bundles(d *sdp.SessionDescription) bool {
	there := map[string]bool{}
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		there[mid] = true
	}
	mids := bundle(d)
	return !slices.ContainsFunc(mids, func(mid string) bool { return !there[mid] })
}

// setBundle writes the bundle of a description of ours.
func setBundle(d *sdp.SessionDescription, mids []string) {
	d.Attributes = slices.DeleteFunc(d.Attributes, func(a sdp.Attribute) bool { return a.Key == sdp.AttrKeyGroup })
	if len(mids) > 0 {
		d.Attributes = append(d.Attributes, sdp.NewAttribute(sdp.AttrKeyGroup, "BUNDLE "+strings.Join(mids, " ")))
	}
}

// setMixed lets the receiver of a description take header extensions of both forms, RFC 8285 section 6: dependency descriptors
// with their structure need the two-byte form.
func setMixed(d *sdp.SessionDescription, mixed bool) {
	d.Attributes = slices.DeleteFunc(d.Attributes, func(a sdp.Attribute) bool { return a.Key == sdp.AttrKeyExtMapAllowMixed })
	if mixed {
		d.Attributes = append(d.Attributes, sdp.NewPropertyAttribute(sdp.AttrKeyExtMapAllowMixed))
	}
}

// ownTransport is what Pion's local description says of our ICE and DTLS.
type ownTransport struct {
	attributes []sdp.Attribute // that each m-line of the bundle has
	candidates []sdp.Attribute // that the first one has
	data       *sdp.MediaDescription
	bundled    []string // the mids of the m-lines that were written
}

// ownTransportOf takes Pion's m-lines out of a local description: the rest is its head.
func ownTransportOf(d *sdp.SessionDescription) (o ownTransport) {
	for i, m := range d.MediaDescriptions {
		var rest []sdp.Attribute
		for _, a := range m.Attributes {
			switch a.Key {
			case "candidate", "end-of-candidates":
				o.candidates = append(o.candidates, a)
				continue
			case "setup", "ice-ufrag", "ice-pwd":
				if i == 0 {
					o.attributes = append(o.attributes, a)
				}
			}
			rest = append(rest, a)
		}
		if m.MediaName.Media == "application" {
			m.Attributes = rest
			o.data = m
		}
	}
	d.MediaDescriptions = nil
	return o
}

// add brings an m-line into the bundle of a description. The first has the candidates.
func (o *ownTransport) add(d *sdp.SessionDescription, mid string, m *sdp.MediaDescription) {
	if len(o.bundled) == 0 {
		m.Attributes = append(m.Attributes, o.candidates...)
	}
	o.bundled = append(o.bundled, mid)
	d.MediaDescriptions = append(d.MediaDescriptions, m)
}

// media begins an m-line of media.
func (o *ownTransport) media(kind, mid string) *sdp.MediaDescription {
	m := sdp.NewJSEPMediaDescription(kind, nil)
	m.Attributes = append(m.Attributes, sdp.NewAttribute(sdp.AttrKeyMID, mid))
	m.Attributes = append(m.Attributes, o.attributes...)
	m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute(sdp.AttrKeyRTCPMux), sdp.NewPropertyAttribute(sdp.AttrKeyRTCPRsize))
	return m
}

package sfu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// mline is an m-line of our own offers. It stays when its subscription has ended, since m-lines never go away (RFC 3264 section
// 8), and is given to another.
type mline struct {
	mid    string
	kind   Kind
	codecs []webrtc.RTPCodecParameters
	line   *line // the subscription that has it, nil if it is idle
	free   bool  // it was idle in the latest answer, not rejected, and nobody has got it since
}

// assign gives a line an m-line: an idle one of its kind, or a new one.
func (n *negotiation) assign(l *line) error {
	pub := l.sub.pub
	i := slices.IndexFunc(n.mlines, func(p *mline) bool { return p.free && p.kind == pub.cfg.Kind })
	var p *mline
	switch {
	case i >= 0:
		p = n.mlines[i]
		// A browser's receiver keeps the track id of its first msid for good; SDKs take the id from the stream where it
		// stands there.
		l.track.stream = pub.owner.cfg.ID + "|" + pub.id
	case len(n.mlines) >= maxSections-1:
		return fmt.Errorf("%w: %d media sections", ErrLimit, maxSections)
	default:
		p = &mline{mid: strconv.Itoa(len(n.mlines) + 1), kind: pub.cfg.Kind} // the trunk's is 0
		n.mlines = append(n.mlines, p)
	}
	p.line, p.free, p.codecs = l, false, preferences(pub)
	l.mid = p.mid
	return nil
}

// vacate takes the m-line of a line back.
func (n *negotiation) vacate(l *line) {
	for _, p := range n.mlines {
		if p.line == l {
			p.line = nil
		}
	}
}

// preferences are the codecs to offer for a publication: its own in the publisher's order.
func preferences(pub *publication) []webrtc.RTPCodecParameters {
	if pub.cfg.Kind == Audio {
		return audioCodecs(pub.isStereo(), pub.cfg.DTX)
	}
	var own []webrtc.RTPCodecParameters
	add := func(list []webrtc.RTPCodecParameters) {
		for _, c := range list {
			if !slices.ContainsFunc(own, func(o webrtc.RTPCodecParameters) bool { return o.PayloadType == c.PayloadType }) {
				own = append(own, c)
			}
		}
	}
	for _, c := range pub.codecs.all() {
		if kind := c.kind(); kind != codec.Unknown {
			formats := c.known()
			add(videoCodecs(func(k codec.Kind, fmtp string) bool {
				return k == kind && (len(formats) == 0 || slices.ContainsFunc(formats, func(f payload) bool {
					return f.kind == kind && sameFormat(kind, fmtp, f.fmtp)
				}))
			}))
		}
	}
	if len(own) == 0 {
		add(videoCodecs(nil))
	}
	return own
}

// offerText brings the m-lines into an offer of Pion's, which has the trunk alone.
func offerText(pion string, mlines []*mline) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(pion); err != nil {
		return "", fmt.Errorf("reading Pion's offer: %w", err)
	}
	own := ownTransportOf(&d)
	if own.data != nil {
		mid, _ := own.data.Attribute(sdp.AttrKeyMID)
		own.add(&d, mid, own.data)
	}
	for _, p := range mlines {
		own.add(&d, p.mid, p.describe(&own))
	}
	setMixed(&d, true)
	setBundle(&d, own.bundled)
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("writing an offer: %w", err)
	}
	return string(b), nil
}

// describe offers the m-line.
//
// One that nobody uses is offered as recvonly instead of inactive. To the peer, which sends nothing here, it is the same, and it
// answers inactive (RFC 3264 section 6.1). But Pion, and with it the Go SDK, stops the receiver of an m-line each time that it is
// offered inactive, and replaces it only the first time: used again after a second such offer, the m-line would stay silent there.
func (p *mline) describe(own *ownTransport) *sdp.MediaDescription {
	m := own.media(p.kind.String(), p.mid)
	// RFC 8888 section 6: it concerns all payload types. Where the answer has transport-wide feedback too, we take what comes.
	m.Attributes = append(m.Attributes, sdp.NewAttribute("rtcp-fb", "* "+ccfb))
	for i := range p.codecs {
		c := &p.codecs[i]
		_, name, _ := strings.Cut(c.MimeType, "/")
		m.WithCodec(uint8(c.PayloadType), name, c.ClockRate, c.Channels, c.SDPFmtpLine)
		for _, f := range c.RTCPFeedback {
			m.Attributes = append(m.Attributes, sdp.NewAttribute("rtcp-fb", strconv.Itoa(int(c.PayloadType))+" "+feedbackText(f)))
		}
	}
	uris := sentAudio
	if p.kind == Video {
		uris = sentVideo
	}
	for _, uri := range uris {
		id := slices.Index(sentExtensions, uri) + 1
		m.Attributes = append(m.Attributes, sdp.NewAttribute(sdp.AttrKeyExtMap, strconv.Itoa(id)+" "+uri))
	}
	if p.line == nil {
		m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute("recvonly"))
		return m
	}
	m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute("sendonly"))
	p.line.describe(m)
	return m
}

func feedbackText(f webrtc.RTCPFeedback) string { return strings.TrimSpace(f.Type + " " + f.Parameter) }

// msidToken is a name that its publisher chose as it may stand in a description: RFC 8830 section 2, one or more token-char. What is
// none gets a name made of its hash, so that streams which differ still do.
func msidToken(name string) string {
	const tokens = "!#$%&'*+-.^_`{|}~" // besides letters and digits: RFC 8866 section 9
	if !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune(tokens, r))
	}) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

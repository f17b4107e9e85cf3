package sfu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// answerText answers a client's offer, of which sections are the m-lines: pion is Pion's answer to what it was shown of it.
// What we take on its m-lines is ours to say here; what we send on them is written later (sections.go).
func answerText(pion string, offer *sdp.SessionDescription, sections []section) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(pion); err != nil {
		return "", fmt.Errorf("reading Pion's answer: %w", err)
	}
	own := ownTransportOf(&d)
	mids := bundle(offer)
	for i, o := range offer.MediaDescriptions {
		s := &sections[i]
		var m *sdp.MediaDescription
		switch {
		case s.rejected || !slices.Contains(mids, s.mid): // there is one transport
		case s.kind == "application":
			if own.data != nil {
				if mid, _ := own.data.Attribute(sdp.AttrKeyMID); mid == s.mid {
					m = own.data
				}
			}
		case s.kind == "audio" || s.kind == "video":
			m = answerMedia(o, s, &own)
		}
		if m == nil {
			d.MediaDescriptions = append(d.MediaDescriptions, rejection(o, s))
			continue
		}
		own.add(&d, s.mid, m)
	}
	_, mixed := offer.Attribute(sdp.AttrKeyExtMapAllowMixed)
	setMixed(&d, mixed)
	setBundle(&d, own.bundled)
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("writing an answer: %w", err)
	}
	return string(b), nil
}

// rejection refuses an m-line (RFC 3264 section 6). It has connection information all the same, which Firefox insists on.
func rejection(offer *sdp.MediaDescription, s *section) *sdp.MediaDescription {
	m := sdp.NewJSEPMediaDescription(s.kind, nil)
	m.MediaName.Port.Value = 0
	m.MediaName.Protos = slices.Clone(offer.MediaName.Protos)
	m.MediaName.Formats = []string{"0"}
	if s.kind == "application" {
		m.MediaName.Formats = slices.Clone(offer.MediaName.Formats)
	}
	if s.mid != "" {
		m.Attributes = append(m.Attributes, sdp.NewAttribute(sdp.AttrKeyMID, s.mid))
	}
	m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute("inactive"))
	return m
}

// answerMedia answers an m-line of media, nil if we speak none of its codecs: payload types, header extensions and feedback are
// those of the offer that we speak, in its order.
func answerMedia(offer *sdp.MediaDescription, s *section, own *ownTransport) *sdp.MediaDescription {
	keep := s.spoken()
	if len(keep) == 0 {
		return nil
	}
	m := own.media(s.kind, s.mid)
	m.MediaName.Protos = slices.Clone(offer.MediaName.Protos)
	rtx := map[string]bool{}
	for _, f := range offer.MediaName.Formats {
		if pt, err := strconv.ParseUint(f, 10, 7); err == nil && keep[uint8(pt)] && !slices.Contains(m.MediaName.Formats, f) {
			m.MediaName.Formats = append(m.MediaName.Formats, f)
			p, _ := s.payload(uint8(pt))
			rtx[f] = p.rtx
		}
	}
	for _, a := range offer.Attributes {
		if pt, _, _ := strings.Cut(a.Value, " "); (a.Key == "rtpmap" || a.Key == "fmtp") && slices.Contains(m.MediaName.Formats, pt) {
			m.Attributes = append(m.Attributes, a)
		}
	}
	m.Attributes = append(m.Attributes, ownExtensions(offer)...)
	said := saidFeedback(offer, s)
	for _, pt := range m.MediaName.Formats {
		if rtx[pt] {
			continue
		}
		for _, v := range said[pt] {
			m.Attributes = append(m.Attributes, sdp.NewAttribute("rtcp-fb", pt+" "+v))
		}
		for _, v := range said["*"] {
			if v != ccfb && !slices.Contains(said[pt], v) {
				m.Attributes = append(m.Attributes, sdp.NewAttribute("rtcp-fb", pt+" "+v))
			}
		}
	}
	if slices.Contains(said["*"], ccfb) {
		m.Attributes = append(m.Attributes, sdp.NewAttribute("rtcp-fb", "* "+ccfb)) // RFC 8888 section 6
	}
	m.Attributes = append(m.Attributes, takenLayers(offer)...)
	way := "inactive"
	if s.sending {
		way = "recvonly"
	}
	m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute(way))
	return m
}

// takenLayers takes simulcast as it is offered (RFC 8853 section 5.3.2), layers that are paused included.
//
// A client on Pion that has ceased to send it on an m-line goes on to offer it there, as what it would receive. It is taken all the
// same: without layers in the answer such a client takes what it receives there for a new track.
func takenLayers(offer *sdp.MediaDescription) (out []sdp.Attribute) {
	var rids []string
	for _, a := range offer.Attributes {
		f := strings.Fields(a.Value)
		if a.Key == "rid" && len(f) >= 2 && len(f[0]) <= maxMid && len(rids) < maxRids && !slices.Contains(rids, f[0]) {
			rids = append(rids, f[0])
		}
	}
	if len(rids) == 0 {
		return nil
	}
	paused := map[string]bool{}
	v, _ := offer.Attribute("simulcast")
	for layer := range strings.FieldsFuncSeq(v, func(r rune) bool { return strings.ContainsRune(" ;,", r) }) {
		if rid, is := strings.CutPrefix(layer, "~"); is {
			paused[rid] = true
		}
	}
	list := make([]string, len(rids))
	for i, rid := range rids {
		out = append(out, sdp.NewAttribute("rid", rid+" recv"))
		if list[i] = rid; paused[rid] {
			list[i] = "~" + rid
		}
	}
	return append(out, sdp.NewAttribute("simulcast", "recv "+strings.Join(list, ";")))
}

// saidFeedback returns the kinds of feedback (RFC 4585 section 4.2) that an offer has and we speak, by payload type or "*".
func saidFeedback(offer *sdp.MediaDescription, s *section) map[string][]string {
	own := audioFeedback
	if s.kind == "video" {
		own = videoFeedback
	}
	said := map[string][]string{}
	for _, a := range offer.Attributes {
		if a.Key != "rtcp-fb" {
			continue
		}
		pt, kind, _ := strings.Cut(a.Value, " ")
		kind = strings.TrimSpace(kind)
		ours := slices.ContainsFunc(own, func(f webrtc.RTCPFeedback) bool { return feedbackText(f) == kind })
		if kind == ccfb && s.receiving && !s.sending {
			pt, ours = "*", true // we read it; who sends gets transport-wide feedback from us
		}
		if ours && !slices.Contains(said[pt], kind) {
			said[pt] = append(said[pt], kind)
		}
	}
	return said
}

// ownExtensions returns the header extensions of an offered m-line that we speak (RFC 8285 section 5), as an answer names them.
func ownExtensions(offer *sdp.MediaDescription) (ours []sdp.Attribute) {
	own := receivedAudio
	if offer.MediaName.Media == "video" {
		own = receivedVideo
	}
	for _, a := range offer.Attributes {
		f := strings.Fields(a.Value)
		if a.Key == sdp.AttrKeyExtMap && len(f) >= 2 && slices.Contains(own, f[1]) {
			id, _, _ := strings.Cut(f[0], "/")
			ours = append(ours, sdp.NewAttribute(sdp.AttrKeyExtMap, id+" "+f[1]))
		}
	}
	return ours
}

// spoken returns the payload types of an m-line that we speak, with the RTX of each. Where the client only receives, it is every
// format of our codecs, as a publisher's may be any; where it sends, it is our own formats, if there is one of them.
func (s *section) spoken() map[uint8]bool {
	keep, known := map[uint8]bool{}, map[uint8]bool{}
	for _, p := range s.payloads {
		if p.rtx || !spokenKind(s.kind, p.kind) {
			continue
		}
		keep[p.pt] = true
		if s.kind == "audio" || slices.ContainsFunc(videoFormats, func(f videoFormat) bool {
			return f.kind == p.kind && sameFormat(p.kind, f.fmtp, p.fmtp)
		}) {
			known[p.pt] = true
		}
	}
	if len(known) > 0 && (s.sending || !s.receiving) {
		keep = known
	}
	for _, p := range s.payloads {
		if p.rtx && keep[p.apt] {
			keep[p.pt] = true
		}
	}
	return keep
}

// spokenKind reports whether we speak a codec on an m-line of that kind.
func spokenKind(kind string, k codec.Kind) bool {
	if kind == "audio" {
		return k == codec.Opus || k == codec.RED
	}
	return k >= codec.VP8 // the kinds of video come last
}

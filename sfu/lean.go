package sfu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// Pion reads all attributes of an m-line anew for each of its payload types, three times over, and a browser's offer has
// 25 payload types with five kinds of feedback each. So Pion is shown a lean offer: without the codecs that we don't
// speak, and without feedback, which it needs for its answer alone. That is where [feedback] puts it back.

// feedback are the kinds of feedback (RFC 4585 section 4.2) that an offer has and we speak: by mid and payload type.
type feedback map[string]map[string][]string

// ownFeedback is what we speak, as attributes say it.
func ownFeedback(kind string) []string {
	list := audioFeedback
	if kind == "video" {
		list = videoFeedback
	}
	out := make([]string, len(list))
	for i, f := range list {
		out[i] = strings.TrimSpace(f.Type + " " + f.Parameter)
	}
	return out
}

// ownCodecs are the encoding names that we speak, in lower case, by kind.
var ownCodecs = func() map[string][]string {
	names := map[string][]string{}
	for kind, list := range map[string][]webrtc.RTPCodecParameters{"audio": audioCodecs(false, false), "video": videoCodecs(nil)} {
		for _, c := range list {
			_, name, _ := strings.Cut(strings.ToLower(c.MimeType), "/")
			if name != "rtx" && !slices.Contains(names[kind], name) {
				names[kind] = append(names[kind], name)
			}
		}
	}
	return names
}()

// lean takes out of an offer what Pion needn't see.
func lean(d *sdp.SessionDescription) feedback {
	all := feedback{}
	for _, m := range d.MediaDescriptions {
		kind := m.MediaName.Media
		if kind != "audio" && kind != "video" || m.MediaName.Port.Value == 0 {
			continue
		}
		keep := ownPayloads(m)
		if len(keep) == 0 {
			continue // Pion has an answer to that too
		}
		own := ownFeedback(kind)
		receives := direction(m.Attributes) == "recvonly"
		said := map[string][]string{}
		m.MediaName.Formats = slices.DeleteFunc(m.MediaName.Formats, func(pt string) bool { return !keep[pt] })
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
			pt, rest, _ := strings.Cut(a.Value, " ")
			switch a.Key {
			case "rtpmap", "fmtp":
				return !keep[pt]
			case "rtcp-fb":
				rest = strings.TrimSpace(rest)
				if rest == ccfb && receives {
					pt = "*" // we read it; who sends gets transport-wide feedback from us
				} else if !slices.Contains(own, rest) {
					return true
				}
				if !slices.Contains(said[pt], rest) {
					said[pt] = append(said[pt], rest)
				}
				return true
			}
			return false
		})
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		all[mid] = said
	}
	return all
}

// ownPayloads returns the payload types of an m-line whose codecs we speak, with the RTX of each.
func ownPayloads(m *sdp.MediaDescription) map[string]bool {
	names, apt := map[string]string{}, map[string]string{}
	for _, a := range m.Attributes {
		pt, rest, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case "rtpmap":
			name, _, _ := strings.Cut(rest, "/")
			names[pt] = strings.ToLower(name)
		case "fmtp":
			for f := range strings.SplitSeq(rest, ";") {
				if v, ok := strings.CutPrefix(strings.TrimSpace(f), "apt="); ok {
					apt[pt] = v
				}
			}
		}
	}
	keep := map[string]bool{}
	own := ownCodecs[m.MediaName.Media]
	for _, pt := range m.MediaName.Formats {
		name := names[pt]
		if name == "rtx" {
			name = names[apt[pt]]
		}
		keep[pt] = slices.Contains(own, name)
	}
	for pt, ok := range keep {
		if !ok {
			delete(keep, pt)
		}
	}
	return keep
}

// restore puts the feedback that both speak into the answer to a lean offer.
func (f feedback) restore(answer string) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return "", err
	}
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		said := f[mid]
		if len(said) == 0 || m.MediaName.Port.Value == 0 {
			continue
		}
		rtx := map[string]bool{}
		for _, a := range m.Attributes {
			if pt, rest, _ := strings.Cut(a.Value, " "); a.Key == "rtpmap" && strings.HasPrefix(strings.ToLower(rest), "rtx/") {
				rtx[pt] = true
			}
		}
		for _, pt := range m.MediaName.Formats {
			if _, err := strconv.ParseUint(pt, 10, 7); err != nil || rtx[pt] {
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
	}
	b, err := d.Marshal()
	return string(b), err
}

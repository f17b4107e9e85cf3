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
// speak, and without feedback, which it needs for its answer alone. That is where [leaned] puts it back.
//
// Of an m-line of video on which the client only receives, Pion is shown a single codec: it neither sends nor receives there, since
// what we send on it is ours to describe (sections.go). Of no m-line of that kind is it shown the header extensions. Such
// m-lines are most of a client's with a single peer connection, and Pion keeps what it is shown twice, as text and parsed.

// leaned is what was taken out of an offer, by mid.
type leaned struct {
	// feedback are the kinds of feedback (RFC 4585 section 4.2) that the offer has and we speak, by payload type.
	feedback map[string]map[string][]string
	stubs    map[string]stub
	// extensions are the header extensions (RFC 8285 section 5) that we speak of an m-line on which the client only receives.
	extensions map[string][]sdp.Attribute
}

// stub are the codecs that we speak of an m-line that is shown with one.
type stub struct {
	formats    []string
	attributes []sdp.Attribute // rtpmap and fmtp
}

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
func lean(d *sdp.SessionDescription) leaned {
	all := leaned{feedback: map[string]map[string][]string{}, stubs: map[string]stub{}, extensions: map[string][]sdp.Attribute{}}
	for _, m := range d.MediaDescriptions {
		kind := m.MediaName.Media
		if kind != "audio" && kind != "video" || m.MediaName.Port.Value == 0 {
			continue
		}
		keep := ownPayloads(m)
		if len(keep) == 0 {
			continue // Pion has an answer to that too
		}
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		own := ownFeedback(kind)
		receives := direction(m.Attributes) == "recvonly"
		said := map[string][]string{}
		for _, a := range m.Attributes {
			pt, rest, _ := strings.Cut(a.Value, " ")
			if a.Key != "rtcp-fb" {
				continue
			}
			if rest = strings.TrimSpace(rest); rest == ccfb && receives {
				pt = "*" // we read it; who sends gets transport-wide feedback from us
			} else if !slices.Contains(own, rest) {
				continue
			}
			if !slices.Contains(said[pt], rest) {
				said[pt] = append(said[pt], rest)
			}
		}
		all.feedback[mid] = said
		retain(m, keep)
		if receives {
			all.extensions[mid] = takeExtensions(m)
		}
		if one := firstCodec(m); kind == "video" && receives && one != "" {
			s := stub{formats: m.MediaName.Formats}
			for _, a := range m.Attributes {
				if a.Key == "rtpmap" || a.Key == "fmtp" {
					s.attributes = append(s.attributes, a)
				}
			}
			all.stubs[mid] = s
			m.MediaName.Formats = slices.Clone(s.formats)
			retain(m, map[string]bool{one: true})
		}
	}
	return all
}

// withoutCandidates takes out of a peer's answer what Pion mustn't see, see [stripCandidates], and applies change. Feedback stays:
// Pion offers again only what the answer before had.
func withoutCandidates(text string, change func(*sdp.SessionDescription)) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return "", refuse("%v", err)
	}
	if err := stripCandidates(&d); err != nil {
		return "", err
	}
	change(&d)
	out, err := d.Marshal()
	if err != nil {
		return "", refuse("%v", err)
	}
	return string(out), nil
}

// retain takes all payload types but some out of an m-line, and all feedback.
func retain(m *sdp.MediaDescription, keep map[string]bool) {
	m.MediaName.Formats = slices.DeleteFunc(m.MediaName.Formats, func(pt string) bool { return !keep[pt] })
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		pt, _, _ := strings.Cut(a.Value, " ")
		return a.Key == "rtcp-fb" || (a.Key == "rtpmap" || a.Key == "fmtp") && !keep[pt]
	})
}

// takeExtensions takes the header extensions out of an m-line, and returns those that we speak as an answer names them.
func takeExtensions(m *sdp.MediaDescription) (ours []sdp.Attribute) {
	own := receivedAudio
	if m.MediaName.Media == "video" {
		own = receivedVideo
	}
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		if a.Key != sdp.AttrKeyExtMap {
			return false
		}
		f := strings.Fields(a.Value)
		if len(f) >= 2 && slices.Contains(own, f[1]) {
			id, _, _ := strings.Cut(f[0], "/")
			ours = append(ours, sdp.NewAttribute(sdp.AttrKeyExtMap, id+" "+f[1]))
		}
		return true
	})
	return ours
}

// firstCodec returns the first payload type of a codec that has no parameters, so that Pion takes it for its own: VP8;
// "" if there is none.
func firstCodec(m *sdp.MediaDescription) string {
	for _, a := range m.Attributes {
		pt, rest, _ := strings.Cut(a.Value, " ")
		if a.Key == "rtpmap" && strings.EqualFold(rest, "VP8/90000") && slices.Contains(m.MediaName.Formats, pt) {
			return pt
		}
	}
	return ""
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

// restore puts what both speak into the answer to a lean offer: the codecs of stubs, header extensions and feedback.
func (l leaned) restore(answer string) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return "", err
	}
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		if m.MediaName.Port.Value == 0 {
			continue
		}
		if s, ok := l.stubs[mid]; ok {
			retain(m, nil)
			m.MediaName.Formats = slices.Clone(s.formats)
			m.Attributes = append(m.Attributes, s.attributes...)
		}
		if list, ok := l.extensions[mid]; ok {
			takeExtensions(m) // Pion answers with those of other m-lines
			m.Attributes = append(m.Attributes, list...)
		}
		said := l.feedback[mid]
		if len(said) == 0 {
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

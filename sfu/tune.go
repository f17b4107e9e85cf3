package sfu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
)

// tune brings into an answer to a publisher what its tracks were announced with, by the mids of their m-lines. Browsers
// send the first format of the answer that they can, so the announced codec comes first: SDKs leave that to us. The others
// follow as the client offered them. Opus is sent in stereo, with
// DTX or inside RED when the answer asks for it.
func tune(answer string, offered []section, configs map[string]PublicationConfig) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(answer); err != nil {
		return "", fmt.Errorf("reading our own answer: %w", err)
	}
	changed := false
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		i := slices.IndexFunc(offered, func(s section) bool { return s.mid == mid })
		if i < 0 || m.MediaName.Port.Value == 0 {
			continue
		}
		cfg, ours := configs[mid]
		if !ours || cfg.Kind.String() != offered[i].kind {
			continue
		}
		lead := codec.KindOf(cfg.MimeType)
		if cfg.RED {
			lead = codec.RED
		}
		changed = reorder(m, &offered[i], lead) || changed
		if cfg.Kind == Audio {
			changed = askOpus(m, &offered[i], cfg) || changed
		}
	}
	if !changed {
		return answer, nil
	}
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("writing an answer: %w", err)
	}
	return string(b), nil
}

// reorder puts the formats of m into the offer's order, those of one kind in front.
func reorder(m *sdp.MediaDescription, offer *section, lead codec.Kind) (changed bool) {
	rank := func(format string) int {
		pt, err := strconv.ParseUint(format, 10, 7)
		i := offer.rank(uint8(pt))
		if err == nil && i < len(offer.payloads) && lead != codec.Unknown && offer.payloads[i].kind == lead {
			return i - len(offer.payloads)
		}
		return i
	}
	before := slices.Clone(m.MediaName.Formats)
	slices.SortStableFunc(m.MediaName.Formats, func(a, b string) int { return rank(a) - rank(b) })
	return !slices.Equal(before, m.MediaName.Formats)
}

// rank is the place of a payload type in the description's order of preference.
func (s *section) rank(pt uint8) int {
	i := slices.IndexFunc(s.payloads, func(p payload) bool { return p.pt == pt })
	if i < 0 {
		return len(s.payloads)
	}
	return i
}

// before orders what holds for a and not for b in front.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// askOpus writes how Opus is to be sent.
func askOpus(m *sdp.MediaDescription, offer *section, cfg PublicationConfig) (changed bool) {
	var want []string
	if cfg.Stereo {
		want = append(want, "stereo=1")
	}
	if cfg.DTX {
		want = append(want, "usedtx=1")
	}
	for i, a := range m.Attributes {
		pt, fmtp, _ := strings.Cut(a.Value, " ")
		n, err := strconv.ParseUint(pt, 10, 7)
		if a.Key != "fmtp" || err != nil {
			continue
		}
		if p, ok := offer.payload(uint8(n)); !ok || p.kind != codec.Opus {
			continue
		}
		for _, w := range want {
			key, _, _ := strings.Cut(w, "=")
			if formatParameter(fmtp, key) == "" {
				m.Attributes[i].Value += ";" + w
				changed = true
			}
		}
	}
	return changed
}

package sfu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"anytime/sfu/codec"

	"github.com/pion/sdp/v3"
)

// tune brings into an answer to a publisher what its tracks were announced with, by the mids of their m-lines: browsers
// send Opus in stereo, with DTX or inside RED when the answer asks for it. The formats of an m-line get the order in which
// the client offered them, which is what it prefers to send: Pion keeps the order of the m-line's first offer.
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
		changed = reorder(m, &offered[i], cfg.RED) || changed
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

// reorder puts the formats of m into the offer's order, RED in front if it is asked for: a sender takes the first.
func reorder(m *sdp.MediaDescription, offer *section, red bool) (changed bool) {
	rank := func(format string) int {
		pt, err := strconv.ParseUint(format, 10, 7)
		i := slices.IndexFunc(offer.payloads, func(p payload) bool { return err == nil && p.pt == uint8(pt) })
		if i >= 0 && red && offer.payloads[i].kind == codec.RED {
			return -1
		}
		if i < 0 {
			return len(offer.payloads)
		}
		return i
	}
	before := slices.Clone(m.MediaName.Formats)
	slices.SortStableFunc(m.MediaName.Formats, func(a, b string) int { return rank(a) - rank(b) })
	return !slices.Equal(before, m.MediaName.Formats)
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

// allowMixed lets the receiver of an offer of ours take header extensions of both forms, RFC 8285 section 6: dependency
// descriptors with their structure need the two-byte form.
func allowMixed(offer string) string {
	const line = "a=extmap-allow-mixed\r\n"
	media := strings.Index(offer, "\r\nm=")
	if media < 0 || strings.Contains(offer[:media], strings.TrimSpace(line)) {
		return offer
	}
	return offer[:media+2] + line + offer[media+2:]
}

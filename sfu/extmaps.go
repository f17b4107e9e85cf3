package sfu

import (
	"strings"

	"github.com/pion/sdp/v3"
)

// extensionMemory has, by mid, the header extensions that our latest offer to send on an m-line had. Pion offers again only
// what the answer before had, and where nothing is sent an answer has none: the next track on that m-line would go without
// them, and without the feedback that needs them.
type extensionMemory map[string][]sdp.Attribute

// note remembers what an offer of ours has.
func (m extensionMemory) note(offer string) {
	sections := strings.Split(offer, "\r\nm=")
	for _, s := range sections[1:] {
		mid := ""
		var list []sdp.Attribute
		for line := range strings.SplitSeq(s, "\r\n") {
			if v, ok := strings.CutPrefix(line, "a=mid:"); ok {
				mid = intern(v)
			} else if v, ok := strings.CutPrefix(line, "a=extmap:"); ok {
				list = append(list, sdp.NewAttribute(sdp.AttrKeyExtMap, intern(v)))
			}
		}
		if len(list) > 0 {
			m[mid] = list
		}
	}
}

// restore shows them to Pion in an answer that has none where nothing was offered to be sent.
func (m extensionMemory) restore(answer *sdp.SessionDescription) {
	for _, s := range answer.MediaDescriptions {
		if _, any := s.Attribute(sdp.AttrKeyExtMap); any || direction(s.Attributes) == "recvonly" {
			continue
		}
		mid, _ := s.Attribute(sdp.AttrKeyMID)
		s.Attributes = append(s.Attributes, m[mid]...)
	}
}

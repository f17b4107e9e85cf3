package sfu

import (
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
)

// pathSilence is how long nothing may come over the nominated path before another one that the client checks is taken
// instead. Media and its feedback come more often. An idle path may be silent for longer, from one check to the next: then
// one that works is taken for another, which does no harm.
const pathSilence = time.Second

// paths follows a client whose address changes without its knowledge: a NAT has lost its mapping. Its checks then come from
// the new address, but only libwebrtc nominates in each of them; others nominate once (RFC 8445 section 8.1.1), and a lite
// agent would send to the dead address for ever. The checks are authenticated by the ICE password, so the new address is
// the client's. It is used on the agent's goroutine alone.
type paths struct {
	username  string // of the ICE generation
	nominated ice.Candidate
}

// request takes a connectivity check and reports whether its path is to be used from now on.
func (p *paths) request(m *stun.Message, remote ice.Candidate) bool {
	if name, err := m.Get(stun.AttrUsername); err != nil || string(name) != p.username {
		p.username, p.nominated = string(name), nil // ICE was restarted
	}
	switch {
	case m.Contains(stun.AttrUseCandidate):
		p.nominated = remote // and Pion has taken it
	case p.nominated == nil || p.nominated == remote:
	case time.Since(p.nominated.LastReceived()) > pathSilence:
		p.nominated = remote
		return true
	}
	return false
}

package sfu

import (
	"net/netip"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"
)

// pathSilence is how long nothing may come over the nominated path before another one that the client checks is taken
// instead. Media and its feedback come more often. An idle path may be silent for longer, from one check to the next: then
// one that works is taken for another, which does no harm.
const pathSilence = time.Second

// paths follows a client whose address changes without its knowledge: a NAT has lost its mapping. Its checks then come from
// the new address, but only libwebrtc nominates in each of them; others nominate once (RFC 8445 section 8.1.1), and a lite
// agent would send to the dead address for ever. The checks are authenticated by the ICE password, so the new address is
// the client's.
//
// After an ICE restart media goes to where the first check came from, until the client nominates: that is a round trip
// later with libwebrtc, 200 ms with Pion, and media stood still meanwhile. A lite agent is proven no address otherwise
// either. A full one waits until its own check has come back.
//
// It is used on the agent's goroutine alone.
type paths struct {
	lite bool
	// unheard says for how long neither media nor a check that we answer ourselves has come over the path in use: the agent sees
	// none of them.
	unheard   func() time.Duration
	username  string // of the ICE generation
	restarted bool
	nominated ice.Candidate
}

// request takes a connectivity check and reports whether its path is to be used from now on.
func (p *paths) request(m *stun.Message, remote ice.Candidate) bool {
	if name, err := m.Get(stun.AttrUsername); err != nil || string(name) != p.username {
		p.restarted = p.username != ""
		p.username, p.nominated = string(name), nil
	}
	switch {
	case m.Contains(stun.AttrUseCandidate):
		p.nominated = remote // and Pion has taken it
	case p.nominated == nil && p.restarted && p.lite:
		p.nominated = remote
		return true
	case p.nominated == nil || p.nominated == remote:
	case min(time.Since(p.nominated.LastReceived()), p.unheard()) > pathSilence:
		p.nominated = remote
		return true
	}
	return false
}

// selected is told that the ICE agent has chosen a pair, or another one.
func (t *transport) selected(pair *webrtc.ICECandidatePair) {
	ip, err := netip.ParseAddr(pair.Remote.Address)
	if err == nil {
		t.plane.lead(netip.AddrPortFrom(ip, pair.Remote.Port), pair.Remote.Protocol == webrtc.ICEProtocolTCP)
	}
}

// path returns how the peer connection's packets travel.
func (t *transport) path() (out Path) {
	if !t.up.Load() || t.closed.Load() {
		return out
	}
	pair, err := t.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return out
	}
	if ip, err := netip.ParseAddr(pair.Remote.Address); err == nil {
		out.Remote = netip.AddrPortFrom(ip.Unmap(), pair.Remote.Port)
	}
	out.TCP = pair.Remote.Protocol == webrtc.ICEProtocolTCP
	return out
}

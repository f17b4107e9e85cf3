package turn

import (
	"net/netip"
	"slices"
)

// bindings are an allocation's channels and permissions, as Pion tells of them. They are never changed once made: the paths
// of packets read them without a lock.
type bindings struct {
	channels  []channel
	permitted []netip.Addr
}

// channel is a number that stands for a peer on the way between client and server.
type channel struct {
	number uint16
	peer   netip.AddrPort
	// open is whether there is a permission for the peer's address. It lasts five minutes, a channel ten (RFC 8656, sections
	// 9 and 12); clients refresh a channel often enough for both.
	open bool
}

// bound returns the peer of an open channel.
func (t *bindings) bound(number uint16) (netip.AddrPort, bool) {
	if t != nil {
		for i := range t.channels {
			if c := &t.channels[i]; c.number == number {
				return c.peer, c.open
			}
		}
	}
	return netip.AddrPort{}, false
}

// permits reports whether the client has a permission for the address.
func (t *bindings) permits(ip netip.Addr) bool {
	return t != nil && slices.Contains(t.permitted, ip)
}

// envelope returns in which form a peer's packets go to the client, if they may: as ChannelData, or as Data indications
// while there is a permission but no channel.
func (t *bindings) envelope(peer netip.AddrPort) (envelope, bool) {
	if t == nil {
		return envelope{}, false
	}
	for i := range t.channels {
		if c := &t.channels[i]; c.peer == peer {
			return envelope{channel: c.number, peer: peer}, c.open
		}
	}
	return envelope{peer: peer}, t.permits(peer.Addr())
}

// with and without return what the bindings become.

func (t *bindings) withChannel(number uint16, peer netip.AddrPort) *bindings {
	next := t.withoutChannel(number)
	next.channels = append(next.channels, channel{number: number, peer: peer})
	return next.opened()
}

func (t *bindings) withoutChannel(number uint16) *bindings {
	next := t.clone()
	next.channels = slices.DeleteFunc(next.channels, func(c channel) bool { return c.number == number })
	return next
}

func (t *bindings) withPermission(ip netip.Addr) *bindings {
	next := t.withoutPermission(ip)
	next.permitted = append(next.permitted, ip)
	return next.opened()
}

func (t *bindings) withoutPermission(ip netip.Addr) *bindings {
	next := t.clone()
	next.permitted = slices.DeleteFunc(next.permitted, func(other netip.Addr) bool { return other == ip })
	return next.opened()
}

func (t *bindings) clone() *bindings {
	if t == nil {
		return &bindings{}
	}
	return &bindings{channels: slices.Clone(t.channels), permitted: slices.Clone(t.permitted)}
}

// opened says of each channel whether it is open.
func (t *bindings) opened() *bindings {
	for i := range t.channels {
		t.channels[i].open = t.permits(t.channels[i].peer.Addr())
	}
	return t
}

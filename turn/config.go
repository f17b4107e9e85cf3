package turn

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"anytime/sfu/udp"
)

// Config says where to listen, whom to believe and which addresses may be reached.
type Config struct {
	// UDP and TCP are the addresses to listen on, "host:port". An empty host is every address
	// of this machine, both IPv4 and IPv6; replies leave from the address that was asked (over
	// UDP on Linux only: elsewhere from the one that the system chooses).
	// Port 0 picks a free one (tests). Empty lists: no such listener.
	UDP, TCP []string
	// TLS are listeners whose connections carry TURN once accepted: from tls.Listen, or from
	// whatever shares port 443 with HTTPS. The server owns and closes them.
	TLS []net.Listener

	// Secret is what [Credentials] made the clients' passwords with. Required.
	Secret string
	// Realm is the domain that credentials are for, shown to clients. "" is "anytime".
	Realm string
	// Software is the SOFTWARE attribute of replies to clients that haven't proved themselves
	// yet. "" sends none.
	Software string

	// Peers returns the SFU's own UDP addresses, as announced to clients: the only ones that a
	// relay reaches. Called at New and every two seconds after; must not block. Required.
	Peers func() []netip.AddrPort
	// Route returns where a packet for a peer is really sent, and where its packets come from:
	// needed where the announced address is that of a NAT in front of this machine which
	// doesn't lead back to it. nil: to the peer's own address.
	Route func(peer netip.AddrPort) netip.AddrPort
	// Inside opens a way into the SFU in this process for a relay: packets that the SFU sends to the
	// relay's address are given to deliver (a run of datagrams from one SFU address, all to this relay;
	// the buffer is the caller's again afterwards; called on any goroutine, never blocks), send hands a
	// client's packet to the SFU as if it had come from the relay's address to the SFU's address `to`,
	// one of Peers (b may be changed during the call; on the caller's goroutine, which it must not
	// hold up), detach ends it and returns once deliver isn't running any more. A send that was under
	// way may still come after detach, and does nothing then. An error makes the relay try another
	// port. deliver takes what comes from one of Peers, or from where Route leads.
	//
	// Relays have no socket then: their addresses are numbers, of ports 49152 to 65535, and there is
	// nothing else that a relay could reach. nil: a socket for each relay.
	Inside func(relay netip.AddrPort, deliver func(from netip.AddrPort, run udp.Run)) (send func(b []byte, to netip.AddrPort), detach func(), err error)
	// RelayIPs are announced as the relays' addresses: the first IPv4 one for IPv4 relays, the
	// first IPv6 one for IPv6 relays. Relays bind to them where they are this machine's own,
	// and to every address where they aren't. A family without one: the first among the
	// peers' addresses, loopback last.
	RelayIPs []netip.Addr

	Limits Limits
	// Log gets a line per problem with a listener, and at debug level one per allocation.
	// nil: slog.Default().
	Log *slog.Logger
}

// Limits bound what clients can use up. For each, zero is the default given here and a negative
// value is no limit.
type Limits struct {
	// Allocations at one time: in total (0 is 8192), per user (48: a browser makes one for
	// every TURN URL, network interface and peer connection) and per client address (512).
	// For IPv6 an address here and below is a /64 prefix.
	Allocations, AllocationsPerUser, AllocationsPerAddress int
	// AllocationAge ends an allocation however often it was refreshed. 0 is 24 hours.
	AllocationAge time.Duration
	// Bandwidth is what a user may relay, in bytes per second each way, over all their
	// allocations. 0 is 4 MB. Packets over it are dropped and counted.
	Bandwidth int
	// Requests is the rate, per second, of messages that aren't data: of senders without an
	// allocation for each address, with one for each user. A burst of four seconds' worth is let
	// through. Over UDP what is beyond is dropped. A connection with an allocation is read no faster,
	// one without is closed. 0 is 50.
	Requests int
	// Connections over TCP and TLS at one time: in total (0 is 4096) and per address (256).
	Connections, ConnectionsPerAddress int
	// FirstAllocation is how long a new connection has until it holds an allocation, TLS
	// handshake included. 0 is 30 seconds.
	FirstAllocation time.Duration
	// Message is how long a message on a connection may take from its first byte to its last,
	// and how long writing one to the client may take. 0 is 10 seconds.
	Message time.Duration
	// Idle closes a connection with an allocation that is silent for so long. Clients refresh
	// an allocation every ten minutes at the latest. 0 is 15 minutes.
	Idle time.Duration
}

// maxChannels bounds the channels of one allocation. A client binds one for each address of the
// SFU; each packet looks through them.
const maxChannels = 64

// never stands for a limit that is off.
const never = 1 << 40

func (l Limits) withDefaults() Limits {
	l.Allocations = orDefault(l.Allocations, 8192)
	l.AllocationsPerUser = orDefault(l.AllocationsPerUser, 48)
	l.AllocationsPerAddress = orDefault(l.AllocationsPerAddress, 512)
	l.AllocationAge = orDuration(l.AllocationAge, 24*time.Hour)
	l.Bandwidth = orDefault(l.Bandwidth, 4<<20)
	l.Requests = orDefault(l.Requests, 50)
	l.Connections = orDefault(l.Connections, 4096)
	l.ConnectionsPerAddress = orDefault(l.ConnectionsPerAddress, 256)
	l.FirstAllocation = orDuration(l.FirstAllocation, 30*time.Second)
	l.Message = orDuration(l.Message, 10*time.Second)
	l.Idle = orDuration(l.Idle, 15*time.Minute)
	return l
}

func orDefault(n, zero int) int {
	switch {
	case n == 0:
		return zero
	case n < 0:
		return never
	}
	return n
}

func orDuration(d, zero time.Duration) time.Duration {
	switch {
	case d == 0:
		return zero
	case d < 0:
		return 100 * 365 * 24 * time.Hour
	}
	return d
}

func (c Config) validate() error {
	switch {
	case c.Secret == "":
		return errors.New("turn: Config.Secret is empty: anyone could make credentials")
	case c.Peers == nil:
		return errors.New("turn: Config.Peers is nil: nothing could be relayed")
	case len(c.UDP)+len(c.TCP)+len(c.TLS) == 0:
		return errors.New("turn: Config has no listener")
	case len(c.Software) > 763: // RFC 8489, 14.14
		return errors.New("turn: Config.Software is longer than 763 bytes")
	}
	return nil
}

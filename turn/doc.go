// Package turn relays the media of clients that can't reach the SFU directly: behind a firewall
// that passes no UDP, or nothing but TCP 443. It speaks TURN (RFC 8656) over UDP, TCP and TLS,
// and answers STUN binding requests (RFC 8489). The protocol of requests is Pion's; what is ours is
// the way of the packets, and everything that makes a relay safe to leave open to the internet.
//
// A client's message passes through the files in this order:
//
//  1. udp.go takes a datagram from one of the port's sockets, of which there is one per core
//     (package udp), or stream.go accepts a connection (with a cap in total and per address, and
//     deadlines) and frame.go cuts its bytes into messages. For a TLS listener the handshake runs
//     under the same deadlines.
//  2. clients.go, or the connection, tells whether the sender has an allocation.
//  3. With one, forward.go takes ChannelData and Send indications (indication.go): bindings.go
//     tells which peer a channel stands for and whether there is a permission, bucket.go whether
//     the user's bytes per second allow the packet, peers.go whether the peer is one of the SFU's
//     addresses. The packet goes on, on the goroutine that received it, and nothing is allocated.
//  4. relay.go: where the SFU is in this process, the packet is handed to it ([Config].Inside), and
//     the relay's address is only a number (ports.go): there is nothing that a client could reach
//     but the SFU. Otherwise the relay has a socket, from which packets go to exactly the SFU's
//     address and port pairs, whatever Pion's own tables say.
//
// Every other message is for Pion: a queue for each listener over UDP, and the reader of each connection, lead there.
//
//  1. admission.go: a sender without an allocation may only send requests, and only so many per
//     second and address; everything else of such a sender is dropped before Pion sees it. With an
//     allocation, the user has a rate.
//  2. Pion's server parses the message. credentials.go checks who asks: a name that expires and
//     its HMAC under our secret.
//  3. quota.go: allocations are counted per user, per address and in total.
//  4. peers.go: a permission is given for the SFU's own addresses and for nothing else. Pion tells
//     of each permission and channel that begins or ends, and bindings.go is changed accordingly.
//
// A packet from the SFU comes to relay.go, alone or as a run of several, passes permission and bucket in forward.go, and is put
// into its envelope (indication.go): udp.go sends a run with one system call where the system can; for a connection outbox.go
// keeps a bounded queue and a goroutine that writes, so that no sender waits for a client.
//
// [Server.Close] closes the listeners, then the connections, then the relays, and waits until
// their readers have returned.
package turn

// Package turn relays the media of clients that can't reach the SFU directly: behind a firewall
// that passes no UDP, or nothing but TCP 443. It speaks TURN (RFC 8656) over UDP, TCP and TLS,
// and answers STUN binding requests (RFC 8489). The protocol itself is Pion's; what is ours is
// everything that makes a relay safe to leave open to the internet.
//
// A client's packet passes through the files in this order:
//
//  1. udp.go reads a datagram, or stream.go accepts a connection (with a cap in total and per
//     address, and deadlines) and frame.go cuts its bytes into messages. For a TLS listener the
//     handshake runs under the same deadlines.
//  2. admission.go: a sender without an allocation may only send requests, and only so many per
//     second and address. Everything else of such a sender is dropped here, before Pion sees it.
//  3. Pion's server parses the message. credentials.go checks who asks: a name that expires and
//     its HMAC under our secret.
//  4. quota.go: allocations are counted per user, per address and in total; a user's bytes go
//     through one token bucket each way.
//  5. peers.go: a permission is given for the SFU's own addresses and for nothing else.
//  6. relay.go sends what the client sent, and takes what it gets back, on a socket that drops
//     every packet not to, or not from, exactly one of the SFU's address and port pairs. So a
//     relay can't be used to reach anything else, whatever Pion's own tables say.
//
// Packets from the SFU go 6 → 4 (the bucket of the other direction) → Pion → 1.
//
// [Server.Close] closes the listeners, then the connections, then the relays, and waits until
// their readers have returned.
package turn

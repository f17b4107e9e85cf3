// Package history remembers packets and what is missing between them, in bounded space. Nothing here starts a
// goroutine, reads a clock or locks: the owner serialises calls and passes server time, a time.Duration since any fixed
// instant of a monotonic clock. Nothing allocates but for growth, of which each store has a bounded amount.
//
// A received packet passes in this order:
//
//  1. [Reception] (reception.go) extends the 16-bit sequence number, tells duplicates and restarts, and keeps the
//     statistics of receiver reports (RFC 3550 sections 6.4.1, A.1, A.3, A.8).
//  2. [Missing] (missing.go) notes gaps and says which sequence numbers to NACK and when.
//  3. [Packets] (packets.go) stores it, once per published layer.
//  4. [Sent] (sent.go), once per subscription, remembers which stored packet went out under which sequence number, so
//     that a NACK is answered with the very same packet.
package history

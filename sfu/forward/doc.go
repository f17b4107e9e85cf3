// Package forward decides, for one subscription, what becomes of each packet of the publication's layers: dropped, or
// sent under a sequence number, timestamp and picture id of the subscription's own, so that the receiver sees one
// unbroken stream whatever happens to the layers behind it.
//
// A packet passes in this order:
//
//  1. The owner numbers it ([anytime/sfu/history.Reception]), parses it ([anytime/sfu/codec.Parse]), asks the track's
//     [Timeline] for its capture time, and fills one [Packet], which all subscriptions share read-only (packet.go). The
//     layer's [Source] (source.go) notes it.
//  2. It goes to the subscriptions that heed its layer ([Forwarder.Heeds]). [Forwarder.Forward] (forwarder.go) finds the
//     layer: start, stay, switch or wait for a keyframe. Of a stream that holds several spatial and temporal layers, svc.go
//     lets those pass that are wanted and can be decoded.
//  3. sequence.go gives the packet its outgoing number: gaps of loss stay gaps, deliberate drops leave none.
//  4. The owner sends it, and puts [Decision.Sent] into the subscription's [anytime/sfu/history.Sent].
//
// [Rates] (rates.go) measures what the layers of a stream cost, for whoever chooses among them.
//
// Sender reports go through clock.go: [SenderClock] brings a participant's NTP time into server time, [Timeline] keeps
// one line per layer, [Forwarder.SenderReport] answers what the subscription's own report must say.
//
// Nothing here locks, allocates after construction (but once when a stream begins, and for one that turns out to hold
// layers) or reads a clock. Server time is a time.Duration since any fixed
// instant of a monotonic clock, the same for all calls.
package forward

// Package sfu is the selective forwarding unit: it takes the tracks that participants publish and sends each, renumbered
// but otherwise as it is, to those who subscribe to it. It owns Pion, the media ports and the goroutines.
//
// A media packet passes in this order:
//
//  1. listen.go opens one UDP and one TCP port for everybody ([anytime/sfu/udp]: a socket per core, read in batches; icetcp.go,
//     tcpframes.go, tcpqueue.go). mux.go tells STUN, DTLS and SRTP apart, on the reader's goroutine: STUN goes to the peer
//     connection whose user fragment it names, the rest by an address that an ICE agent has proven. STUN and DTLS are Pion's:
//     pionconn.go is what it sees of the ports, stun.go what we look at before, and consent.go answers most checks at once; idle.go
//     ends the SRTP sessions that it starts all the same. paths.go follows clients whose address changes, liveness.go tells when
//     one is gone. inside.go is the way in for a relay in this process.
//  2. plane.go, the seam below: SRTP is opened where the packet lies (srtp.go; keys.go has the keys from Pion's handshake), and
//     transport.go hands it up with its arrival time. Nothing above knows Pion's tracks.
//  3. ingest.go: what the packet is comes from the session description (description.go): m-line by mid or SSRC, simulcast
//     layer by rid, payload type, header extensions. RTX is unwrapped. The packet is copied once into a pooled buffer,
//     numbered ([anytime/sfu/history.Reception]), checked for gaps ([anytime/sfu/history.Missing]), parsed
//     ([anytime/sfu/codec.Parse]) and kept ([anytime/sfu/history.Packets]). layers.go reads the dependency descriptor of
//     streams with several layers, and keeps packets back that came before the structure of theirs.
//  4. gather.go: the packets of a video's frame go on together, as far as they are at hand or come soon; audio goes on at once.
//  5. publication.go: fan-out reads a list that is copied on write, and passes those by that follow another simulcast layer
//     (heed.go). No lock is shared between subscribers, so that other cores can take a part of many (crew.go). Before it, in rooms of
//     many open microphones, voices.go holds back the audio of all but the loudest ([anytime/sfu/speakers.Loudest]).
//  6. subscription.go: [anytime/sfu/forward.Forwarder] drops it or gives it the subscription's own numbers. Which simulcast
//     layer, or which spatial and temporal layers of a stream that holds several, is decided by the allocation of the
//     subscriber's bandwidth. Which of a track's codecs it follows, and what the publisher hears of that, is in codecs.go and
//     follow.go.
//  7. egress.go: what a subscriber gets of a frame is a run of up to 16 packets. Video then waits in a queue (slot.go) for what the
//     pacer grants, a run at a time ([anytime/sfu/bwe.Pacer]); what is sent again goes ahead of it, audio never waits. As a run
//     leaves, transport-wide sequence numbers and send times are written, and the estimator is told (congestion.go).
//  8. sink.go, the seam above: [planeSink] puts the run together in one buffer, encrypts it there and gives it to the socket, as one
//     message for the kernel to cut up where it can; or to a TCP connection, or a relay in this process.
//
// Feedback passes the other way (feedback.go): a publisher's sender reports set the capture-time line of a layer; NACKs,
// keyframe requests (keyframe.go: coalesced per layer), receiver reports and transport-wide feedback go to publishers
// when the transport's alarm (alarm.go) says so. Subscribers' NACKs are answered from the layer's history, over RTX where
// negotiated, the keyframe's packets first, in two copies from the second time on, and for no more bytes than were sent;
// their keyframe requests are passed on, as far as their share goes; sender reports of our own go out each second at first, then
// every three. The round trip follows from receiver reports, from a publisher's answers to our reference times, and from how long
// its retransmissions take. What subscribers tell of the packets that came (transport-wide feedback, RFC 8888) or of their
// streams (REMB, receiver reports) goes to the estimate of their path (congestion.go), from there to the pacer and the
// allocation (allocation.go), and probes with padding (padding.go) find out whether more would pass.
//
// Bandwidth passes from the estimate to the forwarders (allocation.go): publications tell what their layers cost (offer.go),
// [anytime/sfu/alloc.Allocator] shares the estimate out by what subscribers wish, the forwarders follow (share.go). That
// happens at once when something changes, and a few times per second.
//
// Control comes from signaling through [Server.Join] and the methods of [Participant] and returns as [Event] values.
// negotiation.go offers m-lines for subscriptions (mlines.go), one offer at a time; sections.go finds them in the client's own
// offers where it has one peer connection for both directions, and asking.go asks it for more of them; media.go says which
// codecs and extensions we speak; answer.go answers a client's m-lines of media, trunk.go shows Pion what is left of a
// description: the transport of the data channels, which is everything's; tune.go brings a track's announced codec and audio
// settings into the answer to its publisher; data.go carries data channels, channel.go what is sent on them. move.go takes a
// participant into another room, and shows its tracks in further ones.
//
// What a person may want to know of a connection is kept while it goes on: links.go has the last seconds of each direction,
// freeze.go the gaps in a video, quality.go the score.
//
// Goroutines: Pion's own; one per media socket (package udp), on which a packet passes all of the above; one that accepts
// ICE-TCP connections, one that reads each, and one that writes to it while something waits; one per data channel that a client
// sends on. Per server: one each for speaker intervals and for the state of streams (streamstate.go), connections (quality.go,
// links.go, liveness.go) and the other data channels (data.go); one for each core but the first that helps with fan-out
// (crew.go); one, up to eight where much is due, that runs it while something is (clockwork.go). One per participant while there is something
// to offer.
package sfu

// Package room decides what happens in a room: who is in it, who may do what, which tracks are
// published, who is subscribed to what. It is pure: no goroutine, no lock, no clock, no I/O. Its
// caller feeds it events (methods), tells it the time, and carries out the effects it returns, in
// their order.
//
//  1. Join, Resume, Detach, Leave, Remove, TransportChanged, Mirror and Tick move participants
//     (membership.go); MoveOut and MoveIn take one from a room to another (move.go).
//  2. AddTrack, TrackStarted, TrackEnded, SetMuted and UpdateTrack move publications (publish.go).
//     AddCodec, CodecStarted and CodecEnded move the codecs of one (codecs.go); LayersWanted and
//     StreamState tell publisher and subscriber how it flows (dynacast.go), Score how good a connection
//     is (quality.go).
//  3. UpdateSubscription, Configure, SetSubscriptionPermission, Subscribed and SubscriptionFailed
//     move subscriptions (subscribe.go).
//  4. UpdateMetadata, SetPermission, SetRoomMetadata and Speakers change what is shown (present.go),
//     SetPolicy how long the room stays and how many it takes (policy.go).
//  5. Every event ends in settle, which says to whom the changes are told: at once in a small room,
//     coalesced over a short interval in a large one (present.go).
//
// The order of the effects is the order of the contract: a participant's update precedes the
// subscription to its track, a leave is the last message to anybody, and a participant's media is
// closed only after nobody is subscribed to it any more.
//
// A participant is local, with a connection and media on this node, or remote: a mirror of a
// participant that lives on another node, or that another room of this one forwards. Messages go to local participants alone; tracks of remote
// ones can be subscribed like any other.
package room

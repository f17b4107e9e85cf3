// Package client is a room client on Pion: it joins a room by URL and access token over a real
// WebSocket, with two peer connections or one, publishes RTP and receives what it is subscribed to. Tests
// and the load tool use it; it is not an SDK.
//
//  1. client.go     Join, Resume, Close, and the client's view of the room (State, Wait).
//  2. signal.go     the WebSocket: one reader, pings, the messages' effects on the view.
//  3. transport.go  the publisher and subscriber peer connections and their negotiation.
//  4. publish.go    tracks out: raw RTP, or samples that are packetised here.
//  5. receive.go    tracks in, one goroutine each, and data packets.
//  6. profile.go    how the SDK families differ in what they send, in which form and order.
//
// Every call is bounded by its context, and no goroutine is left when Close returns.
package client

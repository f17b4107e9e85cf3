// Package signaling serves the room contract: the WebSocket on which a client joins a room, offers
// and answers, publishes and subscribes.
//
// A client's message takes this way:
//
//  1. http.go     GET /rtc: limits by address, the query, the token, Config.Authorize, the upgrade.
//  2. conn.go     one frame at a time: size and rate limits, decoding, pings answered on the spot.
//     One goroutine reads. What is sent waits in a bounded queue, and a goroutine writes it that
//     is there only while something waits.
//  3. actor.go    one goroutine per room takes messages from its mailbox in order. It never waits
//     for the SFU, a database or a socket.
//  4. dispatch.go the handler of the message, gated by the connection's state.
//  5. room        (pure) decides, and returns effects.
//  6. effects.go  carries them out: messages are encoded once and queued on connections; media
//     calls go to the participant's worker.
//  7. worker.go   calls Media in order, on a goroutine that is there only while calls wait. Results,
//     and the media's own events, come back into the mailbox.
//
// So a participant at rest has one goroutine here, the reader's, and the room has one. Who has been
// silent for a while is pinged, by a timer (conn.go).
//
// Data packets arrive as media events, are stamped with their sender in data.go and leave through
// the workers of their recipients. Reliable ones are kept for a while (datalog.go), for clients that
// come back and lack some.
//
// What a session's connection, worker and media have to say goes through its inbox (inbox.go) to the
// room that it is in: the server API may move it to another (move.go). A participant that is forwarded
// to a second room is mirrored there (forward.go).
//
// A connection that is lost detaches its participant, who stays with all media for the departure
// grace; a resume attaches a new connection (session.go). Tokens are refreshed while a participant
// is connected, and rechecked each time (refresh.go).
//
// The server API comes in beside it: package twirp reads a call, api.go checks its token's grants,
// api_methods.go carries it out on the room's goroutine, api_rpc.go waits for a client's answer. What
// happens in rooms goes out to Config.Observe (events.go), and from there to package webhook.
//
// PROTOCOL.md in package wire lists the messages, their limits and errors.
package signaling

// Package wire is the room contract as bytes: what a LiveKit SDK puts on the /rtc WebSocket and
// what it expects back. It is the only package that imports the published protocol types; everybody
// else uses the names this package exports.
//
// A message passes through these files:
//
//  1. query.go  reads the query of the upgrade request: who connects, with which options.
//  2. token.go  verifies the access token and yields its Claims; mints tokens and refreshed tokens.
//  3. frame.go  turns one WebSocket frame into a SignalRequest, and a SignalResponse into a frame.
//     Data channel payloads (DataPacket) have the same treatment.
//  4. messages.go names the messages, api.go those of the server API and of webhooks; ids.go makes the
//     ids that appear in them.
//
// Everything here is bounded: a query value, a token, a frame, a data packet beyond its limit is
// refused with an error that says what was expected. Unknown protobuf fields are ignored, as the
// contract asks, so that newer SDKs keep working.
//
// PROTOCOL.md in this folder says for every message when it is sent, by whom, in which state, with
// which limits and errors.
package wire

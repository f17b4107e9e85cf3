// Package companion is Anytime's HTTP API beside the calls' media: accounts,
// sessions, contacts, invitations, calls, and one WebSocket of events.
//
// A request goes through these files, in this order:
//
//  1. server.go: security headers, the client's address (address.go),
//     cross-origin protection, then the route.
//  2. session.go: the cookie or bearer token is looked up; routes registered with
//     signedIn get the [Session], or the request ends with 401.
//  3. routes_*.go: one file for each subject. A route reads its input, asks the
//     limits (limit.go), applies a rule of package people, and stores the result
//     through package sqlstore.
//  4. errors.go: whatever went wrong becomes problem JSON (RFC 9457) with a
//     sentence for people and a stable code for programs.
//  5. events.go: what others must see is published to the hub, which queues it
//     for each of their sockets.
//
// Calls go on from there: calls.go says how an action becomes an event of the ring
// machine (package call), is saved with its effects, and reaches everybody.
//
// The socket /v1/events goes its own way (socket.go): the same session, then the
// socket joins the hub, gets a snapshot, then what was queued meanwhile, and then
// each event as it comes.
package companion

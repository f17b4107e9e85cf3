// Package call is the life of one call: who rings, who answered, who is still there, and how it ended.
// It is a pure state machine. It starts no goroutine, reads no clock, opens no connection and keeps nothing between calls.
//
// # Data flow
//
//  1. Somebody acts (a person presses answer, a timer comes due, the room reports a lost connection). Whoever learns of it
//     loads the [Call] from the database and turns what happened into an [Event].
//  2. [Apply] returns the call after the event and the [Effect] list that leads from the one to the other (apply.go, effects.go).
//  3. The caller of Apply saves the new call where the version is still the one it loaded, and, in the same transaction,
//     claims and releases device slots and stores the remaining effects. If another process was faster, it loads and applies again.
//  4. Any process carries out the stored effects, at least once. Each is idempotent: it says what should be true ("this account
//     sees version 7", "this device is not in the room"), never "one more".
//  5. What a reader may know is [Call.View]: the same call looks different to its caller, to the device that answered and to the
//     device next to it (view.go).
//
// # The life of a person in a call
//
//	         ┌──────────── answered ───────────▶ joined ── hung up, lost for 30 s ──▶ left
//	ringing ─┼─ declined ─▶ declined | busy        │ ▲
//	         ├─ 45 s ─────▶ timed_out              │ └─ invited again
//	         └─ cancelled, or the call ended ▶ cancelled
//	busy: somebody who cannot be rung at all is busy from the start
//	failed: answered, and for 60 s no media came
//
// While joined, the link to the room is connecting, connected or lost; a lost link is shown to the others as "reconnecting" and
// has 30 s to come back. A call is ringing until the first answer, then active, and ends when at most one person is joined and
// nobody rings. A call of two grows into a group by inviting; there is no other kind of call.
//
// Timers are not kept here either: [Call.DueAt] is the earliest moment at which [TimerFired] has something to do.
package call

// Package alloc splits one subscriber's bandwidth estimate among its subscriptions: which layer each is to be forwarded
// in, and which are to be paused.
//
// One [Allocator.Update] goes through these steps:
//
//  1. Prioritize (alloc.go): audio is served first and never paused. Video stands in classes, by its priority, or by what
//     it shows: screen share, speaker, camera, thumbnail.
//  2. Constrain (ladder.go): what is displayed, and what is being sent, leave each video a ladder of targets, each better
//     and dearer than the one below.
//  3. Improve (improve.go): class by class, always the worst of the class first, each video climbs one rung at a time
//     while there is bandwidth. A rung that doesn't fit is skipped, so that cheaper ones behind it can be had.
//  4. Commit (commit.go): targets, reasons and what the next rung would need; the time before which none may climb.
//
// The order of the rungs doesn't depend on the estimate, only on the inputs and on which rungs are held. So of two
// estimates the higher one serves the first rung in which their results differ: more bandwidth is never worse, class by
// class. One waits at a rung only when its next wouldn't fit with every equal kept down at its own height: nobody starves
// beside an equal who has plenty.
//
// Layers don't flap. A rung that is held is kept as long as the estimate covers it; a rung is climbed only when the
// estimate has covered it for a while, with headroom to spare, and some time after the last descent. Who falls soon after
// a climb waits twice as long the next time, unless there is a third more than there was then. Descents are immediate. What
// is newly wished for doesn't wait. What was paused goes on soon where the estimate covers it twice, though a better class
// may still wait to climb.
//
// The scheme is that of the bandwidth allocation of selective forwarding units in general: see RFC 7667 section 3.7 for
// the topology, and for the three stages the document doc/allocation.md of the public videobridge of the Jitsi project.
//
// Nothing here locks, allocates after warm-up, starts a goroutine or reads a clock. All arithmetic is on integers: equal
// inputs give equal results on every machine. Time is a time.Duration since any fixed instant of a monotonic clock. The
// owner serialises the calls of one allocator. An update of n subscriptions takes O(n log n).
package alloc

// Package bwe estimates what the path to one subscriber takes, and spreads what is sent over time. It is pure: packets
// sent and feedback received go in with the server's time, a target and probes come out. It starts no goroutine, reads no
// clock, takes no lock, allocates nothing after construction, and gives the same results for the same input, bit for bit
// on one architecture. The owner serialises the calls of one value.
//
// A packet and what is learnt from it pass in this order:
//
//  1. pacer.go: [Pacer] says what may leave now and when to ask again; a run of segmentation offload is one grant. burst.go: where
//     the path has room that is a whole frame.
//  2. sent.go: [Estimator.Sent] remembers it in a ring by its transport-wide sequence number.
//  3. feedback.go: [Estimator.TransportFeedback] (draft-holmer-rmcat-transport-wide-cc-extensions-01) or
//     [Estimator.CongestionFeedback] (RFC 8888) finds it there again. Unknown, repeated, absurd and malformed feedback is
//     counted ([Counts]) and costs no more than its length.
//  4. delay.go: packets form groups, groups give the variation of the delay, a trendline over it tells overuse by an
//     adaptive threshold (draft-ietf-rmcat-gcc-02 sections 5.2 to 5.5; Carlucci, De Cicco, Holmer and Mascolo, "Analysis
//     and Design of the Google Congestion Control for WebRTC", MMSys 2016). The least one-way delay of two minutes gives
//     the queueing delay; by how much it swings of itself tells a queue from jitter.
//  5. rate.go: what arrives is measured (meter.go); the rate goes up and down (section 5.5).
//  6. loss.go: loss at different rates tells the link's own from congestion's. compete.go: whether others fill the queue.
//  7. probe.go: clusters at a higher rate prove what the application doesn't try; [Estimator.Probe] hands them out,
//     [Pacer.Start] sends them.
//  8. estimator.go: [Estimator] joins them; [Estimator.Estimate] is the result (estimate.go), [Estimator.Update] does what is due
//     without feedback.
//
// reports.go: [Reports] gives the same [Estimate] for a subscriber that sends only REMB or receiver reports.
//
// # Decisions
//
// All figures are of this package's simulated links (make bench-network), the worst of five seeds unless said.
//
// Loss. The controller of draft-ietf-rmcat-gcc-02 section 6, measured in the place of ours over 3 Mbit/s with layers up to
// 1.86 Mbit/s, keeps 1.85 Mbit/s at 2 % random loss, 0.88 at 5 % and 0.34 at 10 %: it takes a bad radio link for a full one.
// A maximum-likelihood inference of inherent loss and capacity from windows of loss alone keeps 1.85 at all three, but
// can't tell a policer from a bad link while the rate stays the same (22 % of the packets lost at a policer of 1 Mbit/s;
// the draft's loses 11 %). Ours adds what the delay knows: loss while the queue is long is its overflow, and isn't taken for
// the link's own. It keeps 1.85 too, and loses 17 % at that policer, where nothing but a lower rate can tell, which costs
// quality on every bad link; above 12 % the rate doesn't grow, above 15 % it falls by up to half to see whether that helps.
//
// Rate after overuse. The draft takes 85 % of what arrives over half a second. While a queue really grows the link is
// busy, so that 160 ms measure its capacity: a link that falls from 3 to 0.5 Mbit/s is followed at once, not in three
// steps. A longer queue is emptied with down to 70 %. Overuse without delay is jitter; overuse while less is sent than
// allowed, and no queue stands, is a probe or a keyframe passing: neither lowers the rate. Where a queue stands, less is sent
// than allowed, and that arrives as fast as it was sent, then what arrives isn't what the path takes: a subscriber that had
// stopped to send for the queue of another fell from 1.6 to 0.05 Mbit/s in 0.3 s. It makes room step by step. Two viewers
// behind 1.5 Mbit/s, in browsers: 99 % of the frames in time and no freeze above 0.5 s, before 92 % and 3.4 to 4.2 s (also
// because a paused picture waited as long as any climb, and because "underuse" without a queue held probes off).
//
// Swings. On a path whose delay swings (packets held back for up to 60 ms each, in order, over 3 Mbit/s) the trend says overuse
// every few seconds, and the least delay of a message is never short, so that the rate didn't grow back: 0.64 Mbit/s of 1.86
// were left, and 0.31 at 120 ms. What the delay falls by of itself is now what a queue must rise by to count, clusters last
// for as long as the swing, up to 100 ms, and a quarter of it is allowed to their times: 1.85 and 1.31, and a fall to
// 0.5 Mbit/s is still followed within 2 s. Where packets are lost as well, the trend alone counts: that is what makes room
// for short TCP flows. Queues of our own making teach nothing: the first picture, a stall, what a reduction empties.
//
// Growth. An application that sends what simulcast layers have doesn't try the link. So the rate never grows while less
// than 65 % of it is used; probes raise it, while the allocator wants more ([Estimator.Want]): at once at the start and
// after success, at the latest every 4 s. A probe counts as clean by the time its packets took, not by their sizes. Full
// quality is back within 3 s of the link, in 40 seeds (by 8 % a second it would take 20).
//
// Promises. A shaper that lets 3 kB through at once shows a cluster of 20 ms more than twice what there is: over 0.5 Mbit/s the
// target rose to 1.15, and what the allocator tried for it filled the queue. A result that has to be taken back before it was
// used makes clusters ten times as long and a third as bold for half a minute: in browsers 50 ms of queue at the 95th
// percentile instead of 130, and full quality back after 3.6–6.9 s instead of 10, as fewer climbs had failed.
//
// Bursts. 10 ms of the pacing rate cut a frame of 1.7 Mbit/s into 2.3 runs, with 1.3 timers. With libwebrtc's 40 ms everywhere
// (medians of 200 seeds) as many bytes wait, but in the router instead of in the pacer. Where the link is full, that is 9 to
// 16 ms more of queue at the 95th percentile, in which audio waits too; 2.0 s instead of 1.5 s above a link that fell to
// 0.5 Mbit/s; and 3 % of loss that passes for the link's own where a buffer of 30 ms takes no whole frame. So a frame leaves in one
// piece only while nothing says that the path is full: then it is 1.0 run and no timer, its end is no later, and audio waits for
// 1 to 4 ms more over 10 to 3 Mbit/s. The trend takes one sample per group, at its last packet: a frame that left at once and takes
// 100 ms over a link that slowed down gave it a single one. A group now arrives within 20 ms, whatever the bursts: 3 → 0.5 Mbit/s
// fits after 0.25 s, before 0.35 to 0.4 s, and a seventh to a quarter less is lost in RFC 8867 5.1 to 5.3. With a limit of 10 ms it is 0.2 s,
// but 2 % less is used of a link with 10 % of random loss. Timing groups by their quickest packet, to which bursts are no noise,
// tells later: after 0.4 to 0.45 s.
//
// Sharing. Two flows of layers over 1.5 Mbit/s share it 46 to 54 at the worst of 40 seeds. Two encoders that fill their
// target share it 40 to 60 in the median, 37 to 63 at the worst: the lesser one notices the queue more often, as in the
// draft. A probe that failed tries less the next time, or the lesser of two flows would never see what is left for it.
//
// Others. Beside one endless TCP flow over 2 Mbit/s with a queue of 300 ms, yielding to every delay left 0.2 Mbit/s.
// Where lowering the rate doesn't shorten the queue, loss decides and half as much again as TCP's throughput equation
// (RFC 5348) is the limit: 0.7 and 1.2 Mbit/s. That needs the base delay of a minute ago: with one of 20 s, as is
// usual, a queue that ten TCP flows keep full became the base, its overflow the link's own loss, and TCP starved.
package bwe

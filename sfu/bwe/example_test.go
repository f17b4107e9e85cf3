package bwe_test

import (
	"fmt"
	"time"

	"anytime/sfu/bwe"
)

// A subscriber's egress asks the pacer before it sends, and tells pacer and estimator what left. When feedback has
// come, and every 50 ms besides, it passes the rates on. The link here delivers everything after 20 ms.
func Example() {
	const ms = time.Millisecond
	now := time.Second // server time
	estimator := bwe.New(bwe.Config{Start: 500_000}, now)
	var pacer bwe.Pacer
	sequence := uint16(0)
	var arrived []bwe.Result // what the receiver will tell

	send := func(size int, probe uint16, padding bool) {
		pacer.Sent(now, size, padding)
		estimator.Sent(bwe.Packet{Sequence: sequence, Size: size, At: now, Probe: probe})
		arrived = append(arrived, bwe.Result{Sequence: sequence, Received: true, At: now + 20*ms})
		sequence++
	}
	var queue []int                // sizes of video packets that wait
	var oldest, wake time.Duration // when the first was queued; when to ask the pacer again
	pump := func() {
		waiting := bwe.Queue{Packets: len(queue)}
		for _, size := range queue { // an egress keeps the sum
			waiting.Bytes += size
		}
		if len(queue) > 0 {
			waiting.Oldest = now - oldest
		}
		grant := pacer.Next(now, waiting)
		sent := 0
		for range grant.Packets {
			if len(queue) == 0 || sent >= grant.Bytes {
				break
			}
			send(queue[0], grant.Probe, false)
			sent += queue[0]
			queue = queue[1:]
		}
		for grant.Padding > 0 && len(queue) == 0 && sent < grant.Bytes {
			send(250, grant.Probe, true)
			sent += 250
		}
		wake = grant.Next
	}

	for tick := range 3000 { // milliseconds
		if tick%33 == 0 { // a frame of video
			if len(queue) == 0 {
				oldest = now
			}
			queue = append(queue, 1000, 1000)
			pump()
		}
		if tick%20 == 0 { // audio doesn't wait
			send(120, pacer.Probing(), false)
		}
		if wake != 0 && now >= wake {
			pump()
		}
		if tick%50 == 49 {
			estimator.Want(2_000_000) // what the allocator would send if it could
			estimator.Feedback(now, arrived)
			arrived = arrived[:0]
			estimator.Update(now)
			estimate := estimator.Estimate()
			pacer.Set(estimate.Pacing, estimate.Padding, estimate.Burst)
			if probe, ok := estimator.Probe(); ok {
				pacer.Start(probe)
				pump()
			}
		}
		now += ms
	}
	estimate := estimator.Estimate()
	fmt.Println("enough for what is wanted:", estimate.Target >= 2_000_000)
	fmt.Println("state:", estimate.State, "queue:", estimate.Queue)
	// Output:
	// enough for what is wanted: true
	// state: normal queue: 0s
}

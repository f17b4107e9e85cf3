// Package load loads a server with participants and measures what arrives: for people who size a server, and to compare
// servers of the same room contract. It is a client like any other and knows nothing of the server's inside.
//
//  1. load.go         Config, Run: join, warm up, measure, leave.
//  2. participant.go  one client (signaling/client) with its settings; who joins when.
//  3. publish.go      a camera and a microphone: frames at their times, packets paced or in bursts, keyframes when asked for.
//  4. source.go       what is sent: VP8, H.264 and Opus payloads whose bodies (stamp.go) tell who sent them when, and are known
//     bit by bit.
//  5. line.go         the UDP socket of a peer connection. RTP stays here, all else goes to Pion, which also sends.
//     batch_linux.go reads many datagrams at once, with the kernel's arrival times. relay.go looks into what is relayed.
//  6. receiver.go     one peer connection's packets: counted by their clear headers; a sample is decrypted (keys.go) and checked.
//     The feedback of a browser goes back: transport-wide feedback, receiver reports, NACK, PLI.
//  7. stream.go       one RTP stream: loss, duplicates, order, frames, freezes. Pure.
//  8. report.go       sums (histogram.go, usage_linux.go) and the report.
//
// Latency is from just before a packet is encrypted by the publisher to its arrival in the subscriber's socket, by one clock.
// Of video one packet in 16 is looked at, of audio each.
//
// No UDP_GRO: it would make what was sent in one segmented run cheaper to receive, and flatter servers that send so. The
// pictures can't be decoded: no server looks into them, and encoding would cost more than all else.
package load

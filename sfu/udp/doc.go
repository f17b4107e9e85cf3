// Package udp sends and receives datagrams in batches, on one port with a socket per core. It knows nothing of what is in
// them.
//
// A datagram that comes in passes in this order:
//
//  1. The kernel chooses one of the port's sockets (SO_REUSEPORT) by the addresses, so that all of one sender come to one
//     reader and stay in order. Datagrams that came together from one sender may stay together (UDP_GRO).
//  2. wait_linux.go: the socket's reading goroutine wakes. What is sent doesn't wake it, nor a thread of the runtime.
//  3. receive_linux.go: it takes up to 15 messages with one recvmmsg, asks the clock once, and cuts what the kernel has
//     joined.
//  4. udp.go: the socket's [Reader] gets each datagram, on that goroutine, in its buffer, and is told when there are none
//     left for now.
//
// A datagram that goes out:
//
//  1. udp.go: [Port.Send] takes runs, each of which is one or more datagrams to one address that follow each other in a
//     buffer. The hint chooses the socket.
//  2. send_linux.go: runs become messages, of up to 64 datagrams where the kernel cuts them up (UDP_SEGMENT), of one
//     otherwise; several messages leave with one sendmmsg, on the caller's goroutine. Nothing is copied.
//  3. What the kernel refuses is counted and skipped; a full send buffer is never waited for.
//
// What the kernel can do is asked when the port opens, by sending to ourselves (listen_linux.go). A socket whose segmented
// runs fail later, for several addresses or because of the device, does without segmentation from then on.
//
// On other systems, and over any other [net.PacketConn] ([Over]), there is one socket with one reader and a write per
// datagram (over.go). The same tests run over every path.
//
// Goroutines: one per socket, which reads. [Port.Close] waits for them.
package udp

// Package codec reads and writes what a forwarding unit must know of a packet: the RTP header, its extensions and the
// few bytes of payload descriptor that tell layers and keyframes apart. It never reads a codec's payload beyond the
// header that end-to-end encryption leaves clear.
//
// A packet passes in this order:
//
//  1. [ParseHeader] (rtp.go): bounds of extensions and payload, RFC 3550 section 5.1.
//  2. [Header.Extensions] (extension.go): iteration, RFC 8285; [ParseAudioLevel], RFC 6464.
//  3. [Parse] (descriptor.go, then vp8.go, h26x.go, vp9av1.go): a [Descriptor] by value.
//  4. [Dependencies.Read] (dependency.go), where the packet has a dependency descriptor: layers and references of streams
//     with several layers, whatever the codec and even if the payload is encrypted.
//  5. On the way out [NewWriter] (writer.go) builds a fresh header and [Rewrite] renumbers the payload in place.
//
// Nothing here allocates but for a new dependency structure, and every parser takes any bytes: a malformed packet is an error, never a panic.
package codec

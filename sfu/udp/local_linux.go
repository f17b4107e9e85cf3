package udp

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// source is the control message that tells which address of ours a datagram leaves from, behind a segmentation or alone.
type source struct {
	header unix.Cmsghdr
	info   unix.Inet6Pktinfo // or an Inet4Pktinfo, which is shorter
	_      [4]byte
}

// askLocal has the kernel tell of every datagram which address it came to.
func (s *socket) askLocal() error {
	if s.v6 {
		return s.set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return s.set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// from writes the control message for an address and returns its length with padding, or 0 if a datagram can't leave from
// there. IPv6 sockets take IPv4 addresses in their mapped form here too.
func (c *source) from(v6 bool, a netip.Addr) int {
	if !v6 {
		if a = a.Unmap(); !a.Is4() {
			return 0
		}
		c.header.Level, c.header.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		c.header.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&c.info)) = unix.Inet4Pktinfo{Spec_dst: a.As4()}
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	c.header.Level, c.header.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	c.header.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	c.info = unix.Inet6Pktinfo{Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		c.info.Ifindex = scope(zone)
	}
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// local4 and local6 read the address that a datagram came to. It is zero where a reply can't leave from it.
func local4(data unsafe.Pointer) netip.Addr {
	return sender(netip.AddrFrom4((*unix.Inet4Pktinfo)(data).Spec_dst))
}

func local6(data unsafe.Pointer) netip.Addr {
	info := (*unix.Inet6Pktinfo)(data)
	a := netip.AddrFrom16(info.Addr).Unmap()
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.FormatUint(uint64(info.Ifindex), 10))
	}
	return sender(a)
}

func sender(a netip.Addr) netip.Addr {
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}
	}
	return a
}

package companion

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// peerAddr is the address that the request's connection comes from; the zero Addr
// if it isn't an IP address.
func peerAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func trusts(trusted []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ClientAddr is the address of whoever sent the request; the zero Addr if its
// connection doesn't come from an IP address. Each proxy appends to X-Forwarded-For
// the address that its own connection comes from, so the header is read from its
// end for as long as the one who wrote an entry is trusted.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := peerAddr(r)
	entries := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, entry := range slices.Backward(entries) {
		if !trusts(trusted, addr) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(entry))
		if err != nil {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	return addr
}

// overTLS reports whether the client's own connection is encrypted.
func overTLS(r *http.Request, trusted []netip.Prefix) bool {
	if r.TLS != nil {
		return true
	}
	return trusts(trusted, peerAddr(r)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

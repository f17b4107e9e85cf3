// Package dialer connects to addresses that users and operators name: webhooks, push endpoints,
// link cards. Whoever names an address must not reach through this server what only this server
// reaches: loopback, the private network, a cloud's metadata service.
//
//  1. A name is resolved by the system's resolver.
//  2. Each address is checked at the moment of connecting to it (Check), so that a name which
//     resolves differently the second time gains nothing; so is that of every redirect.
//  3. The whole exchange is bounded in time, the answer in size.
package dialer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Config of a Client. The zero value is the strictest.
type Config struct {
	// AllowPrivate lets loopback and private addresses be reached too (RFC 1918, RFC 4193,
	// RFC 6598). Link-local ones, where clouds serve credentials, stay out of reach.
	AllowPrivate bool
	// Timeout bounds an exchange, redirects and the reading of the answer included. 0 is 5 s.
	Timeout time.Duration
	// MaxAnswer bounds the body of an answer in bytes; reading beyond it gives ErrTooLarge.
	// 0 is 1 MB.
	MaxAnswer int64
	// Redirects is how many are followed. 0 is 3, negative none.
	Redirects int
}

// Errors for callers that branch. A request's error wraps them.
var (
	// ErrForbidden: the address is not one that may be reached.
	ErrForbidden = errors.New("this address may not be reached")
	// ErrTooLarge: the answer is larger than allowed.
	ErrTooLarge = errors.New("the answer is too large")
)

// Client returns an HTTP client that reaches permitted addresses only. It uses no proxy, keeps no
// cookies and asks for no compression.
func Client(c Config) *http.Client {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxAnswer == 0 {
		c.MaxAnswer = 1 << 20
	}
	if c.Redirects == 0 {
		c.Redirects = 3
	}
	dial := net.Dialer{
		Timeout: c.Timeout,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return checkDial(network, address, c.AllowPrivate)
		},
	}
	return &http.Client{
		Timeout: c.Timeout,
		Transport: bounded{most: c.MaxAnswer, next: &http.Transport{
			DialContext:            dial.DialContext,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           32,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    c.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case r.Method != via[0].Method:
				return http.ErrUseLastResponse // a POST must not arrive as a GET without its body
			case len(via) > c.Redirects:
				return fmt.Errorf("more than %d redirects", max(c.Redirects, 0))
			case via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme != "https":
				return errors.New("a redirect from https to plain http")
			}
			return CheckURL(r.URL)
		},
	}
}

// CheckURL refuses what is no http or https URL of a host. It looks nothing up: addresses are
// checked when they are connected to.
func CheckURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("expected an http or https URL")
	case u.Hostname() == "" || u.Opaque != "":
		return errors.New("the URL names no host")
	case u.User != nil:
		return errors.New("the URL must not hold a user or password")
	}
	return nil
}

func checkDial(network, address string, allowPrivate bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s", ErrForbidden, network)
	}
	return Check(at.Addr(), allowPrivate)
}

// special are blocks of the IANA special-purpose registries (RFC 6890 and its successors) that are
// no public unicast, beyond those that package netip knows.
var special = prefixes(
	"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4",
	// Teredo and ORCHID; 6to4, which embeds any IPv4 address; documentation.
	"2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20",
)

var (
	shared       = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, carrier-grade NAT
	globalV6     = netip.MustParsePrefix("2000::/3")      // the only global unicast that is assigned
	translated   = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052: the last 32 bits are an IPv4 address
	metadataOfV6 = netip.MustParseAddr("fd00:ec2::254")   // a cloud's metadata service inside fc00::/7
)

// Check refuses an address that isn't public unicast; allowPrivate lets loopback and private
// addresses pass too. The error wraps ErrForbidden.
func Check(a netip.Addr, allowPrivate bool) error {
	a = a.Unmap().WithZone("")
	if a.Is6() && translated.Contains(a) {
		v6 := a.As16()
		return Check(netip.AddrFrom4([4]byte(v6[12:])), allowPrivate)
	}
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == metadataOfV6:
	case a.IsLoopback() || a.IsPrivate() || shared.Contains(a):
		if allowPrivate {
			return nil
		}
	case a.Is6() && !globalV6.Contains(a) || inAny(special, a):
	default:
		return nil
	}
	return fmt.Errorf("%w: %v is not public", ErrForbidden, a)
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func inAny(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// bounded cuts the bodies of answers.
type bounded struct {
	most int64
	next http.RoundTripper
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err == nil {
		answer.Body = &boundedBody{ReadCloser: answer.Body, left: b.most}
	}
	return answer, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (b bounded) CloseIdleConnections() { (&http.Client{Transport: b.next}).CloseIdleConnections() }

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	// One byte more than is left tells an answer that fits from one that doesn't.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}

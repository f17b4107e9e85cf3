package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"anytime/turn"
	"anytime/web"
)

// openPorts takes the ports of HTTP and HTTPS without serving them yet.
func (n *node) openPorts(context.Context) error {
	h := n.config.http
	var err error
	if n.plain, err = n.port("listen", h.listen); err != nil {
		return err
	}
	if !n.config.tls() {
		return nil
	}
	n.certificates, err = newCertificates(tlsConfig{
		certificate: h.certificate, key: h.key, domain: h.domain, acmeDirectory: h.acmeDirectory,
		selfSigned: h.selfSigned, folder: n.config.data, nodeIPs: n.config.media.nodeIPs, log: n.log,
	})
	if err != nil {
		return err
	}
	n.secure, err = n.port("https", h.https)
	return err
}

// port listens, until the node stops.
func (n *node) port(setting, address string) (net.Listener, error) {
	l, err := listen(setting, address)
	if err == nil {
		n.onStop(func(context.Context) error { return l.Close() })
	}
	return l, err
}

// openTURN starts the relay on its own ports, and over TLS beside HTTPS.
func (n *node) openTURN(context.Context) error {
	if n.config.turn.listen == off {
		return nil
	}
	var overTLS []net.Listener
	var ports []uint16 // of overTLS, as clients are told them
	if n.secure != nil {
		n.splitter = splitTLS(n.secure, n.certificates.shared(), splitLimits{}, n.log)
		n.onStop(func(context.Context) error { return n.splitter.Close() })
		overTLS = append(overTLS, n.splitter.TURN)
		ports = append(ports, portOf(n.secure.Addr()))
		if n.config.turn.tls != off {
			l, err := n.port("turn-tls", n.config.turn.tls)
			if err != nil {
				return err
			}
			overTLS = append(overTLS, tls.NewListener(l, n.certificates.turn()))
			ports = append(ports, portOf(l.Addr()))
			n.listening("TURN over TLS", l.Addr().String())
		}
	}
	server, err := turn.New(turn.Config{
		UDP: []string{n.config.turn.listen}, TCP: []string{n.config.turn.listen}, TLS: overTLS,
		Secret: n.keys.TURNSecret, Peers: n.relayPeers, Route: relayRoute, Inside: n.sfu.Inside, RelayIPs: n.config.media.nodeIPs,
		Log: n.log,
	})
	if err != nil {
		return listenError("turn", n.config.turn.listen, err)
	}
	n.turn = server
	n.onStop(func(context.Context) error { return server.Close() })
	n.turnURLs = n.urlsOfTURN(ports)
	var over []string
	for _, a := range server.UDPAddrs() {
		over = append(over, a.String())
	}
	n.listening("TURN over UDP", strings.Join(over, ", "))
	n.listening("TURN over TCP", server.StreamAddrs()[0].String())
	return nil
}

// urlsOfTURN are what clients are told: one each for UDP and TCP, and one per port for TLS, of which HTTPS's is the one
// that firewalls leave open.
func (n *node) urlsOfTURN(overTLS []uint16) []string {
	host := n.config.http.domain
	if host == "" {
		addrs := n.sfu.Addrs()
		if bound := n.turn.UDPAddrs(); len(bound) > 0 && !bound[0].Addr().IsUnspecified() {
			addrs = []netip.Addr{bound[0].Addr()}
		}
		if len(addrs) == 0 {
			return nil
		}
		// An address that others reach, rather than loopback, which only this machine does.
		best := slices.IndexFunc(addrs, func(a netip.Addr) bool { return !a.IsLoopback() })
		host = addrs[max(best, 0)].String()
	}
	var urls []string
	add := func(format, host string, port uint16) {
		urls = append(urls, fmt.Sprintf(format, bracketed(host), port))
	}
	if udp := n.turn.UDPAddrs(); len(udp) > 0 {
		add("turn:%s:%d?transport=udp", host, udp[0].Port())
	}
	if tcp := n.turn.StreamAddrs(); len(tcp) > 0 {
		add("turn:%s:%d?transport=tcp", host, tcp[0].Port())
	}
	for _, port := range overTLS {
		add("turns:%s:%d?transport=tcp", n.certificates.host(host), port)
	}
	return urls
}

// relayRoute leads a relay to this machine's own SFU where the announced address is that of a
// NAT in front of it, which needn't lead back inside.
func relayRoute(peer netip.AddrPort) netip.AddrPort {
	local := machineAddresses()
	if peer.Addr().IsLoopback() || len(local) == 0 || slices.Contains(local, peer.Addr()) {
		return peer
	}
	for _, ip := range local {
		if ip.Is4() == peer.Addr().Is4() {
			return netip.AddrPortFrom(ip, peer.Port())
		}
	}
	return netip.AddrPortFrom(local[0], peer.Port())
}

// serveHTTP answers on every port taken.
func (n *node) serveHTTP(ctx context.Context) error {
	handler := n.handler()
	n.answer(n.plain, handler)
	n.listening("HTTP", n.plain.Addr().String())

	if n.secure != nil {
		https := net.Listener(nil)
		if n.splitter != nil {
			https = n.splitter.HTTPS
		} else {
			https = tls.NewListener(n.secure, n.certificates.shared())
		}
		n.answer(https, handler)
		n.listening("HTTPS", n.secure.Addr().String())
	}
	if h := n.config.http; h.domain != "" && h.redirect != off {
		l, err := n.port("redirect", h.redirect)
		if err != nil {
			return err
		}
		n.answer(l, n.certificates.redirect(int(portOf(n.secure.Addr()))))
		n.listening("to HTTPS", l.Addr().String())
	}
	if n.certificates != nil {
		// It logs its own outcome; the first visit tries again.
		obtaining, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = n.certificates.obtain(obtaining) }()
		n.onStop(func(context.Context) error { cancel(); <-done; return nil })
	}
	if address := n.config.http.admin; address != off {
		l, err := n.port("admin", address)
		if err != nil {
			return err
		}
		n.answer(l, adminHandler(n.healthy, n.metrics()))
		n.listening("admin", l.Addr().String())
	}
	return nil
}

// answer serves HTTP on a listener until the node stops.
func (n *node) answer(l net.Listener, handler http.Handler) {
	s := httpServer(handler)
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			select {
			case n.failed <- fmt.Errorf("serving %s: %w", l.Addr(), err):
			default:
			}
		}
	}()
	n.onStop(func(ctx context.Context) error { return shutdown(ctx, s) })
}

// handler routes what comes in over HTTP: rooms, the API, and the web app for all else.
func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	rooms := n.signaling.Handler()
	mux.Handle("/rtc", rooms)
	mux.Handle("/rtc/", rooms)
	mux.Handle("/twirp/", n.signaling.API())
	mux.Handle("/v1/", n.companion.Handler())
	mux.Handle("/", web.Handler())
	return mux
}

// healthy is what the admin listener's health check asks.
func (n *node) healthy(ctx context.Context) error {
	if err := n.store.Ping(ctx); err != nil {
		return fmt.Errorf("the database doesn't answer: %w", err)
	}
	return nil
}

// urls are where the app opens, the best first.
func (n *node) urls() []string {
	if n.secure == nil {
		return addressesOf("http", n.plain.Addr())
	}
	if domain := n.config.http.domain; domain != "" {
		if port := portOf(n.secure.Addr()); port != 443 {
			return []string{"https://" + net.JoinHostPort(domain, strconv.Itoa(int(port)))}
		}
		return []string{"https://" + domain}
	}
	return addressesOf("https", n.secure.Addr())
}

// mediaListenError tells which of the SFU's two ports an error is about.
func mediaListenError(m mediaConfig, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && strings.HasPrefix(op.Net, "tcp") {
		return listenError("tcp", m.tcp, err)
	}
	return listenError("udp", m.udp, err)
}

func portOf(a net.Addr) uint16 {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Port()
	}
	return 0
}

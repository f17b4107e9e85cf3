package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listen opens a TCP listener; its error is a sentence that names the setting to change.
func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(setting, address, err)
	}
	return quick(l), nil
}

// listenError says what to do about an address that can't be listened on.
func listenError(setting, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program: stop that one, or choose another address with --%s", address, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s needs a privilege this user lacks (ports below 1024 do): grant CAP_NET_BIND_SERVICE, or choose another address with --%s", address, setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine: choose another with --%s", address, setting)
	}
	return fmt.Errorf("listening on %s (--%s): %w", address, setting, err)
}

// makeDataFolder makes the folder, and proves that it can be written.
func makeDataFolder(folder string) error {
	hint := "choose another folder with --data, or give this user the right to write there"
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("the data folder %s can't be made (%w): %s", folder, reason(err), hint)
	}
	probe, err := os.CreateTemp(folder, ".writable-*")
	if err != nil {
		return fmt.Errorf("the data folder %s can't be written (%w): %s", folder, reason(err), hint)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// reason is a path error's cause without the path, which the sentence around it names.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// httpServer has the limits that every listener of ours shares. There is no write timeout:
// WebSockets live as long as a call, and set deadlines of their own.
func httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // a token and a join_request with the first offer
		ErrorLog:          quietHTTP(),
	}
}

// shutdown ends an HTTP server within the time left, by force if need be.
func shutdown(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		return s.Close()
	}
	return nil
}

// addressesOf lists the URLs at which a listener is reached, this machine's name for itself
// first.
func addressesOf(scheme string, l net.Addr) []string {
	tcp, ok := l.(*net.TCPAddr)
	if !ok {
		return nil
	}
	at := func(host string) string {
		if scheme == "http" && tcp.Port == 80 || scheme == "https" && tcp.Port == 443 {
			return scheme + "://" + bracketed(host)
		}
		return fmt.Sprintf("%s://%s:%d", scheme, bracketed(host), tcp.Port)
	}
	if tcp.IP.IsLoopback() {
		return []string{at("localhost")}
	}
	if !tcp.IP.IsUnspecified() {
		return []string{at(tcp.IP.String())}
	}
	urls := []string{at("localhost")}
	for _, ip := range machineAddresses() {
		urls = append(urls, at(ip.String()))
	}
	return urls
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// machineAddresses are this machine's global unicast addresses, IPv4 first.
func machineAddresses() []netip.Addr {
	var v4, v6 []netip.Addr
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range found {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.Is4() {
			v4 = append(v4, ip)
		} else {
			v6 = append(v6, ip)
		}
	}
	return append(v4, v6...)
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// shown is a path as a person would type it.
func shown(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is a server's standard output that a test can wait on.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	ready chan struct{} // closed with the last line of a start
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := strings.Contains(o.text.String(), "\nOpen ")
	o.text.Write(p)
	if !was && strings.Contains(o.text.String(), "\nOpen ") {
		close(o.ready)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// anywhere are settings that take whatever ports are free, on loopback.
func anywhere(data string, more ...string) []string {
	return append([]string{"serve", "--data", data, "--registration", "open",
		"--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0",
		"--turn", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, more...)
}

// started runs a server until stop is called, which returns its exit code.
func started(t *testing.T, args []string) (out *output, stop func() int) {
	t.Helper()
	out = &output{ready: make(chan struct{})}
	var stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, nil, out, &stderr) }()
	select {
	case <-out.ready:
	case c := <-code:
		cancel()
		t.Fatalf("the server ended with %d: %s", c, stderr.String())
	case <-time.After(30 * time.Second):
		cancel()
		t.Fatalf("the server isn't ready after 30 s; it printed\n%s", out)
	}
	var once sync.Once
	var result int
	stop = func() int {
		once.Do(func() { cancel(); result = <-code })
		return result
	}
	t.Cleanup(func() { stop() })
	return out, stop
}

var openLine = regexp.MustCompile(`(?m)^Open (\S+)$`)

func urlOf(t *testing.T, out *output) string {
	t.Helper()
	m := openLine.FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("no line says where to open the app:\n%s", out)
	}
	return m[1]
}

func post(t *testing.T, url string, body any) (status int, answer map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, answer
}

func TestServeKeepsAccounts(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	out, stop := started(t, anywhere(data))
	for _, line := range []string{"HTTP", "media over UDP", "media over TCP", "TURN over UDP", "TURN over TCP", "admin", "data"} {
		if !regexp.MustCompile(`(?m)^`+line+` +\S`).MatchString(out.String()) || strings.Contains(out.String(), ":0\n") {
			t.Errorf("no line for %s:\n%s", line, out)
		}
	}
	url := urlOf(t, out)
	if status, answer := post(t, url+"/v1/accounts", map[string]any{"name": "ada", "password": "a long enough one"}); status != http.StatusCreated {
		t.Fatalf("signing up: %d %v", status, answer)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d after a stop, want 0", code)
	}
	for _, file := range []string{keysFile, databaseFile} {
		info, err := os.Stat(filepath.Join(data, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", file, info.Mode().Perm())
		}
	}

	out, _ = started(t, anywhere(data))
	url = urlOf(t, out)
	if status, answer := post(t, url+"/v1/sessions", map[string]any{"name": "ada", "password": "a long enough one"}); status != http.StatusCreated {
		t.Errorf("signing in after a second start: %d %v", status, answer)
	}
	if status, answer := post(t, url+"/v1/sessions", map[string]any{"name": "ada", "password": "not that one at all"}); status != http.StatusUnauthorized {
		t.Errorf("signing in with a wrong password: %d %v", status, answer)
	}
}

// A server that listens on every address names them all, each on a line of its own.
func TestServeNamesEveryAddress(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := addressesOf("http", l.Addr())
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	out, _ := started(t, append(anywhere(t.TempDir()), "--listen", address))
	if text := "\nOpen " + strings.Join(want, "\n  or ") + "\n"; !strings.Contains(out.String(), text) {
		t.Errorf("printed\n%s\nwant%s", out, text)
	}
}

// The metrics of a server with a certificate count the port that HTTPS and TURN share.
func TestServeCountsTheSharedPort(t *testing.T) {
	out, _ := started(t, anywhere(t.TempDir(), "--self-signed", "--https", "127.0.0.1:0", "--turn-tls", "127.0.0.1:0"))
	at := func(what string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + what + ` +(\S+)$`).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("no line for %s:\n%s", what, out)
		}
		return m[1]
	}
	conn, err := tls.Dial("tcp", at("HTTPS"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoHTTP1}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := http.Get("http://" + at("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"anytime_https_connections 1", `anytime_media_runs{packets="16"} 0`} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("the metrics lack %q:\n%s", want, text)
		}
	}
}

// What goes wrong at the start is one clear line and exit code 1, and leaves no port taken.
func TestServeRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"port of HTTP":  {anywhere(t.TempDir(), "--listen", taken.Addr().String()), "choose another address with --listen"},
		"port of admin": {anywhere(t.TempDir(), "--admin", taken.Addr().String()), "choose another address with --admin"},
		"port of TCP":   {anywhere(t.TempDir(), "--tcp", taken.Addr().String()), "choose another address with --tcp"},
		"port of UDP":   {anywhere(t.TempDir(), "--udp", takenUDP.LocalAddr().String()), "choose another address with --udp"},
		"port of TURN":  {anywhere(t.TempDir(), "--turn", takenUDP.LocalAddr().String()), "choose another address with --turn"},
		"data folder":   {anywhere(file), "choose another folder with --data"},
		"unknown flag":  {anywhere(t.TempDir(), "--lisen", ":1"), "-lisen"},
		"no such file":  {anywhere(t.TempDir(), "--tls-cert", file+"x", "--tls-key", file+"y", "--https", "127.0.0.1:0"), file + "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), test.args, nil, &stdout, &stderr); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			last := strings.TrimSpace(stderr.String())
			if strings.Contains(last, "\n") || !strings.HasPrefix(last, "anytime: ") || !strings.Contains(last, test.want) {
				t.Errorf("want one line with %q, got\n%s", test.want, last)
			}
		})
	}
}

func TestTokenNeedsKeys(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"token", "--data", t.TempDir(), "--room", "r", "--identity", "i"}, nil, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "start the server once") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
	data := t.TempDir()
	if _, err := loadKeys(filepath.Join(data, keysFile)); err != nil {
		t.Fatal(err)
	}
	stderr.Reset()
	if code := run(t.Context(), []string{"token", "--data", data, "--room", "r", "--identity", "i"}, nil, &stdout, &stderr); code != 0 || strings.Count(stdout.String(), ".") != 2 {
		t.Errorf("code %d: %s %s", code, stdout.String(), stderr.String())
	}
}

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anytime/sfu/udp"
)

func TestConfigSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "anytime.yaml")
	if err := os.WriteFile(file, []byte("listen: :1\nudp: :2\nregistration: closed\nnode-ip: [192.0.2.1, 2001:db8::1]\nbatch-delay: 2ms\nudp-path: plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseConfig([]string{"--listen", ":9", "--config", file}, []string{"ANYTIME_UDP=:8", "ANYTIME_LISTEN=:7", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.http.listen != ":9" || c.media.udp != ":8" || c.people.registration != "closed" || c.media.batchDelay != 2*time.Millisecond {
		t.Errorf("the command line must win over the environment and that over the file: %+v", c)
	}
	if c.media.udpPath != udp.Plain {
		t.Errorf("udp-path = %v, want plain", c.media.udpPath)
	}
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; !slices.Equal(c.media.nodeIPs, want) {
		t.Errorf("node-ip = %v, want %v", c.media.nodeIPs, want)
	}
	if c.media.tcp != ":7881" || c.turn.listen != ":3478" {
		t.Errorf("defaults are lost: %+v", c)
	}
}

func TestConfigRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "anytime.yaml")
	if err := os.WriteFile(file, []byte("lisen: :1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args, environ []string
		want          string
	}{
		"unknown flag":     {args: []string{"--lisen", ":1"}, want: "lisen"},
		"unknown variable": {environ: []string{"ANYTIME_LISEN=:1"}, want: "ANYTIME_LISEN"},
		"unknown key":      {args: []string{"--config", file}, want: "lisen: no such setting"},
		"missing file":     {args: []string{"--config", file + "x"}, want: "reading the settings"},
		"argument":         {args: []string{"now"}, want: `unexpected argument "now"`},
		"registration":     {args: []string{"--registration", "maybe"}, want: "open, invite or closed"},
		"address":          {args: []string{"--node-ip", "home"}, want: "home"},
		"half a pair":      {args: []string{"--tls-cert", "c.pem"}, want: "go together"},
		"two certificates": {args: []string{"--domain", "call.example.org", "--self-signed"}, want: "leave it out"},
		"negative delay":   {args: []string{"--batch-delay", "-1ms"}, want: "0 or more"},
		"UDP path":         {args: []string{"--udp-path", "fast"}, want: "segmented, batched or plain"},
		"no voice":         {args: []string{"--voices", "0"}, want: "1 to 16"},
		"negative voices":  {args: []string{"--voices-above", "-1"}, want: "0 or more"},
		"level":            {args: []string{"--log-level", "loud"}, want: "loud"},
		"webhook":          {args: []string{"--webhook", "ftp://example.com"}, want: "http or https URL"},
		"webhook's user":   {args: []string{"--webhook", "https://u:p@example.com"}, want: "without user"},
		"database":         {args: []string{"--database", "mysql://x"}, want: "postgres://"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig(test.args, test.environ)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	made, err := loadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	read, err := loadKeys(file)
	if err != nil || read != made {
		t.Errorf("a second start reads %+v, %v; want %+v", read, err, made)
	}
	if err := os.WriteFile(file, []byte(`{"apiKey":"k"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeys(file); err == nil {
		t.Error("short keys are accepted")
	}
}

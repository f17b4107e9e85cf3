package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anytime/sfu"
	"anytime/sfu/udp"

	"go.yaml.in/yaml/v3"
)

// config is every setting of `anytime serve`. Each has one name: --turn-tls on the command
// line is ANYTIME_TURN_TLS in the environment and turn-tls in the YAML file; the command line
// wins over the environment, the environment over the file.
type config struct {
	data     string
	database string
	logLevel slog.Level
	http     httpConfig
	media    mediaConfig
	turn     turnConfig
	people   peopleConfig
	webhooks webhookConfig
}

type httpConfig struct {
	listen, https, redirect, admin string
	domain, acmeDirectory          string
	certificate, key               string
	selfSigned                     bool
	trustedProxies                 []netip.Prefix
}

type mediaConfig struct {
	udp, tcp   string
	nodeIPs    []netip.Addr
	loopback   bool
	batchDelay time.Duration
	udpPath    udp.Path
	forwarded  int // microphones at a time, in rooms of more than …
	above      int
}

// voices is the choice of microphones as the SFU takes it, to whom 0 is its default.
func (m mediaConfig) voices() sfu.Voices {
	above := m.above
	if above == 0 {
		above = math.MaxInt
	}
	return sfu.Voices{Forwarded: m.forwarded, Above: above}
}

// delay is the batch delay as the SFU takes it, to whom 0 is its default.
func (m mediaConfig) delay() time.Duration {
	if m.batchDelay == 0 {
		return -1
	}
	return m.batchDelay
}

type turnConfig struct {
	listen, tls string
}

type peopleConfig struct {
	registration string
}

type webhookConfig struct {
	urls         []string
	allowPrivate bool
}

// off is what a listener's address is set to for there to be none.
const off = "off"

// flags declares the settings. A flag's usage is its only documentation: it states the meaning
// of an empty or zero value where that isn't plain.
func (c *config) flags() *flag.FlagSet {
	f := flag.NewFlagSet("anytime serve", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.String("config", "", "YAML `file` of settings, by the names of these flags")
	f.StringVar(&c.data, "data", "./data", "`folder` of the database, keys and certificates")
	f.StringVar(&c.database, "database", "", "postgres:// `URL`; empty: SQLite in the data folder")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "least `level` to log: debug, info, warn or error")

	f.StringVar(&c.http.listen, "listen", ":7880", "`address` of the web app, its API and room signaling over HTTP")
	f.StringVar(&c.http.https, "https", ":443", "`address` of the same over HTTPS, shared with TURN over TLS; served when there is a certificate")
	f.StringVar(&c.http.redirect, "redirect", ":80", "`address` that sends plain HTTP to HTTPS and answers ACME; served with --domain; off: none")
	f.StringVar(&c.http.admin, "admin", "127.0.0.1:7889", "`address` of health, metrics and profiles; off: none")
	f.StringVar(&c.http.domain, "domain", "", "public host `name`: obtains a certificate for it by ACME")
	f.StringVar(&c.http.acmeDirectory, "acme-directory", "", "ACME directory `URL`; empty: Let's Encrypt")
	f.StringVar(&c.http.certificate, "tls-cert", "", "PEM `file` of a certificate chain, read again when it changes")
	f.StringVar(&c.http.key, "tls-key", "", "PEM `file` of its private key")
	f.BoolVar(&c.http.selfSigned, "self-signed", false, "serve HTTPS with a certificate of our own, for trying it on a local network")
	f.Func("trusted-proxies", "comma-separated `prefixes` of reverse proxies whose X-Forwarded-For is believed; empty: none", list(&c.http.trustedProxies, netip.ParsePrefix))

	f.StringVar(&c.media.udp, "udp", ":7882", "`address` of media over UDP")
	f.StringVar(&c.media.tcp, "tcp", ":7881", "`address` of media over TCP (ICE-TCP); off: none")
	f.Func("node-ip", "comma-separated `addresses` announced for media, such as the public one behind NAT; empty: this machine's own", list(&c.media.nodeIPs, netip.ParseAddr))
	f.BoolVar(&c.media.loopback, "loopback", false, "announce loopback addresses for media too; always so when --listen is one")
	f.Func("udp-path", "best `way` of passing media to the kernel: auto, segmented, batched or plain; each falls back to the next (default auto)", func(name string) (err error) {
		c.media.udpPath, err = udp.ParsePath(name)
		return err
	})
	f.DurationVar(&c.media.batchDelay, "batch-delay", time.Millisecond, "how long packets of a video may wait for the rest of their frame, where many watch and it usually comes soon; 0: not at all")

	f.IntVar(&c.media.forwarded, "voices", 3, "how `many` microphones are forwarded at a time in a large room, the loudest: 1 to 16")
	f.IntVar(&c.media.above, "voices-above", 8, "how `many` microphones may be open in a room before it counts as large; 0: any number")

	f.StringVar(&c.turn.listen, "turn", ":3478", "`address` of TURN over UDP and TCP; off: no TURN at all, over TLS neither")
	f.StringVar(&c.turn.tls, "turn-tls", ":5349", "`address` of TURN over TLS; served when there is a certificate; off: none")

	f.StringVar(&c.people.registration, "registration", "invite", "who may sign up on a new server: open, invite or closed; the operator can change it later")

	f.Func("webhook", "comma-separated `URLs` that are told what happens in rooms, signed with the API secret; empty: none", list(&c.webhooks.urls, webhookURL))
	f.BoolVar(&c.webhooks.allowPrivate, "webhook-allow-private", false, "let webhooks reach loopback and private addresses, not only public ones")
	return f
}

// parseConfig reads the command line, then ANYTIME_… of environ, then the file that --config
// or ANYTIME_CONFIG names. An unknown name anywhere is an error.
func parseConfig(args, environ []string) (config, error) {
	var c config
	f := c.flags()
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fmt.Errorf("%w (anytime serve --help lists the settings)", err)
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: settings begin with --", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })

	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(key, "ANYTIME_")
		if !ours {
			continue
		}
		name := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		if err := setOnce(f, given, name, value); err != nil {
			return c, fmt.Errorf("environment variable %s: %w", key, err)
		}
	}
	if file := f.Lookup("config").Value.String(); file != "" {
		settings, err := readSettings(file)
		if err != nil {
			return c, err
		}
		for name, value := range settings {
			if err := setOnce(f, given, name, value); err != nil {
				return c, fmt.Errorf("%s: %s: %w", file, name, err)
			}
		}
	}
	return c, c.validate()
}

// setOnce sets a flag unless a source of higher rank already has.
func setOnce(f *flag.FlagSet, given map[string]bool, name, value string) error {
	if f.Lookup(name) == nil {
		return errors.New("no such setting (anytime serve --help lists them)")
	}
	if given[name] {
		return nil
	}
	given[name] = true
	if err := f.Set(name, value); err != nil {
		return fmt.Errorf("%q: %w", value, err)
	}
	return nil
}

// readSettings reads a flat YAML map; lists may be written as YAML lists.
func readSettings(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	settings := make(map[string]string, len(raw))
	for name, value := range raw {
		switch value := value.(type) {
		case []any:
			parts := make([]string, len(value))
			for i, part := range value {
				parts[i] = fmt.Sprint(part)
			}
			settings[name] = strings.Join(parts, ",")
		case map[string]any, nil:
			return nil, fmt.Errorf("%s: %s: expected a value or a list", file, name)
		default:
			settings[name] = fmt.Sprint(value)
		}
	}
	return settings, nil
}

// list sets a slice from a comma-separated text.
func list[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		*to = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			value, err := parse(part)
			if err != nil {
				return err
			}
			*to = append(*to, value)
		}
		return nil
	}
}

func (c *config) validate() error {
	if !slices.Contains([]string{"open", "invite", "closed"}, c.people.registration) {
		return fmt.Errorf("--registration %q: expected open, invite or closed", c.people.registration)
	}
	if (c.http.certificate == "") != (c.http.key == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if c.http.selfSigned && (c.http.certificate != "" || c.http.domain != "") {
		return errors.New("--self-signed makes a certificate of its own: leave it out, or --tls-cert, --tls-key and --domain")
	}
	if c.media.batchDelay < 0 {
		return fmt.Errorf("--batch-delay %v: expected 0 or more", c.media.batchDelay)
	}
	if c.media.forwarded < 1 || c.media.forwarded > 16 {
		return fmt.Errorf("--voices %d: expected 1 to 16", c.media.forwarded)
	}
	if c.media.above < 0 {
		return fmt.Errorf("--voices-above %d: expected 0 or more", c.media.above)
	}
	if c.database != "" && !strings.HasPrefix(c.database, "postgres://") && !strings.HasPrefix(c.database, "postgresql://") {
		return errors.New("--database: expected a postgres:// URL")
	}
	if host := hostOf(c.http.listen); isLoopback(host) {
		c.media.loopback = true
	}
	return nil
}

// tls reports whether HTTPS is served.
func (c *config) tls() bool {
	return c.http.domain != "" || c.http.certificate != "" || c.http.selfSigned
}

// path of a file in the data folder.
func (c *config) path(name string) string { return filepath.Join(c.data, name) }

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// help is what `anytime serve --help` prints.
func (c *config) help() string {
	var b strings.Builder
	b.WriteString("anytime serve runs a server. Every setting can also stand in the environment\n(--turn-tls as ANYTIME_TURN_TLS) or, without its dashes, in the YAML file of --config.\n\n")
	f := c.flags()
	f.SetOutput(&b)
	f.PrintDefaults()
	return b.String()
}

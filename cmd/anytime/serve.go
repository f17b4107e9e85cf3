package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"anytime/companion"
	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/sfu"
	"anytime/signaling"
	"anytime/signaling/webhook"
	"anytime/turn"
)

// Files in the data folder.
const (
	keysFile     = "keys.json"
	databaseFile = "anytime.db"
)

// stopTimeout is how long a stop may take before connections are cut.
const stopTimeout = 10 * time.Second

// onServing is called once everything is open: sockets and crew are sized by GOMAXPROCS, which followLoad then lowers. Only main
// sets it, so that tests keep theirs.
var onServing = func(context.Context) {}

// serve runs a server until ctx ends.
func serve(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c, err := parseConfig(args, environ)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, c.help())
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.logLevel}))
	slog.SetDefault(log)

	n := &node{config: c, log: log, out: stdout, failed: make(chan error, 1)}
	defer n.stop()
	if err := n.start(ctx); err != nil {
		return err
	}
	onServing(ctx)
	select {
	case err := <-n.failed:
		return err
	case <-ctx.Done():
		log.Info("stopping")
		return nil
	}
}

// node is a running server: what start opened, and in stops how each is closed, last first.
type node struct {
	config config
	log    *slog.Logger
	out    io.Writer
	keys   keys

	store     *sqlstore.Store
	sfu       *sfu.Server
	turn      *turn.Server
	turnURLs  []string
	signaling *signaling.Server
	companion *companion.Server
	webhooks  *webhook.Sender // nil without --webhook

	plain, secure net.Listener // HTTP and HTTPS; secure is nil without a certificate
	certificates  *certificates
	splitter      *splitter

	stops  []func(context.Context) error
	failed chan error // the first listener that broke
}

// start opens everything in this order, and stop closes it in the reverse one:
//
//  1. the data folder, the keys and the database: nothing works without them, and they are what
//     most often isn't as it should be
//  2. every port for HTTP and HTTPS, so that one that is taken shows before anything runs
//  3. the SFU, whose addresses the TURN relay needs to know
//  4. TURN, so that the first client that joins is given a relay that answers
//  5. webhooks, which hear of rooms to their end; signaling; then the companion, which hands out
//     tokens for it
//  6. HTTP is served, once all it leads to is there
//
// On the way down the listeners refuse newcomers first, then the companion stops ringing, rooms
// are told to leave, media ends, and the database closes when nobody can write any more.
func (n *node) start(ctx context.Context) error {
	steps := []func(context.Context) error{
		n.openData, n.openPorts, n.openMedia, n.openTURN, n.openWebhooks, n.openSignaling, n.openCompanion, n.serveHTTP,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	n.printWelcome()
	return nil
}

func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for i := len(n.stops) - 1; i >= 0; i-- {
		if err := n.stops[i](ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			n.log.Warn("stopping", "error", err)
		}
	}
}

func (n *node) onStop(f func(context.Context) error) { n.stops = append(n.stops, f) }

func (n *node) openData(ctx context.Context) error {
	if err := makeDataFolder(n.config.data); err != nil {
		return err
	}
	var err error
	if n.keys, err = loadKeys(n.config.path(keysFile)); err != nil {
		return err
	}
	at := n.config.database
	if at == "" {
		at = n.config.path(databaseFile)
	}
	if n.store, err = sqlstore.Open(ctx, at); err != nil {
		return err
	}
	n.onStop(func(context.Context) error { return n.store.Close() })
	return nil
}

func (n *node) openMedia(context.Context) error {
	m := n.config.media
	server, err := sfu.New(sfu.Config{
		UDPAddr: m.udp, TCPAddr: m.tcp, NodeIPs: m.nodeIPs, Loopback: m.loopback,
		BatchDelay: m.delay(), UDPPath: m.udpPath, Voices: m.voices(), Log: n.log,
		Speakers: func(roomID string, list []sfu.Speaker) { n.signaling.SpeakersChanged(roomID, speaking(list)) },
	})
	if err != nil {
		return mediaListenError(m, err)
	}
	n.sfu = server
	n.onStop(func(context.Context) error { return server.Close() })
	n.listening("media over UDP", server.UDPAddr().String())
	if m.tcp != off {
		n.listening("media over TCP", server.TCPAddr().String())
	}
	return nil
}

func (n *node) openSignaling(context.Context) error {
	server, err := signaling.New(signaling.Config{
		Media:      mediaServer{n.sfu},
		Keys:       n.secretOf,
		Authorize:  n.authorize,
		ICEServers: n.iceServers,
		Measure:    n.measure,
		Observe:    n.observe,
		ClientAddr: n.clientAddr,
		Version:    version,
		Log:        n.log,
	})
	if err != nil {
		return err
	}
	n.signaling = server
	n.onStop(server.Shutdown)
	return nil
}

func (n *node) openCompanion(ctx context.Context) error {
	server, err := companion.New(ctx, companion.Config{
		Store:          n.store,
		Registration:   people.Registration(n.config.people.registration),
		TrustedProxies: n.config.http.trustedProxies,
		Calls:          companion.CallsConfig{Rooms: callRooms{n}},
		Log:            n.log,
	})
	if err != nil {
		return err
	}
	n.companion = server
	n.onStop(func(context.Context) error { server.Close(); return nil })
	return nil
}

// listening prints one line per listener.
func (n *node) listening(what, where string) {
	fmt.Fprintf(n.out, "%-16s %s\n", what, where)
}

// printWelcome ends the start with what a person does next.
func (n *node) printWelcome() {
	n.listening("data", shown(n.config.data))
	urls := n.urls()
	fmt.Fprintf(n.out, "\nOpen %s\n", strings.Join(urls, "\n  or "))
	if secret := n.companion.SetUpSecret(); secret != "" {
		fmt.Fprintf(n.out, "Whoever opens this link first becomes the operator: %s/#/setup/%s\n", urls[0], secret)
	}
}

// Command anytime is the whole of Anytime in one binary: the calling server, its TURN relay,
// the companion API and the web app.
//
//	anytime serve    run a server
//	anytime load     load a server with participants and measure what arrives
//	anytime token    print a room token, to try an SDK against this server
//	anytime version  print the version
//
// This package alone reads configuration and wires the services together: config.go (flags,
// environment, YAML), keys.go (secrets made at the first start), serve.go (the order of start
// and stop), and the adapters between services that don't know each other: media.go
// (signaling → sfu) and rooms.go (companion ↔ signaling).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	onServing = func(ctx context.Context) { go followLoad(ctx) }
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code, 0 or 1.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	command := "help"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "serve":
		err = serve(ctx, args, environ, stdout, stderr)
	case "load":
		err = runLoad(ctx, args, stdout, stderr)
	case "token":
		err = token(args, environ, stdout)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, version)
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
	default:
		err = fmt.Errorf("unknown command %q: try serve, load, token or version", command)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	default:
		fmt.Fprintln(stderr, "anytime:", err)
		return 1
	}
}

const usage = `Anytime lets people talk by name.

  anytime serve    run a server (anytime serve --help lists its settings)
  anytime load     load a server and measure it (anytime load --help lists the settings)
  anytime token    print a room token, to try an SDK against this server
  anytime version  print the version
`

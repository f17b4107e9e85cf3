package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"anytime/signaling/wire"
)

// token prints a room token signed with this server's key.
func token(args, environ []string, stdout io.Writer) error {
	f := flag.NewFlagSet("anytime token", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	data := f.String("data", "./data", "`folder` of the server's keys")
	room := f.String("room", "", "`name` of the room to join (required)")
	identity := f.String("identity", "", "who joins, unique in the room (required)")
	name := f.String("name", "", "display name; empty: none")
	ttl := f.Duration("ttl", 2*time.Minute, "how long the token may be used to join")
	for _, entry := range environ {
		if folder, ok := strings.CutPrefix(entry, "ANYTIME_DATA="); ok {
			*data = folder
		}
	}
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp {
			f.SetOutput(stdout)
			f.PrintDefaults()
		}
		return err
	}
	if *room == "" || *identity == "" {
		return errors.New("--room and --identity are required")
	}
	c := config{data: *data}
	if _, err := os.Stat(c.path(keysFile)); err != nil {
		return fmt.Errorf("%s has no keys yet: start the server once (anytime serve), or name its folder with --data", shown(*data))
	}
	k, err := loadKeys(c.path(keysFile))
	if err != nil {
		return err
	}
	signed, err := wire.Mint(k.APIKey, k.APISecret, wire.Claims{
		Identity: *identity, Name: *name,
		Video: wire.Grant{RoomJoin: true, Room: *room},
	}, *ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, signed)
	return err
}

package main

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"anytime/companion"
	"anytime/sfu"
	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
	"anytime/turn"
)

// anAddress finds IPv4 addresses and what looks like IPv6.
var anAddress = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:]*`)

// TestRoomMeasures: what the SFU measures reaches the API and the people, who travels how included, and no address does.
func TestRoomMeasures(t *testing.T) {
	ctx := roomContext(t)
	var relay *turn.Server
	const secret = "secret of the relay"
	var r *testRooms
	r = newTestRooms(t, func(c *signaling.Config) {
		c.ICEServers = func(identity string) []*wire.ICEServer {
			username, password := turn.Credentials(secret, identity, time.Now(), time.Minute)
			return []*wire.ICEServer{{Urls: []string{"turn:" + relay.UDPAddrs()[0].String()}, Username: username, Credential: password}}
		}
		c.Measure = func(roomID, id string, received bool) signaling.Measured {
			return measured(r.sfu, relay.Relays, roomID, id, received)
		}
	})
	relay, err := turn.New(turn.Config{
		UDP: []string{"127.0.0.1:0"}, Secret: secret, Log: slog.New(slog.DiscardHandler),
		Peers: func() []netip.AddrPort {
			return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.sfu.UDPAddr().Port())}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })

	ann := r.join(ctx, "ann", func(c *client.Config, _ *wire.Claims) { c.RelayOnly = true })
	bob := r.join(ctx, "bob", nil)
	voice := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	video := publishSource(ctx, t, ann, 'V', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera})
	publishSource(ctx, t, bob, 'b', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})

	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	of := func(identity string, list []signaling.ParticipantQuality) signaling.ParticipantQuality {
		for _, p := range list {
			if p.Identity == identity {
				return p
			}
		}
		return signaling.ParticipantQuality{}
	}
	var list []signaling.ParticipantQuality
	for {
		list, _ = r.sig.Qualities("room", "bob")
		a, b := of("ann", list), of("bob", list)
		if a.Measured.Up.Loss != nil && b.Measured.Down.Loss != nil && a.Quality != "unknown" && b.Quality != "unknown" && len(b.Measured.Received) == 2 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not measured: %+v", list)
		}
	}
	a, b := of("ann", list).Measured, of("bob", list).Measured
	if a.Up.Path != "relay" || a.Down.Path != "relay" || b.Up.Path != "udp" || b.Down.Path != "udp" {
		t.Errorf("ann travels by %q and %q, bob by %q and %q", a.Up.Path, a.Down.Path, b.Up.Path, b.Down.Path)
	}
	if a.Up.BitrateBps == 0 || b.Down.BitrateBps == 0 || *a.Up.Loss > 0.5 || len(a.Published) != 2 || a.Received != nil {
		t.Errorf("ann is measured as %+v, bob as %+v", a, b)
	}
	for _, d := range b.Received {
		source := map[string]string{voice.ID(): "microphone", video.ID(): "camera"}[d.TrackID]
		if d.Publisher != "ann" || d.Source != source || d.Muted || d.Paused || d.BitrateBps == 0 {
			t.Errorf("bob gets %+v", d)
		}
	}

	told, ok := callQuality(list, "bob")
	if !ok || len(told.Others) != 1 || told.Others[0].Identity != "ann" || len(told.Others[0].Tracks) != 2 || told.Others[0].Up.Path != "" || told.Me.Up.Path != "udp" {
		t.Errorf("bob is told %+v", told)
	}
	if _, ok := callQuality(list, "eve"); ok {
		t.Error("one who isn't there is told something")
	}
	for what, answer := range map[string]any{"operators": list, "people": told} {
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if found := anAddress.Find(text); found != nil {
			t.Errorf("%s are told the address %s in %s", what, found, text)
		}
	}
}

var _ companion.Rooms = callRooms{}

func TestWhyOf(t *testing.T) {
	for _, test := range []struct {
		d    sfu.Delivery
		want string
	}{
		{sfu.Delivery{Sent: 2, Wish: 2, Best: 2}, ""},
		{sfu.Delivery{Sent: -1, Wish: -1, Best: -1}, ""}, // audio
		{sfu.Delivery{Sent: 2, Wish: 1, Best: 2}, ""},    // nothing smaller is sent
		{sfu.Delivery{Sent: -1, Wish: 2, Best: 2, Muted: true, Disabled: true}, "muted"},
		{sfu.Delivery{Sent: 1, Wish: 2, Best: 2, Disabled: true}, "disabled"},
		{sfu.Delivery{Sent: 1, Wish: 2, Best: -1, Paused: true}, "no_media"},
		{sfu.Delivery{Sent: 1, Wish: 2, Best: 2, Paused: true, Starved: true}, "bandwidth"},
		{sfu.Delivery{Sent: 1, Wish: 2, Best: 2, Starved: true}, "bandwidth"},
		{sfu.Delivery{Sent: 2, Wish: 2, Best: 2, Starved: true}, ""},
		{sfu.Delivery{Sent: 0, Wish: 2, Best: 0}, "not_sent"},
		{sfu.Delivery{Sent: 0, Wish: 2, Best: 2}, "starting"},
		{sfu.Delivery{Sent: -1, Wish: 0, Best: 0}, "starting"},
		{sfu.Delivery{Sent: 0, Wish: 2, Best: 1}, "starting"},
	} {
		if got := whyOf(test.d); got != test.want {
			t.Errorf("%+v: %q, want %q", test.d, got, test.want)
		}
	}
}

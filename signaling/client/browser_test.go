package client_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/signaling/client"
)

// TestBrowserMedia joins a room in which browsers are and receives what they send. The browser tests run it (web/e2e),
// which say where the room is in E2E_ROOM_URL and E2E_ROOM_TOKEN, and in E2E_ROOM_TRACKS how many tracks are in it.
func TestBrowserMedia(t *testing.T) {
	url, token := os.Getenv("E2E_ROOM_URL"), os.Getenv("E2E_ROOM_TOKEN")
	if url == "" {
		t.Skip("run by the browser tests, which have a room with browsers in it")
	}
	want, err := strconv.Atoi(os.Getenv("E2E_ROOM_TRACKS"))
	if err != nil || want < 1 {
		t.Fatalf("E2E_ROOM_TRACKS: expected a number of tracks, got %q", os.Getenv("E2E_ROOM_TRACKS"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Join(ctx, client.Config{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	const listened = 5 * time.Second
	var readers sync.WaitGroup
	for range want {
		track, err := c.NextTrack(ctx)
		if err != nil {
			t.Fatalf("waiting for %d tracks: %v", want, err)
		}
		readers.Go(func() { receive(ctx, t, track, listened) })
	}
	readers.Wait()
}

// receive reads a track for a while: packets in an unbroken sequence, at a browser's pace.
func receive(ctx context.Context, t *testing.T, track *client.Track, listened time.Duration) {
	codec := track.Codec().MimeType
	if strings.HasPrefix(codec, "video/") {
		if err := track.RequestKeyframe(); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, listened)
	defer cancel()
	var packets, frames, last int
	var highest uint16
	var lowest uint16
	timestamps := map[uint32]bool{}
	for {
		p, err := track.ReadRTP(ctx)
		if err != nil {
			break // the time is over
		}
		if len(p.Payload) == 0 {
			continue // padding, for probing
		}
		if packets == 0 {
			highest, lowest = p.SequenceNumber, p.SequenceNumber
		}
		if int16(p.SequenceNumber-highest) > 0 {
			highest = p.SequenceNumber
		}
		packets++
		if !timestamps[p.Timestamp] {
			timestamps[p.Timestamp] = true
			frames++
		}
		last = len(p.Payload)
	}
	span := int(highest-lowest) + 1
	rate := float64(frames) / listened.Seconds()
	t.Logf("%s of %s: %d packets of %d, %.1f frames per second, the last of %d bytes", codec, track.Participant, packets, span, rate, last)
	least := 40.0 // Opus packets of 20 ms
	if strings.HasPrefix(codec, "video/") {
		least = 8 // the browser tests make 10 pictures a second
	}
	if rate < least {
		t.Errorf("%s of %s: %.1f frames per second, expected %.0f at least", codec, track.Participant, rate, least)
	}
	if packets < span*98/100 {
		t.Errorf("%s of %s: %d packets of %d arrived", codec, track.Participant, packets, span)
	}
}

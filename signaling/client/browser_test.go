package client_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/signaling/client"
	"anytime/signaling/wire"
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

// TestBrowserCrowd is a crowd with open microphones for a browser to listen to. The browser tests run it (web/e2e), which say
// where the room is in E2E_ROOM_URL, who comes in E2E_ROOM_TOKENS, and how long they stay in E2E_ROOM_SECONDS, from when all
// are there. The first dozen speak, in turns of 3 s from the beginning, and a second one in the middle of each; the others hum,
// every third with discontinuous transmission.
func TestBrowserCrowd(t *testing.T) {
	url, tokens := os.Getenv("E2E_ROOM_URL"), strings.Fields(os.Getenv("E2E_ROOM_TOKENS"))
	if url == "" || len(tokens) == 0 {
		t.Skip("run by the browser tests, which have a room with a browser in it")
	}
	seconds, err := strconv.Atoi(os.Getenv("E2E_ROOM_SECONDS"))
	if err != nil || seconds < 1 || seconds > 600 {
		t.Fatalf("E2E_ROOM_SECONDS: expected 1 to 600, got %q", os.Getenv("E2E_ROOM_SECONDS"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mics := make([]*client.Publication, len(tokens))
	var joining sync.WaitGroup
	gate := make(chan struct{}, 4)
	for i, token := range tokens {
		joining.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c, err := client.Join(ctx, client.Config{URL: url, Token: token, ManualSubscribe: true})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(c.Close)
			if mics[i], err = c.Publish(ctx, client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone}); err != nil {
				t.Error(err)
			}
		})
	}
	joining.Wait()
	if t.Failed() {
		return
	}
	const frame = 20 * time.Millisecond
	tick := time.NewTicker(frame)
	defer tick.Stop()
	for k, start := 0, time.Now(); k < seconds*50; {
		now := <-tick.C
		for ; k < int(now.Sub(start)/frame); k++ { // a busy machine misses ticks
			for i, mic := range mics {
				payload, level, voice := crowdSound(i, k)
				if err := mic.WriteVoice(payload, level, voice, frame); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// crowdTalks reports whether microphone i of the crowd talks in frame k.
func crowdTalks(i, k int) bool {
	const talkers, turn = 12, 150
	who, at := k/turn, k%turn
	return i == who%talkers && at%50 < 43 || i == (who+5)%talkers && at >= 50 && at < 90 // they breathe
}

// crowdSound is what microphone i of the crowd sends as its k-th frame of 20 ms.
func crowdSound(i, k int) (payload []byte, level uint8, voice bool) {
	rnd := rand.New(rand.NewPCG(uint64(i), uint64(k)))
	switch {
	case crowdTalks(i, k):
		level = 24 + uint8(rnd.IntN(6))
		if k%9 >= 6 { // between syllables
			level = 42
		}
		payload = make([]byte, 80)
		voice = true
	case i%3 == 0: // discontinuous transmission: it begins with a frame that has nothing in it, and one follows every 400 ms
		if k%20 != 0 && !crowdTalks(i, k-1) {
			return nil, 0, false
		}
		return []byte{0xf8}, 127, false
	default:
		level = 66 + uint8(rnd.IntN(6))
		payload = make([]byte, 24)
	}
	// RFC 6716 table 2: 20 ms of CELT. Whatever bytes follow are a sound.
	for n := range payload {
		payload[n] = byte(rnd.Uint32())
	}
	payload[0] = 0xf8
	return payload, level, voice
}

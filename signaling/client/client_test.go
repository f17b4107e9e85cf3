package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// The client over real media is tested in cmd/anytime, which may join it with the SFU. Here it talks
// to signaling alone.

// silent is media that never says anything.
type silent struct{}

func (silent) Join(signaling.MediaConfig) (signaling.Peer, error) { return silent{}, nil }
func (silent) Offer(string) (signaling.Answer, error) {
	return signaling.Answer{}, errors.New("no media here")
}
func (silent) Answer(uint32, string) error              { return nil }
func (silent) Candidate(signaling.Target, string) error { return nil }
func (silent) RestartICE(signaling.Target)              {}
func (silent) Publish(signaling.Publication) error      { return nil }
func (silent) AddCodec(string, signaling.PublicationCodec) error {
	return nil
}
func (silent) Unpublish(string)                                 {}
func (silent) SetMuted(string, bool)                            {}
func (silent) Subscribe(string) error                           { return nil }
func (silent) Unsubscribe(string)                               {}
func (silent) Configure(string, signaling.SubscriptionSettings) {}
func (silent) SetVoices(int)                                    {}
func (silent) SendData(bool, []byte) error                      { return nil }
func (silent) ResendData([][]byte) error                        { return nil }
func (silent) Move(string) error                                { return nil }
func (silent) Show(string) error                                { return nil }
func (silent) Hide(string)                                      {}
func (silent) Close()                                           {}

const key, secret = "APIclient", "a secret of the client's tests"

func serve(t *testing.T) (*signaling.Server, string) {
	t.Helper()
	return serveMedia(t, silent{})
}

func serveMedia(t *testing.T, media signaling.Media) (*signaling.Server, string) {
	t.Helper()
	before := runtime.NumGoroutine()
	s, err := signaling.New(signaling.Config{
		Media: media, Log: slog.New(slog.DiscardHandler),
		Keys: func(k string) (string, bool) { return secret, k == key },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
		deadline := time.After(5 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			select {
			case <-deadline:
				stacks := make([]byte, 1<<20)
				t.Fatalf("goroutines are left\n%s", stacks[:runtime.Stack(stacks, true)])
			case <-tick.C:
			}
		}
	})
	return s, server.URL
}

func token(t *testing.T, identity string) string {
	t.Helper()
	s, err := wire.Mint(key, secret, wire.Claims{Identity: identity, Video: wire.Grant{RoomJoin: true, Room: "r"}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ctx5(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestSignalOnly(t *testing.T) {
	ctx := ctx5(t)
	s, base := serve(t)
	ann, err := client.Join(ctx, client.Config{URL: base + "/", Token: token(t, "ann"), SignalOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close()
	bob, err := client.Join(ctx, client.Config{URL: base, Token: token(t, "bob"), SignalOnly: true, Protocol: 2, SDK: "flutter"})
	if err != nil {
		t.Fatal(err)
	}
	if bob.JoinResponse().SubscriberPrimary {
		t.Error("the protocol number was not sent")
	}
	if err := ann.Wait(ctx, func(s client.State) bool { return s.Participants["bob"].GetSid() == bob.ID() }); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Publish(ctx, client.PublishOptions{Codec: client.Opus}); err == nil {
		t.Error("published without transports")
	}
	bob.Cut()
	if err := bob.Wait(ctx, func(s client.State) bool { return s.SignalLost }); err != nil {
		t.Fatal(err)
	}
	if err := bob.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if bob.State().SignalLost {
		t.Error("lost after the resume")
	}
	bob.Close()
	bob.Close()
	if err := ann.Wait(ctx, func(s client.State) bool { return len(s.Participants) == 0 }); err != nil {
		t.Fatal(err)
	}
	if err := bob.Wait(ctx, func(client.State) bool { return false }); !errors.Is(err, client.ErrClosed) {
		t.Errorf("waiting on a closed client: %v", err)
	}
	s.CloseRoom("r", wire.ReasonRoomDeleted)
	var leave *client.LeaveError
	err = ann.Wait(ctx, func(client.State) bool { return false })
	if !errors.As(err, &leave) || leave.Leave.Reason != wire.ReasonRoomDeleted {
		t.Errorf("after the room's end: %v", err)
	}
}

func TestJoinFails(t *testing.T) {
	ctx := ctx5(t)
	_, base := serve(t)
	var refused *client.UpgradeError
	if _, err := client.Join(ctx, client.Config{URL: base, Token: "x"}); !errors.As(err, &refused) || refused.Status != 401 || refused.Text == "" {
		t.Errorf("a bad token: %v", err)
	}
	var leave *client.LeaveError
	_, err := client.Join(ctx, client.Config{URL: base, Token: token(t, "ann"), Query: url.Values{"reconnect": {"1"}, "sid": {"PA_x"}}})
	if !errors.As(err, &leave) || leave.Leave.Action != wire.LeaveReconnect {
		t.Errorf("a resume of nothing: %v", err)
	}
	if _, err := client.Join(ctx, client.Config{URL: "http://127.0.0.1:1", Token: "x"}); err == nil {
		t.Error("joined nobody")
	}
	if _, err := client.Join(ctx, client.Config{URL: ":", Token: "x"}); err == nil {
		t.Error("joined no URL")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := client.Join(gone, client.Config{URL: base, Token: token(t, "ann")}); !errors.Is(err, context.Canceled) {
		t.Errorf("joined with a context that was done: %v", err)
	}
}

// TestJoinIsBounded: media that never connects does not hold Join for ever, and leaves nothing.
func TestJoinIsBounded(t *testing.T) {
	_, base := serve(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Join(ctx, client.Config{URL: base, Token: token(t, "ann")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("joined without media: %v", err)
	}
}

// asking is media that tells its first offer twice, as after a resume, and the next one at once.
type asking struct {
	silent
	answers chan string // id and how many sections
}

func (a asking) Join(cfg signaling.MediaConfig) (signaling.Peer, error) {
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	for id := uint32(1); id <= 2; id++ {
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
		offer, err := pc.CreateOffer(nil)
		if err != nil {
			return nil, err
		}
		cfg.Notify(signaling.OfferReady{ID: id, SDP: offer.SDP})
		if id == 1 {
			cfg.Notify(signaling.OfferReady{ID: id, SDP: offer.SDP})
		}
	}
	return a, nil
}

func (a asking) Answer(id uint32, sdp string) error {
	a.answers <- fmt.Sprintf("%d of %d", id, strings.Count(sdp, "\nm="))
	return nil
}

// TestOffersAreAnsweredInOrder: an offer that is told twice takes nothing away from the one that follows.
func TestOffersAreAnsweredInOrder(t *testing.T) {
	media := asking{answers: make(chan string, 100)}
	_, base := serveMedia(t, media)
	for range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		joined := make(chan struct{})
		go func() {
			defer close(joined)
			// It waits for media that never connects.
			if c, err := client.Join(ctx, client.Config{URL: base, Token: token(t, "ann")}); err == nil {
				c.Close()
			}
		}()
		for _, want := range []string{"1 of 1", "1 of 1", "2 of 2"} {
			select {
			case got := <-media.answers:
				if got != want {
					t.Errorf("answer %s, want %s", got, want)
				}
			case <-ctx.Done():
				t.Errorf("no answer %s", want)
			}
		}
		cancel()
		<-joined
	}
}

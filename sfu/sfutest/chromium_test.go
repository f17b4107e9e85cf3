package sfutest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"anytime/sfu"
)

//go:embed chromium.html
var chromiumPage []byte

// report is what the page found out by getStats.
type report struct {
	Error    string
	Inbound  []map[string]any
	Outbound []map[string]any
	Remote   []map[string]any
	Pair     []map[string]any
	Heights  map[string]float64
	Freezes  float64
	Profiles []string
	Ciphers  []string
	Roles    []string
}

// TestChromium has two participants in a real browser exchange audio and three layers of video. It runs when
// ANYTIME_CHROMIUM names the browser.
func TestChromium(t *testing.T) {
	browser := os.Getenv("ANYTIME_CHROMIUM")
	if browser == "" {
		t.Skip("ANYTIME_CHROMIUM is not set")
	}
	server := loopback(t, sfu.Config{})
	type peer struct {
		p      *sfu.Participant
		events chan sfu.Event
	}
	peers := map[string]*peer{}
	for _, id := range []string{"PA_a", "PA_b"} {
		x := &peer{events: make(chan sfu.Event, 1000)}
		p, err := server.Join(sfu.ParticipantConfig{Room: "room", ID: id, Notify: func(e sfu.Event) { x.events <- e }})
		must(t, err)
		x.p = p
		peers[id] = x
	}
	results := make(chan report, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(chromiumPage)
	})
	body := func(r *http.Request) string { b, _ := io.ReadAll(r.Body); return string(b) }
	fail := func(w http.ResponseWriter, err error) bool {
		if err != nil {
			http.Error(w, err.Error(), 400)
			t.Error(err)
		}
		return err != nil
	}
	mux.HandleFunc("POST /offer/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer, _, err := peers[r.PathValue("id")].p.Offer(body(r))
		if !fail(w, err) {
			_, _ = io.WriteString(w, answer)
		}
	})
	mux.HandleFunc("POST /answer/{id}", func(w http.ResponseWriter, r *http.Request) {
		fail(w, peers[r.PathValue("id")].p.Answer(0, body(r)))
	})
	mux.HandleFunc("POST /publish/{id}/{track}/{kind}", func(w http.ResponseWriter, r *http.Request) {
		kind := sfu.Audio
		if r.PathValue("kind") == "video" {
			kind = sfu.Video
		}
		fail(w, peers[r.PathValue("id")].p.Publish(sfu.PublicationConfig{ID: r.PathValue("track"), CID: body(r), Kind: kind, Stream: "s"}))
	})
	mux.HandleFunc("POST /subscribe/{id}/{track}", func(w http.ResponseWriter, r *http.Request) {
		fail(w, peers[r.PathValue("id")].p.Subscribe(r.PathValue("track")))
	})
	mux.HandleFunc("POST /quality/{id}/{track}/{q}", func(w http.ResponseWriter, r *http.Request) {
		peers[r.PathValue("id")].p.Configure(r.PathValue("track"), sfu.SubscriptionSettings{Quality: r.PathValue("q")[0] - '0'})
	})
	mux.HandleFunc("GET /events/{id}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case e := <-peers[r.PathValue("id")].events:
			_ = json.NewEncoder(w).Encode(map[string]any{"type": fmt.Sprintf("%T", e), "event": e})
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
			_ = json.NewEncoder(w).Encode(map[string]any{"type": ""})
		}
	})
	mux.HandleFunc("POST /result", func(w http.ResponseWriter, r *http.Request) {
		var x report
		if err := json.NewDecoder(r.Body).Decode(&x); err != nil {
			x.Error = err.Error()
		}
		results <- x
	})
	web := httptest.NewServer(mux)
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio",
		"--user-data-dir="+t.TempDir(), "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
		"--autoplay-policy=no-user-gesture-required", web.URL+"/?codec="+os.Getenv("ANYTIME_CODEC"))
	must(t, cmd.Start())
	defer func() { cancel(); _ = cmd.Wait() }()
	select {
	case x := <-results:
		b, _ := json.MarshalIndent(x, "", " ")
		t.Logf("%s", b)
		if x.Error != "" {
			t.Fatal(x.Error)
		}
		for _, p := range x.Ciphers {
			if !strings.HasSuffix(p, "AEAD_AES_128_GCM") {
				t.Errorf("SRTP profile %s", p)
			}
		}
		if len(x.Inbound) != 2 || x.Freezes > 0 {
			t.Errorf("%d inbound streams, %v freezes", len(x.Inbound), x.Freezes)
		}
		if x.Heights["0"] >= x.Heights["1"] || x.Heights["1"] >= x.Heights["2"] {
			t.Errorf("heights by quality: %v", x.Heights)
		}
	case <-ctx.Done():
		t.Error("the browser reported nothing")
	}
	b, _ := json.MarshalIndent(server.Stats(), "", " ")
	t.Logf("%s\n%d goroutines, those of the test included", b, runtime.NumGoroutine())
	for _, p := range server.Stats().Participants {
		for _, tr := range p.Transports {
			if tr.SRTPProfile != "AEAD_AES_128_GCM" {
				t.Errorf("%s %v: SRTP profile %q", p.ID, tr.Target, tr.SRTPProfile)
			}
		}
	}
}

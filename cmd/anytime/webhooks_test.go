package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"anytime/signaling/wire"
)

// TestServeTellsWebhooks makes and deletes a room over the API of a running server, and reads what
// a webhook is told.
func TestServeTellsWebhooks(t *testing.T) {
	type delivery struct {
		event *wire.WebhookEvent
		token string
		err   error
	}
	told := make(chan delivery, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		d := delivery{token: r.Header.Get("Authorization"), err: err}
		if err == nil {
			d.event, d.err = wire.DecodeWebhook(body)
		}
		told <- d
	}))
	defer hook.Close()
	data := filepath.Join(t.TempDir(), "data")
	out, stop := started(t, anywhere(data, "--webhook", hook.URL, "--webhook-allow-private"))
	k, err := loadKeys(filepath.Join(data, keysFile))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(key string) (string, bool) { return k.APISecret, key == k.APIKey }
	token, err := wire.Mint(k.APIKey, k.APISecret, wire.Claims{Video: wire.Grant{RoomCreate: true}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	call := func(method string, request any) {
		t.Helper()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(http.MethodPost, urlOf(t, out)+"/twirp/livekit.RoomService/"+method, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", method, answer.Status, text)
		}
	}
	next := func(event, room string, ended wire.RoomEndReason) {
		t.Helper()
		select {
		case d := <-told:
			if d.err != nil || d.event.GetEvent() != event || d.event.GetRoom().GetName() != room || d.event.GetRoomEndReason() != ended {
				t.Fatalf("told %v, %v: want %s", d.event, d.err, event)
			}
			if claims, err := wire.Verify(d.token, secret); err != nil || claims.SHA256 == "" {
				t.Errorf("signed with %+v, %v", claims, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not told of %s", event)
		}
	}
	call("CreateRoom", map[string]any{"name": "one"})
	next("room_started", "one", 0)
	call("DeleteRoom", map[string]any{"room": "one"})
	next("room_finished", "one", wire.RoomEndDeleted)
	call("CreateRoom", map[string]any{"name": "two"})
	next("room_started", "two", 0)
	// What the stop itself causes arrives before the server is gone.
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	next("room_finished", "two", wire.RoomEndShutdown)
}

package wire

import (
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"
)

const (
	key    = "APIkey"
	secret = "0123456789abcdef0123456789abcdef"
)

func keys(k string) (string, bool) { return secret, k == key }

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewTrackID()
		if len(id) != 15 || !strings.HasPrefix(id, "TR_") || seen[id] {
			t.Fatalf("id is %q", id)
		}
		for _, c := range id[3:] {
			if !strings.ContainsRune(base62, c) {
				t.Fatalf("id %q holds %q", id, c)
			}
		}
		seen[id] = true
	}
	for prefix, id := range map[string]string{"RM_": NewRoomID(), "PA_": NewParticipantID(), "ND_": NewNodeID()} {
		if !strings.HasPrefix(id, prefix) {
			t.Errorf("id %q lacks %s", id, prefix)
		}
	}
}

func TestTokenRoundTrip(t *testing.T) {
	no := false
	in := Claims{
		Identity: "ac_1:dv_2", Name: "Ann", Metadata: "m", Attributes: map[string]string{"a": "b"}, Kind: "agent", SHA256: "x",
		Video: Grant{RoomJoin: true, Room: "ca_1", CanPublish: &no, CanPublishSources: []string{"camera"}, Hidden: true, RoomAdmin: true},
	}
	now := time.Now().Truncate(time.Second)
	token, err := MintAt(key, secret, in, time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	out, err := VerifyAt(token, keys, now)
	if err != nil {
		t.Fatal(err)
	}
	in.APIKey, in.ExpiresAt = key, now.Add(time.Minute)
	if !out.NotBefore.Equal(now) {
		t.Errorf("valid from %v, want %v", out.NotBefore, now)
	}
	in.NotBefore = out.NotBefore
	if !out.ExpiresAt.Equal(in.ExpiresAt) {
		t.Errorf("expires at %v, want %v", out.ExpiresAt, in.ExpiresAt)
	}
	out.ExpiresAt = in.ExpiresAt
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v\nwant %+v", out, in)
	}
}

// TestTokenJSON pins the claims' names against a token as LiveKit's server SDKs make it.
func TestTokenJSON(t *testing.T) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": key, "sub": "ann", "nbf": 1000, "exp": 2000, "name": "Ann", "metadata": "m", "kind": "standard",
		"attributes": map[string]string{"k": "v"},
		"video": map[string]any{
			"room": "r", "roomJoin": true, "canPublish": true, "canSubscribe": false, "canPublishData": false,
			"canPublishSources": []string{"microphone"}, "canUpdateOwnMetadata": true, "hidden": true, "recorder": true,
			"roomAdmin": true, "roomCreate": true, "roomList": true, "roomRecord": true, "ingressAdmin": true, "agent": true,
			"destinationRoom": "d", "somethingNew": 1,
		},
		"roomConfig": map[string]any{"name": "x"},
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	c, err := VerifyAt(token, keys, time.Unix(1500, 0))
	if err != nil {
		t.Fatal(err)
	}
	g := c.Video
	if c.Identity != "ann" || c.Name != "Ann" || c.Metadata != "m" || c.Attributes["k"] != "v" || g.Room != "r" || !g.RoomJoin ||
		!g.MayPublish() || g.MaySubscribe() || g.MayPublishData() || g.CanPublishSources[0] != "microphone" ||
		!g.MayUpdateOwnMetadata() || !g.Hidden || !g.Recorder || !g.RoomAdmin || !g.RoomCreate || !g.RoomList || !g.RoomRecord ||
		!g.IngressAdmin || !g.Agent || g.DestinationRoom != "d" {
		t.Errorf("claims are %+v", c)
	}
	var unset Grant
	if !unset.MayPublish() || !unset.MaySubscribe() || !unset.MayPublishData() || unset.MayUpdateOwnMetadata() {
		t.Error("unset permissions are allowed, but for updating own metadata")
	}
}

func TestVerifyRefuses(t *testing.T) {
	now := time.Now()
	mint := func(method jwt.SigningMethod, with any, claims jwt.MapClaims) string {
		s, err := jwt.NewWithClaims(method, claims).SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := jwt.MapClaims{"iss": key, "sub": "a", "exp": now.Add(time.Minute).Unix()}
	with := func(k string, v any) jwt.MapClaims {
		c := jwt.MapClaims{}
		for name, value := range good {
			c[name] = value
		}
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
		return c
	}
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrNoToken},
		{"garbage", "a.b.c", ErrTokenInvalid},
		{"long", strings.Repeat("a", MaxTokenBytes+1), ErrTokenInvalid},
		{"expired", mint(jwt.SigningMethodHS256, []byte(secret), with("exp", now.Add(-time.Minute).Unix())), ErrTokenExpired},
		{"no expiry", mint(jwt.SigningMethodHS256, []byte(secret), with("exp", nil)), ErrTokenInvalid},
		{"not yet", mint(jwt.SigningMethodHS256, []byte(secret), with("nbf", now.Add(time.Minute).Unix())), ErrTokenInvalid},
		{"no issuer", mint(jwt.SigningMethodHS256, []byte(secret), with("iss", nil)), ErrTokenInvalid},
		{"unknown issuer", mint(jwt.SigningMethodHS256, []byte(secret), with("iss", "other")), ErrTokenInvalid},
		{"wrong secret", mint(jwt.SigningMethodHS256, []byte("other"), good), ErrTokenInvalid},
		{"stronger algorithm", mint(jwt.SigningMethodHS512, []byte(secret), good), ErrTokenInvalid},
		{"no algorithm", mint(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), ErrTokenInvalid},
		{"odd types", mint(jwt.SigningMethodHS256, []byte(secret), with("video", "yes")), ErrTokenInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := VerifyAt(c.token, keys, now)
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if c.token != "" && strings.Contains(err.Error(), c.token) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
	if _, err := VerifyAt(mint(jwt.SigningMethodHS256, []byte(secret), with("exp", now.Add(-2*time.Second).Unix())), keys, now); err != nil {
		t.Errorf("two seconds of clock skew: %v", err)
	}
	empty := func(string) (string, bool) { return "", true }
	if _, err := Verify(mint(jwt.SigningMethodHS256, []byte{}, good), empty); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("an empty secret verifies: %v", err)
	}
}

func TestMintRefuses(t *testing.T) {
	for _, c := range []struct {
		key, secret string
		ttl         time.Duration
	}{{"", secret, time.Minute}, {key, "", time.Minute}, {key, secret, 0}, {key, secret, -time.Second}} {
		if _, err := Mint(c.key, c.secret, Claims{}, c.ttl); err == nil {
			t.Errorf("minted with %+v", c)
		}
	}
}

func TestClaimsValidate(t *testing.T) {
	ok := Claims{Identity: "a", Video: Grant{Room: "r"}}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Claims){
		"no identity":     func(c *Claims) { c.Identity = "" },
		"long identity":   func(c *Claims) { c.Identity = strings.Repeat("a", MaxIdentityBytes+1) },
		"long name":       func(c *Claims) { c.Name = strings.Repeat("a", MaxNameBytes+1) },
		"odd name":        func(c *Claims) { c.Name = "\xff" },
		"long room":       func(c *Claims) { c.Video.Room = strings.Repeat("a", MaxRoomNameBytes+1) },
		"long metadata":   func(c *Claims) { c.Metadata = strings.Repeat("a", MaxMetadataBytes+1) },
		"long attributes": func(c *Claims) { c.Attributes = map[string]string{"a": strings.Repeat("a", MaxMetadataBytes)} },
		"odd attributes":  func(c *Claims) { c.Attributes = map[string]string{"\xff": ""} },
		"odd kind":        func(c *Claims) { c.Kind = "king" },
		"endless room":    func(c *Claims) { c.Room = &RoomConfiguration{EmptyTimeout: MaxTimeoutSeconds + 1} },
		"endless parting": func(c *Claims) { c.Room = &RoomConfiguration{DepartureTimeout: MaxTimeoutSeconds + 1} },
		"endless hall":    func(c *Claims) { c.Room = &RoomConfiguration{MaxParticipants: 1<<30 + 1} },
		"long inscription": func(c *Claims) {
			c.Room = &RoomConfiguration{Metadata: strings.Repeat("a", MaxMetadataBytes+1)}
		},
		"odd source": func(c *Claims) { c.Video.CanPublishSources = []string{"kitchen"} },
	} {
		c := ok
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQuery(t *testing.T) {
	r := httptest.NewRequest("GET", "/rtc?access_token=tok&auto_subscribe=0&sdk=js&version=2.23.0&protocol=17&client_protocol=2"+
		"&adaptive_stream=1&disable_ice_lite=1&subscriber_allow_pause=0&reconnect=1&sid=PA_x&reconnect_reason=2"+
		"&os=linux&os_version=6&device_model=d&browser=chrome&browser_version=140&network=wifi&unknown=1", nil)
	q, err := ParseJoinQuery(r)
	if err != nil {
		t.Fatal(err)
	}
	if q.Token != "tok" || q.AutoSubscribe || !q.AdaptiveStream || !q.DisableICELite || !q.Reconnect || q.SID != "PA_x" ||
		q.ReconnectReason != 2 || q.SubscriberAllowPause == nil || *q.SubscriberAllowPause {
		t.Errorf("query is %+v", q)
	}
	want := &ClientInfo{Sdk: SDKJS, Version: "2.23.0", Protocol: 17, ClientProtocol: 2, Os: "linux", OsVersion: "6",
		DeviceModel: "d", Browser: "chrome", BrowserVersion: "140", Network: "wifi"}
	if !proto.Equal(q.Client, want) {
		t.Errorf("client is %v", q.Client)
	}

	r = httptest.NewRequest("GET", "/rtc?auto_subscribe=true&sdk=somethingnew", nil)
	r.Header.Set("Authorization", "bearer tok2")
	q, err = ParseJoinQuery(r)
	if err != nil || q.Token != "tok2" || !q.AutoSubscribe || q.Reconnect || q.Client.Sdk != SDKUnknown || q.SubscriberAllowPause != nil {
		t.Errorf("query is %+v, %v", q, err)
	}
	r = httptest.NewRequest("GET", "/rtc", nil)
	r.Header.Set("Authorization", "Basic dXNlcjpwYXNz")
	if q, err = ParseJoinQuery(r); err != nil || q.Token != "" || !q.AutoSubscribe {
		t.Errorf("query is %+v, %v", q, err)
	}
	attributes := `{"a":"b"}`
	for _, text := range []string{attributes, base64.URLEncoding.EncodeToString([]byte(attributes)), base64.RawURLEncoding.EncodeToString([]byte(attributes))} {
		q, err = parseJoin(url.Values{"attributes": {text}}, "")
		if err != nil || q.Attributes["a"] != "b" {
			t.Errorf("attributes %q: %v, %v", text, q.Attributes, err)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"number":       "protocol=seventeen",
		"negative":     "protocol=-1",
		"flag":         "reconnect=yes",
		"sid":          "reconnect=1&sid=RM_x",
		"long":         "version=" + strings.Repeat("1", maxQueryValue+1),
		"not UTF-8":    "os=%ff",
		"escape":       "os=%zz",
		"attributes":   "attributes=!!",
		"attributes 2": "attributes=" + url.QueryEscape(`{"a":1}`),
		"attributes 3": "attributes=" + url.QueryEscape(`{"a":"`+strings.Repeat("x", MaxMetadataBytes)+`"}`),
		"very long":    "x=" + strings.Repeat("1", MaxTokenBytes+MaxJoinRequestBytes+40<<10),
	} {
		r := httptest.NewRequest("GET", "/rtc", nil)
		r.URL.RawQuery = raw
		if q, err := ParseJoinQuery(r); err == nil {
			t.Errorf("%s: no error, %+v", name, q)
		}
	}
}

func TestFrames(t *testing.T) {
	in := &SignalRequest{Message: &RequestMute{Mute: &MuteTrackRequest{Sid: "TR_x", Muted: true}}}
	frame, err := EncodeRequest(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := DecodeRequest(frame)
	if err != nil || !proto.Equal(in, out) || RequestKind(out) != "mute" {
		t.Errorf("got %v (%s), %v", out, RequestKind(out), err)
	}
	if _, err := DecodeRequest(make([]byte, MaxFrameBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large frame: %v", err)
	}
	if _, err := DecodeRequest([]byte{0xff}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a malformed frame: %v", err)
	}
	if m, err := DecodeRequest(nil); err != nil || RequestKind(m) != "" {
		t.Errorf("an empty frame: %v, %v", m, err)
	}
	if _, err := DecodeData(make([]byte, MaxDataPacketBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large data packet: %v", err)
	}
	leave := Leave(LeaveReconnect, ReasonStateMismatch)
	if l := leave.GetLeave(); !l.CanReconnect || l.Action != LeaveReconnect || ResponseKind(leave) != "leave" {
		t.Errorf("leave is %v", l)
	}
	if Leave(LeaveDisconnect, ReasonUnknown).GetLeave().CanReconnect {
		t.Error("a disconnect says can_reconnect")
	}
	if kinds := RequestKinds(); len(kinds) < 20 || kinds[0] != "offer" {
		t.Errorf("kinds are %v", kinds)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, m := range []*SignalRequest{
		{Message: &RequestOffer{Offer: &SessionDescription{Type: "offer", Sdp: "v=0", Id: 1}}},
		{Message: &RequestAddTrack{AddTrack: &AddTrackRequest{Cid: "c", Layers: []*VideoLayer{{Rid: "q"}}}}},
		{Message: &RequestSyncState{SyncState: &SyncState{TrackSidsDisabled: []string{"TR_x"}}}},
	} {
		b, _ := EncodeRequest(m)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeRequest(frame)
		if err != nil {
			return
		}
		RequestKind(m)
		again, err := EncodeRequest(m)
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		if m2, err := DecodeRequest(again); err != nil || RequestKind(m2) != RequestKind(m) {
			t.Fatalf("second decode: %v, %v", m2, err)
		}
	})
}

func FuzzDecodeData(f *testing.F) {
	b, _ := EncodeData(&DataPacket{Sequence: 1, DestinationIdentities: []string{"a"}, Value: &DataUser{User: &UserPacket{Payload: []byte("x")}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, err := DecodeData(payload)
		if err != nil {
			return
		}
		p.ParticipantIdentity = "stamped"
		again, err := EncodeData(p)
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		if p2, err := DecodeData(again); len(again) <= MaxDataPacketBytes && (err != nil || p2.ParticipantIdentity != "stamped") {
			t.Fatalf("second decode: %v, %v", p2, err)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add("access_token=t&protocol=17&sdk=js&reconnect=1&sid=PA_x", "Bearer t")
	f.Add("attributes=eyJhIjoiYiJ9&subscriber_allow_pause=1", "")
	f.Fuzz(func(t *testing.T, raw, authorization string) {
		r := httptest.NewRequest("GET", "/rtc", nil)
		r.URL.RawQuery = raw
		r.Header.Set("Authorization", authorization)
		q, err := ParseJoinQuery(r)
		if err != nil {
			return
		}
		if q.Client == nil || len(q.Client.Os) > maxQueryValue || q.Client.Protocol < 0 {
			t.Fatalf("query is %+v", q)
		}
		if err := CheckMetadata("", q.Attributes); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	token, _ := MintAt(key, secret, Claims{Identity: "a", Video: Grant{RoomJoin: true, Room: "r"}}, time.Minute, now)
	f.Add(token)
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJBUElrZXkifQ.")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := VerifyAt(text, keys, now)
		if err == nil && (c.APIKey != key || c.ExpiresAt.Before(now.Add(-tokenLeeway))) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"anytime/signaling/wire"
)

// Profile is how the SDKs of one family speak to a server: what they send, in which form and order. The facts are from
// their public sources of August 2026; PROTOCOL.md's table names profiles by Name.
type Profile struct {
	Name string
	// SDK is the sdk parameter. In a join request it becomes the ClientInfo's.
	SDK string
	// Protocol is the signal protocol, ClientProtocol what other clients may send; 0 is not sent.
	Protocol, ClientProtocol int
	// Header puts the token into an Authorization header; otherwise it stands in the query. Browsers have no choice.
	Header bool
	// ManualSubscribe subscribes to tracks by hand.
	ManualSubscribe bool

	// Single asks for one peer connection. The rest of this group is for that mode.
	Single bool
	// OnRTC sends the join request to /rtc, whose presence chooses the mode there.
	OnRTC bool
	// Bundle sends the first offer along with the join request; otherwise it follows the join.
	Bundle bool
	// Audio and Video are the receiving sections of the first offer.
	Audio, Video int
	// Plain leaves the join request uncompressed, Base64 writes it in that alphabet with its plus signs bare instead of
	// in base64url, and EmptyOffer resumes with an offer of no text.
	Plain, Base64, EmptyOffer bool
	// Fallback is how the client finds out that a server knows no /rtc/v1; it then takes two peer connections.
	Fallback Fallback

	// Eager offers a new track along with its announcement, without waiting for track_published.
	Eager bool
	// OwnCIDs announces tracks under names (a0, v0) that do not stand in the session description.
	OwnCIDs bool
	// Unnumbered gives offers no id.
	Unnumbered bool
	// SyncState tells after a resume what the client believes, before it restarts ICE.
	SyncState bool
	// NoResume joins anew whenever the connection is lost.
	NoResume bool
}

// Fallback is how a client with one peer connection learns that it has to make do with two.
type Fallback uint8

const (
	// FallbackNone: it does not.
	FallbackNone Fallback = iota
	// FallbackByStatus: the upgrade is answered by 404.
	FallbackByStatus
	// FallbackByValidate: GET /rtc/v1/validate is answered by 404, but not for a room that does not exist. A browser
	// can't see the status of an upgrade.
	FallbackByValidate
)

// Profiles returns the profiles of all SDK families, in the order of PROTOCOL.md's table.
func Profiles() []Profile {
	js := Profile{
		Name: "js", SDK: "js", Protocol: 17, ClientProtocol: 2,
		Single: true, Bundle: true, Audio: 3, Video: 3, Fallback: FallbackByValidate, Eager: true, SyncState: true,
	}
	// livekit-client keeps its first offer out of the join request in Firefox.
	firefox := js
	firefox.Name, firefox.Bundle = "js firefox", false
	// React Native runs livekit-client without CompressionStream, and libwebrtc can't fill in sections ahead.
	native := js
	native.Name, native.SDK, native.Bundle, native.Audio, native.Video, native.Plain = "react native", "reactnative", false, 0, 0, true
	rust := Profile{
		Name: "rust", SDK: "rust", Protocol: 17, ClientProtocol: 2, Header: true,
		Single: true, Bundle: true, Audio: 3, Video: 3, Fallback: FallbackByStatus, SyncState: true,
	}
	node := rust
	node.Name, node.SDK = "node", "node"
	swift := Profile{Name: "swift", SDK: "swift", Protocol: 16, ClientProtocol: 1, Header: true, SyncState: true}
	swiftSingle := swift
	swiftSingle.Name, swiftSingle.Single, swiftSingle.Fallback = "swift single", true, FallbackByValidate
	swiftSingle.Plain, swiftSingle.Base64 = true, true
	golang := Profile{Name: "go", SDK: "go", Protocol: 17, Header: true, Unnumbered: true, SyncState: true}
	golangSingle := golang
	golangSingle.Name, golangSingle.Single, golangSingle.OnRTC, golangSingle.Bundle = "go single", true, true, true
	golangSingle.Audio, golangSingle.Video, golangSingle.EmptyOffer = 3, 3, true
	flutter := Profile{Name: "flutter", SDK: "flutter", Protocol: 16, ClientProtocol: 1, Header: true, SyncState: true}
	// A browser can't set headers.
	flutterWeb := flutter
	flutterWeb.Name, flutterWeb.Header = "flutter web", false
	// Unity is a client of the Rust SDK on devices and of the JavaScript SDK in a browser.
	unity, unityWeb := rust.Dual(), js.Dual()
	unity.Name, unity.SDK = "unity", "unity"
	unityWeb.Name, unityWeb.SDK = "unity web", "unityweb"
	return []Profile{
		js, js.Dual(), firefox, firefox.Dual(), native, native.Dual(), rust, rust.Dual(), node, node.Dual(),
		swift, swiftSingle,
		{Name: "android", SDK: "android", Protocol: 13, ClientProtocol: 1, Header: true, SyncState: true},
		flutter, flutterWeb, unity, unityWeb, golang, golangSingle,
		// Protocol 1 knows no primary subscriber. There is no parameter to resume with.
		{Name: "esp32", SDK: "esp32", Protocol: 1, Header: true, ManualSubscribe: true, OwnCIDs: true, Unnumbered: true, NoResume: true},
	}
}

// ProfileOf returns the profile of that name.
func ProfileOf(name string) (Profile, error) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("there is no profile %q", name)
}

// Dual returns the profile with two peer connections, to which its family falls back.
func (p Profile) Dual() Profile {
	p.Name = strings.TrimSuffix(p.Name, " single")
	if p.Single {
		p.Name += " dual"
	}
	p.Single, p.OnRTC, p.Bundle, p.Audio, p.Video, p.Plain, p.Base64, p.EmptyOffer, p.Fallback = false, false, false, 0, 0, false, false, false, FallbackNone
	return p
}

// apply lets the profile take the place of the other fields.
func (p Profile) apply(c *Config) {
	c.SDK, c.Protocol = p.SDK, p.Protocol
	c.Single, c.Bundle, c.Audio, c.Video = p.Single, p.Bundle, p.Audio, p.Video
	c.ManualSubscribe = c.ManualSubscribe || p.ManualSubscribe
}

// profile returns how this client speaks.
func (c *Client) profile() Profile {
	if c.cfg.Profile != nil {
		return *c.cfg.Profile
	}
	p := Profile{SDK: "go", Protocol: 16, Single: c.cfg.Single}
	if c.cfg.SDK != "" {
		p.SDK = c.cfg.SDK
	}
	if c.cfg.Protocol != 0 {
		p.Protocol = c.cfg.Protocol
	}
	return p
}

// address returns the URL of the WebSocket and the headers of its upgrade. sid, when set, asks to resume that session.
func (c *Client) address(sid string) (*url.URL, http.Header, error) {
	u, err := url.Parse(c.cfg.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("server URL: %w", err)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	}
	p := c.profile()
	u.Path = strings.TrimSuffix(u.Path, "/") + "/rtc"
	if p.Single && !p.OnRTC {
		u.Path += "/v1"
	}
	q := url.Values{}
	if p.Single {
		request, err := c.joinRequest(p, sid)
		if err != nil {
			return nil, nil, err
		}
		q.Set("join_request", request)
	} else {
		c.parameters(p, sid, q)
	}
	header := http.Header{}
	if p.Header {
		header.Set("Authorization", "Bearer "+c.Token())
	} else {
		q.Set("access_token", c.Token())
	}
	for k, v := range c.cfg.Query {
		q[k] = v
	}
	u.RawQuery = q.Encode()
	if p.Base64 {
		u.RawQuery = strings.ReplaceAll(u.RawQuery, "%2B", "+")
	}
	return u, header, nil
}

// parameters are those of a client with two peer connections.
func (c *Client) parameters(p Profile, sid string, q url.Values) {
	q.Set("sdk", p.SDK)
	q.Set("protocol", strconv.Itoa(p.Protocol))
	if p.ClientProtocol != 0 {
		q.Set("client_protocol", strconv.Itoa(p.ClientProtocol))
	}
	q.Set("auto_subscribe", "1")
	if c.cfg.ManualSubscribe {
		q.Set("auto_subscribe", "0")
	}
	if c.cfg.FullICE {
		q.Set("disable_ice_lite", "1")
	}
	if sid != "" {
		q.Set("reconnect", "1")
		q.Set("sid", sid)
	}
}

// sdks are the names that stand in a join request.
var sdks = map[string]wire.SDK{
	"js": wire.SDKJS, "reactnative": wire.SDKJS, "rust": wire.SDKRust, "node": wire.SDKNode, "swift": wire.SDKSwift, "go": wire.SDKGo,
}

// joinRequest makes the join_request of a client with one peer connection.
func (c *Client) joinRequest(p Profile, sid string) (string, error) {
	m := &wire.JoinRequest{
		ClientInfo: &wire.ClientInfo{Sdk: sdks[p.SDK], Protocol: int32(p.Protocol), ClientProtocol: int32(p.ClientProtocol)},
		ConnectionSettings: &wire.ConnectionSettings{
			AutoSubscribe: !c.cfg.ManualSubscribe, DisableIceLite: c.cfg.FullICE,
		},
		Reconnect: sid != "", ParticipantSid: sid,
	}
	switch {
	case sid == "":
		m.PublisherOffer = c.bundled
	case p.EmptyOffer:
		m.PublisherOffer = &wire.SessionDescription{Type: "unknown"}
	}
	text, err := wire.EncodeJoinRequest(m, !p.Plain)
	if p.Base64 {
		text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	}
	return text, err
}

// needsDual reports whether a join that failed with err is to be tried with two peer connections.
func (c *Client) needsDual(ctx context.Context, err error) bool {
	var refused *UpgradeError
	if !errors.As(err, &refused) {
		return false
	}
	switch c.profile().Fallback {
	case FallbackByStatus:
		return refused.Status == http.StatusNotFound
	case FallbackByValidate:
		status, text, err := c.validate(ctx)
		return err == nil && status == http.StatusNotFound && !strings.Contains(text, "requested room does not exist")
	}
	return false
}

// validate asks what the server has against a join.
func (c *Client) validate(ctx context.Context) (status int, text string, err error) {
	u, header, err := c.address("")
	if err != nil {
		return 0, "", err
	}
	u.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	u.Path += "/validate"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, "", fmt.Errorf("validate: %w", err)
	}
	request.Header, request.Close = header, true
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("validate: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, string(body), err
}

// syncState tells the server what this client believes after a resume.
func (c *Client) syncState() error {
	m := &wire.SyncState{Subscription: &wire.UpdateSubscription{Subscribe: c.cfg.ManualSubscribe}}
	if c.subscriber != nil && c.subscriber != c.publisher {
		if d := c.subscriber.pc.RemoteDescription(); d != nil {
			m.Offer = &wire.SessionDescription{Type: "offer", Sdp: d.SDP}
		}
		if d := c.subscriber.pc.LocalDescription(); d != nil {
			m.Answer = &wire.SessionDescription{Type: "answer", Sdp: d.SDP}
		}
	}
	c.mu.Lock()
	for _, p := range c.published {
		m.PublishTracks = append(m.PublishTracks, p)
	}
	c.mu.Unlock()
	return c.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: m}})
}

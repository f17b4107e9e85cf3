package wire

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQueryValue bounds each value of the query but the token.
const maxQueryValue = 1 << 10

// JoinQuery is what the query of GET /rtc or /rtc/v1 says. Unknown parameters are ignored.
type JoinQuery struct {
	// Single: the client has one peer connection. The presence of a join_request says so, whatever the
	// path; it then takes the place of the other parameters.
	Single bool
	// Bundled are the requests that came with the join request, to be carried out after the join.
	Bundled []*SignalRequest
	// Token is the access token, from the query or the Authorization header. Never log it.
	Token string
	// Reconnect asks to resume participant SID's session instead of joining anew.
	Reconnect       bool
	SID             string
	ReconnectReason ReconnectReason
	// Room names the room for tokens that don't, and for old SDKs.
	Room string

	// AutoSubscribe subscribes to every track; absent means yes.
	AutoSubscribe bool
	// AdaptiveStream: the client reports the size and visibility of what it shows, so video may
	// start paused. SubscriberAllowPause: the server may pause video when the path is congested.
	AdaptiveStream       bool
	SubscriberAllowPause *bool
	// DisableICELite asks for full ICE on the server's side.
	DisableICELite bool

	// Client describes the SDK and device.
	Client *ClientInfo
	// Attributes are set by the client on joining (JSON object); they need the permission to update
	// own metadata.
	Attributes map[string]string
	// Metadata, if not empty, takes the place of the token's; it needs the same permission.
	Metadata string
}

// ParseJoinQuery reads the query and the Authorization header of an upgrade to /rtc or /rtc/v1.
func ParseJoinQuery(r *http.Request) (JoinQuery, error) {
	const most = MaxTokenBytes + MaxJoinRequestBytes + 32<<10
	if len(r.URL.RawQuery) > most {
		return JoinQuery{}, fmt.Errorf("the query is longer than %d bytes", most)
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return JoinQuery{}, fmt.Errorf("the query cannot be read")
	}
	if strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/rtc/"), "v1") && !values.Has("join_request") {
		return JoinQuery{}, errors.New("join_request is missing")
	}
	return parseJoin(values, r.Header.Get("Authorization"))
}

func parseJoin(values url.Values, authorization string) (JoinQuery, error) {
	if values.Has("join_request") {
		out, err := decodeJoinRequest(values.Get("join_request"))
		out.Token, out.Room = BearerToken(values, authorization), values.Get("room")
		return out, err
	}
	q := queryReader{values: values}
	out := JoinQuery{
		Token:          BearerToken(values, authorization),
		Reconnect:      q.flag("reconnect", false),
		SID:            q.text("sid"),
		Room:           q.text("room"),
		AutoSubscribe:  q.flag("auto_subscribe", true),
		AdaptiveStream: q.flag("adaptive_stream", false),
		DisableICELite: q.flag("disable_ice_lite", false),
	}
	if values.Has("subscriber_allow_pause") {
		pause := q.flag("subscriber_allow_pause", false)
		out.SubscriberAllowPause = &pause
	}
	out.ReconnectReason = ReconnectReason(q.number("reconnect_reason", 0, 1000))
	out.Client = &ClientInfo{
		Sdk:            sdkByName[strings.ToLower(q.text("sdk"))],
		Version:        q.text("version"),
		Protocol:       q.number("protocol", 0, 10_000),
		ClientProtocol: q.number("client_protocol", 0, 10_000),
		Os:             q.text("os"),
		OsVersion:      q.text("os_version"),
		DeviceModel:    q.text("device_model"),
		Browser:        q.text("browser"),
		BrowserVersion: q.text("browser_version"),
		Network:        q.text("network"),
	}
	if text := values.Get("attributes"); text != "" {
		attributes, err := decodeAttributes(text)
		if err != nil {
			return JoinQuery{}, err
		}
		out.Attributes = attributes
	}
	if q.err != nil {
		return JoinQuery{}, q.err
	}
	return out, out.checkSID()
}

func (q *JoinQuery) checkSID() error {
	if q.Reconnect && q.SID != "" && !strings.HasPrefix(q.SID, ParticipantPrefix) {
		return fmt.Errorf("sid must be a participant id (%s…)", ParticipantPrefix)
	}
	return nil
}

// BearerToken returns the token of the access_token parameter or of an Authorization: Bearer header
// (RFC 6750 §2.1), "" when there is neither.
func BearerToken(values url.Values, authorization string) string {
	if t := values.Get("access_token"); t != "" {
		return t
	}
	if scheme, token, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// queryReader collects the first error while values are read one after the other.
type queryReader struct {
	values url.Values
	err    error
}

func (q *queryReader) text(name string) string {
	v := q.values.Get(name)
	if len(v) > maxQueryValue || !utf8.ValidString(v) {
		q.fail("%s must be at most %d bytes of UTF-8", name, maxQueryValue)
		return ""
	}
	return v
}

// flag reads 1, true, 0 or false. Flutter sends true/false, the others 1/0.
func (q *queryReader) flag(name string, unset bool) bool {
	switch v := q.values.Get(name); v {
	case "":
		return unset
	case "1", "true":
		return true
	case "0", "false":
		return false
	default:
		q.fail("%s must be 1 or 0", name)
		return unset
	}
}

func (q *queryReader) number(name string, least, most int64) int32 {
	v := q.values.Get(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < least || n > most {
		q.fail("%s must be a whole number from %d to %d", name, least, most)
		return 0
	}
	return int32(n)
}

func (q *queryReader) fail(format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf(format, args...)
	}
}

var sdkByName = map[string]SDK{
	"js": SDKJS, "swift": SDKSwift, "ios": SDKSwift, "android": SDKAndroid, "flutter": SDKFlutter, "go": SDKGo,
	"unity": SDKUnity, "reactnative": SDKReactNative, "rust": SDKRust, "python": SDKPython, "cpp": SDKCpp,
	"unityweb": SDKUnityWeb, "node": SDKNode, "unreal": SDKUnreal, "esp32": SDKESP32, "dotnet": SDKDotNet,
}

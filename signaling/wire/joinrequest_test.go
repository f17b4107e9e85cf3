package wire

import (
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func joinRequest(t testing.TB, m *JoinRequest, compress bool) string {
	t.Helper()
	text, err := EncodeJoinRequest(m, compress)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestJoinRequest(t *testing.T) {
	m := &JoinRequest{
		ClientInfo:            &ClientInfo{Sdk: SDKJS, Protocol: 17, Os: "Linux"},
		ConnectionSettings:    &ConnectionSettings{AutoSubscribe: true, DisableIceLite: true},
		ParticipantAttributes: map[string]string{"k": "v"},
		Metadata:              "m",
		AddTrackRequests:      []*AddTrackRequest{{Cid: "c"}},
		PublisherOffer:        &SessionDescription{Type: "offer", Sdp: "v=0", Id: 3},
		Reconnect:             true,
		ParticipantSid:        "PA_x",
	}
	for _, compress := range []bool{false, true} {
		padded := joinRequest(t, m, compress)
		for _, text := range []string{padded, strings.TrimRight(padded, "=")} {
			// The path does not choose the mode, the parameter does.
			for _, path := range []string{"/rtc", "/rtc/v1", "/rtc/v1/validate"} {
				r := httptest.NewRequest("GET", path+"?access_token=t&join_request="+url.QueryEscape(text), nil)
				q, err := ParseJoinQuery(r)
				if err != nil {
					t.Fatal(err)
				}
				if !q.Single || q.Token != "t" || !q.Reconnect || q.SID != "PA_x" || !q.AutoSubscribe || !q.DisableICELite ||
					q.Client.Os != "Linux" || q.Attributes["k"] != "v" || q.Metadata != "m" {
					t.Errorf("query is %+v", q)
				}
				if len(q.Bundled) != 2 || RequestKind(q.Bundled[0]) != "add_track" || q.Bundled[1].GetOffer().GetId() != 3 {
					t.Errorf("bundled are %v", q.Bundled)
				}
			}
		}
	}
}

func TestJoinRequestRefuses(t *testing.T) {
	bomb := joinRequest(t, &JoinRequest{PublisherOffer: &SessionDescription{Sdp: strings.Repeat("a", 40<<20)}}, true)
	if len(bomb) > MaxJoinRequestBytes {
		t.Fatalf("the bomb takes %d bytes", len(bomb))
	}
	for name, c := range map[string]struct{ text, want string }{
		"not base64":       {"!", "base64url"},
		"not protobuf":     {base64.URLEncoding.EncodeToString([]byte{0xff}), "WrappedJoinRequest"},
		"too long":         {strings.Repeat("A", MaxJoinRequestBytes+1), "at most"},
		"bomb":             {bomb, "unpacks to more than"},
		"other prefix":     {joinRequest(t, &JoinRequest{Reconnect: true, ParticipantSid: "RM_x"}, false), "participant id"},
		"long text":        {joinRequest(t, &JoinRequest{ClientInfo: &ClientInfo{Os: strings.Repeat("x", 2000)}}, true), "client_info"},
		"long metadata":    {joinRequest(t, &JoinRequest{Metadata: strings.Repeat("x", MaxMetadataBytes+1)}, true), "metadata"},
		"too many tracks":  {joinRequest(t, &JoinRequest{AddTrackRequests: make65()}, true), "tracks"},
		"empty is nothing": {"", ""},
	} {
		q, err := decodeJoinRequest(c.text)
		if c.want == "" {
			if err != nil || !q.Single || !q.AutoSubscribe {
				t.Errorf("%s: %+v, %v", name, q, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func make65() []*AddTrackRequest {
	list := make([]*AddTrackRequest, MaxBundledTracks+1)
	for i := range list {
		list[i] = &AddTrackRequest{}
	}
	return list
}

func FuzzJoinRequest(f *testing.F) {
	for _, compress := range []bool{false, true} {
		f.Add(joinRequest(f, &JoinRequest{
			ClientInfo: &ClientInfo{Sdk: SDKJS}, ParticipantAttributes: map[string]string{"k": "v"},
			PublisherOffer: &SessionDescription{Type: "offer", Sdp: "v=0"}, AddTrackRequests: []*AddTrackRequest{{Cid: "c"}},
		}, compress))
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := decodeJoinRequest(text)
		if err != nil {
			return
		}
		if !q.Single || q.Client == nil || len(q.Client.Os) > maxQueryValue || len(q.Bundled) > MaxBundledTracks+2 {
			t.Fatalf("query is %+v", q)
		}
		if err := CheckMetadata(q.Metadata, q.Attributes); err != nil {
			t.Fatal(err)
		}
	})
}

// TestJoinRequestAlphabets: Swift writes base64, whose plus signs a query turns into blanks, not base64url.
func TestJoinRequestAlphabets(t *testing.T) {
	text := joinRequest(t, &JoinRequest{Metadata: "~~~???>>>", ParticipantSid: "PA_x"}, false)
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if !strings.Contains(standard, "+") || !strings.Contains(standard, "/") {
		t.Fatalf("%s has nothing that differs in the other alphabet", standard)
	}
	for _, query := range []string{url.QueryEscape(text), url.QueryEscape(standard), standard} {
		q, err := ParseJoinQuery(httptest.NewRequest("GET", "/rtc/v1?join_request="+query, nil))
		if err != nil || q.Metadata != "~~~???>>>" {
			t.Errorf("%s: %+v, %v", query, q, err)
		}
	}
}

// TestJoinRequestWithAnEmptyOffer: Go sends one when it resumes.
func TestJoinRequestWithAnEmptyOffer(t *testing.T) {
	q, err := decodeJoinRequest(joinRequest(t, &JoinRequest{
		Reconnect: true, ParticipantSid: "PA_x", PublisherOffer: &SessionDescription{Type: "unknown"},
	}, true))
	if err != nil || len(q.Bundled) != 0 {
		t.Errorf("bundled are %v, %v", q.Bundled, err)
	}
}

package signaling

//lint:file-ignore SA1019 older SDKs read and write the deprecated fields that are tested here

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// apiWorld is a world whose API is served too.
type apiWorld struct {
	*world
	url string
}

func newAPIWorld(t *testing.T, change func(*Config)) *apiWorld {
	t.Helper()
	w := newWorld(t, change)
	server := httptest.NewServer(w.srv.API())
	t.Cleanup(server.Close)
	return &apiWorld{w, server.URL}
}

// admin may do everything in a room.
func admin(room string) wire.Grant {
	return wire.Grant{RoomCreate: true, RoomList: true, RoomAdmin: true, Room: room, DestinationRoom: "other"}
}

func (w *apiWorld) bearer(g wire.Grant) string {
	w.t.Helper()
	tok, err := wire.Mint(testKey, testSecret, wire.Claims{Video: g}, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return "Bearer " + tok
}

// post sends a body and returns the answer.
func (w *apiWorld) post(path, media, authorization, body string) (status int, header http.Header, answer []byte) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

// call calls a method in protobuf and, when it fails, returns the error's code.
func (w *apiWorld) call(method string, g wire.Grant, request, answer proto.Message) twirp.Code {
	w.t.Helper()
	body, err := proto.Marshal(request)
	if err != nil {
		w.t.Fatal(err)
	}
	status, header, got := w.post("/twirp/livekit.RoomService/"+method, "application/protobuf", w.bearer(g), string(body))
	if status == http.StatusOK {
		if err := proto.Unmarshal(got, answer); err != nil || header.Get("Content-Type") != "application/protobuf" {
			w.t.Fatalf("%s: %v, %v", method, err, header)
		}
		return ""
	}
	return w.code(method, status, header, got)
}

func (w *apiWorld) code(what string, status int, header http.Header, body []byte) twirp.Code {
	w.t.Helper()
	var e twirp.Error
	if err := json.Unmarshal(body, &e); err != nil || e.Msg == "" || e.Code.Status() != status || header.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s: %d %v %s is no Twirp error", what, status, header, body)
	}
	return e.Code
}

func (w *apiWorld) ok(method string, request, answer proto.Message) {
	w.t.Helper()
	room := "r"
	if f := request.ProtoReflect().Descriptor().Fields().ByName("room"); f != nil {
		room = request.ProtoReflect().Get(f).String()
	}
	if code := w.call(method, admin(room), request, answer); code != "" {
		w.t.Fatalf("%s: %s", method, code)
	}
}

// media is a peer's fake media, once it is open.
func (p *peer) media() *fakePeer {
	p.t.Helper()
	eventually(p.t, "the media is open", func() bool { return p.w.media.peer(p.id) != nil })
	return p.w.media.peer(p.id)
}

// methods of RoomService with a request for the room r, and what each needs.
var roomService = []struct {
	name    string
	request proto.Message
	needs   string
}{
	{"CreateRoom", &wire.CreateRoomRequest{Name: "r"}, "create"},
	{"DeleteRoom", &wire.DeleteRoomRequest{Room: "r"}, "create"},
	{"ListRooms", &wire.ListRoomsRequest{}, "list"},
	{"UpdateRoomMetadata", &wire.UpdateRoomMetadataRequest{Room: "r"}, "admin"},
	{"SendData", &wire.SendDataRequest{Room: "r"}, "admin"},
	{"ListParticipants", &wire.ListParticipantsRequest{Room: "r"}, "admin"},
	{"GetParticipant", &wire.RoomParticipantIdentity{Room: "r"}, "admin"},
	{"RemoveParticipant", &wire.RoomParticipantIdentity{Room: "r"}, "admin"},
	{"UpdateParticipant", &wire.UpdateParticipantRequest{Room: "r"}, "admin"},
	{"MutePublishedTrack", &wire.MuteRoomTrackRequest{Room: "r"}, "admin"},
	{"UpdateSubscriptions", &wire.UpdateSubscriptionsRequest{Room: "r"}, "admin"},
	{"PerformRpc", &wire.PerformRPCRequest{Room: "r", Method: "m"}, "admin"},
	{"ForwardParticipant", &wire.ForwardParticipantRequest{Room: "r", DestinationRoom: "other"}, "forward"},
	{"MoveParticipant", &wire.MoveParticipantRequest{Room: "r", DestinationRoom: "other"}, "forward"},
}

// TestAPIGrants walks every method with every grant.
func TestAPIGrants(t *testing.T) {
	w := newAPIWorld(t, nil)
	if have := len(w.srv.apiMethods()); have != len(roomService) {
		t.Errorf("%d methods are served, %d are tested", have, len(roomService))
	}
	grants := []struct {
		name  string
		grant wire.Grant
		gives []string
	}{
		{"none", wire.Grant{}, nil},
		{"join", wire.Grant{RoomJoin: true, Room: "r"}, nil},
		{"create", wire.Grant{RoomCreate: true}, []string{"create"}},
		{"list", wire.Grant{RoomList: true}, []string{"list"}},
		{"record", wire.Grant{RoomRecord: true, IngressAdmin: true, Room: "r"}, nil},
		{"admin", wire.Grant{RoomAdmin: true, Room: "r"}, []string{"admin"}},
		{"admin of another room", wire.Grant{RoomAdmin: true, Room: "other"}, nil},
		{"admin of no room", wire.Grant{RoomAdmin: true}, nil},
		{"destination", wire.Grant{Room: "r", DestinationRoom: "other"}, nil},
		{"admin and destination", wire.Grant{RoomAdmin: true, Room: "r", DestinationRoom: "other"}, []string{"admin", "forward"}},
		{"admin and another destination", wire.Grant{RoomAdmin: true, Room: "r", DestinationRoom: "r"}, []string{"admin"}},
	}
	for _, m := range roomService {
		for _, g := range grants {
			may := false
			for _, given := range g.gives {
				may = may || given == m.needs
			}
			code := w.call(m.name, g.grant, m.request, &wire.Room{})
			if denied := code == twirp.PermissionDenied; denied == may {
				t.Errorf("%s with %s: %q", m.name, g.name, code)
			}
			code = w.callJSON(m.name, w.bearer(g.grant), m.request)
			if denied := code == twirp.PermissionDenied; denied == may {
				t.Errorf("%s with %s in JSON: %q", m.name, g.name, code)
			}
		}
		for _, bearer := range []string{"", "Bearer x", w.bearer(admin("r")) + "x"} {
			if code := w.callJSON(m.name, bearer, m.request); code != twirp.Unauthenticated {
				t.Errorf("%s with %.10q in JSON: %q", m.name, bearer, code)
			}
			body, err := proto.Marshal(m.request)
			if err != nil {
				t.Fatal(err)
			}
			status, header, got := w.post("/twirp/livekit.RoomService/"+m.name, "application/protobuf", bearer, string(body))
			if status == http.StatusOK || w.code(m.name, status, header, got) != twirp.Unauthenticated {
				t.Errorf("%s with %.10q: %d", m.name, bearer, status)
			}
		}
	}
}

// callJSON calls a method in JSON and returns the error's code, "" when there is none.
func (w *apiWorld) callJSON(method, bearer string, request proto.Message) twirp.Code {
	w.t.Helper()
	body, err := protojson.Marshal(request)
	if err != nil {
		w.t.Fatal(err)
	}
	status, header, got := w.post("/twirp/livekit.RoomService/"+method, "application/json", bearer, string(body))
	if status == http.StatusOK {
		return ""
	}
	return w.code(method, status, header, got)
}

func TestAPIRefusesUnreadably(t *testing.T) {
	w := newAPIWorld(t, nil)
	good := w.bearer(admin("r"))
	expired, err := wire.MintAt(testKey, testSecret, wire.Claims{Video: admin("r")}, time.Minute, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	const list = "/twirp/livekit.RoomService/ListRooms"
	for _, test := range []struct {
		name, path, media, authorization, body string
		want                                   twirp.Code
	}{
		{"no token", list, "application/json", "", "{}", twirp.Unauthenticated},
		{"bad token", list, "application/json", "Bearer x", "{}", twirp.Unauthenticated},
		{"expired token", list, "application/json", "Bearer " + expired, "{}", twirp.Unauthenticated},
		{"token in the query", list + "?access_token=" + strings.TrimPrefix(good, "Bearer "), "application/json", "", "{}", twirp.Unauthenticated},
		{"method", "/twirp/livekit.RoomService/Nonsense", "application/json", good, "{}", twirp.BadRoute},
		{"service", "/twirp/livekit.Nonsense/ListRooms", "application/json", good, "{}", twirp.BadRoute},
		{"path", "/twirp/", "application/json", good, "{}", twirp.BadRoute},
		{"media type", list, "text/plain", good, "{}", twirp.BadRoute},
		{"no media type", list, "", good, "{}", twirp.BadRoute},
		{"egress", "/twirp/livekit.Egress/ListEgress", "application/json", good, "{}", twirp.Unimplemented},
		{"SIP", "/twirp/livekit.SIP/ListSIPTrunk", "application/protobuf", good, "", twirp.Unimplemented},
		{"json", list, "application/json", good, `{"names":`, twirp.Malformed},
		{"types", list, "application/json", good, `{"names":3}`, twirp.Malformed},
		{"protobuf", list, "application/protobuf", good, "\xff\xff\xff", twirp.Malformed},
		{"size", list, "application/json", good, strings.Repeat(" ", twirp.MaxBodyBytes+1), twirp.ResourceExhausted},
		{"unknown field", list, "application/json; charset=UTF-8", good, `{"new_field":{}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, header, body := w.post(test.path, test.media, test.authorization, test.body)
			if test.want == "" {
				if status != http.StatusOK {
					t.Errorf("%d %s", status, body)
				}
				return
			}
			if code := w.code(test.name, status, header, body); code != test.want {
				t.Errorf("%s, want %s", code, test.want)
			}
			if bytes.Contains(body, []byte("eyJ")) {
				t.Errorf("the answer holds the token: %s", body)
			}
		})
	}
	resp, err := http.Get(w.url + list)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET: %s", resp.Status)
	}
}

func TestAPILimitsCalls(t *testing.T) {
	w := newAPIWorld(t, func(c *Config) { c.Limits.CallsPerSecond, c.Limits.CallBurst = 0.001, 2 })
	for i, want := range []twirp.Code{"", "", twirp.ResourceExhausted} {
		if code := w.call("ListRooms", admin(""), &wire.ListRoomsRequest{}, &wire.ListRoomsResponse{}); code != want {
			t.Errorf("call %d: %s", i, code)
		}
	}
}

func TestAPICreatesRooms(t *testing.T) {
	events := make(chan RoomEvent, 100)
	w := newAPIWorld(t, func(c *Config) { c.Observe = func(e RoomEvent) { events <- e } })
	var made wire.Room
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "r", EmptyTimeout: 60, DepartureTimeout: 7, MaxParticipants: 1, Metadata: "m"}, &made)
	if made.Name != "r" || !strings.HasPrefix(made.Sid, "RM_") || made.EmptyTimeout != 60 || made.DepartureTimeout != 7 ||
		made.MaxParticipants != 1 || made.Metadata != "m" || made.CreationTime == 0 {
		t.Errorf("made %v", &made)
	}
	if e := <-events; e.Kind != RoomStarted || e.RoomInfo.GetMetadata() != "m" || e.RoomInfo.GetSid() != made.Sid {
		t.Errorf("observed %v", e)
	}
	// Creating it again changes what is given and nothing else.
	var again wire.Room
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "r", DepartureTimeout: 9}, &again)
	if again.Sid != made.Sid || again.EmptyTimeout != 60 || again.DepartureTimeout != 9 || again.Metadata != "m" {
		t.Errorf("again %v", &again)
	}
	var other wire.Room
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "other"}, &other)
	if other.EmptyTimeout != 300 {
		t.Errorf("without timeout: %v", &other)
	}
	var list wire.ListRoomsResponse
	if w.ok("ListRooms", &wire.ListRoomsRequest{}, &list); len(list.Rooms) != 2 {
		t.Errorf("rooms: %v", &list)
	}
	if w.ok("ListRooms", &wire.ListRoomsRequest{Names: []string{"other", "none"}}, &list); len(list.Rooms) != 1 || list.Rooms[0].Name != "other" {
		t.Errorf("rooms by name: %v", &list)
	}

	ann := w.join("r", "ann", nil, nil)
	if r := ann.joined.GetRoom(); r.Sid != made.Sid || r.Metadata != "m" || r.MaxParticipants != 1 {
		t.Errorf("ann is in %v", r)
	}
	ws, _, err := w.dial(token(t, "r", "bob", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	bob := &peer{t: t, w: w.world, ws: ws}
	if _, _, leave := bob.closed(); leave.GetReason() != wire.ReasonJoinFailure {
		t.Errorf("one too many: %v", leave)
	}

	w.ok("UpdateRoomMetadata", &wire.UpdateRoomMetadataRequest{Room: "r", Metadata: "n"}, &again)
	if again.Metadata != "n" {
		t.Errorf("metadata: %v", &again)
	}
	ann.until("the metadata", func(m *wire.SignalResponse) bool { return m.GetRoomUpdate().GetRoom().GetMetadata() == "n" })

	w.ok("DeleteRoom", &wire.DeleteRoomRequest{Room: "r"}, &wire.DeleteRoomResponse{})
	if _, _, leave := ann.closed(); leave.GetReason() != wire.ReasonRoomDeleted || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("the room is deleted: %v", leave)
	}
	for e := range events {
		if e.Kind == RoomFinished {
			if e.EndReason != wire.RoomEndDeleted || e.Room != "r" {
				t.Errorf("observed %v", e)
			}
			break
		}
	}
	for method, request := range map[string]proto.Message{
		"DeleteRoom": &wire.DeleteRoomRequest{Room: "r"}, "UpdateRoomMetadata": &wire.UpdateRoomMetadataRequest{Room: "r"},
		"SendData": &wire.SendDataRequest{Room: "r"}, "GetParticipant": &wire.RoomParticipantIdentity{Room: "r", Identity: "ann"},
	} {
		if code := w.call(method, admin("r"), request, &wire.Room{}); code != twirp.NotFound {
			t.Errorf("%s of a room that is gone: %q", method, code)
		}
	}
	for _, bad := range []*wire.CreateRoomRequest{
		{}, {Name: strings.Repeat("x", 257)}, {Name: "x", Metadata: strings.Repeat("x", 64<<10+1)}, {Name: "x", EmptyTimeout: 1 << 31}, {Name: "x", RoomPreset: "p"},
	} {
		if code := w.call("CreateRoom", admin(""), bad, &wire.Room{}); code != twirp.InvalidArgument {
			t.Errorf("created %.40v: %q", bad, code)
		}
	}
	w.ok("DeleteRoom", &wire.DeleteRoomRequest{Room: "other"}, &wire.DeleteRoomResponse{})
}

func TestAPICreatesNoMoreRoomsThanAllowed(t *testing.T) {
	w := newAPIWorld(t, func(c *Config) { c.Limits.Rooms = 1 })
	w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "r"}, &wire.Room{})
	if code := w.call("CreateRoom", admin(""), &wire.CreateRoomRequest{Name: "s"}, &wire.Room{}); code != twirp.ResourceExhausted {
		t.Errorf("a second room: %q", code)
	}
	// A room that is deleted makes place, and can be made anew at once.
	for range 20 {
		w.ok("DeleteRoom", &wire.DeleteRoomRequest{Room: "r"}, &wire.DeleteRoomResponse{})
		w.ok("CreateRoom", &wire.CreateRoomRequest{Name: "r", Metadata: "new"}, &wire.Room{})
	}
}

func TestAPIChangesParticipants(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	video := ann.publish("cid-v", wire.TrackVideo, wire.SourceCamera)
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })

	var list wire.ListParticipantsResponse
	if w.ok("ListParticipants", &wire.ListParticipantsRequest{Room: "r"}, &list); len(list.Participants) != 2 || list.Participants[0].Tracks[0].Sid != video.Sid {
		t.Errorf("participants: %v", &list)
	}
	if w.ok("ListParticipants", &wire.ListParticipantsRequest{Room: "none"}, &list); len(list.Participants) != 0 {
		t.Errorf("participants of no room: %v", &list)
	}
	var info wire.ParticipantInfo
	if w.ok("GetParticipant", &wire.RoomParticipantIdentity{Room: "r", Identity: "ann"}, &info); info.Sid != ann.id || info.Name != "Name of ann" {
		t.Errorf("ann is %v", &info)
	}

	// Muting: the publisher is asked, the others see it. Unmuting is refused.
	var muted wire.MuteRoomTrackResponse
	if w.ok("MutePublishedTrack", &wire.MuteRoomTrackRequest{Room: "r", Identity: "ann", TrackSid: video.Sid, Muted: true}, &muted); !muted.Track.GetMuted() {
		t.Errorf("muted: %v", &muted)
	}
	ann.until("mute", func(m *wire.SignalResponse) bool { return m.GetMute().GetSid() == video.Sid && m.GetMute().GetMuted() })
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.Tracks[0].Muted })
	unmute := &wire.MuteRoomTrackRequest{Room: "r", Identity: "ann", TrackSid: video.Sid}
	if code := w.call("MutePublishedTrack", admin("r"), unmute, &muted); code != twirp.FailedPrecondition {
		t.Errorf("unmuted from afar: %q", code)
	}
	unmute.Identity = "bob"
	if code := w.call("MutePublishedTrack", admin("r"), unmute, &muted); code != twirp.NotFound {
		t.Errorf("another's track: %q", code)
	}

	// Subscriptions.
	w.ok("UpdateSubscriptions", &wire.UpdateSubscriptionsRequest{Room: "r", Identity: "bob", TrackSids: []string{video.Sid}}, &wire.UpdateSubscriptionsReply{})
	media := bob.media()
	eventually(t, "bob is unsubscribed", func() bool { return media.did("unsubscribe " + video.Sid) })

	// What is shown, and what is allowed; the next token says so.
	w.ok("UpdateParticipant", &wire.UpdateParticipantRequest{
		Room: "r", Identity: "ann", Name: "Ann", Metadata: "m", Attributes: map[string]string{"a": "b"},
		Permission: &wire.ParticipantPermission{CanSubscribe: true, CanUpdateMetadata: true, CanPublishSources: []wire.TrackSource{wire.SourceMicrophone}},
	}, &info)
	if info.Name != "Ann" || info.Metadata != "m" || info.Attributes["a"] != "b" || info.Permission.CanPublish || !info.Permission.CanUpdateMetadata || len(info.Tracks) != 0 {
		t.Errorf("ann is now %v", &info)
	}
	ann.until("the end of her track", func(m *wire.SignalResponse) bool { return m.GetTrackUnpublished().GetTrackSid() == video.Sid })
	fresh := ann.until("a token", func(m *wire.SignalResponse) bool { return m.GetRefreshToken() != "" }).GetRefreshToken()
	claims, err := wire.Verify(fresh, testKeys)
	if err != nil || claims.Name != "Ann" || claims.Metadata != "m" || claims.Video.MayPublish() || !claims.Video.MayUpdateOwnMetadata() || len(claims.Video.CanPublishSources) != 1 {
		t.Errorf("the new token says %+v, %v", claims, err)
	}
	// A client that took no notice, and lists the track when it resumes, is told again.
	ann.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
		PublishTracks: []*wire.TrackPublishedResponse{{Track: &wire.TrackInfo{Sid: video.Sid}}},
	}}})
	ann.until("the end of her track again", func(m *wire.SignalResponse) bool { return m.GetTrackUnpublished().GetTrackSid() == video.Sid })
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.Name == "Ann" && len(p.Tracks) == 0 })
	// Empty fields change nothing, "" deletes an attribute.
	w.ok("UpdateParticipant", &wire.UpdateParticipantRequest{Room: "r", Identity: "ann", Attributes: map[string]string{"a": ""}}, &info)
	if info.Name != "Ann" || info.Permission.CanPublish || len(info.Attributes) != 0 {
		t.Errorf("ann is now %v", &info)
	}
	if code := w.call("UpdateParticipant", admin("r"), &wire.UpdateParticipantRequest{Room: "r", Identity: "ann", Metadata: strings.Repeat("x", 65<<10)}, &info); code != twirp.InvalidArgument {
		t.Errorf("large metadata: %q", code)
	}

	// Removing: the client hears why; its old token is worth nothing any more, a new one is.
	old := token(t, "r", "bob", nil)
	w.ok("RemoveParticipant", &wire.RoomParticipantIdentity{Room: "r", Identity: "bob", RevokeTokenTs: time.Now().Unix() + 1}, &wire.RemoveParticipantResponse{})
	if _, _, leave := bob.closed(); leave.GetReason() != wire.ReasonParticipantRemoved || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("bob leaves with %v", leave)
	}
	ws, _, err := w.dial(old, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, leave := (&peer{t: t, w: w.world, ws: ws}).closed(); leave.GetReason() != wire.ReasonParticipantRemoved {
		t.Errorf("the old token: %v", leave)
	}
	w.ok("RemoveParticipant", &wire.RoomParticipantIdentity{Room: "r", Identity: "ann"}, &wire.RemoveParticipantResponse{})
	w.join("r", "ann", nil, nil) // with a token of this second
	if code := w.call("RemoveParticipant", admin("r"), &wire.RoomParticipantIdentity{Room: "r", Identity: "bob"}, &info); code != twirp.NotFound {
		t.Errorf("removed twice: %q", code)
	}
}

func TestAPISendsData(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann, bob := w.join("r", "ann", nil, nil), w.join("r", "bob", nil, nil)
	got := func(p *peer, n int) []*wire.DataPacket {
		media := p.media()
		eventually(t, "data", func() bool { media.mu.Lock(); defer media.mu.Unlock(); return len(media.data) >= n })
		media.mu.Lock()
		defer media.mu.Unlock()
		var out []*wire.DataPacket
		for _, b := range media.data {
			packet, err := wire.DecodeData(b)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, packet)
		}
		return out
	}
	send := func(m *wire.SendDataRequest) {
		m.Room, m.Topic = "r", ptr("topic")
		w.ok("SendData", m, &wire.SendDataResponse{})
	}
	send(&wire.SendDataRequest{Data: []byte("to ann"), DestinationIdentities: []string{"ann"}})
	send(&wire.SendDataRequest{Data: []byte("to bob"), DestinationSids: []string{bob.id}, Kind: wire.DataLossy})
	send(&wire.SendDataRequest{Data: []byte("to nobody"), DestinationSids: []string{"PA_gone"}})
	send(&wire.SendDataRequest{Data: []byte("to all")})
	for p, first := range map[*peer]string{ann: "to ann", bob: "to bob"} {
		packets := got(p, 2)
		if len(packets) != 2 || string(packets[0].GetUser().GetPayload()) != first || string(packets[1].GetUser().GetPayload()) != "to all" ||
			packets[1].GetUser().GetTopic() != "topic" || packets[0].ParticipantIdentity != "" {
			t.Errorf("received %v", packets)
		}
	}
	if code := w.call("SendData", admin("r"), &wire.SendDataRequest{Room: "r", Data: make([]byte, 64<<10)}, &wire.SendDataResponse{}); code != twirp.InvalidArgument {
		t.Errorf("too large: %q", code)
	}
}

func TestAPICallsClients(t *testing.T) {
	w := newAPIWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	media := ann.media()
	// answer answers the nth call.
	answer := func(n int, reply func(id string)) {
		go func() {
			eventually(t, "the call", func() bool { media.mu.Lock(); defer media.mu.Unlock(); return len(media.data) >= n })
			media.mu.Lock()
			packet, err := wire.DecodeData(media.data[n-1])
			media.mu.Unlock()
			if err != nil || packet.GetRpcRequest().GetMethod() != "add" || packet.GetRpcRequest().GetVersion() != 1 {
				t.Errorf("called with %v, %v", packet, err)
			}
			reply(packet.GetRpcRequest().GetId())
		}()
	}
	say := func(m *wire.DataPacket) {
		b, err := wire.EncodeData(m)
		if err != nil {
			t.Error(err)
		}
		media.cfg.Notify(DataReceived{Reliable: true, Payload: b})
	}
	request := &wire.PerformRPCRequest{Room: "r", DestinationIdentity: "ann", Method: "add", Payload: "1,2"}
	var got wire.PerformRPCResponse
	answer(1, func(id string) {
		say(&wire.DataPacket{Value: &wire.DataRPCAck{RpcAck: &wire.RPCAck{RequestId: id}}})
		say(&wire.DataPacket{Value: &wire.DataRPCResponse{RpcResponse: &wire.RPCResponse{RequestId: id, Value: &wire.RPCPayload{Payload: "3"}}}})
	})
	if w.ok("PerformRpc", request, &got); got.Payload != "3" {
		t.Errorf("answered %v", &got)
	}
	answer(2, func(id string) {
		say(&wire.DataPacket{Value: &wire.DataRPCResponse{RpcResponse: &wire.RPCResponse{RequestId: id, Value: &wire.RPCFailure{Error: &wire.RPCError{Code: 1500, Message: "no"}}}}})
	})
	body, _ := protojson.Marshal(request)
	status, header, text := w.post("/twirp/livekit.RoomService/PerformRpc", "application/json", w.bearer(admin("r")), string(body))
	if code := w.code("PerformRpc", status, header, text); code != twirp.Aborted || !bytes.Contains(text, []byte(`"rpc_error_code":"1500"`)) {
		t.Errorf("failed with %s", text)
	}
	answer(3, func(string) { w.srv.RemoveParticipant("r", "ann", wire.ReasonParticipantRemoved) })
	if code := w.call("PerformRpc", admin("r"), request, &got); code != twirp.Unavailable {
		t.Errorf("who left answered %q", code)
	}
	bob := w.join("r", "bob", nil, nil)
	request.DestinationIdentity, request.ResponseTimeoutMs = "bob", 10
	if code := w.call("PerformRpc", admin("r"), request, &got); code != twirp.DeadlineExceeded {
		t.Errorf("silence is %q", code)
	}
	_ = bob
}

// TestAPISpeaksJSON pins the form of JSON answers: the schema's names, every field, 64-bit numbers
// as texts.
func TestAPISpeaksJSON(t *testing.T) {
	w := newAPIWorld(t, nil)
	status, header, body := w.post("/twirp/livekit.RoomService/CreateRoom", "application/json;charset=UTF-8", w.bearer(admin("")),
		`{"name":"r","emptyTimeout":60,"max_participants":3}`)
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil || status != http.StatusOK || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", status, header, body)
	}
	if got["empty_timeout"] != 60.0 || got["max_participants"] != 3.0 || got["metadata"] != "" || got["num_participants"] != 0.0 {
		t.Errorf("%s", body)
	}
	if _, text := got["creation_time"].(string); !text {
		t.Errorf("creation_time is %v", got["creation_time"])
	}
}

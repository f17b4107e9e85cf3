package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anytime/signaling"
	"anytime/signaling/client"
	"anytime/signaling/wire"
)

// Each of these tests is named after something that an SDK relies on and that the schema does not say.

// fetched is a GET that keeps no connection.
func fetched(t *testing.T, url, token string) (status int, body string, header http.Header) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), resp.Header
}

func roomToken(t *testing.T, identity string) string {
	t.Helper()
	token, err := wire.Mint(roomKey, roomSecret, wire.Claims{Identity: identity, Video: wire.Grant{RoomJoin: true, Room: "room"}}, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestContractFallsBackToTwoPeerConnections: JavaScript asks /rtc/v1/validate after a failed upgrade, Rust looks at the
// upgrade's own status. Where both are 404 they take two peer connections.
func TestContractFallsBackToTwoPeerConnections(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/rtc/v1") {
			http.NotFound(w, req)
			return
		}
		r.sig.Handler().ServeHTTP(w, req)
	}))
	t.Cleanup(old.Close)
	ann := r.join(ctx, "ann", nil)
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	for _, name := range []string{"js", "js firefox", "react native", "rust", "node", "swift single"} {
		bob := r.join(ctx, "bob", func(c *client.Config, claims *wire.Claims) {
			as(profile(t, name))(c, claims)
			c.URL = old.URL
		})
		if !bob.JoinResponse().SubscriberPrimary {
			t.Errorf("%s has not fallen back", name)
		}
		hears(ctx, t, byID(ctx, t, bob, audio.ID())[audio.ID()], 'a', 5)
		bob.Close()
	}
}

// TestContractARoomThatIsOverIsNoMissingPath: its 404 has words that SDKs know, or they would try for ever.
func TestContractARoomThatIsOverIsNoMissingPath(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, func(c *signaling.Config) {
		c.Authorize = func(context.Context, wire.Claims, signaling.Occasion) (signaling.Admission, error) {
			return signaling.Admission{}, &signaling.Refusal{Status: http.StatusNotFound, Text: "the call is over"}
		}
	})
	js := profile(t, "js")
	_, err := client.Join(ctx, client.Config{URL: r.url, Token: roomToken(t, "ann"), Profile: &js})
	var refused *client.UpgradeError
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || !strings.Contains(refused.Text, "requested room does not exist") {
		t.Errorf("the refusal is %v", err)
	}
}

// TestContractValidateNeverSays404ToAGoodToken: livekit-client would ask for ever.
func TestContractValidateNeverSays404ToAGoodToken(t *testing.T) {
	r := newTestRooms(t, nil)
	request, err := wire.EncodeJoinRequest(&wire.JoinRequest{}, true)
	if err != nil {
		t.Fatal(err)
	}
	token := roomToken(t, "ann")
	for _, path := range []string{"/rtc/validate?", "/rtc/validate?auto_subscribe=1&protocol=17", "/rtc/v1/validate?join_request=" + request, "/rtc/validate?&join_request=" + request} {
		status, text, header := fetched(t, r.url+path+"&access_token="+token, "")
		if status != 200 || text != "success" || header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %q", path, status, text)
		}
		if status, text, _ := fetched(t, r.url+path, token); status != 200 || text != "success" {
			t.Errorf("%s with a header: %d %q", path, status, text)
		}
		for what, bad := range map[string]string{"no token": "", "a bad one": "&access_token=" + token + "x"} {
			if status, _, header := fetched(t, r.url+path+bad, ""); status != 401 || header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s with %s: %d", path, what, status)
			}
		}
	}
}

// TestContractTheRootAnswers: the JavaScript SDK probes it to find out whether it is online.
func TestContractTheRootAnswers(t *testing.T) {
	out, _ := started(t, anywhere(filepath.Join(t.TempDir(), "data")))
	base := urlOf(t, out)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		request, err := http.NewRequest(method, base+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s /: %d", method, resp.StatusCode)
		}
	}
}

// TestContractFirstFrame: join, reconnect on a resume, or leave.
func TestContractFirstFrame(t *testing.T) {
	for _, name := range []string{"js", "js dual"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			rec := newRecorder()
			ann := r.join(ctx, "ann", rec.record(as(profile(t, name))))
			if first := rec.kinds()[0]; first != "join" {
				t.Errorf("the first frame is %s", first)
			}
			ann.Cut()
			wait(ctx, t, ann, "the loss", func(s client.State) bool { return s.SignalLost })
			before := len(rec.all())
			if err := ann.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if first := rec.kinds()[before]; first != "reconnect" {
				t.Errorf("the first frame of a resume is %s", first)
			}
			r.sig.RemoveParticipant("room", "ann", wire.ReasonParticipantRemoved)
			wait(ctx, t, ann, "the removal", func(s client.State) bool { return s.Left != nil })
			before = len(rec.all())
			var leave *client.LeaveError
			if err := ann.Resume(ctx); !errors.As(err, &leave) {
				t.Errorf("resumed: %v", err)
			}
			if kinds := rec.kinds()[before:]; !slices.Equal(kinds, []string{"leave"}) {
				t.Errorf("a resume that can't be: %v", kinds)
			}
		})
	}
}

// TestContractJoinResponse: SDKs read the version for what a server can, and ping as they are told.
func TestContractJoinResponse(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	for _, mode := range []func(*client.Config, *wire.Claims){nil, bundled} {
		j := r.join(ctx, "ann", mode).JoinResponse()
		if v := j.GetServerInfo().GetVersion(); v == "" || v != j.ServerVersion || v < "1.8.0" || len(v) != 5 {
			t.Errorf("server_info.version is %q, server_version %q", v, j.ServerVersion)
		}
		if j.GetServerInfo().GetProtocol() < 16 || j.GetServerInfo().GetNodeId() == "" {
			t.Errorf("server_info is %v", j.ServerInfo)
		}
		if j.PingInterval != 5 || j.PingTimeout != 15 {
			t.Errorf("pings every %d s, given up after %d s", j.PingInterval, j.PingTimeout)
		}
		if !strings.HasPrefix(j.Room.Sid, "RM_") || j.Room.Name != "room" || !near(j.Room.CreationTimeMs) || j.Room.CreationTime*1000 > j.Room.CreationTimeMs {
			t.Errorf("the room is %v", j.Room)
		}
		p := j.Participant
		if !strings.HasPrefix(p.Sid, "PA_") || p.Identity != "ann" || p.State != wire.StateJoined || p.Version == 0 || !near(p.JoinedAtMs) ||
			!p.Permission.CanPublish || !p.Permission.CanSubscribe || !p.Permission.CanPublishData {
			t.Errorf("the participant is %v", p)
		}
		if len(j.EnabledPublishCodecs) == 0 || j.ClientConfiguration == nil {
			t.Errorf("no codecs or no client configuration: %v", j)
		}
	}
}

// TestContractBothPings: in milliseconds; JavaScript sends one kind, others the other.
func TestContractBothPings(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", rec.record(signalOnly))
	sent := time.Now().UnixMilli()
	for _, m := range []*wire.SignalRequest{
		{Message: &wire.RequestPing{Ping: sent}},
		{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: sent, Rtt: 7}}},
	} {
		if err := ann.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, m := rec.await(ctx, t, "pong", 0, func(m *wire.SignalResponse) bool { return wire.ResponseKind(m) == "pong" }); !near(m.GetPong()) {
		t.Errorf("pong is %d", m.GetPong())
	}
	_, m := rec.await(ctx, t, "pong_resp", 0, func(m *wire.SignalResponse) bool { return m.GetPongResp() != nil })
	if p := m.GetPongResp(); p.LastPingTimestamp != sent || !near(p.Timestamp) {
		t.Errorf("pong_resp is %v", p)
	}
}

// TestContractFirstSubscriberOfferFollowsTheJoin: with the server's data channels, unasked.
func TestContractFirstSubscriberOfferFollowsTheJoin(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	r.join(ctx, "ann", rec.record(signalOnly))
	_, m := rec.await(ctx, t, "an offer", 0, func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	if o := m.GetOffer(); o.Type != "offer" || o.Id == 0 || !strings.Contains(o.Sdp, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel") {
		t.Errorf("the offer is %v", o)
	}
}

// TestContractOneOfferIsOutstanding: a client that takes its time is not offered more meanwhile.
func TestContractOneOfferIsOutstanding(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(signalOnly))
	ann := r.join(ctx, "ann", nil)
	for range 3 {
		publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	}
	wait(ctx, t, bob, "ann's tracks", func(s client.State) bool { return len(s.Participants["ann"].GetTracks()) == 3 })
	eve := r.join(ctx, "eve", nil) // by the time that she has them, bob would have been offered them too
	for range 3 {
		if _, err := eve.NextTrack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	answered(ctx, t, bob, rec)
	offers := slices.DeleteFunc(slices.Clone(rec.kinds()), func(kind string) bool { return kind != "offer" })
	if len(offers) != 1 {
		t.Errorf("%d offers while the first is unanswered", len(offers))
	}
}

// TestContractSubscriberPrimary: from protocol 3 on, for who may subscribe; a single peer connection has the publisher's role.
func TestContractSubscriberPrimary(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	for _, c := range []struct {
		protocol  int
		subscribe bool
		single    bool
		want      bool
	}{{1, true, false, false}, {2, true, false, false}, {3, true, false, true}, {17, true, false, true}, {17, false, false, false}, {17, true, true, false}} {
		ann := r.join(ctx, "ann", func(cfg *client.Config, claims *wire.Claims) {
			cfg.SignalOnly, cfg.Protocol, cfg.Single, claims.Video.CanSubscribe = true, c.protocol, c.single, &c.subscribe
		})
		if got := ann.JoinResponse().SubscriberPrimary; got != c.want {
			t.Errorf("protocol %d, may subscribe %v, single %v: %v", c.protocol, c.subscribe, c.single, got)
		}
		ann.Close()
	}
}

// TestContractIDs: SDKs test the prefixes, and read participant, stream and track from the msid.
func TestContractIDs(t *testing.T) {
	for _, name := range []string{"js", "js dual"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann := r.join(ctx, "ann", nil)
			bob := r.join(ctx, "bob", as(profile(t, name)))
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			track := byID(ctx, t, bob, audio.ID())[audio.ID()]
			if !strings.HasPrefix(bob.JoinResponse().Room.Sid, "RM_") || !strings.HasPrefix(track.Participant, "PA_") ||
				!strings.HasPrefix(track.ID, "TR_") || track.Participant != ann.ID() || track.Stream == "" {
				t.Errorf("room %s, participant %s, stream %s, track %s", bob.JoinResponse().Room.Sid, track.Participant, track.Stream, track.ID)
			}
		})
	}
}

// TestContractUpdatePrecedesItsTrack: JavaScript drops tracks of participants, and media of tracks, that it doesn't know.
func TestContractUpdatePrecedesItsTrack(t *testing.T) {
	for _, name := range []string{"js", "js dual"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, func(c *signaling.Config) {
				c.Limits.Room.CoalesceAbove, c.Limits.Room.CoalesceInterval = 1, 10*time.Second // updates wait, if they may
			})
			rec := newRecorder()
			bob := r.join(ctx, "bob", rec.record(as(profile(t, name))))
			ann := r.join(ctx, "ann", nil)
			audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
			byID(ctx, t, bob, audio.ID())
			told, _ := rec.await(ctx, t, "the update", 0, func(m *wire.SignalResponse) bool {
				return slices.ContainsFunc(m.GetUpdate().GetParticipants(), func(p *wire.ParticipantInfo) bool {
					return p.Sid == ann.ID() && slices.ContainsFunc(p.Tracks, func(track *wire.TrackInfo) bool { return track.Sid == audio.ID() })
				})
			})
			described, _ := rec.await(ctx, t, "the description", 0, func(m *wire.SignalResponse) bool {
				return strings.Contains(m.GetOffer().GetSdp()+m.GetAnswer().GetSdp(), audio.ID())
			})
			if told > described {
				t.Errorf("message %d tells of the track, message %d describes it: %v", told, described, rec.kinds())
			}
		})
	}
}

// TestContractVersionsGrow: clients drop updates with a version that they had.
func TestContractVersionsGrow(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	bob := r.join(ctx, "bob", rec.record(nil))
	ann := r.join(ctx, "ann", nil)
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	for _, muted := range []bool{true, false, true} {
		if err := audio.SetMuted(muted); err != nil {
			t.Fatal(err)
		}
	}
	ann.Close()
	wait(ctx, t, bob, "ann's leave", func(s client.State) bool { return s.Participants["ann"] == nil })
	rec.await(ctx, t, "the end of ann", 0, func(m *wire.SignalResponse) bool {
		return slices.ContainsFunc(m.GetUpdate().GetParticipants(), func(p *wire.ParticipantInfo) bool {
			return p.Sid == ann.ID() && p.State == wire.StateDisconnected
		})
	})
	last, told := uint32(0), 0
	for _, m := range rec.all() {
		for _, p := range m.GetUpdate().GetParticipants() {
			if p.Sid != ann.ID() {
				continue
			}
			told++
			if p.Version <= last {
				t.Errorf("version %d after %d: %v", p.Version, last, p)
			}
			last = p.Version
		}
	}
	if told < 5 {
		t.Errorf("%d updates, want one for each change", told)
	}
}

// TestContractHiddenIsNeverShown to anybody but itself.
func TestContractHiddenIsNeverShown(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", rec.record(nil))
	ghost := r.join(ctx, "ghost", func(_ *client.Config, claims *wire.Claims) { claims.Video.Hidden = true })
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone})
	hears(ctx, t, byID(ctx, t, ghost, audio.ID())[audio.ID()], 'a', 5) // it hears all the same
	bob := r.join(ctx, "bob", rec.record(nil))
	if others := bob.JoinResponse().OtherParticipants; len(others) != 1 || others[0].Identity != "ann" {
		t.Errorf("bob was told of %v", others)
	}
	if n := bob.JoinResponse().Room.NumParticipants; n > 2 {
		t.Errorf("the room says that %d are in it", n)
	}
	ghost.Cut() // its connection quality is nobody's business either
	wait(ctx, t, ghost, "the loss", func(s client.State) bool { return s.SignalLost })
	if err := ghost.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	answered(ctx, t, bob, rec)
	for _, m := range rec.all() {
		if strings.Contains(m.String(), ghost.ID()) || strings.Contains(m.String(), "ghost") {
			t.Errorf("%s tells of the hidden one: %v", wire.ResponseKind(m), m)
		}
	}
}

// TestContractTrackPublishedComesBeforeMedia: SDKs wait for it before they offer; and the others aren't told yet.
func TestContractTrackPublishedComesBeforeMedia(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	bob := r.join(ctx, "bob", nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", rec.record(signalOnly))
	if err := ann.Send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: "my-cid", Name: "cam", Type: wire.TrackVideo, Source: wire.SourceCamera, Width: 1280, Height: 720,
	}}}); err != nil {
		t.Fatal(err)
	}
	_, m := rec.await(ctx, t, "track_published", 0, func(m *wire.SignalResponse) bool { return m.GetTrackPublished() != nil })
	if p := m.GetTrackPublished(); p.Cid != "my-cid" || !strings.HasPrefix(p.Track.Sid, "TR_") || p.Track.Name != "cam" || p.Track.Source != wire.SourceCamera || p.Track.Width != 1280 {
		t.Errorf("the answer is %v", p)
	}
	wait(ctx, t, bob, "ann", func(s client.State) bool { return s.Participants["ann"] != nil })
	if tracks := bob.State().Participants["ann"].Tracks; len(tracks) != 0 {
		t.Errorf("bob sees %v before any media", tracks)
	}
}

// TestContractCIDFallsBackToTheKind: Firefox's and the ESP32's track ids aren't those in their session description.
func TestContractCIDFallsBackToTheKind(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	ann := r.join(ctx, "ann", nil)
	bob := r.join(ctx, "bob", nil)
	audio := publishSource(ctx, t, ann, 'a', client.PublishOptions{Codec: client.Opus, Source: wire.SourceMicrophone, CID: "{another id}"})
	video := publishSource(ctx, t, ann, 'A', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, CID: "{and another}"})
	tracks := byID(ctx, t, bob, audio.ID(), video.ID())
	hears(ctx, t, tracks[audio.ID()], 'a', 5)
	sees(ctx, t, tracks[video.ID()], 'A', 2)
}

// TestContractSimulcastRids: q, h and f, from the lowest quality to the highest.
func TestContractSimulcastRids(t *testing.T) {
	for _, name := range []string{"js", "js dual"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann := r.join(ctx, "ann", as(profile(t, name)))
			video := publishSource(ctx, t, ann, '0', client.PublishOptions{Codec: client.VP8, Source: wire.SourceCamera, Layers: []*wire.VideoLayer{
				{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityMedium, Width: 640, Height: 360},
				{Quality: wire.QualityHigh, Width: 1280, Height: 720},
			}})
			bob := r.join(ctx, "bob", nil)
			track := byID(ctx, t, bob, video.ID())[video.ID()]
			for quality, tag := range map[wire.VideoQuality]byte{wire.QualityLow: '0', wire.QualityMedium: '1', wire.QualityHigh: '2'} {
				if err := bob.Configure(&wire.UpdateTrackSettings{TrackSids: []string{video.ID()}, Quality: quality}); err != nil {
					t.Fatal(err)
				}
				sees(ctx, t, track, tag, 3)
			}
			//lint:ignore SA1019 older SDKs read the layers here
			if layers := bob.State().Participants["ann"].Tracks[0].Layers; len(layers) != 3 {
				t.Errorf("bob was told of the layers %v", layers)
			}
		})
	}
}

// TestContractMutedTracksReachGoClients: Pion tells of a track at its first packet, which a muted one doesn't send.
func TestContractMutedTracksReachGoClients(t *testing.T) {
	for _, name := range []string{"go", "go single"} {
		t.Run(name, func(t *testing.T) {
			ctx := roomContext(t)
			r := newTestRooms(t, nil)
			ann := r.join(ctx, "ann", nil)
			var ids []string
			for _, o := range []client.PublishOptions{
				{Codec: client.Opus, Source: wire.SourceMicrophone, Muted: true}, {Codec: client.VP8, Source: wire.SourceCamera, Muted: true},
			} {
				p, err := ann.Publish(ctx, o) // not a packet follows
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, p.ID())
			}
			byID(ctx, t, r.join(ctx, "bob", as(profile(t, name))), ids...)
		})
	}
}

// TestContractUnknownMessagesAreIgnored: those of newer SDKs, and newer fields of known ones.
func TestContractUnknownMessagesAreIgnored(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	rec := newRecorder()
	ann := r.join(ctx, "ann", rec.record(signalOnly))
	newer := &wire.SignalRequest{}
	newer.ProtoReflect().SetUnknown([]byte{0xca, 0x3e, 3, 1, 2, 3}) // field 1001, three bytes
	mute := &wire.SignalRequest{Message: &wire.RequestPingReq{PingReq: &wire.Ping{Timestamp: 5}}}
	mute.GetPingReq().ProtoReflect().SetUnknown([]byte{0xca, 0x3e, 3, 1, 2, 3})
	for _, m := range []*wire.SignalRequest{newer, mute, {}} {
		if err := ann.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	rec.await(ctx, t, "pong_resp", 0, func(m *wire.SignalResponse) bool { return m.GetPongResp().GetLastPingTimestamp() == 5 })
	answered(ctx, t, ann, rec)
	if n := len(ann.State().Refused); n != 1 { // the marker of answered
		t.Errorf("%d refusals: %v", n, ann.State().Refused)
	}
}

// TestContractOddQueries: what an SDK adds to its query does not keep it out.
func TestContractOddQueries(t *testing.T) {
	ctx := roomContext(t)
	r := newTestRooms(t, nil)
	for name, q := range map[string]url.Values{
		"flags as words": {"auto_subscribe": {"false"}, "adaptive_stream": {"true"}},
		"newer ones":     {"capabilities": {"CAP_PACKET_TRAILER"}, "no_such_parameter": {"1"}},
		"odd numbers":    {"client_protocol": {"9"}, "protocol": {"99"}, "reconnect_reason": {"4"}},
		"an odd SDK":     {"sdk": {"toaster"}, "version": {"β"}, "network": {"wired"}, "device_model": {"3"}},
	} {
		ann, err := client.Join(ctx, client.Config{URL: r.url, Token: roomToken(t, "ann"), SignalOnly: true, Query: q})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ann.Close()
	}
}

package signaling

//lint:file-ignore SA1019 older SDKs read and write the deprecated fields that are tested here

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/signaling/wire"
)

// TestEveryRequestHasAHandlerOrARefusal pins the table against the schema.
func TestEveryRequestHasAHandlerOrARefusal(t *testing.T) {
	elsewhere := []string{"ping", "ping_req"} // conn answers them
	refused := []string{
		"publish_data_track_request", "unpublish_data_track_request", "update_data_subscription",
		"store_data_blob_request", "get_data_blob_request",
	}
	for _, kind := range wire.RequestKinds() {
		_, handled := handlers[kind]
		if want := !slices.Contains(elsewhere, kind) && !slices.Contains(refused, kind); handled != want {
			t.Errorf("%s: handled is %v", kind, handled)
		}
	}
	for kind := range handlers {
		if !slices.Contains(wire.RequestKinds(), kind) {
			t.Errorf("%s is no request", kind)
		}
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	ann.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: "cid-v", Name: "camera", Type: wire.TrackVideo, Source: wire.SourceCamera, Width: 1280, Height: 720,
		Layers:          []*wire.VideoLayer{{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityHigh, Width: 1280, Height: 720}},
		SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "vp8", Cid: "cid-v"}},
	}}})
	// The answer comes at once, before any media.
	info := ann.until("track_published", func(m *wire.SignalResponse) bool { return m.GetTrackPublished() != nil }).GetTrackPublished().GetTrack()
	if !strings.HasPrefix(info.Sid, "TR_") || info.Name != "camera" || info.Width != 1280 || len(info.Layers) != 2 ||
		!info.Simulcast || len(info.Codecs) != 1 || info.Codecs[0].MimeType != "video/vp8" || info.Stream != "camera" {
		t.Errorf("track is %v", info)
	}
	ann.offer("cid-v")
	seen := bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
	if !seen.IsPublisher || seen.Tracks[0].Sid != info.Sid || !strings.EqualFold(seen.Tracks[0].MimeType, "video/VP8") {
		t.Errorf("bob sees %v", seen)
	}
	ann.until("track_subscribed", func(m *wire.SignalResponse) bool { return m.GetTrackSubscribed().GetTrackSid() == info.Sid })
	media := w.media.peer(bob.id)

	bob.send(&wire.SignalRequest{Message: &wire.RequestTrackSetting{TrackSetting: &wire.UpdateTrackSettings{
		TrackSids: []string{info.Sid}, Width: 320, Height: 180, Fps: 15, Priority: 2,
	}}})
	eventually(t, "settings", func() bool { return media.did("configure " + info.Sid) })
	media.mu.Lock()
	if got := media.settings[info.Sid]; got != (SubscriptionSettings{Width: 320, Height: 180, FPS: 15, Priority: 2}) {
		t.Errorf("settings are %+v", got)
	}
	media.mu.Unlock()

	ann.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: info.Sid, Muted: true}}})
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.Tracks[0].Muted })
	eventually(t, "the SFU knows", func() bool { return w.media.peer(ann.id).did("mute " + info.Sid) })

	// livekit-client names a track in both lists.
	bob.send(&wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: &wire.UpdateSubscription{
		TrackSids: []string{info.Sid}, ParticipantTracks: []*wire.ParticipantTracks{{ParticipantSid: ann.id, TrackSids: []string{info.Sid}}},
	}}})
	eventually(t, "unsubscribed", func() bool { return media.did("unsubscribe " + info.Sid) })

	ann.send(&wire.SignalRequest{Message: &wire.RequestUpdateVideoTrack{UpdateVideoTrack: &wire.UpdateLocalVideoTrack{
		TrackSid: info.Sid, Width: 640, Height: 360,
	}}})
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return p.Tracks[0].Width == 640 && p.Tracks[0].Height == 360 })

	ann.offer() // without the track
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 0 })
}

func TestRefusedRequests(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.Tracks = 1 })
	ann := w.join("r", "ann", func(c *wire.Claims) { c.Video.CanPublishSources = []string{"microphone"} }, nil)
	deaf := w.join("r", "deaf", func(c *wire.Claims) {
		c.Video.CanSubscribe, c.Video.CanPublish = ptr(false), ptr(false)
	}, nil)
	add := func(change func(*wire.AddTrackRequest)) *wire.SignalRequest {
		r := &wire.AddTrackRequest{Cid: "c", Type: wire.TrackAudio, Source: wire.SourceMicrophone}
		change(r)
		return &wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: r}}
	}
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		who    *peer
		m      *wire.SignalRequest
		reason wire.RequestReason
		text   string
	}{
		{"may not publish", deaf, add(func(*wire.AddTrackRequest) {}), wire.RequestNotAllowed, "may not publish"},
		{"source not granted", ann, add(func(r *wire.AddTrackRequest) { r.Source = wire.SourceScreenShare }), wire.RequestNotAllowed, "source"},
		{"no cid", ann, add(func(r *wire.AddTrackRequest) { r.Cid = "" }), wire.RequestInvalid, "cid"},
		{"long cid", ann, add(func(r *wire.AddTrackRequest) { r.Cid = long }), wire.RequestLimitExceeded, "cid"},
		{"long name", ann, add(func(r *wire.AddTrackRequest) { r.Name = long }), wire.RequestLimitExceeded, "name"},
		{"long stream", ann, add(func(r *wire.AddTrackRequest) { r.Stream = long }), wire.RequestLimitExceeded, "stream"},
		{"many layers", ann, add(func(r *wire.AddTrackRequest) { r.Layers = make([]*wire.VideoLayer, 9) }), wire.RequestInvalid, ""},
		{"data", ann, add(func(r *wire.AddTrackRequest) { r.Type = wire.TrackData }), wire.RequestUnsupportedType, "audio or video"},
		{"odd source", ann, add(func(r *wire.AddTrackRequest) { r.Source = 77 }), wire.RequestInvalid, "source"},
		{"backup codec", ann, add(func(r *wire.AddTrackRequest) { r.Sid = "TR_x" }), wire.RequestUnsupportedType, "codec"},
		{"may not subscribe", deaf, &wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: &wire.UpdateSubscription{
			TrackSids: []string{"TR_x"}, Subscribe: true}}}, wire.RequestNotAllowed, "may not subscribe"},
		{"many subscriptions", ann, &wire.SignalRequest{Message: &wire.RequestSubscription{Subscription: &wire.UpdateSubscription{
			TrackSids: make([]string, wire.MaxSIDs+1)}}}, wire.RequestLimitExceeded, "4096"},
		{"many settings", ann, &wire.SignalRequest{Message: &wire.RequestTrackSetting{TrackSetting: &wire.UpdateTrackSettings{
			TrackSids: make([]string, wire.MaxSIDs+1)}}}, wire.RequestLimitExceeded, "4096"},
		{"unknown track muted", ann, &wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: "TR_x"}}},
			wire.RequestNotFound, "no such track"},
		{"metadata", ann, &wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
			Name: "Boss", RequestId: 3}}}, wire.RequestNotAllowed, "may not change"},
		{"voices", ann, &wire.SignalRequest{Message: &wire.RequestUpdateMetadata{UpdateMetadata: &wire.UpdateParticipantMetadata{
			Attributes: map[string]string{wire.VoicesAttribute: "17"}}}}, wire.RequestInvalid, "from 1 to 16"},
		{"garbage offer", ann, &wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: "hello"}}},
			wire.RequestInvalid, "v=0"},
		{"offer as answer", ann, &wire.SignalRequest{Message: &wire.RequestAnswer{Answer: &wire.SessionDescription{Type: "offer", Sdp: "v=0"}}},
			wire.RequestInvalid, "expected answer"},
		{"offer that makes no sense", ann, &wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{
			Type: "offer", Sdp: "v=0 garbage", Id: 4}}}, wire.RequestInvalid, "cannot be answered"},
		{"long candidate", ann, &wire.SignalRequest{Message: &wire.RequestTrickle{Trickle: &wire.TrickleRequest{
			CandidateInit: strings.Repeat("x", wire.MaxCandidateBytes+1)}}}, wire.RequestLimitExceeded, "candidate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.who.t = t
			c.who.send(c.m)
			r := c.who.until("the refusal", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil }).GetRequestResponse()
			if c.name == "many layers" {
				c.reason = wire.RequestLimitExceeded
			}
			if r.Reason != c.reason || !strings.Contains(r.Message, c.text) {
				t.Errorf("got %v %q", r.Reason, r.Message)
			}
			if c.name == "metadata" && (r.RequestId != 3 || r.GetUpdateMetadata().GetName() != "Boss") {
				t.Errorf("the refusal doesn't say what of: %v", r)
			}
			if strings.HasPrefix(c.name, "may not publish") && r.GetAddTrack().GetCid() != "c" {
				t.Errorf("the refusal doesn't say what of: %v", r)
			}
		})
	}
	ann.t = t
	ann.publish("one", wire.TrackAudio, wire.SourceMicrophone)
	ann.send(add(func(r *wire.AddTrackRequest) { r.Cid = "two" }))
	r := ann.until("the limit", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil }).GetRequestResponse()
	if r.Reason != wire.RequestLimitExceeded {
		t.Errorf("a second track: %v", r)
	}
}

func TestEndlessBadOffersEndTheSession(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	for range maxBadOffers {
		ann.send(&wire.SignalRequest{Message: &wire.RequestOffer{Offer: &wire.SessionDescription{Type: "offer", Sdp: "v=0 garbage"}}})
	}
	if _, _, leave := ann.closed(); leave.GetReason() != wire.ReasonMediaFailure {
		t.Errorf("got %v", leave)
	}
}

func TestSubscriptionThatFails(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	bob.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	media := w.media.peer(bob.id)
	media.mu.Lock()
	media.failSub = fmt.Errorf("cannot: %w", ErrCodecUnsupported)
	media.mu.Unlock()
	one := ann.publish("one", wire.TrackVideo, wire.SourceCamera)
	r := bob.until("the failure", func(m *wire.SignalResponse) bool { return m.GetSubscriptionResponse() != nil }).GetSubscriptionResponse()
	if r.TrackSid != one.Sid || r.Err != wire.SubscriptionCodecUnsupported {
		t.Errorf("got %v", r)
	}
	media.mu.Lock()
	media.failSub = nil
	media.mu.Unlock()
	two := ann.publish("two", wire.TrackVideo, wire.SourceScreenShare)
	eventually(t, "the second subscription", func() bool { return media.did("subscribe " + two.Sid) })
	media.cfg.Notify(SubscriptionFailed{TrackID: two.Sid, Err: errors.New("odd")})
	r = bob.until("the later failure", func(m *wire.SignalResponse) bool { return m.GetSubscriptionResponse() != nil }).GetSubscriptionResponse()
	if r.TrackSid != two.Sid || r.Err != wire.SubscriptionUnknown {
		t.Errorf("got %v", r)
	}
}

func TestSubscriptionPermissionIsTold(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	track := ann.publish("one", wire.TrackVideo, wire.SourceCamera)
	ann.send(&wire.SignalRequest{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: &wire.SubscriptionPermission{}}})
	u := bob.until("the permission", func(m *wire.SignalResponse) bool { return m.GetSubscriptionPermissionUpdate() != nil }).GetSubscriptionPermissionUpdate()
	if u.Allowed || u.TrackSid != track.Sid || u.ParticipantSid != ann.id {
		t.Errorf("got %v", u)
	}
	ann.send(&wire.SignalRequest{Message: &wire.RequestSubscriptionPermission{SubscriptionPermission: &wire.SubscriptionPermission{
		TrackPermissions: []*wire.TrackPermission{{ParticipantIdentity: "bob", AllTracks: true}},
	}}})
	u = bob.until("the permission", func(m *wire.SignalResponse) bool { return m.GetSubscriptionPermissionUpdate() != nil }).GetSubscriptionPermissionUpdate()
	if !u.Allowed {
		t.Errorf("got %v", u)
	}
}

func TestSpeakersReachTheRoom(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	w.srv.SpeakersChanged("RM_unknown", []Speaker{{ParticipantID: ann.id, Level: 1}})
	w.srv.SpeakersChanged(ann.joined.Room.Sid, []Speaker{{ParticipantID: ann.id, Level: 7}})
	s := bob.until("speakers", func(m *wire.SignalResponse) bool { return m.GetSpeakersChanged() != nil }).GetSpeakersChanged().GetSpeakers()
	if len(s) != 1 || s[0].Sid != ann.id || !s[0].Active || s[0].Level != 1 {
		t.Errorf("got %v", s)
	}
}

func TestRemovedByTheServer(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	if w.srv.RemoveParticipant("r", "nobody", wire.ReasonParticipantRemoved) || w.srv.RemoveParticipant("nowhere", "bob", wire.ReasonParticipantRemoved) {
		t.Error("removed who isn't there")
	}
	if !w.srv.RemoveParticipant("r", "bob", wire.ReasonParticipantRemoved) {
		t.Error("bob wasn't found")
	}
	if _, _, leave := bob.closed(); leave.GetReason() != wire.ReasonParticipantRemoved || leave.GetAction() != wire.LeaveDisconnect {
		t.Errorf("bob got %v", leave)
	}
	ann.update("bob", func(p *wire.ParticipantInfo) bool { return p.State == wire.StateDisconnected })
	if !w.srv.CloseRoom("r", wire.ReasonRoomDeleted) {
		t.Error("the room wasn't found")
	}
	if _, _, leave := ann.closed(); leave.GetReason() != wire.ReasonRoomDeleted {
		t.Errorf("ann got %v", leave)
	}
	eventually(t, "the room ends", func() bool { return len(w.srv.Rooms()) == 0 })
}

func TestDataIsStampedAndRouted(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	peers := map[string]*peer{"bob": w.join("r", "bob", nil, nil), "eve": w.join("r", "eve", nil, nil)}
	for _, p := range peers {
		p.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	}
	ann.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	from := w.media.peer(ann.id)
	seq := uint32(0)
	send := func(p *wire.DataPacket) {
		b, err := wire.EncodeData(p)
		if err != nil {
			t.Fatal(err)
		}
		from.cfg.Notify(DataReceived{Reliable: true, Payload: b})
	}
	received := func(identity string, n int) *wire.DataPacket {
		t.Helper()
		media := w.media.peer(peers[identity].id)
		eventually(t, "data for "+identity, func() bool { media.mu.Lock(); defer media.mu.Unlock(); return len(media.data) == n })
		media.mu.Lock()
		defer media.mu.Unlock()
		p, err := wire.DecodeData(media.data[n-1])
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	user := func(text string) *wire.DataUser { return &wire.DataUser{User: &wire.UserPacket{Payload: []byte(text)}} }

	seq++
	send(&wire.DataPacket{ParticipantIdentity: "king", ParticipantSid: "PA_king", Sequence: seq, Value: user("all")})
	for _, who := range []string{"bob", "eve"} {
		p := received(who, 1)
		if p.ParticipantIdentity != "ann" || p.ParticipantSid != ann.id || string(p.GetUser().Payload) != "all" || p.Sequence != 1 {
			t.Errorf("%s received %v", who, p)
		}
		if p.GetKind() != wire.DataReliable {
			t.Errorf("%s was told that reliable data is lossy", who)
		}
	}
	send(&wire.DataPacket{Sequence: seq, Value: user("a repetition after a resume")})
	send(&wire.DataPacket{Sequence: 2, DestinationIdentities: []string{"eve", "nobody"}, Value: user("eve only")})
	if p := received("eve", 2); string(p.GetUser().Payload) != "eve only" {
		t.Errorf("eve received %v", p)
	}
	old := user("old style")
	old.User.DestinationSids = []string{peers["bob"].id}
	send(&wire.DataPacket{Sequence: 3, Value: old})
	if p := received("bob", 2); string(p.GetUser().Payload) != "old style" {
		t.Errorf("bob received %v", p)
	}
	from.cfg.Notify(DataReceived{Reliable: true, Payload: []byte{0xff}}) // harms nobody
	send(&wire.DataPacket{Sequence: 4, Value: user("last")})
	received("bob", 3)
	if p := received("eve", 3); string(p.GetUser().Payload) != "last" {
		t.Errorf("eve received %v", p)
	}

	// The channel says which kind it is, whatever the packet says of itself.
	lossy, err := wire.EncodeData(&wire.DataPacket{Kind: wire.DataReliable, Value: user("lossy")})
	if err != nil {
		t.Fatal(err)
	}
	from.cfg.Notify(DataReceived{Payload: lossy})
	if p := received("bob", 4); p.GetKind() != wire.DataLossy {
		t.Errorf("bob was told that lossy data is reliable: %v", p)
	}
}

func TestDataNeedsPermission(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", func(c *wire.Claims) { c.Video.CanPublishData = ptr(false) }, nil)
	bob := w.join("r", "bob", nil, nil)
	for _, p := range []*peer{ann, bob} {
		p.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	}
	b, _ := wire.EncodeData(&wire.DataPacket{Value: &wire.DataUser{User: &wire.UserPacket{Payload: []byte("x")}}})
	w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: b})
	ann.sync()
	bob.sync()
	if w.media.peer(bob.id).did("data") {
		t.Error("data of a participant who may not send it was passed on")
	}
}

// TestSlowDataReceiverHarmsNobody: reliable data that overflows ends the receiver's session with a
// reason to come back; lossy data is dropped.
func TestSlowDataReceiverHarmsNobody(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.QueuedData = 100_000 })
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	eve := w.join("r", "eve", nil, nil)
	for _, p := range []*peer{ann, bob, eve} {
		p.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	}
	unblock := make(chan struct{})
	slow := w.media.peer(bob.id)
	slow.mu.Lock()
	slow.block = unblock
	slow.mu.Unlock()
	var once sync.Once
	release := func() { once.Do(func() { close(unblock) }) }
	defer release()
	b, _ := wire.EncodeData(&wire.DataPacket{Value: &wire.DataUser{User: &wire.UserPacket{Payload: make([]byte, 20_000)}}})
	fine := w.media.peer(eve.id)
	for i := range 20 { // lossy first: dropped
		w.media.peer(ann.id).cfg.Notify(DataReceived{Payload: b})
		eventually(t, "eve gets it", func() bool { fine.mu.Lock(); defer fine.mu.Unlock(); return len(fine.data) == i+1 })
	}
	if n := len(w.srv.Participants("r")); n != 3 {
		t.Fatalf("%d participants after lossy data", n)
	}
	// They may fill a quarter of what may wait, so that reliable data still finds room.
	for i := range 5 {
		w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: b})
		eventually(t, "eve gets it too", func() bool { fine.mu.Lock(); defer fine.mu.Unlock(); return len(fine.data) == 21+i })
		if n := len(w.srv.Participants("r")); n != 3 && i < 3 {
			t.Fatalf("%d participants after %d reliable packets", n, i+1)
		}
	}
	_, _, leave := bob.closed()
	if leave.GetAction() != wire.LeaveReconnect {
		t.Errorf("bob got %v", leave)
	}
	release()

	// The SFU's own queue may overflow as well.
	fine.mu.Lock()
	fine.failData = fmt.Errorf("full: %w", ErrOverflow)
	fine.mu.Unlock()
	w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: b})
	if _, _, leave := eve.closed(); leave.GetAction() != wire.LeaveReconnect {
		t.Errorf("eve got %v", leave)
	}
}

// TestStorm joins, leaves and publishes from many sides at once. Run with -race.
func TestStorm(t *testing.T) {
	w := newWorld(t, nil)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for n := range 4 {
				p := w.join("r", fmt.Sprint("p", i), nil, nil)
				p.publish(fmt.Sprint("cid", n), wire.TrackVideo, wire.SourceCamera)
				p.sync()
				switch n {
				case 1:
					p.ws.UnderlyingConn().Close()
					p = w.resume(p)
					p.sync()
				case 2:
					p.ws.UnderlyingConn().Close()
					continue
				}
				p.send(&wire.SignalRequest{Message: &wire.RequestLeave{Leave: &wire.LeaveRequest{}}})
				p.closed()
			}
		})
	}
	wg.Wait()
	eventually(t, "everybody is gone", func() bool { return len(w.srv.Participants("r")) == 0 })
}

// TestBackupCodecIsAdded follows livekit-client: the codec named with the track comes by an add_track
// with the track's sid once subscribed_quality_update asks for it.
func TestBackupCodecIsAdded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Room.LayerDelay = 50 * time.Millisecond })
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	layers := []*wire.VideoLayer{{Quality: wire.QualityLow, Width: 320, Height: 180}, {Quality: wire.QualityHigh, Width: 1280, Height: 720}}
	ann.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: "cid-v", Type: wire.TrackVideo, Source: wire.SourceScreenShare, Layers: layers, BackupCodecPolicy: wire.BackupSimulcast,
		SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "vp9", Cid: "cid-v"}, {Codec: "vp8"}}, Encryption: 1,
	}}})
	info := ann.until("track_published", func(m *wire.SignalResponse) bool { return m.GetTrackPublished() != nil }).GetTrackPublished().GetTrack()
	if info.MimeType != "video/vp9" || len(info.Codecs) != 2 || info.Codecs[0].Cid != "cid-v" || info.Codecs[1].MimeType != "video/vp8" ||
		info.Codecs[1].Cid != "" || len(info.Codecs[1].Layers) != 2 || info.BackupCodecPolicy != wire.BackupSimulcast || info.Encryption != 1 {
		t.Errorf("track is %v", info)
	}
	media := w.media.peer(ann.id)
	eventually(t, "the SFU knows the track", func() bool { return media.did("publish cid-v") })
	media.mu.Lock()
	pub := media.tracks[info.Sid].Publication
	media.mu.Unlock()
	if pub.MimeType != "video/vp9" || len(pub.Backups) != 1 || pub.Backups[0].MimeType != "video/vp8" || pub.Policy != EveryCodec ||
		!pub.Encrypted || !pub.Still || len(pub.Layers) != 2 {
		t.Errorf("the SFU was told %+v", pub)
	}
	ann.offer("cid-v")

	// What subscribers want: more at once, less a little later, in the names that SDKs use.
	wanted := func(layers ...int8) *wire.SubscribedQualityUpdate {
		media.cfg.Notify(LayersWanted{TrackID: info.Sid, Layers: layers})
		return ann.until("subscribed_quality_update", func(m *wire.SignalResponse) bool {
			return m.GetSubscribedQualityUpdate() != nil
		}).GetSubscribedQualityUpdate()
	}
	enabled := func(list []*wire.SubscribedQuality) (out string) {
		for _, q := range list {
			if q.Enabled {
				out += q.Quality.String()[:1]
			} else {
				out += "-"
			}
		}
		return out
	}
	for _, x := range []struct {
		layers []int8
		want   string
	}{{[]int8{2, 1}, "LMH LM-"}, {[]int8{0, 1}, "L-- LM-"}, {[]int8{-1, -1}, "--- ---"}, {[]int8{1, -1}, "LM- ---"}} {
		u := wanted(x.layers...)
		got := enabled(u.SubscribedCodecs[0].Qualities) + " " + enabled(u.SubscribedCodecs[1].Qualities)
		if u.TrackSid != info.Sid || u.SubscribedCodecs[0].Codec != "vp9" || u.SubscribedCodecs[1].Codec != "vp8" || got != x.want {
			t.Errorf("%v: told %v, want %s", x.layers, u, x.want)
		}
		if old := enabled(wire.OlderQualities(u)); old != x.want[:3] {
			t.Errorf("%v: older SDKs are told %s, want the first codec's", x.layers, old)
		}
	}

	ann.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: &wire.AddTrackRequest{
		Cid: "cid-2", Sid: info.Sid, Type: wire.TrackVideo, Layers: layers[:1], SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "vp8", Cid: "cid-2"}},
	}}})
	again := ann.until("track_published", func(m *wire.SignalResponse) bool { return m.GetTrackPublished().GetCid() == "cid-2" }).GetTrackPublished().GetTrack()
	if again.Sid != info.Sid || again.Codecs[1].Cid != "cid-2" || len(again.Codecs[1].Layers) != 1 || len(again.Codecs[0].Layers) != 2 {
		t.Errorf("track is %v", again)
	}
	eventually(t, "the SFU knows the codec", func() bool { return media.did("codec " + info.Sid + " video/vp8 cid-2") })
	media.cfg.Notify(CodecStarted{TrackID: info.Sid, Codec: 1, MimeType: "video/VP8"})
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 && p.Tracks[0].Codecs[1].Cid == "cid-2" })
	media.cfg.Notify(CodecEnded{TrackID: info.Sid, Codec: 1})
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 && p.Tracks[0].Codecs[1].Cid == "" })

	// Streams and connections.
	at := w.media.peer(bob.id)
	eventually(t, "bob's subscription", func() bool { return at.did("subscribe " + info.Sid) })
	for paused, state := range map[bool]int32{true: int32(wire.StreamPaused), false: int32(wire.StreamActive)} {
		at.cfg.Notify(StreamPaused{TrackID: info.Sid, Paused: !paused})
		at.cfg.Notify(StreamPaused{TrackID: info.Sid, Paused: paused})
		u := bob.until("stream_state_update", func(m *wire.SignalResponse) bool {
			list := m.GetStreamStateUpdate().GetStreamStates()
			return len(list) == 1 && int32(list[0].State) == state
		}).GetStreamStateUpdate().StreamStates[0]
		if u.TrackSid != info.Sid || u.ParticipantSid != ann.id {
			t.Errorf("stream state %v", u)
		}
	}
	at.cfg.Notify(ConnectionScored{Score: 3.5})
	q := ann.until("connection_quality", func(m *wire.SignalResponse) bool { return m.GetConnectionQuality() != nil }).GetConnectionQuality().Updates
	if len(q) != 1 || q[0].ParticipantSid != bob.id || q[0].Quality != wire.ConnectionGood || q[0].Score != 3.5 {
		t.Errorf("connection quality %v", q)
	}
}

func TestRefusedCodecs(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	mine, other := ann.publish("cid-a", wire.TrackVideo, wire.SourceCamera), bob.publish("cid-b", wire.TrackVideo, wire.SourceCamera)
	codec := []*wire.SimulcastCodec{{Codec: "vp8", Cid: "cid-2"}}
	for name, x := range map[string]struct {
		r      *wire.AddTrackRequest
		reason wire.RequestReason
		text   string
	}{
		"unknown sid":      {&wire.AddTrackRequest{Sid: "TR_x", SimulcastCodecs: codec}, wire.RequestNotFound, "no such track"},
		"another's track":  {&wire.AddTrackRequest{Sid: other.Sid, SimulcastCodecs: codec}, wire.RequestNotFound, "no such track"},
		"no codec":         {&wire.AddTrackRequest{Sid: mine.Sid}, wire.RequestInvalid, "one codec"},
		"two codecs":       {&wire.AddTrackRequest{Sid: mine.Sid, SimulcastCodecs: append(codec, codec...)}, wire.RequestInvalid, "one codec"},
		"a nameless codec": {&wire.AddTrackRequest{Sid: mine.Sid, SimulcastCodecs: []*wire.SimulcastCodec{{Cid: "c"}}}, wire.RequestInvalid, "name"},
		"a long name": {&wire.AddTrackRequest{Sid: mine.Sid, SimulcastCodecs: []*wire.SimulcastCodec{{Codec: strings.Repeat("x", 40)}}},
			wire.RequestInvalid, "name"},
		"many layers": {&wire.AddTrackRequest{Sid: mine.Sid, SimulcastCodecs: codec, Layers: make([]*wire.VideoLayer, 9)}, wire.RequestInvalid, "layers"},
		"twice": {&wire.AddTrackRequest{Cid: "c", SimulcastCodecs: []*wire.SimulcastCodec{{Codec: "vp8", Cid: "c"}, {Codec: "VP8"}}},
			wire.RequestInvalid, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			x.r.Type, x.r.Source = wire.TrackVideo, wire.SourceCamera
			if x.r.Cid == "" {
				x.r.Cid = "cid-2"
			}
			ann.send(&wire.SignalRequest{Message: &wire.RequestAddTrack{AddTrack: x.r}})
			a := ann.until("the refusal", func(m *wire.SignalResponse) bool { return m.GetRequestResponse() != nil }).GetRequestResponse()
			if a.Reason != x.reason || !strings.Contains(a.Message, x.text) || a.GetAddTrack().GetSid() != x.r.Sid {
				t.Errorf("refused with %v, want %v and %q", a, x.reason, x.text)
			}
		})
	}
}

package room

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// at is t0 plus some seconds.
func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

var everything = Permission{Publish: true, Subscribe: true, PublishData: true}

// who makes a profile whose id is PA_identity.
func who(identity string, change ...func(*Profile)) Profile {
	p := Profile{ID: "PA_" + identity, Identity: identity, Permission: everything, AutoSubscribe: true, SubscriberPrimary: true}
	for _, c := range change {
		c(&p)
	}
	return p
}

// script drives a room and keeps its last effects.
type script struct {
	t *testing.T
	*Room
	last []Effect
}

func newScript(t *testing.T, limits Limits) *script {
	return &script{t: t, Room: New("RM_1", "room", limits, t0)}
}

func (s *script) ok(effects []Effect, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("unexpected refusal: %v", err)
	}
	s.last = effects
}

func (s *script) join(identity string, change ...func(*Profile)) {
	s.t.Helper()
	s.ok(s.Join(t0, who(identity, change...)))
}

// publish announces and starts a track TR_name.
func (s *script) publish(identity, name string, change ...func(*Track)) {
	s.t.Helper()
	t := Track{ID: "TR_" + name, CID: "cid-" + name, Kind: Video, Source: Camera}
	for _, c := range change {
		c(&t)
	}
	s.ok(s.AddTrack(t0, "PA_"+identity, t))
	s.last = append(s.last, s.TrackStarted(t0, "PA_"+identity, t.ID, "video/VP8")...)
}

// brief renders effects in short, for comparison.
func brief(effects []Effect) []string {
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case SendJoin:
			out = append(out, fmt.Sprintf("join>%s others=%s", e.To, names(e.Others)))
		case SendReconnect:
			out = append(out, "reconnect>"+e.To)
		case SendMoved:
			out = append(out, fmt.Sprintf("moved>%s to %s others=%s", e.To, e.Room.Name, names(e.Others)))
		case RemoteLeft:
			out = append(out, fmt.Sprintf("remoteleft %s %d", e.Participant.Identity, e.Participant.Reason))
		case SendUpdate:
			out = append(out, fmt.Sprintf("update>%s %s", strings.Join(e.To, ","), names(e.Participants)))
		case SendRoom:
			out = append(out, fmt.Sprintf("room>%s %d/%d", strings.Join(e.To, ","), e.Room.Publishers, e.Room.Participants))
		case SendTrackPublished:
			out = append(out, fmt.Sprintf("published>%s %s=%s", e.To, e.CID, e.Track.ID))
		case SendSpeakers:
			out = append(out, fmt.Sprintf("speakers>%s %v", strings.Join(e.To, ","), e.Speakers))
		case SendQuality:
			var list []string
			for _, q := range e.Qualities {
				list = append(list, fmt.Sprintf("{%s %d}", q.Participant, q.Quality))
			}
			out = append(out, fmt.Sprintf("quality>%s %v", strings.Join(e.To, ","), list))
		case SendLeave:
			out = append(out, fmt.Sprintf("leave>%s %d %d", e.To, e.Action, e.Reason))
		case ParticipantJoined:
			out = append(out, "joined "+e.Participant.Identity)
		case ParticipantActive:
			out = append(out, "active "+e.Participant.Identity)
		case ParticipantLost:
			out = append(out, "lost "+e.Participant.Identity)
		case ParticipantBack:
			out = append(out, "back "+e.Participant.Identity)
		case ParticipantLeft:
			out = append(out, fmt.Sprintf("left %s %d", e.Participant.Identity, e.Participant.Reason))
		case PublishTrack:
			out = append(out, "publish "+e.Track.ID)
		case TrackPublished:
			out = append(out, "trackpublished "+e.Track.ID)
		case TrackUnpublished:
			out = append(out, "trackunpublished "+e.Track.ID)
		default:
			name := reflect.TypeOf(e).Name()
			out = append(out, strings.TrimSpace(strings.ToLower(name)+" "+strings.Trim(fmt.Sprint(e), "{}")))
		}
	}
	return out
}

// names renders participants as identity:state[tracks].
func names(list []Info) string {
	var out []string
	for _, p := range list {
		s := p.Identity + ":" + []string{"", "joined", "active", "departed"}[p.State]
		for _, t := range p.Tracks {
			s += "+" + t.ID
			if t.Muted {
				s += "(muted)"
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (s *script) want(want ...string) {
	s.t.Helper()
	got := brief(s.last)
	if !slices.Equal(got, want) {
		s.t.Errorf("effects are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (s *script) refused(code RefusalCode, effects []Effect, err error) {
	s.t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code || r.Text == "" {
		s.t.Errorf("refusal is %v, want code %d", err, code)
	}
	if len(effects) != 0 {
		s.t.Errorf("a refusal has effects: %v", brief(effects))
	}
}

func TestJoinAndLeave(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.want("join>PA_ann others=", "openmedia PA_ann", "joined ann", "update>PA_ann ann:joined", "room>PA_ann 0/1")
	s.join("bob")
	s.want("join>PA_bob others=ann:joined", "openmedia PA_bob", "joined bob",
		"update>PA_ann,PA_bob bob:joined", "room>PA_ann,PA_bob 0/2")

	s.last = s.TransportChanged(t0, "PA_bob", true, TransportConnected)
	s.want() // the publisher is not the primary transport
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportConnected)
	s.want("active bob", "update>PA_ann,PA_bob bob:active")
	s.last = s.TransportChanged(t0, "PA_bob", false, TransportConnected)
	s.want()

	s.publish("ann", "a")
	s.want("published>PA_ann cid-a=TR_a", "publish TR_a", "trackpublished TR_a",
		"update>PA_ann,PA_bob ann:joined+TR_a", "room>PA_ann,PA_bob 1/2", "subscribe PA_bob TR_a")

	s.last = s.Leave(t0, "PA_ann")
	s.want("unsubscribe PA_bob TR_a", "unpublishtrack PA_ann TR_a", "trackunpublished TR_a", "closemedia PA_ann",
		"left ann 1", "update>PA_bob ann:departed", "room>PA_bob 0/1")
	if s.last = s.Leave(t0, "PA_ann"); s.last != nil {
		t.Errorf("leaving twice: %v", brief(s.last))
	}
}

func TestSameIdentityEvictsFirst(t *testing.T) {
	s := newScript(t, Limits{Participants: 2})
	s.join("ann")
	s.join("bob")
	s.publish("ann", "a")
	// A full room lets the same identity in again.
	s.join("ann", func(p *Profile) { p.ID = "PA_ann2" })
	s.want("leave>PA_ann 0 2", "unsubscribe PA_bob TR_a", "unpublishtrack PA_ann TR_a", "trackunpublished TR_a",
		"closemedia PA_ann", "left ann 2", "update>PA_bob ann:departed", "room>PA_bob 0/1",
		"join>PA_ann2 others=bob:joined", "openmedia PA_ann2", "joined ann",
		"update>PA_bob,PA_ann2 ann:joined", "room>PA_bob,PA_ann2 0/2")
	_, err := s.Join(t0, who("eve"))
	s.refused(LimitExceeded, nil, err)
	_, err = s.Join(t0, who("bob", func(p *Profile) { p.ID = "PA_ann2" }))
	s.refused(Invalid, nil, err)
}

func TestHiddenParticipants(t *testing.T) {
	hidden := func(p *Profile) { p.Permission.Hidden = true }
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("spy", hidden)
	s.want("join>PA_spy others=ann:joined", "openmedia PA_spy", "joined spy", "update>PA_spy spy:joined", "room>PA_ann,PA_spy 0/1")
	s.join("bob")
	s.want("join>PA_bob others=ann:joined", "openmedia PA_bob", "joined bob",
		"update>PA_ann,PA_spy,PA_bob bob:joined", "room>PA_ann,PA_spy,PA_bob 0/2")
	s.publish("ann", "a")
	s.want("published>PA_ann cid-a=TR_a", "publish TR_a", "trackpublished TR_a",
		"update>PA_ann,PA_spy,PA_bob ann:joined+TR_a", "room>PA_ann,PA_spy,PA_bob 1/2", "subscribe PA_spy TR_a", "subscribe PA_bob TR_a")
	s.publish("spy", "s") // nobody hears of it, nobody gets it
	s.want("published>PA_spy cid-s=TR_s", "publish TR_s", "trackpublished TR_s", "update>PA_spy spy:joined+TR_s", "room>PA_ann,PA_spy,PA_bob 1/2")
	s.ok(s.UpdateSubscription(t0, "PA_bob", []string{"TR_s"}, true))
	s.want("sendsubscriptionerror PA_bob TR_s 2")
	s.last = s.Speakers(t0, []Speaker{{Participant: "PA_spy", Level: 1}})
	s.want()
	s.last = s.Leave(t0, "PA_spy")
	if got := strings.Join(brief(s.last), "\n"); strings.Contains(got, "departed") {
		t.Errorf("the others were told of the hidden one:\n%s", got)
	}
}

func TestLostConnection(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.last = s.TransportChanged(t0, "PA_ann", false, TransportConnected)
	s.publish("ann", "a")
	s.ok(s.AddTrack(t0, "PA_ann", Track{ID: "TR_p", CID: "cid-p", Kind: Audio}))

	// While media flows nobody else is concerned; without either it is lost.
	s.last = s.Detach(at(1), "PA_ann")
	s.want()
	if got := s.Connected(); !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("connected are %v", got)
	}
	if due := s.NextDeadline(); !due.Equal(at(60)) { // bob's media, which never connected
		t.Errorf("media alone keeps her for %v", due.Sub(t0))
	}
	s.last = s.TransportChanged(at(1.5), "PA_ann", false, TransportDisconnected)
	s.want("lost ann", "quality>PA_bob [{PA_ann 1}]")
	s.last = s.TransportChanged(at(1.6), "PA_ann", false, TransportFailed)
	s.want()
	s.last = s.TransportChanged(at(1.7), "PA_ann", false, TransportConnected)
	s.want("back ann", "quality>PA_bob [{PA_ann 4}]")
	s.last = s.TransportChanged(at(1.8), "PA_ann", false, TransportDisconnected)
	s.want("lost ann", "quality>PA_bob [{PA_ann 1}]")
	if got := s.Connected(); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("connected are %v", got)
	}
	if s.last = s.Detach(at(2), "PA_ann"); s.last != nil {
		t.Errorf("detached twice: %v", brief(s.last))
	}
	if due := s.NextDeadline(); !due.Equal(at(31.8)) {
		t.Errorf("deadline is %v, want the departure grace", due.Sub(t0))
	}
	if s.last = s.Tick(at(31.7)); s.last != nil {
		t.Errorf("within the grace: %v", brief(s.last))
	}
	// While it is away, changes are not sent to it, and its media goes on.
	s.publish("bob", "b")
	s.want("published>PA_bob cid-b=TR_b", "publish TR_b", "trackpublished TR_b",
		"update>PA_bob bob:joined+TR_b", "room>PA_bob 2/2", "subscribe PA_ann TR_b")

	if _, ok := s.Resume(at(20), "PA_nobody", "ann"); ok {
		t.Error("an unknown session was resumed")
	}
	if _, ok := s.Resume(at(20), "PA_ann", "bob"); ok {
		t.Error("somebody else's session was resumed")
	}
	effects, ok := s.Resume(at(20), "PA_ann", "ann")
	if !ok {
		t.Fatal("not resumed")
	}
	s.last = effects
	s.want("back ann", "reconnect>PA_ann", "update>PA_ann ann:active+TR_a bob:joined+TR_b", "room>PA_ann 2/2",
		"published>PA_ann cid-p=TR_p", "restartice PA_ann", "quality>PA_ann,PA_bob [{PA_ann 2}]")
	if due := s.NextDeadline(); !due.Equal(at(60)) { // bob's media, which never connected
		t.Errorf("deadline is %v", due.Sub(t0))
	}
	s.last = s.TransportChanged(at(21), "PA_ann", false, TransportConnected)
	s.want("quality>PA_ann,PA_bob [{PA_ann 4}]")
	if s.last = s.Tick(at(32)); len(s.last) != 0 {
		t.Errorf("after the resume: %v", brief(s.last))
	}

	s.last = s.Detach(at(39), "PA_ann")
	s.last = s.TransportChanged(at(40), "PA_ann", false, TransportDisconnected)
	s.last = s.Tick(at(70))
	s.want("unsubscribe PA_bob TR_a", "unpublishtrack PA_ann TR_a", "trackunpublished TR_a", "unpublishtrack PA_ann TR_p",
		"closemedia PA_ann", "left ann 8", "leave>PA_bob 2 7", "unpublishtrack PA_bob TR_b", "trackunpublished TR_b",
		"closemedia PA_bob", "left bob 7") // bob's media never connected
}

// TestMuteThatIsLostWithTheConnection is repeated after a resume, until the client says that it muted.
func TestMuteThatIsLostWithTheConnection(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.publish("ann", "a")
	s.last = s.Detach(at(1), "PA_ann")
	s.ok(s.SetMuted(at(2), "PA_ann", "TR_a", true, true))
	for i, told := range []bool{true, false} {
		second := float64(3 + 2*i)
		if !told {
			s.ok(s.SetMuted(at(4), "PA_ann", "TR_a", true, false)) // the client has done it
		}
		effects, ok := s.Resume(at(second), "PA_ann", "ann")
		if !ok {
			t.Fatal("not resumed")
		}
		got := false
		for _, e := range effects {
			m, ok := e.(SendMute)
			got = got || ok && m == SendMute{To: "PA_ann", TrackID: "TR_a", Muted: true}
		}
		if got != told {
			t.Errorf("at %v s: told to mute %v, want %v", second, got, told)
		}
	}
}

// TestResumeWithoutMedia: a session whose media doesn't come back after a resume isn't kept for ever.
func TestResumeWithoutMedia(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.last = s.TransportChanged(t0, "PA_ann", false, TransportConnected)
	s.last = s.TransportChanged(at(1), "PA_ann", false, TransportFailed)
	s.last = s.Detach(at(2), "PA_ann")
	s.want("lost ann")
	if _, ok := s.Resume(at(10), "PA_ann", "ann"); !ok {
		t.Fatal("not resumed")
	}
	s.last = s.Tick(at(69))
	s.want()
	s.last = s.Tick(at(70))
	s.want("leave>PA_ann 2 9", "closemedia PA_ann", "left ann 9")
}

func TestMediaTimeouts(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.last = s.TransportChanged(at(1), "PA_bob", false, TransportConnected)
	s.last = s.Tick(at(60))
	s.want("leave>PA_ann 2 7", "closemedia PA_ann", "left ann 7", "update>PA_bob ann:departed", "room>PA_bob 0/1")

	s.last = s.TransportChanged(at(100), "PA_bob", false, TransportFailed)
	s.want("quality>PA_bob [{PA_bob 2}]")
	s.last = s.TransportChanged(at(110), "PA_bob", false, TransportConnected)
	s.want("quality>PA_bob [{PA_bob 4}]")
	s.last = s.TransportChanged(at(200), "PA_bob", false, TransportDisconnected)
	if due := s.NextDeadline(); !due.Equal(at(202)) {
		t.Errorf("asked to resume after %v", due.Sub(at(200)))
	}
	// Its client is asked to resume, once.
	s.last = s.Tick(at(201.9))
	s.want()
	s.last = s.Tick(at(202))
	s.want("asktoresume PA_bob")
	s.last = s.TransportChanged(at(203), "PA_bob", false, TransportFailed)
	s.last = s.Tick(at(259))
	s.want()
	s.last = s.Tick(at(260))
	s.want("leave>PA_bob 2 9", "closemedia PA_bob", "left bob 9")
	s.last = s.Tick(at(279))
	s.want()
	s.last = s.Tick(at(280))
	s.want("finished")
	_, err := s.Join(at(281), who("eve"))
	s.refused(NotFound, nil, err)
}

func TestPublishing(t *testing.T) {
	s := newScript(t, Limits{Tracks: 2})
	s.join("ann", func(p *Profile) { p.Permission.Sources = []Source{Microphone, Camera} })
	s.join("bob")
	s.join("deaf", func(p *Profile) { p.Permission.Publish = false })

	_, err := s.AddTrack(t0, "PA_deaf", Track{ID: "TR_x", CID: "x", Source: Camera})
	s.refused(NotAllowed, nil, err)
	_, err = s.AddTrack(t0, "PA_ann", Track{ID: "TR_x", CID: "x", Source: ScreenShare})
	s.refused(NotAllowed, nil, err)
	_, err = s.AddTrack(t0, "PA_ann", Track{ID: "TR_x", Source: Camera})
	s.refused(Invalid, nil, err)
	_, err = s.AddTrack(t0, "PA_gone", Track{ID: "TR_x", CID: "x"})
	s.refused(NotFound, nil, err)

	s.ok(s.AddTrack(t0, "PA_ann", Track{ID: "TR_a", CID: "a", Kind: Audio, Source: Microphone, Muted: true}))
	s.want("published>PA_ann a=TR_a", "publish TR_a") // nobody else hears before there is media
	s.ok(s.AddTrack(t0, "PA_ann", Track{ID: "TR_again", CID: "a", Kind: Audio, Source: Microphone}))
	s.want("published>PA_ann a=TR_a")
	s.last = s.TrackStarted(t0, "PA_bob", "TR_a", "")
	s.want()
	s.last = s.TrackStarted(t0, "PA_ann", "TR_a", "audio/opus")
	s.want("trackpublished TR_a", "update>PA_ann,PA_bob,PA_deaf ann:joined+TR_a(muted)", "room>PA_ann,PA_bob,PA_deaf 1/3",
		"subscribe PA_bob TR_a", "subscribe PA_deaf TR_a")
	s.last = s.TrackStarted(t0, "PA_ann", "TR_a", "audio/opus")
	s.want()

	_, err = s.SetMuted(t0, "PA_bob", "TR_a", false, false)
	s.refused(NotFound, nil, err)
	s.ok(s.SetMuted(t0, "PA_ann", "TR_a", false, false))
	s.want("mutetrack PA_ann TR_a false", "update>PA_ann,PA_bob,PA_deaf ann:joined+TR_a")
	s.ok(s.SetMuted(t0, "PA_ann", "TR_a", false, false))
	s.want()
	s.ok(s.SetMuted(t0, "PA_ann", "TR_a", true, true))
	s.want("mutetrack PA_ann TR_a true", "sendmute PA_ann TR_a true", "update>PA_ann,PA_bob,PA_deaf ann:joined+TR_a(muted)")

	// The same media again, while the first is still there: the client replaced its track.
	s.ok(s.AddTrack(t0, "PA_ann", Track{ID: "TR_b", CID: "a", Kind: Audio, Source: Microphone}))
	s.want("published>PA_ann a=TR_b", "publish TR_b")
	_, err = s.AddTrack(t0, "PA_ann", Track{ID: "TR_c", CID: "c", Source: Camera})
	s.refused(LimitExceeded, nil, err)

	s.last = s.TrackEnded(t0, "PA_ann", "TR_a")
	s.want("unsubscribe PA_bob TR_a", "unsubscribe PA_deaf TR_a", "unpublishtrack PA_ann TR_a", "trackunpublished TR_a",
		"update>PA_ann,PA_bob,PA_deaf ann:joined")
	s.ok(s.Unpublish(t0, "TR_b"))
	s.want("sendtrackunpublished PA_ann TR_b", "unpublishtrack PA_ann TR_b", "update>PA_ann,PA_bob,PA_deaf ann:joined",
		"room>PA_ann,PA_bob,PA_deaf 0/3")
	_, err = s.Unpublish(t0, "TR_b")
	s.refused(NotFound, nil, err)
	if !s.Took("PA_ann", "TR_b") || s.Took("PA_ann", "TR_a") || s.Took("PA_bob", "TR_b") {
		t.Error("only TR_b was taken away, and from PA_ann")
	}
	for i := range 2 * maxTaken {
		id := fmt.Sprint("TR_", i)
		s.ok(s.AddTrack(t0, "PA_ann", Track{ID: id, CID: id, Kind: Audio, Source: Microphone}))
		s.ok(s.Unpublish(t0, id))
	}
	if s.Took("PA_ann", "TR_b") || !s.Took("PA_ann", "TR_63") || len(s.byID["PA_ann"].taken) != maxTaken {
		t.Errorf("%d tracks are remembered", len(s.byID["PA_ann"].taken))
	}
}

func TestSubscribing(t *testing.T) {
	manual := func(p *Profile) { p.AutoSubscribe = false }
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("man", manual)
	s.join("deaf", func(p *Profile) { p.Permission.Subscribe = false })
	s.publish("ann", "a")
	if s.IsSubscribed("PA_man", "TR_a") || s.IsSubscribed("PA_deaf", "TR_a") {
		t.Error("subscribed without wish or permission")
	}
	s.last = s.Configure(t0, "PA_man", []string{"TR_a", "TR_unknown"}, Settings{Width: 320})
	s.want() // remembered
	s.ok(s.UpdateSubscription(t0, "PA_man", []string{"TR_a", "TR_zzz"}, true))
	s.want("subscribe PA_man TR_a", "configure PA_man TR_a {false 0 320 0 0 0", "sendsubscriptionerror PA_man TR_zzz 2")
	s.ok(s.UpdateSubscription(t0, "PA_man", []string{"TR_a"}, true))
	s.want()
	s.last = s.Subscribed(t0, "PA_man", "TR_a")
	s.want("sendtracksubscribed PA_ann TR_a")
	s.last = s.Subscribed(t0, "PA_man", "TR_a")
	s.want() // told once
	s.last = s.Configure(t0, "PA_man", []string{"TR_a"}, Settings{Disabled: true})
	s.want("configure PA_man TR_a {true 0 0 0 0 0")

	_, err := s.UpdateSubscription(t0, "PA_deaf", []string{"TR_a"}, true)
	s.refused(NotAllowed, nil, err)
	s.ok(s.UpdateSubscription(t0, "PA_deaf", []string{"TR_a"}, false))
	s.want()

	s.last = s.SubscriptionFailed(t0, "PA_man", "TR_a", CodecUnsupported)
	s.want("sendsubscriptionerror PA_man TR_a 1")
	s.last = s.SubscriptionFailed(t0, "PA_man", "TR_a", CodecUnsupported)
	s.want()
	s.ok(s.UpdateSubscription(t0, "PA_man", []string{"TR_a"}, true))
	s.want("subscribe PA_man TR_a", "configure PA_man TR_a {true 0 0 0 0 0")
	s.ok(s.UpdateSubscription(t0, "PA_man", []string{"TR_a"}, false))
	s.want("unsubscribe PA_man TR_a")
	s.ok(s.UpdateSubscription(t0, "PA_ann", []string{"TR_a"}, true)) // one's own
	s.want("sendsubscriptionerror PA_ann TR_a 2")
}

func TestSubscriptionPermission(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.join("eve")
	s.publish("ann", "a")
	s.publish("ann", "b")
	s.ok(s.SetSubscriptionPermission(t0, "PA_ann", SubscriptionGrants{Grants: []SubscriptionGrant{
		{Identity: "bob", AllTracks: true}, {Participant: "PA_eve", Tracks: []string{"TR_b"}}, {AllTracks: true},
	}}))
	s.want("sendsubscriptionpermission PA_eve PA_ann TR_a false", "unsubscribe PA_eve TR_a")
	s.publish("ann", "c")
	s.want("published>PA_ann cid-c=TR_c", "publish TR_c", "trackpublished TR_c",
		"update>PA_ann,PA_bob,PA_eve ann:joined+TR_a+TR_b+TR_c", "subscribe PA_bob TR_c",
		"sendsubscriptionpermission PA_eve PA_ann TR_c false")
	s.ok(s.UpdateSubscription(t0, "PA_eve", []string{"TR_a"}, true))
	s.want() // told already
	s.ok(s.SetSubscriptionPermission(t0, "PA_ann", SubscriptionGrants{Everybody: true}))
	s.want("sendsubscriptionpermission PA_eve PA_ann TR_a true", "subscribe PA_eve TR_a",
		"sendsubscriptionpermission PA_eve PA_ann TR_c true", "subscribe PA_eve TR_c")
}

func TestPermissionChangesFollowAtOnce(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.publish("ann", "a")
	s.publish("bob", "b")
	p := everything
	p.Publish, p.Subscribe = false, false
	s.ok(s.SetPermission(t0, "PA_ann", p))
	s.want("sendtrackunpublished PA_ann TR_a", "unsubscribe PA_bob TR_a", "unpublishtrack PA_ann TR_a", "trackunpublished TR_a",
		"unsubscribe PA_ann TR_b", "update>PA_ann,PA_bob ann:joined", "room>PA_ann,PA_bob 1/2")
	s.ok(s.SetPermission(t0, "PA_ann", p))
	s.want()
	s.ok(s.SetPermission(t0, "PA_ann", everything))
	s.want("subscribe PA_ann TR_b", "update>PA_ann,PA_bob ann:joined")
	hidden := everything
	hidden.Hidden = true
	s.ok(s.SetPermission(t0, "PA_bob", hidden))
	s.want("unsubscribe PA_ann TR_b", "update>PA_ann bob:departed", "update>PA_bob bob:joined+TR_b", "room>PA_ann,PA_bob 0/1")
	_, err := s.SetPermission(t0, "PA_gone", everything)
	s.refused(NotFound, nil, err)
}

func TestMetadata(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann", func(p *Profile) { p.Attributes = map[string]string{"a": "1", "b": "2"} })
	name := "Ann"
	_, err := s.UpdateMetadata(t0, "PA_ann", Metadata{Name: &name}, false, 100)
	s.refused(NotAllowed, nil, err)
	p := everything
	p.UpdateMetadata = true
	s.ok(s.SetPermission(t0, "PA_ann", p))
	s.ok(s.UpdateMetadata(t0, "PA_ann", Metadata{Name: &name, Attributes: map[string]string{"a": "", "c": "3"}}, false, 4))
	info, _ := s.Participant("PA_ann")
	if info.Name != "Ann" || !reflect.DeepEqual(info.Attributes, map[string]string{"b": "2", "c": "3"}) {
		t.Errorf("participant is %+v", info)
	}
	_, err = s.UpdateMetadata(t0, "PA_ann", Metadata{Attributes: map[string]string{"d": "4"}}, false, 4)
	s.refused(LimitExceeded, nil, err)
	s.ok(s.SetRoomMetadata(t0, "m"), nil)
	s.want("room>PA_ann 0/1")
	s.ok(s.SetRoomMetadata(t0, "m"), nil)
	s.want()
}

func TestSpeakers(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.last = s.Speakers(t0, []Speaker{{Participant: "PA_ann", Level: 0.5}, {Participant: "PA_nobody", Level: 1}, {Participant: "PA_ann", Level: 0.1}})
	s.want("speakers>PA_ann,PA_bob [{PA_ann 0.5 true}]")
	s.last = s.Speakers(t0, []Speaker{{Participant: "PA_ann", Level: 0.5}})
	s.want()
	s.join("eve")
	if got := strings.Join(brief(s.last), "\n"); !strings.Contains(got, "speakers>PA_eve [{PA_ann 0.5 true}]") {
		t.Errorf("a newcomer isn't told who speaks:\n%s", got)
	}
	s.last = s.Speakers(t0, []Speaker{{Participant: "PA_bob", Level: 0.2}})
	s.want("speakers>PA_ann,PA_bob,PA_eve [{PA_bob 0.2 true} {PA_ann 0 false}]")
	s.last = s.Leave(t0, "PA_bob")
	s.last = s.Speakers(t0, nil)
	s.want() // the departure said it
}

func TestDataRecipients(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.join("eve", func(p *Profile) { p.Permission.PublishData = false })
	for _, c := range []struct {
		from string
		to   []string
		want []string
	}{
		{"ann", nil, []string{"PA_bob", "PA_eve"}},
		{"ann", []string{"bob"}, []string{"PA_bob"}},
		{"ann", []string{"bob", "bob", "nobody", "ann"}, []string{"PA_bob"}},
		{"ann", []string{"nobody"}, nil},
	} {
		got, err := s.DataRecipients("PA_"+c.from, c.to)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("from %s to %v: %v, %v; want %v", c.from, c.to, got, err, c.want)
		}
	}
	_, err := s.DataRecipients("PA_eve", nil)
	s.refused(NotAllowed, nil, err)
	_, err = s.DataRecipients("PA_gone", nil)
	s.refused(NotFound, nil, err)
}

func TestLargeRoomsCoalesce(t *testing.T) {
	s := newScript(t, Limits{CoalesceAbove: 3})
	for i := range 3 {
		s.join(fmt.Sprint("p", i))
	}
	s.join("ann")
	s.want("join>PA_ann others=p0:joined p1:joined p2:joined", "openmedia PA_ann", "joined ann")
	s.ok(s.Join(at(0.05), who("bob")))
	s.want("join>PA_bob others=p0:joined p1:joined p2:joined ann:joined", "openmedia PA_bob", "joined bob")
	if due := s.NextDeadline(); !due.Equal(at(0.1)) {
		t.Errorf("updates are due after %v", due.Sub(t0))
	}
	s.last = s.Tick(at(0.1))
	s.want("update>PA_p0,PA_p1,PA_p2,PA_ann,PA_bob ann:joined bob:joined", "room>PA_p0,PA_p1,PA_p2,PA_ann,PA_bob 0/5")
	// A track does not wait, and its owner's update precedes the subscription.
	s.publish("ann", "a")
	got := brief(s.last)
	update := slices.IndexFunc(got, func(e string) bool { return strings.Contains(e, "ann:joined+TR_a") })
	subscribe := slices.IndexFunc(got, func(e string) bool { return strings.HasPrefix(e, "subscribe") })
	if update < 0 || subscribe < update {
		t.Errorf("effects are %v", got)
	}
	// Somebody who comes and goes within the interval is told of once.
	s.ok(s.Join(at(1), who("eve")))
	s.last = s.Leave(at(1.01), "PA_eve")
	s.last = s.Tick(at(1.2))
	s.want("update>PA_p0,PA_p1,PA_p2,PA_ann,PA_bob eve:departed", "room>PA_p0,PA_p1,PA_p2,PA_ann,PA_bob 1/5")
}

func TestMirroredParticipants(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	far := Info{Profile: Profile{ID: "PA_far", Identity: "far", Permission: everything}, State: Active, Version: 7}
	s.last = s.Mirror(t0, far)
	s.want("update>PA_ann far:active", "room>PA_ann 0/2")
	far.Version, far.Tracks = 8, []Track{{ID: "TR_f", Kind: Video}}
	s.last = s.Mirror(t0, far)
	s.want("update>PA_ann far:active+TR_f", "subscribe PA_ann TR_f")
	s.publish("ann", "a") // nothing is sent to, or subscribed for, the one elsewhere
	s.want("published>PA_ann cid-a=TR_a", "publish TR_a", "trackpublished TR_a", "update>PA_ann ann:joined+TR_a", "room>PA_ann 2/2")
	s.last = s.Mirror(t0, Info{Profile: far.Profile, State: Active, Version: 8})
	s.want() // stale
	s.last = s.Mirror(t0, Info{Profile: far.Profile, State: Departed, Version: 9, Reason: ClientLeft})
	s.want("unsubscribe PA_ann TR_f", "remoteleft far 1", "update>PA_ann far:departed", "room>PA_ann 1/1")
}

func TestVersionsGrow(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	var last uint32
	check := func() {
		t.Helper()
		for _, e := range s.last {
			if u, ok := e.(SendUpdate); ok {
				for _, p := range u.Participants {
					if p.Identity == "ann" {
						if p.Version <= last {
							t.Errorf("version %d after %d", p.Version, last)
						}
						last = p.Version
					}
				}
			}
		}
	}
	check()
	s.publish("ann", "a")
	check()
	s.ok(s.SetMuted(t0, "PA_ann", "TR_a", true, false))
	check()
	s.last = s.TransportChanged(t0, "PA_ann", false, TransportConnected)
	check()
	if last < 4 {
		t.Errorf("only %d versions were told", last)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := newScript(t, Limits{})
	s.join("ann")
	s.join("bob")
	s.last = s.Close(t0, RoomDeleted, Disconnect)
	s.want("leave>PA_ann 0 5", "closemedia PA_ann", "left ann 5", "leave>PA_bob 0 5", "closemedia PA_bob", "left bob 5", "finished")
	if s.last = s.Close(t0, RoomDeleted, Disconnect); s.last != nil {
		t.Errorf("closed twice: %v", brief(s.last))
	}
	if !s.NextDeadline().IsZero() {
		t.Errorf("a finished room waits for %v", s.NextDeadline())
	}
}

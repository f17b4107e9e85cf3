package signaling

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

const getQuality = "/twirp/anytime.RoomService/GetQuality"

// measuredWorld is a room in which ann publishes a camera and a media side that has measured something.
func measuredWorld(t *testing.T) (w *apiWorld, trackID string) {
	t.Helper()
	var sid string
	w = newAPIWorld(t, func(c *Config) {
		c.Measure = func(roomID, participantID string, received bool) Measured {
			if !strings.HasPrefix(roomID, "RM_") || !strings.HasPrefix(participantID, "PA_") {
				t.Errorf("asked about %q in %q", participantID, roomID)
			}
			loss := 0.08
			m := Measured{RTTms: 40, Up: MeasuredLink{Loss: &loss, Path: "relay", BitrateBps: 1000}, Published: []MeasuredTrack{}}
			if received {
				m.Received = []MeasuredDelivery{{TrackID: sid, Layer: 0, Wanted: 2, Why: "not_sent"}}
			}
			return m
		}
	})
	ann := w.join("r", "ann", nil, nil)
	bob := w.join("r", "bob", nil, nil)
	video := ann.publish("cid-v", wire.TrackVideo, wire.SourceCamera)
	bob.update("ann", func(p *wire.ParticipantInfo) bool { return len(p.Tracks) == 1 })
	sid = video.Sid
	return w, sid
}

// quality asks in JSON.
func (w *apiWorld) quality(bearer, request string) (list []ParticipantQuality, code twirp.Code) {
	w.t.Helper()
	status, header, body := w.post(getQuality, "application/json", bearer, request)
	if status != http.StatusOK {
		return nil, w.code("GetQuality", status, header, body)
	}
	var answer struct {
		Room         string
		Participants []ParticipantQuality
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Room != "r" {
		w.t.Fatalf("%v in %s", err, body)
	}
	return answer.Participants, ""
}

func TestAPIQualityNeedsItsGrant(t *testing.T) {
	w, _ := measuredWorld(t)
	for _, test := range []struct {
		name   string
		bearer string
		want   twirp.Code
	}{
		{"no token", "", twirp.Unauthenticated},
		{"a bad token", w.bearer(admin("r")) + "x", twirp.Unauthenticated},
		{"a token to join", w.bearer(wire.Grant{RoomJoin: true, Room: "r"}), twirp.PermissionDenied},
		{"a token to list and create", w.bearer(wire.Grant{RoomList: true, RoomCreate: true, Room: "r"}), twirp.PermissionDenied},
		{"a token of another room", w.bearer(wire.Grant{RoomAdmin: true, Room: "other"}), twirp.PermissionDenied},
		{"a token of no room", w.bearer(wire.Grant{RoomAdmin: true}), twirp.PermissionDenied},
		{"a token of the room", w.bearer(wire.Grant{RoomAdmin: true, Room: "r"}), ""},
	} {
		if _, code := w.quality(test.bearer, `{"room":"r"}`); code != test.want {
			t.Errorf("%s: %q, want %q", test.name, code, test.want)
		}
	}
	if _, code := w.quality(w.bearer(admin("none")), `{"room":"none"}`); code != twirp.NotFound {
		t.Errorf("no such room: %q", code)
	}
	if _, code := w.quality(w.bearer(admin("r")), `{"room":"r","identity":"eve"}`); code != twirp.NotFound {
		t.Errorf("no such participant: %q", code)
	}
}

func TestAPIQuality(t *testing.T) {
	w, track := measuredWorld(t)
	bearer := w.bearer(admin("r"))
	all, _ := w.quality(bearer, `{"room":"r"}`)
	if len(all) != 2 || all[0].Identity != "ann" || all[1].Identity != "bob" || all[0].Name != "Name of ann" {
		t.Fatalf("everybody: %+v", all)
	}
	for _, p := range all {
		if *p.Measured.Up.Loss != 0.08 || p.Measured.Up.Path != "relay" || p.Measured.Down.Loss != nil || p.Measured.RTTms != 40 || p.Quality != "unknown" {
			t.Errorf("%s: %+v", p.Identity, p)
		}
		if p.Measured.Received != nil {
			t.Errorf("%s: the square of the room is told: %+v", p.Identity, p.Measured.Received)
		}
	}
	one, _ := w.quality(bearer, `{"room":"r","identity":"bob"}`)
	if len(one) != 1 || one[0].Identity != "bob" || len(one[0].Measured.Received) != 1 {
		t.Fatalf("bob: %+v", one)
	}
	if got := fmt.Sprintf("%+v", one[0].Measured.Received[0]); !strings.Contains(got, "TrackID:"+track+" Publisher:ann Source:camera") {
		t.Errorf("bob gets %s", got)
	}

	// In protobuf the same comes as a google.protobuf.Struct.
	request, err := proto.Marshal(&wire.RoomParticipantIdentity{Room: "r"})
	if err != nil {
		t.Fatal(err)
	}
	status, _, body := w.post(getQuality, "application/protobuf", bearer, string(request))
	var s structpb.Struct
	if err := proto.Unmarshal(body, &s); err != nil || status != http.StatusOK || len(s.Fields["participants"].GetListValue().GetValues()) != 2 {
		t.Errorf("%d, %v: %v", status, err, &s)
	}
}

func TestAPIQualityWithoutMeasurements(t *testing.T) {
	w := newAPIWorld(t, nil)
	w.join("r", "ann", nil, nil)
	if all, code := w.quality(w.bearer(admin("r")), `{"room":"r"}`); code != "" || len(all) != 1 || all[0].Measured.RTTms != 0 {
		t.Errorf("%q %+v", code, all)
	}
}

package companion

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestCallQuality(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann, ben, eve := s.signUp(t, "annann"), s.signUp(t, "benben"), s.signUp(t, "eveeve")
		ben2 := s.signIn(t, "benben")
		id := ann.place(201, "benben").Call.ID
		path := "/v1/calls/" + id + "/quality"

		// Only devices that are in the call are told anything.
		s.browser(t).refused("GET", path, nil, 401, "signed_out")
		eve.refused("GET", path, nil, 404, "call_not_found")
		ann.refused("GET", "/v1/calls/ca_0000000000000000/quality", nil, 404, "call_not_found")
		ben.refused("GET", path, nil, 409, "not_in_call")
		ann.refused("GET", path, nil, 409, "not_connected")
		ben.act(id, "answer")
		ben2.refused("GET", path, nil, 409, "answered_elsewhere")

		s.join(ann, id)
		s.join(ben, id)
		s.rooms.mu.Lock()
		s.rooms.in[id] = append(s.rooms.in[id], "monitor of the operator", eve.Session.Identity(), ben2.Session.Identity())
		s.rooms.mu.Unlock()
		var q CallQuality
		ann.do("GET", path, nil, 200, &q)
		if q.Me.Quality != "good" || q.Me.Up.Loss == nil || *q.Me.Up.Loss != 0.08 || q.Me.Up.Path != "relay" || q.Me.Down.Loss != nil {
			t.Errorf("ann's own connection is %+v", q.Me)
		}
		// Whoever else is in the room without being in the call isn't told of.
		if len(q.Others) != 1 || q.Others[0].Identity != ben.Session.Identity() || q.Others[0].Up.Path != "" {
			t.Errorf("ann is told of %+v", q.Others)
		}
		ben.do("GET", path, nil, 200, &q)
		if len(q.Others) != 1 || q.Others[0].Identity != ann.Session.Identity() {
			t.Errorf("ben is told of %+v", q.Others)
		}
		ben.act(id, "hangup")
		ben.refused("GET", path, nil, 409, "call_over")
	})
}

func TestCallQualityIsLimited(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		ann := s.signUp(t, "annann")
		s.signUp(t, "benben")
		id := ann.place(201, "benben").Call.ID
		s.join(ann, id)
		path := "/v1/calls/" + id + "/quality"
		for range defaultQualityRate.Burst {
			ann.do("GET", path, nil, http.StatusOK, nil)
		}
		res, _ := ann.refused("GET", path, nil, http.StatusTooManyRequests, "too_many_requests")
		if res.Header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
		}
		s.clock.advance(time.Second)
		ann.do("GET", path, nil, http.StatusOK, nil)
	})
}

func TestCallQualityIsDescribed(t *testing.T) {
	eachCallServer(t, func(t *testing.T, s *callServer) {
		var doc map[string]any
		s.browser(t).do("GET", "/v1/openapi.json", nil, 200, &doc)
		paths, _ := doc["paths"].(map[string]any)
		if _, ok := paths["/v1/calls/{id}/quality"]; !ok {
			t.Errorf("the document has %d paths and not this one", len(paths))
		}
		for name := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
			if strings.Contains(strings.ToLower(name), "address") {
				t.Errorf("a schema %s", name)
			}
		}
	})
}

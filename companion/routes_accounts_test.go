package companion

import (
	"testing"
)

func TestSignUpInAndOut(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna := s.signUp(t, "Anna")
		if a := anna.Session.Account; a.Name != "anna" || a.DisplayName != "Anna" || a.Operator || !a.CallWaiting || a.CallsFrom != "everyone" {
			t.Errorf("account %+v", a)
		}
		var again Session
		anna.do("GET", "/v1/session", nil, 200, &again)
		if again != anna.Session {
			t.Errorf("session %+v, want %+v", again, anna.Session)
		}
		var snap struct{ Session Session }
		ev := anna.events(&snap)
		if snap.Session != anna.Session {
			t.Errorf("snapshot %+v", snap)
		}
		anna.do("DELETE", "/v1/session", nil, 204, nil)
		ev.expect("signed_out", nil)
		ev.closed(closeSignedOut)
		anna.refused("GET", "/v1/session", nil, 401, "signed_out")
	})
}

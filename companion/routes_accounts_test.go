package companion

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/companion/people"
)

func TestSignUpInAndOut(t *testing.T) {
	var mu sync.Mutex
	var out []string
	eachServer(t, func(c *Config) {
		out = nil
		c.SignedOut = func(account, device string) {
			mu.Lock()
			defer mu.Unlock()
			out = append(out, account+":"+device)
		}
	}, func(t *testing.T, s *testServer) {
		anna := s.signUp(t, "Anna")
		if a := anna.Session.Account; a.Name != "anna" || a.DisplayName != "Anna" || a.Operator || !a.CallWaiting || a.CallsFrom != people.CallsFromEveryone {
			t.Errorf("account %+v", a)
		}
		if !people.ValidID("ac_", anna.Session.Account.ID) || !people.ValidID("dv_", anna.Session.Device.ID) {
			t.Errorf("ids %s", anna.Session.Identity())
		}
		var again Session
		anna.do("GET", "/v1/session", nil, 200, &again)
		if again != anna.Session {
			t.Errorf("session %+v, want %+v", again, anna.Session)
		}
		tablet := s.signIn(t, "@ANNA")
		if tablet.Session.Account != anna.Session.Account || tablet.Session.Device.ID == anna.Session.Device.ID {
			t.Errorf("second device %+v", tablet.Session)
		}
		var snap struct{ Session Session }
		ev, other := anna.events(&snap), tablet.events(nil)
		if snap.Session != anna.Session {
			t.Errorf("snapshot %+v", snap)
		}
		secret := anna.cookie()
		anna.do("DELETE", "/v1/session", nil, 204, nil)
		ev.expect("signed_out", nil)
		ev.closed(closeSignedOut)
		mu.Lock()
		if len(out) != 1 || out[0] != anna.Session.Identity() {
			t.Errorf("signed out: %v, want %s", out, anna.Session.Identity())
		}
		mu.Unlock()
		if anna.cookie() != "" {
			t.Error("the cookie outlives the session")
		}
		anna.refused("GET", "/v1/session", nil, 401, "signed_out")
		anna.header.Set("Cookie", cookieName+"="+secret)
		anna.refused("GET", "/v1/session", nil, 401, "signed_out")
		// The other device notices nothing.
		tablet.do("PATCH", "/v1/account", map[string]any{"callWaiting": false}, 200, nil)
		other.expect("account", nil)
	})
}

func TestSignUpRefusals(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		s.signUp(t, "anna")
		s.signUp(t, "мария")
		b := s.browser(t)
		body := func(name, password string) map[string]any {
			return map[string]any{"name": name, "password": password}
		}
		with := func(key string, value any) map[string]any {
			m := body("bert", password)
			m[key] = value
			return m
		}
		for _, c := range []struct {
			in     any
			status int
			code   string
		}{
			{body("anna", password), 409, "name_taken"},
			{body("ANNA", password), 409, "name_taken"},
			{body("a", password), 422, "name_too_short"},
			{body(strings.Repeat("a", 33), password), 422, "name_too_long"},
			{body("аnna", password), 409, "name_confusable"}, // mixed scripts
			{body("аппа", password), 409, "name_confusable"}, // all Cyrillic, reads anna
			{body("admin", password), 422, "name_reserved"},
			{body("adm1n", password), 422, "name_reserved"},
			{body("an na", password), 422, "name_invalid"},
			{body("bert", "short"), 422, "password_too_short"},
			{body("bert", strings.Repeat("xyz", 100)), 422, "password_too_long"},
			{body("bert", "password123"), 422, "password_common"},
			{with("displayName", "@anna"), 422, "display_name_invalid"},
			{with("deviceName", "\u202e"), 422, "device_name_invalid"},
			{with("kind", "Not A Kind"), 422, "device_kind_invalid"},
			{with("invitation", "nonsense"), 403, "invitation_invalid"},
			{with("invitation", people.NewSecret()), 403, "invitation_invalid"},
			{with("setUp", "nonsense"), 403, "set_up_invalid"},
			{with("setUp", people.NewSecret()), 403, "set_up_invalid"},
			{with("operator", true), 422, "invalid_request"}, // unknown field
			{with("name", 5), 422, "invalid_request"},
			{map[string]any{"name": "bert"}, 422, "invalid_request"},
			{"", 400, "invalid_request"},
			{"{", 400, "invalid_request"},
			{"[]", 422, "invalid_request"},
			{"null", 422, "invalid_request"},
			{strings.Repeat("[", 60<<10), 400, "invalid_request"},
			{with("displayName", strings.Repeat("x", 64<<10)), 413, "too_large"},
		} {
			_, p := b.refused("POST", "/v1/accounts", c.in, c.status, c.code)
			if j, _ := json.Marshal(p); strings.Contains(string(j), password) || strings.Contains(string(j), "password123") {
				t.Errorf("the answer repeats the password: %s", j)
			}
		}
		if b.cookie() != "" {
			t.Error("a refused sign-up left a cookie")
		}
		b.header.Set("Content-Type", "text/plain")
		b.refused("POST", "/v1/accounts", body("bert", password), 415, "unsupported_media_type")
	})
}

// Of many sign-ups for one name, or for two that look alike, one succeeds.
func TestSignUpRace(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		for i, names := range [][]string{{"carla", "carla"}, {"coco", "сосо"}} {
			var won atomic.Int32
			var wg sync.WaitGroup
			for n := range 8 {
				b := s.browser(t)
				wg.Go(func() {
					body := fmt.Sprintf(`{"name":%q,"password":%q}`, names[n%2], password)
					req, err := http.NewRequest("POST", s.http.URL+"/v1/accounts", strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					res, err := b.http.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer res.Body.Close()
					switch res.StatusCode {
					case 201:
						won.Add(1)
					case 409:
					default:
						t.Errorf("status %d", res.StatusCode)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Errorf("race %d: %d sign-ups succeeded", i, won.Load())
			}
		}
	})
}

func TestRegistration(t *testing.T) {
	clock := newClock()
	setUp := people.NewSecret()
	eachServer(t, func(c *Config) {
		c.Registration, c.SetUpSecret, c.Now = "", setUp, clock.now
	}, func(t *testing.T, s *testServer) {
		type info struct {
			Name, Registration string
			Operator           bool
		}
		var got info
		visitor := s.browser(t)
		visitor.do("GET", "/v1/server", nil, 200, &got)
		if want := (info{"Anytime", "invite", false}); got != want {
			t.Errorf("server %+v, want %+v", got, want)
		}
		signUp := func(name, key, secret string) map[string]any {
			return map[string]any{"name": name, "password": password, key: secret}
		}
		visitor.refused("POST", "/v1/accounts", map[string]any{"name": "zoe", "password": password}, 403, "invitation_needed")

		if s.SetUpSecret() != setUp {
			t.Fatalf("set-up secret %q", s.SetUpSecret())
		}
		boss := s.browser(t)
		boss.do("POST", "/v1/accounts", signUp("boss", "setUp", setUp), 201, &boss.Session)
		if !boss.Session.Account.Operator {
			t.Error("the set-up link made no operator")
		}
		visitor.refused("POST", "/v1/accounts", signUp("second", "setUp", setUp), 403, "set_up_invalid")
		visitor.do("GET", "/v1/server", nil, 200, &got)
		if !got.Operator {
			t.Error("the server knows no operator")
		}

		type inv struct {
			ID, Link, Secret string
			ExpiresAt        time.Time
		}
		invite := func(b *browser) (i inv) {
			t.Helper()
			b.do("POST", "/v1/invitations", nil, 201, &i)
			if i.Link != "/#/join/"+i.Secret || !i.ExpiresAt.Equal(clock.now().Add(7*24*time.Hour)) {
				t.Errorf("invitation %+v", i)
			}
			return i
		}
		first := invite(boss)
		member := s.browser(t)
		member.do("POST", "/v1/accounts", signUp("mia", "invitation", first.Secret), 201, &member.Session)
		if member.Session.Account.Operator {
			t.Error("an invitation made an operator")
		}
		visitor.refused("POST", "/v1/accounts", signUp("zoe", "invitation", first.Secret), 403, "invitation_invalid")

		// A refused sign-up does not use an invitation up.
		byMember := invite(member)
		visitor.refused("POST", "/v1/accounts", signUp("boss", "invitation", byMember.Secret), 409, "name_taken")

		var list struct{ Invitations []inv }
		member.do("GET", "/v1/invitations", nil, 200, &list)
		if len(list.Invitations) != 1 || list.Invitations[0].ID != byMember.ID || list.Invitations[0].Secret != "" {
			t.Errorf("invitations %+v", list)
		}
		boss.refused("DELETE", "/v1/invitations/"+byMember.ID, nil, 404, "not_found")
		revoked := invite(member)
		member.do("DELETE", "/v1/invitations/"+revoked.ID, nil, 204, nil)
		visitor.refused("POST", "/v1/accounts", signUp("zoe", "invitation", revoked.Secret), 403, "invitation_invalid")

		member.refused("PUT", "/v1/server/registration", map[string]any{"registration": "open"}, 403, "operator_only")
		boss.refused("PUT", "/v1/server/registration", map[string]any{"registration": "ajar"}, 422, "invalid_request")
		boss.do("PUT", "/v1/server/registration", map[string]any{"registration": "closed"}, 200, &got)
		if got.Registration != "closed" {
			t.Errorf("registration %+v", got)
		}
		visitor.refused("POST", "/v1/accounts", map[string]any{"name": "zoe", "password": password}, 403, "registration_closed")
		member.refused("POST", "/v1/invitations", nil, 403, "operator_only")
		visitor.refused("POST", "/v1/accounts", signUp("zoe", "invitation", byMember.Secret), 403, "invitation_invalid")

		old := invite(boss)
		clock.advance(7*24*time.Hour + time.Second)
		visitor.refused("POST", "/v1/accounts", signUp("zoe", "invitation", old.Secret), 403, "invitation_invalid")
		late := invite(boss)
		visitor.do("POST", "/v1/accounts", signUp("zoe", "invitation", late.Secret), 201, nil)

		boss.do("PUT", "/v1/server/registration", map[string]any{"registration": "open"}, 200, nil)
		s.signUp(t, "anyone")
	})
}

// Two who open the set-up link at once don't both become operator.
func TestSetUpRace(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		var won atomic.Int32
		var wg sync.WaitGroup
		for n := range 6 {
			b := s.browser(t)
			wg.Go(func() {
				body := fmt.Sprintf(`{"name":"boss%d","password":%q,"setUp":%q}`, n, password, s.SetUpSecret())
				res, err := b.http.Post(s.http.URL+"/v1/accounts", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				if res.StatusCode == 201 {
					won.Add(1)
				} else if res.StatusCode != 403 {
					t.Errorf("status %d", res.StatusCode)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d became operator", won.Load())
		}
	})
}

func TestInvitationsAreLimited(t *testing.T) {
	eachServer(t, func(c *Config) {
		c.Registration, c.Limits.Invitations = people.RegistrationInvite, 2
	}, func(t *testing.T, s *testServer) {
		boss := s.browser(t)
		boss.do("POST", "/v1/accounts", map[string]any{"name": "boss", "password": password, "setUp": s.SetUpSecret()}, 201, nil)
		for range 2 {
			boss.do("POST", "/v1/invitations", nil, 201, nil)
		}
		boss.refused("POST", "/v1/invitations", nil, 409, "too_many_invitations")
	})
}

func TestUpdateAccount(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna, bert := s.signUp(t, "anna"), s.signUp(t, "bert")
		anna.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
		ev, his := anna.events(nil), bert.events(nil)
		var got people.Account
		anna.do("PATCH", "/v1/account", map[string]any{"displayName": " Anna  Lee ", "callWaiting": false, "callsFrom": "contacts"}, 200, &got)
		want := anna.Session.Account
		want.DisplayName, want.CallWaiting, want.CallsFrom = "Anna Lee", false, people.CallsFromContacts
		if got != want {
			t.Errorf("account %+v, want %+v", got, want)
		}
		var told people.Account
		ev.expect("account", &told)
		if told != want {
			t.Errorf("event %+v", told)
		}
		var contacts people.Contacts
		his.expect("contacts", &contacts)
		if len(contacts.Incoming) != 1 || contacts.Incoming[0].DisplayName != "Anna Lee" {
			t.Errorf("the other sees %+v", contacts)
		}
		anna.do("PATCH", "/v1/account", map[string]any{}, 200, &got)
		if got != want {
			t.Errorf("an empty change made %+v", got)
		}
		anna.refused("PATCH", "/v1/account", map[string]any{"displayName": ""}, 422, "display_name_invalid")
		anna.refused("PATCH", "/v1/account", map[string]any{"callsFrom": "nobody"}, 422, "invalid_request")
		anna.refused("PATCH", "/v1/account", map[string]any{"name": "other"}, 422, "invalid_request")
	})
}

package companion

import (
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anytime/companion/people"
)

// relation looks b up by name and returns how they stand to the browser's account.
func (b *browser) relation(name string) people.Relation {
	b.t.Helper()
	var p people.Person
	b.do("GET", "/v1/people/"+url.PathEscape(name), nil, 200, &p)
	return p.Relation
}

func (b *browser) contacts() people.Contacts {
	b.t.Helper()
	var c people.Contacts
	b.do("GET", "/v1/contacts", nil, 200, &c)
	return c
}

func (b *browser) id() string { return b.Session.Account.ID }

// lists are the names in contacts, incoming, requested and blocked.
func lists(c people.Contacts) [4]string {
	names := func(list []people.Person) string {
		var s []string
		for _, p := range list {
			s = append(s, p.Name)
		}
		return strings.Join(s, " ")
	}
	return [4]string{names(c.Contacts), names(c.Incoming), names(c.Requested), names(c.Blocked)}
}

func TestLookup(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna, maria := s.signUp(t, "anna"), s.signUp(t, "Мария")
		var p people.Person
		anna.do("GET", "/v1/people/"+url.PathEscape("@МАРИЯ"), nil, 200, &p)
		if want := (people.Person{ID: maria.id(), Name: "мария", DisplayName: "Мария", Relation: people.None}); p != want {
			t.Errorf("person %+v, want %+v", p, want)
		}
		if r := anna.relation("anna"); r != people.Self {
			t.Errorf("to herself she is %s", r)
		}
		for _, name := range []string{"nobody", "ann", "annaa", "admin", "ann%2Fa", "%00", "%ff", "an%20na", url.PathEscape("аnna"), strings.Repeat("x", 5000)} {
			anna.refused("GET", "/v1/people/"+name, nil, 404, "person_not_found")
		}
		s.browser(t).refused("GET", "/v1/people/anna", nil, 401, "signed_out")
	})
}

func TestLookupsAreLimited(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) {
		c.Now, c.Limits.Lookup = clock.now, Rate{3, time.Minute}
		c.Limits.ContactRequest = Rate{2, time.Hour}
	}, func(t *testing.T, s *testServer) {
		anna, bert := s.signUp(t, "anna"), s.signUp(t, "bert")
		for _, name := range []string{"bert", "nobody"} {
			anna.do("GET", "/v1/people/"+name, nil, map[string]int{"bert": 200, "nobody": 404}[name], nil)
		}
		// A request looks the name up too.
		anna.refused("POST", "/v1/contacts", map[string]any{"name": "nobody"}, 404, "person_not_found")
		res, _ := anna.refused("GET", "/v1/people/bert", nil, 429, "too_many_requests")
		if res.Header.Get("Retry-After") != "60" {
			t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
		}
		anna.refused("POST", "/v1/contacts", map[string]any{"name": "bert"}, 429, "too_many_requests")
		bert.do("GET", "/v1/people/anna", nil, 200, nil) // each has their own limit
		for range 2 {
			clock.advance(time.Minute)
			anna.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
		}
		clock.advance(time.Minute)
		anna.refused("POST", "/v1/contacts", map[string]any{"name": "bert"}, 429, "too_many_requests")
	})
}

func TestRequestsAreLimited(t *testing.T) {
	clock := newClock()
	eachServer(t, func(c *Config) { c.Now, c.Limits.Requests = clock.now, Rate{5, time.Second} }, func(t *testing.T, s *testServer) {
		anna := s.signUp(t, "anna")
		for range 5 {
			anna.do("GET", "/v1/session", nil, 200, nil)
		}
		anna.refused("GET", "/v1/session", nil, 429, "too_many_requests")
		s.signIn(t, "anna").do("GET", "/v1/session", nil, 200, nil)
		clock.advance(time.Second)
		anna.do("GET", "/v1/session", nil, 200, nil)
	})
}

func TestContacts(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna, bert := s.signUp(t, "anna"), s.signUp(t, "bert")
		hers, his, his2 := anna.events(nil), bert.events(nil), s.signIn(t, "bert").events(nil)
		told := func(want [4]string, events ...*events) {
			t.Helper()
			for _, e := range events {
				var c people.Contacts
				e.expect("contacts", &c)
				if lists(c) != want {
					t.Errorf("an event shows %q, want %q", lists(c), want)
				}
			}
		}
		ask := func(b *browser, name string) (p people.Person) {
			t.Helper()
			b.do("POST", "/v1/contacts", map[string]any{"name": name}, 200, &p)
			return p
		}
		if p := ask(anna, "Bert"); p.Relation != people.Requested || p.ID != bert.id() {
			t.Errorf("asked %+v", p)
		}
		told([4]string{2: "bert"}, hers)
		told([4]string{1: "anna"}, his, his2)
		if anna.relation("bert") != people.Requested || bert.relation("anna") != people.Incoming {
			t.Error("the relation is not a request")
		}
		ask(anna, "bert") // once more changes nothing, and nobody hears of it
		anna.refused("POST", "/v1/contacts/"+bert.id()+"/accept", nil, 409, "no_request")
		var p people.Person
		bert.do("POST", "/v1/contacts/"+anna.id()+"/accept", nil, 200, &p)
		if p.Relation != people.Contact || p.ID != anna.id() {
			t.Errorf("accepted %+v", p)
		}
		told([4]string{0: "bert"}, hers)
		told([4]string{0: "anna"}, his, his2)
		bert.do("POST", "/v1/contacts/"+anna.id()+"/accept", nil, 200, &p)

		anna.do("DELETE", "/v1/contacts/"+bert.id(), nil, 204, nil)
		told([4]string{}, hers, his, his2)
		anna.do("DELETE", "/v1/contacts/"+bert.id(), nil, 204, nil)

		// Declined, withdrawn.
		ask(bert, "anna")
		told([4]string{1: "bert"}, hers)
		anna.do("DELETE", "/v1/contacts/"+bert.id(), nil, 204, nil)
		bert.do("DELETE", "/v1/contacts/"+anna.id(), nil, 204, nil)
		if got := lists(bert.contacts()); got != [4]string{} {
			t.Errorf("after all that %q", got)
		}
		// Who asks someone that has asked accepts.
		ask(bert, "anna")
		if p := ask(anna, "bert"); p.Relation != people.Contact {
			t.Errorf("both asked: %+v", p)
		}
		carl := s.signUp(t, "carl")
		ask(carl, "anna")
		ask(anna, "carl")
		if got := lists(anna.contacts()); got != [4]string{0: "bert carl"} {
			t.Errorf("contacts %q", got)
		}

		anna.refused("POST", "/v1/contacts", map[string]any{"name": "anna"}, 409, "self")
		anna.refused("POST", "/v1/contacts", map[string]any{"name": "nobody"}, 404, "person_not_found")
		anna.refused("POST", "/v1/contacts", map[string]any{"id": bert.id()}, 422, "invalid_request")
		for _, id := range []string{people.NewID("ac_"), "x", "%00", "ac_%ff", strings.Repeat("x", 5000)} {
			anna.refused("POST", "/v1/contacts/"+id+"/accept", nil, 404, "person_not_found")
			anna.refused("PUT", "/v1/contacts/"+id+"/block", nil, 404, "person_not_found")
			if strings.HasPrefix(id, "ac_") && len(id) == 19 {
				continue // nothing is between them, so there is nothing to remove
			}
			anna.refused("DELETE", "/v1/contacts/"+id, nil, 404, "person_not_found")
			anna.refused("DELETE", "/v1/invitations/"+id, nil, 404, "not_found")
		}
	})
}

// Two requests that cross make contacts, whatever their order.
func TestCrossingRequests(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		for i := range 5 {
			a, b := s.signUp(t, "anna"+string(rune('a'+i))), s.signUp(t, "bert"+string(rune('a'+i)))
			var wg sync.WaitGroup
			wg.Go(func() { a.do("POST", "/v1/contacts", map[string]any{"name": b.Session.Account.Name}, 200, nil) })
			wg.Go(func() { b.do("POST", "/v1/contacts", map[string]any{"name": a.Session.Account.Name}, 200, nil) })
			wg.Wait()
			if ra, rb := a.relation(b.Session.Account.Name), b.relation(a.Session.Account.Name); ra != people.Contact || rb != people.Contact {
				t.Errorf("after crossing requests they are %s and %s", ra, rb)
			}
		}
	})
}

// Whatever a blocked person does or looks at, it is as if there were no block:
// the same answers and the same events as toward someone who didn't block them.
func TestBlockedPeopleLearnNothing(t *testing.T) {
	var mu sync.Mutex
	var hooked []string
	eachServer(t, func(c *Config) {
		hooked = nil
		many := Rate{1000, time.Second}
		c.Limits.Lookup, c.Limits.ContactRequest, c.Limits.Requests = many, many, many
		c.Blocked = func(by, other string) {
			mu.Lock()
			defer mu.Unlock()
			hooked = append(hooked, by+" "+other)
		}
	}, func(t *testing.T, s *testServer) {
		bert := s.signUp(t, "bert")
		// Two who stand alike to bert; one of them blocks him.
		ends := map[string]*browser{"anna": s.signUp(t, "anna"), "olga": s.signUp(t, "olga")}
		anna := ends["anna"]
		observe := func(name string) string {
			t.Helper()
			var got []string
			note := func(method, path string, in any) {
				t.Helper()
				req := bert.answer(method, path, in)
				req = strings.NewReplacer(ends[name].id(), "ID", name, "NAME", strings.ToUpper(name[:1])+name[1:], "NAME").Replace(req)
				got = append(got, method+" "+req)
			}
			id := ends[name].id()
			look := func() {
				t.Helper()
				note("GET", "/v1/people/"+name, nil)
				c := bert.contacts()
				for _, l := range [][]people.Person{c.Contacts, c.Incoming, c.Requested, c.Blocked} {
					l = slices.DeleteFunc(l, func(p people.Person) bool { return p.Name != name })
					j, _ := json.Marshal(l)
					got = append(got, strings.NewReplacer(id, "ID", name, "NAME").Replace(string(j)))
				}
			}
			look()
			note("POST", "/v1/contacts", map[string]any{"name": name})
			look()
			note("POST", "/v1/contacts", map[string]any{"name": name})
			note("POST", "/v1/contacts/"+id+"/accept", nil)
			look()
			note("DELETE", "/v1/contacts/"+id, nil)
			look()
			note("POST", "/v1/contacts", map[string]any{"name": name})
			note("PUT", "/v1/contacts/"+id+"/block", nil)
			look()
			note("DELETE", "/v1/contacts/"+id+"/block", nil)
			look()
			note("DELETE", "/v1/contacts/"+id, nil)
			return strings.Join(got, "\n")
		}
		for _, before := range []string{"nothing", "requested", "incoming", "contact"} {
			his := bert.events(nil)
			for name, b := range ends {
				switch before {
				case "requested":
					bert.do("POST", "/v1/contacts", map[string]any{"name": name}, 200, nil)
				case "incoming":
					b.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
				case "contact":
					b.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
					bert.do("POST", "/v1/contacts", map[string]any{"name": name}, 200, nil)
				}
			}
			hers := anna.events(nil)
			anna.do("PUT", "/v1/contacts/"+bert.id()+"/block", nil, 204, nil)
			anna.do("PUT", "/v1/contacts/"+bert.id()+"/block", nil, 204, nil)
			var c people.Contacts
			hers.expect("contacts", &c)
			if lists(c) != [4]string{3: "bert"} {
				t.Errorf("%s: the one who blocks sees %q", before, lists(c))
			}
			if r := anna.relation("bert"); r != people.Blocked {
				t.Errorf("%s: the one who blocks sees %s", before, r)
			}
			a, o := observe("anna"), observe("olga")
			if a != o {
				t.Errorf("with %s before, the blocked person sees\n%s\nbut without a block\n%s", before, a, o)
			}
			// Nothing he did reached her.
			anna.do("PATCH", "/v1/account", map[string]any{}, 200, nil)
			if e := hers.next(); e.Type != "account" {
				t.Errorf("%s: a blocked person's doings made an event %s %s", before, e.Type, e.Data)
			}
			anna.refused("POST", "/v1/contacts", map[string]any{"name": "bert"}, 409, "person_blocked")
			anna.do("DELETE", "/v1/contacts/"+bert.id()+"/block", nil, 204, nil)
			hers.expect("contacts", &c)
			if lists(c) != [4]string{} {
				t.Errorf("%s: after the block she sees %q", before, lists(c))
			}
			his.conn.Close()
			hers.conn.Close()
		}
		anna.refused("PUT", "/v1/contacts/"+anna.id()+"/block", nil, 409, "self")
		mu.Lock()
		defer mu.Unlock()
		hers := slices.DeleteFunc(slices.Clone(hooked), func(s string) bool { return !strings.HasPrefix(s, anna.id()) })
		if want := slices.Repeat([]string{anna.id() + " " + bert.id()}, 4); !reflect.DeepEqual(hers, want) {
			t.Errorf("the hook heard %v, want %v", hers, want)
		}
	})
}

// A block makes no event for the one who is blocked.
func TestBlockIsSilent(t *testing.T) {
	eachServer(t, nil, func(t *testing.T, s *testServer) {
		anna, bert := s.signUp(t, "anna"), s.signUp(t, "bert")
		anna.do("POST", "/v1/contacts", map[string]any{"name": "bert"}, 200, nil)
		bert.do("POST", "/v1/contacts", map[string]any{"name": "anna"}, 200, nil)
		his := bert.events(nil)
		anna.do("PUT", "/v1/contacts/"+bert.id()+"/block", nil, 204, nil)
		anna.do("DELETE", "/v1/contacts/"+bert.id()+"/block", nil, 204, nil)
		bert.do("PATCH", "/v1/account", map[string]any{}, 200, nil)
		if e := his.next(); e.Type != "account" {
			t.Errorf("a block made an event %s %s", e.Type, e.Data)
		}
		if r := anna.relation("bert"); r != people.Contact {
			t.Errorf("after the block they are %s", r)
		}
	})
}

func TestListsAreLimited(t *testing.T) {
	eachServer(t, func(c *Config) { c.Limits.Relations = 2 }, func(t *testing.T, s *testServer) {
		anna := s.signUp(t, "anna")
		var others []*browser
		for _, name := range []string{"bert", "carl", "dora"} {
			others = append(others, s.signUp(t, name))
		}
		for _, name := range []string{"bert", "carl"} {
			anna.do("POST", "/v1/contacts", map[string]any{"name": name}, 200, nil)
		}
		anna.refused("POST", "/v1/contacts", map[string]any{"name": "dora"}, 409, "too_many_people")
		for _, b := range others[:2] {
			anna.do("PUT", "/v1/contacts/"+b.id()+"/block", nil, 204, nil)
		}
		anna.refused("PUT", "/v1/contacts/"+others[2].id()+"/block", nil, 409, "too_many_people")
	})
}

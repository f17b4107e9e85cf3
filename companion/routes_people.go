package companion

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

func (s *Server) peopleRoutes() {
	signedIn(s, huma.Operation{OperationID: "get-person", Method: http.MethodGet, Path: "/v1/people/{name}",
		Summary: "Find a person by their exact name", Errors: []int{404}}, s.getPerson)
	signedIn(s, huma.Operation{OperationID: "list-contacts", Method: http.MethodGet, Path: "/v1/contacts",
		Summary: "Everyone I have a relation with"}, s.listContacts)
	signedIn(s, huma.Operation{OperationID: "request-contact", Method: http.MethodPost, Path: "/v1/contacts",
		Summary: "Ask a person to be a contact", Errors: []int{404, 409}}, s.requestContact)
	signedIn(s, huma.Operation{OperationID: "accept-contact", Method: http.MethodPost, Path: "/v1/contacts/{id}/accept",
		Summary: "Accept a person's request", Errors: []int{404, 409}}, s.acceptContact)
	signedIn(s, huma.Operation{OperationID: "remove-contact", Method: http.MethodDelete, Path: "/v1/contacts/{id}",
		Summary: "Remove a contact, decline a request or withdraw one"}, s.removeContact)
	signedIn(s, huma.Operation{OperationID: "block", Method: http.MethodPut, Path: "/v1/contacts/{id}/block",
		Summary: "Block a person, who won't notice", Errors: []int{404, 409}}, s.block)
	signedIn(s, huma.Operation{OperationID: "unblock", Method: http.MethodDelete, Path: "/v1/contacts/{id}/block",
		Summary: "End a block"}, s.unblock)
}

func errNobody() *Problem {
	return problem(http.StatusNotFound, "person_not_found", "Nobody here has this name. Please check how it is written.")
}

func errBlocked() *Problem {
	return problem(http.StatusConflict, "person_blocked", "You have blocked this person. Unblock them first.")
}

func errSelf() *Problem {
	return problem(http.StatusConflict, "self", "This is you.")
}

// personError turns the store's answers about another person into problems.
func personError(err error) error {
	switch {
	case errors.Is(err, sqlstore.ErrNotFound):
		return problem(http.StatusNotFound, "person_not_found", "This person is not here any more.")
	case errors.Is(err, sqlstore.ErrBlocked):
		return errBlocked()
	case errors.Is(err, sqlstore.ErrSelf):
		return errSelf()
	case errors.Is(err, sqlstore.ErrTooMany):
		return problem(http.StatusConflict, "too_many_people", "Your list of people is full. Remove someone first.")
	case errors.Is(err, sqlstore.ErrConflict):
		return problem(http.StatusConflict, "no_request", "This person has not asked to be your contact, or no longer does.")
	}
	return err
}

// personByName finds a person by a name as someone typed it. The account's limit
// of look-ups counts, for names must not be listed by guessing.
func (s *Server) personByName(ctx context.Context, sess Session, typed string) (people.Person, error) {
	if wait, ok := s.limits.lookup.take(sess.Account.ID, s.now()); !ok {
		return people.Person{}, tooMany(wait, "You looked up many names just now. Please wait a little and try again.")
	}
	name, err := people.ParseName(typed)
	if err != nil {
		return people.Person{}, errNobody()
	}
	p, err := s.store.PersonByName(ctx, sess.Account.ID, name.String())
	if errors.Is(err, sqlstore.ErrNotFound) {
		return people.Person{}, errNobody()
	}
	return p, err
}

type nameInput struct {
	Name string `path:"name"`
}

func (s *Server) getPerson(ctx context.Context, sess Session, in *nameInput) (*output[people.Person], error) {
	p, err := s.personByName(ctx, sess, in.Name)
	if err != nil {
		return nil, err
	}
	return &output[people.Person]{p}, nil
}

func (s *Server) listContacts(ctx context.Context, sess Session, _ *struct{}) (*output[people.Contacts], error) {
	c, err := s.store.Contacts(ctx, sess.Account.ID)
	if err != nil {
		return nil, err
	}
	return &output[people.Contacts]{c}, nil
}

// personInput names a person by their account's id.
type personInput struct {
	ID string `path:"id" doc:"The person's account id"`
}

// Resolve refuses what can't be an account's id, which no database need hear of.
func (in *personInput) Resolve(huma.Context) []error {
	if !people.ValidID("ac_", in.ID) {
		return []error{personError(sqlstore.ErrNotFound)}
	}
	return nil
}

type requestInput struct {
	Body struct {
		Name string `json:"name"`
	}
}

func (s *Server) requestContact(ctx context.Context, sess Session, in *requestInput) (*output[people.Person], error) {
	p, err := s.personByName(ctx, sess, in.Body.Name)
	if err != nil {
		return nil, err
	}
	now := s.now()
	if wait, ok := s.limits.contactRequest.take(sess.Account.ID, now); !ok {
		return nil, tooMany(wait, "You asked many people just now. Please wait a little and try again.")
	}
	p, changed, err := s.store.Request(ctx, sess.Account.ID, p.ID, s.cfg.Limits.Relations, now)
	if err != nil {
		return nil, personError(err)
	}
	if changed {
		err = s.publishRelation(ctx, sess.Account.ID, p.ID)
	}
	return &output[people.Person]{p}, err
}

func (s *Server) acceptContact(ctx context.Context, sess Session, in *personInput) (*output[people.Person], error) {
	p, changed, err := s.store.Accept(ctx, sess.Account.ID, in.ID, s.now())
	if err != nil {
		return nil, personError(err)
	}
	if changed {
		err = s.publishRelation(ctx, sess.Account.ID, p.ID)
	}
	return &output[people.Person]{p}, err
}

func (s *Server) removeContact(ctx context.Context, sess Session, in *personInput) (*struct{}, error) {
	removed, err := s.store.RemoveRelation(ctx, sess.Account.ID, in.ID)
	if err == nil && removed {
		err = s.publishRelation(ctx, sess.Account.ID, in.ID)
	}
	return nil, err
}

func (s *Server) block(ctx context.Context, sess Session, in *personInput) (*struct{}, error) {
	blocked, err := s.store.Block(ctx, sess.Account.ID, in.ID, s.cfg.Limits.Relations, s.now())
	if err != nil {
		return nil, personError(err)
	}
	if blocked {
		s.publishContacts(sess.Account.ID) // and to nobody else
		if s.cfg.Blocked != nil {
			s.cfg.Blocked(sess.Account.ID, in.ID)
		}
	}
	return nil, nil
}

func (s *Server) unblock(ctx context.Context, sess Session, in *personInput) (*struct{}, error) {
	unblocked, err := s.store.Unblock(ctx, sess.Account.ID, in.ID)
	if err == nil && unblocked {
		s.publishContacts(sess.Account.ID)
	}
	return nil, err
}

// publishContacts sends an account's contacts, as they are when each event is
// written, to all its devices.
func (s *Server) publishContacts(accountID string) {
	s.hub.Publish(accountID, "", Event{Type: "contacts", Key: "contacts",
		Load: func(ctx context.Context, sess Session) (any, error) {
			return s.store.Contacts(ctx, sess.Account.ID)
		}})
}

// publishRelation tells two people of a change between them that one of them made;
// the other hears nothing if they have blocked that one.
func (s *Server) publishRelation(ctx context.Context, byID, otherID string) error {
	s.publishContacts(byID)
	blocked, err := s.store.HasBlocked(ctx, otherID, byID)
	if err == nil && !blocked {
		s.publishContacts(otherID)
	}
	return err
}

// publishToKnown tells everyone who sees the account in their lists that it has
// changed.
func (s *Server) publishToKnown(ctx context.Context, accountID string) error {
	ids, err := s.store.KnownBy(ctx, accountID)
	for _, id := range ids {
		s.publishContacts(id)
	}
	return err
}

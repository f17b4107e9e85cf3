package companion

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

// invitationLife is how long an invitation can be used.
const invitationLife = 7 * 24 * time.Hour

type serverInfo struct {
	Name         string              `json:"name"`
	Registration people.Registration `json:"registration" enum:"open,invite,closed"`
	Operator     bool                `json:"operator" doc:"Whether this server has an operator yet"`
}

type invitation struct {
	ID        string    `json:"id"`
	Link      string    `json:"link,omitempty" doc:"Path of the link for people; shown only once"`
	Secret    string    `json:"secret,omitempty" doc:"Shown only once"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// output is an answer with a JSON body.
type output[T any] struct{ Body T }

func (s *Server) serverRoutes() {
	register(s, huma.Operation{OperationID: "get-server", Method: http.MethodGet, Path: "/v1/server",
		Summary: "What this server is and who may sign up"}, s.getServer)
	signedIn(s, huma.Operation{OperationID: "set-registration", Method: http.MethodPut, Path: "/v1/server/registration",
		Summary: "Decide who may sign up (operator)", Errors: []int{403}}, s.setRegistration)
	signedIn(s, huma.Operation{OperationID: "create-invitation", Method: http.MethodPost, Path: "/v1/invitations",
		DefaultStatus: http.StatusCreated,
		Summary:       "Invite one person (operator; members too while registration is by invitation)", Errors: []int{403, 409}}, s.createInvitation)
	signedIn(s, huma.Operation{OperationID: "list-invitations", Method: http.MethodGet, Path: "/v1/invitations",
		Summary: "My invitations that nobody has used yet"}, s.listInvitations)
	signedIn(s, huma.Operation{OperationID: "revoke-invitation", Method: http.MethodDelete, Path: "/v1/invitations/{id}",
		Summary: "Void one of my invitations", Errors: []int{404}}, s.revokeInvitation)
}

func (s *Server) getServer(ctx context.Context, _ *struct{}) (*output[serverInfo], error) {
	r, err := s.store.Registration(ctx)
	if err != nil {
		return nil, err
	}
	operator, err := s.store.HasOperator(ctx)
	if err != nil {
		return nil, err
	}
	return &output[serverInfo]{serverInfo{s.cfg.Name, r, operator}}, nil
}

type registrationInput struct {
	Body struct {
		Registration people.Registration `json:"registration" enum:"open,invite,closed"`
	}
}

func (s *Server) setRegistration(ctx context.Context, sess Session, in *registrationInput) (*output[serverInfo], error) {
	if !sess.Account.Operator {
		return nil, problem(http.StatusForbidden, "operator_only", "Only the operator of this server can decide who may sign up.")
	}
	r, err := people.ParseRegistration(string(in.Body.Registration))
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "invalid_request", sentence(err.Error()))
	}
	if err := s.store.SetRegistration(ctx, r); err != nil {
		return nil, err
	}
	return s.getServer(ctx, nil)
}

func (s *Server) createInvitation(ctx context.Context, sess Session, _ *struct{}) (*output[invitation], error) {
	if !sess.Account.Operator {
		r, err := s.store.Registration(ctx)
		if err != nil {
			return nil, err
		}
		if r != people.RegistrationInvite {
			return nil, problem(http.StatusForbidden, "operator_only", "Only the operator of this server can invite people now.")
		}
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	secret := people.NewSecret()
	hash, err := people.HashSecret(secret)
	if err != nil {
		return nil, err
	}
	inv := sqlstore.Invitation{ID: people.NewID("in_"), CreatedAt: now, ExpiresAt: now.Add(invitationLife)}
	err = s.store.CreateInvitation(ctx, sess.Account.ID, inv, hash, s.cfg.Limits.Invitations, now)
	if errors.Is(err, sqlstore.ErrTooMany) {
		return nil, problem(http.StatusConflict, "too_many_invitations", "You have many invitations open already. Revoke one or wait until one is used.")
	}
	if err != nil {
		return nil, err
	}
	return &output[invitation]{invitation{ID: inv.ID, Link: "/#/join/" + secret, Secret: secret,
		CreatedAt: inv.CreatedAt, ExpiresAt: inv.ExpiresAt}}, nil
}

type invitationList struct {
	Invitations []invitation `json:"invitations"`
}

func (s *Server) listInvitations(ctx context.Context, sess Session, _ *struct{}) (*output[invitationList], error) {
	open, err := s.store.Invitations(ctx, sess.Account.ID, s.now())
	if err != nil {
		return nil, err
	}
	list := make([]invitation, len(open))
	for i, inv := range open {
		list[i] = invitation{ID: inv.ID, CreatedAt: inv.CreatedAt, ExpiresAt: inv.ExpiresAt}
	}
	return &output[invitationList]{invitationList{list}}, nil
}

type revokeInput struct {
	ID string `path:"id"`
}

func (s *Server) revokeInvitation(ctx context.Context, sess Session, in *revokeInput) (*struct{}, error) {
	err := sqlstore.ErrNotFound
	if people.ValidID("in_", in.ID) {
		err = s.store.RevokeInvitation(ctx, sess.Account.ID, in.ID)
	}
	if errors.Is(err, sqlstore.ErrNotFound) {
		return nil, problem(http.StatusNotFound, "not_found", "You have no such invitation open: it was used, revoked or has expired.")
	}
	return nil, err
}

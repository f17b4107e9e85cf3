package companion

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
)

func (s *Server) accountRoutes() {
	register(s, huma.Operation{OperationID: "sign-up", Method: http.MethodPost, Path: "/v1/accounts",
		DefaultStatus: http.StatusCreated, Summary: "Sign up and sign in", Errors: []int{403, 409, 422, 429, 503}}, s.signUp)
	register(s, huma.Operation{OperationID: "sign-in", Method: http.MethodPost, Path: "/v1/sessions",
		DefaultStatus: http.StatusCreated, Summary: "Sign in", Errors: []int{401, 422, 429, 503}}, s.signIn)
	signedIn(s, huma.Operation{OperationID: "get-session", Method: http.MethodGet, Path: "/v1/session",
		Summary: "Who I am and on which device"}, s.getSession)
	signedIn(s, huma.Operation{OperationID: "sign-out", Method: http.MethodDelete, Path: "/v1/session",
		Summary: "Sign this device out"}, s.signOut)
	signedIn(s, huma.Operation{OperationID: "update-account", Method: http.MethodPatch, Path: "/v1/account",
		Summary: "Change my display name or whose calls ring", Errors: []int{422}}, s.updateAccount)
}

// DeviceInput is what a client says of itself when it signs in.
type DeviceInput struct {
	DeviceName string `json:"deviceName,omitempty" doc:"What to call this device"`
	Kind       string `json:"kind,omitempty" doc:"browser, app, watch, …; browser if left out"`
	Bearer     bool   `json:"bearer,omitempty" doc:"Answer with a bearer token in place of a cookie"`
}

func (d DeviceInput) parse() (people.Device, error) {
	kind, err := people.ParseKind(d.Kind)
	if err != nil {
		return people.Device{}, err
	}
	name, err := people.ParseDeviceName(d.DeviceName, strings.ToUpper(kind[:1])+kind[1:])
	if err != nil {
		return people.Device{}, err
	}
	return people.Device{ID: people.NewID("dv_"), Name: name, Kind: kind}, nil
}

type signUpInput struct {
	Body struct {
		Name        string `json:"name" doc:"2 to 32 letters and digits, with . _ - between them"`
		Password    string `json:"password" doc:"At least 8 characters"`
		DisplayName string `json:"displayName,omitempty" doc:"The name as typed, if left out"`
		Invitation  string `json:"invitation,omitempty" doc:"Secret of an invitation"`
		SetUp       string `json:"setUp,omitempty" doc:"Secret of the one-time set-up link: makes this account the operator"`
		DeviceInput
	}
}

func (s *Server) signUp(ctx context.Context, in *signUpInput) (*output[Session], error) {
	b := &in.Body
	name, err := people.ParseName(b.Name)
	if err != nil {
		return nil, err
	}
	if people.Reserved(name) {
		return nil, people.ErrReserved(name)
	}
	password, err := people.ParsePassword(b.Password, name)
	if err != nil {
		return nil, err
	}
	display := b.DisplayName
	if display == "" {
		display = strings.TrimLeft(strings.TrimSpace(b.Name), "@")
	}
	if display, err = people.ParseDisplayName(display); err != nil {
		return nil, err
	}
	dev, err := b.DeviceInput.parse()
	if err != nil {
		return nil, err
	}
	acc := sqlstore.NewAccount{ID: people.NewID("ac_"), Name: name, DisplayName: display}
	if err := s.mayRegister(ctx, b.Invitation, b.SetUp, &acc); err != nil {
		return nil, err
	}
	// Only now, so that whoever corrects a typing error does not use turns up.
	client := clientOf(ctx)
	if wait, ok := s.limits.signUp.take(client.addr, s.now()); !ok {
		return nil, tooMany(wait, "Too many people signed up from your address just now. Please try again later.")
	}
	if acc.Password, err = s.passwords.Hash(ctx, password); err != nil {
		return nil, passwordError(err)
	}
	now := s.now()
	secret, newSession, err := newSession(dev, b.Bearer, now)
	if err != nil {
		return nil, err
	}
	account, err := s.store.CreateAccount(ctx, acc, newSession, now)
	switch {
	case errors.Is(err, sqlstore.ErrNameTaken):
		return nil, people.ErrTaken(name)
	case errors.Is(err, sqlstore.ErrNameConfusable):
		return nil, people.ErrConfusable(name)
	case errors.Is(err, sqlstore.ErrInvitation):
		return nil, errInvitation()
	case errors.Is(err, sqlstore.ErrSetUp):
		return nil, errSetUp()
	case errors.Is(err, sqlstore.ErrRegistration): // decided while the password was hashed
		return nil, errClosed()
	case err != nil:
		return nil, err
	}
	// Whoever was signed in with this browser before no longer is.
	if err := s.endPresented(ctx, client); err != nil {
		return nil, err
	}
	return s.signedInAs(client, Session{Account: account, Device: dev}, secret, b.Bearer), nil
}

// mayRegister puts into acc the hashes of what the person showed. Without any it
// fails unless registration is open.
func (s *Server) mayRegister(ctx context.Context, invitation, setUp string, acc *sqlstore.NewAccount) (err error) {
	switch {
	case setUp != "":
		if acc.SetUp, err = people.HashSecret(setUp); err != nil {
			return errSetUp()
		}
		return nil
	case invitation != "":
		if acc.Invitation, err = people.HashSecret(invitation); err != nil {
			return errInvitation()
		}
		return nil
	}
	r, err := s.store.Registration(ctx)
	switch {
	case err != nil:
		return err
	case r == people.RegistrationInvite:
		return problem(http.StatusForbidden, "invitation_needed", "This server takes new people by invitation: ask someone here for a link.")
	case r == people.RegistrationClosed:
		return errClosed()
	}
	return nil
}

func errClosed() *Problem {
	return problem(http.StatusForbidden, "registration_closed", "This server takes no new people now.")
}

func errInvitation() *Problem {
	return problem(http.StatusForbidden, "invitation_invalid", "This invitation was used, revoked or has expired. Please ask for a new link.")
}

func errSetUp() *Problem {
	return problem(http.StatusForbidden, "set_up_invalid", "This set-up link was used or replaced. The server prints a new one at its start while it has no operator.")
}

func passwordError(err error) error {
	if errors.Is(err, people.ErrBusy) {
		p := problem(http.StatusServiceUnavailable, "busy", "Many people are signing in right now. Please try again in a moment.")
		p.headers = http.Header{"Retry-After": {"2"}}
		return p
	}
	return err
}

type signInInput struct {
	Body struct {
		Name     string `json:"name"`
		Password string `json:"password"`
		DeviceInput
	}
}

// signIn answers a wrong password, an unknown name and a name that can't be one in
// the same way and after the same work.
func (s *Server) signIn(ctx context.Context, in *signInInput) (*output[Session], error) {
	b := &in.Body
	dev, err := b.DeviceInput.parse()
	if err != nil {
		return nil, err
	}
	client := clientOf(ctx)
	name, nameErr := people.ParseName(b.Name)
	key := name.String()
	if nameErr != nil {
		key = "!" + b.Name[:min(len(b.Name), 64)]
	}
	now := s.now()
	if wait, ok := s.limits.signInAddress.take(client.addr, now); !ok {
		return nil, errTooManyTries(wait)
	}
	if wait, ok := s.limits.signInName.take(key, now); !ok {
		s.limits.signInAddress.giveBack(client.addr)
		return nil, errTooManyTries(wait)
	}
	var account people.Account
	var phc string
	if nameErr == nil {
		account, phc, err = s.store.Password(ctx, name.String())
		if err != nil && !errors.Is(err, sqlstore.ErrNotFound) {
			return nil, err
		}
	}
	typed := people.TypedPassword(b.Password)
	ok, outdated, err := s.passwords.Verify(ctx, phc, typed)
	if err != nil {
		return nil, passwordError(err)
	}
	if !ok {
		return nil, problem(http.StatusUnauthorized, "wrong_password", "The name or the password is not right. Please check both and try again.")
	}
	s.limits.signInAddress.giveBack(client.addr)
	s.limits.signInName.giveBack(key)
	if outdated {
		s.rehash(ctx, account.ID, phc, typed)
	}

	now = s.now()
	secret, newSession, err := newSession(dev, b.Bearer, now)
	if err != nil {
		return nil, err
	}
	// The session that this browser shows is rotated if it is of the same account,
	// and ended if not.
	replaces := ""
	if old, bearer, ok := s.presentedSession(ctx, client); ok && old.Account.ID == account.ID && bearer == b.Bearer {
		replaces = old.hash
	} else if err := s.endPresented(ctx, client); err != nil {
		return nil, err
	}
	var gone []sqlstore.EndedSession
	dev, gone, err = s.store.CreateSession(ctx, account.ID, newSession, replaces, s.cfg.Limits.Devices, now)
	if err != nil {
		return nil, err
	}
	s.ended(gone...)
	return s.signedInAs(client, Session{Account: account, Device: dev}, secret, b.Bearer), nil
}

func errTooManyTries(wait time.Duration) *Problem {
	return tooMany(wait, "Too many tries to sign in. Please wait a little and try again.")
}

// rehash stores a password's hash anew at the present cost. Should it fail, the
// next sign-in tries again.
func (s *Server) rehash(ctx context.Context, accountID, old, password string) {
	phc, err := s.passwords.Hash(ctx, password)
	if err == nil {
		err = s.store.SetPassword(ctx, accountID, old, phc)
	}
	if err != nil {
		s.log.WarnContext(ctx, "renew a password's hash", "account", accountID, "err", err)
	}
}

// newSession makes the secret of a session and what the store keeps of it.
func newSession(dev people.Device, bearer bool, now time.Time) (secret string, sess sqlstore.NewSession, err error) {
	secret = people.NewSecret()
	hash, err := people.HashSecret(secret)
	return secret, sqlstore.NewSession{Hash: hash, Device: dev, Bearer: bearer, ExpiresAt: now.Add(sessionLife)}, err
}

// signedInAs hands the secret over: as a cookie, or in the answer.
func (s *Server) signedInAs(c client, sess Session, secret string, bearer bool) *output[Session] {
	if bearer {
		sess.Token = secret
	} else {
		setCookie(c.w, secret)
	}
	return &output[Session]{sess}
}

// presentedSession returns the session whose secret a request shows, if it does.
func (s *Server) presentedSession(ctx context.Context, c client) (sess Session, bearer, ok bool) {
	secret, bearer := presented(c.r)
	hash, err := people.HashSecret(secret)
	if err != nil {
		return Session{}, bearer, false
	}
	stored, err := s.store.Session(ctx, hash, s.now())
	if err != nil || stored.Bearer != bearer {
		return Session{}, bearer, false
	}
	return Session{Account: stored.Account, Device: stored.Device, hash: hash}, bearer, true
}

// endPresented ends the session whose secret a request shows, if it does.
func (s *Server) endPresented(ctx context.Context, c client) error {
	old, _, ok := s.presentedSession(ctx, c)
	if !ok {
		return nil
	}
	return s.endSession(ctx, old)
}

// endSession signs a device out, all the way even if the client hangs up.
func (s *Server) endSession(ctx context.Context, sess Session) error {
	gone, err := s.store.EndSession(context.WithoutCancel(ctx), sess.hash, s.now())
	s.ended(gone...)
	return err
}

func (s *Server) getSession(_ context.Context, sess Session, _ *struct{}) (*output[Session], error) {
	return &output[Session]{sess}, nil
}

func (s *Server) signOut(ctx context.Context, sess Session, _ *struct{}) (*struct{}, error) {
	if err := s.endSession(ctx, sess); err != nil {
		return nil, err
	}
	clearCookie(clientOf(ctx).w)
	return nil, nil
}

type accountInput struct {
	Body struct {
		DisplayName *string           `json:"displayName,omitempty"`
		CallWaiting *bool             `json:"callWaiting,omitempty"`
		CallsFrom   *people.CallsFrom `json:"callsFrom,omitempty" enum:"everyone,contacts"`
	}
}

func (s *Server) updateAccount(ctx context.Context, sess Session, in *accountInput) (*output[people.Account], error) {
	change := sqlstore.AccountChange{CallWaiting: in.Body.CallWaiting, CallsFrom: in.Body.CallsFrom}
	if in.Body.DisplayName != nil {
		display, err := people.ParseDisplayName(*in.Body.DisplayName)
		if err != nil {
			return nil, err
		}
		change.DisplayName = &display
	}
	account, err := s.store.UpdateAccount(ctx, sess.Account.ID, change)
	if err != nil {
		return nil, err
	}
	s.hub.Publish(account.ID, "", Event{Type: "account", Key: account.ID, Data: account})
	if account.DisplayName != sess.Account.DisplayName {
		if err := s.publishToKnown(ctx, account.ID); err != nil {
			return nil, err
		}
	}
	return &output[people.Account]{account}, nil
}

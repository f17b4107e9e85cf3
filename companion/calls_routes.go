package companion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/signaling/call"
)

// callRoutes registers /v1/calls. Called by New, after s.api is made and before
// any goroutine starts.
func (s *Server) callRoutes() {
	s.initCalls()
	route := func(id, method, path, summary string, errs ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Errors: errs}
	}
	place := route("place-call", http.MethodPost, "/v1/calls",
		"Call people by their names. 201: it rings. 200: they were calling me at the same time, I am in a call with them already, or the client id was used before",
		403, 404, 409, 422)
	place.Responses = map[string]*huma.Response{"201": {Description: "Created", Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[joinBody](), true, "JoinBody")},
	}}}
	signedIn(s, place, s.placeCall)
	signedIn(s, route("list-calls", http.MethodGet, "/v1/calls", "My call history, newest first", 422), s.listCalls)
	signedIn(s, route("get-call", http.MethodGet, "/v1/calls/{id}", "A call of mine", 404), s.getCall)
	signedIn(s, route("answer-call", http.MethodPost, "/v1/calls/{id}/answer",
		"Take the call on this device, which leaves the call it is in", 404, 409), s.answerCall)
	signedIn(s, route("decline-call", http.MethodPost, "/v1/calls/{id}/decline", "Refuse the call on all my devices", 404, 409), s.declineCall)
	signedIn(s, route("cancel-call", http.MethodPost, "/v1/calls/{id}/cancel", "Withdraw my call; hangs up if it was just answered", 404, 409), s.cancelCall)
	signedIn(s, route("hang-up", http.MethodPost, "/v1/calls/{id}/hangup", "Leave the call", 404, 409), s.hangUp)
	signedIn(s, route("join-call", http.MethodPost, "/v1/calls/{id}/join", "A new token for the room of the call that this device is in", 404, 409), s.joinCall)
	signedIn(s, route("call-quality", http.MethodGet, "/v1/calls/{id}/quality",
		"What the server measured of the call that this device is in over the last seconds", 404, 409), s.callQuality)
	signedIn(s, route("invite-to-call", http.MethodPost, "/v1/calls/{id}/invite", "Ring more people", 403, 404, 409, 422), s.inviteToCall)
}

// Join is how to get into a call's room.
type Join struct {
	URL       string    `json:"url" doc:"WebSocket base: append /rtc" example:"wss://example.org"`
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

type callBody struct {
	Call *Call `json:"call"`
}

type joinBody struct {
	Call *Call `json:"call"`
	Join *Join `json:"join,omitempty" doc:"Absent when the call was over at once: everybody was busy"`
}

type placedOutput struct {
	Status int
	Body   joinBody
}

func errNoCall() *Problem {
	return problem(http.StatusNotFound, "call_not_found", "There is no such call.")
}

// callError turns the answers of the store and of package call into problems.
func (s *Server) callError(ctx context.Context, sess Session, err error) error {
	var refused *sqlstore.CallRefused
	switch {
	case errors.As(err, &refused):
		return s.refusedCall(ctx, sess, refused)
	case errors.Is(err, sqlstore.ErrInCall):
		return problem(http.StatusConflict, "in_call", "This device is in a call already. Hang up first, or add people to that call.")
	case errors.Is(err, sqlstore.ErrNotFound), errors.Is(err, call.ErrStranger):
		return errNoCall()
	case errors.Is(err, call.ErrOver):
		return problem(http.StatusConflict, "call_over", "This call is over.")
	case errors.Is(err, call.ErrElsewhere):
		return problem(http.StatusConflict, "answered_elsewhere", "You took this call on another device.")
	case errors.Is(err, call.ErrNotIn):
		return problem(http.StatusConflict, "not_in_call", "This device is not in the call.")
	case errors.Is(err, call.ErrNotCaller):
		return problem(http.StatusConflict, "not_caller", "Only who calls can cancel. Decline the call instead.")
	case errors.Is(err, call.ErrFull):
		return problem(http.StatusUnprocessableEntity, "call_full", fmt.Sprintf("A call has at most %d people.", call.MaxPeople))
	case errors.Is(err, call.ErrInvalid):
		return problem(http.StatusConflict, "already_in_call", "You are in this call. Hang up to leave it.")
	}
	return err
}

func (s *Server) refusedCall(ctx context.Context, sess Session, refused *sqlstore.CallRefused) error {
	p, err := s.store.Person(ctx, sess.Account.ID, refused.AccountID)
	if err != nil {
		return err
	}
	if refused.Why == sqlstore.CalleeBlocked {
		return problem(http.StatusConflict, "person_blocked", fmt.Sprintf("You have blocked @%s. Unblock them to call.", p.Name))
	}
	return problem(http.StatusForbidden, "contacts_only",
		fmt.Sprintf("@%s takes calls from contacts only. Ask to be a contact first.", p.Name))
}

// called finds those whom someone calls by name, each once. It costs look-ups, and
// turns of the limits of calls.
func (s *Server) called(ctx context.Context, sess Session, names []string) ([]string, error) {
	var ids []string
	strangers := 0
	for _, name := range names {
		p, err := s.personByName(ctx, sess, strings.TrimPrefix(name, "@"))
		if err != nil {
			if p := new(Problem); errors.As(err, &p) && p.Code == errNobody().Code {
				return nil, problem(p.Status, p.Code, fmt.Sprintf("Nobody here is called @%s. Please check how the name is written.", quoted(name)))
			}
			return nil, err
		}
		if p.Relation == people.Self {
			return nil, problem(http.StatusUnprocessableEntity, "self", "This is you: call somebody else.")
		}
		if slices.Contains(ids, p.ID) {
			continue
		}
		ids = append(ids, p.ID)
		if p.Relation != people.Contact {
			strangers++
		}
	}
	now := s.now()
	for range ids {
		if wait, ok := s.calls.place.take(sess.Account.ID, now); !ok {
			return nil, tooMany(wait, "You called many times just now. Please wait a little and try again.")
		}
	}
	for range strangers {
		if wait, ok := s.calls.strangers.take(sess.Account.ID, now); !ok {
			return nil, tooMany(wait, "You called many people who are not your contacts. Please wait a little, or ask them to be contacts first.")
		}
	}
	return ids, nil
}

// quoted is a name as someone typed it, fit for a sentence.
func quoted(name string) string {
	name = strings.TrimPrefix(name, "@")
	if r := []rune(name); len(r) > 40 {
		name = string(r[:40]) + "…"
	}
	return name
}

type placeInput struct {
	Body struct {
		To       []string `json:"to" minItems:"1" maxItems:"49" doc:"Names"`
		Media    string   `json:"media" enum:"audio,video"`
		ClientID string   `json:"clientId" minLength:"1" maxLength:"64" doc:"Made by the client for this call: sent again, it calls nobody twice"`
	}
}

func (s *Server) placeCall(ctx context.Context, sess Session, in *placeInput) (*placedOutput, error) {
	to, err := s.called(ctx, sess, in.Body.To)
	if err != nil {
		return nil, err
	}
	change, placing, err := s.store.PlaceCall(ctx, sqlstore.NewCall{
		ID: people.NewID("ca_"), Account: sess.Account.ID, Device: sess.Device.ID,
		Media: call.Media(in.Body.Media), To: to, ClientID: in.Body.ClientID,
	}, s.now())
	if err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	s.calls.follow(change)
	out := &placedOutput{Status: http.StatusOK}
	if placing == sqlstore.CallPlaced {
		out.Status = http.StatusCreated
	}
	out.Body, err = s.joinable(ctx, sess, change.Call)
	return out, err
}

// joinable is the answer to someone who enters a call. It has a token if the
// device is in the call.
func (s *Server) joinable(ctx context.Context, sess Session, c call.Call) (joinBody, error) {
	view, err := s.viewCall(ctx, sess, c)
	if err != nil {
		return joinBody{}, err
	}
	body := joinBody{Call: view}
	if p := c.Person(sess.Account.ID); p.State != call.PersonJoined || p.Device != sess.Device.ID {
		return body, nil
	}
	token, expires, err := s.calls.rooms.Token(sess.Identity(), c.ID, sess.Account.DisplayName)
	if err != nil {
		return joinBody{}, fmt.Errorf("make a room token: %w", err)
	}
	body.Join = &Join{URL: clientOf(ctx).wsBase(), Token: token, ExpiresAt: expires.UTC()}
	return body, nil
}

type historyInput struct {
	Before string `query:"before" maxLength:"100" doc:"The cursor next of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
}

type historyBody struct {
	Calls []*Call `json:"calls"`
	Next  string  `json:"next,omitempty" doc:"The cursor of the next page, if there is one"`
}

func (s *Server) listCalls(ctx context.Context, sess Session, in *historyInput) (*output[historyBody], error) {
	var before *sqlstore.CallCursor
	if in.Before != "" {
		c, err := sqlstore.ParseCallCursor(in.Before)
		if err != nil {
			return nil, problem(http.StatusUnprocessableEntity, "bad_cursor", "This place in the history is not known. Please start from the newest call.")
		}
		before = &c
	}
	list, next, err := s.store.CallHistory(ctx, sess.Account.ID, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &output[historyBody]{}
	if out.Body.Calls, err = s.viewCalls(ctx, sess, list); err != nil {
		return nil, err
	}
	if next != nil {
		out.Body.Next = next.String()
	}
	return out, nil
}

// callInput names a call.
type callInput struct {
	ID string `path:"id" maxLength:"64"`
}

func (s *Server) getCall(ctx context.Context, sess Session, in *callInput) (*output[*Call], error) {
	c, err := s.store.Call(ctx, in.ID)
	if err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	view, err := s.viewCall(ctx, sess, c)
	if errors.Is(err, errHidden) {
		err = errNoCall()
	}
	return &output[*Call]{view}, err
}

// act applies what the device does to a call.
func (s *Server) act(ctx context.Context, sess Session, id string, e call.Event) (call.Call, error) {
	c, err := s.calls.change(ctx, id, e)
	if err != nil {
		return c, s.callError(ctx, sess, err)
	}
	return c, nil
}

// acted is act with the call as the answer.
func (s *Server) acted(ctx context.Context, sess Session, id string, e call.Event) (*output[callBody], error) {
	c, err := s.act(ctx, sess, id, e)
	if err != nil {
		return nil, err
	}
	view, err := s.viewCall(ctx, sess, c)
	return &output[callBody]{callBody{view}}, err
}

type answerInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body *struct {
		Media string `json:"media,omitempty" enum:"audio,video" doc:"What I send; as the call was placed if absent"`
	}
}

func (s *Server) answerCall(ctx context.Context, sess Session, in *answerInput) (*output[joinBody], error) {
	e := call.Answered{Account: sess.Account.ID, Device: sess.Device.ID}
	if in.Body != nil {
		e.Media = call.Media(in.Body.Media)
	}
	c, err := s.act(ctx, sess, in.ID, e)
	if err != nil {
		return nil, err
	}
	body, err := s.joinable(ctx, sess, c)
	return &output[joinBody]{body}, err
}

type declineInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body *struct {
		Reason string `json:"reason,omitempty" enum:"declined,busy" doc:"declined if absent"`
	}
}

func (s *Server) declineCall(ctx context.Context, sess Session, in *declineInput) (*output[callBody], error) {
	return s.acted(ctx, sess, in.ID, call.Declined{Account: sess.Account.ID, Device: sess.Device.ID,
		Busy: in.Body != nil && in.Body.Reason == "busy"})
}

func (s *Server) cancelCall(ctx context.Context, sess Session, in *callInput) (*output[callBody], error) {
	return s.acted(ctx, sess, in.ID, call.Cancelled{Account: sess.Account.ID, Device: sess.Device.ID})
}

func (s *Server) hangUp(ctx context.Context, sess Session, in *callInput) (*output[callBody], error) {
	return s.acted(ctx, sess, in.ID, call.HungUp{Account: sess.Account.ID, Device: sess.Device.ID})
}

func (s *Server) joinCall(ctx context.Context, sess Session, in *callInput) (*output[joinBody], error) {
	c, err := s.store.Call(ctx, in.ID)
	if err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	if err := mayJoin(c, sess); err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	body, err := s.joinable(ctx, sess, c)
	return &output[joinBody]{body}, err
}

type inviteInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body struct {
		To []string `json:"to" minItems:"1" maxItems:"49" doc:"Names"`
	}
}

func (s *Server) inviteToCall(ctx context.Context, sess Session, in *inviteInput) (*output[callBody], error) {
	to, err := s.called(ctx, sess, in.Body.To)
	if err != nil {
		return nil, err
	}
	change, err := s.store.InviteToCall(ctx, in.ID, sess.Account.ID, sess.Device.ID, to, s.now())
	if err != nil {
		return nil, s.callError(ctx, sess, err)
	}
	s.calls.follow(change)
	view, err := s.viewCall(ctx, sess, change.Call)
	return &output[callBody]{callBody{view}}, err
}

package companion

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"anytime/companion/people"
)

// Problem is an error answer: RFC 9457 problem JSON and a stable code. Detail is
// one sentence for people.
type Problem struct {
	huma.ErrorModel
	Code    string `json:"code" doc:"A stable word for programs" example:"name_taken"`
	headers http.Header
}

// GetHeaders makes huma send the problem's headers.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// problem returns an error answer. The sentence says what is wrong and, where it
// can, what to do next.
func problem(status int, code, sentence string) *Problem {
	return &Problem{
		ErrorModel: huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: sentence},
		Code:       code,
	}
}

// tooMany is the answer to someone who must wait.
func tooMany(wait time.Duration, sentence string) *Problem {
	p := problem(http.StatusTooManyRequests, "too_many_requests", sentence)
	seconds := int((wait + time.Second - 1) / time.Second)
	p.headers = http.Header{"Retry-After": {strconv.Itoa(max(1, seconds))}}
	return p
}

// refusalStatus is the HTTP status of each refusal that isn't simply 422.
var refusalStatus = map[string]int{
	"name_taken":      http.StatusConflict,
	"name_confusable": http.StatusConflict,
	"not_found":       http.StatusNotFound,
	"forbidden":       http.StatusForbidden,
}

// answer turns any error into the problem that the client sees. What nobody
// foresaw is logged here, once, and shown as no more than "went wrong".
func (s *Server) answer(ctx context.Context, route string, err error) error {
	if err == nil {
		return nil
	}
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var r *people.Refusal
	if errors.As(err, &r) {
		status, ok := refusalStatus[r.Code]
		if !ok {
			status = http.StatusUnprocessableEntity
		}
		return problem(status, r.Code, r.Sentence)
	}
	if ctx.Err() != nil { // the client went away
		return problem(http.StatusServiceUnavailable, "cancelled", "The request was cancelled.")
	}
	s.log.ErrorContext(ctx, "request failed", "route", route, "err", err)
	return problem(http.StatusInternalServerError, "internal", "Something went wrong on the server. Please try again.")
}

// statusCodes names the problems that huma itself finds.
var statusCodes = map[int]string{
	http.StatusBadRequest:            "invalid_request",
	http.StatusUnprocessableEntity:   "invalid_request",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnsupportedMediaType:  "unsupported_media_type",
	http.StatusNotAcceptable:         "not_acceptable",
	http.StatusRequestTimeout:        "timeout",
	http.StatusNotFound:              "not_found",
}

func init() {
	// The server writes [] for a list with nothing in it, and takes no null for one.
	huma.DefaultArrayNullable = false
	// huma builds every error of its own through this variable. Values are left
	// out of the details: they could be a password.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		code, ok := statusCodes[status]
		if !ok {
			code = "internal"
		}
		p := problem(status, code, sentence(msg))
		if status >= 500 {
			return p
		}
		for _, err := range errs {
			if found, ok := errors.AsType[*Problem](err); ok { // of a Resolver
				return found
			}
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				detail := d.ErrorDetail()
				p.Errors = append(p.Errors, &huma.ErrorDetail{Message: detail.Message, Location: detail.Location})
			}
		}
		slices.SortStableFunc(p.Errors, func(a, b *huma.ErrorDetail) int { return cmp.Compare(a.Location, b.Location) })
		switch {
		case status == http.StatusRequestEntityTooLarge:
			p.Detail = fmt.Sprintf("The request is larger than the %d KB allowed.", maxBody>>10)
		case len(p.Errors) > 0:
			p.Detail = explain(p.Errors[0])
		}
		return p
	}
}

// explain makes one sentence of what is wrong with one field.
func explain(d *huma.ErrorDetail) string {
	field := d.Location
	for _, prefix := range []string{"body.", "query.", "path.", "header."} {
		field = strings.TrimPrefix(field, prefix)
	}
	switch {
	case d.Message == "unexpected property":
		return fmt.Sprintf("The request has a field %q, which is not known here.", field)
	case field == "" || field == "body":
		return sentence(d.Message)
	}
	return fmt.Sprintf("The field %q is not right: %s.", field, strings.TrimSuffix(d.Message, "."))
}

// sentence gives a message a capital and a full stop.
func sentence(msg string) string {
	if msg == "" {
		return ""
	}
	msg = strings.ToUpper(msg[:1]) + msg[1:]
	if !strings.HasSuffix(msg, ".") {
		msg += "."
	}
	return msg
}

// writeProblem answers outside huma: the socket, unknown routes, refused origins.
func writeProblem(w http.ResponseWriter, p *Problem) {
	for k, v := range p.headers {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// Package twirp serves remote calls over HTTP as the Twirp wire protocol, version 7, has them:
//
//	POST /twirp/<package>.<Service>/<Method>
//
// with one protobuf message as the body, binary (application/protobuf) or as JSON
// (application/json), and one in the answer, in the same form. An error is JSON in either case.
//
//  1. ServeHTTP finds the method by its path, before anything is read.
//  2. Server.Admit says who asks: most requests that are refused end here, unread.
//  3. The body is read up to its limit and decoded; unknown fields are ignored.
//  4. The method runs, and its answer or error is written.
package twirp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// MaxBodyBytes is the largest request. Room metadata and data packets, the largest things in them,
// are bounded to 64 KB, which base64 and JSON make 90.
const MaxBodyBytes = 256 << 10

// Code of an error, as the Twirp specification names it.
type Code string

const (
	BadRoute           Code = "bad_route"
	Malformed          Code = "malformed"
	InvalidArgument    Code = "invalid_argument"
	Unauthenticated    Code = "unauthenticated"
	PermissionDenied   Code = "permission_denied"
	NotFound           Code = "not_found"
	FailedPrecondition Code = "failed_precondition"
	Aborted            Code = "aborted"
	ResourceExhausted  Code = "resource_exhausted"
	DeadlineExceeded   Code = "deadline_exceeded"
	Canceled           Code = "canceled"
	Unimplemented      Code = "unimplemented"
	Unavailable        Code = "unavailable"
	Internal           Code = "internal"
)

// statuses are those of the specification's table of error codes.
var statuses = map[Code]int{
	BadRoute: 404, Malformed: 400, InvalidArgument: 400, Unauthenticated: 401, PermissionDenied: 403,
	NotFound: 404, FailedPrecondition: 412, Aborted: 409, ResourceExhausted: 429, DeadlineExceeded: 408,
	Canceled: 408, Unimplemented: 501, Unavailable: 503, Internal: 500,
}

// Status is the HTTP status that goes with the code.
func (c Code) Status() int {
	if s := statuses[c]; s != 0 {
		return s
	}
	return http.StatusInternalServerError
}

// Error is what a method answers instead of a message. Any other error is answered as internal,
// without its text.
type Error struct {
	Code Code              `json:"code"`
	Msg  string            `json:"msg"`
	Meta map[string]string `json:"meta,omitempty"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Msg }

// Errorf makes an error; its text is for whoever calls.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Method is one method of a service.
type Method struct {
	request func() proto.Message
	run     func(context.Context, proto.Message) (proto.Message, error)
}

// Call makes a Method of a function of one message that returns another.
func Call[Q, A any, PQ interface {
	*Q
	proto.Message
}, PA interface {
	*A
	proto.Message
}](f func(context.Context, PQ) (PA, error)) Method {
	return Method{
		request: func() proto.Message { return PQ(new(Q)) },
		run: func(ctx context.Context, m proto.Message) (proto.Message, error) {
			a, err := f(ctx, m.(PQ))
			if err != nil {
				return nil, err
			}
			return a, nil
		},
	}
}

// Server is an http.Handler. Its fields don't change while it serves.
type Server struct {
	// Services are the methods by service and name, such as "livekit.RoomService" and "CreateRoom".
	Services map[string]map[string]Method
	// Absent says, in a sentence, why a service that clients know is not here.
	Absent map[string]string
	// Admit checks a request before its body is read, and may add who asks to the context. nil: all.
	Admit func(*http.Request) (context.Context, error)
	// Log receives internal errors. nil: slog.Default().
	Log *slog.Logger
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, err := s.route(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && media != "application/protobuf" {
		s.fail(w, r, Errorf(BadRoute, "unexpected Content-Type %.80q: application/json or application/protobuf is spoken here", r.Header.Get("Content-Type")))
		return
	}
	ctx := r.Context()
	if s.Admit != nil {
		if ctx, err = s.Admit(r); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	request, err := read(w, r, method, media)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer, err := method.run(ctx, request)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var body []byte
	if media == "application/json" {
		// As Twirp's own servers do: the schema's names, and every field.
		body, err = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
	} else {
		body, err = proto.Marshal(answer)
	}
	if err != nil {
		s.fail(w, r, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func (s *Server) route(r *http.Request) (Method, error) {
	path, ok := strings.CutPrefix(r.URL.Path, "/twirp/")
	service, name, both := strings.Cut(path, "/")
	if r.Method != http.MethodPost || !ok || !both {
		return Method{}, Errorf(BadRoute, "%.10s %.120q: calls are POST /twirp/<package>.<Service>/<Method>", r.Method, r.URL.Path)
	}
	if why, absent := s.Absent[service]; absent {
		return Method{}, Errorf(Unimplemented, "%s", why)
	}
	method, ok := s.Services[service][name]
	if !ok {
		return Method{}, Errorf(BadRoute, "there is no method %.120q", path)
	}
	return method, nil
}

func read(w http.ResponseWriter, r *http.Request, method Method, media string) (proto.Message, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, Errorf(ResourceExhausted, "the request is larger than %d bytes", MaxBodyBytes)
	case err != nil:
		return nil, Errorf(Malformed, "the request could not be read")
	}
	m := method.request()
	if media == "application/json" {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, m)
	} else {
		err = proto.Unmarshal(body, m)
	}
	if err != nil {
		// The library's text may quote the input, which may hold secrets.
		return nil, Errorf(Malformed, "the request is not the %s of a %s", media, m.ProtoReflect().Descriptor().FullName())
	}
	return m, nil
}

// fail writes an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.Canceled):
		e = &Error{Code: Canceled, Msg: "the caller has gone"}
	case errors.Is(err, context.DeadlineExceeded):
		e = &Error{Code: DeadlineExceeded, Msg: "it took too long"}
	default:
		log := s.Log
		if log == nil {
			log = slog.Default()
		}
		log.Error("cannot answer a call of the API", "path", r.URL.Path, "err", err)
		e = &Error{Code: Internal, Msg: "something went wrong here: the server's log says what"}
	}
	body, err := json.Marshal(e)
	if err != nil { // strings and a map of them always encode
		body = []byte(`{"code":"internal","msg":"cannot encode the error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if e.Code == ResourceExhausted {
		w.Header().Set("Retry-After", "2")
	}
	w.WriteHeader(e.Code.Status())
	_, _ = w.Write(body)
}

package twirp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echo is a server with a service of one method, whose answer or error the request names.
var echo = &Server{
	Services: map[string]map[string]Method{"test.Echo": {"Say": Call(func(_ context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		switch m.GetValue() {
		case "broken":
			return nil, errors.New("the password is hunter2")
		case "gone":
			return nil, context.Canceled
		case "wrapped":
			return nil, errors.Join(errors.New("outer"), Errorf(NotFound, "there is no %s", "such thing"))
		}
		return m, nil
	})}},
	Absent: map[string]string{"test.Gone": "it is gone"},
	Log:    slog.New(slog.DiscardHandler),
}

func say(path, media, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://host/", strings.NewReader(body))
	r.URL.Path = path
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	echo.ServeHTTP(w, r)
	return w
}

func TestErrors(t *testing.T) {
	for value, want := range map[string]Error{
		"broken":  {Code: Internal, Msg: "something went wrong here: the server's log says what"},
		"gone":    {Code: Canceled, Msg: "the caller has gone"},
		"wrapped": {Code: NotFound, Msg: "there is no such thing"},
	} {
		w := say("/twirp/test.Echo/Say", "application/json", `"`+value+`"`)
		var got Error
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Code != want.Code || got.Msg != want.Msg || w.Code != want.Code.Status() {
			t.Errorf("%s: %d %s", value, w.Code, w.Body)
		}
	}
	if w := say("/twirp/test.Echo/Say", "application/json", `"hello"`); w.Code != http.StatusOK || w.Body.String() != `"hello"` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for code := range statuses {
		if code.Status() < 400 {
			t.Errorf("%s is no error", code)
		}
	}
}

// FuzzServe sends anything anywhere: the answer is what was asked for, or a Twirp error.
func FuzzServe(f *testing.F) {
	f.Add("/twirp/test.Echo/Say", "application/json", []byte(`"x"`))
	f.Add("/twirp/test.Echo/Say", "application/protobuf", []byte{10, 1, 'x'})
	f.Add("/twirp/test.Echo/Say", "application/json;charset=UTF-8", []byte(`{"value":`))
	f.Add("/twirp/test.Gone/Say", "application/protobuf", []byte{255})
	f.Add("/twirp//", "", []byte{})
	f.Fuzz(func(t *testing.T, path, media string, body []byte) {
		w := say(path, media, string(body))
		if w.Code == http.StatusOK {
			return
		}
		var e Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Msg == "" || e.Code.Status() != w.Code {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

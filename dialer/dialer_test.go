package dialer

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		addr            string
		public, private bool // allowed; allowed with AllowPrivate
	}{
		{"9.9.9.9", true, true},
		{"::ffff:9.9.9.9", true, true},
		{"2606:4700::1111", true, true},
		{"64:ff9b::909:909", true, true},
		{"127.0.0.1", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"::1", false, true},
		{"10.1.2.3", false, true},
		{"172.31.0.1", false, true},
		{"192.168.0.1", false, true},
		{"100.64.0.1", false, true},
		{"fd12::1", false, true},
		{"64:ff9b::a00:1", false, true},
		{"64:ff9b::7f00:1", false, true},
		{"169.254.169.254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"fd00:ec2::254", false, false},
		{"fe80::1", false, false},
		{"fe80::1%eth0", false, false},
		{"0.0.0.0", false, false},
		{"0.1.2.3", false, false},
		{"::", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
		{"255.255.255.255", false, false},
		{"240.0.0.1", false, false},
		{"192.0.0.8", false, false},
		{"192.0.2.1", false, false},
		{"198.19.0.1", false, false},
		{"203.0.113.1", false, false},
		{"2001:db8::1", false, false},
		{"2001:0:1::1", false, false},
		{"2002:7f00:1::", false, false},
		{"3fff::1", false, false},
		{"::127.0.0.1", false, false},
		{"64:ff9b:1::1", false, false},
	} {
		a := netip.MustParseAddr(test.addr)
		for allow, want := range map[bool]bool{false: test.public, true: test.private} {
			err := Check(a, allow)
			if (err == nil) != want || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("Check(%s, %v) = %v", a, allow, err)
			}
		}
	}
	if Check(netip.Addr{}, true) == nil {
		t.Error("no address at all may be reached")
	}
}

func get(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func TestClientReachesWhatItMay(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/again"):
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		case r.URL.Path == "/to-metadata":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		case r.URL.Path == "/to-file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
		case r.URL.Path == "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 101))
		case r.URL.Path == "/fits":
			_, _ = io.WriteString(w, strings.Repeat("x", 100))
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		}
	}))
	defer s.Close()
	strict := Client(Config{})
	defer strict.CloseIdleConnections()
	for _, at := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)} {
		if _, err := get(t, strict, at); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", at, err)
		}
	}
	c := Client(Config{AllowPrivate: true, MaxAnswer: 100, Timeout: 300 * time.Millisecond})
	defer c.CloseIdleConnections()
	if body, err := get(t, c, s.URL+"/fits"); err != nil || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if body, err := get(t, c, s.URL+"/large"); !errors.Is(err, ErrTooLarge) || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, err := get(t, c, s.URL+"/to-metadata"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a redirect to a forbidden address: %v", err)
	}
	for _, path := range []string{"/again", "/to-file", "/slow"} {
		if _, err := get(t, c, s.URL+path); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://example.com/hook": true, "http://[::1]:80/": true, "ftp://example.com": false, "https://": false,
		"https://user:password@example.com": false, "mailto:a@example.com": false, "/hook": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckURL(u); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func build(t *testing.T) http.Handler {
	t.Helper()
	h, err := New(fstest.MapFS{
		".keep":                   {Data: []byte("x")},
		"index.html":              {Data: []byte("<html>plain")},
		"index.html.br":           {Data: []byte("brotli")},
		"index.html.gz":           {Data: []byte("gzipped")},
		"assets/app-abc.js":       {Data: []byte("js")},
		"assets/app-abc.js.gz":    {Data: []byte("js gzipped")},
		"assets/font-abc.woff2":   {Data: []byte("font")},
		"favicon.svg":             {Data: []byte("<svg/>")},
		"downloads/notes.tar.gz":  {Data: []byte("tar")},
		"assets/deep/chunk-ab.js": {Data: []byte("deep")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func do(h http.Handler, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestServesTheBestEncodingAccepted(t *testing.T) {
	h := build(t)
	for _, c := range []struct{ path, accept, encoding, body string }{
		{"/", "", "", "<html>plain"},
		{"/", "gzip, deflate, br", "br", "brotli"},
		{"/index.html", "gzip", "gzip", "gzipped"},
		{"/", "br;q=0, gzip;q=0.5", "gzip", "gzipped"},
		{"/", "br;q=0,gzip;q=0.000", "", "<html>plain"},
		{"/", "identity", "", "<html>plain"},
		{"/assets/app-abc.js", "br, gzip", "gzip", "js gzipped"},
		{"/assets/font-abc.woff2", "br, gzip", "", "font"},
		{"/downloads/notes.tar.gz", "gzip", "", "tar"},
		{"/assets/deep/chunk-ab.js", "", "", "deep"},
	} {
		r := do(h, "GET", c.path, "Accept-Encoding", c.accept)
		if got := text(t, r); r.StatusCode != 200 || got != c.body || r.Header.Get("Content-Encoding") != c.encoding {
			t.Errorf("%s with %q: %d, encoding %q, body %q; want %q, %q",
				c.path, c.accept, r.StatusCode, r.Header.Get("Content-Encoding"), got, c.encoding, c.body)
		}
	}
}

func TestCachesHashedFilesForeverAndAsksAgainForTheRest(t *testing.T) {
	h := build(t)
	if c := do(h, "GET", "/assets/app-abc.js").Header.Get("Cache-Control"); !strings.Contains(c, "immutable") {
		t.Errorf("asset: Cache-Control %q", c)
	}
	first := do(h, "GET", "/", "Accept-Encoding", "br")
	if c := first.Header.Get("Cache-Control"); c != "no-cache" {
		t.Errorf("page: Cache-Control %q", c)
	}
	tag := first.Header.Get("ETag")
	again := do(h, "GET", "/", "Accept-Encoding", "br", "If-None-Match", `"other", W/`+tag)
	if again.StatusCode != http.StatusNotModified || text(t, again) != "" {
		t.Errorf("same tag: %d", again.StatusCode)
	}
	if r := do(h, "GET", "/", "If-None-Match", tag); r.StatusCode != 200 {
		t.Errorf("the tag of the brotli body matched the plain one: %d", r.StatusCode)
	}
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	for _, h := range []http.Handler{build(t), unbuilt{}} {
		for _, p := range []string{"/", "/nothing", "/.keep", "/assets/../index.html"} {
			r := do(h, "GET", p)
			csp := r.Header.Get("Content-Security-Policy")
			if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "script-src 'self';") {
				t.Errorf("%s: policy %q", p, csp)
			}
			if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" ||
				!strings.Contains(r.Header.Get("Permissions-Policy"), "camera=(self), microphone=(self)") {
				t.Errorf("%s: headers %v", p, r.Header)
			}
			if p != "/" && r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %d, want 404", p, r.StatusCode)
			}
		}
	}
}

func TestHeadAndOtherMethods(t *testing.T) {
	h := build(t)
	if r := do(h, "HEAD", "/"); r.StatusCode != 200 || text(t, r) != "" || r.Header.Get("Content-Length") != "11" {
		t.Errorf("HEAD: %d, length %q", r.StatusCode, r.Header.Get("Content-Length"))
	}
	if r := do(h, "POST", "/"); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("POST: %d", r.StatusCode)
	}
}

func TestABinaryWithoutTheAppSaysHowToBuildIt(t *testing.T) {
	if _, err := New(fstest.MapFS{".keep": {}}); err == nil {
		t.Error("New accepted a build without index.html")
	}
	r := do(unbuilt{}, "GET", "/")
	if body := text(t, r); r.StatusCode != 200 || !strings.Contains(body, "make build") {
		t.Errorf("%d %q", r.StatusCode, body)
	}
}

// What Vite wrote, when it did: the compressed files must be those of the plain ones.
func TestTheEmbeddedBuildIsWhole(t *testing.T) {
	h, ok := Handler().(*server)
	if !ok {
		t.Skip("web/dist is not built")
	}
	for name, f := range h.files {
		if f.bodies["gzip"] == nil {
			continue
		}
		r := do(h, "GET", name, "Accept-Encoding", "gzip")
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(z)
		if err != nil || string(got) != string(f.bodies[""]) {
			t.Errorf("%s: the gzip body is not that of the plain file (%v)", name, err)
		}
	}
}

// Package web holds the web app as Vite built it and serves it.
//
// A request goes: path → file of the build → encoding the client accepts → caching and security headers → bytes.
// Everything under /assets/ has its content's hash in its name and never changes; all else is asked for again each
// time, by ETag. Routes are in the URL's fragment (#/history), so the server knows one page only.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// dist holds a .keep file in a fresh clone, so that this compiles before the first `npm run build`.
//
//go:embed all:dist
var dist embed.FS

// Handler serves the embedded build. When the app was not built yet, it answers with a page that says how to.
func Handler() http.Handler {
	build, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant: it can't be invalid
	}
	h, err := New(build)
	if err != nil {
		return unbuilt{}
	}
	return h
}

// contentSecurityPolicy lets the page run its own scripts and styles only. connect-src names ws: and wss: because
// older Safari doesn't count a WebSocket to the same host as 'self'.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; style-src 'self'; font-src 'self'; " +
	"img-src 'self' data: blob:; media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:; worker-src 'self' blob:; " +
	"manifest-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// encodings in the order in which they are preferred, with the suffix of the file the build wrote.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}}

// file is one file of the build with all its encodings ("" is the plain one).
type file struct {
	contentType string
	cache       string
	etag        string
	bodies      map[string][]byte
}

type server struct {
	files map[string]*file // by URL path
}

// New serves the build in fsys, which must contain index.html. Files are read once.
func New(fsys fs.FS) (http.Handler, error) {
	if _, err := fs.Stat(fsys, "index.html"); err != nil {
		return nil, fmt.Errorf("web: the app is not built: %w", err)
	}
	s := &server{files: map[string]*file{}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		for _, e := range encodings {
			if _, err := fs.Stat(fsys, strings.TrimSuffix(name, e.suffix)); strings.HasSuffix(name, e.suffix) && err == nil {
				return nil // read together with its plain file
			}
		}
		f, err := read(fsys, name)
		if err != nil {
			return err
		}
		s.files["/"+name] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("web: reading the build: %w", err)
	}
	s.files["/"] = s.files["/index.html"]
	return s, nil
}

func read(fsys fs.FS, name string) (*file, error) {
	plain, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(plain)
	f := &file{
		contentType: contentType(name),
		cache:       "no-cache",
		etag:        hex.EncodeToString(sum[:8]),
		bodies:      map[string][]byte{"": plain},
	}
	if strings.HasPrefix(name, "assets/") {
		f.cache = "public, max-age=31536000, immutable"
	}
	for _, e := range encodings {
		if b, err := fs.ReadFile(fsys, name+e.suffix); err == nil {
			f.bodies[e.name] = b
		}
	}
	return f, nil
}

// contentType doesn't depend on the machine's mime.types for the kinds that a build contains.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".webmanifest":
		return "application/manifest+json"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The web app is only read: use GET.", http.StatusMethodNotAllowed)
		return
	}
	f := s.files[r.URL.Path]
	if f == nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "There is no page at this address. The app is at /", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", f.cache)
	h.Set("Vary", "Accept-Encoding")
	encoding := negotiate(r.Header.Get("Accept-Encoding"), f)
	etag := `"` + f.etag + `"`
	if encoding != "" {
		// RFC 9110 8.8.3.3: encodings of one resource need ETags that differ.
		etag = `"` + f.etag + "-" + encoding + `"`
	}
	h.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.bodies[encoding]
	h.Set("Content-Type", f.contentType)
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the reader went away: nothing to tell it
}

// secure sets what holds for every answer, found or not.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), "+
		"screen-wake-lock=(self), autoplay=(self), geolocation=(), payment=(), usb=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
}

// negotiate picks the first of our encodings that the header allows (RFC 9110 12.5.3; q=0 forbids one).
func negotiate(accept string, f *file) string {
	for _, e := range encodings {
		if _, have := f.bodies[e.name]; !have {
			continue
		}
		for part := range strings.SplitSeq(accept, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
			if !strings.EqualFold(strings.TrimSpace(name), e.name) {
				continue
			}
			q := strings.TrimSpace(params)
			if v, isQ := strings.CutPrefix(q, "q="); isQ {
				if n, err := strconv.ParseFloat(v, 64); err != nil || n == 0 {
					continue
				}
			}
			return e.name
		}
	}
	return ""
}

// matches reports whether an If-None-Match header names the tag (RFC 9110 13.1.2, weak comparison).
func matches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || part == etag {
			return true
		}
	}
	return false
}

// unbuilt answers instead of the app in a binary that was compiled without it.
type unbuilt struct{}

func (unbuilt) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.URL.Path != "/" && r.URL.Path != "/index.html" {
		http.Error(w, "There is no page at this address.", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	// 200, not an error: room clients probe "/" to see whether the server is reachable.
	_, _ = w.Write([]byte(unbuiltPage))
}

const unbuiltPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Anytime: the web app is not built</title>
<h1>The server runs, but its web app was not built</h1>
<p>This binary was compiled without the web app. In the project's folder, run <code>make build</code>
(it needs Node.js 20.19 or newer), then start <code>bin/anytime serve</code> again.</p>
<p>Or run <code>make run</code>, which does both.</p>
</html>
`

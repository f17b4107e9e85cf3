package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules below are what keeps the tree readable: who may import whom. ARCHITECTURE.md
// gives the reasons.

// services don't know each other, but for what is listed under each.
var services = map[string][]string{
	"sfu":       nil,
	"signaling": nil,
	"turn":      {"sfu/udp"},
	"companion": {"signaling/call"},
	"cluster":   nil,
	"dialer":    nil,
	"load":      {"signaling/client", "signaling/wire"},
	"web":       nil,
}

// pure packages import the standard library and each other's data types only: no socket, no
// lock. TestPurePackages looks for goroutines and clocks in them.
var pure = []string{
	"sfu/codec", "sfu/history", "sfu/forward", "sfu/bwe", "sfu/alloc", "sfu/speakers",
	"signaling/room", "signaling/call",
}

// impure are the parts of the standard library that a pure package has no use for.
var impure = []string{"net", "net/http", "os", "sync", "sync/atomic", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "context"}

// onlyIn lists the modules that stay in the packages named.
var onlyIn = map[string][]string{
	"github.com/pion/":            {"sfu", "sfu/udp", "sfu/relay", "sfu/sfutest", "turn", "signaling/client", "load"},
	"github.com/livekit/protocol": {"signaling/wire"},
	"database/sql":                {"companion/sqlstore", "companion/sqlstore/sqltest"},
	"github.com/jackc/pgx":        {"companion/sqlstore", "companion/sqlstore/sqltest"},
	"modernc.org/sqlite":          {"companion/sqlstore", "companion/sqlstore/sqltest"},
	"github.com/redis/go-redis":   {"cluster"},
}

// aboveParent are the children that may import the package they stand in.
var aboveParent = []string{"sfu/sfutest", "sfu/codec/codectest", "signaling/client"}

func TestImports(t *testing.T) {
	const root = "../.."
	seen := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "node_modules" || d.Name() != ".." && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := refuse(filepath.ToSlash(relative), imported); why != "" {
				t.Errorf("%s imports %s: %s", relative, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("read only %d Go files: the walk is wrong", seen)
	}
}

// refuse returns why a file of this module may not import a package, or "".
func refuse(file, imported string) string {
	from := path.Dir(file)
	isTest := strings.HasSuffix(file, "_test.go")
	if strings.HasPrefix(from, "cmd/") {
		if strings.HasPrefix(imported, "github.com/livekit/protocol") || strings.HasPrefix(imported, "github.com/pion/") && !isTest {
			return "it stays in " + strings.Join(onlyIn[prefixIn(imported)], ", ")
		}
		return ""
	}
	if prefix := prefixIn(imported); prefix != "" && !slices.Contains(onlyIn[prefix], from) && !isTest {
		return "it stays in " + strings.Join(onlyIn[prefix], ", ")
	}
	if slices.Contains(pure, from) && !isTest {
		if slices.Contains(impure, imported) {
			return "a pure package has no use for it"
		}
		if strings.Contains(imported, ".") {
			return "a pure package imports the standard library only"
		}
	}
	to, ours := strings.CutPrefix(imported, "anytime/")
	if !ours {
		return ""
	}
	fromService, toService := first(from), first(to)
	if toService == "cmd" {
		return "nothing imports cmd"
	}
	if fromService != toService && !slices.Contains(services[fromService], to) {
		return "services don't import each other: declare an interface, and let cmd adapt"
	}
	if strings.HasPrefix(from, to+"/") && !slices.Contains(aboveParent, from) && !isTest {
		return "a child never imports its parent"
	}
	if slices.Contains(pure, from) && !isTest && !slices.Contains(pure, to) {
		return "a pure package imports pure packages only"
	}
	return ""
}

// clocks are what a pure package may not use of package time: the time is told to it.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestPurePackages(t *testing.T) {
	for _, folder := range pure {
		files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := gotoken.NewFileSet()
			parsed, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for at, why := range impurities(parsed) {
				t.Errorf("%v %s", set.Position(at), why)
			}
		}
	}
}

// impurities finds the goroutines that a file starts and the clocks that it reads.
func impurities(file *ast.File) map[gotoken.Pos]string {
	found := map[gotoken.Pos]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found[n.Pos()] = "starts a goroutine"
		case *ast.SelectorExpr:
			if from, ok := n.X.(*ast.Ident); ok && from.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
				found[n.Pos()] = "reads a clock: time." + n.Sel.Name
			}
		}
		return true
	})
	return found
}

func prefixIn(imported string) string {
	for prefix := range onlyIn {
		if strings.HasPrefix(imported, prefix) {
			return prefix
		}
	}
	return ""
}

func first(p string) string { service, _, _ := strings.Cut(p, "/"); return service }

// The rules themselves: a rule that can't refuse anything would pass for ever.
func TestImportRules(t *testing.T) {
	for _, test := range []struct {
		file, imported string
		refused        bool
	}{
		{"sfu/router.go", "anytime/sfu/forward", false},
		{"sfu/router.go", "anytime/signaling/wire", true},
		{"sfu/forward/stream.go", "anytime/sfu/codec", false},
		{"sfu/forward/stream.go", "anytime/sfu", true},
		{"sfu/forward/stream.go", "sync", true},
		{"sfu/forward/stream.go", "github.com/pion/rtp", true},
		{"sfu/sfutest/room.go", "anytime/sfu", false},
		{"signaling/actor.go", "github.com/pion/webrtc/v4", true},
		{"signaling/client/client.go", "github.com/pion/webrtc/v4", false},
		{"signaling/actor.go", "github.com/livekit/protocol/livekit", true},
		{"signaling/wire/frame.go", "github.com/livekit/protocol/livekit", false},
		{"turn/server.go", "anytime/sfu/udp", false},
		{"turn/server.go", "anytime/sfu", true},
		{"load/participant.go", "anytime/signaling/client", false},
		{"load/participant.go", "anytime/sfu", true},
		{"companion/calls.go", "anytime/signaling/call", false},
		{"companion/calls.go", "anytime/signaling", true},
		{"companion/calls.go", "database/sql", true},
		{"companion/sqlstore/store.go", "database/sql", false},
		{"companion/sqlstore/store.go", "anytime/companion", true},
		{"cmd/anytime/serve.go", "anytime/sfu", false},
		{"cmd/anytime/serve.go", "github.com/livekit/protocol/livekit", true},
		{"web/embed.go", "anytime/cmd/anytime", true},
	} {
		if why := refuse(test.file, test.imported); (why != "") != test.refused {
			t.Errorf("refuse(%s, %s) = %q, want refused %v", test.file, test.imported, why, test.refused)
		}
	}
	parsed, err := parser.ParseFile(gotoken.NewFileSet(), "", `package p
import "time"
func f(at time.Time) { go f(time.Now()); <-time.After(time.Second) }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := impurities(parsed); len(found) != 3 {
		t.Errorf("found %v, want a goroutine and two clocks", found)
	}
}

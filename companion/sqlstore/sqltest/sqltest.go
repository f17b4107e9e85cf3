// Package sqltest gives tests of SQL the two databases they must run on: an
// SQLite file, and a real PostgreSQL that is started once per test binary.
//
//	func TestMain(m *testing.M) { os.Exit(sqltest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		sqltest.Each(t, func(t *testing.T, url string) {
//			store, err := sqlstore.Open(t.Context(), url)
//			…
//		})
//	}
//
// The server listens on a Unix socket in a temporary folder that only its user
// can enter. It is stopped by its process id when the tests end, and also when
// the test binary dies, since its keeper then reads the end of a pipe.
package sqltest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
)

// Each runs f as two subtests, each with the URL of an empty database of its own.
func Each(t *testing.T, f func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t)) })
}

// SQLite returns the URL of an SQLite database that doesn't exist yet.
func SQLite(t testing.TB) string {
	return filepath.Join(t.TempDir(), "anytime.db")
}

// Postgres returns the URL of an empty PostgreSQL database, which lasts as long
// as the test binary. The first call starts the server.
func Postgres(t testing.TB) string {
	t.Helper()
	if !inMain.Load() {
		t.Fatal("sqltest: the package's TestMain must call sqltest.Main")
	}
	srv, err := start()
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	name := fmt.Sprintf("t%d", srv.databases.Add(1))
	admin, err := sql.Open("pgx", srv.url("postgres"))
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	defer admin.Close()
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("sqltest: create a database: %v", err)
	}
	return srv.url(name)
}

// Main runs the tests and stops the server if one was started. It returns the
// exit code.
func Main(m *testing.M) int {
	inMain.Store(true)
	code := m.Run()
	if srv, err := started(); err == nil && srv != nil {
		if err := srv.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "sqltest: stop PostgreSQL:", err)
			code = max(code, 1)
		}
	}
	return code
}

var (
	inMain  atomic.Bool
	startMu sync.Mutex
	running *server
	failed  error
)

// start returns the binary's one server, which the first call starts.
func start() (*server, error) {
	startMu.Lock()
	defer startMu.Unlock()
	if running == nil && failed == nil {
		running, failed = launch()
	}
	return running, failed
}

func started() (*server, error) {
	startMu.Lock()
	defer startMu.Unlock()
	return running, failed
}

type server struct {
	dir       string
	databases atomic.Int64
	keeper    *exec.Cmd
	stdin     io.Closer // its end tells the keeper to stop the server
}

func (s *server) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: "", Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}}.Encode()}
	return u.String()
}

// keep is run by sh with the server's binary and folder. It stops the server by
// its own child's id when its standard input ends, and removes the folder.
const keep = `
"$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
	-c full_page_writes=off -c max_connections=200 -c log_min_messages=fatal >&2 &
pid=$!
echo "$pid"
cat >/dev/null
kill -QUIT "$pid" 2>/dev/null
wait "$pid"
rm -rf "$2"
`

func launch() (_ *server, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	// A Unix socket's path is short (108 bytes), so not under a long TMPDIR.
	dir, err := os.MkdirTemp("/tmp", "anytime-pg-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	s := &server{dir: dir}
	attr, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	s.keeper = exec.Command("/bin/sh", "-c", keep, "sh", filepath.Join(bin, "postgres"), dir)
	s.keeper.SysProcAttr, s.keeper.Dir = attr, dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.keeper.Stderr = log
	stdin, err := s.keeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := s.keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.stdin = stdin
	if err := s.keeper.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.ready(); err != nil {
		out, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w: %s", err, out), s.stop())
	}
	return s, nil
}

// ready waits until the server answers.
func (s *server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer in 30 s: %w", err)
		case <-tick.C:
		}
	}
}

func (s *server) stop() error {
	s.stdin.Close()
	return s.keeper.Wait()
}

// binaries finds the newest installed PostgreSQL.
func binaries() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "initdb")); err == nil {
			return filepath.Dir(path), nil
		}
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	dirs = slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		return err != nil
	})
	if len(dirs) == 0 {
		return "", errors.New("PostgreSQL is not installed, and every test of SQL runs on it: run scripts/install-test-tools")
	}
	version := func(dir string) float64 {
		v, _ := strconv.ParseFloat(strings.TrimSpace(filepath.Base(filepath.Dir(dir))), 64)
		return v
	}
	return slices.MaxFunc(dirs, func(a, b string) int {
		return int(version(a)*10) - int(version(b)*10)
	}), nil
}

// unprivileged returns how to run PostgreSQL, which refuses to run as root: as
// the user postgres, or else nobody, to whom dir is given.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("find a user to run PostgreSQL as: %w", err)
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

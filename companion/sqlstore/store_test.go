package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"anytime/companion/sqlstore/sqltest"
)

func TestMain(m *testing.M) { os.Exit(sqltest.Main(m)) }

// each runs f on a new store of either database.
func each(t *testing.T, f func(t *testing.T, s *Store)) {
	t.Helper()
	sqltest.Each(t, func(t *testing.T, url string) { f(t, open(t, url)) })
}

func open(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Two transactions that each decide on what they read must not both win.
func TestTxIsSerialised(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		err := s.tx(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES ('n', '0')")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		const writers, each = 4, 10
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					if err := increment(ctx, s); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := s.reader.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'n'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != writers*each {
			t.Errorf("%d increments came to %d", writers*each, n)
		}
	})
}

func increment(ctx context.Context, s *Store) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM settings WHERE name = $1", "n").Scan(&n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE settings SET value = $1 WHERE name = 'n'", strconv.Itoa(n+1))
		return err
	})
}

// The file and its companions are their owner's alone, even if the file was not.
func TestSQLiteFiles(t *testing.T) {
	url := sqltest.SQLite(t)
	if err := os.WriteFile(url, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, url)
	if err := increment(t.Context(), s); err == nil {
		t.Fatal("incremented what isn't there")
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		fi, err := os.Stat(url + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", fi.Name(), fi.Mode())
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", pragma, got, want, err)
		}
	}
	if _, err := s.reader.ExecContext(t.Context(), "DELETE FROM settings"); err == nil {
		t.Error("the reading connections can write")
	}
}

// A path may have any sign that a file name can.
func TestSQLitePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%41&_pragma=x.db")
	open(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "no", "such.db")); err == nil {
		t.Error("opened a file in a folder that isn't there")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"postgres://user:hunter2@%zz/x", "postgres://user:hunter2@127.0.0.1:1/x?connect_timeout=1"} {
		s, err := Open(t.Context(), url)
		if err == nil {
			s.Close()
			t.Fatalf("opened %s", url)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	junk := sqltest.SQLite(t)
	if err := os.WriteFile(junk, []byte(strings.Repeat("this is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), junk); err == nil {
		s.Close()
		t.Error("opened a file that is no database")
	}
}

// Many processes that start together on an empty database all come up.
func TestOpenTogether(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := Open(t.Context(), url)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if _, err := s.Prepare(t.Context(), "open", strings.Repeat("0", 64), now); err != nil {
					t.Error(err)
				}
				if r, err := s.Registration(t.Context()); err != nil || r != "open" {
					t.Errorf("registration %q, %v", r, err)
				}
			})
		}
		wg.Wait()
	})
}

// What was committed is there after a reopening.
func TestReopen(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, url string) {
		first := open(t, url)
		id := first.account(t, "anna")
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		p, err := open(t, url).PersonByName(t.Context(), id, "anna")
		if err != nil || p.ID != id {
			t.Errorf("after reopening %+v, %v", p, err)
		}
	})
}

// A transaction that fails leaves nothing behind, and its error comes through.
func TestTxRollsBack(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ctx, broken := t.Context(), errors.New("broken")
		err := s.tx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES ('n', '0')"); err != nil {
				return err
			}
			return broken
		})
		if err != broken {
			t.Errorf("tx returned %v", err)
		}
		var n int
		if err := s.reader.QueryRowContext(ctx, "SELECT COUNT(*) FROM settings WHERE name = 'n'").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows are left, %v", n, err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.tx(cancelled, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled transaction gives %v", err)
		}
	})
}

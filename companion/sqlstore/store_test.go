package sqlstore

import (
	"context"
	"database/sql"
	"os"
	"strconv"
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

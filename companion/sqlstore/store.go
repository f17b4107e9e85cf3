package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNotFound is returned when the row asked for does not exist.
var ErrNotFound = errors.New("not found")

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dialect dialect
	writer  *sql.DB // SQLite: exactly one connection; PostgreSQL: the pool
	reader  *sql.DB // SQLite: a pool that can only read; PostgreSQL: the same pool
}

type dialect uint8

const (
	sqliteDialect dialect = iota
	postgresDialect
)

const (
	readerConns   = 4                // SQLite readers beside the one writer
	postgresConns = 16               // connections of one node to PostgreSQL
	busyTimeout   = 10 * time.Second // how long SQLite waits for another process's write
	txTries       = 20               // runs of one transaction before giving up
)

// Open opens the database that url names and brings its schema up to date.
//
// A url that starts with postgres:// or postgresql:// names a PostgreSQL
// database. Anything else is the path of an SQLite file, made with mode 0600 if
// it isn't there; its folder must exist.
func Open(ctx context.Context, url string) (*Store, error) {
	var s *Store
	var err error
	if strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://") {
		s, err = openPostgres(url)
	} else {
		s, err = openSQLite(url)
	}
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func openPostgres(url string) (*Store, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		// The error may quote the url, and with it the password.
		return nil, errors.New("open the PostgreSQL database: its URL can't be read")
	}
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Store{dialect: postgresDialect, writer: db, reader: db}, nil
}

func openSQLite(path string) (*Store, error) {
	// SQLite gives its -wal and -shm files the mode of the database file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	err = f.Chmod(0o600)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("make the database private to its owner: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	open := func(conns int, pragmas ...string) (*sql.DB, error) {
		q := url.Values{"_txlock": {"immediate"}}
		q["_pragma"] = append([]string{
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
			"foreign_keys(1)",
		}, pragmas...)
		name := url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}
		db, err := sql.Open("sqlite", name.String())
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		return db, nil
	}
	writer, err := open(1, "journal_mode(WAL)", "synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	reader, err := open(readerConns, "query_only(1)")
	if err != nil {
		writer.Close()
		return nil, err
	}
	return &Store{dialect: sqliteDialect, writer: writer, reader: reader}, nil
}

// Close closes the database. Nothing of it may be used afterwards.
func (s *Store) Close() error {
	err := s.writer.Close()
	if s.reader != s.writer {
		err = errors.Join(err, s.reader.Close())
	}
	return err
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.reader.PingContext(ctx)
}

// tx runs f in a transaction that is serialised against all other writes, and
// commits it unless f returns an error, which tx then returns as it is. When the
// database asks for another try (a serialisation failure, a deadlock, a busy
// file), f runs again in a new transaction: it must be repeatable.
func (s *Store) tx(ctx context.Context, f func(*sql.Tx) error) error {
	var err error
	for try := range txTries {
		if try > 0 {
			if err := pause(ctx, try); err != nil {
				return err
			}
		}
		if err = s.tryTx(ctx, f); err == nil || !retryable(err) {
			return err
		}
	}
	return fmt.Errorf("gave up after %d tries: %w", txTries, err)
}

func (s *Store) tryTx(ctx context.Context, f func(*sql.Tx) error) error {
	opts := &sql.TxOptions{Isolation: sql.LevelSerializable}
	if s.dialect == sqliteDialect {
		opts = nil // BEGIN IMMEDIATE, which is serialisable
	}
	tx, err := s.writer.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := f(tx); err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// pause waits before the given further try: a random time of up to 2, 4, … 64 ms,
// so that two transactions that met once don't meet again.
func pause(ctx context.Context, try int) error {
	limit := time.Millisecond << min(try, 6)
	t := time.NewTimer(rand.N(limit))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// retryable reports whether the database asked for the transaction to run again.
func retryable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || // serialization_failure
			pg.Code == "40P01" // deadlock_detected
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}

// isUnique reports whether err says that a unique or primary key is taken.
func isUnique(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505" // unique_violation
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) &&
		(lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// querier is what reads share: a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// millis is the stored form of a moment; moment reads it back, in UTC.
func millis(t time.Time) int64 { return t.UnixMilli() }

func moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// found turns sql.ErrNoRows into ErrNotFound.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"anytime/signaling/call"
)

// ClaimCallWork takes up to limit pieces of work that nobody holds: those of a
// process that died, or was too slow, between saving a call and carrying out its
// effects. They are held until now plus CallLease.
//
// Work that can't be read (a later version of the program wrote it) is left for
// who can, and reported with what could be read.
func (s *Store) ClaimCallWork(ctx context.Context, now time.Time, limit int) (list []CallWork, err error) {
	// Looking first costs SQLite's readers nothing; claiming takes the one writer.
	var some bool
	err = s.reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM call_outbox WHERE leased_until <= $1)", millis(now)).Scan(&some)
	if err != nil || !some {
		return nil, err
	}
	var unread error
	err = s.tx(ctx, func(tx *sql.Tx) error {
		list, unread = nil, nil
		rows, err := tx.QueryContext(ctx, `UPDATE call_outbox SET leased_until = $2 WHERE (call_id, version) IN (
				SELECT call_id, version FROM call_outbox WHERE leased_until <= $1 ORDER BY created_at, call_id, version LIMIT $3)
			RETURNING call_id, version, effects`, millis(now), millis(now.Add(CallLease)), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var w CallWork
			var effects string
			if err := rows.Scan(&w.CallID, &w.Version, &effects); err != nil {
				return err
			}
			if w.Effects, err = call.DecodeEffects([]byte(effects)); err != nil {
				unread = errors.Join(unread, err)
				continue
			}
			list = append(list, w)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return list, unread
}

// CallWorkDone removes work whose effects were carried out.
func (s *Store) CallWorkDone(ctx context.Context, done ...CallWork) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		for _, w := range done {
			if _, err := tx.ExecContext(ctx, "DELETE FROM call_outbox WHERE call_id = $1 AND version = $2", w.CallID, w.Version); err != nil {
				return err
			}
		}
		return nil
	})
}

// ClaimDueCalls takes up to limit calls whose timer is due and that nobody holds.
// Saving a change of the call, or CallLease, ends the hold.
func (s *Store) ClaimDueCalls(ctx context.Context, now time.Time, limit int) (ids []string, err error) {
	var some bool
	err = s.reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM calls WHERE due_at <= $1 AND claimed_until <= $1)", millis(now)).Scan(&some)
	if err != nil || !some {
		return nil, err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		ids = nil
		rows, err := tx.QueryContext(ctx, `UPDATE calls SET claimed_until = $2 WHERE id IN (
				SELECT id FROM calls WHERE due_at <= $1 AND claimed_until <= $1 ORDER BY due_at, id LIMIT $3)
			RETURNING id`, millis(now), millis(now.Add(CallLease)), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	return ids, err
}

// NextCallWork returns from when on ClaimCallWork or ClaimDueCalls finds something,
// if nothing changes until then, or the zero time if nothing is left at all. Both of
// its parts are read from an index of what is in progress.
func (s *Store) NextCallWork(ctx context.Context) (time.Time, error) {
	var next sql.NullInt64
	err := s.reader.QueryRowContext(ctx, `SELECT MIN(next) FROM (
		SELECT MIN(leased_until) AS next FROM call_outbox
		UNION ALL
		SELECT MIN(CASE WHEN claimed_until > due_at THEN claimed_until ELSE due_at END) FROM calls WHERE due_at IS NOT NULL
		) AS left_over`).Scan(&next)
	if err != nil || !next.Valid {
		return time.Time{}, err
	}
	return moment(next.Int64), nil
}

const callsAliveSetting = "calls_alive_at"

// KeepCallsAlive writes down that the calls are looked after at this moment.
func (s *Store) KeepCallsAlive(ctx context.Context, now time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, callsAliveSetting, strconv.FormatInt(millis(now), 10))
		return err
	})
}

// CallsAliveAt returns what KeepCallsAlive wrote last, or the zero time.
func (s *Store) CallsAliveAt(ctx context.Context) (time.Time, error) {
	var v string
	err := s.reader.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = $1", callsAliveSetting).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	ms, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("setting %s: %w", callsAliveSetting, err)
	}
	return moment(ms), nil
}

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"anytime/companion/people"
)

// NewSession is what signing in stores.
type NewSession struct {
	Hash      string // of the secret (people.HashSecret)
	Device    people.Device
	Bearer    bool
	ExpiresAt time.Time
}

// Session is someone signed in on a device, as it is stored.
type Session struct {
	Account   people.Account
	Device    people.Device
	Bearer    bool
	SeenAt    time.Time // to about an hour
	ExpiresAt time.Time
}

// EndedSession names a device that was signed out.
type EndedSession struct {
	AccountID, DeviceID string
	Expired             bool // by time; otherwise by someone's wish
}

func insertSession(ctx context.Context, tx *sql.Tx, accountID string, sess NewSession, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO devices (id, account_id, name, kind, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, kind = excluded.kind, ended_at = NULL`,
		sess.Device.ID, accountID, sess.Device.Name, sess.Device.Kind, millis(now))
	if err != nil {
		return fmt.Errorf("store the device: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO sessions (hash, device_id, account_id, bearer, seen_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		sess.Hash, sess.Device.ID, accountID, sess.Bearer, millis(now), millis(sess.ExpiresAt))
	if err != nil {
		return fmt.Errorf("store the session: %w", err)
	}
	return nil
}

// CreateSession signs an account in on a device. If replaces is the hash of a
// session of the same account, the new session takes over its device (whose id
// CreateSession returns) and the old secret is void: a rotation. Of more than
// limit devices, those not seen for longest are signed out, and returned.
func (s *Store) CreateSession(ctx context.Context, accountID string, sess NewSession, replaces string, limit int, now time.Time) (people.Device, []EndedSession, error) {
	device := sess.Device
	var ended []EndedSession
	err := s.tx(ctx, func(tx *sql.Tx) error {
		device, ended = sess.Device, nil
		if replaces != "" {
			var id string
			err := found(tx.QueryRowContext(ctx, "DELETE FROM sessions WHERE hash = $1 AND account_id = $2 RETURNING device_id",
				replaces, accountID).Scan(&id))
			if err == nil {
				device.ID = id
			} else if err != ErrNotFound {
				return err
			}
		}
		rows, err := tx.QueryContext(ctx, `DELETE FROM sessions WHERE hash IN (
				SELECT hash FROM sessions WHERE account_id = $1 ORDER BY seen_at DESC, hash LIMIT 1000 OFFSET $2)
			RETURNING account_id, device_id`, accountID, limit-1)
		if err != nil {
			return err
		}
		if ended, err = endedSessions(rows, false); err != nil {
			return err
		}
		if err := endDevices(ctx, tx, ended, now); err != nil {
			return err
		}
		sess := sess
		sess.Device = device
		return insertSession(ctx, tx, accountID, sess, now)
	})
	return device, ended, err
}

func endedSessions(rows *sql.Rows, expired bool) ([]EndedSession, error) {
	defer rows.Close()
	var ended []EndedSession
	for rows.Next() {
		e := EndedSession{Expired: expired}
		if err := rows.Scan(&e.AccountID, &e.DeviceID); err != nil {
			return nil, err
		}
		ended = append(ended, e)
	}
	return ended, rows.Err()
}

func endDevices(ctx context.Context, tx *sql.Tx, ended []EndedSession, now time.Time) error {
	for _, e := range ended {
		if _, err := tx.ExecContext(ctx, "UPDATE devices SET ended_at = $2 WHERE id = $1", e.DeviceID, millis(now)); err != nil {
			return err
		}
	}
	return nil
}

// Session returns the session with the hash, or ErrNotFound if there is none or
// it has expired.
func (s *Store) Session(ctx context.Context, hash string, now time.Time) (Session, error) {
	var sess Session
	var seen, expires int64
	err := s.reader.QueryRowContext(ctx, "SELECT "+account+`, d.id, d.name, d.kind, s.bearer, s.seen_at, s.expires_at
		FROM sessions s JOIN accounts a ON a.id = s.account_id JOIN devices d ON d.id = s.device_id
		WHERE s.hash = $1 AND s.expires_at > $2`, hash, millis(now)).
		Scan(append(accountFields(&sess.Account), &sess.Device.ID, &sess.Device.Name, &sess.Device.Kind,
			&sess.Bearer, &seen, &expires)...)
	sess.SeenAt, sess.ExpiresAt = moment(seen), moment(expires)
	return sess, found(err)
}

// ExtendSession moves the end of a device's session, which was seen now.
func (s *Store) ExtendSession(ctx context.Context, deviceID string, now, expires time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE sessions SET seen_at = $2, expires_at = $3 WHERE device_id = $1",
			deviceID, millis(now), millis(expires))
		return err
	})
}

// SignedIn reports whether the device has a session. The room service asks it on
// every join, so that a signed-out device's token is worth nothing.
func (s *Store) SignedIn(ctx context.Context, accountID, deviceID string, now time.Time) (bool, error) {
	_, err := s.SeenAt(ctx, accountID, deviceID, now)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// SeenAt returns when the device's session was last seen, or ErrNotFound if it is
// signed out.
func (s *Store) SeenAt(ctx context.Context, accountID, deviceID string, now time.Time) (time.Time, error) {
	var ms int64
	err := s.reader.QueryRowContext(ctx, `SELECT seen_at FROM sessions
		WHERE device_id = $2 AND account_id = $1 AND expires_at > $3`, accountID, deviceID, millis(now)).Scan(&ms)
	return moment(ms), found(err)
}

// EndSession signs the device of a session out, and returns it: none if the
// session was over already.
func (s *Store) EndSession(ctx context.Context, hash string, now time.Time) (ended []EndedSession, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "DELETE FROM sessions WHERE hash = $1 RETURNING account_id, device_id", hash)
		if err != nil {
			return err
		}
		if ended, err = endedSessions(rows, false); err != nil {
			return err
		}
		return endDevices(ctx, tx, ended, now)
	})
	return ended, err
}

// ExpireSessions ends the sessions whose time is over and removes invitations
// that are too old, and returns the devices signed out by it.
func (s *Store) ExpireSessions(ctx context.Context, now time.Time) (ended []EndedSession, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "DELETE FROM sessions WHERE expires_at <= $1 RETURNING account_id, device_id", millis(now))
		if err != nil {
			return err
		}
		if ended, err = endedSessions(rows, true); err != nil {
			return err
		}
		if err := endDevices(ctx, tx, ended, now); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM invitations WHERE expires_at <= $1", millis(now))
		return err
	})
	return ended, err
}

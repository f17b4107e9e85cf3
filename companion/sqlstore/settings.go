package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"anytime/companion/people"
)

// keptSetUpLinks is how many set-up links are good at a time: one for each of the
// latest starts, so that nodes that start together don't void each other's.
const keptSetUpLinks = 8

const registrationSetting = "registration"

func registration(ctx context.Context, q querier) (people.Registration, error) {
	var r people.Registration
	err := q.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = $1", registrationSetting).Scan(&r)
	return r, found(err)
}

// Registration returns who may sign up.
func (s *Store) Registration(ctx context.Context) (people.Registration, error) {
	return registration(ctx, s.reader)
}

// SetRegistration decides who may sign up.
func (s *Store) SetRegistration(ctx context.Context, r people.Registration) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, registrationSetting, string(r))
		return err
	})
}

// HasOperator reports whether someone runs this server.
func (s *Store) HasOperator(ctx context.Context) (bool, error) {
	return hasOperator(ctx, s.reader)
}

func hasOperator(ctx context.Context, q querier) (bool, error) {
	var yes bool
	err := q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM accounts WHERE operator)").Scan(&yes)
	return yes, err
}

// Prepare makes a store ready to serve: registration starts as given if nothing
// was decided yet, and if there is no operator, a link with the secret's hash can
// make one. It reports whether the link is good.
func (s *Store) Prepare(ctx context.Context, r people.Registration, setUpHash string, now time.Time) (setUp bool, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		setUp = false
		_, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
			registrationSetting, string(r))
		if err != nil {
			return err
		}
		operator, err := hasOperator(ctx, tx)
		if err != nil || operator {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO set_up_links (hash, created_at) VALUES ($1, $2)
			ON CONFLICT (hash) DO UPDATE SET created_at = excluded.created_at`, setUpHash, millis(now))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM set_up_links WHERE hash IN (
			SELECT hash FROM set_up_links ORDER BY created_at DESC, hash LIMIT 1000 OFFSET $1)`, keptSetUpLinks)
		setUp = true
		return err
	})
	return setUp, err
}

// Invitation is a link that lets one person sign up.
type Invitation struct {
	ID        string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// CreateInvitation stores an invitation of the account. It fails with ErrTooMany
// if limit of them are open already.
func (s *Store) CreateInvitation(ctx context.Context, accountID string, inv Invitation, hash string, limit int, now time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var n int
		err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM invitations WHERE account_id = $1 AND expires_at > $2",
			accountID, millis(now)).Scan(&n)
		if err != nil {
			return err
		}
		if n >= limit {
			return ErrTooMany
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO invitations (id, hash, account_id, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5)`, inv.ID, hash, accountID, millis(inv.CreatedAt), millis(inv.ExpiresAt))
		return err
	})
}

// Invitations returns the account's open invitations, oldest first.
func (s *Store) Invitations(ctx context.Context, accountID string, now time.Time) ([]Invitation, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, created_at, expires_at FROM invitations
		WHERE account_id = $1 AND expires_at > $2 ORDER BY created_at, id`, accountID, millis(now))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Invitation
	for rows.Next() {
		var inv Invitation
		var created, expires int64
		if err := rows.Scan(&inv.ID, &created, &expires); err != nil {
			return nil, err
		}
		inv.CreatedAt, inv.ExpiresAt = moment(created), moment(expires)
		list = append(list, inv)
	}
	return list, rows.Err()
}

// RevokeInvitation voids an open invitation of the account, or returns ErrNotFound.
func (s *Store) RevokeInvitation(ctx context.Context, accountID, id string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, "DELETE FROM invitations WHERE id = $1 AND account_id = $2", id, accountID))
		if err == nil && n == 0 {
			return ErrNotFound
		}
		return err
	})
}

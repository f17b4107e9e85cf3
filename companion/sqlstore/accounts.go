package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"anytime/companion/people"
)

// Errors of signing up.
var (
	ErrNameTaken      = errors.New("the name is taken")
	ErrNameConfusable = errors.New("the name looks like one that is taken")
	ErrInvitation     = errors.New("the invitation is unknown, used or too old")
	ErrSetUp          = errors.New("the set-up link is unknown or was used")
	ErrRegistration   = errors.New("registration is not open")
)

// NewAccount is what signing up stores.
type NewAccount struct {
	ID          string
	Name        people.Name
	DisplayName string
	Password    string // a PHC string (people.Passwords)
	// Hashes (people.HashSecret) of what the person showed, or "".
	Invitation string
	SetUp      string
}

// CreateAccount stores an account, if registration, the invitation or the set-up
// link allows it; either is used up by it. The first session is stored with it.
//
// It fails with ErrNameTaken, ErrNameConfusable, ErrInvitation, ErrSetUp, or
// ErrRegistration when none was shown and registration is not open.
func (s *Store) CreateAccount(ctx context.Context, a NewAccount, sess NewSession, now time.Time) (people.Account, error) {
	acc := people.Account{ID: a.ID, Name: a.Name.String(), DisplayName: a.DisplayName,
		Operator: a.SetUp != "", CallWaiting: true, CallsFrom: people.CallsFromEveryone}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := admit(ctx, tx, a, now); err != nil {
			return err
		}
		if err := nameFree(ctx, tx, a.Name); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts
			(id, name, skeleton, display_name, password, operator, call_waiting, calls_from, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			acc.ID, acc.Name, a.Name.Skeleton(), acc.DisplayName, a.Password,
			acc.Operator, acc.CallWaiting, string(acc.CallsFrom), millis(now))
		if err != nil {
			return err
		}
		return insertSession(ctx, tx, acc.ID, sess, now)
	})
	if isUnique(err) {
		// Lost a race that the check could not see: the winner's row says which.
		if err := nameFree(ctx, s.reader, a.Name); err != nil {
			return people.Account{}, err
		}
	}
	if err != nil {
		return people.Account{}, err
	}
	return acc, nil
}

// admit uses up what allows the sign-up.
func admit(ctx context.Context, tx *sql.Tx, a NewAccount, now time.Time) error {
	switch {
	case a.SetUp != "":
		n, err := affected(tx.ExecContext(ctx, "DELETE FROM set_up_links WHERE hash = $1", a.SetUp))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrSetUp
		}
		// There is an operator now: every other link is void too.
		_, err = tx.ExecContext(ctx, "DELETE FROM set_up_links")
		return err
	case a.Invitation != "":
		return useInvitation(ctx, tx, a.Invitation, now)
	}
	r, err := registration(ctx, tx)
	if err == nil && r != people.RegistrationOpen {
		err = ErrRegistration
	}
	return err
}

func useInvitation(ctx context.Context, tx *sql.Tx, hash string, now time.Time) error {
	var by string
	err := found(tx.QueryRowContext(ctx, "DELETE FROM invitations WHERE hash = $1 AND expires_at > $2 RETURNING account_id",
		hash, millis(now)).Scan(&by))
	if errors.Is(err, ErrNotFound) {
		return ErrInvitation
	}
	if err != nil {
		return err
	}
	r, err := registration(ctx, tx)
	if err != nil || r != people.RegistrationClosed {
		return err
	}
	// Closed: the invitations that members gave before count no longer.
	var operator bool
	err = tx.QueryRowContext(ctx, "SELECT operator FROM accounts WHERE id = $1", by).Scan(&operator)
	if err == nil && !operator {
		err = ErrInvitation
	}
	return err
}

// nameFree fails with ErrNameTaken or ErrNameConfusable.
func nameFree(ctx context.Context, q querier, name people.Name) error {
	var other string
	err := q.QueryRowContext(ctx, "SELECT name FROM accounts WHERE name = $1 OR skeleton = $2 ORDER BY name <> $1 LIMIT 1",
		name.String(), name.Skeleton()).Scan(&other)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case other == name.String():
		return ErrNameTaken
	}
	return ErrNameConfusable
}

// Password returns the account with the name and its password's PHC string, or
// ErrNotFound.
func (s *Store) Password(ctx context.Context, name string) (people.Account, string, error) {
	var a people.Account
	var phc string
	err := s.reader.QueryRowContext(ctx, "SELECT "+account+", a.password FROM accounts a WHERE a.name = $1", name).
		Scan(append(accountFields(&a), &phc)...)
	return a, phc, found(err)
}

// SetPassword replaces the password's PHC string if it still is old.
func (s *Store) SetPassword(ctx context.Context, accountID, old, phc string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE accounts SET password = $3 WHERE id = $1 AND password = $2", accountID, old, phc)
		return err
	})
}

// account is what every query for accounts a selects, into accountFields.
const account = "a.id, a.name, a.display_name, a.operator, a.call_waiting, a.calls_from"

func accountFields(a *people.Account) []any {
	return []any{&a.ID, &a.Name, &a.DisplayName, &a.Operator, &a.CallWaiting, &a.CallsFrom}
}

// AccountChange is what of an account changes; nil leaves a field as it is.
type AccountChange struct {
	DisplayName *string
	CallWaiting *bool
	CallsFrom   *people.CallsFrom
}

// UpdateAccount changes an account and returns it as it is now, or ErrNotFound.
func (s *Store) UpdateAccount(ctx context.Context, accountID string, c AccountChange) (people.Account, error) {
	var a people.Account
	err := s.tx(ctx, func(tx *sql.Tx) error {
		a = people.Account{}
		return found(tx.QueryRowContext(ctx, `UPDATE accounts AS a SET
			display_name = COALESCE($2, display_name),
			call_waiting = COALESCE($3, call_waiting),
			calls_from   = COALESCE($4, calls_from)
			WHERE id = $1 RETURNING id, name, display_name, operator, call_waiting, calls_from`,
			accountID, c.DisplayName, c.CallWaiting, (*string)(c.CallsFrom)).Scan(accountFields(&a)...))
	})
	return a, err
}

// affected returns how many rows a statement changed.
func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

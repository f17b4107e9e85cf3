package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"anytime/companion/people"
)

// Errors of changes between two people.
var (
	ErrBlocked  = errors.New("the account has blocked the other")
	ErrSelf     = errors.New("both are one account")
	ErrTooMany  = errors.New("a limit is reached")
	ErrConflict = errors.New("the change does not fit the present state")
)

// person is what every query for people selects: account a as seen by account $1,
// over the pair's relation r and the viewer's own block b.
const person = `a.id, a.name, a.display_name,
	CASE WHEN a.id = $1 THEN 'self'
	     WHEN b.other_id IS NOT NULL THEN 'blocked'
	     WHEN r.low IS NULL THEN 'none'
	     WHEN r.requested_by = '' THEN 'contact'
	     WHEN r.requested_by = $1 THEN 'requested'
	     ELSE 'incoming' END`

// seenBy joins accounts a with how the viewer $1 stands to them.
const seenBy = `
	LEFT JOIN relations r ON (r.low = $1 AND r.high = a.id) OR (r.high = $1 AND r.low = a.id)
	LEFT JOIN blocks b ON b.account_id = $1 AND b.other_id = a.id`

func scanPerson(row interface{ Scan(...any) error }) (people.Person, error) {
	var p people.Person
	err := row.Scan(&p.ID, &p.Name, &p.DisplayName, &p.Relation)
	return p, found(err)
}

// PersonByName returns who has the name, as the viewer sees them, or ErrNotFound.
// The name is as people.ParseName gives it.
func (s *Store) PersonByName(ctx context.Context, viewerID, name string) (people.Person, error) {
	return scanPerson(s.reader.QueryRowContext(ctx,
		"SELECT "+person+" FROM accounts a "+seenBy+" WHERE a.name = $2", viewerID, name))
}

// Person returns the account as the viewer sees it, or ErrNotFound.
func (s *Store) Person(ctx context.Context, viewerID, id string) (people.Person, error) {
	return personByID(ctx, s.reader, viewerID, id)
}

func personByID(ctx context.Context, q querier, viewerID, id string) (people.Person, error) {
	return scanPerson(q.QueryRowContext(ctx,
		"SELECT "+person+" FROM accounts a "+seenBy+" WHERE a.id = $2", viewerID, id))
}

// People returns the accounts with these ids as the viewer sees them, by id. Ids
// that name nobody are left out.
func (s *Store) People(ctx context.Context, viewerID string, ids []string) (map[string]people.Person, error) {
	out := make(map[string]people.Person, len(ids))
	for _, id := range ids {
		if _, ok := out[id]; ok {
			continue
		}
		p, err := s.Person(ctx, viewerID, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[id] = p
	}
	return out, nil
}

// Ringing says what becomes of a call from one account to another.
type Ringing uint8

const (
	Rings         Ringing = iota
	RingsUnheard          // the callee blocked the caller, who must not notice: it rings for the caller alone
	ContactsOnly          // the callee takes calls from contacts only
	CalleeBlocked         // the caller blocked the callee
)

// MayRing says what becomes of a call from caller to callee. It reads within q, a
// transaction or the pool.
func mayRing(ctx context.Context, q querier, callerID, calleeID string) (Ringing, error) {
	var blocked, unheard, contact bool
	var from people.CallsFrom
	low, high := pair(callerID, calleeID)
	err := q.QueryRowContext(ctx, `SELECT a.calls_from,
		EXISTS (SELECT 1 FROM blocks WHERE account_id = $1 AND other_id = $2),
		EXISTS (SELECT 1 FROM blocks WHERE account_id = $2 AND other_id = $1),
		EXISTS (SELECT 1 FROM relations WHERE low = $3 AND high = $4 AND requested_by = '')
		FROM accounts a WHERE a.id = $2`, callerID, calleeID, low, high).
		Scan(&from, &blocked, &unheard, &contact)
	switch {
	case err != nil:
		return Rings, found(err)
	case blocked:
		return CalleeBlocked, nil
	case from == people.CallsFromContacts && !contact:
		// Asked before the block: the answer must not depend on one.
		return ContactsOnly, nil
	case unheard:
		return RingsUnheard, nil
	}
	return Rings, nil
}

// MayRing says what becomes of a call from caller to callee, or ErrNotFound.
func (s *Store) MayRing(ctx context.Context, callerID, calleeID string) (Ringing, error) {
	return mayRing(ctx, s.reader, callerID, calleeID)
}

// Most of each list of Contacts; what lies beyond is left out.
const listLimit = 5000

// Contacts returns everyone the account has a relation with.
func (s *Store) Contacts(ctx context.Context, accountID string) (people.Contacts, error) {
	c := people.Contacts{Contacts: []people.Person{}, Incoming: []people.Person{},
		Requested: []people.Person{}, Blocked: []people.Person{}}
	list := map[people.Relation]*[]people.Person{
		people.Contact: &c.Contacts, people.Incoming: &c.Incoming,
		people.Requested: &c.Requested, people.Blocked: &c.Blocked,
	}
	rows, err := s.reader.QueryContext(ctx, "SELECT "+person+` FROM (
			SELECT high AS id FROM relations WHERE low = $1
			UNION SELECT low FROM relations WHERE high = $1
			UNION SELECT other_id FROM blocks WHERE account_id = $1
		) AS known JOIN accounts a ON a.id = known.id `+seenBy, accountID)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scanPerson(rows)
		if err != nil {
			return c, err
		}
		if l := list[p.Relation]; l != nil && len(*l) < listLimit {
			*l = append(*l, p)
		}
	}
	for _, l := range list {
		slices.SortFunc(*l, func(a, b people.Person) int { return cmp.Compare(a.Name, b.Name) })
	}
	return c, rows.Err()
}

// Request asks other to become a contact of account. If other has asked already,
// both are contacts at once. It returns other as account sees them now, and
// whether anything changed.
//
// It fails with ErrSelf, ErrNotFound, ErrBlocked if account blocked other, or
// ErrTooMany if account has limit relations already.
func (s *Store) Request(ctx context.Context, accountID, otherID string, limit int, now time.Time) (p people.Person, changed bool, err error) {
	if accountID == otherID {
		return p, false, ErrSelf
	}
	low, high := pair(accountID, otherID)
	err = s.tx(ctx, func(tx *sql.Tx) error {
		p, changed = people.Person{}, false
		seen, err := personByID(ctx, tx, accountID, otherID)
		if err != nil {
			return err
		}
		var by string
		switch seen.Relation {
		case people.Blocked:
			return ErrBlocked
		case people.Requested, people.Contact:
			p = seen
			return nil
		case people.Incoming:
			by, seen.Relation = "", people.Contact
		default:
			by, seen.Relation = accountID, people.Requested
			var n int
			err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM relations WHERE low = $1 OR high = $1", accountID).Scan(&n)
			if err != nil {
				return err
			}
			if n >= limit {
				return ErrTooMany
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO relations (low, high, requested_by, changed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (low, high) DO UPDATE SET requested_by = excluded.requested_by, changed_at = excluded.changed_at`,
			low, high, by, millis(now))
		p, changed = seen, true
		return err
	})
	return p, changed, err
}

// Accept makes contacts of account and other, who has asked. It returns other as
// account sees them now, and whether anything changed. It fails with ErrConflict if other
// hasn't asked, and with ErrNotFound or ErrBlocked.
func (s *Store) Accept(ctx context.Context, accountID, otherID string, now time.Time) (p people.Person, changed bool, err error) {
	low, high := pair(accountID, otherID)
	err = s.tx(ctx, func(tx *sql.Tx) error {
		p, changed = people.Person{}, false
		seen, err := personByID(ctx, tx, accountID, otherID)
		if err != nil {
			return err
		}
		switch seen.Relation {
		case people.Contact:
			p = seen
			return nil
		case people.Blocked:
			return ErrBlocked
		case people.Incoming:
			_, err := tx.ExecContext(ctx, "UPDATE relations SET requested_by = '', changed_at = $3 WHERE low = $1 AND high = $2",
				low, high, millis(now))
			seen.Relation = people.Contact
			p, changed = seen, true
			return err
		}
		return ErrConflict
	})
	return p, changed, err
}

// RemoveRelation ends what is between the two: a contact is removed, a request
// declined or withdrawn. It reports whether there was anything.
func (s *Store) RemoveRelation(ctx context.Context, accountID, otherID string) (removed bool, err error) {
	low, high := pair(accountID, otherID)
	err = s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM relations WHERE low = $1 AND high = $2", low, high)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		removed = n > 0
		return err
	})
	return removed, err
}

// Block makes account block other. It changes nothing that other can see. It
// reports whether it is new, and fails with ErrSelf, ErrNotFound or ErrTooMany.
func (s *Store) Block(ctx context.Context, accountID, otherID string, limit int, now time.Time) (blocked bool, err error) {
	if accountID == otherID {
		return false, ErrSelf
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		blocked = false
		seen, err := personByID(ctx, tx, accountID, otherID)
		if err != nil || seen.Relation == people.Blocked {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM blocks WHERE account_id = $1", accountID).Scan(&n); err != nil {
			return err
		}
		if n >= limit {
			return ErrTooMany
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO blocks (account_id, other_id, created_at) VALUES ($1, $2, $3)",
			accountID, otherID, millis(now))
		blocked = true
		return err
	})
	return blocked, err
}

// Unblock ends a block and reports whether there was one.
func (s *Store) Unblock(ctx context.Context, accountID, otherID string) (unblocked bool, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM blocks WHERE account_id = $1 AND other_id = $2", accountID, otherID)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		unblocked = n > 0
		return err
	})
	return unblocked, err
}

// HasBlocked reports whether account blocks other.
func (s *Store) HasBlocked(ctx context.Context, accountID, otherID string) (bool, error) {
	var yes bool
	err := s.reader.QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM blocks WHERE account_id = $1 AND other_id = $2)", accountID, otherID).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for a block: %w", err)
	}
	return yes, nil
}

// pair orders two ids as relations stores them.
func pair(a, b string) (low, high string) {
	if a < b {
		return a, b
	}
	return b, a
}

// KnownBy returns the ids of all whose contacts, requests or blocks name the
// account.
func (s *Store) KnownBy(ctx context.Context, accountID string) ([]string, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT high FROM relations WHERE low = $1
		UNION SELECT low FROM relations WHERE high = $1
		UNION SELECT account_id FROM blocks WHERE other_id = $1`, accountID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

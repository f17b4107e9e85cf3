package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"anytime/signaling/call"
)

// Calls are advanced in three files:
//
//  1. calls.go: an event is applied to a stored call and the result saved, in one
//     transaction with the device slots it claims or frees and the effects that
//     remain to be done.
//  2. calls_work.go: any process claims effects and timers that are left.
//  3. calls_read.go: calls of an account, and its history.

// Errors of changes to calls, beside those of package call.
var (
	// ErrInCall: the device is in another call.
	ErrInCall = errors.New("the device is in a call")
	// errMoved: another process saved the call first. The change is tried again.
	errMoved = errors.New("the call was changed at the same time")
)

// CallRefused says who cannot be rung by the account, and why.
type CallRefused struct {
	AccountID string
	Why       Ringing // ContactsOnly or CalleeBlocked
}

func (e *CallRefused) Error() string { return "the person can't be called" }

// CallLease is how long a process may take to carry out effects or a timer that
// it holds, before another one does.
const CallLease = 10 * time.Second

// CallWork is what remains to be done for one version of a call. Whoever has it
// holds it until its lease ends, carries out the effects and calls [Store.CallWorkDone].
type CallWork struct {
	CallID  string
	Version int64
	Effects []call.Effect
}

// CallChange is a call after a change.
type CallChange struct {
	Call    call.Call
	Changed bool       // false: it was so already
	Work    []CallWork // held by the caller
}

// NewCall is what placing a call stores.
type NewCall struct {
	ID              string
	Account, Device string // the caller
	Media           call.Media
	To              []string // accounts
	ClientID        string   // a repeated one of the same device places nothing twice
}

// Placing says what became of a placed call.
type Placing uint8

const (
	CallPlaced   Placing = iota // it rings
	CallRepeated                // the client id was used: this is that call
	CallMet                     // the other was calling at the same time: that call is answered
	CallResumed                 // the device is in a call with just this person already
)

// PlaceCall stores a new call, unless the device's other call, a call from the
// same person or the same client id makes it unnecessary.
//
// It fails with ErrInCall, ErrNotFound if an account isn't there, a *CallRefused,
// or an error of package call.
func (s *Store) PlaceCall(ctx context.Context, c NewCall, now time.Time) (change CallChange, placing Placing, err error) {
	err = s.changeCalls(ctx, func(tx *callTx) error {
		change, placing = CallChange{}, CallPlaced
		var id string
		err := tx.QueryRowContext(ctx, "SELECT id FROM calls WHERE device_id = $1 AND client_id = $2", c.Device, c.ClientID).Scan(&id)
		if err == nil {
			placing = CallRepeated
			change.Call, err = loadCall(ctx, tx, id)
			return err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if change, placing, err = tx.instead(ctx, c, now); placing != CallPlaced || err != nil {
			return err
		}
		people, err := tx.invitees(ctx, c.Account, "", c.To, now)
		if err != nil {
			return err
		}
		n, effects, err := call.Apply(call.Call{}, call.Placed{ID: c.ID, Account: c.Account, Device: c.Device, Media: c.Media, People: people}, now)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO calls (id, version, state, caller_id, device_id, client_id, body, created_at, due_at)
			VALUES ($1, 0, '', $2, $3, $4, '', $5, NULL)`, n.ID, n.Caller, c.Device, c.ClientID, millis(n.CreatedAt))
		if err != nil {
			return err
		}
		work, err := tx.save(ctx, &call.Call{}, &n, effects, now)
		change = CallChange{Call: n, Changed: true, Work: work}
		return err
	})
	return change, placing, err
}

// instead looks for a call that makes a new one unnecessary: the one that the
// device is in, or one in which the callee rings the caller at this moment. The
// database serialises the two placements of a glare, so the second finds the first.
func (tx *callTx) instead(ctx context.Context, c NewCall, now time.Time) (CallChange, Placing, error) {
	with := func(id string) (call.Call, bool, error) {
		other, err := loadCall(ctx, tx, id)
		return other, err == nil && len(c.To) == 1 && len(other.People) == 2 && other.Person(c.To[0]) != nil, err
	}
	id, err := tx.slot(ctx, c.Device)
	if err != nil {
		return CallChange{}, CallPlaced, err
	}
	if id != "" {
		current, same, err := with(id)
		if err == nil && !same {
			err = ErrInCall
		}
		return CallChange{Call: current}, CallResumed, err
	}
	if len(c.To) != 1 {
		return CallChange{}, CallPlaced, nil
	}
	err = tx.QueryRowContext(ctx, `SELECT c.id FROM calls c JOIN call_legs l ON l.call_id = c.id
		WHERE c.caller_id = $1 AND c.state = 'ringing' AND l.account_id = $2 AND l.rings AND NOT l.ended
		AND (SELECT COUNT(*) FROM call_legs WHERE call_id = c.id) = 2
		ORDER BY c.created_at, c.id LIMIT 1`, c.To[0], c.Account).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return CallChange{}, CallPlaced, nil
	}
	if err != nil {
		return CallChange{}, CallPlaced, err
	}
	other, same, err := with(id)
	if err != nil || !same {
		return CallChange{}, CallPlaced, err
	}
	change, err := tx.apply(ctx, other, call.Answered{Account: c.Account, Device: c.Device, Media: c.Media}, now)
	return change, CallMet, err
}

// ChangeCall applies an event to a stored call and saves the result. A device
// that answers leaves the call that it is in.
//
// It fails with ErrNotFound or an error of package call. People are invited with
// [Store.InviteToCall].
func (s *Store) ChangeCall(ctx context.Context, id string, e call.Event, now time.Time) (change CallChange, err error) {
	err = s.changeCalls(ctx, func(tx *callTx) error {
		change = CallChange{}
		c, err := loadCall(ctx, tx, id)
		if err != nil {
			return err
		}
		change, err = tx.apply(ctx, c, e, now)
		return err
	})
	return change, err
}

// InviteToCall rings more people. It fails as PlaceCall and ChangeCall do.
func (s *Store) InviteToCall(ctx context.Context, id, accountID, deviceID string, to []string, now time.Time) (change CallChange, err error) {
	err = s.changeCalls(ctx, func(tx *callTx) error {
		change = CallChange{}
		c, err := loadCall(ctx, tx, id)
		if err != nil {
			return err
		}
		if p := c.Person(accountID); p == nil || p.Hidden {
			return call.ErrStranger // before anything shows about those invited
		}
		people, err := tx.invitees(ctx, accountID, id, to, now)
		if err != nil {
			return err
		}
		change, err = tx.apply(ctx, c, call.Invited{Account: accountID, Device: deviceID, People: people}, now)
		return err
	})
	return change, err
}

// callTx is a transaction that changes calls.
type callTx struct {
	*sql.Tx
}

// changeCalls runs f in a transaction, and again when another one was faster.
func (s *Store) changeCalls(ctx context.Context, f func(*callTx) error) error {
	for try := 1; ; try++ {
		err := s.tx(ctx, func(tx *sql.Tx) error { return f(&callTx{tx}) })
		// A unique key taken by a transaction that this one could not see is a race
		// lost, as is a version that moved.
		if !isUnique(err) && !errors.Is(err, errMoved) || try == txTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// apply applies an event to a call that was loaded in this transaction, and saves.
func (tx *callTx) apply(ctx context.Context, c call.Call, e call.Event, now time.Time) (CallChange, error) {
	n, effects, err := call.Apply(c, e, now)
	if err != nil || n.Version == c.Version {
		return CallChange{Call: c}, err
	}
	var work []CallWork
	if a, ok := e.(call.Answered); ok {
		if work, err = tx.leave(ctx, a, n.ID, now); err != nil {
			return CallChange{}, err
		}
	}
	saved, err := tx.save(ctx, &c, &n, effects, now)
	return CallChange{Call: n, Changed: true, Work: append(work, saved...)}, err
}

// leave takes a device that answers a call out of the one it is in.
func (tx *callTx) leave(ctx context.Context, a call.Answered, answered string, now time.Time) ([]CallWork, error) {
	id, err := tx.slot(ctx, a.Device)
	if err != nil || id == "" || id == answered {
		return nil, err
	}
	c, err := loadCall(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	change, err := tx.apply(ctx, c, call.HungUp{Account: a.Account, Device: a.Device}, now)
	if err != nil {
		return nil, fmt.Errorf("leave the other call: %w", err)
	}
	return change.Work, nil
}

// slot returns the call that a device is in, or "".
func (tx *callTx) slot(ctx context.Context, deviceID string) (string, error) {
	var id string
	err := tx.QueryRowContext(ctx, "SELECT call_id FROM device_slots WHERE device_id = $1", deviceID).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// invitees finds out what a call from the account (or the call with an id that
// they are invited to) does for each of the people.
func (tx *callTx) invitees(ctx context.Context, callerID, callID string, to []string, now time.Time) ([]call.Invitee, error) {
	var list []call.Invitee
	for _, id := range to {
		if slices.ContainsFunc(list, func(in call.Invitee) bool { return in.Account == id }) {
			continue
		}
		in := call.Invitee{Account: id}
		if id != callerID { // calling oneself is refused by package call
			why, err := mayRing(ctx, tx, callerID, id)
			if err != nil {
				return nil, err
			}
			switch why {
			case Rings:
			case RingsUnheard:
				in.Silent = true
			default:
				return nil, &CallRefused{AccountID: id, Why: why}
			}
		}
		if !in.Silent {
			if err := tx.reach(ctx, &in, callID, now); err != nil {
				return nil, err
			}
		}
		list = append(list, in)
	}
	return list, nil
}

// reach finds the devices to ring, and whether the person has other calls. One
// call may wait behind another, if the person lets it; a third finds them busy.
func (tx *callTx) reach(ctx context.Context, in *call.Invitee, callID string, now time.Time) error {
	var calls int
	var waiting bool
	err := tx.QueryRowContext(ctx, `SELECT a.call_waiting,
		(SELECT COUNT(DISTINCT call_id) FROM device_slots WHERE account_id = $1 AND call_id <> $2) +
		(SELECT COUNT(*) FROM call_legs WHERE account_id = $1 AND call_id <> $2 AND rings AND NOT ended)
		FROM accounts a WHERE a.id = $1`, in.Account, callID).Scan(&waiting, &calls)
	if err != nil {
		return found(err)
	}
	in.Waiting = calls > 0
	in.Busy = calls > 1 || calls > 0 && !waiting
	rows, err := tx.QueryContext(ctx, `SELECT device_id FROM sessions WHERE account_id = $1 AND expires_at > $2
		ORDER BY seen_at DESC, device_id LIMIT $3`, in.Account, millis(now), call.MaxDevices)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		in.Devices = append(in.Devices, id)
	}
	return rows.Err()
}

// save replaces the stored call old by n, if it still is old, with its legs, the
// slots that its effects claim and free, and the effects that remain.
func (tx *callTx) save(ctx context.Context, old, n *call.Call, effects []call.Effect, now time.Time) ([]CallWork, error) {
	body, err := n.Encode()
	if err != nil {
		return nil, err
	}
	var due *int64
	if !n.DueAt.IsZero() {
		due = new(int64)
		*due = millis(n.DueAt)
	}
	rows, err := affected(tx.ExecContext(ctx, `UPDATE calls SET version = $3, state = $4, body = $5, due_at = $6, claimed_until = 0
		WHERE id = $1 AND version = $2`, n.ID, old.Version, n.Version, string(n.State), string(body), due))
	if err != nil {
		return nil, err
	}
	if rows != 1 {
		return nil, errMoved
	}
	if err := tx.saveLegs(ctx, old, n); err != nil {
		return nil, err
	}
	var rest []call.Effect
	for _, e := range effects {
		if !e.InTransaction() {
			rest = append(rest, e)
			continue
		}
		if err := tx.saveSlot(ctx, n.ID, e, now); err != nil {
			return nil, err
		}
	}
	if len(rest) == 0 {
		return nil, nil
	}
	list, err := call.EncodeEffects(rest)
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO call_outbox (call_id, version, effects, created_at, leased_until) VALUES ($1, $2, $3, $4, $5)",
		n.ID, n.Version, string(list), millis(now), millis(now.Add(CallLease)))
	return []CallWork{{CallID: n.ID, Version: n.Version, Effects: rest}}, err
}

// leg is what of a person's part queries ask for.
type leg struct{ rings, ended, hidden bool }

func legOf(p *call.Person) leg {
	return leg{rings: p.Rings(), ended: p.Over() || p.Outcome != call.NoOutcome, hidden: p.Hidden}
}

func (tx *callTx) saveLegs(ctx context.Context, old, n *call.Call) error {
	for i := range n.People {
		p := &n.People[i]
		l := legOf(p)
		if i < len(old.People) && legOf(&old.People[i]) == l {
			continue
		}
		started := p.RungAt
		if started.IsZero() {
			started = n.CreatedAt
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO call_legs (call_id, account_id, started_at, rings, ended, hidden) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (call_id, account_id) DO UPDATE SET rings = excluded.rings, ended = excluded.ended, hidden = excluded.hidden`,
			n.ID, p.Account, millis(started), l.rings, l.ended, l.hidden)
		if err != nil {
			return fmt.Errorf("store a leg: %w", err)
		}
	}
	return nil
}

func (tx *callTx) saveSlot(ctx context.Context, callID string, e call.Effect, now time.Time) error {
	if e.Kind == call.ReleaseSlot {
		_, err := tx.ExecContext(ctx, "DELETE FROM device_slots WHERE device_id = $1 AND call_id = $2", e.Device, callID)
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO device_slots (device_id, account_id, call_id, claimed_at) VALUES ($1, $2, $3, $4)",
		e.Device, e.Account, callID, millis(now))
	return err
}

// loadCall reads a call within a transaction or the pool.
func loadCall(ctx context.Context, q querier, id string) (call.Call, error) {
	var body string
	if err := q.QueryRowContext(ctx, "SELECT body FROM calls WHERE id = $1", id).Scan(&body); err != nil {
		return call.Call{}, found(err)
	}
	return call.Decode([]byte(body))
}

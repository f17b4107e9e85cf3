package sqlstore

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"anytime/companion/people"
	"anytime/signaling/call"
)

// Call returns a call, or ErrNotFound.
func (s *Store) Call(ctx context.Context, id string) (call.Call, error) {
	return loadCall(ctx, s.reader, id)
}

// maxOngoing bounds how many calls one account can be in or be rung by.
const maxOngoing = 100

// OngoingCalls returns the calls that the account is in or that ring it, oldest
// first, without those that it must not know of.
func (s *Store) OngoingCalls(ctx context.Context, accountID string) ([]call.Call, error) {
	return s.queryCalls(ctx, `SELECT c.body FROM call_legs l JOIN calls c ON c.id = l.call_id
		WHERE l.account_id = $1 AND NOT l.ended AND NOT l.hidden AND c.state <> 'ended'
		ORDER BY l.started_at, l.call_id LIMIT $2`, accountID, maxOngoing)
}

// SharedCalls returns the ongoing calls in which both accounts have a part, even
// one that its owner must not know of.
func (s *Store) SharedCalls(ctx context.Context, accountID, otherID string) ([]call.Call, error) {
	return s.queryCalls(ctx, `SELECT c.body FROM call_legs l JOIN call_legs o ON o.call_id = l.call_id
		JOIN calls c ON c.id = l.call_id
		WHERE l.account_id = $1 AND NOT l.ended AND o.account_id = $2 AND c.state <> 'ended'
		ORDER BY l.started_at, l.call_id LIMIT $3`, accountID, otherID, maxOngoing)
}

// AllOngoingCalls returns the ids of the calls that haven't ended.
func (s *Store) AllOngoingCalls(ctx context.Context) ([]string, error) {
	return s.queryIDs(ctx, "SELECT id FROM calls WHERE state <> 'ended' ORDER BY created_at, id")
}

func (s *Store) queryCalls(ctx context.Context, query string, args ...any) ([]call.Call, error) {
	bodies, err := s.queryIDs(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	list := make([]call.Call, 0, len(bodies))
	for _, b := range bodies {
		c, err := call.Decode([]byte(b))
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// queryIDs returns the one column of a query.
func (s *Store) queryIDs(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// ErrCursor is returned for text that no CallCursor wrote.
var ErrCursor = errors.New("not a cursor of the call history")

// CallCursor is a place in an account's call history.
type CallCursor struct {
	StartedAt int64 // when the account's part began, Unix milliseconds
	CallID    string
}

// String returns the cursor as clients keep it; they must not read it.
func (c CallCursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.StartedAt, 10) + " " + c.CallID))
}

// ParseCallCursor reads what String wrote, or fails with ErrCursor.
func ParseCallCursor(s string) (CallCursor, error) {
	if len(s) > 100 {
		return CallCursor{}, ErrCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return CallCursor{}, ErrCursor
	}
	at, id, ok := strings.Cut(string(b), " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	c := CallCursor{StartedAt: ms, CallID: id}
	if !ok || err != nil || !people.ValidID("ca_", id) || c.String() != s {
		return CallCursor{}, ErrCursor
	}
	return c, nil
}

// CallHistory returns up to limit calls in which the account's part is over,
// newest first, from before the cursor or, if it is nil, from now. next is nil
// when there are no more.
func (s *Store) CallHistory(ctx context.Context, accountID string, before *CallCursor, limit int) (list []call.Call, next *CallCursor, err error) {
	query := `SELECT l.started_at, c.body FROM call_legs l JOIN calls c ON c.id = l.call_id
		WHERE l.account_id = $1 AND l.ended AND NOT l.hidden`
	args := []any{accountID, limit + 1}
	if before != nil {
		query += " AND (l.started_at, l.call_id) < ($3, $4)"
		args = append(args, before.StartedAt, before.CallID)
	}
	rows, err := s.reader.QueryContext(ctx, query+" ORDER BY l.started_at DESC, l.call_id DESC LIMIT $2", args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	last := CallCursor{}
	for rows.Next() {
		var at int64
		var body string
		if err := rows.Scan(&at, &body); err != nil {
			return nil, nil, err
		}
		if len(list) == limit {
			return list, &last, nil
		}
		c, err := call.Decode([]byte(body))
		if err != nil {
			return nil, nil, err
		}
		list = append(list, c)
		last = CallCursor{StartedAt: at, CallID: c.ID}
	}
	return list, nil, rows.Err()
}

// CallSlot returns the call that a device is in, or "".
func (s *Store) CallSlot(ctx context.Context, deviceID string) (string, error) {
	ids, err := s.queryIDs(ctx, "SELECT call_id FROM device_slots WHERE device_id = $1", deviceID)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// SignedOutSlots returns the devices in calls that have no session any more.
func (s *Store) SignedOutSlots(ctx context.Context, now time.Time) ([]EndedSession, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT account_id, device_id FROM device_slots d WHERE NOT EXISTS (
		SELECT 1 FROM sessions s WHERE s.device_id = d.device_id AND s.expires_at > $1)`, millis(now))
	if err != nil {
		return nil, err
	}
	return endedSessions(rows, true)
}

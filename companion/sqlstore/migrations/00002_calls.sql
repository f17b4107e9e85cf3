-- +goose Up

-- A call is a row, advanced by compare-and-swap: body is the value of package
-- call as JSON, and version says which. The other columns repeat what queries ask.
CREATE TABLE calls (
    id            TEXT PRIMARY KEY,
    version       BIGINT NOT NULL,
    state         TEXT NOT NULL,
    caller_id     TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id     TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    body          TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    UNIQUE (device_id, client_id)
);
CREATE INDEX calls_by_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_ongoing ON calls (created_at) WHERE state <> 'ended';

-- One row for each person of a call: the history, and who is rung now.
CREATE TABLE call_legs (
    call_id    TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    started_at BIGINT NOT NULL,
    rings      BOOLEAN NOT NULL,
    ended      BOOLEAN NOT NULL,
    hidden     BOOLEAN NOT NULL,
    PRIMARY KEY (call_id, account_id)
);
CREATE INDEX call_legs_history ON call_legs (account_id, started_at, call_id) WHERE ended AND NOT hidden;
CREATE INDEX call_legs_ongoing ON call_legs (account_id, call_id) WHERE NOT ended;

-- The one call that a device is in.
CREATE TABLE device_slots (
    device_id  TEXT PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    call_id    TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    claimed_at BIGINT NOT NULL
);
CREATE INDEX device_slots_by_account ON device_slots (account_id, call_id);
CREATE INDEX device_slots_by_call ON device_slots (call_id);

-- What remains to be done after a call was saved: one row for each version that
-- has effects. Whoever saved it holds it until leased_until, then anybody may.
CREATE TABLE call_outbox (
    call_id      TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    version      BIGINT NOT NULL,
    effects      TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    PRIMARY KEY (call_id, version)
);
CREATE INDEX call_outbox_by_lease ON call_outbox (leased_until);

-- +goose Down
DROP TABLE call_outbox;
DROP TABLE device_slots;
DROP TABLE call_legs;
DROP TABLE calls;

-- +goose Up
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Links that make their opener the operator: all void once one was used.
CREATE TABLE set_up_links (
    hash       TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- skeleton is what the name looks like (people.Skeleton): unique, so that no two
-- names can be mistaken for each other.
CREATE TABLE accounts (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    skeleton     TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    password     TEXT NOT NULL,
    operator     BOOLEAN NOT NULL,
    call_waiting BOOLEAN NOT NULL,
    calls_from   TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);

-- A device is kept after its sign-out (ended_at), for histories name it.
CREATE TABLE devices (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE INDEX devices_by_account ON devices (account_id);

CREATE TABLE sessions (
    hash       TEXT PRIMARY KEY,
    device_id  TEXT NOT NULL UNIQUE REFERENCES devices (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    bearer     BOOLEAN NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_account ON sessions (account_id, seen_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE invitations (
    id         TEXT PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX invitations_by_account ON invitations (account_id);

-- One row for two people, low < high. requested_by is who asked; '' once they are
-- contacts.
CREATE TABLE relations (
    low          TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    high         TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    requested_by TEXT NOT NULL,
    changed_at   BIGINT NOT NULL,
    PRIMARY KEY (low, high)
);
CREATE INDEX relations_by_high ON relations (high);

-- A block is its owner's alone: it changes nothing that the other can see.
CREATE TABLE blocks (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    other_id   TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, other_id)
);
CREATE INDEX blocks_by_other ON blocks (other_id);

-- +goose Down
DROP TABLE blocks;
DROP TABLE relations;
DROP TABLE invitations;
DROP TABLE sessions;
DROP TABLE devices;
DROP TABLE accounts;
DROP TABLE set_up_links;
DROP TABLE settings;

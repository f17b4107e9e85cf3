// Package sqlstore is the only place of the companion that speaks SQL. It keeps
// what must never be lost: accounts, devices, sessions, invitations, relations
// between people, and calls.
//
// One set of statements serves two databases: SQLite, embedded and the default,
// and PostgreSQL, when several nodes share one store. They are written in the
// part of SQL both speak:
//
//   - parameters are $1, $2, …; upserts are INSERT … ON CONFLICT; changed rows
//     come back through RETURNING;
//   - a moment is a BIGINT of Unix milliseconds, UTC ([millis] and [moment]);
//   - ids and hashes are TEXT, made by the program, never by the database;
//   - what differs in a schema is written as a {{PLACEHOLDER}} in the migration
//     and filled in for the dialect (see migrate.go).
//
// Flow of a write: [Store.tx] opens a transaction that is serialised against
// every other write, runs the function, commits, and runs it again when the
// database asked for another try. On SQLite a single writer connection holds the
// write lock from BEGIN IMMEDIATE to COMMIT; on PostgreSQL the transaction is
// SERIALIZABLE. A function given to tx may therefore decide on what it has read,
// with no lock of its own, but must be repeatable: it sets its results anew on
// each run and touches nothing outside the database.
//
// Every commit is on disk before it is acknowledged (SQLite: write-ahead log
// with synchronous=FULL).
package sqlstore

// Package sqldb is one SQL on two engines: SQLite in this process, or PostgreSQL.
//
// It promises that a transaction that InTx reported as committed is on disk, that a transaction which failed left
// nothing behind and took no other with it, and that the same portable text means the same on both engines:
//
//   - columns are TEXT, BIGINT or BYTEA; TEXT compares by bytes; a time is a BIGINT of microseconds UTC (Micros);
//   - parameters are $1, $2, …, in any order and repeated; their Go values are strings, integers, []byte, nil,
//     pointers to these, and types built on them. Booleans, floats and time.Time are refused;
//   - a failed statement ends its transaction, as PostgreSQL has it: use ON CONFLICT, do not catch;
//   - one result is open at a time in a transaction.
//
// sqltest.CheckPortable finds text that breaks these rules. A transaction that decides something begins with
// UPDATE … SET version = version + 1 … RETURNING on the row it decides about: that is the lock, on both engines.
//
// # Round trips
//
// On PostgreSQL a transaction goes to the server when it needs an answer, and not before: BEGIN with its first statement,
// what is queued (Tx.Queue) with the next one or with COMMIT. A transaction that only queues is one round trip.
//
// # Migrations
//
// A set of migrations is a folder of files NNNN_verb_noun.sql, run in order, forward only, each wholly or
// not at all, by one process at a time. They are written portably with the types in upper case; on
// PostgreSQL TEXT gets COLLATE "C", on SQLite BIGINT and BYTEA become INTEGER and BLOB and tables become STRICT.
// Lines of their own steer the rest:
//
//	-- +tenure postgres            what follows is for PostgreSQL only, until -- +tenure end
//	-- +tenure sqlite              what follows is for SQLite only, until -- +tenure end
//	-- +tenure append-only TABLE   after the table is created: from here on rows can only be added and read
//	-- +goose StatementBegin       a statement with semicolons inside, until -- +goose StatementEnd
//
// # Roles on PostgreSQL
//
// With Config.Schema the service lives in a schema of its own. Its tables belong to the role <schema>_owner, which
// only migrations use; every other connection runs as the role <schema>, which may SELECT, INSERT, UPDATE and DELETE,
// but only SELECT and INSERT on append-only tables. Neither role can log in. Open makes what is missing, for which
// the DSN's user needs CREATEROLE and CREATE on the database; when an administrator has made the roles and the schema
// before, it only needs to be a member of both roles. The roles bound what the service's own statements can do; whoever
// has the DSN can do what its user can.
package sqldb

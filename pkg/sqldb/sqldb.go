// Package sqldb is one SQL on two engines: SQLite, embedded, as the default, and PostgreSQL to move to.
//
// It promises that a transaction whose InTx returned nil is on the disk, that concurrent transactions on SQLite share
// one fsync, and that the same text of SQL means the same on both. In return that text keeps to what both understand:
// column types TEXT, BIGINT and BYTEA; parameters $1, $2, …; times as BIGINT microseconds UTC; no booleans, JSON,
// `= ANY`, LIKE or data-modifying CTE; NULLS LAST where a nullable column orders; and no statement that may fail inside
// a transaction which goes on. sqltest.CheckPortable enforces it.
package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
)

// MaxParams is the most parameters one statement may have: SQLite's limit, below PostgreSQL's.
const MaxParams = 32766

// ErrNoRows is what Row.Scan returns when there is no row.
var ErrNoRows = errors.New("no rows")

// Config says where the database is. Exactly one of SQLite and Postgres is set.
type Config struct {
	SQLite   string        // a file; made when it does not exist
	Postgres config.Secret // a DSN
	Schema   string        // PostgreSQL: the service's schema and role, made when they do not exist; empty: the connection's own
	MaxConns int           // PostgreSQL: connections at most; 0: 16
}

// Migrations is one set of migrations with a version table of its own.
type Migrations struct {
	Name string // owner of the version table
	FS   fs.FS  // NNNN_verb_noun.sql, for goose, up only, in portable SQL
}

// engine is what SQLite and PostgreSQL have in common. Implementations are safe for concurrent use.
type engine interface {
	name() string
	inTx(ctx context.Context, f func(*Tx) error) error
	query(ctx context.Context, sql string, args []any) (*Rows, error)
	now() string // an SQL expression: the database's time in microseconds
	migrate(ctx context.Context, sets []Migrations) error
	close() error
}

// DB is an open database. Safe for concurrent use.
type DB struct{ e engine }

// Open opens the database, making file, schema and role as needed, and runs the migrations; one process at a time does.
func Open(ctx context.Context, cfg Config, sets ...Migrations) (*DB, error) {
	var e engine
	var err error
	switch {
	case cfg.SQLite != "" && len(cfg.Postgres.Reveal()) > 0:
		return nil, errors.New("open database: both SQLite and PostgreSQL are configured")
	case cfg.SQLite != "":
		e, err = openSQLite(ctx, cfg)
	case len(cfg.Postgres.Reveal()) > 0:
		e, err = openPostgres(ctx, cfg)
	default:
		return nil, errors.New("open database: neither SQLite nor PostgreSQL is configured")
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := e.migrate(ctx, append([]Migrations{leaseMigrations()}, sets...)); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database: %w", err), e.close())
	}
	return &DB{e}, nil
}

// Close waits for the transactions under way and closes the database.
func (db *DB) Close() error { return db.e.close() }

// Engine is "sqlite" or "postgres".
func (db *DB) Engine() string { return db.e.name() }

// InTx runs f in a transaction: committed, durably, when f returns nil; rolled back otherwise.
//
// On SQLite f runs on the one writer's goroutine, together with others that commit with it, so it must do nothing but
// SQL and must not wait. On PostgreSQL (READ COMMITTED) f may be run again after a serialisation failure or a deadlock,
// so it must have no other effect than its SQL. What must happen after the commit is given to Tx.AfterCommit.
func (db *DB) InTx(ctx context.Context, f func(*Tx) error) error {
	return db.e.inTx(ctx, f)
}

// Query reads outside of a transaction. The rows must be closed.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (*Rows, error) {
	return db.e.query(ctx, sql, args)
}

// QueryRow reads one row outside of a transaction.
func (db *DB) QueryRow(ctx context.Context, sql string, args ...any) *Row {
	rows, err := db.e.query(ctx, sql, args)
	return &Row{rows, err}
}

// Querier is what reads: a DB or a Tx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (*Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) *Row
}

// txn is one engine's transaction.
type txn interface {
	exec(ctx context.Context, sql string, args []any) (int64, error)
	query(ctx context.Context, sql string, args []any) (*Rows, error)
}

// Tx is a transaction under way. Not for concurrent use, and not for use after f has returned.
type Tx struct {
	txn
	after []func()
}

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	return tx.exec(ctx, sql, args)
}

// Query reads inside the transaction. The rows must be closed before the next statement.
func (tx *Tx) Query(ctx context.Context, sql string, args ...any) (*Rows, error) {
	return tx.query(ctx, sql, args)
}

// QueryRow reads one row inside the transaction.
func (tx *Tx) QueryRow(ctx context.Context, sql string, args ...any) *Row {
	rows, err := tx.query(ctx, sql, args)
	return &Row{rows, err}
}

// AfterCommit has f called once the transaction is committed, by the goroutine that called InTx.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

func (tx *Tx) committed() {
	for _, f := range tx.after {
		f()
	}
}

// Values is the list of a multi-row VALUES: "($1, $2), ($3, $4)" for two rows of two columns. rows*cols must not
// exceed MaxParams.
func Values(rows, cols int) string {
	if rows < 1 || cols < 1 || rows*cols > MaxParams {
		panic(fmt.Sprintf("sqldb.Values(%d, %d): from 1 to %d parameters", rows, cols, MaxParams))
	}
	var text strings.Builder
	text.Grow(rows * cols * 6)
	n := 0
	for r := range rows {
		if r > 0 {
			text.WriteString(", ")
		}
		text.WriteByte('(')
		for c := range cols {
			if c > 0 {
				text.WriteString(", ")
			}
			n++
			fmt.Fprintf(&text, "$%d", n)
		}
		text.WriteByte(')')
	}
	return text.String()
}

// Micros is an instant as the database keeps it: microseconds since 1970, UTC. The zero Time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the instant of Micros, in UTC; 0 is the zero Time.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/crash"
)

// ErrNoRows is what Row.Scan returns when the query found nothing.
var ErrNoRows = sql.ErrNoRows

// errClosed answers everything that comes after Close.
var errClosed = errors.New("database is closed")

// The engines, as Engine names them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Config says where the data lives: exactly one of SQLite and Postgres is set.
type Config struct {
	SQLite   string        // path of the database file; made with its folder when missing
	Postgres config.Secret // DSN of a PostgreSQL database
	Schema   string        // PostgreSQL: the schema and the role of this service, [a-z][a-z0-9_]*; see the package's doc
	MaxConns int           // connections: for reading on SQLite, in all on PostgreSQL; 0 means 10
}

const (
	defaultConns = 10
	maxSchema    = 63 - len("_owner") // PostgreSQL cuts longer names
)

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Validate reports the first value that cannot work.
func (c Config) Validate() error {
	switch {
	case c.SQLite == "" && c.Postgres.Empty():
		return errors.New("neither a SQLite file nor a PostgreSQL url is given")
	case c.SQLite != "" && !c.Postgres.Empty():
		return errors.New("both a SQLite file and a PostgreSQL url are given")
	case c.Schema != "" && (!schemaName.MatchString(c.Schema) || len(c.Schema) > maxSchema):
		return fmt.Errorf("schema %q: want at most %d of a-z, 0-9 and _, a letter first", c.Schema, maxSchema)
	case c.MaxConns < 0:
		return errors.New("max_conns is negative")
	}
	return nil
}

// name is what the database holds: a service's schema, or its file's name.
func (c Config) name() string {
	return cmp.Or(c.Schema, strings.TrimSuffix(filepath.Base(c.SQLite), filepath.Ext(c.SQLite)))
}

// Migrations is one owner's tables: a service's, the outbox's.
type Migrations struct {
	Name string // of the owner, [a-z][a-z0-9_]*: which files have run is kept per name
	FS   fs.FS  // NNNN_verb_noun.sql, at its root or in a folder named migrations
}

// engine is what differs between the two databases.
type engine interface {
	name() string
	now() string // expression for the database's clock, in microseconds
	inTx(ctx context.Context, f func(*Tx) error) error
	query(ctx context.Context, text string, args []any) (*Rows, error)
	ping(ctx context.Context) error
	weaknesses(ctx context.Context) ([]string, error)
	close() error
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine engine
	name   string // of what is in it
}

// Open connects, makes what is missing, and runs the pending migrations of sets, in the order given. Several processes
// may do so at once. A database that cannot be reached is fault.Unavailable.
func Open(ctx context.Context, cfg Config, sets ...Migrations) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultConns
	}
	sets = append([]Migrations{ownMigrations()}, sets...)
	var (
		opened engine
		err    error
	)
	if cfg.SQLite != "" {
		opened, err = openSQLite(ctx, cfg, sets)
	} else {
		opened, err = openPostgres(ctx, cfg, sets)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return &DB{engine: opened, name: cfg.name()}, nil
}

// Close waits for the transactions that have begun and for open results, and disconnects. What is asked afterwards
// fails.
func (db *DB) Close() error { return db.engine.close() }

// Engine returns SQLite or Postgres.
func (db *DB) Engine() string { return db.engine.name() }

// Ping reports whether the database answers; it fits a readiness check.
func (db *DB) Ping(ctx context.Context) error { return db.engine.ping(ctx) }

// Weaknesses lists, in words, the settings of the database that make a committed transaction less than durable
// (PostgreSQL with fsync off, say). Empty: what is committed survives a crash of the machine.
func (db *DB) Weaknesses(ctx context.Context) ([]string, error) { return db.engine.weaknesses(ctx) }

// InTx runs f in a transaction and commits it when f returns nil; nil from InTx means that it is on disk.
//
// On SQLite there is one writer: f runs on its goroutine, one at a time, and many calls share one commit. On
// PostgreSQL f runs in this goroutine at READ COMMITTED. On both f may run again after it was undone: when PostgreSQL
// gave it up for another, when SQLite lost the group it was in. So f does nothing but SQL: no waiting, no calls, no
// InTx inside, and no effect outside that would be wrong when repeated (AfterCommit is for those). A panic in f undoes
// its transaction and continues in the caller, on SQLite as a *TxPanic.
//
// When ctx ends before f has begun, f never runs. An error of fault kind Unavailable (disk full, connection lost), or of
// ctx, that comes from the commit itself or from what was queued and went with it leaves open, on PostgreSQL, whether it took
// place. There a transaction begins with its first statement: without any it needs no server.
func (db *DB) InTx(ctx context.Context, f func(*Tx) error) error {
	if !crash.Enabled {
		return db.engine.inTx(ctx, f)
	}
	at := crash.At(db.name)
	err := db.engine.inTx(ctx, func(tx *Tx) error {
		err := f(tx)
		if err == nil {
			at.Reach("before commit")
		}
		return err
	})
	if err == nil {
		at.Reach("after commit")
	}
	return err
}

// Query reads outside a transaction: it sees what was committed before it began. Close the rows, or use Collect.
func (db *DB) Query(ctx context.Context, text string, args ...any) (*Rows, error) {
	return db.engine.query(ctx, text, args)
}

// QueryRow is Query for at most one row.
func (db *DB) QueryRow(ctx context.Context, text string, args ...any) *Row {
	rows, err := db.engine.query(ctx, text, args)
	return &Row{rows: rows, err: err}
}

// Querier is what can be read from: DB and Tx.
type Querier interface {
	Query(ctx context.Context, text string, args ...any) (*Rows, error)
	QueryRow(ctx context.Context, text string, args ...any) *Row
}

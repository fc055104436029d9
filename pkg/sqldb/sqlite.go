package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tenurehq/tenure/pkg/fault"
)

// readers is how many connections read at once.
const readers = 4

// sqliteDB is one file with one writer and a pool of readers.
type sqliteDB struct {
	file   string
	write  *sql.DB // of one connection, which the writer holds
	read   *sql.DB
	writer *writer

	reading statements
}

func openSQLite(ctx context.Context, cfg Config) (engine, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.SQLite), 0o700); err != nil {
		return nil, err
	}
	open := func(pragmas ...string) (*sql.DB, error) {
		query := url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
		return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: cfg.SQLite}).EscapedPath(), RawQuery: query.Encode()}).String())
	}
	write, err := open("journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := open("query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	db := &sqliteDB{file: cfg.SQLite, write: write, read: read, reading: statements{prepare: read.PrepareContext}}
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(sqliteFault(err), db.close())
	}
	return db, nil
}

func (db *sqliteDB) name() string { return "sqlite" }

func (db *sqliteDB) now() string {
	return `CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)`
}

func (db *sqliteDB) close() error {
	if db.writer != nil {
		db.writer.stop()
	}
	return errors.Join(db.reading.close(), db.read.Close(), db.write.Close())
}

func (db *sqliteDB) migrate(ctx context.Context, sets []Migrations) error {
	for _, set := range sets {
		if err := runMigrations(ctx, db.write, db.name(), set); err != nil {
			return sqliteFault(err)
		}
	}
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return sqliteFault(err)
	}
	db.writer = startWriter(conn)
	return nil
}

func (db *sqliteDB) query(ctx context.Context, text string, args []any) (*Rows, error) {
	stmt, err := db.reading.get(ctx, text)
	if err != nil {
		return nil, sqliteFault(err)
	}
	return sqliteRows(stmt.QueryContext(ctx, args...)) //nolint:sqlclosecheck,rowserrcheck // the caller closes what Query returns
}

func (db *sqliteDB) inTx(ctx context.Context, f func(*Tx) error) error { return db.writer.do(ctx, f) }

// statements are prepared once. Safe for concurrent use.
type statements struct {
	prepare func(context.Context, string) (*sql.Stmt, error)
	mu      sync.Mutex
	byText  map[string]*sql.Stmt
}

// maxStatements bounds what is kept: multi-row statements come in many lengths.
const maxStatements = 512

func (s *statements) get(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.byText[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if s.byText == nil {
		s.byText = map[string]*sql.Stmt{}
	}
	if len(s.byText) >= maxStatements {
		for text, old := range s.byText { // any one
			delete(s.byText, text)
			_ = old.Close() // a running query keeps its own hold on it
			break
		}
	}
	s.byText[text] = stmt
	return stmt, nil
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, stmt := range s.byText {
		errs = append(errs, stmt.Close())
	}
	s.byText = nil
	return errors.Join(errs...)
}

// sqlRows adapts database/sql's Close, which returns the error that Err returns too.
type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() }

func sqliteRows(rows *sql.Rows, err error) (*Rows, error) {
	if err != nil {
		return nil, sqliteFault(err)
	}
	return &Rows{sqlRows{rows}, sqliteFault}, nil
}

// sqliteFault says which errors are the database's trouble and not the caller's.
func sqliteFault(err error) error {
	var e *sqlite.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
		return fault.Wrap(fault.Unavailable, err)
	}
	return err
}

// sqliteTx is a transaction's statements on the writer's connection.
type sqliteTx struct {
	stmts *statements
}

func (t sqliteTx) exec(ctx context.Context, text string, args []any) (int64, error) {
	ctx = context.WithoutCancel(ctx) // an interrupted write would take its neighbours' transactions with it
	stmt, err := t.stmts.get(ctx, text)
	if err != nil {
		return 0, sqliteFault(err)
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, sqliteFault(err)
	}
	n, err := result.RowsAffected()
	return n, sqliteFault(err)
}

func (t sqliteTx) query(ctx context.Context, text string, args []any) (*Rows, error) {
	ctx = context.WithoutCancel(ctx)
	stmt, err := t.stmts.get(ctx, text)
	if err != nil {
		return nil, sqliteFault(err)
	}
	return sqliteRows(stmt.QueryContext(ctx, args...)) //nolint:sqlclosecheck,rowserrcheck // the caller closes what Query returns
}

// panicked carries a panic of one transaction to the goroutine that asked for it.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprint("panic in a transaction: ", p.value) }

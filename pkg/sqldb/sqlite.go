package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite
)

const (
	// Writers in other processes (a command line beside the server) are waited for this long.
	sqliteBusyMillis = "10000"
	// Who opens the file tries again for this long, with growing pauses, when that was not waited for.
	sqliteOpening    = 10 * time.Second
	sqliteFirstPause = 2 * time.Millisecond
	sqliteLastPause  = 100 * time.Millisecond
	// The log is copied back after this many pages (16 MB), not the default 1,000: fewer, larger syncs.
	sqliteCheckpointPages = "4000"
	// A reader's cache is void after the writer's next commit. A large one only holds memory meanwhile: of ten readers of 60 MB,
	// 310 MB instead of 40.
	sqliteReader = "PRAGMA query_only = ON; PRAGMA cache_size = -2000"
	// The writer's, in KiB, is a few times what a group of transactions changes. A commit often goes through all of it, when a
	// page was split: SQLite numbers it beyond all others for a moment, and then looks for such. What is not in it is in the kernel's.
	sqliteWriter = "-4000"
	// What a savepoint goes back to stays in memory: else each that changes 16 pages makes a file. Readers may sort on the disk.
	sqliteSaved = "PRAGMA temp_store = MEMORY"
	sqliteNow   = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
)

// sqliteEngine is one writer connection, owned by the writer's goroutine, and a pool of readers.
type sqliteEngine struct {
	db      *sql.DB // only hands out connections; each is held for life
	writer  *writer
	readers chan *sqliteConn
	conns   []*sqliteConn
	closing chan struct{}
	once    sync.Once
}

// openSQLite connects, and tries again while others who open or close the file at the same time keep it locked: some of the locks
// that this takes (the first switch to a log, the last one's clearing it away) SQLite does not wait for.
func openSQLite(ctx context.Context, cfg Config, sets []Migrations) (engine, error) {
	over := time.Now().Add(sqliteOpening)
	for pause := sqliteFirstPause; ; pause = min(2*pause, sqliteLastPause) {
		e, err := connectSQLite(ctx, cfg, sets)
		if err == nil {
			return e, nil
		}
		if !busy(err) || time.Now().After(over) {
			return nil, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // G404: only spreads attempts
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func connectSQLite(ctx context.Context, cfg Config, sets []Migrations) (*sqliteEngine, error) {
	if err := makeFile(cfg.SQLite); err != nil {
		return nil, err
	}
	if err := migrateSQLite(ctx, sqliteDSN(cfg.SQLite, nil), sets); err != nil {
		return nil, err
	}
	e := &sqliteEngine{readers: make(chan *sqliteConn, cfg.MaxConns), closing: make(chan struct{})}
	var err error
	if e.db, err = sql.Open("sqlite", sqliteDSN(cfg.SQLite, nil)); err != nil {
		return nil, err
	}
	for i := range cfg.MaxConns + 1 {
		conn, err := e.db.Conn(ctx)
		if err != nil {
			return nil, errors.Join(classify(err), e.disconnect())
		}
		made := newSQLiteConn(conn)
		e.conns = append(e.conns, made)
		if i == 0 {
			continue // the writer's
		}
		if _, err := conn.ExecContext(ctx, sqliteReader); err != nil {
			return nil, errors.Join(classify(err), e.disconnect())
		}
		e.readers <- made
	}
	if _, err := e.conns[0].conn.ExecContext(ctx, sqliteSaved); err != nil {
		return nil, errors.Join(classify(err), e.disconnect())
	}
	e.writer = startWriter(e.conns[0]) //nolint:contextcheck // the writer outlives the opening
	return e, nil
}

// makeFile creates the file, for its owner's eyes only, before SQLite does: the log and index beside it get the same
// mode. The folder is synced, or a crash could lose the file with everything committed in it.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// sqliteDSN returns what opens path with the settings that the promises rest on, and extra pragmas.
func sqliteDSN(path string, extra []string) string {
	pragmas := append([]string{
		"busy_timeout(" + sqliteBusyMillis + ")", // first: switching to WAL needs a lock
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit is on disk before it is answered
		"foreign_keys(ON)",
		"recursive_triggers(ON)", // or REPLACE would delete without firing an append-only table's trigger
		"trusted_schema(OFF)",
		"wal_autocheckpoint(" + sqliteCheckpointPages + ")",
		"journal_size_limit(67108864)",
		"cache_size(" + sqliteWriter + ")",
	}, extra...)
	query := url.Values{"_pragma": pragmas}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

func (e *sqliteEngine) name() string { return SQLite }
func (e *sqliteEngine) now() string  { return sqliteNow }

func (e *sqliteEngine) inTx(ctx context.Context, f func(*Tx) error) error { return e.writer.do(ctx, f) }

func (e *sqliteEngine) query(ctx context.Context, text string, args []any) (*Rows, error) {
	if err := checkArgs(args); err != nil {
		return nil, err
	}
	var reader *sqliteConn
	select {
	case <-e.closing:
		return nil, errClosed
	default:
	}
	select {
	case reader = <-e.readers:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.closing:
		return nil, errClosed
	}
	result, err := reader.query(ctx, text, args)
	if err != nil {
		e.readers <- reader
		return nil, classify(err)
	}
	return &Rows{cursor: result, free: func(error) { e.readers <- reader }}, nil
}

func (e *sqliteEngine) ping(ctx context.Context) error {
	rows, err := e.query(ctx, "SELECT 1", nil)
	if err != nil {
		return err
	}
	return rows.Close()
}

// weaknesses is empty: the settings are ours, made at Open.
func (e *sqliteEngine) weaknesses(context.Context) ([]string, error) { return nil, nil }

func (e *sqliteEngine) close() error {
	var err error
	e.once.Do(func() {
		close(e.closing)
		e.writer.stop()
		for range cap(e.readers) { // each comes back when its rows are closed
			<-e.readers
		}
		err = e.disconnect()
	})
	return err
}

func (e *sqliteEngine) disconnect() error {
	var errs []error
	for _, conn := range e.conns {
		errs = append(errs, conn.close())
	}
	return errors.Join(append(errs, e.db.Close())...)
}

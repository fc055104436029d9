package sqldb

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tenurehq/tenure/pkg/fault"
)

// PostgreSQL's codes that we act on.
const (
	pgSerialization = "40001"
	pgDeadlock      = "40P01"
)

// classify gives err the kind that a caller can act on: Unavailable when the database cannot do it now (disk full,
// too many connections, shut down, unreachable, locked), Conflict when it gave this transaction up for another. A
// context's end stays what it is; everything else is Internal: a statement or its data is wrong.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if inSQLite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch inSQLite.Code() & 0xff { // the low byte of an extended code
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
			sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL:
			return fault.Wrap(fault.Unavailable, err)
		}
		return err
	}
	if inPostgres, ok := errors.AsType[*pgconn.PgError](err); ok {
		if conflicts(inPostgres) {
			return fault.Wrap(fault.Conflict, err)
		}
		if len(inPostgres.Code) == 5 {
			switch inPostgres.Code[:2] {
			case "08", "53", "57", "58": // connection; resources; operator; system error outside PostgreSQL (I/O)
				return fault.Wrap(fault.Unavailable, err)
			}
		}
		if inPostgres.Code == "25006" { // read only: connected to a standby during a switch-over
			return fault.Wrap(fault.Unavailable, err)
		}
		return err
	}
	if connectionFailed(err) {
		return fault.Wrap(fault.Unavailable, err)
	}
	return err
}

// busy says that somebody else has the SQLite file locked.
func busy(err error) bool {
	inSQLite, ok := errors.AsType[*sqlite.Error](err)
	return ok && inSQLite.Code()&0xff == sqlite3.SQLITE_BUSY
}

func conflicts(err *pgconn.PgError) bool {
	return err.Code == pgSerialization || err.Code == pgDeadlock
}

func connectionFailed(err error) bool {
	var (
		connecting *pgconn.ConnectError
		network    net.Error
	)
	return errors.As(err, &connecting) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenurehq/tenure/pkg/connector"
)

// notDone explains an error that came before a COMMIT was sent. Whatever it was, the server undoes the transaction, so that
// the outcome is known even when the connection is lost.
func notDone(err error) error {
	if p := (*connector.Problem)(nil); errors.As(err, &p) {
		return p
	}
	var said *pgconn.PgError
	switch {
	case errors.As(err, &said):
		return fromServer(said)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p := connector.Unavailable("postgres.timeout", "the server did not answer in time; nothing was done")
		p.Scope = 0 // one slow statement is not the whole server
		return p
	}
	return connector.Unavailable("postgres.connection", "%v; nothing was done", err)
}

// maybeDone explains an error of a COMMIT, or of what takes effect without one.
func maybeDone(err error) error {
	var said *pgconn.PgError
	switch {
	case pgconn.SafeToRetry(err):
		return notDone(err)
	case errors.As(err, &said) && certain(said):
		return fromServer(said)
	}
	return connector.Unknown("postgres.connection", "%v", err)
}

// certain says whether the server itself reported the failure of the statement, and not its own end.
func certain(e *pgconn.PgError) bool {
	return e.Severity == "ERROR" && !strings.HasPrefix(e.Code, "08") && !strings.HasPrefix(e.Code, "57P")
}

// fromServer classifies by SQLSTATE. An ERROR of PostgreSQL always means that nothing was done.
func fromServer(e *pgconn.PgError) *connector.Problem {
	reason := "sqlstate." + e.Code
	text := e.Message
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	switch e.Code {
	case "42710", "23505": // duplicate_object; the index behind it, when two create at once
		return connector.AlreadyExists("", reason, "%s", text)
	case "42704": // undefined_object
		return connector.NotFound(reason, "%s", text)
	case "42501": // insufficient_privilege
		return connector.Denied(reason, "%s", text)
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return connector.Conflict(reason, "%s", text)
	case "57014": // query_canceled, by a statement_timeout
		return connector.Conflict(reason, "%s", text)
	case "25006": // read_only_sql_transaction: a standby
		return connector.Precondition(reason, "%s", text).Instance()
	case "3D000": // invalid_catalog_name: the database of the URL
		return connector.Precondition(reason, "%s", text).Instance()
	case "42939", "42602", "42622": // reserved_name, invalid_name, name_too_long
		return connector.Invalid([]string{attrLogin}, reason, "%s", text)
	case "53300": // too_many_connections
		return connector.RateLimited(time.Second, reason, "%s", text)
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "53", "57", "58": // connection, resources, operator intervention, system error
		return connector.Unavailable(reason, "%s", text)
	case "28": // invalid authorization
		return connector.Auth(reason, "%s", text)
	case "22": // data exception
		return connector.Invalid(nil, reason, "%s", text)
	case "XX":
		// Two changed one catalog row at the same moment; there is no SQLSTATE of its own for it.
		if strings.Contains(e.Message, "concurrently") {
			return connector.Conflict(reason, "%s", text)
		}
	}
	return connector.Precondition(reason, "%s", text)
}

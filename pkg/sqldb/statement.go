package sqldb

import (
	"container/list"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tenurehq/tenure/pkg/sqldb/internal/sqltext"
)

const sqliteCachedStatements = 256

// sqliteConn is one connection with its prepared statements, least recently used last. It is for one goroutine at a
// time.
type sqliteConn struct {
	conn     *sql.Conn
	prepared map[string]*list.Element // of *statement
	recent   *list.List
}

// statement is one prepared text.
type statement struct {
	*sql.Stmt

	text   string
	params []int // for each ? of the text as SQLite has it, the number of our parameter
	count  int   // of our parameters
}

func newSQLiteConn(conn *sql.Conn) *sqliteConn {
	return &sqliteConn{conn: conn, prepared: make(map[string]*list.Element), recent: list.New()}
}

func (c *sqliteConn) prepare(ctx context.Context, text string) (*statement, error) {
	if known, ok := c.prepared[text]; ok {
		c.recent.MoveToFront(known)
		return known.Value.(*statement), nil
	}
	if c.recent.Len() >= sqliteCachedStatements {
		oldest := c.recent.Remove(c.recent.Back()).(*statement)
		delete(c.prepared, oldest.text)
		if err := oldest.Close(); err != nil {
			return nil, err
		}
	}
	own, params, count := forSQLite(text)
	prepared, err := c.conn.PrepareContext(ctx, own)
	if err != nil {
		return nil, err
	}
	made := &statement{Stmt: prepared, text: text, params: params, count: count}
	c.prepared[text] = c.recent.PushFront(made)
	return made, nil
}

// forSQLite writes every $n of text as ?, and returns which n each stands for, and the greatest n. SQLite knows
// $n, but as a name that is searched for among all others at each binding: a statement with thousands of them, as
// Values makes it, would take seconds. BYTEA, in a CAST, becomes BLOB: what SQLite does not know it would take for a number.
func forSQLite(text string) (own string, params []int, count int) {
	var out strings.Builder
	for rest := text; rest != ""; {
		token := sqltext.Next(rest)
		rest = rest[len(token):]
		if token == "BYTEA" {
			token = "BLOB"
		}
		if token == "$" && rest != "" {
			number := sqltext.Next(rest)
			if n, err := strconv.Atoi(number); err == nil && n > 0 {
				rest = rest[len(number):]
				params = append(params, n)
				count = max(count, n)
				token = "?"
			}
		}
		out.WriteString(token)
	}
	return out.String(), params, count
}

// bind returns args in the order in which the statement's text has them.
func (s *statement) bind(args []any) ([]any, error) {
	if len(args) != s.count {
		return nil, fmt.Errorf("the statement has %d parameters, not %d", s.count, len(args)) // as PostgreSQL says
	}
	bound := make([]any, len(s.params))
	for i, n := range s.params {
		bound[i] = args[n-1]
	}
	return bound, nil
}

func (c *sqliteConn) exec(ctx context.Context, text string, args []any) (int64, error) {
	prepared, err := c.prepare(ctx, text)
	if err != nil {
		return 0, err
	}
	bound, err := prepared.bind(args)
	if err != nil {
		return 0, err
	}
	result, err := prepared.ExecContext(ctx, bound...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c *sqliteConn) query(ctx context.Context, text string, args []any) (cursor, error) {
	prepared, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	bound, err := prepared.bind(args)
	if err != nil {
		return nil, err
	}
	rows, err := prepared.QueryContext(ctx, bound...) //nolint:sqlclosecheck // whoever reads the cursor closes it
	if err != nil {
		return nil, err
	}
	return rows, rows.Err()
}

func (c *sqliteConn) close() error {
	var errs []error
	for at := c.recent.Front(); at != nil; at = at.Next() {
		errs = append(errs, at.Value.(*statement).Close())
	}
	if err := errors.Join(append(errs, c.conn.Close())...); err != nil {
		return fmt.Errorf("close SQLite connection: %w", err)
	}
	return nil
}

package sqldb

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	pgBegin    = "begin isolation level read committed"
	pgCommit   = "commit"
	pgRollback = "rollback"
)

// pgSession is a transaction's connection. It is taken when there is something to send, and what is sent next takes along what
// came before and has no answer that anybody waits for: BEGIN, and what was queued.
//
// Each flush ends with one Sync, so after a failed statement the server passes over all that follows in it, COMMIT too.
type pgSession struct {
	pool   *pgxpool.Pool
	conn   *pgxpool.Conn // nil: nothing was sent yet, and there is no transaction
	queued []pgStatement
}

type pgStatement struct {
	text string
	args []any
}

func (s *pgSession) exec(ctx context.Context, text string, args []any) (int64, error) {
	tag, err := s.run(ctx, text, args)
	return tag.RowsAffected(), err
}

func (s *pgSession) queue(ctx context.Context, text string, args []any) error {
	s.queued = append(s.queued, pgStatement{text, args})
	return ctx.Err()
}

func (s *pgSession) query(ctx context.Context, text string, args []any) (cursor, error) {
	if s.goesAlone() {
		rows, err := s.conn.Query(ctx, text, args...)
		if err != nil {
			return nil, err
		}
		return pgCursor{Rows: rows}, nil
	}
	sent, err := s.send(ctx, text, args)
	if err != nil {
		return nil, err
	}
	rows, err := sent.Query()
	if err != nil {
		_ = sent.Close() // why is already known
		return nil, err
	}
	return pgCursor{Rows: rows, flush: sent}, nil
}

// run runs a statement that returns no rows.
func (s *pgSession) run(ctx context.Context, text string, args []any) (pgconn.CommandTag, error) {
	if s.goesAlone() {
		return s.conn.Exec(ctx, text, args...)
	}
	sent, err := s.send(ctx, text, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := sent.Exec()
	return tag, cmp.Or(err, sent.Close())
}

// goesAlone reports that nothing has to go before the next statement.
func (s *pgSession) goesAlone() bool { return s.conn != nil && len(s.queued) == 0 }

// send sends a statement behind all that has to go before it, and returns the results from its own on.
func (s *pgSession) send(ctx context.Context, text string, args []any) (pgx.BatchResults, error) {
	flush := &pgx.Batch{}
	if s.conn == nil {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = conn
		flush.Queue(pgBegin)
	}
	for _, before := range s.queued {
		flush.Queue(before.text, before.args...)
	}
	s.queued = nil
	before := flush.Len()
	flush.Queue(text, args...)
	sent := s.conn.SendBatch(ctx, flush)
	for range before {
		if _, err := sent.Exec(); err != nil {
			_ = sent.Close() // why is already known
			return nil, fmt.Errorf("sent together with what came before: %w", err)
		}
	}
	return sent, nil
}

// commit sends what is queued, and COMMIT. What was never begun needs none.
func (s *pgSession) commit(ctx context.Context) error {
	if s.conn == nil && len(s.queued) == 0 {
		return nil
	}
	tag, err := s.run(ctx, pgCommit, nil)
	if err != nil {
		return err
	}
	if tag.String() != "COMMIT" {
		return pgx.ErrTxCommitRollback // so it answers after a failed statement
	}
	s.conn.Release()
	return nil
}

// rollback undoes what was sent, and gives the connection back. The pool closes one that could not roll back.
func (s *pgSession) rollback(ctx context.Context) {
	if s.conn == nil {
		return
	}
	defer s.conn.Release()
	if s.conn.Conn().PgConn().TxStatus() == 'I' { // a COMMIT that failed has done it
		return
	}
	giveUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), pgRollbackTime)
	defer cancel()
	_, _ = s.conn.Exec(giveUp, pgRollback) // why it is undone is already known
}

type pgCursor struct {
	pgx.Rows

	flush pgx.BatchResults // that the rows are the last of; nil: they are all that was asked for
}

func (c pgCursor) Close() error {
	c.Rows.Close()
	if c.flush == nil {
		return c.Err()
	}
	return cmp.Or(c.flush.Close(), c.Err())
}

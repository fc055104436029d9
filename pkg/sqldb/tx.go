package sqldb

import (
	"context"
	"errors"
	"fmt"
)

// session is an engine's connection inside a transaction.
type session interface {
	exec(ctx context.Context, text string, args []any) (int64, error)
	queue(ctx context.Context, text string, args []any) error
	query(ctx context.Context, text string, args []any) (cursor, error)
}

var (
	errTxOver   = errors.New("the transaction is over")
	errRowsOpen = errors.New("the rows of an earlier query of this transaction are still open")
)

// Tx is a transaction, for use by the function that InTx gave it to, and by its goroutine, only.
type Tx struct {
	session session
	open    *Rows // the one result that is open
	failed  error // the first statement's error: nothing goes after it
	over    bool
	after   []func()
}

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	if err := tx.usable(args); err != nil {
		return 0, err
	}
	changed, err := tx.session.exec(ctx, text, args)
	if err != nil {
		return 0, tx.fail(err)
	}
	return changed, nil
}

// Queue is Exec of a statement whose number of rows nobody needs. On PostgreSQL it is sent together with the next statement,
// or with COMMIT, and costs no round trip of its own; then its error is that of the next statement, or of InTx, and args
// must stay as they are until then. On SQLite it runs at once.
func (tx *Tx) Queue(ctx context.Context, text string, args ...any) error {
	if err := tx.usable(args); err != nil {
		return err
	}
	if err := tx.session.queue(ctx, text, args); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Query runs a statement that returns rows: SELECT, or INSERT, UPDATE and DELETE with RETURNING. The rows must be
// closed before the next statement.
func (tx *Tx) Query(ctx context.Context, text string, args ...any) (*Rows, error) {
	if err := tx.usable(args); err != nil {
		return nil, err
	}
	result, err := tx.session.query(ctx, text, args)
	if err != nil {
		return nil, tx.fail(err)
	}
	tx.open = &Rows{cursor: result, free: func(err error) {
		tx.open = nil
		if err != nil {
			_ = tx.fail(err)
		}
	}}
	return tx.open, nil
}

// QueryRow is Query for at most one row.
func (tx *Tx) QueryRow(ctx context.Context, text string, args ...any) *Row {
	rows, err := tx.Query(ctx, text, args...)
	return &Row{rows: rows, err: err}
}

// AfterCommit has f run once this transaction is committed, by the goroutine that called InTx, in the order given.
// When the transaction fails f does not run; when the process dies right after the commit it does not either, so f
// may be a hint (wake the relay), never a duty.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

func (tx *Tx) usable(args []any) error {
	switch {
	case tx.over:
		return errTxOver
	case tx.failed != nil:
		return fmt.Errorf("a statement before this one failed: %w", tx.failed)
	case tx.open != nil:
		return errRowsOpen
	}
	return checkArgs(args)
}

// fail keeps the first error: SQLite would let the transaction go on, PostgreSQL not, and portable code may not differ.
func (tx *Tx) fail(err error) error {
	err = classify(err)
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// end closes what f left open and returns what decides the transaction's fate: f's own result, or the failure that f
// kept to itself.
func (tx *Tx) end(result error) error {
	if tx.open != nil {
		_ = tx.open.Close() // an error is kept in tx.failed
	}
	tx.over = true
	if result == nil && tx.failed != nil {
		return fmt.Errorf("a failed statement was passed over: %w", tx.failed)
	}
	return result
}

// committed runs what waited for the commit.
func (tx *Tx) committed() {
	for _, f := range tx.after {
		f()
	}
}

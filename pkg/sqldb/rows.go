package sqldb

import (
	"errors"
	"fmt"
)

// cursor is an engine's result.
type cursor interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// Rows is a result being read. Not for concurrent use.
type Rows struct {
	cursor
	fail func(error) error // gives errors their kind
}

// Scan reads the row that Next moved to: into *string, *[]byte, *int64, and pointers to those for what may be NULL.
func (r *Rows) Scan(dest ...any) error { return r.fail(r.cursor.Scan(dest...)) }

// Err is what ended the result early; nil when it was read to its end.
func (r *Rows) Err() error { return r.fail(r.cursor.Err()) }

// Row is a result of which one row is wanted.
type Row struct {
	rows *Rows
	err  error
}

// Scan reads the first row, ErrNoRows when there is none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// Collect reads a result to its end, one T a row, and closes it. It takes the two answers of Query as they come.
func Collect[T any](rows *Rows, err error, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// errClosed is what a closed database answers.
var errClosed = errors.New("the database is closed")

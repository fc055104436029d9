package sqldb

import (
	"cmp"
	"errors"
	"fmt"
)

// cursor is an engine's open result.
type cursor interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Rows is an open result. It is for one goroutine.
type Rows struct {
	cursor cursor
	free   func(error) // gives back what the result occupied, told what went wrong; called once
	closed bool
	err    error
}

// Next moves to the next row; false at the end and after an error, and then the rows are closed.
func (r *Rows) Next() bool {
	if r.closed {
		return false
	}
	if r.cursor.Next() {
		return true
	}
	_ = r.Close() // the error is kept for Err
	return false
}

// Scan copies the current row into dest: *string, *int64, *[]byte, pointers to these or sql.Null[T] where NULL is
// possible, and types built on them. Empty bytes may be read as nil: to tell them from NULL, ask the database.
func (r *Rows) Scan(dest ...any) error {
	if r.closed {
		return errors.New("scan of closed rows")
	}
	err := r.cursor.Scan(dest...)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("scan row: %w", err) // PostgreSQL's driver gives the rows up here
	}
	return err
}

// Err returns what ended the rows early; nil when all were read.
func (r *Rows) Err() error { return r.err }

// Close gives back the connection. It may be called often, and returns what Err does.
func (r *Rows) Close() error {
	if r.closed {
		return r.err
	}
	r.closed = true
	closing := r.cursor.Close() // PostgreSQL reads to the end here and may only now learn of an error
	if r.err == nil {
		r.err = classify(cmp.Or(r.cursor.Err(), closing))
	}
	if r.free != nil {
		r.free(r.err)
	}
	return r.err
}

// Row is a result of at most one row.
type Row struct {
	rows *Rows
	err  error
}

// Scan copies the row into dest, as Rows.Scan does, and closes it; ErrNoRows when there is none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	found := r.rows.Next()
	var scanning error
	if found {
		scanning = r.rows.Scan(dest...)
	}
	if err := r.rows.Close(); err != nil {
		return err
	}
	if !found {
		return ErrNoRows
	}
	return scanning
}

// Collect reads all rows through scan and closes them. It takes what Query returns:
//
//	people, err := sqldb.Collect(rows, err, func(scan func(...any) error) (p Person, err error) { … })
//
// No row is an empty slice, not an error.
func Collect[T any](rows *Rows, err error, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// Package store keeps what ingest knows: deliveries, employments, facts, people, user names and happenings.
// It is SQL and nothing else; what the rows mean is decided in package ingest and in the timeline.
//
// Reads are possible on a Store and within a Tx; writes only within a Tx. A transaction that decides about people
// takes them by Lock, in order of id, before it reads their facts.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are ingest's tables, to be opened together with the outbox's.
func Migrations() sqldb.Migrations { return sqldb.Migrations{Name: "ingest", FS: migrations} }

// Store reads outside a transaction. Safe for concurrent use.
type Store struct {
	reader
	db *sqldb.DB
}

// New returns the store of db, which must have been opened with Migrations.
func New(db *sqldb.DB) *Store { return &Store{reader: reader{db}, db: db} }

// Tx is one transaction: state and outbox change together or not at all. Not safe for concurrent use.
type Tx struct {
	*sqldb.Tx
	reader
}

// InTx runs f in one transaction and returns after it is durable. f may run again after a conflict, so it must
// begin from scratch each time.
func (s *Store) InTx(ctx context.Context, f func(Tx) error) error {
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error { return f(Tx{Tx: tx, reader: reader{tx}}) })
}

// reader holds what can be read both in and outside a transaction.
type reader struct{ q sqldb.Querier }

// anyOf converts values to the arguments of a statement.
func anyOf[T any](values []T) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

// one runs scan and turns "no rows" into found == false.
func one(err error, action string) (found bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, sqldb.ErrNoRows):
		return false, nil
	default:
		return false, fmt.Errorf("%s: %w", action, err)
	}
}

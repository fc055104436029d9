// Package store keeps policy's models, decisions and desired access, on SQLite or PostgreSQL. It knows SQL and
// nothing about why anything is decided.
package store

import (
	"context"
	"embed"
	"iter"
	"slices"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the tables of this store.
func Migrations() sqldb.Migrations { return sqldb.Migrations{Name: "policy", FS: migrations} }

// Store reads, each method in one statement or a few that need not agree with each other.
type Store struct{ db *sqldb.DB }

// New returns a store on a database that has Migrations.
func New(db *sqldb.DB) *Store { return &Store{db} }

// Tx is one transaction: state and outbox change together or not at all. Writes exist only here.
type Tx struct{ *sqldb.Tx }

// InTx runs f in a transaction. f may run more than once and must have no effect but SQL.
func (s *Store) InTx(ctx context.Context, f func(Tx) error) error {
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error { return f(Tx{tx}) })
}

// chunks cuts rows for statements with so many parameters for each, as many as one may have.
func chunks[T any](rows []T, columns int) iter.Seq[[]T] {
	return slices.Chunk(rows, sqldb.MaxParams/columns)
}

// anyOf is the arguments for `IN` + sqldb.Values(1, len(ids)), or for sqldb.Asked(len(ids)).
func anyOf(ids []string) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return args
}

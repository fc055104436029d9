// Package store keeps what one application's worker knows: targets with their leases, and the journal of what was
// intended and what became of it. It is SQL and nothing else; what the rows mean is decided in package worker.
//
// Reads are possible on a Store and within a Tx; writes only within a Tx.
package store

import (
	"context"
	"embed"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the tables of one application's database, to be opened together with the outbox's.
func Migrations() sqldb.Migrations { return sqldb.Migrations{Name: "provision", FS: migrations} }

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

// InTx runs f in one transaction and returns after it is durable. f may run again after a conflict, so it must begin
// from scratch each time.
func (s *Store) InTx(ctx context.Context, f func(Tx) error) error {
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error { return f(Tx{Tx: tx, reader: reader{tx}}) })
}

// ahead are the columns of targets that say when something is to happen or happened last: none of them may wait for a time to
// come again.
var ahead = []string{"due_at", "lease_until", "quiet_until", "taking_until", "marked_at", "create_tried", "unwanted_since", "observed_at"}

// Whoever holds a target goes by what they read, or worked out, before, and writes that after the mending. So what is held is made due:
// that stays, whatever its holder writes, and who claims it next sees what is ahead of what can be.
const heldDue = `UPDATE targets SET version = version + 1, due_at = $1 WHERE holder <> ''`

// WhenSetBack keeps targets from waiting longer when the clock now is set back, until ctx ends. mended is called with by how
// much it was, and how many targets would have waited.
func (s *Store) WhenSetBack(ctx context.Context, now func() time.Time, mended func(by time.Duration, targets int64)) error {
	return s.db.WhenSetBack(ctx, now, func(tx *sqldb.Tx, back sqldb.Setback) error {
		targets, err := tx.SetBack(ctx, back, "targets", ahead...)
		if err != nil {
			return err
		}
		if err := tx.Queue(ctx, heldDue, micros(back.Now)); err != nil {
			return fmt.Errorf("make held targets due: %w", err)
		}
		tx.AfterCommit(func() { mended(back.By(), targets) })
		return nil
	})
}

// reader holds what can be read both in and outside a transaction.
type reader struct{ q sqldb.Querier }

// placeholders returns "$from, …" for n parameters.
func placeholders(from, n int) string {
	out := make([]byte, 0, n*5)
	for i := range n {
		if i > 0 {
			out = append(out, ',', ' ')
		}
		out = fmt.Appendf(out, "$%d", from+i)
	}
	return string(out)
}

// The types of columns, as a list of rows that are given names them.
const (
	text   = "TEXT"
	number = "BIGINT"
	blob   = "BYTEA"
)

// statements makes the text of a statement for each number of rows once.
func statements(text func(rows int) string) func(rows int) string {
	var made sync.Map // by number
	return func(rows int) string {
		if known, ok := made.Load(rows); ok {
			return known.(string) //nolint:forcetypeassert // only texts are in it
		}
		s := text(rows)
		made.Store(rows, s)
		return s
	}
}

// sized returns how many rows a statement for n of them has: PostgreSQL plans each text anew, several times on each connection, so
// there are few. Blank ones, which match nothing, fill up.
func sized(n int) int {
	size := 1
	for size < n {
		size *= 2
	}
	return size
}

// packList is the form of a list of texts in a column: each with its length before it.
func packList(list []string) []byte {
	out := []byte{}
	for _, s := range list {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

func unpackList(b []byte) ([]string, error) {
	var list []string
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) { //nolint:gosec // size is at most len(b)
			return nil, fmt.Errorf("list of %d bytes is cut off", len(b))
		}
		list = append(list, string(b[size:size+int(n)])) //nolint:gosec // n is at most len(b)
		b = b[size+int(n):]                              //nolint:gosec // as above
	}
	return list, nil
}

// micros is the column of a time; 0 stands for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return sqldb.Micros(t)
}

func flag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}

// bytes is the column of bytes; none are empty, not NULL.
func bytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

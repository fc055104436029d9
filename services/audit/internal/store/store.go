// Package store is the audit log's tables: leaves, stored hashes, checkpoints, and the head that moves.
package store

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/packed"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() sqldb.Migrations { return sqldb.Migrations{Name: "audit", FS: files} }

// logName is the head's key; one database holds one log.
const logName = "tenure"

// ErrMoved says that another process appended in between: load the head again.
var ErrMoved = errors.New("the log's head has moved")

// Store reads and writes the log.
type Store struct{ db *sqldb.DB }

// New returns the store of a database that Migrations were run on.
func New(db *sqldb.DB) *Store { return &Store{db} }

// Leaf is one entry of the log.
type Leaf struct {
	N          int64
	RecordedAt time.Time
	Data       []byte
}

// Head is the size and root of the log.
type Head struct {
	Size int64
	Root tlog.Hash
}

const (
	insertHead    = `INSERT INTO head (log, size, root) VALUES ($1, 0, $2) ON CONFLICT (log) DO NOTHING`
	selectHead    = `SELECT size, root FROM head WHERE log = $1`
	moveHead      = `UPDATE head SET size = $3, root = $4 WHERE log = $1 AND size = $2`
	insertBatch   = `INSERT INTO batches (first, recorded_at, lengths, data) VALUES ($1, $2, $3, $4)`
	insertHashes  = `INSERT INTO hashes (first, data) VALUES ($1, $2)`
	insertOrigins = `INSERT INTO origins (origin, seq, later, since) VALUES `
	raiseOrigins  = ` ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq, later = excluded.later, since = excluded.since`
	selectOrigins = `SELECT origin, seq, later, since FROM origins ORDER BY origin`
	selectOrigin  = `SELECT origin, seq, later, since FROM origins WHERE origin = $1`
	selectBatches = `
SELECT first, recorded_at, lengths, data FROM batches
WHERE first >= (SELECT MAX(first) FROM batches WHERE first <= $1) AND first < $2 ORDER BY first`
	selectTime   = `SELECT recorded_at FROM batches WHERE first <= $1 ORDER BY first DESC LIMIT 1`
	selectHashes = `SELECT first, data FROM hashes WHERE first <= $1 ORDER BY first DESC LIMIT 1`
	selectRange  = `SELECT first, data FROM hashes WHERE first >= $1 AND first < $2 ORDER BY first`
	insertNote   = `INSERT INTO checkpoints (size, note, signed_at) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING`
	selectNewest = `SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1`
	selectNotes  = `SELECT size, note FROM checkpoints WHERE size > $1 ORDER BY size LIMIT $2`
)

// Head returns the head, making that of an empty log at first.
func (s *Store) Head(ctx context.Context) (Head, error) {
	head, err := scanHead(s.db.QueryRow(ctx, selectHead, logName))
	if !errors.Is(err, sqldb.ErrNoRows) {
		return head, err
	}
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return Head{}, err
	}
	err = s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		return tx.Queue(ctx, insertHead, logName, empty[:])
	})
	if err != nil {
		return Head{}, fmt.Errorf("make the log's head: %w", err)
	}
	return scanHead(s.db.QueryRow(ctx, selectHead, logName))
}

func scanHead(row *sqldb.Row) (Head, error) {
	var head Head
	var root []byte
	if err := row.Scan(&head.Size, &root); err != nil {
		return Head{}, fmt.Errorf("read the log's head: %w", err)
	}
	if len(root) != tlog.HashSize {
		return Head{}, fmt.Errorf("the log's root has %d bytes", len(root))
	}
	head.Root = tlog.Hash(root)
	return head, nil
}

// Batch is one append: leaves, the hashes they lead to, and how far their origins are recorded then. The leaves are one
// row, which whoever appends bounds: audit by what it is given at once, 256 events of the stream or one answer of an
// origin. Were each as large as the bus allows, that is 64 MiB.
type Batch struct {
	From       Head
	To         Head
	RecordedAt time.Time
	Leaves     [][]byte
	First      int64 // number of the first stored hash
	Hashes     []tlog.Hash
	Origins    map[string]*Progress
}

// Append appends the batch if the head is still where it was, else ErrMoved.
func (s *Store) Append(ctx context.Context, b Batch) error {
	lengths, leaves := packed.Pack(b.Leaves)
	hashes := make([]byte, 0, len(b.Hashes)*tlog.HashSize)
	for _, hash := range b.Hashes {
		hashes = append(hashes, hash[:]...)
	}
	origins := make([]any, 0, 4*len(b.Origins))
	for _, origin := range slices.Sorted(maps.Keys(b.Origins)) {
		p := b.Origins[origin]
		later, err := json.Marshal(append([][2]uint64{}, p.Later...)) // never null
		if err != nil {
			return err
		}
		origins = append(origins, origin, int64(p.Seq), string(later), sqldb.Micros(p.Since)) //nolint:gosec // counts from 1
	}
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(ctx, moveHead, logName, b.From.Size, b.To.Size, b.To.Root[:])
		if err != nil {
			return fmt.Errorf("move the head: %w", err)
		}
		if rows != 1 {
			return ErrMoved
		}
		if err := tx.Queue(ctx, insertBatch, b.From.Size, sqldb.Micros(b.RecordedAt), lengths, leaves); err != nil {
			return fmt.Errorf("append %d leaves: %w", len(b.Leaves), err)
		}
		if err := tx.Queue(ctx, insertHashes, b.First, hashes); err != nil {
			return fmt.Errorf("append %d hashes: %w", len(b.Hashes), err)
		}
		if err := tx.Queue(ctx, insertOrigins+sqldb.Values(len(b.Origins), 4)+raiseOrigins, origins...); err != nil {
			return fmt.Errorf("note how far %d origins are recorded: %w", len(b.Origins), err)
		}
		return nil
	})
}

// Origins returns how far each origin is recorded.
func (s *Store) Origins(ctx context.Context) (map[string]*Progress, error) {
	rows, err := s.db.Query(ctx, selectOrigins)
	origins := map[string]*Progress{}
	_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (*Progress, error) {
		origin, p, err := scanProgress(scan)
		origins[origin] = p
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read how far the origins are recorded: %w", err)
	}
	return origins, nil
}

// Progress returns how far an origin is recorded.
func (s *Store) Progress(ctx context.Context, origin string) (*Progress, error) {
	_, p, err := scanProgress(s.db.QueryRow(ctx, selectOrigin, origin).Scan)
	if errors.Is(err, sqldb.ErrNoRows) {
		return &Progress{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read how far %s is recorded: %w", origin, err)
	}
	return p, nil
}

func scanProgress(scan func(...any) error) (origin string, p *Progress, err error) {
	var seq, since int64
	var later string
	if err := scan(&origin, &seq, &later, &since); err != nil {
		return "", nil, err
	}
	p = &Progress{Seq: uint64(seq), Since: sqldb.Time(since)} //nolint:gosec // counts from 1
	if err := json.Unmarshal([]byte(later), &p.Later); err != nil {
		return "", nil, fmt.Errorf("what of %s is recorded beyond a hole: %w", origin, err)
	}
	return origin, p, nil
}

// Leaves returns up to limit leaves from <= n < to, in order. It reads no more than their batches.
func (s *Store) Leaves(ctx context.Context, from, to int64, limit int) ([]Leaf, error) {
	to = min(to, from+int64(limit))
	rows, err := s.db.Query(ctx, selectBatches, from, to)
	batches, err := sqldb.Collect(rows, err, func(scan func(...any) error) (leaves []Leaf, err error) {
		var first, at int64
		var lengths string
		var data []byte
		if err := scan(&first, &at, &lengths, &data); err != nil {
			return nil, err
		}
		items, err := packed.Unpack(lengths, data)
		if err != nil { // the words are for whoever verifies
			return nil, fault.New(fault.Invalid, "the batch of leaf %d was changed: %w", first, err)
		}
		for i, item := range items {
			if n := first + int64(i); n >= from && n < to {
				leaves = append(leaves, Leaf{N: n, RecordedAt: sqldb.Time(at), Data: item})
			}
		}
		return leaves, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read leaves from %d: %w", from, err)
	}
	return slices.Concat(batches...), nil
}

// RecordedAt returns when leaf n, which is in the log, was recorded.
func (s *Store) RecordedAt(ctx context.Context, n int64) (time.Time, error) {
	var at int64
	if err := s.db.QueryRow(ctx, selectTime, n).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("read when leaf %d was recorded: %w", n, err)
	}
	return sqldb.Time(at), nil
}

// Hashes reads stored hashes; it is a tlog.HashReader for the duration of ctx.
func (s *Store) Hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, 0, len(indexes))
		for _, index := range indexes {
			var first int64
			var data []byte
			if err := s.db.QueryRow(ctx, selectHashes, index).Scan(&first, &data); err != nil {
				return nil, fmt.Errorf("read stored hash %d: %w", index, err)
			}
			at := (index - first) * tlog.HashSize
			if at+tlog.HashSize > int64(len(data)) {
				return nil, fmt.Errorf("stored hash %d is missing", index)
			}
			hashes = append(hashes, tlog.Hash(data[at:at+tlog.HashSize]))
		}
		return hashes, nil
	})
}

// HashRange returns the stored hashes first <= index < after, in order.
func (s *Store) HashRange(ctx context.Context, first, after int64) ([]tlog.Hash, error) {
	var begin int64
	if err := s.db.QueryRow(ctx, selectHashes, first).Scan(&begin, new([]byte)); err != nil {
		return nil, fmt.Errorf("read stored hash %d: %w", first, err)
	}
	type run struct {
		first int64
		data  []byte
	}
	rows, err := s.db.Query(ctx, selectRange, begin, after)
	runs, err := sqldb.Collect(rows, err, func(scan func(...any) error) (r run, err error) {
		return r, scan(&r.first, &r.data)
	})
	if err != nil {
		return nil, fmt.Errorf("read stored hashes from %d: %w", first, err)
	}
	hashes := make([]tlog.Hash, 0, after-first)
	for _, r := range runs {
		for i := int64(0); i < int64(len(r.data))/tlog.HashSize; i++ {
			if index := r.first + i; index >= first && index < after {
				hashes = append(hashes, tlog.Hash(r.data[i*tlog.HashSize:(i+1)*tlog.HashSize]))
			}
		}
	}
	if int64(len(hashes)) != after-first {
		return nil, fmt.Errorf("of the stored hashes %d to %d only %d are there", first, after-1, len(hashes))
	}
	return hashes, nil
}

// Checkpoint is a signed head.
type Checkpoint struct {
	Size int64
	Note string
}

// AddCheckpoint keeps a signed head; the first of its size stays.
func (s *Store) AddCheckpoint(ctx context.Context, c Checkpoint, at time.Time, also func(*sqldb.Tx) error) error {
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(ctx, insertNote, c.Size, c.Note, sqldb.Micros(at))
		if err != nil {
			return fmt.Errorf("keep checkpoint %d: %w", c.Size, err)
		}
		if rows == 0 {
			return nil
		}
		return also(tx)
	})
}

// Newest returns the newest checkpoint; ok is false when there is none.
func (s *Store) Newest(ctx context.Context) (c Checkpoint, ok bool, err error) {
	err = s.db.QueryRow(ctx, selectNewest).Scan(&c.Size, &c.Note)
	if errors.Is(err, sqldb.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	return c, true, nil
}

// Checkpoints returns up to limit checkpoints of more than size leaves, by size.
func (s *Store) Checkpoints(ctx context.Context, size int64, limit int) ([]Checkpoint, error) {
	rows, err := s.db.Query(ctx, selectNotes, size, int64(limit))
	list, err := sqldb.Collect(rows, err, func(scan func(...any) error) (c Checkpoint, err error) {
		return c, scan(&c.Size, &c.Note)
	})
	if err != nil {
		return nil, fmt.Errorf("read checkpoints after %d: %w", size, err)
	}
	return list, nil
}

// Package store is the audit log's tables: leaves, stored hashes, checkpoints, and the head that moves.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

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
	Origin     string
	Seq        uint64
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
	insertLeaves  = `INSERT INTO leaves (n, origin, seq, recorded_at, data) VALUES `
	insertHashes  = `INSERT INTO hashes (first, data) VALUES ($1, $2)`
	insertOrigins = `INSERT INTO origins (origin, seq) VALUES `
	raiseOrigins  = ` ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq`
	selectOrigins = `SELECT origin, seq FROM origins ORDER BY origin`
	selectOrigin  = `SELECT seq FROM origins WHERE origin = $1`
	selectLater   = `SELECT seq, recorded_at FROM leaves WHERE origin = $1 AND seq > $2 ORDER BY seq`
	selectLeaves  = `SELECT n, origin, seq, recorded_at, data FROM leaves WHERE n >= $1 AND n < $2 ORDER BY n LIMIT $3`
	selectTime    = `SELECT recorded_at FROM leaves WHERE n = $1`
	selectHashes  = `SELECT first, data FROM hashes WHERE first <= $1 ORDER BY first DESC LIMIT 1`
	selectRange   = `SELECT first, data FROM hashes WHERE first >= $1 AND first < $2 ORDER BY first`
	insertNote    = `INSERT INTO checkpoints (size, note, signed_at) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING`
	selectNewest  = `SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1`
	selectNotes   = `SELECT size, note FROM checkpoints WHERE size > $1 ORDER BY size LIMIT $2`
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

// Batch is one append: leaves, the hashes they lead to, and how far their origins are recorded then.
type Batch struct {
	From    Head
	To      Head
	Leaves  []Leaf
	First   int64 // number of the first stored hash
	Hashes  []tlog.Hash
	Origins map[string]uint64
}

// Append appends the batch if the head is still where it was, else ErrMoved.
func (s *Store) Append(ctx context.Context, b Batch) error {
	return s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(ctx, moveHead, logName, b.From.Size, b.To.Size, b.To.Root[:])
		if err != nil {
			return fmt.Errorf("move the head: %w", err)
		}
		if rows != 1 {
			return ErrMoved
		}
		args := make([]any, 0, 5*len(b.Leaves))
		for _, l := range b.Leaves {
			args = append(args, l.N, l.Origin, int64(l.Seq), sqldb.Micros(l.RecordedAt), l.Data) //nolint:gosec // counts from 1
		}
		if err := tx.Queue(ctx, insertLeaves+sqldb.Values(len(b.Leaves), 5), args...); err != nil {
			return fmt.Errorf("append %d leaves: %w", len(b.Leaves), err)
		}
		data := make([]byte, 0, len(b.Hashes)*tlog.HashSize)
		for _, hash := range b.Hashes {
			data = append(data, hash[:]...)
		}
		if err := tx.Queue(ctx, insertHashes, b.First, data); err != nil {
			return fmt.Errorf("append %d hashes: %w", len(b.Hashes), err)
		}
		if len(b.Origins) == 0 {
			return nil
		}
		origins := make([]any, 0, 2*len(b.Origins))
		for _, origin := range slices.Sorted(maps.Keys(b.Origins)) {
			origins = append(origins, origin, int64(b.Origins[origin])) //nolint:gosec // counts from 1
		}
		if err := tx.Queue(ctx, insertOrigins+sqldb.Values(len(b.Origins), 2)+raiseOrigins, origins...); err != nil {
			return fmt.Errorf("note how far %d origins are recorded: %w", len(b.Origins), err)
		}
		return nil
	})
}

// Origins returns how far each origin is recorded without a gap.
func (s *Store) Origins(ctx context.Context) (map[string]uint64, error) {
	origins := map[string]uint64{}
	rows, err := s.db.Query(ctx, selectOrigins)
	type pair struct {
		origin string
		seq    int64
	}
	pairs, err := sqldb.Collect(rows, err, func(scan func(...any) error) (p pair, err error) {
		return p, scan(&p.origin, &p.seq)
	})
	if err != nil {
		return nil, fmt.Errorf("read the origins: %w", err)
	}
	for _, p := range pairs {
		origins[p.origin] = uint64(p.seq) //nolint:gosec // counts from 1
	}
	return origins, nil
}

// Recorded returns how far an origin is recorded without a gap.
func (s *Store) Recorded(ctx context.Context, origin string) (uint64, error) {
	var seq int64
	err := s.db.QueryRow(ctx, selectOrigin, origin).Scan(&seq)
	if err != nil && !errors.Is(err, sqldb.ErrNoRows) {
		return 0, fmt.Errorf("read how far %s is recorded: %w", origin, err)
	}
	return uint64(seq), nil //nolint:gosec // counts from 1
}

// Later returns the leaves of an origin that are recorded beyond seq, with their numbers and times only.
func (s *Store) Later(ctx context.Context, origin string, seq uint64) ([]Leaf, error) {
	rows, err := s.db.Query(ctx, selectLater, origin, int64(seq)) //nolint:gosec // counts from 1
	later, err := sqldb.Collect(rows, err, func(scan func(...any) error) (l Leaf, err error) {
		var n, at int64
		err = scan(&n, &at)
		l.Seq, l.RecordedAt = uint64(n), sqldb.Time(at) //nolint:gosec // counts from 1
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what of %s is recorded after %d: %w", origin, seq, err)
	}
	return later, nil
}

// Leaves returns up to limit leaves from <= n < to, in order.
func (s *Store) Leaves(ctx context.Context, from, to int64, limit int) ([]Leaf, error) {
	rows, err := s.db.Query(ctx, selectLeaves, from, to, int64(limit))
	leaves, err := sqldb.Collect(rows, err, func(scan func(...any) error) (l Leaf, err error) {
		var seq, at int64
		err = scan(&l.N, &l.Origin, &seq, &at, &l.Data)
		l.Seq, l.RecordedAt = uint64(seq), sqldb.Time(at) //nolint:gosec // counts from 1
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read leaves from %d: %w", from, err)
	}
	return leaves, nil
}

// RecordedAt returns when leaf n was recorded.
func (s *Store) RecordedAt(ctx context.Context, n int64) (time.Time, error) {
	var at int64
	if err := s.db.QueryRow(ctx, selectTime, n).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("read leaf %d: %w", n, err)
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

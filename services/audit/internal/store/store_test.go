package store_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/audit/internal/store"
	"github.com/tenurehq/tenure/services/audit/merkle"
)

var start = time.UnixMicro(1_800_000_000_000_000).UTC()

// grow appends batches of these sizes, a second apart. Leaf n is n in up to nine bytes.
func grow(t *testing.T, s *store.Store, sizes ...int) {
	t.Helper()
	for i, size := range sizes {
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := store.Batch{From: head, RecordedAt: start.Add(time.Duration(i) * time.Second), Origins: map[string]*store.Progress{"ingest": {Seq: uint64(i)}}}
		for n := range size {
			b.Leaves = append(b.Leaves, leaf(head.Size+int64(n)))
		}
		grown, err := merkle.Append(head.Size, b.Leaves, s.Hashes(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		b.To, b.First, b.Hashes = store.Head{Size: grown.Size, Root: grown.Root}, grown.First, grown.Hashes
		if err := s.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), b); !errors.Is(err, store.ErrMoved) {
			t.Fatalf("appended to a head that has moved: %v", err)
		}
	}
}

func leaf(n int64) []byte { return binary.AppendUvarint(make([]byte, n%8), uint64(n)) }

func TestLeavesAreReadWhateverBatchesTheyCameIn(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) {
		s := store.New(db)
		sizes := []int{1, 4, 2, 1, 7}
		grow(t, s, sizes...)
		var all []store.Leaf
		for i, size := range sizes {
			for range size {
				all = append(all, store.Leaf{N: int64(len(all)), RecordedAt: start.Add(time.Duration(i) * time.Second), Data: leaf(int64(len(all)))})
			}
		}
		for from := range all {
			for to := from; to <= len(all)+1; to++ {
				for limit := 1; limit <= len(all); limit++ {
					got, err := s.Leaves(t.Context(), int64(from), int64(to), limit)
					if want := all[from:min(to, from+limit, len(all))]; err != nil || len(got) != len(want) || len(want) > 0 && !cmp.Equal(got, want) {
						t.Fatalf("up to %d leaves from %d to %d are %v (%v)", limit, from, to, got, err)
					}
				}
			}
			if at, err := s.RecordedAt(t.Context(), int64(from)); err != nil || !at.Equal(all[from].RecordedAt) {
				t.Errorf("leaf %d was recorded at %s, want %s (%v)", from, at, all[from].RecordedAt, err)
			}
		}
		root, err := tlog.TreeHash(int64(len(all)), s.Hashes(t.Context()))
		if head, failed := s.Head(t.Context()); err != nil || failed != nil || root != head.Root {
			t.Errorf("the root is %s, want %s (%v, %v)", root, head.Root, err, failed)
		}
	})
}

func TestABatchCannotBeChanged(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) {
		grow(t, store.New(db), 2)
		for _, text := range []string{`UPDATE batches SET recorded_at = 0`, `DELETE FROM batches`} {
			err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
				_, err := tx.Exec(t.Context(), text)
				return err
			})
			if err == nil {
				t.Errorf("%s was let through", text)
			}
		}
	})
}

func TestProgressIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) {
		s := store.New(db)
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, origins := range []map[string]*store.Progress{
			{"ingest": {Seq: 3, Later: [][2]uint64{}}, "policy": {Later: [][2]uint64{{2, 7}, {9, 9}, {12, 1 << 63}}, Since: start}},
			{"ingest": {Seq: 3, Later: [][2]uint64{{5, 5}}, Since: start}, "policy": {Seq: 9, Later: [][2]uint64{}}},
		} {
			to := store.Head{Size: head.Size + 1}
			if err := s.Append(t.Context(), store.Batch{From: head, To: to, First: int64(i), Leaves: [][]byte{{1}}, Origins: origins}); err != nil {
				t.Fatal(err)
			}
			head = to
			got, err := s.Origins(t.Context())
			if diff := cmp.Diff(origins, got); err != nil || diff != "" {
				t.Errorf("the origins are not as they were written (%v):\n%s", err, diff)
			}
			for origin, want := range origins {
				got, err := s.Progress(t.Context(), origin)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%s is not as it was written (%v):\n%s", origin, err, diff)
				}
			}
		}
		if p, err := s.Progress(t.Context(), "nobody"); err != nil || p.Has(1) {
			t.Errorf("nobody's progress is %v (%v)", p, err)
		}
	})
}

func TestProgressHoldsWhatWasAdded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		added := map[uint64]bool{}
		p := &store.Progress{}
		now := start
		for _, seq := range rapid.SliceOfDistinct(rapid.Uint64Range(1, 24), rapid.ID).Draw(t, "seqs") {
			now = now.Add(time.Second)
			was := p
			p = was.Clone()
			p.Add(seq, now)
			if was.Has(seq) {
				t.Fatalf("%d was added to a copy, and is in what was copied (%+v)", seq, *was)
			}
			added[seq] = true
			from, behind := uint64(1), false // the first missing number, and whether something after it is there
			for added[from] {
				from++
			}
			for n := uint64(1); n <= 25; n++ {
				if p.Has(n) != added[n] {
					t.Fatalf("%d is said to be recorded: %t (%+v)", n, p.Has(n), *p)
				}
				behind = behind || n > from && added[n]
			}
			switch first, last, ok := p.Hole(); {
			case ok != behind, ok != (p.Behind(now.Add(time.Second)) > 0):
				t.Fatalf("there is a hole: %t, and is said to be one: %t (%+v)", behind, ok, *p)
			case ok && (first != from || !added[last+1] || p.Has(last)):
				t.Fatalf("the first hole, from %d, is said to be %d to %d (%+v)", from, first, last, *p)
			case ok && !p.Since.Equal(now) && !p.Since.Equal(was.Since):
				t.Fatalf("a hole that was known since %s is known since %s at %s", was.Since, p.Since, now)
			}
			for i := 1; i < len(p.Later); i++ {
				if p.Later[i][0] <= p.Later[i-1][1]+1 {
					t.Fatalf("runs are not apart: %v", p.Later)
				}
			}
		}
	})
}

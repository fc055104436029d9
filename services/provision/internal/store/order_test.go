package store_test

import (
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestAClaimTakesItsRowsInTheOrderInWhichMarksDo: they were due in another one. A claim that waits for ann must not have bob, for
// whom whoever has ann comes next.
func TestAClaimTakesItsRowsInTheOrderInWhichMarksDo(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.Postgres, store.Migrations()) // SQLite has one writer
	s := store.New(db)
	mark(t, s, now, store.Mark{Person: "bob", Generation: 1, Lane: normal})
	mark(t, s, now.Add(time.Second), store.Mark{Person: "ann", Generation: 1, Lane: normal})
	claimed := make(chan error, 1)
	var free int64
	err := s.InTx(t.Context(), func(tx store.Tx) error {
		if _, err := tx.MarkDue(t.Context(), []store.Mark{{Person: "ann", Generation: 2, Lane: normal}}, now); err != nil {
			return err
		}
		go func() {
			_, err := s.Claim(t.Context(), store.Claim{Lane: normal, Limit: 10, Holder: "one", Now: now.Add(time.Minute), Until: now.Add(time.Hour)})
			claimed <- err
		}()
		sqltest.AwaitLock(t.Context(), t, db)
		return tx.QueryRow(t.Context(), `SELECT COUNT(*) FROM (SELECT 1 FROM targets WHERE person = 'bob' FOR UPDATE SKIP LOCKED) AS free`).Scan(&free)
	})
	if err != nil || free != 1 {
		t.Errorf("of bob's row %d are free: %v", free, err)
	}
	if err := <-claimed; err != nil {
		t.Error(err)
	}
}

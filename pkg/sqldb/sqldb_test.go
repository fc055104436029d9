package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func counters() sqldb.Migrations {
	return sqldb.Migrations{Name: "counters", FS: fstest.MapFS{"0001_create_counters.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (
    name  TEXT   PRIMARY KEY,
    n     BIGINT NOT NULL,
    data  BYTEA
);
CREATE TABLE entries (
    id    BIGINT PRIMARY KEY,
    name  TEXT NOT NULL
);
-- +tenure append-only entries
-- +tenure postgres
CREATE INDEX entries_by_name ON entries (name);
-- +tenure end
-- +tenure sqlite
CREATE INDEX entries_by_name_sqlite ON entries (name);
-- +tenure end
`)}}}
}

func all() []sqldb.Migrations { return []sqldb.Migrations{counters()} }

func TestEightConcurrentWritersLoseNoUpdate(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ($1, $2)`, "c", int64(0))
			return err
		}))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					err := db.InTx(ctx, func(tx *sqldb.Tx) error {
						var n int64
						return tx.QueryRow(ctx, `UPDATE counters SET n = n + 1 WHERE name = $1 RETURNING n`, "c").Scan(&n)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := counter(t, db, "c"); n != 400 {
			t.Errorf("400 increments led to %d", n)
		}
	})
}

func TestAFailingTransactionLeavesItsNeighboursAlone(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		wrong := errors.New("wrong")
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				err := db.InTx(ctx, func(tx *sqldb.Tx) error {
					if _, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ($1, $2)`, fmt.Sprint(i), int64(i)); err != nil {
						return err
					}
					switch {
					case i%3 == 0:
						return wrong
					case i%3 == 1:
						_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ($1, $2)`, fmt.Sprint(i), int64(i))
						return err // a duplicate key
					}
					return nil
				})
				if (err == nil) != (i%3 == 2) {
					t.Errorf("transaction %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		var n int64
		must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM counters`).Scan(&n))
		if n != 21 {
			t.Errorf("%d of the 21 good transactions are there", n)
		}
	})
}

func TestAPanicIsItsOwnCallersAlone(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not reach the caller")
				}
			}()
			_ = db.InTx(t.Context(), func(*sqldb.Tx) error { panic("boom") })
		}()
		must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ($1, $2)`, "after", int64(1))
			return err
		}))
	})
}

func TestParametersMayRepeatAndComeInAnyOrder(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n, data) VALUES ($3, $1, $2)`, int64(7), []byte{0, 1}, "x")
			return err
		}))
		var name string
		var data []byte
		must(t, db.QueryRow(ctx, `SELECT name, data FROM counters WHERE n = $2 AND (name = $1 OR name = $1)`, "x", int64(7)).Scan(&name, &data))
		if name != "x" || string(data) != "\x00\x01" {
			t.Errorf("got %q, %v", name, data)
		}
		var none *int64
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT MAX(n) FROM counters WHERE name = $1`, "nobody").Scan(&none)
		}))
		if none != nil {
			t.Errorf("NULL was read as %d", *none)
		}
		if err := db.QueryRow(ctx, `SELECT n FROM counters WHERE name = $1`, "nobody").Scan(new(int64)); !errors.Is(err, sqldb.ErrNoRows) {
			t.Errorf("got %v, want ErrNoRows", err)
		}
	})
}

func TestTextSortsByBytesOnBothEngines(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES `+sqldb.Values(4, 2), "b", int64(1), "B", int64(2), "ä", int64(3), "a", int64(4))
			return err
		}))
		rows, err := db.Query(ctx, `SELECT name FROM counters ORDER BY name`)
		names, err := sqldb.Collect(rows, err, func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
		must(t, err)
		if got := strings.Join(names, " "); got != "B a b ä" {
			t.Errorf("got %s", got)
		}
	})
}

func TestAppendOnlyIsKeptByTheDatabaseItself(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		do := func(text string) error {
			return db.InTx(ctx, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, text)
				return err
			})
		}
		must(t, do(`INSERT INTO entries (id, name) VALUES (1, 'a')`))
		for _, text := range []string{`UPDATE entries SET name = 'b'`, `DELETE FROM entries`, `DROP TABLE entries`} {
			if db.Engine() == "sqlite" && strings.HasPrefix(text, "DROP") {
				continue // whoever has the file may drop the table; the Merkle tree finds it
			}
			if do(text) == nil {
				t.Errorf("%s was let through", text)
			}
		}
	})
}

func TestProcessesThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			cfg := sqltest.Config(t, engine)
			n := 4
			if engine == "sqlite" {
				n = 1 // one file is one process's
			}
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					db, err := sqldb.Open(t.Context(), cfg, all()...)
					if err != nil {
						t.Error(err)
						return
					}
					_ = db.Close()
				})
			}
			wg.Wait()
			db, err := sqldb.Open(t.Context(), cfg, all()...)
			must(t, err)
			must(t, db.Close())
		})
	}
}

func TestAfterCommitRunsOnlyAfterACommit(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ran := 0
		_ = db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			tx.AfterCommit(func() { ran++ })
			return errors.New("no")
		})
		if ran != 0 {
			t.Error("it ran after a rollback")
		}
		must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			tx.AfterCommit(func() { ran++ })
			return nil
		}))
		if ran != 1 {
			t.Errorf("it ran %d times", ran)
		}
	})
}

func TestAFullDiskIsUnavailableAndHarmsNothing(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", all()...)
	ctx := t.Context()
	write := func(name string) error {
		return db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n, data) VALUES ($1, $2, $3)`, name, int64(1), make([]byte, 100_000))
			return err
		})
	}
	must(t, write("first"))
	limit := func(pages string) {
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `PRAGMA max_page_count = `+pages).Scan(new(int64))
		}))
	}
	limit("60")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := write(fmt.Sprint("full", i)); err != nil && fault.KindOf(err) != fault.Unavailable {
				t.Errorf("kind %v of %v", fault.KindOf(err), err)
			} else if err == nil && counter(t, db, fmt.Sprint("full", i)) != 1 {
				t.Errorf("transaction %d was answered with success and is not there", i)
			}
		})
	}
	wg.Wait()
	if err := write("still full"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	limit("1000000")
	must(t, write("second"))
	if counter(t, db, "first") != 1 || counter(t, db, "second") != 1 {
		t.Error("what was written before or after is not there")
	}
}

func TestALeaseHasOneHolderAtATime(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var mu sync.Mutex
		holders, epochs := 0, []int64{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				err := db.Lease(ctx, "one", 300*time.Millisecond, func(_ context.Context, epoch int64) error {
					mu.Lock()
					holders++
					if holders > 1 {
						t.Error("two hold the lease")
					}
					epochs = append(epochs, epoch)
					mu.Unlock()
					time.Sleep(10 * time.Millisecond) // long enough for another to get in, if it can
					mu.Lock()
					holders--
					mu.Unlock()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(epochs) != 4 {
			t.Fatalf("%d of 4 got the lease", len(epochs))
		}
		for i, epoch := range epochs {
			if epoch != int64(i+1) {
				t.Errorf("epochs %v do not grow one by one", epochs)
			}
		}
	})
}

func TestALeaseWhoseHolderDiedIsTakenOver(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error { // a dead holder's row, run out
			_, err := tx.Exec(ctx, `INSERT INTO leases (name, holder, epoch, until) VALUES ('one', 'dead', 7, 1)`)
			return err
		}))
		must(t, db.Lease(ctx, "one", time.Second, func(_ context.Context, epoch int64) error {
			if epoch != 8 {
				t.Errorf("epoch %d after 7", epoch)
			}
			return nil
		}))
	})
}

func TestATaskEndsWhenItsLeaseIsTaken(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		runs := 0
		err := db.Lease(ctx, "one", 150*time.Millisecond, func(held context.Context, epoch int64) error {
			if runs++; runs == 2 {
				cancel()
				return nil
			}
			must(t, db.InTx(ctx, func(tx *sqldb.Tx) error { // somebody else's, and run out at once
				_, err := tx.Exec(ctx, `UPDATE leases SET holder = 'thief', epoch = epoch + 1, until = 1 WHERE name = 'one'`)
				return err
			}))
			<-held.Done()
			return held.Err()
		})
		if err != nil || runs != 2 {
			t.Errorf("got %v after %d runs; the lost lease should be claimed again", err, runs)
		}
	})
}

func TestValues(t *testing.T) {
	t.Parallel()
	if got := sqldb.Values(2, 3); got != "($1, $2, $3), ($4, $5, $6)" {
		t.Error(got)
	}
}

func counter(t *testing.T, db *sqldb.DB, name string) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name = $1`, name).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

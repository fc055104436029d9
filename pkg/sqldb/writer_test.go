package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

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
					switch i % 3 {
					case 0:
						return wrong
					case 1:
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

// held fills the writer's queue: it runs first inside the writer, and the others behind it, in order, once it returns.
func held(t *testing.T, db *sqldb.DB, first func(*sqldb.Tx) error, others ...func(*sqldb.Tx) error) []error {
	t.Helper()
	errs := make([]error, len(others)+1)
	running, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	in := func(i int, f func(*sqldb.Tx) error) {
		wg.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					errs[i] = fmt.Errorf("panic: %w", value.(error))
				}
			}()
			errs[i] = db.InTx(t.Context(), f)
		})
	}
	in(0, func(tx *sqldb.Tx) error {
		select {
		case <-running: // run again
		default:
			close(running)
			<-release
		}
		return first(tx)
	})
	<-running
	for i, f := range others {
		queued := sqldb.Queued(db)
		in(i+1, f)
		for sqldb.Queued(db) == queued {
			runtime.Gosched()
		}
	}
	close(release)
	wg.Wait()
	return errs
}

func adds(t *testing.T, name string) func(*sqldb.Tx) error {
	t.Helper()
	return func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ($1, 1)`, name)
		return err
	}
}

func TestTransactionsThatWaitShareOneCommit(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite, all()...)
	const n = 50
	commits := make(map[int]bool) // by how much was committed before a transaction
	var others []func(*sqldb.Tx) error
	for i := range n {
		others = append(others, func(tx *sqldb.Tx) error {
			var seen, committed int
			if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM counters`).Scan(&committed); err != nil {
				return err
			}
			if err := tx.QueryRow(t.Context(), `SELECT COUNT(*) FROM counters`).Scan(&seen); err != nil {
				return err
			}
			if seen != i+1 {
				return fmt.Errorf("transaction %d sees %d before it", i, seen)
			}
			commits[committed] = true
			return adds(t, fmt.Sprint(i))(tx)
		})
	}
	for _, err := range held(t, db, adds(t, "first"), others...) {
		must(t, err)
	}
	if len(commits) > n/5 { // one, but for a machine so slow that a group's time is over
		t.Errorf("%d transactions that waited took %d commits", n, len(commits))
	}
	var all int
	must(t, db.QueryRow(t.Context(), `SELECT COUNT(*) FROM counters`).Scan(&all))
	if all != n+1 {
		t.Errorf("%d of %d are there", all, n+1)
	}
}

func TestOneThatEndsBadlyLosesNobodyElse(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(*sqldb.Tx) error{
		"error":   func(*sqldb.Tx) error { return errors.New("no") },
		"panic":   func(*sqldb.Tx) error { panic("boom") },
		"goexit":  func(*sqldb.Tx) error { runtime.Goexit(); return nil },
		"swallow": func(tx *sqldb.Tx) error { _, _ = tx.Exec(t.Context(), "nonsense"); return nil },
		"rows": func(tx *sqldb.Tx) error {
			_, err := tx.Query(t.Context(), `SELECT name FROM counters`) // left open
			return errors.Join(err, errors.New("no"))
		},
		"rollback": func(tx *sqldb.Tx) error { // the whole transaction is gone, as SQLite does itself when the disk is full
			_, err := tx.Exec(t.Context(), "ROLLBACK")
			return errors.Join(err, errors.New("no"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, sqldb.SQLite, all()...)
			bad := func(tx *sqldb.Tx) error {
				if err := adds(t, "bad")(tx); err != nil {
					return err
				}
				return bad(tx)
			}
			errs := held(t, db, adds(t, "a"), adds(t, "b"), bad, adds(t, "c"), bad, adds(t, "d"))
			errs = append(errs, held(t, db, bad, bad, adds(t, "e"), bad, adds(t, "f"))...)
			for i, wantError := range []bool{false, false, true, false, true, false, true, true, false, true, false} {
				if (errs[i] != nil) != wantError {
					t.Errorf("transaction %d: %v", i, errs[i])
				}
			}
			rows, err := db.Query(t.Context(), `SELECT name FROM counters ORDER BY name`)
			names, err := sqldb.Collect(rows, err, func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
			must(t, err)
			if got := strings.Join(names, " "); got != "a b c d e f" {
				t.Errorf("%q are there, want a b c d e f", got)
			}
		})
	}
}

func TestAPanicTellsWhereItWas(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite)
	defer func() {
		var told *sqldb.TxPanic
		if err, _ := recover().(error); !errors.As(err, &told) || told.Value != "boom" || !strings.Contains(err.Error(), "TestAPanicTellsWhereItWas") {
			t.Errorf("got %v, want the value and the place of the panic", err)
		}
	}()
	_ = db.InTx(t.Context(), func(*sqldb.Tx) error { panic("boom") })
}

func TestATransactionWhoseCallerHasGoneNeverRuns(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite, all()...)
	running, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		must(t, db.InTx(t.Context(), func(*sqldb.Tx) error {
			close(running)
			<-release
			return nil
		}))
	})
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := db.InTx(ctx, func(*sqldb.Tx) error {
		t.Error("it ran although its caller had gone")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	close(release)
	wg.Wait()
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 1)
		must(t, db.Close())
		must(t, db.Close())
		if err := db.InTx(t.Context(), func(*sqldb.Tx) error { return nil }); err == nil {
			t.Error("a closed database took a transaction")
		}
		if rows, err := db.Query(t.Context(), `SELECT name FROM counters`); err == nil {
			t.Error("a closed database answered")
			must(t, rows.Close())
		}
	})
}

// What a consumer writes for a batch: many rows in one statement.
func BenchmarkValues(b *testing.B) {
	const rows, cols = 500, 3
	for _, engine := range sqltest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := sqltest.New(b, engine, all()...)
			id := 0
			for b.Loop() {
				args := make([]any, 0, rows*cols)
				for range rows {
					id++
					args = append(args, strconv.Itoa(id), int64(id), []byte("twelve bytes"))
				}
				if err := db.InTx(b.Context(), func(tx *sqldb.Tx) error {
					_, err := tx.Exec(b.Context(), `INSERT INTO counters (name, n, data) VALUES `+sqldb.Values(rows, cols), args...)
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkInTx(b *testing.B) {
	db := sqltest.New(b, sqldb.SQLite, all()...)
	ids := new(atomic.Int64)
	one := func(b *testing.B) {
		b.Helper()
		if err := db.InTx(b.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(b.Context(), `INSERT INTO numbers (n) VALUES ($1)`, ids.Add(1))
			return err
		}); err != nil {
			b.Error(err)
		}
	}
	const each, callers = 100, 64
	var alone, grouped time.Duration
	for b.Loop() {
		start := time.Now()
		for range each {
			one(b)
		}
		alone += time.Since(start)
		start = time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					one(b)
				}
			})
		}
		wg.Wait()
		grouped += time.Since(start)
	}
	rate := func(n int, d time.Duration) float64 { return float64(n*b.N) / d.Seconds() }
	b.ReportMetric(rate(each, alone), "alone/s")
	b.ReportMetric(rate(each*callers, grouped), "grouped/s")
	b.ReportMetric(rate(each*callers, grouped)/rate(each, alone), "grouped/alone")
}

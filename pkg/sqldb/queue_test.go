package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

const add = `INSERT INTO counters (name, n) VALUES ($1, $2)`

// oneConn opens a fresh database on engine with one connection, which every transaction has to give back as it was.
func oneConn(t *testing.T, engine string, sets ...sqldb.Migrations) *sqldb.DB {
	t.Helper()
	cfg := sqltest.Config(t, engine, sets...)
	cfg.MaxConns = 1
	return sqltest.Open(t, cfg, sets...)
}

func onEach(t *testing.T, f func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) { f(t, oneConn(t, engine, all()...)) })
	}
}

func TestWhatIsQueuedRunsInOrder(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			must(t, tx.Queue(ctx, add, "a", int64(1)))
			must(t, tx.Queue(ctx, `UPDATE counters SET n = n + 1 WHERE name = $1`, "a"))
			var n int64
			must(t, tx.QueryRow(ctx, `SELECT n FROM counters WHERE name = $1`, "a").Scan(&n))
			if n != 2 {
				t.Errorf("a query saw %d, want 2", n)
			}
			must(t, tx.Queue(ctx, `UPDATE counters SET n = n * 10 WHERE name = $1`, "a"))
			changed, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1 WHERE n = 20`)
			if changed != 1 {
				t.Errorf("a statement behind a queued one changed %d rows, want 1", changed)
			}
			must(t, err)
			return tx.Queue(ctx, `UPDATE counters SET n = -n WHERE name = $1`, "a")
		}))
		if n := counter(t, db, "a"); n != -21 {
			t.Errorf("got %d, want -21", n)
		}
	})
}

func TestAFailedQueuedStatementFailsItsTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "a", 1)
		begin := func(tx *sqldb.Tx) error { return tx.QueryRow(ctx, `SELECT COUNT(*) FROM counters`).Scan(new(int64)) }
		wrong := func(tx *sqldb.Tx) error { return tx.Queue(ctx, add, "a", int64(2)) }
		right := func(tx *sqldb.Tx) error { return tx.Queue(ctx, add, "b", int64(1)) }
		for name, steps := range map[string][]func(tx *sqldb.Tx) error{
			"alone":           {wrong},
			"behind others":   {right, wrong},
			"before others":   {wrong, right},
			"twice":           {right, wrong, wrong},
			"in a begun one":  {begin, wrong},
			"before a query":  {right, wrong, begin},
			"between queries": {begin, right, wrong, begin},
			"before an exec": {right, wrong, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, add, "c", int64(1))
				return err
			}},
			"not SQL":            {right, func(tx *sqldb.Tx) error { return tx.Queue(ctx, `INSERT INTO nothing VALUES ($1)`, "a") }},
			"too few parameters": {right, func(tx *sqldb.Tx) error { return tx.Queue(ctx, add, "b") }},
		} {
			for _, passedOver := range []bool{false, true} {
				err := db.InTx(ctx, func(tx *sqldb.Tx) error {
					tx.AfterCommit(func() { t.Errorf("%s: it counts as committed", name) })
					for _, step := range steps {
						if err := step(tx); err != nil && !passedOver {
							return fmt.Errorf("wrapped: %w", err)
						}
					}
					return nil
				})
				if err == nil || fault.KindOf(err) != fault.Internal {
					t.Errorf("%s: got %v", name, err)
				}
			}
		}
		var n int64
		must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM counters`).Scan(&n))
		if n != 1 {
			t.Errorf("%d rows are there, want 1", n)
		}
		put(t, db, "b", 1)
	})
}

func TestWhatIsQueuedGoesWithItsTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sqldb.DB) {
		ctx, wrong := t.Context(), errors.New("wrong")
		for _, begun := range []bool{false, true} {
			leave := func(how func() error) error {
				return db.InTx(ctx, func(tx *sqldb.Tx) error {
					if begun {
						if _, err := tx.Exec(ctx, add, "a", int64(1)); err != nil {
							return err
						}
					}
					if err := tx.Queue(ctx, add, "b", int64(1)); err != nil {
						return err
					}
					return how()
				})
			}
			if err := leave(func() error { return wrong }); !errors.Is(err, wrong) {
				t.Errorf("got %v", err)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic did not reach the caller")
					}
				}()
				_ = leave(func() error { panic("boom") })
			}()
		}
		var n int64
		must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM counters`).Scan(&n))
		if n != 0 {
			t.Errorf("%d rows are there, want none", n)
		}
		put(t, db, "a", 1)
	})
}

func TestNothingIsQueuedOutOfTurn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 1)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		var kept *sqldb.Tx
		must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			kept = tx
			rows, err := tx.Query(t.Context(), `SELECT name FROM counters`)
			must(t, err)
			if err := tx.Queue(t.Context(), `DELETE FROM counters`); err == nil {
				t.Error("while rows were open")
			}
			if err := tx.Queue(t.Context(), add, "b", 1.5); err == nil {
				t.Error("with a parameter that is not portable")
			}
			return rows.Close()
		}))
		if err := kept.Queue(t.Context(), `DELETE FROM counters`); err == nil {
			t.Error("after the end")
		}
		err := db.InTx(t.Context(), func(tx *sqldb.Tx) error { return tx.Queue(ended, `DELETE FROM counters`) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that had ended: %v", err)
		}
		if counter(t, db, "a") != 1 {
			t.Error("it ran")
		}
	})
}

// The first query's rows come with the answer to BEGIN, later ones' by themselves, and either may be left open.
func TestRowsLeftOpenGoWithTheirTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		for range 3 {
			must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
				return tx.Queue(ctx, `INSERT INTO numbers (n) SELECT COALESCE(MAX(n), 0) + 1 FROM numbers`)
			}))
		}
		for _, result := range []error{nil, errors.New("wrong")} {
			for _, behind := range []func(tx *sqldb.Tx) error{
				func(*sqldb.Tx) error { return nil },
				func(tx *sqldb.Tx) error { return tx.Queue(ctx, `UPDATE numbers SET n = n WHERE n = 1`) },
				func(tx *sqldb.Tx) error { return tx.QueryRow(ctx, `SELECT 1`).Scan(new(int64)) },
			} {
				err := db.InTx(ctx, func(tx *sqldb.Tx) error {
					must(t, behind(tx))
					rows, err := tx.Query(ctx, `UPDATE numbers SET n = n + 10 RETURNING n`)
					must(t, err)
					if !rows.Next() {
						t.Error("there are no rows")
					}
					return result
				})
				if !errors.Is(err, result) {
					t.Errorf("got %v, want %v", err, result)
				}
			}
		}
		var sum int64
		must(t, db.QueryRow(ctx, `SELECT SUM(n) FROM numbers`).Scan(&sum))
		if sum != 6+3*30 {
			t.Errorf("the numbers add up to %d, want 96", sum)
		}
	})
}

func TestATransactionWithoutStatementsNeedsNoServer(t *testing.T) {
	t.Parallel()
	db := oneConn(t, sqldb.Postgres, all()...)
	put(t, db, "a", 1)
	rows, err := db.Query(t.Context(), `SELECT n FROM counters`) // has the only connection
	must(t, err)
	ran := false
	must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		tx.AfterCommit(func() { ran = true })
		return nil
	}))
	if !ran {
		t.Error("it does not count as committed")
	}
	wrong := errors.New("wrong")
	if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		must(t, tx.Queue(t.Context(), `DELETE FROM counters`))
		return wrong
	}); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	must(t, rows.Close())
}

func TestACommitThatIsRefusedIsNone(t *testing.T) {
	t.Parallel()
	late := sqldb.Migrations{Name: "late", FS: fstest.MapFS{"0001_create_late.sql": {Data: []byte(`-- +goose Up
-- +tenure postgres
CREATE TABLE late (n BIGINT PRIMARY KEY, next BIGINT REFERENCES late DEFERRABLE INITIALLY DEFERRED);
-- +tenure end
`)}}}
	db := oneConn(t, sqldb.Postgres, late)
	ctx := t.Context()
	link := func(n, next int64, f func(tx *sqldb.Tx, text string, args ...any) error) error {
		return db.InTx(ctx, func(tx *sqldb.Tx) error { return f(tx, `INSERT INTO late (n, next) VALUES ($1, $2)`, n, next) })
	}
	exec := func(tx *sqldb.Tx, text string, args ...any) error {
		_, err := tx.Exec(ctx, text, args...)
		return err
	}
	queue := func(tx *sqldb.Tx, text string, args ...any) error { return tx.Queue(ctx, text, args...) }
	for _, f := range []func(tx *sqldb.Tx, text string, args ...any) error{exec, queue} {
		if err := link(1, 2, f); err == nil {
			t.Error("it counts as committed")
		}
	}
	must(t, link(3, 3, queue))
	var n int64
	must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM late`).Scan(&n))
	if n != 1 {
		t.Errorf("%d rows are there, want 1", n)
	}
}

func TestACallerWhoGoesWhileACommitWaitsHearsThat(t *testing.T) {
	t.Parallel()
	cfg := sqltest.Config(t, sqldb.Postgres, all()...)
	cfg.MaxConns = 3
	db := sqltest.Open(t, cfg, all()...)
	put(t, db, "a", 1)
	stays := t.Context()
	ctx, cancel := context.WithCancel(stays)
	defer cancel()
	gone := make(chan error, 1)
	must(t, db.InTx(stays, func(tx *sqldb.Tx) error {
		must(t, tx.QueryRow(stays, `UPDATE counters SET n = n + 1 WHERE name = 'a' RETURNING n`).Scan(new(int64)))
		go func() {
			gone <- db.InTx(ctx, func(tx *sqldb.Tx) error {
				return tx.Queue(ctx, `UPDATE counters SET n = 100 WHERE name = 'a'`)
			})
		}()
		sqltest.AwaitLock(stays, t, db)
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's end", err)
		}
		return nil
	}))
	put(t, db, "b", 1)
}
